"""The performance regression run: python -m bench.check [--update] [--baseline FILE] [-- PYTEST OPTIONS]

Runs the benchmark suite and takes each cost as a ratio to a frozen matrix product (bench/products.py), timed between
its rounds, so that a machine that is slow today is slow for both. Compares with the ratios written down for this model
of processor; what looks slower is measured again, up to ten times, and counts only if it stays so: noise on a shared
machine lasts for minutes, what became slower stays slower. Exit status 1 then, else 0.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
SLOWER = 1.15
"""A cost this many times its baseline is a regression."""

ONE_THREAD = {"OPENBLAS_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"}
"""How long threads wait for each other is a matter of what else the machine does."""

WORKER = "PYTEST_XDIST_WORKER"
"""Where tests of this command run side by side, pytest-benchmark takes this for a reason not to measure."""

FAR_SLOWER = 2.0
"""What still costs this many times its baseline after `RUNS` runs is not measured any more."""

RUNS, MOST_RUNS = 3, 11
"""How often everything is measured for a baseline, and what looks slower to see whether it is."""


def ratios(pytest_options: list[str], only: list[str] | None = None) -> dict[str, float]:
    """Least cost over that of the reference product, by benchmark: noise only ever adds."""
    chosen = [str(HERE)] if only is None else [f"{HERE.parent}/{name}" for name in only]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report.json"
        command = [sys.executable, "-m", "pytest", *chosen, "--benchmark-only", "-q", "-p", "no:cacheprovider"]
        done = subprocess.run(
            [*command, f"--benchmark-json={report}", "-W", "default", *pytest_options],
            cwd=HERE.parent,
            env={name: value for name, value in os.environ.items() if name != WORKER} | ONE_THREAD,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise SystemExit(f"bench-check: the benchmarks fail:\n{done.stdout[-3000:]}{done.stderr[-1000:]}")
        benchmarks = json.loads(report.read_text())["benchmarks"]
    return {b["fullname"]: b["stats"]["min"] / b["extra_info"]["product"] for b in benchmarks}


def model() -> str:
    """This processor's model as a file's name; vendors give one brand name to several generations."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().split("\n\n")[0].splitlines() if info.exists() else []
    facts = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    named = [facts.get("model name", platform.processor() or platform.machine())]
    named += [f"{key} {facts[key]}" for key in ("cpu family", "model") if key in facts]
    return re.sub(r"[^a-z0-9]+", "-", " ".join(named).lower()).strip("-")


def slower(measured: dict[str, float], baseline: dict[str, float], by: float = SLOWER) -> list[str]:
    """Names of what costs more than it should."""
    return [name for name, ratio in measured.items() if name in baseline and ratio > by * baseline[name]]


def largest(pytest_options: list[str]) -> dict[str, float]:
    """The largest ratios of several runs: a baseline."""
    measured: dict[str, float] = {}
    for _ in range(RUNS):
        for name, ratio in ratios(pytest_options).items():
            measured[name] = max(measured.get(name, ratio), ratio)
    return measured


def least(pytest_options: list[str], baseline: dict[str, float]) -> dict[str, float]:
    """The ratios of one run; of what looks slower than the baseline, the least of as many runs as it takes."""
    measured = ratios(pytest_options)
    for run in range(1, MOST_RUNS):
        suspects = slower(measured, baseline)
        if not suspects or (run >= RUNS and slower(measured, baseline, by=FAR_SLOWER)):
            break
        print(f"measuring again what looks slower: {', '.join(suspects)}", flush=True)
        for suspect, ratio in ratios(pytest_options, suspects).items():
            measured[suspect] = min(measured[suspect], ratio)
    return measured


def show(measured: dict[str, float], baseline: dict[str, float]) -> None:
    """Print a row for each benchmark."""
    print(f"{'benchmark':<72} {'ratio':>8} {'baseline':>8} {'change':>7}")
    for name, ratio in measured.items():
        before = baseline.get(name)
        change = "new" if before is None else f"{ratio / before - 1:+.0%}"
        print(f"{name:<72} {ratio:>8.3f} {before or float('nan'):>8.3f} {change:>7}")


def main() -> int:
    """Measure, compare, tell."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--update", action="store_true", help="write a baseline: the largest ratios of three runs")
    parser.add_argument("--baseline", type=Path, help="by custom the file of this model of processor")
    parser.add_argument("pytest", nargs="*", help="options for pytest, after --")
    options = parser.parse_args()
    path = options.baseline or HERE / "baselines" / f"{model()}.json"
    known = json.loads(path.read_text()) if path.exists() else {}
    if not known and not options.update:
        print(f"There is no baseline for this processor ({model()}), so nothing is measured; --update writes one.")
        return 0
    measured = largest(options.pytest) if options.update else least(options.pytest, known)
    show(measured, known)
    if options.update:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({name: round(ratio, 4) for name, ratio in measured.items()}, indent=1) + "\n")
        print(f"wrote {path}")
        return 0
    bad = slower(measured, known)
    print(
        f"{len(bad)} of {len(measured)} are more than {SLOWER - 1:.0%} slower than the baseline{': ' if bad else '.'}"
        + ", ".join(bad)
    )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
