"""Signals that ask a training to end."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_UNHANDLED = (signal.SIG_IGN, signal.SIG_DFL, None)
"""What stands for a signal that calls nothing of Python; None is a handler that was not set from Python."""


@contextlib.contextmanager
def calling(act: Callable[[], None], *names: str) -> Iterator[None]:
    """Within it the first of these signals calls `act`, so that no step is broken off; a second one does what it did.

    Only the main thread can have signals; in others, for signals that the system lacks, and for those that are ignored
    (nohup, and a shell's background processes, ignore some), nothing changes.

    Args:
        act: Called between two instructions of Python.
        names: Such as "SIGINT".
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    before = {number: signal.getsignal(number) or signal.SIG_DFL for number in numbers}  # None: not set from Python
    before = {number: handler for number, handler in before.items() if handler != signal.SIG_IGN}

    def handle(number: int, _: Any) -> None:
        signal.signal(number, before[number])
        act()

    for number in before:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number in before:
            signal.signal(number, before[number])


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Within it Ctrl-C waits: what it does, such as raising KeyboardInterrupt, it does when all of this is done.

    In other threads than the main one, which alone is interrupted, and where Ctrl-C calls nothing of Python, nothing
    changes.
    """
    main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(signal.SIGINT) if main else None
    if before in _UNHANDLED:
        yield
        return
    came = False

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal came
        came = True

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
        if came:
            signal.raise_signal(signal.SIGINT)


@contextlib.contextmanager
def kept_from_children() -> Iterator[None]:
    """Processes that begin within it never see Ctrl-C, which a terminal sends to all; to this one it comes at the end.

    One that ignores it by itself has first to come to that, and may be struck while it still imports. Systems without
    masks of signals have no such thing, and nothing changes.
    """
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    with postponed():  # a mask is inherited, but is this thread's alone: others take the signal for this process
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            yield
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def noted() -> Iterator[list[int]]:
    """Within it each Ctrl-C that would raise KeyboardInterrupt does so, and is noted in the list that this gives.

    An extension module that is interrupted while it is imported makes an ImportError of it, and what is thrown in a
    callback of C is lost: who asks the list knows better.
    """
    interrupts: list[int] = []
    main = threading.current_thread() is threading.main_thread()
    if not main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield interrupts
        return

    def note(number: int, frame: FrameType | None) -> None:
        interrupts.append(number)
        signal.default_int_handler(number, frame)

    signal.signal(signal.SIGINT, note)
    try:
        yield interrupts
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
