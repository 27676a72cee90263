"""The table of kernels: references with a device's twins laid over them, each bound to the table itself."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from xpnet.devices import Array, Device
from xpnet.kernels import (
    activations,
    affine,
    dropout,
    embedding,
    gather,
    hidden,
    losses,
    metrics,
    normalization,
    updates,
)


def _kernels(module: ModuleType) -> dict[str, Callable[..., Any]]:
    """The public functions that `module` itself defines."""
    return {
        name: function
        for name, function in vars(module).items()
        if getattr(function, "__module__", None) == module.__name__ and not name.startswith("_")
    }


REFERENCE: dict[str, Callable[..., Any]] = {
    name: function
    for module in (affine, activations, hidden, normalization, dropout, losses, metrics, updates, gather, embedding)
    for name, function in _kernels(module).items()
}

# Kernels that hand an opaque buffer to each other: a device has twins of all of them or of none.
GROUPS = (frozenset({"hidden_aux", "hidden_forward", "hidden_activation", "hidden_backward"}),)


class Table:
    """Every kernel under its name, `xp`, `gemm`, scratch memory, and `reference` with the plain ones.

    A kernel is called as `k.name(arrays..., *, options, out)`; it gets the table as its first argument by itself and
    reaches other kernels through it, so that a twin of a part serves every composition.
    """

    def __init__(self, device: Device) -> None:
        unknown = (set(device.twins) | device.chains) - set(REFERENCE)
        torn = [group for group in GROUPS if 0 < len(group & set(device.twins)) < len(group)]
        if unknown or torn:
            raise TypeError(f"{device!r} has twins of unknown kernels {unknown} or of parts of a group {torn}")
        self.device: Any = device  # a twin knows more of its own
        self.xp, self.gemm = device.xp, device.gemm
        self._blocks: dict[tuple[str, str], Array] = {}
        self._replaced: list[Array] = []
        self._views: dict[tuple[str, tuple[int, ...], str], Array] = {}
        self._iotas: dict[tuple[int, int, str], Array] = {}
        plain = {name: device.scheduled(partial(f, self)) for name, f in REFERENCE.items()}
        twins = {name: partial(f, self) for name, f in device.twins.items()}
        self.reference = SimpleNamespace(**plain)
        self.__dict__.update({**plain, **self._chains(), **twins})

    def _chains(self) -> dict[str, Callable[..., Any]]:
        """The device's own kernels for references that are elementwise chains."""
        if not self.device.chains:
            return {}
        traced = Traced(self.xp)
        return {name: self.device.fused(REFERENCE[name], getattr(traced, name)) for name in self.device.chains}

    def __getattr__(self, name: str) -> Callable[..., Any]:
        raise AttributeError(f"there is no kernel {name!r}")  # declared for type checkers: kernels are set by name

    def scratch(self, tag: str, shape: tuple[int, ...], dtype: Any) -> Array:
        """Memory that is dead when the kernel returns, made at its first use and kept.

        Shapes of one tag share a block; kernels that call each other use different tags.
        """
        key = (tag, shape, np.dtype(dtype).char)
        if key not in self._views:
            block = self._blocks.get((tag, key[2]))
            if block is None or block.size < math.prod(shape):
                if block is not None:
                    self._replaced.append(block)  # a captured graph may hold its address
                block = self._blocks[tag, key[2]] = self.device.empty((math.prod(shape),), dtype)
            self._views[key] = block[: math.prod(shape)].reshape(shape)
        return self._views[key]

    def like(self, tag: str, array: Array) -> Array:
        """Scratch memory of the array's form."""
        return self.scratch(tag, array.shape, array.dtype)

    def iota(self, n: int, dtype: Any, *, step: int = 1) -> Array:
        """The constant 0, step, ..., (n - 1) step."""
        key = (n, step, np.dtype(dtype).char)
        if key not in self._iotas:
            self._iotas[key] = self.device.asarray(np.arange(0, n * step, step, dtype=dtype))
        return self._iotas[key]


class Traced:
    """The references for a compiler that traces them on arrays that stand for one element; scratch is such an array."""

    def __init__(self, xp: Any) -> None:
        self.xp = xp
        self.__dict__.update({name: partial(f, self) for name, f in REFERENCE.items()})

    def like(self, tag: str, array: Array) -> Array:
        """A value of its own, at first that of `array`."""
        return array.copy()


def on(device: Device) -> Table:
    """The kernels as they are fastest on `device`."""
    return Table(device)
