"""Files that were packed as a whole, unpacked while they are read."""

import gzip
import io
import re
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple, cast

from amsdff_jax.data.signatures import name_format


def _open_zstd(stream: BinaryIO) -> Any:
    import pyarrow

    # Of frames that ask for more than 128 MiB it says so, before it takes them.
    return pyarrow.CompressedInputStream(stream, "zstd")


class Packing(NamedTuple):
    """A way of packing: its name, what packed files begin with (a regex), and what unpacks a stream."""

    name: str
    signature: bytes
    open: Callable[[Any], Any]


PACKINGS = {
    ".gz": Packing("gzip", rb"\x1f\x8b", gzip.open),
    ".zst": Packing("zstd", rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18", _open_zstd),
}


def unpack(stream: io.BufferedReader, ending: str) -> io.BufferedReader:
    """What a stream holds; that of an empty one is empty.

    Args:
      ending: of the file's name, one of `PACKINGS`.

    Returns:
      A stream whose `OSError` without a number, `EOFError` and `zlib.error` are of damaged data.

    Raises:
      OSError: the stream begins otherwise.
    """
    packing, head = PACKINGS[ending], stream.peek(4)
    if head and not re.match(packing.signature, head):
        raise OSError(f"but {name_format(head) or f'perhaps plain text; name it without {ending}'}")
    return io.BufferedReader(cast(io.RawIOBase, packing.open(stream)))
