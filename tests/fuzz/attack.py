"""Reads damaged files in a process of its own, and says which of them did harm."""

import contextlib
import gc
import os
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from amsdff_jax.base.errors import LONGEST_MESSAGE, UserError
from tests.fuzz.mutators import mutate
from tests.processes import context

# What one damaged file may cost. Processor time, so that a busy machine changes nothing.
SECONDS, MEGABYTES = 2, 500
STUCK = 60  # seconds without a sign of life, as of a process that waits for something

# What only a file that runs something would cause.
FORBIDDEN = (
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pty.spawn",
    "socket.connect", "socket.getaddrinfo", "pickle.find_class", "shutil.rmtree", "os.chmod", "ctypes.dlopen",
)  # fmt: skip


class Harm(NamedTuple):
    """What the damaged file number `index` did: `python -m tests.fuzz READER --seed=SEED --first=INDEX --number=1`."""

    reader: str
    seed: int
    index: int
    what: str

    def __str__(self) -> str:
        again = f"python -m tests.fuzz {self.reader} --seed={self.seed} --first={self.index} --number=1"
        return f"{again}\n{self.what}"


class _TooSlowError(BaseException):
    """Not to be caught by what is attacked."""


def attack(reader: str, seed: int, first: int, number: int, most: int = 5) -> list[Harm]:
    """Lets a reader of `READERS` read `number` damaged files, from the one numbered `first` on.

    Each is determined by reader, seed and its own number. The same harm is reported once.

    Args:
      most: reports after which to stop.
    """
    harms, last = [], first + number
    while first < last and len(harms) < most:
        found, first = _attack_until_killed(reader, seed, first, last, most - len(harms))
        known = {_kind(harm.what) for harm in harms}
        harms += [harm for harm in found if _kind(harm.what) not in known]
    return harms


def _attack_until_killed(reader: str, seed: int, first: int, last: int, most: int) -> tuple[list[Harm], int]:
    """The harms, and the first file that has not been read: one of them may take the process with it."""
    receiver, sender = context.Pipe(duplex=False)
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        process = context.Process(target=_read_all, args=(sender, reader, seed, first, last, most, folder))
        process.start()
        sender.close()
        harms, index = [], None
        try:
            while receiver.poll(STUCK):
                index, harm = receiver.recv()
                if harm:
                    harms.append(Harm(reader, seed, index, harm))
                if index == last:
                    process.join()
                    return harms, last
            what = "waits for something"
        except EOFError:
            process.join(STUCK)
            what = f"ends the process (exit code {process.exitcode})"
        process.kill()
        process.join()
    if index is None:
        raise RuntimeError(f"{reader}: the whole files cannot be read")
    if not harms or harms[-1].index != index:
        harms.append(Harm(reader, seed, index, what))
    return harms, index + 1


def _read_all(sender: Connection, name: str, seed: int, first: int, last: int, most: int, folder: str) -> None:
    from tests.fuzz.readers import READERS  # in this process alone: it imports what reads

    reader, folder = READERS[name], Path(folder)
    os.environ.update(TMPDIR=str(folder / "tmp"), AMSDFF_CACHE="off")
    (folder / "tmp").mkdir()
    (folder / "files").mkdir()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # panics in Rust print there
    warnings.simplefilter("ignore")
    reader.make(folder / "files")
    whole = {file: (folder / "files" / file).read_bytes() for file in reader.formats}
    for file in reader.formats:  # which also imports all that is needed
        reader.read(folder / "files" / file)
    there = _listing(folder)
    gc.collect()
    gc.freeze()
    _arm()
    most_memory = _peak_memory() + MEGABYTES * 2**20
    known = set()
    for index in range(first, last):
        sender.send((index, ""))
        random = Random(f"{name} {seed} {index}")
        file = random.choice(list(reader.formats))
        place = folder / "files" / file
        place.write_bytes(mutate(random, whole[file], reader.formats[file]))
        harm = _read(reader.read, place)
        left = _listing(folder) - there
        strays = [
            stray for stray in left if not stray.name.endswith(reader.leaves) and "tensorboard" not in stray.parts
        ]
        if strays and not harm:
            harm = f"leaves {strays[0].name} behind"
        if there - _listing(folder) and not reader.leaves:
            harm = f"removes {sorted(there - _listing(folder))[0].name}"
        out_of_memory = _peak_memory() > most_memory
        if out_of_memory:
            harm = f"takes more than {MEGABYTES} MB of memory"
        if harm and _kind(harm) not in known:
            known.add(_kind(harm))
            sender.send((index, harm))
        if out_of_memory or len(known) == most:
            return  # the peak of memory does not go down again
        for left in _listing(folder) - there:
            left.unlink()
        place.write_bytes(whole[file])
    sender.send((last, ""))


def _read(read: Any, file: Path) -> str:
    """What is wrong with how `read` takes the file; "" if it gives a value or a `UserError`."""
    signal.setitimer(signal.ITIMER_PROF, SECONDS)
    try:
        read(file)
    except UserError as error:
        message = str(error)
        if str(file.parent) not in message:
            return f"does not name the file: {message[:200]}"
        if len(message) > LONGEST_MESSAGE:
            return f"says too much: {message[:200]} ..."
    except _TooSlowError:
        return f"takes more than {SECONDS} s\n{_traceback()}"
    except BaseException:
        return _traceback()
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
    return ""


def _kind(harm: str) -> str:
    """The harm without what differs from file to file."""
    return harm.split(": ")[0]


def _traceback() -> str:
    """Where the error comes from, and what it is."""
    kind, error, trace = sys.exc_info()
    places = [f"  {Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in traceback.extract_tb(trace)]
    with contextlib.suppress(Exception):
        return "\n".join([*places[2:], f"{kind.__name__}: {str(error)[:60]}"])
    return kind.__name__


def _arm() -> None:
    """From here on nothing may be run, and no memory beyond what is allowed be had."""

    def refuse(event: str, arguments: Any) -> None:
        if event in FORBIDDEN:
            raise AssertionError(f"tries {event}{arguments!r:.100}")

    def too_slow(*_: Any) -> None:
        raise _TooSlowError

    sys.addaudithook(refuse)

    signal.signal(signal.SIGPROF, too_slow)
    # Far beyond what is allowed, for the sake of the machine.
    with contextlib.suppress(OSError, ValueError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        kilobytes = next(int(line.split()[1]) for line in lines if line.startswith("VmData"))
        resource.setrlimit(resource.RLIMIT_DATA, (kilobytes * 1024 + 4 * MEGABYTES * 2**20,) * 2)


def _peak_memory() -> int:
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


def _listing(folder: Path) -> set[Path]:
    return {Path(parent, name) for parent, _, names in os.walk(folder) for name in names}
