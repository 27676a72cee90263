"""Nodes of dropout: words that look random, by key, row and column."""

from __future__ import annotations

import numpy as np
from numba import njit, types

from xpnet.devices.cpu.native import matrix, number, share, word
from xpnet.devices.cpu.nodes.parts import ROWS, taken_over


@njit(inline="always")
def mixed(x):
    """lowbias32(x). Numba computes with 64 bits where two numbers of 32 meet: all but 32 are cut off at every step."""
    x = np.uint32((x ^ (x >> np.uint32(16))) * np.uint32(0x7FEB352D))
    x = np.uint32((x ^ (x >> np.uint32(15))) * np.uint32(0x846CA68B))
    return np.uint32(x ^ (x >> np.uint32(16)))


@njit(inline="always")
def hash_of_row(key, i):
    """What all words of row i are made of."""
    return mixed(np.uint32(key + np.uint32(i)))


@njit(inline="always")
def hash_of_entry(row, j):
    """The word in column j of the row of that hash."""
    return mixed(np.uint32(row + np.uint32(j)))


def random_bits():
    """out_ij <- hash(hash(key + i) + j). Words: key, out."""

    def node(arguments, part, parts):
        key, out = number(arguments, 0, types.uint32), matrix(arguments, 1, types.uint32)
        first, last = share(out.shape[0], part, parts, ROWS)
        for i in range(first, last):
            row, out_row = hash_of_row(key, i), out[i]
            for j in range(out_row.shape[0]):
                out_row[j] = hash_of_entry(row, j)

    return node


def dropout(kind):
    """out <- y * (factor where the word is at least threshold, else 0); out may be y.

    Words: key, y, out, threshold, factor.
    """

    def node(arguments, part, parts):
        key, threshold, factor = (
            number(arguments, 0, types.uint32),
            np.uint32(word(arguments, 7)),
            number(arguments, 8, kind),
        )
        y, out = matrix(arguments, 1, kind), matrix(arguments, 4, kind)
        first, last = share(out.shape[0], part, parts, ROWS)
        for i in range(first, last):
            row, out_row = hash_of_row(key, i), out[i]
            taken_over(y[i], out_row)
            for j in range(out_row.shape[0]):
                out_row[j] *= factor if hash_of_entry(row, j) >= threshold else kind(0)

    return node


def dropout_and_slope(slope_kind, kind):
    """The same, and slope <- slope * (1 or 0). Words: key, y, out, threshold, factor, slope."""

    def node(arguments, part, parts):
        key, threshold, factor = (
            number(arguments, 0, types.uint32),
            np.uint32(word(arguments, 7)),
            number(arguments, 8, kind),
        )
        y, out, slope = matrix(arguments, 1, kind), matrix(arguments, 4, kind), matrix(arguments, 9, slope_kind)
        first, last = share(out.shape[0], part, parts, ROWS)
        for i in range(first, last):
            row, out_row, slope_row = hash_of_row(key, i), out[i], slope[i]
            taken_over(y[i], out_row)
            for j in range(out_row.shape[0]):
                kept = hash_of_entry(row, j) >= threshold
                out_row[j] *= factor if kept else kind(0)
                slope_row[j] *= slope_kind(kept)

    return node
