"""Samples and targets as users bring them, turned into arrays that kernels can take."""

from __future__ import annotations

import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np

from xpnet.errors import DataError

if TYPE_CHECKING:
    from scipy.sparse import csr_array

Label = str | int | bool
"""What a user calls a class."""

Task = Literal["classification", "multilabel", "regression"]
TASKS: tuple[Task, ...] = get_args(Task)
_WEIGHTS_EXPONENT = 30
"""Of two: sample weights up to so large, or as small, stay as they are."""

_BLOCK = 4096
"""Rows that are looked at together."""

KEPT_DTYPES = (np.uint8, np.float32, np.float64)
"""Types of samples that stay as they are."""

_LONGEST_LABEL = 80
"""Characters of a label that messages show."""


@dataclass(frozen=True)
class Targets:
    """Holds encoded targets, what they ask for, and the classes' labels by index (None for regression)."""

    task: Task
    y: np.ndarray
    classes: tuple[Label, ...] | None


def converted_itemsize(dtype: np.dtype) -> int:
    """Bytes of memory for a value that becomes a sample or a label: float64, or four a character, or as it is."""
    if dtype.kind == "S":
        return 4 * dtype.itemsize
    return dtype.itemsize if dtype.newbyteorder("=") in KEPT_DTYPES else max(dtype.itemsize, 8)


def check_samples(x: Any, *, what: str = "X") -> np.ndarray | csr_array:
    """Returns samples as a finite (N, I) matrix: C-contiguous, or CSR where they are sparse.

    Bytes, float32 and float64 keep their type; other numbers become float64.

    Args:
        x: Any array-like of shape (N, ...), or a SciPy sparse matrix.
        what: What error messages call the samples.

    Raises:
        DataError: The samples are empty, not numbers, or not finite.
    """
    if _is_sparse(x):
        return _check_sparse(x, what)
    array = _as_array(x, what)
    _refuse_empty(array.shape, what)
    if array.dtype.kind == "U":
        raise _text_error(array, 0, what, "convert it to numbers or leave it out")
    array = np.ascontiguousarray(_as_kept_dtype(array, what).reshape(len(array), -1))
    _refuse_non_finite(array, what)
    return array


def encode_targets(y: Any, *, rows: int, classes: Sequence[Label] | None = None, what: str = "y") -> Targets:
    """Tells from the type of ``y`` what it asks for, and encodes it.

    Whole numbers, booleans and text are class labels; a matrix of 0 and 1 is multilabel; floats are regression.

    Args:
        y: Targets of shape (N,), (N, 1) or (N, K).
        rows: How many samples there are.
        classes: The labels to encode by, as the training set gave them; by default all that occur in ``y``. Where they
            are text, whole numbers in ``y`` are taken as their positions.
        what: What error messages call the targets.

    Raises:
        DataError: The targets are empty, do not fit the samples, or are none of the three kinds.
    """
    array = _as_array(y, what)
    _refuse_empty(array.shape, what)
    if len(array) != rows:
        raise DataError(f"{what} has {len(array)} rows but there are {rows} samples: give one row of {what} per sample")
    if array.dtype.kind == "f":
        return _encode_regression(array, classes, what)
    if array.dtype.kind not in "biuU":
        raise DataError(f"{what} holds {array.dtype}: give class labels, 0/1 columns or floats")
    if array.ndim == 1 or array.shape[1:] == (1,):
        return _encode_labels(array.reshape(-1), classes, what)
    return _encode_multilabel(array, classes, what)


def check_weights(weights: Any, *, rows: int) -> np.ndarray:
    """Returns sample weights as (N,) float64; only their proportions count, and float32 has to hold them.

    Very large or small ones are therefore divided by a power of two, until the largest is about 1.

    Args:
        weights: One number for each sample.
        rows: How many samples there are.

    Raises:
        DataError: There are too few or too many, one is negative or not finite, or all are zero.
    """
    try:
        with np.errstate(over="ignore"):
            array = np.asarray(weights, dtype=np.float64)
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"sample_weight holds other things than numbers: give {rows} numbers") from error
    if array.shape != (rows,) or not np.isfinite(array).all() or array.min() < 0 or array.max() == 0:
        raise DataError(
            f"sample_weight has shape {array.shape}: give {rows} finite numbers, one for each sample, none negative "
            "and not all zero"
        )
    exponent = int(np.frexp(array.max())[1])
    return array if abs(exponent) <= _WEIGHTS_EXPONENT else np.ldexp(array, -exponent)


def _encode_regression(y: np.ndarray, classes: Sequence[Label] | None, what: str) -> Targets:
    if classes is not None:
        raise DataError(f"{what} holds floats where labels of {len(classes)} classes are expected: give the labels")
    if y.ndim > 2:
        raise DataError(f"{what} has shape {y.shape}: give floats as (rows,) or (rows, outputs)")
    with np.errstate(all="ignore"):  # what a longer float overflows to is refused below
        y = np.ascontiguousarray(y.reshape(len(y), -1), dtype=np.float64)
    _refuse_non_finite(y, what)
    return Targets("regression", y, None)


def _encode_labels(y: np.ndarray, classes: Sequence[Label] | None, what: str) -> Targets:
    values, inverse = np.unique(y, return_inverse=True)
    labels = values.tolist()
    if classes is None and len(labels) == 1:
        raise DataError(f"{what} holds the single class {_shown(labels[0])}: give labels of two classes or more")
    known = tuple(labels if classes is None else classes)
    by_position = y.dtype.kind in "iu" and all(isinstance(label, str) for label in known)
    allowed = range(len(known)) if by_position else known
    index = {label: i for i, label in enumerate(allowed)}
    encoded = np.array([index.get(label, -1) for label in labels], dtype=np.int32)[inverse]
    if (encoded < 0).any():
        row = int(np.argmax(encoded < 0))
        raise DataError(
            f"{what} holds the label {_shown(labels[inverse[row]])} in row {row}, out of the known range: "
            f"use only {_abbreviated([str(label) for label in allowed])}"
        )
    return Targets("classification", encoded, known)


def _encode_multilabel(y: np.ndarray, classes: Sequence[Label] | None, what: str) -> Targets:
    if y.ndim > 2 or y.dtype.kind == "U" or not np.isin(y, (0, 1)).all():
        raise DataError(
            f"{what} is a table of shape {y.shape} that holds other values than 0 and 1: "
            "give one label per row, 0/1 columns, or floats for regression"
        )
    columns = tuple(range(y.shape[1]))
    if classes is not None and columns != tuple(classes):
        raise DataError(f"{what} has {len(columns)} columns where the {len(classes)} classes of training are expected")
    return Targets("multilabel", np.ascontiguousarray(y, dtype=np.uint8), columns)


def _is_sparse(values: Any) -> bool:
    """Whether these are a matrix of SciPy's, told without importing SciPy."""
    return hasattr(values, "tocsr")


def _check_sparse(x: Any, what: str) -> csr_array:
    from scipy.sparse import csr_array

    if x.ndim != 2:
        raise DataError(f"{what} is sparse with shape {x.shape}: give sparse samples as (rows, columns)")
    _refuse_empty(x.shape, what)
    matrix = csr_array(x)
    matrix = csr_array((_as_kept_dtype(matrix.data, what), matrix.indices, matrix.indptr), shape=matrix.shape)
    if not matrix.has_canonical_format:
        matrix = matrix.copy()  # sums in place, and the arrays may be the caller's own
        matrix.sum_duplicates()
    bad = ~np.isfinite(matrix.data)
    if bad.any():
        first = int(bad.argmax())
        row = int(np.searchsorted(matrix.indptr, first, side="right")) - 1
        raise _non_finite_error(matrix.data[first], row, int(matrix.indices[first]), what)
    return matrix


def _as_array(values: Any, what: str) -> np.ndarray:
    """Returns an array of a plain type; objects count by their values, so Python ints are whole numbers."""
    if _is_sparse(values):
        raise DataError(f"{what} is sparse: give it as a dense array")
    try:
        array = np.asarray(values)
        if array.dtype.kind in "US" and not isinstance(values, np.ndarray):
            array = np.asarray(values, dtype=object)  # NumPy made text of any numbers beside text
        if array.dtype.kind == "S":
            array = array.astype(str)
        plain = np.array(array.tolist()) if array.dtype.kind == "O" else array
    except (ValueError, TypeError, OverflowError) as error:
        raise DataError(f"{what} is no table: give rows of one length that hold numbers or text") from error
    if array.ndim == 0:
        raise DataError(f"{what} is a single {type(values).__name__}: give an array with one row per sample")
    if array.dtype.kind == "O":
        _refuse_mixture(array, what)
    if plain.dtype.kind not in "biufU" or plain.shape != array.shape:
        raise DataError(f"{what} holds values of type {plain.dtype}: give numbers, or text as labels")
    return plain


def _refuse_mixture(array: np.ndarray, what: str) -> None:
    for position, value in enumerate(array.flat):
        if not isinstance(value, (str, bytes, numbers.Real, np.bool_)):
            kind = type(value).__name__
            raise DataError(
                f"{what} holds {value!r:.80} of type {kind} in {_cell(array, position)}: give numbers or text"
            )
    texts = [isinstance(value, (str, bytes)) for value in array.flat]
    if any(texts) and not all(texts):
        raise _text_error(array, texts.index(True), what, "give only numbers, or only text as labels")


def _refuse_empty(shape: tuple[int, ...], what: str) -> None:
    if 0 in shape:
        raise DataError(f"{what} is empty with shape {shape}: give at least one row and one column")


def _refuse_non_finite(matrix: np.ndarray, what: str) -> None:
    if matrix.dtype.kind != "f":
        return
    for start in range(0, len(matrix), _BLOCK):  # what is mapped from a file may be larger than the memory
        finite = np.isfinite(matrix[start : start + _BLOCK])
        if not finite.all():
            row, column = divmod(int(finite.argmin()), matrix.shape[1])
            raise _non_finite_error(matrix[start + row, column], start + row, column, what)


def _as_kept_dtype(array: np.ndarray, what: str) -> np.ndarray:
    if array.dtype.kind not in "biuf":
        raise DataError(f"{what} holds values of type {array.dtype} where real numbers are expected: convert them")
    native = array.dtype.newbyteorder("=")
    with np.errstate(all="ignore"):  # what a longer float overflows to is refused as not finite
        return array.astype(native if native in KEPT_DTYPES else np.float64, copy=False)


def _non_finite_error(value: Any, row: int, column: int, what: str) -> DataError:
    return DataError(f"{what} holds {value} in row {row}, column {column}: fill in or leave out what is not finite")


def _text_error(array: np.ndarray, position: int, what: str, advice: str) -> DataError:
    cell = f"{str(array.flat[position])!r:.80} in {_cell(array, position)}"
    return DataError(f"{what} holds text where numbers are expected ({cell}): {advice}")


def _cell(array: np.ndarray, position: int) -> str:
    row, column = divmod(position, array.size // len(array))
    return f"row {row}" if array.ndim == 1 else f"row {row}, column {column}"


def _shown(label: Label) -> str:
    return f"{label!r:.{_LONGEST_LABEL}}"


def _abbreviated(names: Sequence[str]) -> str:
    few = len(names) <= 12
    shown = [f"{name:.{_LONGEST_LABEL}}" for name in (names if few else names[:10])]
    return ", ".join(shown) if few else f"{', '.join(shown)}, ... or {names[-1]:.{_LONGEST_LABEL}}"
