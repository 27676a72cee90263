"""Same seed, device and thread count: the same bits, whoever asks, from where, and whatever else the machine does."""

import contextlib
import csv
import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import xpnet
from xpnet import MLP, MLPClassifier, Trainer, schedules

REPEATS, OF_THEM_BUSY = 20, 4

BUSY = """
import numpy as np
a = np.ones((400, 400))
print("at work", flush=True)
while True:
    a @ a
"""


@contextlib.contextmanager
def busy_machine() -> Iterator[None]:
    """As many programs as there are processors, each at matrix products as fast as it can."""
    command, alone = [sys.executable, "-c", BUSY], {**os.environ, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    count = os.cpu_count() or 1
    programs = [subprocess.Popen(command, env=alone, stdout=subprocess.PIPE) for _ in range(count)]
    try:
        for program in programs:
            assert program.stdout is not None
            assert program.stdout.readline() == b"at work\n"
        yield
    finally:
        for program in programs:
            program.kill()
            program.communicate()


def samples() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(30)
    x = rng.normal(size=(500, 64)).astype(np.float32)
    return x, (x[:, :3] + rng.normal(0, 0.3, (500, 3))).argmax(axis=1)


SETTINGS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "everything": (
        {"normalization": "batch", "activations": ["gelu", "relu"]},
        {
            "optimizer": "adam",
            "dropout": (0.3, 0.1),
            "clip_norm": 0.5,
            "max_norm": 2.0,
            "l2": 1e-3,
            "label_smoothing": 0.1,
            "replacement": True,
            "schedule": schedules.WarmUp(1, schedules.Cosine()),
            "early_stopping": 2,
        },
    ),
    "little": ({"activations": "tanh"}, {"optimizer": "sgd"}),
}
"""Of the network and of the trainer; the layers are wide enough for a CPU to give parts of them to several threads."""


def run_digest(setting: str, device: str) -> str:
    """Of the weights, the running statistics, and every loss and metric on the way."""
    of_network, of_trainer = SETTINGS[setting]
    network = MLP([64, 160, 96, 3], **of_network, seed=5, device=device)
    x, y = samples()
    history = Trainer(network, batch_size=100, epochs=2, seed=6, **of_trainer).fit(x, y, validation=0.2)
    digest = hashlib.sha256()
    for array in (*map(network.device.to_host, network.state), history.step_losses, network.predict_proba(x)):
        digest.update(array.tobytes())
    rows = [(row.train_loss, row.train_metric, row.val_loss, row.val_metric, row.lr) for row in history.rows]
    digest.update(repr(rows).encode())
    return digest.hexdigest()


@pytest.mark.parametrize("device", ["cpu", "numpy"])
@pytest.mark.parametrize("setting", SETTINGS)
def test_twenty_trainings_are_the_same_bit_by_bit_on_a_busy_machine_too(setting, device):
    alone = [run_digest(setting, device) for _ in range(REPEATS - OF_THEM_BUSY)]
    with busy_machine():
        beside_others = [run_digest(setting, device) for _ in range(OF_THEM_BUSY)]
    assert len({*alone, *beside_others}) == 1


def test_a_training_on_a_cpu_is_shared_by_threads():
    """Else the test above would say nothing of them."""
    if xpnet.device("cpu").threads == 1:
        pytest.skip("this machine gives one thread")
    device = xpnet.device("cpu")
    assert device.parts(products=100 * 64 * 160) > 1
    assert device.parts(numbers=4 * 100 * 160) > 1


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
def test_twenty_fits_of_an_estimator_are_the_same_bit_by_bit(solver):
    x, y = samples()
    digests = set()
    for _ in range(REPEATS):
        model = MLPClassifier((40,), solver=solver, max_iter=3, random_state=7, tol=1.0, n_iter_no_change=1).fit(x, y)
        digests.add(hashlib.sha256(b"".join(array.tobytes() for array in model.coefs_)).hexdigest())
    assert len(digests) == 1


OPTIONS = [
    "--hidden",
    "64",
    "32",
    "--epochs",
    "3",
    "--normalization",
    "batch",
    "--dropout",
    "0.2",
    "--optimizer",
    "adam",
]
OPTIONS += ["--clip-norm", "1", "--replacement", "--early-stopping", "2", "--device", "cpu", "--seed", "3"]

SURROUNDINGS = [
    {"PYTHONHASHSEED": "0", "LC_ALL": "C"},
    {"PYTHONHASHSEED": "1", "LC_ALL": "C.UTF-8", "TZ": "Pacific/Kiritimati"},
    {"PYTHONHASHSEED": "random", "LC_ALL": "de_DE.UTF-8", "LANG": "de_DE.UTF-8", "TZ": "America/St_Johns"},
    {"PYTHONHASHSEED": "4294967295", "LANG": "tr_TR.UTF-8", "LC_NUMERIC": "fr_FR.UTF-8", "COLUMNS": "20"},
]
"""A locale that a machine does not have is the C one there; of these three, numbers have commas."""


def start(folder: Path, place: int, surroundings: dict[str, str]) -> subprocess.Popen[str]:
    """The command in a working folder, a home and with a umask of its own."""
    work, home = folder / f"work {place}", folder / f"home{place}"
    work.mkdir()
    home.mkdir()
    environment = {k: v for k, v in os.environ.items() if not k.startswith("LC_") and k not in ("LANG", "LANGUAGE")}
    environment |= {"HOME": str(home), "USERPROFILE": str(home), **surroundings}
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "xpnet.train",
            *OPTIONS,
            "--out",
            "run",
            "--json",
            "--quiet",
            "--no-plot",
            "--no-report",
        ],
        cwd=work,
        env=environment,
        umask=(0o022, 0o077, 0o027)[place % 3] if os.name == "posix" else -1,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def of_run(folder: Path) -> tuple[str, list[dict[str, str]]]:
    """The digest of the model, and the history without its times."""
    with open(folder / "history.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        del row["seconds"], row["samples_per_second"]
    return hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(), rows


def test_the_command_writes_the_same_bits_in_all_surroundings(tmp_path):
    """All at once, so that they take the processors from each other."""
    programs = [start(tmp_path, i, surroundings) for i, surroundings in enumerate(SURROUNDINGS)]
    ended = [(*program.communicate(), program.returncode) for program in programs]
    results = []
    for printed, told, status in ended:
        assert (status, told) == (0, "")
        result = json.loads(printed)
        results.append({k: v for k, v in result.items() if k not in ("seconds", "samples_per_second", "out")})
    runs = [of_run(tmp_path / f"work {i}" / "run") for i in range(len(SURROUNDINGS))]
    assert len(runs[0][1]) == 3
    assert all(run == runs[0] for run in runs)
    assert all(result == results[0] for result in results)
