"""Which weights a training is to end with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.callbacks import History, Row
from xpnet.errors import XpnetError

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.trainer import Trainer


class Keeper:
    """Copies of the network's state: the last good one, and the best by what the trainer monitors."""

    def __init__(self, trainer: Trainer, history: History, *, validated: bool) -> None:
        self._trainer, self._history = trainer, history
        self._monitor = trainer.monitor or (f"val_{history.metric}" if validated else "train_loss")
        self._check_monitor(validated)
        self._sign = 1 if self._monitor.endswith("accuracy") else -1
        final = trainer.final_weights or ("best" if validated or trainer.early_stopping else "last")
        self._state = trainer.network.state
        self._good = [array.copy() for array in self._state]
        self._best = [array.copy() for array in self._state] if final == "best" else None
        self._record, self._waited = -np.inf, 0

    def offer(self, row: Row) -> None:
        """Copy the present state if it is worth it."""
        self._copy(self._state, to=self._good)
        value = self._value(row)
        if value is None:
            return
        if self._sign * value > self._record:  # never so for NaN
            self._record, self._history.best, self._waited = self._sign * value, row, 0
            if self._best is not None:
                self._copy(self._state, to=self._best)
        else:
            self._waited += 1

    @property
    def patience_ended(self) -> bool:
        """Whether there were as many rows without improvement as early stopping allows."""
        patience = self._trainer.early_stopping
        return patience is not None and self._waited >= patience

    @property
    def arrays(self) -> dict[str, Sequence[Array]]:
        """The copies of the state, by name: "good", and "best" where that is kept."""
        return {"good": self._good} if self._best is None else {"good": self._good, "best": self._best}

    @property
    def facts(self) -> dict[str, Any]:
        """What there is to know beside the copies."""
        return {"record": self._record, "waited": self._waited}

    def go_on(self, facts: dict[str, Any]) -> None:
        """Take over the facts of another keeper, whose copies were written over this one's."""
        self._record, self._waited = float(facts["record"]), int(facts["waited"])

    def restore(self, *, broken: bool) -> None:
        """Give the network the state to end with: the best, else the last, else (broken) that of the last row."""
        history = self._history
        if self._best is not None and history.best is not None:
            self._copy(self._best, to=self._state)
        else:
            history.best = history.rows[-1] if history.rows else None
            if broken:
                self._copy(self._good, to=self._state)

    def _copy(self, arrays: Sequence[Array], *, to: Sequence[Array]) -> None:
        for into, array in zip(to, arrays, strict=True):
            self._trainer.network.k.xp.copyto(into, array)

    def _value(self, row: Row) -> float | None:
        value = row.named(self._history.metric)[self._monitor]
        return None if value is None else float(value)

    def _check_monitor(self, validated: bool) -> None:
        metric = self._history.metric
        known = ["train_loss", f"train_{metric}", *(["val_loss", f"val_{metric}"] if validated else [])]
        if self._monitor not in known:
            without = "" if validated else " (there is no validation set)"
            raise XpnetError(f'monitor: got "{self._monitor}", expected one of {", ".join(known)}{without}.')
