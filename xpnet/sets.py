"""The data that a configuration names, as sets for training, validation and test."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from xpnet import data
from xpnet.config import Config
from xpnet.data.samples import Samples
from xpnet.data.splits import Split, split_rows
from xpnet.errors import DataError, XpnetError, whole
from xpnet.tables import dataset as tables
from xpnet.tables.columns import Columns
from xpnet.tables.dataset import Table
from xpnet.tables.reading import TableFile, is_table, quoted


@dataclass(frozen=True)
class Sets:
    """Data, and which samples are for what.

    Attributes:
        dataset: All samples.
        train, validation, test: The sets; None where there is none.
        table: What the samples are rows of; None where they are no rows of one.
    """

    dataset: data.Dataset
    train: Samples
    validation: Samples | None
    test: Samples | None
    table: Table | None = None


def load_sets(config: Config, seed: np.random.SeedSequence) -> Sets:
    """Load the data and split them.

    Raises:
        XpnetError: The data cannot be had, or not be split so.
    """
    if any(is_table(path) for path in config.data):
        return _of_table(config, seed)
    for name in ("target", "time_column", "group_column", "ignore", "categorical"):
        if getattr(config, name):
            raise XpnetError(
                f"{name}: got it with {config.data[0]}, expected it with a table (.csv, .tsv, .parquet); leave it out, "
                "or give the table that ending and a row of names."
            )
    dataset = data.load(config.data, folder=config.data_dir, progress=not config.quiet)
    return _of_arrays(config, dataset, np.random.default_rng(seed))


def _of_arrays(config: Config, dataset: data.Dataset, rng: np.random.Generator) -> Sets:
    train = Samples.of(dataset.x, dataset.y)
    test = None if dataset.y_test is None else Samples.of(dataset.x_test, dataset.y_test)
    if config.train_size is not None:
        train = train.first(_train_size(config.train_size, len(train)))
    if config.val_on_test:
        return _with_test_as_validation(Sets(dataset, train, None, test))
    if config.split is not None:
        split = Split.of(config.split)
        if split.test and test is not None:
            raise XpnetError(
                f"split: got a test part, and {dataset.name} has a test set, expected two parts; leave out the third."
            )
        parts = split_rows(split, y=train.y, rng=rng, rows=train.rows)
        validation, drawn = (replace(train, rows=rows) if len(rows) else None for rows in parts[1:])
        return Sets(dataset, replace(train, rows=parts[0]), validation, drawn or test)
    if config.val_size == 0 or (0 < config.val_size < 1 and round(config.val_size * len(train)) == 0):
        return Sets(dataset, train, None, test)
    train, validation = train.split(config.val_size, rng=rng)
    return Sets(dataset, train, validation, test)


def _of_table(config: Config, seed: np.random.SeedSequence) -> Sets:
    if config.target is None:
        names = quoted(TableFile(config.data[0]).names)
        raise XpnetError(f"target: got none for {config.data[0]}, expected --target with one of its columns: {names}.")
    if config.center or config.standardize or config.scale is not None:
        raise XpnetError("scale: got --scale, --center or --standardize with a table, expected --numbers; use that.")
    if config.time_column is not None and config.group_column is not None:
        raise XpnetError("group_column: got it beside time_column, expected one of them; leave one out.")
    if config.time_column and config.group_column:
        raise XpnetError(
            "group_column: got it beside --time-column, expected one of them: rows in order of time cannot keep groups "
            "together; leave one out."
        )
    columns = Columns(
        config.target,
        task=config.task,
        ignored=config.ignore,
        categorical=config.categorical,
        time=config.time_column,
        group=config.group_column,
        scaling=config.numbers,
        one_hot=whole("one_hot", config.one_hot, least=0),
        embedding=whole("embedding", config.embedding, least=1),
    )
    table = tables.load(config.data, columns, _table_split(config), seed=seed, limit=config.train_size)
    dataset, main = table.dataset, Samples.of(table.dataset.x, table.dataset.y)
    train = replace(main, rows=table.train)
    validation = replace(main, rows=table.validation) if len(table.validation) else None
    held_out = main if dataset.y_test is None else Samples.of(dataset.x_test, dataset.y_test)
    test = replace(held_out, rows=table.test) if len(table.test) else None
    sets = Sets(dataset, train, validation, test, table)
    return _with_test_as_validation(sets) if config.val_on_test else sets


def _table_split(config: Config) -> Split | None:
    if config.split is not None:
        return Split.of(config.split)
    if config.val_on_test or config.val_size == 0:
        return None
    if not config.val_size > 0 or (config.val_size > 1 and config.val_size != int(config.val_size)):  # true for NaN too
        raise XpnetError(f"val_size: got {config.val_size:g}, expected a part below 1, or a whole number of rows.")
    return Split(config.val_size)


def _train_size(size: int, samples: int) -> int:
    if not 1 <= size <= samples:
        raise XpnetError(f"train_size: got {size}, expected 1 to {samples} samples.")
    return size


def _with_test_as_validation(sets: Sets) -> Sets:
    if sets.test is None:
        raise DataError(f"val_on_test: {sets.dataset.name} has no test set; leave it out, or give X_test and y_test.")
    return replace(sets, validation=sets.test)
