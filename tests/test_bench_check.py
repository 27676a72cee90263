"""The performance regression run tells a kernel that became slower from one that did not."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import check

ROOT = Path(__file__).resolve().parent.parent

SLOW_PLUGIN = """
from xpnet.devices.cpu import twins

quick = twins.TWINS["squared_norm"]

def slow(k, x, *, out):
    for _ in range(20):
        quick(k, x, out=out)

twins.TWINS["squared_norm"] = slow
"""


def run(baseline, *options, env=None):
    command = [sys.executable, "-m", "bench.check", "--baseline", str(baseline), *options]
    return subprocess.run(
        command, cwd=ROOT, env={**os.environ, **(env or {})}, capture_output=True, text=True, check=False
    )


def test_a_kernel_made_slower_on_purpose_is_found(tmp_path):
    only = ["--", "-k", "squared_norm"]
    baseline = tmp_path / "baseline.json"
    assert run(baseline, "--update", *only).returncode == 0
    (tmp_path / "slow_plugin.py").write_text(SLOW_PLUGIN)
    paths = os.pathsep.join(filter(None, [str(tmp_path), os.environ.get("PYTHONPATH")]))
    slowed = run(baseline, *only, "-p", "slow_plugin", env={"PYTHONPATH": paths})
    assert slowed.returncode == 1, slowed.stdout + slowed.stderr
    assert "test_kernel[squared_norm-cpu]" in slowed.stdout.splitlines()[-1]


def test_an_unknown_processor_is_told_and_passes(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["check", "--baseline", str(tmp_path / "none.json")])
    monkeypatch.setattr(check, "ratios", lambda *_: pytest.fail("there is nothing to compare with"))
    assert check.main() == 0
    assert "no baseline" in capsys.readouterr().out


@pytest.mark.parametrize(("ratio", "found"), [(1.0, []), (1.14, []), (1.16, ["a"]), (3.0, ["a"])])
def test_the_limit_is_fifteen_percent(ratio, found):
    assert check.slower({"a": ratio, "new": 99.0}, {"a": 1.0}) == found


@pytest.mark.parametrize(
    ("costs", "status"),
    [
        ([2.0, 1.5, 1.05], 0),
        ([2.5, 1.9] + 8 * [1.2] + [1.1], 0),  # another program was at work for minutes
        (11 * [1.2], 1),
        ([9.0, 5.0, 4.0], 1),  # no need to look again
    ],
)
def test_what_looks_slower_is_measured_until_that_is_sure(tmp_path, monkeypatch, capsys, costs, status):
    baseline = tmp_path / "b.json"
    baseline.write_text('{"a": 1.0}')
    left = [{"a": cost} for cost in costs]
    monkeypatch.setattr(sys, "argv", ["check", "--baseline", str(baseline)])
    monkeypatch.setattr(check, "ratios", lambda *_: left.pop(0))
    assert check.main() == status
    assert left == []
    assert f"{status} of 1" in capsys.readouterr().out


def test_a_baseline_has_the_largest_of_three_runs(tmp_path, monkeypatch):
    baseline, left = tmp_path / "b.json", [{"a": 1.0}, {"a": 1.2}, {"a": 1.1}]
    monkeypatch.setattr(sys, "argv", ["check", "--update", "--baseline", str(baseline)])
    monkeypatch.setattr(check, "ratios", lambda *_: left.pop(0))
    assert check.main() == 0
    assert json.loads(baseline.read_text()) == {"a": 1.2}
