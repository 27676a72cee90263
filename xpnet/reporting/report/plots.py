"""The plots of a report, by Bokeh: each can be zoomed, and says what is under the pointer.

Grey here is what a reader's colours replace (report.js), for light and for dark.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.reporting.pages import COLOURS, GREY, spread
from xpnet.reporting.report.classes import Calibration

if TYPE_CHECKING:
    from xpnet.callbacks import History

Plot = Any
"""A `bokeh.plotting.figure`, whose attributes its types do not tell in full."""

TRAIN, VALIDATION = COLOURS[:2]
"""Colours of training and validation, as in report.css."""

OUTPUTS = COLOURS[:6]
"""Colours of the outputs of a regression; further ones are not drawn."""

MOST_ROWS = 1_000
"""Of a history, drawn: evenly spread where there are more."""

MARKED = 40
"""Rows up to which each is marked."""

MOST_POINTS = 2_000
"""Samples of a scatter plot."""

MOST_COUNTED = 10
"""Classes up to which a confusion matrix has room for its numbers."""

LONGEST_NAME = 12
"""Characters of a class at an axis."""

_FONT = "system-ui, -apple-system, 'Segoe UI', sans-serif"

_TOLD = (
    f'<div style="display: flex; gap: 1em; justify-content: space-between; font: 12px/1.5 {_FONT}; color: #1a1e24">'
    '<span style="color: #5a6370">{name}</span><b>{value}</b></div>'
)
"""A row of what is said under the pointer, on the white that Bokeh gives it."""


def curves(history: History) -> dict[str, Plot]:
    """Loss, metric, learning rate and speed over the epochs, by their names; of squared errors the root."""
    from bokeh.models import NumeralTickFormatter

    columns = {
        "loss": {"train_loss": "training", "val_loss": "validation"},
        "metric": {f"train_{history.metric}": "training", f"val_{history.metric}": "validation"},
        "lr": {"lr": "learning rate"},
        "speed": {"samples_per_second": "samples a second"},
    }
    drawn = {plot: _curve(history, names) for plot, names in columns.items()}
    drawn["speed"].yaxis.formatter = NumeralTickFormatter(format="0,0")
    return drawn


def confusion(matrix: np.ndarray, classes: list[str]) -> Plot:
    """How many samples of a class (a row) are taken for another (a column); the stronger, the more of the class."""
    from bokeh.core.properties import value
    from bokeh.models import Rect, Text

    count = len(classes)
    share = (matrix / np.maximum(matrix.sum(axis=1, keepdims=True), 1)).ravel()
    i, j = (places.ravel() for places in np.indices(matrix.shape))
    numbers = matrix.ravel().tolist()
    source = _source(
        x=j,
        y=i,
        share=share,
        strength=np.sqrt(share),
        count=numbers,
        true=[classes[k] for k in i],
        said=[classes[k] for k in j],
        colour=np.where(i == j, TRAIN, VALIDATION).tolist(),
        label=[str(number) if number and count <= MOST_COUNTED else "" for number in numbers],
    )
    ends = -0.5, count - 0.5
    plot = _figure("predicted", "true", height=min(420, 130 + 34 * count), x_range=ends, y_range=ends[::-1])
    cells = plot.add_glyph(
        source, Rect(width=0.94, height=0.9, fill_color="colour", fill_alpha="strength", line_color=None)
    )
    cells.glyph.update(border_radius=3)
    text = Text(text="label", text_align="center", text_baseline="middle", text_color=GREY)
    text.update(text_font=value(_FONT), text_font_size="11px")
    plot.add_glyph(source, text)
    said = {"is": "@true", "predicted": "@said", "samples": "@count{0,0}", "of the class": "@share{0.0 %}"}
    _tell(plot, cells, said)
    for axis in plot.axis:
        axis.ticker = list(range(count))
        axis.major_label_overrides = {k: _short(name) for k, name in enumerate(classes)}
        axis.major_tick_line_color = axis.axis_line_color = None
    if max(map(len, classes)) * count > 30:
        plot.xaxis.major_label_orientation = "vertical"
    plot.grid.visible = False
    return plot


def calibration(curve: Calibration) -> Plot:
    """How often probabilities came true, over what they were; the larger a point, the more samples it stands for."""
    from bokeh.models import Line, Scatter

    ends = -0.05, 1.05
    plot = _figure("probability", "came true", height=320, x_range=ends, y_range=ends)
    _draw_diagonal(plot, [0, 1])
    size = 6 + 14 * np.sqrt(curve.counts / curve.counts.max())
    source = _source(x=curve.confidence, y=curve.right, count=curve.counts, size=size)
    plot.add_glyph(source, Line(line_color=TRAIN, line_width=2))
    points = plot.add_glyph(source, Scatter(size="size", fill_color=TRAIN, fill_alpha=0.85, line_color=None))
    _tell(plot, points, {"probability": "@x{0.000}", "came true": "@y{0.000}", "samples": "@count{0,0}"})
    return plot


def predicted_over_true(true: np.ndarray, predicted: np.ndarray) -> Plot:
    """The predicted numbers over the true ones; what is right lies on the line."""
    from bokeh.models import Scatter

    part, outputs = spread(len(true), MOST_POINTS), len(OUTPUTS)
    true, predicted = true[part, :outputs], predicted[part, :outputs]
    plot = _figure("true", "predicted", height=320)
    ends = [float(min(true.min(), predicted.min())), float(max(true.max(), predicted.max()))]
    _draw_diagonal(plot, ends)
    for k, (t, p, colour) in enumerate(zip(true.T, predicted.T, OUTPUTS, strict=False), 1):
        source = _source(true=t, said=p, off=p - t)
        point = Scatter(x="true", y="said", size=5, fill_color=colour, fill_alpha=0.45, line_color=None)
        points = plot.add_glyph(source, point)
        which = {"output": str(k)} if true.shape[1] > 1 else {}
        _tell(plot, points, which | {"true": "@true", "predicted": "@said", "off by": "@off"})
    _shorten(plot.axis, ends)
    return plot


def residuals(off: np.ndarray) -> Plot:
    """How many predictions are off by how much."""
    from bokeh.models import Quad

    counts, edges = np.histogram(off, bins=40)
    plot = _figure("predicted - true", "numbers predicted", height=320)
    source = _source(left=edges[:-1], right=edges[1:], count=counts)
    bars = plot.add_glyph(source, Quad(top="count", bottom=0, fill_color=TRAIN, fill_alpha=0.75, line_color=None))
    _tell(plot, bars, {"off by": "@left to @right", "numbers": "@count{0,0}"})
    plot.y_range.start = 0
    _shorten(plot.xaxis, edges)
    return plot


def _curve(history: History, names: dict[str, str]) -> Plot:
    """Columns of the history over the epochs, said to be these; the epoch whose weights were kept is marked."""
    from bokeh.models import Line, Scatter, VSpan

    rows = spread(len(history.rows), MOST_ROWS)
    epochs = history.column("epoch")[rows]
    columns = {name: history.column(name)[rows] for name in names}
    columns = {name: np.sqrt(values) if name.endswith("_mse") else values for name, values in columns.items()}
    columns = {name: values for name, values in columns.items() if np.isfinite(values).any()}
    plot = _figure("epoch", None, y_axis_type=_scale(columns))
    plot.y_range.default_span = max((np.nanmax(np.abs(values)) for values in columns.values()), default=0) or 1.0
    for name, values in columns.items():
        seen = np.isfinite(values)
        source, colour = _source(x=epochs[seen], y=values[seen]), VALIDATION if name.startswith("val_") else TRAIN
        plot.add_glyph(source, Line(line_color=colour, line_width=2))
        size = 5 if seen.sum() <= MARKED else 1
        plot.add_glyph(source, Scatter(fill_color=colour, line_color=colour, size=size))
    if columns:
        _tell_rows(plot, epochs, columns, names)
    if history.best is not None and len(history.rows) > 1:
        plot.add_glyph(_source(x=[history.best.epoch]), VSpan(line_color=GREY, line_width=1.5))
    return plot


def _tell_rows(plot: Plot, epochs: np.ndarray, columns: dict[str, np.ndarray], names: dict[str, str]) -> None:
    """The values of the row of the history that is nearest to the pointer, above or below it."""
    from bokeh.models import Line, Scatter

    first = next(iter(columns.values()))
    seen = np.isfinite(first)
    told = {
        name: [f"{value:.5g}" if np.isfinite(value) else "none" for value in values[seen]]
        for name, values in columns.items()
    }
    source = _source(x=epochs[seen], y=first[seen], **told)
    # a line of one point is found nowhere
    unseen = Line(line_alpha=0) if seen.sum() > 1 else Scatter(line_alpha=0, fill_alpha=0)
    said = {"epoch": "@x{0.[00]}"} | {names[name]: f"@{name}" for name in columns}
    _tell(plot, plot.add_glyph(source, unseen), said, mode="vline", line_policy="nearest")


def _scale(columns: dict[str, np.ndarray]) -> str:
    """Logarithmic for what spans orders of magnitude."""
    values = np.concatenate([np.empty(0), *columns.values()])
    values = values[np.isfinite(values)]
    accuracy = any(name.endswith("accuracy") for name in columns)
    wide = len(values) > 0 and values.min() > 0 and values.max() > 50 * values.min()
    return "log" if wide and not accuracy else "linear"


def _figure(x: str, y: str | None, *, height: int = 250, **options: Any) -> Plot:
    """An empty plot, as wide as its place on the page."""
    from bokeh.models import BasicTickFormatter, BoxZoomTool, PanTool, ResetTool, WheelZoomTool
    from bokeh.plotting import figure

    box = BoxZoomTool()
    plot: Plot = figure(
        height=height,
        sizing_mode="stretch_width",
        x_axis_label=x,
        y_axis_label=y,
        tools=[box, PanTool(), WheelZoomTool(), ResetTool()],
        active_drag=box,
        toolbar_location="above",
        **options,
    )
    plot.toolbar.update(logo=None, autohide=True)
    plot.update(background_fill_alpha=0, border_fill_alpha=0, outline_line_color=None, min_border=0)
    for axis in plot.axis:
        axis.axis_label_text_font = axis.major_label_text_font = _FONT
        axis.axis_label_text_font_style = "normal"
        axis.axis_label_text_font_size = axis.major_label_text_font_size = "11px"
        axis.axis_label_text_color = axis.major_label_text_color = GREY
        axis.axis_line_color = axis.major_tick_line_color = GREY
        axis.minor_tick_line_color = None
        if isinstance(axis.formatter, BasicTickFormatter):
            axis.formatter.use_scientific = False
    plot.grid.grid_line_color = GREY
    plot.grid.grid_line_alpha = 0.2
    plot.xgrid.visible = False
    return plot


def _draw_diagonal(plot: Plot, ends: list[float]) -> None:
    """The line on which both numbers are the same."""
    from bokeh.models import Line

    plot.add_glyph(_source(x=ends, y=ends), Line(line_color=GREY, line_dash="dotted", line_width=1.5))


def _shorten(axes: Any, values: Any) -> None:
    """Large numbers as 300k, of which more fit side by side."""
    from bokeh.models import NumeralTickFormatter

    if np.abs(values).max() >= 10_000:
        axes.formatter = NumeralTickFormatter(format="0.[00]a")


def _tell(plot: Plot, renderer: Any, said: dict[str, str], **options: Any) -> None:
    """What is said of that which the pointer is at; Bokeh escapes the values."""
    from bokeh.models import HoverTool

    rows = "".join(_TOLD.format(name=name, value=value) for name, value in said.items())
    plot.add_tools(HoverTool(renderers=[renderer], tooltips=rows, **options))


def _source(**columns: Any) -> Any:
    from bokeh.models import ColumnDataSource

    return ColumnDataSource(columns)


def _short(name: str) -> str:
    """A class at an axis; never what Bokeh would take for a formula."""
    for bracket in ("$$", "\\(", "\\["):
        name = name.replace(bracket, " ".join(bracket))
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 1] + "…"
