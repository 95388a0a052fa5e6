"""Compiles the step of a run ahead of time, for every padded length of its batches at once."""

import contextlib
import logging
import os
import threading
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import jax

from amsdff_jax.base.cache import cache_folder, evict_oldest
from amsdff_jax.base.memory import release_free_memory
from amsdff_jax.parallel.executables import ExecutableCache

LARGEST_CACHE = 2 << 30  # bytes; a run on a CPU leaves about 5 MB

logger = logging.getLogger(__name__)

_executables: ExecutableCache | None = None


def keep_compiled_steps() -> None:
    """Lets JAX keep what it compiles between processes, unless it has been told a folder already.

    Steps with an identity (see `StepByLength`) are kept as executables beside it. Beyond `LARGEST_CACHE` what was
    compiled first goes. (JAX's own limit does not hold without the package filelock.)
    """
    global _executables
    folder = cache_folder("compiled")
    if folder is not None and not jax.config.values["jax_compilation_cache_dir"]:
        # What cannot be read or written is compiled, and JAX would say so for each of some fifty.
        warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache entry")
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if hasattr(os, "geteuid"):  # elsewhere nothing tells whose a file is
                _executables = ExecutableCache(folder.with_name("executables"))
        except OSError as error:
            logger.warning("%s: compiled steps cannot be kept there (%s)", folder, error.strerror)
            return
        evict_oldest(folder, "*-cache", LARGEST_CACHE)
        jax.config.update("jax_compilation_cache_dir", str(folder))
        # Short ones too: making a model runs some fifty, which take seconds together.
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)


def temporary_bytes(executable: jax.stages.Compiled) -> int:
    """What a compiled step allocates on a device for the time of a call; 0 where the backend does not say."""
    analysis = executable.memory_analysis()
    return analysis.temp_size_in_bytes if analysis else 0


class StepByLength:
    """A jitted `(state, batch, ...) -> results` with an executable for each padded length S of `batch.attention_mask`.

    A length that was not compiled beforehand is compiled when it comes, with a warning: it stops the run for the
    time of a compilation, and means that the batch plan and what was announced differ.
    """

    def __init__(self, function: Callable[..., Any], name: str, identity: str | None = None):
        """Takes the function.

        Args:
          function: as `jax.jit` or `jax.pmap` makes it; one that cannot be lowered is compiled at its first call.
          name: what messages call it, such as "training".
          identity: all that the function depends on beside its arguments and the code of this package, so that an
            executable of an earlier process can take its place; None: nobody knows.
        """
        self._function: Any = function  # with `lower` or without
        self._name, self._identity = name, identity
        self._executables: dict[int, Future] = {}

    def compile(self, examples: Mapping[int, tuple]) -> None:
        """Compiles every length that has not been so yet, or loads it, side by side, and logs what that took.

        Args:
          examples: the arguments of a call by length; only their shapes, types and places on the devices matter.
        """
        with self._compiling(examples, os.cpu_count() or 1) as tasks:
            for task in tasks:
                task.result()

    @contextlib.contextmanager
    def compiling(self, examples: Mapping[int, tuple]) -> Iterator[None]:
        """Does the same beside what the caller does meanwhile, who begins when the first length is there.

        A call waits for its length. When the caller is done, no compilation is begun any more.

        Args:
          examples: as for `compile`, in the order in which they will be needed.
        """
        if missing := self._missing(examples):  # the user waits for the first, some 20 s on two cores
            logger.info("%s: compiling, or loading, for texts of %s tokens", self._name, _listed(missing))
        # One compilation keeps about two cores busy.
        with self._compiling(examples, (os.cpu_count() or 1) // 2 or 1) as tasks:
            # XLA chooses kernels for a GPU by their times there, which a step would disturb.
            for task in tasks if jax.default_backend() == "gpu" else tasks[:1]:
                task.result()
            yield

    @contextlib.contextmanager
    def _compiling(self, examples: Mapping[int, tuple], at_once: int) -> Iterator[list[Future]]:
        """Yields a task for each length that is missing; the last to end logs what all of them took."""
        missing = self._missing(examples)
        if not missing or not hasattr(self._function, "lower"):
            yield []
            return
        start, made, ending = time.perf_counter(), [], threading.Lock()

        def make(arguments: tuple) -> jax.stages.Compiled:
            executable, is_new = self._load_or_compile(arguments)
            release_free_memory()
            with ending:
                made.append((temporary_bytes(executable), is_new))
                if len(made) == len(missing):
                    self._log(missing, made, time.perf_counter() - start)
            return executable

        # Of the arrays themselves some may be donated to a step before the last length is compiled.
        arguments = {length: jax.tree.map(_abstract, examples[length]) for length in missing}
        threads = ThreadPoolExecutor(min(at_once, len(missing)), "compilation")
        tasks = {length: threads.submit(make, arguments[length]) for length in missing}
        self._executables |= tasks
        try:
            yield list(tasks.values())
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
            for length, task in tasks.items():
                if task.cancelled():
                    del self._executables[length]

    def _missing(self, examples: Mapping[int, tuple]) -> list[int]:
        return [length for length in examples if length not in self._executables]

    def _load_or_compile(self, arguments: tuple) -> tuple[jax.stages.Compiled, bool]:
        def lower() -> jax.stages.Lowered:
            return self._function.lower(*arguments)

        if _executables is None or self._identity is None or jax.process_count() > 1:
            return lower().compile(), True
        return _executables.load_or_compile(self._identity, arguments, lower)

    def _log(self, lengths: Sequence[int], made: Sequence[tuple[int, bool]], seconds: float) -> None:
        temporary, is_new = zip(*made, strict=True)
        how = "compiled" if any(is_new) else "loaded"
        logger.info(
            f"{self._name}: {how} for texts of {_listed(lengths)} tokens in {seconds:.1f} s; takes up to "
            f"{max(temporary) / 1e6:.0f} MB of memory beside weights and batches"
        )

    def __call__(self, state: Any, batch: Any, *others: Any) -> Any:
        """The results for a batch."""
        length = batch.attention_mask.shape[-1]
        if length not in self._executables:
            if hasattr(self._function, "lower"):
                logger.warning("%s: texts of %d tokens were not compiled ahead of time", self._name, length)
            self._executables[length] = Future()
            self._executables[length].set_result(self._function)
        return self._executables[length].result()(state, batch, *others)


def _listed(lengths: Sequence[int]) -> str:
    return ", ".join(map(str, sorted(lengths)))


def _abstract(leaf: Any) -> Any:
    """What an array is like, without its numbers; anything else as it is."""
    if not isinstance(leaf, jax.Array):
        return leaf
    kind = jax.typeof(leaf)
    sharding = leaf.sharding if leaf.committed else None
    return jax.ShapeDtypeStruct(kind.shape, kind.dtype, sharding=sharding, weak_type=kind.weak_type)
