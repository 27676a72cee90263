"""Signals that ask a training to end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def calling(act: Callable[[], None], *names: str) -> Iterator[None]:
    """Within it the first of these signals calls `act`, so that no step is broken off; a second one does what it did.

    Only the main thread can have signals; in others, and for signals that the system lacks, nothing changes.

    Args:
        act: Called between two instructions of Python.
        names: Such as "SIGINT".
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}  # None: not set from Python

    def handle(number: int, _: Any) -> None:
        signal.signal(number, before[number])
        act()

    for number in numbers:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in numbers:
            signal.signal(number, before[number])
