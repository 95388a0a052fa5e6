"""A last layer to begin with: a regression on what the layers below it make of training texts, a linear probe.

A random last layer would first teach the layers below it what it happens to be; one that is solved for lets a run begin
where its pretrained features already lead. See Kumar et al., "Fine-Tuning can Distort Pretrained Features and
Underperform Out-of-Distribution", 2022.
"""

import logging

import jax
import jax.numpy as jnp
import numpy as np
from sklearn.linear_model import LogisticRegression, Ridge

from amsdff_jax.data.batches import plan_sample
from amsdff_jax.data.encoded_labels import count_classes, is_distribution, task_of_labels
from amsdff_jax.data.tokens import Tokens
from amsdff_jax.evaluation.features import summarize
from amsdff_jax.models.last_layer import last_layer_inputs, last_layer_of
from amsdff_jax.models.layers import Linear
from amsdff_jax.models.pretrained import PretrainedClassifier

PROBED_TEXTS = 2048
INVERSE_REGULARIZATION = 10.0  # of features of unit norm

logger = logging.getLogger(__name__)


def fit_linear_probe(model: PretrainedClassifier, tokens: Tokens, seed: int, padded: int | None = None) -> None:
    """Solves the last layer of `model` for some texts of `tokens`, chosen by `seed`; all other layers stay.

    The solution is a logistic regression, of one class against the rest where a text may have several, or a ridge
    regression where labels are numbers. A class that no chosen text has begins as the least likely of all.

    Args:
      padded: to how many tokens every text is padded; None: as it suits.
    """
    texts = tokens.select(plan_sample(tokens.lengths, PROBED_TEXTS, seed).indices)
    inputs = summarize(model, texts, _read, padded).astype(np.float64)
    mean = inputs.mean(axis=0)
    scale = np.sqrt(np.square(inputs - mean).sum(axis=1).mean()) or 1.0
    kernel, bias = _solve((inputs - mean) / scale, texts.labels, model.config.num_classes)
    layer = last_layer_of(model)
    assert isinstance(layer, Linear)  # `check_run` refuses others
    layer.kernel[...] = jnp.asarray(kernel / scale, jnp.float32)
    layer.bias[...] = jnp.asarray(bias - mean @ kernel / scale, jnp.float32)
    logger.info("last layer solved for %d training texts", len(texts))


def _read(model: PretrainedClassifier, encoder_output: jax.Array, mask: jax.Array) -> jax.Array:
    """[B,F], what the last layer reads of texts."""
    return last_layer_inputs(model, model.classify(encoder_output, mask).pooled_features)


def _solve(inputs: np.ndarray, labels: np.ndarray, num_classes: int) -> tuple[np.ndarray, np.ndarray]:
    """Kernel [F,C] and bias [C] of the regression of `labels` on `inputs` [N,F]."""
    if task_of_labels(labels) == "regression":
        ridge = Ridge(alpha=1 / INVERSE_REGULARIZATION).fit(inputs, labels)
        return np.reshape(ridge.coef_, (-1, 1)), np.reshape(ridge.intercept_, (1,))
    regression = LogisticRegression(C=INVERSE_REGULARIZATION, max_iter=1000)
    kernel, bias = np.zeros((inputs.shape[1], num_classes)), np.zeros(num_classes)
    if task_of_labels(labels) == "multi_label":
        counts = count_classes(labels, num_classes)
        bias = np.log((counts + 0.5) / (len(labels) - counts + 0.5))
        for label in np.flatnonzero((counts > 0) & (counts < len(labels))):
            regression.fit(inputs, labels[:, label])
            kernel[:, label], bias[label] = np.asarray(regression.coef_)[0], np.asarray(regression.intercept_)[0]
        return kernel, bias
    weights = None
    if is_distribution(labels):  # a text counts as if it stood there with each of its classes
        rows, classes = np.nonzero(labels)
        inputs, labels, weights = inputs[rows], classes, labels[rows, classes]
    known = np.unique(labels)
    if len(known) == 1:
        bias[known] = np.log(len(labels))
        return kernel, bias
    regression.fit(inputs, labels, weights)
    # Of two classes there is one score, of the second against the first.
    shares = np.array([[-0.5], [0.5]]) if len(known) == 2 else np.eye(len(known))
    kernel[:, known] = (shares @ np.asarray(regression.coef_)).T
    bias[known] = shares @ np.asarray(regression.intercept_)
    missing = np.setdiff1d(np.arange(num_classes), known)
    bias[missing] = (inputs @ kernel + bias)[:, known].min()
    return kernel, bias
