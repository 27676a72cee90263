"""Runs that end early, and the check of gradients."""

import os
import re
import signal
import subprocess
import sys

import numpy as np
import pytest

import xpnet
from xpnet.kernels.table import REFERENCE

posix = pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent by POSIX's kill")

# A loss that diverges


@pytest.mark.parametrize("more", [[], ["--dtype", "float64", "--lr", "1e300"], ["--data", "sine"]], ids=" ".join)
def test_divergence_is_told_and_leaves_finite_weights(command, more):
    lr = "1e300" if "1e300" in more else "1e6"
    more = [part for part in more if part not in ("--lr", "1e300")]
    ended = command("--optimizer", "sgd", "--lr", lr, "--epochs", 3, "--json", *more)
    assert ended.status == 3
    assert re.fullmatch(
        rf"xpnet: .* in epoch \d+, step \d+, at a learning rate of {re.escape(f'{float(lr):g}')}; .*\n", ended.err
    )
    assert ended.result["stopped"] == "diverged"
    assert {"config.toml", "history.csv", "model.safetensors"} <= {file.name for file in ended.folder.iterdir()}
    network = xpnet.load(ended.folder / "model.safetensors")
    assert all(np.isfinite(view).all() for _, view in network.parameters.named())


def test_divergence_keeps_the_best_weights_from_before(command):
    ended = command(
        *("--data", "sine", "--optimizer", "sgd", "--lr", 0.01, "--schedule", "exponential", "--decay", 10),
        *("--epochs", 20, "--json", "--quiet"),
    )
    assert ended.status == 3
    assert 0 < len(ended.rows) < 20
    best = min(float(row["val_mse"]) for row in ended.rows)
    assert ended.result["val_mse"] == pytest.approx(best, rel=1e-5)
    assert (ended.folder / "curves.png").exists()


# Ctrl-C


def start(folder, *options, **environment):
    command = [sys.executable, "-u", "-m", "xpnet.train", "--no-report", *options]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(command, cwd=folder, env={**os.environ, **environment}, **pipes)


@posix
def test_ctrl_c_saves_the_best_weights_so_far(tmp_path, rows_of):
    process = start(tmp_path, "--epochs", "200000", "--val-on-test", "--no-plot")
    for line in process.stdout:
        if line.startswith("epoch "):
            break
    process.send_signal(signal.SIGINT)
    out, err = process.communicate()
    assert process.returncode == 130
    assert re.fullmatch(r"xpnet: Interrupted after \d+ of \d+ steps; .*weights.*\n", err)
    assert "Traceback" not in out
    folder = tmp_path / "runs" / "digits"
    best = max(float(row["val_accuracy"]) for row in rows_of(folder))
    digits = xpnet.data.load("digits")
    predicted = xpnet.load(folder / "model.safetensors").predict(digits.x_test)
    assert np.mean(predicted == np.array(digits.classes)[digits.y_test]) == pytest.approx(best, abs=1e-12)


@posix
def test_ctrl_c_before_training_shows_no_traceback(tmp_path):
    """A pipe that nobody writes stands for data that take long to read."""
    os.mkfifo(tmp_path / "slow.npy")
    process = start(tmp_path, "--data", "slow.npy", "y.npy")
    with open(tmp_path / "slow.npy", "wb"):  # opens when the command does
        process.send_signal(signal.SIGINT)
        out, err = process.communicate()
    assert process.returncode == 130
    assert out.startswith("device ")
    assert "Traceback" not in err
    assert not (tmp_path / "runs").exists()


def test_ctrl_c_of_the_trainer_is_undone_afterwards(quiet_json):
    before = signal.getsignal(signal.SIGINT)
    quiet_json("--data", "xor", "--val-size", 0, "--epochs", 1, "--no-plot")
    assert signal.getsignal(signal.SIGINT) is before


# The gradient check

CHECKED = [
    ["--data", "digits"],
    ["--recipe", "xor"],
    ["--recipe", "sine"],
    ["--data", "digits", "--no-hidden"],
    ["--data", "digits", "--hidden", 5, "--loss", "mse", "--output", "tanh"],
    ["--data", "xor", "--hidden", 5, "--activation", "gelu", "--output", "sigmoid"],
    ["--data", "sine", "--hidden", 5, 4, "--activation", "leaky_relu", "softplus", "--loss", "huber"],
    ["--data", "sine", "--hidden", 5, 4, "--activation", "elu", "silu", "--loss", "mae"],
    ["--data", "sine", "--hidden", 5, 4, "--activation", "linear", "relu", "--loss", "mse", "--output", "tanh"],
    ["--data", "sine", "--hidden", 5, "--activation", "sigmoid", "--standardize"],
    ["--data", "digits", "--hidden", 9, 7, "--normalization", "batch", "--label-smoothing", 0.1, "--l2", 0.1],
    ["--data", "digits", "--hidden", 9, 7, "--normalization", "layer", "--dropout", 0.5, 0.2, "--max-norm", 1],
    ["--data", "digits", "--hidden", 9, "--dropout", 0.5, "--activation", "tanh", "--device", "numpy"],
    ["--data", "sine", "--hidden", 9, 7, "--normalization", "batch", "--loss", "huber", "--huber-delta", 0.2],
]


@pytest.mark.parametrize("options", CHECKED, ids=lambda options: " ".join(map(str, options)))
def test_gradcheck_finds_nothing(command, tmp_path, options):
    ended = command("--gradcheck", *options)
    assert (ended.status, ended.err) == (0, "")
    rows = [line.split() for line in ended.out.splitlines() if re.match(r"[wbg]\d ", line)]
    layers = len({row[0][1:] for row in rows})
    gains = [f"g{i}" for i in range(1, layers)] if "--normalization" in options else []
    assert [row[0] for row in rows] == [f"{kind}{i}" for i in range(1, layers + 1) for kind in "wb"] + gains
    assert all(float(row[-2]) <= 1e-6 for row in rows)
    assert list(tmp_path.iterdir()) == []


def steep_tanh(k, z, *, out, slope=None):
    k.xp.tanh(z, out=out)
    if slope is not None:
        k.xp.subtract(1, out, out=slope)


def doubled_inputs(k, dz, w, *, alpha=1.0, out):
    k.gemm(dz, w.T, out=out, alpha=2 * alpha)


def turned_weights(k, x, dz, *, out, alpha=1.0, beta=0.0):
    k.gemm(x.T, dz, out=out, alpha=-1.0)


def missing_biases(k, dz, *, out):
    out.fill(0)


WRONG = {
    "tanh": (steep_tanh, {"w1", "b1"}),
    "affine_inputs": (doubled_inputs, {"w1", "b1"}),
    "affine_weights": (turned_weights, {"w1", "w2"}),
    "affine_biases": (missing_biases, {"b1", "b2"}),
}


@pytest.mark.parametrize(("name", "kernel", "tensors"), [(name, *wrong) for name, wrong in WRONG.items()], ids=WRONG)
def test_gradcheck_finds_a_wrong_kernel(command, monkeypatch, name, kernel, tensors):
    options = ["--data", "sine", "--hidden", 6, "--activation", "tanh", "--gradcheck", "--device", "cpu"]
    assert command(*options).status == 0
    monkeypatch.setitem(REFERENCE, name, kernel)
    for twin in list(xpnet.device("cpu").twins):  # which know nothing of references
        monkeypatch.delitem(xpnet.device("cpu").twins, twin)
    ended = command(*options)
    assert ended.status == 1
    assert re.fullmatch(r"xpnet: gradients are off, expected at most 1e-06: [wb]\d by .*\.\n", ended.err)
    errors = {line.split()[0]: float(line.split()[-2]) for line in ended.out.splitlines() if re.match(r"[wb]\d ", line)}
    assert {tensor for tensor, error in errors.items() if error > 1e-6} == tensors
