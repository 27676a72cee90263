"""The database file that remembers a search, for processes side by side and for later ones."""

from __future__ import annotations

import contextlib
import sqlite3
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from filelock import FileLock, Timeout

from xpnet.config import UNBOUND, differences
from xpnet.errors import XpnetError

if TYPE_CHECKING:
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

NAME = "xpnet"
"""Of the study in its file."""

FACTS, WRITTEN = "facts", "written"
"""What a study is about, and the files that its best settings were written into."""

PATIENCE = 60
"""Seconds that a process waits for another one to finish writing."""

UNPRUNED, UNJUDGED = 5, 4
"""Trials that come to their end in any case, and how many times others are looked at before they are judged."""

TELLING = 10
"""Completed trials from which on it is said which settings matter."""

_MAGIC = b"SQLite format 3\0"


class Record:
    """The trials of a search, in a database file.

    Args:
        path: Of the file, made if it is not there.
        metric: What the trials are judged by.
        seed: With the number of a trial, decides what is drawn for it.

    Raises:
        XpnetError: Optuna is not installed, or the file is no such record or cannot be written.
    """

    def __init__(self, path: Path, *, metric: str, seed: int) -> None:
        optuna = _optuna()
        from sqlalchemy import URL

        self.path, self._metric, self._seed = path, metric, seed
        self._refuse_other_files()
        url = URL.create("sqlite", database=str(path)).render_as_string()
        with self._telling():
            self._storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": {"timeout": PATIENCE}})
            self.study = self._open()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Within it, no other search works on this record.

        Raises:
            XpnetError: One does.
        """
        lock = FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=0)
        try:
            lock.acquire()
        except Timeout:
            raise XpnetError(
                f"study: another search is at work on {self.path}; wait for its end, or name another file by --study."
            ) from None
        try:
            yield
        finally:
            lock.release()

    def begin(self, facts: dict[str, Any], start: dict[str, Any]) -> None:
        """Begin with the trial of these parameters, or go on with what was begun; trials broken off are repeated.

        Raises:
            XpnetError: The record is of another search.
        """
        optuna = _optuna()
        with self._telling():
            known = self.study.user_attrs.get(FACTS, facts)
            if self.finished:
                self._refuse_other_facts(known, facts)
            elif known != facts:
                optuna.delete_study(study_name=NAME, storage=self._storage)
                self.study = self._open()
            self.study.set_user_attr(FACTS, facts)
            states = optuna.trial.TrialState
            waiting = [
                trial.system_attrs.get("fixed_params") for trial in self.study.get_trials(states=(states.WAITING,))
            ]
            for trial in self.study.get_trials(states=(states.RUNNING,)):
                given = trial.system_attrs.get("fixed_params", {})  # it may have been killed before all was drawn
                parameters = {**given, **trial.params}
                if parameters not in waiting:  # as it is where this was killed between the two lines that follow
                    self.study.enqueue_trial(parameters)
                self.study.tell(trial.number, state=states.FAIL)
            if not self.study.get_trials(deepcopy=False):
                self.study.enqueue_trial(start)

    def ask(self, index: int) -> Trial:
        """The next trial.

        Args:
            index: How many there were before it; what is drawn depends on no other chance.
        """
        optuna = _optuna()
        seed = int(np.random.SeedSequence([self._seed, index]).generate_state(1)[0])
        with warnings.catch_warnings(), self._telling():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)  # no longer one in Optuna 5
            self.study.sampler = optuna.samplers.TPESampler(seed=seed, multivariate=True, constant_liar=True)
            return self.study.ask()

    def is_hopeless(self, trial: Trial, value: float, part: int) -> bool:
        """Whether most of the completed trials were better at the same point.

        Args:
            trial: That is being trained.
            value: Of the metric.
            part: Of its training, counted from 1.
        """
        with self._telling():
            trial.report(value, part)
            return trial.should_prune()

    def tell(self, trial: Trial, value: float | None) -> FrozenTrial:
        """What came of a trial; None for nothing that could be the best."""
        optuna = _optuna()
        with self._telling():
            if value is None:
                return self.study.tell(trial, state=optuna.trial.TrialState.PRUNED)
            return self.study.tell(trial, value)

    @property
    def finished(self) -> int:
        """How many trials came to an end, or were pruned."""
        return self._count("COMPLETE", "PRUNED")

    @property
    def pruned(self) -> int:
        """How many trials were pruned."""
        return self._count("PRUNED")

    @property
    def best(self) -> FrozenTrial | None:
        """The best trial; None where none came to its end."""
        try:
            return self.study.best_trial
        except ValueError:
            return None

    def importances(self, parameters: list[str]) -> dict[str, float]:
        """How much of the differences between completed trials each parameter explains, in all 1; none of few trials.

        Args:
            parameters: That all trials have.
        """
        if self._count("COMPLETE") < TELLING:
            return {}
        importance = _optuna().importance
        try:
            evaluator = importance.FanovaImportanceEvaluator(seed=0)
            return dict(importance.get_param_importances(self.study, evaluator=evaluator, params=parameters))
        except (RuntimeError, ValueError):  # all of one value
            return {}

    def may_write(self, path: Path) -> bool:
        """Whether a file is not there, or came from this search."""
        return not path.exists() or str(path.absolute()) in self.study.user_attrs.get(WRITTEN, [])

    def note_written(self, path: Path) -> None:
        """Remember that a file comes from this search."""
        written = self.study.user_attrs.get(WRITTEN, [])
        if str(path.absolute()) not in written:
            self.study.set_user_attr(WRITTEN, [*written, str(path.absolute())])

    def _open(self) -> Study:
        optuna = _optuna()
        study: Study = optuna.create_study(
            storage=self._storage,
            study_name=NAME,
            direction="maximize" if self._metric.endswith("accuracy") else "minimize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=UNPRUNED, n_warmup_steps=UNJUDGED),
            load_if_exists=True,
        )
        return study

    def _count(self, *names: str) -> int:
        states = [_optuna().trial.TrialState[name] for name in names]
        return len(self.study.get_trials(deepcopy=False, states=states))

    def _refuse_other_files(self) -> None:
        """Raise XpnetError where the file holds something else, which opening it would add to."""
        path = self.path
        if not path.exists() and path.parent.is_dir():
            return
        try:
            with path.open("rb") as file:
                magic = file.read(len(_MAGIC))
            with contextlib.closing(sqlite3.connect(path)) as database:
                tables = {name for (name,) in database.execute("SELECT name FROM sqlite_master")}
        except (OSError, sqlite3.Error) as error:
            raise self._unreadable(getattr(error, "strerror", None) or error) from error
        if magic and (magic != _MAGIC or (tables and "studies" not in tables)):
            raise self._unreadable("it is of another kind")

    def _refuse_other_facts(self, known: dict[str, Any], facts: dict[str, Any]) -> None:
        others = differences(known["settings"], facts["settings"], free=UNBOUND - {"epochs", "steps"})
        then, now = set(known["searched"]), set(facts["searched"])
        others += [f"a given {name} (it was searched)" for name in sorted(then - now)]
        others += [f"a search of {name} (it was given)" for name in sorted(now - then)]
        if known["metric"] != facts["metric"]:
            others.append(f"metric {facts['metric']} (it was {known['metric']})")
        if known["samples"] != facts["samples"]:
            others.append("data (other samples)")
        if others:
            raise XpnetError(
                f"study: this is not the search in {self.path}: got {', '.join(others)}; leave that as it was, or "
                "begin another search with another --study."
            )

    @contextlib.contextmanager
    def _telling(self) -> Iterator[None]:
        """Turns what the database may raise into one sentence."""
        optuna = _optuna()
        from sqlalchemy.exc import SQLAlchemyError

        try:
            yield
        except (SQLAlchemyError, optuna.exceptions.StorageInternalError, sqlite3.Error, RuntimeError) as error:
            raise self._unreadable(error) from error

    def _unreadable(self, why: object) -> XpnetError:
        text = " ".join(str(why).split())
        return XpnetError(
            f"study: {self.path} cannot be used as the record of a search ({text:.200}); name another by --study."
        )


def _optuna() -> Any:
    try:
        import optuna
    except ModuleNotFoundError as error:
        raise XpnetError(
            f"tune: a search needs {error.name}, which is not installed; pip install 'xpnet[tune]'."
        ) from None
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    return optuna
