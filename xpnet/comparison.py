"""Runs as their folders tell of them, side by side: how their settings differ, and what came of each."""

from __future__ import annotations

import csv
import dataclasses
import glob
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.config import UNBOUND, Config
from xpnet.errors import XpnetError, one_of, printable
from xpnet.folder import CHECKPOINTS, CONFIG, HISTORY, RESULT
from xpnet.settings import read_settings

UNFINISHED, UNKNOWN = "unfinished", "unknown"
"""How runs ended that do not tell."""

RESULTS = (
    *("val_accuracy", "val_mse", "test_accuracy", "test_mse", "val_loss", "test_loss", "train_loss"),
    *("epochs", "seconds", "samples_per_second"),
)
"""Numbers of a run that are shown; the first one that any run has is what the runs are sorted by."""

LARGEST = 2**26
"""Bytes that are read of a file."""

_SHOWN = frozenset({"data", "epochs", "steps", "device"})
"""Settings that change a result, though a run may be gone on with under others."""

_COLUMNS = {"epoch", "step", "lr", "seconds", "samples_per_second"}
_LONGEST = 60


@dataclass(frozen=True)
class PastRun:
    """What is known of a run.

    Attributes:
        name: Of its folder, or its path where another has that name.
        path: Of its folder.
        settings: By the names of `Config`; None where they are not known.
        results: Numbers by the names of --json; of a run that is unfinished, the best and the last of its history.
        ended: Why its training ended, or "unfinished", or "unknown".
        history: The columns of history.csv, NaN for what there is not.
    """

    name: str
    path: Path
    settings: dict[str, Any] | None
    results: dict[str, float]
    ended: str
    history: dict[str, np.ndarray]


@dataclass(frozen=True)
class Comparison:
    """Runs, the best first.

    Attributes:
        runs: Sorted.
        differing: The names of the settings that are not the same in all of them.
        results: The names of the numbers that any of them has.
        sorted_by: One of those.
    """

    runs: list[PastRun]
    differing: list[str]
    results: list[str]
    sorted_by: str

    def flat(self) -> list[dict[str, Any]]:
        """The values of --json: of each run its settings that differ, its numbers, and how it ended."""
        return [
            {
                "run": run.name,
                "path": str(run.path),
                "settings": {name: (run.settings or {}).get(name) for name in self.differing},
                **{name: run.results.get(name) for name in self.results},
                "ended": run.ended,
            }
            for run in self.runs
        ]


def is_better_higher(metric: str) -> bool:
    """Whether more of it is better."""
    return metric.endswith("accuracy") or metric == "samples_per_second"


def compare(patterns: Sequence[str], *, sort: str | None = None, tell: Callable[[str], None] = print) -> Comparison:
    """Read runs and sort them.

    Args:
        patterns: Folders of runs, or folders of such folders; with *, ? and [] where the shell left them.
        sort: By which number of the results; None for the validation metric, else the next best that there is.
        tell: Called with what is wrong with a run, a sentence at a time.

    Raises:
        XpnetError: There is no run, or no such number.
    """
    folders, others = _folders(patterns)
    if not folders:
        raise XpnetError(f"runs: got {' '.join(patterns)[:200]}, expected folders of runs, such as runs/*; name some.")
    if others:
        names = ", ".join(map(str, others[:5])) + (f" and {len(others) - 5} more" if len(others) > 5 else "")
        tell(f"left out, being no folders of runs: {names}.")
    runs = [_read(path, name, tell) for path, name in zip(folders, _names(folders), strict=True)]
    results = [name for name in RESULTS if any(name in run.results for run in runs)]
    if not results:
        raise XpnetError("runs: got none that has come to any result, expected one at least; wait until one has.")
    sorted_by = results[0] if sort is None else one_of("sort", sort, results)
    sign = -1 if is_better_higher(sorted_by) else 1
    runs.sort(key=lambda run: (sorted_by not in run.results, sign * run.results.get(sorted_by, 0.0)))
    return Comparison(runs, _differing(runs), results, sorted_by)


def _folders(patterns: Iterable[str]) -> tuple[list[Path], list[Path]]:
    """Folders of runs, each once, and what is no such folder."""
    found: dict[Path, None] = {}
    others: dict[Path, None] = {}
    for pattern in patterns:
        path = Path(pattern)
        paths = [path] if path.exists() or not glob.has_magic(pattern) else map(Path, sorted(glob.glob(pattern)))
        for given in paths:
            inner = [given] if _is_run(given) else [child for child in _children(given) if _is_run(child)]
            found.update(dict.fromkeys(inner))
            others.update({} if inner else {given: None})
    return list(found), list(others)


def _children(path: Path) -> list[Path]:
    try:
        return sorted(path.iterdir()) if path.is_dir() else []
    except OSError:
        return []


def _is_run(path: Path) -> bool:
    return any((path / name).exists() for name in (CONFIG, HISTORY, RESULT, CHECKPOINTS))


def _names(folders: list[Path]) -> list[str]:
    names = [path.resolve().name for path in folders]
    return [
        printable(name if names.count(name) == 1 else os.fspath(path))
        for name, path in zip(names, folders, strict=True)
    ]


def _read(path: Path, name: str, tell: Callable[[str], None]) -> PastRun:
    """What a folder tells; each thing that cannot be read is told of, and left out."""
    settings: dict[str, Any] | None = None
    results: dict[str, float] = {}
    history: dict[str, np.ndarray] = {}
    ended = UNFINISHED
    try:
        settings = _completed(read_settings(path / CONFIG))
    except XpnetError as error:
        tell(str(error))
    try:
        history, damaged = _read_history(path / HISTORY)
        if damaged:
            tell(f"{path / HISTORY}: {damaged} of its lines are damaged and left out.")
    except (OSError, ValueError, csv.Error) as error:
        tell(_unreadable(path / HISTORY, error))
    if (path / RESULT).exists():
        try:
            results, ended = _read_result(path / RESULT)
        except (OSError, ValueError, RecursionError) as error:
            ended = UNKNOWN
            tell(_unreadable(path / RESULT, error))
    else:
        tell(f"{path} is unfinished: its figures are the best and the last of its history so far.")
    if not results:
        results = _so_far(history)
    return PastRun(name, path, settings, results, ended, history)


def _unreadable(path: Path, error: Exception) -> str:
    why = getattr(error, "strerror", None) or error
    return printable(f"{path} cannot be read ({' '.join(str(why).split()):.100}); the run is shown without it.")


def _read_bytes(path: Path) -> bytes:
    with path.open("rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        raise ValueError(f"it has more than {LARGEST} bytes")
    return content


def _read_result(path: Path) -> tuple[dict[str, float], str]:
    """The numbers, and why the training ended."""
    values = json.loads(_read_bytes(path))
    if not isinstance(values, dict):
        raise ValueError("it is no table of results")
    numbers = {name: _number(values.get(name)) for name in RESULTS}
    ended = values.get("stopped")
    return (
        {name: number for name, number in numbers.items() if math.isfinite(number)},
        printable(ended[:_LONGEST]) if isinstance(ended, str) else UNKNOWN,
    )


def _number(value: Any) -> float:
    """NaN for what is none."""
    try:
        return float(value) if isinstance(value, int | float | str) and not isinstance(value, bool) else math.nan
    except (ValueError, OverflowError):
        return math.nan


def _read_history(path: Path) -> tuple[dict[str, np.ndarray], int]:
    """The columns by name, and how many lines were none of them; a last line that is being written is not counted."""
    content = _read_bytes(path).decode("utf-8", errors="replace")
    whole, _, _ = content.rpartition("\n")
    lines = csv.reader(io.StringIO(whole))
    names = next(lines, [])
    if "epoch" not in names or len(set(names)) < len(names):
        raise ValueError("it is no history of a training")
    rows, damaged = [], 0
    for line in lines:
        row = [_number(cell or "nan") for cell in line]
        if len(row) == len(names) and math.isfinite(row[names.index("epoch")]):
            rows.append(row)
        else:
            damaged += 1
    table = np.array(rows, dtype=float).reshape(len(rows), len(names))
    known = [name for name in names if name in _COLUMNS or name.startswith(("train_", "val_"))]
    return {printable(name[:_LONGEST]): table[:, names.index(name)] for name in known}, damaged


def _so_far(history: dict[str, np.ndarray]) -> dict[str, float]:
    """The best validation metric and losses, and how far the training has come."""
    results: dict[str, float] = {}
    for name in RESULTS:
        values = history.get("epoch" if name == "epochs" else name, np.empty(0))
        values = values[np.isfinite(values)]
        if len(values) == 0:
            continue
        if name in ("epochs", "seconds", "samples_per_second"):
            results[name] = float(values[-1])
        else:
            results[name] = float(values.max() if is_better_higher(name) else values.min())
    return results


def _completed(settings: dict[str, Any]) -> dict[str, Any]:
    """All settings, with what is usual where nothing was said; lists where there may be several values."""
    usual = dataclasses.asdict(Config())
    values = {}
    for name, custom in usual.items():
        value = settings.get(name, custom)
        if isinstance(custom, tuple):
            value = list(value) if isinstance(value, list | tuple) else [value]
        values[name] = value
    return values


def _differing(runs: list[PastRun]) -> list[str]:
    known = [run.settings for run in runs if run.settings is not None]
    names = [field.name for field in dataclasses.fields(Config) if field.name not in UNBOUND - _SHOWN]
    return [name for name in names if any(settings[name] != known[0][name] for settings in known)]
