"""Codes in samples: which columns they are, and the learnt rows that a network sees in their place."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.data.transform import InputTransform
from xpnet.errors import DataError, XpnetError, whole

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels import Table

MOST_ROWS = 2**24
"""Of a table: up to there float32, which samples are stored in, has every code."""

MOST_NUMBERS = 2**48
"""Of all tables: no machine holds more."""


@dataclass(frozen=True)
class Codes:
    """Samples of `dense` numbers and then a code for each table; a network sees the numbers and a row of each table.

    Attributes:
        tables: (rows, width) of each table.
        dense: The numbers of a sample that are no codes.
    """

    tables: tuple[tuple[int, int], ...]
    dense: int

    @classmethod
    def of(cls, tables: Any, seen: int) -> Codes:
        """Codes for such tables, in samples of which a network sees so many numbers.

        Raises:
            XpnetError: These are no pairs of rows and width, or too large ones.
        """
        try:
            pairs = [(rows, width) for rows, width in tables]
        except (TypeError, ValueError) as error:
            raise XpnetError(f"embeddings: got {tables}, expected a pair of rows and width for each.") from error
        checked = tuple(
            (whole("rows of an embedding", rows, least=1), whole("width of an embedding", width, least=1))
            for rows, width in pairs
        )
        if (most := max((rows for rows, _ in checked), default=0)) > MOST_ROWS:
            raise XpnetError(f"embeddings: got one of {most} rows, expected at most {MOST_ROWS}; join rare categories.")
        if sum(rows * width for rows, width in checked) > MOST_NUMBERS:
            raise XpnetError(f"embeddings: got {checked}, which no memory holds; make the widths smaller.")
        made = sum(width for _, width in checked)
        if made > seen:
            raise XpnetError(
                f"embeddings: got widths of {made} in all for a network with {seen} inputs; make its first size as "
                "many as the widths and the numbers that are no codes."
            )
        return cls(checked, seen - made)

    @property
    def inputs(self) -> int:
        """Values of a sample."""
        return self.dense + len(self.tables)

    @property
    def width(self) -> int:
        """Numbers that all codes of a sample become."""
        return sum(width for _, width in self.tables)

    def forward(self, k: Table, raw: Array, tables: Sequence[Array], *, out: Array) -> None:
        """out <- the numbers of each sample, then the rows that its codes mean. raw: (B, inputs), out: (B, I)."""
        if self.dense:
            k.copy_columns(raw, out=out[:, : self.dense])
        for i, (table, part) in enumerate(zip(tables, self._parts(), strict=True), self.dense):
            k.embedding_forward(raw[:, i], table, out=out[:, self.dense :][:, part])

    def backward(self, k: Table, raw: Array, dx: Array, *, out: Sequence[Array]) -> None:
        """out <- the gradient of each table. raw: (B, inputs), dx: (B, width), of all that the codes became."""
        for i, (table, part) in enumerate(zip(out, self._parts(), strict=True), self.dense):
            k.embedding_backward(raw[:, i], dx[:, part], out=table)

    def _parts(self) -> list[slice]:
        """The columns of each table among those of all tables."""
        ends = itertools.accumulate((width for _, width in self.tables), initial=0)
        return [slice(*pair) for pair in itertools.pairwise(ends)]

    def sparing(self, transform: InputTransform) -> InputTransform:
        """The transform without what it would do to codes."""
        if not self.tables or transform.is_identity:
            return transform
        scale, shift = np.broadcast_to(transform.scale, self.inputs).astype(np.float64), transform.shift
        scale[self.dense :] = 1
        if shift is not None:
            shift = np.append(shift[: self.dense], np.zeros(len(self.tables)))
        return InputTransform(scale, shift)

    def check(self, x: Any) -> None:
        """Raise DataError where a code is no whole number, or beyond its table. x: (N, inputs), dense or CSR."""
        if not self.tables:
            return
        codes = x[:, self.dense :]
        codes = codes.toarray() if hasattr(codes, "toarray") else codes
        last = np.array([rows - 1 for rows, _ in self.tables])
        wrong = (codes < 0) | (codes > last) | (codes != np.floor(codes))
        if wrong.any():
            row, i = divmod(int(wrong.argmax()), len(last))
            raise DataError(
                f"X: got {codes[row, i]:g} in row {row}, column {self.dense + i}, expected a code, a whole number from "
                f"0 to {last[i]}; encode it as in training."
            )
