"""A fully connected network: its parameters in one block, and what it predicts."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
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

OUTPUTS = ("softmax", *ACTIVATIONS, "exp")
NORMALIZATIONS = ("batch", "layer")
DTYPES = ("float32", "float64")
ALIGNMENT = 256
"""Bytes: every view starts at a multiple of this in its block."""

LARGEST = 2**48
"""Weights that no machine holds."""

PREDICTION_BLOCKS = 16
"""Of the device's block_rows, the samples that are on it at a time when a network predicts."""


class Parameters:
    """One flat block, weights first, then biases and gains, with a view for each; the padding between them stays zero.

    Attributes:
        flat: (P,), all of it.
        w, b: The views, layer by layer: (I, O) and (O,).
        gains: (O,) for each hidden layer, where these are normalized, else none.
        weights, biases: The two contiguous parts of `flat`; gains count as biases.
    """

    def __init__(self, device: Device, sizes: Sequence[int], dtype: np.dtype, *, normalized: bool = False) -> None:
        self._of = device, sizes, dtype, normalized
        layers = list(itertools.pairwise(sizes))
        hidden = sizes[1:-1] if normalized else ()
        shapes: list[tuple[int, ...]] = [*layers, *((o,) for _, o in layers), *((o,) for o in hidden)]
        unit = ALIGNMENT // dtype.itemsize
        starts = np.cumsum([0, *(-(-math.prod(shape) // unit) * unit for shape in shapes)]).tolist()
        self.flat = device.zeros((starts[-1],), dtype)
        views = [
            self.flat[start : start + math.prod(shape)].reshape(shape)
            for start, shape in zip(starts, shapes, strict=False)
        ]
        self.w, self.b = views[: len(layers)], views[len(layers) : 2 * len(layers)]
        self.gains = views[2 * len(layers) :]
        self.weights, self.biases = self.flat[: starts[len(layers)]], self.flat[starts[len(layers)] :]

    def like(self) -> Parameters:
        """A block of zeros of the same form."""
        device, sizes, dtype, normalized = self._of
        return Parameters(device, sizes, dtype, normalized=normalized)

    def named(self) -> Iterator[tuple[str, Array]]:
        """Every view with its name: w1, b1, w2, ..., then g1, ..."""
        for i, (w, b) in enumerate(zip(self.w, self.b, strict=True), 1):
            yield f"w{i}", w
            yield f"b{i}", b
        for i, gain in enumerate(self.gains, 1):
            yield f"g{i}", gain


class Statistics:
    """Running means and variances of the pre-activations of hidden layers: learnt, but by no gradient.

    Attributes:
        flat: (2 S,), all of them.
        mean, variance: The views, layer by layer: (O,).
    """

    def __init__(self, device: Device, sizes: Sequence[int], dtype: np.dtype) -> None:
        ends = np.cumsum([0, *sizes]).tolist()
        self.flat = device.zeros((2 * ends[-1],), dtype)
        means, variances = self.flat[: ends[-1]], self.flat[ends[-1] :]
        variances.fill(1)
        parts = [slice(*pair) for pair in itertools.pairwise(ends)]
        self.mean, self.variance = [means[part] for part in parts], [variances[part] for part in parts]

    def named(self) -> Iterator[tuple[str, Array]]:
        """Every view with its name: m1, v1, m2, ..."""
        for i, (mean, variance) in enumerate(zip(self.mean, self.variance, strict=True), 1):
            yield f"m{i}", mean
            yield f"v{i}", variance


@dataclass(frozen=True)
class Kept:
    """What one hidden layer keeps of a batch for the backward pass.

    Attributes:
        aux: What the kernels of hidden layers hand to each other.
        rate: Of dropout.
        hat, inverse: What normalization keeps, or None: (B, O), and (1, O) over the batch or (B, 1) over the layer.
    """

    aux: Array
    rate: float
    hat: Array | None = None
    inverse: Array | None = None

    def rows(self, n: int) -> Kept:
        """The same for n samples."""
        if self.hat is None or self.inverse is None:
            return replace(self, aux=self.aux[:n])
        return replace(self, aux=self.aux[:n], hat=self.hat[:n], inverse=self.inverse[:n])


class MLP:
    """A fully connected network: affine layers, an activation after each hidden one, and an output.

    Args:
        sizes: Units of the input, of each hidden layer, and of the output.
        activations: One name for all hidden layers, or one for each; see `xpnet.kernels.ACTIVATIONS`.
        output: "softmax" (classes), "sigmoid" (yes/no labels), "linear" or another activation (numbers).
        normalization: Of the pre-activations of hidden layers: None, "batch" (by the mean and variance over the batch,
            and by running ones when predicting) or "layer" (over the units of the layer).
        init: How weights are drawn: "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform",
            "lecun_normal", "normal(0.01)" (standard deviation), "uniform(0.1)" (largest magnitude) or "zeros".
        bias_init: The same for biases, with their layer's fans.
        seed: Of the draws; the same numbers on every device.
        device: A name as for `xpnet.device`, or a device.
        dtype: "float32" or "float64".

    Attributes:
        parameters: The weights, biases and gains, on the device.
        statistics: The running means and variances of batch normalization, else None.
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
        normalization: str | None = None,
        init: str = "glorot_uniform",
        bias_init: str = "zeros",
        seed: int | np.random.SeedSequence = 0,
        device: str | Device = "cpu",
        dtype: Any = "float32",
    ) -> None:
        self.sizes = _checked_sizes(sizes)
        self.activations = _checked_activations(activations, len(self.sizes) - 2)
        self.output = one_of("output", output, OUTPUTS)
        self.normalization = (
            normalization if normalization is None else one_of("normalization", normalization, NORMALIZATIONS)
        )
        self.dtype = np.dtype(one_of("dtype", np.dtype(dtype).name if not isinstance(dtype, str) else dtype, DTYPES))
        draw_w, draw_b = _initializer("init", init), _initializer("bias_init", bias_init)
        self.transform = InputTransform()
        self.task: str | None = None
        self.classes: tuple[Label, ...] | None = None
        rng = np.random.default_rng(seed if isinstance(seed, np.random.SeedSequence) else whole("seed", seed, least=0))
        self.device = open_device(device)
        with self.device:
            self.k = kernels.on(self.device)
            self.parameters = Parameters(self.device, self.sizes, self.dtype, normalized=normalization is not None)
            self.statistics = (
                Statistics(self.device, self.sizes[1:-1], self.dtype) if normalization == "batch" else None
            )
            for w, b in zip(self.parameters.w, self.parameters.b, strict=True):
                fan_in, fan_out = w.shape
                self.device.upload(draw_w(rng, fan_in, fan_out, w.shape), out=w)
                self.device.upload(draw_b(rng, fan_in, fan_out, b.shape), out=b)
            for gain in self.parameters.gains:
                gain.fill(1)

    def __repr__(self) -> str:
        return f"MLP({'-'.join(map(str, self.sizes))}, {self.output}, {self.dtype}, {self.device.name})"

    @property
    def state(self) -> tuple[Array, ...]:
        """The arrays that training changes."""
        return (self.parameters.flat,) if self.statistics is None else (self.parameters.flat, self.statistics.flat)

    def forward(
        self, h: Sequence[Array], kept: Sequence[Kept] | None = None, keys: Sequence[Array | None] | None = None
    ) -> None:
        """From h[0], the samples as the network sees them, to h[-1], the pre-activations of the output.

        Args:
            h: (B, size) for each size, written from h[1] on.
            kept: Filled with what the backward pass needs, one for each hidden layer; None where there will be none:
                nothing is dropped then, and running statistics stand in for the batch's.
            keys: Of dropout, for each hidden layer.
        """
        k, p, last = self.k, self.parameters, len(self.sizes) - 2
        for i, activation in enumerate(self.activations):
            options: dict[str, Any] = {"activation": activation, "out": h[i + 1]}
            if kept is not None:
                options |= {"rate": kept[i].rate, "key": None if keys is None else keys[i], "aux": kept[i].aux}
            if self.normalization is None:
                k.hidden_forward(h[i], p.w[i], p.b[i], **options)
            else:
                z = k.scratch("normalized", (len(h[i]), self.sizes[i + 1]), self.dtype)
                k.affine_product(h[i], p.w[i], out=z)
                self._normalize(i, z, None if kept is None else kept[i])
                k.hidden_activation(z, **options)
        k.affine_forward(h[last], p.w[last], p.b[last], out=h[-1])

    def _normalize(self, i: int, z: Array, kept: Kept | None) -> None:
        """z <- what normalization makes of the pre-activations of hidden layer i."""
        k, gain, shift = self.k, self.parameters.gains[i], self.parameters.b[i]
        if self.statistics is None:
            hat = k.like("normalized hat", z) if kept is None else kept.hat
            inverse = k.scratch("normalized inverse", (len(z), 1), z.dtype) if kept is None else kept.inverse
            k.layer_norm(z, gain, shift, hat=hat, inverse=inverse, out=z)
            return
        running = {"mean": self.statistics.mean[i], "variance": self.statistics.variance[i]}
        if kept is None:
            k.batch_norm_inference(z, gain, shift, **running, out=z)
        else:
            k.batch_norm(z, gain, shift, **running, hat=kept.hat, inverse=kept.inverse, out=z)

    def normalization_backward(self, i: int, dz: Array, kept: Kept, *, dshift: Array, dgain: Array) -> None:
        """dz of hidden layer i, from behind its normalization to before it, in place; its gain's gradient too."""
        kernel, options = self.k.layer_norm_backward, {}
        if self.normalization == "batch":
            kernel, options = self.k.batch_norm_backward, {"dshift": dshift}
        gain = self.parameters.gains[i]
        kernel(dz, gain, hat=kept.hat, inverse=kept.inverse, **options, dgain=dgain, out=dz)

    def keep(self, y: Array, i: int, rate: float) -> Kept:
        """Room for what hidden layer i keeps of as many samples as its outputs y: (B, O) have."""
        device, (below, units, above) = self.device, self.sizes[i : i + 3]
        aux = self.k.hidden_aux(
            y,
            activation=self.activations[i],
            rate=rate,
            normalized=self.normalization is not None,
            below=below,
            above=above,
        )
        if self.normalization is None:
            return Kept(aux, rate)
        inverse = (1, units) if self.normalization == "batch" else (len(y), 1)
        return Kept(aux, rate, device.empty((len(y), units), self.dtype), device.empty(inverse, self.dtype))

    def predict_proba(self, x: Any) -> np.ndarray:
        """The network's outputs for raw samples: (N, O); of a two-class network with one output, both columns.

        Args:
            x: (N, ...), numbers as in training, dense or sparse; every sample is flattened.
        """
        outputs = self._checked_outputs(x, self.output)
        if self.task == "classification" and self.sizes[-1] == 1:
            outputs = np.hstack([1 - outputs, outputs])
        return outputs

    def predict(self, x: Any) -> np.ndarray:
        """The classes' labels (N,), 0/1 labels (N, K), or numbers (N,) or (N, O) for raw samples.

        Args:
            x: (N, ...), as for `predict_proba`.
        """
        if self.task == "regression":
            outputs = self._checked_outputs(x, self.output)
            return outputs[:, 0] if outputs.shape[1] == 1 else outputs
        # As in kernels.hits: decided before rounding could make two outputs equal.
        scores = self._checked_outputs(x, "linear" if self.output in ORDER_KEEPING else self.output)
        if self.task == "multilabel":
            return (scores > 0).astype(np.uint8)
        numbers = (scores[:, 0] > 0).astype(int) if scores.shape[1] == 1 else scores.argmax(axis=1)
        return numbers if self.classes is None else np.array(self.classes)[numbers]

    def _checked_outputs(self, x: Any, output: str) -> np.ndarray:
        x = check_samples(x)
        if x.shape[1] != self.sizes[0]:
            raise XpnetError(f"X: got samples of {x.shape[1]} values, expected {self.sizes[0]}, as in training.")
        return self.outputs(x, output)

    def outputs(self, x: Any, output: str | None = None, *, there: bool = False) -> Array:
        """(N, O): the output, or that function of the last pre-activations, for samples that have been checked.

        Args:
            x: (N, I), C-contiguous or CSR; or an array of the device, of the network's dtype.
            output: Its name.
            there: Leave it on the device, which may not have done it yet, instead of making it a NumPy array.
        """
        output = output or self.output
        device, rows = self.device, min(self.device.block_rows, x.shape[0])
        size = x.shape[0], self.sizes[-1]
        with device:
            result = device.empty(size, self.dtype) if there else np.empty(size, self.dtype)
            h = [device.operands((rows, size), self.dtype) for size in self.sizes[:-1]]
            portion = min(PREDICTION_BLOCKS * rows, x.shape[0])
            room = None if there else device.empty((portion, self.sizes[-1]), self.dtype)
            for start in range(0, len(result), portion):
                part = x[start : start + portion]
                source, n = open_source(device, part, self.transform, self.dtype), part.shape[0]
                outputs = result[start : start + n] if room is None else room[:n]
                full, rest = divmod(n, rows)
                step = partial(self._predict, source, h, outputs, output)
                device.run(partial(step, 0, rows), full)
                device.run(partial(step, full, rest), int(rest > 0))
                if room is not None:
                    result[start : start + n] = device.to_host(outputs)
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
        norm = "" if self.normalization is None else f"{self.normalization} norm, "
        names = [*(norm + name for name in self.activations), self.output]
        gains = [*(size * (self.normalization is not None) for size in self.sizes[1:-1]), 0]
        rows = [("layer", "shape", "activation", "parameters", "multiply-adds")]
        for i, (w, name, more) in enumerate(zip(self.parameters.w, names, gains, strict=True), 1):
            fan_in, fan_out = w.shape
            count = (fan_in + 1) * fan_out + more
            rows.append((str(i), f"{fan_in} x {fan_out}", name, f"{count:,}", f"{fan_in * fan_out:,}"))
        products = sum(w.size for w in self.parameters.w)
        rows.append(("total", "", "", f"{products + sum(self.sizes[1:]) + sum(gains):,}", f"{products:,}"))
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
