"""A recorded run: kernel after kernel, by a team of threads that meet after each one.

A kernel is recorded as one or a few nodes: the address of a compiled function, into how many parts its work is cut,
and its arguments. Every thread walks the whole tape and does its part of each node; nothing is left to the interpreter,
whose own work would cost as much as a small step. What is not compiled is recorded as a call of Python, which one
thread makes while the others wait.
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.devices.cpu.native import WORDS, walk, yield_function
from xpnet.errors import DeviceError

TEAM_WORK = 256
"""What is worth starting threads for, a millisecond's work: they begin when the system has processors for them."""

NOBODY_WAITS = 2**62
"""A count that nobody's comes up to."""

_Callback = ctypes.CFUNCTYPE(None, ctypes.c_int64, ctypes.c_int64, ctypes.c_int64)


class Tape:
    """Nodes in the order of their recording.

    Attributes:
        calls_python: Whether there is a node that calls Python.
        work: Of all nodes, in units of what is worth a thread that is there anyway.
    """

    def __init__(self) -> None:
        self._nodes: list[list[int]] = []
        self._kept: list[Any] = []  # what the addresses on the tape belong to
        self._error: BaseException | None = None
        self.calls_python = False
        self.work = 0

    @property
    def words(self) -> np.ndarray:
        """(nodes, WORDS)."""
        words = np.zeros((len(self._nodes), WORDS), np.int64)
        for row, node in zip(words, self._nodes, strict=True):
            row[: len(node)] = node
        return words

    def append(self, function: int, parts: int, *arguments: Any, work: int = 0) -> None:
        """A node: the compiled function's address, and its arguments.

        Args:
            function: f(address of the arguments, part, parts).
            parts: Into how many the work is cut.
            arguments: C-contiguous arrays (their address, then their lengths) or integers.
            work: As above.
        """
        self.work += work
        node = [function, parts]
        for argument in arguments:
            if isinstance(argument, np.ndarray):
                node += argument.__array_interface__["data"][0], *argument.shape
                self._kept.append(argument)
            else:
                node.append(argument)
        self._nodes.append(node)

    def append_call(self, function: Callable[[], Any]) -> None:
        """A node that calls Python."""

        def guarded(*_: int) -> None:
            try:
                if self._error is None:
                    function()
            except BaseException as error:  # it cannot travel through compiled code
                self._error = error

        callback = _Callback(guarded)
        self._kept.append(callback)
        self.calls_python = True
        self.append(ctypes.cast(callback, ctypes.c_void_p).value or 0, 1)

    def raise_error(self) -> None:
        """What a call of Python raised since the last time."""
        error, self._error = self._error, None
        if error is not None:
            raise error


class Replay:
    """A tape to be walked `count` times, while its words move by `strides`: (nodes, WORDS)."""

    def __init__(self, tape: Tape, strides: np.ndarray | None = None, count: int = 1) -> None:
        self._tape, self._words, self._count = tape, tape.words, count
        self._strides = np.zeros_like(self._words) if strides is None else strides
        # How the work is cut never depends on how much there is: one thread does the parts of all, with the same bits.
        self._threads = int(self._words[:, 1].max(initial=1)) if tape.work * count >= TEAM_WORK else 1
        # Of each thread the node at hand, and the counter, on pages of their own.
        self._desks = np.zeros((self._threads + 1, 512), np.int64)

    @property
    def has_team(self) -> bool:
        """Whether threads are started for it."""
        return self._threads > 1

    def __call__(self) -> None:
        """Walk: this thread and, where there are more parts, others for as long as it takes."""
        self._desks[-1] = 0
        team = [threading.Thread(target=self._walk, args=(part,), daemon=True) for part in range(1, self._threads)]
        try:
            for thread in team:
                thread.start()
        except RuntimeError as error:
            self._desks[-1] = NOBODY_WAITS  # for those who will not come
            raise DeviceError(
                f"cpu: the system gives no more than {threading.active_count()} threads, expected {self._threads} for "
                "this run; set OMP_NUM_THREADS to a smaller number."
            ) from error
        self._walk(0)
        for thread in team:
            thread.join()
        self._tape.raise_error()

    def _walk(self, part: int) -> None:
        arrays = self._words, self._strides, self._desks[part], self._desks[-1]
        addresses = (array.ctypes.data for array in arrays)
        walk(*addresses, yield_function(), len(self._words), self._count, part, self._threads)
