"""The real library: its descriptors without a GPU, its products with one, and the stand-in's likeness to it.

nvmath does nothing where there is no driver, though descriptors need none. So there this file runs once more in a
process of its own, with a stand-in for the driver that knows its version and nothing else.
"""

import itertools
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu import fake_cublaslt as fake
from gpu.fake_cublaslt import FakeCublasLt, from_bfloat16, gelu, gelu_slope, host_array, to_bfloat16

from xpnet.devices.cuda import matmul
from xpnet.devices.cuda import plan as plans
from xpnet.devices.cuda.matmul import PRECISIONS, Matmuls
from xpnet.devices.cuda.plan import build_plan
from xpnet.devices.cuda.product import EPILOGUES, GRADIENTS, Call, Product, aux_shape, product_of

pytestmark = pytest.mark.cublaslt

WORKSPACE = 32 << 20
TYPES = (("float32", "float32"), ("float64", "float64"), ("uint16", "uint16"), ("uint16", "float32"))
"""Of a and b, and of out."""

DRIVER = """
int cuDriverGetVersion(int *version) { *version = 13000; return 0; }
int cuInit(unsigned flags) { return 100; /* CUDA_ERROR_NO_DEVICE */ }
"""


def bindings() -> Any:
    reason = "nvmath-python is not installed; pip install '.[cublaslt]'"
    return pytest.importorskip("nvmath.bindings.cublasLt", reason=reason, exc_type=ImportError)


def why_not(lt: Any) -> str | None:
    """Why the library does not answer."""
    try:
        lt.get_version()
    except Exception as error:  # nvmath's own classes
        return str(error).splitlines()[0]
    return None


@pytest.fixture(scope="module")
def lt() -> Any:
    lt = bindings()
    if reason := why_not(lt):
        pytest.skip(f"cuBLASLt does not answer here: {reason}")
    return lt


def test_without_a_driver(tmp_path: Path) -> None:
    """Every test below, with the real library."""
    reason = why_not(bindings()) or "there is a driver: the tests have run"
    if "driver is not found" not in reason:
        pytest.skip(reason)
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        pytest.skip("there is no C compiler to make a stand-in for the driver with")
    name = "libcuda.so.1"
    (tmp_path / "driver.c").write_text(DRIVER)
    subprocess.run(
        [compiler, "-shared", "-fPIC", f"-Wl,-soname,{name}", "-o", name, "driver.c"], cwd=tmp_path, check=True
    )
    path = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("LD_LIBRARY_PATH")]))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        __file__,
        "-m",
        "not gpu",
        "-k",
        "not without_a_driver",
    ]
    result = subprocess.run(command, env=os.environ | {"LD_LIBRARY_PATH": path}, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout
    if " passed" not in result.stdout or "does not answer" in result.stdout:
        pytest.skip(f"cuBLASLt does not answer with a stand-in for the driver: {result.stdout}")


@pytest.mark.parametrize(
    "name",
    [
        "Epilogue",
        "PointerMode",
        "ReductionScheme",
        "MatmulDescAttribute",
        "MatrixLayoutAttribute",
        "MatmulPreferenceAttribute",
    ],
)
def test_the_stand_in_has_the_real_numbers(name: str) -> None:
    real = getattr(bindings(), name)
    for member in getattr(fake, name):
        assert real[member.name] == member


def test_the_stand_in_has_the_real_types() -> None:
    real, stand_in = bindings(), FakeCublasLt()
    assert real.matmul_algo_dtype == stand_in.matmul_algo_dtype
    assert real.matmul_heuristic_result_dtype == stand_in.matmul_heuristic_result_dtype
    for kind, enum in (
        ("matmul_desc", fake.MatmulDescAttribute),
        ("matrix_layout", fake.MatrixLayoutAttribute),
        ("matmul_preference", fake.MatmulPreferenceAttribute),
    ):
        for attribute in enum:
            get = f"get_{kind}_attribute_dtype"
            assert np.dtype(getattr(real, get)(attribute)) == np.dtype(getattr(stand_in, get)(attribute)), attribute


def test_types_have_nvidias_numbers() -> None:
    nvmath = pytest.importorskip("nvmath", reason="nvmath-python is not installed", exc_type=ImportError)
    compute, data = nvmath.bindings.cublas.ComputeType, nvmath.CudaDataType
    assert plans.COMPUTE_32F == compute.COMPUTE_32F
    assert plans.COMPUTE_64F == compute.COMPUTE_64F
    assert plans.COMPUTE_32F_FAST_TF32 == compute.COMPUTE_32F_FAST_TF32
    assert {"f": data.CUDA_R_32F, "d": data.CUDA_R_64F, "H": data.CUDA_R_16BF} == plans.TYPES
    status = nvmath.bindings.cublas.Status
    assert (matmul.SUCCESS, matmul.INVALID_VALUE, matmul.NOT_SUPPORTED) == (
        status.SUCCESS,
        status.INVALID_VALUE,
        status.NOT_SUPPORTED,
    )


def products() -> Iterator[tuple[str, Product]]:
    """Every kind, of sizes that all differ."""
    m, k, n = 5, 7, 130
    for (dtype, out_dtype), epilogue, a_transposed, b_transposed, pad, on_device in itertools.product(
        TYPES,
        EPILOGUES,
        (False, True),
        (False, True),
        (0, 8),
        (False, True),
    ):
        a = host_array((k, m + pad), dtype)[:, :m].T if a_transposed else host_array((m, k + pad), dtype)[:, :k]
        b = host_array((n, k + pad), dtype)[:, :k].T if b_transposed else host_array((k, n + pad), dtype)[:, :n]
        out = host_array((m, n + pad), out_dtype, alignment=64)[:, :n]
        scalar = host_array((), "float64" if dtype == "float64" else "float32") if on_device else 1.0
        wanted = EPILOGUES[epilogue]
        bias = host_array(n, out_dtype) if wanted.bias else None
        aux = host_array(*aux_shape(out.shape, str(epilogue), out.dtype)) if wanted.aux else None
        product = product_of(Call(a, b, out, scalar, scalar, bias, aux), epilogue)
        for precision in PRECISIONS:
            yield precision, product


def read(get: Any, dtype_of: Any, handle: int, attributes: Any) -> dict[str, int]:
    """What a descriptor, layout or preference holds, and that nothing else was written."""
    values = {}
    for attribute in attributes:
        buffer, written = np.zeros(2, dtype_of(attribute)), np.zeros(1, np.uint64)
        get(handle, attribute, buffer.ctypes.data, buffer.itemsize, written.ctypes.data)
        assert written[0] == buffer.itemsize
        assert buffer[1] == 0
        values[attribute.name] = int(buffer[0])
    return values


def read_plan(lt: Any, precision: str, product: Product) -> dict[str, dict[str, int]]:
    """All that the library was told of a product, with made-up addresses of bias and aux."""
    with ExitStack() as resources:
        plan = build_plan(lt, product, precision=precision, resources=resources)
        plans.set_pointers(lt, plan, (0x7000, 0x9000))
        preference = plans.build_preference(lt, product, workspace=WORKSPACE, resources=resources)
        descriptors = lt.matmul_desc_get_attribute, lt.get_matmul_desc_attribute_dtype
        layouts = lt.matrix_layout_get_attribute, lt.get_matrix_layout_attribute_dtype
        preferences = lt.matmul_preference_get_attribute, lt.get_matmul_preference_attribute_dtype
        return {
            "descriptor": read(*descriptors, plan.descriptor, fake.MatmulDescAttribute),
            "a": read(*layouts, plan.a, fake.MatrixLayoutAttribute),
            "b": read(*layouts, plan.b, fake.MatrixLayoutAttribute),
            "out": read(*layouts, plan.out, fake.MatrixLayoutAttribute),
            "preference": read(*preferences, preference, fake.MatmulPreferenceAttribute),
        }


def test_every_kind_of_plan_is_read_back_as_the_stand_in_has_it(lt: Any) -> None:
    """The stand-in's products are right, so the same attributes mean the same to the real library."""
    stand_in = FakeCublasLt()
    for precision, product in products():
        assert read_plan(lt, precision, product) == read_plan(stand_in, precision, product)


@pytest.mark.parametrize("library", ["real", "stand-in"])
def test_a_plan_in_numbers(library: str, request: pytest.FixtureRequest) -> None:
    """dz w^T with ReLU's gradient: dz (5, 7), w (130, 7), out (5, 130)."""
    library_used = request.getfixturevalue("lt") if library == "real" else FakeCublasLt()
    out, aux = host_array((5, 136), "float32", alignment=32)[:, :130], host_array((5, 32), np.uint8)
    dz, w = host_array((5, 8), "float32", alignment=64)[:, :7], host_array((130, 7), "float32", alignment=128).T
    product = product_of(Call(dz, w, out, bias=host_array(130, "float32"), aux=aux), "drelu_bgrad")
    assert read_plan(library_used, "tf32", product) == {
        "descriptor": {
            "COMPUTE_TYPE": 77,
            "SCALE_TYPE": 0,
            "POINTER_MODE": 0,
            "TRANSA": 1,
            "TRANSB": 0,
            "EPILOGUE": 152,
            "BIAS_POINTER": 0x7000,
            "EPILOGUE_AUX_POINTER": 0x9000,
            "EPILOGUE_AUX_LD": 256,
            "BIAS_DATA_TYPE": -1,
        },
        "a": {"TYPE": 0, "ORDER": 0, "ROWS": 7, "COLS": 5, "LD": 8},
        "b": {"TYPE": 0, "ORDER": 0, "ROWS": 7, "COLS": 130, "LD": 7},
        "out": {"TYPE": 0, "ORDER": 0, "ROWS": 130, "COLS": 5, "LD": 136},
        "preference": {
            "MAX_WORKSPACE_BYTES": WORKSPACE,
            "REDUCTION_SCHEME_MASK": 6,
            "MIN_ALIGNMENT_A_BYTES": 4,
            "MIN_ALIGNMENT_B_BYTES": 16,
            "MIN_ALIGNMENT_C_BYTES": 16,
            "MIN_ALIGNMENT_D_BYTES": 16,
        },
    }


def test_errors_carry_the_status_that_is_looked_at(lt: Any) -> None:
    descriptor = lt.matmul_desc_create(plans.COMPUTE_32F, 0)
    value = np.zeros(1, np.uint32)
    with pytest.raises(lt.cuBLASLtError) as caught:
        lt.matmul_desc_set_attribute(descriptor, lt.MatmulDescAttribute.EPILOGUE, value.ctypes.data, 3)
    assert caught.value.status == matmul.INVALID_VALUE
    lt.matmul_desc_destroy(descriptor)


def test_gradients_are_the_epilogues_that_read_aux() -> None:
    assert {name for name, epilogue in EPILOGUES.items() if epilogue.name.endswith("BGRAD")} == GRADIENTS


class Machine:
    """Products on a GPU, or on the stand-in, and arrays for them."""

    def __init__(self, lt: Any, *, zeros: Callable[..., Any], upload: Any, fetch: Any, stream: Any) -> None:
        self._zeros, self._upload, self._fetch = zeros, upload, fetch
        self.rng = np.random.default_rng(0)
        self.matmul = Matmuls(lt, workspace=zeros(WORKSPACE, np.uint8), stream=stream)

    def place(self, values: np.ndarray, dtype: Any) -> Any:
        """An array of the device; rows of bfloat16 start at multiples of 8."""
        dtype = np.dtype(dtype)
        *rows, columns = values.shape
        width = -(-columns // 8) * 8 if dtype == np.uint16 and rows else columns
        array = self._zeros((*rows, width), dtype)[..., :columns]
        array[...] = self._upload(to_bfloat16(values) if dtype == np.uint16 else values.astype(dtype))
        return array

    def poisoned(self, *shape: int, dtype: Any) -> Any:
        return self.place(np.full(shape, np.nan), dtype)

    def aux(self, out: Any, epilogue: str) -> Any:
        return self._zeros(*aux_shape(out.shape, epilogue, out.dtype))

    def eighths(self, *shape: int) -> np.ndarray:
        """Products of these are exact, also in bfloat16."""
        return self.rng.integers(-8, 9, shape) / 8

    def close(self, got: Any, expected: np.ndarray) -> None:
        host = np.asarray(self._fetch(got))
        tolerance = {"float32": 1e-5, "float64": 1e-13, "uint16": 1e-2}[host.dtype.name] * max(
            1, np.abs(expected).max()
        )
        values = from_bfloat16(host) if host.dtype == np.uint16 else host
        np.testing.assert_allclose(values, expected, rtol=0, atol=tolerance)

    def same(self, got: Any, again: Any) -> None:
        np.testing.assert_array_equal(self._fetch(got), self._fetch(again))


@pytest.fixture(params=["stand-in", pytest.param("gpu", marks=pytest.mark.gpu)])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    if request.param == "gpu":
        cupy = pytest.importorskip("cupy")
        made = Machine(
            request.getfixturevalue("lt"),
            zeros=cupy.zeros,
            upload=cupy.asarray,
            fetch=cupy.asnumpy,
            stream=lambda: int(cupy.cuda.get_current_stream().ptr),
        )
    else:
        made = Machine(FakeCublasLt(), zeros=host_array, upload=np.asarray, fetch=np.asarray, stream=lambda: 0)
    yield made
    made.matmul.close()


LAYERS = ((128, 784, 300), (100, 300, 10), (1, 33, 7), (37, 5, 1))
"""Rows, inputs and outputs."""


@pytest.mark.parametrize("types", TYPES, ids="-".join)
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_the_products_of_a_linear_layer(machine: Machine, types: tuple[str, str], layer: tuple[int, int, int]) -> None:
    """Forward, both gradients, and the SGD step in place with alpha and beta on the device; the same twice."""
    dtype, out_dtype = types
    b, i, o = layer
    x, w, dz, wide = machine.eighths(b, i), machine.eighths(i, o), machine.eighths(b, o), machine.eighths(i, o)
    x_there, w_there, dz_there = (machine.place(values, dtype) for values in (x, w, dz))
    scalars = machine.place(np.array([-0.25, 0.5]), "float64" if dtype == "float64" else "float32")
    for _ in range(2):
        y, dx, dw = (machine.poisoned(*shape, dtype=out_dtype) for shape in ((b, o), (b, i), (i, o)))
        machine.close(machine.matmul(x_there, w_there, out=y), x @ w)
        machine.close(machine.matmul(dz_there, w_there.T, out=dx), dz @ w.T)
        machine.close(machine.matmul(x_there.T, dz_there, out=dw), x.T @ dz)
    updated = []
    for _ in range(2):
        updated.append(machine.place(wide, out_dtype))
        machine.matmul(x_there.T, dz_there, out=updated[-1], alpha=scalars[0, ...], beta=scalars[1, ...])
    machine.close(updated[0], 0.5 * wide - 0.25 * x.T @ dz)
    machine.same(*updated)


@pytest.mark.parametrize("types", TYPES, ids="-".join)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("layer", LAYERS, ids=str)
def test_a_hidden_layer_forward_and_backward(
    machine: Machine, types: tuple[str, str], activation: str, layer: tuple[int, int, int]
) -> None:
    """What the backward product reads of aux is what the forward product left there; all rows, and the first alone."""
    dtype, out_dtype = types
    b, i, o = layer
    forward, backward = f"{activation}_aux_bias", f"d{activation}_bgrad"
    for epilogue in (forward, backward):
        if not machine.matmul.supports(dtype, epilogue, out_dtype=out_dtype):
            pytest.skip(f"this cuBLASLt has no {epilogue} for {dtype} and {out_dtype}")
    x, w, bias = machine.eighths(b, i), machine.eighths(i, o), machine.eighths(o) + 1 / 128
    z = x @ w + bias  # never 0
    x_there, w_there, bias_there = machine.place(x, dtype), machine.place(w, dtype), machine.place(bias, out_dtype)
    y = machine.poisoned(b, o, dtype=out_dtype)
    aux = machine.aux(y, forward)
    machine.matmul(x_there, w_there, out=y, epilogue=forward, bias=bias_there, aux=aux)
    machine.close(y, np.maximum(z, 0) if activation == "relu" else gelu(z))
    slope = z > 0 if activation == "relu" else gelu_slope(z)
    for rows in (b, (b + 1) // 2):
        above, w_above = machine.eighths(rows, 10), machine.eighths(o, 10)
        above_there, w_above_there = machine.place(above, dtype), machine.place(w_above, dtype)
        results = []
        for _ in range(2):
            dz, db = machine.poisoned(rows, o, dtype=out_dtype), machine.poisoned(o, dtype=out_dtype)
            machine.matmul(above_there, w_above_there.T, out=dz, epilogue=backward, bias=db, aux=aux[:rows])
            results.append((dz, db))
        expected = above @ w_above.T * slope[:rows]
        machine.close(results[0][0], expected)
        machine.close(results[0][1], expected.sum(axis=0))
        for first, second in zip(*results, strict=True):
            machine.same(first, second)
