"""One run of a trainer: the position in it, its rows of history, and the weights worth keeping."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xpnet.callbacks import History, Row
from xpnet.data.batches import Batches
from xpnet.errors import DivergenceError, XpnetError
from xpnet.program import EVALUATION_ROWS, Evaluation, Program, Resident, Workspace, chunk_steps
from xpnet.schedules import Span

if TYPE_CHECKING:
    from xpnet.data.samples import Samples
    from xpnet.trainer import Trainer


@dataclass(frozen=True)
class Interval:
    """How often the validation set is evaluated: every `count` epochs or steps."""

    count: int
    unit: str

    @classmethod
    def of(cls, text: int | str) -> Interval:
        """From 5 or "5" (epochs) or "200steps"."""
        match = re.fullmatch(r"(\d+)\s*(epochs?|steps?)?", str(text).strip())
        if not match or int(match[1]) == 0:
            raise XpnetError(f'eval_every: got "{text}", expected a number of epochs such as 5, or steps: "200steps".')
        return cls(int(match[1]), "steps" if (match[2] or "").startswith("step") else "epochs")

    def left(self, position: int) -> int:
        """How many epochs or steps it is from a position to the next evaluation, at least 1."""
        return self.count - position % self.count


@dataclass
class _Stretch:
    """Sums over the steps since the last row of history."""

    loss: float = 0.0
    hits: float = 0.0
    weight: float = 0.0
    samples: int = 0
    seconds: float = 0.0


class Keeper:
    """Copies of the weights: the last good ones, and the best by what the trainer monitors."""

    def __init__(self, trainer: Trainer, history: History, *, validated: bool) -> None:
        self._trainer, self._history = trainer, history
        self._monitor = trainer.monitor or (f"val_{history.metric}" if validated else "train_loss")
        self._check_monitor(validated)
        self._sign = 1 if self._monitor.endswith("accuracy") else -1
        keep = trainer.keep or ("best" if validated or trainer.early_stopping else "last")
        self._flat = trainer.network.parameters.flat
        self._good = self._flat.copy()
        self._best = self._flat.copy() if keep == "best" else None
        self._record, self._waited = -np.inf, 0

    def offer(self, row: Row) -> None:
        """Copy the present weights if they are worth it."""
        xp = self._trainer.network.k.xp
        xp.copyto(self._good, self._flat)
        value = self._value(row)
        if value is None:
            return
        if self._sign * value > self._record:  # never so for NaN
            self._record, self._history.best, self._waited = self._sign * value, row, 0
            if self._best is not None:
                xp.copyto(self._best, self._flat)
        else:
            self._waited += 1

    @property
    def patience_ended(self) -> bool:
        """Whether there were as many rows without improvement as early stopping allows."""
        patience = self._trainer.early_stopping
        return patience is not None and self._waited >= patience

    def restore(self, *, broken: bool) -> None:
        """Give the network the weights to keep: the best, else the last, else (broken) those of the last row."""
        history, xp = self._history, self._trainer.network.k.xp
        if self._best is not None and history.best is not None:
            xp.copyto(self._flat, self._best)
        else:
            history.best = history.rows[-1] if history.rows else None
            if broken:
                xp.copyto(self._flat, self._good)

    def _value(self, row: Row) -> float | None:
        value = row.named(self._history.metric)[self._monitor]
        return None if value is None else float(value)

    def _check_monitor(self, validated: bool) -> None:
        metric = self._history.metric
        known = ["train_loss", f"train_{metric}", *(["val_loss", f"val_{metric}"] if validated else [])]
        if self._monitor not in known:
            without = "" if validated else " (there is no validation set)"
            raise XpnetError(f'monitor: got "{self._monitor}", expected one of {", ".join(known)}{without}.')


class Training:
    """The program, the position in it, and what is written down on the way."""

    def __init__(self, trainer: Trainer, samples: Samples, validation: Samples | None) -> None:
        network, loss, metric = trainer.network, trainer.loss, trainer.metric
        self.trainer, self.samples = trainer, samples
        batch = len(samples) if trainer.batch_size == "all" else int(trainer.batch_size)
        order_seed = trainer.seeds()[0]
        self.batches = Batches(
            samples.rows, batch, replacement=trainer.replacement, rng=np.random.default_rng(order_seed)
        )
        per_epoch = self.batches.per_epoch
        self.span = Span(per_epoch, trainer.steps or trainer.epochs * per_epoch)
        self.history = History(metric.name, per_epoch)
        self.keeper = Keeper(trainer, self.history, validated=validation is not None)

        resident = Resident.of(samples, network, loss, metric)
        largest = max(len(samples), 0 if validation is None else len(validation))
        workspace = Workspace(network, resident, max(self.batches.size, min(EVALUATION_ROWS, largest)))
        self.chunk = chunk_steps(network, self.batches.size, per_epoch)
        self.update = trainer.optimizer.bind(network.parameters, l2=trainer.l2, clip_norm=trainer.clip_norm)
        self.program = Program(
            network, loss, metric, self.update, resident, workspace, batch=self.batches.size, chunk=self.chunk
        )
        self.program.warm_up()
        self.evaluation = None
        if validation is not None:
            shared = validation.shares_arrays(samples)
            there = resident if shared else Resident.of(validation, network, loss, metric)
            self.evaluation = Evaluation(network, loss, metric, validation, there, workspace)
        self._stretch = _Stretch()
        self._lr = 0.0

    def run(self) -> None:
        """Epoch after epoch, chunk by chunk, until it is done or told to stop."""
        trainer = self.trainer
        while not trainer.stopped and trainer.step < self.span.total:
            for order in self._chunks(self.batches.epoch()):
                self._run_chunk(order)
                if trainer.stopped:
                    break
        if self._stretch.samples:  # stopped on the way: what is kept gets its row too
            self._end_stretch()
        done = trainer.step == self.span.total and trainer.stopped != "early stopping"
        self.history.stopped = "done" if done else trainer.stopped

    def _chunks(self, order: np.ndarray) -> Iterator[np.ndarray]:
        """An epoch's order in pieces, which end where a row of history does."""
        size, start = self.batches.size, 0
        while start < len(order) and self.trainer.step < self.span.total:
            steps = min(self.chunk, self.span.total - self.trainer.step)
            if self.trainer.eval_every.unit == "steps":
                steps = min(steps, self.trainer.eval_every.left(self.trainer.step))
            yield order[start : start + steps * size]
            start += steps * size

    def _run_chunk(self, order: np.ndarray) -> None:
        trainer, first = self.trainer, self.trainer.step
        weights = self._batch_weights(order)
        divisors = np.where(weights > 0, weights, 1.0)  # a batch without weight has no loss
        steps = np.arange(first, first + len(weights))
        lr = trainer.optimizer.lr * trainer.schedule(steps, self.span)
        penalty = trainer.penalty() if first == 0 else 0.0
        start = time.perf_counter()
        losses, hits = self.program.run(order, self.update.table(steps, lr))
        elapsed = time.perf_counter() - start
        self._stretch.seconds += elapsed
        self.history.seconds += elapsed
        trainer.step += len(steps)
        self.history.add_steps(losses / divisors, penalty)
        self._check_finite(losses, lr, first)
        self._stretch.loss += float(losses.sum(dtype=np.float64))
        self._stretch.hits += float(hits.sum(dtype=np.float64))
        self._stretch.weight += float(weights.sum())
        self._stretch.samples += len(order)
        self.history.samples += len(order)
        self._lr = float(lr[-1])
        trainer.tell("on_chunk")
        if self._row_is_due():
            self._end_stretch()

    def _batch_weights(self, order: np.ndarray) -> np.ndarray:
        """What each batch's summed loss is divided by: its samples, or their weights."""
        starts = np.arange(0, len(order), self.batches.size)
        if self.samples.weights is None:
            return np.diff(np.append(starts, len(order))).astype(float)
        return np.add.reduceat(self.samples.weights[order].astype(float), starts)

    def _row_is_due(self) -> bool:
        step, every = self.trainer.step, self.trainer.eval_every
        at = every.left(step) == every.count if every.unit == "steps" else step % self.span.per_epoch == 0
        return at or step == self.span.total

    def _end_stretch(self) -> None:
        """A row of history; the validation set where it is due; the weights worth keeping."""
        trainer, stretch, every = self.trainer, self._stretch, self.trainer.eval_every
        epoch = trainer.step / self.span.per_epoch
        ended = trainer.step == self.span.total or trainer.stopped
        due = bool(ended) or every.unit == "steps" or epoch % every.count == 0
        weight = stretch.weight or 1.0
        val_loss, val_metric = self.evaluation() if due and self.evaluation else (None, None)
        row = Row(
            epoch=epoch,
            step=trainer.step,
            train_loss=stretch.loss / weight + trainer.penalty(),
            train_metric=stretch.hits / weight,
            val_loss=val_loss,
            val_metric=val_metric,
            lr=self._lr,
            seconds=self.history.seconds,
            samples_per_second=stretch.samples / stretch.seconds,
            evaluated=due,
        )
        self._stretch = _Stretch()
        self.history.rows.append(row)
        self.keeper.offer(row)
        trainer.tell("on_row", row)
        if self.keeper.patience_ended and not trainer.stopped:
            trainer.stop("early stopping")

    def _check_finite(self, losses: np.ndarray, lr: np.ndarray, first: int) -> None:
        """Raise where a loss of this chunk, or a weight after it, is not finite."""
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad) == 0 and self.trainer.weights_are_finite():
            return
        at = int(bad[0]) if len(bad) else len(losses) - 1
        what = f"The loss became {losses[at]:f}" if len(bad) else "The weights grew beyond all bounds"
        step = first + at + 1
        self.history.stopped = "diverged"
        raise DivergenceError(
            f"{what} in epoch {(step - 1) // self.span.per_epoch + 1}, step {step}, at a learning rate of {lr[at]:g}; "
            "the last good weights are kept: try a learning rate ten times smaller, a bound on the gradient "
            "(clip_norm), or inputs scaled to about 1."
        )
