"""The CPU: compiled, where there are SciPy and Numba, else as plain NumPy computes."""

from __future__ import annotations

import importlib.metadata

from xpnet.devices.base import Device
from xpnet.devices.plain import Plain


def open_device() -> Device:
    """The fastest CPU device that this installation has."""
    try:
        from xpnet.devices.cpu.device import Cpu
    except ImportError:
        return Plain("cpu")
    return Cpu()


def facts() -> dict[str, str]:
    """Versions of what makes it fast, and how many threads it takes."""
    known = {}
    for package in ("scipy", "numba"):
        try:
            known[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            known[package] = "not installed"
    known["threads"] = str(getattr(open_device(), "threads", 1))
    return known
