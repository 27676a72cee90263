"""NVIDIA GPUs: arrays by CuPy, products by cuBLASLt, kernels in `kernels/`; imported when a GPU is asked for."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import sys
from typing import Any

from xpnet.devices.base import Device
from xpnet.errors import DeviceError

# cudaError_t, from the CUDA runtime's driver_types.h
INSUFFICIENT_DRIVER, NO_DEVICE = 35, 100

PACKAGES = {"CuPy": ("cupy-cuda13x", "cupy-cuda12x", "cupy"), "nvmath": ("nvmath-python",)}
"""By the names of what they bring, the packages that may have brought it."""


def open_device(
    index: int,
    *,
    precision: str = "fp32",
    eager: bool = False,
    autotune: str | None = None,
    deterministic: bool = False,
) -> Device:
    """The GPU of that index, proved by a small computation; see `xpnet.device` for the options.

    Raises:
        DeviceError: CuPy is not installed, cannot be loaded, finds no driver, no device, or no such index; or cuBLASLt
            cannot be used, without which there is only the plain eager device of float32 and float64.
    """
    cupy = _import_cupy()
    count = _device_count(cupy)
    if index >= count:
        known = "cuda:0" if count == 1 else f"cuda:0 to cuda:{count - 1}"
        raise DeviceError(f"cuda:{index} does not exist: this machine has {known}; choose one of these.")
    _prove(cupy, index)
    try:
        cublaslt = _import_cublaslt()
    except DeviceError:
        simple = eager and precision == "fp32" and autotune is None and not deterministic
        if simple:  # CuPy's own products do, where nothing is recorded and nobody relies on their bits
            return arrays_of(cupy, index)
        raise

    from xpnet.devices.cuda.device import Cuda, EagerCuda
    from xpnet.devices.cuda.tuning import Autotuner, TableFile

    make = EagerCuda if eager else Cuda
    tuner = None if autotune is None else Autotuner(TableFile(autotune))
    return make(index, cupy, cublaslt, precision=precision, autotune=tuner)


def arrays_of(cupy: Any, index: int) -> Device:
    """The GPU of that index through CuPy alone: for arrays that somebody else made, on whatever stream is current."""
    from xpnet.devices.cuda.arrays import CupyArrays

    return CupyArrays(index, cupy)


def count() -> int:
    """How many GPUs there are, none where CUDA cannot say."""
    try:
        return _device_count(_import_cupy())
    except DeviceError:
        return 0


def facts(index: int) -> dict[str, str]:
    """Versions of CuPy, CUDA, nvmath-python and cuBLASLt, and the memory of that GPU."""
    known = {name: _version_of(*packages) for name, packages in PACKAGES.items()}
    try:
        cupy = _import_cupy()
    except DeviceError:
        return known
    known["CUDA driver"] = _cuda_version(cupy.cuda.runtime.driverGetVersion)
    known["CUDA runtime"] = _cuda_version(cupy.cuda.runtime.runtimeGetVersion)
    try:
        known["cuBLASLt"] = str(_import_cublaslt().get_version())
    except DeviceError:
        known["cuBLASLt"] = "not found"
    if index < count():
        free, total = _memory(cupy, index)
        known["memory"] = f"{free / 2**30:.1f} GiB free of {total / 2**30:.1f}"
    return known


def _version_of(*packages: str) -> str:
    for package in packages:
        try:
            return f"{importlib.metadata.version(package)} ({package})"
        except importlib.metadata.PackageNotFoundError:
            continue
    return "not installed"


def _cuda_version(get: Any) -> str:
    try:
        version = int(get())
    except Exception:  # without a driver even the question fails, in several ways
        version = 0
    return f"{version // 1000}.{version % 1000 // 10}" if version else "not found"


def _memory(cupy: Any, index: int) -> tuple[int, int]:
    with cupy.cuda.Device(index):
        free, total = cupy.cuda.runtime.memGetInfo()
        return int(free), int(total)


def _prove(cupy: Any, index: int) -> None:
    try:
        arrays = arrays_of(cupy, index)
        with arrays:
            arrays.to_host(cupy.ones(2) + 1)
    except Exception as error:  # whatever a broken installation raises, the user needs its reason
        raise DeviceError(
            f"cuda:{index} is there but CuPy {cupy.__version__} cannot compute on it ({_first_line(error)}); "
            "reinstall xpnet with the extra for your driver (cuda12 or cuda13), or use the device cpu."
        ) from error


def _import_cublaslt() -> Any:
    """The bindings of cuBLASLt, with the library itself loaded."""
    try:
        cublaslt = importlib.import_module("nvmath.bindings.cublasLt")
    except ImportError as error:
        raise DeviceError(
            f"nvmath-python cannot be imported ({_first_line(error)}), and cuda needs it for its products: "
            "pip install 'xpnet[cuda12]' ('xpnet[cuda13]' for drivers of CUDA 13), or use the device cpu."
        ) from error
    try:
        cublaslt.get_version()
    except Exception as error:  # the loader of NVIDIA's libraries has errors of its own
        raise DeviceError(
            f"cuBLASLt, NVIDIA's library of products, cannot be loaded ({_first_line(error)}): "
            "pip install 'xpnet[cuda12]' ('xpnet[cuda13]' for drivers of CUDA 13), or use the device cpu."
        ) from error
    return cublaslt


def _import_cupy() -> Any:
    if importlib.util.find_spec("cupy") is None:
        raise DeviceError(
            "CuPy is not installed, and cuda needs it: pip install 'xpnet[cuda12]' "
            "('xpnet[cuda13]' for drivers of CUDA 13), or use the device cpu."
        )
    if not _driver_is_there():  # asked first: to import CuPy takes a second
        raise DeviceError(
            "There is no NVIDIA driver on this machine, and cuda needs one: install it, or use the device cpu."
        )
    try:
        return importlib.import_module("cupy")
    except Exception as error:  # a half-installed CuPy raises more than ImportError
        raise DeviceError(
            f"CuPy is installed but cannot be imported ({_first_line(error)}); "
            "reinstall it by pip install --force-reinstall 'xpnet[cuda12]', or use the device cpu."
        ) from error


def _driver_is_there() -> bool:
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


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
