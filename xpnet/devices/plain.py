"""The CPU through NumPy alone: every kernel is its reference, which is the specification of all others."""

from __future__ import annotations

import itertools
import math
import os
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.devices.base import Array, Device

PAGE = 4096
"""Bytes: addresses that differ by a multiple of this look alike to a processor's queue of stores."""

LARGE = 16 * PAGE
"""Bytes from which an array's place is chosen."""


class Plain(Device):
    """NumPy's own loops and the BLAS that NumPy brings."""

    def __init__(self, name: str = "numpy", twins: Mapping[str, Callable[..., Any]] | None = None) -> None:
        super().__init__(name, np, twins)
        self._colours = itertools.cycle(range(0, PAGE, PAGE // 4))

    @property
    def description(self) -> str:
        """The processor's kind and how many processors this process sees."""
        return f"{self.name} ({platform.machine()}, {os.cpu_count()} processors)"

    def empty(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A new array, its contents undefined."""
        return self._placed(np.empty, shape, np.dtype(dtype))

    def zeros(self, shape: tuple[int, ...], dtype: Any) -> Array:
        """A new array of zeros."""
        return self._placed(np.zeros, shape, np.dtype(dtype))

    def _placed(self, make: Callable[..., Array], shape: tuple[int, ...], dtype: np.dtype) -> Array:
        """A large array starts a quarter of a page further than the one before.

        Loops over several arrays that all start at the same place of a page wait for stores that only look as if they
        were to the same address: an Adam step takes 2.4 times as long.
        """
        size = math.prod(shape) * dtype.itemsize
        if size < LARGE:
            return make(shape, dtype)
        block = make((size + 2 * PAGE,), np.uint8)
        start = -block.ctypes.data % PAGE + next(self._colours)
        return block[start : start + size].view(dtype).reshape(shape)

    def to_host(self, array: Array) -> Any:
        """A copy of `array`."""
        return np.array(array)

    def upload(self, host: Any, *, out: Array) -> None:
        """out <- host."""
        with np.errstate(over="ignore"):  # infinity is found in the results
            np.copyto(out, host, casting="same_kind")

    def take(self, source: Array, index: Array, *, out: Array) -> Array:
        """out <- source[index]."""
        return np.take(source, index, axis=0, out=out, mode="clip")  # "raise" would go through a buffer

    def run(self, step: Callable[[int], None], count: int) -> None:
        """step(0), ..., step(count - 1), without NumPy's warnings, as in `capture`."""
        with np.errstate(all="ignore"):
            super().run(step, count)

    def capture(self, run: Callable[[int], None], count: int = 1, *, state: Sequence[Array] = ()) -> Callable[[], None]:
        """The runs themselves, without NumPy's warnings: as on a GPU, infinity and NaN are found in the results."""
        runs = super().capture(run, count)

        def replay() -> None:
            with np.errstate(all="ignore"):
                runs()

        return replay
