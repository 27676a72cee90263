"""A network as plain arrays on the host, and what can be folded into its weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from xpnet import kernels
from xpnet.data import InputTransform, TargetTransform
from xpnet.kernels.normalization import EPS
from xpnet.network import MLP


@dataclass(frozen=True)
class Layer:
    """activation(n(x w + b)), n(z) = gain (z - mean) / sqrt(variance + eps) + shift where there is a gain.

    Attributes:
        w, b: (I, O) and (O,).
        activation: Of the last layer the output.
        gain, shift: (O,), of a normalized layer.
        mean, variance: (O,), of batch normalization; without them each sample's own, over the layer's units.
    """

    w: np.ndarray
    b: np.ndarray
    activation: str
    gain: np.ndarray | None = None
    shift: np.ndarray | None = None
    mean: np.ndarray | None = None
    variance: np.ndarray | None = None


def layers_of(network: MLP) -> list[Layer]:
    """The layers of a network on any device, as copies of their weights."""
    weights, biases, gains = (
        [np.array(network.device.to_host(array)) for array in arrays]
        for arrays in (network.parameters.w, network.parameters.b, network.parameters.gains)
    )
    layers = [
        Layer(w, b, activation)
        for w, b, activation in zip(weights, biases, [*network.activations, network.output], strict=True)
    ]
    for i, gain in enumerate(gains):
        layers[i] = replace(layers[i], b=np.zeros_like(biases[i]), gain=gain, shift=biases[i])
        if network.statistics is not None:
            mean, variance = network.statistics.mean[i], network.statistics.variance[i]
            layers[i] = replace(
                layers[i],
                mean=np.array(network.device.to_host(mean)),
                variance=np.array(network.device.to_host(variance)),
            )
    return layers


def tables_of(network: MLP) -> list[np.ndarray]:
    """The tables of its embeddings, (rows, width), as copies."""
    return [np.array(network.device.to_host(table)) for table in network.parameters.e]


def without_batch_norm(layers: Sequence[Layer]) -> list[Layer]:
    """The same function, batch normalization folded into weights and biases."""
    return [_unnormalized(layer) for layer in layers]


def _unnormalized(layer: Layer) -> Layer:
    if layer.mean is None or layer.variance is None or layer.gain is None or layer.shift is None:
        return layer
    factor = layer.gain / np.sqrt(layer.variance.astype(np.float64) + EPS)
    w, b = layer.w * factor, (layer.b - layer.mean) * factor + layer.shift
    return Layer(w.astype(layer.w.dtype), b.astype(layer.w.dtype), layer.activation)


def of_raw_samples(layers: Sequence[Layer], transform: InputTransform, dtype: np.dtype) -> list[Layer]:
    """The same function of raw samples: scale and shift folded into the first layer, all of it in that dtype."""
    first, *others = [as_dtype(layer, np.dtype(np.float64)) for layer in layers]
    w = first.w * np.broadcast_to(transform.scale, len(first.w))[:, None]
    b = first.b if transform.shift is None else first.b - transform.shift @ first.w
    return [as_dtype(layer, dtype) for layer in (replace(first, w=w, b=b), *others)]


def of_targets(layers: Sequence[Layer], transform: TargetTransform) -> list[Layer]:
    """The same function in the targets' unit, folded into a last layer without activation."""
    *others, last = layers
    w, b = last.w * transform.scale, last.b * transform.scale + transform.shift
    return [*others, replace(last, w=w.astype(last.w.dtype), b=b.astype(last.b.dtype))]


def as_dtype(layer: Layer, dtype: np.dtype) -> Layer:
    """The layer with its arrays of that dtype."""
    arrays: dict[str, Any] = {
        name: value.astype(dtype) for name, value in vars(layer).items() if isinstance(value, np.ndarray)
    }
    return replace(layer, **arrays)


def forward(layers: Sequence[Layer], x: np.ndarray) -> np.ndarray:
    """(N, O) outputs for (N, I) samples as the first layer takes them."""
    h = x.astype(layers[0].w.dtype)
    for layer in layers:
        h = getattr(kernels, f"{layer.activation}_forward")(_normalized(layer, h @ layer.w + layer.b))
    return h


def _normalized(layer: Layer, z: np.ndarray) -> np.ndarray:
    if layer.gain is None or layer.shift is None:
        return z
    if layer.mean is None or layer.variance is None:
        return np.asarray(kernels.layer_norm_forward(z, layer.gain, layer.shift))
    return layer.gain * (z - layer.mean) / np.sqrt(layer.variance + z.dtype.type(EPS)) + layer.shift
