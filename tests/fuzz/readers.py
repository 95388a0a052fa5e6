"""Everything that reads a file from outside, each with whole files to damage."""

import dataclasses
import gzip
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

from amsdff_jax.base.records import read_log
from amsdff_jax.config import Config, DataConfig, EncoderConfig, ModelConfig
from amsdff_jax.config.encoder_families import encoder_values
from amsdff_jax.config.encoders import DebertaConfig
from amsdff_jax.data.files import read_file
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.evaluation.calibration import Calibration
from amsdff_jax.evaluation.calibration_file import read_calibration, write_calibration
from amsdff_jax.evaluation.model_card import write_model_card
from amsdff_jax.evaluation.report import read_metrics, write_metrics
from amsdff_jax.experiments.record import METRICS, RunRecord
from amsdff_jax.interop.encoder_files import read_encoder_config, read_encoder_weights
from amsdff_jax.interop.safetensors_file import write_safetensors
from amsdff_jax.interop.sequence_classification import label_values
from amsdff_jax.interop.torch_checkpoint import write_torch_file
from amsdff_jax.interop.weights_file import read_weights_file
from amsdff_jax.models.model_folder import FORMAT_VERSION, MODEL_TYPE, read_model_config
from amsdff_jax.training.inputs import RunInputs, SplitRecord
from amsdff_jax.training.recorder import RunLog
from amsdff_jax.training.workdir import open_workdir, read_run_config

CLASSES = ("high", "low|er")
ROWS = [{"text": f'a "{number}" ä, b', "label": "high" if number % 2 else "low", "id": number} for number in range(6)]
INPUTS = RunInputs(CLASSES, EncoderConfig(), SplitRecord("a.csv", 3, "f1"), SplitRecord("b.csv", 2, "f2"))


class Reader(NamedTuple):
    """A reader and what it reads.

    Attributes:
      make: writes whole files into a folder.
      formats: which of the files are damaged, one at a time, and how: by name one of `mutators.FORMATS`.
      read: reads the file that was damaged, and checks what can be known of the value.
      leaves: endings of files that reading may leave behind, beside those that were there.
    """

    make: Callable[[Path], None]
    formats: Mapping[str, str]
    read: Callable[[Path], Any]
    leaves: tuple[str, ...] = ()


def make_torch_files(folder: Path) -> None:
    tensors = _tensors()
    write_torch_file(folder / "weights.pt", tensors)
    history = [{"step": 1, "loss": 0.5, "note": None}]
    write_torch_file(
        folder / "checkpoint.pt", {"model_state_dict": tensors, "epoch": 3, "betas": (0.9, 1), "h": history}
    )


def make_safetensors(folder: Path) -> None:
    write_safetensors(folder / "weights.safetensors", _tensors())


def make_encoders(folder: Path) -> None:
    bert = {"vocab_size": 9, "max_position_embeddings": 7, "hidden_size": 4, "num_hidden_layers": 1,
            "num_attention_heads": 2, "intermediate_size": 5}  # fmt: skip
    names = [field.name for field in dataclasses.fields(EncoderConfig)]
    sizes = dict(zip(names, (9, 7, 4, 1, 2, 5), strict=False))
    modern = {"rope_parameters": {"full_attention": {"rope_theta": 9.0}}, "layer_types": ["full_attention"]}
    kinds = {
        "bert": bert,
        "distilbert": sizes,
        "modernbert": bert | modern | {"pad_token_id": 0},
        "deberta-v2": encoder_values(DebertaConfig(9, 7, 4, 1, 2, 5, position_buckets=4)),
    }
    for kind, values in kinds.items():
        (folder / kind).mkdir()
        (folder / kind / "config.json").write_text(json.dumps({"model_type": kind, **values}))
        write_safetensors(folder / kind / "model.safetensors", {
            f"embeddings.{'tok' if kind == 'modernbert' else 'word'}_embeddings.weight": np.ones((9, 4), np.float32),
            "embeddings.position_embeddings.weight": np.ones((7, 4), np.float32),
            "embeddings.token_type_embeddings.weight": np.ones((2, 4), np.float32),
            "encoder.layer.0.attention.self.query.weight": np.ones((4, 4), ml_dtypes.bfloat16),
            "pooler.dense.bias": np.ones(4, np.float32),
        })  # fmt: skip


def make_tables(folder: Path) -> None:
    for ending, separator in {"csv": ",", "tsv": "\t"}.items():
        lines = ["text,label,id".replace(",", separator)]
        lines += [
            '"' + row["text"].replace('"', '""') + f'"{separator}{row["label"]}{separator}{row["id"]}' for row in ROWS
        ]
        (folder / f"rows.{ending}").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "numbers.csv").write_text('text,label\r\na,1\r\n"b\nc",2\r\nd,1\r\n')


def make_json_lines(folder: Path) -> None:
    lines = [json.dumps(row, ensure_ascii=False) for row in ROWS]
    (folder / "rows.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    (folder / "nested.jsonl").write_text(
        '{"text": "a", "label": 1, "x": {"y": [1, null]}}\n{"text": "b", "label": 2.0}\n'
    )


def make_parquet_files(folder: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    table = pyarrow.Table.from_pylist(ROWS * 4)
    others = {"list": [[1, 2], None, []] * 8, "time": pyarrow.array(range(24), pyarrow.timestamp("us")),
              "bytes": [b"\xff", None] * 12, "struct": [{"a": 1}] * 24}  # fmt: skip
    pyarrow.parquet.write_table(table, folder / "rows.parquet", compression="none")
    wide = pyarrow.table({**{name: table[name] for name in table.column_names}, **others})
    pyarrow.parquet.write_table(wide, folder / "wide.parquet", row_group_size=7, data_page_version="2.0")


def make_packed_files(folder: Path) -> None:
    import pyarrow

    for make in (make_tables, make_json_lines, make_parquet_files):
        make(folder)
    for file in list(folder.iterdir()):
        file.with_name(f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes(), 1))
        packed = pyarrow.compress(file.read_bytes(), codec="zstd", asbytes=True)
        file.with_name(f"{file.name}.zst").write_bytes(packed)
        file.unlink()


def read_texts(file: Path) -> None:
    dataset = read_file(str(file), DataConfig())
    assert len(dataset.texts) == len(dataset.labels) == len(dataset.ids) > 0
    assert all(isinstance(text, str) for text in dataset.texts)
    assert 0 <= min(dataset.labels) <= max(dataset.labels) < len(dataset.class_names)


def read_weights(file: Path) -> None:
    for name, tensor in read_weights_file(file).tensors.items():
        assert isinstance(name, str)
        assert isinstance(tensor, np.ndarray)
        assert tensor.dtype != object
        tensor.astype(np.float32).sum()


def read_encoder(file: Path) -> None:
    config = read_encoder_config(file.parent)
    assert type(config.dim) is int
    for tensor in read_encoder_weights(file.parent, config.model_type).tensors.values():
        tensor.astype(np.float32).sum()


def make_model_folder(folder: Path) -> None:
    config = {
        "model_type": MODEL_TYPE, "format_version": FORMAT_VERSION, **label_values(CLASSES, "single"),
        MODEL_TYPE: {
            "max_length": 5, "reads_pairs": False, "model": dataclasses.asdict(ModelConfig(num_classes=2)),
            "encoder": encoder_values(EncoderConfig()),
        },
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    write_calibration(folder, Calibration(CLASSES, 1.5, 0.25, 0.9, coverage=0.9, before={"ece": 0.5}))


def read_model_files(file: Path) -> None:
    config = read_model_config(file.parent)
    assert type(config.max_length) is int
    assert config.max_length > 2
    assert len(config.class_names) == config.model.num_classes
    calibration = read_calibration(file.parent, config.class_names)
    if calibration is not None:
        probabilities = calibration.probabilities(np.eye(2))
        calibration.abstains(probabilities)
        calibration.label_sets(probabilities)
        assert np.isfinite(probabilities).all()


def make_tokenizers(folder: Path) -> None:
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "##b", "c"]
    vocabulary = {word: index for index, word in enumerate(words)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.BertProcessing(("[SEP]", 3), ("[CLS]", 2))
    special = dict(zip(("pad_token", "unk_token", "cls_token", "sep_token"), words, strict=False))
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder / "fast")
    (folder / "slow").mkdir()
    (folder / "slow" / "vocab.txt").write_text("\n".join(words) + "\n")
    (folder / "slow" / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "BertTokenizer", **special}))


def read_tokenizer(file: Path) -> None:
    tokenizer = load_tokenizer(file.parent)
    assert type(tokenizer.pad_token_id) is int


def make_records(folder: Path) -> None:
    row = {"precision": 1.0, "recall": 1.0, "f1": 1.0, "support": 2}
    numbers = {**dict.fromkeys((*METRICS, "loss"), 0.5), "examples": 3, "truncated": 1}
    metrics = numbers | {"per_class": [{"class": name, **row} for name in CLASSES]}
    make_model_folder(folder)
    (folder / "card.json").write_text(json.dumps({"metrics": {"test": metrics}}))
    write_metrics(folder, {"test": metrics})
    records = [{"kind": "train", "step": 2, "loss": 0.5, "accuracy": 1.0}, {"kind": "validation", "step": 2, **numbers}]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    curve = ({"epoch": 1, "accuracy": 0.5, "loss": 1.5},)
    RunRecord("r8", "gru", 1, -1, "digest", correct="101", metrics=dict.fromkeys(METRICS, 0.5), curve=curve).write(
        folder / "run.json"
    )


def read_records(file: Path) -> None:
    match file.name:
        case "metrics.jsonl":
            with RunLog(file.parent, 2) as log:
                log.write("train", 3, {"loss": 0.5, "accuracy": 1.0})
            assert read_log(file)[-1]["step"] == 3
        case "metrics.json":
            write_metrics(file.parent, {"test": {"accuracy": 0.5}})
            assert read_metrics(file.parent)["test"]["accuracy"] == 0.5
        case "card.json":
            write_model_card(file.parent)
            (file.parent / "README.md").unlink()
        case _:
            record = RunRecord.read(file)
            assert record is None or record.hits.dtype == bool


def make_run(folder: Path) -> None:
    open_workdir(folder, Config(), INPUTS)
    (folder / "checkpoints" / "latest" / "1").mkdir(parents=True)


def read_run(file: Path) -> None:
    assert isinstance(read_run_config(file.parent), Config)
    open_workdir(file.parent, Config(), INPUTS)


def _tensors() -> dict[str, np.ndarray]:
    generator = np.random.default_rng(0)
    return {
        "linear.weight": generator.normal(size=(3, 4)).astype(np.float32),
        "transformer.embeddings.position_embeddings.weight": np.ones((5, 4), np.float16),
        "transformer.embeddings.token_type_embeddings.weight": np.ones((2, 4), np.float16),
        "bias": np.array([1, 2], ml_dtypes.bfloat16),
        "count": np.array(7),
        "empty": np.zeros((0, 3), np.float32),
    }


READERS = {
    "torch": Reader(make_torch_files, {"weights.pt": "torch", "checkpoint.pt": "torch"}, read_weights),
    "safetensors": Reader(make_safetensors, {"weights.safetensors": "safetensors"}, read_weights),
    "encoder": Reader(
        make_encoders,
        {f"{kind}/{name}": format for kind in ("bert", "distilbert", "modernbert", "deberta-v2")
         for name, format in (("config.json", "json"), ("model.safetensors", "safetensors"))},
        read_encoder,
    ),
    "tables": Reader(make_tables, dict.fromkeys(("rows.csv", "rows.tsv", "numbers.csv"), "table"), read_texts),
    "json_lines": Reader(make_json_lines, dict.fromkeys(("rows.jsonl", "nested.jsonl"), "jsonl"), read_texts),
    "parquet": Reader(make_parquet_files, dict.fromkeys(("rows.parquet", "wide.parquet"), "parquet"), read_texts),
    "packed": Reader(
        make_packed_files,
        {"rows.csv.gz": "table.gz", "rows.jsonl.gz": "jsonl.gz", "rows.parquet.gz": "parquet.gz",
         "rows.csv.zst": "table.zst"},
        read_texts,
    ),
    "model_folder": Reader(
        make_model_folder, dict.fromkeys(("config.json", "calibration.json"), "json"), read_model_files
    ),
    "tokenizer": Reader(
        make_tokenizers,
        {"fast/tokenizer.json": "json", "fast/tokenizer_config.json": "json", "slow/vocab.txt": "text",
         "slow/tokenizer_config.json": "json"},
        read_tokenizer,
    ),
    "records": Reader(
        make_records,
        {"card.json": "json", "metrics.json": "json", "run.json": "json", "metrics.jsonl": "jsonl"},
        read_records,
        leaves=(".damaged",),
    ),
    "run": Reader(make_run, dict.fromkeys(("config.json", "inputs.json"), "json"), read_run),
}  # fmt: skip
