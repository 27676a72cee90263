"""What is trained while it is struck: every optimizer, schedule and way to stop at least once, each for a second."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Case:
    """A training.

    Attributes:
        name: Short.
        options: Of the command; {data} stands for the folder that `make_data` fills.
        length: How long: other options of the command.
        threads: Of the BLAS; more than one in fresh runs only.
        fresh: Every run executes Python anew.
    """

    name: str
    options: str
    length: str
    threads: int = 1
    fresh: bool = False

    def arguments(self, data: Path, length: str | None = None) -> list[str]:
        """The command's options but for those of its output; a report is never the same twice, for its timings."""
        words = f"{self.options} {self.length if length is None else length}".replace("{data}", str(data)).split()
        return ["--no-report", *words]


CASES = [
    Case(
        "adam-cosine-dropout",
        "--hidden 60 40 --optimizer adam --schedule cosine --dropout 0.2 0.4 --no-plot --checkpoint-every 0.05s",
        "--epochs 400",
    ),
    Case(
        "sgd-step-early-stopping-best",
        "--hidden 50 --optimizer sgd --schedule step --decay 0.5 --decay-every 40 --early-stopping 200 "
        "--final-weights best --eval-every 2 --no-plot --checkpoint-every 0.1s",
        "--epochs 2000",
    ),
    Case(
        "momentum-one-cycle-batch-norm-replacement",
        "--hidden 40 30 --optimizer sgd --lr 0.02 --momentum 0.9 --schedule one-cycle --normalization batch "
        "--replacement --eval-every 7steps --no-plot --checkpoint-every 0.03s --keep 3",
        "--epochs 120",
    ),
    Case(
        "nesterov-exponential-warm-up-layer-norm",
        "--hidden 50 50 --activation tanh --optimizer sgd --momentum 0.9 --nesterov --schedule exponential "
        "--decay 0.99 --warmup 3.5 --normalization layer --clip-norm 0.5 --no-plot --checkpoint-every 5",
        "--epochs 250",
    ),
    Case(
        "adamw-inverse-smoothing-steps",
        "--hidden 64 --activation gelu --optimizer adamw --l2 0.01 --schedule inverse --label-smoothing 0.1 "
        "--val-size 0 --no-plot --checkpoint-every 0.05s --keep 1",
        "--steps 23456",
    ),
    Case(
        "rmsprop-regression-float64",
        "--data sine --hidden 40 40 --activation tanh --optimizer rmsprop --max-norm 2 --dtype float64 --batch-size 20 "
        "--eval-every 3 --no-plot --checkpoint-every 0.05s",
        "--epochs 1300",
    ),
    Case(
        "adagrad-labels-early-stopping-last",
        "--data {data}/labels.npz --hidden 40 --optimizer adagrad --standardize --early-stopping 400 "
        "--final-weights last --monitor val_loss --no-plot --checkpoint-every 0.05s",
        "--epochs 1200",
    ),
    Case(
        "gradient-descent-huber-whole-batch",
        "--data {data}/numbers.npz --hidden 30 --loss huber --huber-delta 0.5 --optimizer sgd --l2 0.001 "
        "--batch-size all --no-plot --checkpoint-every 20",
        "--epochs 800",
    ),
    Case(
        "plain-numpy-dropout-norm",
        "--device numpy --hidden 30 20 --dropout 0.3 --normalization batch --max-norm 3 --clip-norm 1 "
        "--schedule step --warmup 1 --eval-every 13steps --no-plot --checkpoint-every 0.1s",
        "--epochs 30",
    ),
    Case(
        "table-embeddings-adam",
        "--data {data}/people.csv --target answer --one-hot 3 --embedding 4 --split 0.7/0.2/0.1 --hidden 30 "
        "--optimizer adam --dropout 0.1 --no-plot --checkpoint-every 0.05s",
        "--epochs 4000",
        fresh=True,  # what reads tables has threads, of which a fork would take none along
    ),
    Case(
        "as-it-comes-two-threads",  # checkpoints at their defaults, curves, everything in fresh processes
        "--hidden 100 --optimizer adam --dropout 0.1 --early-stopping 1000",
        "--epochs 300",
        threads=2,
        fresh=True,
    ),
]

MNIST = Case(
    "mnist-two-threads",
    "--data mnist --train-size 6000 --hidden 100 --momentum 0.9 --optimizer sgd --lr 0.05 --batch-size 50 "
    "--dropout 0.2 --schedule one-cycle --no-plot --checkpoint-every 1",
    "--epochs 20",
    threads=2,
    fresh=True,
)


LABELS = next(case for case in CASES if "labels.npz" in case.options)

DIVERGING = Case(
    "diverging",
    "--data sine --hidden 30 --optimizer sgd --lr 0.01 --schedule exponential --decay 1.01 --batch-size 10 --no-plot "
    "--checkpoint-every 0.05s",
    "--epochs 3000",
)

GROWING = Case(
    "growing",
    "--hidden 40 --optimizer adam --dropout 0.2 --no-plot --checkpoint-every 0.05s",
    "--epochs 200",
)


def cases() -> list[Case]:
    """All of them; MNIST where XPNET_DATA has it."""
    folder = os.environ.get("XPNET_DATA")
    return [*CASES, MNIST] if folder and (Path(folder) / "mnist").is_dir() else CASES


def make_data(folder: Path) -> None:
    """folder/labels.npz, folder/numbers.npz and folder/people.csv, the same ones every time."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    x = rng.normal(size=(600, 12)).astype(np.float32)
    noisy = x @ rng.normal(size=(12, 5)) + rng.normal(scale=2, size=(600, 5))
    np.savez(folder / "labels.npz", X=x, y=(noisy > 1).astype(np.int64))
    np.savez(folder / "numbers.npz", X=x, y=np.tanh(noisy[:, :2]), X_test=x[:50], y_test=np.tanh(noisy[:50, :2]))
    towns, ages = rng.integers(0, 12, 600), rng.integers(18, 90, 600)
    rows = [
        f"{age if age % 7 else ''},town {town},{town % 2 + age // 45}" for age, town in zip(ages, towns, strict=True)
    ]
    (folder / "people.csv").write_text("\n".join(["age,town,answer", *rows, ""]))
