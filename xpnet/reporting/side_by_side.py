"""Runs side by side: a table on a terminal, a page to look at, a picture."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from xpnet.errors import printable
from xpnet.reporting.pages import COLOURS, GREY, embed, spread, template

if TYPE_CHECKING:
    from xpnet.comparison import Comparison, PastRun

DASHES = ("solid", "dashed", "dotted", "dashdot")
"""Of the runs beyond as many as there are colours."""

MOST_POINTS, MARKED = 1_000, 40
"""Of a curve: evenly spread where there are more; up to so many, each is marked."""

_TITLES = {"samples_per_second": "samples/s", "epochs": "epochs done"}
_FIRST_TO_GO = ("train_loss", "test_loss", "val_loss", "samples_per_second", "epochs", "seconds")
"""Results that a narrow terminal has no room for; settings go then."""

_LONGEST = 30


@dataclass(frozen=True)
class Column:
    """Of the table.

    Attributes:
        name: Of a setting, of a result, "run" or "ended".
        kind: "setting", "result" or "run".
    """

    name: str
    kind: str

    @property
    def title(self) -> str:
        """Its head."""
        return _TITLES.get(self.name, self.name) if self.kind == "result" else self.name

    @property
    def has_words(self) -> bool:
        """Whether it is read from its left side."""
        return self.kind != "result"

    def cell(self, run: PastRun) -> str:
        """What it says of a run."""
        if self.kind == "run":
            return run.name if self.name == "run" else run.ended
        if self.kind == "setting":
            return "?" if run.settings is None else _setting(self.name, run.settings[self.name])
        value = run.results.get(self.name)
        return "" if value is None else _number(self.name, value)


def print_comparison(console: Console, comparison: Comparison, *, width: int | None) -> None:
    """A row for each run.

    Args:
        console: Where.
        comparison: What.
        width: Columns of characters that there is room for; those of the table that do not fit are left out, and it
            says which. None for as many as it takes.
    """
    columns = _columns(comparison)
    expendable, left_out = _expendable(comparison, columns), []
    while width is not None and expendable and _width(console, _table(comparison, columns)) > width:
        left_out.append(gone := expendable.pop(0))
        columns.remove(gone)
    table = _table(comparison, columns)
    console.width = max(console.width, _width(console, table)) if width is None else width
    console.print(table)
    if left_out:
        titles = ", ".join(column.title for column in reversed(left_out))
        console.print(f"\nno room for {titles}: a wider terminal, or --json, has them", highlight=False)


def page(comparison: Comparison) -> str:
    """A self-contained page: the table, and the curves of all runs."""
    order = ["run", "result", "setting"]
    columns = sorted(_columns(comparison), key=lambda column: order.index(column.kind))
    return template("xpnet.reporting", "comparison.html.jinja").render(
        columns=columns,
        rows=[[column.cell(run) for column in columns] for run in comparison.runs],
        sorted_by=comparison.sorted_by,
        **embed(_figures(comparison)),
    )


def picture(comparison: Comparison) -> bytes:
    """The same curves as a PNG."""
    from matplotlib.figure import Figure

    metrics = _metrics(comparison)
    figure = Figure(figsize=(11, 3.8 * max(1, len(metrics))), layout="constrained")
    axes = figure.subplots(max(1, len(metrics)), 2, squeeze=False)
    for row, metric in zip(axes, metrics, strict=False):
        for ax, over in zip(row, ("epoch", "seconds"), strict=True):
            for i, run in enumerate(comparison.runs):
                column, x, y = _curve(run, metric, over)
                colour, dash = _look(i)
                style = {"color": colour, "linestyle": dash, "marker": "o" if len(x) == 1 else None}
                if len(x):
                    ax.plot(x, y, label=_label(run, metric, column), **style)
            ax.set(xlabel=_axis(over), ylabel=metric)
            ax.grid(alpha=0.25)
            ax.spines[["top", "right"]].set_visible(False)
    lines = {label: line for ax in axes.flat for line, label in zip(*ax.get_legend_handles_labels(), strict=True)}
    if lines:
        names = [label.replace("$", r"\$") for label in lines]
        figure.legend(lines.values(), names, loc="outside lower center", ncols=min(4, len(lines)), frameon=False)
    content = io.BytesIO()
    figure.savefig(content, dpi=150, format="png")
    return content.getvalue()


def _columns(comparison: Comparison) -> list[Column]:
    others = [name for name in comparison.results if name != comparison.sorted_by]
    return [
        Column("run", "run"),
        *(Column(name, "setting") for name in comparison.differing),
        *(Column(name, "result") for name in (comparison.sorted_by, *others)),
        Column("ended", "run"),
    ]


def _expendable(comparison: Comparison, columns: list[Column]) -> list[Column]:
    """The columns that a narrow terminal may have no room for, those that are missed least first."""
    results = [column for column in columns if column.kind == "result" and column.name != comparison.sorted_by]
    first = [column for name in _FIRST_TO_GO for column in results if column.name == name]
    settings = [column for column in reversed(columns) if column.kind == "setting"]
    return [*first, *settings, columns[-1], *(column for column in reversed(results) if column not in first)]


def _table(comparison: Comparison, columns: list[Column]) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        title = Text(column.title, style="underline" if column == Column(comparison.sorted_by, "result") else "")
        table.add_column(title, justify="left" if column.has_words else "right", overflow="fold")
    for run in comparison.runs:
        table.add_row(*(Text(column.cell(run)) for column in columns))
    return table


def _width(console: Console, table: Table) -> int:
    return Measurement.get(console, console.options.update(width=10_000), table).maximum


def _number(name: str, value: float) -> str:
    if name.endswith("accuracy"):
        return f"{value:.4f}"
    return f"{value:,.0f}" if name == "samples_per_second" else f"{value:.4g}"


def _setting(name: str, value: Any) -> str:
    if isinstance(value, list):
        text = " ".join(_setting(name, item) for item in value) or "none"
    elif name == "data":
        text = Path(str(value)).name
    elif value is None or isinstance(value, bool):
        text = {None: "", True: "yes", False: "no"}[value]
    else:
        text = f"{value:g}" if isinstance(value, float) else str(value)
    text = printable(text)
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def _metrics(comparison: Comparison) -> list[str]:
    """Metrics of which there are curves, by validation where any run has that."""
    names = []
    for metric in ("accuracy", "mse", "loss"):
        for part in ("val", "train"):
            if any(np.isfinite(run.history.get(f"{part}_{metric}", np.empty(0))).any() for run in comparison.runs):
                names.append(f"{part}_{metric}")
                break
    return names


def _curve(run: PastRun, metric: str, over: str) -> tuple[str, np.ndarray, np.ndarray]:
    """Which column it is, and its points; the training's where there is no validation."""
    for column in (metric, metric.replace("val_", "train_")):
        x, y = run.history.get(over, np.empty(0)), run.history.get(column, np.empty(0))
        if len(x) == len(y) and (seen := np.isfinite(x) & np.isfinite(y)).any():
            part = spread(seen.sum(), MOST_POINTS)
            return column, x[seen][part], y[seen][part]
    return metric, np.empty(0), np.empty(0)


def _label(run: PastRun, metric: str, column: str) -> str:
    return run.name if column == metric else f"{run.name} (training)"


def _axis(over: str) -> str:
    return "seconds of training" if over == "seconds" else over


def _look(i: int) -> tuple[str, str]:
    """The colour of a run's curves, and how they are dashed."""
    return COLOURS[i % len(COLOURS)], DASHES[i // len(COLOURS) % len(DASHES)]


def _figures(comparison: Comparison) -> dict[str, Any]:
    """A plot of each metric over epochs and over seconds; a run that is hidden in one is hidden in all."""
    figures: dict[str, Any] = {}
    of_runs: list[list[Any]] = [[] for _ in comparison.runs]
    for metric in _metrics(comparison):
        for over in ("epoch", "seconds"):
            plot = _figure(_axis(over), metric, height=340 + 22 * len(comparison.runs))
            for i, run in enumerate(comparison.runs):
                of_runs[i] += _draw_run(plot, run, metric, over, *_look(i))
            _place_legend(plot)
            figures[f"{metric} over {over}"] = plot
    for drawn in of_runs:
        for one, other in zip(drawn, [*drawn[1:], *drawn[:1]], strict=True):
            one.js_link("visible", other, "visible")
    return figures


def _draw_run(plot: Any, run: PastRun, metric: str, over: str, colour: str, dash: str) -> list[Any]:
    """The curve of a run, and its points if these are few; what was drawn."""
    from bokeh.models import HoverTool

    column, x, y = _curve(run, metric, over)
    if len(x) == 0:
        return []
    style = {"color": colour, "legend_label": _label(run, metric, column)}
    drawn = [plot.line(x, y, line_width=2, line_dash=dash, **style)]
    if len(x) <= MARKED:
        drawn.append(plot.scatter(x, y, size=5, **style))
    told = [("run", run.name.replace("@", "@@")), (over, "@x{0.[00]}"), (column, "@y{0.[0000]}")]
    plot.add_tools(HoverTool(renderers=drawn[:1], tooltips=told, visible=False, mode="mouse"))
    return drawn


def _figure(x: str, y: str, *, height: int) -> Any:
    """An empty plot in colours that read on light and on dark."""
    from bokeh.plotting import figure

    plot: Any = figure(
        height=height,
        sizing_mode="stretch_width",
        x_axis_label=x,
        y_axis_label=y,
        tools="pan,wheel_zoom,box_zoom,reset",
        toolbar_location="above",
    )
    plot.background_fill_color = plot.border_fill_color = plot.outline_line_color = None
    plot.toolbar.logo = None
    plot.grid.grid_line_color, plot.grid.grid_line_alpha = GREY, 0.25
    plot.axis.axis_line_color = plot.axis.major_tick_line_color = plot.axis.minor_tick_line_color = GREY
    plot.axis.major_label_text_color = plot.axis.axis_label_text_color = GREY
    plot.axis.axis_label_text_font_style = "normal"
    return plot


def _place_legend(plot: Any) -> None:
    """Below the plot; a click on a run hides it."""
    if plot.legend:
        legend = plot.legend[0]
        plot.add_layout(legend, "below")
        legend.click_policy, legend.location = "hide", "top_left"
        legend.background_fill_color = legend.border_line_color = None
        legend.label_text_color = GREY
