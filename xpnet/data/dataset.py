"""The one shape that every source of data is brought into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from xpnet.data.checks import Label, Targets, Task, check_samples, encode_targets
from xpnet.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Matrix: TypeAlias = "np.ndarray | csr_array"


@dataclass(frozen=True)
class Dataset:
    """Holds checked samples and targets, with a test set where the source has one.

    Attributes:
        name: What reports call the data.
        x: Samples as stored, shape (N, I): C-contiguous or CSR; uint8, float32 or float64.
        y: Targets: int32 (N,) class indices, uint8 (N, K) of 0 and 1 for multilabel, or float64 (N, O) for regression.
        task: What ``y`` asks for.
        classes: Labels by index; None for regression.
        x_test: Test samples, of the kind of ``x``.
        y_test: Test targets, of the kind of ``y``.
        scale: What stored samples are multiplied by unless the user asks for another transform.
        image_shape: Shape of one sample where it is an image.
    """

    name: str
    x: Matrix
    y: np.ndarray
    task: Task
    classes: tuple[Label, ...] | None
    x_test: Matrix | None = None
    y_test: np.ndarray | None = None
    scale: float = 1.0
    image_shape: tuple[int, ...] | None = None


def checked_dataset(
    name: str,
    train: tuple[Any, Any],
    test: tuple[Any, Any] | None = None,
    *,
    classes: tuple[Label, ...] | None = None,
    scale: float | None = None,
) -> Dataset:
    """Builds a data set from raw samples and labels, each pair given as (X, y).

    Args:
        name: What reports call the data.
        train: Training samples and labels.
        test: Test samples and labels; their labels must be among those of training.
        classes: The labels that may occur, or their names; by default those that do.
        scale: Default factor for the samples; by default 1/255 for bytes and 1 for all else.

    Raises:
        DataError: The samples or labels are unusable, or training and test do not fit together.
    """
    x = check_samples(train[0])
    shape = np.shape(train[0])
    targets = encode_targets(train[1], rows=x.shape[0], classes=classes)
    x_test, y_test = (None, None) if test is None else _checked_test(test, shape[1:], targets)
    if scale is None:
        scale = 1 / 255 if x.dtype == np.uint8 else 1.0
    return Dataset(
        name=name,
        x=x,
        y=targets.y,
        task=targets.task,
        classes=targets.classes,
        x_test=x_test,
        y_test=y_test,
        scale=scale,
        image_shape=shape[1:] if len(shape) > 2 else None,
    )


def _checked_test(test: tuple[Any, Any], sample_shape: tuple[int, ...], train: Targets) -> tuple[Matrix, np.ndarray]:
    x = check_samples(test[0], what="X_test")
    shape = np.shape(test[0])[1:]
    if shape != sample_shape:
        raise DataError(
            f"X_test holds samples of shape {shape} but X of shape {sample_shape}: give both the same shape"
        )
    targets = encode_targets(test[1], rows=x.shape[0], classes=train.classes, what="y_test")
    if targets.task != train.task or targets.y.shape[1:] != train.y.shape[1:]:
        raise DataError(
            f"y_test is {targets.task} of shape {targets.y.shape} but y is {train.task} of shape {train.y.shape}: "
            "give both the same kind"
        )
    return x, targets.y
