"""Which settings are searched, and in which ranges."""

from __future__ import annotations

import dataclasses
from collections.abc import Set
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from xpnet.config import Config

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

    from xpnet.task import Task

ACTIVATIONS = ("relu", "gelu", "silu", "tanh")
INITS = ("glorot_uniform", "he_uniform")
NORMALIZATIONS = ("none", "batch", "layer")
SCHEDULES = ("constant", "cosine", "one-cycle")

MOST_LAYERS = 4
WIDTHS = (32, 512)
BATCHES = (16, 32, 64, 128, 256, 512, 1024)

LEAST_STEPS = 10
"""In an epoch: batches are no larger than that leaves."""

RATES = {"sgd": (1e-3, 1.0), "adagrad": (1e-3, 0.3)}
"""Learning rates by optimizer; for all others:"""
RATES_OF_OTHERS = (1e-4, 3e-2)

DECAYS, PENALTIES = (1e-5, 1.0), (1e-7, 1e-2)
"""Of l2: where weights decay beside the gradient, and where it is part of the loss."""

DIGITS = 4
"""Of numbers, for people to read."""


@dataclass(frozen=True)
class Choice:
    """One of several values.

    Attributes:
        name: Of the setting.
        start: Where the search starts, one of `options`.
        options: All values.
    """

    name: str
    start: str | int
    options: tuple[str | int, ...]

    def draw(self, trial: BaseTrial) -> Any:
        """What the trial is to take."""
        return trial.suggest_categorical(self.name, self.options)


@dataclass(frozen=True)
class Number:
    """A number between two bounds.

    Attributes:
        name: Of the setting.
        start: Where the search starts.
        low, high: The bounds.
        step: Between neighbours; None for a logarithmic scale.
    """

    name: str
    start: float
    low: float
    high: float
    step: float | None = None

    def draw(self, trial: BaseTrial) -> float:
        """What the trial is to take."""
        value = trial.suggest_float(self.name, self.low, self.high, step=self.step, log=self.step is None)
        return float(f"{value:.{DIGITS}g}")


@dataclass(frozen=True)
class Whole:
    """A whole number between two bounds.

    Attributes:
        name: Of the setting.
        start: Where the search starts.
        low, high: The bounds.
        log: Whether the scale is logarithmic.
    """

    name: str
    start: int
    low: int
    high: int
    log: bool = False

    def draw(self, trial: BaseTrial) -> int:
        """What the trial is to take."""
        return int(trial.suggest_int(self.name, self.low, self.high, log=self.log))


@dataclass(frozen=True)
class Space:
    """What is searched.

    Attributes:
        base: All that is not searched.
        dimensions: The settings that are.
        layers: How many hidden layers; None where they are given.
        widths: Of each hidden layer that there may be.
    """

    base: Config
    dimensions: tuple[Choice | Number | Whole, ...]
    layers: Whole | None
    widths: tuple[Whole, ...]

    @classmethod
    def around(cls, task: Task, by_hand: Set[str]) -> Space:
        """A sensible one, which holds the settings of the task, or what is next to them.

        Args:
            task: What would be trained without a search.
            by_hand: The names of settings that stay as they are.
        """
        base = task.config
        hidden = base.hidden or (WIDTHS[0],)
        given = {len(getattr(base, name)) for name in ("activation", "dropout") if name in by_hand} - {1}
        layers = Whole("layers", len(hidden), *_holding((1, MOST_LAYERS), len(hidden)))
        if given:  # a value for each layer says how many there are
            count = given.pop()
            layers = Whole("layers", count, count, count)
        widths = tuple(
            Whole(f"width_{i + 1}", width, *_holding(WIDTHS, width), log=True)
            for i, width in enumerate((*hidden, *[hidden[-1]] * layers.high)[: layers.high])
        )
        searched = "hidden" not in by_hand
        has_layers = searched or bool(base.hidden)
        dimensions = tuple(
            dimension
            for dimension in (*(_of_layers(base) if has_layers else ()), *_of_training(task))
            if dimension.name not in by_hand and not (isinstance(dimension, Choice) and len(dimension.options) == 1)
        )
        return cls(base, dimensions, layers if searched else None, widths if searched else ())

    @property
    def names(self) -> list[str]:
        """The settings that are searched."""
        return [*(["hidden"] if self.layers else []), *(dimension.name for dimension in self.dimensions)]

    @property
    def lasting(self) -> list[str]:
        """The parameters that every trial has."""
        return [dimension.name for dimension in (*self.dimensions, *filter(None, [self.layers]), *self.widths[:1])]

    @property
    def start(self) -> dict[str, Any]:
        """The parameters of the first trial."""
        searched = [*self.dimensions, *([self.layers, *self.widths[: self.layers.start]] if self.layers else ())]
        return {dimension.name: dimension.start for dimension in searched}

    def draw(self, trial: BaseTrial) -> Config:
        """The settings that a trial is to take."""
        settings: dict[str, Any] = {dimension.name: dimension.draw(trial) for dimension in self.dimensions}
        if self.layers is not None:
            settings["hidden"] = tuple(width.draw(trial) for width in self.widths[: self.layers.draw(trial)])
        if settings.get("normalization") == "none":
            settings["normalization"] = None
        for name in settings.keys() & {"activation", "dropout"}:
            settings[name] = (settings[name],)
        return dataclasses.replace(self.base, **settings)


def _of_layers(base: Config) -> list[Choice | Number | Whole]:
    return [
        _choice("activation", base.activation[0] if base.activation else ACTIVATIONS[0], ACTIVATIONS),
        _choice("normalization", base.normalization or "none", NORMALIZATIONS),
        _steps("dropout", base.dropout[0] if base.dropout else 0.0, 0.5, 0.05),
    ]


def _of_training(task: Task) -> list[Choice | Number | Whole]:
    base, optimizer = task.config, task.trainer.optimizer
    penalty = DECAYS if optimizer.decouples_decay else PENALTIES
    batches = [size for size in BATCHES if size * LEAST_STEPS <= len(task.train)]
    dimensions: list[Choice | Number | Whole] = [
        _choice("init", base.init, INITS),
        _scale("lr", optimizer.lr, RATES.get(base.optimizer, RATES_OF_OTHERS)),
        _scale("l2", base.l2 or penalty[0], penalty),
        _choice("batch_size", base.batch_size, batches),
        _choice("schedule", base.schedule, SCHEDULES),
    ]
    if task.trainer.loss.name == "cross_entropy":
        dimensions.append(_steps("label_smoothing", base.label_smoothing, 0.2, 0.02))
    return dimensions


def _choice(name: str, start: str | int, usual: tuple[str | int, ...] | list[int] | tuple[str, ...]) -> Choice:
    return Choice(name, start, (*usual, *([] if start in usual else [start])))


def _scale(name: str, start: float, usual: tuple[float, float]) -> Number:
    return Number(name, start, *_holding(usual, start))


def _steps(name: str, start: float, high: float, step: float) -> Number:
    """From 0 on; the start is the step that is next to it."""
    count = max(round(high / step), round(start / step))
    return Number(name, round(round(start / step) * step, DIGITS), 0.0, round(count * step, DIGITS), step)


def _holding(usual: tuple[Any, Any], start: Any) -> tuple[Any, Any]:
    """The bounds, made wider where the start is outside."""
    return min(usual[0], start), max(usual[1], start)
