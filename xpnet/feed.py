"""Samples where steps can reach them: all of them on the device, or a window that is filled chunk by chunk."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.data.sources import open_source

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
        device, dtype = network.device, network.dtype
        t = loss.targets(samples.y, network.sizes[-1], dtype)
        labels = metric.targets(samples.y, t)
        self.window = window
        self._held: np.ndarray | None = None
        self.source = open_source(device, samples.x, network.transform, dtype, window=window)
        self._device = device
        self._kept = [t] if labels is t else [t, labels]
        if samples.weights is not None:
            self._kept.append(samples.weights.astype(dtype, copy=False))
        there = [self._place(array) for array in self._kept]
        self.t, self.labels = there[0], there[0] if labels is t else there[1]
        self.weights = None if samples.weights is None else there[-1]
        if window is not None:
            self._channels = [device.channel(array) for array in (*self.source.arrays, *there)]

    def bring(self, rows: np.ndarray) -> np.ndarray:
        """Make these samples reachable, after all that was asked of the device until now; their places in the arrays.

        rows: (n,) row numbers, at most `window` of them.
        """
        if self.window is None:
            return rows
        self._held = rows
        parts = [*self.source.on_host(rows), *(array[rows] for array in self._kept)]
        for send, part in zip(self._channels, parts, strict=True):
            send(part)
        return np.arange(len(rows))

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
