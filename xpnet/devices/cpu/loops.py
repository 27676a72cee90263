"""Compiled loops that read and write every array once; `twins` says which kernels they serve.

They are serial: threads of their own would take the processors from those of the BLAS. Comparisons are written so that
NaN passes through, and a diverging network is seen to diverge. Sums may be reordered (that makes them vectors), always
in the same way.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numba

_OPTIONS: dict[str, Any] = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy", "nogil": True}


def _compiled(loop: Callable[..., Any]) -> Any:
    """The loop, compiled when it is first called; the machine code is kept on disk where there is a place for it."""
    try:
        return numba.njit(cache=True, **_OPTIONS)(loop)
    except RuntimeError:  # neither the package's folder nor the user's cache can be written
        return numba.njit(**_OPTIONS)(loop)


@_compiled
def bias_relu(z, b):  # type: ignore[no-untyped-def]
    """z <- max(z + b, 0)."""
    zero = z.dtype.type(0)
    for i in range(z.shape[0]):
        for j in range(z.shape[1]):
            v = z[i, j] + b[j]
            z[i, j] = zero if v <= zero else v


@_compiled
def mask_and_sum(dz, y, db):  # type: ignore[no-untyped-def]
    """dz <- dz where y > 0, else 0; db <- its sum over the rows."""
    zero = dz.dtype.type(0)
    for j in range(dz.shape[1]):
        db[j] = zero
    for i in range(dz.shape[0]):
        for j in range(dz.shape[1]):
            v = dz[i, j] if y[i, j] > zero else zero
            dz[i, j] = v
            db[j] += v


@_compiled
def softmax_cross_entropy(z, t, log_smallest, dz, db):  # type: ignore[no-untyped-def]
    """dz <- (softmax(z) - one_hot(t)) / B, db <- its sum over the rows; the sum of the losses."""
    rows, columns = z.shape
    kind = dz.dtype.type
    scale = kind(1 / rows)
    total = 0.0
    for j in range(columns):
        db[j] = kind(0)
    for i in range(rows):
        largest = z[i, 0]
        for j in range(1, columns):
            if z[i, j] > largest:
                largest = z[i, j]
        shifted = z[i, t[i]] - largest
        normalizer = kind(0)
        for j in range(columns):
            e = math.exp(z[i, j] - largest)
            dz[i, j] = e
            normalizer += e
        log_p = shifted - math.log(normalizer)
        total -= log_smallest if log_p < log_smallest else log_p
        factor = scale / normalizer
        for j in range(columns):
            dz[i, j] *= factor
        dz[i, t[i]] -= scale
        for j in range(columns):
            db[j] += dz[i, j]
    return total


@_compiled
def hits(z, t):  # type: ignore[no-untyped-def]
    """How many rows have their first largest entry in the column of their class."""
    count = 0
    for i in range(z.shape[0]):
        best = 0
        for j in range(1, z.shape[1]):
            if z[i, j] > z[i, best]:
                best = j
        count += best == t[i]
    return count


@_compiled
def gather(source, index, scale, out):  # type: ignore[no-untyped-def]
    """out <- source[index] * scale."""
    for i in range(index.shape[0]):
        row = index[i]
        for j in range(out.shape[1]):
            out[i, j] = source[row, j] * scale


@_compiled
def gather_shifted(source, index, scale, shift, out):  # type: ignore[no-untyped-def]
    """out <- source[index] * scale - shift."""
    for i in range(index.shape[0]):
        row = index[i]
        for j in range(out.shape[1]):
            out[i, j] = source[row, j] * scale - shift[j]


@_compiled
def momentum_update(w, g, v, lr, momentum, l2, clip):  # type: ignore[no-untyped-def]
    """v <- momentum v + d, w <- w - lr v."""
    for i in range(w.size):
        v[i] = momentum * v[i] + (g[i] * clip + l2 * w[i])
        w[i] -= lr * v[i]


@_compiled
def nesterov_update(w, g, v, lr, momentum, l2, clip):  # type: ignore[no-untyped-def]
    """v <- momentum v + d, w <- w - lr (d + momentum v)."""
    for i in range(w.size):
        d = g[i] * clip + l2 * w[i]
        v[i] = momentum * v[i] + d
        w[i] -= lr * (d + momentum * v[i])


@_compiled
def adam_update(w, g, m, v, size, eps, one_minus_beta1, one_minus_beta2, l2, keep, clip):  # type: ignore[no-untyped-def]
    """m and v towards d and d^2, w <- keep w - size m / (sqrt(v) + eps)."""
    for i in range(w.size):
        d = g[i] * clip + l2 * w[i]
        m[i] += (d - m[i]) * one_minus_beta1
        v[i] += (d * d - v[i]) * one_minus_beta2
        w[i] = w[i] * keep - size * m[i] / (math.sqrt(v[i]) + eps)


@_compiled
def rmsprop_update(w, g, v, lr, alpha, one_minus_alpha, eps, l2, clip):  # type: ignore[no-untyped-def]
    """v <- alpha v + (1 - alpha) d^2, w <- w - lr d / (sqrt(v) + eps)."""
    for i in range(w.size):
        d = g[i] * clip + l2 * w[i]
        v[i] = alpha * v[i] + one_minus_alpha * d * d
        w[i] -= lr * d / (math.sqrt(v[i]) + eps)


@_compiled
def adagrad_update(w, g, v, lr, eps, l2, clip):  # type: ignore[no-untyped-def]
    """v <- v + d^2, w <- w - lr d / (sqrt(v) + eps)."""
    for i in range(w.size):
        d = g[i] * clip + l2 * w[i]
        v[i] += d * d
        w[i] -= lr * d / (math.sqrt(v[i]) + eps)


@_compiled
def squared_norm(x):  # type: ignore[no-untyped-def]
    """The sum of x^2."""
    total = 0.0
    for i in range(x.size):
        total += x[i] * x[i]
    return total
