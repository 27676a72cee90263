"""Settings as a TOML file has them, which may come from a stranger."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

from xpnet.errors import XpnetError

TABLE = "settings"
"""The table of a TOML file that holds the settings."""

_LONGEST = 2**20
"""Bytes of a TOML file."""

_LONGEST_VALUE = 1000
"""Characters or digits of a setting; the parser's messages repeat them."""

_MOST_DOTS = 200
"""In a line of a TOML file: tomllib takes time and memory by the square of a key's parts, gigabytes for 100,000."""


def read_settings(path: Path, name: str | None = None) -> dict[str, Any]:
    """The table [settings] of a TOML file.

    Args:
        path: Of the file.
        name: What to call it in messages.

    Raises:
        XpnetError: There is no such file, it is no TOML, it has no such table, or there is more than values in it.
    """
    name = name or str(path)
    try:
        with path.open("rb") as file:
            document = _parse(file.read(_LONGEST + 1))
    except FileNotFoundError:
        raise XpnetError(f"{name}: there is no such file; give the config.toml of a run's folder.") from None
    except (OSError, ValueError, RecursionError) as error:
        raise XpnetError(
            f"{name}: this cannot be read as TOML ({' '.join(str(error).split()):.200}); mend it."
        ) from None
    settings = document.get(TABLE)
    if not isinstance(settings, dict):
        raise XpnetError(f"{name}: there is no table [{TABLE}]; put the settings below a line [{TABLE}].")
    for key, value in settings.items():
        _check_value(name, f"{key:.80}", value)
    return settings


def _parse(content: bytes) -> dict[str, Any]:
    """The document, if it is of a size that tomllib can be trusted with."""
    if len(content) > _LONGEST:
        raise ValueError(f"it has more than {_LONGEST} bytes")
    if any(line.count(b".") > _MOST_DOTS for line in content.splitlines()):
        raise ValueError(f"a line of it has more than {_MOST_DOTS} dots")
    return tomllib.loads(content.decode("utf-8"))


def _check_value(name: str, key: str, value: Any) -> None:
    """Refuse what no setting is: tables, dates, lists of lists."""
    if isinstance(value, dict):
        inner = f"{key}.{next(iter(value)):.80} is an unknown setting" if value else f"{key} is an empty table"
        raise XpnetError(f"{name}: {inner}; give {key} a value, not a table.")
    for item in value if isinstance(value, list) else [value]:
        if _is_longer(item, _LONGEST_VALUE):
            raise XpnetError(f"{name}: {key} got more than {_LONGEST_VALUE} characters or digits; make it shorter.")
        if not isinstance(item, str | int | float):
            shown = f"a {type(item).__name__} in a list" if isinstance(item, list | dict) else item
            raise XpnetError(
                f"{name}: {key} got {shown}, expected text, a number, true or false, or a list of these; mend it."
            )


def _is_longer(value: Any, limit: int) -> bool:
    return len(value) > limit if isinstance(value, str) else isinstance(value, int) and abs(value) >= 10**limit
