"""Every kind of encoder by the `model_type` of its configuration."""

import jax.numpy as jnp
from flax import nnx
from jax.typing import DTypeLike

from amsdff_jax.config import EncoderConfig
from amsdff_jax.models.encoders.bert import ElectraEncoder, RobertaEncoder
from amsdff_jax.models.encoders.blocks import Encoder
from amsdff_jax.models.encoders.deberta import DebertaEncoder
from amsdff_jax.models.encoders.distilbert import DistilBertEncoder
from amsdff_jax.models.encoders.modernbert import ModernBertEncoder
from amsdff_jax.models.encoders.mpnet import MPNetEncoder

ENCODERS: dict[str, type[Encoder]] = {
    "distilbert": DistilBertEncoder,
    "roberta": RobertaEncoder,
    "electra": ElectraEncoder,
    "mpnet": MPNetEncoder,
    "modernbert": ModernBertEncoder,
    "deberta-v2": DebertaEncoder,
}


def make_encoder(config: EncoderConfig, *, dtype: DTypeLike = jnp.float32, rngs: nnx.Rngs) -> Encoder:
    """A random encoder of the family and the sizes of `config`."""
    return ENCODERS[config.model_type](config, dtype=dtype, rngs=rngs)
