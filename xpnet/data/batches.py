"""The order in which samples are met."""

from __future__ import annotations

from typing import Any

import numpy as np


class Batches:
    """Orders of samples, an epoch at a time: shuffled, or drawn with replacement.

    A shuffled epoch meets every sample once, in a last partial batch if need be; an epoch of draws has N // B steps.
    """

    def __init__(self, rows: np.ndarray, batch: int, *, replacement: bool, rng: np.random.Generator) -> None:
        self._rows, self._replacement, self._rng = rows, replacement, rng
        self.size = min(batch, len(rows))
        self.per_epoch = max(1, len(rows) // self.size) if replacement else -(-len(rows) // self.size)

    @property
    def generator(self) -> dict[str, Any]:
        """The state of what draws the orders, in numbers and names; settable."""
        return dict(self._rng.bit_generator.state)

    @generator.setter
    def generator(self, state: dict[str, Any]) -> None:
        self._rng.bit_generator.state = state

    def epoch(self) -> np.ndarray:
        """The row numbers of the next epoch, batch after batch."""
        if self._replacement:
            return self._rows[self._rng.integers(0, len(self._rows), self.per_epoch * self.size)]
        return self._rng.permutation(self._rows)
