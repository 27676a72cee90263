"""A GPU at its fastest: products by cuBLASLt, kernels of our own, and runs recorded as CUDA graphs."""

from __future__ import annotations

import contextlib
import ctypes
import inspect
import itertools
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import numpy as np

from xpnet.devices.base import Array, Device
from xpnet.devices.cuda.arrays import CupyArrays
from xpnet.devices.cuda.matmul import Matmuls
from xpnet.devices.cuda.sources import Sources
from xpnet.devices.cuda.twins import TWINS, hidden
from xpnet.devices.cuda.twins.launching import BFLOAT16

WORKSPACE = 2**25
"""Bytes that cuBLASLt may use for a product: what NVIDIA advises for Hopper."""

TIMED_RUNS = 10
"""Of an algorithm that is considered."""

WRITTEN = frozenset({"out", "slope", "w", "m", "v"})
"""Parameters of elementwise references that are written."""

CHAINS = frozenset(
    {"relu", "leaky_relu", "elu", "sigmoid", "tanh", "softplus", "silu", "gelu", "exp"}
    | {f"{name}_update" for name in ("sgd", "momentum", "nesterov", "velocity", "nesterov_velocity")}
    | {f"{name}_update" for name in ("adam", "adamw", "rmsprop", "adagrad")}
)


class Cuda(CupyArrays):
    """One GPU with a stream of its own; every run that is captured becomes a graph.

    Args:
        index: Of the GPU.
        cupy: The module.
        cublaslt: The module nvmath.bindings.cublasLt.
        precision: "fp32", or what products of float32 read of each number's 24 bits: "tf32" (11) or "bf16" (8); sums
            and weights stay float32.
        autotune: What chooses among the algorithms of a product, or None for the library's first.

    Attributes:
        matmuls: The products.
        fused_activations: Activations that ride in the products of float32 layers: those that the library has.
    """

    twins = TWINS
    chains = CHAINS
    block_rows = 8192
    chunk_work = 2**44
    gathered_bytes = 2**30

    def __init__(self, index: int, cupy: Any, cublaslt: Any, *, precision: str = "fp32", autotune: Any = None) -> None:
        super().__init__(index, cupy)
        self.twins, self.precision = type(self).twins, precision
        with self._gpu:
            self._stream, self._copies = cupy.cuda.Stream(), cupy.cuda.Stream(non_blocking=True)
        self._sources = Sources(cupy)
        with self:
            self.matmuls = Matmuls(
                cublaslt,
                workspace=cupy.empty((WORKSPACE,), np.uint8),
                stream=lambda: int(self._stream.ptr),
                precision=precision,
                autotune=autotune,
                timer=self._seconds,
            )
            self.fused_activations = hidden.fused_activations(self.matmuls)

    def __enter__(self) -> Device:
        super().__enter__()
        self._stream.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._stream.__exit__(*raised)
        super().__exit__(*raised)

    def kernel(self, file: str, expression: str) -> Callable[..., None]:
        """A callable (grid, block, args, shared_mem=0) for the kernel of that C++ expression, such as "take<float>"."""
        return self._sources.kernel(file, expression)

    def gemm(self, a: Array, b: Array, *, out: Array, alpha: Any = 1.0, beta: Any = 0.0) -> Array:
        """out <- alpha a b + beta out."""
        self.matmuls(a, b, out=out, alpha=alpha, beta=beta)
        return out

    def operands(self, shape: tuple[int, int], dtype: Any) -> Array:
        """Float32 as it is, or as the bits of bfloat16 in uint16 with padded rows."""
        if self.precision != "bf16" or np.dtype(dtype) != np.float32:
            return self.empty(shape, dtype)
        rows, columns = shape
        return self.zeros((rows, hidden.padded(columns)), BFLOAT16)[:, :columns]

    def fused(self, kernel: Callable[..., Any], traced: Callable[..., Any]) -> Callable[..., Any]:
        """The elementwise reference as one kernel by cupy.fuse, from its own source.

        Values stay in registers until the end: the traced reference works on copies, which then go to their arrays.
        """
        signature, compiled = inspect.signature(kernel), {}

        @wraps(kernel)
        def call(*arguments: Any, **options: Any) -> None:
            given = signature.bind(None, *arguments, **options).arguments
            arrays = {name: value for name, value in given.items() if isinstance(value, self.xp.ndarray)}
            fixed = {name: value for name, value in given.items() if name not in arrays and name != "k"}
            key = tuple(arrays), tuple(sorted(fixed.items()))
            if key not in compiled:
                compiled[key] = self.xp.fuse(kernel_name=kernel.__name__)(
                    in_registers(traced, signature, arrays, fixed)
                )
            compiled[key](*arrays.values())

        return call

    def channel(self, out: Array) -> Callable[[Any], None]:
        """out[:len(host)] <- host through page-locked memory, beside what the device is doing."""
        return Channel(self, self._stream, self._copies, out).send

    def receipt(self, array: Array) -> Callable[[], Any]:
        """A copy in page-locked memory, on its way behind all that was asked for."""
        cuda = self.xp.cuda
        with self:
            host = page_locked(cuda, array.shape, array.dtype)
            array.data.copy_to_host_async(address(host), array.nbytes, self._stream)
            arrived = self._stream.record(cuda.Event(disable_timing=True))

        def wait() -> Any:
            arrived.synchronize()
            return host.copy()

        return wait

    def run(self, step: Callable[[int], None], count: int) -> None:
        """Kernel by kernel: recording costs more than it saves where a run is not repeated."""
        with self:
            super().run(step, count)

    def capture(self, run: Callable[[int], None], count: int = 1, *, state: Sequence[Array] = ()) -> Callable[[], None]:
        """A CUDA graph of all runs.

        The first of them runs before, for plans, kernels and scratch memory; `state` is then as it was. No other
        thread may work on this device meanwhile.
        """
        pool = self.xp.cuda.MemoryPool()  # what the runs need in passing stays the graph's as long as it is there
        with self:
            saved = [array.copy() for array in state]
            with self.xp.cuda.using_allocator(pool.malloc):
                run(0)
            for array, before in zip(state, saved, strict=True):
                self.xp.copyto(array, before)
            with self.xp.cuda.using_allocator(pool.malloc):
                graph = self._recorded(run, count)
            graph.upload(self._stream)

        def replay(pool: Any = pool) -> None:
            with self:
                graph.launch(self._stream)

        return replay

    def _recorded(self, run: Callable[[int], None], count: int) -> Any:
        self._stream.begin_capture()
        try:
            for i in range(count):
                run(i)
        except BaseException:
            with contextlib.suppress(Exception):  # the stream's own complaint about what broke off
                self._stream.end_capture()
            raise
        return self._stream.end_capture()

    def _seconds(self, run: Callable[[], None]) -> float:
        """The least time of a run's work on the device."""
        cuda, times = self.xp.cuda, []
        run()
        for _ in range(TIMED_RUNS):
            start, end = cuda.Event(), cuda.Event()
            self._stream.record(start)
            run()
            self._stream.record(end)
            end.synchronize()
            times.append(cuda.get_elapsed_time(start, end) / 1e3)
        return float(min(times))


class EagerCuda(Cuda):
    """The same kernel by kernel, no run recorded."""

    def capture(self, run: Callable[[int], None], count: int = 1, *, state: Sequence[Array] = ()) -> Callable[[], None]:
        """The runs themselves."""

        def replay() -> None:
            self.run(run, count)

        return replay


class Channel:
    """From host memory to one array of a device: to page-locked memory, on a stream of its own beside it, and over.

    What the device was told before still reads the array as it was. The host waits only for what it sent the time
    before last.
    """

    def __init__(self, device: Device, stream: Any, copies: Any, out: Array) -> None:
        self._device, self._stream, self._copies, self._out = device, stream, copies, out
        cuda = device.xp.cuda
        with device:
            self._beside = device.empty(out.shape, out.dtype)
            self._taken = stream.record(cuda.Event(disable_timing=True))  # whoever had that memory before is done
            self._turns = itertools.cycle(
                (page_locked(cuda, out.shape, out.dtype), cuda.Event(disable_timing=True)) for _ in range(2)
            )

    def send(self, host: Any) -> None:
        """out[:len(host)] <- host."""
        n, (locked, arrived) = len(host), next(self._turns)
        arrived.synchronize()
        with np.errstate(over="ignore"):
            np.copyto(locked[:n], host, casting="same_kind")
        with self._device:
            part = self._beside[:n]
            self._copies.wait_event(self._taken)
            part.data.copy_from_host_async(address(locked), part.nbytes, self._copies)
            self._copies.record(arrived)
            self._stream.wait_event(arrived)
            self._device.xp.copyto(self._out[:n], part)
            self._stream.record(self._taken)


def page_locked(cuda: Any, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """A NumPy array from which, and to which, a GPU copies without the processor."""
    size = int(np.prod(shape))
    memory = cuda.alloc_pinned_memory(max(1, size * np.dtype(dtype).itemsize))
    return np.frombuffer(memory, dtype, size).reshape(shape)


def address(host: np.ndarray) -> ctypes.c_void_p:
    """Where it lies, as CuPy wants to be told."""
    return ctypes.c_void_p(host.ctypes.data)


def in_registers(
    traced: Callable[..., Any], signature: inspect.Signature, arrays: dict[str, Array], fixed: dict[str, Any]
) -> Callable[..., None]:
    """A function of the arrays alone that does what `traced` does, and writes each array once, at the end."""
    names = tuple(arrays)

    def chain(*values: Any) -> None:
        given = dict(zip(names, values, strict=True))
        own = {name: value.copy() if name in WRITTEN else value for name, value in given.items()}
        call = signature.bind_partial(None)
        call.arguments.update(own | fixed)
        traced(*call.args[1:], **call.kwargs)
        for name in names:
            if name in WRITTEN:
                given[name][...] = own[name]

    return chain
