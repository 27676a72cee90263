"""Labels of several outputs with several classes each, which scikit-learn's LabelBinarizer does not know."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Any

import numpy as np
from sklearn.utils.multiclass import type_of_target


def has_several_outputs(y: Any) -> bool:
    """Whether these are labels (N, G) of which some column has more than two classes."""
    try:
        shape = y.shape if hasattr(y, "shape") else np.asarray(y).shape
    except ValueError:  # rows of different lengths, for scikit-learn to speak of
        return False
    return len(shape) == 2 and shape[1] > 1 and type_of_target(y) == "multiclass-multioutput"


def are_of_several_outputs(classes: Any) -> bool:
    """Whether these are the classes of each of several outputs, not those of one."""
    return classes is not None and len(classes) > 0 and all(np.ndim(labels) == 1 for labels in classes)


class MultiOutputBinarizer:
    """One column for each class of each output, with the methods of a LabelBinarizer.

    Attributes:
        classes_: The labels of each output, sorted.
        groups: How many columns each output has.
    """

    y_type_ = "multiclass-multioutput"

    def __init__(self, classes: Sequence[Any]) -> None:
        self.classes_ = [np.unique(labels) for labels in classes]

    @property
    def groups(self) -> tuple[int, ...]:
        """How many classes each output has."""
        return tuple(len(labels) for labels in self.classes_)

    def knows_the_same(self, classes: Sequence[np.ndarray]) -> bool:
        """Whether these are its classes too."""
        return len(classes) == len(self.classes_) and all(map(np.array_equal, classes, self.classes_))

    def transform(self, y: np.ndarray) -> np.ndarray:
        """(N, O) bool from labels (N, G).

        Raises:
            ValueError: There is another number of outputs, or a label that is not among the classes.
        """
        if y.ndim != 2 or y.shape[1] != len(self.classes_):
            raise ValueError(f"y: got shape {y.shape}, expected {len(self.classes_)} columns as in `classes_`.")
        for i, (labels, column) in enumerate(zip(self.classes_, y.T, strict=True)):
            unknown = np.setdiff1d(column, labels)
            if len(unknown):
                raise ValueError(
                    f"y: column {i} has classes not in `classes_[{i}]`: {unknown}; name all classes of each output in "
                    "the first call of partial_fit, or fit anew."
                )
        return np.hstack([column[:, None] == labels for labels, column in zip(self.classes_, y.T, strict=True)])

    def inverse_transform(self, scores: np.ndarray) -> np.ndarray:
        """(N, G) labels, those of the largest score of each output."""
        return np.column_stack(
            [labels[i] for labels, i in zip(self.classes_, numbers(scores, self.groups).T, strict=True)]
        )


def split(columns: Any, groups: Sequence[int]) -> list[Any]:
    """The columns of each group."""
    return [columns[:, end - size : end] for end, size in zip(accumulate(groups), groups, strict=True)]


def numbers(scores: np.ndarray, groups: Sequence[int]) -> np.ndarray:
    """(N, G) int32: which column of each group is the largest."""
    return np.column_stack([part.argmax(axis=1) for part in split(scores, groups)]).astype(np.int32)
