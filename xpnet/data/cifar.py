"""CIFAR-10 from its folder of pickles or of plain bytes; the pickles are read without running what they name."""

from __future__ import annotations

import io
import pickle
import pickletools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.data.dataset import Dataset
from xpnet.data.reading import read_at_most, reading
from xpnet.errors import DataError

_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_CLASSES = 10
_TRAIN = tuple(f"data_batch_{i}" for i in range(1, 6))
_TEST = "test_batch"
_MAX_FILE = 64 * 2**20  # twice a real batch

# What CIFAR's pickles are made of, and how many of each one file may hold. Few tuples and few reads of the memo leave
# no room for tuples that nest too deep or too wide to be hashed, and bounded memo slots none for a huge memo.
_FEW, _MANY = 32, 200_000
_RARE = (
    *("PROTO", "STOP", "GLOBAL", "REDUCE", "BUILD", "BINGET"),
    *("TUPLE", "TUPLE1", "TUPLE2", "TUPLE3", "EMPTY_LIST", "EMPTY_DICT", "SETITEM", "SETITEMS"),
    *("NONE", "NEWTRUE", "NEWFALSE", "BINSTRING"),
)
_COMMON = (
    *("MARK", "APPEND", "APPENDS", "BINPUT", "LONG_BINPUT"),
    *("BININT", "BININT1", "BININT2", "SHORT_BINSTRING", "BINUNICODE"),
)
_OPCODES = dict.fromkeys(_RARE, _FEW) | dict.fromkeys(_COMMON, _MANY)


def read_cifar10(folder: str | Path) -> Dataset:
    """Reads the folder ``cifar-10-batches-py`` or ``cifar-10-batches-bin``, told apart by their files.

    Raises:
        DataError: A file is missing, damaged, or holds anything but images and their labels.
    """
    folder = Path(folder)
    binary = (folder / f"{_TEST}.bin").exists()
    suffix, read_batch = (".bin", _read_binary_batch) if binary else ("", _read_pickled_batch)
    classes = _read_text_names(folder / "batches.meta.txt") if binary else _read_pickled_names(folder / "batches.meta")
    batches = [read_batch(folder / f"{stem}{suffix}") for stem in _TRAIN]
    x_test, y_test = read_batch(folder / f"{_TEST}{suffix}")
    return Dataset(
        name="cifar10",
        x=np.concatenate([x for x, _ in batches]),
        y=np.concatenate([y for _, y in batches]),
        task="classification",
        classes=classes,
        x_test=x_test,
        y_test=y_test,
        scale=1 / 255,
        image_shape=_SHAPE,
    )


def _read_binary_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    raw = _read_bytes(path, "a binary CIFAR-10 batch")
    if not raw or len(raw) % (1 + _PIXELS):
        raise DataError(f"{path} has {len(raw)} bytes, no multiple of {1 + _PIXELS} as expected: fetch it again")
    rows = np.frombuffer(raw, np.uint8).reshape(-1, 1 + _PIXELS)
    return _checked_batch(path, rows[:, 1:], rows[:, 0].tolist())


def _read_pickled_batch(path: Path) -> tuple[np.ndarray, np.ndarray]:
    record = _read_pickle(path)
    pixels = record.get(b"data")
    if not isinstance(pixels, _Array):
        raise DataError(f"{path} holds no array of bytes under 'data': fetch the CIFAR-10 batch again")
    return _checked_batch(path, pixels.values, record.get(b"labels"))


def _checked_batch(path: Path, pixels: np.ndarray, labels: Any) -> tuple[np.ndarray, np.ndarray]:
    if pixels.ndim != 2 or pixels.shape[1] != _PIXELS or len(pixels) == 0:
        raise DataError(f"{path} holds images of shape {pixels.shape}, not (rows, {_PIXELS}): fetch it again")
    if not isinstance(labels, list) or len(labels) != len(pixels):
        count = len(labels) if isinstance(labels, list) else "no"
        raise DataError(f"{path} holds {len(pixels)} images but {count} labels: fetch it again")
    for row, label in enumerate(labels):
        if type(label) is not int or not 0 <= label < _CLASSES:
            raise DataError(f"{path} holds the label {label!r:.40} in row {row}, not one of 0 to 9: fetch it again")
    return np.array(pixels, order="C"), np.array(labels, dtype=np.int32)


def _read_text_names(path: Path) -> tuple[str, ...]:
    return _checked_names(path, _read_bytes(path, "the CIFAR-10 class names").split())


def _read_pickled_names(path: Path) -> tuple[str, ...]:
    return _checked_names(path, _read_pickle(path).get(b"label_names"))


def _checked_names(path: Path, names: Any) -> tuple[str, ...]:
    if not isinstance(names, list) or len(names) != _CLASSES or not all(isinstance(name, bytes) for name in names):
        raise DataError(f"{path} does not hold {_CLASSES} class names: fetch it again")
    return tuple(name.decode("ascii", "replace") for name in names)


def _read_bytes(path: Path, kind: str) -> bytes:
    with reading(path, kind), path.open("rb") as stream:
        raw = bytes(read_at_most(stream, _MAX_FILE + 1))
    if len(raw) > _MAX_FILE:
        raise DataError(f"{path} has more than {_MAX_FILE} bytes, too many for {kind}: fetch it again")
    return raw


def _read_pickle(path: Path) -> dict[Any, Any]:
    kind = "a CIFAR-10 pickle"
    raw = _read_bytes(path, kind)
    with reading(path, kind):
        _check_opcodes(raw)
        record = _Unpickler(io.BytesIO(raw), encoding="bytes").load()
    if not isinstance(record, dict):
        raise DataError(f"{path} holds a {type(record).__name__}, not the dict of {kind}: fetch it again")
    return record


def _check_opcodes(raw: bytes) -> None:
    """Refuses, before anything is built, what the unpickler itself would follow into endless memory or time."""
    counts: Counter[str] = Counter()
    for opcode, argument, _ in pickletools.genops(raw):
        counts[opcode.name] += 1
        if counts[opcode.name] > _OPCODES.get(opcode.name, 0):
            raise pickle.UnpicklingError(f"it holds more {opcode.name} than CIFAR-10 needs")
        if opcode.name == "LONG_BINPUT" and int(argument or 0) > _MANY:
            raise pickle.UnpicklingError(f"it asks for a memo of {argument} slots")


class _Unpickler(pickle.Unpickler):
    """Unpickles plain containers and arrays of bytes; NumPy itself never sees what the pickle passes."""

    def find_class(self, module: str, name: str) -> Any:
        try:
            return _STAND_INS[module, name]
        except KeyError:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which is no part of CIFAR-10") from None

    def persistent_load(self, pid: Any) -> Any:
        raise pickle.UnpicklingError("it asks for a persistent object, which is no part of CIFAR-10")


class _Function:
    """Stands in for a function that CIFAR's pickles call; a pickle can set nothing on it."""

    __slots__ = ("_call",)

    def __init__(self, call: Callable[..., Any]) -> None:
        self._call = call

    def __call__(self, *args: Any) -> Any:
        return self._call(*args)

    def __setstate__(self, state: Any) -> None:
        raise pickle.UnpicklingError("it sets the state of a function")


class _Bytes:
    """Stands in for the dtype uint8."""

    __slots__ = ()

    def __setstate__(self, state: Any) -> None:
        """Ignores the state: for bytes it says nothing."""


class _Array:
    """Stands in for an array of bytes."""

    __slots__ = ("values",)

    def __init__(self) -> None:
        self.values = np.empty(0, np.uint8)

    def __setstate__(self, state: Any) -> None:
        _, shape, dtype, fortran, raw = state
        if type(dtype) is not _Bytes or type(raw) is not bytes:
            raise pickle.UnpicklingError("it holds an array of another type than bytes")
        self.values = np.frombuffer(raw, np.uint8).reshape(shape, order="F" if fortran else "C")


def _make_dtype(code: Any, *_: Any) -> _Bytes:
    if code not in (b"u1", "u1"):
        raise pickle.UnpicklingError(f"it holds an array of type {code!r:.40}, not of bytes")
    return _Bytes()


def _make_array(*_: Any) -> _Array:
    return _Array()


def _encode(text: str, *_: Any) -> bytes:
    return text.encode("latin-1")


def _refuse_call(*_: Any) -> Any:
    raise pickle.UnpicklingError("it calls numpy.ndarray itself")


_STAND_INS = {
    ("numpy.core.multiarray", "_reconstruct"): _Function(_make_array),
    ("numpy._core.multiarray", "_reconstruct"): _Function(_make_array),
    ("numpy", "ndarray"): _Function(_refuse_call),
    ("numpy", "dtype"): _Function(_make_dtype),
    ("_codecs", "encode"): _Function(_encode),
}
