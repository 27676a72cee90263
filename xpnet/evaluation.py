"""The loss and the metric on a set of samples: a program of its own, in the workspace of training."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from xpnet.data.samples import Samples
from xpnet.feed import Feed
from xpnet.losses import Loss, Metric, score
from xpnet.workspace import Workspace

if TYPE_CHECKING:
    from xpnet.network import MLP


class Evaluation:
    """The loss and the metric on one set of samples, in the workspace of training."""

    def __init__(
        self,
        network: MLP,
        loss: Loss,
        metric: Metric,
        samples: Samples,
        feed: Feed,
        workspace: Workspace,
    ) -> None:
        device = network.device
        self.network, self.loss, self.metric = network, loss, metric
        self.samples, self.feed, self.workspace = samples, feed, workspace
        self.portion = len(samples)
        if feed.window is not None and feed.window < len(samples):  # by whole blocks: sums do not depend on the window
            self.portion = feed.window // workspace.rows * workspace.rows or feed.window
        blocks = -(-self.portion // workspace.rows)
        self._order = device.zeros((self.portion,), np.int64)
        self._send_order = device.channel(self._order)
        self._db = device.empty(network.parameters.b[-1].shape, network.dtype)
        self._sums = device.zeros((2, blocks), network.dtype)
        self._replays: dict[tuple[int, int, int], Callable[[], None]] = {}

    def __call__(self) -> tuple[float, float]:
        """The mean loss and the mean metric."""
        return self._means(self._replay)

    def once(self) -> tuple[float, float]:
        """The same, where it will not be asked again: nothing is recorded."""
        return self._means(lambda first, count, n: self.network.device.run(lambda i: self._run(first + i, n), count))

    def _means(self, perform: Callable[[int, int, int], None]) -> tuple[float, float]:
        """`perform` does so many blocks of n samples, from number `first` on."""
        totals, device = np.zeros(2), self.network.device
        for start in range(0, len(self.samples), self.portion):
            rows = self.samples.rows[start : start + self.portion]
            self._send_order(self.feed.bring(rows))
            full, rest = divmod(len(rows), self.workspace.rows)
            perform(0, full, self.workspace.rows)
            perform(full, int(rest > 0), rest)
            sums = device.receipt(self._sums)()
            totals += sums[:, : full + (rest > 0)].sum(axis=1, dtype=np.float64)
        loss, metric = (float(total) / self.samples.total_weight for total in totals)
        return loss, metric * self.metric.unit

    def _replay(self, first: int, count: int, n: int) -> None:
        key = first, count, n
        if count > 0 and key not in self._replays:
            self._replays[key] = self.network.device.capture(lambda i: self._run(first + i, n), count)
        if count > 0:
            self._replays[key]()

    def _run(self, i: int, n: int) -> None:
        """Block i of the samples, n of them."""
        k, v, start = self.network.k, self.workspace.batch(0, n), i * self.workspace.rows
        self.workspace.gather(self.network, self.feed, self._order[start : start + n])
        weights = None if self.feed.weights is None else v.weights
        self.network.forward(v.h, raw=v.raw)
        sums = self._sums[0, i, ...], self._sums[1, i, ...]
        score(
            k,
            self.loss,
            self.metric,
            v.h[-1],
            v.t,
            v.labels,
            weights=weights,
            out=v.dz[-1],
            db=self._db,
            sums=sums,
        )
