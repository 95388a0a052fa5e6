"""The processes of one run, on one machine or many: how they find each other and how they end together."""

import contextlib
import os
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, NoReturn

import jax
import numpy as np
from jax.experimental import multihost_utils

from amsdff_jax.base.errors import UserError
from amsdff_jax.base.validation import require

HEARTBEAT_TIMEOUT = 100  # seconds after which a silent process counts as dead; JAX's own default
CONNECTION_TIMEOUT = 300  # seconds that a process waits for the others to start; JAX's own default
LARGEST_PIECE = 1 << 20  # numbers that processes send each other at once

# Set for the tasks of `srun` and `mpirun`, but not in the shell of a job that starts python by itself.
_TASKS_OF_A_CLUSTER = ("SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE")


def join_hosts(
    coordinator_address: str = "",
    num_processes: int = 0,
    process_id: int = -1,
    heartbeat_timeout: int = HEARTBEAT_TIMEOUT,
    connection_timeout: int = CONNECTION_TIMEOUT,
) -> None:
    """Makes this process one of several that compute together. Must come before anything is computed.

    Without an address, the tasks of SLURM's `srun` and of Open MPI's `mpirun` find each other; any
    other process computes alone.

    Args:
      coordinator_address: `host:port` of process 0, the same everywhere.
      num_processes: how many there are.
      process_id: which one this is, from 0.
      heartbeat_timeout: seconds of silence after which a process counts as dead, and all end.
      connection_timeout: seconds to wait for the others to start.

    Raises:
      UserError: arguments that do not go together, or processes that do not find each other. Where some of them are
        there and others do not come, the process ends, with the same line: nothing can be caught there.
    """
    given = (bool(coordinator_address), num_processes != 0, process_id != -1)
    if any(given):
        if not all(given):
            raise UserError("--coordinator_address, --num_processes and --process_id: expected all three or none")
        host, _, port = coordinator_address.rpartition(":")
        require(bool(host) and port.isdigit(), "--coordinator_address", coordinator_address, "HOST:PORT of process 0")
        require(num_processes > 0, "--num_processes", num_processes, "at least 1")
        require(0 <= process_id < num_processes, "--process_id", process_id, f"from 0 to {num_processes - 1}")
        require(0 < int(port) < 1 << 16, "--coordinator_address", int(port), "a port from 1 to 65535")
        host = host.strip("[]")  # of an IPv6 address
        if process_id == 0:
            _require_free(int(port))
        else:
            _wait_for_answer(host, int(port), connection_timeout)
    elif all(int(os.environ.get(name, 1)) <= 1 for name in _TASKS_OF_A_CLUSTER):
        return
    try:
        with _at_most(connection_timeout):
            jax.distributed.initialize(
                coordinator_address or None,
                num_processes or None,
                process_id if process_id != -1 else None,
                initialization_timeout=2 * connection_timeout,
                heartbeat_timeout_seconds=heartbeat_timeout,
            )
    except (RuntimeError, ValueError) as error:
        raise UserError(f"the processes of this run did not find each other ({_first_line(error)})") from None


def is_first_host() -> bool:
    """Whether this process is the one that writes logs, reports and models."""
    return jax.process_index() == 0


def wait_for_all_hosts(purpose: str) -> None:
    """Returns when every process has come to the call of the same `purpose`."""
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices(purpose)


def require_same_on_all_hosts(what: str, digest: str) -> None:
    """Raises `UserError` on every process unless all of them have the same `digest`, hexadecimal, of `what`."""
    digests = multihost_utils.process_allgather(np.frombuffer(bytes.fromhex(digest), np.uint8))
    others = [number for number, other in enumerate(digests) if (other != digests[0]).any()]
    if others:
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            wait_for_all_hosts("comparison")  # so that none ends while another still compares
        raise UserError(
            f"process {others[0]} has other {what} than process 0; give all processes the same files and flags"
        )


@contextlib.contextmanager
def errors_on_all_hosts() -> Iterator[None]:
    """Raises `UserError` on every process if the block does on any, so that none waits for one that has ended."""
    error = None
    try:
        yield
    except UserError as raised:
        error = raised
    failed = np.flatnonzero(multihost_utils.process_allgather(np.array(error is not None)))
    if len(failed):
        with contextlib.suppress(jax.errors.JaxRuntimeError):
            wait_for_all_hosts("errors")
        raise error or UserError(f"process {failed[0]} had to stop, as its own message says")


def own_share(number: int) -> range:
    """Which of `number` things this process prepares: one after the other, as many as every other does, or one less."""
    return _share(number, jax.process_index())


def gather_shares(share: np.ndarray, number: int) -> np.ndarray:
    """The `number` rows of which each process has its own share, on all of them.

    Args:
      share: [n,...], a row for each of `own_share(number)`; of a type that JAX keeps, such as int32.
    """
    padded = np.zeros((-(-number // jax.process_count()), *share.shape[1:]), share.dtype)
    padded[: len(share)] = share
    gathered = multihost_utils.process_allgather(padded)
    return np.concatenate([rows[: len(_share(number, process))] for process, rows in enumerate(gathered)])


def stream_shares(share: np.ndarray) -> Iterator[np.ndarray]:
    """The arrays [n] of all processes, each of any length, one after the other, in pieces that bound the memory.

    All processes must take all pieces.
    """
    # As two numbers, for a share of tokens may be longer than int32 tells, which is all that is exchanged.
    parts = multihost_utils.process_allgather(np.array(divmod(len(share), 1 << 30), np.int32))
    lengths = [(int(high) << 30) + int(low) for high, low in np.reshape(parts, (-1, 2))]
    size = min(max(lengths), LARGEST_PIECE)
    for process, length in enumerate(lengths):
        for start in range(0, length, size):
            piece = np.zeros(size, share.dtype)
            if process == jax.process_index():
                own = share[start : start + size]
                piece[: len(own)] = own
            piece = multihost_utils.broadcast_one_to_all(piece, is_source=process == jax.process_index())
            yield piece[: length - start]


def _share(number: int, process: int) -> range:
    processes = jax.process_count()
    return range(number * process // processes, number * (process + 1) // processes)


def fetch(tree: Any) -> Any:
    """Arrays as NumPy's, whole, on every host. All must call, for parts of an array may lie on other hosts' devices."""

    def fetch_one(array: Any) -> np.ndarray:
        if isinstance(array, jax.Array) and not (array.is_fully_addressable or array.is_fully_replicated):
            return multihost_utils.process_allgather(array, tiled=True)
        return np.asarray(array)

    return jax.tree.map(fetch_one, tree)


def lost_host_error(error: Exception) -> UserError:
    """What to tell when a computation with other processes has failed."""
    return UserError(
        f"process {jax.process_index()} of {jax.process_count()} lost the others ({_first_line(error)}); their own "
        "messages say why; start all of them again with the same command to resume from the last checkpoint"
    )


def exit_at_once(code: int) -> NoReturn:
    """Ends a process that failed without waiting for the others, who would wait for it in turn."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _require_free(port: int) -> None:
    """Raises `UserError` where JAX would end the process with a signal."""
    try:
        with socket.create_server(("", port)):
            pass
    except OSError as error:
        raise UserError(
            f"--coordinator_address: port {port} cannot be listened on ({error.strerror or error}); choose another, "
            "the same for all processes"
        ) from None


def _wait_for_answer(host: str, port: int, timeout: int) -> None:
    """Returns when process 0 listens. Raises `UserError` where JAX would end the process with a stack of C++."""
    end = time.monotonic() + timeout
    while True:
        try:
            socket.create_connection((host, port), max(end - time.monotonic(), 1)).close()
            return
        except UnicodeError as error:  # of a name that no host can have
            raise UserError(f"--coordinator_address: {host}: no name of a host ({error}); give HOST:PORT") from None
        except OSError as error:
            if time.monotonic() > end:
                raise UserError(
                    f"--coordinator_address: nothing answers at {host}:{port} within {timeout} s "
                    f"({error.strerror or error}); start process 0 there, or give its address"
                ) from None
        time.sleep(0.2)


@contextlib.contextmanager
def _at_most(timeout: int) -> Iterator[None]:
    """Ends the process with one line if the block takes longer, before JAX does so with a stack of C++."""

    def give_up() -> None:
        print(
            f"error: the other processes of this run did not come within {timeout} s; start as many as --num_processes "
            "says, each with a --process_id of its own, or raise --connection_timeout",
            file=sys.stderr,
        )
        exit_at_once(2)  # as for a `UserError`, which no thread can raise in another

    timer = threading.Timer(timeout, give_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:200]
