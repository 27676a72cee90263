"""How well classes and labels are told from each other."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xpnet.inference.scoring import calibration_error
from xpnet.reporting.report.examined import Examined, sets_of

if TYPE_CHECKING:
    from xpnet.task import Task

BINS = 10
"""Of the calibration curve."""


@dataclass(frozen=True)
class Quality:
    """How well one class is told from all others; None where nothing is known of it.

    Attributes:
        precision: Of those that were said to be of it, the part that are.
        recall: Of those that are of it, the part that were said to be.
        f1: Their harmonic mean.
        support: Samples of it among those that were looked at.
    """

    name: str
    precision: float | None
    recall: float | None
    f1: float | None
    support: int


@dataclass(frozen=True)
class Balance:
    """Samples of one class in each set: the number, and its part of the set."""

    name: str
    counts: list[tuple[int, float]]

    @property
    def largest(self) -> float:
        """The largest part."""
        return max(share for _, share in self.counts)


@dataclass(frozen=True)
class Calibration:
    """How often the network is right where it is so sure.

    Attributes:
        confidence, right: (B,) the mean of the bins' probabilities, and how often these came true.
        counts: (B,) samples.
        error: The calibration error of what was said.
        of: What the probabilities are of.
    """

    confidence: np.ndarray
    right: np.ndarray
    counts: np.ndarray
    error: float
    of: str


def qualities(seen: Examined) -> list[Quality]:
    """Precision, recall and F1 of every class or label."""
    from sklearn.metrics import precision_recall_fscore_support

    numbers = range(len(seen.classes))
    columns = precision_recall_fscore_support(seen.y, seen.predicted, labels=numbers, zero_division=np.nan)
    return [
        Quality(name, _known(precision), _known(recall), _known(f1), int(support))
        for name, precision, recall, f1, support in zip(seen.classes, *columns, strict=True)
    ]


def confusion(seen: Examined) -> np.ndarray:
    """(K, K) how many samples of class i were said to be of class j."""
    from sklearn.metrics import confusion_matrix

    return confusion_matrix(seen.y, seen.predicted, labels=range(len(seen.classes)))


def calibration(seen: Examined) -> Calibration:
    """How often probabilities come true: those of the second of two classes, of labels, or of the class said."""
    probabilities, came_true, of = _probabilities(seen)
    places = np.minimum((BINS * probabilities).astype(int), BINS - 1)
    counts, confidence, right = (np.bincount(places, weights) for weights in (None, probabilities, came_true))
    some = counts > 0
    sure = np.maximum(seen.outputs, 1 - seen.outputs) if seen.y.ndim > 1 else seen.outputs.max(axis=1)
    error = calibration_error(sure.ravel(), (seen.predicted == seen.y).ravel())
    counts = counts[some]
    return Calibration(confidence[some] / counts, right[some] / counts, counts, error, of)


def balance(task: Task) -> list[Balance]:
    """How many samples of each class there are in each set."""
    sets = [(samples.y[samples.rows], len(samples)) for samples in sets_of(task).values()]
    names = [str(label) for label in task.network.classes or ()]
    counts = [np.bincount(y, minlength=len(names)) if y.ndim == 1 else y.sum(axis=0, dtype=int) for y, _ in sets]
    return [
        Balance(name, [(int(count[i]), float(count[i]) / size) for count, (_, size) in zip(counts, sets, strict=True)])
        for i, name in enumerate(names)
    ]


def _known(value: float) -> float | None:
    return None if np.isnan(value) else float(value)


def _probabilities(seen: Examined) -> tuple[np.ndarray, np.ndarray, str]:
    """(M,) probabilities, whether each came true, and what they are of."""
    outputs = np.clip(seen.outputs.astype(np.float64), 0, 1)
    if seen.network.task == "multilabel":
        return outputs.ravel(), seen.y.ravel() > 0, "each label"
    if len(seen.classes) == 2:
        return outputs[:, 1], seen.y == 1, f"class {seen.classes[1]}"
    said = outputs[np.arange(len(outputs)), seen.predicted]
    return said, seen.y == seen.predicted, "the class that is said"
