"""A model with the queues of texts that wait for it."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amsdff_jax.base.errors import UserError
from amsdff_jax.data.texts import Text, is_pair
from amsdff_jax.explanation.explain import Explainer, Explanation
from amsdff_jax.interop.hub import find_model_folder
from amsdff_jax.prediction.classifier import Classifier
from amsdff_jax.prediction.prediction import AnyPrediction
from amsdff_jax.serving.batching import Batcher
from amsdff_jax.serving.limits import Limits


class Score(NamedTuple):
    """What a model says of one text.

    Attributes:
      prediction: with all classes in its `top_k`; None where the model's numbers are not finite.
      logits: [C] float32.
      tokens: that were read, special ones included.
    """

    prediction: AnyPrediction | None
    logits: np.ndarray
    tokens: int


class ServedModel:
    """A classifier under the name that requests choose it by.

    Attributes:
      name: of the model.
      classifier: the model itself.
      texts: the queue of its texts.
    """

    def __init__(self, name: str, folder: str, limits: Limits, compute_dtype: str = ""):
        """Loads a model; it compiles nothing until `start`.

        Raises:
          UserError: the folder is missing, incomplete, damaged or of a newer format.
        """
        found = find_model_folder(folder)
        self.name, self._limits = name, limits
        self.classifier = Classifier.from_pretrained(found, compute_dtype=compute_dtype, batch_size=limits.batch_size)
        self._card = _read_card(found)
        self._explainer: Explainer | None = None

    def start(self, observe: Callable[[int, Callable[[], Any]], Any]) -> None:
        """Starts the thread that compiles and then computes.

        Args:
          observe: is called with the number of texts in a batch and what computes it, and returns what that does.
        """

        def compute(texts: list[Text]) -> list[Score]:
            return observe(len(texts), lambda: self._score(texts))

        self.texts = Batcher[Text, Score](
            f"predict {self.name}",
            compute,
            batch_size=self._limits.batch_size,
            max_delay_s=self._limits.max_delay_ms / 1000,
            max_waiting=self._limits.max_waiting,
            prepare=self.classifier.compile,
        )

    def explain(self, text: str, class_name: str = "") -> list[Explanation]:
        """What `amsdff explain` says of a text; to be called by one thread alone.

        Raises:
          UserError: no such class, or a model that is not one of classes of single texts.
        """
        if self._explainer is None:
            # A tokenizer of its own: the classifier's is locked while it is used, and an explanation takes long.
            saved = self.classifier.saved
            self._explainer = Explainer(saved._replace(tokenizer=copy.deepcopy(saved.tokenizer)))
        explainer = self._explainer
        return [explainer.explain(text, class_name)] if class_name else explainer.explain_labels(text)

    def read_texts(self, values: Sequence[Any], field: str) -> list[Text]:
        """Texts as the classifier takes them, pairs as tuples.

        Raises:
          UserError: a pair for a model of single texts, or the other way round.
        """
        texts: list[Text] = [value if isinstance(value, str) else tuple(value) for value in values]
        reads_pairs = self.classifier.saved.reads_pairs
        for place, text in enumerate(texts):
            if reads_pairs is not None and is_pair(text) != reads_pairs:
                expected = "a list of two strings" if reads_pairs else "a string"
                raise UserError(f"{field}[{place}]: expected {expected}, as the model {self.name!r} was trained on")
        return texts

    def facts(self) -> dict[str, Any]:
        """What `/info` says of it."""
        saved = self.classifier.saved
        return {
            "name": self.name,
            "task": saved.task,
            "class_names": list(saved.class_names),
            "max_tokens": saved.max_length,
            "long_texts": saved.long_texts,
            "reads_pairs": saved.reads_pairs,
            "calibrated": self.classifier.calibration is not None,
            "model_card": self._card,
        }

    def _score(self, texts: list[Text]) -> list[Score]:
        """A model that is not known to read pairs may be asked for both, which have no batch in common."""
        scores: list[Score | None] = [None] * len(texts)
        for pairs in (False, True):
            places = [place for place, text in enumerate(texts) if is_pair(text) == pairs]
            if places:
                found = self.classifier.score([texts[place] for place in places])
                for row, place in enumerate(places):
                    scores[place] = Score(found.predictions[row], found.logits[row], int(found.tokens[row]))
        return [score for score in scores if score is not None]


def _read_card(folder: Path) -> str:
    try:
        return (folder / "README.md").read_text(encoding="utf-8", errors="replace")
    except OSError:  # a folder need not have one
        return ""
