"""A GPU through CuPy alone, kernel by kernel: every kernel is its reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.devices.base import Array, Device


class CupyArrays(Device):
    """CuPy's own loops and products, on the stream that is current."""

    def __init__(self, index: int, cupy: Any) -> None:
        super().__init__(f"cuda:{index}", cupy)
        self.index = index
        self._gpu = cupy.cuda.Device(index)

    def __enter__(self) -> Device:
        self._gpu.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._gpu.__exit__()

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

    def to_host(self, array: Array) -> Any:
        """A NumPy copy of `array`; waits for the stream."""
        with self:
            return self.xp.asnumpy(array)

    def upload(self, host: Any, *, out: Array) -> None:
        """out <- host."""
        with self, np.errstate(over="ignore"):  # infinity is found in the results
            out.set(np.asarray(host, dtype=out.dtype, order="C"))

    def synchronize(self) -> None:
        """Wait for the stream."""
        with self:
            self.xp.cuda.get_current_stream().synchronize()
