"""What a platform computes fastest with: the type of the products and the implementation of attention.

A platform is what `jax.Device.platform` names: "cpu", "gpu" or "tpu".
"""

import math
import os
import re
from typing import Any

import jax
import jax.numpy as jnp
from jax.typing import DTypeLike

from amsdff_jax.base.processor import processor_info

# x86 with instructions that multiply bfloat16, as Linux and as XLA name them. (Of Arm's nothing has been measured.)
NATIVE_BFLOAT16 = {"avx512_bf16", "amx_bf16"}
XLA_WITH_BFLOAT16 = ("AVX512_BF16", "AMX")
# NVIDIA's compute capability (of A100 and what came after) from which on its GPUs multiply bfloat16, and below which
# cuDNN has no fused attention.
AMPERE = 8.0


def default_platform() -> str:
    """The platform of the device on which new arrays are made."""
    device: Any = getattr(jax.config, "jax_default_device", None)
    return getattr(device, "platform", device) or jax.default_backend()


def choose_compute_dtype(asked: str, platform: str) -> jnp.dtype:
    """The type of the matrix products for `model.compute_dtype`, which for "auto" is bfloat16 where it is native."""
    if asked == "auto":
        asked = "bfloat16" if _multiplies_bfloat16(platform) else "float32"
    return jnp.dtype(asked)


def _multiplies_bfloat16(platform: str) -> bool:
    if platform == "gpu":
        return _compute_capability() >= AMPERE
    return platform == "tpu" or _cpu_multiplies_bfloat16()


def _compute_capability() -> float:
    """That of the least of this host's NVIDIA GPUs; 0 of others, infinity where a program is made without any."""
    try:
        devices: Any = jax.local_devices(backend="gpu")
    except RuntimeError:
        return math.inf
    return min(map(capability_of, devices), default=math.inf)


def capability_of(device: Any) -> float:
    """The compute capability of a GPU, such as 8.0; 0.0 if it is not NVIDIA's."""
    found = re.fullmatch(r"\d+\.\d+", str(getattr(device, "compute_capability", "")))
    return float(found[0]) if found else 0.0


def choose_logits_dtype(num_classes: int, dtype: DTypeLike) -> DTypeLike:
    """The type of the last layer: `dtype`, but float32 of a model of numbers.

    These may be far from 0 and close together, and bfloat16 has nothing between 2000 and 2008.
    """
    return jnp.float32 if num_classes == 1 else dtype


def _cpu_multiplies_bfloat16() -> bool:
    """Whether the processor does, and XLA has not been told to do without."""
    limit = re.search(r"--xla_cpu_max_isa=(\w+)", os.environ.get("XLA_FLAGS", ""))
    allowed = limit is None or limit[1].upper().startswith(XLA_WITH_BFLOAT16)
    return allowed and not NATIVE_BFLOAT16.isdisjoint(processor_info().get("flags", "").split())


def choose_attention(asked: str, platform: str) -> str:
    """The implementation of attention for `model.attention`: "cudnn", which `fits_cudnn` limits, or "xla"."""
    return "cudnn" if asked == "auto" and platform == "gpu" and _compute_capability() >= AMPERE else "xla"


def fits_cudnn(dtype: DTypeLike, length: Any, head_size: int, has_dropout: bool) -> bool:
    """Whether cuDNN's fused attention takes such arrays.

    It takes 16-bit types, heads of at most 128 features in multiples of 8 and an even number of tokens. JAX offers
    it without dropout on the attention weights only.

    Args:
      length: tokens, of queries and keys; a symbol of JAX where a program for any length is exported.
      has_dropout: whether attention weights are dropped, as in training at a rate above 0.
    """
    half_precision = dtype in (jnp.bfloat16, jnp.float16)
    return half_precision and length % 2 == 0 and head_size <= 128 and head_size % 8 == 0 and not has_dropout
