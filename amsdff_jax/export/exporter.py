"""From a model folder to a verified export of it."""

import dataclasses
import logging
import shutil
from pathlib import Path

import jax
from tokenizers import Tokenizer

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import atomic_folder, read_json, user_errors, user_path, write_json, write_text
from amsdff_jax.base.validation import require_choice
from amsdff_jax.config.encoder_families import encoder_values
from amsdff_jax.data import long_texts
from amsdff_jax.data.tokenization import pad_token_id, save_tokenizer
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
from amsdff_jax.export.verification import TOLERANCE, Verification, read_texts, run_model, verify_export
from amsdff_jax.models.model_folder import SavedModel, interface_values, read_model_folder
from amsdff_jax.reporting.render import render

CONFIG = "config.json"
MARK = "export_format"  # a key of `config.json` that only exports have
LOADERS = Path(__file__).parent / "loaders"

logger = logging.getLogger(__name__)


def export_model(
    folder: str | Path, output: str | Path, format: str = "stablehlo", file: str = "", text_column: str = ""
) -> Verification:
    """Exports a model, and keeps the export if it says the same as the model, run by its own loader.

    Args:
      folder: a model folder, with a tokenizer.
      output: a new folder, or an export to be replaced.
      format: one of `FORMATS`.
      file: CSV, TSV, JSONL or Parquet of texts to verify on; "": movie snippets.
      text_column: of that file, or several, as in `DataConfig`; "": as the model was trained with.

    Returns:
      How far the two are apart. Unless they are `equal`, nothing has been written.

    Raises:
      UserError: anything wrong with the folders or the file, or a format that lacks a package.
    """
    require_choice("--format", format, tuple(FORMATS))
    folder, output = user_path(folder), user_path(output).resolve()
    _check_replaceable(output)
    write = find_writer(format)
    texts = read_texts(file, text_column or recorded_columns(folder).text_column)
    # So that it can be lowered for every platform, and computes as PyTorch does.
    saved = read_model_folder(folder, compute_dtype="float32", attention="xla")
    saved.model.read_in_windows(None)  # texts of one window are all that an export takes
    calibration = read_calibration(folder, saved.class_names, saved.task)
    expected = run_model(saved, texts)
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
        if verification.equal:
            write_text(partial / "README.md", describe_export(format, saved, calibration, verification))
        else:
            shutil.rmtree(partial)
    if verification.equal:
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
        max_length=saved.max_length,
        long_texts=saved.long_texts,
        masks_padding=model.config.mask_padding,
        positions=model.encoder_config.max_tokens,
        task=saved.task,
        several=saved.task == "multi_label",
        calibration=calibration,
        verification=verification,
        tolerance=TOLERANCE,
        jax_version=jax.__version__,
    )


def describe_verification(verification: Verification) -> str:
    """One line for a person."""
    texts, shortest, longest, logits, probabilities, failure = verification
    if failure:
        return f"{failure}, so nothing was exported"
    outcome = "equal" if verification.equal else "DIFFERENT, so nothing was exported"
    return (
        f"{texts} texts of {shortest} to {longest} tokens: logits differ by at most {logits:.1e}, probabilities by "
        f"{probabilities:.1e} ({outcome}; tolerance {TOLERANCE:g})"
    )


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
    found = calibration or neutral_calibration(saved.class_names, saved.task)
    several = isinstance(found, MultiLabelCalibration)
    number = {"number": saved.class_names[0]} if saved.task == "regression" else {}
    config = {
        MARK: format,
        "class_names": list(saved.class_names),
        "max_length": saved.max_length,
        "long_texts": saved.long_texts,
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
        tokenizer.enable_truncation(saved.max_length)
    if not saved.model.config.mask_padding:
        padding = {"length": saved.max_length}
    else:
        rounded = -(-saved.max_length // multiple) * multiple
        fits = rounded <= saved.model.encoder_config.max_tokens
        padding = {"pad_to_multiple_of": multiple} if fits and multiple > 1 else {}
    tokenizer.enable_padding(pad_id=pad_token_id(own), pad_token=str(own.pad_token), **padding)
    return tokenizer
