"""The benchmark runs, says what it measured, and notices when two sides compute different things."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flax import nnx
from safetensors.numpy import load_file, save_file

from amsdff_jax import EnhancedAMSDFF
from amsdff_jax.base.errors import UserError
from amsdff_jax.benchmark import compare as module
from amsdff_jax.benchmark.compare import RIVALS, Plan, compare
from amsdff_jax.benchmark.jax_side import matrix_operations
from amsdff_jax.benchmark.presets import PRESETS, preset_config
from amsdff_jax.benchmark.workload import OURS, Workload
from amsdff_jax.config import EncoderConfig, ModelConfig
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.evaluation.environment import count_parameters
from amsdff_jax.models.model_folder import SavedModel, save_model
from amsdff_jax.models.variables import abstract_model
from tests.conftest import TINY_HEAD

ROOT = Path(__file__).parents[2]
EAGER, SDPA, COMPILE, ONNX = RIVALS


@pytest.fixture(scope="module")
def folder(tiny_encoder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("benchmark") / "model"
    model = EnhancedAMSDFF.from_pretrained(str(tiny_encoder), 2, **TINY_HEAD)
    save_model(folder, SavedModel(model, load_tokenizer(tiny_encoder), ("high", "low"), 24))
    return folder


@pytest.mark.slow
@pytest.mark.expensive
def test_all_sides_agree_and_every_number_is_there(folder, tiny_config, tmp_path):
    pytest.importorskip("onnxscript", reason="needs the extra onnx")
    results = tmp_path / "numbers.json"
    command = [
        sys.executable, "scripts/benchmark.py", f"--model={folder}", "--shapes=3x8,2x16", "--rounds=1", "--steps=1",
        f"--output={results}", "--config=configs/files.py", "--epoch_texts=30", "--config.train.batch_size=10",
        f"--config.data.train_file={tiny_config.data.train_file}", "--config.data.max_length=24",
    ]  # fmt: skip
    finished = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert finished.returncode == 0, finished.stderr
    numbers = json.loads(results.read_text())
    assert numbers["agree"] and not numbers["missing"]
    assert all(numbers["differences"][f"{rival} float32"] < 1e-4 for rival in RIVALS)
    measured = {(row["side"], row["dtype"], row["kind"], row["shape"]) for row in numbers["results"]}
    trains = {(side, dtype) for side in (OURS, EAGER, SDPA, COMPILE) for dtype in ("float32", "bfloat16")}
    shapes = ("3x8", "2x16")
    expected = {(*side, "train step", shape) for side in trains for shape in shapes}
    infers = trains | {(ONNX, "float32"), (ONNX, "int8")}
    assert measured == expected | {(*side, "inference", shape) for side in infers for shape in shapes}
    for row in numbers["results"]:
        low, high = row["quartiles"]
        assert 0 < low <= row["median"] <= high
    assert all(numbers["peak_memory"][" ".join(side)] > 1e7 for side in infers)
    assert {epoch["texts"] for epoch in numbers["epochs"].values()} == {30}
    assert len(numbers["epochs"]) == 3 and numbers["epochs"][OURS]["start_to_first_step"] > 0
    assert "torch-sdpa, padded to max_length" in finished.stdout


@pytest.mark.slow
def test_what_has_been_measured_before_a_signal_is_kept(folder, monkeypatch):
    pytest.importorskip("torch", reason="needs PyTorch")
    run = module._run

    def stopped_at_the_first_rival(workload):
        if workload.side != OURS:
            raise KeyboardInterrupt
        return run(workload)

    monkeypatch.setattr(module, "_run", stopped_at_the_first_rival)
    plan = Plan(model=str(folder), shapes=((1, 4),), dtypes=("float32",), rivals=(EAGER, SDPA), rounds=2, steps=1)
    numbers = compare(plan)
    assert numbers["stopped"]
    assert {row["side"] for row in numbers["results"]} == {OURS}
    assert numbers["missing"] == {f"{EAGER} float32": "stopped", f"{SDPA} float32": "stopped"}


@pytest.mark.slow
@pytest.mark.expensive
def test_other_weights_on_one_side_are_noticed(folder, monkeypatch):
    pytest.importorskip("torch", reason="needs PyTorch")
    run = module._run

    def with_other_weights_in_torch(workload):
        file = folder / "model.safetensors"
        kept = file.read_bytes()
        if workload.side == SDPA:
            tensors = load_file(file)
            tensors["classifier.8.bias"] = tensors["classifier.8.bias"] + np.float32(0.3)
            save_file(tensors, file)
        try:
            return run(workload)
        finally:
            file.write_bytes(kept)

    monkeypatch.setattr(module, "_run", with_other_weights_in_torch)
    plan = Plan(model=str(folder), shapes=((2, 8),), dtypes=("float32",), rivals=(SDPA,), rounds=1, steps=1)
    comparison = compare(plan)
    assert not comparison["agree"]
    assert comparison["differences"]["torch-sdpa float32"] == pytest.approx(0.3, abs=1e-3)


class Processes:
    """Stands for the processes of all sides, which take minutes: every call takes as many seconds as `seconds` says."""

    def __init__(self, seconds=(1.0,), platform="cpu", failing=(), logits=0.0):
        self.seconds, self.platform, self.failing, self.logits = seconds, platform, failing, logits
        self.order: list[str] = []

    def __call__(self, workload: Workload) -> dict:
        if not workload.platform:
            return {"device": "a device", "platform": self.platform}
        name = f"{workload.side} {workload.dtype}"
        self.order.append(name)
        if name in self.failing:
            raise UserError(f"the benchmark's {workload.side} process failed: OutOfMemoryError")
        timed = {"first_call": 9.0 if self.order.count(name) == 1 else 5.0, "seconds": list(self.seconds)}
        kinds = {"inference": timed} if workload.side == ONNX else {"inference": timed, "train step": timed}
        logits = [[0.0, self.logits if workload.side != OURS else 0.0]]
        shapes = {
            f"{texts}x{tokens}": {**kinds, "logits": logits, "matrix_operations": 6e9}
            for texts, tokens in workload.shapes
        }
        return {"shapes": shapes, "peak_memory": 3e9, "matrix_rate": 12e9}


@pytest.fixture
def stand_in(folder, monkeypatch):
    """A function that compares with processes that are not run, all packages being there; the comparison."""

    def run(processes, rivals=(SDPA, ONNX), absent=(), **plan):
        there = lambda name: None if name in absent else name  # noqa: E731
        monkeypatch.setattr(module, "find_spec", there)
        monkeypatch.setattr(module, "_run", processes)
        return compare(Plan(model=str(folder), shapes=((2, 8),), rivals=rivals, **plan))

    return run


def test_rounds_go_round_all_sides_in_turn(stand_in):
    processes = Processes(seconds=(1.0, 3.0, 8.0))
    comparison = stand_in(processes, rounds=2)
    once = [f"{side} {dtype}" for side in (OURS, SDPA) for dtype in ("float32", "bfloat16")]
    once += ["onnxruntime float32", "onnxruntime int8"]
    assert processes.order == once * 2
    assert comparison["plan"]["model"] == "model" and "/" not in json.dumps(comparison["plan"])
    row = comparison["results"][0]
    assert (row["median"], row["quartiles"]) == (3.0, [1.5, 6.75])  # of six calls
    assert (row["first_call"], row["first_call_cached"]) == (9.0, 5.0)


def test_a_rival_that_fails_is_named_and_left_out_of_later_rounds(stand_in):
    processes = Processes(failing=["torch-sdpa bfloat16"])
    comparison = stand_in(processes, rounds=2)
    assert processes.order.count("torch-sdpa bfloat16") == 1
    assert "OutOfMemoryError" in comparison["missing"]["torch-sdpa bfloat16"]
    assert comparison["agree"]
    with pytest.raises(UserError, match="amsdff-jax process failed"):
        stand_in(Processes(failing=["amsdff-jax float32"]))


class Epochs(Processes):
    """The same with epochs, of which a rival's is stopped."""

    def __call__(self, workload: Workload) -> dict:
        if not workload.platform or not workload.epoch_config:
            return super().__call__(workload)
        if workload.side != OURS:
            raise KeyboardInterrupt
        return {"epoch": {"seconds": 7.0, "texts": 10.0}}


def test_an_epoch_that_has_been_measured_is_kept_and_a_rival_that_was_not_asked_for_is_named(stand_in):
    epoch = {"data": {"source": "bundled"}}
    stopped = stand_in(Epochs(), epoch_config=epoch)
    assert stopped["stopped"] and stopped["epochs"] == {OURS: {"seconds": 7.0, "texts": 10.0}}
    alone = stand_in(Epochs(), rivals=(EAGER,), epoch_config=epoch)
    assert list(alone["epochs"]) == [OURS] and alone["missing"]["torch-sdpa epoch"] == "not among --rivals"


def test_what_is_not_installed_or_does_not_apply_is_named(stand_in):
    absent = stand_in(Processes(), absent=("torch",))
    assert absent["missing"] == dict.fromkeys((SDPA, ONNX), "not installed: torch; pip install torch")
    assert {row["side"] for row in absent["results"]} == {OURS} and absent["agree"]
    assert stand_in(Processes(platform="gpu"))["missing"] == {ONNX: "not compared on a gpu"}
    assert set(stand_in(Processes(platform="tpu"))["missing"]) == {SDPA, ONNX}


@pytest.mark.parametrize("logits", [0.2, None], ids=["others", "NaN"])  # as JSON has it
def test_logits_that_differ_are_no_agreement(stand_in, logits):
    assert not stand_in(Processes(logits=logits), rounds=1)["agree"]


def test_a_busy_machine_is_told(stand_in, monkeypatch):
    for load, busy in ((0.1, False), (1000.0, True)):
        monkeypatch.setattr(module.os, "getloadavg", lambda load=load: (load, 0.0, 0.0))
        assert stand_in(Processes(), rounds=1)["environment"]["busy"] is busy


@pytest.mark.parametrize(
    ("plan", "message"),
    [
        ({"dtypes": ("tf32",)}, "--dtypes: tf32 is a type of NVIDIA's GPUs, and this is a cpu"),
        ({"dtypes": ("int4",)}, "--dtypes: expected one of 'float32', 'tf32', 'bfloat16'"),
        ({"rivals": ("torch",)}, "--rivals: expected one of 'torch-eager'"),
        ({"shapes": ((2, 41),)}, "--shapes: 2x41: the model has 40 positions"),
    ],
)  # fmt: skip
def test_a_plan_that_cannot_be_measured_is_one_line(folder, monkeypatch, plan, message):
    monkeypatch.setattr(module, "_run", Processes())
    with pytest.raises(UserError) as error:
        compare(Plan(model=str(folder), **plan))
    assert message in str(error.value)


@pytest.mark.slow  # imports PyTorch
def test_pytorch_that_does_not_compile_still_runs_without(folder, torch, monkeypatch):
    from amsdff_jax.benchmark import torch_side

    def compile_nothing(*_, **__):
        raise RuntimeError("No working C++ compiler found\nand much more")

    monkeypatch.setattr(torch, "compile", compile_nothing)
    task = Workload(str(folder), platform="cpu", shapes=((3, 7),), steps=1)
    measured = {
        side: torch_side.measure(Workload(**vars(task) | {"side": side}))["shapes"]["3x7"]
        for side in (EAGER, SDPA, COMPILE)
    }
    failed = {"failed": "RuntimeError: No working C++ compiler found"}
    assert measured[COMPILE] == {"inference": failed, "train step": failed}
    np.testing.assert_allclose(measured[EAGER]["logits"], measured[SDPA]["logits"], atol=1e-5)
    assert len(measured[SDPA]["inference"]["seconds"]) == 3 and len(measured[SDPA]["train step"]["seconds"]) == 1


# Parameters of the published encoders, without poolers, and of BERT's without the embeddings of token types, which are
# added to those of the words.
@pytest.mark.parametrize(
    ("name", "number"),
    [
        ("minilm", 22_564_608),
        ("distilbert", 66_362_880),
        ("bert-base", 108_890_112),
        ("roberta-base", 124_055_040),
        ("electra-small", 13_483_008),
        ("mpnet-base", 108_895_872),
        ("modernbert-base", 149_014_272),
        ("deberta-v3-small", 141_304_320),
    ],
)
def test_presets_have_the_sizes_of_the_encoders_that_they_are_named_after(name, number):
    sizes = PRESETS[name]
    model = abstract_model(lambda rngs: EnhancedAMSDFF(preset_config(sizes), sizes, rngs=rngs))
    assert count_parameters(model.transformer) == number


def test_operations_are_counted_by_hand():
    sizes = EncoderConfig(vocab_size=9, max_position_embeddings=8, dim=12, n_layers=1, n_heads=3, hidden_dim=20)
    config = ModelConfig(num_classes=2, kernel_sizes=(1, 3), num_experts=2, num_attention_heads=2)
    model = EnhancedAMSDFF(config, sizes, rngs=nnx.Rngs(0))
    h = 12
    per_token = 4 * h * h + 2 * h * 20  # encoder
    per_token += h * h + h * h + 4 * h * h + h * h  # enhancer; pointwise; scale fusion; output projection
    per_token += 2 * 2 * h * h + h * 6 + 6 + 4 * h * h  # experts; attention pool; learned query
    per_text = 2 * h + 3 * h * h + h * h + h * 6 + 6 * 3 + 3 * 2  # gate; pooling fusion; classifier
    attention = 2 * 4 * 5 * 7**2 * h  # two self-attentions over five texts of seven tokens
    assert matrix_operations(model, (5, 7)) == 2 * 5 * (7 * per_token + per_text) + attention
