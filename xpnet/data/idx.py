"""IDX, the format of MNIST and its kin: a big-endian header of type and shape, then the values."""

from __future__ import annotations

import gzip
import math
import struct
from pathlib import Path
from typing import IO, cast

import numpy as np

from xpnet.data.checks import Label
from xpnet.data.dataset import Dataset, checked_dataset
from xpnet.data.reading import MAX_BYTES, read_at_most, reading
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
    with reading(path, "an IDX file"), _open(path) as stream:
        dtype, shape = _read_header(stream)
        size = dtype.itemsize * math.prod(shape)
        if size > MAX_BYTES:
            raise DataError(
                f"{path} claims {size} bytes in its header but at most {MAX_BYTES} are read: fetch it again"
            )
        body = read_at_most(stream, size + 1)
        if len(body) != size:
            found = "more" if len(body) > size else f"only {len(body)}"
            raise DataError(f"{path} promises {size} bytes in its header but holds {found}: fetch it again")
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


def _open(path: Path) -> IO[bytes]:
    with path.open("rb") as stream:
        packed = stream.read(len(_GZIP_MAGIC)) == _GZIP_MAGIC
    return cast(IO[bytes], gzip.open(path)) if packed else path.open("rb")


def _read_header(stream: IO[bytes]) -> tuple[np.dtype, tuple[int, ...]]:
    magic = stream.read(4)
    if len(magic) < 4 or magic[:2] != b"\0\0" or magic[2] not in _DTYPES or magic[3] == 0:
        raise ValueError(f"it starts with {magic!r} instead of two zero bytes, a type and a rank")
    sizes = stream.read(4 * magic[3])
    if len(sizes) < 4 * magic[3]:
        raise ValueError(f"its header ends after {4 + len(sizes)} of {4 + 4 * magic[3]} bytes")
    return np.dtype(_DTYPES[magic[2]]), struct.unpack(f">{magic[3]}I", sizes)
