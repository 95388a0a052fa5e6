"""Compiled steps kept between processes, and loaded without being traced and lowered again.

What is loaded is machine code, in a pickle. So it is read only from a folder that nobody but this user can write to.
"""

import contextlib
import functools
import hashlib
import importlib.metadata
import os
import pickle
import platform
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import jax
from jax.experimental import serialize_executable

from amsdff_jax.base.cache import evict_oldest
from amsdff_jax.base.files import atomic_write
from amsdff_jax.base.processor import processor_info

SUFFIX = ".executable"
LARGEST = 1 << 30  # bytes of all entries; a step of minilm-l6 has about 5 MB
DIGEST_SIZE = 32
CACHE_HIT = "/jax/compilation_cache/cache_hits"  # an event of JAX's
LIBRARIES = ("jax", "jaxlib", "flax", "optax", "numpy", "ml_dtypes")  # whose code a step is made of


class ExecutableCache:
    """A folder of compiled functions, by a key of all that a compilation depends on."""

    def __init__(self, folder: Path):
        """Makes the folder, readable by its owner alone, and deletes the oldest entries beyond `LARGEST` bytes.

        Raises:
          OSError: it cannot be made, or others than this user could write to it.
        """
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not _is_private(folder.lstat()):
            raise PermissionError(0, "others than you may write there")
        evict_oldest(folder, f"*{SUFFIX}", LARGEST)
        self._folder = folder
        _listen()

    def load_or_compile(
        self, identity: str, arguments: tuple, lower: Callable[[], jax.stages.Lowered]
    ) -> tuple[jax.stages.Compiled, bool]:
        """The function that was kept for such arguments, or else a new one, which is kept; and whether it is new.

        Where other code of this package has lowered to the same program before, as after an upgrade, that is taken.

        Args:
          identity: all that the function depends on beside its arguments and the code of this package.
          arguments: of a call, arrays or what `jax.ShapeDtypeStruct` says of them; their shapes, types and places on
            the devices count.
          lower: what makes the function.
        """
        devices = _devices_of(arguments)
        key = executable_key(identity, arguments, devices)
        executable = self._read(key, devices)
        if executable is not None:
            return executable, False
        lowered = lower()
        program = program_key(lowered, arguments, devices)
        executable = self._read(program, devices)
        is_new = executable is None
        if is_new:
            _thread.hit = False
            executable = lowered.compile()
            # What JAX has loaded from its own cache lacks the code of its kernels when it is serialized again.
            if not _thread.hit:
                self._write(program, executable)
        self._link(program, key)
        return executable, is_new

    def _read(self, key: str, devices: list) -> jax.stages.Compiled | None:
        """The function that was kept under `key`; None where there is none, or it is damaged or another user's."""
        try:
            with open(os.open(self._folder / (key + SUFFIX), os.O_RDONLY | os.O_NOFOLLOW), "rb") as stream:
                if not _is_private(os.fstat(stream.fileno())):
                    return None
                digest, content = stream.read(DIGEST_SIZE), stream.read()
            if hashlib.blake2b(content, digest_size=DIGEST_SIZE).digest() != digest:
                return None
            return serialize_executable.deserialize_and_load(
                *pickle.loads(content), backend=devices[0].client, execution_devices=devices
            )
        except Exception:  # whatever a damaged entry makes JAX and pickle raise: it is compiled again
            return None

    def _write(self, key: str, compiled: jax.stages.Compiled) -> None:
        """Keeps a compiled function, if it can be kept and written."""
        try:
            content = pickle.dumps(serialize_executable.serialize(compiled))
        except Exception:  # such as that of `jax.pmap`, or one that holds a constant
            return
        digest = hashlib.blake2b(content, digest_size=DIGEST_SIZE).digest()
        with (
            contextlib.suppress(OSError),
            atomic_write(self._folder / (key + SUFFIX), shared=True) as temporary,
            open(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream,
        ):
            stream.write(digest + content)

    def _link(self, kept: str, key: str) -> None:
        """Lets what is kept under a key, if it is, be found under another, too."""
        file = self._folder / (key + SUFFIX)
        with contextlib.suppress(OSError):
            file.unlink(missing_ok=True)  # damaged, or it would have been read
            os.link(self._folder / (kept + SUFFIX), file)


_thread = threading.local()


@functools.cache
def _listen() -> None:
    """Lets `_thread.hit` tell whether the last compilation of a thread was spared by JAX's own cache."""

    def note(event: str, **_: object) -> None:
        if event == CACHE_HIT:
            _thread.hit = True

    jax.monitoring.register_event_listener(note)


def executable_key(identity: str, arguments: tuple, devices: list) -> str:
    """The key of a function that is compiled for such arguments, on these devices, with the code of this package."""
    return _key(f"{_source()} {identity}", arguments, devices)


def program_key(lowered: jax.stages.Lowered, arguments: tuple, devices: list) -> str:
    """The key of what a function has been lowered to, whatever the code that it comes from."""
    return _key(f"{lowered.out_tree} {lowered.as_text()}", arguments, devices)


def _key(function: str, arguments: tuple, devices: list) -> str:
    digest = hashlib.blake2b(digest_size=20)
    leaves, structure = jax.tree.flatten(arguments)
    digest.update(f"{_surroundings(devices)}\n{function}\n{structure}\n".encode())
    for leaf in leaves:
        array = jax.typeof(leaf)
        digest.update(f"{array.str_short()} {array.weak_type} {getattr(leaf, 'sharding', None)!r}\n".encode())
    return digest.hexdigest()


def _devices_of(arguments: tuple) -> list:
    """The devices on which the arguments of a call lie, in their order."""
    for leaf in jax.tree.leaves(arguments):
        sharding = getattr(leaf, "sharding", None)
        if sharding is not None:
            mesh = getattr(sharding, "mesh", None)
            devices = sorted(sharding.device_set, key=lambda device: device.id)
            return devices if mesh is None else list(mesh.devices.flat)
    return jax.devices()[:1]


def _surroundings(devices: list) -> str:
    """What code is compiled for, with and from."""
    telling = ("vendor_id", "model name", "flags", "Features", "CPU part")
    processor = (platform.machine(), *(processor_info().get(name) for name in telling), os.cpu_count())
    settings = {
        name: getattr(jax.config, name, None)
        for name in sorted(jax.config.values)
        if "cache" not in name and "log" not in name
    }
    kinds = [(device.platform, device.device_kind, device.id) for device in devices]
    return repr((_versions(), processor, devices[0].client.platform_version, kinds, settings))


@functools.cache
def _versions() -> tuple:
    libraries = [importlib.metadata.version(name) for name in LIBRARIES]
    return (sys.version, libraries, os.environ.get("XLA_FLAGS"), os.environ.get("LIBTPU_INIT_ARGS"))


@functools.cache
def _source() -> str:
    """A digest of the code of this package."""
    package = Path(__file__).parents[1]
    source = hashlib.blake2b(digest_size=20)
    for file in sorted(package.rglob("*.py")):
        source.update(str(file.relative_to(package)).encode() + file.read_bytes())
    return source.hexdigest()


def _is_private(status: os.stat_result) -> bool:
    return status.st_uid == os.geteuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
