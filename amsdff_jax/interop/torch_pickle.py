"""The pickle inside a `.pt` file, read and written without PyTorch and without running anything in it.

A pickle is a program: it names functions and calls them. `read_pickle` follows the few instructions
that `torch.save` writes, in which a name stands for nothing but what `FUNCTIONS` says, and what a
call makes is a description (`StoredTensor`), not a tensor.
"""

import datetime
import math
import pickle
import pickletools
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

LARGEST_SIZE, MOST_DIMENSIONS = 2**40, 32


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


class Name(NamedTuple):
    """What the pickle calls a function or a type: two words, which nobody looks up."""

    module: str
    name: str


def read_pickle(data: bytes) -> Any:
    """The object that the pickle describes, with a `StoredTensor` for every tensor.

    Raises:
      RefusedPickleError: it names anything but the `KNOWN`, uses an instruction that `torch.save`
        does not, or is damaged.
    """
    try:
        _refuse_unknown_names(data)
        return _Interpreter().run(data)
    except RefusedPickleError:
        raise
    except Exception as error:  # a damaged pickle can be wrong in any way, at any instruction
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


def _refuse_unknown_names(data: bytes) -> None:
    """Names all unexpected at once, before the first instruction is followed."""
    named = {
        Name(*str(argument).split(" ", 1))
        for instruction, argument, _ in pickletools.genops(data)
        if instruction.name in ("GLOBAL", "INST")
    }
    unexpected = sorted(".".join(name) for name in named - KNOWN)
    if unexpected:
        raise RefusedPickleError(f"it would run or build {', '.join(unexpected)}, which no weights need")


class _Interpreter:
    """The pickle machine, as far as `torch.save` uses it: a stack, marks in it, and a memo."""

    def __init__(self):
        self._stack: list[Any] = []
        self._marks: list[int] = []
        self._memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        """Follows all instructions; returns what is left on the stack."""
        for instruction, argument, _ in pickletools.genops(data):
            self._follow(instruction.name, argument)
        (result,) = self._stack
        return result

    def _follow(self, instruction: str, argument: Any) -> None:
        stack, memo = self._stack, self._memo
        match instruction:
            case "PROTO" | "FRAME" | "STOP":
                pass
            case "BININT" | "BININT1" | "BININT2" | "LONG1" | "BINFLOAT" | "BINBYTES" | "SHORT_BINBYTES":
                stack.append(argument)
            case "BINUNICODE" | "SHORT_BINUNICODE" | "BINUNICODE8":
                stack.append(argument)
            case "NONE" | "NEWTRUE" | "NEWFALSE":
                stack.append({"NONE": None, "NEWTRUE": True, "NEWFALSE": False}[instruction])
            case "EMPTY_DICT" | "EMPTY_LIST" | "EMPTY_TUPLE":
                stack.append({"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}[instruction]())
            case "MARK":
                self._marks.append(len(stack))
            case "TUPLE":
                stack.append(tuple(self._pop_to_mark()))
            case "TUPLE1" | "TUPLE2" | "TUPLE3":
                stack.append(tuple(self._pop(int(instruction[-1]))))
            case "APPEND" | "APPENDS":
                items = self._pop(1) if instruction == "APPEND" else self._pop_to_mark()
                self._top(list).extend(items)
            case "SETITEM" | "SETITEMS":
                items = self._pop(2) if instruction == "SETITEM" else self._pop_to_mark()
                self._set_items(items[::2], items[1::2])
            case "BINPUT" | "LONG_BINPUT":
                memo[argument] = stack[-1]
            case "MEMOIZE":
                memo[len(memo)] = stack[-1]
            case "BINGET" | "LONG_BINGET":
                stack.append(memo[argument])
            case "GLOBAL":
                stack.append(_known(*argument.split(" ", 1)))
            case "STACK_GLOBAL":
                stack.append(_known(*self._pop(2)))
            case "REDUCE":
                function, arguments = self._pop(2)
                if not isinstance(function, Name) or function not in FUNCTIONS:
                    raise RefusedPickleError(f"it calls {_shown(function)}")
                stack.append(FUNCTIONS[function](*arguments))
            case "BUILD":
                (state,) = self._pop(1)
                if isinstance(stack[-1], _ScalarType):
                    stack[-1].set_byte_order(state)
                elif not isinstance(stack[-1], dict):  # the `_metadata` that PyTorch hangs on a state dict is dropped
                    raise RefusedPickleError(f"it sets attributes of {_shown(stack[-1])}")
            case "BINPERSID":
                stack.append(_storage(*self._pop(1)[0]))
            case _:
                raise RefusedPickleError(f"it uses the instruction {instruction}, which no weights need")

    def _pop(self, number: int) -> list[Any]:
        if len(self._stack) - (self._marks[-1] if self._marks else 0) < number:
            raise RefusedPickleError("the pickle in it is damaged (an instruction finds too little on the stack)")
        items = self._stack[-number:]
        del self._stack[-number:]
        return items

    def _pop_to_mark(self) -> list[Any]:
        mark = self._marks.pop()
        items = self._stack[mark:]
        del self._stack[mark:]
        return items

    def _top(self, kind: type) -> Any:
        if type(self._stack[-1]) is not kind:
            raise RefusedPickleError(f"it adds to a {type(self._stack[-1]).__name__} as if it were a {kind.__name__}")
        return self._stack[-1]

    def _set_items(self, keys: list[Any], values: list[Any]) -> None:
        for key in keys:
            # Nested tuples, for one, can take for ever to hash.
            if not isinstance(key, (str, int, float)):
                raise RefusedPickleError(f"it has a dict with a {type(key).__name__} for a key")
        self._top(dict).update(zip(keys, values, strict=True))


def _shown(value: Any) -> str:
    """A name or a string, or the type of anything else: nested references can take for ever to write out."""
    if isinstance(value, Name):
        return ".".join(value)
    return repr(value[:40]) if isinstance(value, str) else f"a {type(value).__name__}"


def _known(module: Any, name: Any) -> Name | str:
    found = Name(module, name)
    if not isinstance(module, str) or not isinstance(name, str) or found not in KNOWN:
        named = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else _shown(module)
        raise RefusedPickleError(f"it would run or build {named}, which no weights need")
    return f"torch.{name}" if found in DTYPE_NAMES else found


def _storage(kind: Any, storage_type: Any, key: Any, _location: Any, size: Any) -> Storage:
    fits = kind == "storage" and isinstance(storage_type, Name) and storage_type.name in STORAGE_DTYPES
    if not (fits and isinstance(key, str) and type(size) is int and size >= 0):
        raise RefusedPickleError("it refers to something that is no storage of numbers")
    return Storage(key, STORAGE_DTYPES[storage_type.name], size)


class _ScalarType:
    """A NumPy dtype of numbers or fixed strings, whose byte order comes as a state of its own."""

    def __init__(self, code: Any, *_flags: Any):
        self.dtype = np.dtype(code) if isinstance(code, str) else np.dtype(object)
        if self.dtype.kind not in SCALAR_KINDS:
            raise RefusedPickleError(f"it holds a NumPy scalar of type {self.dtype}")

    def set_byte_order(self, state: Any) -> None:
        self.dtype = self.dtype.newbyteorder(state[1])


def _scalar(kind: Any, data: Any) -> Any:
    if not isinstance(kind, _ScalarType):
        raise RefusedPickleError("it holds a NumPy scalar without a type")
    return np.frombuffer(data, kind.dtype, count=1)[0].item()


def _rebuild_tensor(storage, offset, shape, strides, _requires_grad=False, _hooks=None, _metadata=None) -> StoredTensor:
    numbers = (offset, *shape, *strides)
    if not isinstance(storage, Storage) or len(shape) != len(strides) or not all(type(n) is int for n in numbers):
        raise RefusedPickleError("it holds a tensor that is not described as PyTorch does")
    if min(numbers) < 0 or max((0, *shape)) > LARGEST_SIZE or len(shape) > MOST_DIMENSIONS:
        raise RefusedPickleError(f"it holds a tensor of shape {tuple(shape)!r:.200}")
    elements = math.prod(shape)
    # Along an axis of a single number (or none) a stride says nothing.
    strides = tuple(stride if size > 1 and elements else 0 for size, stride in zip(shape, strides, strict=True))
    last = offset + sum((size - 1) * stride for size, stride in zip(shape, strides, strict=True))
    if elements and (elements > storage.size or last >= storage.size):
        raise RefusedPickleError(f"it holds a tensor of shape {tuple(shape)} in a storage of {storage.size:,} elements")
    return StoredTensor(storage, offset if elements else 0, tuple(shape), strides)


def _encode(text: str, encoding: str) -> bytes:
    if encoding != "latin1":  # how protocol 2 spells bytes; another name would look for a codec
        raise RefusedPickleError(f"it encodes a string as {_shown(encoding)}")
    return text.encode("latin1")


# Every function that a pickle may call, and what the call means here.
FUNCTIONS: dict[Name, Callable] = {
    Name("collections", "OrderedDict"): lambda *_: {},
    Name("collections", "defaultdict"): lambda *_: {},
    Name("torch", "Size"): lambda values=(): tuple(values),
    Name("torch", "device"): lambda *parts: ":".join(str(part) for part in parts if isinstance(part, (str, int))),
    Name("torch._utils", "_rebuild_tensor_v2"): _rebuild_tensor,
    Name("torch._utils", "_rebuild_parameter"): lambda tensor, _requires_grad=False, _hooks=None: tensor,
    Name("_codecs", "encode"): _encode,
    Name("numpy", "dtype"): _ScalarType,
    Name("numpy.core.multiarray", "scalar"): _scalar,
    Name("numpy._core.multiarray", "scalar"): _scalar,
    Name("datetime", "datetime"): datetime.datetime,
}
DTYPE_NAMES = {Name("torch", name) for name in ("float32", "float64", "float16", "bfloat16", "int64", "int32", "bool")}
DICTIONARIES = {Name("builtins", "dict"), Name("__builtin__", "dict")}
KNOWN = {*FUNCTIONS, *DTYPE_NAMES, *DICTIONARIES, *(Name("torch", name) for name in STORAGE_DTYPES)}


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
    kind = _global("torch", STORAGE_NAMES[storage.dtype])
    place = [_dump(part, _no_store) for part in (storage.key, "cpu", storage.size)]
    reference = b"".join([pickle.MARK, _dump("storage", _no_store), kind, *place, pickle.TUPLE, pickle.BINPERSID])
    hooks = _global("collections", "OrderedDict") + pickle.EMPTY_TUPLE + pickle.REDUCE
    layout = [_dump(part, _no_store) for part in (0, tuple(shape), tuple(strides), False)]
    arguments = b"".join([pickle.MARK, reference, *layout, hooks, pickle.TUPLE])
    return _global("torch._utils", "_rebuild_tensor_v2") + arguments + pickle.REDUCE


def _global(module: str, name: str) -> bytes:
    return pickle.GLOBAL + f"{module}\n{name}\n".encode()


def _no_store(array: np.ndarray) -> Storage:
    raise TypeError("no tensor may stand here")
