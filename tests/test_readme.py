"""What the README says can be typed, can be typed."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnxruntime
import pandas as pd
import pytest

from xpnet import __main__ as xpnet_main
from xpnet import recipes

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_the_examples_in_python_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    network, estimator = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    exec(compile(network, "README.md", "exec"), {})
    printed = capsys.readouterr().out.splitlines()
    assert "val_metric" in printed[0]
    assert float(re.search(r"'accuracy': ([\d.]+)", printed[1])[1]) > 0.9
    exec(compile(estimator, "README.md", "exec"), {})
    assert all(float(line) > 0.9 for line in capsys.readouterr().out.splitlines())


LONG_FORMS = {"--kills", "--inputs"}
"""Options of `tests.faults` and `tests.hostile.fuzzing`."""


def commands():
    """Each command line of the README that begins with a script, as a list of words."""
    for line in re.findall(r"(?:^    |`)(scripts/(?:train|xpnet) [^`#\n]+)", README, flags=re.MULTILINE):
        script, *words = shlex.split(line)
        if script == "scripts/train":
            yield ["train", *words]
        elif words:
            yield words


def test_the_options_it_shows_exist(capsys):
    helps = {}
    for command in xpnet_main.COMMANDS:
        xpnet_main.main([command, "--help"])
        helps[command] = set(re.findall(r"--[a-z][a-z0-9-]+", capsys.readouterr().out))
    for command, *words in commands():
        options = {word for word in words if word.startswith("--")}
        assert options <= helps[command], command
    shown = set(re.findall(r"--[a-z][a-z0-9-]+", README))
    assert shown <= {"--help"}.union(LONG_FORMS, *helps.values())


def test_every_command_is_shown():
    assert {command for command, *_ in commands()} >= set(xpnet_main.COMMANDS) - {"info"}


@pytest.mark.slow
@pytest.mark.skipif(os.name != "posix", reason="the commands are a shell's")
def test_the_commands_lead_from_adult_to_a_report_predictions_and_onnx(data_folder, tmp_path):
    """The README's own lines, in a folder with UCI's files and a scripts/xpnet that is installed already."""
    for name in ("adult.data", "adult.test"):
        if not (data_folder / "tabular" / name).exists():
            pytest.skip(f"{name} is not there; put it into tabular/ of the folder that XPNET_DATA names")
        shutil.copy(data_folder / "tabular" / name, tmp_path)
    script = tmp_path / "scripts" / "xpnet"
    script.parent.mkdir()
    script.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -P -m xpnet "$@"\n')
    script.chmod(0o755)
    lines = README.split("## From a table to predictions")[1].split("`--data` takes")[0]
    block = "\n".join(re.findall(r"^    (.*)", lines, flags=re.MULTILINE))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    subprocess.run(["bash", "-euc", block], cwd=tmp_path, env=environment, check=True)
    assert (tmp_path / "runs" / "table" / "report.html").stat().st_size > 1_000_000
    predicted = pd.read_csv(tmp_path / "predictions.csv")
    rows = pd.read_csv(tmp_path / "adult-test.csv")
    assert np.mean(predicted.prediction == rows.income.str.strip()) >= 0.865
    session = onnxruntime.InferenceSession(tmp_path / "runs" / "table" / "model.onnx")
    feed = {
        column.name: rows[[column.name]].to_numpy(np.float64 if column.type == "tensor(double)" else object)
        for column in session.get_inputs()
    }
    labels, probabilities = session.run(None, feed)
    assert (labels == predicted.prediction.to_numpy()).all()
    np.testing.assert_allclose(probabilities, predicted.iloc[:, 1:], atol=1e-5)


def test_the_table_has_every_recipe():
    for name in recipes.names():
        assert f"`{name}`" in README


def test_it_has_no_blanks_to_fill():
    assert not re.findall(r"@[A-Z]+@", README)


def test_the_rooms_it_names_exist():
    rooms = README.split("## What is where")[1].split("##")[0]
    for row in re.findall(r"^\| (`.*?`) \|", rooms, flags=re.MULTILINE):
        names = re.findall(r"`([^`]+)`", row)
        folder = Path(names[0]).parent if "/" in names[0] else Path()
        for name in names:
            root = Path(__file__).parents[1]
            assert (root / name).exists() or (root / folder / name).exists() or (root / "xpnet" / name).exists(), name
