"""What compiled code needs of the machine: memory by its address, calls by address, a counter shared by threads.

Numba knows arrays and functions by their types; a tape (see `tape`) knows them by their addresses alone.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable
from functools import cache, partial
from typing import Any

import numpy as np
from llvmlite import ir
from numba import carray, njit, types
from numba.core import cgutils
from numba.extending import get_cython_function_address, intrinsic
from threadpoolctl import ThreadpoolController

WORD = 8
"""Bytes of a word of a tape."""

WORDS = 32
"""Of a node of a tape: its function, its parts, its arguments."""

ARGUMENTS = 2
"""The first word that is an argument."""

PATIENCE = 10_000
"""Looks at a counter, of a few nanoseconds each, before a thread gives way to others."""

AS_IT_IS, TRANSPOSED = ord("N"), ord("T")
"""BLAS's names for what is done to an operand."""

UNPACKED = frozenset({"SkylakeX", "Cooperlake", "SapphireRapids"})
"""OpenBLAS's names of processors for which it has kernels for small products (sgemm_small_kernel_permit)."""

_PRODUCTS = {
    np.dtype(dtype): get_cython_function_address("scipy.linalg.cython_blas", name)
    for dtype, name in ((np.float32, "sgemm"), (np.float64, "dgemm"))
}

_INT, _WORD = ir.IntType(32), ir.IntType(64)


def compiled(signature: Any) -> Callable[[Any], Any]:
    """Machine code of a function that Python calls, without the lock of the interpreter; kept on disk if possible."""

    def compile_function(function: Any) -> Any:
        return kept_on_disk(partial(njit, signature, nogil=True), function)

    return compile_function


def kept_on_disk(decorate: Callable[..., Any], function: Any) -> Any:
    """decorate(cache=True)(function), or without a cache where none of its places can be written."""
    try:
        return decorate(cache=True)(function)
    except RuntimeError:  # neither the package's folder nor the user's cache
        return decorate(cache=False)(function)


@cache
def blas(dtype: np.dtype) -> tuple[int, int]:
    """The address of SciPy's matrix product, which several threads may call, none of them as Python.

    And whether it has kernels for small products, which read their operands as they lie.
    """
    libraries = ThreadpoolController().info()
    return _PRODUCTS[dtype], int(any(library.get("architecture") in UNPACKED for library in libraries))


@cache
def yield_function() -> int:
    """The address of the system's own way to let other threads run."""
    if sys.platform == "win32":
        system = ctypes.WinDLL("kernel32").SwitchToThread
    else:
        system = ctypes.CDLL(None).sched_yield
    return ctypes.cast(system, ctypes.c_void_p).value or 0


@intrinsic
def pointer(typing: Any, address: Any, kind: Any) -> Any:
    """A pointer to numbers of that kind at an address."""
    result = types.CPointer(kind.dtype)

    def generate(context, builder, signature, arguments):
        return builder.inttoptr(arguments[0], context.get_value_type(result))

    return result(types.int64, kind), generate


@intrinsic
def bits_of(typing: Any, value: Any) -> Any:
    """The bits of a float32 or float64 as a whole number of the same size."""
    return _reinterpreted(value, types.int32 if value == types.float32 else types.int64)


@intrinsic
def number_of(typing: Any, bits: Any) -> Any:
    """The float32 or float64 that has the bits of a whole number of the same size."""
    return _reinterpreted(bits, types.float32 if bits == types.int32 else types.float64)


def _reinterpreted(value: Any, result: Any) -> tuple[Any, Any]:
    def generate(context, builder, signature, arguments):
        return builder.bitcast(arguments[0], context.get_value_type(result))

    return result(value), generate


@intrinsic
def call(typing: Any, function: Any, arguments: Any, part: Any, parts: Any) -> Any:
    """function(arguments, part, parts): a node of a tape, by its address."""

    def generate(context, builder, signature, values):
        kind = ir.FunctionType(ir.VoidType(), [_WORD] * 3)
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), values[1:])
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4), generate


@intrinsic
def give_way(typing: Any, function: Any) -> Any:
    """Let other threads run: calls the system's function at that address."""

    def generate(context, builder, signature, values):
        kind = ir.FunctionType(ir.IntType(32), [])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), [])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def add(typing: Any, address: Any, value: Any) -> Any:
    """Add to the counter at `address`, which threads share; what was written before it can be read after `fetch`."""

    def generate(context, builder, signature, values):
        place = builder.inttoptr(values[0], _WORD.as_pointer())
        builder.atomic_rmw("add", place, values[1], "seq_cst")
        return context.get_dummy_value()

    return types.void(types.int64, types.int64), generate


@intrinsic
def fetch(typing: Any, address: Any) -> Any:
    """The counter at `address`, which threads share."""

    def generate(context, builder, signature, values):
        return builder.load_atomic(builder.inttoptr(values[0], _WORD.as_pointer()), "seq_cst", WORD)

    return types.int64(types.int64), generate


@intrinsic
def prefetch(typing: Any, address: Any) -> Any:
    """Ask for the cache line at `address`."""

    def generate(context, builder, signature, values):
        line, integer = builder.inttoptr(values[0], ir.IntType(8).as_pointer()), ir.IntType(32)
        kind = ir.FunctionType(ir.VoidType(), [line.type, *[integer] * 3])
        ask = cgutils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
        read, near, data = (ir.Constant(integer, value) for value in (0, 2, 1))
        builder.call(ask, [line, read, near, data])
        return context.get_dummy_value()

    return types.void(types.int64), generate


@intrinsic
def gemm(typing, address, transa, transb, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc):
    """BLAS's own call, column-major: words all, but for alpha and beta, which are of the product's type."""
    real = alpha
    characters, integers, reals = (1, 2), (3, 4, 5, 8, 10, 13), (6, 11)

    def generate(context, builder, signature, values):
        number = context.get_value_type(real)

        def reference(i: int) -> Any:
            if i in reals:
                value = values[i]
            elif i in integers or i in characters:
                value = builder.trunc(values[i], _INT if i in integers else ir.IntType(8))
            else:
                return builder.inttoptr(values[i], number.as_pointer())
            slot = cgutils.alloca_once(builder, value.type)
            builder.store(value, slot)
            return slot

        references = [reference(i) for i in range(1, 14)]
        kind = ir.FunctionType(ir.VoidType(), [r.type for r in references])
        builder.call(builder.inttoptr(values[0], kind.as_pointer()), references)
        return context.get_dummy_value()

    return types.void(*(real if i in reals else types.int64 for i in range(14))), generate


@njit(inline="always")
def word(arguments, i):
    """Word i of a node's arguments."""
    return carray(pointer(arguments + i * WORD, types.int64), 1)[0]


@njit(inline="always")
def store(arguments, i, value):
    """Word i <- value."""
    carray(pointer(arguments + i * WORD, types.int64), 1)[0] = value


@njit(inline="always")
def number(arguments, i, kind):
    """The number whose address is word i."""
    return carray(pointer(word(arguments, i), kind), 1)[0]


@njit(inline="always")
def vector(arguments, i, kind):
    """The array whose address and length are the words from i on."""
    return carray(pointer(word(arguments, i), kind), word(arguments, i + 1))


@njit(inline="always")
def matrix(arguments, i, kind):
    """The array whose address, rows and columns are the words from i on."""
    return carray(pointer(word(arguments, i), kind), (word(arguments, i + 1), word(arguments, i + 2)))


@njit(inline="always")
def share(n, part, parts, unit):
    """First and last + 1 of the part's share of n things, cut at multiples of `unit`."""
    units = (n + unit - 1) // unit
    return min(units * part // parts * unit, n), min(units * (part + 1) // parts * unit, n)


@njit(inline="always")
def wait_for(counter, count, yield_to):
    """Return once the counter has come that far; a thread that waits long may keep the last one from its processor."""
    looks = 0
    while fetch(counter) < count:
        looks += 1
        if looks > PATIENCE:
            give_way(yield_to)


@compiled(types.void(*[types.int64] * 9))
def walk(words, strides, desk, counter, yield_to, length, count, part, threads):
    """One thread's way along the tape, `count` times: of each node the parts part, part + threads and so on."""
    met = 0
    for s in range(count):
        for i in range(length):
            node, stride = words + i * WORDS * WORD, strides + i * WORDS * WORD
            parts = word(node, 1)
            if part < parts:
                for w in range(ARGUMENTS, WORDS):
                    store(desk, w, word(node, w) + s * word(stride, w))
                for p in range(part, parts, threads):
                    call(word(node, 0), desk + ARGUMENTS * WORD, p, parts)
            if threads > 1:
                met += threads
                add(counter, 1)
                wait_for(counter, met, yield_to)
