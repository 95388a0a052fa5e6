"""Data parallelism: every device computes some rows of each batch. It keeps all the parameters, or its part of them."""

import contextlib
import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from amsdff_jax.base.errors import UserError
from amsdff_jax.parallel.forks import claim_process

Device: TypeAlias = Any  # `jax.Device`, of which jaxlib tells type checkers nothing

AXIS = "data"  # of the mesh, and of collectives under `jax.pmap`

# Numbers from which on fsdp splits an array. Vectors and the smallest matrices are below: setting up a transfer takes
# longer than sending them, and all of them are less than a hundredth of an encoder.
SMALLEST_SPLIT = 1 << 16


class DataParallel:
    """The devices that share a run's batches, over all hosts.

    Attributes:
      mode: "sharded": `jax.jit` sees whole batches and XLA splits the work; "fsdp": so too, and of every large array
        of the training state a device keeps a part; "pmap": `jax.pmap` runs the step on every device's own rows, with
        explicit sums over the devices.
      mesh: the devices in one row, those of a host side by side, under the axis `data`.
    """

    def __init__(self, mode: str = "sharded", devices: Sequence[Device] | None = None):
        """Takes `devices`, by default all there are.

        Raises:
          UserError: this process was forked from one that had done so.
        """
        claim_process()
        devices = sorted(devices or jax.devices(), key=lambda device: (device.process_index, device.id))
        self.mode = mode
        self.mesh = Mesh(np.array(devices), (AXIS,), axis_types=(AxisType.Auto,))
        self._replicated = NamedSharding(self.mesh, PartitionSpec())
        self._by_row = NamedSharding(self.mesh, PartitionSpec(AXIS))
        own = [place for place, device in enumerate(devices) if device.process_index == jax.process_index()]
        self._own = slice(own[0], own[-1] + 1)
        self._gather = jax.custom_vjp(lambda array: jax.lax.with_sharding_constraint(array, self._replicated))
        self._gather.defvjp(
            lambda array: (self._gather(array), None),
            lambda _, sums: (jax.lax.with_sharding_constraint(sums, self._layout(sums)),),
        )
        self._any = jax.jit(jnp.any, out_shardings=self._replicated)

    @property
    def num_devices(self) -> int:
        """Devices over all hosts."""
        return self.mesh.size

    @property
    def platform(self) -> str:
        """What the devices are: "cpu", "gpu" or "tpu"."""
        return self.mesh.devices.flat[0].platform

    @property
    def axis_name(self) -> str | None:
        """The axis that a step must sum over by itself: `data` under pmap, else None."""
        return AXIS if self.mode == "pmap" else None

    def check_batch_size(self, batch_size: int, accumulation_steps: int) -> None:
        """Raises `UserError` unless every device gets the same number of rows of every piece of a batch."""
        unit = self.num_devices * accumulation_steps
        if batch_size % unit:
            fitting = [size for size in (batch_size // unit * unit, (batch_size // unit + 1) * unit) if size]
            pieces = f" in {accumulation_steps} pieces (train.accumulation_steps)" if accumulation_steps > 1 else ""
            raise UserError(
                f"train.batch_size: {batch_size} texts do not divide evenly over {self.num_devices} devices{pieces}; "
                f"the nearest that do: {' and '.join(map(str, fitting))}"
            )

    def round_up(self, batch_size: int) -> int:
        """The smallest batch size from `batch_size` on that the devices divide."""
        return -(-batch_size // self.num_devices) * self.num_devices

    def own_rows(self, batch_size: int) -> slice:
        """The rows of a batch that this host's devices compute."""
        rows = batch_size // self.num_devices
        return slice(self._own.start * rows, self._own.stop * rows)

    def replicate(self, tree: Any) -> Any:
        """Arrays, the same on all hosts, to all devices."""
        return _place(tree, jax.tree.map(lambda _: self._replicated, tree))

    def making_state(self) -> contextlib.AbstractContextManager:
        """Where a training state is to be made that `place_state` then gets: under fsdp in the memory of the host.

        A device might not hold it. Where JAX is told to have no CPU (JAX_PLATFORMS=cuda), it is made on a device.
        """
        if self.mode == "fsdp":
            with contextlib.suppress(RuntimeError):
                return jax.default_device(jax.local_devices(backend="cpu")[0])
        return contextlib.nullcontext()

    def place_state(self, state: Any) -> Any:
        """A training state, the same on all hosts, to all devices, which keep a part of its large arrays under fsdp."""
        return _place(state, self._layout(state))

    def gather(self, parameters: Any) -> Any:
        """Parameters of a training state as a step uses them, whole on every device; for use within `jax.jit`.

        Under fsdp their gradients are summed over the devices so that each gets the part that it keeps (Rajbhandari et
        al., 2020). In the other modes they are whole already.
        """
        return jax.tree.map(self._gather, parameters) if self.mode == "fsdp" else parameters

    def random_key(self, seed: int) -> jax.Array:
        """A JAX random key on all devices."""
        return jax.jit(lambda: jax.random.key(seed), out_shardings=self._replicated)()

    def place_batch(self, own_rows: Any) -> Any:
        """Puts this host's rows of a batch, arrays [b,...], into arrays [B,...] that are spread over all devices."""
        return jax.tree.map(lambda rows: jax.make_array_from_process_local_data(self._by_row, rows), own_rows)

    def place_training_batch(self, own_rows: Any) -> Any:
        """Puts this host's rows of a batch into the arrays of a train step: [B,...], under pmap [devices,rows,...]."""
        if self.mode == "pmap":
            devices = self._own.stop - self._own.start
            own_rows = jax.tree.map(lambda rows: rows.reshape(devices, -1, *rows.shape[1:]), own_rows)
        return self.place_batch(own_rows)

    def describe_replicated(self, tree: Any) -> Any:
        """The shapes, types and places of arrays that `replicate` has put on the devices, which need not be here."""
        return jax.tree.map(lambda array: _describe(array, self._replicated), tree)

    def describe_state(self, state: Any) -> Any:
        """The same of a training state that `place_state` has put there."""
        return jax.tree.map(_describe, state, self._layout(state))

    def describe_batch(self, tree: Any) -> Any:
        """The shapes, types and places of whole batches [B,...] that `place_batch` has put on the devices."""
        return jax.tree.map(lambda array: _describe(array, self._by_row), tree)

    def compile_train_step(self, step: Callable, state: Any) -> Callable:
        """Compiles `(state, batch, key) -> (state, metrics)`, which donates the state.

        Args:
          state: one of the same shapes. The new one lies as `place_state` puts it; metrics are replicated.
        """
        if self.mode != "pmap":
            return jax.jit(step, donate_argnums=0, out_shardings=(self._layout(state), self._replicated))
        mapped = jax.pmap(
            step,
            axis_name=AXIS,
            in_axes=(None, 0, None),
            out_axes=None,
            devices=list(self.mesh.devices.flat),
            donate_argnums=0,
        )
        if jax.process_count() == 1:
            return mapped
        return lambda state, batch, key: jax.tree.map(self._to_global, mapped(state, batch, key))

    def compile_eval_step(self, step: Callable) -> Callable:
        """Compiles `(variables, batch) -> results`, the results replicated, in all modes alike: rows are apart."""
        return jax.jit(step, out_shardings=self._replicated)

    def any_host(self, flag: bool) -> Any:
        """Whether `flag` is true on any host. All must ask; the answer may be read (`bool`) later, without a wait."""
        if jax.process_count() == 1:
            return np.bool_(flag)
        own = np.full(self._own.stop - self._own.start, flag)
        return self._any(jax.make_array_from_process_local_data(self._by_row, own))

    def _to_global(self, array: jax.Array) -> jax.Array:
        # Under several processes pmap gives back this host's copies alone.
        copies = [shard.data for shard in array.addressable_shards]
        return jax.make_array_from_single_device_arrays(array.shape, self._replicated, copies)

    def _layout(self, state: Any) -> Any:
        """The places of a training state's arrays."""
        return jax.tree.map(lambda array: NamedSharding(self.mesh, self._partition(array.shape)), state)

    def _partition(self, shape: tuple[int, ...]) -> PartitionSpec:
        """Along the largest axis that the devices divide."""
        fitting = [axis for axis, size in enumerate(shape) if size % self.num_devices == 0]
        if self.mode != "fsdp" or math.prod(shape) < SMALLEST_SPLIT or not fitting:
            return PartitionSpec()
        return PartitionSpec(*[None] * max(fitting, key=shape.__getitem__), AXIS)


def _place(tree: Any, shardings: Any) -> Any:
    if jax.process_count() == 1:
        return jax.device_put(tree, shardings)

    def to_own_devices(array: Any, sharding: NamedSharding) -> jax.Array:
        array = np.asarray(array)
        return jax.make_array_from_callback(array.shape, sharding, lambda index: array[index])

    return jax.tree.map(to_own_devices, tree, shardings)


def _describe(array: Any, sharding: NamedSharding) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(array.shape, array.dtype, sharding=sharding)
