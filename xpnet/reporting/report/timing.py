"""What the parts of a training step cost."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from xpnet.data.sources import row_bytes
from xpnet.errors import DivergenceError

if TYPE_CHECKING:
    from xpnet.data.samples import Samples
    from xpnet.devices import Device
    from xpnet.task import Task
    from xpnet.trainer import Trainer

SECONDS = 0.25
"""What measuring may take, about."""

LONGEST_STEP = 0.1
"""Seconds; slower steps are not taken again only to be looked at."""

REPEATS = 8
"""Of a part at a time, so that starting it does not count."""

ROUNDS = 15

GATHERED_FROM = 2**25
"""Bytes of samples from which batches are gathered: more than lie in most processors' caches."""


@dataclass(frozen=True)
class Part:
    """Of a step: its name, microseconds, and its part of all of them."""

    name: str
    microseconds: float
    share: float


@dataclass(frozen=True)
class Timing:
    """A step of training, part by part.

    Attributes:
        parts: In their order.
        batch: Samples of the step.
        total: Microseconds of all parts.
        trained: Microseconds that a step took on the average while the network was trained.
    """

    parts: list[Part]
    batch: int
    total: float
    trained: float


def timing_of(task: Task) -> Timing | None:
    """Each part by itself, the median of some rounds; None where steps take too long to be taken for that.

    A step trains; what it changes is put back.
    """
    trainer, network = task.trainer, task.network
    trained = trainer.history.seconds / max(trainer.step, 1)
    if not 0 < trained < LONGEST_STEP:
        return None
    with network.device:
        saved = [array.copy() for array in network.state]
        try:
            batch, microseconds = _measure(trainer, task.train, trained)
        except DivergenceError:  # it has no steps to come
            return None
        finally:
            for array, before in zip(network.state, saved, strict=True):
                network.k.xp.copyto(array, before)
    total = sum(microseconds.values())
    parts = [Part(name, value, value / total) for name, value in microseconds.items()]
    return Timing(parts, batch, total, trained * 1e6)


def _measure(trainer: Trainer, samples: Samples, step_seconds: float) -> tuple[int, dict[str, float]]:
    """The samples of a step, and the microseconds of its parts."""
    one_step = copy.copy(trainer)
    one_step.steps, one_step.callbacks, one_step.early_stopping = 1, [], None
    one_step.monitor = one_step.final_weights = None
    training = one_step.prepare(_some_of(samples, trainer))
    one_step.run(training)  # so that batch and learning rate are where a step finds them
    rounds = max(3, min(ROUNDS, int(SECONDS / (REPEATS * step_seconds))))
    parts = training.program.parts(REPEATS)
    taken: dict[str, list[float]] = {name: [] for name in parts}
    for _ in range(rounds + 1):
        for name, part in parts.items():
            taken[name].append(_seconds(training.program.network.device, part))
    medians = {name: statistics.median(seconds[1:]) for name, seconds in taken.items()}  # the first one warms up
    return training.batches.size, {name: seconds / REPEATS * 1e6 for name, seconds in medians.items()}


def _some_of(samples: Samples, trainer: Trainer) -> Samples:
    """As many as the step takes, and enough for them not to lie in the processor's caches."""
    batch = len(samples) if trainer.batch_size == "all" else int(trainer.batch_size)
    count = max(batch, GATHERED_FROM // row_bytes(samples.x, trainer.network.dtype))
    rows = samples.rows[:count]
    weights = None if samples.weights is None else samples.weights[rows]
    return replace(samples, x=samples.x[rows], y=samples.y[rows], weights=weights, rows=np.arange(len(rows)))


def _seconds(device: Device, part: Callable[[], None]) -> float:
    device.synchronize()
    start = time.perf_counter()
    part()
    device.synchronize()
    return time.perf_counter() - start
