"""What is written down of a training, and how others watch it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from xpnet.trainer import Trainer


@dataclass(frozen=True)
class Row:
    """One line of the history: an epoch, or the stretch between two evaluations.

    Attributes:
        epoch: Epochs done, a fraction within one.
        step: Steps done.
        train_loss: Mean over the stretch of the loss, each batch's before its step, plus 0.5 l2 sum(w^2) at its end.
        train_metric: Mean accuracy or squared error over the stretch, each batch's before its step.
        val_loss, val_metric: On the validation set, at its end; None where it was not evaluated.
        lr: Learning rate of its last step.
        seconds: Spent in training steps since the beginning; evaluations do not count.
        samples_per_second: Trained in this stretch.
        evaluated: Whether it ends in an evaluation, or would if there were a validation set.
    """

    epoch: float
    step: int
    train_loss: float
    train_metric: float
    val_loss: float | None
    val_metric: float | None
    lr: float
    seconds: float
    samples_per_second: float
    evaluated: bool

    def named(self, metric: str) -> dict[str, float | int | None]:
        """The values by the names of history.csv, the metric by its own: train_accuracy, val_mse, ..."""
        return {
            "epoch": round(self.epoch, 4) if self.epoch % 1 else int(self.epoch),
            "step": self.step,
            "train_loss": self.train_loss,
            f"train_{metric}": self.train_metric,
            "val_loss": self.val_loss,
            f"val_{metric}": self.val_metric,
            "lr": self.lr,
            "seconds": self.seconds,
            "samples_per_second": self.samples_per_second,
        }

    def as_numbers(self) -> list[float]:
        """All values; NaN for what there is not, and at the end whether the validation set was evaluated."""
        values = [np.nan if value is None else float(value) for value in vars(self).values()]
        return [*values, float(self.val_loss is not None)]

    @classmethod
    def of_numbers(cls, numbers: Sequence[float]) -> Row:
        """The row that `as_numbers` gave."""
        *values, validated = numbers
        given: dict[str, Any] = dict(zip((field.name for field in fields(cls)), values, strict=True))
        if not validated:
            given |= {"val_loss": None, "val_metric": None}
        return cls(**{**given, "step": int(given["step"]), "evaluated": bool(given["evaluated"])})


@dataclass
class History:
    """All of a training that can be drawn or tabulated.

    Attributes:
        metric: "accuracy" or "mse".
        steps_per_epoch: Of full and partial batches.
        samples: Trained on, those met again counted again.
        seconds: Spent in training steps.
        rows: A line an epoch, or an evaluation.
        initial_loss: The loss of the first batch before its step, plus the penalty of the first weights.
        best: The row whose weights were kept; None before the first.
        stopped: Why training ended: "done", "early stopping", "interrupted", "diverged" or a callback's word.
    """

    metric: str
    steps_per_epoch: int
    samples: int = 0
    seconds: float = 0.0
    rows: list[Row] = field(default_factory=list)
    initial_loss: float = np.nan
    best: Row | None = None
    stopped: str = ""
    _step_losses: list[np.ndarray] = field(default_factory=list, repr=False)

    def add_steps(self, losses: np.ndarray, penalty: float) -> None:
        """Append the mean losses of further steps; `penalty` is that of the weights before the first of all."""
        if not self._step_losses:
            self.initial_loss = float(losses[0]) + penalty
        self._step_losses.append(losses)

    @property
    def step_losses(self) -> np.ndarray:
        """The mean loss of every batch before its step, without the penalty."""
        return np.concatenate(self._step_losses) if self._step_losses else np.empty(0)

    @property
    def arrays(self) -> dict[str, np.ndarray]:
        """The rows as a table of numbers, and the losses of the steps."""
        width = len(fields(Row)) + 1
        rows = np.array([row.as_numbers() for row in self.rows], dtype=float).reshape(len(self.rows), width)
        return {"rows": rows, "losses": self.step_losses}

    @property
    def facts(self) -> dict[str, Any]:
        """What there is to know beside the arrays."""
        best = None if self.best is None else self.rows.index(self.best)
        return {"samples": self.samples, "seconds": self.seconds, "initial_loss": self.initial_loss, "best": best}

    def go_on(self, arrays: dict[str, np.ndarray], facts: dict[str, Any]) -> None:
        """Take over what another history had."""
        self.rows = [Row.of_numbers(numbers) for numbers in arrays["rows"].tolist()]
        self._step_losses = [arrays["losses"]] if arrays["losses"].size else []
        self.samples, self.seconds = int(facts["samples"]), float(facts["seconds"])
        self.initial_loss = float(facts["initial_loss"])
        self.best = None if facts["best"] is None else self.rows[facts["best"]]

    def column(self, name: str) -> np.ndarray:
        """The values of one column of history.csv, NaN where there is none."""
        return np.array([row.named(self.metric)[name] for row in self.rows], dtype=float)


class Callback:
    """Watches a training; every method may be left as it is. `trainer.stop("why")` ends it after the present chunk."""

    def on_start(self, trainer: Trainer) -> None:
        """Before the first step."""

    def on_chunk(self, trainer: Trainer) -> None:
        """After a chunk of steps, many times a minute; `trainer.step` has moved. A row that ends here is to come."""

    def on_safe_point(self, trainer: Trainer) -> None:
        """After a chunk and its row: a snapshot that is taken here goes on with the same bits.

        A training that is stopped comes here once more before it makes its last row.
        """

    def on_row(self, trainer: Trainer, row: Row) -> None:
        """After a row was added to `trainer.history`."""

    def on_end(self, trainer: Trainer) -> None:
        """After the last step, with the weights to keep in place; also when training ends by an error."""
