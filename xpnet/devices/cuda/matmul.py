"""Matrix products by cuBLASLt, which a captured CUDA graph may hold, and which fuse bias, activation and gradients.

CuPy's own products refuse to be captured. Here a plan (descriptor, layouts, algorithm) is made at the first product of
its kind; from then on a product is one launch that allocates nothing.

Arrays have their rows in memory one after the other, cuBLASLt's matrices their columns: the same memory is the
transposed matrix. So out = a b is asked for as out^T = b^T a^T: the library's A is our b and its B our a, its m, n, k
are the columns of out, the rows of out, and K, and a vector that runs along m, as biases do, has one entry a column of
out. A sample, one row of ours, is one column of the library's.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, MutableMapping
from contextlib import ExitStack
from typing import Any, NamedTuple, Protocol

import numpy as np

from xpnet.devices.base import Array
from xpnet.errors import DeviceError, one_of

# cudaDataType_t, from library_types.h; 16-bit words hold bfloat16
TYPES = {"f": 0, "d": 1, "H": 14}
TYPE_NAMES = {"f": "f32", "d": "f64", "H": "bf16", "B": "u8"}
OUTPUTS = {"f": "f", "d": "d", "H": "Hf"}
"""The types of out for that of a and b."""

# cublasComputeType_t, from cublas_api.h
COMPUTE_32F, COMPUTE_64F, COMPUTE_32F_FAST_TF32 = 68, 70, 77
# cublasStatus_t, from cublas_api.h
SUCCESS, INVALID_VALUE, NOT_SUPPORTED = 0, 7, 15
# cublasOperation_t, from cublas_api.h
OP_N, OP_T = 0, 1

PRECISIONS = ("fp32", "tf32", "bf16")
WORKSPACE_ALIGNMENT = 256
"""Bytes."""

WIDEST_LOAD = 16
"""Bytes that a kernel reads at once. Nobody is told of more alignment than this, so that an array that lies now here,
now there in a larger one, whole rows further, has one plan and one algorithm."""

CANDIDATES = 8
"""How many algorithms are asked for."""


class Epilogue(NamedTuple):
    """What a product does to its result: cuBLASLt's name, whether it takes a bias, and what its aux holds."""

    name: str
    bias: bool = False
    aux: str = ""


EPILOGUES: dict[str | None, Epilogue] = {
    None: Epilogue("DEFAULT"),
    "bias": Epilogue("BIAS", bias=True),
    "relu_bias": Epilogue("RELU_BIAS", bias=True),
    "relu_aux_bias": Epilogue("RELU_AUX_BIAS", bias=True, aux="bits"),
    "gelu_bias": Epilogue("GELU_BIAS", bias=True),
    "gelu_aux_bias": Epilogue("GELU_AUX_BIAS", bias=True, aux="values"),
    "drelu_bgrad": Epilogue("DRELU_BGRAD", bias=True, aux="bits"),
    "dgelu_bgrad": Epilogue("DGELU_BGRAD", bias=True, aux="values"),
}
GRADIENTS = frozenset({"drelu_bgrad", "dgelu_bgrad"})
"""Epilogues that read aux and write bias; the others read bias and write aux."""

AUX_MULTIPLES = {"bits": 128, "values": 8}
"""What the leading dimension of aux must be a multiple of, in its elements."""


class Matrix(NamedTuple):
    """A matrix as it lies in memory, its rows contiguous and `ld` elements apart; it is read so, or transposed."""

    rows: int
    columns: int
    ld: int
    transposed: bool
    type: str
    alignment: int

    @property
    def shape(self) -> tuple[int, int]:
        """As it is read."""
        return (self.columns, self.rows) if self.transposed else (self.rows, self.columns)


class Vector(NamedTuple):
    """A contiguous vector."""

    size: int
    type: str
    alignment: int


class Product(NamedTuple):
    """All that a plan depends on: out <- epilogue(alpha a b + beta out), without the addresses and the numbers."""

    a: Matrix
    b: Matrix
    out: Matrix
    epilogue: str | None = None
    bias: Vector | None = None
    aux: Matrix | None = None
    scalars: str | None = None
    """The type of alpha and beta where they are arrays on the device; None: they are Python floats."""


class Call(NamedTuple):
    """What one product works on."""

    a: Array
    b: Array
    out: Array
    alpha: Any = 1.0
    beta: Any = 0.0
    bias: Array | None = None
    aux: Array | None = None


class Plan:
    """A product that cuBLASLt knows: the handles of its descriptor and layouts, and the constants that it reads."""

    def __init__(self, product: Product, descriptor: int, a: int, b: int, out: int) -> None:
        self.product, self.descriptor, self.a, self.b, self.out = product, descriptor, a, b, out
        self.constants = np.zeros(2, _scale(product))
        self.pointers = 0, 0
        self.algorithm = np.zeros(0, np.uint64)


class Chooser(Protocol):
    """What chooses among algorithms."""

    def choose(self, key: str, candidates: list[bytes], time: Callable[[bytes], float]) -> bytes:
        """One of the candidates, or what was chosen for this key before."""


class Autotuner:
    """Chooses the fastest algorithm once per key and keeps it in `table`: hexadecimal by key, fit for JSON and TOML."""

    def __init__(self, table: MutableMapping[str, str] | None = None) -> None:
        self.table: MutableMapping[str, str] = {} if table is None else table

    def choose(self, key: str, candidates: list[bytes], time: Callable[[bytes], float]) -> bytes:
        """What the table has for this key, else the fastest candidate, and the first of equals; only that is timed."""
        if key not in self.table:
            self.table[key] = min(candidates, key=time).hex()
        return bytes.fromhex(self.table[key])


class Matmuls:
    """Products on one GPU, their plans kept; all on streams that wait for one another, since they share the workspace.

    Args:
        lt: `nvmath.bindings.cublasLt`.
        workspace: A device array of bytes, aligned to 256, which lives as long as the graphs that hold products.
        stream: Gives the address of the current stream.
        precision: "fp32", "tf32" (products of float32 round their operands) or "bf16" (operands come in that type).
        autotune: Chooses among the best algorithms; without it the library's first choice is taken.
        timer: Seconds that a run takes, perhaps the best of several; needed by `autotune` alone.
    """

    def __init__(
        self,
        lt: Any,
        *,
        workspace: Array,
        stream: Callable[[], int],
        precision: str = "fp32",
        autotune: Chooser | None = None,
        timer: Callable[[Callable[[], None]], float] | None = None,
    ) -> None:
        self.precision = one_of("precision", precision, PRECISIONS)
        if workspace.data.ptr % WORKSPACE_ALIGNMENT:
            raise ValueError(
                f"workspace: got the address {workspace.data.ptr:#x}, expected a multiple of {WORKSPACE_ALIGNMENT}."
            )
        if autotune is not None and timer is None:
            raise ValueError("autotune needs a timer.")
        self._lt, self._workspace, self._stream = lt, workspace, stream
        self._autotune, self._timer = autotune, timer
        self._handle = 0
        self._plans: dict[Product, Plan] = {}
        self._supported: dict[Product, bool] = {}
        self._resources = ExitStack()
        self._finalizer = weakref.finalize(self, self._resources.close)

    def __call__(
        self,
        a: Array,
        b: Array,
        *,
        out: Array,
        alpha: Any = 1.0,
        beta: Any = 0.0,
        epilogue: str | None = None,
        bias: Array | None = None,
        aux: Array | None = None,
    ) -> Array:
        """out <- epilogue(alpha a b + beta out). Must have run once with arrays of these forms before it is captured.

        Args:
            a: (M, K), its rows contiguous, padded or not, or the transposed view of such an array.
            b: (K, N), likewise, and of a's dtype: float32, float64, or uint16 for the bits of bfloat16.
            out: (M, N), its rows contiguous, of a's dtype, or float32 where that is uint16; aliases neither a nor b.
            alpha, beta: Both Python floats (constants; beta 0.0 means that out is not read), or both 0-d arrays of
                float32, float64 for float64 (read at every run).
            epilogue: One of `EPILOGUES`. cuBLASLt's ReLU makes 0 of NaN; its GELU is the one of tanh.
            bias: (N,), added before the activation; for the gradients it is written: the sum of out over its rows.
                Of out's dtype; where that is uint16 perhaps float32: `supports` tells.
            aux: What a forward epilogue leaves for the gradient, made by `aux_shape`; any number of its first rows.
        """
        call = Call(a, b, out, alpha, beta, bias, aux)
        product = product_of(call, epilogue)
        plan = self._plans.get(product)
        if plan is None:
            plan = self._plans[product] = self._make(product, call)
        self._run(plan, plan.algorithm, call)
        return out

    def supports(
        self,
        dtype: Any,
        epilogue: str | None,
        *,
        shape: tuple[int, int, int] = (128, 64, 96),
        transposed: tuple[bool, bool] | None = None,
        out_dtype: Any = None,
        bias_dtype: Any = None,
    ) -> bool:
        """Whether the library has an algorithm for such a product of arrays without padding, or padded as bfloat16 is.

        Args:
            dtype: That of a and b.
            epilogue: One of `EPILOGUES`.
            shape: M, K and N; those of a small sample where nothing is said.
            transposed: Whether a and b are transposed views; where nothing is said b is for gradients, as in dz w^T.
            out_dtype: dtype where nothing is said.
            bias_dtype: out_dtype where nothing is said.
        """
        a_transposed, b_transposed = transposed or (False, epilogue in GRADIENTS)
        rows, inner, columns = shape
        kind = np.dtype(dtype).char
        out_kind = np.dtype(out_dtype or dtype).char
        product = Product(
            _sample(rows, inner, a_transposed, kind),
            _sample(inner, columns, b_transposed, kind),
            out := _sample(rows, columns, False, out_kind),
            epilogue,
            Vector(columns, np.dtype(bias_dtype or out_kind).char, WIDEST_LOAD) if EPILOGUES[epilogue].bias else None,
            _sample_aux(out, epilogue),
        )
        if product not in self._supported:
            check(product)
            with ExitStack() as resources:
                plan = build_plan(self._lt, product, precision=self.precision, resources=resources)
                set_pointers(self._lt, plan, (self._workspace.data.ptr, self._workspace.data.ptr))
                self._supported[product] = bool(self._candidates(plan))
        return self._supported[product]

    def close(self) -> None:
        """Give all handles back. Captured graphs go on working as long as the workspace is there."""
        self._plans.clear()
        self._finalizer()

    def _make(self, product: Product, call: Call) -> Plan:
        check(product)
        with ExitStack() as resources:
            plan = build_plan(self._lt, product, precision=self.precision, resources=resources)
            set_pointers(self._lt, plan, _pointers(call))
            candidates = self._candidates(plan)
            if not candidates:
                raise DeviceError(
                    f"cuBLASLt {self._lt.get_version()} has no algorithm for {self.text(product)} on this GPU: "
                    "choose another precision or other layer sizes, or update nvidia-cublas and the driver."
                )
            chosen = candidates[0] if self._autotune is None else self._tuned(self._autotune, plan, call, candidates)
            plan.algorithm = _words(chosen)
            if chosen not in candidates:
                self._check_stored(plan)
            self._resources.callback(resources.pop_all().close)
        return plan

    def _tuned(self, autotune: Chooser, plan: Plan, call: Call, candidates: list[bytes]) -> bytes:
        before = call.out.copy()

        def time(algorithm: bytes) -> float:
            assert self._timer is not None
            words = _words(algorithm)
            return self._timer(lambda: self._run(plan, words, call))

        chosen = autotune.choose(self.text(plan.product), candidates, time)
        call.out[...] = before  # a product with beta has changed it at every run
        return chosen

    def _run(self, plan: Plan, algorithm: np.ndarray, call: Call) -> None:
        if plan.product.scalars is None:
            plan.constants[...] = call.alpha, call.beta
            alpha = plan.constants.ctypes.data
            beta = alpha + plan.constants.itemsize
        else:
            alpha, beta = call.alpha.data.ptr, call.beta.data.ptr
        set_pointers(self._lt, plan, _pointers(call))
        out, work = call.out.data.ptr, self._workspace
        self._lt.matmul(
            *(self._open(), plan.descriptor),
            *(alpha, call.b.data.ptr, plan.b, call.a.data.ptr, plan.a),
            *(beta, out, plan.out, out, plan.out),
            *(algorithm.ctypes.data, work.data.ptr, work.nbytes, self._stream()),
        )

    def _candidates(self, plan: Plan) -> list[bytes]:
        """The library's algorithms, the one it holds for the fastest first."""
        lt = self._lt
        results = np.zeros(CANDIDATES, lt.matmul_heuristic_result_dtype)
        found = np.zeros(1, np.int32)
        with ExitStack() as resources:
            preference = build_preference(lt, plan.product, workspace=self._workspace.nbytes, resources=resources)
            try:
                lt.matmul_algo_get_heuristic(
                    *(self._open(), plan.descriptor, plan.b, plan.a, plan.out, plan.out, preference),
                    *(CANDIDATES, results.ctypes.data, found.ctypes.data),
                )
            except lt.cuBLASLtError as error:
                if error.status not in (INVALID_VALUE, NOT_SUPPORTED):
                    raise
                return []
        return [row["algo"].tobytes() for row in results[: found[0]] if self._fits(row)]

    def _fits(self, result: Any) -> bool:
        return bool(result["state"] == SUCCESS and result["workspace_size"] <= self._workspace.nbytes)

    def _check_stored(self, plan: Plan) -> None:
        """An algorithm from a table may come from another GPU or another version of the library."""
        lt = self._lt
        result = np.zeros(1, lt.matmul_heuristic_result_dtype)
        layouts = plan.b, plan.a, plan.out, plan.out
        try:
            if plan.algorithm.nbytes == lt.matmul_algo_dtype.itemsize:
                algorithm = plan.algorithm.ctypes.data
                lt.matmul_algo_check(self._open(), plan.descriptor, *layouts, algorithm, result.ctypes.data)
                if self._fits(result[0]):
                    return
        except lt.cuBLASLtError:
            pass
        raise DeviceError(
            f"The stored algorithm for {self.text(plan.product)} does not work with this GPU and "
            f"cuBLASLt {lt.get_version()}: autotune anew, without the stored table."
        )

    def _open(self) -> int:
        if not self._finalizer.alive:
            raise RuntimeError("these products are closed")
        if not self._handle:
            self._handle = self._lt.create()
            self._resources.callback(self._lt.destroy, self._handle)
        return self._handle

    def text(self, product: Product) -> str:
        """The product in words that say all of it: "f32 128x784x300 nn relu_aux_bias ..."."""
        return describe(product, precision=self.precision)


def aux_shape(out_shape: tuple[int, int], epilogue: str, dtype: Any) -> tuple[tuple[int, int], np.dtype[Any]]:
    """Shape and dtype of the aux for an `out` of that shape and dtype: packed bits for ReLU, numbers for GELU."""
    rows, columns = out_shape
    kind = EPILOGUES[epilogue].aux
    if not kind:
        raise ValueError(f"The epilogue {epilogue} has no aux.")
    columns = _round_up(columns, AUX_MULTIPLES[kind])
    return ((rows, columns // 8), np.dtype(np.uint8)) if kind == "bits" else ((rows, columns), np.dtype(dtype))


def product_of(call: Call, epilogue: str | None) -> Product:
    """The product of these arrays, as the key of its plan."""
    return Product(
        operand(call.a),
        operand(call.b),
        by_rows(call.out),
        epilogue,
        None if call.bias is None else _vector(call.bias),
        None if call.aux is None else by_rows(call.aux),
        _scalars(call.alpha, call.beta),
    )


def operand(array: Array) -> Matrix:
    """How an operand lies in memory, told by its strides.

    Where a size of 1 leaves both readings, the one of the longer rows is taken: its leading dimension, and not 1, is
    what decides how wide the library may load.
    """
    rows, columns = array.shape
    down, across = _steps(array)
    as_is = (columns == 1 or across == 1) and (rows == 1 or down >= columns)
    as_transposed = (rows == 1 or down == 1) and (columns == 1 or across >= rows)
    if as_transposed and not (as_is and columns >= rows):
        ld = max(across, rows) if columns == 1 else across
        return Matrix(columns, rows, ld, True, *_kind(array, ld))
    if not as_is:
        raise ValueError(f"Got shape {array.shape} and strides {array.strides}, expected rows or columns in one piece.")
    ld = max(down, columns) if rows == 1 else down
    return Matrix(rows, columns, ld, False, *_kind(array, ld))


def by_rows(array: Array) -> Matrix:
    """How an array lies in memory whose rows are contiguous."""
    rows, columns = array.shape
    down, across = _steps(array)
    if (columns > 1 and across != 1) or (rows > 1 and down < columns):
        raise ValueError(f"Got shape {array.shape} and strides {array.strides}, expected contiguous rows.")
    ld = max(down, columns) if rows == 1 else down
    return Matrix(rows, columns, ld, False, *_kind(array, ld))


def check(product: Product) -> None:
    """Refuse what cuBLASLt would misread.

    Raises:
        ValueError: Shapes, types, bias or aux do not fit.
    """
    a, b, out, epilogue, bias, aux, scalars = product
    if (a.shape[0], b.shape[1]) != out.shape or a.shape[1] != b.shape[0]:
        raise ValueError(f"Got a {a.shape}, b {b.shape} and out {out.shape}, expected (M, K), (K, N) and (M, N).")
    if a.type != b.type or out.type not in OUTPUTS.get(a.type, ""):
        raise ValueError(
            f"Got a, b and out of types {a.type}, {b.type} and {out.type}, "
            "expected all f (float32), all d (float64), or a and b H (bfloat16) and out H or f."
        )
    if scalars not in (None, _scale(product).char):
        raise ValueError(f"alpha, beta: got type {scalars}, expected {_scale(product)}.")
    one_of("epilogue", str(epilogue), map(str, EPILOGUES))
    wanted = EPILOGUES[epilogue]
    if bool(bias) != wanted.bias:
        raise ValueError(f"bias: got {bias}, but {epilogue} {'needs one' if wanted.bias else 'has none'}.")
    if bias and (bias.size != out.columns or bias.type not in (out.type, _scale(product).char)):
        raise ValueError(f"bias: got {bias}, expected {out.columns} numbers of out's type or of alpha's.")
    if bool(aux) != bool(wanted.aux):
        raise ValueError(f"aux: got {aux}, but {epilogue} {'needs one' if wanted.aux else 'has none'}.")
    if aux:
        (_, least), dtype = aux_shape(out.shape, str(epilogue), np.dtype(out.type))
        if (
            aux.rows != out.rows
            or aux.columns < least
            or aux.type != dtype.char
            or _aux_ld(product) % AUX_MULTIPLES[wanted.aux]
        ):
            raise ValueError(
                f"aux: got {aux}, expected {out.rows} rows of {least} {dtype}, "
                f"their leading dimension a multiple of {AUX_MULTIPLES[wanted.aux]}."
            )


def describe(product: Product, *, precision: str) -> str:
    """The product in words that say all of it, with the precision where it counts."""
    a, b, out, epilogue, bias, aux, scalars = product
    name = "tf32" if a.type == "f" and precision == "tf32" else TYPE_NAMES[a.type]
    arrays = {"a": a, "b": b, "out": out, "bias": bias, "aux": aux}
    return " ".join(
        [
            name if out.type == a.type else f"{name}-{TYPE_NAMES[out.type]}",
            f"{a.shape[0]}x{a.shape[1]}x{b.shape[1]}",
            "".join("t" if matrix.transposed else "n" for matrix in (a, b)),
            epilogue or "plain",
            "ld " + ",".join(str(matrix.ld) for matrix in (a, b, out, aux) if matrix),
            *([f"bias {TYPE_NAMES[bias.type]}"] if bias and bias.type != out.type else []),
            "aligned " + ",".join(str(array.alignment) for array in arrays.values() if array),
            "constants" if scalars is None else "scalars",
        ]
    )


def build_plan(lt: Any, product: Product, *, precision: str, resources: ExitStack) -> Plan:
    """The plan, still without algorithm and without the addresses of bias and aux; `resources` destroys its handles."""
    a, b, out, epilogue, bias, aux, scalars = product
    scale = TYPES[_scale(product).char]
    descriptor = lt.matmul_desc_create(_compute(a.type, precision), scale)
    resources.callback(lt.matmul_desc_destroy, descriptor)
    attributes = {
        "TRANSA": OP_T if b.transposed else OP_N,
        "TRANSB": OP_T if a.transposed else OP_N,
        "POINTER_MODE": lt.PointerMode.HOST if scalars is None else lt.PointerMode.DEVICE,
        "EPILOGUE": lt.Epilogue[EPILOGUES[epilogue].name],
    }
    if bias and bias.type != out.type:
        attributes["BIAS_DATA_TYPE"] = TYPES[bias.type]
    if aux:
        attributes["EPILOGUE_AUX_LD"] = _aux_ld(product)
    for attribute, value in attributes.items():
        _describe(lt, descriptor, attribute, value)
    return Plan(product, descriptor, *(_layout(lt, matrix, resources) for matrix in (a, b, out)))


def set_pointers(lt: Any, plan: Plan, pointers: tuple[int, int]) -> None:
    """Tell the descriptor where bias and aux lie, if anywhere.

    That is no part of a product: layers of one shape share a plan and so an algorithm, in whatever order they came. The
    library copies the addresses when it launches, and looks at their alignment when it is asked for algorithms.
    """
    if plan.pointers != pointers:
        for name, pointer in zip(("BIAS_POINTER", "EPILOGUE_AUX_POINTER"), pointers, strict=True):
            if pointer:
                _describe(lt, plan.descriptor, name, pointer)
        plan.pointers = pointers


def build_preference(lt: Any, product: Product, *, workspace: int, resources: ExitStack) -> int:
    """What an algorithm may count on, and that its results are the same at every run: no sums by atomics."""
    preference: int = lt.matmul_preference_create()
    resources.callback(lt.matmul_preference_destroy, preference)
    values = {
        "MAX_WORKSPACE_BYTES": workspace,
        "REDUCTION_SCHEME_MASK": lt.ReductionScheme.MASK & ~lt.ReductionScheme.INPLACE,
        "MIN_ALIGNMENT_A_BYTES": product.b.alignment,
        "MIN_ALIGNMENT_B_BYTES": product.a.alignment,
        "MIN_ALIGNMENT_C_BYTES": product.out.alignment,
        "MIN_ALIGNMENT_D_BYTES": product.out.alignment,
    }
    for name, value in values.items():
        attribute = lt.MatmulPreferenceAttribute[name]
        buffer = np.array(value, lt.get_matmul_preference_attribute_dtype(attribute))
        lt.matmul_preference_set_attribute(preference, attribute, buffer.ctypes.data, buffer.nbytes)
    return preference


def _describe(lt: Any, descriptor: int, name: str, value: int) -> None:
    attribute = lt.MatmulDescAttribute[name]
    buffer = np.array(value, lt.get_matmul_desc_attribute_dtype(attribute))
    lt.matmul_desc_set_attribute(descriptor, attribute, buffer.ctypes.data, buffer.nbytes)


def _layout(lt: Any, matrix: Matrix, resources: ExitStack) -> int:
    layout: int = lt.matrix_layout_create(TYPES[matrix.type], matrix.columns, matrix.rows, matrix.ld)
    resources.callback(lt.matrix_layout_destroy, layout)
    return layout


def _compute(kind: str, precision: str) -> int:
    if kind == "d":
        return COMPUTE_64F
    return COMPUTE_32F_FAST_TF32 if kind == "f" and precision == "tf32" else COMPUTE_32F


def _scale(product: Product) -> np.dtype[Any]:
    """The dtype of alpha and beta."""
    return np.dtype(np.float64 if product.a.type == "d" else np.float32)


def _aux_ld(product: Product) -> int:
    """In bits for ReLU, in numbers for GELU."""
    assert product.aux
    return product.aux.ld * (8 if EPILOGUES[product.epilogue].aux == "bits" else 1)


def _scalars(alpha: Any, beta: Any) -> str | None:
    constant = isinstance(alpha, float | int)
    if constant != isinstance(beta, float | int):
        raise ValueError(f"Got alpha {type(alpha)} and beta {type(beta)}, expected both numbers or both 0-d arrays.")
    if constant:
        return None
    if alpha.shape != () or beta.shape != () or alpha.dtype != beta.dtype:
        raise ValueError(
            f"Got alpha {alpha.shape} {alpha.dtype} and beta {beta.shape} {beta.dtype}, expected 0-d arrays of a dtype."
        )
    return str(alpha.dtype.char)


def _vector(array: Array) -> Vector:
    (size,) = array.shape
    if size > 1 and array.strides[0] != array.dtype.itemsize:
        raise ValueError(f"Got a vector of strides {array.strides}, expected a contiguous one.")
    return Vector(size, *_kind(array))


def _steps(array: Array) -> tuple[int, int]:
    down, across = array.strides
    return down // array.dtype.itemsize, across // array.dtype.itemsize


def _kind(array: Array, ld: int = 0) -> tuple[str, int]:
    """Its type, and the alignment of all its rows."""
    return array.dtype.char, _aligned(array.data.ptr, ld * array.dtype.itemsize)


def _aligned(address: int, pitch: int) -> int:
    """The largest power of two, up to the widest load, that divides both."""
    lowest = address | pitch | WIDEST_LOAD
    return lowest & -lowest


def _pointers(call: Call) -> tuple[int, int]:
    """Where bias and aux lie; 0 for none."""
    return 0 if call.bias is None else call.bias.data.ptr, 0 if call.aux is None else call.aux.data.ptr


def _words(algorithm: bytes) -> np.ndarray:
    return np.frombuffer(algorithm, np.uint64).copy()


def _sample(rows: int, columns: int, transposed: bool, kind: str) -> Matrix:
    if transposed:
        rows, columns = columns, rows
    ld = _round_up(columns, 8) if kind == "H" else columns
    return Matrix(rows, columns, ld, transposed, kind, _aligned(0, ld * np.dtype(kind).itemsize))


def _sample_aux(out: Matrix, epilogue: str | None) -> Matrix | None:
    if not EPILOGUES[epilogue].aux:
        return None
    (rows, columns), dtype = aux_shape(out.shape, str(epilogue), np.dtype(out.type))
    return Matrix(rows, columns, columns, False, dtype.char, WIDEST_LOAD)


def _round_up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
