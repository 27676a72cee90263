"""What the benchmarks share: networks and batches of one shape, and the batch that a cost is set against."""

from __future__ import annotations

import functools
import time
from typing import Any

import numpy as np
import pytest

import xpnet
from bench.products import elementwise, product
from xpnet.data.samples import Samples
from xpnet.data.transform import InputTransform
from xpnet.training import Training

SIZES = (784, 300, 100, 10)
BATCHES = (1, 16, 64, 200, 1024)
SECONDS = 0.6
"""For each benchmark, its reference product included."""


@functools.cache
def samples(rows: int) -> Samples:
    """Bytes and classes, as MNIST has them."""
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (rows, SIZES[0])).astype(np.uint8)
    return Samples.of(x, rng.integers(0, SIZES[-1], rows).astype(np.int32))


def prepared(device: str, batch: int, optimizer: str = "sgd", rows: int = 8192) -> Training:
    """A training of 784-300-100-10, ready to run."""
    network = xpnet.MLP(SIZES, device=device)
    network.transform = InputTransform(1 / 255)
    network.task, network.classes = "classification", tuple(range(SIZES[-1]))
    optimizers: dict[str, Any] = {"sgd": xpnet.SGD(0.01), "momentum": xpnet.SGD(0.01, momentum=0.9)}
    chosen = optimizers.get(optimizer, optimizer)
    return xpnet.Trainer(network, optimizer=chosen, batch_size=batch).prepare(samples(rows))


@pytest.fixture
def measure(benchmark: Any) -> Any:
    """Time a call and, before each of its rounds, a reference product: their ratio outlives noise.

    The products of a step at that batch size, or for loops over the parameters (no batch) one number by number.
    """

    def run(call: Any, batch: int | None) -> None:
        reference, times = elementwise() if batch is None else product(batch), []

        def time_product() -> None:
            times.append(_seconds(reference))

        call()
        rounds = int(np.clip(SECONDS / (_seconds(call) + _seconds(reference)), 10, 1000))
        benchmark.pedantic(call, setup=time_product, warmup_rounds=3, rounds=rounds)
        benchmark.extra_info["product"] = min(times)

    return run


def _seconds(call: Any) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start
