"""Samples where steps can reach them: all of them on the device, or a window that is filled chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.data.sources import DenseSource, gpu_of, open_source
from xpnet.errors import DataError

if TYPE_CHECKING:
    from xpnet.data.samples import Samples
    from xpnet.devices import Array
    from xpnet.kernels import Table
    from xpnet.losses import Loss, Metric
    from xpnet.network import MLP


class Feed:
    """The arrays of a set of samples on the network's device.

    Args:
        samples: Whose arrays, all rows of them.
        network, loss, metric: In whose forms.
        window: How many samples are there at a time; None for all, which are brought here and now.

    Attributes:
        source: The inputs.
        t: Targets as the loss takes them.
        labels: Targets as the metric takes them, often the same array.
        weights: (N,), or None.
        window: As given.
    """

    def __init__(
        self, samples: Samples, network: MLP, loss: Loss, metric: Metric, *, window: int | None = None
    ) -> None:
        self._device, self._network, self._loss, self._metric = network.device, network, loss, metric
        self.window = window
        self._held: np.ndarray | None = None
        transform = network.codes.sparing(network.transform)
        self.source = open_source(network.device, samples.x, transform, network.dtype, window=window)
        self._kept = self._encoded(samples)
        there = [self._place(array) for array in self._kept]
        weighted = samples.weights is not None
        self.t, self.labels = there[0], there[1 if len(there) > 1 + weighted else 0]
        self.weights = there[-1] if weighted else None
        self._windows = [*self.source.arrays, *there]
        self._channels: dict[int, Callable[[Any], None]] = {}

    def replace(self, samples: Samples) -> None:
        """Other samples in the place of these: dense ones in windows, as many, in the same types."""
        if not isinstance(self.source, DenseSource):
            raise TypeError("sparse samples are not replaced: their rows have other lengths")
        self.source.replace(samples.x)
        self._kept, self._held = self._encoded(samples), None

    def _encoded(self, samples: Samples) -> list[np.ndarray]:
        """Targets for the loss, those for the metric where they are others, and weights where there are any."""
        network = self._network
        y = network.target_transform.to_outputs(samples.y)
        t = self._loss.targets(y, network.sizes[-1], network.dtype)
        labels = self._metric.targets(y, t)
        encoded = [t] if labels is t else [t, labels]
        if samples.weights is not None:
            encoded.append(_weights(samples.weights, network.dtype))
        return encoded

    def bring(self, rows: np.ndarray) -> np.ndarray:
        """Make these samples reachable, after all that was asked of the device until now; their places in the arrays.

        rows: (n,) row numbers, at most `window` of them.
        """
        if self.window is None:
            return rows
        self._held = rows
        with self._device:  # where the samples may lie
            for i, part in enumerate([*self.source.on_host(rows), *(array[rows] for array in self._kept)]):
                self._fill(i, part)
        return np.arange(len(rows))

    def _fill(self, i: int, part: Any) -> None:
        """The first rows of a window <- part, which comes through a channel unless it is on the device."""
        if gpu_of(part) is not None:
            self._device.xp.copyto(self._windows[i][: len(part)], part)
            return
        if i not in self._channels:
            self._channels[i] = self._device.channel(self._windows[i])
        self._channels[i](part)

    def holds(self, rows: np.ndarray) -> bool:
        """Whether these samples, this very array of numbers, were brought and no others since."""
        return self.window is None or self._held is rows

    def gather(self, k: Table, index: Array, *, x: Array, t: Array, labels: Array, weights: Array) -> None:
        """Samples from these places, their targets and weights into such arrays; t and labels may be one array."""
        self.source.gather(k, index, out=x)
        k.gather(self.t, index, out=t)
        if self.labels is not self.t:
            k.gather(self.labels, index, out=labels)
        if self.weights is not None:
            k.gather(self.weights, index, out=weights)

    def _place(self, array: np.ndarray) -> Any:
        if self.window is None:
            return self._device.asarray(array)
        return self._device.empty((self.window, *array.shape[1:]), array.dtype)


def _weights(weights: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Sample weights in that dtype; also their sums over batches have to be numbers of it."""
    with np.errstate(over="ignore"):
        converted = weights.astype(dtype, copy=False)
        finite = np.isfinite(np.abs(converted).sum())
    if not finite:
        raise DataError(
            f"sample_weight holds {np.abs(weights).max():g}, and the sum is too large for {dtype}: "
            "divide all weights by the largest"
        )
    return converted
