"""Nodes of metrics: sums over the part's rows. An empty array of weights stands for none."""

from __future__ import annotations

from numba import types

from xpnet.devices.cpu.native import matrix, share, vector
from xpnet.devices.cpu.nodes.parts import ROWS, rows_part


def hits(class_kind, kind):
    """sums[part] <- rows whose first largest entry is in the column of their class. Words: z, t, weights, sums."""

    def node(arguments, part, parts):
        z, t, weights = matrix(arguments, 0, kind), vector(arguments, 3, class_kind), vector(arguments, 5, kind)
        first, last = share(z.shape[0], part, parts, ROWS)
        total, weighted = 0.0, weights.shape[0] > 0
        for i in range(first, last):
            row, best = z[i], 0
            for j in range(1, row.shape[0]):
                if row[j] > row[best]:
                    best = j
            if best == t[i]:
                total += weights[i] if weighted else kind(1)
        matrix(arguments, 7, types.float64)[part, 0] = total

    return node


def grouped_hits(class_kind, kind):
    """sums[part] <- rows that have so in every group of columns, by `ends`. Words: z, t, ends, weights, sums."""

    def node(arguments, part, parts):
        z, t, ends = matrix(arguments, 0, kind), matrix(arguments, 3, class_kind), vector(arguments, 6, types.int64)
        weights = vector(arguments, 8, kind)
        first, last = share(z.shape[0], part, parts, ROWS)
        total, weighted = 0.0, weights.shape[0] > 0
        for i in range(first, last):
            row, classes, wrong = z[i], t[i], 0
            for group in range(classes.shape[0]):
                best = ends[group]
                for j in range(ends[group], ends[group + 1]):
                    if row[j] > row[best]:
                        best = j
                wrong += best - ends[group] != classes[group]
            if wrong == 0:
                total += weights[i] if weighted else kind(1)
        matrix(arguments, 10, types.float64)[part, 0] = total

    return node


def label_hits(kind):
    """sums[part] <- rows whose entries are positive where t is 1, and not where it is 0. Words: as for hits."""

    def node(arguments, part, parts):
        z, t, weights = matrix(arguments, 0, kind), matrix(arguments, 3, kind), vector(arguments, 6, kind)
        first, last = share(z.shape[0], part, parts, ROWS)
        total, weighted = 0.0, weights.shape[0] > 0
        for i in range(first, last):
            row, t_row, wrong = z[i], t[i], 0
            for j in range(row.shape[0]):
                wrong += (kind(1) if row[j] > 0 else kind(0)) != t_row[j]
            if wrong == 0:
                total += weights[i] if weighted else kind(1)
        matrix(arguments, 8, types.float64)[part, 0] = total

    return node


def squared_errors(kind):
    """sums[part] <- the sum over rows of mean_j (y_ij - t_ij)^2. Words: y, t, weights, sums."""

    def node(arguments, part, parts):
        y, t = rows_part(arguments, 0, kind, part, parts), rows_part(arguments, 3, kind, part, parts)
        weights, first = vector(arguments, 6, kind), share(matrix(arguments, 0, kind).shape[0], part, parts, ROWS)[0]
        total = 0.0
        for i in range(y.shape[0]):
            row, t_row, squares = y[i], t[i], 0.0
            for j in range(row.shape[0]):
                error = row[j] - t_row[j]
                squares += error * error
            total += squares * weights[first + i] if weights.shape[0] > 0 else squares
        matrix(arguments, 8, types.float64)[part, 0] = total / y.shape[1]

    return node
