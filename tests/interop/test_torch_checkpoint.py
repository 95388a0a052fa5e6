"""`.pt` files without PyTorch: the same numbers both ways, and nothing that is in a file is ever run."""

import collections
import contextlib
import io
import os
import pickle
import struct
import zipfile

import ml_dtypes
import numpy as np
import pytest

from amsdff_jax import UserError
from amsdff_jax.interop.torch_checkpoint import read_torch_file, write_torch_file


def test_reads_what_pytorch_saved(torch, tmp_path):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "float": base, "transposed": base.T, "slice": base[1:3, ::2], "scalar": torch.tensor(7),
        "half": base.half(), "double": base.double(), "bfloat16": base.bfloat16(), "int": base.int(),
        "short": base.short(), "char": base.to(torch.int8), "byte": base.byte(), "bool": base > 7,
        "empty": torch.zeros(0, 3), "parameter": torch.nn.Parameter(base + 1),
    }  # fmt: skip
    extras = {"epoch": 3, "accuracy": np.float64(0.5), "name": "a ü", "list": [1, None, (True, 2.5)], "big": 2**70}
    torch.save({"tensors": collections.OrderedDict(tensors), **extras}, tmp_path / "saved.pt")
    read = read_torch_file(tmp_path / "saved.pt")
    for name, tensor in tensors.items():
        array = read["tensors"][name]
        expected = tensor.detach()
        assert array.shape == tuple(expected.shape), name
        if name == "bfloat16":
            assert array.dtype == ml_dtypes.bfloat16
            array, expected = array.astype(np.float32), expected.float()
        assert array.dtype == expected.numpy().dtype, name
        np.testing.assert_array_equal(array, expected.numpy(), err_msg=name)
    assert np.shares_memory(read["tensors"]["float"], read["tensors"]["slice"])
    assert {name: read[name] for name in extras} == extras


def test_what_was_saved_on_a_gpu_is_read(torch, tmp_path):
    torch.save({"w": torch.arange(3.0)}, tmp_path / "cpu.pt")
    with zipfile.ZipFile(tmp_path / "cpu.pt") as archive:
        entries = {name.split("/", 1)[1]: archive.read(name) for name in archive.namelist()}
    pickled = entries["data.pkl"].replace(b"X\x03\x00\x00\x00cpu", b"X\x06\x00\x00\x00cuda:1")
    assert pickled != entries["data.pkl"]
    file = write_zip(tmp_path / "cuda.pt", pickled, **{"0": entries["data/0"]})
    assert read_torch_file(file)["w"].tolist() == [0, 1, 2]


def test_pytorch_reads_what_is_written_safely(torch, tmp_path):
    arrays = {
        "matrix": np.arange(6, dtype=np.float32).reshape(2, 3).T, "scalar": np.array(5), "half": np.ones(2, np.float16),
        "short": np.ones((2, 2), ml_dtypes.bfloat16), "bool": np.array([True, False]), "empty": np.zeros((0, 4)),
    }  # fmt: skip
    extras = {"step": 3, "rate": 1e-3, "flag": True, "none": None, "names": ["a", "ü"], "betas": (0.9, 0.999), 7: {}}
    write_torch_file(tmp_path / "written.pt", {"arrays": arrays, **extras})
    loaded = torch.load(tmp_path / "written.pt", weights_only=True)
    for name, array in arrays.items():
        np.testing.assert_array_equal(loaded["arrays"][name].float(), array.astype(np.float32), err_msg=name)
        assert str(loaded["arrays"][name].dtype).removeprefix("torch.") == array.dtype.name, name
    assert {name: loaded[name] for name in extras} == extras
    read = read_torch_file(tmp_path / "written.pt")
    for name, array in arrays.items():
        np.testing.assert_array_equal(read["arrays"][name], array, err_msg=name)
    assert [path.name for path in tmp_path.iterdir()] == ["written.pt"]


def write_zip(path, pickled: bytes, **entries: bytes):
    """A `.pt` file with this pickle, and entries of its own."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", pickled)
        for name, content in entries.items():
            archive.writestr(f"x/data/{name}", content)
    return path


class RunsCode:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def tensor_pickle(shape: tuple, strides: tuple, size: int) -> bytes:
    """A pickle of one tensor over storage `0`, of any claims."""
    number = lambda value: pickle.dumps(value, 2)[2:-1]  # noqa: E731
    storage = b"(" + number("storage") + b"ctorch\nFloatStorage\n" + number("0") + number("cpu") + number(size) + b"tQ"
    call = b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + number(0) + number(shape) + number(strides)
    return b"\x80\x02}" + number("w") + call + b"\x89)tRs."


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("function", [os.system, eval, exec, __import__, getattr])
def test_code_is_refused_by_name_and_never_run(function, protocol, tmp_path):
    planted = tmp_path / "planted"
    commands = {
        os.system: f"touch {planted}",
        eval: f"open({str(planted)!r}, 'w')",
        exec: f"open({str(planted)!r}, 'w')",
    }
    arguments = [commands.get(function, "os")] + (["system"] if function is getattr else [])
    content = {"weights": np.float64(1), "boom": RunsCode(function, *arguments)}
    file = write_zip(tmp_path / "evil.pt", pickle.dumps(content, protocol))
    with pytest.raises(UserError) as caught:
        read_torch_file(file)
    name = f"{function.__module__}.{function.__name__}"
    assert name in str(caught.value).replace("__builtin__", "builtins")  # protocol 2 keeps Python 2's name
    assert "nothing in it was run" in str(caught.value)
    assert not planted.exists()


def test_all_refused_names_come_in_one_message(tmp_path):
    content = [RunsCode(os.system, "true"), RunsCode(eval, "1")]
    file = write_zip(tmp_path / "evil.pt", pickle.dumps(content, 2))
    with pytest.raises(UserError, match=r"__builtin__\.eval, posix\.system"):
        read_torch_file(file)


ENDLESS = b")" + b"".join(b"q%ch%c\x86" % (n, n) for n in range(60))  # what would take for ever to write out

HOSTILE = {
    "a tensor larger than its storage": (tensor_pickle((2**40,), (1,), 4), "in a storage of 4 elements"),
    "a terabyte by strides of 0": (tensor_pickle((2**38,), (0,), 4), "in a storage of 4 elements"),
    "a storage of a terabyte": (tensor_pickle((2,), (1,), 2**38), "claims 274,877,906,944 elements"),
    "a negative size": (tensor_pickle((-1,), (1,), 4), r"a tensor of shape \(-1,\)"),
    "attributes on a function": (
        b"\x80\x02ctorch._utils\n_rebuild_tensor_v2\n}X\x01\x00\x00\x00aK\x01sb.", "sets attributes of torch._utils"
    ),
    "a codec to be looked up": (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00aX\x05\x00\x00\x00rot13\x86R.", "rot13"),
    "an object array": (b"\x80\x02cnumpy\ndtype\nX\x02\x00\x00\x00O8\x85R.", "NumPy scalar of type object"),
    "a pickle that ends early": (b"\x80\x02}q\x00(X\x04", "damaged"),
    "a key that takes for ever to hash": (
        b"\x80\x02}" + ENDLESS + b"Ns.", "tuple for a key"
    ),
    "attributes on what is endless": (b"\x80\x02" + ENDLESS + b"Nb.", "attributes of a tuple"),
    "a call of what is endless": (b"\x80\x02" + ENDLESS + b")R.", "calls a tuple"),
    "a codec that is endless": (b"\x80\x02c_codecs\nencode\nX\x01\x00\x00\x00a" + ENDLESS + b"\x86R.", "as a tuple"),
    "a name that is endless": (b"\x80\x04" + ENDLESS + b"X\x01\x00\x00\x00a\x93.", "build a tuple"),
    "sizes beyond an array's": (tensor_pickle((0, 2**70), (1, 1), 4), "a tensor of shape"),
    "a set": (b"\x80\x04\x8f.", "instruction EMPTY_SET"),
    "a number of a million digits": (b"\x80\x02\x8b\xff\xff\x00\x00" + b"\x01" * 65535 + b".", "instruction LONG4"),
    "no pickle": (b"hello", "damaged"),
    "nesting without end": (b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".", "nested too deeply"),
}  # fmt: skip


@pytest.mark.parametrize("case", HOSTILE)
def test_hostile_pickles_are_refused(case, tmp_path):
    pickled, message = HOSTILE[case]
    file = write_zip(tmp_path / "evil.pt", pickled, **{"0": bytes(16)})
    with pytest.raises(UserError, match=message) as caught:
        read_torch_file(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)


def test_references_that_double_take_no_room(tmp_path):
    value = []
    for _ in range(60):
        value = [value, value]
    read = read_torch_file(write_zip(tmp_path / "bomb.pt", pickle.dumps(value, 2)))
    assert read[0] is read[1]


def test_a_slot_number_of_four_billion_takes_no_room(tmp_path):
    assert read_torch_file(write_zip(tmp_path / "slot.pt", b"\x80\x02}r\xff\xff\xff\xff.")) == {}


def test_empty_and_single_tensors_may_have_any_stride(tmp_path):
    for shape, strides in [((1,), (2**70,)), ((0, 3), (2**70, 1))]:
        file = write_zip(tmp_path / "odd.pt", tensor_pickle(shape, strides, 4), **{"0": bytes(16)})
        assert read_torch_file(file)["w"].shape == shape


def test_a_bare_storage_is_refused(torch, tmp_path):
    torch.save({"s": torch.ones(3).storage()}, tmp_path / "storage.pt")
    with pytest.raises(UserError, match="refused"):
        read_torch_file(tmp_path / "storage.pt")


def saved(tmp_path):
    write_torch_file(tmp_path / "good.pt", {"w": np.arange(300, dtype=np.float32)})
    return (tmp_path / "good.pt").read_bytes()


def truncated(tmp_path):
    return saved(tmp_path)[:-200]


def old_format(tmp_path):
    torch = pytest.importorskip("torch", reason="needs PyTorch")
    stream = io.BytesIO()
    torch.save({"w": torch.ones(3)}, stream, _use_new_zipfile_serialization=False)
    return stream.getvalue()


def climbing(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x/data.pkl", pickle.dumps({}, 2))
        archive.writestr("../../climbed", b"out")
    return stream.getvalue()


def compressed(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", pickle.dumps({}, 2))
        archive.writestr("x/data/0", bytes(10**6))
    return stream.getvalue()


def terabyte(tmp_path):
    content = saved(tmp_path)
    start = content.rindex(b"PK\x01\x02", 0, content.index(b"good/data/0", content.index(b"PK\x01\x02")))
    sizes = struct.pack("<II", 2**32 - 2, 2**32 - 2)
    return content[: start + 20] + sizes + content[start + 28 :]


def other_zip(tmp_path):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("notes.txt", b"hello")
    return stream.getvalue()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (truncated, "truncated or damaged"),
        (old_format, "format of PyTorch before 1.6"),
        (climbing, "climbs out of the archive"),
        (compressed, "is compressed"),
        (terabyte, "claims 4,294,967,294 bytes, more than the file holds"),
        (other_zip, "not one of PyTorch's"),
        (lambda _: b"text,label\n", "not a .pt file"),
        (lambda _: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "fetch them with `git lfs pull`"),
        (lambda _: b"", "not a .pt file"),
    ],
)
def test_other_and_damaged_files_are_named(make, message, tmp_path):
    file = tmp_path / "bad.pt"
    file.write_bytes(make(tmp_path))
    before = sorted(path.name for path in tmp_path.rglob("*"))
    with pytest.raises(UserError, match=message) as caught:
        read_torch_file(file)
    assert str(caught.value).startswith(f"{file}: ")
    assert "\n" not in str(caught.value)
    assert sorted(path.name for path in tmp_path.rglob("*")) == before


def test_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.pt: cannot be read \(No such file"):
        read_torch_file(tmp_path / "none.pt")


def test_only_regular_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.pt")
    for file in (tmp_path / "pipe.pt", tmp_path):
        with pytest.raises(UserError, match=r"cannot be read \(it is"):
            read_torch_file(file)


def test_whatever_zipfile_raises_is_one_line(tmp_path):
    content = bytearray(saved(tmp_path))
    random = np.random.default_rng(0)
    directory = content.index(b"PK\x01\x02")
    for _ in range(200):  # in the directory, and in the numbers that say where things are
        changed = content.copy()
        for place in random.integers(directory, len(content), 3):
            changed[place : place + 4] = bytes([random.choice([0, 1, 127, 255])]) * 4
        (tmp_path / "mutated.pt").write_bytes(changed)
        with contextlib.suppress(UserError):
            read_torch_file(tmp_path / "mutated.pt")
