"""Every kernel that a twin lies over, twin and reference, on the shapes of 784-300-100-10 at batch 200."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import kernels

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
    z, t = normal(BATCH, 10), rng.integers(0, 10, BATCH).astype(np.int32)
    block = [placed(0.01 * rng.normal(size=266_610)) for _ in range(3)] + [placed(rng.random(266_610))]
    betas = {"beta1": 0.9, "beta2": 0.999, "clip": None}
    adam = {"size": number(1e-4), "eps": number(1e-8), **betas}
    sgd = {"lr": number(1e-4), "l2": 1e-4, "clip": None}
    calls = {
        "softmax_cross_entropy": ([z, t], {"out": z.copy(), "db": normal(10), "loss": number(0)}),
        "scored_softmax_cross_entropy": (
            [z, t],
            {"out": z.copy(), "db": normal(10), "loss": number(0), "hits": number(0)},
        ),
        "softmax": ([z], {"out": z.copy()}),
        "linear": ([z], {"out": z.copy()}),
        "affine_forward": ([x, w, b], {"out": normal(BATCH, 300)}),
        "affine_inputs": ([normal(BATCH, 100), normal(300, 100)], {"out": normal(BATCH, 300)}),
        "affine_weights": ([x, normal(BATCH, 300)], {"out": w, "alpha": number(-1e-9), "beta": number(1)}),
        "sgd_update": (block[:2], {"lr": number(1e-4)}),
        "hits": ([z, t], {"output": "softmax", "out": number(0)}),
        "gather": (
            [rng.integers(0, 256, (8192, 784)).astype(np.uint8), rng.integers(0, 8192, BATCH)],
            {"scale": 1 / 255, "out": x},
        ),
        "momentum_update": (block[:3], {**sgd, "momentum": 0.9}),
        "nesterov_update": (block[:3], {**sgd, "momentum": 0.9}),
        "adam_update": (block, {**adam, "l2": 1e-4}),
        "adamw_update": (block, {**adam, "keep": number(0.9999)}),
        "rmsprop_update": ([*block[:2], block[3]], {**sgd, "alpha": 0.99, "eps": 1e-8}),
        "adagrad_update": ([*block[:2], block[3]], {**sgd, "eps": 1e-10}),
        "squared_norm": (block[:1], {"out": number(0)}),
        "hidden_forward": ([x, w, b], {"activation": "relu", "out": normal(BATCH, 300)}),
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
    batch = None if name.endswith(("_update", "_norm")) else BATCH
    measure(k.device.capture(lambda _: kernel(*positional, **options)), batch)  # as a program runs it
