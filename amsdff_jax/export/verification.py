"""Compares an export, run by its own loader in a process of its own, with the model on real texts."""

import json
import logging
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import chain, cycle, islice, repeat
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import nnx

from amsdff_jax.base.errors import UserError
from amsdff_jax.config import Config, DataConfig
from amsdff_jax.config.columns import split_columns
from amsdff_jax.data.batches import training_buckets
from amsdff_jax.data.dataset import TextDataset
from amsdff_jax.data.files import read_rows
from amsdff_jax.data.rows import text_of
from amsdff_jax.data.sources import load_data
from amsdff_jax.data.texts import Text
from amsdff_jax.data.tokenization import tokenize
from amsdff_jax.evaluation.calibration import softmax
from amsdff_jax.evaluation.inference import Inference, make_forward, require_finite
from amsdff_jax.export.int8 import Quantization
from amsdff_jax.models.model_folder import SavedModel
from amsdff_jax.models.variables import Variables
from amsdff_jax.parallel.data_parallel import DataParallel

logger = logging.getLogger(__name__)

TOLERANCE = 1e-4  # absolute, of logits and probabilities

DEFAULT_TEXTS = 200
SNIPPETS_PER_TEXT = (1, 1, 1, 2, 3, 5, 9, 17)  # in turn, so that there are short, long and truncated texts

LONGEST_DEFAULT = 512  # tokens; a batch of longer ones would take too much memory

BATCH_SIZES = (1, 7, 32)  # of the loader's calls; the last is repeated


class Verification(NamedTuple):
    """How far an export is from the model, before anything is quantized."""

    texts: int  # how many were compared
    shortest: int  # tokens of the shortest text, after truncation
    longest: int  # of the longest
    logits: float  # largest absolute difference; of numbers and ordered classes by the largest, if above 1
    probabilities: float  # the same, at temperature 1
    failure: str = ""  # what is wrong with the loader, if it gave nothing to compare; "": nothing
    quantization: Quantization | None = None  # what int8 made of it, if it was asked for

    @property
    def accepted(self) -> bool:
        """Whether the export is kept."""
        return self.equal and (self.quantization is None or self.quantization.accepted)

    @property
    def equal(self) -> bool:
        """Whether both differences are numbers within `TOLERANCE`."""
        return self.logits <= TOLERANCE and self.probabilities <= TOLERANCE


def read_texts(file: str, data: DataConfig) -> list[Text]:
    """The texts of a file, or its pairs of texts.

    Args:
      file: CSV, TSV, JSON, JSONL or Parquet.
      data: which columns hold them, and how a table is written.

    Raises:
      UserError: the file cannot be read or has no such column.
    """
    columns, pair_columns = split_columns(data.text_column), split_columns(data.text_pair_column)
    texts: list[Text] = []
    for row in read_rows(file, [*columns, *pair_columns], data):
        try:
            text = text_of(row, columns)
            texts.append((text, text_of(row, pair_columns)) if pair_columns else text)
        except UserError as error:
            hint = " and --text_pair_column=NAME" if pair_columns else ""
            raise UserError(f"{file}: {error}; --text_column=NAME{hint}") from None
    return texts


def default_texts(saved: SavedModel) -> list[Text]:
    """`DEFAULT_TEXTS` made of the bundled movie snippets, and some that are read otherwise if a setting is lost.

    These are a text of nothing, half a character, one of the tokenizer's own tokens as a word, and, of a model that
    reads no more than `LONGEST_DEFAULT` tokens, a text of more than it reads.
    """
    tokenizer = saved.require_tokenizer()
    snippets = load_data(DataConfig(source="bundled")).require_test().texts
    each, numbers = iter(snippets), islice(cycle(SNIPPETS_PER_TEXT), DEFAULT_TEXTS)
    texts: list[Any] = [" ".join(islice(each, number)) for number in numbers]
    texts += ["", "half of a character: \ud83d"]
    if isinstance(special := tokenizer.sep_token_id, int):
        texts.append(f"good {tokenizer.backend_tokenizer.id_to_token(special)} bad")
    if saved.max_length <= LONGEST_DEFAULT:
        texts.append(" ".join(islice(chain.from_iterable(map(str.split, snippets)), 2 * saved.max_length)))
    return list(zip(texts, reversed(texts), strict=True)) if saved.reads_pairs else texts


class Expectation(NamedTuple):
    """What the model itself says of N texts, or pairs of texts."""

    texts: Sequence[Text]  # the N texts
    lengths: np.ndarray  # [N] tokens of each, after truncation
    logits: np.ndarray  # [N,C] float32
    unit: float = 1.0  # of their difference
    labels: np.ndarray | None = None  # [N] int32, if they are known


def run_model(saved: SavedModel, texts: Sequence[Text], labels: np.ndarray | None = None) -> Expectation:
    """Runs the model on a CPU, by the code that evaluates and predicts, on the texts that an export takes.

    Args:
      labels: [N] int32 of the texts; None: they are not known.

    Raises:
      UserError: logits that are not finite; of a model that reads long texts in windows, no text that fits one.
    """
    first, second = [text for text in texts if isinstance(text, str)], None
    if len(first) < len(texts):
        first, second = map(list, zip(*texts, strict=True))
    labelled = np.zeros(len(texts), np.int32), saved.class_names
    dataset = TextDataset(first, *labelled, name="texts to verify on", text_pairs=second)
    tokens = tokenize(dataset, saved.require_tokenizer(), saved.max_length, saved.long_texts)
    fitting = np.flatnonzero(tokens.lengths <= saved.max_length)
    if not len(fitting):
        raise UserError(
            f"--file: none of the {len(texts)} texts fits the {saved.max_length} tokens that an export takes; name one "
            "with shorter texts"
        )
    texts, tokens = [texts[row] for row in fitting.tolist()], tokens.select(fitting)
    model = saved.model.for_platform("cpu")
    parallel = DataParallel(devices=jax.local_devices(backend="cpu")[:1])
    config = Config().replace(data__max_length=saved.max_length, model__mask_padding=model.config.mask_padding)
    inference = Inference(make_forward(nnx.graphdef(model)), parallel, max(BATCH_SIZES), "verification")
    variables = parallel.replicate(Variables.of(model))
    logits = inference(variables, tokens, training_buckets(tokens.lengths, config))
    require_finite(logits, lambda row: f"text {row + 1}")
    # A number, and the score behind ordered classes, is rounded the more the larger it is.
    unit = max(float(np.abs(logits).max()), 1.0) if saved.task in ("regression", "ordinal") else 1.0
    return Expectation(texts, tokens.lengths, logits, unit, None if labels is None else labels[fitting])


def verify_export(folder: Path, expected: Expectation) -> Verification:
    """Runs the loader in `folder` on a CPU, texts of like length in one call, and compares."""
    counts = len(expected.texts), int(expected.lengths.min()), int(expected.lengths.max())
    try:
        logits = run_loader(folder, expected.texts, expected.lengths)
    except LoaderError as error:
        return Verification(*counts, np.inf, np.inf, str(error))
    if logits.shape != expected.logits.shape:
        return Verification(*counts, np.inf, np.inf, f"load.py gives logits of shape {logits.shape}")
    difference = np.abs(logits - expected.logits).max() / expected.unit
    probability_difference = np.abs(softmax(logits) - softmax(expected.logits)).max()
    return Verification(*counts, float(difference), float(probability_difference))


class LoaderError(UserError):
    """What is wrong with an export's loader."""


def run_loader(folder: Path, texts: Sequence[Text], lengths: np.ndarray) -> np.ndarray:
    """[N,C] logits that the loader in `folder` gives N texts, those of like `lengths` [N] in one call.

    Raises:
      LoaderError: it ends with an error, which has been logged.
    """
    order = np.argsort(lengths, kind="stable")
    with tempfile.TemporaryDirectory(prefix="amsdff-export-") as scratch:
        batches, out = Path(scratch) / "batches.json", Path(scratch) / "logits.npy"
        in_order: list[int] = order.tolist()
        batches.write_text(json.dumps(list(_batches([texts[index] for index in in_order]))), encoding="utf-8")
        runner = Path(__file__).with_name("run_loader.py")
        command = [sys.executable, "-P", str(runner), str(folder.resolve()), str(batches), str(out)]
        result = subprocess.run(
            command, cwd=folder, env=_environment(), capture_output=True, text=True, errors="replace", check=False
        )
        if result.returncode or not out.exists():
            for line in result.stderr.strip().splitlines():
                logger.error("load.py: %s", line)
            raise LoaderError(f"load.py ends with exit code {result.returncode}")
        found = np.load(out)
    if len(found) != len(texts):
        return found
    logits = np.empty_like(found)
    logits[order] = found
    return logits


def _batches(texts: Sequence[Text]) -> Iterator[list[Text]]:
    sizes, rest = chain(BATCH_SIZES, repeat(BATCH_SIZES[-1])), iter(texts)
    while batch := list(islice(rest, next(sizes))):
        yield batch


def _environment() -> dict[str, str]:
    """Of the loader's process: on a CPU, where float32 is float32, keeping what JAX compiles where we keep it."""
    compiled = jax.config.values["jax_compilation_cache_dir"]
    kept = {"JAX_COMPILATION_CACHE_DIR": compiled, "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1"}
    # Without bytecode, which would lie in the folder.
    common = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "PYTHONDONTWRITEBYTECODE": "1"}
    return os.environ | common | (kept if compiled else {})
