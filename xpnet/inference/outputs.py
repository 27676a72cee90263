"""Predictions as files: .csv, .tsv, .parquet, .npz, or standard output; written as they come, whole or not at all."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import secrets
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Protocol

import numpy as np

from xpnet.errors import XpnetError
from xpnet.files import PARTIAL
from xpnet.inference.kept import as_cells, as_numpy

STANDARD = "-"
"""The name of standard input and output."""


@dataclass(frozen=True)
class Predicted:
    """What a model says of some samples.

    Attributes:
        prediction: (n,) labels or numbers, or (n, K) 0/1 labels or (n, O) numbers.
        probabilities: (n, K), where there are classes or labels, else None.
        classes: Their K names.
        kept: What is written beside them, by the name of the column: Arrow arrays, or lists of text.
    """

    prediction: np.ndarray
    probabilities: np.ndarray | None
    classes: tuple[Any, ...] | None
    kept: dict[str, Any]

    def columns(self) -> dict[str, Any]:
        """Columns of a table: those that are kept, the predictions, the probabilities.

        Raises:
            XpnetError: One of them has the name of another.
        """
        if self.prediction.ndim == 1:
            said = {"prediction": self.prediction}
        else:
            names = self.classes or range(self.prediction.shape[1])
            said = {f"prediction {name}": self.prediction[:, i] for i, name in enumerate(names)}
        if self.probabilities is not None:
            said |= {f"probability {name}": self.probabilities[:, i] for i, name in enumerate(self.classes or ())}
        refuse_taken(self.kept, said)
        return self.kept | said


def refuse_taken(kept: Iterable[str], taken: Iterable[str]) -> None:
    """Raises an XpnetError if a column that is kept has the name of one that is written anyway."""
    if both := set(kept) & set(taken):
        raise XpnetError(
            f'keep: got "{min(both)}", as which predictions are written; give it another name in the table.'
        )


class Writer(Protocol):
    """Takes predictions, some at a time."""

    def write(self, predicted: Predicted) -> None:
        """Write them."""


@contextlib.contextmanager
def open_writer(out: str, *, overwrite: bool = False) -> Iterator[Writer]:
    """What writes rows into a file of that name, which appears when all are written.

    Args:
        out: Its name, the ending of which says its kind; "-" for CSV to standard output.
        overwrite: Whether what is there may be replaced.

    Raises:
        XpnetError: The ending is unknown, the file is there already, or it cannot be written.
    """
    kind = ".csv" if out == STANDARD else Path(out).suffix.lower()
    if kind not in _KINDS:
        raise XpnetError(f'out: got "{out}", expected a name that ends in {", ".join(_KINDS)}, or - for the terminal.')
    if (library := _NEEDED.get(kind)) and importlib.util.find_spec(library) is None:
        raise XpnetError(
            f"out: {kind} needs {library}, which is not installed; pip install 'xpnet[tables]', or take .npz."
        )
    if out == STANDARD:
        if hasattr(sys.stdout, "reconfigure"):
            sys.stdout.reconfigure(encoding="utf-8", newline="\n")  # as files are, whatever the locale
        with contextlib.suppress(_UnwritableError):
            yield _Standard(sys.stdout, ",")
        failure = getattr(sys.stdout, "failure", None)
        if failure is not None and not isinstance(failure, BrokenPipeError):  # who reads no more has what they wanted
            raise XpnetError(f"out: standard output cannot be written ({failure.strerror}); write elsewhere.")
        return
    path = Path(out)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        if path.exists() and not overwrite:
            raise XpnetError(f"out: {path} is there already; choose another name, or add --overwrite.")
        with _KINDS[kind](partial) as writer:
            yield writer
        partial.replace(path)
    except OSError as error:
        raise XpnetError(f"out: {path} cannot be written ({error.strerror or error}); choose another one.") from error
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


class _Csv:
    """Rows of text, the first of names."""

    def __init__(self, file: Any, delimiter: str) -> None:
        self._file, self._delimiter, self._names = file, delimiter, True

    def write(self, predicted: Predicted) -> None:
        import pandas as pd

        frame = pd.DataFrame({name: as_cells(values) for name, values in predicted.columns().items()})
        frame.to_csv(self._file, sep=self._delimiter, header=self._names, index=False, lineterminator="\n")
        self._names = False


class _UnwritableError(Exception):
    """Standard output takes no more."""


class _Standard(_Csv):
    """The same to standard output; it ends where nobody reads any more."""

    def write(self, predicted: Predicted) -> None:
        super().write(predicted)
        self._file.flush()
        if getattr(self._file, "failure", None) is not None:
            raise _UnwritableError


@contextlib.contextmanager
def _text(path: Path, delimiter: str) -> Iterator[Writer]:
    with path.open("x", encoding="utf-8", newline="") as file:
        yield _Csv(file, delimiter)


class _Parquet:
    """Apache Parquet; the first piece tells the types."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer: Any = None

    def write(self, predicted: Predicted) -> None:
        import pyarrow as pa
        from pyarrow import parquet

        table = pa.table(predicted.columns())
        if self._writer is None:
            self._writer = parquet.ParquetWriter(self._path, table.schema)
        self._writer.write_table(table)

    def close(self) -> None:
        if self._writer is not None:
            self._writer.close()


class _Npz:
    """Each array lies in a temporary file until its length is known, which stands before it in the archive."""

    def __init__(self, path: Path) -> None:
        self._path, self._files = path, contextlib.ExitStack()
        self._arrays: dict[str, tuple[IO[bytes], np.dtype, tuple[int, ...]]] = {}
        self._kept: dict[str, list[Any]] = {}
        self._classes: Any = None

    def write(self, predicted: Predicted) -> None:
        self._classes = predicted.classes
        refuse_taken(predicted.kept, ("prediction", "probabilities", "classes"))
        self._append("prediction", predicted.prediction)
        if predicted.probabilities is not None:
            self._append("probabilities", predicted.probabilities)
        for name, values in predicted.kept.items():  # of what length text is, and of what type, only the last row tells
            self._kept.setdefault(name, []).append(values)

    def _append(self, name: str, array: np.ndarray) -> None:
        if name not in self._arrays:
            file = self._files.enter_context(tempfile.TemporaryFile(prefix="xpnet-"))  # noqa: SIM115 - closed by close
            self._arrays[name] = file, array.dtype, array.shape[1:]
        self._arrays[name][0].write(np.ascontiguousarray(array).data)

    def close(self) -> None:
        with self._files, zipfile.ZipFile(self._path, "x") as archive:
            for name, (file, dtype, shape) in self._arrays.items():
                rows = file.tell() // (dtype.itemsize * math.prod(shape))
                file.seek(0)
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    descr = np.lib.format.dtype_to_descr(dtype)
                    header = {"descr": descr, "fortran_order": False, "shape": (rows, *shape)}
                    np.lib.format.write_array_header_1_0(member, header)
                    shutil.copyfileobj(file, member)
            whole = {name: as_numpy(parts) for name, parts in self._kept.items()}
            for name, values in (whole | ({} if self._classes is None else {"classes": self._classes})).items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as member:
                    np.lib.format.write_array(member, np.asarray(values), allow_pickle=False)


def _closing(kind: Any) -> Callable[[Path], AbstractContextManager[Writer]]:
    return lambda path: contextlib.closing(kind(path))


_NEEDED = {".csv": "pandas", ".tsv": "pandas", ".parquet": "pyarrow"}
"""Libraries that xpnet has only with an extra, by the kind of file."""

_KINDS: dict[str, Callable[[Path], AbstractContextManager[Writer]]] = {
    ".csv": lambda path: _text(path, ","),
    ".tsv": lambda path: _text(path, "\t"),
    ".parquet": _closing(_Parquet),
    ".npz": _closing(_Npz),
}
