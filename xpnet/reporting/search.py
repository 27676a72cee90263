"""What a search for settings prints: what it is about, a line for each trial, and what was found."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from xpnet.tuning import Finished, Found, Outcome, Workplace

_LAYERS = ("layers", "width")
"""How the names of the parameters begin that the hidden layers are made of."""


def print_heading(console: Console, workplace: Workplace) -> None:
    """Device, data, record, and what is searched."""
    task, record = workplace.task, workplace.record
    notices = [] if task.table is None else task.table.notices
    lines = [
        f"device {task.network.device.description}",
        *notices,
        task.description,
        f"searched: {', '.join(workplace.space.names)}; for the best {workplace.metric}",
        f"remembered in {record.path}" + (f", which has {_trials(record.finished)} by now" if record.finished else ""),
    ]
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def print_trial(console: Console, metric: str, trial: Finished, best: Found | None) -> None:
    """Number, value, the best so far, seconds, and why it came to nothing."""
    value = "" if trial.value is None else f"{metric} {trial.value:.4g}"
    so_far = "" if best is None else f"best {best.value:.4g} of trial {best.number}"
    parts = [f"trial {trial.number}", value, so_far, f"{trial.seconds:.1f} s", "" if trial.completed else trial.ended]
    console.print("  ".join(part for part in parts if part), soft_wrap=True, highlight=False)


def print_outcome(console: Console, outcome: Outcome) -> None:
    """The best value, the settings that were searched, and how to train with them."""
    best = outcome.best
    counts = f"{_trials(outcome.finished)}, {outcome.pruned} pruned"
    if best is None:
        console.print(f"\n{counts}: none came to its end, so there is no best one yet", highlight=False)
        return
    console.print()
    console.print(_table(outcome, best))
    console.print(f"\n{outcome.metric} {best.value:.6g} in trial {best.number}; {counts}", highlight=False)
    for line in (str(outcome.out), f"python -m xpnet.train --config {shlex.quote(str(outcome.out))}"):
        console.print(line, soft_wrap=True, highlight=False, markup=False)


def _trials(count: int) -> str:
    return f"{count} trial{'' if count == 1 else 's'}"


def _table(outcome: Outcome, best: Found) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("setting")
    for title in ("best", "first", *(["importance"] if outcome.importances else [])):
        table.add_column(title, justify="right")
    for name in outcome.searched:
        share = _share(name, outcome.importances)
        cells = [_words(getattr(config, name)) for config in (best.config, outcome.first)]
        table.add_row(name, *cells, *([] if not outcome.importances else ["" if share is None else f"{share:.2f}"]))
    return table


def _share(name: str, importances: Mapping[str, float]) -> float | None:
    """The importance of a setting, of which the hidden layers are several parameters."""
    shares = [
        share
        for parameter, share in importances.items()
        if parameter == name or (name == "hidden" and parameter.partition("_")[0] in _LAYERS)
    ]
    return sum(shares) if shares else None


def _words(value: Any) -> str:
    if isinstance(value, tuple):
        return " ".join(map(_words, value)) or "none"
    return "none" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
