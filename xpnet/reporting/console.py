"""What a training prints: a progress bar on a terminal, lines elsewhere, a table of results."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from xpnet.callbacks import Callback, Row

if TYPE_CHECKING:
    from collections.abc import Iterable

    from xpnet.gradcheck import Agreement
    from xpnet.recipes import Recipe
    from xpnet.run import Result
    from xpnet.task import Task
    from xpnet.trainer import Trainer


class Heading(Callback):
    """What is trained on what, once nothing can be refused any more."""

    def __init__(self, console: Console, task: Task) -> None:
        self._console, self._task = console, task

    def on_start(self, trainer: Trainer) -> None:
        """Print it."""
        notices = [] if self._task.table is None else self._task.table.notices
        for text in (*notices, trainer.network.summary(), self._task.description):
            self._console.print(text, soft_wrap=True, highlight=False, markup=False)


class Lines(Callback):
    """A line for each evaluation, or each epoch."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def on_row(self, trainer: Trainer, row: Row) -> None:
        """Print it."""
        if row.evaluated:
            self._console.print(_line(trainer, row), soft_wrap=True, highlight=False)


class Bar(Callback):
    """A progress bar with epoch, loss, validation metric, samples per second and time left."""

    def __init__(self, console: Console) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=24),
            TextColumn("{task.fields[state]}"),
            TimeRemainingColumn(compact=True),
            TextColumn("left"),
            console=console,
        )

    def on_start(self, trainer: Trainer) -> None:
        """Show it."""
        self._bar = self._progress.add_task("epoch 0", total=trainer.total_steps, completed=trainer.step, state="")
        self._progress.start()

    def on_chunk(self, trainer: Trainer) -> None:
        """Move it."""
        self._progress.update(self._bar, completed=trainer.step)

    def on_row(self, trainer: Trainer, row: Row) -> None:
        """Tell the news."""
        metric = trainer.history.metric
        parts = [f"loss {row.train_loss:.4f}"]
        if row.val_metric is not None:
            parts.append(f"val {metric} {_number(row.val_metric)}")
        parts.append(f"{row.samples_per_second:,.0f} samples/s")
        self._progress.update(self._bar, description=_epoch(trainer, row), state="  ".join(parts))

    def on_end(self, trainer: Trainer) -> None:
        """Leave it as it is."""
        self._progress.stop()


def watch(console: Console) -> Callback:
    """The bar on a terminal, lines elsewhere."""
    return Bar(console) if console.is_terminal else Lines(console)


def preparing(console: Console) -> AbstractContextManager[object]:
    """On a terminal, that something is going on before the first step, for as long as one is within."""
    if not console.is_terminal or console.quiet:  # a status has a thread
        return contextlib.nullcontext()
    return console.status("preparing; the first run on a machine compiles its kernels, which takes a while")


def print_result(console: Console, result: Result) -> None:
    """A table of the losses and metrics of the saved weights, the speed, and the files."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("")
    table.add_column("loss", justify="right")
    table.add_column(result.metric, justify="right")
    for part, name in (("train", "training set"), ("val", "validation set"), ("test", "test set")):
        values = result.scores[part]
        if values is not None:
            table.add_row(
                name, *(f"{values[key]:.4g}" if key != "accuracy" else f"{values[key]:.4f}" for key in values)
            )
    console.print()
    console.print(table)
    console.print(
        f"\n{result.epochs:g} epochs, {result.steps:,} steps in {result.seconds:.2f} s on {result.device}: "
        f"{result.samples_per_second:,.0f} samples/s ({result.stopped})\n"
        f"measured and saved: the {result.kept}",
        highlight=False,
    )
    for file in result.files:
        console.print(str(file), soft_wrap=True, highlight=False, markup=False)


def print_recipes(console: Console, recipes: Iterable[Recipe]) -> None:
    """Name, data, network and what to expect."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("recipe", "data", "hidden layers", "reaches"):
        table.add_column(column)
    for recipe in recipes:
        table.add_row(recipe.name, recipe.data, recipe.network, recipe.expect)
    console.print(table)


def print_agreement(console: Console, agreements: Iterable[Agreement]) -> None:
    """A row for each tensor of the gradient check."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in ("tensor", "shape", "entries checked", "relative error (norms)", "largest relative error"):
        table.add_column(column, justify="left" if column in ("tensor", "shape") else "right")
    for a in agreements:
        shape = " x ".join(map(str, a.shape))
        table.add_row(a.name, shape, f"{a.checked:,}", f"{a.relative_error:.1e}", f"{a.max_relative_error:.1e}")
    console.print(table)


def _epoch(trainer: Trainer, row: Row) -> str:
    total = trainer.total_steps / trainer.history.steps_per_epoch
    return f"epoch {row.epoch:.4g}/{total:.4g}"


def _line(trainer: Trainer, row: Row) -> str:
    metric = trainer.history.metric
    parts = [_epoch(trainer, row), f"loss {_number(row.train_loss)}", f"{metric} {_number(row.train_metric)}"]
    if row.val_loss is not None and row.val_metric is not None:
        parts += [f"val loss {_number(row.val_loss)}", f"val {metric} {_number(row.val_metric)}"]
    return "  ".join([*parts, f"lr {row.lr:.3g}", f"{row.samples_per_second:,.0f} samples/s"])


def _number(value: float) -> str:
    """Four places, or of a large number four digits."""
    return f"{value:.4f}" if abs(value) < 1000 else f"{value:.4g}"
