"""The rates that everything is held against: copying, matrix products, nodes of a graph, launches."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from bench.gpu.notes import Notes
from bench.gpu.timing import seconds

COPIED = 2**30
"""Bytes of each array: many times what any cache holds."""

SIDE = 8192
"""Of the square matrices."""

NODES, LAUNCHES = 1000, 200

NOTHING = "template <int n> __global__ void nothing(int) {}"


def run(notes: Notes) -> None:
    """All of them."""
    import xpnet

    found = notes.found
    device = xpnet.device("cuda")
    found["copy_bytes_per_second"] = copy_rate(device)
    found["node_us"], found["launch_us"] = graph_costs(device)
    notes.save()
    found["flops"] = {}
    for precision in ("fp32", "tf32", "bf16"):
        found["flops"][precision] = {"xpnet": product_rate(xpnet.device("cuda", precision=precision))}
        try:
            found["flops"][precision]["torch"] = torch_rate(precision)
        except ImportError as error:
            found["flops"][precision]["torch"] = str(error)
        notes.save()


def copy_rate(device: Any) -> float:
    """Bytes read and written a second by a large copy on the device."""
    size = COPIED
    tile = np.random.default_rng(0).integers(0, 256, min(size, 2**24), dtype=np.uint8)
    with device:
        source, out, there = device.zeros((size,), np.uint8), device.zeros((size,), np.uint8), device.asarray(tile)
        for start in range(0, size, len(tile)):
            source[start : start + len(tile)] = there[: size - start]
        return 2 * size / seconds(device, lambda: device.xp.copyto(out, source))


def product_rate(device: Any) -> float:
    """Floating-point operations a second of a large square product of random numbers, as this device makes it."""
    from bench.engines import bfloat16

    rng, side = np.random.default_rng(0), SIDE
    with device:
        a, b = (device.asarray(rng.random((side, side), dtype=np.float32) - np.float32(0.5)) for _ in range(2))
        if device.precision == "bf16":
            a, b = bfloat16(device, a), bfloat16(device, b)
        out = device.empty((side, side), np.float32)
        return 2 * side**3 / seconds(device, lambda: device.gemm(a, b, out=out), repeats=5)


def torch_rate(precision: str) -> float:
    """The same by PyTorch."""
    import torch

    torch.set_float32_matmul_precision("high" if precision == "tf32" else "highest")
    side, kind = SIDE, torch.bfloat16 if precision == "bf16" else torch.float32
    a, b = (torch.rand(side, side, device="cuda").sub_(0.5).to(kind) for _ in range(2))
    out = torch.empty(side, side, device="cuda", dtype=kind)
    times = []
    for _ in range(6):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        torch.mm(a, b, out=out)
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return 2 * side**3 / sorted(times[1:])[2]


def graph_costs(device: Any) -> tuple[float, float]:
    """Microseconds of a node that does nothing, in a graph of many, and of the host to launch a graph of one."""
    nothing = nothing_kernel(device)
    many = device.capture(lambda _: nothing(), NODES)
    node = seconds(device, many) / NODES
    one = device.capture(lambda _: nothing())
    for _ in range(10):
        one()
    device.synchronize()
    start = time.perf_counter()
    for _ in range(LAUNCHES):
        one()
    launch = (time.perf_counter() - start) / LAUNCHES
    device.synchronize()
    return node * 1e6, launch * 1e6


def nothing_kernel(device: Any) -> Callable[[], None]:
    """A launch of one warp that does nothing."""
    module = device.xp.RawModule(code=NOTHING, options=("-std=c++17",), name_expressions=("nothing<0>",))
    kernel = module.get_function("nothing<0>")
    return lambda: kernel((1,), (32,), (np.int32(0),))
