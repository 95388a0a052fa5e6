"""An ONNX graph whose dense layers multiply integers of 8 bits, as far as it costs nothing that matters.

Dynamic quantization of ONNX Runtime: weights are rounded once, each column with a scale of its own, and what comes in
at every call. See Zafrir et al., "Q8BERT: Quantized 8Bit BERT", 2019. Some layers bear it worse than others (Bondarenko
et al., "Understanding and Overcoming the Challenges of Efficient Transformer Quantization", 2021); these stay in
float32 where the whole would lose too much.
"""

import ast
import logging
import re
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from amsdff_jax.evaluation.calibration import expected_calibration_error, softmax

logger = logging.getLogger(__name__)

PRODUCTS = ("MatMul", "Gemm")
SCOPES = "pkg.torch.onnx.name_scopes"  # where the exporter of PyTorch says what module an operation is from
LAYER = re.compile(r"model\.(transformer(?:\.[a-z_]+)*\.\d+|[a-z_]+)")
PROBED_TEXTS = 64  # of those that layers are tried with, one by one
TIMED_TEXTS, ROUNDS = 32, 5


class Quality(NamedTuple):
    """How good answers are, as shares; of the calibration error less is better."""

    accuracy: float
    macro_f1: float
    calibration_error: float

    def loss(self, other: "Quality") -> float:
        """The largest that `other` is worse by."""
        worse = (
            self.accuracy - other.accuracy,
            self.macro_f1 - other.macro_f1,
            other.calibration_error - self.calibration_error,
        )
        return max(worse)


class Quantization(NamedTuple):
    """What became of a graph."""

    before: Quality  # of float32
    after: Quality  # of int8, or of what came nearest
    in_float: tuple[str, ...]  # layers that stayed in float32, by their names in PyTorch
    layers: int  # that there are
    speedup: float  # time of float32 by that of int8, of one batch
    max_loss: float  # that was allowed

    @property
    def accepted(self) -> bool:
        """Whether no measure lost more than was allowed."""
        return self.before.loss(self.after) <= self.max_loss


Run = Callable[[Path, np.ndarray | None], np.ndarray]


def quantize(
    graph: Path, labels: np.ndarray, logits: np.ndarray, temperature: float, max_loss: float, length: int, run: Run
) -> Quantization:
    """Puts an int8 graph in the place of `graph`, unless every choice of layers loses more than `max_loss`.

    Where all layers together do, those that move the logits most by themselves stay in float32: one, two, four and so
    on, until the loss is allowed; but no more than half of them, for then there is little to gain.

    Args:
      graph: a file, in float32; it stays if nothing is accepted.
      labels: [N] int32, of the texts.
      logits: [N,C] of the model in float32.
      temperature: of the calibration.
      max_loss: of accuracy and macro F1, and rise of the calibration error, as shares.
      length: tokens of the texts whose time is taken.
      run: from a graph and rows of the texts, None for all, to their logits.
    """
    layers = dense_layers(graph)
    before = judge(logits, labels, temperature)
    order: list[str] = []
    kept = 0
    smaller = graph.with_name("int8.onnx")
    try:
        while True:
            write_int8(graph, smaller, [node for name in order[:kept] for node in layers[name]])
            after = judge(run(smaller, None), labels, temperature)
            result = Quantization(before, after, tuple(order[:kept]), len(layers), 1.0, max_loss)
            if result.accepted:
                result = result._replace(speedup=_speedup(graph, smaller, length))
                smaller.replace(graph)
                return result
            if kept == len(layers) // 2:
                return result
            if not order:
                logger.info("int8: all layers lose %.3g, more than %.3g: one by one", before.loss(after), max_loss)
                order = _most_damaging(graph, smaller, layers, logits, run)
            kept = min(max(1, 2 * kept), len(layers) // 2)
    finally:
        smaller.unlink(missing_ok=True)


def judge(logits: np.ndarray, labels: np.ndarray, temperature: float) -> Quality:
    """How good the answers of logits [N,C] are."""
    from sklearn.metrics import (  # takes a second to load, which other exports need not wait for
        accuracy_score,
        f1_score,
    )

    from amsdff_jax.evaluation.metrics import ZERO

    probabilities, predictions = softmax(logits, temperature), logits.argmax(axis=-1)
    return Quality(
        float(accuracy_score(labels, predictions)),
        float(f1_score(labels, predictions, average="macro", zero_division=ZERO)),
        expected_calibration_error(labels, predictions, probabilities),
    )


def dense_layers(graph: Path) -> dict[str, list[str]]:
    """The names of the nodes that multiply by weights, by the block of the model that they are from."""
    import onnx

    model = onnx.load(graph, load_external_data=False)
    weights = {tensor.name for tensor in model.graph.initializer}
    layers: dict[str, list[str]] = {}
    for node in model.graph.node:
        if node.op_type in PRODUCTS and node.input[1] in weights:
            layers.setdefault(_layer_of(node), []).append(node.name)
    return layers


def _layer_of(node: Any) -> str:
    scopes = {entry.key: entry.value for entry in node.metadata_props}.get(SCOPES, "[]")
    found = [match[1] for scope in ast.literal_eval(scopes) if (match := LAYER.match(scope))]
    return max(found, key=len, default=node.name)


def _most_damaging(
    graph: Path, smaller: Path, layers: Mapping[str, Sequence[str]], logits: np.ndarray, run: Run
) -> list[str]:
    """All layers, those first that change the logits of some texts most when they alone are quantized."""
    rows = np.arange(min(PROBED_TEXTS, len(logits)))
    damage = {}
    for name in layers:
        write_int8(graph, smaller, [node for other in layers if other != name for node in layers[other]])
        damage[name] = float(np.abs(run(smaller, rows) - logits[rows]).mean())
    return sorted(layers, key=lambda name: -damage[name])


def write_int8(graph: Path, output: Path, in_float: Sequence[str] = ()) -> None:
    """Quantizes the weights of a graph, but for those of the nodes `in_float`, into another file."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it advises to prepare the graph, which gains nothing here
    try:
        quantize_dynamic(
            graph,
            output,
            op_types_to_quantize=list(PRODUCTS),
            per_channel=True,
            weight_type=QuantType.QInt8,
            # A Gemm becomes a MatMul of another name before it is looked up here.
            nodes_to_exclude=[name for node in in_float for name in (node, f"{node}_MatMul")],
        )
    finally:
        logging.disable(disabled)


def _speedup(graph: Path, smaller: Path, length: int) -> float:
    """The ratio of medians of calls in turn."""
    import onnxruntime

    sessions = [onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"]) for file in (graph, smaller)]
    ones = np.ones((TIMED_TEXTS, length), np.int64)
    seconds: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for session, times in zip(sessions, seconds, strict=True):
            start = time.perf_counter()
            session.run(["logits"], {"input_ids": ones, "attention_mask": ones})
            times.append(time.perf_counter() - start)
    before, after = (statistics.median(times) for times in seconds)
    return before / after
