"""One run of a trainer: the position in it and its rows of history."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.callbacks import History, Row
from xpnet.data.batches import Batches
from xpnet.dropout import dropout_keys
from xpnet.errors import DivergenceError, XpnetError
from xpnet.evaluation import Evaluation
from xpnet.feed import Feed
from xpnet.keeper import Keeper
from xpnet.memory import TRAINING_BLOCKS, foresee
from xpnet.program import Chunk, Outcome, Program, chunk_steps
from xpnet.schedules import Span
from xpnet.signals import postponed
from xpnet.snapshots import Snapshot
from xpnet.workspace import Workspace

if TYPE_CHECKING:
    from xpnet.data.samples import Samples
    from xpnet.devices import Array
    from xpnet.trainer import Trainer


DONE, EARLY, DIVERGED = "done", "early stopping", "diverged"
"""Why a training ended: nothing was left to train, the network had stopped improving, or a loss was no number."""


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
class _Sums:
    """Sums over the steps since the last row of history."""

    loss: float = 0.0
    hits: float = 0.0
    weight: float = 0.0
    samples: int = 0
    seconds: float = 0.0


@dataclass(frozen=True)
class _Position:
    """Where in its samples a training is.

    Attributes:
        generator: The state, before the present epoch was drawn, of what draws the order of samples.
        taken: How many samples of that epoch have been trained on.
    """

    generator: dict[str, Any]
    taken: int


@dataclass(frozen=True, eq=False)
class _Stretch:
    """A chunk of steps with what the history needs of it.

    Attributes:
        first: The number of its first step.
        end: Where the training is after it.
        lr: (steps,) learning rates.
        weights: (steps,) what the summed loss of each batch is divided by: its samples, or their weights.
    """

    chunk: Chunk
    first: int
    end: _Position
    lr: np.ndarray
    weights: np.ndarray


class Training:
    """The program, the position in it, and what is written down on the way."""

    def __init__(self, trainer: Trainer, samples: Samples, validation: Samples | None) -> None:
        network, loss, metric = trainer.network, trainer.loss, trainer.metric
        self.trainer, self.samples = trainer, samples
        batch = len(samples) if trainer.batch_size == "all" else int(trainer.batch_size)
        order_seed, _, dropout_seed = trainer.seeds()
        self._dropout_seed = int(np.random.default_rng(dropout_seed).integers(2**63))
        self.batches = Batches(
            samples.rows, batch, replacement=trainer.replacement, rng=np.random.default_rng(order_seed)
        )
        per_epoch, batch = self.batches.per_epoch, self.batches.size
        self.span = Span(per_epoch, trainer.steps or trainer.epochs * per_epoch)
        self.history = History(metric.name, per_epoch)

        shared = validation is not None and validation.shares_arrays(samples)
        sets = [samples] if validation is None or shared else [samples, validation]
        chunk = chunk_steps(network, batch, per_epoch)
        plan = foresee(network, sets, batch=batch, chunk=chunk, blocks=TRAINING_BLOCKS)
        self.chunk = plan.chunk
        self.keeper = Keeper(trainer, self.history, validated=validation is not None)
        feeds = [Feed(part, network, loss, metric, window=plan.window) for part in sets]
        workspace = Workspace(network, feeds[0], plan.rows, plan.gathered * batch, dropout=trainer.dropout)
        self.update = trainer.optimizer.bind(network.parameters, decays=trainer.l2 > 0, clip_norm=trainer.clip_norm)
        self.program = Program(
            network,
            loss,
            metric,
            self.update,
            feeds[0],
            workspace,
            batch=batch,
            chunk=self.chunk,
            gathered=plan.gathered,
            max_norm=trainer.max_norm,
        )
        self.program.warm_up({stop - start for start, stop in self._cuts(0)})
        self.evaluation = (
            None
            if validation is None
            else Evaluation(network, trainer.loss.plain, metric, validation, feeds[-1], workspace)
        )
        self._sums, self._position = _Sums(), _Position(self.batches.generator, 0)
        self.first_penalty = self._penalty = trainer.penalty()
        self._lr = 0.0

    def run(self) -> None:
        """Chunk by chunk, until it is done or told to stop; each is made while the device works on the one before."""
        trainer, coming = self.trainer, self._stretches()
        if self._sums.samples and self._row_is_due():  # this goes on where another was stopped before it came to that
            self._end_row()
        if self.ended:  # another process came so far, and perhaps not to writing all of it down
            trainer.tell("on_safe_point")
        following, stopped = next(coming, None), bool(trainer.stopped) or self.ended
        while following is not None and not stopped:
            stretch, following = following, None

            def make_following() -> Chunk | None:
                nonlocal following
                following = next(coming, None)
                return None if following is None else following.chunk

            start = time.perf_counter()
            outcome = self.program.run(stretch.chunk, make_following)
            self._take(stretch, outcome, time.perf_counter() - start)
            if self._row_is_due() and not trainer.stopped:
                self._end_row()
            stopped = bool(trainer.stopped) or self.ended  # a signal may come at any time; the safe point must know
            trainer.tell("on_safe_point")
        early = self.keeper.patience_ended
        if self._sums.samples:  # what is kept at the end, or where it was stopped on the way, gets its row too
            self._end_row(last=True)
        otherwise = DONE if trainer.step == self.span.total else trainer.stopped
        self.history.stopped = EARLY if early else otherwise

    def snapshot(self) -> Snapshot:
        """All that this training is, at a safe point, as copies on the host."""
        program, trainer = self.program, self.trainer
        return Snapshot(
            arrays={
                **{name: program.network.device.to_host(array) for name, array in self._arrays()},
                **{f"history.{name}": array for name, array in self.history.arrays.items()},
            },
            facts={
                "step": trainer.step,
                "total": self.span.total,
                "position": asdict(self._position),
                "sums": asdict(self._sums),
                "lr": self._lr,
                "penalty": self._penalty,
                "history": self.history.facts,
                "keeper": self.keeper.facts,
            },
        )

    def go_on(self, snapshot: Snapshot) -> None:
        """Take over where a training of the same settings on the same samples was, which then goes on as that would.

        Raises:
            ValueError, LookupError, TypeError: This is not such a training's snapshot.
        """
        facts, trainer, device = snapshot.facts, self.trainer, self.program.network.device
        for name, array in self._arrays():
            host = snapshot.arrays[name]
            if host.shape != array.shape or host.dtype != array.dtype:
                raise ValueError(f"{name} is {host.dtype} {host.shape}, not {array.dtype} {array.shape}")
            device.upload(host, out=array)
        self.history.go_on(snapshot.part("history."), facts["history"])
        self.keeper.go_on(facts["keeper"])
        self._sums, self._position = _Sums(**facts["sums"]), _Position(**facts["position"])
        self._lr, self._penalty = float(facts["lr"]), float(facts["penalty"])
        self.batches.generator = self._position.generator
        trainer.step = int(facts["step"])

    @property
    def ended(self) -> bool:
        """Whether nothing is left to train."""
        return self.trainer.step == self.span.total or self.keeper.patience_ended

    def _arrays(self) -> Iterator[tuple[str, Array]]:
        """All arrays of the device that outlive a step, by name."""
        network = self.program.network
        for what, state in {"network": network.state, "update": self.update.state, **self.keeper.arrays}.items():
            for i, array in enumerate(state):
                yield f"{what}.{i}", array

    def _stretches(self) -> Iterator[_Stretch]:
        """All chunks of the run."""
        first, taken = self.trainer.step, self._position.taken
        while first < self.span.total:
            generator, order = self.batches.generator, self.batches.epoch()
            for start, stop in self._cuts(first, taken):
                stretch = self._stretch(order[start:stop], first, _Position(generator, stop))
                yield stretch
                first += len(stretch.lr)
            taken = 0

    def _cuts(self, first: int, start: int = 0) -> Iterator[tuple[int, int]]:
        """Where the chunks of an epoch, from this step and sample on, lie in its order; they end where a row does."""
        size, every = self.batches.size, self.trainer.eval_every
        samples = min(self.batches.per_epoch * size, len(self.samples))
        while start < samples and first < self.span.total:
            steps = min(self.chunk, self.span.total - first)
            if every.unit == "steps":
                steps = min(steps, every.left(first))
            stop = min(start + steps * size, samples)
            yield start, stop
            first += -(-(stop - start) // size)
            start = stop

    def _stretch(self, order: np.ndarray, first: int, end: _Position) -> _Stretch:
        trainer, weights = self.trainer, self._batch_weights(order)
        steps = np.arange(first, first + len(weights))
        lr = trainer.optimizer.lr * trainer.schedule(steps, self.span)
        table = self.update.table(steps, lr, np.full(len(steps), trainer.l2))
        drops, layers = self.program.workspace.drops, len(trainer.dropout)
        keys = dropout_keys(self._dropout_seed, layers, steps) if drops else None
        return _Stretch(Chunk(order, table, keys), first, end, lr, weights)

    def _take(self, stretch: _Stretch, outcome: Outcome, elapsed: float) -> None:
        """Write down what came of a chunk."""
        trainer, sums, samples = self.trainer, self._sums, len(stretch.chunk.order)
        divisors = np.where(stretch.weights > 0, stretch.weights, 1.0)  # a batch without weight has no loss
        sums.seconds += elapsed
        self.history.seconds += elapsed
        trainer.step += len(stretch.lr)
        self._position = stretch.end
        self.history.add_steps(outcome.losses / divisors, self.first_penalty if stretch.first == 0 else 0.0)
        self._check_finite(stretch, outcome)
        sums.loss = _added(sums.loss, outcome.losses)
        sums.hits = _added(sums.hits, outcome.hits)
        sums.weight = _added(sums.weight, stretch.weights)
        sums.samples += samples
        self.history.samples += samples
        self._lr, self._penalty = float(stretch.lr[-1]), trainer.penalty_of(outcome.weights_norm)
        trainer.tell("on_chunk")

    def _batch_weights(self, order: np.ndarray) -> np.ndarray:
        """What each batch's summed loss is divided by: its samples, or their weights."""
        starts = np.arange(0, len(order), self.batches.size)
        if self.samples.weights is None:
            return np.diff(np.append(starts, len(order))).astype(float)
        return np.add.reduceat(self.samples.weights[order].astype(float), starts)

    def _row_is_due(self) -> bool:
        """Whether a longer training, too, would have its row here: the last one is not in what that goes on from."""
        step, every = self.trainer.step, self.trainer.eval_every
        if every.unit == "steps":
            return step % every.count == 0
        epoch, begun = divmod(step, self.span.per_epoch)
        return begun == 0 and (step < self.span.total or epoch % every.count == 0)

    def _end_row(self, *, last: bool = False) -> None:
        """A row of history; the validation set where it is due, or last; the weights worth keeping."""
        trainer, sums, every = self.trainer, self._sums, self.trainer.eval_every
        epoch = trainer.step / self.span.per_epoch
        due = last or every.unit == "steps" or epoch % every.count == 0
        weight = sums.weight or 1.0
        val_loss, val_metric = self.evaluation() if due and self.evaluation else (None, None)
        if val_loss is not None and np.isnan(val_loss):
            self.history.stopped = DIVERGED
            raise DivergenceError(
                f"The loss on the validation set became nan in epoch {np.ceil(epoch):g}, that on the training set is "
                f"{sums.loss / weight:g}; the last good weights are kept: look for validation samples far from all "
                "others."
            )
        row = Row(
            epoch=epoch,
            step=trainer.step,
            train_loss=sums.loss / weight + self._penalty,
            train_metric=sums.hits / weight * trainer.metric.unit,
            val_loss=val_loss,
            val_metric=val_metric,
            lr=self._lr,
            seconds=self.history.seconds,
            samples_per_second=sums.samples / sums.seconds,
            evaluated=due,
        )
        with postponed():  # a second Ctrl-C, so that the weights that are kept are those that the history tells of
            self._sums = _Sums()
            self.history.rows.append(row)
            self.keeper.offer(row)
        trainer.tell("on_row", row)

    def _check_finite(self, stretch: _Stretch, outcome: Outcome) -> None:
        """Raise where a loss of this chunk, or a weight after it, is not finite."""
        losses = outcome.losses
        bad = np.flatnonzero(~np.isfinite(losses))
        if len(bad) == 0 and np.isfinite(outcome.weights_norm) and np.isfinite(outcome.biases_norm):
            return
        at = int(bad[0]) if len(bad) else len(losses) - 1
        what = f"The loss became {losses[at]:f}" if len(bad) else "The weights grew beyond all bounds"
        step = stretch.first + at + 1
        self.history.stopped = DIVERGED
        raise DivergenceError(
            f"{what} in epoch {(step - 1) // self.span.per_epoch + 1}, step {step}, at a learning rate of "
            f"{stretch.lr[at]:g}; "
            "the last good weights are kept: try a learning rate ten times smaller, a bound on the gradient "
            "(clip_norm), or inputs scaled to about 1."
        )


def _added(total: float, terms: np.ndarray) -> float:
    """The total with the terms added one after the other, so that it does not depend on where chunks are cut."""
    return float(np.append(total, terms).cumsum()[-1])
