"""Snapshots of a training on disk, taken while it runs, and the newest whole one of them."""

from __future__ import annotations

import mmap
import re
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet import modelfile
from xpnet.callbacks import Callback
from xpnet.errors import DataError, XpnetError, whole
from xpnet.files import remove_partial, write_whole
from xpnet.snapshots import Snapshot, read, write

if TYPE_CHECKING:
    from xpnet.trainer import Trainer
    from xpnet.training import Training

__all__ = ["BEST", "Checkpoints", "Every", "newest", "read"]

BEST = "best.safetensors"
"""The model with the best weights so far, beside the checkpoints."""

LEAST_SECONDS = 10.0
"""Between two checkpoints, where nobody says how often."""

LARGEST_SHARE = 0.02
"""Of the time, what taking and writing checkpoints may cost, where nobody says how often."""

THREAD_BYTES = 2**28
"""Of the address space, what a thread takes when it begins, for its stack and its part of the heap, and more."""

_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0}


@dataclass(frozen=True)
class Every:
    """How often a checkpoint is taken: every `epochs`, and not before `seconds` have gone by.

    Attributes:
        epochs: 0 for at any chunk of steps.
        seconds: 0 for at any time.
        share: Of the time, the most that checkpoints may cost.
    """

    epochs: int
    seconds: float
    share: float = 1.0

    @classmethod
    def of(cls, text: str | int | None) -> Every:
        """From 5 or "5" (epochs), "30s", "10m" or "2h"; None for each epoch, at most one in ten seconds."""
        if text is None:
            return cls(1, LEAST_SECONDS, LARGEST_SHARE)
        match = re.fullmatch(r"(\d+)|(\d*\.?\d+)([smh])", str(text).strip(), re.ASCII)
        if match and match[1] and int(match[1]) > 0:
            return cls(int(match[1]), 0.0)
        if match and match[2] and float(match[2]) > 0:
            return cls(0, float(match[2]) * _UNITS[match[3]])
        raise XpnetError(f'checkpoint_every: got "{text}", expected a number of epochs such as 5, or a time: 30s, 10m.')


class Checkpoints(Callback):
    """Writes snapshots of a training into a folder, beside the training; and the best model so far.

    The training never waits for the disk: a snapshot that falls due while another is being written is left out.

    Args:
        training: Whose snapshots.
        folder: Made if it is not there.
        every: How often; and always when the training ends or is stopped.
        keep: So many, the newest ones.
        about: Called once, in the thread that writes: further facts for every snapshot.
        tell: Called with a sentence when one cannot be written; the training goes on.

    Example:
        training = trainer.prepare(samples)
        trainer.callbacks.append(Checkpoints(training, Path("checkpoints"), every=Every.of("10m")))
        trainer.run(training)
    """

    def __init__(
        self,
        training: Training,
        folder: Path,
        *,
        every: Every,
        keep: int = 2,
        about: Callable[[], dict[str, Any]] = dict,
        tell: Callable[[str], None] = print,
    ) -> None:
        self._training, self._folder, self._every = training, folder, every
        self._keep, self._about, self._tell = whole("keep", keep, least=1), about, tell
        self._facts: dict[str, Any] | None = None
        self._writing: threading.Thread | None = None
        self._cost = 0.0
        self._best_step: int | None = None

    def on_start(self, trainer: Trainer) -> None:
        """Make the folder; the time until the first one begins.

        A training that goes on writes the one that it goes on from anew: with what is told of it now, such as more
        epochs, which would be forgotten if it were killed before it has another one.
        """
        self._folder.mkdir(exist_ok=True)
        remove_partial(self._folder)
        self._time, self._epoch = time.monotonic(), trainer.step // trainer.history.steps_per_epoch
        if trainer.step:
            self._take_and(self._write)

    def on_safe_point(self, trainer: Trainer) -> None:
        """Take one if it is time, or if it is the last; it is then on the disk when this returns."""
        if trainer.stopped or self._training.ended:
            self.finish()
            self._take_and(self._write)
        elif self._is_due(trainer) and not (self._writing and self._writing.is_alive()):
            self._take_and(self._write_beside)

    def finish(self) -> None:
        """Wait until the one that is being written is on the disk."""
        if self._writing is not None:
            self._writing.join()

    def _is_due(self, trainer: Trainer) -> bool:
        every, step, per_epoch = self._every, trainer.step, trainer.history.steps_per_epoch
        if time.monotonic() - self._time < max(every.seconds, self._cost / every.share):
            return False
        return every.epochs == 0 or (step % per_epoch == 0 and step // per_epoch - self._epoch >= every.epochs)

    def _take_and(self, write: Callable[[Snapshot], None]) -> None:
        training, step = self._training, self._training.trainer.step
        self._time, self._epoch = time.monotonic(), step // training.history.steps_per_epoch
        try:
            write(training.snapshot())
        except MemoryError:
            self._tell_of_failure(step, "out of memory")

    def _write_beside(self, snapshot: Snapshot) -> None:
        """Write it while training goes on."""
        self._writing = threading.Thread(target=self._write, args=(snapshot,), name="checkpoint")
        try:
            mmap.mmap(-1, THREAD_BYTES).close()  # CPython would wait for ever for a thread without memory to begin
            self._writing.start()
        except (RuntimeError, OSError):  # there is no room for another thread
            self._writing = None
            self._write(snapshot)

    def _write(self, snapshot: Snapshot) -> None:
        """Write it and what goes with it; never raises what a full disk does."""
        start, why = time.monotonic(), None
        for write_part in (self._write_best, self._write_whole):  # there may be room for the smaller file alone
            try:
                write_part(snapshot)
            except (OSError, MemoryError, ValueError) as error:  # OpenSSL's checksum without memory is a ValueError
                why = getattr(error, "strerror", None) or "out of memory"
        if why is not None:
            self._tell_of_failure(snapshot.facts["step"], why)
        self._cost = time.monotonic() - start

    def _write_whole(self, snapshot: Snapshot) -> None:
        """The snapshot; older ones than are kept are removed, and what was left where writing failed."""
        if self._facts is None:
            self._facts = self._about()
        path = self._folder / f"step-{snapshot.facts['step']:012d}.safetensors"
        write(path, Snapshot(snapshot.arrays, {**snapshot.facts, **self._facts}))
        for old in in_folder(self._folder)[self._keep :]:
            old.unlink(missing_ok=True)
        remove_partial(self._folder)

    def _tell_of_failure(self, step: int, why: str) -> None:
        self._tell(
            f"{self._folder}: the checkpoint of step {step:,} could not be written ({why}); training goes on, make "
            "room for the next one."
        )

    def _write_best(self, snapshot: Snapshot) -> None:
        """The best model so far, if it is a new one."""
        best, row = snapshot.part("best."), snapshot.facts["history"]["best"]
        step = None if row is None else snapshot.arrays["history.rows"][row, 1]
        if best and step is not None and step != self._best_step:
            network = self._training.trainer.network
            write_whole(self._folder / BEST, *modelfile.serialize(network, list(best.values())))
            self._best_step = step


def in_folder(folder: Path) -> list[Path]:
    """The checkpoints there, the newest first."""
    return sorted(folder.glob("step-*.safetensors"), reverse=True)


def newest(folder: Path, tell: Callable[[str], None] = print) -> Snapshot | None:
    """The newest whole snapshot in a folder of checkpoints, or None; damaged ones are told of and put aside.

    Raises:
        XpnetError: One cannot be read, or was written by another version.
    """
    for path in in_folder(folder):
        try:
            return read(path)
        except DataError as error:
            aside = path.rename(path.with_name(path.name + ".damaged"))
            tell(f"{error} It is now called {aside.name}, and the one before is used, if there is one.")
    return None
