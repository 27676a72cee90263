"""Every kernel that a twin lies over, twin and reference, on the shapes of 784-300-100-10 at batch 200."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import kernels
from xpnet.kernels import ACTIVATIONS

BATCH = 200
DEVICES = ("numpy", "cpu")


def arguments(name, device):
    """Positional arguments and keywords of one call, where the device places its arrays."""
    rng = np.random.default_rng(0)

    def placed(values):
        array = device.empty(values.shape, np.float32)
        array[...] = values
        return array

    def normal(*shape):
        return placed(rng.normal(size=shape))

    def number(value):
        return np.array(value, np.float32)

    x, w, b = normal(BATCH, 784), normal(784, 300), normal(300)
    h, gain = normal(BATCH, 300), normal(300)
    z, t = normal(BATCH, 10), rng.integers(0, 10, BATCH).astype(np.int32)
    numbers = np.abs(normal(BATCH, 10))
    results = {"out": z.copy(), "db": normal(10), "loss": number(0)}
    block = [placed(0.01 * rng.normal(size=266_610)) for _ in range(3)] + [placed(rng.random(266_610))]
    betas = {"beta1": 0.9, "beta2": 0.999, "clip": None}
    adam = {"size": number(1e-4), "eps": number(1e-8), **betas}
    sgd = {"lr": number(1e-4), "l2": number(1e-4), "clip": None}
    running = {"mean": gain.copy(), "variance": np.abs(gain)}
    rows = rng.integers(0, 8192, BATCH)
    codes, embedded = placed(rng.integers(0, 1000, BATCH)), normal(1000, 8)
    calls = {
        "softmax_cross_entropy": ([z, t], results),
        "scored_softmax_cross_entropy": ([z, t], {**results, "hits": number(0)}),
        "grouped_softmax_cross_entropy": ([z, np.stack([t // 2] * 2, axis=1)], {**results, "groups": (5, 5)}),
        "grouped_hits": ([z, np.stack([t // 2] * 2, axis=1)], {"groups": (5, 5), "out": number(0)}),
        "sigmoid_cross_entropy": ([z, placed(numbers > 0.5)], results),
        **{
            name: ([z, numbers], {**results, "output": "linear"})
            for name in ("squared_error", "absolute_error", "huber")
        },
        "poisson": ([z, numbers], {**results, "output": "exp"}),
        **{name: ([z], {"out": z.copy()}) for name in ("softmax", "exp")},
        **{name: ([h], {"out": h.copy(), "slope": h.copy()}) for name in ACTIVATIONS},
        "random_bits": ([], {"key": np.array(7, np.uint32), "out": np.zeros((BATCH, 300), np.uint32)}),
        "dropout": ([h], {"key": np.array(7, np.uint32), "rate": 0.5, "out": h.copy(), "slope": h.copy()}),
        "batch_norm": ([h, gain, b], {**running, "hat": h.copy(), "inverse": normal(1, 300), "out": h.copy()}),
        "batch_norm_inference": ([h, gain, b], {**running, "out": h.copy()}),
        "batch_norm_backward": (
            [h, gain],
            {"hat": h.copy(), "inverse": normal(1, 300), "dshift": b, "dgain": b.copy(), "out": h.copy()},
        ),
        "layer_norm": ([h, gain, b], {"hat": h.copy(), "inverse": normal(BATCH, 1), "out": h.copy()}),
        "layer_norm_backward": (
            [h, gain],
            {"hat": h.copy(), "inverse": normal(BATCH, 1), "dgain": b.copy(), "out": h.copy()},
        ),
        "affine_forward": ([x, w, b], {"out": normal(BATCH, 300)}),
        "affine_product": ([x, w], {"out": normal(BATCH, 300)}),
        "affine_inputs": ([normal(BATCH, 100), normal(300, 100)], {"out": normal(BATCH, 300)}),
        "affine_weights": ([x, normal(BATCH, 300)], {"out": w, "alpha": number(-1e-9), "beta": number(1)}),
        "sgd_update": (block[:2], {"lr": number(1e-4)}),
        "hits": ([z, t], {"output": "softmax", "out": number(0)}),
        "squared_errors": ([z, numbers], {"output": "linear", "out": number(0)}),
        "gather": ([rng.integers(0, 256, (8192, 784)).astype(np.uint8), rows], {"scale": 1 / 255, "out": x}),
        "gather_sparse": (
            [rng.integers(0, 784, (8192, 100)).astype(np.int32), normal(8192, 100), rows],
            {"scale": 1 / 255, "out": x},
        ),
        "copy_columns": ([x], {"out": x.copy()[:, :300]}),
        "embedding_forward": ([codes, embedded], {"out": x.copy()[:, 300:308]}),
        "embedding_backward": ([codes, x[:, 300:308]], {"out": embedded.copy()}),
        **{
            name: (block[:3], {**sgd, "momentum": 0.9})
            for name in ("momentum_update", "nesterov_update", "velocity_update", "nesterov_velocity_update")
        },
        "adam_update": (block, {**adam, "l2": number(1e-4)}),
        "adamw_update": (block, {**adam, "keep": number(0.9999)}),
        "rmsprop_update": ([*block[:2], block[3]], {**sgd, "alpha": 0.99, "eps": 1e-8}),
        "adagrad_update": ([*block[:2], block[3]], {**sgd, "eps": 1e-10}),
        "max_norm": ([w], {"limit": 20.0}),
        "squared_norm": (block[:1], {"out": number(0)}),
        "clip_scale": (block[:1], {"limit": 1.0, "out": number(0)}),
        "hidden_forward": ([x, w, b], {"activation": "relu", "out": normal(BATCH, 300)}),
        "hidden_activation": ([h], {"activation": "relu", "out": h.copy()}),
        "hidden_backward": (
            [normal(BATCH, 100), normal(300, 100)],
            {"activation": "relu", "out": normal(BATCH, 300), "db": b},
        ),
    }
    return calls[name]


NAMES = [name for name in xpnet.device("cpu").twins if name != "hidden_aux"]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", NAMES)
def test_kernel(name, device, measure):
    k = kernels.on(xpnet.device(device))
    positional, options = arguments(name, k.device)
    if name.startswith("hidden"):
        options["aux"] = k.hidden_aux(options["out"].copy(), activation="relu", below=784, above=100)
    if name == "hidden_backward":
        options["aux"][...] = np.random.default_rng(1).normal(size=options["aux"].shape) > 0
    kernel = getattr(k, name)
    batch = None if name.endswith("_update") or name in ("squared_norm", "max_norm", "clip_scale") else BATCH
    measure(k.device.capture(lambda _: kernel(*positional, **options)), batch)  # as a program runs it
