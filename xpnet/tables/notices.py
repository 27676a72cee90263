"""What a person should know of how a table was taken, a line each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from xpnet.tables.columns import Columns, unnamed
from xpnet.tables.encoder import Category, Encoder, Number
from xpnet.tables.kinds import WITHOUT_COMMAS, Kind, has_commas, no_numbers
from xpnet.tables.reading import TableFile, quoted
from xpnet.tables.targets import Known

if TYPE_CHECKING:
    import pandas as pd


def notices(file: TableFile, columns: Columns, known: Known, kinds: dict[str, Kind], encoder: Encoder) -> Iterator[str]:
    """What is predicted, what every column was taken for, and what was left out."""
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
    yield from left_out(kinds)
    if nameless := file.nameless + len(unnamed(file, columns)):
        yield f"left out, without a name: {nameless} column{'s' * (nameless > 1)}"
    if file.nested:
        yield f"left out, lists or bytes: {quoted(file.nested)}"


def left_out(kinds: dict[str, Kind]) -> Iterator[str]:
    """Columns of kinds that cannot be learnt from."""
    reasons = {"text": "free text, or names of rows", "date": "dates", "constant": "one value throughout"}
    for kind, why in reasons.items():
        if names := [name for name in kinds if kinds[name] == kind]:
            yield f"left out, {why}: {quoted(names)}"


def oddities(frame: pd.DataFrame, kinds: dict[str, Kind]) -> Iterator[str]:
    """What columns hold that people may not expect, a line each."""
    odd = {name: no_numbers(frame[name]) for name, kind in kinds.items() if kind == "number"}
    if told := [f"{name} ({counts.index[0]!r:.40})" for name, counts in odd.items() if len(counts)]:
        yield f"taken as missing, for they are no numbers: values of {quoted(told)}"
    words = [name for name, kind in kinds.items() if kind in ("category", "text")]
    if names := [name for name in words if has_commas(frame[name])]:
        yield f"text, for the commas in their numbers: {quoted(names)}; {WITHOUT_COMMAS}"
