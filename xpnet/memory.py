"""What a training takes on a device, foreseen by arithmetic before anything is allocated."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from xpnet.data.sources import row_bytes
from xpnet.errors import OutOfMemoryError

if TYPE_CHECKING:
    from xpnet.data.samples import Samples
    from xpnet.network import MLP

TRAINING_BLOCKS = 11
"""Arrays of the parameters' size: the gradient, two moments, the last good weights, the best; and while a run is
recorded, the parameters and moments twice more."""

KEPT, KEPT_IN_HALVES = 3, 7
"""Arrays of the units' size: outputs, gradients and slopes; in bfloat16 outputs and gradients take half of that, but
three arrays of float32 come to them in passing, two of these for batches and for the larger blocks of evaluations."""

NORMALIZED = 4
"""As many of the hidden units' size for their normalization: what the step keeps, and in passing what enters it, for
batches and for the larger blocks of evaluations, and what the latter would keep. Dropout takes nothing."""

RESERVE = 0.08
"""Of the free memory, for graphs, kernels and what the allocator rounds up."""

SMALL = 2**16
"""Bytes for a hundred small arrays, whatever the network."""

GATHERED_SHARE = 0.25
"""Of the free memory, the most that samples gathered ahead take."""

BLOCK_BYTES = 2**30
"""The most that the buffers of evaluations take, if they are larger than a batch; the free memory has no say in that,
for sums over other blocks are rounded otherwise."""

WINDOW_BYTES = 2**31
"""The most that windows take: as much page-locked memory of the host is taken beside them."""


@dataclass(frozen=True)
class Plan:
    """How a training, or an evaluation, fits into the memory of its device.

    Attributes:
        rows: Samples that go through the network at a time, at least a batch.
        chunk: Steps in a chunk.
        gathered: Steps whose samples are gathered together.
        window: Samples on the device at a time; None for all.
    """

    rows: int
    chunk: int
    gathered: int
    window: int | None


def foresee(network: MLP, sets: list[Samples], *, batch: int, chunk: int, blocks: int) -> Plan:
    """All samples on the device where they fit, else as many as a chunk of steps needs.

    Args:
        network: On its device.
        sets: Whose samples are needed, each once.
        batch: Samples a step.
        chunk: Steps in a chunk, if memory allows.
        blocks: Arrays of the parameters' size that come beside them, and of the statistics'.

    Raises:
        OutOfMemoryError: Not even a batch fits; the message has the sizes.
    """
    device = network.device
    most = max(samples.x.shape[0] for samples in sets)
    rows = max(batch, min(device.block_rows, most, BLOCK_BYTES // buffer_bytes(network, 1, 1)))
    step = batch * network.inputs * network.dtype.itemsize
    gathered = max(1, min(chunk, device.gathered_bytes // step))
    free = device.free_memory
    if free is None:
        return Plan(rows, chunk, gathered, None)
    copies = blocks * sum(array.nbytes for array in network.state)
    usable = int(free * (1 - RESERVE)) - SMALL - copies
    gathered = max(1, min(gathered, int(GATHERED_SHARE * usable) // step))
    buffers = buffer_bytes(network, rows, gathered * batch)
    left = usable - buffers
    if sum(samples.x.shape[0] * _row(samples, network) for samples in sets) <= left:
        return Plan(rows, chunk, gathered, None)
    room_of_one = 2 * len(sets) * max(_row(samples, network) for samples in sets)  # one is read, the next arrives
    room = left // room_of_one
    if room < batch:
        raise OutOfMemoryError(
            f"{device.name}: got {_size(free)} of free memory, expected more than {_size(free - left)} (of which "
            f"gradients, moments and copies of the network {_size(copies)}, buffers of {rows} samples "
            f"{_size(buffers)}) and {_size(batch * room_of_one)} for the samples of a step; make the batch or the "
            "hidden layers smaller, or take the device cpu."
        )
    chunk = min(chunk, room // batch, max(1, WINDOW_BYTES // (room_of_one * batch)))
    return Plan(rows, chunk, min(gathered, chunk), max(chunk * batch, min(rows, room)))


def buffer_bytes(network: MLP, rows: int, gathered: int) -> int:
    """Of a workspace for `rows` samples, `gathered` of them gathered at once."""
    inputs, *later = network.sizes
    in_halves = network.dtype == "float32" and getattr(network.device, "precision", "fp32") == "bf16"
    kept = KEPT_IN_HALVES if in_halves else KEPT
    numbers = max(rows, gathered) * (network.inputs + network.sizes[-1]) + kept * rows * sum(later)
    if network.embeddings:  # what the codes become, its gradient, and which rows are meant
        numbers += rows * (inputs + network.codes.width + 1)
    if network.normalization is not None:
        numbers += NORMALIZED * rows * sum(units + 1 for units in later[:-1])
    return network.dtype.itemsize * numbers


def _row(samples: Samples, network: MLP) -> int:
    """Bytes of a sample with its target, its label and its weight."""
    columns = 1 if samples.y.ndim == 1 and network.output == "softmax" else network.sizes[-1]
    return row_bytes(samples.x, network.dtype) + (2 * columns + 1) * network.dtype.itemsize


def _size(count: float) -> str:
    for unit in ("bytes", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.4g} {unit}"
        count /= 1024
    return f"{count:.4g} GiB"
