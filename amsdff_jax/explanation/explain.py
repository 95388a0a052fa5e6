"""Everything that can be said of why a model gives a text its label."""

import dataclasses
import functools
import threading
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import nearest, require
from amsdff_jax.data.encoded_labels import label_kind
from amsdff_jax.data.tokenization import pad_token_id
from amsdff_jax.evaluation.evaluator import PREDICTIONS, PROBABILITIES
from amsdff_jax.evaluation.inference import require_finite
from amsdff_jax.explanation.ablation import POOLS, leave_out_pools, leave_out_scales
from amsdff_jax.explanation.attributions import Attributions, integrate_gradients, make_part_integral
from amsdff_jax.explanation.reading import Reading, read_text
from amsdff_jax.models.amsdff import EnhancedAMSDFF
from amsdff_jax.models.baselines import AttentionClassifier
from amsdff_jax.models.model_folder import SavedModel
from amsdff_jax.models.variables import Variables
from amsdff_jax.parallel.forks import claim_process

LENGTH_MULTIPLE = 16  # padded lengths are multiples of this, so that few are compiled


@dataclasses.dataclass(frozen=True)
class LeftOut:
    """What the model says without one of its parts.

    Attributes:
      name: of the part, such as "kernel size 3" or "maximum".
      logits: [C] float32, with the part's features replaced by zeros.
      task: the kind of the model's task; of ordered classes, which are explained each by itself, "single".
    """

    name: str
    logits: np.ndarray
    task: str = "single"

    @property
    def probabilities(self) -> np.ndarray:
        """[C] float64, as of `Explanation`."""
        return PROBABILITIES[self.task](self.logits)


@dataclasses.dataclass(frozen=True)
class Explanation:
    """Why a model gives a text its label. Everything is computed in float32.

    Attributes:
      model_name: kind of the classifier, such as "amsdff" or "lstm".
      class_names: C names.
      target: number of the class that is explained.
      reading: the text and its S tokens.
      logits: [C] float32.
      attributions: integrated gradients of the target's logit.
      token_attention: [S] weights of the attention pool, or None: the model has none.
      cls_attention: [heads,S] attention of the learned query, or None.
      expert_gates: [E] weights of the experts, or None.
      scales: for each of the K scales, the model without it; () for a model without scales.
      pools: the same for the pools that the model has; () for a baseline.
      windows: of a text that is read in windows, the first token of each, special ones left out, and behind its last.
      task: the kind of the model's task; of ordered classes, which are explained each by itself, "single".
      ordered: whether the classes have an order, in which tables show them.
    """

    model_name: str
    class_names: tuple[str, ...]
    target: int
    reading: Reading
    logits: np.ndarray
    attributions: Attributions
    token_attention: np.ndarray | None = None
    cls_attention: np.ndarray | None = None
    expert_gates: np.ndarray | None = None
    scales: tuple[LeftOut, ...] = ()
    pools: tuple[LeftOut, ...] = ()
    windows: tuple[tuple[int, int], ...] = ()
    task: str = "single"
    ordered: bool = False

    @property
    def probabilities(self) -> np.ndarray:
        """[C] float64, the softmax of the logits; their sigmoid where a text may have several labels."""
        return PROBABILITIES[self.task](self.logits)

    @property
    def labels(self) -> list[int]:
        """Numbers of the classes that the text gets, the most likely first: one, or all of a probability of 1/2."""
        if self.task == "single":
            return [self.winner]
        chosen = PREDICTIONS[self.task](self.logits)
        return [index for index in np.argsort(-self.logits, kind="stable").tolist() if chosen[index]]

    @property
    def winner(self) -> int:
        """Number of the most likely class."""
        return int(self.logits.argmax())

    @property
    def word_attributions(self) -> np.ndarray:
        """[W] float64: each word's integrated gradients, the sum over its tokens."""
        totals = np.zeros(len(self.reading.words))
        for token, value in zip(self.reading.tokens, self.attributions.tokens, strict=True):
            if token.word is not None:
                totals[token.word] += value
        return totals

    @property
    def window_attributions(self) -> np.ndarray:
        """[windows] float64: each window's integrated gradients, the sum over its tokens; two share what both have."""
        tokens = self.attributions.tokens
        shared = np.zeros(len(tokens))
        for first, end in self.windows:
            shared[first:end] += 1
        return np.array([np.sum(tokens[first:end] / shared[first:end]) for first, end in self.windows])

    def _repr_html_(self) -> str:
        """What a notebook shows: probabilities, and the words shaded by what they say of the target."""
        from amsdff_jax.explanation.write import make_cell  # which reads explanations

        return make_cell(self)

    def contribution(self, part: LeftOut) -> float:
        """How much lower the target's logit is without `part`."""
        return float(self.logits[self.target] - part.logits[self.target])

    def to_dict(self) -> dict[str, Any]:
        """All numbers, in what JSON knows."""
        reading, attributions = self.reading, self.attributions
        names = self.class_names
        tokens = [
            {
                "token": token.name,
                "start": token.start,
                "end": token.end,
                "word": token.word,
                "integrated_gradients": float(attributions.tokens[index]),
                "token_attention": None if self.token_attention is None else float(self.token_attention[index]),
                "cls_attention": None if self.cls_attention is None else self.cls_attention[:, index].tolist(),
            }
            for index, token in enumerate(reading.tokens)
        ]
        words = [
            {
                "text": reading.text[word.start : word.end],
                "start": word.start,
                "end": word.end,
                "integrated_gradients": float(value),
            }
            for word, value in zip(reading.words, self.word_attributions, strict=True)
        ]

        windows = [
            {
                "tokens": [first, end],
                "start": reading.tokens[first].start,
                "end": reading.tokens[end - 1].end,
                "integrated_gradients": float(value),
            }
            for (first, end), value in zip(self.windows, self.window_attributions, strict=True)
        ]

        def left_out(part: LeftOut) -> dict[str, Any]:
            return {
                "name": part.name,
                "contribution": self.contribution(part),
                "logits_without": dict(zip(names, part.logits.tolist(), strict=True)),
                "probabilities_without": dict(zip(names, part.probabilities.tolist(), strict=True)),
            }

        return {
            "text": reading.text,
            "truncated": reading.truncated,
            "characters_read": reading.characters_read,
            "surrogates_replaced": reading.replaced,
            "unknown_tokens": reading.unknown,
            "model": self.model_name,
            **self._answer(),
            "explained_class": names[self.target],
            "logits": dict(zip(names, self.logits.tolist(), strict=True)),
            "probabilities": dict(zip(names, self.probabilities.tolist(), strict=True)),
            "integrated_gradients": {
                "logit": attributions.logit,
                "baseline_logit": attributions.baseline_logit,
                "difference": attributions.difference,
                "sum": float(attributions.tokens.sum()),
                "completeness_error": attributions.error,
                "relative_completeness_error": attributions.relative_error,
                "gradients": attributions.gradients,
            },
            "words": words,
            "tokens": tokens,
            "windows": windows,
            "expert_gates": None if self.expert_gates is None else self.expert_gates.tolist(),
            "scales": [left_out(part) for part in self.scales],
            "pools": [left_out(part) for part in self.pools],
        }

    def _answer(self) -> dict[str, Any]:
        found = [self.class_names[index] for index in self.labels]
        return {"label": found[0]} if self.task == "single" else {"labels": found}


class Explainer:
    """Explains what a saved model says of texts; compiled once for each padded length. Safe to share by threads."""

    def __init__(self, saved: SavedModel):
        """Prepares a model.

        Raises:
          UserError: the model was saved without a tokenizer, or trained on pairs of texts.
        """
        claim_process()
        self._tokenizer = saved.require_tokenizer()
        if saved.reads_pairs:
            raise UserError("the model was trained on pairs of texts; only models of single texts can be explained")
        if saved.task == "regression":
            raise UserError("the model predicts a number; only models of classes can be explained")
        exact = {"compute_dtype": "float32", "attention": "xla", "rematerialize": False}
        model = saved.model.for_platform(saved.model.platform, **exact)
        graph, self._variables = nnx.graphdef(model), Variables.of(model)
        self._saved = saved
        self._reading = threading.Lock()  # a tokenizer holds its last call's settings
        self._measure = jax.jit(_make_measure(graph))
        self._part_integral = jax.jit(make_part_integral(graph))

    def explain_labels(self, text: str) -> list[Explanation]:
        """Explains every label that a text gets, the most likely first; without any the most likely class.

        Raises:
          UserError: as for `explain`.
        """
        first = self.explain(text)
        names = [self._saved.class_names[index] for index in first.labels]
        return [first, *(self.explain(text, name) for name in names[1:])]

    def explain(self, text: str, class_name: str = "") -> Explanation:
        """Explains one class of one text.

        Args:
          text: any string; what the model does not read of one that is too long, the result tells.
          class_name: the class; "": the one that wins.

        Raises:
          UserError: no such class, no text, or one that the model's logits are not finite for.
        """
        claim_process()
        saved = self._saved
        require(isinstance(text, str), "text", text, "a string")
        if class_name and class_name not in saved.class_names:
            listing = nearest(class_name, saved.class_names) or f"; there are {', '.join(saved.class_names)}"
            raise UserError(f"class_name: the model has no class {class_name!r}{listing}")
        with self._reading:
            reading = read_text(text, self._tokenizer, saved.max_length, saved.long_texts)
        count = len(reading.tokens)
        length = self._padded_length(count)
        input_ids = np.full(length, pad_token_id(self._tokenizer), np.int32)
        attention_mask, is_word = np.zeros(length, np.int32), np.zeros(length, bool)
        input_ids[:count] = [token.id for token in reading.tokens]
        attention_mask[:count] = 1
        is_word[:count] = [token.word is not None for token in reading.tokens]
        # Where float32 products are rounded to fewer bits by default, completeness would show it.
        with jax.default_matmul_precision("highest"):
            measured = jax.device_get(self._measure(self._variables, input_ids, attention_mask))
            logits = measured["logits"]
            require_finite(logits[None], lambda _: repr(text[:40]))
            target = saved.class_names.index(class_name) if class_name else int(logits.argmax())
            arguments = (self._variables, input_ids, attention_mask, is_word, np.int32(target))
            attributions = integrate_gradients(functools.partial(self._part_integral, *arguments))
        windows, task = saved.model.windows, label_kind(saved.task)
        scales = [f"kernel size {size}" for size in saved.model.config.kernel_sizes]
        pools = [POOLS[name] for name in saved.model.config.pools]
        return Explanation(
            model_name=saved.model.name,
            class_names=saved.class_names,
            target=target,
            reading=reading,
            logits=logits,
            attributions=attributions._replace(tokens=attributions.tokens[:count]),
            token_attention=measured["token_attention"][:count] if "token_attention" in measured else None,
            cls_attention=measured["cls_attention"][:, :count] if "cls_attention" in measured else None,
            expert_gates=measured.get("expert_gates"),
            scales=_name_parts(scales, measured.get("without_scales", ()), task),
            pools=_name_parts(pools, measured.get("without_pools", ()), task),
            windows=windows.spans(count) if windows is not None and count > windows.size else (),
            task=task,
            ordered=saved.model.config.ordinal,
        )

    def _padded_length(self, tokens: int) -> int:
        if not self._saved.model.config.mask_padding:  # then the padding is a part of what the model reads
            return self._saved.max_length
        windows = self._saved.model.windows
        if windows is not None and tokens > windows.size:
            return windows.buckets(tokens)[-1]
        return min(-(-tokens // LENGTH_MULTIPLE) * LENGTH_MULTIPLE, max(tokens, self._saved.max_length))


def _make_measure(graph: nnx.GraphDef):
    """The function of all that is computed but the attributions; jit it: (variables, [S], [S]) -> arrays by name."""

    def measure(variables: Variables, input_ids: jax.Array, attention_mask: jax.Array) -> dict[str, jax.Array]:
        model = nnx.merge(graph, *variables)
        mask = attention_mask.astype(bool)[None]
        output = model(input_ids[None], mask)
        measured = {"logits": output.logits[0]}
        if isinstance(model, EnhancedAMSDFF):
            fields = ("token_attention", "cls_attention", "expert_gates")
            found = {field: getattr(output, field) for field in fields}
            measured |= {field: value[0] for field, value in found.items() if value is not None}
            measured["without_scales"] = leave_out_scales(model, output, mask)
            measured["without_pools"] = leave_out_pools(model, output, mask)
        elif isinstance(model, AttentionClassifier):
            measured["token_attention"] = model.attention(output.encoder_output, mask)[1][0]
        return jax.tree.map(lambda array: array.astype(jnp.float32), measured)

    return measure


def _name_parts(names, logits, task) -> tuple[LeftOut, ...]:
    return tuple(LeftOut(name, row, task) for name, row in zip(names, logits, strict=False))
