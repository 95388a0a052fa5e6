"""One function over all texts: results in their order, whatever the batches, lengths and devices."""

import threading

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from amsdff_jax.data.tokens import TokenizedDataset
from amsdff_jax.evaluation.inference import BATCHES_IN_FLIGHT, Inference, StoppedError
from amsdff_jax.models.variables import Variables
from amsdff_jax.parallel.data_parallel import DataParallel

BUCKETS = (3, 5, 9)
FACTORS = jnp.array([1.0, -2.0])


def make_tokens(texts: int) -> TokenizedDataset:
    random = np.random.default_rng(texts)
    lengths = random.integers(1, 10, texts)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    ids = random.integers(1, 100, offsets[-1]).astype(np.int32)
    return TokenizedDataset(ids, offsets, np.zeros(texts, np.int32), np.zeros(texts, bool), pad_token_id=77)


def weighted_sums(variables, batch):
    """[B,2], of each text's tokens."""
    return (batch.input_ids * batch.attention_mask).sum(axis=1)[:, None] * variables.trainable["factors"]


def make_inference(devices: int = 1, batch_size: int = 4) -> tuple[Inference, Variables]:
    parallel = DataParallel(devices=jax.devices()[:devices])
    variables = parallel.replicate(Variables({"factors": FACTORS}, {}, {}))
    return Inference(weighted_sums, parallel, batch_size, "test"), variables


def expected_sums(tokens: TokenizedDataset) -> np.ndarray:
    return np.add.reduceat(tokens.token_ids, tokens.offsets[:-1])[:, None] * np.array(FACTORS)


@pytest.mark.parametrize("devices", [1, 4])
@pytest.mark.parametrize("texts", [1, 4, 39])
def test_every_text_once_and_in_order(texts, devices):
    inference, variables = make_inference(devices, batch_size=3)
    assert inference.batch_size % devices == 0
    tokens = make_tokens(texts)
    found = inference(variables, tokens, BUCKETS)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, expected_sums(tokens))
    indices = np.concatenate([indices for indices, _ in inference.batches(variables, tokens, BUCKETS)])
    assert sorted(indices) == list(range(texts))


@pytest.mark.parametrize("stop_at", [1, 2, 10])
def test_a_stop_is_asked_for_before_every_batch(stop_at):
    inference, variables = make_inference()
    asked = []

    def should_stop() -> bool:
        asked.append(True)
        return len(asked) == stop_at

    with pytest.raises(StoppedError):
        inference(variables, make_tokens(39), BUCKETS, should_stop)
    assert len(asked) == stop_at
    inference(variables, make_tokens(39), BUCKETS, should_stop)
    assert len(asked) == stop_at + 10  # batches of 4


def test_few_batches_are_ahead_of_the_result_that_is_awaited():
    inference, variables = make_inference()
    asked = []
    next(inference.batches(variables, make_tokens(39), BUCKETS, lambda: asked.append(0)))
    assert len(asked) == BATCHES_IN_FLIGHT + 1


def test_threads_share_what_is_compiled():
    inference, variables = make_inference(devices=4)
    results = {}

    def work(texts: int) -> None:
        results[texts] = inference(variables, make_tokens(texts), BUCKETS)

    threads = [threading.Thread(target=work, args=(texts,)) for texts in range(30, 36)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for texts in range(30, 36):
        np.testing.assert_array_equal(results[texts], expected_sums(make_tokens(texts)))
