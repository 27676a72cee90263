"""How good a model is on data with targets, by scikit-learn's measures."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np

from xpnet.errors import DataError
from xpnet.inference.inputs import Piece
from xpnet.network import MLP

BINS = 15
"""Of the calibration error, by confidence: Guo et al. 2017 (arXiv 1706.04599), section 2."""

_SMALLEST = 1e-12
"""A probability is not taken for less, for the loss."""


@dataclass(frozen=True)
class Scores:
    """How good a model is.

    Attributes:
        task: "classification", "multilabel" or "regression".
        samples: So many were measured.
        values: The measures, by name; None for one that these data do not have.
        classes: For each class its name, precision, recall, F1 and samples; none for regression.
        confusion: (K, K) samples by true and predicted class; None where there is one class a sample no longer.
    """

    task: str
    samples: int
    values: dict[str, float | None]
    classes: list[dict[str, Any]]
    confusion: np.ndarray | None

    def as_dict(self) -> dict[str, Any]:
        """As JSON can hold it."""
        values = {k: None if v is None or not math.isfinite(v) else v for k, v in self.values.items()}
        confusion = {} if self.confusion is None else {"confusion": self.confusion.tolist()}
        return {"task": self.task, "samples": self.samples, **values, "classes": self.classes, **confusion}


def score(network: MLP, pieces: Iterable[Piece]) -> Scores:
    """Predict all pieces, then measure; what is kept of them are targets and outputs alone.

    Raises:
        DataError: There is nothing to measure.
    """
    outputs, targets = [], []
    for piece in pieces:
        assert piece.targets is not None
        outputs.append(network.predict_proba(piece.x))
        targets.append(piece.targets.y)
    if not targets:
        raise DataError("data: got no samples with a target, expected some: give a table with values in its column")
    p, y = np.concatenate(outputs), np.concatenate(targets)
    measure = {"classification": _classes, "multilabel": _labels, "regression": _numbers}[network.task or ""]
    return measure(network, p, y)


def _classes(network: MLP, p: np.ndarray, y: np.ndarray) -> Scores:
    from sklearn.metrics import confusion_matrix

    numbers = np.arange(p.shape[1])
    predicted = p.argmax(axis=1)
    probabilities = network.output in ("softmax", "sigmoid")
    values: dict[str, float | None] = {
        "loss": float(-np.log(np.maximum(p[np.arange(len(y)), y], _SMALLEST)).mean()) if probabilities else None,
        "accuracy": float((predicted == y).mean()),
        "balanced_accuracy": _balanced(y, predicted),
        "auc": _auc(y, p) if probabilities else None,
        "calibration_error": calibration_error(p.max(axis=1), predicted == y) if probabilities else None,
    }
    names = network.classes or tuple(numbers.tolist())
    confusion = confusion_matrix(y, predicted, labels=numbers)
    return Scores("classification", len(y), values, _per_class(y, predicted, names), confusion)


def _labels(network: MLP, p: np.ndarray, y: np.ndarray) -> Scores:
    from sklearn.metrics import f1_score

    clipped = np.clip(p.astype(np.float64), _SMALLEST, 1 - _SMALLEST)
    predicted = (p > 0.5).astype(int)
    both = [i for i in range(y.shape[1]) if 0 < y[:, i].sum() < len(y)]
    values: dict[str, float | None] = {
        "loss": float(-np.where(y, np.log(clipped), np.log1p(-clipped)).sum(axis=1).mean()),
        "accuracy": float((predicted == y).mean()),
        "exact_match": float((predicted == y).all(axis=1).mean()),
        "f1": float(f1_score(y, predicted, average="macro", zero_division=0)),
        "auc": float(np.mean([_auc(y[:, i], np.stack([1 - p[:, i], p[:, i]], 1)) for i in both])) if both else None,
        "calibration_error": calibration_error(np.maximum(p, 1 - p).ravel(), (predicted == y).ravel()),
    }
    names = network.classes or tuple(range(y.shape[1]))
    return Scores("multilabel", len(y), values, _per_class(y, predicted, names), None)


def _numbers(network: MLP, p: np.ndarray, y: np.ndarray) -> Scores:
    from sklearn.metrics import mean_absolute_error, mean_squared_error, r2_score

    values: dict[str, float | None] = {
        "rmse": math.sqrt(mean_squared_error(y, p)),
        "mae": float(mean_absolute_error(y, p)),
        "r2": float(r2_score(y, p)) if len(y) > 1 else None,
    }
    return Scores("regression", len(y), values, [], None)


def _per_class(y: np.ndarray, predicted: np.ndarray, names: Any) -> list[dict[str, Any]]:
    from sklearn.metrics import precision_recall_fscore_support

    labels = list(range(len(names)))
    columns = precision_recall_fscore_support(y, predicted, labels=labels, zero_division=0)
    return [
        {"class": name, "precision": float(p), "recall": float(r), "f1": float(f), "samples": int(n)}
        for name, p, r, f, n in zip(names, *columns, strict=True)
    ]


def _balanced(y: np.ndarray, predicted: np.ndarray) -> float:
    """The mean recall of the classes that occur."""
    return float(np.mean([(predicted[y == label] == label).mean() for label in np.unique(y)]))


def _auc(y: np.ndarray, p: np.ndarray) -> float | None:
    """The area under the ROC curve; of several classes the mean of each against the rest, of those that occur."""
    from sklearn.metrics import roc_auc_score

    areas = [
        roc_auc_score(y == label, p[:, label])
        for label in (range(p.shape[1]) if p.shape[1] > 2 else (1,))
        if 0 < (y == label).sum() < len(y)
    ]
    return float(np.mean(areas)) if areas else None


def calibration_error(confidence: np.ndarray, right: np.ndarray) -> float:
    """sum over bins of confidence of |mean confidence - part that is right| n_bin / n."""
    places = np.minimum((confidence * BINS).astype(int), BINS - 1)
    gaps = np.bincount(places, weights=confidence.astype(np.float64) - right, minlength=BINS)
    return float(np.abs(gaps).sum() / len(confidence))
