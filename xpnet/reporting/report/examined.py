"""The samples that a report is about, and what the network says of them."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.data.sources import row_bytes
from xpnet.reporting.pages import spread

if TYPE_CHECKING:
    from xpnet.data.samples import Samples
    from xpnet.network import MLP
    from xpnet.task import Task

MOST = 10_000
"""Samples of a set that are looked at, if these take no more bytes than LARGEST."""

LARGEST = 2**28


@dataclass(frozen=True)
class Examined:
    """Samples that the network was not trained on, where there are such, and its outputs.

    Attributes:
        network: Whose outputs.
        set: "test set", "validation set" or "training set".
        size: Of that set.
        rows: The numbers of the samples in the data's arrays.
        x: (N, I) raw samples, dense or CSR.
        y: Their encoded targets.
        outputs: (N, O), as `predict_proba` gives them.
    """

    network: MLP
    set: str
    size: int
    rows: np.ndarray
    x: Any
    y: np.ndarray
    outputs: np.ndarray

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def caption(self) -> str:
        """Which samples these are."""
        if len(self) == self.size:
            return f"{self.size:,} samples of the {self.set}"
        return f"{len(self):,} of the {self.size:,} samples of the {self.set}, evenly spread"

    @cached_property
    def predicted(self) -> np.ndarray:
        """(N,) the numbers of the classes, (N, K) 0/1 labels, or (N, O) numbers."""
        return decided(self.network, self.outputs)

    @property
    def gives_probabilities(self) -> bool:
        """Whether the outputs are such."""
        return self.network.task != "regression" and self.network.output in ("softmax", "sigmoid")

    @property
    def classes(self) -> list[str]:
        """What they are called."""
        return [str(label) for label in self.network.classes or ()]

    def first(self, count: int) -> Examined:
        """So many of them, evenly spread."""
        if count >= len(self):
            return self
        part = spread(len(self), count)
        return Examined(
            self.network, self.set, self.size, self.rows[part], self.x[part], self.y[part], self.outputs[part]
        )


def examine(task: Task) -> Examined:
    """The test set, else the validation set, else the training set, as the network sees it now."""
    sets = (("test set", task.test), ("validation set", task.validation), ("training set", task.train))
    name, samples = next((name, samples) for name, samples in sets if samples is not None)
    most = max(1, min(MOST, LARGEST // row_bytes(samples.x, task.network.dtype)))
    rows = samples.rows[spread(len(samples), most)]
    x = samples.x[rows]
    return Examined(task.network, name, len(samples), rows, x, samples.y[rows], task.network.predict_proba(x))


def decided(network: MLP, outputs: np.ndarray) -> np.ndarray:
    """What the network says by its outputs: (N,) the numbers of the classes, (N, K) 0/1 labels, or (N, O) numbers."""
    if network.task == "classification":
        return outputs.argmax(axis=1)
    return (outputs > 0.5).astype(np.uint8) if network.task == "multilabel" else outputs


def sets_of(task: Task) -> dict[str, Samples]:
    """What there is to train, validate and test on, by its name in a heading."""
    sets = {"training": task.train, "validation": task.validation, "test": task.test}
    return {name: samples for name, samples in sets.items() if samples is not None}
