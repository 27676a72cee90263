"""What a run has left in its folder, and how another process goes on with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import xpnet
from xpnet import checkpoint
from xpnet.config import Config, differences, settings_of
from xpnet.errors import XpnetError
from xpnet.files import PARTIAL, remove_partial
from xpnet.folder import CHECKPOINTS, CONFIG, CURVES, HISTORY, LOCK, REPORT, RESULT, RunFolder
from xpnet.settings import read_settings
from xpnet.snapshots import Snapshot
from xpnet.task import Task
from xpnet.training import DONE, EARLY, Training


@dataclass(frozen=True)
class Past:
    """A run that is to be gone on with.

    Attributes:
        folder: This process's own by now.
        settings: Of the run; none if it had not come to write them down.
        snapshot: The newest whole one, or None.
        result: The values of --json, if it came to an end.
    """

    folder: RunFolder
    settings: dict[str, Any]
    snapshot: Snapshot | None
    result: dict[str, Any] | None

    def is_finished(self, config: Config) -> bool:
        """Whether nothing would be left to train and to write."""
        stopped = (self.result or {}).get("stopped")
        longer = any(getattr(config, name) != self.settings.get(name) for name in ("epochs", "steps"))
        return stopped == EARLY or (stopped == DONE and not longer)


def look_back(own: RunFolder, tell: Callable[[str], None]) -> Past:
    """What a run has left in its folder.

    Raises:
        XpnetError: The folder holds something else, or a checkpoint cannot be read.
    """
    path = own.path
    snapshot = checkpoint.newest(own.checkpoints, tell)
    if snapshot is not None:
        settings = snapshot.facts.get("settings")
        if not isinstance(settings, dict):
            raise XpnetError(
                f"resume: the checkpoints in {path} are of no run of this command; go on by xpnet.Trainer."
            )
        return Past(own, settings, snapshot, own.read_result())
    if (path / CONFIG).exists():
        return Past(own, read_settings(path / CONFIG), None, own.read_result())
    if any(file.name not in (LOCK, CHECKPOINTS, HISTORY) and file.suffix != PARTIAL for file in path.iterdir()):
        raise XpnetError(f"resume: {path} holds neither checkpoints nor settings of a run; name the folder of one.")
    return Past(own, {}, None, None)


def refuse_other_settings(config: Config, past: Past) -> None:
    """Raise XpnetError where settings are not those of a past run that has come to something."""
    if past.snapshot is not None or past.result is not None:
        _refuse(past, differences(past.settings, settings_of(config)))


def refuse_other_samples(task: Task, past: Past) -> None:
    """Raise XpnetError where samples are not those of the snapshot that is gone on with."""
    if past.snapshot is not None and past.snapshot.facts.get("samples") != task.digest:
        _refuse(past, ["data (other samples)"])


def _refuse(past: Past, others: list[str]) -> None:
    if others:
        raise XpnetError(
            f"resume: this is not the run in {past.folder.path}: got {', '.join(others)}; leave that as it was, or "
            "begin another run with another --out."
        )


def go_on(task: Task, training: Training, past: Past | None, tell: Callable[[str], None]) -> None:
    """Take the training to where the past run was, or make room for a new one."""
    if past is None:
        return
    path, snapshot = past.folder.path, past.snapshot
    remove_partial(path)
    if snapshot is None and (past.result or {}).get("stopped") in (DONE, EARLY):
        raise XpnetError(
            f"resume: {path} is finished and its checkpoints are gone; begin a longer run with another --out."
        )
    if snapshot is None:
        tell(f"{path}: there is no whole checkpoint yet; the run begins anew.")
        past.folder.clear(but=CONFIG)  # tells of the run if this process, too, dies before it has a checkpoint
        return
    total = snapshot.facts.get("total")
    if not isinstance(total, int) or training.span.total < total:
        raise XpnetError(
            f"resume: got {training.span.total} steps for a run of {total}, expected as many or more; leave --epochs "
            "and --steps out, or give more."
        )
    for told in (RESULT, REPORT, CURVES):  # of an end that is none
        (path / told).unlink(missing_ok=True)
    try:
        with task.network.device:
            training.go_on(snapshot)
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise XpnetError(
            f"resume: the checkpoint in {path} does not fit the run ({error}); begin another run with another --out."
        ) from error
    for what, now in circumstances(task).items():
        if (then := snapshot.facts.get(what)) != now:
            tell(f"{path}: {what} was {then} and is {now} now; the results may differ in their last digits.")
    tell(f"{path}: going on after step {task.trainer.step:,} of {training.span.total:,}.")


def circumstances(task: Task) -> dict[str, Any]:
    """What can change bits, and is no setting."""
    device = task.network.device
    return {"device": device.name, "threads": device.threads, "xpnet": xpnet.__version__}
