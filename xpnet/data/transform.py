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

    def apply(self, x: np.ndarray, dtype: np.dtype) -> np.ndarray:
        """x * scale - shift, computed in float64 and rounded to `dtype`; x itself where nothing changes.

        Raises:
            DataError: A value is too large for `dtype`.
        """
        identity = self.shift is None and not isinstance(self.scale, np.ndarray) and self.scale == 1
        if identity and x.dtype == dtype:
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
    mean = sum(block.sum(axis=0) for block in _blocks(x, rows)) / len(rows)
    if not standardize:
        return InputTransform(scale, mean * scale)
    variance = sum(((block - mean) ** 2).sum(axis=0) for block in _blocks(x, rows)) / len(rows)
    deviation = np.sqrt(variance)
    factor = 1 / np.where(deviation > 0, deviation, 1)
    return InputTransform(factor, mean * factor)


def _blocks(x: Any, rows: np.ndarray) -> Iterator[np.ndarray]:
    for start in range(0, len(rows), BLOCK):
        block = x[rows[start : start + BLOCK]]
        yield np.asarray(block.toarray() if hasattr(block, "toarray") else block, dtype=np.float64)
