"""bench.throughput on the GPU: first the engines that need no compiler, then the others, and all precisions."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Iterable
from typing import Any

from bench.gpu import SIZES
from bench.gpu.facts import eager_only
from bench.gpu.notes import Notes

ENGINES = ("xpnet", "gemm", "torch", "torch-graph", "xpnet-eager")
RECORDED = ("xpnet", "gemm")
"""Engines that record graphs of xpnet's own."""

COMPILED = ("xpnet", "gemm", "torch-graph", "torch-compile", "torch-compile-graph")
BATCHES = (128, 1024, 16384, 16, 512, 4096, 32, 64, 256, 2048, 8192, 65536)
"""Those that decide first."""

COMPILED_BATCHES = (1024, 4096, 16384)
LARGEST = 65536
"""Nothing is compiled for it: the step is held against its products alone."""

PRECISIONS = ("fp32", "bf16", "tf32")
ROUNDS, THREADS = 5, 4
ENDING = 6.0
"""Seconds that are kept for the end."""


def run(notes: Notes) -> None:
    """fp32, all batch sizes."""
    race(notes, ENGINES, [("fp32", batch) for batch in BATCHES])


def run_compiled(notes: Notes) -> None:
    """torch.compile, and the other precisions."""
    cases = [(precision, batch) for precision in PRECISIONS for batch in (*COMPILED_BATCHES, LARGEST)]
    race(notes, COMPILED, [case for case in cases if case != ("fp32", LARGEST)])


def race(notes: Notes, names: Iterable[str], cases: list[tuple[str, int]], device: str = "cuda") -> None:
    """One case after the other, while there is time; what an engine gets wrong is the check's failure."""
    from bench.engines import Case
    from bench.throughput import THREADS as VARIABLES
    from bench.throughput import Contest, summary

    for variable in VARIABLES:
        os.environ[variable] = str(THREADS)
    found = notes.found
    found.update({"sizes": SIZES, "optimizer": "sgd", "rounds": ROUNDS, "rows": [], "left_out": []})
    names = _able(notes, names, device)
    with Contest(names, until=notes.until - ENDING) as contest:
        for precision, batch in cases:
            if notes.left() < 2 * ENDING:
                found["left_out"].append(f"{precision}, batch {batch}: the time was up")
                continue
            case = Case(SIZES, batch, device=device, precision=precision)
            without = [name for name in names if batch == LARGEST and name.startswith("torch-compile")]
            rows = summary(case, contest.compare(case, ROUNDS, without=without))
            found["rows"] += rows
            _judge(notes, rows)
            notes.save()


def _able(notes: Notes, names: Iterable[str], device: str) -> list[str]:
    """The engines that can work here; the others are left out."""
    names, left_out = list(names), notes.found["left_out"]
    if importlib.util.find_spec("torch") is None:
        left_out.append("every engine of PyTorch, which is not installed")
        names = [name for name in names if not name.startswith("torch")]
    if device == "cuda" and (reason := eager_only()) is not None:
        left_out.append(f"{' and '.join(name for name in names if name in RECORDED)}: {reason}")
        names = [name for name in names if name not in RECORDED]
    return names


def _judge(notes: Notes, rows: list[dict[str, Any]]) -> None:
    for row in rows:
        if "wrong" not in row:
            print(f"{row['precision']} {row['batch']:>6} {row['engine']:<20} {row['us']:>10.1f} us", flush=True)
            continue
        what = f"{row['engine']}, {row['precision']}, batch {row['batch']}: {row['wrong']}"
        print(what, flush=True)
        if notes.left() < ENDING:
            notes.found["left_out"].append(what)
        elif row["engine"].startswith("torch"):
            notes.found.setdefault("others_failed", []).append(what)
        else:
            notes.wrong.append(what)
