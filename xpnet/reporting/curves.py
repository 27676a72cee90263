"""Curves of loss and metric over the epochs."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.callbacks import History
from xpnet.files import write_whole

_LABELS = {"accuracy": "accuracy", "mse": "mean squared error"}
_TRAIN, _VALIDATION = "#4477AA", "#EE6677"
_MARKED = 30
"""Up to so many points each is marked."""


def draw(history: History, path: Path, *, title: str) -> Path:
    """Draw the loss and the metric, of training and validation, into a PNG file; the file's path."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    figure.suptitle(title, fontsize=11, parse_math=False)
    for axes, name, label in zip(
        figure.subplots(1, 2), ("loss", history.metric), ("loss", _LABELS[history.metric]), strict=True
    ):
        _draw_column(axes, history, name)
        axes.set(xlabel="epoch", ylabel=label)
        axes.grid(alpha=0.25)
        axes.spines[["top", "right"]].set_visible(False)
        axes.legend(frameon=False)
    content = io.BytesIO()
    figure.savefig(content, dpi=150, format="png")
    return write_whole(path, content.getvalue())


def _draw_column(axes: Any, history: History, name: str) -> None:
    epochs = history.column("epoch")
    for part, colour in (("train", _TRAIN), ("val", _VALIDATION)):
        values = history.column(f"{part}_{name}")
        seen = np.isfinite(values)
        if seen.any():
            marker = "o" if seen.sum() <= _MARKED else None
            label = {"train": "training", "val": "validation"}[part]
            axes.plot(epochs[seen], values[seen], color=colour, marker=marker, markersize=3, label=label)
    values = np.concatenate([history.column(f"{part}_{name}") for part in ("train", "val")])
    values = values[np.isfinite(values)]
    if name != "accuracy" and len(values) and values.min() > 0 and values.max() > 50 * values.min():
        axes.set_yscale("log")
    if history.best is not None and len(history.rows) > 1 and name == history.metric:
        axes.axvline(history.best.epoch, color="grey", linestyle=":", linewidth=1, label="kept")
