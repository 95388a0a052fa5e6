"""Recurrent layers that hold PyTorch's weights: two bidirectional layers of LSTM or GRU cells.

The parameters keep PyTorch's packing, all gates of a cell below one another: `weight_ih_l0` is
[gates*D,I], D features each way.
"""

import math

import jax
import jax.numpy as jnp
from flax import nnx

from amsdff_jax.models.dropout import Dropout

NUM_LAYERS = 2
DIRECTIONS = ("", "_reverse")  # PyTorch's endings


class RecurrentNetwork(nnx.Module):
    """Two bidirectional layers, of which the last states are kept: [B,S,I] -> [B,2*D].

    A token that the mask hides leaves the state as it was, so a text ends at its last real token and,
    backwards, begins there.

    Attributes:
      gates: blocks in a cell's weights.
      states: arrays that a cell passes on; the first is its output.
    """

    gates: int
    states: int

    def __init__(self, input_size: int, hidden_size: int, dropout_rate: float, *, dtype, rngs: nnx.Rngs):
        bound = 1 / math.sqrt(hidden_size)
        rows = self.gates * hidden_size
        for layer in range(NUM_LAYERS):
            width = input_size if layer == 0 else 2 * hidden_size
            for ending in DIRECTIONS:
                shapes = {"weight_ih": (rows, width), "weight_hh": (rows, hidden_size), "bias_ih": (rows,),
                          "bias_hh": (rows,)}  # fmt: skip
                for name, shape in shapes.items():
                    value = jax.random.uniform(rngs.params(), shape, minval=-bound, maxval=bound)
                    setattr(self, f"{name}_l{layer}{ending}", nnx.Param(value))
        self.dropout = Dropout(dropout_rate)
        self.hidden_size = hidden_size
        self.dtype = dtype

    def __call__(self, x: jax.Array, mask: jax.Array, seed: jax.Array | None = None) -> jax.Array:
        """Reads [B,S,I] where `mask` [B,S] is true, and returns both directions' last outputs [B,2*D] float32."""
        for layer in range(NUM_LAYERS):
            if layer > 0:
                x = self.dropout(x, seed)
            runs = [self._run(x, mask, f"l{layer}{ending}") for ending in DIRECTIONS]
            x = jnp.concatenate([outputs for outputs, _ in runs], axis=-1)  # [B,S,2*D]
        return jnp.concatenate([last for _, last in runs], axis=-1)

    def cell(self, states: tuple, inputs: jax.Array, weight_hh: jax.Array, bias_hh: jax.Array) -> tuple:
        """One step: states of [B,D] and the projected input [B,gates*D] -> new states."""
        raise NotImplementedError

    def _run(self, x: jax.Array, mask: jax.Array, name: str) -> tuple[jax.Array, jax.Array]:
        weight_ih, weight_hh, bias_ih, bias_hh = (
            getattr(self, f"{kind}_{name}")[...] for kind in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
        )
        batch, length, width = x.shape
        flat = x.astype(self.dtype).reshape(-1, width) @ weight_ih.astype(self.dtype).T
        inputs = flat.astype(jnp.float32).reshape(batch, length, -1) + bias_ih  # [B,S,gates*D]

        def step(states: tuple, token: tuple) -> tuple:
            projected, real = token
            new = self.cell(states, projected, weight_hh, bias_hh)
            states = tuple(jnp.where(real[:, None], after, before) for before, after in zip(states, new, strict=True))
            return states, states[0]

        start = (jnp.zeros((batch, self.hidden_size)),) * self.states
        tokens = (inputs.swapaxes(0, 1), mask.T)
        states, outputs = jax.lax.scan(step, start, tokens, reverse=name.endswith("_reverse"))
        return outputs.swapaxes(0, 1), states[0]


class LSTM(RecurrentNetwork):
    """Long short-term memory. PyTorch: `nn.LSTM(I, D, num_layers=2, bidirectional=True, batch_first=True)`."""

    gates, states = 4, 2

    def cell(self, states: tuple, inputs: jax.Array, weight_hh: jax.Array, bias_hh: jax.Array) -> tuple:
        """See the base class."""
        hidden, memory = states
        entry, forget, candidate, exit_ = jnp.split(inputs + hidden @ weight_hh.T + bias_hh, 4, axis=-1)
        memory = jax.nn.sigmoid(forget) * memory + jax.nn.sigmoid(entry) * jnp.tanh(candidate)
        return jax.nn.sigmoid(exit_) * jnp.tanh(memory), memory


class GRU(RecurrentNetwork):
    """Gated recurrent unit. PyTorch: `nn.GRU(I, D, num_layers=2, bidirectional=True, batch_first=True)`."""

    gates, states = 3, 1

    def cell(self, states: tuple, inputs: jax.Array, weight_hh: jax.Array, bias_hh: jax.Array) -> tuple:
        """See the base class."""
        (hidden,) = states
        reset_in, update_in, new_in = jnp.split(inputs, 3, axis=-1)
        reset_old, update_old, new_old = jnp.split(hidden @ weight_hh.T + bias_hh, 3, axis=-1)
        update = jax.nn.sigmoid(update_in + update_old)
        new = jnp.tanh(new_in + jax.nn.sigmoid(reset_in + reset_old) * new_old)
        return ((1 - update) * new + update * hidden,)
