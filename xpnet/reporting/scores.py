"""How good a model is, as tables on a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from xpnet.reporting.confusion import MOST_IN_A_MATRIX, most_confused

if TYPE_CHECKING:
    from xpnet.inference.scoring import Scores


def print_scores(console: Console, scores: Scores) -> None:
    """The measures, those of each class, and what is taken for what."""
    console.print(f"{scores.samples:,} samples", highlight=False)
    table = _table("", "")
    for name, value in scores.values.items():
        if value is not None:
            table.add_row(name.replace("_", " "), f"{value:,.1f}" if abs(value) >= 1000 else f"{value:.4f}")
    console.print(table)
    if scores.classes:
        table = _table("class", "precision", "recall", "f1", "samples")
        for row in scores.classes:
            measures = (f"{row[name]:.4f}" for name in ("precision", "recall", "f1"))
            table.add_row(str(row["class"]), *measures, f"{row['samples']:,}")
        console.print()
        console.print(table)
    if scores.confusion is not None:
        console.print()
        _print_confusion(console, scores)


def _print_confusion(console: Console, scores: Scores) -> None:
    assert scores.confusion is not None
    names = [str(row["class"]) for row in scores.classes]
    if len(names) <= MOST_IN_A_MATRIX:
        table = _table("true \\ predicted", *names)
        for name, row in zip(names, scores.confusion, strict=True):
            table.add_row(name, *(f"{count:,}" if count else "." for count in row))
    else:
        table = _table("true", "predicted", "samples")
        for pair in most_confused(scores.confusion, names):
            table.add_row(pair.true, pair.predicted, f"{pair.count:,}")
    console.print(table)


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold", show_header=bool(first))
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table
