"""Run every recipe to its end and write what it reached: python -m bench.recipes [--seeds 10] [NAME ...]

The table goes to bench/results/recipes.md. The data must be where xpnet looks for them (--data-dir of xpnet.train).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from xpnet import recipes

RESULTS = Path(__file__).parent / "results" / "recipes.md"
QUICK = ("xor", "sine")
"""Recipes of a second or so, repeated for several seeds."""


def run(name: str, seed: int, folder: Path) -> dict[str, Any]:
    """Train by the command that the README gives; its JSON."""
    out = folder / f"{name}-{seed}"
    command = [sys.executable, "-m", "xpnet.train", "--recipe", name, "--seed", str(seed)]
    options = ["--quiet", "--json", "--no-plot", "--no-report", "--out", str(out)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
    return json.loads(done.stdout)


def reached(name: str, results: list[dict[str, Any]]) -> str:
    """What the recipe's own claim is about, in words."""
    if name == "xor":
        return f"solved for {sum(r['train_accuracy'] == 1 for r in results)} seeds of {len(results)}"
    if name == "sine":
        errors = [r["train_mse"] for r in results]
        return f"mse below 0.001 for {sum(e < 1e-3 for e in errors)} seeds of {len(errors)}, at most {max(errors):.1e}"
    result = results[0]
    if name == "cifar-deep":
        return f"training accuracy {result['train_accuracy']:.2f}"
    if name == "cifar-shallow":
        return (
            f"best validation accuracy {result['val_accuracy']:.4f}, test {result['test_accuracy']:.4f}; "
            f"initial loss {result['initial_loss']:.4f}"
        )
    return f"test accuracy {result['test_accuracy']:.4f}"


def machine() -> str:
    """The model of this machine's processor, and the threads that products may use."""
    threads = os.environ.get("OPENBLAS_NUM_THREADS", "all")
    return f"{processor()}, {threads} threads"


def processor() -> str:
    """The model of this machine's processor."""
    info = Path("/proc/cpuinfo")
    models = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
    return f"{models[0]}, {len(models)} processors" if models else platform.processor()


def main() -> None:
    """Run them one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=[n for n in recipes.names() if "data" in recipes.read(n).settings])
    parser.add_argument("--seeds", type=int, default=10, help="of the quick recipes")
    options = parser.parse_args()
    lines = ["| recipe | reached | training seconds | samples/s |", "|---|---|---|---|"]
    with tempfile.TemporaryDirectory() as folder:
        for name in options.names:
            seeds = range(options.seeds if name in QUICK else 1)
            results = [run(name, seed, Path(folder)) for seed in seeds]
            seconds = statistics.median(r["seconds"] for r in results)
            speed = statistics.median(r["samples_per_second"] for r in results)
            lines.append(f"| `{name}` | {reached(name, results)} | {seconds:.1f} | {speed:,.0f} |")
            print(lines[-1], flush=True)
    head = f"Each recipe run to its end by `python -m bench.recipes`, seed 0 unless said; {machine()}.\n"
    RESULTS.write_text("\n".join([head, *lines]) + "\n")


if __name__ == "__main__":
    main()
