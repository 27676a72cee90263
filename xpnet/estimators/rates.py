"""The learning rate of an estimator: scikit-learn's three policies, or any of xpnet's schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from xpnet.schedules import Constant, Cosine, Exponential, OneCycle, Schedule, Span, StepDecay

if TYPE_CHECKING:
    from xpnet.estimators.solvers import State

POLICIES = ("constant", "invscaling", "adaptive")
"""scikit-learn's, by the epoch."""

SCHEDULES: dict[str, type[Schedule]] = {
    "step": StepDecay,
    "exponential": Exponential,
    "cosine": Cosine,
    "one-cycle": OneCycle,
}
"""xpnet's, by the step."""

LOWEST = 1e-6
"""Where the policy "adaptive" gives up."""


class Rates:
    """The learning rates of the steps to come.

    Args:
        state: Has the present learning rate, and the settings that say how it changes.
        span: Steps in an epoch, and in all.
    """

    def __init__(self, state: State, span: Span) -> None:
        how = state.settings.learning_rate
        self._state, self._span = state, span
        # As in scikit-learn, Adam heeds none of its policies.
        self._policy = how if how in POLICIES and state.settings.solver != "adam" else "constant"
        self._schedule: Schedule = SCHEDULES[how]() if how in SCHEDULES else how if callable(how) else Constant()

    @property
    def base(self) -> float:
        """The present rate, before a schedule by steps."""
        return self._state.learning_rate

    def __call__(self, steps: np.ndarray) -> np.ndarray:
        """The rates of these steps, counted from 0."""
        return self._state.learning_rate * np.broadcast_to(self._schedule(steps, self._span), steps.shape)

    def after_epoch(self, samples: int) -> None:
        """What an epoch changes, after so many samples in all."""
        if self._policy == "invscaling":
            s = self._state.settings
            self._state.learning_rate = float(s.learning_rate_init) / (samples + 1) ** s.power_t

    def give_up(self) -> str | None:
        """Told that nothing improves: None for a lower rate, or the word to stop with."""
        if self._policy != "adaptive":
            return "Stopping."
        if self._state.learning_rate <= LOWEST:
            return "Learning rate too small. Stopping."
        self._state.learning_rate /= 5.0
        return None
