"""Data sets from the user's own files: NumPy, SciPy sparse and IDX."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from xpnet.data.dataset import Dataset, Matrix, checked_dataset
from xpnet.data.idx import read_idx
from xpnet.data.reading import MAX_BYTES, read_at_most, reading
from xpnet.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

MAPPED_ABOVE = 2**30
"""Bytes of an .npy file beyond which it is not read into memory, but page by page where it is used."""

ACCEPTED = (
    "one .npz file with X and y (and X_test and y_test), or two or four files of samples and labels: "
    ".npy, IDX (.gz or not) or sparse .npz"
)


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


def _read_named_members(path: Path) -> Dataset:
    if path.suffix != ".npz":
        raise DataError(f"{path} is of no accepted kind: give {ACCEPTED}")
    with reading(path, "an .npz file"), zipfile.ZipFile(path) as archive:
        names = _members(archive)
        arrays = {key: _read_member(archive, names[key]) for key in ("x", "y", "x_test", "y_test") if key in names}
    if set(arrays) not in ({"x", "y"}, {"x", "y", "x_test", "y_test"}):
        held = ", ".join(sorted(names)) or "nothing"
        raise DataError(
            f"{path} holds {held:.200}: save it with X and y, and X_test and y_test where there is a test set"
        )
    test = (arrays["x_test"], arrays["y_test"]) if "x_test" in arrays else None
    return checked_dataset(path.name, (arrays["x"], arrays["y"]), test)


def _read_array(path: Path) -> Matrix:
    if path.suffix == ".npy":
        with reading(path, "an .npy file"), path.open("rb") as stream:
            size = path.stat().st_size
            return _map_npy(stream, size) if size > MAPPED_ABOVE else _read_npy(stream, size)
    if path.suffix == ".npz":
        return _read_sparse(path)
    if "idx" in path.name or "ubyte" in path.name:
        return read_idx(path)
    raise DataError(f"{path} is of no accepted kind: give {ACCEPTED}")


def _read_sparse(path: Path) -> csr_array:
    from scipy.sparse import csr_array

    kind = "an .npz file of a CSR matrix"
    with reading(path, kind), zipfile.ZipFile(path) as archive:
        names = _members(archive)
        missing = {"format", "data", "indices", "indptr", "shape"} - set(names)
        if missing:
            raise DataError(f"{path} lacks {', '.join(sorted(missing))} of {kind}: write it with scipy.sparse.save_npz")
        if (found := _read_member(archive, names["format"]).astype(str).item()) != "csr":
            raise DataError(
                f"{path} holds a matrix of format {found!r:.20}: convert it with .tocsr() and save it again"
            )
        data, indices, indptr, shape = (_read_member(archive, names[n]) for n in ("data", "indices", "indptr", "shape"))
        matrix = csr_array((data, indices, indptr), shape=tuple(shape.tolist()))
        matrix.check_format(full_check=True)  # the constructor leaves the indices unchecked
        return matrix


def _members(archive: zipfile.ZipFile) -> dict[str, zipfile.ZipInfo]:
    return {info.filename.removesuffix(".npy").lower(): info for info in archive.infolist()}


def _read_member(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> np.ndarray:
    with archive.open(info) as stream:
        return _read_npy(stream, info.file_size)


def _read_npy(stream: IO[bytes], size: int) -> np.ndarray:
    """Reads one array; unlike ``np.load``, it compares what the header claims with ``size`` before it allocates."""
    shape, fortran, dtype = _read_npy_header(stream)
    body_size = size - stream.tell()
    if dtype.kind not in "biufSU" or not dtype.itemsize:
        raise ValueError(f"it holds values of type {dtype}, not numbers or text")
    if body_size > MAX_BYTES:
        raise ValueError(f"it holds {body_size} bytes but at most {MAX_BYTES} are read")
    if dtype.itemsize * math.prod(shape) != body_size:
        raise ValueError(f"its header promises {dtype} of shape {shape} but it holds {body_size} bytes")
    body = read_at_most(stream, body_size)
    if len(body) != body_size:
        raise ValueError(f"it ends after {len(body)} of {body_size} bytes")
    return np.ndarray(shape, dtype, buffer=body, order="F" if fortran else "C").astype(
        dtype.newbyteorder("="), copy=False
    )


def _map_npy(stream: IO[bytes], size: int) -> np.ndarray:
    """One array that stays in its file, where it is C-ordered numbers of this machine's own form; else it is read."""
    shape, fortran, dtype = _read_npy_header(stream)
    start = stream.tell()
    if fortran or not dtype.isnative or dtype.kind not in "biuf" or dtype.itemsize * math.prod(shape) != size - start:
        stream.seek(0)
        return _read_npy(stream, size)
    return np.memmap(stream, dtype, "r", start, shape)


def _read_npy_header(stream: Any) -> tuple[tuple[int, ...], bool, np.dtype]:
    readers = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    version = np.lib.format.read_magic(stream)
    if version not in readers:
        raise ValueError(f"it has version {version} of the .npy format, which is not for plain arrays")
    return readers[version](stream)
