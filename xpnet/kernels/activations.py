"""Activations: y and, where it is asked for, the slope dy/dz, in one go.

Each takes z of any shape, `out` for y (which may be z: none reads z after writing y) and `slope`, which may not alias
either. The gradient is then dz = dy * slope. `slope` has z's dtype, or bool for those in `STEP_SLOPES`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels.table import Table

ACTIVATIONS = ("relu", "sigmoid", "tanh", "linear", "leaky_relu", "elu", "softplus", "gelu", "silu")

STEP_SLOPES = frozenset({"relu", "linear"})
"""Activations whose slope is 0 or 1."""

LEAK = 0.01
SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715
GELU_FLAT = 10.0
"""Beyond this the GELU's c is 0 or 1 to rounding; the cube of larger numbers might overflow."""


def linear(k: Table, z: Array, *, out: Array, slope: Array | None = None) -> None:
    """y = z; slope = 1."""
    if out is not z:
        k.xp.copyto(out, z)
    if slope is not None:
        slope.fill(1)


def relu(k: Table, z: Array, *, out: Array, slope: Array | None = None) -> None:
    """y = max(z, 0); slope = 1 where z > 0, else 0."""
    if slope is not None:
        k.xp.greater(z, 0, out=slope)
    k.xp.maximum(z, 0, out=out)


def leaky_relu(k: Table, z: Array, *, out: Array, slope: Array | None = None) -> None:
    """y = z where z > 0, else 0.01 z; slope = 1 or 0.01. (Maas, Hannun and Ng 2013.)"""
    if slope is not None:
        k.xp.greater(z, 0, out=slope)
        k.xp.multiply(slope, 1 - LEAK, out=slope)
        k.xp.add(slope, LEAK, out=slope)
    leaked = k.like("leaky_relu", z)
    k.xp.multiply(z, LEAK, out=leaked)
    k.xp.maximum(z, leaked, out=out)


def elu(k: Table, z: Array, *, out: Array, slope: Array | None = None) -> None:
    """y = z where z > 0, else exp(z) - 1; slope = 1 or exp(z). (Clevert et al. 2015, eq. 15, alpha = 1.)"""
    below = k.like("elu", z)
    k.xp.minimum(z, 0, out=below)
    k.xp.expm1(below, out=below)
    if slope is not None:
        k.xp.add(below, 1, out=slope)
    k.xp.maximum(z, 0, out=out)
    k.xp.add(out, below, out=out)


def sigmoid(k: Table, z: Array, *, out: Array, slope: Array | None = None) -> None:
    """y = 1 / (1 + exp(-z)); slope = y (1 - y). Overflows for no z, and y loses no small values."""
    xp = k.xp
    xp.maximum(z, math.log(xp.finfo(z.dtype).tiny), out=out)  # exp(-z) stays finite
    xp.negative(out, out=out)
    xp.exp(out, out=out)
    xp.add(out, 1, out=out)
    xp.divide(1, out, out=out)
    if slope is not None:
        xp.subtract(1, out, out=slope)
        xp.multiply(slope, out, out=slope)


def tanh(k: Table, z: Array, *, out: Array, slope: Array | None = None) -> None:
    """y = tanh(z); slope = 1 - y^2."""
    k.xp.tanh(z, out=out)
    if slope is not None:
        k.xp.multiply(out, out, out=slope)
        k.xp.subtract(1, slope, out=slope)


def softplus(k: Table, z: Array, *, out: Array, slope: Array | None = None) -> None:
    """y = log(1 + exp(z)); slope = sigmoid(z). (Dugas et al. 2001.)"""
    if slope is not None:
        k.sigmoid(z, out=slope)
    k.xp.logaddexp(z, 0, out=out)


def silu(k: Table, z: Array, *, out: Array, slope: Array | None = None) -> None:
    """y = z s with s = sigmoid(z); slope = s + y (1 - s). (Elfwing, Uchibe and Doya 2017, eq. 5 and 9.)"""
    xp, s = k.xp, k.like("silu", z)
    k.sigmoid(z, out=s)
    xp.maximum(z, math.log(xp.finfo(z.dtype).tiny), out=out)  # below, s is no smaller, and y would not stay near 0
    xp.multiply(out, s, out=out)
    if slope is not None:
        xp.subtract(1, s, out=slope)
        xp.multiply(slope, out, out=slope)
        xp.add(slope, s, out=slope)


def gelu(k: Table, z: Array, *, out: Array, slope: Array | None = None) -> None:
    """y = z c with c = (1 + tanh u) / 2, u = sqrt(2/pi) (z + 0.044715 z^3); slope = c + 2 z c (1 - c) du/dz.

    The form by tanh of Hendrycks and Gimpel 2016 (section 2), as in cuBLASLt's epilogue; within 5e-4 of z Phi(z).
    """
    xp = k.xp
    square, c = k.like("gelu square", z), k.like("gelu c", z)
    factor = k.like("gelu factor", z)
    xp.clip(z, -GELU_FLAT, GELU_FLAT, out=c)
    xp.multiply(c, c, out=square)
    xp.multiply(square, GELU_CUBIC, out=factor)
    xp.add(factor, 1, out=factor)
    xp.multiply(c, factor, out=c)
    xp.multiply(c, 2 * SQRT_2_OVER_PI, out=c)
    k.sigmoid(c, out=c)  # (1 + tanh u) / 2 = sigmoid(2 u)
    xp.maximum(z, -GELU_FLAT, out=out)  # below, c is no smaller, and y would not stay near 0
    xp.multiply(out, c, out=out)
    if slope is None:
        return
    xp.multiply(square, 3 * GELU_CUBIC, out=square)
    xp.add(square, 1, out=square)
    xp.multiply(square, 2 * SQRT_2_OVER_PI, out=square)  # 2 du/dz
    xp.subtract(1, c, out=slope)
    xp.multiply(slope, out, out=slope)
    xp.multiply(slope, square, out=slope)
    xp.add(slope, c, out=slope)


def exp(k: Table, z: Array, *, out: Array) -> None:
    """y = exp(z), an output for counts. `out` may be z."""
    k.xp.exp(z, out=out)


def softmax(k: Table, z: Array, *, out: Array) -> None:
    """y = exp(z - max z) / sum exp(z - max z), row by row. z: (B, O); `out` may be z."""
    xp, row = k.xp, k.scratch("softmax row", (len(z), 1), z.dtype)
    xp.max(z, axis=1, keepdims=True, out=row)
    xp.subtract(z, row, out=out)
    xp.exp(out, out=out)
    xp.sum(out, axis=1, keepdims=True, out=row)
    xp.divide(out, row, out=out)
