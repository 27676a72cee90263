"""The CPU: compiled, where there are SciPy and Numba, else as plain NumPy computes."""

from __future__ import annotations

from xpnet.devices.base import Device
from xpnet.devices.plain import Plain


def open_device() -> Device:
    """The fastest CPU device that this installation has."""
    try:
        from xpnet.devices.cpu.device import Cpu
    except ImportError:
        return Plain("cpu")
    return Cpu()
