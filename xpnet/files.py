"""Files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path
from typing import Any

PARTIAL = ".part"
"""How the names of files end that are being written; one that is left over has no other meaning than to be removed."""


def write_whole(path: str | os.PathLike[str], *parts: Any) -> Path:
    """path <- the parts, one after the other, so that neither a reader, nor a kill, nor a loss of power finds a half.

    It is written under another name in the same folder, flushed to the disk, and renamed; then the folder is flushed.

    Args:
        path: Of the file.
        parts: Bytes, or what lies in memory as such.

    Raises:
        OSError: It cannot be written; what was there before still is.
    """
    path = Path(path)
    partial = path.with_name(f".{path.name}.{secrets.token_hex(4)}{PARTIAL}")
    try:
        with partial.open("xb") as file:
            for part in parts:
                file.write(part)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise
    _flush_folder(path.parent)
    return path


def remove_partial(folder: Path) -> None:
    """Remove what processes left that were killed while they wrote."""
    for left in folder.glob(f".*{PARTIAL}"):
        left.unlink(missing_ok=True)


def _flush_folder(folder: Path) -> None:
    """Make names in a folder outlive a loss of power, where the system has folders that can be opened."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError:  # some file systems of networks know no such thing
        pass
    finally:
        os.close(descriptor)
