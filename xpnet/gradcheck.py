"""Gradients against finite differences, in float64.

The central difference (f(x + h) - f(x - h)) / 2h is off by a third derivative times h^2 / 6, and by eps |f| / h for
rounding; h = 1e-5 balances the two. Across a kink it is off by much more: such coordinates are drawn again.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xpnet.data.samples import Samples
from xpnet.devices.plain import Plain
from xpnet.dropout import dropout_keys, dropout_rates
from xpnet.errors import XpnetError
from xpnet.feed import Feed
from xpnet.losses import Loss, Metric
from xpnet.network import MLP
from xpnet.optimizers import SGD
from xpnet.program import Chunk, Program
from xpnet.workspace import Workspace

TOLERANCE = 1e-6
"""Relative error, by norms, above which a gradient is called wrong."""

ROUNDING = 4 * float(np.finfo(np.float64).eps)
"""What rounding adds to the difference of two losses, as a part of them; 1/h of it to an entry of a gradient."""

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
    if x.dtype != np.float64:
        raise XpnetError(f"x: got {x.dtype}, expected float64, in which alone such small steps can be told apart.")
    for place in np.ndindex(x.shape):
        plus, minus = _both_sides(f, x, place, h)
        difference = (plus - minus) if upstream is None else (plus - minus) * upstream
        gradient[place] = np.sum(difference) / (2 * h)
    return gradient


def relative_error(a: Any, n: Any, *, least: float = 0.0) -> float:
    """||a - n|| / max(||a|| + ||n||, least), 0 where both are zero."""
    a, n = np.asarray(a, dtype=np.float64), np.asarray(n, dtype=np.float64)
    scale = max(float(np.linalg.norm(a) + np.linalg.norm(n)), least)
    return 0.0 if scale == 0 else float(np.linalg.norm(a - n) / scale)


def max_relative_error(a: Any, n: Any) -> float:
    """max |a - n| / max(|a| + |n|, 1e-8), entry by entry; exceeds 1e-6 on right gradients with tiny entries."""
    a, n = np.asarray(a, dtype=np.float64), np.asarray(n, dtype=np.float64)
    return float(np.max(np.abs(a - n) / np.maximum(np.abs(a) + np.abs(n), 1e-8), initial=0.0))


@dataclass(frozen=True)
class Agreement:
    """How one tensor's gradient compares.

    Attributes:
        name: w1, b1, ..., g1, ..., e1, ...
        shape: Of the tensor.
        checked: Entries compared.
        relative_error: By norms; of gradients too small for it to be told from rounding, less.
        max_relative_error: Entry by entry.
    """

    name: str
    shape: tuple[int, ...]
    checked: int
    relative_error: float
    max_relative_error: float

    @property
    def good(self) -> bool:
        """Whether entries were compared, and agree."""
        return self.checked > 0 and self.relative_error <= TOLERANCE


def check(
    network: MLP,
    x: Any,
    t: np.ndarray,
    *,
    loss: str | Loss | None = None,
    l2: float = 0.0,
    dropout: float | Sequence[float] = 0.0,
    weights: np.ndarray | None = None,
    h: float = 1e-5,
    seed: int = 0,
) -> list[Agreement]:
    """Every parameter's gradient, as a training step uses it, against central differences of the loss.

    The gradient is what one step of plain gradient descent at a learning rate of 1 subtracts. The loss is that of the
    step: the same units are dropped each time, and the batch's own mean and variance normalize it.

    Args:
        network: Its weights are copied; the check itself is made in float64, on its device if that is the CPU.
        x: (B, I) raw samples, dense or CSR, with their codes where the network embeds some.
        t: (B,) int32 classes, or (B, O) targets.
        loss: With settings of its own, by its name, or None for the one that is usual for the output.
        l2: Adds 0.5 l2 sum(w^2) to the mean loss.
        dropout: The part of the hidden units that is left out: one for all hidden layers, or one for each.
        weights: (B,) sample weights.
        h: The step.
        seed: Of the entries that are drawn from tensors above 2,000, and of the units that are dropped.

    Returns:
        One for each parameter tensor.
    """
    if not isinstance(loss, Loss):
        loss = Loss.for_output(network.output, loss)
    rates = dropout_rates(dropout, len(network.activations))
    keys = dropout_keys(seed, len(rates), np.zeros(1, dtype=int)) if any(rates) else None
    probe = _Probe(network, loss, Samples.of(x, np.asarray(t), weights), l2, rates, keys)
    rng = np.random.default_rng(seed)
    return [probe.compare(name, view, h, rng) for name, view in probe.network.parameters.named()]


class _Probe:
    """A float64 copy of a network, with the loss and the gradients of one batch in training."""

    def __init__(
        self,
        network: MLP,
        loss: Loss,
        samples: Samples,
        l2: float,
        dropout: tuple[float, ...],
        keys: np.ndarray | None,
    ) -> None:
        self.network, self.l2 = _double(network), l2
        # Beyond the bound on the reported loss, the slope of the loss is not the gradient.
        self.loss = replace(loss, log_smallest=-np.inf, largest=np.inf)
        metric = Metric.for_task(network.task or "classification", network.output)
        feed = Feed(samples, self.network, self.loss, metric)
        workspace = Workspace(self.network, feed, len(samples), dropout=dropout)
        update = SGD(lr=1.0).bind(self.network.parameters, decays=l2 > 0, clip_norm=None)
        program = Program(self.network, self.loss, metric, update, feed, workspace, batch=len(samples), chunk=1)
        before = {name: view.copy() for name, view in self.network.parameters.named()}
        program.run(Chunk(samples.rows, update.table(np.zeros(1), np.ones(1), np.full(1, l2)), keys))
        self.gradients = {name: before[name] - view for name, view in self.network.parameters.named()}
        for name, view in self.network.parameters.named():
            view[...] = before[name]
        self._batch, self._weight = workspace.batch(0, len(samples)), samples.total_weight
        self._sample_weights = None if samples.weights is None else self._batch.weights
        self._keys = None if keys is None else [np.array(key) for key in keys[:, 0]]
        self._db, self._sum = np.empty_like(self.network.parameters.b[-1]), np.zeros(())
        self._losses = self.network.device.capture(self._measure)

    def value(self) -> float:
        """The mean loss with its penalty, as a step sees it."""
        self._losses()
        return float(self._sum) / self._weight + 0.5 * self.l2 * float(np.sum(self.network.parameters.weights**2))

    def _measure(self, _: int) -> None:
        """The sum of the losses of the batch, which the step has gathered."""
        k, v = self.network.k, self._batch
        self.network.forward(v.h, v.kept, self._keys, raw=v.raw)
        self.loss(k, v.h[-1], v.t, weights=self._sample_weights, out=v.dz[-1], db=self._db, loss=self._sum)

    def sides(self) -> np.ndarray:
        """On which side of every kink each unit and each residual is."""
        v, network = self._batch, self.network
        signs = [(y > 0).ravel() for y, name in zip(v.h[1:-1], network.activations, strict=True) if name in KINKED]
        if self.loss.name in ("mae", "huber"):
            y = np.empty_like(v.h[-1])
            getattr(network.k, network.output)(v.h[-1], out=y)
            residual = y - v.t
            delta = self.loss.delta
            signs += [(residual > edge).ravel() for edge in ((0.0,) if self.loss.name == "mae" else (-delta, delta))]
        if network.output in KINKED:
            signs.append((v.h[-1] > 0).ravel())
        return np.concatenate(signs) if signs else np.empty(0, dtype=bool)

    def compare(self, name: str, tensor: np.ndarray, h: float, rng: np.random.Generator) -> Agreement:
        """Analytic and numerical gradient of one tensor, on entries that cross no kink."""
        wanted = tensor.size if tensor.size <= SAMPLED_ABOVE else SAMPLES
        analytic: list[float] = []
        numerical: list[float] = []
        for place in _drawn(tensor.shape, rng):
            if len(analytic) == wanted:
                break
            (plus, here), (minus, there) = _both_sides(lambda _: (self.value(), self.sides()), tensor, place, h)
            if np.array_equal(here, there):
                analytic.append(self.gradients[name][place])
                numerical.append((plus - minus) / (2 * h))
        noise = ROUNDING * abs(self.value()) / h * np.sqrt(len(analytic))  # what is 0 by symmetry is but noise
        error = relative_error(analytic, numerical, least=noise / TOLERANCE)
        return Agreement(name, tensor.shape, len(analytic), error, max_relative_error(analytic, numerical))


def _double(network: MLP) -> MLP:
    """The network in float64 on the CPU, by the kernels that it has there."""
    double = MLP(
        network.sizes,
        network.activations,
        network.output,
        normalization=network.normalization,
        init="zeros",
        embeddings=network.embeddings,
        dtype="float64",
        device=network.device if isinstance(network.device, Plain) else "cpu",
    )
    double.transform, double.target_transform = network.transform, network.target_transform
    double.task, double.classes = network.task, network.classes
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
        plus = _copied(f(x))
        x[place] = before - h
        minus = _copied(f(x))
    finally:
        x[place] = before
    return plus, minus


def _copied(value: Any) -> Any:
    """A copy of what f may compute into the same buffer again."""
    return value.copy() if isinstance(value, np.ndarray) else value
