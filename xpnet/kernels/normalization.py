"""Normalization of pre-activations over the batch or the layer: y = gain (z - mean) / sqrt(variance + eps) + shift.

The shift is the bias of the layer. Forward kernels keep `hat`, the normalized z, and `inverse` = 1 / sqrt(variance +
eps) for the backward ones, which take the gradient dy and get d shift = its sum over the batch from elsewhere.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels.table import Table

EPS = 1e-5
"""As in PyTorch."""

MOMENTUM = 0.1
"""How far a batch moves the running mean and variance, as in PyTorch."""


def batch_norm(
    k: Table,
    z: Array,
    gain: Array,
    shift: Array,
    *,
    mean: Array,
    variance: Array,
    hat: Array,
    inverse: Array,
    out: Array,
) -> None:
    """y = gain hat + shift with hat = (z - mean_B) inverse, by the mean and variance of each column over the batch.

    z, hat, out: (B, O), of which hat and out may be z but not each other; gain, shift: (O,); inverse: (1, O). The
    running mean and variance (O,) move by a tenth towards the batch's, the variance in its unbiased form, which a batch
    of one sample has not: the running variance stays. (Ioffe and Szegedy 2015, algorithm 1.)
    """
    xp, rows = k.xp, len(z)
    moved, square = k.like("batch_norm", mean), k.like("batch_norm square", z)
    xp.mean(z, axis=0, out=moved)
    xp.subtract(z, moved, out=hat)
    _approach(k, mean, moved)
    xp.multiply(hat, hat, out=square)
    xp.mean(square, axis=0, keepdims=True, out=inverse)
    if rows > 1:
        xp.multiply(inverse[0], rows / (rows - 1), out=moved)
        _approach(k, variance, moved)
    _invert(k, inverse)
    xp.multiply(hat, inverse, out=hat)
    xp.multiply(hat, gain, out=out)
    xp.add(out, shift, out=out)


def batch_norm_inference(
    k: Table, z: Array, gain: Array, shift: Array, *, mean: Array, variance: Array, out: Array
) -> None:
    """y = gain (z - mean) / sqrt(variance + eps) + shift, by the running mean and variance: (O,).

    z, out: (B, O), `out` may be z; gain, shift: (O,).
    """
    xp, inverse = k.xp, k.like("batch_norm inverse", variance)
    xp.copyto(inverse, variance)
    _invert(k, inverse)
    xp.multiply(inverse, gain, out=inverse)
    xp.subtract(z, mean, out=out)
    xp.multiply(out, inverse, out=out)
    xp.add(out, shift, out=out)


def batch_norm_backward(
    k: Table, dy: Array, gain: Array, *, hat: Array, inverse: Array, dshift: Array, dgain: Array, out: Array
) -> None:
    """dz = gain inverse (dy - dshift / B - hat dgain / B) and dgain = sum_i dy_i hat_i, over the batch.

    dy, hat, out: (B, O), `out` may be dy; inverse: (1, O); gain, dshift, dgain: (O,), of which dshift = sum_i dy_i is
    given. (Ioffe and Szegedy 2015, section 3.)
    """
    xp, rows, product = k.xp, len(dy), k.like("batch_norm product", dy)
    mean = k.like("batch_norm mean", gain)
    xp.multiply(dy, hat, out=product)
    xp.sum(product, axis=0, out=dgain)
    xp.multiply(dgain, 1 / rows, out=mean)
    xp.multiply(hat, mean, out=product)
    xp.subtract(dy, product, out=out)
    xp.multiply(dshift, 1 / rows, out=mean)
    xp.subtract(out, mean, out=out)
    xp.multiply(gain, inverse[0], out=mean)
    xp.multiply(out, mean, out=out)


def layer_norm(k: Table, z: Array, gain: Array, shift: Array, *, hat: Array, inverse: Array, out: Array) -> None:
    """y = gain hat + shift with hat = (z - mean_i) inverse_i, by the mean and variance of each sample over its units.

    z, hat, out: (B, O), of which hat and out may be z but not each other; gain, shift: (O,); inverse: (B, 1).
    (Ba, Kiros and Hinton 2016, eq. 3.)
    """
    xp, square = k.xp, k.like("layer_norm square", z)
    xp.mean(z, axis=1, keepdims=True, out=inverse)
    xp.subtract(z, inverse, out=hat)
    xp.multiply(hat, hat, out=square)
    xp.mean(square, axis=1, keepdims=True, out=inverse)
    _invert(k, inverse)
    xp.multiply(hat, inverse, out=hat)
    xp.multiply(hat, gain, out=out)
    xp.add(out, shift, out=out)


def layer_norm_backward(
    k: Table, dy: Array, gain: Array, *, hat: Array, inverse: Array, dgain: Array, out: Array
) -> None:
    """dz = inverse (d - mean_j d_j - hat mean_j(d_j hat_j)) with d = gain dy; dgain = sum_i dy_i hat_i over the batch.

    dy, hat, out: (B, O), `out` may be dy; gain, dgain: (O,); inverse: (B, 1).
    """
    xp, product, mean = k.xp, k.like("layer_norm product", dy), k.like("layer_norm mean", inverse)
    xp.multiply(dy, hat, out=product)
    xp.sum(product, axis=0, out=dgain)
    xp.multiply(product, gain, out=product)
    xp.mean(product, axis=1, keepdims=True, out=mean)
    xp.multiply(hat, mean, out=product)
    xp.multiply(dy, gain, out=out)
    xp.mean(out, axis=1, keepdims=True, out=mean)
    xp.subtract(out, mean, out=out)
    xp.subtract(out, product, out=out)
    xp.multiply(out, inverse, out=out)


def _approach(k: Table, running: Array, now: Array) -> None:
    """running <- (1 - MOMENTUM) running + MOMENTUM now; overwrites now."""
    k.xp.subtract(now, running, out=now)
    k.xp.multiply(now, MOMENTUM, out=now)
    k.xp.add(running, now, out=running)


def _invert(k: Table, variance: Array) -> None:
    """variance <- 1 / sqrt(variance + EPS), and NaN for infinity: what overflowed must not pass for no signal."""
    root = k.like("inverse root", variance)
    k.xp.add(variance, EPS, out=variance)
    k.xp.sqrt(variance, out=root)
    k.xp.divide(root, variance, out=variance)
