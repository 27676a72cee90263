"""The samples that an export is checked on: real ones where they can be had."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet import data
from xpnet.errors import DataError, XpnetError
from xpnet.exporters.checking import Samples
from xpnet.network import MLP
from xpnet.settings import read_settings
from xpnet.tables import Encoder, Number
from xpnet.tables.reading import TableFile, no_rows

if TYPE_CHECKING:
    import pandas as pd

MOST, RANDOM = 10_000, 1_000
"""Samples that are looked at: the first ones of real data, or so many random ones."""

_RUN = "config.toml"


def find(network: MLP, model: Path, paths: Sequence[str] = ()) -> Samples:
    """Samples of this data; without any, of the run that the model lies in; where these cannot be had, random ones.

    Args:
        network: That was loaded from the model.
        model: Its path.
        paths: Names or files, as `xpnet.data.load` takes them; of tables, the last one counts.

    Raises:
        XpnetError: The data that was asked for cannot be had, or does not fit the network.
    """
    if paths:
        return _read(network, paths, None)
    for folder in (model.absolute().parent, model.absolute().parent.parent):
        if (folder / _RUN).is_file():
            try:
                settings = read_settings(folder / _RUN)
                return _read(network, settings["data"], settings.get("data_dir"))
            except (XpnetError, LookupError, TypeError):  # moved data, or settings that are none
                break
    return random(network)


def _read(network: MLP, paths: Sequence[str], folder: str | None) -> Samples:
    what = f"samples of {Path(paths[-1]).name}"
    if network.table is not None:
        frame = _first_rows(TableFile(paths[-1]), network.table)
        return Samples(what, network.table(frame), frame)
    dataset = data.load(paths, folder=folder, progress=False)
    x = (dataset.x if dataset.x_test is None else dataset.x_test)[:MOST]
    if x.shape[1] != network.inputs:
        raise DataError(
            f"data: got samples of {x.shape[1]} values, expected {network.inputs}; give data as the model was "
            "trained on."
        )
    return Samples(what, x.toarray() if hasattr(x, "toarray") else np.array(x))


def _first_rows(file: TableFile, table: Encoder) -> pd.DataFrame:
    import pandas as pd

    parts: list[Any] = []
    for part in file.pieces([name for name in table.names if name in file.names]):
        parts.append(part.astype(object))
        if sum(map(len, parts)) >= MOST:
            break
    if not parts:
        raise no_rows(file.path)
    return pd.concat(parts, ignore_index=True).head(MOST)


def random(network: MLP, *, seed: int = 0) -> Samples:
    """Samples that the transform brings to mean 0 and deviation 1; rows with missing and unseen values of a table."""
    rng, what = np.random.default_rng(seed), "random samples"
    if network.table is not None:
        frame = _random_rows(network.table, rng)
        return Samples(what, network.table(frame), frame)
    scale = np.broadcast_to(network.transform.scale, network.inputs)
    shift = 0 if network.transform.shift is None else network.transform.shift
    seen = rng.normal(size=(RANDOM, network.inputs))
    x = np.divide(seen + shift, scale, out=np.zeros_like(seen), where=scale != 0)
    for column, (rows, _) in enumerate(network.embeddings, network.codes.dense):
        x[:, column] = rng.integers(rows, size=RANDOM)
    return Samples(what, x)


def _random_rows(table: Encoder, rng: np.random.Generator) -> pd.DataFrame:
    try:
        import pandas as pd
    except ImportError:
        raise XpnetError(
            "export: a network with a table needs pandas, which is not installed; pip install 'xpnet[tables]'."
        ) from None

    columns = {}
    for column in table.columns:
        if isinstance(column, Number):
            spread = 1 / column.scale if column.scale else 1.0
            low, high = column.center - 2 * spread, column.center + 2 * spread
            ends = [*column.knots, *column.edges, low, high]
            values = rng.uniform(min(ends), max(ends), RANDOM)
            values[rng.random(RANDOM) < 0.1] = np.nan
            columns[column.name] = values
        else:
            known = [*column.values, "not seen", None]
            columns[column.name] = np.array(known, dtype=object)[rng.integers(len(known), size=RANDOM)]
    return pd.DataFrame(columns)
