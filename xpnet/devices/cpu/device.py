"""The CPU at its fastest: kernels cut into parts, one for each thread of a team, and runs recorded on tapes."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import cache, wraps
from typing import Any

import numpy as np
from joblib import cpu_count
from threadpoolctl import LibController, ThreadpoolController

from xpnet.devices.base import Array
from xpnet.devices.cpu import native
from xpnet.devices.cpu.nodes import products
from xpnet.devices.cpu.nodes.compiling import Kind, compiled, constant
from xpnet.devices.cpu.tape import Replay, Tape
from xpnet.devices.cpu.twins import TWINS
from xpnet.devices.plain import Plain
from xpnet.signals import postponed

PRODUCT_WORK = 2**16
"""Multiply-adds that are worth a thread."""

LOOP_WORK = 2**13
"""Numbers read or written that are worth a thread."""

MOST_THREADS = 64
"""Of a team."""


@cache
def _libraries() -> list[LibController]:
    """The BLAS libraries of this process, NumPy's and SciPy's; an idle pool of either takes processors away."""
    return [library for library in ThreadpoolController().lib_controllers if library.user_api == "blas"]


class _SerialBlas:
    """While any thread is inside, every BLAS has one thread; the last one out gives it back what it had.

    Ctrl-C may come between any two calls here; to leave once more then mends what was left half done.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside: set[int] = set()
        self._before: list[int] = []

    def __enter__(self) -> None:
        with self._lock:
            self._before = self._before or [library.get_num_threads() for library in _libraries()]
            self._inside.add(threading.get_ident())
            for library in _libraries():
                library.set_num_threads(1)

    def __exit__(self, *_: object) -> None:
        self.leave()

    def leave(self) -> None:
        """This thread is outside, whether it was inside or not."""
        with self._lock:
            self._inside.discard(threading.get_ident())
            if not self._inside:
                for library, before in zip(_libraries(), self._before):  # noqa: B905 - none, if it was not begun
                    library.set_num_threads(before)
                self._before = []


_serial_blas = _SerialBlas()


class Cpu(Plain):
    """NumPy arrays, SciPy's BLAS called by threads of our own, and compiled loops.

    Attributes:
        threads: How many a large run is cut for: as many as the BLAS would take by itself when the device is opened
            (OPENBLAS_NUM_THREADS, OMP_NUM_THREADS and threadpoolctl change that), and the processors that this process
            may use at the most.
    """

    threads: int

    def __init__(self) -> None:
        super().__init__("cpu", TWINS)
        self.threads = min(cpu_count(), MOST_THREADS, *(library.get_num_threads() or 1 for library in _libraries()))
        self._tape: Tape | None = None
        self._work = 0
        self._at_work = False

    def parts(self, *, products: int = 0, numbers: int = 0) -> int:
        """Into how many parts the work of the next node is cut: so many multiply-adds, and numbers read or written."""
        threads = 1 if self._at_work else self.threads  # a kernel that is not compiled calls one that is
        work = products // PRODUCT_WORK + numbers // LOOP_WORK
        self._work += work
        return max(1, min(threads, work))

    def do(self, factory: Callable[..., Any], *arguments: Any, kinds: Sequence[Kind], parts: int = 1) -> None:
        """A node on these arguments: at once, or on the tape where a run is recorded.

        Args:
            factory: From `nodes`, which says what the arguments are.
            arguments: C-contiguous arrays or integers.
            kinds: What the node is compiled for.
            parts: Into how many the work is cut.
        """
        tape = Tape() if self._tape is None else self._tape
        tape.append(compiled(factory, *kinds).address, parts, *arguments, work=self._work)
        self._work = 0
        if self._tape is None:
            self._replay(Replay(tape))

    def gemm(self, a: Array, b: Array, *, out: Array, alpha: Any = 1.0, beta: Any = 0.0) -> Array:
        """out <- alpha a b + beta out, part by part, and without a copy."""
        kinds, transpose_a, transpose_b = (out.dtype,), not a.flags.c_contiguous, not b.flags.c_contiguous
        scales = constant(alpha, out.dtype), constant(beta, out.dtype)
        parts, blas = self.parts(products=a.size * b.shape[1]), native.blas(out.dtype)
        if transpose_a or transpose_b or products.many_rows(out, parts):
            left, right = (array.T if turned else array for array, turned in ((a, transpose_a), (b, transpose_b)))
            turned = int(transpose_a), int(transpose_b)
            self.do(products.product, left, right, out, *scales, *turned, *blas, kinds=kinds, parts=parts)
        else:
            key = (parts * out.shape[0], out.shape[1]), out.dtype.char
            if key not in self._products:
                self._products[key] = self.empty(*key)
            sums = self._products[key]
            self.do(products.product_of_part, a, b, sums, *blas, kinds=kinds, parts=parts)
            self.do(products.sum_of_products, sums, out, *scales, kinds=kinds, parts=parts)
        return out

    def scheduled(self, kernel: Callable[..., Any]) -> Callable[..., Any]:
        """The kernel, which is not compiled: called at once, or on the tape where a run is recorded."""

        @wraps(kernel)
        def call(*arguments: Any, **options: Any) -> Any:
            if self._tape is None:
                return kernel(*arguments, **options)
            return self._tape.append_call(lambda: kernel(*arguments, **options))

        return call

    def capture(self, run: Callable[[int], None], count: int = 1, *, state: Sequence[Array] = ()) -> Callable[[], None]:
        """A tape of the kernels that `run` calls, without NumPy's warnings: infinity and NaN are found in the results.

        Of many runs only two are recorded, which say how far the arrays move; and the last, to see whether that holds.
        """
        replay = self._repeated(run, count) or Replay(self._record(run, range(count)))

        def quiet() -> None:
            with np.errstate(all="ignore"):
                self._replay(replay)

        return quiet

    def run(self, step: Callable[[int], None], count: int) -> None:
        """By a tape, which costs less than as many calls of a team."""
        if count > 0:
            self.capture(step, count)()

    def _repeated(self, run: Callable[[int], None], count: int) -> Replay | None:
        """A tape of one run with the distances by which its arrays move from run to run, if they do so."""
        if count < 4:
            return None
        first, second, last = (self._record(run, [i]) for i in (0, 1, count - 1))
        if first.calls_python or not len(first.words) == len(second.words) == len(last.words):
            return None
        strides = second.words - first.words
        as_told = np.array_equal(first.words + (count - 1) * strides, last.words)
        return Replay(first, strides, count) if as_told else None

    def _record(self, run: Callable[[int], None], indices: Iterable[int]) -> Tape:
        self._tape = tape = Tape()
        try:
            for i in indices:
                run(i)
        finally:
            self._tape = None
        return tape

    def _replay(self, replay: Replay) -> None:
        """Walk the tape; the BLAS leaves the processors to the tape's own threads.

        Ctrl-C waits for the end of a team, whose threads would go on writing into arrays that others take by then; one
        thread alone is not interrupted within its walk, and to postpone costs 18 us, as much as a small step.
        """
        if self._at_work:
            return replay()
        self._at_work = True
        try:
            with postponed() if replay.has_team else contextlib.nullcontext(), _serial_blas:
                replay()
        except BaseException:
            _serial_blas.leave()
            raise
        finally:
            self._at_work = False
