"""The buffers of a batch, for training and for evaluation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xpnet.feed import Feed

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.network import MLP
    from xpnet.parameters import Kept


@dataclass(frozen=True)
class Buffers:
    """Room for one batch.

    Attributes:
        h: (B, size) for each size: the samples, what hidden layers put out, the last pre-activations.
        dz: (B, size), gradients; dz[i] belongs to h[i], dz[0] to those of its columns that codes became, or is None.
        kept: Of each hidden layer.
        t, labels, weights: The targets and weights of the batch.
        raw: (B, inputs), the samples with their codes, from which h[0] is written; None where there are no codes.
    """

    h: list[Array]
    dz: list[Array | None]
    kept: list[Kept]
    t: Array
    labels: Array
    weights: Array
    raw: Array | None = None

    def batch(self, place: int, n: int) -> Buffers:
        """Views for n samples, those that were gathered from number `place` on."""
        gathered = slice(place, place + n)
        t = self.t[gathered]
        return Buffers(
            h=[self.h[0][gathered if self.raw is None else slice(n)], *(a[:n] for a in self.h[1:])],
            dz=[None if a is None else a[:n] for a in self.dz],
            kept=[kept.rows(n) for kept in self.kept],
            t=t,
            labels=t if self.labels is self.t else self.labels[gathered],
            weights=self.weights[gathered],
            raw=None if self.raw is None else self.raw[gathered],
        )


class Workspace:
    """Buffers for the largest batch, with views for smaller ones; training and evaluation share it.

    Args:
        rows: Samples in the largest batch.
        gathered: Samples that are gathered at once, at least as many.
        dropout: The rate of each hidden layer; none for no dropout.
    """

    def __init__(
        self, network: MLP, feed: Feed, rows: int, gathered: int = 0, *, dropout: Sequence[float] = ()
    ) -> None:
        device, dtype, self.rows = network.device, network.dtype, rows
        gathered, embeds = max(rows, gathered), bool(network.embeddings)
        h = [
            device.operands((rows if embeds else gathered, network.sizes[0]), dtype),
            *(device.operands((rows, size), dtype) for size in network.sizes[1:-1]),
            device.empty((rows, network.sizes[-1]), dtype),
        ]
        t = device.empty((gathered, *feed.t.shape[1:]), feed.t.dtype)
        labels = t if feed.labels is feed.t else device.empty((gathered, *feed.labels.shape[1:]), feed.labels.dtype)
        self._whole = Buffers(
            h=h,
            dz=[
                device.empty((rows, network.codes.width), dtype) if embeds else None,
                *(device.operands((rows, size), dtype) for size in network.sizes[1:]),
            ],
            kept=[network.keep(y, i, dropout[i] if dropout else 0.0) for i, y in enumerate(h[1:-1])],
            t=t,
            labels=labels,
            weights=device.empty((gathered,), dtype),
            raw=device.empty((gathered, network.inputs), dtype) if embeds else None,
        )
        self.drops = any(dropout)
        self._views: dict[tuple[int, int], Buffers] = {}

    def batch(self, place: int, n: int) -> Buffers:
        """The buffers of n samples, those that were gathered from number `place` on."""
        if (place, n) not in self._views:
            self._views[place, n] = self._whole.batch(place, n)
        return self._views[place, n]

    def gather(self, network: MLP, feed: Feed, index: Array) -> None:
        """The samples at these places, to the front of the buffers."""
        n, v = len(index), self._whole
        x = (v.h[0] if v.raw is None else v.raw)[:n]
        feed.gather(network.k, index, x=x, t=v.t[:n], labels=v.labels[:n], weights=v.weights[:n])
