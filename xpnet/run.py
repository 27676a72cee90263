"""One run: from a configuration to a folder with a trained network."""

from __future__ import annotations

import contextlib
import dataclasses
import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from xpnet import folder, gradcheck
from xpnet.callbacks import Callback, History
from xpnet.checkpoint import Checkpoints, Every
from xpnet.config import settings_of
from xpnet.errors import DivergenceError, XpnetError, printable
from xpnet.files import write_whole
from xpnet.folder import ALGORITHMS, CONFIG, CURVES, FILES, HISTORY, MODEL, REPORT, TENSORBOARD, HistoryFile, RunFolder
from xpnet.modelfile import save
from xpnet.reporting import tensorboard
from xpnet.reporting.tensorboard import TensorBoard
from xpnet.resuming import Past, circumstances, go_on, refuse_other_samples
from xpnet.signals import calling
from xpnet.task import Task
from xpnet.trainer import INTERRUPTED
from xpnet.training import DIVERGED, Training

TERMINATED, HUNG_UP, OUT_OF_MEMORY = "terminated", "hung up", "out of memory"
STATUS = {DIVERGED: 3, OUT_OF_MEMORY: 4, HUNG_UP: 129, INTERRUPTED: 130, TERMINATED: 143}
"""Exit statuses by why training ended; 0 for all else."""

BROKEN_OFF = (INTERRUPTED, TERMINATED, HUNG_UP)
"""Why training ended where somebody ended it."""

GRADCHECK_ROWS = 10


@dataclass(frozen=True)
class Result:
    """What came of a run; every loss and metric is that of the saved weights.

    Attributes:
        device: Its name.
        metric: "accuracy" or "mse".
        epochs, steps: Done, the last epoch perhaps in part.
        initial_loss: Of the first batch before its step, with the penalty.
        scores: {"train": {"loss": ..., "accuracy": ...}, "val": ..., "test": ...}, None for a set that there is not,
            and for the training set where the training was broken off.
        seconds: Of training steps alone.
        samples_per_second: Trained.
        stopped: Why training ended.
        kept: Which weights were saved and measured.
        problem: The sentence that says what went wrong, or None.
        status: The exit status.
        out: The folder.
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
    kept: str
    problem: str | None
    status: int
    out: Path

    @property
    def files(self) -> list[Path]:
        """What lies in the folder."""
        return [self.out / name for name in FILES if (self.out / name).exists()]

    @property
    def config(self) -> Path:
        """What repeats the run by --config."""
        return self.out / CONFIG

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


def run(
    task: Task,
    callbacks: Sequence[Callback] = (),
    *,
    past: Past | None = None,
    preparing: AbstractContextManager[object] = contextlib.nullcontext(),  # noqa: B008 - has no state
    tell: Callable[[str], None] = print,
) -> Result:
    """Train, measure the weights that are kept, and write the folder.

    Args:
        task: What is to be trained.
        callbacks: Watch it.
        past: The run that this one goes on with, or begins anew in its folder.
        preparing: Entered while memory is taken and kernels are compiled, which may take long and tells nothing.
        tell: Called with what else a person should know, a sentence at a time.

    Raises:
        XpnetError: The folder cannot be made or written, or the past run was another one.
    """
    if past is not None:
        refuse_other_samples(task, past)
    if task.config.tensorboard:
        tensorboard.library()  # is missed before anything is begun
    with preparing:
        training = task.trainer.prepare(task.train, task.validation)
    table = None if task.config.autotune is None else Path(task.config.autotune)
    algorithms = b"" if table is None else table.read_bytes()  # it may lie in a folder that is emptied now
    with folder.fresh(task.config) if past is None else past.folder as own:
        try:
            go_on(task, training, past, tell)
            if table is not None:  # what repeats the run takes the algorithms from its folder
                write_whole(own.path / ALGORITHMS, algorithms)
                autotune = str((own.path / ALGORITHMS).absolute())
                task = dataclasses.replace(task, config=dataclasses.replace(task.config, autotune=autotune))
            own.write_config(task.config)
            problem = _train(task, training, own, callbacks, tell)
            save(task.network, own.path / MODEL)
            del training  # its copy of the data makes room for the evaluations
            result = _result(task, own, problem, _scores(task))
            if table is not None and not (own.path / ALGORITHMS).samefile(table):  # with what evaluations have added
                write_whole(own.path / ALGORITHMS, table.read_bytes())
            if result.stopped not in BROKEN_OFF:  # else what goes on from here draws
                _draw(task, result, tell)
            own.write_result(result.flat())
        except OSError as error:
            raise XpnetError(
                f"out: {own.path} cannot be written ({error.strerror}); mend that and go on by --resume {own.path}, or "
                "name another folder by --out."
            ) from error
    return result


def _train(
    task: Task, training: Training, own: RunFolder, callbacks: Sequence[Callback], tell: Callable[[str], None]
) -> str | None:
    """Train, with checkpoints and a history on disk; the sentence that says what went wrong, or None."""
    trainer, config = task.trainer, task.config
    checkpoints = Checkpoints(
        training,
        own.checkpoints,
        every=Every.of(config.checkpoint_every),
        keep=config.keep,
        about=lambda: {"settings": settings_of(config), "samples": task.digest, **circumstances(task)},
        tell=tell,
    )
    events = [TensorBoard(own.path / TENSORBOARD)] if config.tensorboard else []
    trainer.callbacks = [HistoryFile(own.path / HISTORY), checkpoints, *events, *callbacks]
    try:
        with (
            calling(partial(trainer.stop, TERMINATED), "SIGTERM"),
            calling(partial(trainer.stop, HUNG_UP), "SIGHUP"),
        ):
            trainer.run(training)
    except DivergenceError as error:
        return str(error)
    except MemoryError as error:
        trainer.history.stopped = OUT_OF_MEMORY
        return (
            f"{task.network.device.name}: the memory ran out ({error}); the last good weights are saved: "
            "make the batch or the hidden layers smaller."
        )
    except KeyboardInterrupt:  # the second one: what is whole is saved at once
        trainer.stop(INTERRUPTED)
    finally:
        checkpoints.finish()
        trainer.callbacks = []
    if trainer.stopped in BROKEN_OFF:  # perhaps in the last step, but what comes after the training takes time too
        trainer.history.stopped = trainer.stopped
        return (
            f"{trainer.history.stopped.capitalize()} after {trainer.step} of {trainer.total_steps} steps; the "
            f"{_kept(trainer.history)} are saved, and --resume {own.path} goes on."
        )
    return None


def check_gradients(task: Task) -> list[gradcheck.Agreement]:
    """The gradients of the network and loss on the first samples, against central differences."""
    few, trainer = task.train.first(GRADCHECK_ROWS), task.trainer
    x, y = few.x[few.rows], few.y[few.rows]
    return gradcheck.check(task.network, x, y, loss=trainer.loss, l2=trainer.l2, dropout=trainer.dropout)


def _scores(task: Task) -> dict[str, dict[str, float] | None]:
    """Plain loss and metric on every set; the training loss with the penalty.

    Who has broken the training off waits for its end, so the training set, the largest by far, is not measured then.
    """
    hurried = task.trainer.history.stopped in BROKEN_OFF
    sets = {"train": None if hurried else task.train, "val": task.validation, "test": task.test}
    scores = {part: None if set_ is None else task.trainer.measure(set_) for part, set_ in sets.items()}
    if scores["train"] is not None:
        scores["train"]["loss"] += task.trainer.penalty()
    return scores


def _result(task: Task, own: RunFolder, problem: str | None, scores: dict[str, dict[str, float] | None]) -> Result:
    trainer, history = task.trainer, task.trainer.history
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
        kept=_kept(history),
        problem=problem,
        status=STATUS.get(history.stopped, 0),
        out=own.path,
    )


def _draw(task: Task, result: Result, tell: Callable[[str], None]) -> None:
    """curves.png and report.html, if they are wanted."""
    history = task.trainer.history
    if task.config.plot and history.rows:
        from xpnet.reporting import curves

        curves.draw(history, result.out / CURVES, title=result.out.name)
    if task.config.report:
        _report(task, result, tell)


def _report(task: Task, result: Result, tell: Callable[[str], None]) -> None:
    """report.html; where it cannot be made, the sentence that says why: the run is what it is without it."""
    try:
        from xpnet.reporting import report

        report.write(task, result, result.out / REPORT)
    except Exception as error:
        why = printable(" ".join(f"{type(error).__name__}: {error}".split()))
        tell(f"{result.out / REPORT}: the report could not be made ({why:.300}); all else of the run is there.")


def _kept(history: History) -> str:
    return "last weights" if history.best is None else f"weights of epoch {history.best.epoch:g}"
