"""Which loss fits which output, and in what form it takes its targets."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.errors import DataError, XpnetError, number, one_of
from xpnet.kernels import ACTIVATIONS
from xpnet.kernels.losses import LOG_SMALLEST

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels import Table

_POINTWISE = {"mse": "squared_error", "mae": "absolute_error", "huber": "huber", "poisson": "poisson"}
LOSSES = ("cross_entropy", *_POINTWISE)


@dataclass(frozen=True)
class Loss:
    """A loss with the output that it is fused with.

    Attributes:
        name: "cross_entropy", "mse", "mae", "huber" or "poisson".
        output: The output of the network.
        log_smallest: Log-probabilities of a softmax below this are reported as this.
        largest: Losses of a sigmoid above this are reported as this.
        scale: The factor on the sum over a sample's outputs, where these are no classes; None for their mean.
        smoothing: The part of each target of cross_entropy that is moved to all classes alike.
        delta: Where huber becomes linear.
        groups: Of a softmax with several groups of classes, the columns of each.
    """

    name: str
    output: str
    log_smallest: float = LOG_SMALLEST
    largest: float = math.inf
    scale: float | None = None
    smoothing: float = 0.0
    delta: float = 1.0
    groups: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        one_of("loss", self.name, LOSSES)
        number("label_smoothing", self.smoothing, below=1)
        fitting = {"cross_entropy": ("softmax", "sigmoid"), "poisson": ("exp",)}.get(self.name, ACTIVATIONS)
        if self.output not in fitting:
            raise XpnetError(
                f'loss: "{self.name}" does not go with the output "{self.output}"; take one of {", ".join(fitting)}, '
                f"or choose another loss."
            )

    @classmethod
    def for_output(cls, output: str, name: str | None = None, **options: Any) -> Loss:
        """The loss of that name, or the one that is usual for the output."""
        usual = {"softmax": "cross_entropy", "sigmoid": "cross_entropy", "exp": "poisson"}
        return cls(name or usual.get(output, "mse"), output, **options)

    @property
    def plain(self) -> Loss:
        """The same without smoothing: what evaluations report."""
        return replace(self, smoothing=0.0)

    def __call__(
        self, k: Table, z: Array, t: Array, *, weights: Array | None, out: Array, db: Array, loss: Array
    ) -> None:
        """dz of the mean loss into `out`, its column sums into `db`, the sum of the losses into `loss`."""
        results: dict[str, Any] = {"weights": weights, "out": out, "db": db, "loss": loss}
        if self.name != "cross_entropy":
            options = {"delta": self.delta} if self.name == "huber" else {}
            kernel = getattr(k, _POINTWISE[self.name])
            kernel(z, t, output=self.output, scale=self.scale, **options, **results)
        elif self.output == "sigmoid":
            k.sigmoid_cross_entropy(z, t, scale=self.scale, largest=self.largest, smoothing=self.smoothing, **results)
        elif self.groups:
            k.grouped_softmax_cross_entropy(
                z, t, groups=self.groups, log_smallest=self.log_smallest, smoothing=self.smoothing, **results
            )
        else:
            k.softmax_cross_entropy(z, t, log_smallest=self.log_smallest, smoothing=self.smoothing, **results)

    def targets(self, y: np.ndarray, columns: int, dtype: np.dtype) -> np.ndarray:
        """Encoded targets as the kernel takes them.

        Args:
            y: (N,) int32 classes, (N, G) of them for groups, or (N, O) labels, probabilities or numbers.
            columns: Units of the output.
            dtype: Of the network.

        Returns:
            What was given for softmax, else (N, columns) of `dtype`: one column a class, or one for two classes.

        Raises:
            DataError: A target is too large for `dtype`.
        """
        if self.groups or (y.ndim == 1 and self.output == "softmax"):
            return y
        if y.ndim == 2:
            return _converted(y, dtype)
        if columns == 1:
            return y[:, None].astype(dtype)
        return (y[:, None] == np.arange(columns)).astype(dtype)


def _converted(y: np.ndarray, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):
        converted = y.astype(dtype)
    if not np.isfinite(converted).all():
        row, column = divmod(int(np.isfinite(converted).argmin()), y.shape[1])
        raise DataError(
            f"y holds {y[row, column]:g} in row {row}, column {column}, too large for {dtype}: use float64, or scale "
            "the targets to about 1"
        )
    return converted


@dataclass(frozen=True)
class Metric:
    """What is reported beside the loss: accuracy, or the mean squared error for regression.

    Attributes:
        name: "accuracy" or "mse".
        output: The output of the network.
        groups: As of the loss.
        unit: What a mean is multiplied by: a squared error of standardized targets becomes one of the raw ones.
    """

    name: str
    output: str
    groups: tuple[int, ...] = ()
    unit: float = 1.0

    @classmethod
    def for_task(cls, task: str, output: str, *, target_scale: float = 1.0) -> Metric:
        """The metric of a task; a softmax that learns probabilities is judged by their largest."""
        if task == "regression" and output != "softmax":
            return cls("mse", output, unit=target_scale**2)
        return cls("accuracy", output)

    def __call__(self, k: Table, z: Array, t: Array, *, weights: Array | None, out: Array) -> None:
        """out: () <- the sum over the batch."""
        if self.groups:
            k.grouped_hits(z, t, groups=self.groups, weights=weights, out=out)
        else:
            kernel: Any = k.hits if self.name == "accuracy" else k.squared_errors
            kernel(z, t, output=self.output, weights=weights, out=out)

    def targets(self, y: np.ndarray, loss_targets: np.ndarray) -> np.ndarray:
        """The targets in the metric's form, the loss's own array where it is the same."""
        if self.groups:
            return loss_targets
        if self.name == "accuracy" and self.output == "softmax" and y.ndim == 2:
            return y.argmax(axis=1).astype(np.int32)
        if self.name == "accuracy" and loss_targets.ndim == 2 and loss_targets.shape[1] > 1 and y.ndim == 1:
            return y
        return loss_targets


def score(
    k: Table,
    loss: Loss,
    metric: Metric,
    z: Array,
    t: Array,
    labels: Array,
    *,
    weights: Array | None,
    out: Array,
    db: Array,
    sums: tuple[Array, Array],
) -> None:
    """dz of the mean loss into `out`, its column sums into `db`, the sums of loss and metric into `sums`."""
    if loss.name == "cross_entropy" and metric.name == "accuracy" and t.ndim == 1:
        smallest, smoothing = loss.log_smallest, loss.smoothing
        k.scored_softmax_cross_entropy(
            z,
            t,
            log_smallest=smallest,
            smoothing=smoothing,
            weights=weights,
            out=out,
            db=db,
            loss=sums[0],
            hits=sums[1],
        )
    else:
        metric(k, z, labels, weights=weights, out=sums[1])
        loss(k, z, t, weights=weights, out=out, db=db, loss=sums[0])
