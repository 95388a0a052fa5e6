"""Models called as one program: op by op, every new shape compiles each of some hundred ops."""

from flax import nnx


@nnx.jit
def call(model: nnx.Module, *inputs):
    """`model(*inputs)`; what the call changes in the model, such as BatchNorm's statistics, is changed."""
    return model(*inputs)
