"""NVIDIA GPUs through CuPy. CuPy is imported when such a device is asked for, and nowhere else."""

from __future__ import annotations

import importlib
import importlib.util
from typing import Any

import numpy as np

from xpnet.devices.base import Array, Device
from xpnet.errors import DeviceError

# cudaError_t, from the CUDA runtime's driver_types.h
INSUFFICIENT_DRIVER, NO_DEVICE = 35, 100


class Cuda(Device):
    """One GPU, its kernels run by CuPy on the current stream; the current device of the thread that opens it."""

    def __init__(self, index: int, cupy: Any) -> None:
        super().__init__(f"cuda:{index}", cupy)
        self.index = index
        cupy.cuda.Device(index).use()

    @property
    def description(self) -> str:
        """The model of the GPU and its memory."""
        properties = self.xp.cuda.runtime.getDeviceProperties(self.index)
        return f"{self.name} ({properties['name'].decode()}, {properties['totalGlobalMem'] / 2**30:.0f} GiB)"

    def to_host(self, array: Array) -> Any:
        """A NumPy copy of `array`; waits for the stream."""
        return self.xp.asnumpy(array)

    def upload(self, host: Any, *, out: Array) -> None:
        """out <- host."""
        out.set(np.asarray(host, dtype=out.dtype, order="C"))

    def synchronize(self) -> None:
        """Wait for the current stream."""
        self.xp.cuda.get_current_stream().synchronize()


def open_device(index: int) -> Cuda:
    """The GPU of that index, proved by a small computation.

    Raises:
        DeviceError: CuPy is not installed, cannot be loaded, finds no driver, no device, or no such index.
    """
    cupy = _import_cupy()
    count = _device_count(cupy)
    if index >= count:
        known = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise DeviceError(f"cuda:{index} does not exist: this machine has {known}; choose one of these.")
    device = Cuda(index, cupy)
    try:
        device.to_host(cupy.ones(2) + 1)
    except Exception as error:  # whatever a broken installation raises, the user needs its reason
        raise DeviceError(
            f"cuda:{index} is there but CuPy {cupy.__version__} cannot compute on it ({_first_line(error)}); "
            "reinstall xpnet with the extra for your driver (cuda12 or cuda13), or use the device cpu."
        ) from error
    return device


def _import_cupy() -> Any:
    if importlib.util.find_spec("cupy") is None:
        raise DeviceError(
            "CuPy is not installed, and cuda needs it: pip install 'xpnet[cuda12]' "
            "('xpnet[cuda13]' for drivers of CUDA 13), or use the device cpu."
        )
    try:
        return importlib.import_module("cupy")
    except Exception as error:  # a half-installed CuPy raises more than ImportError
        raise DeviceError(
            f"CuPy is installed but cannot be imported ({_first_line(error)}); "
            "reinstall it by pip install --force-reinstall 'xpnet[cuda12]', or use the device cpu."
        ) from error


def _device_count(cupy: Any) -> int:
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except cupy.cuda.runtime.CUDARuntimeError as error:
        if error.status == INSUFFICIENT_DRIVER:
            raise DeviceError(
                f"There is no NVIDIA driver that CuPy {cupy.__version__} can use: "
                "install or update the driver, or use the device cpu."
            ) from error
        if error.status != NO_DEVICE:
            raise DeviceError(f"CUDA does not start ({_first_line(error)}); use the device cpu.") from error
        count = 0
    if count == 0:
        raise DeviceError(
            "The NVIDIA driver shows no device: check CUDA_VISIBLE_DEVICES and the card, or use the device cpu."
        )
    return int(count)


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
