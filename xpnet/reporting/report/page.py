"""The page: what is found out about a run, put into the template."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.errors import DataError
from xpnet.reporting.confusion import MOST_IN_A_MATRIX, most_confused
from xpnet.reporting.pages import embed, template
from xpnet.reporting.report import classes, pictures, plots
from xpnet.reporting.report.examined import Examined, examine, sets_of
from xpnet.reporting.report.facts import facts_of
from xpnet.reporting.report.importance import importances
from xpnet.reporting.report.mistakes import mistakes_of
from xpnet.reporting.report.timing import timing_of
from xpnet.reporting.report.values import readable

if TYPE_CHECKING:
    from xpnet.run import Result
    from xpnet.task import Task

MOST_CLASSES = 100
"""That are listed one by one."""

_METRICS = {"mse": "RMSE"}


def render(task: Task, result: Result) -> str:
    """The whole page: its text, style, scripts and pictures."""
    page = template(__package__, "report.html.jinja", number=readable, percent=_percent)
    history, network = task.trainer.history, task.network
    shape = pictures.picture_shape(network)
    figures = plots.curves(history) if history.rows else {}
    return page.render(
        title=result.out.resolve().name,
        result=result,
        tiles=_tiles(result),
        results=_results(task, result),
        history=history,
        network=network,
        metric=_METRICS.get(result.metric, result.metric),
        facts=facts_of(task, result),
        sets=list(sets_of(task)),
        weights=pictures.of_weights(network, shape) if shape else [],
        has_colours=shape is not None and len(shape) > 2,
        timing=timing_of(task),
        style=_asset("report.css"),
        script=_asset("report.js"),
        **_predictions(task, figures),
        **embed(figures),
    )


def _predictions(task: Task, figures: dict[str, Any]) -> dict[str, Any]:
    """What is told of the network's predictions; their plots are added to the figures."""
    told: dict[str, Any] = {"confused": [], "calibration": None, "qualities": [], "balance": _balance(task)}
    try:
        seen = examine(task)
    except DataError as error:  # the outputs are no finite numbers
        return {**told, "seen": None, "why_unseen": str(error), "mistakes": [], "importances": None}
    told |= _of_numbers(seen, figures) if task.network.task == "regression" else _of_classes(seen, figures)
    return {
        **told,
        "seen": seen,
        "mistakes": mistakes_of(seen, task.table),
        "importances": None if pictures.picture_shape(task.network) else importances(seen),
    }


def _balance(task: Task) -> list[classes.Balance]:
    return [] if task.network.task == "regression" else classes.balance(task)[:MOST_CLASSES]


def _of_classes(seen: Examined, figures: dict[str, Any]) -> dict[str, Any]:
    """How well classes or labels are told from each other."""
    names, confused = seen.classes, []
    if seen.network.task == "classification":
        matrix = classes.confusion(seen)
        if len(names) <= MOST_IN_A_MATRIX:
            figures["confusion"] = plots.confusion(matrix, names)
        else:
            confused = most_confused(matrix, names)
    calibration = classes.calibration(seen) if seen.gives_probabilities else None
    if calibration is not None:
        figures["calibration"] = plots.calibration(calibration)
    return {
        "confused": confused,
        "calibration": calibration,
        "qualities": classes.qualities(seen)[:MOST_CLASSES],
    }


def _of_numbers(seen: Examined, figures: dict[str, Any]) -> dict[str, Any]:
    """How far numbers are off, in plots alone."""
    figures["scatter"] = plots.predicted_over_true(seen.y, seen.outputs)
    off = (seen.outputs.astype(np.float64) - seen.y).ravel()
    if np.ptp(off) > 1e-9 * np.abs(off).max():  # else no bins lie between them
        figures["residuals"] = plots.residuals(off)
    return {}


def _asset(name: str) -> Any:
    """A file of the report's own, not to be escaped."""
    from markupsafe import Markup

    return Markup(resources.files(__package__).joinpath(name).read_text(encoding="utf-8"))


def _tiles(result: Result) -> list[tuple[str, str]]:
    """What is wanted first: numbers, and what they are."""
    names = {"test": "test", "val": "validation", "train": "training"}
    part = next(part for part in names if result.scores[part] is not None)
    scores = result.scores[part] or {}
    return [
        (_metric(result.metric, scores[result.metric]), f"{names[part]} {_METRICS.get(result.metric, result.metric)}"),
        (readable(scores["loss"]), f"{names[part]} loss"),
        (f"{result.epochs:g}", "epochs" if result.stopped == "done" else f"epochs, then {result.stopped}"),
        (_seconds(result.seconds), "of training"),
        (f"{result.samples_per_second:,.0f}", "samples a second"),
    ]


def _results(task: Task, result: Result) -> list[tuple[str, int, str, str]]:
    """Of each set its name, its samples, its loss and its metric."""
    parts = dict(zip(("training", "validation", "test"), ("train", "val", "test"), strict=True))
    return [
        (name, len(samples), readable(scores["loss"]), _metric(result.metric, scores[result.metric]))
        for name, samples in sets_of(task).items()
        if (scores := result.scores[parts[name]]) is not None
    ]


def _metric(name: str, value: float) -> str:
    return _percent(value) if name == "accuracy" else readable(np.sqrt(value))


def _percent(value: float) -> str:
    return f"{100 * value:.2f} %"


def _seconds(value: float) -> str:
    minutes, seconds = divmod(round(value), 60)
    if minutes == 0:
        return f"{value:.3g} s"
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"
