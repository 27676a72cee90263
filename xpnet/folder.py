"""A run's folder: which it is, what lies there, and whose it is."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import re
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import tomli_w
from filelock import FileLock, Timeout

import xpnet
from xpnet.callbacks import Callback, Row
from xpnet.config import Config, settings_of
from xpnet.errors import XpnetError
from xpnet.files import remove_partial, write_whole
from xpnet.settings import TABLE

CONFIG, HISTORY, MODEL, CURVES, REPORT, ALGORITHMS, RESULT = FILES = (
    "config.toml",
    "history.csv",
    "model.safetensors",
    "curves.png",
    "report.html",
    "algorithms.json",
    "result.json",
)
"""What a run writes into its folder, beside its checkpoints and events; the result last."""

CHECKPOINTS, LOCK, TENSORBOARD = "checkpoints", ".lock", "tensorboard"
RUNS = "runs"
AUTO = "auto"


class RunFolder:
    """A folder that belongs to this process alone, until it lets go of it or dies.

    Raises:
        XpnetError: It cannot be written, or another run is at work in it.
    """

    def __init__(self, path: Path) -> None:
        self.path, self.checkpoints = path, path / CHECKPOINTS
        self._lock = FileLock(path / LOCK, timeout=0, thread_local=False)
        try:
            self._lock.acquire()
        except Timeout:
            raise XpnetError(
                f"out: another run is at work in {path}; wait for its end, or name another folder by --out."
            ) from None
        except OSError as error:
            raise cannot_be_written(path, error) from error

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self._lock.release()

    def clear(self, *, but: str | None = None) -> None:
        """Remove all that a run writes, and nothing else, but for one file.

        What tells whose run it is goes last: who is killed on the way leaves a run that can be gone on with, or none.
        """
        for file in (self.path / TENSORBOARD).glob("events.*"):
            file.unlink()
        with contextlib.suppress(OSError):  # it is not there, or holds something else
            (self.path / TENSORBOARD).rmdir()
        for name in reversed(FILES):
            if name != but:
                (self.path / name).unlink(missing_ok=True)
        if self.checkpoints.is_dir():
            for file in self.checkpoints.glob("*.safetensors*"):
                file.unlink()
            remove_partial(self.checkpoints)
        remove_partial(self.path)

    def write_config(self, config: Config) -> None:
        """What repeats the run."""
        head = f"# Repeat this run: python -m xpnet.train --config THIS_FILE   (xpnet {xpnet.__version__})\n\n"
        write_whole(self.path / CONFIG, (head + tomli_w.dumps({TABLE: settings_of(config)})).encode())

    def write_result(self, values: dict[str, Any]) -> None:
        """What came of the run: the values of --json."""
        write_whole(self.path / RESULT, (json.dumps(values, indent=1) + "\n").encode())

    def read_result(self) -> dict[str, Any] | None:
        """What came of the run; None while that is not known."""
        try:
            values = json.loads((self.path / RESULT).read_bytes())
        except (OSError, ValueError, RecursionError):
            return None
        return values if isinstance(values, dict) else None


class HistoryFile(Callback):
    """A CSV file with all rows of the history: whole at the start, then a line for each, as it comes."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._file: IO[bytes] | None = None

    def on_start(self, trainer: xpnet.Trainer) -> None:
        """The names of the columns, and the rows that there are."""
        metric = trainer.history.metric
        names = Row(0, 0, 0, 0, None, None, 0, 0, 0, False).named(metric).keys()
        rows = [row.named(metric).values() for row in trainer.history.rows]
        write_whole(self._path, b"".join([_line(names), *map(_line, rows)]))
        self._file = self._path.open("ab", buffering=0)

    def on_row(self, trainer: xpnet.Trainer, row: Row) -> None:
        """One line."""
        if self._file is not None:
            self._append(self._file, _line(row.named(trainer.history.metric).values()))

    def on_end(self, trainer: xpnet.Trainer) -> None:
        """No more of them."""
        if self._file is not None:
            self._file.close()

    def _append(self, file: IO[bytes], line: bytes) -> None:
        """All of the line or nothing; on a disk that fills, a write may come to an end within it."""
        end = file.tell()
        try:
            written = file.write(line)
            while written < len(line):
                written += file.write(line[written:])
        except OSError:
            file.truncate(end)
            raise


def fresh(config: Config) -> RunFolder:
    """--out, or the first free folder runs/NAME, runs/NAME-2, ..., with nothing of a run in it."""
    try:
        if config.out is None:
            return RunFolder(_free_folder(Path(RUNS), default_name(config)))
        path = Path(config.out)
        _refuse_what_is_there(path, config)
        path.mkdir(parents=True, exist_ok=True)
        folder = RunFolder(path)
        _refuse_what_is_there(path, config)
        folder.clear()
    except XpnetError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        raise cannot_be_written(Path(config.out or RUNS), error) from error
    return folder


def to_resume(resume: str, config: Config) -> Path | None:
    """The folder of the run that is to be gone on with; None where there is none and "auto" allows that.

    Args:
        resume: A folder, or "auto" for that of --out, or the newest of runs/NAME, runs/NAME-2, ...
        config: What else is on the command line.
    """
    if resume == AUTO and config.out is None:
        return _last_folder(Path(RUNS), default_name(config))
    path = Path(config.out or resume) if resume == AUTO else Path(resume)
    if path.is_dir():
        if config.out is not None and not (Path(config.out).is_dir() and path.samefile(config.out)):
            raise XpnetError(f"out: got {config.out} beside --resume {resume}, expected the same folder; leave it out.")
        return path
    if resume == AUTO:
        return None
    raise XpnetError(f"resume: there is no folder {path}; name that of a run, or {AUTO} to begin where there is none.")


def model_file(path: Path) -> Path:
    """The model, of which the run's folder may be given.

    Raises:
        XpnetError: A folder has none.
    """
    if not path.exists():
        raise XpnetError(f"{path}: there is no such file or folder; give a model.safetensors, or the folder of a run.")
    if not path.is_dir():
        return path
    if not (path / MODEL).exists():
        raise XpnetError(f"{path} has no {MODEL}: give the folder of a finished run, or a model file.")
    return path / MODEL


def default_name(config: Config) -> str:
    """What the run is called."""
    return config.name or Path(config.data[0]).name.split(".")[0]


def cannot_be_written(path: Path, error: Exception) -> XpnetError:
    """That sentence."""
    why = getattr(error, "strerror", None) or error
    return XpnetError(f"out: {path} cannot be made or written ({why}); name another folder by --out.")


def _refuse_what_is_there(path: Path, config: Config) -> None:
    if path.is_dir() and any(file.name != LOCK for file in path.iterdir()) and not config.overwrite:
        raise XpnetError(
            f"out: {path} holds something already; choose another folder, add --overwrite, or go on with the run "
            f"that is there by --resume {path}."
        )


def _free_folder(parent: Path, name: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def _last_folder(parent: Path, name: str) -> Path | None:
    """The one of NAME, NAME-2, ... with the largest number."""
    numbers = {}
    for folder in parent.glob("*/"):
        if match := re.fullmatch(rf"{re.escape(name)}(?:-(\d+))?", folder.name):
            numbers[folder] = int(match[1] or 1)
    return max(numbers, key=lambda folder: numbers[folder], default=None)


def _line(values: Iterable[object]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow("" if value is None else value for value in values)
    return text.getvalue().encode()
