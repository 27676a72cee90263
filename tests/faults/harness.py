"""Start a training, strike it, resume it until it has finished, and compare its end with that of an unbroken one."""

from __future__ import annotations

import csv
import json
import random
import re
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import xpnet
from xpnet import checkpoint
from xpnet.errors import XpnetError
from xpnet.files import PARTIAL
from xpnet.settings import read_settings

from .configurations import Case, make_data
from .forks import Forks, Run

BEST = ("checkpoints/best.safetensors",)
"""Of the last checkpoint, which may have failed; a run that diverges has none at its end."""

STRIKES = 8
"""How often one training is struck at the most."""

MISSES = 30
"""How often one may end before it is struck at all: the machine may be faster now than it was for the reference."""

PATIENCE = 120.0
"""Seconds after which a run hangs."""

GIVEN_UP = re.compile("OpenBLAS error: Memory allocation|memory allocation of .* failed|PanicException")
"""What libraries of C and Rust write that end a process without memory, in their own ways."""

TIMES = {"seconds", "samples_per_second"}
"""What differs from run to run: columns of history.csv, and values of result.json (as does its "out")."""

BAD_INPUT, DIVERGED, OUT_OF_MEMORY = 2, 3, 4
"""Exit statuses."""

LOCK, CONFIG, HISTORY, MODEL, RESULT = ".lock", "config.toml", "history.csv", "model.safetensors", "result.json"


class RunLostError(AssertionError):
    """A training did not survive: it hangs, ended with another status, or came to another end."""


class FileDamagedError(AssertionError):
    """A file is not whole, or something was left behind."""


@dataclass(frozen=True)
class Ended:
    """How a run ended.

    Attributes:
        status: Its exit status, that of a signal being negative.
        out, err: What it wrote to stdout and stderr.
        seconds: That it took.
    """

    status: int
    out: str
    err: str
    seconds: float


@dataclass(frozen=True)
class Reference:
    """An unbroken training.

    Attributes:
        folder: What it left.
        ended: How it ended.
    """

    folder: Path
    ended: Ended


class Ground:
    """Where trainings run and are struck.

    Args:
        folder: An empty one.
        cases: What is trained.
    """

    def __init__(self, folder: Path, cases: Sequence[Case]) -> None:
        self.folder, self.data, self.tally = folder, folder / "data", Counter[str]()
        self.slowest_exit = 0.0
        make_data(self.data)
        warm = [
            case.arguments(self.data, "--steps 60" if "steps" in case.length else "--epochs 2")
            for case in cases
            if not case.fresh
        ]
        self.forks = Forks(folder / "warm", warm)
        self._references: dict[str, Reference] = {}
        self._seconds: dict[str, float] = {}
        self._locks: dict[str, threading.Lock] = {}
        self._lock = threading.Lock()

    def close(self) -> None:
        """End the process that forks."""
        self.forks.close()

    def count(self, what: str) -> None:
        """One more of these."""
        with self._lock:
            self.tally[what] += 1

    def took(self, seconds: float) -> None:
        """So long a run took to end after a signal."""
        with self._lock:
            self.slowest_exit = max(self.slowest_exit, seconds)

    def lasted(self, case: Case, seconds: float) -> None:
        """So long an unbroken training took."""
        with self._lock:
            self._seconds[case.name] = min(seconds, self._seconds.get(case.name, seconds))

    def seconds(self, case: Case) -> float:
        """How long an unbroken training of a case takes: the least of those that were seen, with other loads each."""
        self.reference(case)
        return self._seconds[case.name]

    def reference(self, case: Case) -> Reference:
        """The unbroken training of a case, run when it is first asked for: twice, to see that the ends are the same."""
        with self._lock:
            lock = self._locks.setdefault(case.name, threading.Lock())
        with lock:
            if case.name not in self._references:
                warm, timed = (self._unbroken(case, repeat) for repeat in ("warm", "timed"))
                warm.check_same(timed.folder, but=BEST if timed.ended.status == DIVERGED else ())
                self._references[case.name] = Reference(timed.folder, timed.ended)
                self.lasted(case, timed.ended.seconds)
            return self._references[case.name]

    def _unbroken(self, case: Case, repeat: str) -> Trial:
        trial = Trial(self, case, random.Random(0), f"unbroken-{repeat}-{case.name}")
        ended = trial.end(trial.start())
        trial.check(ended.status in (0, DIVERGED), f"the unbroken training ended with status {ended.status}", ended)
        trial.check_whole(finished=True)
        return trial


@dataclass
class Trial:
    """One training that is struck.

    Attributes:
        ground: Where.
        case: What is trained.
        rng: Draws moments and places.
        name: Of its place.
        place: Holds the run's folder, and what runs wrote to stdout and stderr.
        folder: The run's.
        data: Where the case's data are.
        kept: Lines of history.csv that are not to be lost.
        log: What happened, in sentences.
        ended: How its last run ended.
    """

    ground: Ground
    case: Case
    rng: random.Random
    name: str
    kept: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.place, self.data = self.ground.folder / self.name, self.ground.data
        self.folder = self.place / "run"
        self.place.mkdir()
        self.ended, self._runs = Ended(0, "", "", 0.0), list[Run]()

    @property
    def reference(self) -> Reference:
        """The same training, unbroken."""
        return self.ground.reference(self.case)

    # Runs

    def start(self, *more: str, quiet: bool = True, **how: Any) -> Run:
        """Start the training in its empty folder."""
        return self.launch(*self.case.arguments(self.data), *self.output(quiet), *more, **how)

    def resume(self, *more: str, quiet: bool = True, **how: Any) -> Run:
        """Go on with it, in one of the two ways to say so."""
        if not (self.folder / CONFIG).exists() or self.rng.random() < 0.3:
            return self.start("--resume", "auto", *more, quiet=quiet, **how)
        return self.launch("--resume", str(self.folder), *self.output(quiet)[2:], *more, **how)

    def launch(self, *arguments: str, streams: dict[int, int] | None = None, **how: Any) -> Run:
        """Run the command with these arguments; `streams` are open files for some of 0, 1 and 2."""
        how = {"fresh": self.case.fresh, "threads": self.case.threads, **how}
        self.log.append(f"run {'(fresh) ' if how['fresh'] else ''}{' '.join(arguments)}")
        number = sum(1 for _ in self.place.glob("*.out"))
        names = ("/dev/null", self.place / f"{number}.out", self.place / f"{number}.err")
        files = [open(name, "rb" if i == 0 else "wb") for i, name in enumerate(names)]  # noqa: SIM115 - closed below
        try:
            passed = [(streams or {}).get(i, file.fileno()) for i, file in enumerate(files)]
            run = self.ground.forks.start(arguments, streams=passed, **how)
        finally:
            for file in files:
                file.close()
        self._runs.append(run)
        run.wrote = (self.place / names[1], self.place / names[2])
        return run

    def end(self, run: Run, seconds: float = PATIENCE) -> Ended:
        """Wait for the end of a run; one that hangs is killed, and lost."""
        status = run.wait(seconds)
        if status is None:
            run.strike(signal.SIGABRT)  # which shows where it is
            run.wait(5)
            run.strike(signal.SIGKILL)
            where = run.wrote[1].read_text(encoding="utf-8", errors="replace")
            raise RunLostError(self._story(f"it had not ended after {seconds:.0f} seconds") + f"\n  stderr: {where}")
        out, err = (path.read_text(encoding="utf-8", errors="replace") for path in run.wrote)
        self.ended = ended = Ended(status, out, err, run.ended - run.began)
        self.log.append(f"status {status} after {ended.seconds:.2f} s{', stderr: ' + err.strip() if err else ''}")
        excused = status == -signal.SIGINT or GIVEN_UP.search(err)
        self.check("Traceback" not in err or bool(excused), "it shows a traceback", ended)
        return ended

    def give_up(self) -> None:
        """Kill what still runs."""
        for run in self._runs:
            run.strike(signal.SIGKILL)

    def moment(self) -> float:
        """Seconds after the start of a run, anywhere in an unbroken one."""
        return self.rng.uniform(0, self.ground.seconds(self.case))

    def strike_at_random(self, run: Run, number: int) -> Ended:
        """Send a signal at a random moment; the run may have ended before."""
        moment = self.moment()
        if run.wait(moment) is None:
            run.strike(number)
        return self.end(run)

    def strike_again_and_again(self, strike: Callable[[Run], bool]) -> None:
        """Start the training, resume it after each strike, and finish it; one that was not struck at all begins anew.

        Args:
            strike: Does it to a run and waits for its end; whether the run was struck before that.
        """
        struck = missed = 0
        while struck < STRIKES and missed < MISSES:
            if strike(self.resume() if struck else self.start()):
                struck += 1
            elif struck:
                break
            else:
                missed += 1
                self.ground.lasted(self.case, self.ended.seconds)
                shutil.rmtree(self.folder)
        self.check(struck > 0, "it was never struck")
        self.finish()

    def in_the_middle(self, *, checkpoints: int = 1) -> Run:
        """Start the training anew and stop it somewhere in its middle, where there are so many checkpoints."""
        steps = json.loads((self.reference.folder / RESULT).read_text(encoding="utf-8"))["steps"]
        for _ in range(20):
            shutil.rmtree(self.folder, ignore_errors=True)
            run, until = self.start(), self.rng.uniform(0.1, 0.7) * steps
            while run.wait(0.002) is None:
                found = self.checkpoints()
                if len(found) >= checkpoints and step_of(found[0]) >= until:
                    run.stop()
                    if (
                        run.wait(0) is None and step_of(self.checkpoints()[0]) < steps
                    ):  # it ran on before it stood still
                        return run
                    run.strike(signal.SIGCONT)
            self.end(run)
        raise RuntimeError(self._story(f"it was too short to be met in its middle with {checkpoints} checkpoints"))

    def break_off(self, *, checkpoints: int = 1) -> None:
        """Kill the training somewhere in its middle, where there are so many checkpoints at least."""
        run = self.in_the_middle(checkpoints=checkpoints)
        run.strike(signal.SIGKILL)
        self.end(run)
        self.kept = []
        self.after_death()

    def after_death(self, *, stopped: bool = False) -> None:
        """Files are whole, and what the newest checkpoint has is not to be lost, but for a stopped run's last row."""
        self.check_whole()
        rows = self.safe_rows()
        self.kept = max(self.kept, rows[:-1] if stopped else rows, key=len)

    def finish(self, *, but: Sequence[str] = ()) -> Ended:
        """Resume until the end, which must be that of the unbroken training, but for these files."""
        ended = self.end(self.resume())
        self.check(ended.status == 0, f"resumed, it ended with status {ended.status}", ended)
        self.check_whole(finished=True)
        self.check_same(self.reference.folder, but=but)
        self._check_kept()
        return ended

    # What must be so

    def check(self, good: bool, otherwise: str, ended: Ended | None = None) -> None:
        """Raise RunLostError with what happened."""
        if not good:
            wrote = "" if ended is None or not ended.out else f"\n  stdout: {ended.out[-2000:]}"
            raise RunLostError(self._story(otherwise) + wrote)

    def check_file(self, good: bool, otherwise: str) -> None:
        """Raise FileDamagedError with what happened."""
        if not good:
            raise FileDamagedError(self._story(otherwise))

    def check_sentence(self, ended: Ended, *words: str) -> None:
        """stderr is lines that begin with "xpnet:", and has these words in any case."""
        lines = ended.err.splitlines()
        self.check(bool(lines) and all(line.startswith("xpnet: ") for line in lines), "expected sentences", ended)
        missing = [word for word in words if word.lower() not in ended.err.lower()]
        self.check(not missing, f"its sentence does not have {missing}", ended)

    def check_whole(self, *, finished: bool = False) -> None:
        """Every file under its final name can be read; after the end there is nothing beside them."""
        for path in sorted(self.folder.rglob("*.safetensors")):
            try:
                _read(path)
            except XpnetError as error:
                self.check_file(False, str(error))
        try:
            if (self.folder / CONFIG).exists():
                read_settings(self.folder / CONFIG)
            if (self.folder / RESULT).exists():
                json.loads((self.folder / RESULT).read_text(encoding="utf-8"))
        except ValueError as error:
            self.check_file(False, str(error))
        if finished:
            left = [path.name for path in self.folder.rglob("*") if path.name.endswith((PARTIAL, ".tmp"))]
            self.check_file(not left, f"these are left behind: {', '.join(left)}")
            self._check_history()

    def check_same(self, unbroken: Path, *, but: Sequence[str] = ()) -> None:
        """All that the folder holds is what an unbroken training left in another one, but for these files."""
        ours, theirs = contents(self.folder, but), contents(unbroken, but)
        self.check_file(ours.keys() == theirs.keys(), f"it left {sorted(ours)}, an unbroken one {sorted(theirs)}")
        different = [name for name in ours if ours[name] != theirs[name]]
        self.check(not different, f"other than those of an unbroken run: {', '.join(different)}")

    def _check_kept(self) -> None:
        """history.csv begins with the lines that were not to be lost, seconds too: what they tell of was done once."""
        lines = (self.folder / HISTORY).read_text(encoding="utf-8").splitlines()
        same = lines[: len(self.kept)] == self.kept
        self.check(same, f"the work of {len(self.kept) - 1} rows before the checkpoint was done again")

    def _check_history(self) -> None:
        text = (self.folder / HISTORY).read_text(encoding="utf-8")
        self.check_file(text.endswith("\n"), "history.csv ends within a line")
        rows = list(csv.DictReader(text.splitlines()))
        steps = [int(row["step"]) for row in rows if None not in row and None not in row.values()]
        self.check_file(len(steps) == len(rows), "history.csv has lines of another length")
        self.check_file(steps == sorted(set(steps)), "history.csv has a row twice, or rows in another order")

    # What is there

    def checkpoints(self) -> list[Path]:
        """The newest first."""
        return sorted((self.folder / "checkpoints").glob("step-*.safetensors"), reverse=True)

    def safe_rows(self, path: Path | None = None) -> list[str]:
        """The lines of history.csv, headings too, that are no newer than a checkpoint (the newest): not to be lost."""
        if path is None and not self.checkpoints():
            return []
        step = step_of(path or self.checkpoints()[0])
        try:
            heading, *lines = (self.folder / HISTORY).read_text(encoding="utf-8").splitlines(keepends=True)
        except (FileNotFoundError, ValueError):
            return []
        at = heading.split(",").index("step")
        whole = [line.rstrip("\n") for line in lines if line.endswith("\n")]
        return [heading.rstrip("\n"), *(line for line in whole if int(line.split(",")[at]) <= step)]

    def snapshot(self) -> dict[str, tuple[int, bytes]]:
        """Every file with its place on the disk and what it holds, to see that nothing touches them."""
        files = (path for path in self.folder.rglob("*") if path.is_file())
        return {str(path.relative_to(self.folder)): (path.stat().st_ino, path.read_bytes()) for path in files}

    def output(self, quiet: bool = True) -> list[str]:
        """The options of where it goes."""
        return ["--out", str(self.folder), *(["--json", "--quiet"] if quiet else [])]

    def _story(self, end: str) -> str:
        return "\n  ".join([f"{self.name}: {end}; this is what was done:", *self.log])


def contents(folder: Path, but: Sequence[str] = ()) -> dict[str, Any]:
    """What a finished run left, but for times, these files, checkpoints, the lock and leftovers."""
    found: dict[str, Any] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        checkpoint_file = re.fullmatch(r"checkpoints/step-\d+\.safetensors(\.damaged)?", name)
        if path.is_dir() or checkpoint_file or name in (LOCK, *but) or path.suffix == PARTIAL:
            continue
        if name == HISTORY:
            found[name] = without_times(path)
        elif name == RESULT:
            result = json.loads(path.read_text(encoding="utf-8"))
            found[name] = {key: value for key, value in result.items() if key not in TIMES | {"out"}}
        elif path.suffix == ".png":
            found[name] = "a picture, of seconds too"
        else:
            found[name] = path.read_bytes()
    return found


def without_times(history: Path) -> list[list[str]]:
    """The lines of history.csv, headings too, without the columns of times."""
    with open(history, encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file))
    keep = [i for i, name in enumerate(rows[0]) if name not in TIMES]
    return [[row[i] for i in keep] for row in rows]


def step_of(path: Path) -> int:
    """The step of a checkpoint."""
    return int(path.stem.removeprefix("step-"))


def _read(path: Path) -> None:
    if path.name.startswith("step-"):
        checkpoint.read(path)
    else:
        network = xpnet.load(path)
        for name, view in network.parameters.named():
            if not np.isfinite(view).all():
                raise XpnetError(f"{path}: {name} has values that are not finite.")
