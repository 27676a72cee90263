"""Where the choice of algorithms is kept, so that a later run computes the same bits."""

from __future__ import annotations

import json
from pathlib import Path

from xpnet.errors import DataError


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
