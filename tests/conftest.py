"""A tiny world for the tests: a real tokenizer, an encoder folder, texts that can be learned."""

import importlib.util
import json
import os
import platform
import random
import typing
from pathlib import Path
from typing import Self

import jax
import pytest
from jaxtyping import install_import_hook


def check_types(function):
    """Checks arguments and results at every call; an integer is a float too, and `Self` is left out, which a method
    alone does not tell."""
    if Self in typing.get_type_hints(function).values():
        return function
    import beartype

    return beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True))(function)


# Before the first import of these modules: annotations of theirs say types, shapes and kinds of numbers.
CHECKED = ["models", "evaluation.metrics", "evaluation.multi_label_metrics", "explanation.attributions"]
CHECKED += ["evaluation.calibration", "evaluation.multi_label_calibration"]
if importlib.util.find_spec("beartype"):  # a machine with a GPU may lack it
    install_import_hook([f"amsdff_jax.{name}" for name in CHECKED], f"{__name__}.check_types")

# Tests must say the same with and without a network, and never wait for one.
os.environ["HF_HUB_OFFLINE"] = "1"

# Tests compile much and compute little: LLVM's optimizations would take most of their time, and of the rest a third
# goes to the newer way of making loops, which JAX 0.10 can still do without.
COMPILER = ["--xla_backend_optimization_level=0"]
if jax.__version_info__[:2] == (0, 10):
    COMPILER.append("--xla_cpu_use_fusion_emitters=false")
# "auto" is float32 then on every processor, which tolerances are made for.
if platform.machine() in ("x86_64", "AMD64"):
    COMPILER.append("--xla_cpu_max_isa=AVX512")
os.environ["XLA_FLAGS"] = " ".join([os.environ.get("XLA_FLAGS", ""), *COMPILER]).strip()

# Simulated, in this process alone. Most tests use one of them, those in `tests/parallel` all.
jax.config.update("jax_num_cpu_devices", 8)

# A small head over the tiny encoder: what tests wait for is mostly the compiler.
TINY_HEAD = {"num_attention_heads": 4, "kernel_sizes": (1, 3), "num_experts": 2}

WORDS = [f"w{number}" for number in range(40)]
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]


@pytest.fixture(scope="session")
def tiny_encoder(tmp_path_factory) -> Path:
    """A DistilBERT folder in transformers' format: 1 layer, hidden size 24, random weights, WordPiece tokenizer."""
    from flax import nnx
    from safetensors.numpy import save_file
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    from amsdff_jax.config import EncoderConfig
    from amsdff_jax.models.encoders.distilbert import DistilBertEncoder
    from amsdff_jax.models.state_dict import to_state_dict

    folder = tmp_path_factory.mktemp("tiny_encoder")
    vocabulary = {token: index for index, token in enumerate([*SPECIAL, *WORDS])}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", cls_token="[CLS]", sep_token="[SEP]"
    ).save_pretrained(folder)
    sizes = {"vocab_size": len(vocabulary), "max_position_embeddings": 40, "dim": 24, "n_layers": 1, "n_heads": 3,
             "hidden_dim": 36}  # fmt: skip
    (folder / "config.json").write_text(json.dumps({"model_type": "distilbert", "activation": "gelu", **sizes}))
    encoder = DistilBertEncoder(EncoderConfig(**sizes), rngs=nnx.Rngs(5))
    save_file(to_state_dict(encoder), folder / "model.safetensors")
    return folder


def make_texts(number: int, seed: int) -> tuple[list[str], list[str]]:
    """Texts of 1 to 20 words whose class, `low` or `high`, is where their words come from."""
    choice = random.Random(seed)
    texts, labels = [], []
    for _ in range(number):
        label = choice.choice(["high", "low"])
        words = WORDS[20:] if label == "high" else WORDS[:20]
        texts.append(" ".join(choice.choices(words, k=choice.randint(1, 20))))
        labels.append(label)
    return texts, labels


def write_csv(path: Path, texts: list[str], labels: list[str]) -> Path:
    """A file in the format that `data.source = "files"` reads by default."""
    path.write_text("text,label\n" + "".join(f'"{t}",{c}\n' for t, c in zip(texts, labels, strict=True)))
    return path


def write_json_lines(path: Path, rows: list[tuple], label: str = "label") -> str:
    """A file of texts and their labels of any kind, in the column `label`."""
    path.write_text("".join(json.dumps({"text": text, label: value}) + "\n" for text, value in rows))
    return str(path)


@pytest.fixture
def tiny_config(tiny_encoder, tmp_path):
    """A run of 3 epochs of 9 steps on two learnable classes."""
    from amsdff_jax import Config

    files = {
        f"{split}_file": str(write_csv(tmp_path / f"{split}.csv", *make_texts(number, seed)))
        for seed, (split, number) in enumerate({"train": 101, "validation": 37, "test": 43}.items())
    }
    return Config.from_dict(
        {
            "model": {"encoder": str(tiny_encoder)},
            "data": {"source": "files", "max_length": 24, "num_buckets": 1, **files},
            "train": {
                "epochs": 3, "batch_size": 12, "eval_batch_size": 10, "head_learning_rate": 6e-3,
                "encoder_learning_rate": 3e-3, "log_every": 4, "checkpoint_every": 1000,
            },
        }
    )  # fmt: skip


@pytest.fixture
def tiny_data(tiny_config):
    """The three splits of `tiny_config`."""
    from amsdff_jax import load_data

    return load_data(tiny_config.data)


@pytest.fixture
def tiny_trainer(tiny_config, tiny_data, tmp_path):
    """A function that makes a new trainer over the same folder, as a new process would, on one device.

    Its model is the smallest there is, for most of what a trainer does is the same for all; `model__name="amsdff"`
    asks for the whole, which takes several times as long to compile.
    """
    from amsdff_jax import Trainer
    from amsdff_jax.models.registry import MODELS

    def make(workdir=tmp_path / "run", devices=(), **changes):
        config = tiny_config.replace(**{"model__name": "linear"} | changes)
        fields = TINY_HEAD | {name.removeprefix("model__"): changes[name] for name in changes if "model__" in name}
        fields.pop("name", None)
        model = MODELS[config.model.name].from_pretrained(config.model.encoder, 2, **fields)
        return Trainer(
            model, config, tiny_data.train, tiny_data.validation, workdir, devices=devices or jax.devices()[:1]
        )

    return make


@pytest.fixture(scope="session", autouse=True)
def compilation_cache(tmp_path_factory):
    """Compiles every shape once a session, in this and all other processes of the tests."""
    # Above the folder of this worker, so that all workers share it.
    folder = tmp_path_factory.getbasetemp().parent / "compiled"
    os.environ["AMSDFF_CACHE"] = str(folder.with_name("cache"))
    settings = {"jax_compilation_cache_dir": str(folder), "jax_persistent_cache_min_compile_time_secs": 0.1}
    for name, value in settings.items():
        jax.config.update(name, value)
        os.environ[name.upper()] = str(value)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="needs PyTorch")
