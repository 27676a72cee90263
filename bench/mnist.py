"""MNIST through the trainer: an epoch over its steps alone, its peak memory, and what checkpoints cost.

    python -m bench.mnist [--threads 2]

784-300-100-10 at batch 200, plain SGD (checkpoints: Adam, whose state is larger), on the real data (from where xpnet
looks for them). Memory is what the process has at its peak beyond what it has after a training of a small set: what
imports and compiled kernels take is not of the data. Linux only.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

SIZES, BATCH, EPOCHS, ROUNDS = (784, 300, 100, 10), 200, 4, 5
EPOCHS_WITH_CHECKPOINTS = 8
RESULTS = Path(__file__).parent / "results" / "cpu-mnist.json"


def epoch_over_steps(data: Any) -> dict[str, float]:
    """Seconds of an epoch by fit, seconds of its steps by the program, and the median of their ratios."""
    import numpy as np

    from xpnet.program import Chunk

    def fit_seconds(epochs: int) -> float:
        trainer = new_trainer(data, epochs)
        start = time.perf_counter()
        trainer.fit(data.x, data.y)
        return time.perf_counter() - start

    training = new_trainer(data, 1).prepare(encoded(data))
    rows = np.random.default_rng(0).permutation(len(data.x))
    orders = [rows[i : i + training.chunk * BATCH] for i in range(0, len(rows), training.chunk * BATCH)]
    chunks = []
    for order in orders:
        count = len(order) // BATCH
        chunks.append(Chunk(order, training.update.table(np.arange(count), np.full(count, 0.1), np.zeros(count))))

    def steps_seconds(epochs: int) -> float:
        start = time.perf_counter()
        for _ in range(epochs):
            for chunk in chunks:
                training.program.run(chunk)
        return time.perf_counter() - start

    steps_seconds(1)
    fits, steps = [], []
    for _ in range(ROUNDS):
        fits.append((fit_seconds(1 + EPOCHS) - fit_seconds(1)) / EPOCHS)
        steps.append(steps_seconds(EPOCHS) / EPOCHS)
    ratio = statistics.median(f / s for f, s in zip(fits, steps, strict=True))
    return {"epoch_s": statistics.median(fits), "steps_s": statistics.median(steps), "epoch_over_steps": ratio}


def checkpoint_cost() -> dict[str, float]:
    """Seconds that a training with Adam is longer for each of its checkpoints, one an epoch, and the time between two.

    At their defaults they are at least ten seconds apart.
    """
    import xpnet
    from xpnet.checkpoint import LEAST_SECONDS, Checkpoints, Every

    data = xpnet.data.load("mnist")

    def seconds(folder: Path | None) -> float:
        trainer = new_trainer(data, EPOCHS_WITH_CHECKPOINTS, optimizer="adam")
        training = trainer.prepare(encoded(data))
        if folder is not None:
            trainer.callbacks.append(Checkpoints(training, folder, every=Every(1, 0.0)))
        start = time.perf_counter()
        trainer.run(training)
        return time.perf_counter() - start

    seconds(None)
    costs = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory() as folder:
            costs.append((seconds(Path(folder)) - seconds(None)) / EPOCHS_WITH_CHECKPOINTS)
    cost = statistics.median(costs)
    return {"checkpoint_s": cost, "checkpoint_share": cost / LEAST_SECONDS}


def new_trainer(data: Any, epochs: int, *, optimizer: str = "sgd") -> Any:
    import xpnet

    network = xpnet.MLP(SIZES)
    network.transform = xpnet.data.InputTransform(scale=data.scale)
    network.task, network.classes = data.task, data.classes
    return xpnet.Trainer(network, optimizer=optimizer, batch_size=BATCH, epochs=epochs)


def encoded(data: Any) -> Any:
    """The training set as samples."""
    from xpnet.data.samples import Samples

    return Samples.of(data.x, data.y)


def peak_memory() -> dict[str, float]:
    """MiB of loading and training MNIST, and the bound: 1.3 times the data, 3 times the parameters, activations."""
    import numpy as np

    import xpnet
    from xpnet.devices import Device

    small = np.random.default_rng(0).integers(0, 256, (640, 64)).astype(np.uint8)
    network = xpnet.MLP((64, 30, 10))
    network.transform = xpnet.data.InputTransform(scale=1 / 255)
    xpnet.Trainer(network, optimizer="sgd", batch_size=32, epochs=1).fit(small, np.arange(640) % 10)
    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")  # forgets the peak
    data = xpnet.data.load("mnist")
    trainer = new_trainer(data, 2)
    trainer.fit(data.x, data.y)
    trainer.evaluate(data.x_test, data.y_test)
    parameters = sum(array.nbytes for _, array in trainer.network.parameters.named())
    rows = max(BATCH, Device.block_rows)
    activations = 4 * rows * (sum(SIZES) + sum(SIZES[1:]))
    bound = 1.3 * (data.x.nbytes + data.x_test.nbytes) + 3 * parameters + activations
    return {"peak_mib": _status("VmHWM") - before, "bound_mib": bound / 2**20}


def _status(name: str) -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(name)).split()[1]) / 1024


def main() -> int:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    for variable in ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS"):
        os.environ[variable] = str(options.threads)
    import xpnet
    from bench.recipes import processor

    facts: dict[str, Any] = {"machine": f"{processor()}, {options.threads} threads"}
    facts |= peak_memory()
    facts |= epoch_over_steps(xpnet.data.load("mnist"))
    facts |= checkpoint_cost()
    RESULTS.write_text(json.dumps(facts, indent=1) + "\n")
    print(json.dumps(facts, indent=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
