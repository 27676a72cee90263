"""What the readers of files share: bounded reads, and one kind of error for every kind of damage."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from xpnet.errors import DataError

LIMIT = "XPNET_MAX_BYTES"
"""The environment variable that says how many bytes of memory a file may take; by custom half of the machine's."""

DEFLATED = 1032
"""Bytes that a byte of deflate's, as in gzip and zip, makes at the most: https://zlib.net/zlib_tech.html."""

_PHYSICAL_IF_UNKNOWN = 16 * 2**30
_CHUNK = 2**20


@contextmanager
def reading(path: Path, kind: str) -> Iterator[None]:
    """Turns whatever a missing or damaged file makes a parser raise into one DataError sentence.

    Args:
        path: The file that is read.
        kind: What it should be, with its article, as in "an IDX file".
    """
    try:
        yield
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist: give the path of {kind}") from error
    except Exception as error:  # parsers of damaged bytes raise nearly anything
        raise DataError(
            f"{path} cannot be read as {kind} ({one_line(error)}): fetch or write the file again"
        ) from error


def max_bytes() -> int:
    """How many bytes of memory a file may take.

    Raises:
        DataError: The environment variable is no whole number.
    """
    text = os.environ.get(LIMIT, "").strip()
    if not text:
        return _physical_memory() // 2
    try:
        limit = int(text)
    except ValueError:
        limit = 0
    if limit < 1:
        raise DataError(
            f"{LIMIT}: got {text!r:.40}, expected a whole number of bytes, at least 1; set that or unset it."
        )
    return limit


def refuse_too_large(path: object, size: int, *, what: str = "holds") -> None:
    """Raises a DataError if a file would take more memory than it may.

    Args:
        path: Of the file.
        size: In bytes.
        what: The verb of the message: "holds", or what else the file does with its bytes.
    """
    if size > (limit := max_bytes()):
        shown = str(size) if size < 2**64 else "more than 2**64"  # a product of sizes may have 2,000 digits
        raise DataError(f"{path} {what} {shown} bytes but at most {limit} are read: take less, or raise {LIMIT}")


def size_on_disk(stream: IO[bytes]) -> int | None:
    """How many bytes a file has; None for what is no plain file, such as a pipe."""
    status = os.fstat(stream.fileno())
    return status.st_size if stat.S_ISREG(status.st_mode) else None


def read_at_most(stream: IO[bytes], size: int) -> bytearray:
    """Reads up to ``size`` bytes; memory grows with what is there, not with what a header claims."""
    body = bytearray()
    while chunk := stream.read(min(_CHUNK, size - len(body))):
        body += chunk
    return body


def one_line(error: BaseException) -> str:
    """Returns an error's message (its type where it has none) as one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def _physical_memory() -> int:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return _PHYSICAL_IF_UNKNOWN
