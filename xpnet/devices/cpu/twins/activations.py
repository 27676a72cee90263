"""Twins of activations."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from xpnet.devices.cpu.nodes import activations, losses

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table

EXPONENTIAL = 4
"""How many numbers read and written take as long as an exponential."""


def _activate(k: Table, name: str, z: Array, out: Array, slope: Array | None) -> None:
    """The activation entry by entry, and its slope where it is asked for."""
    costly = name not in ("linear", "relu", "leaky_relu")
    parts = k.device.parts(numbers=(2 + EXPONENTIAL * costly) * z.size)
    flat, flat_out = z.reshape(-1), out.reshape(-1)
    if slope is None:
        return k.device.do(activations.activation, flat, flat_out, kinds=(name, z.dtype), parts=parts)
    arguments, kinds = (flat, flat_out, slope.reshape(-1)), (name, slope.dtype, z.dtype)
    return k.device.do(activations.activation_and_slope, *arguments, kinds=kinds, parts=parts)


def _twin(name: str) -> Callable[..., None]:
    def twin(k: Table, z: Array, *, out: Array, slope: Array | None = None) -> None:
        _activate(k, name, z, out, slope)

    twin.__name__ = twin.__qualname__ = name
    twin.__doc__ = "In one pass, with its slope."
    return twin


relu, leaky_relu, elu, sigmoid, tanh, softplus, silu, gelu = map(
    _twin, ("relu", "leaky_relu", "elu", "sigmoid", "tanh", "softplus", "silu", "gelu")
)


def linear(k: Table, z: Array, *, out: Array, slope: Array | None = None) -> None:
    """Nothing, where it is in place and nobody asks for the slope."""
    if out is not z or slope is not None:
        _activate(k, "linear", z, out, slope)


def exp(k: Table, z: Array, *, out: Array) -> None:
    """In one pass."""
    _activate(k, "exp", z, out, None)


def softmax(k: Table, z: Array, *, out: Array) -> None:
    """By blocks of rows."""
    parts = k.device.parts(numbers=(2 + EXPONENTIAL) * z.size)
    k.device.do(losses.softmax, z, out, kinds=(z.dtype,), parts=parts)
