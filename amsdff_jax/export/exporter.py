"""From a model folder to a verified export of it."""

import dataclasses
import logging
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
from tokenizers import Tokenizer

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import atomic_folder, read_json, user_errors, user_path, write_json, write_text
from amsdff_jax.base.validation import require, require_choice
from amsdff_jax.config import DataConfig
from amsdff_jax.config.encoder_families import encoder_values
from amsdff_jax.data import long_texts
from amsdff_jax.data.encoded_labels import label_kind
from amsdff_jax.data.files import read_file
from amsdff_jax.data.tokenization import pad_token_id, save_tokenizer, unknown_id
from amsdff_jax.evaluation.calibration import Calibration
from amsdff_jax.evaluation.calibration_file import (
    CALIBRATION,
    AnyCalibration,
    neutral_calibration,
    read_calibration,
)
from amsdff_jax.evaluation.model_card import recorded_columns
from amsdff_jax.evaluation.multi_label_calibration import MultiLabelCalibration
from amsdff_jax.export.formats import FORMATS, find_writer
from amsdff_jax.export.int8 import Quantization, quantize
from amsdff_jax.export.verification import (
    TOLERANCE,
    Expectation,
    Verification,
    default_texts,
    read_texts,
    run_loader,
    run_model,
    verify_export,
)
from amsdff_jax.models.model_folder import SavedModel, interface_values, read_model_folder
from amsdff_jax.prediction.inputs import check_pairs
from amsdff_jax.reporting.render import render

CONFIG = "config.json"
MARK = "export_format"  # a key of `config.json` that only exports have
LOADERS = Path(__file__).parent / "loaders"

logger = logging.getLogger(__name__)


def export_model(
    folder: str | Path,
    output: str | Path,
    format: str = "stablehlo",
    file: str = "",
    data: DataConfig | None = None,
    max_loss: float | None = None,
) -> Verification:
    """Exports a model, and keeps the export if it says the same as the model, run by its own loader.

    With `max_loss` its dense layers multiply integers of 8 bits (see `quantize`), and it is kept if that costs no more.

    Args:
      folder: a model folder, with a tokenizer.
      output: a new folder, or an export to be replaced.
      format: one of `FORMATS`.
      file: CSV, TSV, JSONL or Parquet of texts to verify on; "": movie snippets.
      data: its columns, and how a table is written; None: the columns that the model was trained with.
      max_loss: None: the export computes in float32. Else what accuracy and macro F1 on the file may lose, and the
        calibration error may gain, as shares.

    Returns:
      How far the two are apart. Unless it is `accepted`, nothing has been written.

    Raises:
      UserError: anything wrong with the folders or the file, a format that lacks a package, or `max_loss` with another
        format than onnx, without a file or for a model that gives texts anything but one class.
    """
    require_choice("--format", format, tuple(FORMATS))
    _check_int8(format, file, max_loss)
    folder, output = user_path(folder), user_path(output).resolve()
    _check_replaceable(output)
    write = find_writer(format)
    data = data or recorded_columns(folder)
    # So that it can be lowered for every platform, and computes as PyTorch does.
    saved = read_model_folder(folder, compute_dtype="float32", attention="xla")
    saved.model.read_in_windows(None)  # texts of one window are all that an export takes
    calibration = read_calibration(folder, saved.class_names, saved.task)
    if file:
        check_pairs(saved.reads_pairs, data.text_pair_column)
    if max_loss is None:
        expected = run_model(saved, read_texts(file, data) if file else default_texts(saved))
    else:
        if label_kind(saved.task) != "single":
            raise UserError(f"--int8: judges models that give a text one class, and this is {saved.task}; leave it out")
        labelled = read_file(file, data, saved.class_names, saved.task)
        labelled.require_classes(saved.class_names, "the model", saved.task)
        pairs = labelled.text_pairs
        texts = list(labelled.texts if pairs is None else zip(labelled.texts, pairs, strict=True))
        expected = run_model(saved, texts, labelled.classes)
    with user_errors(output, "written", "make room or choose another folder"), atomic_folder(output) as partial:
        write(saved, partial)
        _write_config(partial / CONFIG, saved, format, calibration)
        if FORMATS[format].for_transformers:
            save_tokenizer(saved.require_tokenizer(), partial, saved.max_length)
        _make_tokenizer(saved, FORMATS[format].length_multiple).save(str(partial / "tokenizer.json"))
        carried = {"load": LOADERS / f"{format}.py", "long_texts": long_texts.__file__}
        carried |= {name: LOADERS / f"{name}.py" for name in ("answers", "tokens")}
        for name, source in carried.items():
            shutil.copyfile(source, partial / f"{name}.py")
        if calibration is not None:
            shutil.copyfile(folder / CALIBRATION, partial / CALIBRATION)
        verification = verify_export(partial, expected)
        if verification.equal and max_loss is not None:
            verification = verification._replace(
                quantization=_quantize(partial, expected, calibration, saved.max_length, max_loss)
            )
        if verification.accepted:
            write_text(partial / "README.md", describe_export(format, saved, calibration, verification))
        else:
            shutil.rmtree(partial)
    if verification.accepted:
        logger.info("%s: the export of %s as %s", output, folder, format)
    return verification


def describe_export(
    format: str, saved: SavedModel, calibration: AnyCalibration | None, verification: Verification
) -> str:
    """The `README.md` of an export, in Markdown: what is in the folder and how to run it.

    Args:
      calibration: of the model; None: it has none.
    """
    model = saved.model
    return render(
        "export.md.j2",
        format=format,
        class_names=saved.class_names,
        reads_pairs=saved.reads_pairs,
        max_length=saved.max_length,
        long_texts=saved.long_texts,
        masks_padding=model.config.mask_padding,
        positions=model.encoder_config.max_tokens,
        task=saved.task,
        several=saved.task == "multi_label",
        calibration=calibration,
        verification=verification,
        quantization=verification.quantization and describe_quantization(verification.quantization),
        tolerance=TOLERANCE,
        jax_version=jax.__version__,
    )


def describe_verification(verification: Verification) -> str:
    """One line for a person."""
    texts, shortest, longest, logits, probabilities, failure, quantization = verification
    if failure:
        return f"{failure}, so nothing was exported"
    outcome = "equal" if verification.equal else "DIFFERENT, so nothing was exported"
    compared = (
        f"{texts} texts of {shortest} to {longest} tokens: logits differ by at most {logits:.1e}, probabilities by "
        f"{probabilities:.1e} ({outcome}; tolerance {TOLERANCE:g})"
    )
    return compared if quantization is None else f"{compared}\n{describe_quantization(quantization)}"


def describe_quantization(quantization: Quantization) -> str:
    """One line for a person."""
    before, after, in_float, layers, speedup, max_loss = quantization
    measures = ", ".join(
        f"{name.replace('_', ' ')} {old:.4f} to {new:.4f}"
        for name, old, new in zip(before._fields, before, after, strict=True)
    )
    if not quantization.accepted:
        in_int8 = f"{layers - len(in_float)} of {layers} layers quantized"
        return f"int8: {measures} with {in_int8}; more than {max_loss:g} lost, so nothing was exported"
    kept = f"; in float32 stayed {', '.join(in_float)}" if in_float else ""
    return f"int8: {measures} ({max_loss:g} may be lost); {speedup:.2f} times as fast on this CPU{kept}"


def _check_int8(format: str, file: str, max_loss: float | None) -> None:
    if max_loss is None:
        return
    if format != "onnx":
        raise UserError(f"--int8: is for --format=onnx, got {format}")
    if not file:
        raise UserError("--int8: needs --file=FILE of labelled texts, which the model has not been trained on")
    require(0 <= max_loss < 1, "--max_loss", max_loss, "a share from 0 to below 1")


def _quantize(
    folder: Path, expected: Expectation, calibration: AnyCalibration | None, length: int, max_loss: float
) -> Quantization:
    """Replaces the graph of an export by one in int8, if that loses no more than `max_loss`."""
    graph, texts, lengths = folder / "model.onnx", expected.texts, expected.lengths
    full = graph.with_name("float32.onnx")

    def run(other: Path, rows: np.ndarray | None) -> np.ndarray:
        """The logits of the export's own loader with another graph."""
        chosen = np.arange(len(texts)) if rows is None else rows
        graph.rename(full)
        try:
            shutil.copyfile(other, graph)
            return run_loader(folder, [texts[row] for row in chosen.tolist()], lengths[chosen])
        finally:
            full.replace(graph)

    temperature = calibration.temperature if isinstance(calibration, Calibration) else 1.0
    labels: Any = expected.labels
    return quantize(graph, labels, expected.logits, temperature, max_loss, length, run)


def _check_replaceable(folder: Path) -> None:
    """Raises `UserError` unless there is nothing at `folder`, or an empty folder, or an export."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise UserError(f"{folder}: is a file; choose a folder")
    if not any(folder.iterdir()):
        return
    try:
        is_export = MARK in read_json(folder / CONFIG, "the config.json of an export")
    except UserError:
        is_export = False
    if not is_export:
        raise UserError(f"{folder}: holds something that is no export, and is left alone; choose another folder")


def _write_config(file: Path, saved: SavedModel, format: str, calibration: AnyCalibration | None) -> None:
    """What the loaders read, and the sizes of the model for whom it may concern."""
    tokenizer = saved.require_tokenizer()
    found = calibration or neutral_calibration(saved.class_names, saved.task)
    several = isinstance(found, MultiLabelCalibration)
    number = {"number": saved.class_names[0]} if saved.task == "regression" else {}
    config = {
        MARK: format,
        "class_names": list(saved.class_names),
        "max_length": saved.max_length,
        "long_texts": saved.long_texts,
        "reads_pairs": saved.reads_pairs,
        "unknown_token_id": unknown_id(tokenizer),
        "split_special_tokens": bool(tokenizer.split_special_tokens),
        **number,
        "temperature": found.temperature if isinstance(found, Calibration) else 1.0,
        **({"thresholds": list(found.thresholds)} if several else {}),
        "model": dataclasses.asdict(saved.model.config) | {"encoder": ""},  # which was a path of this machine
        "encoder": encoder_values(saved.model.encoder_config),
    }
    if FORMATS[format].for_transformers:
        config |= interface_values(saved)
    write_json(file, config)


def _make_tokenizer(saved: SavedModel, multiple: int) -> Tokenizer:
    """The tokenizer that pads as the model needs it, and truncates, unless other tokens are read of long texts."""
    own = saved.require_tokenizer()
    tokenizer = Tokenizer.from_str(own.backend_tokenizer.to_str())
    if saved.long_texts == "truncate":
        tokenizer.enable_truncation(saved.max_length, direction=own.truncation_side)
    if not saved.model.config.mask_padding:
        padding = {"length": saved.max_length}
    else:
        rounded = -(-saved.max_length // multiple) * multiple
        fits = rounded <= saved.model.encoder_config.max_tokens
        padding = {"pad_to_multiple_of": multiple} if fits and multiple > 1 else {}
    tokenizer.enable_padding(pad_id=pad_token_id(own), pad_token=str(own.pad_token), **padding)
    return tokenizer
