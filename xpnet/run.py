"""One run: from a configuration to a folder with a trained network."""

from __future__ import annotations

import contextlib
import csv
import dataclasses
import math
import os
import shutil
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import tomli_w

import xpnet
from xpnet import data, gradcheck
from xpnet.callbacks import Callback, History, Row
from xpnet.config import TABLE, Config, settings_of
from xpnet.data.samples import Samples
from xpnet.data.transform import fit_transform
from xpnet.devices import Device
from xpnet.errors import DataError, DivergenceError, XpnetError
from xpnet.modelfile import save
from xpnet.network import MLP
from xpnet.trainer import Trainer

DIVERGED, OUT_OF_MEMORY, INTERRUPTED = 3, 4, 130
"""Exit statuses."""

CONFIG, HISTORY, MODEL, CURVES, ALGORITHMS = FILES = (
    "config.toml",
    "history.csv",
    "model.safetensors",
    "curves.png",
    "algorithms.json",
)
"""What a run writes into its folder."""

GRADCHECK_ROWS = 10


@dataclass(frozen=True)
class Result:
    """What came of a run; every loss and metric is that of the saved weights.

    Attributes:
        device: Its name.
        metric: "accuracy" or "mse".
        epochs, steps: Done, the last epoch perhaps in part.
        initial_loss: Of the first batch before its step, with the penalty.
        scores: {"train": {"loss": ..., "accuracy": ...}, "val": ..., "test": ...}, None for a set that there is not.
        seconds: Of training steps alone.
        samples_per_second: Trained.
        stopped: Why training ended.
        problem: The sentence that says what went wrong, or None.
        status: The exit status.
        out: The folder.
        files: Written into it.
    """

    device: str
    metric: str
    epochs: float
    steps: int
    initial_loss: float
    scores: dict[str, dict[str, float] | None]
    seconds: float
    samples_per_second: float
    stopped: str
    problem: str | None
    status: int
    out: Path
    files: list[Path]

    def flat(self) -> dict[str, Any]:
        """The values of --json: train_loss, val_accuracy, ..., null where there is none or where it is not finite."""
        names = dict.fromkeys(("accuracy", self.metric))
        scores = {
            f"{part}_{name}": None if values is None else values.get(name)
            for part, values in self.scores.items()
            for name in ("loss", *names)
        }
        values = {
            "device": self.device,
            "epochs": self.epochs,
            "steps": self.steps,
            "initial_loss": self.initial_loss,
            **scores,
            "seconds": self.seconds,
            "samples_per_second": self.samples_per_second,
            "stopped": self.stopped,
            "out": str(self.out),
        }
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


@dataclass(frozen=True)
class Task:
    """A configuration made into things: what is trained on what.

    Attributes:
        config: With the device that was taken in place of "auto".
        network, trainer: Ready to train.
        train, validation, test: The samples; None where there are none.
    """

    config: Config
    network: MLP
    trainer: Trainer
    train: Samples
    validation: Samples | None
    test: Samples | None

    @property
    def description(self) -> str:
        """The sizes of the sets, the loss and the optimizer, in a line."""
        sets = (("training", self.train), ("validation", self.validation), ("test", self.test))
        counts = ", ".join(f"{len(samples):,} {name}" for name, samples in sets if samples is not None)
        name = ", ".join(Path(path).name for path in self.config.data)
        return f"{name}: {counts} samples; {self.trainer.loss.name} by {self.trainer.optimizer}"


def prepare(config: Config, device: Device) -> Task:
    """Load the data and build network and trainer.

    Raises:
        XpnetError: Something that was asked for is not to be had; the message says what to do.
    """
    if config.seed < 0:
        raise XpnetError(f"seed: got {config.seed}, expected a whole number, at least 0.")
    if config.scale is not None and not math.isfinite(config.scale):
        raise XpnetError(f"scale: got {config.scale}, expected a finite number.")
    if config.name and (Path(config.name).name != config.name or config.name == ".." or "\0" in config.name):
        raise XpnetError(f'name: got "{config.name}", expected the name of one folder; leave out separators.')
    if config.dtype == "float64" and config.precision != "fp32":
        raise XpnetError(f'precision: got "{config.precision}" for float64, expected it with float32; leave one out.')
    optimizer, schedule = config.make_optimizer(), config.make_schedule()
    dataset = data.load(config.data, folder=config.data_dir, progress=not config.quiet)
    seeds = np.random.SeedSequence(config.seed).spawn(3)
    train, validation, test = _sets(config, dataset, np.random.default_rng(seeds[2]))

    output = config.make_output(dataset.task)
    scale = dataset.scale if config.scale is None else config.scale
    network = MLP(
        (dataset.x.shape[1], *config.hidden, _units(dataset, output)),
        config.activation,
        output,
        init=config.init,
        bias_init=config.bias_init,
        normalization=config.normalization,
        seed=seeds[0],
        device=device,
        dtype=config.dtype,
    )
    network.task, network.classes = dataset.task, dataset.classes
    network.transform = fit_transform(
        train.x, train.rows, scale=scale, center=config.center, standardize=config.standardize
    )
    trainer = Trainer(
        network,
        loss=config.loss,
        huber_delta=config.huber_delta,
        label_smoothing=config.label_smoothing,
        optimizer=optimizer,
        schedule=schedule,
        batch_size=config.batch_size,
        epochs=config.epochs,
        steps=config.steps,
        replacement=config.replacement,
        l2=config.l2,
        clip_norm=config.clip_norm,
        max_norm=config.max_norm,
        dropout=config.dropout,
        eval_every=config.eval_every,
        early_stopping=config.early_stopping,
        monitor=config.monitor,
        keep=config.keep,
        seed=seeds[1],
    )
    for y in (dataset.y, dataset.y_test):
        if y is not None:
            trainer.check_fit(train.x, data.Targets(dataset.task, y, dataset.classes))
    config = dataclasses.replace(
        config, device=device.name, data=_absolute(config.data), data_dir=_full(config.data_dir)
    )
    return Task(config, network, trainer, train, validation, test)


def run(
    task: Task,
    callbacks: Sequence[Callback] = (),
    *,
    preparing: AbstractContextManager[object] = contextlib.nullcontext(),  # noqa: B008 - has no state
) -> Result:
    """Train, measure the weights that are kept, and write the folder.

    Args:
        task: What is to be trained.
        callbacks: Watch it.
        preparing: Entered while memory is taken and kernels are compiled, which may take long and tells nothing.

    Raises:
        XpnetError: The folder cannot be made or written.
    """
    config, trainer = task.config, task.trainer
    with preparing:
        training = trainer.prepare(task.train, task.validation)
    table = None if config.autotune is None else Path(config.autotune)
    algorithms = b"" if table is None else table.read_bytes()  # it may lie in a folder that is emptied now
    folder = _make_folder(config)
    problem = None
    try:
        own = folder / ALGORITHMS
        if table is not None:  # what repeats the run takes the algorithms from its folder
            own.write_bytes(algorithms)
            config = dataclasses.replace(config, autotune=str(own.absolute()))
        (folder / CONFIG).write_text(_as_toml(config), encoding="utf-8")
        with open(folder / HISTORY, "w", encoding="utf-8", newline="") as file:
            trainer.callbacks = [HistoryFile(file), *callbacks]
            try:
                trainer.run(training)
            except DivergenceError as error:
                problem = str(error)
            except MemoryError as error:
                trainer.history.stopped = "out of memory"
                problem = (
                    f"{task.network.device.name}: the memory ran out ({error}); the last good weights are saved: "
                    "make the batch or the hidden layers smaller."
                )
            except KeyboardInterrupt:  # the second one: what is whole is saved at once
                trainer.history.stopped = "interrupted"
        save(task.network, folder / MODEL)
        del training  # its copy of the data makes room for the evaluations
        scores = _scores(task)
        if table is not None and not own.samefile(table):  # with what evaluations have added
            shutil.copyfile(table, own)
        if config.plot and trainer.history.rows:
            from xpnet.reporting import curves

            curves.draw(trainer.history, folder / CURVES, title=folder.name)
    except OSError as error:
        raise XpnetError(
            f"out: {folder} cannot be written ({error.strerror}); name another folder by --out."
        ) from error
    return _result(task, folder, scores, problem)


def check_gradients(task: Task) -> list[gradcheck.Agreement]:
    """The gradients of the network and loss on the first samples, against central differences."""
    few, trainer = task.train.first(GRADCHECK_ROWS), task.trainer
    x, y = few.x[few.rows], few.y[few.rows]
    return gradcheck.check(task.network, x, y, loss=trainer.loss, l2=trainer.l2, dropout=trainer.dropout)


class HistoryFile(Callback):
    """Appends every row to a CSV file, flushed, so that a broken run keeps what it had done."""

    def __init__(self, file: IO[str]) -> None:
        self._file = file

    def on_start(self, trainer: Trainer) -> None:
        """The names of the columns."""
        row = Row(0, 0, 0, 0, None, None, 0, 0, 0, False)
        self._write(row.named(trainer.history.metric).keys())

    def on_row(self, trainer: Trainer, row: Row) -> None:
        """One line."""
        self._write("" if value is None else value for value in row.named(trainer.history.metric).values())

    def _write(self, values: Any) -> None:
        csv.writer(self._file, lineterminator="\n").writerow(values)
        self._file.flush()


def _sets(
    config: Config, dataset: data.Dataset, rng: np.random.Generator
) -> tuple[Samples, Samples | None, Samples | None]:
    """Training, validation and test samples."""
    train = Samples.of(dataset.x, dataset.y)
    test = None if dataset.y_test is None else Samples.of(dataset.x_test, dataset.y_test)
    if config.train_size is not None:
        if not 1 <= config.train_size <= len(train):
            raise XpnetError(f"train_size: got {config.train_size}, expected 1 to {len(train)} samples.")
        train = train.first(config.train_size)
    if config.val_on_test:
        if test is None:
            raise DataError(f"val_on_test: {dataset.name} has no test set; leave it out, or give X_test and y_test.")
        return train, test, test
    if config.val_size == 0 or (0 < config.val_size < 1 and round(config.val_size * len(train)) == 0):
        return train, None, test
    train, validation = train.split(config.val_size, rng=rng)
    return train, validation, test


def _scores(task: Task) -> dict[str, dict[str, float] | None]:
    """Plain loss and metric on every set; the training loss with the penalty."""
    trained = task.trainer.measure(task.train)
    trained["loss"] += task.trainer.penalty()
    others = {"val": task.validation, "test": task.test}
    return {
        "train": trained,
        **{part: None if set_ is None else task.trainer.measure(set_) for part, set_ in others.items()},
    }


def _units(dataset: data.Dataset, output: str) -> int:
    """Outputs of the network: one a class, or one sigmoid for two classes."""
    if dataset.task != "classification":
        return int(dataset.y.shape[1])
    count = len(dataset.classes or ())
    return 1 if output == "sigmoid" and count == 2 else count


def _absolute(paths: tuple[str, ...]) -> tuple[str, ...]:
    """Files by their full paths, so that config.toml works from any folder; names as they are."""
    return tuple(path if path in data.NAMES else str(Path(path).absolute()) for path in paths)


def _full(path: str | None) -> str | None:
    return None if path is None else str(Path(path).absolute())


def _make_folder(config: Config) -> Path:
    """--out, or the first free folder runs/NAME, runs/NAME-2, ..."""
    try:
        if config.out is None:
            return _free_folder(Path("runs"), config.name or Path(config.data[0]).name.split(".")[0])
        folder = Path(config.out)
        if folder.is_dir() and any(folder.iterdir()) and not config.overwrite:
            raise XpnetError(f"out: {folder} holds something already; choose another folder, or add --overwrite.")
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(13, "Permission denied")
        for name in FILES:
            (folder / name).unlink(missing_ok=True)  # --overwrite: nothing of another run stays beside this one
    except XpnetError:
        raise
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the path
        why = getattr(error, "strerror", None) or error
        raise XpnetError(
            f"out: {config.out or 'runs'} cannot be made or written ({why}); name another folder by --out."
        ) from error
    return folder


def _free_folder(parent: Path, name: str) -> Path:
    parent.mkdir(parents=True, exist_ok=True)
    number = 1
    while True:
        folder = parent / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def _as_toml(config: Config) -> str:
    head = f"# Repeat this run: python -m xpnet.train --config THIS_FILE   (xpnet {xpnet.__version__})\n\n"
    return head + tomli_w.dumps({TABLE: settings_of(config)})


def _result(task: Task, folder: Path, scores: dict[str, dict[str, float] | None], problem: str | None) -> Result:
    trainer, history = task.trainer, task.trainer.history
    status = 0
    if history.stopped == "diverged":
        status = DIVERGED
    elif history.stopped == "out of memory":
        status = OUT_OF_MEMORY
    elif history.stopped == "interrupted":
        status = INTERRUPTED
        problem = f"Interrupted after {trainer.step} of {trainer.total_steps} steps; the {_kept(history)} are saved."
    seconds, samples = history.seconds, history.samples
    return Result(
        device=task.network.device.name,
        metric=history.metric,
        epochs=round(trainer.step / history.steps_per_epoch, 4),
        steps=trainer.step,
        initial_loss=history.initial_loss,
        scores=scores,
        seconds=seconds,
        samples_per_second=samples / seconds if seconds else 0.0,
        stopped=history.stopped,
        problem=problem,
        status=status,
        out=folder,
        files=[folder / name for name in FILES if (folder / name).exists()],
    )


def _kept(history: History) -> str:
    return "last weights" if history.best is None else f"weights of epoch {history.best.epoch:g}"
