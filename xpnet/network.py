"""A fully connected network: its parameters in one block, and what it predicts."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from xpnet import kernels
from xpnet.data import Label, check_samples
from xpnet.data.sources import Source, open_source
from xpnet.data.transform import InputTransform
from xpnet.devices import Array, Device
from xpnet.devices import device as open_device
from xpnet.errors import XpnetError, one_of, whole
from xpnet.kernels import ACTIVATIONS
from xpnet.kernels.metrics import ORDER_KEEPING

OUTPUTS = ("softmax", *ACTIVATIONS)
DTYPES = ("float32", "float64")
ALIGNMENT = 256
"""Bytes: every view starts at a multiple of this in its block."""

LARGEST = 2**48
"""Weights that no machine holds."""

PREDICTION_BLOCKS = 16
"""Of the device's block_rows, the samples that are on it at a time when a network predicts."""


class Parameters:
    """One flat block, weights first, then biases, with a view for each; the padding between them stays zero.

    Attributes:
        flat: (P,), all of it.
        w, b: The views, layer by layer: (I, O) and (O,).
        weights, biases: The two contiguous parts of `flat`.
    """

    def __init__(self, device: Device, sizes: Sequence[int], dtype: np.dtype) -> None:
        self._of = device, sizes, dtype
        layers = list(itertools.pairwise(sizes))
        shapes: list[tuple[int, ...]] = [*layers, *((o,) for _, o in layers)]
        unit = ALIGNMENT // dtype.itemsize
        starts = np.cumsum([0, *(-(-math.prod(shape) // unit) * unit for shape in shapes)]).tolist()
        self.flat = device.zeros((starts[-1],), dtype)
        views = [
            self.flat[start : start + math.prod(shape)].reshape(shape)
            for start, shape in zip(starts, shapes, strict=False)
        ]
        self.w, self.b = views[: len(layers)], views[len(layers) :]
        self.weights, self.biases = self.flat[: starts[len(layers)]], self.flat[starts[len(layers)] :]

    def like(self) -> Parameters:
        """A block of zeros of the same form."""
        return Parameters(*self._of)

    def named(self) -> Iterator[tuple[str, Array]]:
        """Every view with its name: w1, b1, w2, ..."""
        for i, (w, b) in enumerate(zip(self.w, self.b, strict=True), 1):
            yield f"w{i}", w
            yield f"b{i}", b


class MLP:
    """A fully connected network: affine layers, an activation after each hidden one, and an output.

    Args:
        sizes: Units of the input, of each hidden layer, and of the output.
        activations: One name for all hidden layers, or one for each; see `xpnet.kernels.ACTIVATIONS`.
        output: "softmax" (classes), "sigmoid" (yes/no labels), "linear" or another activation (numbers).
        init: How weights are drawn: "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform",
            "lecun_normal", "normal(0.01)" (standard deviation), "uniform(0.1)" (largest magnitude) or "zeros".
        bias_init: The same for biases, with their layer's fans.
        seed: Of the draws; the same numbers on every device.
        device: A name as for `xpnet.device`, or a device.
        dtype: "float32" or "float64".

    Attributes:
        parameters: The weights and biases, on the device.
        transform: What is done to raw samples before they enter.
        task: "classification", "multilabel" or "regression"; None until it is trained.
        classes: The labels of the classes, by their numbers; None for regression.

    Raises:
        XpnetError: An argument is not one of these; the message names it.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        activations: str | Sequence[str] = "relu",
        output: str = "softmax",
        *,
        init: str = "glorot_uniform",
        bias_init: str = "zeros",
        seed: int | np.random.SeedSequence = 0,
        device: str | Device = "cpu",
        dtype: Any = "float32",
    ) -> None:
        self.sizes = _checked_sizes(sizes)
        self.activations = _checked_activations(activations, len(self.sizes) - 2)
        self.output = one_of("output", output, OUTPUTS)
        self.dtype = np.dtype(one_of("dtype", np.dtype(dtype).name if not isinstance(dtype, str) else dtype, DTYPES))
        draw_w, draw_b = _initializer("init", init), _initializer("bias_init", bias_init)
        self.transform = InputTransform()
        self.task: str | None = None
        self.classes: tuple[Label, ...] | None = None
        rng = np.random.default_rng(seed if isinstance(seed, np.random.SeedSequence) else whole("seed", seed, least=0))
        self.device = open_device(device)
        with self.device:
            self.k, self.parameters = kernels.on(self.device), Parameters(self.device, self.sizes, self.dtype)
            for w, b in zip(self.parameters.w, self.parameters.b, strict=True):
                fan_in, fan_out = w.shape
                self.device.upload(draw_w(rng, fan_in, fan_out, w.shape), out=w)
                self.device.upload(draw_b(rng, fan_in, fan_out, b.shape), out=b)

    def __repr__(self) -> str:
        return f"MLP({'-'.join(map(str, self.sizes))}, {self.output}, {self.dtype}, {self.device.name})"

    def forward(self, h: Sequence[Array], aux: Sequence[Array | None] | None = None) -> None:
        """From h[0], the samples as the network sees them, to h[-1], the pre-activations of the output.

        Args:
            h: (B, size) for each size, written from h[1] on.
            aux: What the backward pass needs, one for each hidden layer; None where there will be none.
        """
        k, p, last = self.k, self.parameters, len(self.sizes) - 2
        for i, activation in enumerate(self.activations):
            k.hidden_forward(
                h[i], p.w[i], p.b[i], activation=activation, out=h[i + 1], aux=None if aux is None else aux[i]
            )
        k.affine_forward(h[last], p.w[last], p.b[last], out=h[-1])

    def predict_proba(self, x: Any) -> np.ndarray:
        """The network's outputs for raw samples: (N, O); of a two-class network with one output, both columns.

        Args:
            x: (N, ...), numbers as in training, dense or sparse; every sample is flattened.
        """
        outputs = self._outputs(x, self.output)
        if self.task == "classification" and self.sizes[-1] == 1:
            outputs = np.hstack([1 - outputs, outputs])
        return outputs

    def predict(self, x: Any) -> np.ndarray:
        """The classes' labels (N,), 0/1 labels (N, K), or numbers (N,) or (N, O) for raw samples.

        Args:
            x: (N, ...), as for `predict_proba`.
        """
        if self.task == "regression":
            outputs = self._outputs(x, self.output)
            return outputs[:, 0] if outputs.shape[1] == 1 else outputs
        # As in kernels.hits: decided before rounding could make two outputs equal.
        scores = self._outputs(x, "linear" if self.output in ORDER_KEEPING else self.output)
        if self.task == "multilabel":
            return (scores > 0).astype(np.uint8)
        numbers = (scores[:, 0] > 0).astype(int) if scores.shape[1] == 1 else scores.argmax(axis=1)
        return numbers if self.classes is None else np.array(self.classes)[numbers]

    def _outputs(self, x: Any, output: str) -> np.ndarray:
        """(N, O): that function of the last pre-activations, for raw samples."""
        x = check_samples(x)
        if x.shape[1] != self.sizes[0]:
            raise XpnetError(f"X: got samples of {x.shape[1]} values, expected {self.sizes[0]}, as in training.")
        device, rows = self.device, min(self.device.block_rows, x.shape[0])
        result = np.empty((x.shape[0], self.sizes[-1]), self.dtype)
        with device:
            h = [device.operands((rows, size), self.dtype) for size in self.sizes[:-1]]
            portion = min(PREDICTION_BLOCKS * rows, x.shape[0])
            outputs = device.empty((portion, self.sizes[-1]), self.dtype)
            for start in range(0, len(result), portion):
                part = x[start : start + portion]
                source, n = open_source(device, part, self.transform, self.dtype), part.shape[0]
                full, rest = divmod(n, rows)
                step = partial(self._predict, source, h, outputs, output)
                device.run(partial(step, 0, rows), full)
                device.run(partial(step, full, rest), int(rest > 0))
                result[start : start + n] = device.to_host(outputs[:n])
        return result

    def _predict(self, source: Source, h: list[Array], outputs: Array, output: str, first: int, n: int, i: int) -> None:
        """That function of the n samples of block first + i, into their rows of `outputs`; h is room for a block."""
        start = (first + i) * len(h[0])
        z = outputs[start : start + n]
        inputs = source.rows(self.k, start, h[0][:n])
        self.forward([inputs, *(y[:n] for y in h[1:]), z])
        getattr(self.k, output)(z, out=z)

    def summary(self) -> str:
        """A table of the layers: shape, parameters and multiply-adds for one sample."""
        names = [*self.activations, self.output]
        rows = [("layer", "shape", "activation", "parameters", "multiply-adds")]
        for i, (w, name) in enumerate(zip(self.parameters.w, names, strict=True), 1):
            fan_in, fan_out = w.shape
            rows.append((str(i), f"{fan_in} x {fan_out}", name, f"{(fan_in + 1) * fan_out:,}", f"{fan_in * fan_out:,}"))
        products = sum(w.size for w in self.parameters.w)
        rows.append(("total", "", "", f"{products + sum(self.sizes[1:]):,}", f"{products:,}"))
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(
                f"{cell:<{n}}" if i < 3 else f"{cell:>{n}}" for i, (cell, n) in enumerate(zip(row, widths, strict=True))
            )
            for row in rows
        ]
        return "\n".join(line.rstrip() for line in lines)


def _checked_sizes(sizes: Sequence[int]) -> tuple[int, ...]:
    if not isinstance(sizes, Iterable):
        raise XpnetError(
            f"sizes: got {sizes}, expected the units of input, hidden layers and output, such as (4, 8, 3)."
        )
    checked = tuple(whole("width of a layer", size, least=1) for size in sizes)
    if len(checked) < 2:
        raise XpnetError(f"sizes: got {checked}, expected at least the units of an input and of an output.")
    if sum(i * o for i, o in itertools.pairwise(checked)) > LARGEST:
        raise XpnetError(f"sizes: got {checked}, which no memory holds; make the layers smaller.")
    return checked


def _checked_activations(activations: str | Sequence[str], hidden: int) -> tuple[str, ...]:
    names = [activations] if isinstance(activations, str) else list(activations)
    names = [one_of("activations", name, ACTIVATIONS) for name in names]
    if len(names) not in (1, hidden):
        raise XpnetError(
            f"activations: got {len(names)} names for {hidden} hidden layers; give one for all or one for each."
        )
    return tuple(names * hidden if len(names) == 1 else names)


# Variance of a weight times its fans: Glorot and Bengio 2010 (eq. 12, 16), He et al. 2015 (eq. 10), LeCun et al. 1998
# (eq. 16).
_SCHEMES = {
    "glorot": lambda fan_in, fan_out: 2 / (fan_in + fan_out),
    "he": lambda fan_in, fan_out: 2 / fan_in,
    "lecun": lambda fan_in, fan_out: 1 / fan_in,
}


def _initializer(what: str, name: str) -> Any:
    """f(rng, fan_in, fan_out, shape) -> float64 values."""
    if name == "zeros":
        return lambda rng, fan_in, fan_out, shape: np.zeros(shape)
    if match := re.fullmatch(r"(glorot|he|lecun)_(uniform|normal)", name):
        variance = _SCHEMES[match[1]]
        if match[2] == "normal":
            return lambda rng, i, o, shape: rng.normal(0, math.sqrt(variance(i, o)), shape)
        return lambda rng, i, o, shape: _uniform(rng, math.sqrt(3 * variance(i, o)), shape)
    if match := re.fullmatch(r"(normal|uniform)\((\d*\.?\d+(?:e-?\d+)?)\)", name):
        size = float(match[2])
        if match[1] == "normal":
            return lambda rng, i, o, shape: rng.normal(0, size, shape)
        return lambda rng, i, o, shape: _uniform(rng, size, shape)
    raise XpnetError(
        f'{what}: got "{name}", expected glorot_uniform, glorot_normal, he_uniform, he_normal, lecun_uniform, '
        "lecun_normal, zeros, or, with a number of your own, normal(0.01) or uniform(0.1)."
    )


def _uniform(rng: np.random.Generator, limit: float, shape: tuple[int, ...]) -> np.ndarray:
    return rng.uniform(-limit, limit, shape)
