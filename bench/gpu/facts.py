"""What is there: the GPU, the versions, and the epilogues that cuBLASLt has for each precision."""

from __future__ import annotations

import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import numpy as np

from bench.gpu.notes import NoGpuError, Notes

PACKAGES = (
    "numpy",
    "torch",
    "triton",
    "nvmath-python",
    "nvidia-cublas",
    "nvidia-cublas-cu12",
    "pytest",
    "scipy",
    "numba",
)

DRIVER = Path("/proc/driver/nvidia/version")


def run(notes: Notes) -> None:
    """All of it, the sentence first where there is no GPU."""
    from xpnet.devices import cuda, why_no_cuda
    from xpnet.devices import facts as device_facts

    notes.found["python"] = platform.python_version()
    notes.found["platform"] = platform.platform()
    notes.found["packages"] = {name: _version(name) for name in PACKAGES}
    notes.found["device"] = device_facts("cuda:0")
    if DRIVER.exists():
        notes.found["driver"] = DRIVER.read_text(encoding="utf-8").splitlines()[0]
    notes.save()
    reason = why_no_cuda()
    if reason is not None and cuda.count() == 0:
        raise NoGpuError(reason)
    _properties(notes)
    notes.save()
    if reason is not None:
        notes.found["eager_only"] = eager_only()
        notes.wrong.append(reason)
        return
    for precision in ("fp32", "tf32", "bf16"):
        notes.found.setdefault("epilogues", {})[precision] = epilogues(precision)
        notes.save()


def eager_only() -> str | None:
    """Why xpnet can work on a GPU only kernel by kernel here, or None."""
    from xpnet.devices.cuda import _import_cublaslt
    from xpnet.errors import DeviceError

    try:
        _import_cublaslt()
    except DeviceError as error:
        return str(error)
    return None


def _properties(notes: Notes) -> None:
    import cupy

    properties = cupy.cuda.runtime.getDeviceProperties(0)
    notes.found["gpu"] = properties["name"].decode()
    notes.found["properties"] = {
        key: properties[key]
        for key in (
            "multiProcessorCount",
            "l2CacheSize",
            "totalGlobalMem",
            "clockRate",
            "memoryClockRate",
            "major",
            "minor",
        )
        if key in properties
    }


def epilogues(precision: str) -> dict[str, str]:
    """Whether cuBLASLt has an algorithm, by "epilogue, types of inputs and output (and of the bias)"."""
    import xpnet
    from xpnet.devices.cuda.product import EPILOGUES

    matmuls = xpnet.device("cuda", precision=precision).matmuls
    answers = {}
    for epilogue, meaning in EPILOGUES.items():
        for inputs, out, bias in _types(precision, meaning.bias):
            name = f"{epilogue or 'plain'}, {NAMES[inputs]} to {NAMES[out]}" + (f", bias {NAMES[bias]}" if bias else "")
            answers[name] = _supported(matmuls, inputs, epilogue, out, bias)
    return answers


NAMES = {np.float32: "float32", np.uint16: "bfloat16"}


def _types(precision: str, bias: bool) -> list[tuple[Any, Any, Any]]:
    if precision != "bf16":
        return [(np.float32, np.float32, np.float32 if bias else None)]
    outs = (np.uint16, np.float32)
    return [(np.uint16, out, kind) for out in outs for kind in (dict.fromkeys((out, np.float32)) if bias else (None,))]


def _supported(matmuls: Any, inputs: Any, epilogue: str | None, out: Any, bias: Any) -> str:
    try:
        return "yes" if matmuls.supports(inputs, epilogue, out_dtype=out, bias_dtype=bias) else "no"
    except Exception as error:  # whatever the library says is a finding
        return f"{type(error).__name__}: {error}"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return "not installed"
