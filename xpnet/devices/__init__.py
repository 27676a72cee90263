"""Devices: where arrays live and what is fast there. CuPy is imported in this folder alone."""

from __future__ import annotations

import re
import sys
from typing import Any

import numpy as np

from xpnet.devices import cpu
from xpnet.devices.base import Array, Device
from xpnet.devices.cuda.matmul import PRECISIONS
from xpnet.devices.plain import Plain
from xpnet.errors import DeviceError, one_of

__all__ = ["Array", "Device", "Plain", "cost_of_determinism", "device", "device_of", "facts", "names", "why_no_cuda"]


def device(
    name: str | Device = "auto",
    *,
    precision: str = "fp32",
    eager: bool = False,
    autotune: str | None = None,
    deterministic: bool = False,
) -> Device:
    """The device of that name, opened once and then passed down.

    Args:
        name: "cpu", "numpy" (the CPU by the reference kernels alone), "cuda" (the first GPU), "cuda:1" and so on, or
            "auto": a GPU when one works, else the CPU.
        precision: What products of float32 read, on a GPU: "fp32" (24 bits of each number), "tf32" (11) or "bf16" (8;
            activations are kept so too); sums and weights are float32 always.
        eager: On a GPU, launch kernel by kernel instead of recording graphs; the results are the same.
        autotune: On a GPU, a JSON file: which algorithm each product takes; those that it lacks are timed and added.
            None for the library's first choice, which depends on no timing.
        deterministic: Only what computes the same bits in every run on a machine: see `cost_of_determinism`.

    Raises:
        DeviceError: The name is unknown, or that GPU cannot be used; the message says what is missing. Or both
            `autotune` and `deterministic` are given.
    """
    if isinstance(name, Device):
        return name
    one_of("precision", precision, PRECISIONS)
    options: dict[str, Any] = {"precision": precision, "eager": eager, "autotune": autotune}
    if deterministic and autotune is not None:
        raise DeviceError(
            "autotune: got it with deterministic, expected one of the two, for what is fastest today may compute other "
            "bits than what was yesterday; leave one out."
        )
    if name == "auto":
        try:
            return _open_cuda(0, deterministic=deterministic, **options)
        except DeviceError as error:
            _refuse_options("cpu", f"no GPU can be used: {error}", **options)
            return cpu.open_device()
    match = re.fullmatch(r"cuda(?::(\d+))?", name)
    if match:
        return _open_cuda(int(match[1] or 0), deterministic=deterministic, **options)
    if name not in ("cpu", "numpy"):
        raise DeviceError(f'device: got "{name}", expected "auto", "cpu", "numpy", "cuda" or "cuda:N" with a number N.')
    _refuse_options(name, "use a GPU, or leave it out.", **options)
    return Plain() if name == "numpy" else cpu.open_device()


def _refuse_options(name: str, remedy: str, *, precision: str, eager: bool, autotune: str | None) -> None:
    """Raise DeviceError for what only a GPU has."""
    if precision != "fp32":
        raise DeviceError(f'precision: got "{precision}" on the device {name}, which has "fp32" alone; {remedy}')
    if eager:
        raise DeviceError(f"eager: got it on the device {name}, expected a GPU, which records graphs; {remedy}")
    if autotune is not None:
        raise DeviceError(f"autotune: got it on the device {name}, whose products have one algorithm each; {remedy}")


def cost_of_determinism(device: Device) -> str:
    """What `deterministic` gives up on a device, for people to read.

    Everywhere sums have an order of their own, whatever threads or blocks come first. On a GPU, NVIDIA promises the
    same bits in every run on one stream with a workspace of the caller's (cuBLAS, "Results reproducibility"), on GPUs
    of one kind with one version of the library; algorithms that add up in place are never asked for.
    """
    if device.xp is np:
        return "nothing: on a CPU runs with as many threads compute the same bits anyway"
    return "algorithms chosen by their time (autotune); all others compute the same bits in every run anyway"


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
        from xpnet.devices import cuda

        return cuda.arrays_of(cupy, array.device.id)
    return Plain()


def _open_cuda(index: int, **options: Any) -> Device:
    from xpnet.devices import cuda

    return cuda.open_device(index, **options)


def names() -> list[str]:
    """The devices that this machine may have: the CPU's, and each GPU that CUDA tells of, at least the first."""
    from xpnet.devices import cuda

    return ["numpy", "cpu", *(f"cuda:{i}" for i in range(max(1, cuda.count())))]


def facts(name: str) -> dict[str, str]:
    """Versions and sizes behind a device, usable or not; "not installed" or "not found" where there is none."""
    if name.startswith("cuda"):
        from xpnet.devices import cuda

        return cuda.facts(int(name.partition(":")[2] or 0))
    return cpu.facts() if name == "cpu" else {"NumPy": np.__version__}
