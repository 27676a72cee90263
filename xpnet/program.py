"""A training step as a program over preallocated buffers, and the chunk of steps that a device repeats.

Nothing is allocated, read back or decided in a step. In go the order of the samples and a table with the numbers that
change from step to step; out come the losses and hits of every step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xpnet.feed import Feed
from xpnet.losses import Loss, Metric, score
from xpnet.optimizers import Update
from xpnet.workspace import Buffers, Workspace

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
        keys: (hidden layers, steps) of dropout, where there is any.
    """

    order: np.ndarray
    table: dict[str, np.ndarray]
    keys: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class Outcome:
    """What came of a chunk.

    Attributes:
        losses, hits: (steps,) the summed loss and the summed metric of each step.
        norms: (steps,) the sum of squares of all weights before each step, where that was asked for.
        weights_norm, biases_norm: The sums of squares of all weights and of all biases after it.
    """

    losses: np.ndarray
    hits: np.ndarray
    norms: np.ndarray | None
    weights_norm: float
    biases_norm: float


class Program:
    """Steps of training on one feed of samples.

    Args:
        batch: Samples a step.
        chunk: Steps in a chunk at the most.
        gathered: Steps whose samples are gathered together.
        max_norm: A bound on the norm of the weights into each hidden unit; None for none.
        norms: Whether the sum of squares of the weights is measured before every step.

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
        max_norm: float | None = None,
        norms: bool = False,
    ) -> None:
        device, dtype = network.device, network.dtype
        self.max_norm = None if max_norm is None else _within_range(max_norm, dtype)
        self.network, self.loss, self.metric, self.update = network, loss, metric, update
        self.feed, self.workspace, self.batch, self.gathered = feed, workspace, batch, gathered
        self.state = (*network.state, *update.state)
        self._order = device.zeros((chunk * batch,), np.int64)
        self._table = device.zeros((len(update.columns), chunk), dtype)
        self._send_order = device.channel(self._order)
        self._send_columns = [device.channel(self._table[i]) for i in range(len(update.columns))]
        self._keys = device.zeros((len(network.activations), chunk), np.uint32) if workspace.drops else None
        self._send_keys = [] if self._keys is None else [device.channel(keys) for keys in self._keys]
        kinds = 3 if norms else 2
        self._results = device.zeros((kinds * chunk + 2,), dtype)
        self._by_step = [self._results[i * chunk : (i + 1) * chunk] for i in range(kinds)]
        self._last_norms = self._results[kinds * chunk :]
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
        by_step = results[:-2].reshape(len(self._by_step), -1)[:, :steps]
        weights_norm, biases_norm = (float(norm) for norm in results[-2:])
        return Outcome(by_step[0], by_step[1], by_step[2] if len(by_step) > 2 else None, weights_norm, biases_norm)

    def warm_up(self, lengths: Iterable[int]) -> None:
        """Prepare chunks of so many samples; take a step and take it back: loading and compiling is not training."""
        xp, saved = self.network.k.xp, [array.copy() for array in self.state]
        for length in lengths:
            for part in self._parts(length):
                self._replay(*part)
        self.network.device.capture(lambda _: self._train(0, 1, self.batch), state=self.state)()
        for array, before in zip(self.state, saved, strict=True):
            xp.copyto(array, before)

    def parts(self, repeats: int) -> dict[str, Callable[[], None]]:
        """The parts of the first step of the chunk that was run last, each to be done so many times: for measurements.

        They train, too.
        """
        parts = {"gather": self._gather, **self._parts_of_step(0, self.workspace.batch(0, self.batch))}
        return {name: self._repeated(part, repeats) for name, part in parts.items()}

    def _gather(self) -> None:
        """The samples of the first step of the chunk."""
        self.workspace.gather(self.network, self.feed, self._order[: self.batch])

    def _repeated(self, part: Callable[[], None], count: int) -> Callable[[], None]:
        return self.network.device.capture(lambda _: part(), count, state=self.state)

    def _load(self, chunk: Chunk) -> int:
        """Send a chunk to the device, if it is not there, where the next replays find it; its number of steps."""
        if self._loaded is not chunk or not self.feed.holds(chunk.order):  # an evaluation may have used the window
            self._send_order(self.feed.bring(chunk.order))
            for send, column in zip(self._send_columns, self.update.columns, strict=True):
                send(chunk.table[column])
            for send, keys in zip(self._send_keys, () if chunk.keys is None else chunk.keys, strict=True):
                send(keys)
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
        for part in self._parts_of_step(s, v).values():
            part()

    def _parts_of_step(self, s: int, v: Buffers) -> dict[str, Callable[[], None]]:
        """Step s, one part after the other."""
        row = {column: self._table[i, s, ...] for i, column in enumerate(self.update.columns)}
        return {
            "forward": lambda: self._forward(s, v),
            "loss and metric": lambda: self._score(s, v),
            "backward": lambda: self._backward(v, row),
            "update": lambda: self._update(row),
        }

    def _forward(self, s: int, v: Buffers) -> None:
        """The last pre-activations; before that the squared norm of the weights, where that is asked for."""
        for results in self._by_step[2:]:
            self.network.k.squared_norm(self.network.parameters.weights, out=results[s, ...])
        keys = None if self._keys is None else [layer[s, ...] for layer in self._keys]
        self.network.forward(v.h, v.kept, keys, raw=v.raw)

    def _score(self, s: int, v: Buffers) -> None:
        """dz of the outputs, and the sums of loss and metric."""
        score(
            self.network.k,
            self.loss,
            self.metric,
            v.h[-1],
            v.t,
            v.labels,
            weights=None if self.feed.weights is None else v.weights,
            out=v.dz[-1],
            db=self.update.grads.b[-1],
            sums=(self._by_step[0][s, ...], self._by_step[1][s, ...]),
        )

    def _update(self, row: dict[str, Array]) -> None:
        """What becomes of the parameters, once all gradients are there."""
        k = self.network.k
        self.update.apply(k, row)
        if self.max_norm is not None:
            for w in self.network.parameters.w[:-1]:
                k.max_norm(w, limit=self.max_norm)

    def _backward(self, v: Buffers, row: dict[str, Array]) -> None:
        """From dz of the outputs to every gradient: weights into the update's target, all others into their block."""
        network, update = self.network, self.update
        k, p, activations = network.k, network.parameters, network.activations
        alpha, beta = update.scales(row)
        for i in reversed(range(len(p.w))):
            if i > 0:  # reads w[i] before the next line may change it
                k.hidden_backward(
                    v.dz[i + 1],
                    p.w[i],
                    activation=activations[i - 1],
                    rate=v.kept[i - 1].rate,
                    aux=v.kept[i - 1].aux,
                    out=v.dz[i],
                    db=update.grads.b[i - 1],
                )
                if network.normalization is not None:
                    dshift, dgain = update.grads.b[i - 1], update.grads.gains[i - 1]
                    network.normalization_backward(i - 1, v.dz[i], v.kept[i - 1], dshift=dshift, dgain=dgain)
            elif v.raw is not None:  # reads w[0] likewise
                k.affine_inputs(v.dz[1], p.w[0], first=network.codes.dense, out=v.dz[0])
                network.codes.backward(k, v.raw, v.dz[0], out=update.grads.e)
            k.affine_weights(v.h[i], v.dz[i + 1], out=update.target[i], alpha=alpha, beta=beta)

    def _take_norms(self, _: int) -> None:
        k, p = self.network.k, self.network.parameters
        k.squared_norm(p.weights, out=self._last_norms[0, ...])
        k.squared_norm(p.biases, out=self._last_norms[1, ...])


def _within_range(bound: float, dtype: np.dtype) -> float:
    """The bound, or what is nearest to it of that dtype's numbers, neither 0 nor infinite."""
    limits = np.finfo(dtype)
    return float(np.clip(bound, limits.tiny, limits.max))


def chunk_steps(network: MLP, batch: int, per_epoch: int) -> int:
    """How many steps a chunk holds: an epoch where it fits."""
    step = 3 * batch * sum(w.size for w in network.parameters.w)
    return max(1, min(per_epoch, CHUNK_STEPS, network.device.chunk_work // step))
