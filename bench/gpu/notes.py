"""What a part of the check finds out, on disk at any time, so that a part that is killed leaves what it had."""

from __future__ import annotations

import json
import math
import os
import time
from pathlib import Path
from typing import Any


class NoGpuError(Exception):
    """There is no GPU here; the message is the sentence that says why."""


class Notes:
    """The findings of one part.

    Args:
        path: The JSON file.
        seconds: How long the part may take.

    Attributes:
        found: By name; whatever JSON can hold.
        wrong: Sentences; with any, the part has failed.
        until: When it has to be done, by `time.monotonic`.
    """

    def __init__(self, path: Path, seconds: float) -> None:
        self.found: dict[str, Any] = {}
        self.wrong: list[str] = []
        self.until = time.monotonic() + seconds
        self._path = path

    def left(self) -> float:
        """Seconds."""
        return self.until - time.monotonic()

    def save(self) -> None:
        """Write all findings."""
        write_whole(self._path, dumps({"found": self.found, "wrong": self.wrong}))


def dumps(value: Any) -> str:
    """JSON, with null in place of NaN and infinity, which it has not."""
    return json.dumps(_plain(value), indent=1) + "\n"


def write_whole(path: Path, text: str) -> None:
    """The file is as it was, or whole."""
    partial = path.with_name(path.name + ".part")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value if isinstance(value, str | int | float | bool | None) else str(value)
