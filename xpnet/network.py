"""A fully connected network: its parameters in one block, and what it predicts."""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

import numpy as np

from xpnet import kernels
from xpnet.codes import Codes
from xpnet.data import Label, check_samples
from xpnet.data.images import Shades
from xpnet.data.sources import Source, open_source
from xpnet.data.transform import InputTransform, TargetTransform
from xpnet.devices import Array, Device
from xpnet.devices import device as open_device
from xpnet.errors import DataError, XpnetError, one_of, whole
from xpnet.kernels import ACTIVATIONS
from xpnet.kernels.metrics import ORDER_KEEPING
from xpnet.parameters import Kept, Parameters, Statistics
from xpnet.tables import Encoder

OUTPUTS = ("softmax", *ACTIVATIONS, "exp")
NORMALIZATIONS = ("batch", "layer")
DTYPES = ("float32", "float64")
LARGEST = 2**48
"""Weights that no machine holds."""

PREDICTION_BLOCKS = 16
"""Of the device's block_rows, the samples that are on it at a time when a network predicts."""


class MLP:
    """A fully connected network: affine layers, an activation after each hidden one, and an output.

    Args:
        sizes: Units of the input, of each hidden layer, and of the output; of the input as it is with codes embedded.
        activations: One name for all hidden layers, or one for each; see `xpnet.kernels.ACTIVATIONS`.
        output: "softmax" (classes), "sigmoid" (yes/no labels), "linear" or another activation (numbers).
        normalization: Of the pre-activations of hidden layers: None, "batch" (by the mean and variance over the batch,
            and by running ones when predicting) or "layer" (over the units of the layer).
        init: How weights are drawn: "glorot_uniform", "glorot_normal", "he_uniform", "he_normal", "lecun_uniform",
            "lecun_normal", "normal(0.01)" (standard deviation), "uniform(0.1)" (largest magnitude) or "zeros".
        bias_init: The same for biases, with their layer's fans.
        embeddings: (rows, width) for each of the last values of a sample, which are codes, whole numbers from 0 to
            rows - 1: the network sees a row of a learnt table, of that width, in the place of each. Rows are drawn with
            the standard deviation 1 / sqrt(width), so that they have a length of about 1 ("zeros" where `init` is).
        seed: Of the draws; the same numbers on every device.
        device: A name as for `xpnet.device`, or a device.
        dtype: "float32" or "float64".

    Attributes:
        parameters: The weights, biases and gains, on the device.
        statistics: The running means and variances of batch normalization, else None.
        codes: Where they are in a sample, and what they become.
        transform: What is done to raw samples before they enter; codes stay as they are, whatever it says of them.
        target_transform: What makes targets of its outputs, where these are numbers.
        table: What makes samples of the rows of a table; None where samples are numbers from the start.
        image_shape: Of a sample that is an image, (rows, columns) or with colours behind or before them; None else.
        image_shades: The numbers that are black, white and ground in such a sample; None where nobody knows.
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
        embeddings: Sequence[tuple[int, int]] = (),
        seed: int | np.random.SeedSequence = 0,
        device: str | Device = "cpu",
        dtype: Any = "float32",
    ) -> None:
        self.sizes = _checked_sizes(sizes)
        self.codes = Codes.of(embeddings, self.sizes[0])
        self.activations = _checked_activations(activations, len(self.sizes) - 2)
        self.output = one_of("output", output, OUTPUTS)
        self.normalization = (
            normalization if normalization is None else one_of("normalization", normalization, NORMALIZATIONS)
        )
        self.dtype = np.dtype(one_of("dtype", np.dtype(dtype).name if not isinstance(dtype, str) else dtype, DTYPES))
        draw_w, draw_b = _initializer("init", init), _initializer("bias_init", bias_init)
        self.transform, self.target_transform = InputTransform(), TargetTransform()
        self.table: Encoder | None = None
        self.image_shape: tuple[int, ...] | None = None
        self.image_shades: Shades | None = None
        self.task: str | None = None
        self.classes: tuple[Label, ...] | None = None
        rng = np.random.default_rng(seed if isinstance(seed, np.random.SeedSequence) else whole("seed", seed, least=0))
        self.device = open_device(device)
        with self.device:
            self.k = kernels.on(self.device)
            self.parameters = Parameters(
                self.device,
                self.sizes,
                self.dtype,
                normalized=normalization is not None,
                embeddings=self.embeddings,
            )
            self.statistics = (
                Statistics(self.device, self.sizes[1:-1], self.dtype) if normalization == "batch" else None
            )
            for w, b in zip(self.parameters.w, self.parameters.b, strict=True):
                fan_in, fan_out = w.shape
                self.device.upload(draw_w(rng, fan_in, fan_out, w.shape), out=w)
                self.device.upload(draw_b(rng, fan_in, fan_out, b.shape), out=b)
            for gain in self.parameters.gains:
                gain.fill(1)
            for table in self.parameters.e if init != "zeros" else ():
                self.device.upload(rng.normal(0, 1 / math.sqrt(table.shape[1]), table.shape), out=table)

    def __repr__(self) -> str:
        return f"MLP({'-'.join(map(str, self.sizes))}, {self.output}, {self.dtype}, {self.device.name})"

    @property
    def inputs(self) -> int:
        """Values of a raw sample."""
        return self.codes.inputs

    @property
    def embeddings(self) -> tuple[tuple[int, int], ...]:
        """(rows, width) of the table of each code."""
        return self.codes.tables

    @property
    def state(self) -> tuple[Array, ...]:
        """The arrays that training changes."""
        return (self.parameters.flat,) if self.statistics is None else (self.parameters.flat, self.statistics.flat)

    def forward(
        self,
        h: Sequence[Array],
        kept: Sequence[Kept] | None = None,
        keys: Sequence[Array | None] | None = None,
        *,
        raw: Array | None = None,
    ) -> None:
        """From h[0], the samples as the network sees them, to h[-1], the pre-activations of the output.

        Args:
            h: (B, size) for each size, written from h[1] on.
            kept: Filled with what the backward pass needs, one for each hidden layer; None where there will be none:
                nothing is dropped then, and running statistics stand in for the batch's.
            keys: Of dropout, for each hidden layer.
            raw: (B, inputs), the samples with their codes, from which h[0] is written; None where it is there.
        """
        if raw is not None:
            self.codes.forward(self.k, raw, self.parameters.e, out=h[0])
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
            x: (N, ...), numbers as in training, dense or sparse; every sample is flattened. Of a network with a table,
                also a pandas frame with its columns.
        """
        outputs = self.target_transform.to_targets(self._checked_outputs(x, self.output))
        if self.task == "classification" and self.sizes[-1] == 1:
            outputs = np.hstack([1 - outputs, outputs])
        return outputs

    def predict(self, x: Any) -> np.ndarray:
        """The classes' labels (N,), 0/1 labels (N, K), or numbers (N,) or (N, O) for raw samples.

        Args:
            x: (N, ...), as for `predict_proba`.
        """
        if self.task == "regression":
            outputs = self.target_transform.to_targets(self._checked_outputs(x, self.output))
            return outputs[:, 0] if outputs.shape[1] == 1 else outputs
        # As in kernels.hits: decided before rounding could make two outputs equal.
        scores = self._checked_outputs(x, "linear" if self.output in ORDER_KEEPING else self.output)
        if self.task == "multilabel":
            return (scores > 0).astype(np.uint8)
        numbers = (scores[:, 0] > 0).astype(int) if scores.shape[1] == 1 else scores.argmax(axis=1)
        return numbers if self.classes is None else np.array(self.classes)[numbers]

    def _checked_outputs(self, x: Any, output: str) -> np.ndarray:
        x = check_samples(self.table(x) if self.table is not None and hasattr(x, "columns") else x)
        if x.shape[1] != self.inputs:
            raise XpnetError(f"X: got samples of {x.shape[1]} values, expected {self.inputs}, as in training.")
        self.codes.check(x)
        outputs = self.outputs(x, output)
        if not np.isfinite(outputs).all():
            row = int(np.isfinite(outputs).all(axis=1).argmin())
            raise DataError(
                f"X: got numbers in row {row} for which the network's output is {outputs[row].sum():g}; scale them as "
                "in training, or use float64."
            )
        return outputs

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
            raw = device.empty((rows, self.inputs), self.dtype) if self.embeddings else None
            transform = self.codes.sparing(self.transform)
            portion = min(PREDICTION_BLOCKS * rows, x.shape[0])
            room = None if there else device.empty((portion, self.sizes[-1]), self.dtype)
            for start in range(0, len(result), portion):
                part = x[start : start + portion]
                source, n = open_source(device, part, transform, self.dtype), part.shape[0]
                outputs = result[start : start + n] if room is None else room[:n]
                full, rest = divmod(n, rows)
                step = partial(self._predict, source, raw, h, outputs, output)
                device.run(partial(step, 0, rows), full)
                device.run(partial(step, full, rest), int(rest > 0))
                if room is not None:
                    result[start : start + n] = device.to_host(outputs)
        return result

    def _predict(
        self,
        source: Source,
        raw: Array | None,
        h: list[Array],
        outputs: Array,
        output: str,
        first: int,
        n: int,
        i: int,
    ) -> None:
        """That function of the n samples of block first + i, into their rows of `outputs`.

        h, and raw where codes are embedded, are room for a block.
        """
        start = (first + i) * len(h[0])
        z = outputs[start : start + n]
        x = source.rows(self.k, start, (h[0] if raw is None else raw)[:n])
        inputs = x if raw is None else h[0][:n]
        self.forward([inputs, *(y[:n] for y in h[1:]), z], raw=None if raw is None else x)
        getattr(self.k, output)(z, out=z)

    def summary(self) -> str:
        """A table of the embeddings and layers: shape, parameters and multiply-adds for one sample."""
        norm = "" if self.normalization is None else f"{self.normalization} norm, "
        names = [*(norm + name for name in self.activations), self.output]
        gains = [*(size * (self.normalization is not None) for size in self.sizes[1:-1]), 0]
        rows = [("layer", "shape", "activation", "parameters", "multiply-adds")]
        for i, table in enumerate(self.parameters.e, 1):
            rows.append((f"e{i}", f"{len(table)} x {table.shape[1]}", "embedding", f"{table.size:,}", "0"))
        for i, (w, name, more) in enumerate(zip(self.parameters.w, names, gains, strict=True), 1):
            fan_in, fan_out = w.shape
            count = (fan_in + 1) * fan_out + more
            rows.append((str(i), f"{fan_in} x {fan_out}", name, f"{count:,}", f"{fan_in * fan_out:,}"))
        products = sum(w.size for w in self.parameters.w)
        embedded = sum(table.size for table in self.parameters.e)
        rows.append(("total", "", "", f"{products + sum(self.sizes[1:]) + sum(gains) + embedded:,}", f"{products:,}"))
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
