"""What a product is, without addresses and numbers: the forms of its arrays and its epilogue."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from xpnet.devices.base import Array
from xpnet.errors import one_of

TYPE_NAMES = {"f": "f32", "d": "f64", "H": "bf16", "B": "u8"}

OUTPUTS = {"f": "f", "d": "d", "H": "Hf"}
"""The types of out for that of a and b."""

WIDEST_LOAD = 16
"""Bytes that a kernel reads at once. Nobody is told of more alignment than this, so that an array that lies now here,
now there in a larger one, whole rows further, has one plan and one algorithm."""


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


def scale_dtype(product: Product) -> np.dtype[Any]:
    """The dtype of alpha and beta."""
    return np.dtype(np.float64 if product.a.type == "d" else np.float32)


def aux_ld(product: Product) -> int:
    """In bits for ReLU, in numbers for GELU."""
    assert product.aux
    return product.aux.ld * (8 if EPILOGUES[product.epilogue].aux == "bits" else 1)


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
    if scalars not in (None, scale_dtype(product).char):
        raise ValueError(f"alpha, beta: got type {scalars}, expected {scale_dtype(product)}.")
    one_of("epilogue", str(epilogue), map(str, EPILOGUES))
    wanted = EPILOGUES[epilogue]
    if bool(bias) != wanted.bias:
        raise ValueError(f"bias: got {bias}, but {epilogue} {'needs one' if wanted.bias else 'has none'}.")
    if bias and (bias.size != out.columns or bias.type not in (out.type, scale_dtype(product).char)):
        raise ValueError(f"bias: got {bias}, expected {out.columns} numbers of out's type or of alpha's.")
    if bool(aux) != bool(wanted.aux):
        raise ValueError(f"aux: got {aux}, but {epilogue} {'needs one' if wanted.aux else 'has none'}.")
    if aux:
        (_, least), dtype = aux_shape(out.shape, str(epilogue), np.dtype(out.type))
        if (
            aux.rows != out.rows
            or aux.columns < least
            or aux.type != dtype.char
            or aux_ld(product) % AUX_MULTIPLES[wanted.aux]
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


def sample_product(
    dtype: Any,
    epilogue: str | None,
    *,
    shape: tuple[int, int, int],
    transposed: tuple[bool, bool] | None,
    out_dtype: Any,
    bias_dtype: Any,
) -> Product:
    """One of arrays without padding, or padded as bfloat16 is; None is for the usual: see `Matmuls.supports`."""
    a_transposed, b_transposed = transposed or (False, epilogue in GRADIENTS)
    rows, inner, columns = shape
    kind = np.dtype(dtype).char
    out_kind = np.dtype(out_dtype or dtype).char
    return Product(
        _sample(rows, inner, a_transposed, kind),
        _sample(inner, columns, b_transposed, kind),
        out := _sample(rows, columns, False, out_kind),
        epilogue,
        Vector(columns, np.dtype(bias_dtype or out_kind).char, WIDEST_LOAD) if EPILOGUES[epilogue].bias else None,
        _sample_aux(out, epilogue),
    )


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
