"""Exports: each says what the model says, run by its own loader, or leaves nothing behind."""

import ast
import json
import subprocess
import sys
from pathlib import Path

import jax
import jax.export
import numpy as np
import pytest
from flax import nnx

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import DataConfig, ModelConfig
from amsdff_jax.config.encoder_families import read_encoder_values
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.data.windows import Windows
from amsdff_jax.evaluation.calibration import Calibration
from amsdff_jax.evaluation.calibration_file import write_calibration
from amsdff_jax.export import exporter, formats, verification
from amsdff_jax.export.exporter import export_model
from amsdff_jax.models.baselines import LinearClassifier
from amsdff_jax.models.layers import BatchNorm
from amsdff_jax.models.model_folder import SavedModel, read_model_folder, save_model
from amsdff_jax.models.registry import MODELS
from tests.compiled import call
from tests.conftest import TINY_HEAD, WORDS, make_texts, write_csv
from tests.processes import ROOT, run_script
from tests.tiny_encoders import TINY

CLASSES = ("low", "middle", "high")


def make_folder(folder, encoder, name="amsdff", **fields):
    """A model folder whose BatchNorm statistics are not the neutral ones."""
    model = MODELS[name].from_pretrained(str(encoder), len(CLASSES), **(TINY_HEAD | fields))
    random = np.random.default_rng(7)
    for _, module in nnx.iter_modules(model):
        if isinstance(module, BatchNorm):
            size = module.running_mean.shape
            module.running_mean[...] = random.normal(size=size).astype(np.float32)
            module.running_var[...] = random.uniform(0.2, 3, size).astype(np.float32)
    save_model(folder, SavedModel(model, load_tokenizer(encoder), CLASSES, 24))
    return folder


@pytest.fixture
def model_folder(tiny_encoder, tmp_path):
    return make_folder(tmp_path / "model", tiny_encoder)


@pytest.fixture
def texts_file(tmp_path):
    """43 texts of 3 to 22 tokens, and one that is truncated to 24."""
    texts, labels = make_texts(43, 3)
    return str(write_csv(tmp_path / "texts.csv", [*texts, " ".join(texts[:3])], [*labels, "low"]))


def require(format):
    """Skips the test where what a format needs is not installed."""
    for module in formats.FORMATS[format].needs:
        pytest.importorskip(module, reason=f"{format} needs {module}")


def check_for_transformers(folder):
    """What optimum does: a configuration and a tokenizer of transformers, and the names of inputs and output."""
    import onnxruntime
    from transformers import AutoConfig, AutoTokenizer

    config = AutoConfig.from_pretrained(folder)
    assert config.id2label == dict(enumerate(CLASSES))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokens = tokenizer("w3 w30 " * 30, truncation=True, return_tensors="np")
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    assert tokens.keys() == {put.name for put in session.get_inputs()}
    assert tokens["input_ids"].shape == (1, 24)
    (logits,) = session.run(["logits"], {name: np.int64(value) for name, value in tokens.items()})
    assert logits.shape == (1, len(CLASSES))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("format", "mask_padding"),
    [
        *(("stablehlo", True), ("stablehlo", False), ("safetensors", False), ("onnx", True)),
        pytest.param("onnx", False, marks=pytest.mark.expensive),
    ],
    ids=["stablehlo-masked", "stablehlo-reference", "safetensors-reference", "onnx-masked", "onnx-reference"],
)
def test_says_what_the_model_says(format, mask_padding, tiny_encoder, texts_file, tmp_path):
    require(format)
    folder = make_folder(tmp_path / "model", tiny_encoder, mask_padding=mask_padding)
    found = export_model(folder, tmp_path / "out", format, texts_file)
    assert found.equal
    assert (found.texts, found.longest) == (44, 24)
    assert found.logits < 1e-5
    if format == "onnx":
        check_for_transformers(tmp_path / "out")
    # What it was compared with is the model called by hand, at another padding in masked semantics.
    saved = read_model_folder(folder)
    text = "w3 w30 w7"
    options = {} if mask_padding else {"padding": "max_length", "max_length": 24}
    tokens = load_tokenizer(folder)(text, return_tensors="np", **options)
    expected = np.asarray(call(saved.model, tokens["input_ids"], tokens["attention_mask"]).logits)
    np.testing.assert_allclose(verification.run_model(saved, [text]).logits, expected, atol=1e-5)


def test_exports_read_the_beginning_and_the_end_of_long_texts(tiny_encoder, texts_file, tmp_path):
    """Of one format: what makes the tokens is the same in all."""
    model = LinearClassifier.from_pretrained(str(tiny_encoder), 3)
    limit = {"max_length": 9, "long_texts": "head_tail"}
    save_model(tmp_path / "model", SavedModel(model, load_tokenizer(tiny_encoder), CLASSES, **limit))
    found = export_model(tmp_path / "model", tmp_path / "out", "stablehlo", texts_file)
    assert found.equal
    assert found.longest == 9
    assert "the first quarter of so many and the rest from its end" in (tmp_path / "out" / "README.md").read_text()


def test_an_export_of_a_model_with_windows_refuses_what_does_not_fit_one(tiny_encoder, texts_file, tmp_path):
    model = LinearClassifier.from_pretrained(str(tiny_encoder), 3)
    model.read_in_windows(Windows(9, 2, 1, 1))
    saved = SavedModel(model, load_tokenizer(tiny_encoder), CLASSES, 9, long_texts="windows")
    save_model(tmp_path / "model", saved)
    found = export_model(tmp_path / "model", tmp_path / "out", "stablehlo", texts_file)
    assert found.equal
    assert 0 < found.texts < 44 and found.longest <= 9
    assert "a text of more than 9 tokens" in (tmp_path / "out" / "README.md").read_text()
    command = [sys.executable, "load.py", "w1 w2", "w1 " * 8]
    result = subprocess.run(command, cwd=tmp_path / "out", capture_output=True, text=True, check=False)
    assert result.returncode
    assert "ValueError: texts[1]: has 10 tokens, and an export takes at most 9" in result.stderr
    long = write_csv(tmp_path / "long.csv", ["w1 " * 30], ["low"])
    with pytest.raises(UserError, match=r"--file: none of the 1 texts fits the 9 tokens that an export takes"):
        export_model(tmp_path / "model", tmp_path / "none", "stablehlo", str(long))


EXPORTS = [
    ("stablehlo", "roberta", True), ("stablehlo", "modernbert", False), ("stablehlo", "deberta-v2", True),
    pytest.param("stablehlo", "mpnet", True, marks=pytest.mark.expensive),
    pytest.param("stablehlo", "modernbert", True, marks=pytest.mark.expensive),
    pytest.param("onnx", "roberta", True, marks=pytest.mark.expensive),
    pytest.param("onnx", "modernbert", True, marks=pytest.mark.expensive),
    pytest.param("onnx", "deberta-v2", True, marks=pytest.mark.expensive), ("safetensors", "mpnet", False),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize(("format", "family", "mask_padding"), EXPORTS)
def test_every_kind_of_encoder_is_exported(format, family, mask_padding, tiny_encoder, texts_file, tmp_path):
    require(format)
    encoder = read_encoder_values(TINY[family] | {"vocab_size": 45, "max_position_embeddings": 41})
    config = ModelConfig(num_classes=3, mask_padding=mask_padding)
    model = LinearClassifier(config, encoder, rngs=nnx.Rngs(0))
    save_model(tmp_path / "model", SavedModel(model, load_tokenizer(tiny_encoder), CLASSES, 24))
    found = export_model(tmp_path / "model", tmp_path / "out", format, texts_file)
    assert found.equal
    assert found.logits < 1e-5


def stablehlo_program(saved, folder):
    """The exported function of ids and mask, called without the loader."""
    formats.find_writer("stablehlo")(saved, folder)
    program = jax.export.deserialize(bytearray((folder / "model.stablehlo").read_bytes()))
    weights = dict(np.load(folder / "weights.npz"))
    assert not [weight for weight in weights if "running" in weight]  # BatchNorm is folded
    assert program.platforms == ("cpu", "cuda", "tpu")
    assert (folder / "model.stablehlo").stat().st_size < 200_000  # weights are beside it
    return lambda ids, mask: program.call(weights, ids, mask)


def onnx_program(saved, folder):
    """The same in ONNX."""
    require("onnx")
    import onnx
    import onnxruntime

    formats.find_writer("onnx")(saved, folder)
    graph = onnx.load(folder / "model.onnx").graph
    assert "BatchNormalization" not in {node.op_type for node in graph.node}
    session = onnxruntime.InferenceSession(folder / "model.onnx")
    return lambda ids, mask: session.run(None, {"input_ids": np.int64(ids), "attention_mask": np.int64(mask)})[0]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "program"),
    [
        *((name, stablehlo_program) for name in ("amsdff", "gru", "cnn")),
        *(pytest.param(name, onnx_program, marks=pytest.mark.expensive) for name in ("amsdff", "cnn")),
        ("gru", onnx_program),
    ],
)
def test_programs_take_any_batch_up_to_the_encoders_positions(name, program, tiny_encoder, tmp_path):
    """Masked, at lengths shorter than a kernel, too."""
    saved = read_model_folder(make_folder(tmp_path / "model", tiny_encoder, name))
    if program is onnx_program and name == "gru":
        require("onnx")
        with pytest.raises(UserError, match=f"'{name}' that does not see padding cannot be exported to ONNX"):
            formats.find_writer("onnx")(saved, tmp_path)
        return
    run, random = program(saved, tmp_path), np.random.default_rng(2)
    for shape in ((1, 1), (3, 2), (2, 40)):
        ids = random.integers(1, 45, shape).astype(np.int32)
        mask = (np.arange(shape[1]) < random.integers(1, shape[1] + 1, (shape[0], 1))).astype(np.int32)
        np.testing.assert_allclose(run(ids, mask), call(saved.model, ids, mask).logits, atol=1e-5)


@pytest.mark.slow
def test_script_as_its_readme_says(model_folder, texts_file, tmp_path):
    require("safetensors")
    write_calibration(model_folder, Calibration(CLASSES, temperature=2.5))
    out = tmp_path / "out"
    arguments = (f"--model={model_folder}", f"--output={out}", f"--file={texts_file}", "--format=safetensors")
    code, output = run_script(tmp_path / "log", "export.py", *arguments)
    assert code == 0, output
    assert "44 texts of 3 to 24 tokens: logits differ by at most" in output
    programs = {"load.py", "answers.py", "tokens.py", "long_texts.py", "model.py"}
    names = programs | {"README.md", "model.safetensors", "config.json", "tokenizer.json", "calibration.json"}
    assert {file.name for file in out.iterdir()} == names
    readme = (out / "README.md").read_text()
    assert "2.5" in readme
    assert all(f"`{name}`" in readme for name in names - {"README.md"})
    command = [sys.executable, "load.py", "w3 w4", "w30"]
    told = subprocess.run(command, cwd=out, capture_output=True, text=True, check=True, env={"PATH": ""}).stdout
    label, probability, text = told.splitlines()[0].split("\t")
    assert label in CLASSES
    assert text == "w3 w4"
    saved = read_model_folder(model_folder)
    tokens = load_tokenizer(model_folder)(text, return_tensors="np")
    logits = np.asarray(call(saved.model, tokens["input_ids"], tokens["attention_mask"]).logits[0], np.float64) / 2.5
    assert float(probability) == pytest.approx(np.exp(logits).max() / np.exp(logits).sum(), abs=1e-4)


@pytest.mark.slow
def test_the_default_format_needs_no_more_than_a_plain_install(model_folder, texts_file, tmp_path):
    """In a process of its own, for jax imports what it serializes with when it does so."""
    out = tmp_path / "out"
    script = [sys.executable, ROOT / "tests" / "plain_install.py", ROOT / "scripts" / "export.py"]
    arguments = [f"--model={model_folder}", f"--output={out}", f"--file={texts_file}"]
    done = subprocess.run([*script, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "pip install jax flatbuffers tokenizers" in (out / "README.md").read_text(encoding="utf-8")
    done = subprocess.run([*script, *arguments, "--format=onnx"], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr.endswith("is not installed; pip install torch onnx onnxscript onnxruntime\n")


@pytest.mark.slow
def test_an_export_that_differs_leaves_nothing_behind(model_folder, texts_file, tmp_path, monkeypatch):
    """The export's own weights are a little off, as after a fault in the export."""
    out = tmp_path / "out"
    out.mkdir()
    (out / "config.json").write_text('{"export_format": "onnx"}')  # an export from before, which stays

    def write_other_weights(saved, folder):
        saved.model.classifier[8].bias[...] += 3e-4
        formats.find_writer("stablehlo")(saved, folder)

    monkeypatch.setattr(exporter, "find_writer", lambda name: write_other_weights)
    found = export_model(model_folder, out, "stablehlo", texts_file)
    assert not found.equal
    assert found.logits == pytest.approx(3e-4, rel=0.1)
    assert {file.name for file in tmp_path.iterdir()} == {"model", "out", "texts.csv"}
    assert [file.name for file in out.iterdir()] == ["config.json"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ("def logits(texts): return all_logits[[int(text) for text in texts]]", "differ by at most 0.0e+00"),
        ("def logits(texts): return all_logits[[int(text) for text in texts]] + 2e-4", "DIFFERENT"),
        ("def logits(texts): return all_logits[[int(text) for text in texts]] * np.nan", "DIFFERENT"),
        ("def logits(texts): return all_logits[[int(text) for text in texts], :2]", "load.py gives logits of shape"),
        ("import amsdff_jax", "load.py ends with exit code 1"),
    ],
    ids=["equal", "off", "not-a-number", "shape", "needs-this-package"],
)
def test_only_the_same_logits_are_equal(body, told, tmp_path):
    """Texts are sorted by length for the loader, and its answers put back in order."""
    random = np.random.default_rng(0)
    logits, lengths = random.normal(size=(45, 3)).astype(np.float32), random.integers(3, 24, 45)
    np.save(tmp_path / "logits.npy", logits)
    (tmp_path / "load.py").write_text(f"import numpy as np\nall_logits = np.load('logits.npy')\n{body}\n")
    expected = verification.Expectation([str(number) for number in range(45)], lengths, logits)
    found = verification.verify_export(tmp_path, expected)
    assert told in exporter.describe_verification(found)
    assert found.equal == told.startswith("differ")


def save(folder, encoder, **fields):
    """A model folder with the smallest classifier; fields are of the tokenizer, or `reads_pairs`."""
    pairs, tokenizer = fields.pop("reads_pairs", False), load_tokenizer(encoder)
    for name, value in fields.items():
        setattr(tokenizer, name, value)
    model = LinearClassifier.from_pretrained(str(encoder), len(CLASSES))
    save_model(folder, SavedModel(model, tokenizer, CLASSES, 24, reads_pairs=pairs))
    return read_model_folder(folder)


ODD_TEXTS = ["", "half of a character: \ud83d w3", "w1 [SEP] w2", " ".join(WORDS[:17] * 2), "w4 w5"]


@pytest.mark.parametrize(
    "settings",
    [{}, {"truncation_side": "left"}, {"split_special_tokens": True}, {"reads_pairs": True, "truncation_side": "left"}],
    ids=["default", "left", "split", "pairs"],
)
def test_exports_read_every_text_as_the_model_does(settings, tiny_encoder, tmp_path):
    saved = save(tmp_path / "model", tiny_encoder, **settings)
    rows = [{"text": text, "second": other} for text, other in zip(ODD_TEXTS, ODD_TEXTS[::-1], strict=True)]
    file = tmp_path / "odd.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    column = "second" if saved.reads_pairs else ""
    data, tokenizer = DataConfig(text_pair_column=column), saved.tokenizer
    assert export_model(tmp_path / "model", tmp_path / "out", file=str(file), data=data).equal
    texts = verification.read_texts(str(file), data)
    logits = verification.run_model(saved, texts).logits
    others = {"truncation_side": {"left": "right", "right": "left"}, "split_special_tokens": {True: False, False: True}}
    for name, other in others.items():  # these texts tell if a setting is lost
        value = getattr(tokenizer, name)
        setattr(tokenizer, name, other[value])
        assert np.abs(verification.run_model(saved, texts).logits - logits).max() > 1e-3, name
        setattr(tokenizer, name, value)


def test_pairs_are_verified_as_pairs(tiny_encoder, texts_file, tmp_path):
    saved = save(tmp_path / "model", tiny_encoder, reads_pairs=True)
    texts, _ = make_texts(12, 3)
    rows = [{"text": text, "second": other} for text, other in zip(texts, texts[::-1], strict=True)]
    file = str(tmp_path / "pairs.jsonl")
    Path(file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = verification.run_model(saved, list(zip(texts, texts[::-1], strict=True))).logits
    data, out = DataConfig(text_pair_column="second"), tmp_path / "out"
    read = verification.read_texts(file, data)
    np.testing.assert_array_equal(verification.run_model(saved, read).logits, found)
    assert np.abs(verification.run_model(saved, texts).logits - found).max() > 1e-3
    assert export_model(tmp_path / "model", out, file=file, data=data).texts == 12
    assert 'load.logits([("A first text.", "A second text.")])' in (out / "README.md").read_text()
    command = [sys.executable, "load.py"]
    for arguments, error in (
        ((texts[0], texts[-1], "w1", "w2"), ""),
        (("w1", "w2", "w3"), "error: expected the two texts of every pair"),
        ((), "error: expected texts, each in quotes"),
    ):
        done = subprocess.run([*command, *arguments], cwd=out, capture_output=True, text=True, check=False)
        assert (bool(done.returncode), error in done.stderr) == (bool(error), True), done.stderr
        if not error:
            (label, probability, *pair), second = (line.split("\t") for line in done.stdout.splitlines())
            assert pair == [texts[0], texts[-1]] and second[2:] == ["w1", "w2"]
            odds = np.exp(found[0] - found[0].max())
            assert label == CLASSES[odds.argmax()]
            assert float(probability) == pytest.approx(1 / odds.sum(), abs=1e-3)
    alone = [sys.executable, "-c", "import load; load.logits(['w1', 'w2'])"]
    done = subprocess.run(alone, cwd=out, capture_output=True, text=True, check=False)
    assert "ValueError: texts[0]: expected a pair of texts, as in training, got 'w1'" in done.stderr
    with pytest.raises(UserError, match=r"^--text_pair_column: not given, but the model was trained on pairs"):
        export_model(tmp_path / "model", tmp_path / "none", file=texts_file)


def test_a_table_is_read_as_its_data_settings_say(model_folder, tmp_path):
    file = tmp_path / "texts.csv"
    file.write_text('low;"w1 w2\nhigh;w30\n')
    data = DataConfig(column_names=("label", "text"), delimiter=";", quoting="none")
    assert verification.read_texts(str(file), data) == ['"w1 w2', "w30"]
    assert export_model(model_folder, tmp_path / "out", file=str(file), data=data).texts == 2


def test_default_texts_are_real_and_of_all_lengths(tiny_encoder, tmp_path):
    *texts, nothing, half, special, long = verification.default_texts(save(tmp_path / "model", tiny_encoder))
    assert (nothing, half[-1], special) == ("", "\ud83d", "good [SEP] bad") and len(long.split()) == 48
    assert len(texts) == 200
    assert len(set(texts)) == 200
    words = sorted(len(text.split()) for text in texts)
    assert words[0] < 10
    assert words[-1] > 256


def test_mistakes_are_one_line(model_folder, texts_file, tmp_path, monkeypatch):
    def check(message, output=tmp_path / "out", **options):
        with pytest.raises(UserError, match=message):
            export_model(model_folder, output, **{"file": texts_file} | options)
        assert not (tmp_path / "out").exists()

    check("did you mean onnx", format="onx")
    check("no export, and is left alone", output=model_folder)
    check("is a file", output=tmp_path / "texts.csv")
    check("no column 'body', only 'text', 'label'", data=DataConfig(text_column="body"))
    monkeypatch.setitem(sys.modules, "torch", None)
    check(r"needs torch, which is not installed; pip install torch$", format="safetensors")
    check(r"pip install torch onnx onnxscript onnxruntime$", format="onnx")
    (model_folder / "calibration.json").write_text('{"temperature": "warm"}')
    check("calibration.json: is in format None, expected 1; delete it, or calibrate again")
    (model_folder / "tokenizer.json").unlink()
    check("holds no tokenizer")


@pytest.mark.parametrize(
    ("name", "allowed"),
    [
        ("loaders/stablehlo.py", {"jax", "numpy", "answers", "tokens"}),
        ("loaders/safetensors.py", {"torch", "model", "answers", "tokens"}),
        ("loaders/onnx.py", {"onnxruntime", "numpy", "answers", "tokens"}),
        ("loaders/tokens.py", {"tokenizers", "long_texts"}),
        ("loaders/answers.py", {"numpy"}),
        ("../data/long_texts.py", {"math", "collections", "tokenizers"}),
    ],
)
def test_loaders_need_little(name, allowed):
    source = (exporter.LOADERS.parent / name).read_text(encoding="utf-8")
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module.split(".")[0])
    assert imported - {"json", "sys", "pathlib"} == allowed
