"""The throughput harness: its engines compute what plain NumPy does, and it writes what it says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from bench import throughput
from bench.engines import ENGINES, Case, expected_losses, expected_probabilities

ROOT = Path(__file__).resolve().parent.parent


@pytest.mark.parametrize("name", ["xpnet", "xpnet-reference"])
@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
def test_engines_compute_the_expected_losses_and_probabilities(name, optimizer):
    case = Case((30, 20, 10, 5), 16, optimizer, rows=64)
    engine = ENGINES[name](case)
    x = case.data[0]
    assert throughput.relative_error(engine.predict(x), expected_probabilities(case, x)) < 1e-5
    assert throughput.relative_error(engine.losses(20), expected_losses(case, 20)) < throughput.TOLERANCE


def test_another_computation_is_wrong():
    assert throughput.relative_error(np.array([2.0, 1.001]), np.array([2.0, 1.0])) > throughput.TOLERANCE
    assert throughput.relative_error(np.array([[0.5, 0.501]]), np.array([[0.5, 0.5]])) > throughput.TOLERANCE


def test_ratios_are_taken_within_a_round():
    rows = throughput.summary(Case((2, 2), 4), {"xpnet": [1.0, 10.0, 2.0], "other": [3.0, 30.0, 6.0], "bad": "wrong"})
    assert [row.get("ratio") for row in rows] == [1.0, 3.0, None]
    assert rows[1]["us"] == 6.0
    assert rows[2]["wrong"] == "wrong"


def test_wrong_results_are_not_timed_and_a_failure_is_not_the_end(monkeypatch):
    with throughput.Contest(["xpnet", "gemm"]) as contest:
        failed = contest.compare(Case((5, 3), 16, rows=4), 1, without=["gemm"])
        with monkeypatch.context() as patch:
            patch.setattr(throughput, "expected", lambda life, case: np.full(20, 7.0))
            wrong = contest.compare(Case((5, 3), 16, rows=64), 2)
        right = contest.compare(Case((5, 3), 16, rows=64), 1)
    assert failed["xpnet"].startswith("ValueError"), failed
    assert wrong["xpnet"].startswith("its results are off by")
    assert len(wrong["gemm"]) == 2
    assert [len(right[name]) for name in ("xpnet", "gemm")] == [1, 1]


def test_the_precision_is_cuda_s_own():
    command = [sys.executable, "-m", "bench.throughput", "--precision", "tf32"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "the CPU has fp32 alone" in done.stderr


def test_large_batches_of_a_gpu_are_checked_for_fewer_steps():
    steps = [throughput.checked_steps(Case((2, 2), batch, device="cuda")) for batch in (16, 4096, 65536)]
    assert steps == [20, 16, 3]
    assert throughput.checked_steps(Case((2, 2), 65536)) == 20


def test_a_comparison_is_printed_written_and_drawn(tmp_path):
    options = ["--engines", "xpnet,gemm,torch-graph", "--net", "20-8-3", "--batch-sizes", "1,16", "--rounds", "1"]
    files = {"--json": tmp_path / "times.json", "--plot": tmp_path / "plot.png"}
    command = [sys.executable, "-m", "bench.throughput", *options, *(str(x) for pair in files.items() for x in pair)]
    done = subprocess.run(command, cwd=ROOT, env=dict(os.environ), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "left out: torch-graph" in done.stdout
    assert "samples/s" in done.stdout
    rows = json.loads(files["--json"].read_text())["rows"]
    assert [(row["batch"], row["engine"]) for row in rows] == [(b, e) for b in (1, 16) for e in ("xpnet", "gemm")]
    assert all(row["us"] > 0 for row in rows)
    assert files["--plot"].read_bytes().startswith(b"\x89PNG")
