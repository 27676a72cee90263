"""A GPU through CuPy alone, kernel by kernel: every kernel is its reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.devices.base import Array, Device

MEMORY_ALLOCATION = 2
"""cudaError_t, from the CUDA runtime's driver_types.h."""

PART = 2**28
"""Bytes that are uploaded at a time."""


class CupyArrays(Device):
    """CuPy's own loops and products, on the stream that is current."""

    def __init__(self, index: int, cupy: Any) -> None:
        super().__init__(f"cuda:{index}", cupy)
        self.index = index
        self._gpu = cupy.cuda.Device(index)

    def __enter__(self) -> Device:
        self._gpu.__enter__()
        return self

    def __exit__(self, *raised: Any) -> None:
        self._gpu.__exit__(*raised)
        error = raised[1] if raised else None
        if isinstance(error, self.xp.cuda.runtime.CUDARuntimeError) and error.status == MEMORY_ALLOCATION:
            raise MemoryError(str(error)) from error  # as CuPy's own pool says it

    @property
    def description(self) -> str:
        """The model of the GPU and its memory."""
        properties = self.xp.cuda.runtime.getDeviceProperties(self.index)
        return f"{self.name} ({properties['name'].decode()}, {properties['totalGlobalMem'] / 2**30:.0f} GiB)"

    @property
    def free_memory(self) -> int | None:
        """Bytes that the driver has and those that CuPy's pool keeps unused."""
        with self:
            free, _ = self.xp.cuda.runtime.memGetInfo()
            return int(free + self.xp.get_default_memory_pool().free_bytes())

    def asarray(self, array: Any, dtype: Any = None) -> Array:
        """`array` on this device; from the host part by part, for CuPy page-locks as much memory as comes at once."""
        if isinstance(array, self.xp.ndarray) or np.ndim(array) == 0:
            return super().asarray(array, dtype)
        host = np.asarray(array)
        there = self.empty(host.shape, host.dtype.newbyteorder("=") if dtype is None else dtype)
        step = max(1, PART * len(host) // max(1, host.nbytes))
        for start in range(0, len(host), step):
            self.upload(host[start : start + step], out=there[start : start + step])
        return there

    def to_host(self, array: Array) -> Any:
        """A NumPy copy of `array`; waits for the stream."""
        with self:
            return self.xp.asnumpy(array)

    def upload(self, host: Any, *, out: Array) -> None:
        """out <- host; waits for the stream."""
        with self, np.errstate(over="ignore"):  # infinity is found in the results
            out.set(np.asarray(host, dtype=out.dtype, order="C"))
            self.synchronize()  # the converted copy may be on its way

    def synchronize(self) -> None:
        """Wait for the stream."""
        with self:
            self.xp.cuda.get_current_stream().synchronize()
