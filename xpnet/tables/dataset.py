"""A table made into samples: targets first, then the split, then what the training rows teach, then every row encoded.

Each of these reads the file anew, in pieces, so that it may be larger than the memory; what is encoded then lies in a
temporary file.
"""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.data.arrays import MAPPED_ABOVE
from xpnet.data.checks import Targets
from xpnet.data.dataset import Dataset
from xpnet.data.reading import max_bytes, refuse_too_large
from xpnet.data.splits import Split, split_rows
from xpnet.errors import DataError, XpnetError, printable
from xpnet.tables.columns import Columns, refuse_unknown, unnamed
from xpnet.tables.encoder import Encoder
from xpnet.tables.kinds import Kind, kind_of
from xpnet.tables.learning import learn
from xpnet.tables.notices import left_out, notices, oddities
from xpnet.tables.reading import TableFile, joined, quoted
from xpnet.tables.targets import Known, read_targets

if TYPE_CHECKING:
    import pandas as pd

LEARNT_FROM = 200_000
"""Rows, drawn from those for training, that tell the kinds of the columns and teach the encoder."""


PROBED = 20_000
"""Rows of training, the first ones, that tell which columns to read as numbers, which is ten times as fast."""


@dataclass(frozen=True)
class Table:
    """A table made into samples.

    Attributes:
        dataset: All rows, encoded, and those of the test file where there is one.
        train, validation, test: The numbers of the rows; of `test` in the test file where there is one.
        encoder: Learnt from the training rows.
        kinds: Of the columns that could be learnt from.
        notices: What a person should know, a line each.
        files: The one of training, and the test file where there is one.
    """

    dataset: Dataset
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    encoder: Encoder
    kinds: dict[str, Kind]
    notices: list[str] = field(repr=False)
    files: list[TableFile] = field(repr=False)

    def records(self, numbers: np.ndarray, *, tested: bool) -> pd.DataFrame:
        """The raw rows of these numbers, as the file has them; `tested` says that they are of the test set."""
        return self.files[-1 if tested else 0].rows(numbers, [*self.encoder.names, self.encoder.target])


def load(
    paths: Sequence[str | Path],
    columns: Columns,
    split: Split | None,
    *,
    seed: np.random.SeedSequence,
    limit: int | None = None,
) -> Table:
    """One table, or one to train on and one to test on.

    Args:
        paths: Of the files.
        columns: What is asked of their columns.
        split: The parts; None for no validation set.
        seed: Of what is drawn.
        limit: Use only the first so many rows of the first file; None for all.

    Raises:
        DataError: A file is missing or damaged, or lacks a column that was asked for.
    """
    if len(paths) > 2:
        raise DataError(f"data: got {len(paths)} tables, expected one, or one to train on and one to test on")
    files = [TableFile(path) for path in paths]
    if len(files) == 2 and split is not None and split.test:
        raise XpnetError("split: got a test part beside a test file, expected two parts; leave out the third one.")
    main, rng = files[0], np.random.default_rng(seed)
    refuse_unknown(main, columns)
    known, keys = read_targets(main, columns)
    train, validation, test = _split(main, columns, known, keys, split, rng, limit)
    encoder, kinds, oddities = _learnt(main, columns, train, rng)
    x_test, y_test = None, None
    if len(files) == 2:
        x_test, y_test, test = _test_set(files[1], columns, encoder, known.targets)
    task, classes = known.targets.task, known.targets.classes
    x = _encoded(main, encoder, len(known.present))
    return Table(
        Dataset(main.path.name, x, known.expanded(), task, classes, x_test, y_test),
        train,
        validation,
        test,
        encoder,
        kinds,
        [printable(line) for line in (*notices(main, columns, known, kinds, encoder), *oddities)],
        files,
    )


def _split(
    file: TableFile,
    columns: Columns,
    known: Known,
    keys: dict[str, np.ndarray],
    split: Split | None,
    rng: np.random.Generator,
    limit: int | None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    if limit is not None and not 1 <= limit <= len(known.rows):
        raise XpnetError(f"train_size: got {limit}, expected 1 to {len(known.rows)} rows.")
    rows = known.rows[:limit]
    if len(rows) < 2:
        raise DataError(f'{file.path}: the column "{columns.target}" has {len(rows)} values: give more rows')
    if split is None:
        return rows, rows[:0], rows[:0]
    classes = known.expanded() if known.targets.task == "classification" else None
    return split_rows(split, y=classes, rng=rng, rows=rows, order=keys.get("time"), groups=keys.get("group"))


def _learnt(
    file: TableFile, columns: Columns, train: np.ndarray, rng: np.random.Generator
) -> tuple[Encoder, dict[str, Kind], list[str]]:
    """The encoder, the kinds of the columns, and what is odd about their values, a line each."""
    frame = _rows_to_learn_from(file, columns, train, rng)
    kinds = {name: _kind(name, frame[name], columns) for name in frame.columns}
    if not {"number", "category"} & set(kinds.values()):
        why = "; ".join([*left_out(kinds), *oddities(frame, kinds)])
        raise DataError(f"{file.path} has no columns to learn from ({why}): give one of numbers or of categories")
    options: Any = {"scaling": columns.scaling, "one_hot": columns.one_hot, "embedding": columns.embedding}
    return learn(frame, kinds, target=columns.target, **options), kinds, list(oddities(frame, kinds))


def _test_set(
    file: TableFile, columns: Columns, encoder: Encoder, targets: Targets
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples, targets and the numbers of the rows that have one."""
    asked = Columns(columns.target, task=columns.task)
    refuse_unknown(file, asked)
    if lacking := encoder.lacking(file.names):
        raise DataError(f"{file.path} lacks columns of the training table: {quoted(lacking)}: give them")
    known, _ = read_targets(file, asked, targets)
    return _encoded(file, encoder, len(known.present)), known.expanded(), known.rows


def _rows_to_learn_from(file: TableFile, columns: Columns, train: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Rows of training, drawn where there are very many, without the columns that are not to be learnt from."""
    unasked = {columns.target, columns.time, columns.group, *columns.ignored, *unnamed(file, columns)}
    names = [name for name in file.names if name not in unasked]
    if not names:
        raise DataError(f"{file.path} has no column beside the target: give some to predict it from")
    first = _rows(file, names, train[:PROBED])
    if len(train) <= PROBED:
        return first
    drawn = train if len(train) <= LEARNT_FROM else np.sort(rng.choice(train, LEARNT_FROM, replace=False))
    refuse_too_large(file.path, 8 * len(drawn) * len(names), what="has columns to learn from that take")
    numbers = [name for name in names if _kind(name, first[name], columns) == "number"]
    return _rows(file, names, drawn, numbers=numbers)


def _rows(file: TableFile, names: Sequence[str], wanted: np.ndarray, *, numbers: Sequence[str] = ()) -> pd.DataFrame:
    """The rows of these ascending numbers."""
    import pandas as pd

    parts: list[pd.DataFrame] = []
    start = 0
    for piece in file.pieces(names, numbers=numbers):
        part = piece.iloc[wanted[(wanted >= start) & (wanted < start + len(piece))] - start]
        parts.append(part.assign(**{name: _without_unused(part[name]) for name in names}))
        start += len(piece)
        if start > wanted[-1]:
            break
    return pd.DataFrame({name: joined([part[name] for part in parts]) for name in names})


def _without_unused(series: pd.Series) -> pd.Series:
    return series.cat.remove_unused_categories() if hasattr(series, "cat") else series


def _kind(name: str, series: pd.Series, columns: Columns) -> Kind:
    kind = kind_of(series)
    return "category" if name in columns.categorical and kind != "constant" else kind


def _encoded(file: TableFile, encoder: Encoder, rows: int) -> np.ndarray:
    """(N, width) float32; in a temporary file where it is large."""
    shape = rows, encoder.width
    in_memory = 4 * math.prod(shape) <= min(MAPPED_ABOVE, max_bytes())
    out = np.empty(shape, np.float32) if in_memory else _in_a_file(shape)
    start = 0
    for piece in file.pieces(encoder.names, numbers=encoder.numbers):
        out[start : start + len(piece)] = encoder(piece)
        start += len(piece)
    return out


def _in_a_file(shape: tuple[int, int]) -> np.ndarray:
    """Room on the disk, which is given back with the last array that lies there.

    Raises:
        DataError: There is not enough; else a write into the room that is not there would end the process.
    """
    size = 4 * math.prod(shape)
    with tempfile.TemporaryFile(prefix="xpnet-") as space:
        if shutil.disk_usage(folder := tempfile.gettempdir()).free < size:
            raise DataError(
                f"data: {shape[0]:,} rows of {shape[1]:,} numbers take {size:,} bytes, more than {folder} has free: "
                "set TMPDIR to a folder with more, or take fewer rows, or --numbers standard"
            )
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(space.fileno(), 0, size)
        return np.memmap(space, np.float32, "r+", shape=shape)
