"""The one command for a GPU, on a machine without one: it reports whatever happens."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import gpu_check
from bench.gpu import tests as gpu_tests
from bench.gpu.report import goals, markdown
from bench.gpu_check import Part
from xpnet.devices import why_no_cuda

ROOT = Path(__file__).resolve().parent.parent

PARTS = """
import os, subprocess, sys, time
from bench.gpu.notes import NoGpuError

def good(notes):
    notes.found["answer"] = 42
    print("well")

def wrong(notes):
    notes.wrong.append("two is not three")

def raises(notes):
    notes.found["half"] = 1
    notes.save()
    raise RuntimeError("out of luck")

def crashes(notes):
    print("last words", flush=True)
    os._exit(9)

def hangs(notes):
    notes.found["begun"] = float("nan")
    notes.save()
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    print("child", child.pid, flush=True)
    child.wait()

def none(notes):
    raise NoGpuError("nothing that computes")
"""


@pytest.fixture
def run(tmp_path, monkeypatch):
    """Run fake parts; the exit status and the report."""
    (tmp_path / "fake_parts.py").write_text(PARTS)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(gpu_check, "GRACE", 0.3)

    def check(*names: str, **seconds: float) -> tuple[int, dict]:
        parts = [Part(name, f"fake_parts:{name}", seconds.get(name, 20)) for name in names]
        status = gpu_check.check(parts, tmp_path / "out")
        return status, json.loads((tmp_path / "out" / "report.json").read_text())

    return check


def test_parts_that_fail_crash_or_hang_do_not_stop_the_others(run, tmp_path, monkeypatch):
    monkeypatch.setattr(gpu_check, "ENDING", 0)
    status, report = run("wrong", "raises", "crashes", "hangs", "good", hangs=1, good=538)
    assert status == 1
    parts = report["parts"]
    outcomes = {name: part["status"] for name, part in parts.items()}
    assert outcomes == {"wrong": "failed", "raises": "failed", "crashes": "failed", "hangs": "killed", "good": "passed"}
    assert parts["wrong"]["why"] == "two is not three"
    assert "out of luck" in parts["raises"]["why"]
    assert parts["raises"]["found"] == {"half": 1}
    assert "status 9: last words" in parts["crashes"]["why"]
    assert parts["hangs"]["found"] == {"begun": None}
    assert parts["good"]["found"] == {"answer": 42}
    child = int(parts["hangs"]["output"].split()[1])
    assert not Path(f"/proc/{child}/cmdline").exists() or not Path(f"/proc/{child}/cmdline").read_text()
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| hangs | killed |" in text
    assert "last words" in (tmp_path / "out" / "output.log").read_text()


def test_all_passed(run):
    status, report = run("good")
    assert status == 0
    assert report["verdict"] == "Everything passed."


def test_without_a_gpu_nothing_else_runs(run):
    status, report = run("none", "good")
    assert status == 2
    assert report["parts"]["good"] == {"status": "not run", "seconds": 0.0, "why": "no GPU", "found": {}}


@pytest.mark.skipif(why_no_cuda() is None, reason="there is a GPU here")
def test_the_command_says_why_there_is_no_gpu(tmp_path):
    command = [ROOT / "scripts" / "gpu-check", "--out", tmp_path / "out"]
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    reason = report["parts"]["facts"]["why"]
    assert reason.startswith(("CuPy", "There is no NVIDIA driver", "The NVIDIA driver", "CUDA"))
    assert reason in (tmp_path / "out" / "report.md").read_text()
    assert reason in done.stdout


BLOCKED = ("rich", "cyclopts", "scipy", "sklearn", "numba", "matplotlib", "safetensors", "pooch", "tomli_w", "joblib")


@pytest.mark.skipif(why_no_cuda() is None, reason="there is a GPU here")
def test_the_parts_need_numpy_alone(tmp_path):
    """Each runs up to the sentence that there is no GPU, with everything else that xpnet depends on blocked."""
    code = f"""
import sys
sys.modules.update(dict.fromkeys({BLOCKED!r}))
import pathlib
from bench import gpu_check
from bench.gpu import mnist
mnist.load = lambda: mnist.synthetic(200, 50)
for part in gpu_check.PARTS:
    if part.name in ("tests", "throughput", "compiled"):
        continue
    path = pathlib.Path({str(tmp_path)!r}, part.name)
    print(part.name, gpu_check.live(part.run, path, 60), path.read_text())
import numpy as np
import bench.throughput, bench.gpu.race, bench.gpu.tests
from bench.engines import Case, ENGINES, expected_losses
case = Case((20, 10, 5), 16, rows=64)
engine = ENGINES["xpnet"](case)
assert bench.throughput.relative_error(engine.losses(5), expected_losses(case, 5)) < 1e-4
ENGINES["gemm"](case).run(2)
run = mnist.train(engine.network.device, mnist.synthetic(1000, 50), 0)
assert run["accuracy"] > 0.5, run
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stdout + done.stderr
    outcomes = dict(line.split()[:2] for line in done.stdout.splitlines() if line[:1].isalpha())
    assert outcomes == {"facts": "2", "mnist": "1", "ceilings": "1", "kernels": "1", "memory": "1"}
    for name in outcomes:
        assert "use the device cpu" in (tmp_path / name).read_text()


def test_every_file_with_gpu_tests_is_run():
    names = [path.name for path in gpu_tests.files()]
    assert names[0] == "test_on_a_gpu.py"
    assert {"test_parity.py", "test_devices.py", "test_cublaslt.py"} <= set(names)
    assert "test_gpu_check.py" not in names


def row(engine: str, batch: int, us: float, ratio: float | None = None, precision: str = "fp32") -> dict:
    return {"engine": engine, "batch": batch, "us": us, "ratio": ratio, "precision": precision}


def canned() -> dict:
    batches = (16, 32, 64, 128, 256, 512)
    throughput = [row("xpnet", 128, 28.0, 1.0), row("xpnet", 16384, 1000.0, 1.0), row("gemm", 16384, 700.0, 0.7)]
    throughput += [row("torch", batch, 300.0, 11.0) for batch in batches]
    throughput += [row("torch-graph", batch, 50.0, 1.9 if batch == 512 else 2.5) for batch in batches]
    compiled = [row("torch-compile", batch, 100.0, 1.5) for batch in (1024, 4096, 16384)]
    compiled += [row("torch-compile-graph", batch, 90.0, 1.1) for batch in (4096, 16384)]
    compiled += [row("torch-compile", 1024, 100.0, 1.3, "bf16"), {"engine": "torch", "batch": 16, "wrong": "no"}]
    seconds = {"mean": 0.08, "sd": 0.001, "min": 0.07, "max": 0.09}
    accuracy = {"mean": 0.981, "sd": 0.001, "min": 0.979, "max": 0.983}
    runs = [{"seed": i, "prepare": 1.0} for i in range(10)]
    mnist = {"real": True, "data": "MNIST", "recipe": {}, "runs": runs, "seconds": seconds, "accuracy": accuracy}
    mnist |= {"wall": seconds, "prepare": seconds, "waits": {"per_epoch": 2.0}}
    return {
        "facts": {"status": "passed", "found": {"gpu": "a GPU", "python": "3", "packages": {}, "device": {}}},
        "throughput": {"status": "passed", "seconds": 3.0, "found": {"rows": throughput}},
        "compiled": {"status": "failed", "why": "slow | lame", "found": {"rows": compiled}},
        "mnist": {"status": "passed", "found": mnist},
        "kernels": {"status": "killed", "found": {"floors": {}, "fp32": {"128": {"calls": []}}}},
    }


def test_the_goals_are_judged():
    verdicts = {goal.what: goal.verdict for goal in goals(canned())}
    assert verdicts == {
        "step, batch 128, SGD": "met",
        "against PyTorch eager, batch 16 to 512": "met",
        "against PyTorch in a CUDA graph, batch 16 to 512": "missed",
        "against torch.compile with graphs, batch 1024 to 4096": "missed",
        "against torch.compile with graphs, above": "met",
        "against torch.compile with graphs, tf32": "not measured",
        "against torch.compile with graphs, bf16": "not measured",
        "speed of the products alone, batch 16384 and up, fp32": "missed",
        "speed of the products alone, batch 16384 and up, tf32": "not measured",
        "speed of the products alone, batch 16384 and up, bf16": "not measured",
        "MNIST to 98 %, training time, mean of 10 seeds": "met",
        "host-device synchronisations per epoch": "missed",
    }


def test_the_report_can_be_read():
    parts = canned()
    table = [{"what": g.what, "goal": g.goal, "measured": g.measured, "verdict": g.verdict} for g in goals(parts)]
    text = markdown({"headline": "nvmath is missing", "verdict": "Something failed.", "parts": parts, "goals": table})
    assert text.startswith("nvmath is missing\n")
    assert "| step, batch 128, SGD | <= 30 us | 28.0 us | met |" in text
    assert "| compiled | failed | 0 | slow \\| lame |" in text
    assert "| fp32 | 16384 | 1000.0 (1.00) | 700.0 (0.70) |" in text
    assert "Cut off: KeyError 'sum_us'" in text
    synthetic = parts["mnist"]["found"] | {"real": False, "data": "synthetic data"}
    mnist = next(g for g in goals(parts | {"mnist": {"found": synthetic}}) if g.what.startswith("MNIST"))
    assert mnist.met is None
    assert mnist.measured.endswith("but on synthetic data")
