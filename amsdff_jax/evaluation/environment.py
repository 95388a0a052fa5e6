"""On what a number was measured: device, versions, size of the model."""

import contextlib
import os
import platform
from collections.abc import Iterable
from importlib import metadata
from typing import Any

import jax
import numpy as np
from flax import nnx

from amsdff_jax.base.processor import processor_info
from amsdff_jax.parallel.data_parallel import Device

PACKAGES = ("amsdff-jax", "jax", "flax", "optax", "orbax-checkpoint", "transformers", "numpy", "scikit-learn")


def describe_environment(model: nnx.Module) -> dict[str, Any]:
    """Parameter count of `model`, devices and versions, ready for JSON."""
    devices = jax.devices()
    return {
        "num_parameters": count_parameters(model),
        "device": f"{len(devices)} x {device_name(devices[0])}",
        "versions": {"python": platform.python_version(), **installed_versions(PACKAGES)},
    }


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions by name of those packages that are installed; one may run from its source without being so."""
    versions = {}
    for name in packages:
        with contextlib.suppress(metadata.PackageNotFoundError):
            versions[name] = metadata.version(name)
    return versions


def count_parameters(model: nnx.Module) -> int:
    """Number of trainable numbers in `model`; BatchNorm's statistics do not count."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(nnx.state(model, nnx.Param)))


def device_name(device: Device) -> str:
    """What the makers call the device, or the processor and its cores."""
    if device.platform != "cpu":
        return device.device_kind
    name = processor_info().get("model name") or platform.processor() or platform.machine()
    return f"cpu ({name}, {os.cpu_count()} cores)"
