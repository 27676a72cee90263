"""Standard output and error that nobody may be reading any more."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class Steady:
    """A stream that falls silent when it cannot be written: what tells of a training must not end it.

    Attributes:
        failure: Why it is silent; None while it is not.
    """

    def __init__(self, stream: Any) -> None:
        self._stream = stream
        self.failure: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        """Write it, if that is possible."""
        with self._silenced_by_failure():
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Flush it, if that is possible."""
        with self._silenced_by_failure():
            self._stream.flush()

    @contextlib.contextmanager
    def _silenced_by_failure(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:  # the pipe's reader has gone, the terminal, or the room on the disk
            self.failure = error
            with open(os.devnull, "w", encoding="utf-8") as nowhere:
                os.dup2(nowhere.fileno(), self._stream.fileno())  # what is buffered goes there when Python ends


@contextlib.contextmanager
def steady() -> Iterator[None]:
    """Within it, standard output and error are such streams."""
    with contextlib.ExitStack() as stack:
        if sys.stdout is None or sys.stderr is None:  # closed before Python began
            nowhere = stack.enter_context(open(os.devnull, "w", encoding="utf-8"))
        streams = Steady(sys.stdout or nowhere), Steady(sys.stderr or nowhere)
        stack.enter_context(contextlib.redirect_stdout(streams[0]))
        stack.enter_context(contextlib.redirect_stderr(streams[1]))
        try:
            yield
        finally:
            for stream in streams:  # else Python does so at its end, and fails
                stream.flush()
