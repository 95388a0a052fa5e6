"""Runs a model here and in PyTorch on the same inputs and shows where the two differ, stage by stage."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import user_path
from amsdff_jax.data.tokenization import load_tokenizer
from amsdff_jax.interop.safetensors_file import read_safetensors, write_safetensors
from amsdff_jax.interop.weights_file import read_weights_file
from amsdff_jax.models.model_folder import FolderConfig, load_model, read_model_config
from amsdff_jax.reporting.console import make_console
from amsdff_jax.reporting.table import Column, Table, columns, to_rich

logger = logging.getLogger(__name__)

# The stages in the order in which they are computed: name in a file of reference numbers, field of the output.
STAGES = {
    "encoder": "encoder_output",
    "enhanced": "enhanced_features",
    "multi_scale": "multi_scale_features",
    "gates": "expert_gates",
    "sequence": "sequence_features",
    "pool_attention": "token_attention",
    "cls_attention": "cls_attention",
    "pooled": "pooled_features",
    "logits": "logits",
}

REFERENCE_TENSORS = ("input_ids", "attention_mask", "eval.logits")  # and as many more stages as there are

# What holds a number for every token.
TOKEN_STAGES = ("encoder", "enhanced", "multi_scale", "sequence", "pool_attention")

TOLERANCE = 1e-5  # of a stage's largest number, or of 1 where that is smaller

RANDOM_TEXTS, RANDOM_LENGTH = 5, 23


class Difference(NamedTuple):
    """How far one stage is from PyTorch's."""

    stage: str  # name, as in `STAGES`
    absolute: float  # largest difference
    relative: float  # the same as a share of the stage's largest number
    equal: bool  # whether it is within `TOLERANCE`


def verify(
    folder: str | Path, file: str | Path, texts: Sequence[str] = (), save_reference: str | Path = ""
) -> list[Difference]:
    """Compares the model in `folder` with the PyTorch model whose weights are in `file`, both in eval mode.

    Padding and attention heads are `folder`'s on both sides: whether the weights were trained with
    them is not to be seen from a file of weights.

    Args:
      folder: a model folder.
      file: `.pt` or safetensors weights, which need PyTorch to run; or a safetensors file of reference
        numbers (`input_ids`, `attention_mask` and `eval.<stage>`), which does not.
      texts: what both read; (): random tokens. None with reference numbers.
      save_reference: where to write PyTorch's numbers as such a reference; "": nowhere.

    Returns:
      A difference for every stage, in the order in which they are computed.

    Raises:
      UserError: something cannot be read, does not fit, or needs PyTorch and there is none.
    """
    config, file = read_model_config(folder), user_path(file)
    reference = read_safetensors(file) if file.suffix == ".safetensors" else {}
    if "input_ids" in reference:
        if texts or save_reference:
            raise UserError(f"{file}: holds reference numbers with inputs of their own; give no texts, save nothing")
        _check_reference(file, reference, config)
    else:
        reference = _run_in_pytorch(config, file, *_tokens(user_path(folder), config, texts))
        if save_reference:
            write_safetensors(user_path(save_reference), reference)
    # In float32 whatever the model was trained in, for so PyTorch computes here, which reads no windows.
    model = load_model(folder, compute_dtype="float32")
    model.read_in_windows(None)
    output = model(reference["input_ids"], reference["attention_mask"])
    mask = reference["attention_mask"].astype(bool)
    differences = []
    for stage, field in STAGES.items():
        if f"eval.{stage}" in reference and hasattr(output, field):
            ours, theirs = np.asarray(getattr(output, field), np.float32), reference[f"eval.{stage}"]
            if theirs.shape == (*ours.shape, 1):  # PyTorch keeps the attention pool's single score as an axis
                theirs = theirs[..., 0]
            if ours.shape != theirs.shape:
                raise UserError(f"{file}: stage {stage} has shape {theirs.shape}, but the model's {ours.shape}")
            if stage in TOKEN_STAGES and config.model.mask_padding:
                ours, theirs = ours[mask], theirs[mask]  # what stands on padding means nothing and reaches nothing
            differences.append(_difference(stage, ours, theirs))
    return differences


def _check_reference(file: Path, reference: dict[str, np.ndarray], config: FolderConfig) -> None:
    missing = [name for name in REFERENCE_TENSORS if name not in reference]
    if missing:
        raise UserError(f"{file}: reference numbers without {missing[0]}; expected {', '.join(REFERENCE_TENSORS)}")
    ids, mask = reference["input_ids"], reference["attention_mask"]
    positions, words = config.encoder.max_tokens, config.encoder.vocab_size
    shaped = ids.ndim == 2 and ids.shape == mask.shape and len(ids) and 0 < ids.shape[1] <= positions
    if not shaped or ids.dtype.kind not in "iu" or ids.min() < 0 or ids.max() >= words:
        raise UserError(
            f"{file}: input_ids {ids.shape} and attention_mask {mask.shape} do not suit a model of {positions} "
            f"positions and {words} words"
        )


def print_differences(differences: Sequence[Difference]) -> bool:
    """Prints a table and the first stage that diverges; whether all are equal."""
    rows = [
        (stage, f"{absolute:.1e}", f"{relative:.1e}", "equal" if equal else "DIFFERENT")
        for stage, absolute, relative, equal in differences
    ]
    console = make_console()
    console.print(to_rich(Table([*columns("stage", "absolute", "relative"), Column("", "text")], rows)))
    first = next((difference.stage for difference in differences if not difference.equal), None)
    console.print(f"the first stage that differs is {first}" if first else f"all stages equal within {TOLERANCE:g}")
    return first is None


def _difference(stage: str, ours: np.ndarray, theirs: np.ndarray) -> Difference:
    absolute, largest = float(np.abs(ours - theirs).max()), float(np.abs(theirs).max())
    # Written so that a NaN is not equal.
    return Difference(stage, absolute, absolute / max(largest, 1e-30), absolute <= TOLERANCE * max(1.0, largest))


def _run_in_pytorch(
    config: FolderConfig, file: Path, input_ids: np.ndarray, attention_mask: np.ndarray
) -> dict[str, np.ndarray]:
    try:
        from amsdff_jax.conversion.torch_model import run_weights
    except ImportError:
        raise UserError(
            f"{file}: PyTorch is needed to run these weights and is not installed: pip install torch, or compare with "
            "a file of reference numbers"
        ) from None
    weights = read_weights_file(file, config.encoder.model_type)
    output = run_weights(config, weights.tensors, str(file), input_ids, attention_mask)
    stages = {f"eval.{stage}": output[field] for stage, field in STAGES.items() if field in output}
    return {"input_ids": input_ids, "attention_mask": attention_mask, **stages}


def _tokens(folder: Path, config: FolderConfig, texts: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
    if texts:
        tokenizer = load_tokenizer(folder)
        longer = config.windows and sum(len(ids) > config.max_length for ids in tokenizer(list(texts))["input_ids"])
        if longer:
            message = "%s: PyTorch reads no windows, so of %d of the texts the first %d tokens are compared"
            logger.warning(message, folder, longer, config.max_length)
        encoded = tokenizer(
            list(texts), padding=True, truncation=True, max_length=config.max_length, return_tensors="np"
        )
        return encoded["input_ids"].astype(np.int64), encoded["attention_mask"].astype(np.int64)
    random = np.random.default_rng(0)
    length = min(RANDOM_LENGTH, config.max_length)
    lengths = random.integers(1, length + 1, RANDOM_TEXTS)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    ids = random.integers(0, config.encoder.vocab_size, mask.shape)
    return np.where(mask, ids, config.encoder.pad_token_id), mask
