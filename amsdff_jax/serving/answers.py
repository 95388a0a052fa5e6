"""What is answered: as `amsdff predict` writes it, and as other servers do."""

import dataclasses
import time
import uuid
from collections.abc import Sequence
from typing import Any

from amsdff_jax.base.errors import UserError
from amsdff_jax.data.texts import Text
from amsdff_jax.evaluation.inference import NOT_FINITE
from amsdff_jax.prediction.inputs import Record
from amsdff_jax.prediction.lines import Layout, json_fields
from amsdff_jax.prediction.prediction import NumberPrediction, ScoredLabel
from amsdff_jax.serving.served_model import Score, ServedModel


def records(texts: Sequence[Text], scores: Sequence[Score], layout: Layout) -> list[dict[str, Any]]:
    """The records that `amsdff predict` writes as JSONL."""
    found = []
    for row, (text, score) in enumerate(zip(texts, scores, strict=True), start=1):
        prediction = score.prediction
        # Of several labels all probabilities are told unless fewer are asked for.
        if prediction is not None and not isinstance(prediction, NumberPrediction) and layout.top_k > 1:
            prediction = dataclasses.replace(prediction, top_k=prediction.top_k[: layout.top_k])
        found.append(json_fields(Record(row, text, {}), prediction, layout))
    return found


def inputs_as_texts(inputs: Any, model: ServedModel) -> tuple[list[Any], bool]:
    """The texts in the field `inputs` of text-embeddings-inference, and whether they are a batch.

    There (`PredictInput` in its `router/src/http/types.rs`) a string and a flat list of two strings are one text or
    pair, and a batch is a list of lists of one or two strings. A model of single texts takes a flat list for a batch.
    """
    if isinstance(inputs, str):
        return [inputs], False
    if isinstance(inputs[0], str):
        is_one = bool(model.classifier.saved.reads_pairs) and len(inputs) == 2
        return ([inputs], False) if is_one else (inputs, True)
    return [each[0] if len(each) == 1 else each for each in inputs], True


def label_scores(model: ServedModel, scores: Sequence[Score], raw: bool, batch: bool) -> list[Any]:
    """What `/predict` of text-embeddings-inference answers: all labels of each text by falling score.

    It is `PredictResponse` in its `router/src/http/types.rs`: a list of objects with `score` and `label`, for a batch a
    list of such lists.

    Args:
      model: of classes.
      scores: of the texts.
      raw: logits in place of probabilities.
      batch: whether the texts came as a batch.
    """
    found = []
    for score in scores:
        best = _best(score)
        logits = dict(zip(model.classifier.class_names, score.logits.tolist(), strict=True))
        found.append([{"score": logits[label] if raw else value, "label": label} for label, value in best])
    return found if batch else found[0]


def classification(model: ServedModel, scores: Sequence[Score]) -> dict[str, Any]:
    """What `/classify` of vLLM answers: `ClassificationResponse`, as its documentation shows it.

    Probabilities are in the order of the classes, which `/info` has.
    """
    data = []
    for index, score in enumerate(scores):
        best = _best(score)
        known = dict(best)
        probabilities = [known[name] for name in model.classifier.class_names]
        data.append({"index": index, "label": best[0].label, "probs": probabilities, "num_classes": len(probabilities)})
    tokens = sum(score.tokens for score in scores)
    return {
        "id": f"classify-{uuid.uuid4().hex}",
        "object": "list",
        "created": int(time.time()),
        "model": model.name,
        "data": data,
        "usage": {
            "prompt_tokens": tokens,
            "total_tokens": tokens,
            "completion_tokens": 0,
            "prompt_tokens_details": None,
        },
    }


def require_classes(model: ServedModel) -> None:
    """Raises `UserError` for a model of numbers, which forms of labels have no place for."""
    if model.classifier.saved.task == "regression":
        raise UserError(f"model: {model.name!r} predicts a number; expected one of classes, or use /predict with texts")


class NotFiniteError(Exception):
    """A text has no probabilities, and the form of the answer has no place to say so."""

    def __init__(self):
        super().__init__(NOT_FINITE)


def _best(score: Score) -> tuple[ScoredLabel, ...]:
    if score.prediction is None or isinstance(score.prediction, NumberPrediction):
        raise NotFiniteError
    return score.prediction.top_k
