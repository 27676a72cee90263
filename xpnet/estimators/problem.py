"""An estimator's parameters and checked data in the trainer's terms: a network, a loss, samples."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.base import is_classifier

from xpnet.data import check_samples
from xpnet.data.samples import Samples
from xpnet.data.sources import gpu_of
from xpnet.devices import Array, Device
from xpnet.losses import Loss, Metric
from xpnet.network import MLP

ACTIVATIONS = {
    "identity": "linear",
    "logistic": "sigmoid",
    **{name: name for name in ("tanh", "relu", "leaky_relu", "elu", "softplus", "gelu", "silu")},
}
"""scikit-learn's names, and those that it lacks, in xpnet's."""

SHARED = frozenset({"identity", "logistic", "tanh", "relu"})
"""Activations that scikit-learn has too."""

OUTPUTS = {"identity": "linear", "logistic": "sigmoid", "softmax": "softmax", "exp": "exp"}

REGRESSION = {
    "squared_error": ("mse", 0.5),
    "poisson": ("poisson", 1.0),
    "huber": ("huber", 1.0),
    "absolute_error": ("mae", 1.0),
}
"""scikit-learn's losses in xpnet's terms: the name, and the factor on the sum over the outputs."""


@dataclass(frozen=True, eq=False)
class Problem:
    """What is to be learnt.

    Attributes:
        network: With its first weights, on the device.
        loss, metric: Of its output.
        samples: To train on.
        reported: The summed loss over the outputs is divided by this where it is shown, as scikit-learn shows it.
    """

    network: MLP
    loss: Loss
    metric: Metric
    samples: Samples
    reported: int


def pose(estimator: Any, device: Device, samples: Samples) -> Problem:
    """The problem of an initialized estimator."""
    e = estimator
    network = network_of(e, device, e.dtype or np.result_type(samples.x.dtype, e.coefs_[0].dtype))
    output, groups = network.output, _groups(e)
    if is_classifier(e):
        smallest = float(np.log(np.finfo(network.dtype).eps))  # probabilities are reported to be no less than eps
        loss = Loss("cross_entropy", output, smallest, -smallest, 1.0, e.label_smoothing, groups=groups)
        return Problem(network, loss, Metric("accuracy", output, groups), samples, 1)
    name, scale = REGRESSION[e.loss]
    loss = Loss(name, output, scale=scale, delta=e.huber_delta)
    return Problem(network, loss, Metric("mse", output), samples, 1 if e.loss == "poisson" else e.n_outputs_)


def network_of(estimator: Any, device: Device, dtype: Any) -> MLP:
    """A network with the estimator's weights."""
    e = estimator
    sizes = [e.coefs_[0].shape[0], *(len(b) for b in e.intercepts_)]
    network = MLP(
        sizes,
        activations_of(e, len(sizes) - 2),
        OUTPUTS[e.out_activation_],
        normalization=e.normalization,
        init="zeros",
        device=device,
        dtype=np.dtype(dtype),
    )
    give_weights(e, network)
    return network


def give_weights(estimator: Any, network: MLP) -> None:
    """The estimator's weights become the network's."""
    with network.device:
        for array, view in zip(_fitted(estimator), _views(network), strict=True):
            network.device.upload(array, out=view)


def take_weights(estimator: Any, network: MLP, dtype: Any) -> None:
    """The network's weights become the estimator's, as copies on the host of that dtype."""
    e, p = estimator, network.parameters

    def to_host(array: Array) -> np.ndarray:
        return network.device.to_host(array).astype(dtype, copy=False)

    e.coefs_, e.intercepts_ = [to_host(w) for w in p.w], [to_host(b) for b in p.b]
    if network.normalization is not None:
        e.gains_ = [to_host(gain) for gain in p.gains]
    if network.statistics is not None:
        e.running_means_ = [to_host(mean) for mean in network.statistics.mean]
        e.running_variances_ = [to_host(variance) for variance in network.statistics.variance]


def activations_of(estimator: Any, hidden: int) -> list[str]:
    """xpnet's name of each hidden layer's activation."""
    names = estimator.activation
    names = [names] * hidden if isinstance(names, str) else list(names)
    return [ACTIVATIONS[name] for name in names]


def shared_activation(estimator: Any) -> str | None:
    """The activation with which scikit-learn can predict with such a network, None if it cannot."""
    e = estimator
    names = {e.activation} if isinstance(e.activation, str) else set(e.activation)
    if e.normalization or _groups(e) or len(names) > 1 or not names <= SHARED:
        return None
    return next(iter(names), "relu")


def _groups(e: Any) -> tuple[int, ...]:
    """How many classes each of several outputs has."""
    return tuple(getattr(e, "_groups", ()))


def dense_or_csr(x: Any) -> Any:
    """Samples that scikit-learn has checked, in the form in which they are gathered."""
    if hasattr(x, "tocsr"):
        return check_samples(x)
    return np.ascontiguousarray(x) if gpu_of(x) is None else x


def _fitted(e: Any) -> Sequence[np.ndarray]:
    """The estimator's arrays in the order of a network's views."""
    learnt = [*e.coefs_, *e.intercepts_]
    present = "batch" if hasattr(e, "running_means_") else "layer" if hasattr(e, "gains_") else None
    if present != e.normalization:
        raise ValueError(
            f"normalization: got {e.normalization!r} for weights that were fitted with {present!r}; change it back, or "
            "fit anew with warm_start=False."
        )
    if e.normalization is not None:
        learnt += e.gains_
    if e.normalization == "batch":
        learnt += [*e.running_means_, *e.running_variances_]
    return learnt


def _views(network: MLP) -> list[Array]:
    p, statistics = network.parameters, network.statistics
    running = [] if statistics is None else [*statistics.mean, *statistics.variance]
    return [*p.w, *p.b, *p.gains, *running]
