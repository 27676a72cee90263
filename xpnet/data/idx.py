"""IDX, the format of MNIST and its kin: a big-endian header of type and shape, then the values."""

from __future__ import annotations

import gzip
import math
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np

from xpnet.data.checks import Label, converted_itemsize
from xpnet.data.dataset import Dataset, checked_dataset
from xpnet.data.reading import DEFLATED, read_at_most, reading, refuse_too_large, size_on_disk
from xpnet.errors import DataError

_DTYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_GZIP_MAGIC = b"\x1f\x8b"
_DIGITS = tuple(range(10))


def read_idx(path: str | Path) -> np.ndarray:
    """Reads an IDX file, gzipped or not, into an array of native byte order.

    Raises:
        DataError: The file is missing, no IDX file, truncated, longer than its header says, or too large.
    """
    path = Path(path)
    with reading(path, "an IDX file"), _open(path) as (stream, most):
        dtype, shape = _read_header(stream)
        size = dtype.itemsize * math.prod(shape)
        refuse_too_large(path, math.prod(shape) * converted_itemsize(dtype), what="claims")
        if most is not None and size > (left := max(0, most - stream.tell())):
            raise _broken_promise(
                path, size, f"at most {left}" if isinstance(stream, gzip.GzipFile) else f"only {left}"
            )
        body = read_at_most(stream, size + 1)
        if len(body) != size:
            raise _broken_promise(path, size, "more" if len(body) > size else f"only {len(body)}")
        return np.ndarray(shape, dtype, buffer=body).astype(dtype.newbyteorder("="), copy=False)


def read_idx_set(folder: Path, name: str, classes: tuple[Label, ...] = _DIGITS) -> Dataset:
    """Reads the four files of MNIST, or of a set in its form, from their folder.

    Args:
        folder: Where ``train-images-idx3-ubyte`` and its three kin lie, with or without ``.gz``.
        name: What reports call the data.
        classes: What the labels 0 to 9 are called.

    Raises:
        DataError: A file is missing or damaged, or the files do not fit together.
    """
    train, test = (
        (
            read_idx(idx_file(folder, f"{part}-images-idx3-ubyte.gz")),
            read_idx(idx_file(folder, f"{part}-labels-idx1-ubyte.gz")),
        )
        for part in ("train", "t10k")
    )
    return checked_dataset(name, train, test, classes=classes)


def idx_file(folder: Path, gzipped: str) -> Path:
    """Returns where an IDX file lies: under its gzipped name, or without ``.gz`` where only that is there."""
    packed, plain = folder / gzipped, folder / gzipped.removesuffix(".gz")
    return plain if plain.exists() and not packed.exists() else packed


@contextmanager
def _open(path: Path) -> Iterator[tuple[IO[bytes], int | None]]:
    """The unpacked bytes, and how many there can be at the most, if that can be known."""
    with path.open("rb") as file:
        packed, size = file.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC, size_on_disk(file)
    if not packed:
        with path.open("rb") as file:
            yield file, size
    else:
        with gzip.open(path) as stream:
            yield cast(IO[bytes], stream), None if size is None else DEFLATED * size


def _broken_promise(path: Path, size: int, found: str) -> DataError:
    return DataError(f"{path} promises {size} bytes in its header but holds {found}: fetch it again")


def _read_header(stream: IO[bytes]) -> tuple[np.dtype, tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or magic[3] == 0:
        raise ValueError(f"it starts with {magic!r} instead of two zero bytes, a type and a rank")
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(f"its header ends after {4 + len(sizes)} of {4 + 4 * magic[3]} bytes")
    return np.dtype(_DTYPES[magic[2]]), struct.unpack(f">{magic[3]}I", sizes)
