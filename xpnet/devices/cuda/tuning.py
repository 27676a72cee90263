"""Which algorithm each product takes: timed once, and kept, so that a later run computes the same bits."""

from __future__ import annotations

import json
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Protocol

from xpnet.errors import DataError


class Chooser(Protocol):
    """What chooses among algorithms."""

    def choose(self, key: str, candidates: list[bytes], time: Callable[[bytes], float]) -> bytes:
        """One of the candidates, or what was chosen for this key before."""


class Autotuner:
    """Chooses the fastest algorithm once per key and keeps it in `table`: hexadecimal by key, fit for JSON and TOML."""

    def __init__(self, table: MutableMapping[str, str] | None = None) -> None:
        self.table: MutableMapping[str, str] = {} if table is None else table

    def choose(self, key: str, candidates: list[bytes], time: Callable[[bytes], float]) -> bytes:
        """What the table has for this key, else the fastest candidate, and the first of equals; only that is timed."""
        if key not in self.table:
            self.table[key] = min(candidates, key=time).hex()
        return bytes.fromhex(self.table[key])


class TableFile(dict[str, str]):
    """A table in a JSON file; every new entry is written at once.

    Raises:
        DataError: The file is not such a table.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        if self._path.exists():
            super().__init__(_read(self._path))

    def __setitem__(self, key: str, value: str) -> None:
        super().__setitem__(key, value)
        partial = self._path.with_name(self._path.name + ".part")
        try:
            partial.write_text(json.dumps(self, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            partial.replace(self._path)
        except OSError as error:
            raise DataError(
                f"autotune: {self._path} cannot be written ({error.strerror}); name another file."
            ) from error


def _read(path: Path) -> dict[str, str]:
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(
            f"autotune: {path} cannot be read as JSON ({error}); delete it to have it made anew."
        ) from error
    if not isinstance(table, dict) or not all(_is_algorithm(value) for value in table.values()):
        raise DataError(f"autotune: {path} is no table of algorithms; delete it to have it made anew.")
    return table


def _is_algorithm(value: object) -> bool:
    """64 bytes as hexadecimal digits: cublasLtMatmulAlgo_t."""
    return isinstance(value, str) and len(value) == 128 and set(value) <= set("0123456789abcdef")
