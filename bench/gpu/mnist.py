"""MNIST to an accuracy: how long training takes, for several seeds, and how often the host waits for the GPU."""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.gpu.notes import Notes

SEEDS = 10
WANTED = 0.98
ENDING = 5.0


@dataclass(frozen=True)
class Recipe:
    """All settings of the training; everything else is xpnet's default.

    Attributes:
        optimizer: A name as in `xpnet.optimizers`, with its settings.
        schedule: A class of `xpnet.schedules`, with its settings.
        scale: What bytes are multiplied by.
    """

    sizes: tuple[int, ...] = (784, 300, 100, 10)
    activation: str = "relu"
    init: str = "glorot_uniform"
    optimizer: tuple[str, dict[str, Any]] = field(default_factory=lambda: ("adam", {"lr": 0.004}))
    schedule: tuple[str, dict[str, Any]] = field(default_factory=lambda: ("OneCycle", {}))
    batch: int = 512
    epochs: int = 10
    l2: float = 0.0
    scale: float = 1 / 255
    precision: str = "fp32"


RECIPE = Recipe()


@dataclass(frozen=True, eq=False)
class Data:
    """Digits, and what they are."""

    name: str
    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


def run(notes: Notes) -> None:
    """All seeds, one training that is watched, and what was found."""
    import xpnet

    data = load()
    found = notes.found
    found.update({"recipe": asdict(RECIPE), "data": data.name, "real": data.name == "MNIST", "runs": []})
    device = xpnet.device("cuda", precision=RECIPE.precision)
    for seed in range(SEEDS):
        if notes.left() < ENDING:
            notes.wrong.append(f"the time was up after {seed} of {SEEDS} seeds")
            break
        found["runs"].append(train(device, data, seed))
        notes.save()
    for name in ("seconds", "wall", "accuracy", "prepare"):
        values = [one[name] for one in found["runs"]]
        found[name] = {"mean": np.mean(values), "sd": np.std(values), "min": min(values), "max": max(values)}
    found["warm"] = {"seconds": np.mean([one["seconds"] for one in found["runs"][1:]])}
    notes.save()
    found["waits"] = waits(device, data)
    notes.save()
    with contextlib.suppress(ImportError):
        found["profiler"] = profiled(device, data)


def load() -> Data:
    """MNIST from $XPNET_DATA or .data, else random digits of its shape."""
    from xpnet.data.idx import read_idx_set
    from xpnet.errors import DataError

    roots = [os.environ.get("XPNET_DATA"), Path(__file__).resolve().parents[2] / ".data"]
    for root in [Path(root) for root in roots if root]:
        for folder in (root / "mnist", root):
            try:
                read = read_idx_set(folder, "mnist")
            except DataError:
                continue
            return Data("MNIST", read.x, read.y, read.x_test, read.y_test)
    return synthetic()


def synthetic(rows: int = 60_000, test_rows: int = 10_000) -> Data:
    """A blurred pattern a class, under noise: of MNIST's shape, of no accuracy to speak of."""
    rng = np.random.default_rng(0)
    patterns = rng.integers(0, 200, (10, 784))
    y = rng.integers(0, 10, rows + test_rows).astype(np.int32)
    x = np.clip(patterns[y] + rng.integers(-128, 128, (rows + test_rows, 784)), 0, 255).astype(np.uint8)
    return Data("synthetic data of MNIST's shape", x[:rows], y[:rows], x[rows:], y[rows:])


def new_trainer(device: Any, seed: int, recipe: Recipe | None = None) -> Any:
    """A trainer of a new network."""
    import xpnet
    from xpnet import optimizers, schedules
    from xpnet.data.transform import InputTransform

    recipe = recipe or RECIPE
    network = xpnet.MLP(recipe.sizes, recipe.activation, init=recipe.init, seed=seed, device=device)
    network.transform = InputTransform(recipe.scale)
    network.task, network.classes = "classification", tuple(range(recipe.sizes[-1]))
    (name, settings), (schedule, options) = recipe.optimizer, recipe.schedule
    return xpnet.Trainer(
        network,
        optimizer=optimizers.OPTIMIZERS[name](**settings),
        schedule=getattr(schedules, schedule)(**options),
        batch_size=recipe.batch,
        epochs=recipe.epochs,
        l2=recipe.l2,
        seed=seed,
    )


def train(device: Any, data: Data, seed: int) -> dict[str, float]:
    """Seconds of preparing (samples to the GPU, recording), of training, and the accuracy on the test set.

    seconds: of the steps, by the history. wall: around the whole run, to the end of the GPU's work.
    """
    from xpnet.data.samples import Samples

    trainer = new_trainer(device, seed)
    start = time.perf_counter()
    training = trainer.prepare(Samples.of(data.x, data.y))
    device.synchronize()
    ready = time.perf_counter()
    history = trainer.run(training)
    device.synchronize()
    done = time.perf_counter()
    return {
        "seed": seed,
        "prepare": ready - start,
        "seconds": history.seconds,
        "wall": done - ready,
        "accuracy": trainer.measure(Samples.of(data.x_test, data.y_test))["accuracy"],
        "loss": float(history.step_losses[-1]),
    }


def waits(device: Any, data: Data) -> dict[str, Any]:
    """How often a training waits for the GPU, an epoch, by the calls that xpnet makes through CuPy."""
    from xpnet.data.samples import Samples

    trainer = new_trainer(device, 0)
    training = trainer.prepare(Samples.of(data.x, data.y))
    with counted(device) as (counts, missing):
        trainer.run(training)
    epochs = trainer.epochs
    return {
        "calls": dict(counts),
        "calls_per_epoch": sum(n for name, n in counts.items() if not name.endswith("unfinished")) / epochs,
        "per_epoch": sum(n for name, n in counts.items() if name.endswith("unfinished")) / epochs,
        "not_watched": missing,
    }


@contextlib.contextmanager
def counted(device: Any) -> Iterator[tuple[Counter[str], list[str]]]:
    """Count waits; "unfinished" are those that found the GPU at work, so that the host really waited."""
    cuda = device.xp.cuda
    counts: Counter[str] = Counter()
    missing: list[str] = []
    undo: list[tuple[Any, str, Any]] = []

    def watch(owner: Any, name: str, what: str) -> None:
        original = getattr(owner, name, None)
        if original is None:
            missing.append(what)
            return

        def call(*arguments: Any, **options: Any) -> Any:
            counts[what] += 1
            if not getattr(arguments[0] if arguments else None, "done", False):
                counts[f"{what}, unfinished"] += 1
            return original(*arguments, **options)

        try:
            setattr(owner, name, call)
            undo.append((owner, name, original))
        except (AttributeError, TypeError):
            missing.append(what)

    watch(cuda.Event, "synchronize", "event")
    watch(cuda.Stream, "synchronize", "stream")
    watch(cuda.runtime, "deviceSynchronize", "device")
    watch(cuda.runtime, "memcpy", "memcpy")
    watch(device, "to_host", "copy to host")
    try:
        yield counts, missing
    finally:
        for owner, name, original in undo:
            if owner is device:
                delattr(device, name)
            else:
                setattr(owner, name, original)


def profiled(device: Any, data: Data) -> dict[str, float]:
    """The same by PyTorch's profiler: calls of the CUDA runtime and driver that wait or copy, an epoch."""
    import torch

    from xpnet.data.samples import Samples

    trainer = new_trainer(device, 0)
    training = trainer.prepare(Samples.of(data.x, data.y))
    kinds = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA]) as profile:
        trainer.run(training)
        device.synchronize()
    calls = {event.key: event.count for event in profile.key_averages()}
    wanted = ("Synchronize", "Memcpy", "GraphLaunch")
    return {name: count / trainer.epochs for name, count in calls.items() if any(word in name for word in wanted)}
