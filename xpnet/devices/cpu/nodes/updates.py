"""Nodes that change parameters, or sum over them: loops over one part of flat blocks, but for `max_norm`."""

from __future__ import annotations

import math

from numba import types

from xpnet.devices.cpu.native import matrix, number, vector
from xpnet.devices.cpu.nodes.parts import rows_part, sum_rows, vector_part

SHRINKING = {types.float32: 2.0**-80, types.float64: 2.0**-640}
"""Brings numbers whose squares overflow to where they do not."""


def sgd_update(kind):
    """w <- w - lr g. Words: w, g, lr."""

    def node(arguments, part, parts):
        w, g, lr = (
            vector_part(arguments, 0, kind, part, parts),
            vector_part(arguments, 2, kind, part, parts),
            number(arguments, 4, kind),
        )
        for i in range(w.shape[0]):
            w[i] -= lr * g[i]

    return node


def momentum_update(kind):
    """v <- momentum v + d, w <- w - lr v, with d = clip g + l2 w. Words: w, g, v, lr, momentum, l2, clip."""

    def node(arguments, part, parts):
        w, g, v = (
            vector_part(arguments, 0, kind, part, parts),
            vector_part(arguments, 2, kind, part, parts),
            vector_part(arguments, 4, kind, part, parts),
        )
        lr, momentum = number(arguments, 6, kind), number(arguments, 7, kind)
        l2, clip = number(arguments, 8, kind), number(arguments, 9, kind)
        for i in range(w.shape[0]):
            v[i] = momentum * v[i] + (g[i] * clip + l2 * w[i])
            w[i] -= lr * v[i]

    return node


def nesterov_update(kind):
    """v <- momentum v + d, w <- w - lr (d + momentum v). Words: as for momentum_update."""

    def node(arguments, part, parts):
        w, g, v = (
            vector_part(arguments, 0, kind, part, parts),
            vector_part(arguments, 2, kind, part, parts),
            vector_part(arguments, 4, kind, part, parts),
        )
        lr, momentum = number(arguments, 6, kind), number(arguments, 7, kind)
        l2, clip = number(arguments, 8, kind), number(arguments, 9, kind)
        for i in range(w.shape[0]):
            d = g[i] * clip + l2 * w[i]
            v[i] = momentum * v[i] + d
            w[i] -= lr * (d + momentum * v[i])

    return node


def velocity_update(kind):
    """v <- momentum v - lr d, w <- w + v, with d = clip g + l2 w. Words: as for momentum_update."""

    def node(arguments, part, parts):
        w, g, v = (
            vector_part(arguments, 0, kind, part, parts),
            vector_part(arguments, 2, kind, part, parts),
            vector_part(arguments, 4, kind, part, parts),
        )
        lr, momentum = number(arguments, 6, kind), number(arguments, 7, kind)
        l2, clip = number(arguments, 8, kind), number(arguments, 9, kind)
        for i in range(w.shape[0]):
            v[i] = momentum * v[i] - lr * (g[i] * clip + l2 * w[i])
            w[i] += v[i]

    return node


def nesterov_velocity_update(kind):
    """v <- momentum v - lr d, w <- w + momentum v - lr d. Words: as for momentum_update."""

    def node(arguments, part, parts):
        w, g, v = (
            vector_part(arguments, 0, kind, part, parts),
            vector_part(arguments, 2, kind, part, parts),
            vector_part(arguments, 4, kind, part, parts),
        )
        lr, momentum = number(arguments, 6, kind), number(arguments, 7, kind)
        l2, clip = number(arguments, 8, kind), number(arguments, 9, kind)
        for i in range(w.shape[0]):
            step = lr * (g[i] * clip + l2 * w[i])
            v[i] = momentum * v[i] - step
            w[i] += momentum * v[i] - step

    return node


def adam_update(kind):
    """m and v towards d and d^2, w <- keep w - size m / (sqrt(v) + eps), with d = clip g + l2 w.

    Words: w, g, m, v, size, eps, 1 - beta1, 1 - beta2, l2, keep, clip.
    """

    def node(arguments, part, parts):
        w, g, m, v = (
            vector_part(arguments, 0, kind, part, parts),
            vector_part(arguments, 2, kind, part, parts),
            vector_part(arguments, 4, kind, part, parts),
            vector_part(arguments, 6, kind, part, parts),
        )
        size, eps = number(arguments, 8, kind), number(arguments, 9, kind)
        one_minus_beta1, one_minus_beta2 = number(arguments, 10, kind), number(arguments, 11, kind)
        l2, keep, clip = number(arguments, 12, kind), number(arguments, 13, kind), number(arguments, 14, kind)
        for i in range(w.shape[0]):
            d = g[i] * clip + l2 * w[i]
            m[i] += (d - m[i]) * one_minus_beta1
            v[i] += (d * d - v[i]) * one_minus_beta2
            w[i] = w[i] * keep - size * m[i] / (math.sqrt(v[i]) + eps)

    return node


def rmsprop_update(kind):
    """v <- alpha v + (1 - alpha) d^2, w <- w - lr d / (sqrt(v) + eps), with d = clip g + l2 w.

    Words: w, g, v, lr, alpha, 1 - alpha, eps, l2, clip.
    """

    def node(arguments, part, parts):
        w, g, v = (
            vector_part(arguments, 0, kind, part, parts),
            vector_part(arguments, 2, kind, part, parts),
            vector_part(arguments, 4, kind, part, parts),
        )
        lr, alpha = number(arguments, 6, kind), number(arguments, 7, kind)
        one_minus_alpha, eps = number(arguments, 8, kind), number(arguments, 9, kind)
        l2, clip = number(arguments, 10, kind), number(arguments, 11, kind)
        for i in range(w.shape[0]):
            d = g[i] * clip + l2 * w[i]
            v[i] = alpha * v[i] + one_minus_alpha * d * d
            w[i] -= lr * d / (math.sqrt(v[i]) + eps)

    return node


def adagrad_update(kind):
    """v <- v + d^2, w <- w - lr d / (sqrt(v) + eps), with d = clip g + l2 w. Words: w, g, v, lr, eps, l2, clip."""

    def node(arguments, part, parts):
        w, g, v = (
            vector_part(arguments, 0, kind, part, parts),
            vector_part(arguments, 2, kind, part, parts),
            vector_part(arguments, 4, kind, part, parts),
        )
        lr, eps = number(arguments, 6, kind), number(arguments, 7, kind)
        l2, clip = number(arguments, 8, kind), number(arguments, 9, kind)
        for i in range(w.shape[0]):
            d = g[i] * clip + l2 * w[i]
            v[i] += d * d
            w[i] -= lr * d / (math.sqrt(v[i]) + eps)

    return node


def squared_norm(kind):
    """sums[part] <- the sum of x^2 over the part. Words: x, sums."""

    def node(arguments, part, parts):
        x, sums = vector_part(arguments, 0, kind, part, parts), matrix(arguments, 2, types.float64)
        total = 0.0
        for i in range(x.shape[0]):
            total += x[i] * x[i]
        sums[part, 0] = total

    return node


def squared_norms(kind):
    """sums[part] <- the sum of x^2 over the part, and that of shrunk x. Words: x, sums."""
    shrinking = SHRINKING[types.float64]

    def node_of_float32(arguments, part, parts):  # no sum of their squares is too large for float64
        x, sums = vector_part(arguments, 0, kind, part, parts), matrix(arguments, 2, types.float64)
        total = 0.0
        for i in range(x.shape[0]):
            value = types.float64(x[i])
            total += value * value
        sums[part, 0] = sums[part, 1] = total

    if kind == types.float32:
        return node_of_float32

    def node(arguments, part, parts):
        x, sums = vector_part(arguments, 0, kind, part, parts), matrix(arguments, 2, types.float64)
        total, shrunk = 0.0, 0.0
        for i in range(x.shape[0]):
            value = types.float64(x[i])
            total += value * value
            value *= shrinking
            shrunk += value * value
        sums[part, 0], sums[part, 1] = total, shrunk

    return node


def clip_factor(kind):
    """scale <- min(1, limit / (norm + 1e-6)), by the parts' sums of squares. Words: sums, scale, limit."""
    shrinking = SHRINKING[types.float64]

    def node(arguments, part, parts):
        sums, scale = matrix(arguments, 0, types.float64), vector(arguments, 3, kind)
        limit, total, shrunk = types.float64(number(arguments, 5, kind)), 0.0, 0.0
        for i in range(sums.shape[0]):
            total += sums[i, 0]
            shrunk += sums[i, 1]
        small, large = limit / (math.sqrt(total) + 1e-6), limit / math.sqrt(shrunk) * shrinking
        factor = small if total < math.inf else large  # NaN where that is
        scale[0] = kind(1) if factor > 1 else kind(factor)

    return node


def squares_by_column(kind):
    """sums[part] <- the sums of w^2 by columns over the part's rows, then those of shrunk w. Words: w, sums."""
    shrinking = SHRINKING[kind]

    def node(arguments, part, parts):
        w, sums = rows_part(arguments, 0, kind, part, parts), matrix(arguments, 3, kind)[part]
        sums[:] = kind(0)
        columns = w.shape[1]
        squares, shrunk = sums[:columns], sums[columns:]
        for row in w:
            for j in range(columns):
                value = row[j]
                squares[j] += value * value
                value *= kind(shrinking)
                shrunk[j] += value * value

    return node


def bounded_columns(kind):
    """w_j <- w_j min(1, limit / |w_j|) for columns j, from their parts' squares. Words: w, sums, factors, limit."""
    shrinking = SHRINKING[kind]

    def node(arguments, part, parts):
        w, sums = rows_part(arguments, 0, kind, part, parts), matrix(arguments, 3, kind)
        factors, limit = matrix(arguments, 6, kind)[part], number(arguments, 9, kind)
        sum_rows(sums, factors)
        for j in range(w.shape[1]):
            norm, large = math.sqrt(factors[j]), limit / math.sqrt(factors[w.shape[1] + j]) * kind(shrinking)
            factors[j] = limit / (limit if norm < limit else norm) if norm < math.inf else large  # NaN where that is
        for row in w:
            for j in range(row.shape[0]):
                row[j] *= factors[j]

    return node
