"""Samples resident on a device, from which batches are gathered."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.data.transform import BLOCK, InputTransform
from xpnet.errors import DataError

if TYPE_CHECKING:
    from xpnet.devices import Array, Device
    from xpnet.kernels import Table

CUDA = (2, 13)
"""DLDeviceType of a GPU's memory: kDLCUDA and kDLCUDAManaged, from dlpack.h."""


def gpu_of(array: Any) -> int | None:
    """The number of the NVIDIA GPU on which an array of any library lies; None for what does not lie on one."""
    if not hasattr(array, "__dlpack_device__"):
        return None
    kind, index = array.__dlpack_device__()
    return int(index) if kind in CUDA else None


class DenseSource:
    """(N, I) samples: bytes as they are, scaled and shifted while they are gathered, or floats ready to use.

    Floats of the network's dtype may be on the device already: an array of CuPy, which is not copied.

    Attributes:
        arrays: What is on the device, row by row: all samples, or room for `window` of them.
    """

    def __init__(
        self, device: Device, x: Any, transform: InputTransform, dtype: np.dtype, *, window: int | None = None
    ) -> None:
        self._x, self._transform, self._dtype = x, transform, dtype
        self.scale, self.shift = None, None
        if x.dtype.kind != "f":
            self.scale, self.shift = _constants(device, transform, dtype)
        if window is None:
            self.samples = device.asarray(*self.on_host(slice(None)))
        else:
            self.samples = device.empty((window, x.shape[1]), dtype if x.dtype.kind == "f" else x.dtype)
        self.arrays = [self.samples]

    def on_host(self, rows: Any) -> list[np.ndarray]:
        """What `arrays` hold of these rows; samples of a device stay there."""
        # In double precision: of large values with small differences, float32 keeps nothing before the shift.
        part = self._x[rows]
        return [self._transform.apply(part, self._dtype) if part.dtype.kind == "f" else part]

    def replace(self, x: Any) -> None:
        """Other samples in the place of these, as many and of the same dtype; those that are brought from now on."""
        self._x = x

    def gather(self, k: Table, index: Array, *, out: Array) -> None:
        """out: (B, I) <- the samples of these numbers, as the network sees them."""
        k.gather(self.samples, index, scale=self.scale, shift=self.shift, out=out)

    def rows(self, k: Table, start: int, out: Array) -> Array:
        """The samples from `start` on, as many as `out` has rows: written into `out`, or where they lie."""
        stop = start + len(out)
        if self.samples.dtype == out.dtype and self.scale is None and self.shift is None:
            return self.samples[start:stop]
        self.gather(k, k.iota(len(self.samples), np.int64)[start:stop], out=out)
        return out


class SparseSource:
    """Samples of few non-zeros, each row padded to the same number of entries; made dense while they are gathered."""

    def __init__(
        self, device: Device, x: Any, transform: InputTransform, dtype: np.dtype, *, window: int | None = None
    ) -> None:
        columns, values = _padded(x)
        self._columns, self._values = columns, _scaled(values, columns, transform.scale, dtype)
        self.shift = _constant(device, transform.shift, dtype)
        if window is None:
            self.columns, self.values = (device.asarray(array) for array in self.on_host(slice(None)))
        else:
            self.columns, self.values = (
                device.empty((window, columns.shape[1]), kind) for kind in (columns.dtype, dtype)
            )
        self.arrays = [self.columns, self.values]

    def on_host(self, rows: Any) -> list[np.ndarray]:
        """What `arrays` hold of these rows."""
        return [self._columns[rows], self._values[rows]]

    def gather(self, k: Table, index: Array, *, out: Array) -> None:
        """out: (B, I) <- the samples of these numbers, as the network sees them."""
        k.gather_sparse(self.columns, self.values, index, shift=self.shift, out=out)

    def rows(self, k: Table, start: int, out: Array) -> Array:
        """out <- the samples from `start` on, as many as it has rows."""
        self.gather(k, k.iota(len(self.columns), np.int64)[start : start + len(out)], out=out)
        return out


Source = DenseSource | SparseSource


def open_source(device: Device, x: Any, transform: InputTransform, dtype: Any, *, window: int | None = None) -> Source:
    """The samples on the device in the form that takes less memory, all of them or room for `window` of them.

    x: (N, I), dense or canonical CSR.
    """
    dtype = np.dtype(dtype)
    if not hasattr(x, "toarray"):
        return DenseSource(device, x, transform, dtype, window=window)
    if _dense_row(x, dtype) <= _sparse_row(x, dtype):
        return DenseSource(device, x.toarray(), transform, dtype, window=window)
    return SparseSource(device, x, transform, dtype, window=window)


def row_bytes(x: Any, dtype: Any) -> int:
    """What a sample takes on the device."""
    dtype = np.dtype(dtype)
    dense = _dense_row(x, dtype)
    return min(dense, _sparse_row(x, dtype)) if hasattr(x, "toarray") else dense


def _dense_row(x: Any, dtype: np.dtype) -> int:
    return int(x.shape[1]) * (dtype if x.dtype.kind == "f" else x.dtype).itemsize


def _sparse_row(x: Any, dtype: np.dtype) -> int:
    return int(np.diff(x.indptr).max(initial=1)) * (np.dtype(np.int32).itemsize + dtype.itemsize)


def _constants(device: Device, transform: InputTransform, dtype: np.dtype) -> tuple[Any, Array | None]:
    """Scale and shift as the kernels take them; None where they would change nothing."""
    scale, shift = transform.scale, _constant(device, transform.shift, dtype)
    if isinstance(scale, np.ndarray):
        return _constant(device, scale, dtype), shift
    return (None if scale == 1 else float(_converted(scale, dtype))), shift


def _constant(device: Device, numbers: np.ndarray | None, dtype: np.dtype) -> Array | None:
    return None if numbers is None else device.asarray(_converted(numbers, dtype))


def _converted(numbers: float | np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        converted = np.asarray(numbers, dtype)
    if not np.isfinite(converted).all():
        raise DataError(f"scale: got one that makes X too large for {dtype}: use float64, or a smaller scale")
    return converted


def _scaled(values: np.ndarray, columns: np.ndarray, scale: float | np.ndarray, dtype: np.dtype) -> np.ndarray:
    """values * scale, by their columns, computed in float64 and rounded to `dtype`; values where nothing changes."""
    if values.dtype == dtype and not isinstance(scale, np.ndarray) and scale == 1:
        return values
    result = np.empty(values.shape, dtype)
    with np.errstate(over="ignore"):
        for start in range(0, len(values), BLOCK):
            rows = slice(start, start + BLOCK)
            factors = scale[columns[rows]] if isinstance(scale, np.ndarray) else scale
            result[rows] = values[rows] * np.asarray(factors, dtype=np.float64)
    if not np.isfinite(result).all():
        row, place = divmod(int(np.isfinite(result).argmin()), values.shape[1])
        raise DataError(
            f"X holds {values[row, place]:g} in row {row}, column {columns[row, place]}, too large for {dtype} after "
            "scaling: use float64, or standardize the samples"
        )
    return result


def _padded(x: Any) -> tuple[np.ndarray, np.ndarray]:
    """(N, K) columns and values of a CSR matrix; a short row repeats its last entry, an empty one holds a zero."""
    counts = np.diff(x.indptr)
    width = max(int(counts.max(initial=1)), 1)
    place = np.arange(width)[None, :]
    place = np.minimum(place, np.maximum(counts - 1, 0)[:, None]) + x.indptr[:-1, None]
    columns, values = (np.append(a, a.dtype.type(0)) for a in (x.indices, x.data))
    place[counts == 0] = len(columns) - 1
    return columns[place].astype(np.int32), values[place]
