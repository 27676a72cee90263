"""The one command for a GPU, on a machine without one: it reports whatever happens."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from gpu import fake_cupy, host_kernels

from bench import engines, gpu_check, throughput
from bench.gpu import SIZES, ceilings, facts, kernels, memory, mnist, race, timing
from bench.gpu import tests as gpu_tests
from bench.gpu.notes import Notes
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

def eager(notes):
    notes.found["eager_only"] = "cuBLASLt cannot be loaded."
    notes.wrong.append("cuBLASLt cannot be loaded.")

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
    assert report["verdict"] == "nothing that computes"
    assert report["parts"]["good"] == {"status": "not run", "seconds": 0.0, "why": "no GPU", "found": {}}


@pytest.mark.parametrize("nvmath", [None, "there"])
def test_a_report_without_products_does_not_count(nvmath, run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(gpu_check.importlib.util, "find_spec", lambda name: nvmath)
    status, report = run("eager", "good")
    assert status == 1
    assert report["parts"]["good"]["status"] == "passed"
    why = "nvmath-python is missing" if nvmath is None else "cuBLASLt cannot be loaded."
    assert report["headline"].startswith(f"Eager only, does not count: {why}")
    assert (tmp_path / "out" / "report.md").read_text().startswith(report["headline"])
    assert capsys.readouterr().out.count(report["headline"]) == 1


@pytest.mark.skipif(why_no_cuda() is None, reason="there is a GPU here")
def test_the_command_says_why_there_is_no_gpu(tmp_path):
    command = [ROOT / "scripts" / "gpu-check", "--out", tmp_path / "out"]
    environment = os.environ | {"PYTHON": sys.executable}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    reason = report["parts"]["facts"]["why"]
    assert reason.startswith(("CuPy", "There is no NVIDIA driver", "The NVIDIA driver", "CUDA"))
    assert (tmp_path / "out" / "report.md").read_text().count(reason) == 1
    assert done.stdout.count(reason) == 1


@pytest.mark.parametrize("minutes", ["-1", "0", "nan", "inf", "soon"])
def test_a_time_that_is_none_is_refused(minutes, capsys):
    with pytest.raises(SystemExit) as ended:
        gpu_check.main(["--minutes", minutes])
    assert ended.value.code == 2
    assert f"--minutes: got {minutes}, expected a number above 0" in capsys.readouterr().err


@pytest.mark.parametrize("file", ["out", "out/report.json", "out/output.log"])
def test_a_place_that_cannot_be_written_is_refused(file, tmp_path, capsys):
    """A file where the folder should be, folders where files should be."""
    if file == "out":
        (tmp_path / "out").write_text("")
    else:
        (tmp_path / file).mkdir(parents=True)
    with pytest.raises(SystemExit) as ended:
        gpu_check.main(["--out", str(tmp_path / "out")])
    assert ended.value.code == 2
    assert f"--out: {tmp_path / 'out'} cannot be written (" in capsys.readouterr().err


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


@pytest.fixture
def live(monkeypatch, tmp_path):
    """Run a part on a GPU that a processor plays; what it finds."""
    if reason := host_kernels.why_not():
        pytest.skip(reason)
    fake_cupy.install(monkeypatch)
    monkeypatch.setitem(sys.modules, "torch", None)
    monkeypatch.setattr(timing, "nodes", lambda graph: len(graph._tape))
    for name, value in {"COPIED": 4096, "SIDE": 16, "NODES": 3, "LAUNCHES": 3}.items():
        monkeypatch.setattr(ceilings, name, value)
    engines.open_cuda.cache_clear()

    def run(part) -> dict:
        notes = Notes(tmp_path / "found.json", 600)
        part(notes)
        notes.save()
        saved = json.loads((tmp_path / "found.json").read_text())
        assert saved["wrong"] == []
        return saved["found"]

    yield run
    engines.open_cuda.cache_clear()


def section(name: str, found: dict) -> str:
    parts = {name: {"status": "passed", "found": found}}
    text = markdown({"parts": parts, "goals": []})
    assert "Cut off" not in text
    return text


def test_facts_of_a_gpu(live):
    found = live(facts.run)
    assert found["gpu"] == "a processor that plays a GPU"
    assert found["epilogues"]["fp32"]["relu_aux_bias, float32 to float32, bias float32"] == "yes"
    assert found["epilogues"]["bf16"]["relu_aux_bias, bfloat16 to float32, bias float32"] in ("yes", "no")
    assert "| plain, bfloat16 to bfloat16 |  |  | yes |" in section("facts", found)


def test_the_ceilings_of_a_gpu(live):
    found = live(ceilings.run)
    assert found["copy_bytes_per_second"] > 0
    assert found["node_us"] > 0
    assert found["flops"]["tf32"]["xpnet"] > 0
    assert "torch" in found["flops"]["tf32"]["torch"]
    assert "a node of a graph that does nothing" in section("ceilings", found)


def test_every_kernel_of_a_step_is_timed_and_launches_are_counted(live, monkeypatch):
    small = {"SIZES": (24, 16, 8, 4), "BATCHES": (8,), "ROWS": 64, "REPEATED": 2, "MOST_COPIES": 1}
    for name, value in small.items():
        monkeypatch.setattr(kernels, name, value)
    found = live(kernels.run)
    forms = ("fp32", "fp32, ReLU by the output", "tf32", "bf16")
    steps = {form: found[form]["8"] for form in forms}
    launches = {form: step["launches"] for form, step in steps.items()}
    # By the output, each of the two hidden layers takes its slope, and its bias's sum, in a launch of its own.
    assert launches["fp32, ReLU by the output"] == launches["fp32"] + 2
    assert launches["fp32"] == launches["tf32"] < launches["bf16"]
    more = {name: found[f"fp32, {name}"]["8"]["launches"] - launches["fp32"] for name in kernels.REGULARIZED}
    assert more == {"dropout": 4, "batch normalization": 8, "layer normalization": 10}
    called = [call["kernel"] for call in steps["fp32"]["calls"]]
    assert called.count("hidden_forward") == called.count("hidden_backward") == 2
    assert called[-1] == "sgd_update"
    first = next(call for call in steps["fp32"]["calls"] if call["kernel"] == "hidden_forward")
    assert first["flop"] == 2 * 8 * 24 * 16
    assert all(call["us"] > 0 for step in steps.values() for call in step["calls"])
    text = section("kernels", found)
    assert "| launches of a step beside its gather, batch | 8 |" in text
    assert f"| bf16 | {launches['bf16']} |" in text


def test_what_memory_foresees_is_held_against_the_pools(live, monkeypatch):
    loads = [memory.Load((24, 16, 4), 8, 64, "adam", **o) for o in ({}, {"normalization": "batch", "dropout": 0.5})]
    monkeypatch.setattr(memory, "LOADS", loads)
    rows = live(memory.run)["trainings"]
    for row in rows:
        assert 0 < row["taken"] <= row["foreseen"]
        assert row["window"] is None
    text = section("memory", {"trainings": rows})
    assert "| 24-16-4, batch 8, 64 samples, adam |" in text
    assert "| 24-16-4, batch 8, 64 samples, adam, batch normalization, dropout 0.5 |" in text


def test_mnist_is_trained_and_its_waits_are_counted(live, monkeypatch):
    monkeypatch.setattr(mnist, "SEEDS", 2)
    monkeypatch.setattr(mnist, "RECIPE", dataclasses.replace(mnist.RECIPE, sizes=(784, 8, 10), batch=64, epochs=2))
    monkeypatch.setattr(mnist, "load", lambda: mnist.synthetic(200, 50))
    found = live(mnist.run)
    assert [one["seed"] for one in found["runs"]] == [0, 1]
    assert found["waits"]["calls"]["event"] > 0
    assert found["waits"]["per_epoch"] > 0
    assert "stream" in found["waits"]["not_watched"]
    assert found["profiler"].startswith("ModuleNotFoundError")
    text = section("mnist", found)
    assert "Recipe mnist-fast: 784-8-10, silu, adamw lr 0.02 beta1 0.7 beta2 0.95, schedule OneCycle, batch 64," in text
    assert "PyTorch's profiler did not count: ModuleNotFoundError" in text
    assert "{" not in text


def test_what_needs_no_products_runs_without_cublaslt(live, monkeypatch, tmp_path):
    for module in ("nvmath", "nvmath.bindings", "nvmath.bindings.cublasLt"):
        monkeypatch.setitem(sys.modules, module, None)
    notes = Notes(tmp_path / "facts.json", 60)
    facts.run(notes)
    assert notes.found["gpu"]
    assert notes.found["eager_only"] == notes.wrong[0]
    assert "nvmath-python cannot be imported" in notes.wrong[0]

    notes.found["left_out"] = []
    assert race._able(notes, ["xpnet", "gemm", "xpnet-eager"], "cuda") == ["xpnet-eager"]
    assert notes.found["left_out"][-1].startswith("xpnet and gemm: nvmath-python cannot be imported")

    case = engines.Case((20, 10, 5), 16, device="cuda", rows=64)
    engine = engines.ENGINES["xpnet-eager"](case)
    expected = engines.expected_losses(case, 5)
    assert throughput.relative_error(engine.losses(5), expected) < throughput.TOLERANCE
    engine.run(3)


def test_a_race_is_judged_and_written_down(tmp_path, monkeypatch):
    monkeypatch.setattr(race, "ROUNDS", 1)
    monkeypatch.setattr(race, "SIZES", (20, 8, 5))
    notes = Notes(tmp_path / "found.json", 60)
    race.race(notes, ["xpnet"], [("fp32", 16)], device="cpu")
    assert notes.wrong == []
    (timed,) = notes.found["rows"]
    assert timed["us"] > 0
    assert np.isclose(timed["ratio"], 1)
    assert "| fp32 | 16 |" in section("throughput", notes.found)


def test_there_is_one_network_that_the_goals_are_about():
    assert kernels.SIZES is race.SIZES is SIZES
    assert "## Goals (784-300-100-10," in markdown({"parts": {}, "goals": []})


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
    recipe = dataclasses.asdict(mnist.RECIPE)
    digits = {"real": True, "data": "MNIST", "recipe": recipe, "runs": runs, "seconds": seconds, "accuracy": accuracy}
    waits = {"calls": {"event": 9, "event, unfinished": 6}, "per_epoch": 2.0, "not_watched": ["stream"]}
    digits |= {"wall": seconds, "prepare": seconds, "waits": waits, "profiler": {"cudaEventSynchronize": 1.5}}
    return {
        "facts": {"status": "passed", "found": {"gpu": "a GPU", "python": "3", "packages": {}, "device": {}}},
        "throughput": {"status": "passed", "seconds": 3.0, "found": {"rows": throughput}},
        "compiled": {"status": "failed", "why": "slow | lame", "found": {"rows": compiled}},
        "mnist": {"status": "passed", "found": digits},
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


def test_products_are_judged_when_all_batches_are_there():
    def judged(*shares: tuple[int, float]) -> tuple[str, str]:
        rows = [row("xpnet", batch, 100.0) for batch, _ in shares]
        rows += [row("gemm", batch, 100 * share) for batch, share in shares]
        found = goals({"throughput": {"found": {"rows": rows}}})
        goal = next(goal for goal in found if goal.what.startswith("speed of the products") and "fp32" in goal.what)
        return goal.verdict, goal.measured

    assert judged((16384, 0.9), (65536, 0.85)) == ("met", "16384: 90%, 65536: 85%")
    assert judged((16384, 0.9)) == ("not measured", "16384: 90% (not 65536)")
    assert judged((65536, 0.7)) == ("missed", "65536: 70% (not 16384)")
    assert judged() == ("not measured", "no times")


def test_the_report_can_be_read():
    parts = canned()
    table = [{"what": g.what, "goal": g.goal, "measured": g.measured, "verdict": g.verdict} for g in goals(parts)]
    text = markdown({"headline": "nvmath is missing", "verdict": "Something failed.", "parts": parts, "goals": table})
    assert text.startswith("nvmath is missing\n")
    assert "| step, batch 128, SGD | <= 30 us | 28.0 us | met |" in text
    assert "| compiled | failed | 0 | slow \\| lame |" in text
    assert "| fp32 | 16384 | 1000.0 (1.00) | 700.0 (0.70) |" in text
    assert "Cut off: KeyError 'sum_us'" in text
    assert "| event | 9 | 6 |" in text
    assert "Not watched: stream." in text
    assert "| cudaEventSynchronize | 1.50 |" in text
    assert "adamw lr 0.02" in text
    synthetic = parts["mnist"]["found"] | {"real": False, "data": "synthetic data"}
    goal = next(g for g in goals(parts | {"mnist": {"found": synthetic}}) if g.what.startswith("MNIST"))
    assert goal.met is None
    assert goal.measured.endswith("but on synthetic data")
