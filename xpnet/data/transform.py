"""What a network sees of raw samples: raw * scale - shift, column by column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.errors import DataError

BLOCK = 4096
"""Rows that are converted to float64 at a time."""


@dataclass(frozen=True)
class InputTransform:
    """raw * scale - shift.

    Attributes:
        scale: One factor for all columns, or (I,) factors.
        shift: (I,), or None for zero.
    """

    scale: float | np.ndarray = 1.0
    shift: np.ndarray | None = None

    @property
    def is_identity(self) -> bool:
        """Whether nothing changes."""
        return self.shift is None and not isinstance(self.scale, np.ndarray) and self.scale == 1

    def apply(self, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """x * scale - shift, computed in float64 and rounded to `dtype`; x itself where nothing changes.

        Raises:
            DataError: A value is too large for `dtype`.
        """
        if self.is_identity and x.dtype == dtype:
            return x
        result = np.empty(x.shape, dtype)
        with np.errstate(over="ignore"):
            for start in range(0, len(x), BLOCK):
                block = x[start : start + BLOCK] * np.asarray(self.scale, dtype=np.float64)
                result[start : start + BLOCK] = block if self.shift is None else block - self.shift
        if not np.isfinite(result).all():
            row, column = divmod(int(np.isfinite(result).argmin()), x.shape[1])
            raise DataError(
                f"X holds {x[row, column]:g} in row {row}, column {column}, too large for {dtype} after scaling: "
                "use float64, or standardize the samples"
            )
        return result


@dataclass(frozen=True)
class TargetTransform:
    """target = output * scale + shift: what stands between the numbers that are predicted and a network's outputs.

    Attributes:
        scale, shift: Of all outputs.
    """

    scale: float = 1.0
    shift: float = 0.0

    def to_outputs(self, y: np.ndarray) -> np.ndarray:
        """(y - shift) / scale, what the network is to say; y itself where nothing changes."""
        return y if self == TargetTransform() else (y - self.shift) / self.scale

    def to_targets(self, outputs: Any) -> Any:
        """outputs * scale + shift; the outputs themselves where nothing changes."""
        return outputs if self == TargetTransform() else outputs * outputs.dtype.type(self.scale) + self.shift


def fit_target_transform(y: np.ndarray) -> TargetTransform:
    """The transform with which (N, 1) targets become outputs of mean 0 and standard deviation 1."""
    unit = float(np.ldexp(1.0, np.clip(np.frexp(np.abs(y).max())[1], -1000, 1000)))  # so that no square overflows
    deviation = float(np.std(y / unit) * unit)
    return TargetTransform(
        deviation if deviation >= np.finfo(np.float64).tiny else 1.0, float(np.mean(y / unit) * unit)
    )


def fit_transform(
    x: Any, rows: np.ndarray | None = None, *, scale: float = 1.0, center: bool = False, standardize: bool = False
) -> InputTransform:
    """The transform that scales, then centres or standardises by the statistics of the samples.

    Args:
        x: (N, I) raw samples, dense or CSR.
        rows: The numbers of the samples to learn from; None for all.
        scale: A factor on the raw values.
        center: Subtract the mean of each column: the mean image.
        standardize: Bring each column to mean 0 and standard deviation 1; a constant column becomes 0.
    """
    if not (center or standardize):
        return InputTransform(scale)
    rows = np.arange(x.shape[0]) if rows is None else rows
    least, most = _extremes(x, rows)
    unit = np.ldexp(1.0, np.clip(np.frexp(np.maximum(-least, most))[1], -1000, 1000))
    # In units of that, a power of two, nothing overflows, no square is lost, and rounding is as without them.
    mean = sum((block / unit).sum(axis=0) for block in _blocks(x, rows)) / len(rows)
    mean = np.where(least < most, mean, most / unit)
    if not standardize:
        return InputTransform(scale, mean * unit * scale)
    variance = sum(((block / unit - mean) ** 2).sum(axis=0) for block in _blocks(x, rows)) / len(rows)
    deviation = np.sqrt(variance) * unit
    constant = (least == most) | (deviation < np.finfo(np.float64).tiny)  # of less, 1 / deviation overflows
    factor = 1 / np.where(constant, 1, deviation)
    return InputTransform(factor, mean * unit * factor)


def _extremes(x: Any, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The smallest and the largest number of each column."""
    least, most = np.full(x.shape[1], np.inf), np.full(x.shape[1], -np.inf)
    for block in _blocks(x, rows):
        np.minimum(least, block.min(axis=0), out=least)
        np.maximum(most, block.max(axis=0), out=most)
    return least, most


def _blocks(x: Any, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK):
        block = x[rows[start : start + BLOCK]]
        yield np.asarray(block.toarray() if hasattr(block, "toarray") else block, dtype=np.float64)
