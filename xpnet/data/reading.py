"""What the readers of files share: bounded reads, and one kind of error for every kind of damage."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from xpnet.errors import DataError

MAX_BYTES = 16 * 2**30
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


def read_at_most(stream: IO[bytes], size: int) -> bytearray:
    """Reads up to ``size`` bytes; memory grows with what is there, not with what a header claims."""
    body = bytearray()
    while chunk := stream.read(min(_CHUNK, size - len(body))):
        body += chunk
    return body


def one_line(error: BaseException) -> str:
    """Returns an error's message (its type where it has none) as one line of at most 200 characters."""
    return " ".join(str(error).split())[:200] or type(error).__name__
