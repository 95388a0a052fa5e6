"""What a run is made from, kept beside it: the same texts, classes and encoder must be there when it is resumed."""

import dataclasses
import itertools
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.files import read_json, write_json
from amsdff_jax.base.validation import build
from amsdff_jax.config import EncoderConfig
from amsdff_jax.config.encoder_families import encoder_values, read_saved_encoder
from amsdff_jax.data.dataset import TextDataset

logger = logging.getLogger(__name__)

FILE = "inputs.json"


@dataclasses.dataclass(frozen=True)
class SplitRecord:
    """One split of a run's data.

    Attributes:
      name: what messages call it, such as a file's path.
      texts: how many there are.
      fingerprint: of texts and labels; "": the run has not read the split.
    """

    name: str = ""
    texts: int = 0
    fingerprint: str = ""

    @classmethod
    def of(cls, dataset: TextDataset) -> Self:
        """The record of a dataset."""
        return cls(dataset.name, len(dataset), dataset.fingerprint)


@dataclasses.dataclass(frozen=True)
class RunInputs:
    """The content of `inputs.json` in the folder of a run.

    Attributes:
      class_names: in the order of the logits.
      encoder: its sizes and dropout rates.
      train, validation: what the run learns from and chooses by.
      test: what its report is on.
      encoder_checksum: of the weights that it began with, which are in the checkpoints from the first step on; 0: the
        run does not say.
      tokens: the fingerprint of the training texts' tokens; "": the run does not say.
    """

    class_names: tuple[str, ...]
    encoder: EncoderConfig
    train: SplitRecord
    validation: SplitRecord
    test: SplitRecord = SplitRecord()
    encoder_checksum: int = 0
    tokens: str = ""

    @classmethod
    def read(cls, workdir: Path) -> Self | None:
        """The inputs of the run in a folder; None where nothing says, as in those of earlier versions.

        Raises:
          UserError: the file is damaged.
        """
        file = workdir / FILE
        if not file.exists():
            return None
        expected = "the record of what a run is made from; delete it to resume without"
        content = read_json(file, expected)
        try:
            encoder = read_saved_encoder(content.get("encoder"))
            return build(cls, content | {"encoder": encoder}, "")
        except (UserError, TypeError) as error:
            raise UserError(f"{file}: {error}; expected {expected}") from None

    def write(self, workdir: Path) -> None:
        """Writes the file.

        Raises:
          OSError: it cannot be written.
        """
        write_json(workdir / FILE, dataclasses.asdict(self) | {"encoder": encoder_values(self.encoder)})

    def differences(self, now: "RunInputs") -> Iterator[str]:
        """What keeps a run that was made from these inputs from being resumed with others, a phrase each."""
        splits = {"training": (self.train, now.train), "validation": (self.validation, now.validation)}
        for what, (before, after) in splits.items():
            if before.fingerprint != after.fingerprint:
                yield f"other {what} data ({before.name}: {before.texts} texts; now {after.name}: {after.texts})"
        if self.train.fingerprint == now.train.fingerprint and self.tokens not in ("", now.tokens):
            yield "other tokens of the same training texts, as of another tokenizer"
        if self.class_names != now.class_names:
            pairs = enumerate(itertools.zip_longest(self.class_names, now.class_names))
            number, (before, after) = next((number, pair) for number, pair in pairs if pair[0] != pair[1])
            yield f"other classes (number {number} was {before!r}, is {after!r})"
        if self.encoder != now.encoder:
            was, is_ = ({"model_type": one.model_type, **encoder_values(one)} for one in (self.encoder, now.encoder))
            names = [name for name in was | is_ if was.get(name) != is_.get(name)]
            changed = ", ".join(f"{name} was {was.get(name)}, is {is_.get(name)}" for name in names)
            yield f"another encoder ({changed})"


def check_split(workdir: Path, split: str, dataset: TextDataset) -> None:
    """Raises `UserError` unless `dataset` is what the run in `workdir` had for its `split`, where it says."""
    inputs = RunInputs.read(workdir)
    if inputs is None:
        logger.warning("%s: does not say what data it was made from; %s is taken as it is", workdir, dataset.name)
        return
    recorded = getattr(inputs, split)
    if recorded.fingerprint and recorded.fingerprint != dataset.fingerprint:
        raise UserError(
            f"{dataset.name}: has other texts or labels than the {split} data that the run in {workdir} was made with "
            f"({recorded.texts} then, {len(dataset)} now); bring those back, or evaluate a file with --file=FILE"
        )


def record_test_split(workdir: Path, dataset: TextDataset) -> None:
    """Adds what a run's report is on.

    Raises:
      OSError: the record cannot be written.
    """
    inputs = RunInputs.read(workdir)
    if inputs is not None:
        dataclasses.replace(inputs, test=SplitRecord.of(dataset)).write(workdir)
