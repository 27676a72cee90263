"""What a training takes on a device, foreseen by arithmetic before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xpnet.data.sources import row_bytes
from xpnet.errors import OutOfMemoryError

if TYPE_CHECKING:
    from xpnet.data.samples import Samples
    from xpnet.network import MLP

BLOCKS = 5
"""Of the parameters' size: the gradient, two moments, the last good weights and the best."""

RESERVE = 0.08
"""Of the free memory, for graphs, kernels and what the allocator rounds up."""

GATHERED_SHARE = 0.25
"""Of the free memory, the most that samples gathered ahead take."""


@dataclass(frozen=True)
class Plan:
    """How a training fits into the memory of its device.

    Attributes:
        chunk: Steps in a chunk.
        gathered: Steps whose samples are gathered together.
        window: Samples on the device at a time; None for all.
    """

    chunk: int
    gathered: int
    window: int | None


def foresee(network: MLP, sets: list[Samples], *, rows: int, batch: int, chunk: int) -> Plan:
    """All samples on the device where they fit, else as many as a chunk of steps needs.

    Args:
        network: On its device.
        sets: Whose samples are needed, each once.
        rows: Samples in the largest batch, of training or evaluation.
        batch: Samples a step.
        chunk: Steps in a chunk, if memory allows.

    Raises:
        OutOfMemoryError: Not even a batch fits; the message has the sizes.
    """
    device = network.device
    step = batch * network.sizes[0] * network.dtype.itemsize
    gathered = max(1, min(chunk, device.gathered_bytes // step))
    free = device.free_memory
    if free is None:
        return Plan(chunk, gathered, None)
    usable = int(free * (1 - RESERVE))
    gathered = max(1, min(gathered, int(usable * GATHERED_SHARE) // step))
    blocks, buffers = BLOCKS * network.parameters.flat.nbytes, buffer_bytes(network, rows, gathered * batch)
    left = usable - blocks - buffers
    if sum(samples.x.shape[0] * _row(samples, network) for samples in sets) <= left:
        return Plan(chunk, gathered, None)
    widest = max(_row(samples, network) for samples in sets)
    steps = min(chunk, left // (2 * widest * batch))  # one window is read while the next one arrives
    if steps < 1:
        raise OutOfMemoryError(
            f"{device.name}: {_gib(free)} of memory are free and training needs {_gib(usable - left)} "
            f"({_gib(blocks)} for gradients, moments and copies of the network, {_gib(buffers)} for buffers of {rows} "
            f"samples) and {_gib(2 * widest * batch)} for the samples of a step; "
            "make the batch or the hidden layers smaller, or take the device cpu."
        )
    return Plan(steps, min(gathered, steps), max(steps * batch, min(rows, left // (2 * widest))))


def buffer_bytes(network: MLP, rows: int, gathered: int) -> int:
    """Of a workspace for `rows` samples, `gathered` of them gathered at once."""
    inputs, *later = network.sizes
    return network.dtype.itemsize * (max(rows, gathered) * (inputs + network.sizes[-1]) + 3 * rows * sum(later))


def _row(samples: Samples, network: MLP) -> int:
    targets = 2 * max(1, samples.y.ndim * network.sizes[-1])
    return row_bytes(samples.x, network.dtype) + targets * network.dtype.itemsize


def _gib(size: float) -> str:
    return f"{size / 2**30:.2f} GiB"
