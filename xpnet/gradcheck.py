"""Gradients against finite differences, in float64.

The central difference (f(x + h) - f(x - h)) / 2h is off by a third derivative times h^2 / 6, and by eps |f| / h for
rounding; h = 1e-5 balances the two. Across a kink it is off by much more: such coordinates are drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xpnet.data.samples import Samples
from xpnet.losses import Loss, Metric
from xpnet.network import MLP
from xpnet.optimizers import GradientOnly
from xpnet.program import Program, Resident, Workspace

TOLERANCE = 1e-6
"""Relative error, by norms, above which a gradient is called wrong."""

SAMPLED_ABOVE, SAMPLES = 2000, 200
"""Of larger tensors that many entries are checked."""

KINKED = frozenset({"relu", "leaky_relu", "elu"})
"""Activations whose first or second derivative jumps at zero."""


def numerical_gradient(
    f: Callable[[np.ndarray], Any], x: np.ndarray, *, upstream: Any = None, h: float = 1e-5
) -> np.ndarray:
    """The gradient of sum(upstream * f(x)) by central differences, entry by entry.

    Args:
        f: Of an array like x; a number, or an array of any shape.
        x: float64; changed while f is called, and restored.
        upstream: The gradient of a loss with respect to f's value, of its shape; None for ones.
        h: The step.

    Returns:
        Of x's shape.
    """
    gradient = np.empty_like(x, dtype=np.float64)
    for place in np.ndindex(x.shape):
        plus, minus = _both_sides(f, x, place, h)
        difference = (plus - minus) if upstream is None else (plus - minus) * upstream
        gradient[place] = np.sum(difference) / (2 * h)
    return gradient


def relative_error(a: Any, n: Any) -> float:
    """||a - n|| / (||a|| + ||n||), 0 where both are zero."""
    a, n = np.asarray(a, dtype=np.float64), np.asarray(n, dtype=np.float64)
    scale = np.linalg.norm(a) + np.linalg.norm(n)
    return float(np.linalg.norm(a - n) / scale) if scale > 0 else 0.0


def max_relative_error(a: Any, n: Any) -> float:
    """max |a - n| / max(|a| + |n|, 1e-8), entry by entry; exceeds 1e-6 on right gradients with tiny entries."""
    a, n = np.asarray(a, dtype=np.float64), np.asarray(n, dtype=np.float64)
    return float(np.max(np.abs(a - n) / np.maximum(np.abs(a) + np.abs(n), 1e-8), initial=0.0))


@dataclass(frozen=True)
class Agreement:
    """How one tensor's gradient compares.

    Attributes:
        name: w1, b1, ...
        shape: Of the tensor.
        checked: Entries compared.
        relative_error: By norms.
        max_relative_error: Entry by entry.
    """

    name: str
    shape: tuple[int, ...]
    checked: int
    relative_error: float
    max_relative_error: float


def check(
    network: MLP,
    x: Any,
    t: np.ndarray,
    *,
    loss: str | None = None,
    weights: np.ndarray | None = None,
    h: float = 1e-5,
    seed: int = 0,
) -> list[Agreement]:
    """Every parameter's gradient, as a training step computes it, against central differences of the mean loss.

    Args:
        network: Its weights are copied; the check itself is made in float64.
        x: (B, I) raw samples.
        t: (B,) int32 classes, or (B, O) targets.
        loss: None for the one that is usual for the output.
        weights: (B,) sample weights.
        h: The step.
        seed: Of the entries that are drawn from tensors above 2,000.

    Returns:
        One for each parameter tensor.
    """
    probe = _Probe(network, Loss.for_output(network.output, loss), x, t, weights)
    rng = np.random.default_rng(seed)
    return [probe.compare(name, i, h, rng) for i, (name, _) in enumerate(probe.network.parameters.named())]


class _Probe:
    """A float64 copy of a network, with the program that computes its loss and gradients on one batch."""

    def __init__(self, network: MLP, loss: Loss, x: Any, t: np.ndarray, weights: np.ndarray | None) -> None:
        self.network = _double(network)
        metric = Metric.for_task(network.task or "classification", network.output)
        samples = Samples.of(np.asarray(x), np.asarray(t), weights)
        loss = replace(
            loss, log_smallest=-np.inf
        )  # beyond the bound on the reported loss its slope is not the gradient
        self.total, self.loss = samples.total_weight, loss
        self.order = samples.rows.astype(np.int64)
        resident = Resident.of(samples, self.network, loss, metric)
        self.workspace = Workspace(self.network, resident, len(samples))
        update = GradientOnly(self.network.parameters)
        self.program = Program(
            self.network, loss, metric, update, resident, self.workspace, batch=len(samples), chunk=1
        )
        self.value()
        self.gradients = [view.copy() for _, view in update.grads.named()]

    def value(self) -> float:
        """The mean loss."""
        return float(self.program.run(self.order, {})[0][0]) / self.total

    def sides(self) -> np.ndarray:
        """On which side of every kink each unit and each residual is."""
        v, network = self.workspace.first(len(self.order)), self.network
        signs = [(y > 0).ravel() for y, name in zip(v.h[1:-1], network.activations, strict=True) if name in KINKED]
        if self.loss.name in ("mae", "huber"):
            y = np.empty_like(v.h[-1])
            getattr(network.k, network.output)(v.h[-1], out=y)
            residual = y - v.t
            signs += [(residual > edge).ravel() for edge in ((0.0,) if self.loss.name == "mae" else (-1.0, 1.0))]
        if network.output in KINKED:
            signs.append((v.h[-1] > 0).ravel())
        return np.concatenate(signs) if signs else np.empty(0, dtype=bool)

    def compare(self, name: str, number: int, h: float, rng: np.random.Generator) -> Agreement:
        """Analytic and numerical gradient of one tensor, on entries that cross no kink."""
        tensor = dict(self.network.parameters.named())[name]
        wanted = tensor.size if tensor.size <= SAMPLED_ABOVE else SAMPLES
        analytic: list[float] = []
        numerical: list[float] = []
        for place in _drawn(tensor.shape, rng):
            if len(analytic) == wanted:
                break
            (plus, here), (minus, there) = _both_sides(lambda _: (self.value(), self.sides()), tensor, place, h)
            if np.array_equal(here, there):
                analytic.append(self.gradients[number][place])
                numerical.append((plus - minus) / (2 * h))
        errors = (measure(analytic, numerical) for measure in (relative_error, max_relative_error))
        return Agreement(name, tensor.shape, len(analytic), *errors)


def _double(network: MLP) -> MLP:
    """The network in float64 on the CPU."""
    double = MLP(network.sizes, network.activations, network.output, init="zeros", dtype="float64")
    double.transform, double.task, double.classes = network.transform, network.task, network.classes
    for (_, view), (_, other) in zip(double.parameters.named(), network.parameters.named(), strict=True):
        double.device.upload(network.device.to_host(other), out=view)
    return double


def _drawn(shape: tuple[int, ...], rng: np.random.Generator) -> Iterator[tuple[int, ...]]:
    """Every entry once, in random order."""
    for flat in rng.permutation(int(np.prod(shape))):
        yield tuple(int(i) for i in np.unravel_index(flat, shape))


def _both_sides(f: Callable[[np.ndarray], Any], x: np.ndarray, place: tuple[int, ...], h: float) -> tuple[Any, Any]:
    """f with one entry h higher, and h lower; x is as before."""
    before = x[place]
    try:
        x[place] = before + h
        plus = f(x)
        x[place] = before - h
        minus = f(x)
    finally:
        x[place] = before
    return _copied(plus), _copied(minus)


def _copied(value: Any) -> Any:
    return value.copy() if isinstance(value, np.ndarray) else value
