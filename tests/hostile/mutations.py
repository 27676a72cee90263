"""Small damages of bytes, and of what formats are made of; each is a function of a random generator and the input."""

import copy
import gzip
import hashlib
import io
import json
import pickletools
import re
import string
import struct
import warnings
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

Mutation = Callable[[Random, bytes], bytes]

LONGEST = 2**16
"""Bytes of an input: what grows beyond is cut."""

INTEGERS = [0, 1, 2, 3, 7, 8, 16, 63, 64, 100, 127, 128, 255, 256, 1000, 2**15 - 1, 2**15, 2**16 - 1, 2**16, 2**24]
INTEGERS += [2**31 - 1, 2**31, 2**32 - 1, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1]
PIECES = [
    b"\0",
    b"\xff",
    b"\n",
    b"\x1b[31m",
    b"\x1f\x8b\x08",
    b"PK\x03\x04",
    b"PK\x01\x02",
    b"\x93NUMPY",
    b"[",
    b"{",
    b"(",
]
PIECES += [
    b"'",
    b'"',
    b".",
    b"-",
    b"nan",
    b"inf",
    b"1e999",
    b"\\u0000",
    b"\xed\xa0\x80",
    b"../",
    b"\x80\x02",
    b"None",
    b"True",
]
VALUES: list[Any] = [
    None,
    True,
    False,
    -1,
    0.5,
    1e308,
    float("nan"),
    "",
    "x",
    "\x1b[31m",
    "\ud800",
    "../x",
    [],
    {},
    [[]],
]
VALUES += [{"a": 1}, "F64", "BF16", "float64", "sigmoid", "linear", "batch", "layer", "9" * 5000, "a" * 300]


# Bytes


def flip_bit(rng: Random, raw: bytes) -> bytes:
    place = rng.randrange(len(raw))
    return _replaced(raw, place, 1, bytes([raw[place] ^ 1 << rng.randrange(8)]))


def set_byte(rng: Random, raw: bytes) -> bytes:
    return _replaced(raw, rng.randrange(len(raw)), 1, rng.randbytes(1))


def set_integer(rng: Random, raw: bytes) -> bytes:
    width = rng.choice((1, 2, 4, 8))
    value = (rng.choice(INTEGERS) * rng.choice((1, -1))) % 2 ** (8 * width)
    return _replaced(raw, rng.randrange(len(raw)), width, value.to_bytes(width, rng.choice(("little", "big"))))


def truncate(rng: Random, raw: bytes) -> bytes:
    return raw[: rng.randrange(len(raw))]


def insert(rng: Random, raw: bytes) -> bytes:
    piece = rng.choice(
        (rng.choice(PIECES), rng.randbytes(rng.randrange(1, 9)), rng.choice(PIECES) * rng.randrange(1, 400))
    )
    return _replaced(raw, rng.randrange(len(raw) + 1), 0, piece)


def delete(rng: Random, raw: bytes) -> bytes:
    return _replaced(raw, rng.randrange(len(raw)), rng.randrange(1, 17), b"")


def duplicate(rng: Random, raw: bytes) -> bytes:
    start = rng.randrange(len(raw))
    return _replaced(raw, rng.randrange(len(raw)), 0, raw[start : start + rng.randrange(1, 65)] * rng.randrange(1, 4))


def set_digits(rng: Random, raw: bytes) -> bytes:
    """Writes another number where one is written in digits."""
    numbers = list(re.finditer(rb"\d+", raw))
    if not numbers:
        return set_byte(rng, raw)
    number = rng.choice(numbers)
    return _replaced(raw, number.start(), len(number[0]), str(rng.choice(INTEGERS)).encode())


BYTES: tuple[Mutation, ...] = (flip_bit, set_byte, set_integer, truncate, insert, delete, duplicate, set_digits)


def splice(rng: Random, raw: bytes, other: bytes) -> bytes:
    """The beginning of one input and the end of another."""
    return raw[: rng.randrange(len(raw) + 1)] + other[rng.randrange(len(other) + 1) :]


def damaged(rng: Random, raw: bytes) -> bytes:
    """The bytes with one small damage."""
    return rng.choice(BYTES)(rng, raw or b"\0")[:LONGEST]


def _replaced(raw: bytes, start: int, length: int, piece: bytes) -> bytes:
    return raw[:start] + piece + raw[start + length :]


# Formats: what is packed is unpacked, damaged and packed anew, with the right lengths and checksums


def repack_gzip(rng: Random, raw: bytes) -> bytes:
    """Damages what a gzip holds, or packs what is not packed."""
    try:
        inner = zlib.decompressobj(31).decompress(raw, LONGEST)
    except zlib.error:
        return gzip.compress(raw, 1, mtime=0)
    packed = gzip.compress(damaged(rng, inner), rng.choice((0, 1)), mtime=0)
    return packed + rng.choice((b"", b"", packed, b"\0" * 9, gzip.compress(b"", mtime=0) * 50))


PACKINGS = [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED] * 20 + [zipfile.ZIP_BZIP2]


def rezip(rng: Random, raw: bytes) -> bytes:
    """Damages a member of an archive, its name or its way of packing; or doubles it, or leaves it out."""
    try:
        with zipfile.ZipFile(io.BytesIO(raw)) as archive:
            members = [(info.filename, _content(archive, info)) for info in archive.infolist()[:20]]
    except Exception:  # a damaged archive raises nearly anything
        return damaged(rng, raw)
    if not members:
        return damaged(rng, raw)
    place = rng.randrange(len(members))
    name, content = members[place]
    step = rng.randrange(8)
    if step == 0:
        del members[place]
    elif step == 1:
        members.append((rng.choice((name, name.upper(), "../" + name, "/" + name)), content))
    elif step == 2:
        members[place] = (members[rng.randrange(len(members))][0], content)
    elif step == 3:
        members[place] = (name, members[rng.randrange(len(members))][1])
    else:
        members[place] = (name, (npy_header if step < 6 else damaged)(rng, content))
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that occur twice are meant
        for name, content in members:
            info = zipfile.ZipInfo(name or "x")
            info.compress_type = rng.choice(PACKINGS)
            archive.writestr(info, content)
    return stream.getvalue()


def _content(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    with archive.open(info) as stream:
        return stream.read(LONGEST)


DESCRIPTIONS = [
    "'<f8'",
    "'>f4'",
    "'|u1'",
    "'|b1'",
    "'<i8'",
    "'<U3'",
    "'|S2'",
    "'|O'",
    "'<c16'",
    "'<M8[s]'",
    "'<f2'",
    "'<f16'",
]
DESCRIPTIONS += [
    "'|V4'",
    "[('a', '<f8')]",
    "('<f8', (2,))",
    "'<U0'",
    "'<U999999999'",
    "'x\\d'",
    "None",
    "(" * 200 + ")" * 200,
]


def npy_header(rng: Random, raw: bytes) -> bytes:
    """Damages the header of an .npy file, and writes its right length."""
    version = raw[6:7] if raw[6:7] in (b"\1", b"\2") else b"\1"
    form = "<H" if version == b"\1" else "<I"
    start = 8 + struct.calcsize(form)
    if len(raw) < start:
        return damaged(rng, raw)
    (length,) = struct.unpack_from(form, raw, 8)
    header, body = raw[start : start + length], raw[start + length :]
    if rng.random() < 0.4:
        header = re.sub(
            rb"'descr': '[^']*'", lambda _: b"'descr': " + rng.choice(DESCRIPTIONS).encode(), header, count=1
        )
    else:
        header = rng.choice((set_digits, damaged))(rng, header or b" ")
    form = rng.choice(("<H", "<H", "<I"))
    version = b"\1" if form == "<H" else b"\2"
    length = len(header) if rng.random() < 0.9 else rng.choice(INTEGERS)
    return b"\x93NUMPY" + version + b"\0" + struct.pack(form, length % 2 ** (8 * struct.calcsize(form))) + header + body


OPCODES = [opcode.code.encode("latin-1") for opcode in pickletools.opcodes]
ARGUMENTS = [
    b"",
    b"\0",
    b"\1",
    b"\x03abc",
    b"\xff\xff\xff\x7f",
    b"os\nsystem\n",
    b"numpy\ndtype\n",
    b"1\n",
    b"\x01\0\0\0a",
    b"9" * 5000 + b"\n",
]


def pickle_opcodes(rng: Random, raw: bytes) -> bytes:
    """Takes out, doubles, moves or adds opcodes of a pickle."""
    places = []
    try:
        places.extend(place for _, _, place in pickletools.genops(raw) if place is not None)
    except Exception:  # what can be told apart until then is enough
        if len(places) < 3:
            return damaged(rng, raw)
    first, last = sorted(rng.choice(places) for _ in range(2))
    last = min(last, first + 200)
    there, piece = rng.choice(places), raw[first:last]
    new = rng.choice(OPCODES) + rng.choice(ARGUMENTS)
    return rng.choice(
        (
            _replaced(raw, first, last - first, b""),
            _replaced(raw, there, 0, piece),
            _replaced(raw, there, 0, new),
            _replaced(raw, first, 1, rng.choice(OPCODES)),
            _replaced(raw, there, 0, new * rng.randrange(1, 50)),
        )
    )


def tensors_header(rng: Random, raw: bytes) -> bytes:
    """Damages the description of tensors in a safetensors file, and writes its right length and checksum."""
    length = int.from_bytes(raw[:8], "little")
    try:
        header = json.loads(raw[8 : 8 + length])
        metadata = header.get("__metadata__")
        step = rng.random()
        if step < 0.5:
            metadata["xpnet"] = json.dumps(_changed(rng, json.loads(metadata["xpnet"])))
        elif step < 0.9:
            header = _changed(rng, header)
        text = json.dumps(header, separators=(",", ":")).encode()
    except (ValueError, AttributeError, KeyError, TypeError, RecursionError):
        return damaged(rng, raw)
    text = damaged(rng, text) if rng.random() < 0.1 else text
    body = raw[8 + length :]
    body = rng.choice((flip_bit, set_byte, set_integer, damaged))(rng, body or b"\0") if rng.random() < 0.2 else body
    return checksummed(len(text).to_bytes(8, "little") + text + body)


def checksummed(raw: bytes) -> bytes:
    """A checkpoint with the checksum that it has to have; other files as they are."""
    found = re.search(rb'"sha256":"([0-9a-f]{64})"', raw)
    if not found:
        return raw
    start = found.start(1)
    return _replaced(raw, start, 64, hashlib.sha256(_replaced(raw, start, 64, b"0" * 64)).hexdigest().encode())


def _changed(rng: Random, tree: Any) -> Any:
    """The tree with another value, another key or one fewer somewhere."""
    tree = copy.deepcopy(tree)
    inner = [node for node in _nodes(tree) if node]
    if not inner:
        return rng.choice(VALUES)
    node = rng.choice(inner)
    key = rng.choice(list(node)) if isinstance(node, dict) else rng.randrange(len(node))
    step = rng.randrange(6)
    if step == 0:
        del node[key]
    elif step == 1 and isinstance(node, dict):
        node[rng.choice((*node, "x", "w3", "", "\x1b"))] = node.pop(key)
    elif step == 2 and isinstance(node[key], list):
        node[key] = node[key] * rng.choice((2, 20))
    elif isinstance(node[key], int) and rng.random() < 0.7:
        node[key] = rng.choice((*INTEGERS, node[key] + 1, node[key] - 1, -node[key], float(node[key])))
    else:
        node[key] = rng.choice((*VALUES, rng.choice(INTEGERS), copy.deepcopy(rng.choice(inner))))
    return tree


def _nodes(tree: Any) -> list[Any]:
    if not isinstance(tree, dict | list):
        return []
    values = tree.values() if isinstance(tree, dict) else tree
    return [tree, *(node for value in values for node in _nodes(value))]


LITERALS = [
    "1",
    "-1",
    "0",
    "0.5",
    "1e999",
    "nan",
    "-inf",
    "true",
    "false",
    "''",
    "'x'",
    "'sgd'",
    "'batch'",
    "[]",
    "[1]",
    "[0.5, 2]",
]
LITERALS += [
    "['x', 1]",
    "[[1]]",
    "{}",
    "{a = 1}",
    "2020-01-01",
    "07:32:00",
    "1979-05-27T07:32:00Z",
    "9" * 400,
    "1" * 5000,
]
LITERALS += [
    "[" * 500,
    "{a=" * 500,
    "'''\n'''",
    '"\\u001b[31m"',
    '"\\u0000"',
    "'" + "a" * 300 + "'",
    "0x" + "f" * 300,
    "0x" + "f" * 5000,
    "[[0x" + "f" * 5000 + "]]",
    "[2020-01-01]",
]


def toml_line(names: tuple[str, ...]) -> Mutation:
    """A mutation that adds, changes or takes out a setting with one of these names."""

    def mutate(rng: Random, raw: bytes) -> bytes:
        lines = raw.split(b"\n")
        place = rng.randrange(len(lines))
        name = rng.choice((*names, rng.choice(string.printable), '"\\u001b"', "a.b.c", "'x.y'"))
        new = rng.choice(
            (f"{name} = {rng.choice(LITERALS)}", f"{name} = {rng.choice(LITERALS)}", f"[{name}]", f"[[{name}]]")
        )
        step = rng.randrange(4)
        lines[place : place + (step == 0)] = [] if step == 1 else [new.encode()]
        return b"\n".join(lines)

    return mutate
