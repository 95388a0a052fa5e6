"""Damages files at random: bytes of any, and the structure of the formats that are read here."""

import contextlib
import gzip
import io
import itertools
import json
import pickletools
import struct
import zipfile
from collections.abc import Callable
from random import Random
from typing import Any

import pyarrow

Mutator = Callable[[Random, bytes], bytes]

LARGEST = 1 << 21  # bytes of a mutated file, except for the few that are meant to swell

# Little-endian sizes and counts that readers stumble over.
EDGES = [value.to_bytes(8, "little", signed=value < 0)
         for value in (0, 1, -1, 127, 255, 2**15, 2**16, 2**31 - 1, 2**31, 2**32, 2**62, 2**63 - 1)]  # fmt: skip

# JSON in place of a value, as it stands in the file.
JSON_VALUES = (
    "null", "true", "false", "0", "-1", "1", "2", "3", "1.5", "-0.0", "1e-400", "1e300", "1e999", "NaN", "Infinity",
    "-Infinity", str(2**31), str(2**32), str(2**53 + 1), str(2**62), str(2**63), str(2**64), "1" + "0" * 30,
    "9" * 5000, '""', '"x"', '"1"', '"nan"', r'"\ud83d"', r'"\u0000"', r'"\n\u001b[31m|"', '"../../x"', '"/dev/zero"',
    '"[UNK]"', '"F64"', '"F8_E4M3"', '"' + "a" * 100_000 + '"', "[]", "{}", "[[]]", "[null]", "[1, 2, 3]",
    '["a", "a"]', '{"a": 1}', "[0, 4611686018427387904]", "[" + "1, " * 70 + "1]", "[" * 90 + "]" * 90,
    "[" * 980 + "]" * 980, "[" * 100_000 + "]" * 100_000, '{"a": ' * 5000 + "1" + "}" * 5000,
    "[" + "0, " * 20_000 + "0]",
)  # fmt: skip

ENCODINGS = ("utf-16", "utf-16-le", "utf-8-sig", "utf-32", "latin-1", "cp1252", "utf-7")

TABLE_PIECES = (
    b'"', b'""', b'"""', b",", b"\t", b";", b"\r", b"\n", b"\r\n", b"\n\n", b"\0", b"\\", b"\xef\xbb\xbf", b"\xff",
    b"\xc3", b"\xed\xa0\x80", "\u2028".encode(), "\u0085".encode(), b"\x1b[31m", b"\x0b", b"\x1c", b"'", b"1e300",
    b"9" * 5000, b"nan", b"a" * 200_000, b"," * 20_000, b"\n" * 20_000, b'"\n' * 2000,
)  # fmt: skip

# Pickles that would run something, or grow without bound: put into the stream of a file, or in its place.
PICKLE_PIECES = (
    b"cos\nsystem\n(X\x04\x00\x00\x00truetR", b"cbuiltins\nexec\n(X\x04\x00\x00\x00passtR",
    b"\x8c\x02os\x8c\x06system\x93\x8c\x04true\x85R", b"(X\x04\x00\x00\x00trueios\nsystem\n",
    b"ctorch\nload\n", b"cnumpy\ndtype\n(X\x01\x00\x00\x00OtR",
    b"c_codecs\nencode\n(X\x01\x00\x00\x00aX\x03\x00\x00\x00hextR",
    b"cdatetime\ndatetime\n(K\x01tR", b"ccollections\nOrderedDict\n)R", b"ctorch\nSize\n)R",
    b"]q\x00" + b"".join(b"(h%ch%cl" % (n, n) + b"q%c" % (n + 1) for n in range(60)),
    b")q\x00" + b"".join(b"h%ch%c\x86q%c" % (n, n, n + 1) for n in range(100)),
    b"\x8b\xff\xff\xff\x7f", b"\x8a\xff" + b"\x7f" * 255, b"\x8e\xff\xff\xff\xff\xff\xff\xff\x7f", b"J\xff\xff\xff\x7f",
    b"r\xff\xff\xff\xff", b"h\xff", b"(" * 2000,
    b"]" * 2000, b"\x85" * 5000, b"0", b"1", b"2", b"R", b"b", b"Q", b"s", b"u",
    b"t", b"e", b"a", b"N", b"\x88", b"}", b"K\x00", b"\x81", b"\x92", b"P0\n", b"V\\ud800\n",
    b"I" + b"9" * 5000 + b"\n",
)  # fmt: skip


def mutate(random: Random, data: bytes, format: str) -> bytes:
    """`data`, a file of one of the `FORMATS`, with one to three things wrong."""
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        data = data[:LARGEST]
        mutators = FORMATS[format]
        mutator = random.choices([mutator for mutator, _ in mutators], [weight for _, weight in mutators])[0]
        try:
            data = mutator(random, data)
        except Exception:  # the structure has been lost to the mutation before
            data = change_bytes(random, data)
    return data


def change_bytes(random: Random, data: bytes) -> bytes:
    """Flips, inserts, deletes, repeats, moves or cuts off bytes."""
    start = random.randrange(len(data) + 1)
    length = min(random.choice((1, 1, 2, 4, 8, 64, 1024)), len(data) - start)
    piece, before, after = data[start : start + length], data[:start], data[start + length :]
    match random.randrange(10):
        case 0:
            changed = before + bytes(byte ^ (1 << random.randrange(8)) for byte in piece) + after
        case 1:
            changed = before + random.randbytes(length) + after
        case 2:
            changed = before + random.randbytes(random.choice((1, 2, 8, 100))) + piece + after
        case 3:
            changed = before + after
        case 4:
            changed = before + piece * random.choice((2, 3, 100)) + after
        case 5:
            changed = before
        case 6:
            place = random.randrange(len(before + after) + 1)
            changed = (before + after)[:place] + piece + (before + after)[place:]
        case 7:
            edge = random.choice(EDGES)[: random.choice((1, 2, 4, 8))]
            changed = before + edge + data[start + len(edge) :]
        case 8:
            changed = before + bytes([random.choice((0, 255, 32, 34))]) * length + after
        case _:
            changed = random.choice((b"", after, data + data, b"\0" * len(data), data[::-1]))
    return changed[:LARGEST]


def change_json(random: Random, data: bytes) -> bytes:
    """Puts another value, key, length or encoding somewhere into JSON."""
    content = json.loads(data)
    container, key = random.choice(list(_places(content)))
    raw = {}

    def stand_in() -> str:
        name = f"raw value {len(raw)}"
        raw[json.dumps(name)] = random.choice(JSON_VALUES)
        return name

    match random.randrange(10):
        case 0 | 1 | 2 | 3 | 4:
            container[key] = stand_in()
        case 5:
            del container[key]
        case 6:
            value = container[key]
            container[key] = [value] if random.random() < 0.5 else {str(key): value}
        case 7 if isinstance(container, dict):
            container[random.choice(("x", "", "__class__", str(key).upper(), f"{key}\0"))] = container[key]
        case 7 | 8 if isinstance(container, list):
            container.extend([container[key]] * random.choice((1, 100)))
        case 8:  # the same key twice
            container[key + "raw twice"] = stand_in()
            raw[json.dumps(key + "raw twice")] = json.dumps(key)
        case _:
            text = json.dumps(content, ensure_ascii=False)
            return text.encode(random.choice(ENCODINGS), "replace")
    text = json.dumps(content, ensure_ascii=random.random() < 0.5)
    for name, value in raw.items():
        text = text.replace(name, value)
    return text.encode("utf-8", "surrogatepass")


def change_lines(random: Random, data: bytes) -> bytes:
    """Changes the JSON on one line, or the order, number and ends of the lines."""
    lines = data.split(b"\n")
    place = random.randrange(len(lines))
    match random.randrange(8):
        case 0:
            lines.insert(place, random.choice(JSON_VALUES).encode())
        case 1:
            del lines[place]
        case 2:
            lines += [lines[place]] * min(random.choice((1, 1000)), 1 + LARGEST // (len(lines[place]) + 1))
        case 3:
            random.shuffle(lines)
        case 4:
            return random.choice((b"\r\n", b"\r", b"\n\n", b"", b" ", "\u2028".encode())).join(lines)
        case _:
            lines[place] = change_json(random, lines[place])
    return b"\n".join(lines)


def change_table(random: Random, data: bytes) -> bytes:
    """Puts what separates and quotes, or what nobody expects in a table, where it does not belong."""
    if random.random() < 0.1:
        return data.decode().encode(random.choice(ENCODINGS), "replace")
    if random.random() < 0.2:
        old = random.choice((b",", b"\t", b"\n", b'"'))
        return data.replace(old, random.choice(TABLE_PIECES[:20]), random.choice((1, -1)))
    for _ in range(random.choice((1, 2, 10))):
        place = random.randrange(len(data) + 1)
        data = data[:place] + random.choice(TABLE_PIECES) + data[place:]
    return data


def change_safetensors_header(random: Random, data: bytes) -> bytes:
    """Changes the JSON that describes the tensors."""
    (size,) = struct.unpack("<Q", data[:8])
    header, rest = data[8 : 8 + size], data[8 + size :]
    content = json.loads(header)
    tensor = content[random.choice([name for name in content if name != "__metadata__"])]
    match random.randrange(7):
        case 0:
            others = [], [0], [0, 2**62], [2**64 - 1], [1] * 70, [2**31, 2**33], [-1], [1, 1], tensor["shape"][1:]
            tensor["shape"] = random.choice((*others, [*tensor["shape"], 1], tensor["shape"][::-1]))
        case 1:
            tensor["dtype"] = random.choice(("F64", "F16", "BF16", "I64", "U8", "BOOL", "F8_E4M3", "F4", "C64", "x"))
        case 2:
            begin, end = tensor["data_offsets"]
            tensor["data_offsets"] = random.choice(([end, begin], [begin, end + 1], [0, 0], [0, 2**63], [begin, begin]))
        case 3:
            number = random.choice((1, 100, 20_000))
            empty = {"dtype": "F32", "shape": [0], "data_offsets": [len(rest), len(rest)]}
            content |= {f"extra.{index}": empty for index in range(number)}
        case 4:
            name = random.choice(list(content))
            content[name + random.choice((".x", "\0", "\n", ".weight" * 1000))] = content.pop(name)
        case _:
            return _with_header(change_json(random, header), rest)
    return _with_header(json.dumps(content).encode(), rest)


def change_torch_file(random: Random, data: bytes) -> bytes:
    """Changes the entries of the zip, or the instructions of the pickle in it."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        entries = [(info.filename, archive.read(info)) for info in archive.infolist()]
    place = next(place for place, (name, _) in enumerate(entries) if name.endswith("data.pkl"))
    compression = zipfile.ZIP_STORED
    match random.randrange(8):
        case 0:
            name, content = random.choice(entries)
            entries.append((random.choice((name, f"../{name}", f"/{name}", f"{name}/x", "x/data.pkl")), content))
        case 1:
            entries.pop(random.randrange(len(entries)))
        case 2:
            index = random.randrange(len(entries))
            entries[index] = (entries[index][0], change_bytes(random, entries[index][1]))
        case 3:
            compression = random.choice((zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
        case _:
            entries[place] = (entries[place][0], change_pickle(random, entries[place][1]))
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", compression) as archive, contextlib.suppress(UserWarning):
        for name, content in entries:
            archive.writestr(name, content)
    return packed.getvalue()


def change_pickle(random: Random, data: bytes) -> bytes:
    """Deletes, repeats, exchanges or adds instructions."""
    starts = [position for _, _, position in pickletools.genops(data)] + [len(data)]
    pieces = [data[start:end] for start, end in itertools.pairwise(starts)]
    for _ in range(random.choice((1, 1, 2, 5))):
        place, other = random.randrange(len(pieces)), random.randrange(len(pieces))
        match random.randrange(6):
            case 0:
                del pieces[place : place + random.choice((1, 1, 5))]
            case 1:
                pieces[place:place] = pieces[place : place + random.choice((1, 1, 5, 50))]
            case 2:
                pieces[place], pieces[other] = pieces[other], pieces[place]
            case 3:
                opcode, argument = pieces[place][:1], pieces[place][1:]
                pieces[place] = opcode + change_bytes(random, argument)
            case _:
                pieces.insert(place, random.choice(PICKLE_PIECES))
        pieces = pieces or [b"N"]
    return b"".join(pieces)


def change_zip_directory(random: Random, data: bytes) -> bytes:
    """Changes bytes where a zip says what it holds: at its end, or where an entry begins."""
    start = random.choice((data.rindex(b"PK\x05\x06"), data.index(b"PK\x01\x02"), 0))
    end = min(len(data), start + random.choice((30, 60, 400)))
    return data[:start] + change_bytes(random, data[start:end]) + data[end:]


def change_parquet_footer(random: Random, data: bytes) -> bytes:
    """Changes bytes in what describes a Parquet file, of which the length stands at its end."""
    (size,) = struct.unpack("<I", data[-8:-4])
    start = len(data) - 8 - size
    return data[:start] + change_bytes(random, data[start:-8]) + data[-8:]


def within_gzip(mutator: Mutator) -> Mutator:
    """The same on what is packed."""
    return lambda random, data: gzip.compress(mutator(random, gzip.open(io.BytesIO(data)).read(LARGEST)), 1)


def within_zstd(mutator: Mutator) -> Mutator:
    """The same on what is packed."""

    def change(random: Random, data: bytes) -> bytes:
        content = pyarrow.CompressedInputStream(io.BytesIO(data), "zstd").read(LARGEST)
        return pyarrow.compress(mutator(random, content), codec="zstd", asbytes=True)

    return change


def change_gzip_members(random: Random, data: bytes) -> bytes:
    """Puts pieces together that are gzip files each, one of them much larger than it looks."""
    filler = random.choice((b"\0", b"\n", b"a", b'"', b","))
    member = gzip.compress(filler * (1 << 24), 1)
    return random.choice((data + data, data + member * 4, member * 16, data + b"\0" * 100, data + b"x", data[:-4]))


def _with_header(header: bytes, rest: bytes) -> bytes:
    return struct.pack("<Q", len(header)) + header + rest


def _places(content: Any) -> Any:
    """All (container, key or index) of parsed JSON."""
    for key, value in list(content.items() if isinstance(content, dict) else enumerate(content)):
        yield content, key
        if isinstance(value, (dict, list)):
            yield from _places(value)


# What is done to the files of a format, and how often in proportion.
FORMATS: dict[str, tuple[tuple[Mutator, float], ...]] = {
    "json": ((change_json, 3), (change_bytes, 1)),
    "jsonl": ((change_lines, 3), (change_bytes, 1)),
    "table": ((change_table, 2), (change_bytes, 1)),
    "text": ((change_table, 1), (change_bytes, 1)),
    "parquet": ((change_parquet_footer, 2), (change_bytes, 1)),
    "safetensors": ((change_safetensors_header, 3), (change_bytes, 1)),
    "torch": ((change_torch_file, 3), (change_zip_directory, 1), (change_bytes, 1)),
    "zip": ((change_zip_directory, 1), (change_bytes, 1)),
    "table.gz": ((within_gzip(change_table), 2), (change_bytes, 1), (change_gzip_members, 0.05)),
    "jsonl.gz": ((within_gzip(change_lines), 2), (change_bytes, 1), (change_gzip_members, 0.05)),
    "table.zst": ((within_zstd(change_table), 2), (change_bytes, 1)),
    "parquet.gz": ((within_gzip(change_parquet_footer), 2), (change_bytes, 1), (change_gzip_members, 0.05)),
}
