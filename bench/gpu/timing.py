"""Time on the device, by its own events."""

from __future__ import annotations

import ctypes
import statistics
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


def launches(device: Any, run: Callable[[], Any]) -> int | None:
    """What the graph of a run holds, kernels and copies; it ran before. None where CuPy does not show its graphs."""
    with device:
        stream = device.xp.cuda.get_current_stream()
        run()
        stream.synchronize()
        stream.begin_capture()
        try:
            run()
        finally:
            graph = stream.end_capture()
        return nodes(graph)


def nodes(graph: Any) -> int | None:
    """Of a graph of CuPy's, by the driver."""
    handle = getattr(graph, "graph", None)
    if handle is None:
        return None
    count = ctypes.c_size_t()
    status = ctypes.CDLL("libcuda.so.1").cuGraphGetNodes(ctypes.c_void_p(handle), None, ctypes.byref(count))
    return None if status else int(count.value)
