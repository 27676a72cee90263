"""A set of samples: the arrays, and which of their rows belong to it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xpnet.data.splits import Split, split_rows
from xpnet.errors import DataError

_PIECE, _PIECES = 2**20, 2**10
"""Bytes, and how many times so many of an array are looked at to tell it from others: all up to a gibibyte."""


@dataclass(frozen=True)
class Samples:
    """Rows of x with their targets; several sets may be rows of the same arrays, which are never copied.

    Attributes:
        x: (N, I) raw samples, dense or CSR.
        y: (N,) int32 classes, (N, K) 0/1 labels or (N, O) floats, as `encode_targets` makes them.
        weights: (N,) sample weights, or None.
        rows: The numbers of the rows that belong to the set.
    """

    x: Any
    y: np.ndarray
    weights: np.ndarray | None
    rows: np.ndarray

    @classmethod
    def of(cls, x: Any, y: np.ndarray, weights: np.ndarray | None = None) -> Samples:
        """All rows of x."""
        return cls(x, y, weights, np.arange(x.shape[0]))

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def total_weight(self) -> float:
        """What sums of losses are divided by: the sum of the weights, or the number of samples."""
        return float(len(self) if self.weights is None else self.weights[self.rows].sum(dtype=np.float64))

    def digest(self) -> str:
        """A checksum of the samples, their targets, weights and rows; of very large arrays of evenly spread pieces."""
        parts = [self.x.data, self.x.indices, self.x.indptr] if hasattr(self.x, "indptr") else [self.x]
        summed = hashlib.sha256()
        for array in (*parts, self.y, self.rows, *([] if self.weights is None else [self.weights])):
            summed.update(f"{array.dtype.str}{array.shape}".encode())
            content = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
            stride = max(_PIECE, -(-content.size // _PIECES))
            for start in range(0, content.size, stride):
                summed.update(content[start : start + _PIECE].data)
        return summed.hexdigest()

    def shares_arrays(self, other: Samples) -> bool:
        """Whether both sets are rows of the same arrays."""
        return self.x is other.x and self.y is other.y and self.weights is other.weights

    def first(self, size: int) -> Samples:
        """The first `size` samples."""
        return replace(self, rows=self.rows[:size])

    def split(self, size: float | int, *, rng: np.random.Generator) -> tuple[Samples, Samples]:
        """Two sets: the rest, and `size` samples drawn from this one, in the classes' proportions where there are any.

        Args:
            size: A fraction below 1, or a number of samples.
            rng: Draws them.

        Raises:
            DataError: One of the two would be empty.
        """
        possible = 0 < size < len(self) and (size < 1 or size == int(size))  # false for NaN too
        count = 0 if not possible else round(size * len(self)) if size < 1 else int(size)
        if not 0 < count < len(self):
            raise DataError(
                f"val_size: got {size:g} of {len(self)} samples; "
                "choose a fraction or a whole number that leaves samples on both sides."
            )
        rest, drawn, _ = split_rows(Split(size), y=self.y, rng=rng, rows=self.rows)
        return replace(self, rows=rest), replace(self, rows=drawn)
