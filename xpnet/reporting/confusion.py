"""What is taken for what: whole where there are few classes, else the pairs that are confused most."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MOST_IN_A_MATRIX = 20
"""Classes whose confusion is shown as a matrix."""

MOST_PAIRS = 15
"""Pairs of classes that are listed where there are more."""


@dataclass(frozen=True)
class Confused:
    """A pair of classes: samples of the true one that were taken for the other, and their part of the class."""

    true: str
    predicted: str
    count: int
    share: float


def most_confused(matrix: np.ndarray, classes: list[str]) -> list[Confused]:
    """The pairs of classes that are taken for each other most often. matrix: (K, K), by true and predicted class."""
    errors = matrix - np.diag(np.diag(matrix))
    totals = matrix.sum(axis=1)
    places = np.argsort(-errors, axis=None, kind="stable")[:MOST_PAIRS]
    pairs = [divmod(int(place), len(classes)) for place in places]
    return [
        Confused(classes[i], classes[j], int(errors[i, j]), float(errors[i, j] / totals[i]))
        for i, j in pairs
        if errors[i, j] > 0
    ]
