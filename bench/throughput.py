"""Training throughput per batch size, engine against engine: python -m bench.throughput --help

Every engine works in a process of its own, with the same number of threads, on the same data, in the same precision.
For each batch size each first shows that it computes the same thing; then rounds are interleaved, and ratios are taken
within a round.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import gc
import importlib.util
import json
import multiprocessing
import os
import statistics
import sys
import time
import traceback
from collections.abc import Iterable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from bench.engines import ENGINES, ON_CPU, ON_CUDA, Case, Engine, expected_losses, expected_probabilities
from bench.recipes import processor

CHECKED_STEPS, TOLERANCE = 20, 1e-4
LEAST_CHECKED_STEPS, CHECKED_SAMPLES = 3, 2**16
TOLERANCES = {"fp32": TOLERANCE, "tf32": 2e-3, "bf16": 2e-2}
"""Largest relative error of a loss: products of tf32 are off by 3e-4, those of bfloat16 by 4e-3."""

ROUND_SECONDS = {"cpu": 0.25, "cuda": 0.1}
PATIENCE = 120.0
"""Seconds that an engine has for an answer, unless the caller says less."""

NEEDS = {name: "torch" for name in ENGINES if name.startswith("torch")} | {"sklearn": "sklearn"}
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


@dataclass(frozen=True)
class Wrong:
    """Why there is no answer."""

    why: str


@dataclass(frozen=True)
class Answer:
    """Of an engine."""

    value: Any


def work(pipe: Connection, name: str) -> None:
    """The life of an engine's process: it answers (life, case) and "round", until it is told None."""
    _limit_torch(name)
    life: Training | Predicting | None = None
    while (message := pipe.recv()) is not None:
        try:
            if message == "round":
                assert life is not None
                answer = Answer(life.round())
            else:
                kind, case = message
                life = None  # gives its memory back before the next one takes its own
                gc.collect()
                life = LIVES[kind](ENGINES[name](case))
                answer = Answer(life.result())
        except Exception as error:  # whatever breaks an engine is its result
            traceback.print_exc()
            pipe.send(Wrong(_one_line(error)))
            return  # a GPU's error may stay with the process
        pipe.send(answer)


def _one_line(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [""])[0][:300]
    return f"{type(error).__name__}: {text}"


class Training:
    """An engine that trains: its first losses, then microseconds a step."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.steps = engine, 0

    def result(self) -> np.ndarray | None:
        """The losses of the first steps; what follows them compiles, records and allocates."""
        engine = self.engine
        losses = engine.losses(checked_steps(engine.case)) if engine.computes_losses else None
        few = engine.rounded(5)
        engine.run(few)
        start = time.perf_counter()
        engine.run(few)
        lasts = time.perf_counter() - start
        self.steps = engine.rounded(max(3, int(few * ROUND_SECONDS[engine.case.device] / lasts)))
        if engine.case.device == "cuda":
            engine.run(self.steps)  # of that many steps too
        return losses

    def round(self) -> float:
        """Microseconds a step."""
        start = time.perf_counter()
        self.engine.run(self.steps)
        return (time.perf_counter() - start) / self.steps * 1e6


class Predicting:
    """An engine that predicts: probabilities of the case's samples, then microseconds for all of them."""

    def __init__(self, engine: Engine) -> None:
        self.engine, self.x = engine, engine.case.data[0]

    def result(self) -> np.ndarray:
        """The probabilities."""
        return self.engine.predict(self.x)

    def round(self) -> float:
        """Microseconds."""
        start = time.perf_counter()
        self.engine.predict(self.x)
        return (time.perf_counter() - start) * 1e6


LIVES: dict[str, Any] = {"train": Training, "predict": Predicting}


def checked_steps(case: Case) -> int:
    """How many losses an engine shows; fewer of large batches on a GPU, where the CPU's answer would take long."""
    if case.device == "cpu":
        return CHECKED_STEPS
    return max(LEAST_CHECKED_STEPS, min(CHECKED_STEPS, CHECKED_SAMPLES // case.batch))


def _limit_torch(name: str) -> None:
    if name.startswith("torch"):
        import torch

        torch.set_num_threads(int(os.environ[THREADS[0]]))


class Worker:
    """An engine's process; a new one after it broke or was too slow."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, there = context.Pipe()
        self._process = context.Process(target=work, args=(there, self.name), daemon=True)
        self._process.start()
        there.close()

    def tell(self, message: Any) -> None:
        """Send what will be answered."""
        if not self._process.is_alive():
            self._start()
        try:
            self._pipe.send(message)
        except OSError:  # it ended just now
            self._start()
            self._pipe.send(message)

    def answer(self, seconds: float) -> Answer | Wrong:
        """What came of it, after at most so long."""
        try:
            if self._pipe.poll(max(0.0, seconds)):
                answer: Answer | Wrong = self._pipe.recv()
            else:
                answer = Wrong(f"it had not answered after {seconds:.0f} s")
        except (EOFError, OSError):
            answer = Wrong("it stopped before its first result")
        if isinstance(answer, Wrong):
            self.kill()
        return answer

    def kill(self) -> None:
        """End the process at once."""
        self._process.kill()
        self._process.join()

    def leave(self) -> None:
        """Tell the process to end."""
        with contextlib.suppress(OSError):
            self._pipe.send(None)

    def end(self, seconds: float) -> None:
        """Let the process end by itself, in at most so long."""
        self._process.join(seconds)
        self.kill()


def relative_error(computed: np.ndarray, expected: np.ndarray) -> float:
    """The largest, of losses each by itself, of probabilities by the largest of their sample."""
    size = np.abs(expected) if expected.ndim == 1 else np.abs(expected).max(axis=1, keepdims=True)
    return float(np.max(np.abs(computed - expected) / size))


class Contest:
    """Engines that live through all cases.

    Args:
        names: Of the engines.
        until: When no further answer is waited for, by `time.monotonic`; None for never.
    """

    def __init__(self, names: Iterable[str], *, until: float | None = None) -> None:
        self._workers = {name: Worker(name) for name in names}
        self._until = until

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self._workers.values():
            worker.leave()
        for worker in self._workers.values():
            worker.end(1.0)

    def compare(
        self, case: Case, rounds: int, *, life: str = "train", without: Iterable[str] = ()
    ) -> dict[str, list[float] | str]:
        """Microseconds in every round, or a sentence that says what is wrong, by engine.

        What an engine computes first, losses or probabilities, must be as expected.
        """
        racing = {name: worker for name, worker in self._workers.items() if name not in without}
        results: dict[str, list[float] | str] = {}
        case = replace(case)  # without the data, which each engine makes by itself
        for name, worker in racing.items():
            worker.tell((life, case))
            answer = worker.answer(self._patience())
            if isinstance(answer, Wrong):
                results[name] = answer.why
                continue
            error = 0.0 if answer.value is None else relative_error(answer.value, expected(life, case))
            right = error <= TOLERANCES[case.precision]  # never so for NaN
            results[name] = [] if right else f"its results are off by {error:.1e}"
        for number in range(rounds + 1):
            for name, worker in racing.items():
                times = results[name]
                if isinstance(times, str):
                    continue
                worker.tell("round")
                answer = worker.answer(self._patience())
                if isinstance(answer, Wrong):
                    results[name] = answer.why
                elif number > 0:  # the first warms up
                    times.append(answer.value)
        return results

    def _patience(self) -> float:
        return PATIENCE if self._until is None else min(PATIENCE, self._until - time.monotonic())


@functools.lru_cache(maxsize=4)
def _expected(life: str, case: Case) -> np.ndarray:
    if life == "predict":
        return expected_probabilities(case, case.data[0])
    return expected_losses(case, checked_steps(case))


def expected(life: str, case: Case) -> np.ndarray:
    """What the engines must compute, the same in every precision."""
    return _expected(life, replace(case, precision="fp32"))


def summary(case: Case, results: dict[str, list[float] | str]) -> list[dict[str, Any]]:
    """A row for each engine: median, spread, samples a second, and the ratio to xpnet within a round."""
    rows = []
    base = results.get("xpnet")
    for name, times in results.items():
        row: dict[str, Any] = {"engine": name, "batch": case.batch, "precision": case.precision}
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
    parser.add_argument("--precision", default="fp32", choices=tuple(TOLERANCES), help="of products, on cuda")
    parser.add_argument(
        "--predict", type=int, metavar="N", help="compare probabilities of N samples instead of training"
    )
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--json", type=Path, help="file for all times")
    parser.add_argument("--plot", type=Path, help="PNG file")
    options = parser.parse_args()
    if options.precision != "fp32" and options.device == "cpu":
        parser.error("--precision: the CPU has fp32 alone")
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
    shown = "float32" if options.precision == "fp32" else options.precision
    print(f"{options.net}, {options.optimizer}, {shown}, {machine}")
    rows: list[dict[str, Any]] = []
    with Contest(names) as contest:
        for batch in [options.predict] if options.predict else map(int, options.batch_sizes.split(",")):
            case = Case(sizes, batch, options.optimizer, options.device, precision=options.precision)
            if options.predict:
                results = contest.compare(replace(case, rows=batch), options.rounds, life="predict")
            else:
                results = contest.compare(case, options.rounds)
            rows += (new := summary(case, results))
            show(new)
    if options.json:
        facts = {"machine": machine, "net": options.net, "optimizer": options.optimizer, "rows": rows}
        options.json.write_text(json.dumps(facts, indent=1) + "\n")
    if options.plot:
        plot(rows, options.plot, f"Training {options.net} ({options.optimizer}, {shown}, {options.threads} threads)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
