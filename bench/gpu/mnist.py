"""MNIST to an accuracy: how long training takes, for several seeds, and how often the host waits for the GPU."""

from __future__ import annotations

import contextlib
import functools
import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from bench.gpu.notes import Notes
from xpnet import recipes

SEEDS = 10
ENDING = 5.0


@dataclass(frozen=True)
class Recipe:
    """All settings of the training; everything else is xpnet's default.

    Attributes:
        optimizer: A name as in `xpnet.optimizers`, with its settings.
        schedule: A class of `xpnet.schedules`.
        center: Whether the mean image is subtracted.
    """

    name: str
    sizes: tuple[int, ...]
    activation: str = "relu"
    optimizer: tuple[str, dict[str, float]] = field(default_factory=lambda: ("adam", {}))
    schedule: str = "Constant"
    batch: int = 32
    epochs: int = 30
    l2: float = 0.0
    center: bool = False
    precision: str = "fp32"

    @classmethod
    def named(cls, name: str) -> Recipe:
        """That recipe of xpnet's, without the command's own reader of settings, which needs more than NumPy.

        Raises:
            ValueError: It has a setting that is not known here.
        """
        settings = dict(recipes.read(name).settings)
        if settings.pop("data") != "mnist" or settings.pop("val_size") != 0:
            raise ValueError(f"{name} does not train on all of MNIST")
        rates = {key: settings.pop(key) for key in ("lr", "beta1", "beta2", "momentum") if key in settings}
        made = cls(
            name,
            sizes=(784, *settings.pop("hidden"), 10),
            optimizer=(settings.pop("optimizer"), rates),
            schedule=SCHEDULES[settings.pop("schedule")],
            batch=settings.pop("batch_size"),
            **{key: settings.pop(key) for key in ("activation", "epochs", "l2", "center") if key in settings},
        )
        if settings:
            raise ValueError(f"{name} has settings that are not known here: {', '.join(settings)}")
        return made


SCHEDULES = {"constant": "Constant", "cosine": "Cosine", "one-cycle": "OneCycle"}
RECIPE = Recipe.named("mnist-fast")


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
    try:
        found["profiler"] = profiled(device, data)
    except Exception as error:  # a second opinion, which not every machine gives
        found["profiler"] = f"{type(error).__name__}: {error}"


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


def new_trainer(device: Any, data: Data, seed: int) -> Any:
    """A trainer of a new network; the seed gives what it gives by the command."""
    import xpnet
    from xpnet import optimizers, schedules

    recipe, seeds = RECIPE, np.random.SeedSequence(seed).spawn(3)
    network = xpnet.MLP(recipe.sizes, recipe.activation, seed=seeds[0], device=device)
    network.transform = _transform(data, recipe.center)
    network.task, network.classes = "classification", tuple(range(recipe.sizes[-1]))
    optimizer, rates = recipe.optimizer
    return xpnet.Trainer(
        network,
        optimizer=optimizers.make(optimizer, **rates),
        schedule=getattr(schedules, recipe.schedule)(),
        batch_size=recipe.batch,
        epochs=recipe.epochs,
        l2=recipe.l2,
        seed=seeds[1],
    )


@functools.cache
def _transform(data: Data, center: bool) -> Any:
    from xpnet.data.transform import fit_transform

    return fit_transform(data.x, scale=1 / 255, center=center)


def train(device: Any, data: Data, seed: int) -> dict[str, float]:
    """Seconds of preparing (samples to the GPU, recording), of training, and the accuracy on the test set.

    seconds: of the steps, by the history. wall: around the whole run, to the end of the GPU's work.
    """
    from xpnet.data.samples import Samples

    trainer = new_trainer(device, data, seed)
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

    trainer = new_trainer(device, data, 0)
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

    trainer = new_trainer(device, data, 0)
    training = trainer.prepare(Samples.of(data.x, data.y))
    kinds = torch.profiler.ProfilerActivity
    with torch.profiler.profile(activities=[kinds.CPU, kinds.CUDA]) as profile:
        trainer.run(training)
        device.synchronize()
    calls = {event.key: event.count for event in profile.key_averages()}
    wanted = ("Synchronize", "Memcpy", "GraphLaunch")
    return {name: count / trainer.epochs for name, count in calls.items() if any(word in name for word in wanted)}
