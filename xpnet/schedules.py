"""Schedules: the factor on the learning rate at each step, computed on the host in float64."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from xpnet.errors import number


@dataclass(frozen=True)
class Span:
    """How long training is: what a schedule may need to know.

    Attributes:
        per_epoch: Steps in an epoch.
        total: Steps in all.
    """

    per_epoch: int
    total: int


class Schedule(Protocol):
    """factor = schedule(step, span) for an array of step numbers, counted from 0."""

    def __call__(self, step: np.ndarray, span: Span) -> np.ndarray:
        """The factors on the learning rate."""


@dataclass(frozen=True)
class Constant:
    """factor = 1."""

    def __call__(self, step: np.ndarray, span: Span) -> np.ndarray:
        """Ones."""
        return np.ones(len(step))


@dataclass(frozen=True)
class StepDecay:
    """factor = decay^(epoch // every).

    Attributes:
        decay: The factor at each stair.
        every: Epochs between stairs.
    """

    decay: float = 0.1
    every: int = 10

    def __post_init__(self) -> None:
        number("decay", self.decay, above=0)
        number("decay_every", self.every, above=0)

    def __call__(self, step: np.ndarray, span: Span) -> np.ndarray:
        """Stairs."""
        return self.decay ** (step // span.per_epoch // float(self.every))


@dataclass(frozen=True)
class Exponential:
    """factor = decay^epoch, with whole epochs.

    Attributes:
        decay: The factor from one epoch to the next.
    """

    decay: float = 0.95

    def __post_init__(self) -> None:
        number("decay", self.decay, above=0)

    def __call__(self, step: np.ndarray, span: Span) -> np.ndarray:
        """A stair an epoch."""
        return self.decay ** (step // span.per_epoch).astype(float)


@dataclass(frozen=True)
class InverseScaling:
    """factor = 1 / (step + 1)^power.

    Attributes:
        power: 0.5 for the inverse square root.
    """

    power: float = 0.5

    def __post_init__(self) -> None:
        number("power", self.power, above=0)

    def __call__(self, step: np.ndarray, span: Span) -> np.ndarray:
        """A hyperbola."""
        return (step + 1.0) ** -self.power


@dataclass(frozen=True)
class Cosine:
    """factor = (1 + cos(pi step / total)) / 2. (Loshchilov and Hutter 2017, eq. 5, without restarts.)"""

    def __call__(self, step: np.ndarray, span: Span) -> np.ndarray:
        """Half a wave, from 1 to almost 0."""
        return (1 + np.cos(np.pi * step / span.total)) / 2


@dataclass(frozen=True)
class OneCycle:
    """Up from 1/25 to 1 along a cosine, then down to 1/250,000. (Smith and Topin 2018, with PyTorch's defaults.)

    Attributes:
        peak: The part of all steps after which the learning rate is largest.
    """

    peak: float = 0.3

    def __post_init__(self) -> None:
        number("peak", self.peak, above=0, below=1)

    def __call__(self, step: np.ndarray, span: Span) -> np.ndarray:
        """Two half waves."""
        top = max(self.peak * span.total - 1, 1e-9)
        rest = max(span.total - 1 - top, 1e-9)
        up = _half_wave(np.minimum(step / top, 1), 1 / 25, 1)
        down = _half_wave(np.clip((step - top) / rest, 0, 1), 1, 1 / 250_000)
        return np.where(step <= top, up, down)


@dataclass(frozen=True)
class WarmUp:
    """A linear rise over the first epochs, times another schedule. (Goyal et al. 2017, section 2.2.)

    Attributes:
        epochs: How long it rises.
        then: The other schedule, which counts from the first step too.
    """

    epochs: float
    then: Schedule = Constant()

    def __post_init__(self) -> None:
        number("warmup", self.epochs, above=0)

    def __call__(self, step: np.ndarray, span: Span) -> np.ndarray:
        """The product of both."""
        rise = np.minimum((step + 1) / max(self.epochs * span.per_epoch, 1), 1)
        return rise * self.then(step, span)


SCHEDULES = ("constant", "step", "exponential", "inverse", "cosine", "one-cycle")


def _half_wave(x: np.ndarray, start: float, end: float) -> np.ndarray:
    return end + (start - end) * (1 + np.cos(np.pi * x)) / 2
