"""The updates in scikit-learn's forms, and what of them outlives a fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet import optimizers
from xpnet.optimizers import BlockUpdate, InPlaceSGD, Scalars, Update

if TYPE_CHECKING:
    from xpnet.devices import Array, Device
    from xpnet.kernels import Table
    from xpnet.parameters import Parameters

SOLVERS = ("sgd", "adam", "adamw", "rmsprop", "adagrad")
"""Those that go by steps."""

SETTINGS = (
    "solver",
    "learning_rate",
    "learning_rate_init",
    "power_t",
    "momentum",
    "nesterovs_momentum",
    "beta_1",
    "beta_2",
    "epsilon",
    "clip_norm",
)
"""Parameters of an estimator that its solver is made with."""


class Velocity(BlockUpdate):
    """Momentum with the learning rate inside the velocity: v <- momentum v - lr g, w <- w + v."""

    slots = 1

    def kernel(self, k: Table, *blocks: Array, row: Scalars, decay: Array | None) -> None:
        """v and w, or Nesterov's look ahead along v."""
        update = k.nesterov_velocity_update if self.options.nesterov else k.velocity_update
        update(*blocks, lr=row["lr"], momentum=self.options.momentum, l2=decay, clip=self.clip)


class Adam(optimizers.AdamUpdate):
    """Adam with epsilon beside the corrected root: w <- w - size m / (sqrt(v) + eps)."""

    def table(self, step: np.ndarray, lr: np.ndarray, l2: np.ndarray) -> dict[str, np.ndarray]:
        """As the trainer's, but for epsilon."""
        return {**super().table(step, lr, l2), "eps": np.full(len(step), self.options.eps)}


@dataclass
class State:
    """What outlives a fit, for the next `partial_fit`: as in scikit-learn also the settings that it was begun with.

    Attributes:
        settings: The estimator's parameters that concern the solver.
        learning_rate: The present one, before a schedule by steps.
        steps: Taken.
        moments: For each moment the arrays of its block: weights, biases, gains.
        dropout_seed: Of the masks, drawn when they are first needed.
    """

    settings: SimpleNamespace
    learning_rate: float
    steps: int = 0
    moments: list[list[np.ndarray]] = field(default_factory=list)
    dropout_seed: int | None = None

    @classmethod
    def fresh(cls, estimator: Any) -> State:
        """Before the first step."""
        settings = SimpleNamespace(**{name: getattr(estimator, name) for name in SETTINGS})
        return cls(settings, float(estimator.learning_rate_init))

    def bind(self, parameters: Parameters, *, decays: bool) -> Update:
        """The update of these parameters."""
        s, how = self.settings, {"decays": decays, "clip_norm": self.settings.clip_norm}
        if s.solver == "sgd":
            if s.momentum == 0 and s.clip_norm is None:
                return InPlaceSGD(parameters)
            options = SimpleNamespace(momentum=float(s.momentum), nesterov=bool(s.nesterovs_momentum))
            return Velocity(parameters, options, **how)
        if s.solver == "adam":
            options = SimpleNamespace(beta1=float(s.beta_1), beta2=float(s.beta_2), eps=float(s.epsilon))
            return Adam(parameters, options, **how)
        betas = {"beta1": float(s.beta_1), "beta2": float(s.beta_2)} if s.solver == "adamw" else {}
        return optimizers.make(s.solver, eps=float(s.epsilon), **betas).bind(parameters, **how)

    def load(self, device: Device, update: Update) -> None:
        """The moments into a fresh update."""
        for block, arrays in zip(_moments(update) if self.moments else [], self.moments, strict=True):
            for out, array in zip(_views(block), arrays, strict=True):
                device.upload(array, out=out)

    def store(self, device: Device, update: Update) -> None:
        """The moments out of an update."""
        self.moments = [[device.to_host(view) for view in _views(block)] for block in _moments(update)]


def _moments(update: Update) -> list[Parameters]:
    return getattr(update, "moments", [])


def _views(block: Parameters) -> list[Array]:
    return [*block.w, *block.b, *block.gains]
