"""As much of CuPy as the CUDA device uses, on a machine without a GPU; work is late, as on a real one.

What is launched on a stream waits there, until somebody waits for the stream or for an event behind it: a copy that is
overwritten too early, a result that is read too early or a stream that should have waited gives other numbers. Kernels
are the device's own sources, compiled for the processor. While a stream is captured, it keeps CUDA's rules.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.machinery
import sys
import types
from collections.abc import Callable
from typing import Any

import numpy as np
from emulated import DeviceArray, Tape, launch, launched_by, launches, now, raw, refuse_while_capturing, settle, waits
from gpu.fake_cublaslt import FakeCublasLt
from gpu.host_kernels import HostModule

from xpnet.devices import cuda
from xpnet.devices.cuda.device import WORKSPACE, Cuda, EagerCuda

MEMORY = 2**34
UNIT = 512
"""Bytes: allocations are multiples of this, and aligned to it."""


class Pointer:
    """Where an array lies."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.ptr = array.__array_interface__["data"][0]

    def copy_from_host_async(self, host: ctypes.c_void_p, size: int, stream: Stream) -> None:
        refuse_while_capturing("an upload")
        stream.put(_copy, (self.ptr, host.value, size), {})

    def copy_to_host_async(self, host: ctypes.c_void_p, size: int, stream: Stream) -> None:
        refuse_while_capturing("a read")
        stream.put(_copy, (host.value, self.ptr, size), {})


class Array(DeviceArray):
    """An array of the fake GPU."""

    @property
    def data(self) -> Pointer:
        return Pointer(self)

    def set(self, host: np.ndarray) -> None:
        settle("an upload")
        np.copyto(raw(self), host)


def _nothing() -> None:
    """Work that is done, whose arrays are let go."""


def _copy(to: int, source: int, size: int) -> None:
    _bytes(to, size)[...] = _bytes(source, size)


def _bytes(address: int, size: int) -> np.ndarray:
    interface = {"shape": (size,), "typestr": "|u1", "data": (address, False), "version": 3}
    return np.asarray(types.SimpleNamespace(__array_interface__=interface))


class CudaRuntimeError(RuntimeError):
    """What the CUDA runtime raises."""

    def __init__(self, status: int) -> None:
        super().__init__(f"cudaError {status}")
        self.status = status


class Event:
    """A place in a stream's work."""

    def __init__(self, disable_timing: bool = False) -> None:
        self.stream: Stream | None = None
        self.place = 0

    def synchronize(self) -> None:
        if self.stream is not None and self.place > self.stream.done:
            self.stream.gpu.waits += 1
            self.stream.run_until(self.place)


class Stream:
    """Work that is done when somebody waits for it; or as soon as it may, on a hasty GPU's stream beside the others."""

    def __init__(self, gpu: FakeCupy, non_blocking: bool = False) -> None:
        self.gpu, self.ptr = gpu, 1 + len(gpu.streams)
        self.hasty = gpu.hasty and non_blocking
        self.work: list[Callable[[], None]] = []
        self.done = 0
        gpu.streams.append(self)

    def __enter__(self) -> Stream:
        launches.append(self.put)
        self.gpu.current.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        launches.pop()
        self.gpu.current.pop()

    def put(self, function: Callable[..., Any], args: Any, kwargs: Any) -> None:
        self.work.append(lambda: now(function, args, kwargs))
        if self.hasty:
            self.run_until(len(self.work))

    def run_until(self, place: int) -> None:
        with np.errstate(all="ignore"), launched_by(now):
            while self.done < place:
                step, self.work[self.done] = self.work[self.done], _nothing
                self.done += 1
                step()

    def synchronize(self) -> None:
        refuse_while_capturing("waiting for a stream")
        self.gpu.waits += 1
        self.run_until(len(self.work))

    def record(self, event: Event) -> Event:
        event.stream, event.place = self, len(self.work)
        return event

    def wait_event(self, event: Event) -> None:
        stream, place = event.stream, event.place
        if stream is not None:
            self.work.append(lambda: stream.run_until(place))

    def begin_capture(self) -> None:
        launches.append(Tape())

    def end_capture(self) -> Graph:
        tape = launches.pop()
        assert isinstance(tape, Tape), "nothing was being captured"
        self.gpu.nodes.append(len(tape))
        return Graph(tape)


class Graph:
    """What was captured."""

    def __init__(self, tape: Tape) -> None:
        self._tape = tape

    def upload(self, stream: Stream) -> None:
        pass

    def launch(self, stream: Stream) -> None:
        stream.work.append(self._tape.replay)


class RawModule:
    """The device's sources, compiled for the processor."""

    def __init__(self, code: str, options: tuple[str, ...], name_expressions: tuple[str, ...]) -> None:
        assert "-std=c++17" in options
        self._module = HostModule(code, name_expressions)

    def get_function(self, expression: str) -> Callable[..., None]:
        function = self._module.get_function(expression)

        def call(grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], shared_mem: int = 0) -> None:
            launch(lambda *values: function(grid, block, values, shared_mem=shared_mem), args, {}, None)

        return call


class Pool:
    """A pool that keeps nothing: what nobody holds is free at once. All memory is the default pool's."""

    malloc = None

    def __init__(self, gpu: FakeCupy | None = None) -> None:
        self._gpu = gpu

    def used_bytes(self) -> int:
        return 0 if self._gpu is None else self._gpu.memory - self._gpu.free

    def free_bytes(self) -> int:
        return 0

    def total_bytes(self) -> int:
        return self.used_bytes()

    def free_all_blocks(self) -> None:
        pass


class FakeCupy(types.ModuleType):
    """The module, with so much memory beside cuBLASLt's workspace.

    `nodes` has the launches of each captured graph, `waits` says how often the host waited.
    """

    ndarray = Array
    RawModule = RawModule
    __version__ = "14.0"

    def __init__(self, memory: int = MEMORY, *, hasty: bool = False) -> None:
        super().__init__("cupy")
        self.hasty = hasty
        self.memory = WORKSPACE + memory
        self.streams: list[Stream] = []
        self.current = [Stream(self)]
        self.nodes: list[int] = []
        self.blocks: list[np.ndarray] = []  # memory goes back when the work that may use it is done, as CuPy's does
        self.waits = 0
        waits.append(self._finish)
        gpu = self

        class Device:
            def __init__(self, index: int) -> None:
                self.id = index

            def __enter__(self) -> Device:
                return self

            def __exit__(self, *_: object) -> None:
                pass

        properties = {"name": b"a processor that plays a GPU", "totalGlobalMem": memory}
        self.cuda = types.SimpleNamespace(
            Device=Device,
            Stream=lambda non_blocking=False: Stream(gpu, non_blocking),
            Event=Event,
            get_elapsed_time=lambda start, end: float(end.place - start.place),
            MemoryPool=Pool,
            using_allocator=lambda malloc: contextlib.nullcontext(),
            alloc_pinned_memory=lambda size: np.full(size, 0xFF, np.uint8).data,
            get_current_stream=lambda: self.current[-1],
            runtime=types.SimpleNamespace(
                CUDARuntimeError=CudaRuntimeError,
                getDeviceCount=lambda: 1,
                memGetInfo=lambda: (self.free, self.memory),
                getDeviceProperties=lambda index: properties,
                driverGetVersion=lambda: 13000,
                runtimeGetVersion=lambda: 13000,
            ),
        )

    @property
    def free(self) -> int:
        """Bytes, by units as CuPy's pool takes them."""
        self._finish()
        return self.memory - sum(len(block) - UNIT for block in self.blocks)

    def _finish(self) -> None:
        for stream in self.streams:
            stream.run_until(len(stream.work))
        self._give_back()

    def get_default_memory_pool(self) -> Pool:
        return Pool(self)

    def empty(self, shape: Any, dtype: Any) -> Array:
        array = self.zeros(shape, dtype)
        raw(array).view(np.uint8)[...] = 0xFF  # NaN, so that nobody counts on zeros
        return array

    def zeros(self, shape: Any, dtype: Any) -> Array:
        refuse_while_capturing("an allocation")
        shape = tuple(np.atleast_1d(shape).tolist()) if not isinstance(shape, tuple) else shape
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        if size > self.free:
            raise MemoryError(f"out of memory: {size} bytes were asked for, {self.free} are free")
        block = np.zeros(-(-size // UNIT) * UNIT + UNIT, np.uint8)
        self.blocks.append(block)
        start = -block.ctypes.data % UNIT
        return block[start : start + size].view(dtype).reshape(shape).view(Array)

    def asarray(self, array: Any, dtype: Any = None, order: str = "C") -> Array:
        refuse_while_capturing("an upload")
        if isinstance(array, Array) and dtype in (None, array.dtype):
            return array
        host = np.asarray(array, dtype)
        there = self.zeros(host.shape, host.dtype)
        raw(there)[...] = host
        return there

    def asnumpy(self, array: Array) -> np.ndarray:
        refuse_while_capturing("a read")
        self.waits += 1
        self.current[-1].run_until(len(self.current[-1].work))
        host = np.array(raw(array))
        if all(stream.done == len(stream.work) for stream in self.streams):
            self._give_back()
        return host

    def _give_back(self) -> None:
        """Let go of the memory that nobody holds, for no work is under way."""
        only_here = 3  # the list, the loop, and the question
        self.blocks = [block for block in self.blocks if sys.getrefcount(block) > only_here]

    def fuse(self, kernel_name: str) -> Callable[..., Any]:
        def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
            return lambda *arrays: launch(function, arrays, {}, None)

        return decorate

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)


def fake_cublaslt() -> FakeCublasLt:
    """nvmath.bindings.cublasLt, its products launched on the fake's streams."""
    return FakeCublasLt(launch=lambda function, args: launch(function, args, {}, None))


def fake_gpu(
    *,
    precision: str = "fp32",
    eager: bool = False,
    memory: int = MEMORY,
    hasty: bool = False,
    autotune: Any = None,
) -> Cuda:
    """The real CUDA device on the fakes."""
    make = EagerCuda if eager else Cuda
    return make(0, FakeCupy(memory, hasty=hasty), fake_cublaslt(), precision=precision, autotune=autotune)


def install(monkeypatch: Any, memory: int = MEMORY) -> None:
    """As if CuPy, nvmath-python, cuBLASLt and the driver were there."""
    monkeypatch.setattr(cuda, "_driver_is_there", lambda: True)
    modules = {"nvmath": types.ModuleType("nvmath"), "nvmath.bindings": types.ModuleType("nvmath.bindings")}
    gpu = FakeCupy(memory)
    gpu.__spec__ = importlib.machinery.ModuleSpec("cupy", None)
    for name, module in (modules | {"cupy": gpu, "nvmath.bindings.cublasLt": fake_cublaslt()}).items():
        monkeypatch.setitem(sys.modules, name, module)
