"""A training step as a program over preallocated buffers, and the chunk of steps that a device repeats.

Nothing is allocated, read back or decided in a step. In go the order of the samples and a table with the numbers that
change from step to step; out come the losses and hits of every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xpnet.data.samples import Samples
from xpnet.feed import Feed
from xpnet.losses import Loss, Metric, score
from xpnet.optimizers import Update

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.network import MLP

CHUNK_STEPS = 1024
"""Steps in a chunk at the most."""


@dataclass(frozen=True, eq=False)
class Chunk:
    """Steps to take without a look at anything else.

    Attributes:
        order: (n,) row numbers, batch after batch, the last one perhaps partial.
        table: The update's columns, an entry a step.
    """

    order: np.ndarray
    table: dict[str, np.ndarray]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a chunk.

    Attributes:
        losses, hits: (steps,) the summed loss and the summed metric of each step.
        weights_norm, biases_norm: The sums of squares of all weights and of all biases after it.
    """

    losses: np.ndarray
    hits: np.ndarray
    weights_norm: float
    biases_norm: float


@dataclass(frozen=True)
class Buffers:
    """Room for one batch.

    Attributes:
        h: (B, size) for each size: the samples, what hidden layers put out, the last pre-activations.
        dz: (B, size), gradients; dz[i] belongs to h[i], dz[0] is None.
        aux: One for each hidden layer.
        t, labels, weights: The targets and weights of the batch.
    """

    h: list[Array]
    dz: list[Array | None]
    aux: list[Array]
    t: Array
    labels: Array
    weights: Array

    def batch(self, place: int, n: int) -> Buffers:
        """Views for n samples, those that were gathered from number `place` on."""
        gathered = slice(place, place + n)
        t = self.t[gathered]
        return Buffers(
            h=[self.h[0][gathered], *(a[:n] for a in self.h[1:])],
            dz=[None if a is None else a[:n] for a in self.dz],
            aux=[a[:n] for a in self.aux],
            t=t,
            labels=t if self.labels is self.t else self.labels[gathered],
            weights=self.weights[gathered],
        )


class Workspace:
    """Buffers for the largest batch, with views for smaller ones; training and evaluation share it.

    Args:
        rows: Samples in the largest batch.
        gathered: Samples that are gathered at once, at least as many.
    """

    def __init__(self, network: MLP, feed: Feed, rows: int, gathered: int = 0) -> None:
        device, dtype, self.rows = network.device, network.dtype, rows
        gathered = max(rows, gathered)
        h = [
            device.operands((gathered, network.sizes[0]), dtype),
            *(device.operands((rows, size), dtype) for size in network.sizes[1:-1]),
            device.empty((rows, network.sizes[-1]), dtype),
        ]
        t = device.empty((gathered, *feed.t.shape[1:]), feed.t.dtype)
        labels = t if feed.labels is feed.t else device.empty((gathered, *feed.labels.shape[1:]), feed.labels.dtype)
        self._whole = Buffers(
            h=h,
            dz=[None, *(device.operands((rows, size), dtype) for size in network.sizes[1:])],
            aux=[
                network.k.hidden_aux(y, activation=name, below=below, above=above)
                for y, name, below, above in zip(
                    h[1:-1], network.activations, network.sizes[:-2], network.sizes[2:], strict=True
                )
            ],
            t=t,
            labels=labels,
            weights=device.empty((gathered,), dtype),
        )
        self._views: dict[tuple[int, int], Buffers] = {}

    def batch(self, place: int, n: int) -> Buffers:
        """The buffers of n samples, those that were gathered from number `place` on."""
        if (place, n) not in self._views:
            self._views[place, n] = self._whole.batch(place, n)
        return self._views[place, n]

    def gather(self, network: MLP, feed: Feed, index: Array) -> None:
        """The samples at these places, to the front of the buffers."""
        n, v = len(index), self._whole
        feed.gather(network.k, index, x=v.h[0][:n], t=v.t[:n], labels=v.labels[:n], weights=v.weights[:n])


class Program:
    """Steps of training on one feed of samples.

    Attributes:
        state: The arrays that outlive a step; with the position they are all that a training is.
    """

    def __init__(
        self,
        network: MLP,
        loss: Loss,
        metric: Metric,
        update: Update,
        feed: Feed,
        workspace: Workspace,
        *,
        batch: int,
        chunk: int,
        gathered: int = 1,
    ) -> None:
        device, dtype = network.device, network.dtype
        self.network, self.loss, self.metric, self.update = network, loss, metric, update
        self.feed, self.workspace, self.batch, self.gathered = feed, workspace, batch, gathered
        self.state = (network.parameters.flat, *update.state)
        self._order = device.zeros((chunk * batch,), np.int64)
        self._table = device.zeros((len(update.columns), chunk), dtype)
        self._send_order = device.channel(self._order)
        self._send_columns = [device.channel(self._table[i]) for i in range(len(update.columns))]
        self._results = device.zeros((2 * chunk + 2,), dtype)
        self._losses, self._hits = self._results[:chunk], self._results[chunk : 2 * chunk]
        self._norms = self._results[2 * chunk :]
        self._replays: dict[tuple[int, int, int, int], Callable[[], None]] = {}
        self._measure = device.capture(self._take_norms)
        self._loaded: Chunk | None = None

    def run(self, chunk: Chunk, following: Callable[[], Chunk | None] = lambda: None) -> Outcome:
        """Train one chunk; the one that follows it is made and loaded while the device works."""
        steps = self._load(chunk)
        for part in self._parts(len(chunk.order)):
            self._replay(*part)()
        self._measure()
        receipt = self.network.device.receipt(self._results)
        try:
            coming = following()
            if coming is not None:
                self._load(coming)
        finally:
            results = receipt()
        most = len(self._losses)
        weights_norm, biases_norm = (float(norm) for norm in results[2 * most :])
        return Outcome(results[:steps], results[most : most + steps], weights_norm, biases_norm)

    def warm_up(self, lengths: Iterable[int]) -> None:
        """Prepare chunks of so many samples; take a step and take it back: loading and compiling is not training."""
        xp, saved = self.network.k.xp, [array.copy() for array in self.state]
        for length in lengths:
            for part in self._parts(length):
                self._replay(*part)
        self.network.device.capture(lambda _: self._train(0, 1, self.batch), state=self.state)()
        for array, before in zip(self.state, saved, strict=True):
            xp.copyto(array, before)

    def _load(self, chunk: Chunk) -> int:
        """Send a chunk to the device, if it is not there, where the next replays find it; its number of steps."""
        if self._loaded is not chunk or not self.feed.holds(chunk.order):  # an evaluation may have used the window
            self._send_order(self.feed.bring(chunk.order))
            for send, column in zip(self._send_columns, self.update.columns, strict=True):
                send(chunk.table[column])
            self._loaded = chunk
        return -(-len(chunk.order) // self.batch)

    def _parts(self, length: int) -> list[tuple[int, int, int, int]]:
        """What is replayed for so many samples: from step `first` on, `count` times `steps` steps of n samples."""
        full, rest = divmod(length, self.batch)
        together, apart = divmod(full, self.gathered)
        parts = [
            (0, together, self.gathered, self.batch),
            (full - apart, 1, apart, self.batch),
            (full, 1, int(rest > 0), rest),
        ]
        return [part for part in parts if part[1] * part[2] > 0]

    def _replay(self, first: int, count: int, steps: int, n: int) -> Callable[[], None]:
        key = first, count, steps, n
        if key not in self._replays:
            self._replays[key] = self.network.device.capture(
                lambda i: self._train(first + i * steps, steps, n), count, state=self.state
            )
        return self._replays[key]

    def _train(self, first: int, steps: int, n: int) -> None:
        """Gather the samples of so many steps of n samples; take one step after the other."""
        start = first * self.batch
        self.workspace.gather(self.network, self.feed, self._order[start : start + steps * n])
        for i in range(steps):
            self._step(first + i, self.workspace.batch(i * n, n))

    def _step(self, s: int, v: Buffers) -> None:
        """Forward, loss, backward, update: step s of the chunk."""
        k, update = self.network.k, self.update
        row = {column: self._table[i, s, ...] for i, column in enumerate(update.columns)}
        weights = None if self.feed.weights is None else v.weights
        self.network.forward(v.h, v.aux)
        score(
            k,
            self.loss,
            self.metric,
            v.h[-1],
            v.t,
            v.labels,
            weights=weights,
            out=v.dz[-1],
            db=update.grads.b[-1],
            sums=(self._losses[s, ...], self._hits[s, ...]),
        )
        self._backward(v, row)
        update.apply(k, row)

    def _backward(self, v: Buffers, row: dict[str, Array]) -> None:
        """From dz of the outputs to every gradient: biases into their block, weights into the update's target."""
        k, p, update, activations = self.network.k, self.network.parameters, self.update, self.network.activations
        alpha, beta = update.scales(row)
        for i in reversed(range(len(p.w))):
            if i > 0:  # reads w[i] before the next line may change it
                k.hidden_backward(
                    v.dz[i + 1],
                    p.w[i],
                    activation=activations[i - 1],
                    aux=v.aux[i - 1],
                    out=v.dz[i],
                    db=update.grads.b[i - 1],
                )
            k.affine_weights(v.h[i], v.dz[i + 1], out=update.target[i], alpha=alpha, beta=beta)

    def _take_norms(self, _: int) -> None:
        k, p = self.network.k, self.network.parameters
        k.squared_norm(p.weights, out=self._norms[0, ...])
        k.squared_norm(p.biases, out=self._norms[1, ...])


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
        return loss, metric

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
        self.network.forward(v.h)
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


def chunk_steps(network: MLP, batch: int, per_epoch: int) -> int:
    """How many steps a chunk holds: an epoch where it fits."""
    step = 3 * batch * sum(w.size for w in network.parameters.w)
    return max(1, min(per_epoch, CHUNK_STEPS, network.device.chunk_work // step))
