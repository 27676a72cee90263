"""Which loss fits which output, and in what form it takes its targets."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.errors import XpnetError, one_of
from xpnet.kernels import ACTIVATIONS
from xpnet.kernels.losses import LOG_SMALLEST

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels import Table

_POINTWISE = {"mse": "squared_error", "mae": "absolute_error", "huber": "huber"}
LOSSES = ("cross_entropy", *_POINTWISE)


@dataclass(frozen=True)
class Loss:
    """A loss with the output that it is fused with.

    Attributes:
        name: "cross_entropy", "mse", "mae" or "huber".
        output: The output of the network.
        log_smallest: Log-probabilities below this are reported as this.
    """

    name: str
    output: str
    log_smallest: float = LOG_SMALLEST

    def __post_init__(self) -> None:
        one_of("loss", self.name, LOSSES)
        fitting = ("softmax", "sigmoid") if self.name == "cross_entropy" else ACTIVATIONS
        if self.output not in fitting:
            raise XpnetError(
                f'loss: "{self.name}" does not go with the output "{self.output}"; take one of {", ".join(fitting)}, '
                f"or choose another loss."
            )

    @classmethod
    def for_output(cls, output: str, name: str | None = None) -> Loss:
        """The loss of that name, or the one that is usual for the output."""
        return cls(name or ("cross_entropy" if output in ("softmax", "sigmoid") else "mse"), output)

    def __call__(
        self, k: Table, z: Array, t: Array, *, weights: Array | None, out: Array, db: Array, loss: Array
    ) -> None:
        """dz of the mean loss into `out`, its column sums into `db`, the sum of the losses into `loss`."""
        if self.name != "cross_entropy":
            kernel = getattr(k, _POINTWISE[self.name])
            kernel(z, t, output=self.output, weights=weights, out=out, db=db, loss=loss)
        elif self.output == "sigmoid":
            k.sigmoid_cross_entropy(z, t, weights=weights, out=out, db=db, loss=loss)
        else:
            k.softmax_cross_entropy(z, t, log_smallest=self.log_smallest, weights=weights, out=out, db=db, loss=loss)

    def targets(self, y: np.ndarray, columns: int, dtype: np.dtype) -> np.ndarray:
        """Encoded targets as the kernel takes them.

        Args:
            y: (N,) int32 classes, or (N, O) labels, probabilities or numbers.
            columns: Units of the output.
            dtype: Of the network.

        Returns:
            (N,) int32 for softmax, else (N, columns) of `dtype`: one column a class, or one for two classes.
        """
        if y.ndim == 2:
            return y.astype(dtype)
        if self.output == "softmax":
            return y
        if columns == 1:
            return y[:, None].astype(dtype)
        return (y[:, None] == np.arange(columns)).astype(dtype)


@dataclass(frozen=True)
class Metric:
    """What is reported beside the loss: accuracy, or the mean squared error for regression.

    Attributes:
        name: "accuracy" or "mse".
        output: The output of the network.
    """

    name: str
    output: str

    @classmethod
    def for_task(cls, task: str, output: str) -> Metric:
        """The metric of a task; a softmax that learns probabilities is judged by their largest."""
        return cls("mse" if task == "regression" and output != "softmax" else "accuracy", output)

    def __call__(self, k: Table, z: Array, t: Array, *, weights: Array | None, out: Array) -> None:
        """out: () <- the sum over the batch."""
        kernel: Any = k.hits if self.name == "accuracy" else k.squared_errors
        kernel(z, t, output=self.output, weights=weights, out=out)

    def targets(self, y: np.ndarray, loss_targets: np.ndarray) -> np.ndarray:
        """The targets in the metric's form, the loss's own array where it is the same."""
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
        smallest = loss.log_smallest
        k.scored_softmax_cross_entropy(
            z, t, log_smallest=smallest, weights=weights, out=out, db=db, loss=sums[0], hits=sums[1]
        )
    else:
        metric(k, z, labels, weights=weights, out=sums[1])
        loss(k, z, t, weights=weights, out=out, db=db, loss=sums[0])
