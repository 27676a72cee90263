"""Training throughput per batch size, engine against engine: python -m bench.throughput --help

Every engine works in a process of its own, with the same number of threads, on the same data, in the same precision.
Each first shows that it computes the same thing; then rounds are interleaved, and ratios are taken within a round.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import multiprocessing
import os
import statistics
import sys
import time
from dataclasses import replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from bench.engines import ENGINES, ON_CPU, ON_CUDA, Case, Engine, expected_losses, expected_probabilities
from bench.recipes import processor

CHECKED_STEPS, TOLERANCE = 20, 1e-4
ROUND_SECONDS = 0.25
NEEDS = {name: "torch" for name in ENGINES if name.startswith("torch")} | {"sklearn": "sklearn"}
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def work(pipe: Connection, name: str, case: Case) -> None:
    """The life of an engine's process: losses, then microseconds a step whenever a round asks."""
    _limit_torch(name)
    engine = ENGINES[name](case)
    pipe.send(engine.losses(CHECKED_STEPS) if engine.computes_losses else None)
    engine.run(5)  # compiles, records, allocates
    start = time.perf_counter()
    engine.run(5)
    steps = max(3, int(5 * ROUND_SECONDS / (time.perf_counter() - start)))
    while pipe.recv() == "round":
        start = time.perf_counter()
        engine.run(steps)
        pipe.send((time.perf_counter() - start) / steps * 1e6)


def work_predicting(pipe: Connection, name: str, case: Case) -> None:
    """The same for predictions: probabilities of the case's samples, then microseconds for all of them."""
    _limit_torch(name)
    engine, x = ENGINES[name](case), case.data[0]
    pipe.send(engine.predict(x))
    while pipe.recv() == "round":
        start = time.perf_counter()
        engine.predict(x)
        pipe.send((time.perf_counter() - start) * 1e6)


def _limit_torch(name: str) -> None:
    if name.startswith("torch"):
        import torch

        torch.set_num_threads(int(os.environ[THREADS[0]]))


def relative_error(computed: np.ndarray, expected: np.ndarray) -> float:
    """The largest, of losses each by itself, of probabilities by the largest of their sample."""
    size = np.abs(expected) if expected.ndim == 1 else np.abs(expected).max(axis=1, keepdims=True)
    return float(np.max(np.abs(computed - expected) / size))


def compare(
    names: list[str], case: Case, rounds: int, *, life: Any = work, expected: np.ndarray
) -> dict[str, list[float] | str]:
    """Microseconds in every round, or a sentence that says what is wrong, by engine.

    What an engine computes first, losses or probabilities, must be as expected.
    """
    context = multiprocessing.get_context("spawn")
    wrong: dict[str, str] = {}
    times: dict[str, list[float]] = {}
    workers: dict[str, tuple[Any, Connection]] = {}
    for name in names:
        here, there = context.Pipe()
        process = context.Process(target=life, args=(there, name, case), daemon=True)
        process.start()
        there.close()
        try:
            computed = here.recv()
        except EOFError:
            wrong[name] = "it stopped before its first result"
            continue
        error = 0.0 if computed is None else relative_error(computed, expected)
        if error > TOLERANCE:
            wrong[name] = f"its results are off by {error:.1e}"
            process.kill()
            continue
        workers[name], times[name] = (process, here), []
    for _ in range(rounds + 1):  # the first warms up
        for name, (_, pipe) in workers.items():
            pipe.send("round")
            times[name].append(pipe.recv())
    for process, pipe in workers.values():
        pipe.send("end")
        process.join()
    return {name: wrong[name] if name in wrong else times[name][1:] for name in names}


def summary(case: Case, results: dict[str, list[float] | str]) -> list[dict[str, Any]]:
    """A row for each engine: median, spread, samples a second, and the ratio to xpnet within a round."""
    rows = []
    base = results.get("xpnet")
    for name, times in results.items():
        row: dict[str, Any] = {"engine": name, "batch": case.batch}
        if isinstance(times, str):
            row["wrong"] = times
        else:
            median = statistics.median(times)
            row |= {
                "us": median,
                "low": min(times),
                "high": max(times),
                "samples_per_second": case.batch / median * 1e6,
            }
            if isinstance(base, list):
                row["ratio"] = statistics.median(t / b for t, b in zip(times, base, strict=True))
        rows.append(row)
    return rows


def show(rows: list[dict[str, Any]]) -> None:
    """Print one batch size."""
    for row in rows:
        head = f"{row['batch']:>6}  {row['engine']:<16}"
        if "wrong" in row:
            print(f"{head} wrong, not timed: {row['wrong']}", flush=True)
        else:
            ratio = f"{row['ratio']:.2f}x xpnet's" if "ratio" in row else ""
            spread = f"({row['low']:.0f} to {row['high']:.0f})"
            speed = f"{row['us']:>10,.0f} us/step {spread:<20} {row['samples_per_second']:>12,.0f} samples/s"
            print(f"{head} {speed}  {ratio}", flush=True)


def plot(rows: list[dict[str, Any]], path: Path, title: str) -> None:
    """Samples per second over batch size, a line an engine, the floors dashed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    for name in dict.fromkeys(row["engine"] for row in rows):
        mine = [row for row in rows if row["engine"] == name and "us" in row]
        axes.plot(
            [row["batch"] for row in mine],
            [row["samples_per_second"] for row in mine],
            label=name,
            marker="o",
            markersize=3,
            linestyle="--" if name.startswith("gemm") else "-",
            linewidth=2.5 if name == "xpnet" else 1.2,
        )
    axes.set(xscale="log", yscale="log", xlabel="batch size", ylabel="samples per second", title=title)
    axes.grid(alpha=0.25)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=150)


def main() -> int:
    """Compare, print, and write what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--engines", default="all", help=f"which, by commas: {', '.join(ENGINES)}")
    parser.add_argument("--batch-sizes", default="1,16,64,200,1024,8192", help="by commas")
    parser.add_argument("--net", default="784-300-100-10", help="units of all layers")
    parser.add_argument("--optimizer", default="sgd", choices=("sgd", "momentum", "adam"))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    parser.add_argument(
        "--predict", type=int, metavar="N", help="compare probabilities of N samples instead of training"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file for all times")
    parser.add_argument("--plot", type=Path, help="PNG file")
    options = parser.parse_args()
    for variable in THREADS:
        os.environ[variable] = str(options.threads)
    names = []
    elsewhere = ON_CUDA if options.device == "cpu" else ON_CPU
    everywhere = [name for name in ENGINES if name not in elsewhere]
    for name in everywhere if options.engines == "all" else options.engines.split(","):
        if name not in ENGINES:
            print(f"throughput: got the engine {name}, expected some of {', '.join(ENGINES)}.", file=sys.stderr)
            return 2
        if name in elsewhere:
            print(f"left out: {name}, which is not for the device {options.device}")
        elif options.predict and ENGINES[name].predict is Engine.predict:
            print(f"left out: {name}, which does not predict")
        elif name in NEEDS and importlib.util.find_spec(NEEDS[name]) is None:
            print(f"left out: {name}, for {NEEDS[name]} is not installed (the README has the command)")
        else:
            names.append(name)
    sizes = tuple(map(int, options.net.split("-")))
    machine = f"{processor()}, {options.threads} threads"
    print(f"{options.net}, {options.optimizer}, float32, {machine}")
    rows: list[dict[str, Any]] = []
    for batch in [options.predict] if options.predict else map(int, options.batch_sizes.split(",")):
        case = Case(sizes, batch, options.optimizer, options.device)
        if options.predict:
            case = replace(case, rows=batch)
            check = {"life": work_predicting, "expected": expected_probabilities(case, case.data[0])}
        else:
            check = {"expected": expected_losses(case, CHECKED_STEPS)}
        rows += (new := summary(case, compare(names, case, options.rounds, **check)))
        show(new)
    if options.json:
        facts = {"machine": machine, "net": options.net, "optimizer": options.optimizer, "rows": rows}
        options.json.write_text(json.dumps(facts, indent=1) + "\n")
    if options.plot:
        plot(rows, options.plot, f"Training {options.net} ({options.optimizer}, float32, {options.threads} threads)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
