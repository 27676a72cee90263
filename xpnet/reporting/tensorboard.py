"""What TensorBoard shows of a training: curves, and histograms of the parameters."""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet.callbacks import Callback, Row
from xpnet.errors import XpnetError

if TYPE_CHECKING:
    from xpnet.trainer import Trainer

BINS = 64
"""Of a histogram."""


def library() -> Any:
    """What makes and writes events: tensorboardX, with the modules that are used here.

    Raises:
        XpnetError: It is not installed.
    """
    try:
        import tensorboardX.event_file_writer
        import tensorboardX.summary
    except ImportError:
        raise XpnetError(
            "tensorboard: this needs tensorboardX, which is not installed; pip install 'xpnet[tensorboard]'."
        ) from None
    return tensorboardX


class TensorBoard(Callback):
    """Events of every row of the history, by its number of steps.

    They are written when the row is there, by this thread: tensorboardX's own SummaryWriter has another one write,
    and waits for it for ever once the disk is full.

    Args:
        folder: Of the events; a resumed training goes on there after those of the steps that it has.

    Raises:
        OSError: (of the methods) The events cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._library = folder, library()
        self._writer: Any = None

    def on_start(self, trainer: Trainer) -> None:
        """Begin a file of events, which takes the place of those of the same steps."""
        self._folder.mkdir(exist_ok=True)
        suffix = f".{trainer.step:012}"  # else a file of the same second would be written over
        self._writer = self._library.event_file_writer.EventsWriter(str(self._folder / "events"), suffix)
        if trainer.step:
            from tensorboardX.proto.event_pb2 import SessionLog

            self._write(trainer.step + 1, session_log=SessionLog(status=SessionLog.START))
        self._writer.flush()

    def on_row(self, trainer: Trainer, row: Row) -> None:
        """The numbers of the row and, where it ends in an evaluation, histograms."""
        summary = self._library.summary
        for column, value in row.named(trainer.history.metric).items():
            if value is not None and column not in ("epoch", "step", "seconds"):
                part, _, name = column.partition("_")
                tag = f"{name}/{part}" if part in ("train", "val") else column
                self._write(row.step, summary=summary.scalar(tag, value))
        if row.evaluated:
            for name, array in trainer.network.parameters.named():
                values = trainer.network.device.to_host(array)
                self._write(row.step, summary=summary.histogram(name, values, BINS))
        self._writer.flush()

    def on_end(self, trainer: Trainer) -> None:
        """No more of them."""
        if self._writer is not None:
            with contextlib.suppress(OSError):  # each row was flushed, and told of where it could not be
                self._writer.close()

    def _write(self, step: int, **what: Any) -> None:
        from tensorboardX.proto.event_pb2 import Event

        self._writer.write_event(Event(step=step, wall_time=time.time(), **what))
