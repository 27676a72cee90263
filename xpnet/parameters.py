"""What a network holds: parameters in one block, running statistics, and what a batch leaves for the way back."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from xpnet.devices import Array, Device

ALIGNMENT = 256
"""Bytes: every view starts at a multiple of this in its block."""


class Parameters:
    """One flat block with a view for each: weights, biases, gains, tables of embeddings; its padding stays zero.

    Attributes:
        flat: (P,), all of it.
        w, b: The views, layer by layer: (I, O) and (O,).
        gains: (O,) for each hidden layer, where these are normalized, else none.
        e: The tables of embeddings, (rows, width).
        weights, biases: The two contiguous parts of `flat`; gains and tables count as biases: neither decays.
    """

    def __init__(
        self,
        device: Device,
        sizes: Sequence[int],
        dtype: np.dtype,
        *,
        normalized: bool = False,
        embeddings: Sequence[tuple[int, int]] = (),
        flat: Array | None = None,
    ) -> None:
        self._of = device, sizes, dtype, normalized, embeddings
        layers = list(itertools.pairwise(sizes))
        hidden = sizes[1:-1] if normalized else ()
        shapes: list[tuple[int, ...]] = [*layers, *((o,) for _, o in layers), *((o,) for o in hidden), *embeddings]
        unit = ALIGNMENT // dtype.itemsize
        starts = np.cumsum([0, *(-(-math.prod(shape) // unit) * unit for shape in shapes)]).tolist()
        self.flat = device.zeros((starts[-1],), dtype) if flat is None else flat
        views = [
            self.flat[start : start + math.prod(shape)].reshape(shape)
            for start, shape in zip(starts, shapes, strict=False)
        ]
        self.w, self.b = views[: len(layers)], views[len(layers) : 2 * len(layers)]
        others = views[2 * len(layers) :]
        self.gains, self.e = others[: len(hidden)], others[len(hidden) :]
        self.weights, self.biases = self.flat[: starts[len(layers)]], self.flat[starts[len(layers)] :]

    def like(self, flat: Array | None = None) -> Parameters:
        """The same views of another block, by custom a new one of zeros."""
        device, sizes, dtype, normalized, embeddings = self._of
        return Parameters(device, sizes, dtype, normalized=normalized, embeddings=embeddings, flat=flat)

    def named(self) -> Iterator[tuple[str, Array]]:
        """Every view with its name: w1, b1, w2, ..., then g1, ..., then e1, ..."""
        for i, (w, b) in enumerate(zip(self.w, self.b, strict=True), 1):
            yield f"w{i}", w
            yield f"b{i}", b
        for i, gain in enumerate(self.gains, 1):
            yield f"g{i}", gain
        for i, table in enumerate(self.e, 1):
            yield f"e{i}", table


class Statistics:
    """Running means and variances of the pre-activations of hidden layers: learnt, but by no gradient.

    Attributes:
        flat: (2 S,), all of them.
        mean, variance: The views, layer by layer: (O,).
    """

    def __init__(self, device: Device, sizes: Sequence[int], dtype: np.dtype, *, flat: Array | None = None) -> None:
        self._of = device, sizes, dtype
        ends = np.cumsum([0, *sizes]).tolist()
        self.flat = device.zeros((2 * ends[-1],), dtype) if flat is None else flat
        means, variances = self.flat[: ends[-1]], self.flat[ends[-1] :]
        if flat is None:
            variances.fill(1)
        parts = [slice(*pair) for pair in itertools.pairwise(ends)]
        self.mean, self.variance = [means[part] for part in parts], [variances[part] for part in parts]

    def like(self, flat: Array) -> Statistics:
        """The same views of another block."""
        return Statistics(*self._of, flat=flat)

    def named(self) -> Iterator[tuple[str, Array]]:
        """Every view with its name: m1, v1, m2, ..."""
        for i, (mean, variance) in enumerate(zip(self.mean, self.variance, strict=True), 1):
            yield f"m{i}", mean
            yield f"v{i}", variance


@dataclass(frozen=True)
class Kept:
    """What one hidden layer keeps of a batch for the backward pass.

    Attributes:
        aux: What the kernels of hidden layers hand to each other.
        rate: Of dropout.
        hat, inverse: What normalization keeps, or None: (B, O), and (1, O) over the batch or (B, 1) over the layer.
    """

    aux: Array
    rate: float
    hat: Array | None = None
    inverse: Array | None = None

    def rows(self, n: int) -> Kept:
        """The same for n samples."""
        if self.hat is None or self.inverse is None:
            return replace(self, aux=self.aux[:n])
        return replace(self, aux=self.aux[:n], hat=self.hat[:n], inverse=self.inverse[:n])
