"""What twins share: C++ names of numbers, forms of arrays, and how kernels are launched."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table

NUMBERS = {
    np.dtype(kind): name
    for kind, name in {
        np.bool_: "bool",
        np.int8: "signed char",
        np.uint8: "unsigned char",
        np.int16: "short",
        np.uint16: "unsigned short",
        np.int32: "int",
        np.uint32: "unsigned int",
        np.int64: "long long",
        np.uint64: "unsigned long long",
        np.float32: "float",
        np.float64: "double",
    }.items()
}
"""C++ names of what a source may hold."""

REALS = {np.dtype(np.float32): "float", np.dtype(np.float64): "double"}
BFLOAT16 = np.dtype(np.uint16)
STORED = {**REALS, BFLOAT16: "bfloat16"}
"""C++ names of what operands of products are stored as."""

CLASSES = {np.dtype(np.int32): "int", np.dtype(np.int64): "long long"}

WORDS = {16: "Pack<unsigned int, 4>", 8: "Pack<unsigned int, 2>", 4: "Pack<unsigned int, 1>"}
WORDS |= {2: "Pack<unsigned short, 1>", 1: "Pack<unsigned char, 1>"}
"""C++ names of so many bytes, copied at once."""

WARP = 32
THREADS = 256
LARGEST_BLOCK = 1024
SHARED = 36 << 10
"""Bytes of shared memory that a kernel may ask for: a block has 48 KiB, some of which kernels take unasked."""

BLOCKS = 528
"""How many blocks fill a large GPU: 4 on each of 132 multiprocessors."""

FEW = BLOCKS // 4
"""Blocks that leave multiprocessors without work."""

NARROW = 8
"""Columns of float32 that are the least piece of memory that is loaded, 32 bytes."""

ONE_BLOCK = 8192
"""Up to how many numbers one block is as fast as many, whose sums somebody has to add up."""

WIDEST = 8192
"""Columns that a block of `THREADS` keeps in registers, `ENTRIES` a thread."""

ENTRIES = (1, 2, 3, 4, 6, 8, 16, 32)
"""How many columns a thread may have: few kinds, so that few kernels are compiled."""

MANY = 1 << 18
"""Stores from which a thread has several under way at a time: before, more threads are better."""

NULL = np.intp(0)
INT_MAX = 2**31 - 1
UNSIGNED_MAX = 2**32 - 1

_counters: WeakKeyDictionary[Table, dict[tuple[str, int], Array]] = WeakKeyDictionary()


def is_bfloat16(out: Array) -> bool:
    """Whether an output holds bfloat16 bits."""
    return bool(out.dtype == BFLOAT16) and out.ndim == 2


def stored_as(out: Array) -> str | None:
    """What an output's numbers are in C++, or None."""
    return "bfloat16" if is_bfloat16(out) else REALS.get(out.dtype)


def real_of(out: Array) -> np.dtype:
    """What the numbers of an output are computed with."""
    return np.dtype(np.float32) if is_bfloat16(out) else out.dtype


def as_rows(array: Array) -> Array:
    """(N, C), or (N, 1) of what is (N,)."""
    return array[:, None] if array.ndim == 1 else array


def as_row(array: Array) -> Array:
    """(1, N) of what is (N,)."""
    return array[None, :] if array.ndim == 1 else array


def packed(array: Array) -> bool:
    """Whether the entries of each row lie side by side, and rows in whole entries."""
    beside = array.shape[1] == 1 or array.strides[1] == array.dtype.itemsize
    return bool(array.ndim == 2 and beside and array.strides[0] % array.dtype.itemsize == 0)


def contiguous(*arrays: Array) -> bool:
    """Whether all of them are C-contiguous."""
    return all(array.flags.c_contiguous for array in arrays)


def stride(array: Array) -> int:
    """From row to row, in entries."""
    return int(array.strides[0] // array.dtype.itemsize)


def power_of_two(n: int) -> int:
    """The first that is not below n."""
    return 1 << (n - 1).bit_length()


def whole_warps(threads: int) -> int:
    """So many threads, up to whole warps."""
    return -(-threads // WARP) * WARP


def blocks_of(items: int, each: int) -> int:
    """How many blocks have all items, so many each."""
    return -(-items // each)


def whole_columns(rows: int, columns: int) -> tuple[int, int, int]:
    """For blocks that have all rows of some columns: how many columns, how many blocks, and threads in each."""
    width = NARROW if blocks_of(columns, WARP) < FEW else WARP
    threads = min(LARGEST_BLOCK, max(WARP, power_of_two(rows * width)))
    return width, blocks_of(columns, width), threads


def zeroed_counters(k: Table, tag: str, count: int) -> Array:
    """Counters that are 0 between launches; a table's kernels run one after the other."""
    made = _counters.setdefault(k, {})
    if (tag, count) not in made:
        made[tag, count] = k.device.zeros((count,), np.uint32)
    return made[tag, count]


def launch(k: Table, file: str, kernel: str, blocks: int, threads: int, args: tuple[Any, ...], shared: int = 0) -> None:
    """Start a kernel of a source, by its C++ expression, with so many bytes of shared memory."""
    k.device.kernel(file, kernel)((blocks,), (threads,), args, shared_mem=shared)


def sum_memory(k: Table, blocks: int, dtype: np.dtype, *, sums: int = 1) -> tuple[Any, Any]:
    """Partial sums and counters of blocks that add up one number, or several."""
    return k.scratch("partial sums", (sums * blocks,), dtype), zeroed_counters(k, "sums", 2)
