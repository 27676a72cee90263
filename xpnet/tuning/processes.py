"""Trials one after the other, in this process or in several."""

from __future__ import annotations

import functools
import math
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.context import SpawnContext

from joblib import cpu_count
from threadpoolctl import threadpool_limits

from xpnet.errors import XpnetError
from xpnet.signals import kept_from_children
from xpnet.tuning.search import Event, Finished, Search, Workplace


def trials(
    search: Search, workplace: Workplace, *, count: int, jobs: int = 1, deadline: float = math.inf
) -> Iterator[Finished]:
    """Trials as they end, until there are so many.

    Args:
        search: What is searched.
        workplace: Of this process.
        count: Of trials that came to an end, those of earlier searches included.
        jobs: Processes that train side by side.
        deadline: When to stop, by `time.time`.
    """
    indices = range(workplace.record.finished, count)
    if jobs == 1:
        results: Iterator[Finished | None] = (workplace.run(index, deadline) for index in indices)
    else:
        results = _side_by_side(search, indices, min(jobs, len(indices)), deadline)
    yield from (finished for finished in results if finished is not None)


def _side_by_side(search: Search, indices: range, jobs: int, deadline: float) -> Iterator[Finished | None]:
    if not indices:
        return
    context = multiprocessing.get_context("spawn")  # a fork would share what CUDA and the threads of the BLAS hold
    stopping = Flag(context)
    threads = max(1, cpu_count() // jobs)
    with ProcessPoolExecutor(jobs, context, _enter, (search, stopping, threads)) as pool:
        with kept_from_children():  # the first submission begins all of them
            futures = [pool.submit(_run, index, deadline) for index in indices]
        try:
            for future in as_completed(futures):
                yield future.result()
        except BrokenProcessPool:
            raise XpnetError(
                f"jobs: one of {jobs} processes was ended from outside, perhaps for want of memory; the same command "
                "with fewer --jobs goes on."
            ) from None
        finally:
            stopping.set()
            pool.shutdown(cancel_futures=True)


class Flag:
    """An event without a lock: a process that is killed while it looks, as for want of memory, would keep that."""

    def __init__(self, context: SpawnContext) -> None:
        self._byte = context.RawValue("b", 0)

    def is_set(self) -> bool:
        """Whether it is."""
        return bool(self._byte.value)

    def set(self) -> None:
        """Set it."""
        self._byte.value = 1


class _Worker:
    """What a process of its own makes once.

    Args:
        search: What is searched.
        stopping: Set when it is to end.
    """

    def __init__(self, search: Search, stopping: Event) -> None:
        self._search, self._stopping = search, stopping

    @functools.cached_property
    def workplace(self) -> Workplace:
        """Made at the first trial, whose error its errors then are."""
        return Workplace(self._search, self._stopping)


_worker: _Worker


def _enter(search: Search, stopping: Event, threads: int) -> None:
    """A process begins: it has its part of the processors, leaves Ctrl-C to its parent, and does not outlive that."""
    global _worker
    _worker = _Worker(search, stopping)
    threadpool_limits(threads)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _run(index: int, deadline: float) -> Finished | None:
    return _worker.workplace.run(index, deadline)
