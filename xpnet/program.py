"""A training step as a program over preallocated buffers, and the chunk of steps that a device repeats.

Nothing is allocated, read back or decided in a step. In go the order of the samples and a table with the numbers that
change from step to step; out come the losses and hits of every step.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xpnet.data.samples import Samples
from xpnet.data.sources import Source, open_source
from xpnet.losses import Loss, Metric
from xpnet.optimizers import Update

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels import Table
    from xpnet.network import MLP

EVALUATION_ROWS = 1024
"""Samples that are evaluated at a time, unless a batch is larger."""

CHUNK_WORK = 2**36
"""Multiply-adds in a chunk at the most, about a second on a laptop: signals are served between chunks."""

CHUNK_STEPS = 1024
"""Steps in a chunk at the most."""


@dataclass(frozen=True)
class Resident:
    """Samples on the device, all rows of their arrays.

    Attributes:
        source: The inputs.
        t: Targets as the loss takes them.
        labels: Targets as the metric takes them, often the same array.
        weights: (N,), or None.
    """

    source: Source
    t: Array
    labels: Array
    weights: Array | None

    @classmethod
    def of(cls, samples: Samples, network: MLP, loss: Loss, metric: Metric) -> Resident:
        """Bring the arrays of the samples to the network's device."""
        device, dtype = network.device, network.dtype
        t = loss.targets(samples.y, network.sizes[-1], dtype)
        labels = metric.targets(samples.y, t)
        t_there = device.asarray(t)
        return cls(
            source=open_source(device, samples.x, network.transform, dtype),
            t=t_there,
            labels=t_there if labels is t else device.asarray(labels),
            weights=None if samples.weights is None else device.asarray(samples.weights, dtype),
        )


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

    def first(self, n: int) -> Buffers:
        """Views of the first n rows."""
        t = self.t[:n]
        return Buffers(
            h=[a[:n] for a in self.h],
            dz=[None if a is None else a[:n] for a in self.dz],
            aux=[a[:n] for a in self.aux],
            t=t,
            labels=t if self.labels is self.t else self.labels[:n],
            weights=self.weights[:n],
        )


class Workspace:
    """Buffers for the largest batch, with views for smaller ones; training and evaluation share it."""

    def __init__(self, network: MLP, resident: Resident, rows: int) -> None:
        device, dtype, self.rows = network.device, network.dtype, rows
        h = [device.empty((rows, size), dtype) for size in network.sizes]
        t = device.empty((rows, *resident.t.shape[1:]), resident.t.dtype)
        labels = device.empty((rows, *resident.labels.shape[1:]), resident.labels.dtype)
        self._whole = Buffers(
            h=h,
            dz=[None, *(device.empty((rows, size), dtype) for size in network.sizes[1:])],
            aux=[
                network.k.hidden_aux(y, activation=name) for y, name in zip(h[1:-1], network.activations, strict=True)
            ],
            t=t,
            labels=t if resident.labels is resident.t else labels,
            weights=device.empty((rows,), dtype),
        )
        self._views: dict[int, Buffers] = {}

    def first(self, n: int) -> Buffers:
        """The buffers of a batch of n samples."""
        if n not in self._views:
            self._views[n] = self._whole.first(n)
        return self._views[n]


class Program:
    """Steps of training on one resident set.

    Attributes:
        state: The arrays that outlive a step; with the position they are all that a training is.
    """

    def __init__(
        self,
        network: MLP,
        loss: Loss,
        metric: Metric,
        update: Update,
        resident: Resident,
        workspace: Workspace,
        *,
        batch: int,
        chunk: int,
    ) -> None:
        device, dtype = network.device, network.dtype
        self.network, self.loss, self.metric, self.update = network, loss, metric, update
        self.resident, self.workspace, self.batch = resident, workspace, batch
        self.state = (network.parameters.flat, *update.state)
        self._order = device.zeros((chunk * batch,), np.int64)
        self._table = device.zeros((len(update.columns), chunk), dtype)
        self._losses, self._hits = device.zeros((chunk,), dtype), device.zeros((chunk,), dtype)
        self._replays: dict[tuple[int, int, int], Callable[[], None]] = {}

    def run(self, order: np.ndarray, table: dict[str, np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
        """Train one chunk: batches of the samples in this order, the last one perhaps partial.

        Args:
            order: Row numbers, batch after batch.
            table: The update's columns, an entry a step.

        Returns:
            The summed loss and the summed metric of each step.
        """
        device, (full, rest) = self.network.device, divmod(len(order), self.batch)
        steps = full + (rest > 0)
        device.upload(order, out=self._order[: len(order)])
        for i, column in enumerate(self.update.columns):
            device.upload(table[column], out=self._table[i, :steps])
        self._replay(0, full, self.batch)
        self._replay(full, steps - full, rest)
        return device.to_host(self._losses[:steps]), device.to_host(self._hits[:steps])

    def _replay(self, first: int, steps: int, n: int) -> None:
        """So many steps of n samples, from the first one's place in the chunk on."""
        key = first, steps, n
        if steps > 0 and key not in self._replays:
            self._replays[key] = self.network.device.capture(
                lambda s: self._step(first + s, n), steps, state=self.state
            )
        if steps > 0:
            self._replays[key]()

    def warm_up(self) -> None:
        """Take a step on the first sample, over and over, and take it back: loading and compiling is not training."""
        xp, saved = self.network.k.xp, [array.copy() for array in self.state]
        self.network.device.capture(lambda s: self._step(s, self.batch))()
        for array, before in zip(self.state, saved, strict=True):
            xp.copyto(array, before)

    def _step(self, s: int, n: int) -> None:
        """Gather, forward, loss, backward, update: step s of the chunk, on n samples."""
        k, update, v = self.network.k, self.update, self.workspace.first(n)
        row = {column: self._table[i, s, ...] for i, column in enumerate(update.columns)}
        weights = load(k, self.resident, self._order[s * self.batch : s * self.batch + n], v)
        self.network.forward(v.h, v.aux)
        self.metric(k, v.h[-1], v.labels, weights=weights, out=self._hits[s, ...])
        self._backward(v, row, weights=weights, loss=self._losses[s, ...])
        update.apply(k, row)

    def _backward(self, v: Buffers, row: dict[str, Array], *, weights: Array | None, loss: Array) -> None:
        """From the outputs to every gradient: biases into the gradient block, weights into the update's target."""
        k, p, update, activations = self.network.k, self.network.parameters, self.update, self.network.activations
        db = update.grads.b
        self.loss(k, v.h[-1], v.t, weights=weights, out=v.dz[-1], db=db[-1], loss=loss)
        alpha, beta = update.scales(row)
        for i in reversed(range(len(p.w))):
            if i > 0:  # reads w[i] before the next line may change it
                k.hidden_backward(
                    v.dz[i + 1], p.w[i], activation=activations[i - 1], aux=v.aux[i - 1], out=v.dz[i], db=db[i - 1]
                )
            k.affine_weights(v.h[i], v.dz[i + 1], out=update.target[i], alpha=alpha, beta=beta)


class Evaluation:
    """The loss and the metric on one set of samples, in the workspace of training."""

    def __init__(
        self,
        network: MLP,
        loss: Loss,
        metric: Metric,
        samples: Samples,
        resident: Resident,
        workspace: Workspace,
    ) -> None:
        device, n = network.device, len(samples)
        self.network, self.loss, self.metric = network, loss, metric
        self.resident, self.workspace, self.total = resident, workspace, samples.total_weight
        full, rest = divmod(n, workspace.rows)
        self._order = device.asarray(samples.rows.astype(np.int64))
        self._db = device.empty(network.parameters.b[-1].shape, network.dtype)
        self._losses, self._hits = (device.zeros((full + 1,), network.dtype) for _ in range(2))
        self._replays = [device.capture(lambda i: self._run(i, workspace.rows), full)] if full else []
        if rest:
            self._replays.append(device.capture(lambda _: self._run(full, rest)))

    def __call__(self) -> tuple[float, float]:
        """The mean loss and the mean metric."""
        for replay in self._replays:
            replay()
        sums = (self.network.device.to_host(a).sum(dtype=np.float64) for a in (self._losses, self._hits))
        loss, hits = (float(total) / self.total for total in sums)
        return loss, hits

    def _run(self, i: int, n: int) -> None:
        """Block i of the samples, n of them."""
        k, v, start = self.network.k, self.workspace.first(n), i * self.workspace.rows
        weights = load(k, self.resident, self._order[start : start + n], v)
        self.network.forward(v.h)
        self.metric(k, v.h[-1], v.labels, weights=weights, out=self._hits[i, ...])
        self.loss(k, v.h[-1], v.t, weights=weights, out=v.dz[-1], db=self._db, loss=self._losses[i, ...])


def load(k: Table, resident: Resident, index: Array, v: Buffers) -> Array | None:
    """Gather the samples of these numbers with their targets into the buffers; their weights, if there are any."""
    resident.source.gather(k, index, out=v.h[0])
    k.gather(resident.t, index, out=v.t)
    if resident.labels is not resident.t:
        k.gather(resident.labels, index, out=v.labels)
    if resident.weights is None:
        return None
    k.gather(resident.weights, index, out=v.weights)
    return v.weights


def chunk_steps(network: MLP, batch: int, per_epoch: int) -> int:
    """How many steps a chunk holds: an epoch where it fits."""
    step = 3 * batch * sum(w.size for w in network.parameters.w)
    return max(1, min(per_epoch, CHUNK_STEPS, CHUNK_WORK // step))
