"""What stands for `nvmath.bindings.cublasLt` on a machine without a GPU: the functions and enums that xpnet uses.

A `FakeCublasLt` is used as that module is. Descriptors keep their attributes as bytes; `matmul` refuses what the real
one refuses or would misread, and computes with NumPy on host memory, by addresses. It is stricter than the real one
where that finds mistakes: addresses are as aligned as the preference promised, and out overlaps neither operand.

The layout of ReLU's bits inside a column of aux is NVIDIA's own matter. Here bit i % 8 of byte i // 8 is row i of the
library's matrix, which is column i of ours.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import numpy as np

R_32F, R_64F, R_16BF = 0, 1, 14
COMPUTE_32F, COMPUTE_64F, COMPUTE_32F_FAST_TF32 = 68, 70, 77
DTYPES = {R_32F: np.dtype(np.float32), R_64F: np.dtype(np.float64), R_16BF: np.dtype(np.uint16)}
COMPUTE = {COMPUTE_32F: {R_32F, R_16BF}, COMPUTE_32F_FAST_TF32: {R_32F}, COMPUTE_64F: {R_64F}}
"""The types of A and B for each compute type."""

SUCCESS, NOT_INITIALIZED, INVALID_VALUE, NOT_SUPPORTED = 0, 1, 7, 15
UNSET = -1
SQRT_2_OVER_PI, GELU_CUBIC = 0.7978845608028654, 0.044715


class MatmulDescAttribute(IntEnum):
    COMPUTE_TYPE = 0
    SCALE_TYPE = 1
    POINTER_MODE = 2
    TRANSA = 3
    TRANSB = 4
    EPILOGUE = 7
    BIAS_POINTER = 8
    EPILOGUE_AUX_POINTER = 11
    EPILOGUE_AUX_LD = 12
    BIAS_DATA_TYPE = 26


class MatrixLayoutAttribute(IntEnum):
    TYPE = 0
    ORDER = 1
    ROWS = 2
    COLS = 3
    LD = 4


class MatmulPreferenceAttribute(IntEnum):
    MAX_WORKSPACE_BYTES = 1
    REDUCTION_SCHEME_MASK = 3
    MIN_ALIGNMENT_A_BYTES = 5
    MIN_ALIGNMENT_B_BYTES = 6
    MIN_ALIGNMENT_C_BYTES = 7
    MIN_ALIGNMENT_D_BYTES = 8


class Epilogue(IntEnum):
    DEFAULT = 1
    RELU = 2
    RELU_AUX = 130
    BIAS = 4
    RELU_BIAS = 6
    RELU_AUX_BIAS = 134
    DRELU = 136
    DRELU_BGRAD = 152
    GELU = 32
    GELU_AUX = 160
    GELU_BIAS = 36
    GELU_AUX_BIAS = 164
    DGELU = 192
    DGELU_BGRAD = 208


class PointerMode(IntEnum):
    HOST = 0
    DEVICE = 1


class ReductionScheme(IntEnum):
    NONE = 0
    INPLACE = 1
    COMPUTE_TYPE = 2
    OUTPUT_TYPE = 4
    MASK = 7


DESCRIPTOR_DTYPES = {
    MatmulDescAttribute.EPILOGUE: np.uint32,
    MatmulDescAttribute.BIAS_POINTER: np.int64,
    MatmulDescAttribute.EPILOGUE_AUX_POINTER: np.int64,
    MatmulDescAttribute.EPILOGUE_AUX_LD: np.int64,
}
LAYOUT_DTYPES = {
    MatrixLayoutAttribute.TYPE: np.uint32,
    MatrixLayoutAttribute.ORDER: np.int32,
    MatrixLayoutAttribute.ROWS: np.uint64,
    MatrixLayoutAttribute.COLS: np.uint64,
    MatrixLayoutAttribute.LD: np.int64,
}

BIAS, AUX, GRADIENT = 4, 128, 16
"""The bits of which the numbers of epilogues are made."""


class FakeCublasLtError(Exception):
    def __init__(self, status: int, why: str = "") -> None:
        super().__init__(f"status {status}: {why}")
        self.status = status


@dataclass(frozen=True)
class Layout:
    """A column-major matrix."""

    type: int
    rows: int
    cols: int
    ld: int

    @property
    def bytes(self) -> int:
        return ((self.cols - 1) * self.ld + self.rows) * DTYPES[self.type].itemsize


@dataclass(frozen=True)
class Problem:
    """A product as its descriptor and layouts tell it, frozen."""

    compute: int
    scale: int
    pointer_mode: int
    transa: int
    transb: int
    epilogue: int
    bias: int
    bias_type: int
    aux: int
    aux_ld: int
    a: Layout
    b: Layout
    d: Layout

    @property
    def k(self) -> int:
        return self.a.rows if self.transa else self.a.cols

    @property
    def aux_type(self) -> int | None:
        """None: bits."""
        return self.d.type if self.epilogue & (Epilogue.GELU | 64) else None

    @property
    def signature(self) -> int:
        """What an algorithm was made for."""
        return self.compute | self.transa << 8 | self.transb << 9 | self.epilogue << 10 | self.d.type << 22


def documented(problem: Problem) -> bool:
    """Whether NVIDIA's library has this product: a bias has the type of D, gradients are not of one column (K = 1)."""
    return problem.bias_type == problem.d.type and not (problem.epilogue & GRADIENT and problem.k == 1)


class FakeCublasLt:
    """The module.

    Args:
        launch: Called as launch(function, args) by `matmul`; function(*args) does the work now or later, and again.
            Without it the work is done at once. Everything but the memory on the device is frozen at the call.
        supports: Whether there is an algorithm for a product.
        gpu: Without one handles cannot be made, as with the real library.
        version: What get_version returns.

    `calls` counts the calls of each function, `algorithms` lists the numbers of those that matmul ran, and `alive` has
    the handles that were not yet destroyed.
    """

    Epilogue, PointerMode, ReductionScheme = Epilogue, PointerMode, ReductionScheme
    MatmulDescAttribute, MatrixLayoutAttribute = MatmulDescAttribute, MatrixLayoutAttribute
    MatmulPreferenceAttribute = MatmulPreferenceAttribute
    cuBLASLtError = FakeCublasLtError  # noqa: N815 - nvmath's name
    matmul_algo_dtype = np.dtype([("data_", "<u8", (8,))])
    matmul_heuristic_result_dtype = np.dtype(
        [
            ("algo", matmul_algo_dtype),
            ("workspace_size", "<u8"),
            ("state", "<i4"),
            ("waves_count", "<f4"),
            ("reserved", "<i4", (4,)),
        ]
    )

    def __init__(
        self,
        launch: Callable[[Callable[..., None], tuple[Any, ...]], Any] | None = None,
        *,
        supports: Callable[[Problem], bool] = documented,
        gpu: bool = True,
        version: int = 130100,
    ) -> None:
        self._launch = launch or (lambda function, args: function(*args))
        self._supports, self._gpu, self._version = supports, gpu, version
        self.alive: dict[int, Any] = {}
        self.calls: dict[str, int] = {}
        self.algorithms: list[int] = []
        self._next = 0x1000

    def get_version(self) -> int:
        return self._version

    def create(self) -> int:
        self._count("create")
        if not self._gpu:
            raise FakeCublasLtError(NOT_INITIALIZED, "there is no GPU")
        return self._new("handle")

    def destroy(self, handle: int) -> None:
        self._destroy(handle, str)

    def matmul_desc_create(self, compute_type: int, scale_type: int) -> int:
        self._count("matmul_desc_create")
        _require(compute_type in COMPUTE and scale_type in (R_32F, R_64F), "unknown types")
        names = MatmulDescAttribute
        attributes = dict.fromkeys(names, 0) | {names.EPILOGUE: 1, names.BIAS_DATA_TYPE: UNSET}
        attributes |= {names.COMPUTE_TYPE: compute_type, names.SCALE_TYPE: scale_type}
        return self._new({name: _bytes(value, self._descriptor_dtype(name)) for name, value in attributes.items()})

    def matmul_desc_destroy(self, matmul_desc: int) -> None:
        self._destroy(matmul_desc, dict)

    def matmul_desc_set_attribute(self, matmul_desc: int, attr: int, buf: int, size_in_bytes: int) -> None:
        self._count("matmul_desc_set_attribute")
        _store(self.alive[matmul_desc], MatmulDescAttribute(attr), buf, size_in_bytes)

    def matmul_desc_get_attribute(self, matmul_desc: int, attr: int, buf: int, size: int, size_written: int) -> None:
        _load(self.alive[matmul_desc], MatmulDescAttribute(attr), buf, size, size_written)

    def get_matmul_desc_attribute_dtype(self, attr: int) -> Any:
        return self._descriptor_dtype(attr)

    def matrix_layout_create(self, type: int, rows: int, cols: int, ld: int) -> int:  # noqa: A002 - nvmath's name
        self._count("matrix_layout_create")
        _require(type in DTYPES and rows > 0 and cols > 0, "an empty matrix or an unknown type")
        _require(ld >= rows, "the leading dimension is less than the rows")
        names = MatrixLayoutAttribute
        values = {names.TYPE: type, names.ORDER: 0, names.ROWS: rows, names.COLS: cols, names.LD: ld}
        return self._new({name: _bytes(value, LAYOUT_DTYPES[name]) for name, value in values.items()})

    def matrix_layout_destroy(self, mat_layout: int) -> None:
        self._destroy(mat_layout, dict)

    def matrix_layout_get_attribute(self, mat_layout: int, attr: int, buf: int, size: int, size_written: int) -> None:
        _load(self.alive[mat_layout], MatrixLayoutAttribute(attr), buf, size, size_written)

    def get_matrix_layout_attribute_dtype(self, attr: int) -> Any:
        return LAYOUT_DTYPES[MatrixLayoutAttribute(attr)]

    def matmul_preference_create(self) -> int:
        self._count("matmul_preference_create")
        names = MatmulPreferenceAttribute
        values = dict.fromkeys(names, 256) | {names.MAX_WORKSPACE_BYTES: 0, names.REDUCTION_SCHEME_MASK: 7}
        return self._new({name: _bytes(value, self._preference_dtype(name)) for name, value in values.items()})

    def matmul_preference_destroy(self, pref: int) -> None:
        self._destroy(pref, dict)

    def matmul_preference_set_attribute(self, pref: int, attr: int, buf: int, size_in_bytes: int) -> None:
        _store(self.alive[pref], MatmulPreferenceAttribute(attr), buf, size_in_bytes)

    def matmul_preference_get_attribute(self, pref: int, attr: int, buf: int, size: int, size_written: int) -> None:
        _load(self.alive[pref], MatmulPreferenceAttribute(attr), buf, size, size_written)

    def get_matmul_preference_attribute_dtype(self, attr: int) -> Any:
        return self._preference_dtype(attr)

    def matmul_algo_get_heuristic(
        self,
        light_handle: int,
        operation_desc: int,
        adesc: int,
        bdesc: int,
        cdesc: int,
        ddesc: int,
        preference: int,
        requested_algo_count: int,
        heuristic_results_array: int,
        return_algo_count: int,
    ) -> None:
        """Offers one that adds up in place, one that fails, a good one, one with a workspace, and others."""
        self._count("matmul_algo_get_heuristic")
        _require(self.alive[light_handle] == "handle", "no handle")
        problem = self._problem(operation_desc, adesc, bdesc, cdesc, ddesc)
        if not self._supports(problem):
            raise FakeCublasLtError(NOT_SUPPORTED, "no algorithm")
        names = MatmulPreferenceAttribute
        wanted = {
            name: int(_number(value, self._preference_dtype(name))) for name, value in self.alive[preference].items()
        }
        work = 4 * problem.d.rows * problem.d.cols * 2
        none, in_place, split = ReductionScheme.NONE, ReductionScheme.INPLACE, ReductionScheme.COMPUTE_TYPE
        offers = [
            (1, in_place, 0, SUCCESS),
            (2, none, 0, NOT_SUPPORTED),
            (3, none, 0, SUCCESS),
            (4, split, work, SUCCESS),
        ]
        offers += [(number, none, 0, SUCCESS) for number in range(5, 20)]
        mask, most = wanted[names.REDUCTION_SCHEME_MASK], wanted[names.MAX_WORKSPACE_BYTES]
        offers = [offer for offer in offers if (not offer[1] or offer[1] & mask) and offer[2] <= most]
        results = _array(heuristic_results_array, (requested_algo_count,), self.matmul_heuristic_result_dtype)
        count = min(len(offers), requested_algo_count)
        alignments = sum(wanted[names[f"MIN_ALIGNMENT_{m}_BYTES"]].bit_length() << 8 * i for i, m in enumerate("ABCD"))
        for result, (number, scheme, size, state) in zip(results[:count], offers, strict=False):
            result["algo"]["data_"] = number, scheme, size, alignments, problem.signature, 0, 0, self._version
            result["workspace_size"], result["state"] = size, state
        _array(return_algo_count, (1,), np.dtype(np.int32))[0] = count

    def matmul_algo_check(
        self,
        light_handle: int,
        operation_desc: int,
        adesc: int,
        bdesc: int,
        cdesc: int,
        ddesc: int,
        algo: int,
        result: int,
    ) -> None:
        self._count("matmul_algo_check")
        words = _array(algo, (8,), np.dtype(np.uint64))
        problem = self._problem(operation_desc, adesc, bdesc, cdesc, ddesc)
        self._check_algorithm(problem, words)
        answer = _array(result, (1,), self.matmul_heuristic_result_dtype)
        answer["workspace_size"], answer["state"] = words[2], SUCCESS

    def matmul(
        self,
        light_handle: int,
        compute_desc: int,
        alpha: int,
        a: int,
        adesc: int,
        b: int,
        bdesc: int,
        beta: int,
        c: int,
        cdesc: int,
        d: int,
        ddesc: int,
        algo: int,
        workspace: int,
        workspace_size_in_bytes: int,
        stream: int,
    ) -> None:
        """D <- epilogue(alpha op(A) op(B) + beta C)."""
        self._count("matmul")
        _require(self.alive[light_handle] == "handle", "no handle")
        problem = self._problem(compute_desc, adesc, bdesc, cdesc, ddesc)
        words = [int(word) for word in _array(algo, (8,), np.dtype(np.uint64))]
        self._check_algorithm(problem, words)
        _require(not words[2] or workspace % 256 == 0, "the workspace is not aligned to 256 bytes")
        _require(words[2] <= workspace_size_in_bytes, "the workspace is too small")
        for i, address in enumerate((a, b, c, d)):
            promised = 1 << (words[3] >> 8 * i & 0xFF) - 1
            _require(address and address % promised == 0, f"the address of {'ABCD'[i]} is not aligned to {promised}")
        _require(c == d, "out of place; the real library can, but xpnet does not")
        for start, layout in ((a, problem.a), (b, problem.b)):
            _require(start + layout.bytes <= d or d + problem.d.bytes <= start, "out overlaps an operand")
        scale = DTYPES[problem.scale]
        frozen: tuple[Any, Any] = (alpha, beta)
        if problem.pointer_mode == PointerMode.HOST:
            frozen = tuple(_array(pointer, (), scale)[()] for pointer in (alpha, beta))
        self.algorithms.append(words[0])
        self._launch(_product, (problem, *frozen, a, b, d))

    def _problem(self, descriptor: int, adesc: int, bdesc: int, cdesc: int, ddesc: int) -> Problem:
        attributes = self.alive[descriptor]
        names = MatmulDescAttribute
        value = {name: int(_number(raw, self._descriptor_dtype(name))) for name, raw in attributes.items()}
        a, b, c, d = (self._layout(handle) for handle in (adesc, bdesc, cdesc, ddesc))
        bias_type = value[names.BIAS_DATA_TYPE]
        problem = Problem(
            compute=value[names.COMPUTE_TYPE],
            scale=value[names.SCALE_TYPE],
            pointer_mode=value[names.POINTER_MODE],
            transa=value[names.TRANSA],
            transb=value[names.TRANSB],
            epilogue=value[names.EPILOGUE],
            bias=value[names.BIAS_POINTER],
            bias_type=d.type if bias_type == UNSET else bias_type,
            aux=value[names.EPILOGUE_AUX_POINTER],
            aux_ld=value[names.EPILOGUE_AUX_LD],
            a=a,
            b=b,
            d=d,
        )
        _require(c == d, "C and D differ")
        self._check(problem)
        return problem

    def _check(self, problem: Problem) -> None:
        a, b, d = problem.a, problem.b, problem.d
        _require(a.type in COMPUTE[problem.compute] and a.type == b.type, "A and B do not fit the compute type")
        _require(problem.scale == (R_64F if problem.compute == COMPUTE_64F else R_32F), "the scale type does not fit")
        _require(d.type == a.type or (a.type, d.type) == (R_16BF, R_32F), "D does not fit A and B")
        m, k = (a.cols, a.rows) if problem.transa else (a.rows, a.cols)
        k_of_b, n = (b.cols, b.rows) if problem.transb else (b.rows, b.cols)
        _require((m, n) == (d.rows, d.cols) and k == k_of_b, "the matrices do not fit")
        epilogue = Epilogue(problem.epilogue)
        if epilogue & (BIAS | GRADIENT):
            _require(problem.bias, "there is no bias")
            _require(problem.bias % DTYPES[problem.bias_type].itemsize == 0, "the bias is not aligned")
        if epilogue & AUX:
            _require(problem.aux, "there is no aux")
            multiple = 128 if problem.aux_type is None else 8
            _require(problem.aux_ld >= m and problem.aux_ld % multiple == 0, "the leading dimension of aux")
            _require(problem.aux % 16 == 0, "aux is not aligned")

    def _check_algorithm(self, problem: Problem, words: Any) -> None:
        _require(int(words[7]) == self._version, "the algorithm is of another version")
        _require(int(words[4]) == problem.signature, "the algorithm is of another product")

    def _layout(self, handle: int) -> Layout:
        names = MatrixLayoutAttribute
        values = {name: int(_number(raw, LAYOUT_DTYPES[name])) for name, raw in self.alive[handle].items()}
        return Layout(values[names.TYPE], values[names.ROWS], values[names.COLS], values[names.LD])

    def _descriptor_dtype(self, attr: int) -> Any:
        return DESCRIPTOR_DTYPES.get(MatmulDescAttribute(attr), np.int32)

    def _preference_dtype(self, attr: int) -> Any:
        return np.uint64 if attr == MatmulPreferenceAttribute.MAX_WORKSPACE_BYTES else np.uint32

    def _count(self, name: str) -> None:
        self.calls[name] = self.calls.get(name, 0) + 1

    def _new(self, thing: Any) -> int:
        self._next += 8
        self.alive[self._next] = thing
        return self._next

    def _destroy(self, handle: int, kind: type) -> None:
        _require(isinstance(self.alive.pop(handle, None), kind), "a handle of another kind, or destroyed before")


class HostArray(np.ndarray):
    """A NumPy array with CuPy's `.data.ptr`."""

    @property
    def data(self) -> Any:  # type: ignore[override]
        return Pointer(self.__array_interface__["data"][0])


@dataclass(frozen=True)
class Pointer:
    ptr: int


def host_array(shape: Any, dtype: Any, *, alignment: int = 256) -> HostArray:
    """Zeros at an address that this power of two divides, and the next does not; they may be changed and sliced."""
    size = int(np.prod(shape, dtype=int)) * np.dtype(dtype).itemsize
    store = np.zeros(size + 4 * alignment, np.uint8)
    start = -store.ctypes.data % (2 * alignment) + alignment
    return store[start : start + size].view(dtype).reshape(shape).view(HostArray)


def to_bfloat16(values: Any) -> np.ndarray:
    """The bits of the nearest bfloat16, ties to even; NaN stays NaN."""
    single = np.asarray(values, np.float32)
    bits = single.view(np.uint32)
    rounded = (bits + (0x7FFF + (bits >> 16 & 1))) >> 16
    return np.where(np.isnan(single), bits >> 16 | 0x40, rounded).astype(np.uint16)


def from_bfloat16(bits: Any) -> np.ndarray:
    """The float32 of these bits."""
    return (np.asarray(bits).astype(np.uint32) << 16).view(np.float32)


def to_tf32(values: np.ndarray) -> np.ndarray:
    """float32 rounded to ten bits of mantissa, ties away from zero."""
    return ((values.view(np.uint32) + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)


def gelu(z: np.ndarray) -> np.ndarray:
    """0.5 z (1 + tanh(sqrt(2/pi) (z + 0.044715 z^3)))."""
    return 0.5 * z * (1 + np.tanh(SQRT_2_OVER_PI * (z + GELU_CUBIC * z**3)))


def gelu_slope(z: np.ndarray) -> np.ndarray:
    """d gelu / dz."""
    t = np.tanh(SQRT_2_OVER_PI * (z + GELU_CUBIC * z**3))
    return 0.5 * (1 + t) + 0.5 * z * (1 - t**2) * SQRT_2_OVER_PI * (1 + 3 * GELU_CUBIC * z**2)


def _product(problem: Problem, alpha: Any, beta: Any, a: int, b: int, d: int) -> None:
    """The work of a matmul, from addresses alone. A beta on the device always reads C."""
    scale = DTYPES[problem.scale]
    on_device = problem.pointer_mode == PointerMode.DEVICE
    alpha, beta = (_array(value, (), scale) if on_device else value for value in (alpha, beta))
    rounded = to_tf32 if problem.compute == COMPUTE_32F_FAST_TF32 else np.asarray
    left = rounded(_read(a, problem.a))
    right = rounded(_read(b, problem.b))
    z = alpha * ((left.T if problem.transa else left) @ (right.T if problem.transb else right))
    if on_device or beta != 0:
        z += beta * _read(d, problem.d)
    _write(d, problem.d, _epilogue(problem, z))


def _epilogue(problem: Problem, z: np.ndarray) -> np.ndarray:
    epilogue, m = problem.epilogue, problem.d.rows
    if epilogue & BIAS:
        z += _read(problem.bias, Layout(problem.bias_type, m, 1, m))
    if epilogue & GRADIENT:
        slope = _unpacked(problem) if problem.aux_type is None else gelu_slope(_read(problem.aux, _aux(problem)))
        z = np.where(slope, z * slope, 0).astype(z.dtype)
        _write(problem.bias, Layout(problem.bias_type, m, 1, m), z.sum(axis=1, keepdims=True))
    elif epilogue & Epilogue.RELU:
        if epilogue & AUX:
            _pack(problem, z > 0)
        z = np.fmax(z, 0)  # NVIDIA's makes 0 of NaN
    elif epilogue & Epilogue.GELU:
        if epilogue & AUX:
            _write(problem.aux, _aux(problem), z)
        z = gelu(z)
    return z


def _aux(problem: Problem) -> Layout:
    assert problem.aux_type is not None
    return Layout(problem.aux_type, problem.d.rows, problem.d.cols, problem.aux_ld)


def _pack(problem: Problem, mask: np.ndarray) -> None:
    packed = np.packbits(mask.T, axis=1, bitorder="little")
    rows = _array(problem.aux, (problem.d.cols, problem.aux_ld // 8), np.dtype(np.uint8))
    rows[:, : packed.shape[1]] = packed


def _unpacked(problem: Problem) -> np.ndarray:
    rows = _array(problem.aux, (problem.d.cols, problem.aux_ld // 8), np.dtype(np.uint8))
    return np.unpackbits(rows, axis=1, count=problem.d.rows, bitorder="little").T


def _columns(address: int, layout: Layout) -> np.ndarray:
    dtype = DTYPES[layout.type]
    flat = _array(address, (layout.bytes // dtype.itemsize,), dtype)
    strides = dtype.itemsize, layout.ld * dtype.itemsize
    return np.lib.stride_tricks.as_strided(flat, (layout.rows, layout.cols), strides)


def _read(address: int, layout: Layout) -> np.ndarray:
    values = _columns(address, layout)
    return from_bfloat16(values) if layout.type == R_16BF else values


def _write(address: int, layout: Layout, values: np.ndarray) -> None:
    _columns(address, layout)[...] = to_bfloat16(values) if layout.type == R_16BF else values


def _array(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=int)) * dtype.itemsize
    return np.frombuffer((ctypes.c_char * size).from_address(address), dtype).reshape(shape)


def _bytes(value: int, dtype: Any) -> bytes:
    return np.array(value, dtype).tobytes()


def _number(raw: bytes, dtype: Any) -> Any:
    return np.frombuffer(raw, dtype)[0]


def _store(attributes: dict[Any, bytes], name: Any, buf: int, size: int) -> None:
    _require(size == len(attributes[name]), f"{name.name} has {len(attributes[name])} bytes")
    attributes[name] = ctypes.string_at(buf, size)


def _load(attributes: dict[Any, bytes], name: Any, buf: int, size: int, written: int) -> None:
    _require(size >= len(attributes[name]), f"{name.name} has {len(attributes[name])} bytes")
    ctypes.memmove(buf, attributes[name], len(attributes[name]))
    if written:
        _array(written, (1,), np.dtype(np.uint64))[0] = len(attributes[name])


def _require(condition: Any, why: str) -> None:
    if not condition:
        raise FakeCublasLtError(INVALID_VALUE, why)
