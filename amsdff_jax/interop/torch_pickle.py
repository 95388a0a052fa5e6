"""The pickle inside a `.pt` file, read and written without PyTorch and without running anything in it.

A pickle is a program: it names functions and calls them. Here a name stands for nothing but what
`ALLOWED` says, and what it makes is a description (`StoredTensor`), not a tensor.
"""

import datetime
import io
import math
import pickle
import pickletools
import struct
from collections.abc import Callable
from typing import Any, NamedTuple

import ml_dtypes
import numpy as np

# PyTorch's storage classes and what their elements are, all little-endian.
STORAGE_DTYPES = {
    "FloatStorage": np.dtype("<f4"),
    "DoubleStorage": np.dtype("<f8"),
    "HalfStorage": np.dtype("<f2"),
    "BFloat16Storage": np.dtype(ml_dtypes.bfloat16),
    "LongStorage": np.dtype("<i8"),
    "IntStorage": np.dtype("<i4"),
    "ShortStorage": np.dtype("<i2"),
    "CharStorage": np.dtype("i1"),
    "ByteStorage": np.dtype("u1"),
    "BoolStorage": np.dtype("?"),
}
STORAGE_NAMES = {dtype: name for name, dtype in STORAGE_DTYPES.items()}

PROTOCOL = 2  # torch.save's

# NumPy scalars in a history: numbers and strings of fixed size, never objects.
SCALAR_KINDS = "biufSU"


class Storage(NamedTuple):
    """A flat run of numbers in the file: the zip entry that holds it, the type and the number of elements."""

    key: str
    dtype: np.dtype
    size: int


class StoredTensor(NamedTuple):
    """Where a tensor lies in its storage; offset and strides count elements."""

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class RefusedPickleError(Exception):
    """The pickle names something that is not on the list, or is not built as PyTorch builds them."""


def read_pickle(data: bytes) -> Any:
    """The object that the pickle describes, with a `StoredTensor` for every tensor.

    Raises:
      RefusedPickleError: it names anything but `ALLOWED`, or is damaged. Nothing has been called then.
    """
    _check_program(data)
    try:
        return _Unpickler(io.BytesIO(data), encoding="utf-8").load()
    except RefusedPickleError:
        raise
    # A damaged or hostile pickle can fail anywhere in the virtual machine, in any way.
    except Exception as error:
        raise RefusedPickleError(f"the pickle in it is damaged ({type(error).__name__}: {error})") from None


def write_pickle(value: Any, store: Callable[[np.ndarray], Storage]) -> bytes:
    """A pickle of `value` as `torch.save` would write it.

    Args:
      value: dicts, lists and tuples of strings, numbers, None and NumPy arrays, which become tensors.
      store: puts an array's numbers into the file and says where.

    Raises:
      TypeError: anything else in `value`.
    """
    return pickle.PROTO + bytes([PROTOCOL]) + _dump(value, store) + pickle.STOP


def _check_program(data: bytes) -> None:
    """Reads the pickle's instructions without following them."""
    refused = []
    try:
        for instruction, argument, _ in pickletools.genops(data):
            if instruction.name in ("GLOBAL", "INST") and tuple(argument.split(" ", 1)) not in ALLOWED:
                refused.append(argument.replace(" ", "."))
            # The virtual machine allocates room up to the highest number.
            if instruction.name in ("PUT", "BINPUT", "LONG_BINPUT") and int(argument) > len(data):
                raise RefusedPickleError(f"the pickle in it claims {int(argument):,} memory slots")
    except (ValueError, struct.error, UnicodeDecodeError) as error:
        raise RefusedPickleError(f"the pickle in it is damaged ({error})") from None
    if refused:
        names = ", ".join(sorted(set(refused)))
        raise RefusedPickleError(f"it would run or build {names}, which no weights need")


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise RefusedPickleError(f"it would run or build {module}.{name}, which no weights need")
        meaning = ALLOWED[module, name]
        return _Callable(meaning) if callable(meaning) else meaning

    def persistent_load(self, pid: Any) -> Storage:
        kind, storage_type, key, _location, size = pid
        if kind != "storage" or not isinstance(storage_type, np.dtype) or not isinstance(key, str) or size < 0:
            raise RefusedPickleError(f"it refers to {pid!r}, which is no storage of numbers")
        return Storage(key, storage_type, int(size))


class _Callable:
    """Something the pickle may call, and may do nothing else with: `BUILD` could set attributes."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable):
        self._function = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    def __setstate__(self, state: Any) -> None:
        raise RefusedPickleError("it tries to change a function")


class _Dict(dict):
    """An ordered dict; PyTorch hangs `_metadata` on a state dict, which is dropped."""

    def __setstate__(self, state: Any) -> None:
        pass


class _ScalarType:
    """A NumPy dtype of numbers or fixed strings, whose byte order comes as a state of its own."""

    def __init__(self, code: str, *_flags: Any):
        self.dtype = np.dtype(code)
        if self.dtype.kind not in SCALAR_KINDS:
            raise RefusedPickleError(f"it holds a NumPy scalar of type {self.dtype}")

    def __setstate__(self, state: tuple) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(kind: _ScalarType, data: bytes) -> Any:
    return np.frombuffer(data, kind.dtype, count=1)[0].item()


def _rebuild_tensor(storage, offset, shape, strides, _requires_grad=False, _hooks=None, _metadata=None) -> StoredTensor:
    tensor = StoredTensor(storage, int(offset), tuple(map(int, shape)), tuple(map(int, strides)))
    if not isinstance(storage, Storage) or len(tensor.shape) != len(tensor.strides):
        raise RefusedPickleError("it holds a tensor that is not described as PyTorch does")
    if min((tensor.offset, *tensor.shape, *tensor.strides), default=0) < 0:
        raise RefusedPickleError("it holds a tensor of negative size")
    elements = math.prod(tensor.shape)
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides, strict=True))
    if elements and (elements > storage.size or last >= storage.size):
        raise RefusedPickleError(f"it holds a tensor of shape {tensor.shape} in a storage of {storage.size:,} elements")
    return tensor


def _rebuild_parameter(tensor: StoredTensor, _requires_grad: bool = False, _hooks: Any = None) -> StoredTensor:
    return tensor


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":  # how protocol 2 spells bytes; another name would look for a codec
        raise RefusedPickleError(f"it encodes a string as {encoding!r}")
    return text.encode("latin1")


# Every name that a pickle may use, and what it means here.
ALLOWED = {
    ("collections", "OrderedDict"): _Dict,
    ("collections", "defaultdict"): lambda *_: _Dict(),
    ("builtins", "dict"): dict,
    ("__builtin__", "dict"): dict,
    ("torch", "Size"): tuple,
    ("torch", "device"): lambda *parts: ":".join(map(str, parts)),
    ("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    ("torch._utils", "_rebuild_parameter"): _rebuild_parameter,
    ("_codecs", "encode"): _encode,
    ("numpy", "dtype"): _ScalarType,
    ("numpy.core.multiarray", "scalar"): _scalar,
    ("numpy._core.multiarray", "scalar"): _scalar,
    ("datetime", "datetime"): datetime.datetime,
    **{("torch", name): dtype for name, dtype in STORAGE_DTYPES.items()},
}


def _dump(value: Any, store: Callable[[np.ndarray], Storage]) -> bytes:
    if value is None or isinstance(value, (bool, int, float, str)):
        return pickle.dumps(value, PROTOCOL)[2:-1]  # without the frame of a pickle of its own
    if isinstance(value, dict):
        pairs = b"".join(_dump(key, store) + _dump(item, store) for key, item in value.items())
        return pickle.EMPTY_DICT + pickle.MARK + pairs + pickle.SETITEMS
    if isinstance(value, list):
        return pickle.EMPTY_LIST + pickle.MARK + b"".join(_dump(item, store) for item in value) + pickle.APPENDS
    if isinstance(value, tuple):
        return pickle.MARK + b"".join(_dump(item, store) for item in value) + pickle.TUPLE
    if isinstance(value, np.ndarray):
        return _dump_tensor(store(value), value.shape)
    raise TypeError(f"a {type(value).__name__} cannot be written to a .pt file")


def _dump_tensor(storage: Storage, shape: tuple[int, ...]) -> bytes:
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    reference = (
        pickle.MARK + _dump("storage", _no_store) + _global("torch", STORAGE_NAMES[storage.dtype])
        + _dump(storage.key, _no_store) + _dump("cpu", _no_store) + _dump(storage.size, _no_store)
        + pickle.TUPLE + pickle.BINPERSID
    )  # fmt: skip
    hooks = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    arguments = (
        pickle.MARK + reference + _dump(0, _no_store) + _dump(tuple(shape), _no_store)
        + _dump(tuple(strides), _no_store) + _dump(False, _no_store) + hooks + pickle.TUPLE
    )  # fmt: skip
    return _global("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _no_store(array: np.ndarray) -> Storage:
    raise TypeError("no tensor may stand here")
