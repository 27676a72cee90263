"""The CPU through NumPy alone: every kernel is its reference, which is the specification of all others."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from xpnet.devices.base import Array, Device


class Plain(Device):
    """NumPy's own loops and the BLAS that NumPy brings."""

    def __init__(self, name: str = "numpy", twins: Mapping[str, Callable[..., Any]] | None = None) -> None:
        super().__init__(name, np, twins)

    @property
    def description(self) -> str:
        """The processor's kind and how many processors this process sees."""
        return f"{self.name} ({platform.machine()}, {os.cpu_count()} processors)"

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

    def capture(self, run: Callable[[], None], state: Sequence[Array] = ()) -> Callable[[], None]:
        """`run` itself, without NumPy's warnings: as on a GPU, infinity and NaN are found in the results."""

        def replay() -> None:
            with np.errstate(all="ignore"):
                run()

        return replay
