"""What a frozen encoder makes of texts, computed once and kept."""

import contextlib
import dataclasses
import hashlib
import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from amsdff_jax.base.cache import cache_folder, evict_oldest
from amsdff_jax.base.files import atomic_write
from amsdff_jax.data.batches import FILLER, Batch, PlannedBatch, choose_buckets, make_batch
from amsdff_jax.data.tokens import TokenizedDataset, fingerprint
from amsdff_jax.data.windows import Windows, excerpts
from amsdff_jax.evaluation.inference import Inference
from amsdff_jax.models.dispatch import choose_compute_dtype
from amsdff_jax.models.layers import masked_mean
from amsdff_jax.models.pretrained import PretrainedClassifier
from amsdff_jax.models.state_dict import to_state_dict
from amsdff_jax.models.variables import Variables
from amsdff_jax.parallel.data_parallel import DataParallel

logger = logging.getLogger(__name__)

LARGEST_CACHE = 8 << 30  # bytes
TEXTS_PER_BATCH = 64
BUCKETS = 6


class FeatureBatch(NamedTuple):
    """A batch as the layers after the encoder take it; the names of `Batch` mean the same."""

    features: np.ndarray  # [B,S,H] float32, the encoder's output
    attention_mask: np.ndarray
    labels: np.ndarray


@dataclasses.dataclass(frozen=True)
class EncodedDataset:
    """Texts and what the encoder makes of them."""

    tokens: TokenizedDataset  # the texts
    # [T,H] float16, the encoder's output for every token of `tokens.token_ids`. Half precision, because after a
    # LayerNorm all numbers are of the same small size
    features: np.ndarray
    # [T] int32, where the row of each token lies in `features`; None: as they stand
    places: np.ndarray | None = None

    @property
    def lengths(self) -> np.ndarray:
        """[N] int64, tokens of each text."""
        return self.tokens.lengths

    def make_batch(self, planned: PlannedBatch, rows: slice = slice(None)) -> FeatureBatch:
        """Lays the features of a planned batch, or of some of its rows, into arrays."""
        batch = make_batch(self.tokens, planned, rows)
        # Widened here: on processors without instructions for half precision XLA has no code for it.
        features = np.zeros((*batch.input_ids.shape, self.features.shape[1]), np.float32)
        for row, index in enumerate(planned.indices[rows]):
            if index != FILLER:
                first, last = self.tokens.offsets[index : index + 2]
                own = slice(first, last) if self.places is None else self.places[first:last]
                features[row, : last - first] = self.features[own]
        return FeatureBatch(features, batch.attention_mask, batch.labels)

    def excerpts(self, windows: Windows | None, most: int, seed: Sequence[int]) -> "EncodedDataset":
        """What an epoch reads of the texts, as `excerpts` of tokens does; the encoder has read them whole."""
        if windows is None:
            return self
        numbered = dataclasses.replace(self.tokens, token_ids=np.arange(len(self.tokens.token_ids), dtype=np.int32))
        own = excerpts(numbered, windows, most, seed).select(np.arange(len(numbered)))
        tokens = dataclasses.replace(own, token_ids=self.tokens.token_ids[own.token_ids])
        return EncodedDataset(tokens, self.features, own.token_ids)


def encode_once(model: PretrainedClassifier, tokens: TokenizedDataset) -> EncodedDataset:
    """Runs every text through a model's encoder, in eval mode, unless the cache holds what comes out.

    Padding is invisible to the encoder, so the features do not depend on the batches.
    """
    shape = len(tokens.token_ids), model.encoder_config.dim
    return EncodedDataset(tokens, _once("", model, tokens, shape, _encode))


def embed_once(model: PretrainedClassifier, tokens: TokenizedDataset) -> np.ndarray:
    """A vector for every text: the mean of what the encoder makes of its tokens, kept in the cache like these.

    Returns:
      [N,H] float32.
    """
    return _once("mean", model, tokens, (len(tokens), model.encoder_config.dim), _embed)


def _once(
    kind: str,
    model: PretrainedClassifier,
    tokens: TokenizedDataset,
    shape: tuple[int, int],
    make: Callable[[PretrainedClassifier, TokenizedDataset], np.ndarray],
) -> np.ndarray:
    folder = cache_folder("features")
    if folder is None:
        return make(model, tokens)
    file = folder / f"{_digest(model, tokens)}{kind}.npy"
    with contextlib.suppress(OSError, ValueError, EOFError):
        features = np.load(file, mmap_mode="r", allow_pickle=False)
        if features.shape == shape:
            file.touch()
            return features
    features = make(model, tokens)
    with contextlib.suppress(OSError):  # a full disk costs time at the next run, nothing else
        folder.mkdir(parents=True, exist_ok=True)
        with atomic_write(file, shared=True) as temporary, temporary.open("wb") as stream:
            np.save(stream, features)
        evict_oldest(folder, "*.npy", LARGEST_CACHE)
    return features


def summarize(
    model: PretrainedClassifier,
    tokens: TokenizedDataset,
    function: Callable[[PretrainedClassifier, jax.Array, jax.Array], jax.Array],
    padded: int | None = None,
) -> np.ndarray:
    """Runs every text through a model's encoder, in eval mode, without the cache.

    Args:
      function: (model, encoder's output [B,S,H], mask [B,S] bool) -> what is kept of each text, [B,...].
      padded: S; None: as it suits the texts.

    Returns:
      [N,...].
    """
    variables, texts, buckets = _pass(model, tokens)
    return _inference(model, function)(variables, texts, (padded,) if padded else buckets)


def _encode(model: PretrainedClassifier, tokens: TokenizedDataset) -> np.ndarray:
    start = time.perf_counter()
    features = np.empty((len(tokens.token_ids), model.encoder_config.dim), np.float16)
    for indices, outputs in _inference(model, lambda _, features, __: features).batches(*_pass(model, tokens)):
        for index, output in zip(indices, outputs, strict=True):
            first, last = tokens.offsets[index : index + 2]
            features[first:last] = output[: last - first]
    logger.info("encoder: features of %d texts in %.0f s", len(tokens), time.perf_counter() - start)
    return features


def _embed(model: PretrainedClassifier, tokens: TokenizedDataset) -> np.ndarray:
    start = time.perf_counter()
    means = summarize(model, tokens, lambda _, features, mask: masked_mean(features, mask)).astype(np.float32)
    logger.info("encoder: a vector of each of %d texts in %.0f s", len(tokens), time.perf_counter() - start)
    return means


def _inference(
    model: PretrainedClassifier, function: Callable[[PretrainedClassifier, jax.Array, jax.Array], jax.Array]
) -> Inference:
    """A model's encoder over batches, and what `function` makes of its output, as for `summarize`."""
    graph = nnx.graphdef(model)

    def encode(variables: Variables, batch: Batch) -> jax.Array:
        mask = jnp.asarray(batch.attention_mask) > 0
        merged = nnx.merge(graph, *variables)
        return function(merged, merged.encode(batch.input_ids, mask), mask)

    parallel = DataParallel(devices=jax.local_devices()[:1])
    return Inference(encode, parallel, TEXTS_PER_BATCH, "encoder", windows=model.windows)


def _pass(model: PretrainedClassifier, tokens: TokenizedDataset) -> tuple[Variables, TokenizedDataset, tuple[int, ...]]:
    """What an `Inference` over all texts takes."""
    lengths = tokens.lengths if model.windows is None else np.minimum(tokens.lengths, model.windows.size)
    return Variables.of(model), tokens, choose_buckets(lengths, BUCKETS, int(lengths.max()))


def _digest(model: PretrainedClassifier, tokens: TokenizedDataset) -> str:
    # Of tokens, not labels, which features do not depend on. With the configuration, for heads and rotary bases are
    # not to be seen in the tensors, nor what type the products are of.
    read = fingerprint([tokens.token_ids], tokens.offsets, tokens.labels[:0])
    dtype = choose_compute_dtype(model.config.compute_dtype, model.platform)
    settings = f"{read} {model.transformer.config} {dtype} {model.windows or ''}"
    digest = hashlib.blake2b(settings.encode(), digest_size=20)
    for name, tensor in to_state_dict(model.transformer).items():
        digest.update(name.encode() + tensor.tobytes())
    return digest.hexdigest()
