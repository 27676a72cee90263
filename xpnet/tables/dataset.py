"""A table made into samples: targets first, then the split, then what the training rows teach, then every row encoded.

Each of these reads the file anew, in pieces, so that it may be larger than the memory; what is encoded then lies in a
temporary file.
"""

from __future__ import annotations

import math
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xpnet.data.arrays import MAPPED_ABOVE
from xpnet.data.checks import Label, Targets, encode_targets
from xpnet.data.dataset import Dataset
from xpnet.data.splits import Split, split_rows
from xpnet.errors import DataError, XpnetError, printable
from xpnet.tables.encoder import LARGEST, Category, Encoder, Number, as_numbers, as_text, spelling
from xpnet.tables.kinds import Kind, as_dates, has_commas, kind_of, no_numbers, task_of
from xpnet.tables.learning import Scaling, learn
from xpnet.tables.reading import TableFile, no_rows, quoted

if TYPE_CHECKING:
    import pandas as pd

LEARNT_FROM = 200_000
"""Rows, drawn from those for training, that tell the kinds of the columns and teach the encoder."""


PROBED = 20_000
"""Rows of training, the first ones, that tell which columns to read as numbers, which is ten times as fast."""


_WITHOUT_COMMAS = "write 1234.5 in place of 1,234.5 or 1234,5"
_UNNAMED = re.compile(r"Unnamed: [0-9]+")


@dataclass(frozen=True)
class Columns:
    """What is asked of a table's columns.

    Attributes:
        target: The column that is predicted.
        task: What its values are; None to tell from them.
        ignored: Columns to leave out.
        categorical: Columns of numbers that are categories.
        time, group: The columns by which rows are ordered for the split, or stay together in it.
        scaling, one_hot, embedding: As of `learn`.
    """

    target: str
    task: Literal["classification", "regression"] | None = None
    ignored: tuple[str, ...] = ()
    categorical: tuple[str, ...] = ()
    time: str | None = None
    group: str | None = None
    scaling: Scaling = "standard"
    one_hot: int = 64
    embedding: int = 8


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
    _refuse_unknown(main, columns)
    known, keys = _targets(main, columns)
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
        [printable(line) for line in (*_notices(main, columns, known, kinds, encoder), *oddities)],
        files,
    )


@dataclass(frozen=True)
class _Known:
    """The targets of the rows that have one, and which these are."""

    targets: Targets
    present: np.ndarray

    @property
    def rows(self) -> np.ndarray:
        return np.flatnonzero(self.present)

    def expanded(self) -> np.ndarray:
        """The targets with a row for every row of the table; the rows without one belong to no set."""
        y = self.targets.y
        out = np.zeros((len(self.present), *y.shape[1:]), y.dtype)
        out[self.present] = y
        return out


def _split(
    file: TableFile,
    columns: Columns,
    known: _Known,
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
        why = "; ".join([*_left_out(kinds), *_oddities(frame, kinds)])
        raise DataError(f"{file.path} has no columns to learn from ({why}): give one of numbers or of categories")
    options: Any = {"scaling": columns.scaling, "one_hot": columns.one_hot, "embedding": columns.embedding}
    return learn(frame, kinds, target=columns.target, **options), kinds, list(_oddities(frame, kinds))


def _oddities(frame: pd.DataFrame, kinds: dict[str, Kind]) -> Iterator[str]:
    """What columns hold that people may not expect, a line each."""
    odd = {name: no_numbers(frame[name]) for name, kind in kinds.items() if kind == "number"}
    if told := [f"{name} ({counts.index[0]!r:.40})" for name, counts in odd.items() if len(counts)]:
        yield f"taken as missing, for they are no numbers: values of {quoted(told)}"
    words = [name for name, kind in kinds.items() if kind in ("category", "text")]
    if names := [name for name in words if has_commas(frame[name])]:
        yield f"text, for the commas in their numbers: {quoted(names)}; {_WITHOUT_COMMAS}"


def _test_set(
    file: TableFile, columns: Columns, encoder: Encoder, targets: Targets
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Samples, targets and the numbers of the rows that have one."""
    asked = Columns(columns.target, task=columns.task)
    _refuse_unknown(file, asked)
    if lacking := encoder.lacking(file.names):
        raise DataError(f"{file.path} lacks columns of the training table: {quoted(lacking)}: give them")
    known, _ = _targets(file, asked, targets)
    return _encoded(file, encoder, len(known.present)), known.expanded(), known.rows


def _refuse_unknown(file: TableFile, columns: Columns) -> None:
    asked = {
        "target": [columns.target],
        "ignore": columns.ignored,
        "categorical": columns.categorical,
        "time_column": [columns.time] if columns.time else [],
        "group_column": [columns.group] if columns.group else [],
    }
    for option, names in asked.items():
        for name in names:
            if name not in file.names:
                known = quoted(file.names)
                raise DataError(f'{option}: got "{name}", expected a column of {file.path.name}: {known}')


def _targets(file: TableFile, columns: Columns, known: Targets | None = None) -> tuple[_Known, dict[str, np.ndarray]]:
    """The targets, and what the split goes by: one pass over these columns alone."""
    roles = {"target": columns.target, "time": columns.time, "group": columns.group}
    named = {role: name for role, name in roles.items() if name is not None}
    pieces = list(file.pieces(sorted(set(named.values()))))
    if not sum(map(len, pieces)):
        raise no_rows(file.path)
    whole = {role: joined([piece[name] for piece in pieces]) for role, name in named.items()}
    task = columns.task or (task_of(whole["target"]) if known is None else known.task)
    if task == "classification" and not columns.task and known is None and has_commas(whole["target"]):
        raise DataError(
            f'{file.path}: the target "{columns.target}" holds numbers with commas: {_WITHOUT_COMMAS}, or add --task '
            "classification"
        )
    keys = {role: _KEYS[role](whole[role]) for role in whole.keys() - {"target"}}
    classes = None if known is None else known.classes
    values, present = present_targets(whole["target"], task, classes, table=str(file.path))
    if not present.any():
        raise DataError(f'{file.path}: the target "{columns.target}" has no value in any row: give another column')
    what = f'{file.path.name}: "{columns.target}"'
    return _Known(encode_targets(values, rows=len(values), classes=classes, what=what), present), keys


def present_targets(
    series: pd.Series, task: str, classes: Sequence[Label] | None = None, *, table: str = "the table"
) -> tuple[np.ndarray, np.ndarray]:
    """The targets of the rows that have one: floats, or labels as whole numbers or text; and (N,) which rows these are.

    Labels are of the type of the known classes, where there are such: 1 among texts is the text, not a position.

    Args:
        series: The column; its index numbers the rows from 0.
        task: What the values are.
        classes: The known ones; None for all that there are.
        table: What error messages call the table.

    Raises:
        DataError: Numbers are asked for, and there is something else, or too large ones; or a class is not known; the
            message names the first such row, counted from 1.
    """
    text = as_text(series)
    present = text.notna().to_numpy()

    def refuse(odd: np.ndarray, why: str, advice: str) -> None:
        if odd.any():
            place = int(np.argmax(odd))
            raise DataError(
                f'{table}: the target "{series.name}" holds {text.iloc[place]!r:.40}, {why}, in row '
                f"{series.index[place] + 1:,} below the names: {advice}"
            )

    if task == "regression":
        numbers = as_numbers(series)
        refuse(np.isnan(numbers) & present, "which is no number", "mend it, or add --task classification")
        refuse(np.abs(numbers) > LARGEST, f"expected numbers up to {LARGEST:g}", "give it in another unit")
        return numbers[present], present
    if classes is None:
        return _labels(text[present].to_numpy(object)), present
    known = {spelling(label): label for label in classes}
    shown = ", ".join(f"{label!s:.40}" for label in classes[:12]) + ", ..." * (len(classes) > 12)
    refuse(present & ~text.isin(known).to_numpy(), f"expected one of {shown}", "mend it, or leave out its row")
    return np.array(text[present].map(known).tolist()), present


def _labels(text: np.ndarray) -> np.ndarray:
    """Labels as whole numbers where all are, else as text."""
    import pandas as pd

    places, different = pd.factorize(text)
    try:
        numbers = np.array([int(label) for label in different], np.int64)
    except (ValueError, OverflowError):
        return different.astype(str)[places]
    written_so = all(str(n) == t for n, t in zip(numbers, different, strict=True))
    return (numbers if written_so else different.astype(str))[places]


def _times(series: pd.Series) -> np.ndarray:
    """(N,) by which rows are sorted: numbers, or dates of one form.

    Raises:
        DataError: There are others, or one is missing: sorted as text, 10 would come before 9.
    """
    text = as_text(series)
    if missing := int(text.isna().sum()):
        raise DataError(f'time_column: "{series.name}" has no value in {missing:,} rows: fill these, or leave them out')
    numbers = as_numbers(series)
    if np.isfinite(numbers).all():
        return numbers
    different, places = np.unique(text.to_numpy(str), return_inverse=True)
    dates = as_dates(different)
    if dates is None:
        odd = str(different[0])
        raise DataError(
            f'time_column: "{series.name}" holds neither numbers alone nor dates of one form ({odd!r:.40}, for '
            "instance): write them as 2020-12-31 or 2020-12-31T23:59:59"
        )
    return np.asarray(dates)[places]


def _groups(series: pd.Series) -> np.ndarray:
    """(N,) the same number for the same value; what is missing is one group."""
    import pandas as pd

    return pd.factorize(as_text(series).fillna(""))[0]


_KEYS: dict[str, Callable[[Any], np.ndarray]] = {"time": _times, "group": _groups}
"""What the split goes by, of the column with that role."""


def _rows_to_learn_from(file: TableFile, columns: Columns, train: np.ndarray, rng: np.random.Generator) -> pd.DataFrame:
    """Rows of training, drawn where there are very many, without the columns that are not to be learnt from."""
    left_out = {columns.target, columns.time, columns.group, *columns.ignored, *_unnamed(file, columns)}
    names = [name for name in file.names if name not in left_out]
    if not names:
        raise DataError(f"{file.path} has no column beside the target: give some to predict it from")
    first = _rows(file, names, train[:PROBED])
    if len(train) <= PROBED:
        return first
    drawn = train if len(train) <= LEARNT_FROM else np.sort(rng.choice(train, LEARNT_FROM, replace=False))
    numbers = [name for name in names if _kind(name, first[name], columns) == "number"]
    return _rows(file, names, drawn, numbers=numbers)


def _unnamed(file: TableFile, columns: Columns) -> list[str]:
    """What pandas has called columns without a name, mostly an index that it once wrote; unless it is asked for."""
    asked = {columns.target, columns.time, columns.group, *columns.categorical}
    return [name for name in file.names if _UNNAMED.fullmatch(name) and name not in asked]


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


def joined(parts: Sequence[pd.Series]) -> pd.Series:
    """One after the other; categories stay categories."""
    import pandas as pd
    from pandas.api.types import union_categoricals

    if all(isinstance(part.dtype, pd.CategoricalDtype) for part in parts):
        return pd.Series(union_categoricals(parts), name=parts[0].name)
    return pd.concat(parts, ignore_index=True)


def _kind(name: str, series: pd.Series, columns: Columns) -> Kind:
    kind = kind_of(series)
    return "category" if name in columns.categorical and kind != "constant" else kind


def _encoded(file: TableFile, encoder: Encoder, rows: int) -> np.ndarray:
    """(N, width) float32; in a temporary file where it is large."""
    shape = rows, encoder.width
    out = np.empty(shape, np.float32) if 4 * math.prod(shape) <= MAPPED_ABOVE else _in_a_file(shape)
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


def _notices(
    file: TableFile, columns: Columns, known: _Known, kinds: dict[str, Kind], encoder: Encoder
) -> Iterator[str]:
    targets = known.targets
    if targets.task == "classification":
        what = f"{len(targets.classes or ())} classes"
        why = "regression" if all(isinstance(label, int) for label in targets.classes or ()) else None
    else:
        what, why = "a number", "classification"
    hint = "" if columns.task or why is None else f" (--task {why} if that is wrong)"
    yield f'target "{columns.target}": {what}, so this is {targets.task}{hint}'
    if targets.task == "regression" and (size := float(np.abs(targets.y).max())) * 1e-5 > np.std(targets.y / 2) > 0:
        yield f"up to {size:g} its values differ too little for float32: subtract an offset, or add --dtype float64"
    if targets.classes and (single := int((np.bincount(targets.y) == 1).sum())):
        yield f"classes of a single row: {single:,} of {len(targets.classes):,}"
    if missing := int((~known.present).sum()):
        yield f"left out: {missing:,} rows without a target"
    for kind, plural in (("number", "numbers"), ("category", "categories")):
        if names := [name for name in kinds if kinds[name] == kind]:
            yield f"{plural} ({len(names)}): {quoted(names)}"
    if embedded := [
        f"{c.name} ({len(c.values):,})" for c in encoder.columns if isinstance(c, Category) and c.embedding
    ]:
        yield f"embedded for their many values: {quoted(embedded)}"
    if holes := [c.name for c in encoder.columns if isinstance(c, Number) and c.indicator]:
        yield f"missing values filled with the median, and told by a column of their own: {quoted(holes)}"
    yield from _left_out(kinds)
    if nameless := file.nameless + len(_unnamed(file, columns)):
        yield f"left out, without a name: {nameless} column{'s' * (nameless > 1)}"
    if file.nested:
        yield f"left out, lists or bytes: {quoted(file.nested)}"


def _left_out(kinds: dict[str, Kind]) -> Iterator[str]:
    reasons = {"text": "free text, or names of rows", "date": "dates", "constant": "one value throughout"}
    for kind, why in reasons.items():
        if names := [name for name in kinds if kinds[name] == kind]:
            yield f"left out, {why}: {quoted(names)}"
