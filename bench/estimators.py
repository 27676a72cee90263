"""xpnet's estimators against scikit-learn's, whole calls of fit and predict: python -m bench.estimators [--threads 2]

Each library works in a process of its own, with the same number of threads. First both show the same loss curves, then
they take turns, and ratios are taken within a round. MNIST is the real data where xpnet finds it, else random samples
of its shape, which take as long.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import sys
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

LIBRARIES = ("xpnet", "sklearn.neural_network")
ROUNDS, TOLERANCE = 7, {"float32": 2e-3, "float64": 1e-6}
RESULTS = Path(__file__).parent / "results" / "cpu-estimators.json"
THREADS = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS")


@dataclass(frozen=True)
class Work:
    """What is timed.

    Attributes:
        name: In the table.
        data: "mnist" or "small".
        dtype: Of the samples.
        parameters: Of the estimator.
        repeats: Calls that are timed together.
        predicts: Rows to predict, in place of a fit.
        goal: How many times longer scikit-learn is to take, at the least.
    """

    name: str
    data: str
    dtype: str
    parameters: dict[str, Any] = field(default_factory=dict)
    repeats: int = 1
    predicts: int = 0
    goal: float | None = None


DEEP = {"hidden_layer_sizes": (300, 100), "max_iter": 3}
WIDE = {"max_iter": 3}
WORKS = (
    *(
        Work(f"MNIST 784-{hidden}10, {solver}, {dtype}", "mnist", dtype, {**network, "solver": solver}, goal=2.5)
        for network, hidden in ((WIDE, "100-"), (DEEP, "300-100-"))
        for solver in ("adam", "sgd")
        for dtype in ("float32", "float64")
    ),
    Work("1,000 x 20, defaults", "small", "float64", goal=3.0),
    Work("1,000 x 20, three classes", "three", "float64"),
    Work("1,000 x 20, regression", "numbers", "float64"),
    *(Work(f"predict_proba of {n:,} x 20", "small", "float64", repeats=200, predicts=n) for n in (1, 100, 1000)),
    Work("predict_proba of MNIST", "mnist", "float32", WIDE, predicts=60_000),
)


def work(pipe: Connection, library: str) -> None:
    """The life of a library's process: it answers a work with a loss curve, and "round" with seconds."""
    warnings.simplefilter("ignore")
    call: Callable[[], Any] | None = None
    repeats = 1
    while (message := pipe.recv()) is not None:
        if message == "round":
            assert call is not None
            start = time.perf_counter()
            for _ in range(repeats):
                call()
            pipe.send((time.perf_counter() - start) / repeats)
        else:
            call, repeats = prepared(message, library), message.repeats
            result = call()
            pipe.send(result if message.predicts else np.array(result.loss_curve_))


def prepared(work: Work, library: str) -> Callable[[], Any]:
    """What is timed, as a call."""
    import importlib

    x, y = samples(work.data, work.dtype)
    module = importlib.import_module(library)
    kind = module.MLPRegressor if work.data == "numbers" else module.MLPClassifier
    estimator = kind(random_state=0, **work.parameters)
    if not work.predicts:
        return lambda: estimator.fit(x, y)
    estimator.set_params(max_iter=1).fit(x, y)
    return lambda: estimator.predict_proba(x[: work.predicts])


def samples(name: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """The data of that name."""
    from sklearn.datasets import make_classification, make_regression

    if name == "numbers":
        return make_regression(1000, 20, random_state=0)
    if name != "mnist":
        classes = {"n_classes": 3, "n_informative": 5} if name == "three" else {}
        return make_classification(1000, 20, random_state=0, **classes)
    import xpnet

    try:
        data = xpnet.data.load("mnist")
        x, y = data.x.reshape(len(data.x), -1) * (1 / 255), np.asarray(data.y)
    except Exception:  # without the network there is none
        rng = np.random.default_rng(0)
        x, y = rng.random((60_000, 784)), rng.integers(0, 10, 60_000)
    return np.ascontiguousarray(x, dtype=dtype), y


def compare(work: Work, pipes: dict[str, Connection]) -> dict[str, Any]:
    """Whether both do the same, and how long they take."""
    first, second = (_ask(pipe, work) for pipe in pipes.values())
    error = float(np.max(np.abs(first - second) / np.maximum(np.abs(second), 1e-3)))
    rounds = np.array([[_ask(pipe, "round") for pipe in pipes.values()] for _ in range(ROUNDS)])
    ratios = rounds[:, 1] / rounds[:, 0]
    mine, theirs = np.median(rounds, axis=0)
    return {
        **asdict(work),
        "error": error,
        "same": error <= TOLERANCE[work.dtype],
        "seconds": float(mine),
        "sklearn_seconds": float(theirs),
        "ratio": statistics.median(ratios),
        "ratios": sorted(ratios),
    }


def _ask(pipe: Connection, message: Any) -> Any:
    pipe.send(message)
    return pipe.recv()


def main() -> int:
    """Measure, print a table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2, help="of each process")
    parser.add_argument("--only", default="", help="works whose names contain this")
    arguments = parser.parse_args()
    os.environ |= dict.fromkeys(THREADS, str(arguments.threads))
    context = multiprocessing.get_context("spawn")
    pipes, processes = {}, []
    for library in LIBRARIES:
        pipes[library], theirs = context.Pipe()
        processes.append(context.Process(target=work, args=(theirs, library), daemon=True))
        processes[-1].start()
    results = []
    print(
        "| work | xpnet, ms | scikit-learn, ms | ratio (spread) | goal | same results to |\n|---|---|---|---|---|---|"
    )
    for each in WORKS:
        if arguments.only not in each.name:
            continue
        result = compare(each, pipes)
        results.append(result)
        low, high = result["ratios"][0], result["ratios"][-1]
        print(
            f"| {each.name} | {result['seconds'] * 1e3:,.4g} | {result['sklearn_seconds'] * 1e3:,.4g} | "
            f"{result['ratio']:.2f} ({low:.2f} to {high:.2f}) | {each.goal or ''} | "
            f"{result['error']:.0e}{'' if result['same'] else ', which is too much'} |",
            flush=True,
        )
    for pipe in pipes.values():
        pipe.send(None)
    if not arguments.only:
        RESULTS.write_text(json.dumps({"threads": arguments.threads, "works": results}, indent=1) + "\n")
    return int(not all(result["same"] for result in results))


if __name__ == "__main__":
    sys.exit(main())
