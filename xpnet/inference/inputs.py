"""Samples for a model, some at a time: rows of tables, arrays, images, data sets by name."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet import data
from xpnet.data.arrays import SAMPLES, read_samples
from xpnet.data.checks import Targets, encode_targets
from xpnet.errors import DataError
from xpnet.inference import images
from xpnet.inference.kept import Kept
from xpnet.inference.unread import Unread
from xpnet.network import MLP
from xpnet.tables.encoder import Encoder
from xpnet.tables.reading import TableFile, is_table, no_rows, quoted
from xpnet.tables.targets import present_targets

if TYPE_CHECKING:
    import pandas as pd

ROWS = 2**14
"""Samples at a time, where a reader does not say how many."""

IMAGES = 2**8
"""The same of images."""


@dataclass(frozen=True)
class Piece:
    """Some samples.

    Attributes:
        x: (n, I) as the network takes them raw.
        kept: What is written beside their predictions, by the name of the column: Arrow arrays, or lists of text.
        targets: Encoded; None where none were asked for.
    """

    x: Any
    kept: dict[str, Any]
    targets: Targets | None = None


def unlabelled(
    network: MLP,
    paths: Sequence[str],
    *,
    folder: str | None = None,
    keep: Sequence[str] = (),
    fill_missing: bool = False,
    tell: Callable[[str], None] = print,
) -> Iterator[Piece]:
    """Samples to predict.

    Args:
        network: Whose samples they are.
        paths: A table for a model of one; else images, one file of samples (.npy, .npz, IDX), or a data set by its
            name, of which the test set is taken where there is one.
        folder: Where public data sets lie.
        keep: Columns of a table that are written beside the predictions.
        fill_missing: Take columns that a table lacks as missing in every row.
        tell: Called with what else a person should know.

    Raises:
        DataError: They are not to be had, or are not of the model's kind.
    """
    if not paths:
        raise DataError("data: got no file, expected some: name them behind --data")
    if keep and network.table is None:
        raise DataError("keep: got it for a model that was not trained on a table: leave it out")
    if network.table is not None:
        yield from _rows(network.table, _table(paths), keep=keep, fill_missing=fill_missing, tell=tell)
    elif images.are_images(paths):
        yield from _images(network, paths, tell=tell)
    elif len(paths) > 1:
        raise DataError(
            f"data: got {len(paths)} files, expected one file of samples, or images (.png, .jpg) alone: give them so"
        )
    elif paths[0] in data.NAMES:
        dataset = data.load(paths[0], folder=folder)
        yield from _blocks(dataset.x if dataset.x_test is None else dataset.x_test)
    else:
        _refuse_table(network, paths)
        if not os.path.exists(paths[0]):
            raise DataError(f"{paths[0]}: there is no such file or data set; give {SAMPLES}")
        yield from _blocks(read_samples(paths[0]))


def labelled(
    network: MLP,
    paths: Sequence[str],
    *,
    folder: str | None = None,
    fill_missing: bool = False,
    tell: Callable[[str], None] = print,
) -> Iterator[Piece]:
    """Samples with their targets, to measure the model by.

    Args:
        network: Whose samples they are.
        paths: A table that has the target's column, for a model of one; else what `xpnet.data.load` takes; of data with
            a test set that alone is taken.
        folder: Where public data sets lie.
        fill_missing: As of `unlabelled`; the target has to be there.
        tell: Called with what else a person should know.
    """
    if network.table is not None:
        yield from _labelled_rows(network, network.table, _table(paths), fill_missing=fill_missing, tell=tell)
        return
    _refuse_table(network, paths)
    dataset = data.load(list(paths), folder=folder)
    x, y = dataset.x, dataset.y
    if dataset.y_test is not None:
        tell(f"{dataset.name}: its test set")
        x, y = dataset.x_test, dataset.y_test
    task, classes = network.task or dataset.task, network.classes
    if dataset.task != task or (task == "classification" and set(dataset.classes or ()) - set(classes or ())):
        raise DataError(
            f"{dataset.name} is {dataset.task} of {_shown(dataset.classes)}, the model is {task} of {_shown(classes)}: "
            "give data of its kind"
        )
    if task != "classification" and y.shape[1] != network.sizes[-1]:
        raise DataError(
            f"{dataset.name} has {y.shape[1]} targets a sample, the model {network.sizes[-1]}: give data of its kind"
        )
    if task == "classification":  # its classes by the model's numbers
        places = {label: i for i, label in enumerate(classes or ())}
        y = np.array([places[label] for label in dataset.classes or ()], dtype=np.int32)[y]
    start = 0
    for piece in _blocks(x):
        stop = start + piece.x.shape[0]
        yield Piece(piece.x, {}, Targets(dataset.task, y[start:stop], classes))
        start = stop


def _table(paths: Sequence[str]) -> TableFile:
    if len(paths) != 1 or not is_table(paths[0]):
        raise DataError(
            f"data: got {', '.join(paths):.200} for a model of a table, expected one .csv, .tsv or .parquet"
        )
    return TableFile(paths[0])


def _refuse_table(network: MLP, paths: Sequence[str]) -> None:
    for path in paths:
        if is_table(path):
            raise DataError(
                f"data: got the table {path} for a model of samples of {network.inputs} numbers, expected these; give "
                "them as .npy, .npz or IDX"
            )


def _rows(
    encoder: Encoder,
    file: TableFile,
    *,
    keep: Sequence[str] = (),
    fill_missing: bool = False,
    tell: Callable[[str], None] = print,
) -> Iterator[Piece]:
    for name in keep:
        if name not in file.names:
            raise DataError(f'keep: got "{name}", expected columns of {file.path.name}: {quoted(file.names)}')
    lacking = _check_columns(encoder, file, fill_missing=fill_missing, tell=tell)
    used = {*encoder.names, *keep}
    wanted = [name for name in file.names if name in used]
    as_they_are = {*lacking, *keep}
    numbers = [name for name in encoder.numbers if name not in as_they_are]
    rows, unread, kept = 0, Unread(), Kept(file, keep)
    for frame, last in _with_last(file.pieces(wanted, numbers=numbers)):
        rows += len(frame)
        x = encoder(_filled(frame, lacking), watch=unread.watch)
        unread.refuse_unreadable(file.path.name, whole=last)  # before anything is made of it
        yield Piece(x, kept(frame))
    if not rows:
        raise no_rows(file.path)
    unread.tell(file.path.name, tell)


def _labelled_rows(
    network: MLP, encoder: Encoder, file: TableFile, *, fill_missing: bool, tell: Callable[[str], None]
) -> Iterator[Piece]:
    if encoder.target not in file.names:
        raise DataError(
            f'{file.path.name} lacks the target "{encoder.target}": give a table that has it, or predict without it'
        )
    lacking = _check_columns(encoder, file, fill_missing=fill_missing, tell=tell)
    wanted = [name for name in (*encoder.names, encoder.target) if name not in lacking]
    numbers = [name for name in encoder.numbers if name not in lacking]
    unlabelled_rows, unread = 0, Unread()
    for frame, last in _with_last(file.pieces(wanted, numbers=numbers)):
        target, table = frame[encoder.target], file.path.name
        values, present = present_targets(target, network.task or "", network.classes, table=table)
        unlabelled_rows += int((~present).sum())
        if present.any():
            what = f'{file.path.name}: "{encoder.target}"'
            targets = encode_targets(values, rows=len(values), classes=network.classes, what=what)
            yield Piece(encoder(_filled(frame[present], lacking), watch=unread.watch), {}, targets)
        unread.refuse_unreadable(file.path.name, whole=last)
    unread.tell(file.path.name, tell)
    if unlabelled_rows:
        tell(f"{file.path.name}: {unlabelled_rows:,} rows without a target were left out")


def _check_columns(encoder: Encoder, file: TableFile, *, fill_missing: bool, tell: Callable[[str], None]) -> list[str]:
    """The columns that the file lacks, if these may be missing."""
    lacking = encoder.lacking(file.names)
    if lacking and not fill_missing:
        alike = [name for name in file.names if _plain(name) in map(_plain, lacking)]
        hint = f" (it has {quoted(alike)})" if alike else ""
        raise DataError(
            f"{file.path.name} lacks {len(lacking)} of the {len(encoder.names)} columns that the model was trained on: "
            f"{quoted(lacking)}{hint}; give them, or add --fill-missing to take them as missing values"
        )
    if lacking:
        tell(f"{file.path.name}: {quoted(lacking)} taken as missing in every row")
    known = {*encoder.names, encoder.target}
    if surplus := [name for name in file.names if name not in known]:
        tell(f"{file.path.name}: columns that the model does not use: {quoted(surplus)}")
    return lacking


def _plain(name: str) -> str:
    """What is left of a name without blanks and capitals."""
    return name.strip().casefold()


def _with_last(frames: Iterator[pd.DataFrame]) -> Iterator[tuple[pd.DataFrame, bool]]:
    """Each of them, and whether it is the last."""
    held = next(frames, None)
    while held is not None:
        following = next(frames, None)
        yield held, following is None
        held = following


def _filled(frame: pd.DataFrame, lacking: Sequence[str]) -> pd.DataFrame:
    return frame.assign(**dict.fromkeys(lacking)) if lacking else frame


def _images(network: MLP, paths: Sequence[str], *, tell: Callable[[str], None]) -> Iterator[Piece]:
    reader = images.Reader(network, tell=tell)
    for start in range(0, len(paths), IMAGES):
        part = paths[start : start + IMAGES]
        names = [path.encode(errors="replace").decode() for path in part]  # some systems have names that are no text
        yield Piece(reader(part), {"file": names})
    reader.tell_of_grounds()


def _blocks(x: Any) -> Iterator[Piece]:
    for start in range(0, x.shape[0], ROWS):
        yield Piece(x[start : start + ROWS], {})


def _shown(classes: Any) -> str:
    return "numbers" if classes is None else f"{len(classes)} classes ({', '.join(map(repr, classes)):.100})"
