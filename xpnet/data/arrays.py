"""Data sets from the user's own files: NumPy, SciPy sparse and IDX."""

from __future__ import annotations

import io
import math
import struct
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from xpnet.data.checks import KEPT_DTYPES, check_samples, converted_itemsize
from xpnet.data.dataset import Dataset, Matrix, checked_dataset
from xpnet.data.idx import read_idx
from xpnet.data.reading import DEFLATED, read_at_most, reading, refuse_too_large
from xpnet.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MAPPED_ABOVE = 2**30
"""Bytes of an .npy file beyond which it is not read into memory, but page by page where it is used."""

_LONGEST_HEADER = 10_000
"""Of an array, in bytes: NumPy's own limit."""

_LONGEST_DIRECTORY = 4 * 2**20
"""Of an .npz file, in bytes: some 50,000 members."""

_RATIOS = {zipfile.ZIP_STORED: 1, zipfile.ZIP_DEFLATED: DEFLATED}
"""How many bytes a packed byte makes at the most, by the ways of packing that NumPy writes."""

_HEADERS: dict[tuple[int, int], tuple[str, Any]] = {
    (1, 0): ("<H", np.lib.format.read_array_header_1_0),
    (2, 0): ("<I", np.lib.format.read_array_header_2_0),
}
"""How the length of the header is written, and what reads it, by the format's version."""

_CSR = ("data", "indices", "indptr", "shape")

ACCEPTED = (
    "one .npz file with X and y (and X_test and y_test), or two or four files of samples and labels: "
    ".npy, IDX (.gz or not) or sparse .npz"
)


SAMPLES = "samples as .npy, .npz or IDX (.gz or not), or images as .png or .jpg"
"""What is accepted where no labels are needed."""


def read_arrays(paths: Sequence[str | Path]) -> Dataset:
    """Reads a data set from one, two or four files.

    Args:
        paths: One ``.npz`` with X and y, and X_test and y_test where there is a test set; or samples and labels; or
            samples, labels, test samples and test labels. The latter are ``.npy``, IDX, or ``.npz`` of a CSR matrix.

    Raises:
        DataError: A file is missing, damaged or of another kind, or the files do not fit together.
    """
    files = [Path(path) for path in paths]
    if len(files) == 1:
        return _read_named_members(files[0])
    if len(files) not in (2, 4):
        raise DataError(f"{len(files)} data files were given: give {ACCEPTED}")
    arrays = [_read_array(file) for file in files]
    return checked_dataset(files[0].name, (arrays[0], arrays[1]), (arrays[2], arrays[3]) if len(files) == 4 else None)


def read_samples(path: str | Path) -> Matrix:
    """Reads samples without targets: ``.npy``, IDX, or ``.npz`` with X or of a CSR matrix.

    Raises:
        DataError: The file is missing, damaged or of another kind, or its samples are no finite numbers.
    """
    path = Path(path)
    if path.suffix.lower() != ".npz":
        return check_samples(_read_array(path, accepted=SAMPLES))
    with reading(path, "an .npz file"), _Archive.opened(path) as archive:
        arrays = archive.read(["x"]) if "x" in archive.names else None
    return check_samples(_read_sparse(path) if arrays is None else arrays["x"])


def _read_named_members(path: Path) -> Dataset:
    if path.suffix.lower() != ".npz":
        raise DataError(f"{path} is of no accepted kind: give {ACCEPTED}")
    with reading(path, "an .npz file"), _Archive.opened(path) as archive:
        names = archive.names
        arrays = archive.read([key for key in ("x", "y", "x_test", "y_test") if key in names])
    if set(arrays) not in ({"x", "y"}, {"x", "y", "x_test", "y_test"}):
        held = ", ".join(sorted(names)) or "nothing"
        raise DataError(
            f"{path} holds {held:.200}: save it with X and y, and X_test and y_test where there is a test set"
        )
    test = (arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
    return checked_dataset(path.name, (arrays["x"], arrays["y"]), test)


def _read_array(path: Path, *, accepted: str = ACCEPTED) -> Matrix:
    if path.suffix.lower() == ".npy":
        with reading(path, "an .npy file"), path.open("rb") as stream:
            size = path.stat().st_size
            return _map_npy(stream, size, path) if size > MAPPED_ABOVE else _read_npy(stream, size, path)
    if path.suffix.lower() == ".npz":
        return _read_sparse(path)
    if "idx" in path.name or "ubyte" in path.name:
        return read_idx(path)
    raise DataError(f"{path} is of no accepted kind: give {accepted}")


def _read_sparse(path: Path) -> csr_array:
    from scipy.sparse import csr_array

    kind = "an .npz file of a CSR matrix"
    with reading(path, kind), _Archive.opened(path) as archive:
        missing = {"format", *_CSR} - set(archive.names)
        if missing:
            raise DataError(f"{path} lacks {', '.join(sorted(missing))} of {kind}: write it with scipy.sparse.save_npz")
        if (found := archive.read(["format"])["format"].astype(str).item()) != "csr":
            raise DataError(
                f"{path} holds a matrix of format {found!r:.20}: convert it with .tocsr() and save it again"
            )
        data, indices, indptr, shape = archive.read(_CSR).values()
        matrix = csr_array((data, indices, indptr), shape=tuple(shape.tolist()))
        if matrix.nnz != len(indices) or (matrix.indptr[1:] < matrix.indptr[:-1]).any():
            raise ValueError("its row pointers do not rise from 0 to the number of its values")  # SciPy may not look
        matrix.check_format(full_check=True)  # the constructor leaves the indices unchecked
        return matrix


class _Archive:
    """The members of an .npz file by their names, read as far as the file's own bytes can hold them.

    Attributes:
        names: Of the members, in small letters and without ``.npy``.
    """

    def __init__(self, path: Path, archive: zipfile.ZipFile, size: int) -> None:
        self._path, self._archive, self._size = path, archive, size
        self.names: dict[str, zipfile.ZipInfo] = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy").lower()
            if name in self.names:
                raise ValueError(f"it holds {name!r:.80} twice")
            self.names[name] = info

    @classmethod
    @contextmanager
    def opened(cls, path: Path) -> Iterator[_Archive]:
        """The archive, open for as long as it is needed."""
        with _ShortReads(io.FileIO(path)) as file:
            size = file.seek(0, io.SEEK_END)
            with zipfile.ZipFile(file) as archive:
                yield cls(path, archive, size)

    def read(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """These arrays, once it is sure that all of them together are allowed and possible."""
        infos = {name: self.names[name] for name in names}
        refuse_too_large(self._path, sum(info.file_size for info in infos.values()))
        for name, info in infos.items():
            self._check_claim(name, info)
        arrays = {}
        for name, info in infos.items():
            with self._archive.open(info) as stream:
                arrays[name] = _read_npy(stream, info.file_size, self._path)
        return arrays

    def _check_claim(self, name: str, info: zipfile.ZipInfo) -> None:
        if info.compress_type not in _RATIOS:
            raise ValueError(f"{name} is packed by method {info.compress_type}, not as numpy.savez_compressed does")
        most = _RATIOS[info.compress_type] * min(info.compress_size, self._size)
        if info.file_size > most:
            raise ValueError(f"{name} promises {info.file_size} bytes but its packed bytes hold at most {most}")


class _ShortReads(io.BufferedReader):
    """A file of which little is read at once: only an archive's directory is ever read whole, whatever its length."""

    def read(self, size: int | None = -1, /) -> bytes:
        """Up to ``size`` bytes, all the rest by default.

        Raises:
            ValueError: More is asked for than the directory of any .npz file needs.
        """
        if size is not None and size > _LONGEST_DIRECTORY:
            raise ValueError(f"its directory claims {size} bytes, more than {_LONGEST_DIRECTORY}")
        return super().read(_LONGEST_DIRECTORY if size is None or size < 0 else size)


def _read_npy(stream: IO[bytes], size: int, path: Path) -> np.ndarray:
    """Reads one array; unlike ``np.load``, it compares what the header claims with ``size`` before it allocates."""
    shape, fortran, dtype = _read_npy_header(stream)
    body_size = size - stream.tell()
    if dtype.kind not in "biufSU" or not dtype.itemsize:
        raise ValueError(f"it holds values of type {dtype}, not numbers or text")
    if dtype.itemsize * math.prod(shape) != body_size:
        raise ValueError(f"its header promises {dtype} of shape {shape} but it holds {body_size} bytes")
    if 0 in shape:
        return np.empty(shape)  # of text, NumPy would take minutes to convert nothing
    refuse_too_large(path, math.prod(shape) * converted_itemsize(dtype), what="becomes")
    body = read_at_most(stream, body_size)
    if len(body) != body_size:
        raise ValueError(f"it ends after {len(body)} of {body_size} bytes")
    array = np.ndarray(shape, dtype, buffer=body, order="F" if fortran else "C")
    if dtype.kind == "U" and body and np.frombuffer(body, dtype.byteorder + "u4").max(initial=0) > sys.maxunicode:
        raise ValueError("it holds text of characters that there are not")
    return array.astype(dtype.newbyteorder("="), copy=False)


def _map_npy(stream: IO[bytes], size: int, path: Path) -> np.ndarray:
    """One array that stays in its file, where no sample of it has to be converted; else it is read."""
    shape, fortran, dtype = _read_npy_header(stream)
    start = stream.tell()
    if fortran or not dtype.isnative or dtype not in KEPT_DTYPES or dtype.itemsize * math.prod(shape) != size - start:
        stream.seek(0)
        return _read_npy(stream, size, path)
    return np.memmap(stream, dtype, "r", start, shape)


def _read_npy_header(stream: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype]:
    version = np.lib.format.read_magic(stream)
    if version not in _HEADERS:
        raise ValueError(f"it has version {version} of the .npy format, which is not for plain arrays")
    length_format, read = _HEADERS[version]
    packed_length = stream.read(struct.calcsize(length_format))
    (length,) = struct.unpack(length_format, packed_length)
    if length > _LONGEST_HEADER:  # NumPy compares it only when it has read it
        raise ValueError(f"its header claims {length} bytes, more than {_LONGEST_HEADER}")
    return read(io.BytesIO(packed_length + stream.read(length)))
