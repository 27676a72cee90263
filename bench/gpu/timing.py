"""Time on the device, by its own events."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from typing import Any

REPEATS = 9


def seconds(device: Any, run: Callable[[], Any], *, repeats: int = REPEATS) -> float:
    """The median time that a run takes the device; it ran before."""
    cuda, times = device.xp.cuda, []
    with device:
        stream = cuda.get_current_stream()
        run()
        for _ in range(repeats):
            start, end = cuda.Event(), cuda.Event()
            stream.record(start)
            run()
            stream.record(end)
            end.synchronize()
            times.append(cuda.get_elapsed_time(start, end) / 1e3)
    return float(statistics.median(times))


def each_of(device: Any, run: Callable[[int], None], count: int, *, repeats: int = REPEATS) -> float:
    """Seconds of one of run(0), ..., run(count - 1), in a graph of them all."""
    return seconds(device, device.capture(run, count), repeats=repeats) / count


def wall_seconds(device: Any, run: Callable[[], Any]) -> float:
    """From the call until the device is done, by the host's clock."""
    device.synchronize()
    start = time.perf_counter()
    run()
    device.synchronize()
    return time.perf_counter() - start
