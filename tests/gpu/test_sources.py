"""The CUDA sources compile for the GPUs of today, every kind of kernel that the twins ask for; no GPU is needed."""

import ctypes
import importlib.util
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gpu.host_kernels import Asked

from xpnet import kernels
from xpnet.devices.cuda import sources
from xpnet.devices.cuda.twins import TWINS
from xpnet.devices.cuda.twins.columns import convert, slope_and_sum
from xpnet.devices.cuda.twins.dropout import rectified
from xpnet.devices.cuda.twins.launching import NUMBERS

ARCHITECTURES = ("sm_80", "sm_90")
OPTIONS = (
    *sources.OPTIONS,
    "-ftz=true",
    "-Werror",
    "all-warnings",
    "-diag-suppress=177",
)  # no source uses all of common.cuh

FLOATS = (np.float32, np.float64)
BF16 = np.uint16


def library() -> str | None:
    """The path of libnvrtc from NVIDIA's wheel, or None."""
    spec = importlib.util.find_spec("nvidia")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        for found in sorted(Path(folder).glob("*/lib/libnvrtc.so.*")):
            if ".alt." not in found.name:
                return str(found)
    return None


needs_nvrtc = pytest.mark.skipif(library() is None, reason="nvidia-cuda-nvrtc is not installed")


@cache
def nvrtc() -> ctypes.CDLL:
    return ctypes.CDLL(library())


def compile_cubin(code: str, expressions: list[str], architecture: str, given: tuple[str, ...] = OPTIONS) -> int:
    """The size of the machine code of these kernels.

    Raises:
        RuntimeError: The compiler's words.
    """
    return len(compile_code(code, expressions, architecture, given, what="CUBIN"))


def compile_code(
    code: str, expressions: list[str], architecture: str, given: tuple[str, ...] = OPTIONS, *, what: str
) -> bytes:
    """The CUBIN, or the PTX, of these kernels.

    Raises:
        RuntimeError: The compiler's words.
    """
    lib, program = nvrtc(), ctypes.c_void_p()
    assert lib.nvrtcCreateProgram(ctypes.byref(program), code.encode(), b"kernels.cu", 0, None, None) == 0
    for expression in expressions:
        assert lib.nvrtcAddNameExpression(program, expression.encode()) == 0
    options = [option.encode() for option in (*given, f"-arch={architecture}")]
    result = lib.nvrtcCompileProgram(program, len(options), (ctypes.c_char_p * len(options))(*options))
    size = ctypes.c_size_t()
    lib.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    lib.nvrtcGetProgramLog(program, log)
    if result:
        raise RuntimeError(log.value.decode())
    getattr(lib, f"nvrtcGet{what}Size")(program, ctypes.byref(size))
    made = ctypes.create_string_buffer(size.value)
    getattr(lib, f"nvrtcGet{what}")(program, made)
    lib.nvrtcDestroyProgram(ctypes.byref(program))
    return made.raw


class Asking:
    """Calls twins with arrays of these sizes, which nobody touches."""

    def __init__(self) -> None:
        self.device = Asked(TWINS)
        self.k = kernels.on(self.device)

    def out(self, rows: int, columns: int, dtype: Any) -> np.ndarray:
        return np.empty((rows, columns), dtype)

    def gathers(self) -> None:
        index = np.empty(16, np.int64)
        for dtype in (*FLOATS, BF16):
            for raw in NUMBERS:
                for rows, columns in ((16, 8), (16, 7), (1 << 17, 8)):
                    source, out = np.empty((50, columns), raw), self.out(rows, columns, dtype)
                    shift = np.empty(columns, np.float32 if dtype is BF16 else dtype)
                    self.k.gather(source, np.empty(rows, np.int64), shift=shift, out=out)
            for column in (np.int32, np.int64):
                places, values = np.empty((50, 3), column), np.empty((50, 3), np.float32)
                self.k.gather_sparse(places, values, index, out=self.out(16, 8, dtype))
        for dtype, columns in ((np.float32, 8), (np.uint8, 8), (np.float32, 5), (np.uint8, 2), (np.uint8, 1)):
            self.k.gather(np.empty((50, columns), dtype), index, out=self.out(16, columns, dtype))

    def embeddings(self) -> None:
        for dtype in FLOATS:
            samples, table = np.empty((16, 9), dtype), np.empty((50, 8), dtype)
            for out in (dtype, BF16):
                self.k.embedding_forward(samples[:, 8], table, out=self.out(16, 8, out))
                self.k.copy_columns(samples, out=self.out(16, 8, out))
            self.k.embedding_backward(samples[:, 8], samples[:, :8], out=table)

    def losses(self, sizes: tuple[tuple[int, int], ...], *, kinds: tuple[Any, ...] = FLOATS) -> None:
        for rows, columns in sizes:
            for dtype in kinds:
                for out in (dtype, BF16):
                    z, db, loss = np.empty((rows, columns), dtype), np.empty(columns, dtype), np.empty((), dtype)
                    given = {"out": self.out(rows, columns, out), "db": db, "loss": loss}
                    for t in (np.empty(rows, np.int32), np.empty(rows, np.int64), z):
                        self.k.softmax_cross_entropy(z, t, **given)
                    self.k.sigmoid_cross_entropy(z, z, **given)
                    for name in ("squared_error", "absolute_error", "huber", "poisson"):
                        getattr(self.k, name)(z, z, output="linear", **given)

    def sums(self) -> None:
        for dtype in FLOATS:
            out = np.empty((), dtype)
            self.k.squared_norm(np.empty(100, dtype), out=out)
            self.k.clip_scale(np.empty(100, dtype), limit=1.0, out=out)
            for columns in (1, 2, 4, 8, 16, 32):
                z = np.empty((10, columns), dtype)
                for t in (np.empty(10, np.int32), np.empty(10, np.int64), z):
                    self.k.hits(z, t, output="linear", out=out)
                self.k.squared_errors(z, z, output="linear", out=out)
            for columns in (10, 5000):
                self.k.max_norm(np.empty((20, columns), dtype), limit=1.0)

    def dropout(self) -> None:
        key = np.empty((), np.uint32)
        self.k.random_bits(key=key, out=np.empty((4, 3), np.uint32))
        for dtype, out in ((np.float32, np.float32), (np.float64, np.float64), (np.float32, BF16), (BF16, BF16)):
            for rows, columns in ((4, 3), (1024, 1024)):
                y, into = np.empty((rows, columns), dtype), self.out(rows, columns, out)
                real = np.float32 if dtype is BF16 else dtype
                for slope in (None, np.empty(y.shape, bool), np.empty(y.shape, real)):
                    self.k.dropout(y, key=key, rate=0.5, out=into, slope=slope)
                rectified(self.k, y, key=key, rate=0.5, out=into)

    def normalization(self) -> None:
        for rows, columns in ((16, 10), (16, 5000), (2000, 10), (2000, 8)):
            for dtype in FLOATS:
                z, inverse = np.empty((rows, columns), dtype), np.empty((1, columns), dtype)
                vector, running = (
                    np.empty(columns, dtype),
                    {name: np.empty(columns, dtype) for name in ("mean", "variance")},
                )
                self.k.batch_norm(z, vector, vector, **running, hat=z, inverse=inverse, out=z)
                self.k.batch_norm_inference(z, vector, vector, **running, out=z)
                self.k.layer_norm(z, vector, vector, hat=z, inverse=np.empty((rows, 1), dtype), out=z)
                for dy in (z, np.empty(z.shape, BF16)) if dtype is np.float32 else (z,):
                    given = {"hat": z, "dgain": vector, "out": dy}
                    self.k.batch_norm_backward(dy, vector, inverse=inverse, dshift=vector, **given)
                    self.k.layer_norm_backward(dy, vector, inverse=np.empty((rows, 1), dtype), **given)

    def columns(self) -> None:
        for source in (*FLOATS, BF16):
            real = np.float32 if source is BF16 else source
            for rows, columns in ((16, 10), (1024, 1024)):
                dy, db = np.empty((rows, columns), source), np.empty(columns, real)
                for dtype in {source, BF16, real}:
                    out = self.out(rows, columns, dtype)
                    convert(self.k, dy, out=out)
                    for slope in (bool, real, BF16):
                        slope_and_sum(self.k, dy, np.empty((rows, columns), slope), out=out, db=db)
                    slope_and_sum(self.k, dy, out, out=out, db=db, by_output=True)


FORMS = tuple((rows, columns) for rows in (1, 64, 512, 65536) for columns in (*range(1, 34), 64, 100, 200, 256))
WIDE_FORMS = tuple((2, columns) for columns in (500, 700, 1000, 1500, 2000, 4000, 8192))


def asked() -> dict[str, set[str]]:
    asking = Asking()
    asking.gathers()
    asking.embeddings()
    asking.losses(((128, 10), (2, 1000)))
    asking.losses((*FORMS, *WIDE_FORMS), kinds=(np.float32,))
    asking.sums()
    asking.dropout()
    asking.normalization()
    asking.columns()
    return asking.device.expressions


def covering(expressions: set[str]) -> list[str]:
    """Some of them, in which each argument of each template has every value that it has in all."""
    chosen, seen = [], set()
    for expression in sorted(expressions):
        name, _, arguments = expression.removesuffix(">").partition("<")
        values = {(name, i, value) for i, value in enumerate(arguments.split(", "))}
        if values - seen:
            chosen.append(expression)
            seen |= values
    return chosen


def one_each(expressions: set[str]) -> list[str]:
    """One of each template."""
    return sorted({expression.partition("<")[0]: expression for expression in sorted(expressions)}.values())


FILES = sorted(path.name for path in sources.FOLDER.glob("*.cu"))


def test_twins_ask_for_kernels_of_every_source():
    assert sorted(asked()) == FILES


@needs_nvrtc
@pytest.mark.parametrize(
    ("architecture", "chosen"), list(zip(ARCHITECTURES, (one_each, covering), strict=True)), ids=ARCHITECTURES
)
@pytest.mark.parametrize("file", FILES)
def test_every_source_compiles(file, architecture, chosen):
    """Nothing in them depends on the architecture, so one of them sees what the templates can become."""
    assert compile_cubin(sources.text(file), chosen(asked()[file]), architecture) > 0


@needs_nvrtc
@pytest.mark.parametrize("file", FILES)
def test_kernels_of_float32_compute_with_nothing_wider(file):
    """A constant without its type would make double precision of what it touches, many times slower."""
    chosen = one_each({expression for expression in asked()[file] if "double" not in expression})
    code = compile_code(sources.text(file), chosen, "compute_90", what="PTX").decode()
    wide = [line for line in code.splitlines() if ".f64" in line and ".global" not in line]
    assert not wide, wide[:3]


@pytest.mark.slow
@needs_nvrtc
@pytest.mark.parametrize("file", FILES)
def test_every_kernel_compiles(file):
    expressions = sorted(asked()[file])
    for i in range(0, len(expressions), 50):
        assert compile_cubin(sources.text(file), expressions[i : i + 50], ARCHITECTURES[-1]) > 0


@needs_nvrtc
def test_mistakes_are_found():
    with pytest.raises(RuntimeError, match="undefined"):
        compile_cubin("__global__ void kernel(float* x) { *x = y; }", ["kernel"], "sm_90")
    with pytest.raises(RuntimeError, match="never used"):
        compile_cubin("__global__ void kernel(float* x) { *x = 1; float y = *x; y = 2; }", ["kernel"], "sm_90")
