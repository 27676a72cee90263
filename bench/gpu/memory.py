"""What xpnet foresees of a training's memory, against what is taken."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from bench.gpu.notes import Notes


@dataclass(frozen=True)
class Load:
    """A training."""

    sizes: tuple[int, ...]
    batch: int
    rows: int
    optimizer: str
    dtype: Any = np.uint8
    normalization: str | None = None
    dropout: float = 0.0

    def __str__(self) -> str:
        more = [
            self.normalization and f"{self.normalization} normalization",
            self.dropout and f"dropout {self.dropout}",
        ]
        named = ["-".join(map(str, self.sizes)), f"batch {self.batch}", f"{self.rows} samples", self.optimizer]
        return ", ".join([*named, *filter(None, more)])


LOADS = (
    Load((784, 300, 100, 10), 128, 60_000, "sgd"),
    Load((784, 300, 100, 10), 16384, 60_000, "adam"),
    Load((784, 4096, 4096, 10), 1024, 60_000, "adamw"),
    Load((3072, 1024, 100), 512, 100_000, "adam", np.float32),
    Load((784, 1024, 1024, 10), 16384, 60_000, "sgd", normalization="batch", dropout=0.5),
)


def run(notes: Notes) -> None:
    """One training after the other."""
    import xpnet

    device = xpnet.device("cuda")
    notes.found["trainings"] = []
    for load in LOADS:
        row = measure(device, load)
        notes.found["trainings"].append(row)
        if row["taken"] > row["foreseen"] + row["reserve"]:
            notes.wrong.append(f"{row['training']}: {row['taken']} bytes were taken, {row['foreseen']} foreseen")
        notes.save()


def measure(device: Any, load: Load) -> dict[str, Any]:
    """Bytes foreseen, taken from CuPy's pools, and gone from the GPU (with graphs, and what pools keep in reserve)."""
    import xpnet
    from xpnet import memory
    from xpnet.data.samples import Samples

    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (load.rows, load.sizes[0]), dtype=np.uint8).astype(load.dtype)
    samples = Samples.of(x, rng.integers(0, load.sizes[-1], load.rows).astype(np.int32))
    network = xpnet.MLP(load.sizes, normalization=load.normalization, device=device)
    network.task, network.classes = "classification", tuple(range(load.sizes[-1]))
    options = {"optimizer": load.optimizer, "batch_size": load.batch, "dropout": load.dropout}
    trainer = xpnet.Trainer(network, epochs=1, **options)
    gc.collect()
    device.xp.get_default_memory_pool().free_all_blocks()
    with pools(device) as taken_from:
        free, used = _free(device), _used(taken_from)
        foreseeable = device.free_memory
        training = trainer.prepare(samples)
        device.synchronize()
    program = training.program
    foreseen = (
        memory.TRAINING_BLOCKS * sum(array.nbytes for array in network.state)
        + memory.buffer_bytes(network, program.workspace.rows, program.gathered * load.batch)
        + load.rows * memory._row(samples, network)
    )
    return {
        "training": str(load),
        "foreseen": foreseen,
        "taken": _used(taken_from) - used,
        "gone": free - _free(device),
        "reserve": int(memory.RESERVE * foreseeable),
        "window": program.feed.window,
    }


@contextlib.contextmanager
def pools(device: Any) -> Iterator[list[Any]]:
    """CuPy's own, and those that are made meanwhile: each graph has one."""
    cuda, found = device.xp.cuda, [device.xp.get_default_memory_pool()]
    make = cuda.MemoryPool

    def noted(*arguments: Any) -> Any:
        found.append(make(*arguments))
        return found[-1]

    cuda.MemoryPool = noted
    try:
        yield found
    finally:
        cuda.MemoryPool = make


def _used(taken_from: list[Any]) -> int:
    return int(sum(pool.used_bytes() for pool in taken_from))


def _free(device: Any) -> int:
    with device:
        return int(device.xp.cuda.runtime.memGetInfo()[0])
