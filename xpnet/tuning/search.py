"""Trial after trial, in this process or in several: each draws settings, trains, and is judged on other samples."""

from __future__ import annotations

import dataclasses
import threading
import time
from collections.abc import Set
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from xpnet.callbacks import Callback, Row
from xpnet.config import Config, settings_of
from xpnet.errors import DataError, DivergenceError, OutOfMemoryError, XpnetError, one_of
from xpnet.folder import RUNS, default_name
from xpnet.sets import Sets, load_sets
from xpnet.task import open_device, prepare
from xpnet.trainer import INTERRUPTED
from xpnet.training import DIVERGED, DONE
from xpnet.tuning.space import Space
from xpnet.tuning.study import Record

if TYPE_CHECKING:
    from optuna.trial import Trial

    from xpnet.trainer import Trainer

PRUNED, TIMED_OUT, OUT_OF_MEMORY = "pruned", "timed out", "out of memory"
"""Why a trial ended, beside the reasons of every training."""

JUDGEMENTS = 20
"""Of a trial, the last one not counted: at so many points it is compared with others."""


class Event(Protocol):
    """Of `threading` or of `multiprocessing`."""

    def is_set(self) -> bool:
        """Whether it is."""

    def set(self) -> None:
        """Set it."""


@dataclass(frozen=True)
class Search:
    """What every process of a search has to know.

    Attributes:
        config: The settings of `train`, where it starts.
        by_hand: The names of those that stay as they are.
        study: The file that remembers it.
        metric: What trials are judged by: val_accuracy, val_mse or val_loss; None for what the training monitors.
    """

    config: Config
    by_hand: frozenset[str]
    study: Path
    metric: str | None = None

    @classmethod
    def of(
        cls, config: Config, *, by_hand: Set[str], given: Set[str], study: Path | None = None, metric: str | None = None
    ) -> Search:
        """With what is usual where nothing was asked for: AdamW, and runs/tune-NAME.db.

        Args:
            config: The settings of `train`.
            by_hand: The names of those that stay as they are.
            given: The names of all that somebody has chosen, if only to start from.
            study: The file.
            metric: What is searched for.
        """
        if "optimizer" not in given | by_hand:
            config = dataclasses.replace(config, optimizer="adamw")
        return cls(config, frozenset(by_hand), study or Path(RUNS) / f"tune-{default_name(config)}.db", metric)


@dataclass(frozen=True)
class Finished:
    """A trial that came to an end.

    Attributes:
        number: Counted from 0.
        value: Of the metric, with the weights that were kept; the last one where the trial was pruned; or None.
        seconds: That it took.
        ended: "done", or why it came to nothing.
    """

    number: int
    value: float | None
    seconds: float
    ended: str

    @property
    def completed(self) -> bool:
        """Whether it can be the best."""
        return self.ended == DONE


@dataclass(frozen=True)
class Found:
    """The best trial so far.

    Attributes:
        number: Counted from 0.
        value: Of the metric.
        config: Its settings.
    """

    number: int
    value: float
    config: Config


class Workplace:
    """What a process needs for one trial after another: the data, loaded once, the device, the record.

    Args:
        search: What is searched.
        stopping: Set when the trial that is being trained is to end.

    Attributes:
        task: What would be trained without a search.
        metric: What trials are judged by.
        space: What is searched.
        record: Of the trials.

    Raises:
        XpnetError: The settings cannot be trained with, or there is nothing to judge trials by.
    """

    def __init__(self, search: Search, stopping: Event | None = None) -> None:
        config = search.config
        if config.val_on_test:
            raise XpnetError(
                "val_on_test: got the test set to choose settings by, after which it could judge none; leave it out."
            )
        if search.metric is not None and "monitor" not in search.by_hand:
            config = dataclasses.replace(config, monitor=search.metric)
        self._device = open_device(config)
        self._stopping: Event = stopping or threading.Event()
        self._sets: Sets | None = None
        self.task = task = prepare(config, self._device, load=self._load_once)
        if task.validation is None:
            raise DataError("val_size: got no validation set, expected one to judge trials by; give --val-size 0.1.")
        own = f"val_{task.trainer.metric.name}"
        monitored = config.monitor if (config.monitor or "").startswith("val_") else None
        self.metric = one_of("metric", search.metric or monitored or own, dict.fromkeys((own, "val_loss")))
        self.space = Space.around(task, search.by_hand)
        if not self.space.names:
            raise XpnetError("tune: got all settings by hand, expected some to search; leave --lr out, for instance.")
        self.record = Record(search.study, metric=self.metric, seed=config.seed)

    def begin(self) -> None:
        """Begin with the settings of the task, if they can be trained with, or go on with what the record has.

        Raises:
            XpnetError: They cannot, or the record is of another search.
        """
        task = self.task
        task.trainer.prepare(task.train, task.validation)
        facts = {"settings": settings_of(task.config), "searched": self.space.names, "metric": self.metric}
        self.record.begin({**facts, "samples": task.digest}, self.space.start)

    @property
    def first(self) -> Config:
        """The settings of the first trial."""
        from optuna.trial import FixedTrial

        return self.space.draw(FixedTrial(self.space.start))

    @property
    def best(self) -> Found | None:
        """The best trial."""
        from optuna.trial import FixedTrial

        best = self.record.best
        if best is None or best.value is None:
            return None
        return Found(best.number, best.value, self.space.draw(FixedTrial(best.params, best.number)))

    def run(self, index: int, deadline: float) -> Finished | None:
        """One trial; None where there is no time left for it.

        Args:
            index: How many there were before it.
            deadline: When to stop, by `time.time`. A trial that is stopped is repeated when the search goes on.

        Raises:
            KeyboardInterrupt: It was broken off; the same holds.
        """
        start = time.time()
        if start >= deadline:
            return None
        trial = self.record.ask(index)
        judge = _Judge(self, trial, deadline)
        ended, value = self._train(self.space.draw(trial), judge)
        if ended == INTERRUPTED:
            raise KeyboardInterrupt
        if ended == TIMED_OUT:
            return None
        self.record.tell(trial, value)
        if judge.interrupted:  # when nothing was left to train
            raise KeyboardInterrupt
        return Finished(trial.number, judge.last if value is None else value, time.time() - start, ended)

    @property
    def stopping(self) -> bool:
        """Whether the trial that is being trained is to end."""
        return self._stopping.is_set()

    def _train(self, config: Config, judge: _Judge) -> tuple[str, float | None]:
        """Why the training ended, and what it came to, if that can be the best."""
        try:
            task = prepare(config, self._device, load=self._load_once)
            task.trainer.callbacks = [judge]
            history = task.trainer.train(task.train, task.validation)
        except DivergenceError:
            return DIVERGED, None
        except (OutOfMemoryError, MemoryError):
            return OUT_OF_MEMORY, None
        if history.stopped in (INTERRUPTED, TIMED_OUT, PRUNED):
            return history.stopped, None
        value = None if history.best is None else history.best.named(history.metric)[self.metric]
        return DONE, value

    def _load_once(self, config: Config, seed: np.random.SeedSequence) -> Sets:
        if self._sets is None:
            self._sets = load_sets(config, seed)
        return self._sets


class _Judge(Callback):
    """Ends a training that is worse than others were at the same point, or that was to end by now.

    Attributes:
        last: The newest value of the metric.
        interrupted: Whether the user broke it off.
    """

    def __init__(self, workplace: Workplace, trial: Trial, deadline: float) -> None:
        self._workplace, self._trial, self._deadline = workplace, trial, deadline
        self._judged = 0
        self.last: float | None = None
        self.interrupted = False

    def on_chunk(self, trainer: Trainer) -> None:
        """Look at the clock."""
        if trainer.stopped:
            return
        if self._workplace.stopping:
            trainer.stop(INTERRUPTED)
        elif time.time() >= self._deadline:
            trainer.stop(TIMED_OUT)

    def on_row(self, trainer: Trainer, row: Row) -> None:
        """Compare it with the others."""
        value = row.named(trainer.history.metric)[self._workplace.metric]
        if value is None:
            return
        self.last = value
        part = JUDGEMENTS * trainer.step // trainer.total_steps
        if part > self._judged and part < JUDGEMENTS:
            self._judged = part
            if self._workplace.record.is_hopeless(self._trial, value, part) and not trainer.stopped:
                trainer.stop(PRUNED)

    def on_end(self, trainer: Trainer) -> None:
        """Remember why it ended, if the last step was done by then."""
        self.interrupted = trainer.stopped == INTERRUPTED
