"""Elementwise references, fused by CuPy from their own source, compile for the GPUs of today; no GPU is needed.

CuPy shows what it makes of a function only where there is a GPU, so this asks a part of it that is not public.
"""

import inspect
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from gpu.test_sources import ARCHITECTURES, compile_cubin, library, needs_nvrtc

from xpnet.devices.cuda.device import CHAINS, WRITTEN, in_registers
from xpnet.kernels.table import REFERENCE, Traced

pytestmark = [
    needs_nvrtc,
    pytest.mark.skipif(find_spec("cupy") is None, reason="CuPy is not installed"),
]

ACTIVATIONS = sorted(name for name in CHAINS if not name.endswith("_update"))
NUMBERS = {"beta1": 0.9, "beta2": 0.99, "momentum": 0.9, "alpha": 0.9}
HOST_EPS = {"rmsprop_update", "adagrad_update"}


def device_array(shape, dtype):
    """An array that nobody looks into."""
    import cupy

    memory = cupy.cuda.UnownedMemory(4096, 1 << 20, None, 0)
    return cupy.ndarray(shape, dtype, cupy.cuda.MemoryPointer(memory, 0))


def chain_arguments(name, dtype):
    """Arrays and numbers for a reference, all options in use."""
    arrays, fixed = {}, {}
    for parameter in list(inspect.signature(REFERENCE[name]).parameters)[1:]:
        if parameter == "eps" and name in HOST_EPS:
            fixed[parameter] = 1e-8
        elif parameter in NUMBERS:
            fixed[parameter] = NUMBERS[parameter]
        elif parameter in ("lr", "size", "eps", "keep", "l2", "clip"):
            arrays[parameter] = device_array((), dtype)
        else:
            kind = bool if (name, parameter) == ("relu", "slope") else dtype
            arrays[parameter] = device_array((4, 4) if name in ACTIVATIONS else (16,), kind)
    return arrays, fixed


def fused(name, arrays, fixed):
    """CuPy's elementwise kernel of the reference."""
    import cupy
    from cupy._core import _fusion_thread_local, fusion

    signature = inspect.signature(REFERENCE[name])
    function = in_registers(getattr(Traced(cupy), name), signature, arrays, fixed)
    history, local = fusion._FusionHistory(), _fusion_thread_local.thread_local
    local.history, local.is_old_fusing = history, True
    try:
        return history.get_fusion(function, tuple(arrays.values()), name)[0]
    finally:
        local.history, local.is_old_fusing = None, False


def source(kernel, arrays):
    """A CUDA kernel around the operation that CuPy made, one element a thread."""
    types = {"f": "float", "d": "double", "?": "bool"}
    kinds = [types[array.dtype.char] for array in arrays.values()]
    parameters = ", ".join(f"{kind}* p{i}" for i, kind in enumerate(kinds))
    elements = "\n".join(
        f"{kind}& v{i} = p{i}[{'at' if array.ndim else '0'}];"
        for i, (kind, array) in enumerate(zip(kinds, arrays.values(), strict=True))
    )
    return f"""
{kernel.preamble}
template<class> __global__ void chain({parameters}) {{
const int at = blockIdx.x * blockDim.x + threadIdx.x;
{elements}
{kernel.operation}
}}"""


@pytest.mark.parametrize("name", sorted(CHAINS))
def test_it_becomes_one_kernel_that_compiles(name):
    import cupy

    headers = Path(cupy.__file__).parent / "_core" / "include"
    folders = [headers, headers / "cupy" / "_cccl" / "libcudacxx", Path(library()).parent.parent / "include"]
    for dtype in (np.float32, np.float64):
        arrays, fixed = chain_arguments(name, dtype)
        kernel = fused(name, arrays, fixed)
        for architecture in ARCHITECTURES:
            code = source(kernel, arrays)
            options = ("-std=c++17", "-ftz=true", *(f"-I{folder}" for folder in folders))
            assert compile_cubin(code, ["chain<int>"], architecture, options) > 0
        if dtype is np.float32:
            assert "static_cast< double >" not in kernel.operation, "it computes in double precision"


@pytest.mark.parametrize("name", sorted(CHAINS))
def test_each_array_is_written_once_at_the_end(name):
    arrays, fixed = chain_arguments(name, np.float32)
    lines = fused(name, arrays, fixed).operation.splitlines()
    for i, parameter in enumerate(arrays):
        writes = sum(line.startswith(f"v{i} = ") for line in lines)
        assert writes == (parameter in WRITTEN), parameter
