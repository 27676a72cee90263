"""Nodes of losses: from the pre-activations z of the outputs to dz, the gradient of the mean loss.

Each leaves in sums[part] the sum of dz by columns over the part's rows, and in losses[part] the sum of what the samples
lose. Blocks of rows go through the functions entry by entry, as one long vector however few columns there are, then row
by row. `weights` is empty where there are none; `room` has a row for each part, or two, long enough for a block.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit, types
from numba.extending import overload

from xpnet.devices.cpu.native import matrix, number, share, vector
from xpnet.devices.cpu.nodes.elementary import OPTIONS, exponential, logarithm, logarithm_of_one_and
from xpnet.devices.cpu.nodes.parts import ROWS, rows_of_block, taken_over


@njit(inline="always")
def flat(block):
    """A contiguous block as one vector."""
    return block.reshape(block.size)


@njit(inline="always")
def share_of_one(weights, rows):
    """1 over what the weights sum up to, or over the rows; a batch of weightless samples changes nothing."""
    total = 0.0 if weights.shape[0] > 0 else float(rows)
    for i in range(weights.shape[0]):
        total += weights[i]
    return 0.0 if total == 0 else 1 / total


@njit(inline="always")
def shifted(row, out):
    """out <- row less its largest entry."""
    largest = row[0]
    for j in range(1, row.shape[0]):
        if row[j] > largest:
            largest = row[j]
    for j in range(row.shape[0]):
        out[j] = row[j] - largest


@njit(inline="always")
def sum_of(row, zero):
    """The sum of its entries."""
    total = zero
    for j in range(row.shape[0]):
        total += row[j]
    return total


@njit(inline="always")
def exponentials(x, out):
    """out <- exp(x)."""
    for i in range(x.shape[0]):
        out[i] = exponential(x[i])


def softmax(kind):
    """y <- softmax(z), row by row; y may be z. Words: z, y."""

    def node(arguments, part, parts):
        z, y = matrix(arguments, 0, kind), matrix(arguments, 3, kind)
        first, last = share(z.shape[0], part, parts, ROWS)
        step = rows_of_block(z.shape[1])
        for start in range(first, last, step):
            stop = min(start + step, last)
            block = y[start:stop]
            taken_over(flat(z[start:stop]), flat(block))
            for row in block:
                shifted(row, row)
            exponentials(flat(block), flat(block))
            for row in block:
                factor = kind(1) / sum_of(row, kind(0))
                for j in range(row.shape[0]):
                    row[j] *= factor

    return node


@njit(inline="always")
def lost_by_classes(scores, out, t, weights, options, sums):
    """What a block of rows loses by its classes t: (rows, 1), and out <- dz, sums <- sums + its sum by columns.

    scores: z less the largest of its row. weights: of these rows, or empty. options: `share_of_one` of all weights,
    log_smallest and smoothing.
    """
    of_one, log_smallest, smoothing = options
    zero, one, columns, total = type(smoothing)(0), type(smoothing)(1), scores.shape[1], 0.0
    others, own = smoothing / type(smoothing)(columns), one - smoothing
    exponentials(flat(scores), flat(out))
    for i in range(scores.shape[0]):
        score_row, row, c = scores[i], out[i], t[i, 0]
        normalizer = sum_of(row, zero)
        log_normalizer = math.log(normalizer)
        log_p = score_row[c] - log_normalizer
        lost = own * (log_smallest if log_p < log_smallest else log_p)
        if smoothing > 0:
            for j in range(columns):
                log_p = score_row[j] - log_normalizer
                lost += others * (log_smallest if log_p < log_smallest else log_p)
        weight = weights[i] if weights.shape[0] > 0 else one
        share_of_row = type(smoothing)(weight * of_one)
        factor = share_of_row / normalizer
        p = row[c] * factor
        for j in range(columns):
            row[j] = row[j] * factor - others * share_of_row
        row[c] = p - (own + others) * share_of_row
        for j in range(columns):
            sums[j] += row[j]
        total -= weight * lost
    return total


def softmax_cross_entropy(class_kind, kind):
    """By classes t. Words: z, t, dz, sums, losses, room, weights, log_smallest, smoothing."""

    def node(arguments, part, parts):
        z, t, dz = matrix(arguments, 0, kind), matrix(arguments, 3, class_kind), matrix(arguments, 6, kind)
        sums, losses = matrix(arguments, 9, kind)[part], matrix(arguments, 12, types.float64)
        room, weights = matrix(arguments, 15, kind)[2 * part], vector(arguments, 18, kind)
        of_one, columns, total = share_of_one(weights, z.shape[0]), z.shape[1], 0.0
        options = of_one, number(arguments, 20, kind), number(arguments, 21, kind)
        sums[:] = kind(0)
        first, last = share(z.shape[0], part, parts, ROWS)
        step = rows_of_block(columns)
        for start in range(first, last, step):
            stop = min(start + step, last)
            scores = room[: (stop - start) * columns].reshape((stop - start, columns))
            for i in range(stop - start):
                shifted(z[start + i], scores[i])
            total += lost_by_classes(scores, dz[start:stop], t[start:stop], weights[start:stop], options, sums)
        losses[part, 0] = total

    return node


def grouped_softmax_cross_entropy(class_kind, kind):
    """By classes t, one for each group of columns; `ends` has where groups begin and where the last one ends.

    Words: z, t, dz, sums, losses, room, weights, log_smallest, smoothing, ends.
    """

    def node(arguments, part, parts):
        z, t, dz = matrix(arguments, 0, kind), matrix(arguments, 3, class_kind), matrix(arguments, 6, kind)
        sums, losses = matrix(arguments, 9, kind)[part], matrix(arguments, 12, types.float64)
        room, weights = matrix(arguments, 15, kind), vector(arguments, 18, kind)
        of_one, ends, total = share_of_one(weights, z.shape[0]), vector(arguments, 22, types.int64), 0.0
        options = of_one, number(arguments, 20, kind), number(arguments, 21, kind)
        sums[:] = kind(0)
        first, last = share(z.shape[0], part, parts, ROWS)
        step = rows_of_block(z.shape[1])
        for start in range(first, last, step):
            stop = min(start + step, last)
            for group in range(ends.shape[0] - 1):
                begin, end = ends[group], ends[group + 1]
                shape = stop - start, end - begin
                scores = room[2 * part][: shape[0] * shape[1]].reshape(shape)
                gradients = room[2 * part + 1][: shape[0] * shape[1]].reshape(shape)
                for i in range(stop - start):
                    shifted(z[start + i][begin:end], scores[i])
                classes = t[start:stop, group : group + 1]
                total += lost_by_classes(scores, gradients, classes, weights[start:stop], options, sums[begin:end])
                for i in range(stop - start):
                    dz[start + i][begin:end] = gradients[i]
        losses[part, 0] = total

    return node


def softmax_cross_entropy_of_probabilities(kind):
    """By probabilities t, a row for each sample. Words: as for softmax_cross_entropy."""

    def node(arguments, part, parts):
        z, t, dz = matrix(arguments, 0, kind), matrix(arguments, 3, kind), matrix(arguments, 6, kind)
        sums, losses = matrix(arguments, 9, kind)[part], matrix(arguments, 12, types.float64)
        room, weights = matrix(arguments, 15, kind), vector(arguments, 18, kind)
        log_smallest, smoothing = number(arguments, 20, kind), number(arguments, 21, kind)
        columns, of_one, total = z.shape[1], share_of_one(weights, z.shape[0]), 0.0
        others, own = smoothing / kind(columns), kind(1) - smoothing
        sums[:] = kind(0)
        first, last = share(z.shape[0], part, parts, ROWS)
        step = rows_of_block(columns)
        for start in range(first, last, step):
            rows = min(step, last - start)
            scores, p = room[2 * part][: rows * columns].reshape((rows, columns)), dz[start : start + rows]
            for i in range(rows):
                shifted(z[start + i], scores[i])
            exponentials(flat(scores), flat(p))
            for i in range(rows):
                score_row, row, t_row = scores[i], p[i], t[start + i]
                normalizer = sum_of(row, kind(0))
                log_normalizer = math.log(normalizer)
                weight = weights[start + i] if weights.shape[0] > 0 else kind(1)
                share_of_row = kind(weight * of_one)
                factor, lost = share_of_row / normalizer, kind(0)
                for j in range(columns):
                    target = own * t_row[j] + others
                    log_p = score_row[j] - log_normalizer
                    lost += target * (log_smallest if log_p < log_smallest else log_p)
                    row[j] = row[j] * factor - target * share_of_row
                    sums[j] += row[j]
                total -= weight * lost
        losses[part, 0] = total

    return node


def pointwise(name, kind):
    """The loss of that name of each entry of y, which dz may be, and t.

    Words: y, t, dz, sums, losses, room, slope (of the output, empty for 1), weights, scale, and the options a and b.
    """

    def node(arguments, part, parts):
        y, t, dz = matrix(arguments, 0, kind), matrix(arguments, 3, kind), matrix(arguments, 6, kind)
        sums, losses = matrix(arguments, 9, kind)[part], matrix(arguments, 12, types.float64)
        room, slope = matrix(arguments, 15, kind)[part], matrix(arguments, 18, kind)
        weights, scale = vector(arguments, 21, kind), number(arguments, 23, kind)
        a, b = number(arguments, 24, kind), number(arguments, 25, kind)
        columns, of_one, total = y.shape[1], scale * share_of_one(weights, y.shape[0]), 0.0
        sums[:] = kind(0)
        first, last = share(y.shape[0], part, parts, ROWS)
        step = rows_of_block(columns)
        for start in range(first, last, step):
            stop = min(start + step, last)
            block = dz[start:stop]
            values, gradients, targets = room[: block.size], flat(block), flat(t[start:stop])
            taken_over(flat(y[start:stop]), gradients)
            for i in range(values.shape[0]):
                values[i], gradients[i] = lost(name, gradients[i], targets[i], a, b)
            if slope.shape[0] > 0:
                slopes = flat(slope[start:stop])
                for i in range(values.shape[0]):
                    gradients[i] *= slopes[i]
            for i in range(stop - start):
                row = block[i]
                weight = weights[start + i] if weights.shape[0] > 0 else kind(1)
                factor = kind(weight * of_one)
                for j in range(columns):
                    row[j] *= factor
                    sums[j] += row[j]
                total += weight * sum_of(values[i * columns : (i + 1) * columns], kind(0))
        losses[part, 0] = scale * total

    return node


def lost(name: str, y: Any, t: Any, a: Any, b: Any) -> Any:
    """The loss of that name at output (or pre-activation) y and target t, and its derivative by y."""


@overload(lost, jit_options=OPTIONS, prefer_literal=True)
def _(name, y, t, a, b):
    function = njit(**OPTIONS)(_LOSSES[name.literal_value](np.dtype(str(y)).type))
    return lambda name, y, t, a, b: function(y, t, a, b)


# Each takes the type of the numbers, for constants are of that type, and returns f(y, t, a, b).


def _squared_error(real: Any) -> Callable[..., Any]:
    two = real(2)

    def squared_error(y, t, a, b):
        error = y - t
        return error * error, two * error

    return squared_error


def _absolute_error(real: Any) -> Callable[..., Any]:
    zero, one = real(0), real(1)

    def absolute_error(y, t, a, b):
        error = y - t
        return abs(error), one if error > zero else (-one if error < zero else error)

    return absolute_error


def _huber(real: Any) -> Callable[..., Any]:
    half = real(0.5)

    def huber(y, t, delta, b):
        error = y - t
        clipped = delta if error > delta else (-delta if error < -delta else error)
        return clipped * (error - half * clipped), clipped

    return huber


def _poisson(real: Any) -> Callable[..., Any]:
    def poisson(z, t, a, b):
        error = exponential(z) - t
        return t * (logarithm(t) - z) + error, error  # of 0 it is finite

    return poisson


def _sigmoid_cross_entropy(real: Any) -> Callable[..., Any]:
    zero, one, half = real(0), real(1), real(0.5)

    def sigmoid_cross_entropy(z, t, largest, smoothing):
        t = t * (one - smoothing) + half * smoothing
        e = exponential(-abs(z))
        value = ((z if z > zero else zero) - z * t) + logarithm_of_one_and(e)
        return largest if value > largest else value, (one if z > zero else e) / (one + e) - t

    return sigmoid_cross_entropy


_LOSSES = {
    "squared_error": _squared_error,
    "absolute_error": _absolute_error,
    "huber": _huber,
    "poisson": _poisson,
    "sigmoid_cross_entropy": _sigmoid_cross_entropy,
}
