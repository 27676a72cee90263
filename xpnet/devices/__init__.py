"""Devices: where arrays live and what is fast there. CuPy is imported in this folder alone."""

from __future__ import annotations

import re
import sys
from typing import Any

from xpnet.devices import cpu
from xpnet.devices.base import Array, Device
from xpnet.devices.plain import Plain
from xpnet.errors import DeviceError

__all__ = ["Array", "Device", "Plain", "device", "device_of", "why_no_cuda"]


def device(name: str | Device = "auto") -> Device:
    """The device of that name, opened once and then passed down.

    Args:
        name: "cpu", "numpy" (the CPU by the reference kernels alone), "cuda" (the first GPU), "cuda:1" and so on, or
            "auto": a GPU when one works, else the CPU.

    Raises:
        DeviceError: The name is unknown, or that GPU cannot be used; the message says what is missing.
    """
    if isinstance(name, Device):
        return name
    if name == "cpu":
        return cpu.open_device()
    if name == "numpy":
        return Plain()
    if name == "auto":
        try:
            return _open_cuda(0)
        except DeviceError:
            return cpu.open_device()
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if not match:
        raise DeviceError(f'device: got "{name}", expected "auto", "cpu", "numpy", "cuda" or "cuda:N" with a number N.')
    return _open_cuda(int(match[1] or 0))


def why_no_cuda() -> str | None:
    """The sentence that says why "auto" takes the CPU, or None where it takes a GPU."""
    try:
        _open_cuda(0)
    except DeviceError as error:
        return str(error)
    return None


def device_of(array: Any) -> Device:
    """The device of the reference kernels for `array`; looks at CuPy only if somebody has imported it."""
    cupy = sys.modules.get("cupy")
    if cupy is not None and isinstance(array, cupy.ndarray):
        from xpnet.devices.cuda import Cuda

        return Cuda(array.device.id, cupy)
    return Plain()


def _open_cuda(index: int) -> Device:
    from xpnet.devices import cuda

    return cuda.open_device(index)
