"""Recurrent layers that hold PyTorch's weights: two bidirectional layers of LSTM or GRU cells.

The parameters keep PyTorch's packing, all gates of a cell below one another: `weight_ih_l0` is
[gates*D,I], D features each way.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike
from jaxtyping import Array, Float, Float32

from amsdff_jax.models.dropout import Dropout
from amsdff_jax.models.shapes import Mask, Seed

NUM_LAYERS = 2
DIRECTIONS = ("", "_reverse")  # PyTorch's endings
PARAMETERS = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")  # of a cell, in PyTorch's names

States = tuple[Float32[Array, "B D"], ...]  # what a cell passes on to itself, its output first
Gates = Float32[Array, "B G"]


class RecurrentNetwork(nnx.Module):
    """Two bidirectional layers, of which the last states are kept.

    A token that the mask hides leaves the state as it was, so a text ends at its last real token and,
    backwards, begins there.
    """

    gates: int  # blocks in a cell's weights
    states: int  # arrays that a cell passes on

    def __init__(self, input_size: int, hidden_size: int, dropout_rate: float, *, dtype: DTypeLike, rngs: nnx.Rngs):
        bound = 1 / math.sqrt(hidden_size)
        rows = self.gates * hidden_size
        for layer in range(NUM_LAYERS):
            width = input_size if layer == 0 else 2 * hidden_size
            for ending in DIRECTIONS:
                shapes = (rows, width), (rows, hidden_size), (rows,), (rows,)
                for name, shape in zip(PARAMETERS, shapes, strict=True):
                    value = jax.random.uniform(rngs.params(), shape, minval=-bound, maxval=bound)
                    setattr(self, f"{name}_l{layer}{ending}", nnx.Param(value))
        self.dropout = Dropout(dropout_rate)
        self.hidden_size = hidden_size
        self.dtype = dtype

    def __call__(self, x: Float[Array, "B S I"], mask: Mask, seed: Seed | None = None) -> Float32[Array, "B F"]:
        """Reads `x` where `mask` is true; the last outputs of both directions, side by side."""
        runs = []
        for layer in range(NUM_LAYERS):
            if layer > 0:
                x = self.dropout(x, seed)
            runs = [self._run(x, mask, f"l{layer}{ending}") for ending in DIRECTIONS]
            x = jnp.concatenate([outputs for outputs, _ in runs], axis=-1)
        return jnp.concatenate([last for _, last in runs], axis=-1)

    def cell(self, states: States, inputs: Gates, recurrent: Gates) -> States:
        """The states after one step, by what the token and the output before it say to the gates, side by side."""
        raise NotImplementedError

    def _run(
        self, x: Float[Array, "B S I"], mask: Mask, name: str
    ) -> tuple[Float32[Array, "B S D"], Float32[Array, "B D"]]:
        """The outputs of one direction of one layer, and the last of them."""
        weight_ih, weight_hh, bias_ih, bias_hh = (getattr(self, f"{kind}_{name}")[...] for kind in PARAMETERS)
        batch, length, width = x.shape
        flat = x.astype(self.dtype).reshape(-1, width) @ weight_ih.astype(self.dtype).T
        inputs = flat.astype(jnp.float32).reshape(batch, length, -1) + bias_ih  # [B,S,gates*D]

        def step(states: tuple, token: tuple) -> tuple:
            projected, real = token
            new = self.cell(states, projected, states[0] @ weight_hh.T + bias_hh)
            states = tuple(jnp.where(real[:, None], after, before) for before, after in zip(states, new, strict=True))
            return states, states[0]

        start = (jnp.zeros((batch, self.hidden_size)),) * self.states
        tokens = (inputs.swapaxes(0, 1), mask.T)
        states, outputs = jax.lax.scan(step, start, tokens, reverse=name.endswith("_reverse"))
        return outputs.swapaxes(0, 1), states[0]


class LSTM(RecurrentNetwork):
    """Long short-term memory. PyTorch: `nn.LSTM(I, D, num_layers=2, bidirectional=True, batch_first=True)`."""

    gates, states = 4, 2

    def cell(self, states: States, inputs: Gates, recurrent: Gates) -> States:
        """See the base class."""
        _, memory = states
        entry, forget, candidate, exit_ = jnp.split(inputs + recurrent, 4, axis=-1)
        memory = jax.nn.sigmoid(forget) * memory + jax.nn.sigmoid(entry) * jnp.tanh(candidate)
        return jax.nn.sigmoid(exit_) * jnp.tanh(memory), memory


class GRU(RecurrentNetwork):
    """Gated recurrent unit. PyTorch: `nn.GRU(I, D, num_layers=2, bidirectional=True, batch_first=True)`."""

    gates, states = 3, 1

    def cell(self, states: States, inputs: Gates, recurrent: Gates) -> States:
        """See the base class."""
        (hidden,) = states
        reset_in, update_in, new_in = jnp.split(inputs, 3, axis=-1)
        reset_old, update_old, new_old = jnp.split(recurrent, 3, axis=-1)
        update = jax.nn.sigmoid(update_in + update_old)
        new = jnp.tanh(new_in + jax.nn.sigmoid(reset_in + reset_old) * new_old)
        return ((1 - update) * new + update * hidden,)
