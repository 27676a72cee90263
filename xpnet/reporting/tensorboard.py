"""What TensorBoard shows of a training: curves, and histograms of the parameters."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from xpnet.callbacks import Callback, Row
from xpnet.errors import XpnetError

if TYPE_CHECKING:
    from xpnet.trainer import Trainer


def writer_class() -> Any:
    """What writes events.

    Raises:
        XpnetError: It is not installed.
    """
    try:
        from tensorboardX import SummaryWriter
    except ImportError:
        raise XpnetError(
            "tensorboard: this needs tensorboardX, which is not installed; pip install 'xpnet[tensorboard]'."
        ) from None
    return SummaryWriter


class TensorBoard(Callback):
    """Events of every row of the history, by its number of steps.

    Args:
        folder: Of the events; a resumed training goes on there after those of the steps that it has.
    """

    def __init__(self, folder: Path) -> None:
        self._folder, self._class = folder, writer_class()
        self._writer: Any = None

    def on_start(self, trainer: Trainer) -> None:
        """Begin a file of events, which takes the place of those of the same steps."""
        purged = trainer.step + 1 if trainer.step else None
        suffix = f".{trainer.step:012}"  # else a file of the same second would be written over
        self._writer = self._class(str(self._folder), purge_step=purged, filename_suffix=suffix)

    def on_row(self, trainer: Trainer, row: Row) -> None:
        """The numbers of the row and, where it ends in an evaluation, histograms."""
        for column, value in row.named(trainer.history.metric).items():
            if value is not None and column not in ("epoch", "step", "seconds"):
                part, _, name = column.partition("_")
                tag = f"{name}/{part}" if part in ("train", "val") else column
                self._writer.add_scalar(tag, value, row.step)
        if row.evaluated:
            for name, array in trainer.network.parameters.named():
                self._writer.add_histogram(name, trainer.network.device.to_host(array), row.step)

    def on_end(self, trainer: Trainer) -> None:
        """No more of them."""
        if self._writer is not None:
            self._writer.close()
