"""A whole search: its trials, and a file with the best settings."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w

from xpnet.config import Config, settings_of
from xpnet.errors import XpnetError, whole
from xpnet.files import write_whole
from xpnet.folder import RUNS
from xpnet.settings import TABLE
from xpnet.trainer import INTERRUPTED
from xpnet.training import DONE
from xpnet.tuning.processes import trials
from xpnet.tuning.search import TIMED_OUT, Finished, Found, Search, Workplace


@dataclass(frozen=True)
class Outcome:
    """What came of a search.

    Attributes:
        metric: What was searched for.
        best: The best trial; None where none came to its end.
        first: The settings that the search started from.
        searched: The names of the settings that were searched.
        importances: How much each parameter matters.
        finished, pruned: Trials in all, and those of them that were given up.
        stopped: "done", "timed out" or "interrupted".
        study, out: The record, and the file with the best settings.
    """

    metric: str
    best: Found | None
    first: Config
    searched: list[str]
    importances: dict[str, float]
    finished: int
    pruned: int
    stopped: str
    study: Path
    out: Path

    def flat(self) -> dict[str, Any]:
        """The values of --json; null where no trial came to its end."""
        best = self.best
        return {
            "metric": self.metric,
            "value": None if best is None else best.value,
            "trial": None if best is None else best.number,
            "trials": self.finished,
            "pruned": self.pruned,
            "stopped": self.stopped,
            "settings": None if best is None else {name: getattr(best.config, name) for name in self.searched},
            "importances": self.importances,
            "study": str(self.study),
            "out": None if best is None else str(self.out),
        }


def run(
    search: Search,
    *,
    count: int,
    jobs: int = 1,
    seconds: float = math.inf,
    out: Path | None = None,
    on_start: Callable[[Workplace], None] = lambda workplace: None,
    on_trial: Callable[[str, Finished, Found | None], None] = lambda metric, finished, best: None,
) -> Outcome:
    """Search until there are so many trials; the best settings are in a file after each one that is better.

    Args:
        search: What is searched.
        count: Trials, those of earlier calls included.
        jobs: Processes that train side by side.
        seconds: When to stop.
        out: The file for the best settings; None for the study's name with .toml.
        on_start: Called once nothing can be refused any more.
        on_trial: Called with the metric, a trial that came to an end, and the best one so far.

    Raises:
        XpnetError: The search cannot be made, or not be written.
    """
    deadline = time.time() + seconds
    whole("trials", count, least=1)
    whole("jobs", jobs, least=1)
    path = search.study.with_suffix(".toml") if out is None else out
    _make_folders(search.study, path)
    workplace = Workplace(search)
    with workplace.record.alone():
        if not (out is None or search.config.overwrite or workplace.record.may_write(path)):
            raise XpnetError(f"out: {path} is there already; choose another file, or add --overwrite.")
        workplace.begin()
        on_start(workplace)
        best, stopped = _write(workplace, path), DONE
        try:
            for finished in trials(search, workplace, count=count, jobs=jobs, deadline=deadline):
                found = workplace.best
                if found is not None and (best is None or found.number != best.number):
                    best = _write(workplace, path)
                on_trial(workplace.metric, finished, found)
        except KeyboardInterrupt:
            stopped = INTERRUPTED
        record = workplace.record
        if stopped == DONE and record.finished < count:
            stopped = TIMED_OUT
        return Outcome(
            metric=workplace.metric,
            best=_write(workplace, path),
            first=workplace.first,
            searched=workplace.space.names,
            importances=record.importances(workplace.space.lasting),
            finished=record.finished,
            pruned=record.pruned,
            stopped=stopped,
            study=search.study,
            out=path,
        )


def _make_folders(study: Path, out: Path) -> None:
    """The folder of runs may not be there yet; others have to be."""
    for what, path in (("study", study), ("out", out)):
        try:
            if path.parent == Path(RUNS):
                path.parent.mkdir(exist_ok=True)
            if not path.parent.is_dir():
                raise XpnetError(f"{what}: there is no folder {path.parent}; make it, or name a file in another one.")
            if path.is_dir():
                raise XpnetError(f"{what}: {path} is a folder, expected the name of a file; choose another one.")
        except OSError as error:
            raise XpnetError(f"{what}: {path} cannot be made ({error.strerror}); name another file.") from error


def _write(workplace: Workplace, path: Path) -> Found | None:
    """The settings of the best trial as a TOML file that `python -m xpnet.train --config` takes.

    Raises:
        XpnetError: It cannot be written.
    """
    found = workplace.best
    if found is None:
        return None
    head = (
        f"# The best of {workplace.record.finished} trials, {workplace.metric} {found.value:.6g}; "
        "train with it: python -m xpnet.train --config THIS_FILE\n\n"
    )
    try:
        write_whole(path, (head + tomli_w.dumps({TABLE: settings_of(found.config)})).encode())
    except OSError as error:
        raise XpnetError(f"out: {path} cannot be written ({error.strerror}); name another file.") from error
    workplace.record.note_written(path)
    return found
