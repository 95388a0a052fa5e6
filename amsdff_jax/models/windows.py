"""Texts of any length through an encoder that reads a window at a time, and back together before the classifier.

The windows of a text are rows of the encoder's batch, beside those of the others, and what it makes of their tokens
stands side by side again: the layers behind it see whole documents.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx
from jaxtyping import Array, Bool, Float, Float32, Int

from amsdff_jax.data.windows import Windows
from amsdff_jax.models.encoders.blocks import Encoder
from amsdff_jax.models.shapes import Features32, Mask, Seed

AT_ONCE = 64  # windows in the encoder at a time, in eval mode: what a batch of texts that fit takes


def encode_windows(
    encoder: Encoder, windows: Windows, words: Float[Array, "B S E"], mask: Mask, seed: Seed | None = None
) -> Features32:
    """What an encoder makes of texts of more tokens than a window has.

    In eval mode the encoder's memory does not grow with the texts, nor in a backward pass through it.

    Args:
      words: word embeddings, special tokens once a text.
      mask: true on real tokens.
      seed: of the dropouts; in train mode only, in which all windows are encoded at once.

    Returns:
      Features of the tokens, 0 on padding. A token of two windows has their mean, a special token that of all.
    """
    graph, state = nnx.graphdef(encoder), nnx.to_pure_dict(nnx.state(encoder))
    places, visible = split(windows, mask)
    batch, number, _ = places.shape
    rows = jnp.arange(batch)[:, None, None]

    def encode(group: tuple[jax.Array, jax.Array]) -> jax.Array:
        places, visible = group  # [B,k,size] each
        parts = words[rows, places].reshape(-1, windows.size, words.shape[-1])
        features = nnx.merge(graph, state).encode_words(parts, visible.reshape(-1, windows.size), seed)
        return features.reshape(*places.shape, -1)

    at_once = max(AT_ONCE // batch, 1)  # of each text, so that rows stay on their devices
    if seed is not None or number <= at_once:
        features = encode((places, visible))
    else:
        missing = -number % at_once

        def groups(x: jax.Array) -> jax.Array:
            padded = jnp.pad(x, ((0, 0), (0, missing), (0, 0)))
            return padded.reshape(batch, -1, at_once, windows.size).swapaxes(0, 1)

        features = jax.lax.map(jax.checkpoint(encode), (groups(places), groups(visible)))
        features = features.swapaxes(0, 1).reshape(batch, number + missing, windows.size, -1)[:, :number]
    return jnp.where(mask[..., None], join(windows, features, mask), 0)


def split(windows: Windows, mask: Mask) -> tuple[Int[Array, "B K size"], Bool[Array, "B K size"]]:
    """Where in its text each token of each window stands, and whether the window has such a token.

    Args:
      mask: true on real tokens, of which every text has its special ones at least, or none.
    """
    lengths, longest = mask.sum(axis=1)[:, None, None], mask.shape[1]
    number = jnp.arange(windows.number(longest))[:, None]  # [K,1]
    own = jnp.arange(windows.size)
    content = jnp.clip(lengths - windows.prefix - windows.suffix - number * windows.step, 0, windows.capacity)
    behind = own - windows.prefix - content  # [B,K,size], from 0 on a special token of the end
    place = jnp.where(own < windows.prefix, own, own + number * windows.step)
    place = jnp.where(behind >= 0, lengths - windows.suffix + behind, place)
    visible = (number < windows.number(lengths)) & (behind < windows.suffix) & (lengths > 0)
    return jnp.clip(place, 0, longest - 1), visible


def join(windows: Windows, features: Float[Array, "B K size H"], mask: Mask) -> Float[Array, "B S H"]:
    """Features of the tokens of windows as features of the tokens of texts, the mean where windows share one.

    What stands on padding means nothing.

    Args:
      mask: as for `split`.
    """
    lengths, longest = mask.sum(axis=1), mask.shape[1]
    counts, most = windows.number(lengths)[:, None], features.shape[1]
    # At most two windows share a token, and which these are does not depend on the text: in the gradient of such a
    # gather nothing is added up.
    place = np.arange(longest) - windows.prefix
    second = np.clip(place // windows.step, 0, most - 1)

    def of_window(number: np.ndarray) -> tuple[Float[Array, "B S H"], Float32[Array, "B S 1"]]:
        own = place - number * windows.step
        has = (number >= 0) & (own >= 0) & (own < windows.capacity) & (number < counts)
        at = np.clip(number, 0, None) * windows.size + np.clip(own + windows.prefix, 0, windows.size - 1)
        return features.reshape(len(features), -1, features.shape[-1])[:, at], has[..., None].astype(jnp.float32)

    parts = [of_window(second), of_window(second - 1)]
    total = sum(weight * part for part, weight in parts)
    joined = total / jnp.maximum(parts[0][1] + parts[1][1], 1)

    exists = jnp.arange(most) < counts  # [B,K]

    def mean(of_windows: Float[Array, "B K H"]) -> Float[Array, "B 1 H"]:
        return jnp.where(exists[..., None], of_windows, 0).sum(axis=1, keepdims=True) / counts[..., None]

    for number in range(windows.prefix):
        joined = joined.at[:, number].set(mean(features[:, :, number])[:, 0])
    content = lengths[:, None] - windows.prefix - windows.suffix - jnp.arange(most) * windows.step
    content = jnp.clip(content, 0, windows.capacity)  # [B,K]
    for number in range(windows.suffix):
        at = (windows.prefix + content + number)[..., None, None]
        own = jnp.take_along_axis(features, at, axis=2)[:, :, 0]
        here = jnp.arange(longest) == (lengths - windows.suffix + number)[:, None]
        joined = jnp.where(here[..., None], mean(own), joined)
    return joined
