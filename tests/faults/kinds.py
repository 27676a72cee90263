"""The kinds of faults; each function does to one training what it says, and raises where something was lost."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from xpnet import checkpoint
from xpnet.files import PARTIAL

from .configurations import DIVERGING, GROWING, LABELS, Case
from .forks import Run
from .harness import (
    BAD_INPUT,
    BEST,
    CONFIG,
    DIVERGED,
    GIVEN_UP,
    HISTORY,
    MODEL,
    OUT_OF_MEMORY,
    RESULT,
    STRIKES,
    Ended,
    Trial,
)


@dataclass(frozen=True)
class Fault:
    """A kind of fault.

    Attributes:
        strike: Does it to a training.
        trials: So many in the long form.
        case: What it is done to; None for one after the other.
        suits: Which cases it can be done to.
        impossible: Why it cannot be had in this folder, or "".
    """

    strike: Callable[[Trial], None]
    trials: int
    case: Case | None = None
    suits: Callable[[Case], bool] = lambda case: True
    impossible: Callable[[Path], str] = lambda place: ""


# Signals


def kill(trial: Trial) -> None:
    """SIGKILL at random moments, again and again."""

    def strike(run: Run) -> bool:
        ended = trial.strike_at_random(run, signal.SIGKILL)
        if ended.status != -signal.SIGKILL:
            trial.check(ended.status == 0, f"it ended with status {ended.status}", ended)
            return False
        trial.ground.count("kills")
        trial.after_death()
        return True

    trial.strike_again_and_again(strike)


def kill_while_writing(trial: Trial) -> None:
    """SIGKILL as soon as a file is being written, at random moments."""

    def strike(run: Run) -> bool:
        run.wait(trial.moment())
        while run.wait(0) is None:
            if any(_unfinished(trial.folder)):
                run.strike(signal.SIGKILL)
                break
        ended = trial.end(run)
        if ended.status != -signal.SIGKILL:
            return False
        trial.ground.count(
            "kills in the middle of a write" if any(_unfinished(trial.folder)) else "kills after a write"
        )
        trial.after_death()
        return True

    trial.strike_again_and_again(strike)


def _unfinished(folder: Path) -> Iterator[str]:
    """The names of files that are being written."""
    for place in (folder, folder / "checkpoints"):
        with contextlib.suppress(FileNotFoundError), os.scandir(place) as entries:
            yield from (entry.name for entry in entries if entry.name.endswith(PARTIAL))


def asked_to_end(trial: Trial, number: signal.Signals) -> None:
    """A signal that asks a run to end: it writes a checkpoint first, and tells by its status."""

    def strike(run: Run) -> bool:
        run.wait(trial.moment())
        run.strike(number)
        struck = time.monotonic()
        ended = trial.end(run)
        if ended.status == 0:
            return False
        trial.ground.count(number.name)
        trial.ground.took(run.ended - struck)
        if ended.status != -number:  # before and after the training there is nothing to save, and it just ends
            trial.check(ended.status == 128 + number, f"it ended with status {ended.status}", ended)
            trial.check_sentence(ended)
        trial.after_death(stopped=True)
        written = (trial.folder / HISTORY).read_text().splitlines() if (trial.folder / HISTORY).exists() else []
        trial.check(trial.safe_rows() == written or not written[1:], "its checkpoint is older than its history", ended)
        return True

    trial.strike_again_and_again(strike)


# Folders that cannot be written


def full_disk(trial: Trial) -> None:
    """A small disk that fills while the training goes on, and is freed again."""
    needed = sum(len(content) for _, content in _held(trial.reference.folder).values())
    with _small_disk(trial.place / "disk", 2 * needed + 2**19) as disk:
        trial.folder = disk / "run"
        ballast, early = disk / "ballast", trial.rng.random() < 0.3
        if early:
            _fill(ballast, leave=trial.rng.randrange(needed))
        run = trial.start()
        if not early:
            run.wait(trial.moment())
            _fill(ballast)
        _goes_on_or_says_why(trial, trial.end(run))
        ballast.unlink()
        trial.finish(but=BEST)


def _fill(ballast: Path, *, leave: int = 0) -> None:
    with open(ballast, "wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    with open(ballast, "r+b") as file:
        file.truncate(max(0, ballast.stat().st_size - leave))


@contextlib.contextmanager
def _small_disk(place: Path, size: int) -> Iterator[Path]:
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def why_no_disk(place: Path) -> str:
    """Why no disk can be mounted there, or ""."""
    if not shutil.which("mount") or os.geteuid() != 0:
        return "only root may mount a small disk"
    try:
        with _small_disk(place / "no-disk", 4096):
            return ""
    except (OSError, subprocess.CalledProcessError):
        return "no small disk can be mounted here"
    finally:
        (place / "no-disk").rmdir()


def small_files(trial: Trial) -> None:
    """No file may have more than so many bytes: what is larger cannot be written to its end."""
    sizes = [len(content) for _, content in _held(trial.reference.folder).values()]
    ended = trial.end(trial.start(file_size=trial.rng.randrange(max(sizes))))
    _goes_on_or_says_why(trial, ended)
    trial.finish(but=BEST)


def read_only(trial: Trial) -> None:
    """The folder of checkpoints, or all of the run's, becomes read-only for a while."""
    run = trial.start()
    while not (trial.folder / "checkpoints").is_dir() and run.wait(0.001) is None:
        pass
    run.wait(trial.moment())
    folders = [trial.folder / "checkpoints", trial.folder][: trial.rng.randint(1, 2)]
    with _locked([folder for folder in folders if folder.is_dir()]):
        ended = trial.end(run)
    _goes_on_or_says_why(trial, ended)
    trial.log.append(f"read-only were {len(folders)} folders")
    ended = trial.end(trial.resume())
    trial.check(ended.status == 0, f"resumed, it ended with status {ended.status}", ended)
    trial.check_same(trial.reference.folder, but=BEST)


@contextlib.contextmanager
def _locked(folders: Sequence[Path]) -> Iterator[None]:
    """Nothing in these folders can be made, renamed or removed; root is held back by an attribute alone."""
    root = os.geteuid() == 0
    for folder in folders:
        subprocess.run(["chattr", "+i", folder] if root else ["chmod", "a-w", folder], check=True)
    try:
        yield
    finally:
        for folder in folders:
            subprocess.run(["chattr", "-i", folder] if root else ["chmod", "u+w", folder], check=True)


def why_no_lock(place: Path) -> str:
    """Why a folder there cannot be made read-only for this user, or ""."""
    probe = place / "no-lock"
    probe.mkdir()
    try:
        with _locked([probe]):
            (probe / "x").touch()
    except PermissionError:
        return ""
    except (OSError, subprocess.CalledProcessError):
        pass
    finally:
        shutil.rmtree(probe)
    return "nothing makes a folder read-only for this user"


def _goes_on_or_says_why(trial: Trial, ended: Ended) -> None:
    trial.check(ended.status in (0, BAD_INPUT), f"it ended with status {ended.status}", ended)
    if ended.status or ended.err:
        trial.check_sentence(ended)
        trial.ground.count("runs that said what cannot be written")
    trial.after_death()


# Files that are damaged


def truncated(trial: Trial, path: Path) -> None:
    """Only the first bytes of a file are left."""
    size = trial.rng.randrange(path.stat().st_size)
    os.truncate(path, size)
    trial.log.append(f"{path.name} cut to {size} bytes")


def flipped(trial: Trial, path: Path) -> None:
    """One byte of a file has changed."""
    content, mask = bytearray(path.read_bytes()), trial.rng.randrange(1, 256)
    at = trial.rng.randrange(len(content))
    content[at] ^= mask
    path.write_bytes(content)
    trial.log.append(f"byte {at} of {path.name} changed by {mask:#x}")


def removed(trial: Trial, path: Path) -> None:
    """A file is gone."""
    path.unlink()
    trial.log.append(f"{path.name} removed")


Damage = Callable[[Trial, Path], None]


def newest_damaged(trial: Trial, damage: Damage) -> None:
    """The newest checkpoint is damaged: it is told, and the one before is used."""
    trial.break_off(checkpoints=1 if "--keep 1" in trial.case.options else 2)
    newest, *before = trial.checkpoints()
    trial.kept = trial.safe_rows(before[0]) if before else []
    damage(trial, newest)
    ended = trial.finish()
    if damage is not removed:
        trial.check_sentence(ended, newest.name)


def all_damaged(trial: Trial, damage: Damage) -> None:
    """No checkpoint is whole: it is told, and the training begins anew."""
    trial.break_off()
    trial.kept = []
    for path in trial.checkpoints():
        damage(trial, path)
    trial.check_sentence(trial.finish())


def best_damaged(trial: Trial, damage: Damage) -> None:
    """The best model so far is damaged."""
    trial.break_off()
    best = trial.folder / "checkpoints" / checkpoint.BEST
    if best.exists():
        damage(trial, best)
    trial.finish()


def settings_damaged(trial: Trial, damage: Damage) -> None:
    """config.toml is damaged: the run is refused with a sentence and left as it is, or ends as it should have."""
    trial.break_off()
    config = trial.folder / CONFIG
    whole = config.read_bytes()
    damage(trial, config)
    before = trial.snapshot()
    ended = trial.end(trial.launch("--resume", str(trial.folder), "--json", "--quiet"))
    if ended.status == BAD_INPUT:
        trial.check_sentence(ended)
        trial.check(_same_files(before, trial.snapshot()), "it was refused, but its folder changed", ended)
        config.write_bytes(whole)
    trial.check(ended.status in (0, BAD_INPUT), f"resumed, it ended with status {ended.status}", ended)
    trial.finish()


def history_damaged(trial: Trial, damage: Damage) -> None:
    """history.csv is damaged, or cut in the middle of a line."""
    trial.break_off()
    damage(trial, trial.folder / HISTORY)  # the newest checkpoint has all of it
    trial.finish()


def model_damaged(trial: Trial, damage: Damage) -> None:
    """The model of a run that was asked to end is damaged."""
    run = trial.in_the_middle()
    run.strike(signal.SIGTERM)
    run.strike(signal.SIGCONT)
    ended = trial.end(run)
    trial.check(ended.status == 128 + signal.SIGTERM, f"asked to end, it ended with status {ended.status}", ended)
    damage(trial, trial.folder / MODEL)
    trial.finish()


def result_damaged(trial: Trial, damage: Damage) -> None:
    """result.json of a finished run is damaged: if it cannot be read, the run is finished again."""
    ended = trial.end(trial.start())
    trial.check(ended.status == 0, f"it ended with status {ended.status}", ended)
    whole = (trial.folder / RESULT).read_bytes()
    damage(trial, trial.folder / RESULT)
    ended = trial.end(trial.resume())
    trial.check(ended.status in (0, BAD_INPUT), f"resumed, it ended with status {ended.status}", ended)
    with contextlib.suppress(ValueError, KeyError, TypeError):
        if "seconds" in json.loads((trial.folder / RESULT).read_bytes()):
            (trial.folder / RESULT).write_bytes(whole)  # a digit may be another one
    trial.check_whole(finished=True)
    trial.check_same(trial.reference.folder)


def leftovers(trial: Trial) -> None:
    """Temporary files are there that a dead process left."""
    trial.break_off()
    for name in (
        f".{MODEL}.a1b2{PARTIAL}",
        f".{HISTORY}.c3{PARTIAL}",
        f"checkpoints/.step-000000000007.safetensors.x{PARTIAL}",
    ):
        (trial.folder / name).write_bytes(trial.rng.randbytes(1000))
    trial.finish()


# Two at once


def second_run(trial: Trial) -> None:
    """While a run is at work, others into its folder are refused and touch nothing."""
    run = trial.in_the_middle()
    for more in ([], ["--overwrite"], ["--resume", "auto"], ["--resume", str(trial.folder)]):
        before = trial.snapshot()
        second = trial.end(trial.launch(*more, "--quiet") if more[1:] == [str(trial.folder)] else trial.start(*more))
        trial.check(second.status == BAD_INPUT, f"a second run ended with status {second.status}", second)
        trial.check_sentence(second)
        trial.check(trial.snapshot() == before, "a second run touched the files of the first", second)
        trial.ground.count("second runs refused")
    run.strike(signal.SIGCONT)
    ended = trial.end(run)
    trial.check(ended.status == 0, f"beside a second run, it ended with status {ended.status}", ended)
    trial.check_whole(finished=True)
    trial.check_same(trial.reference.folder)


def two_resumes(trial: Trial) -> None:
    """Two go on with the same run at the same moment: one finishes it, the other is refused or comes late."""
    trial.break_off()
    runs = [trial.resume(), trial.resume()]
    ended = [trial.end(run) for run in runs]
    trial.check({end.status for end in ended} <= {0, BAD_INPUT}, f"they ended with {[end.status for end in ended]}")
    trial.check(any(end.status == 0 for end in ended), "neither of two resumed runs finished", ended[0])
    for end in ended:
        if end.status == BAD_INPUT:
            trial.check_sentence(end)
            trial.ground.count("second runs refused")
    trial.finish()


# Pipes


def broken_pipes(trial: Trial, *, both: bool) -> None:
    """Whoever reads what the run prints goes away: it goes on in silence."""
    quiet, pipes = trial.rng.random() < 0.3, [os.pipe() for _ in range(2 if both else 1)]
    run = trial.start(quiet=quiet, streams={1 + i: writes for i, (_, writes) in enumerate(pipes)}, fresh=True)
    for _, writes in pipes:
        os.close(writes)
    run.wait(trial.rng.choice([0, trial.moment()]))
    for reads, _ in pipes:
        os.close(reads)
    ended = trial.end(run)
    trial.check((ended.status, ended.err) == (0, ""), f"it ended with status {ended.status}", ended)
    trial.finish()


def closed_streams(trial: Trial) -> None:
    """stdin, stdout or stderr are closed from the start: a file that takes their place is not printed into."""
    closed = trial.rng.choice([[0], [1], [2], [0, 1], [0, 1, 2]])
    trial.log.append(f"closed: {closed}")
    ended = trial.end(trial.start(quiet=trial.rng.random() < 0.5, fresh=True, closed=closed))
    trial.check((ended.status, ended.err) == (0, ""), f"it ended with status {ended.status}", ended)
    trial.finish()


# Memory


def little_memory(trial: Trial) -> None:
    """There is little memory for a run, or to go on with one: it says so or is killed, and can be gone on with."""
    room = int(2 ** trial.rng.uniform(12, 28))
    if trial.rng.random() < 0.5:
        run = trial.start(memory=room)
    else:
        trial.break_off()
        run = trial.resume(memory=room)
    trial.log.append(f"with {room:,} bytes")
    ended = trial.end(run)
    given_up = bool(GIVEN_UP.search(ended.err))
    if given_up:
        trial.ground.count("runs killed without memory")
    else:
        allowed = (0, BAD_INPUT, OUT_OF_MEMORY, -signal.SIGKILL)
        trial.check(ended.status in allowed, f"without memory, it ended with status {ended.status}", ended)
    if ended.status > 0 and not given_up:
        trial.check_sentence(ended, "memory")
        trial.ground.count("runs that said they lack memory")
    trial.after_death()
    trial.finish()


# Losses, data and settings


def diverging(trial: Trial) -> None:
    """A loss that diverges does so at the same step however often it is killed before, and leaves finite weights."""
    expected = trial.reference.ended
    trial.check(expected.status == DIVERGED, f"unbroken, it ended with status {expected.status}", expected)
    for number in range(STRIKES):
        ended = trial.strike_at_random(trial.resume() if number else trial.start(), signal.SIGKILL)
        if ended.status != -signal.SIGKILL:
            break
        trial.after_death()
    for _ in range(2):
        ended = trial.end(trial.resume())
        trial.check(ended.status == DIVERGED, f"resumed, it ended with status {ended.status}", ended)
        trial.check(ended.err.endswith(expected.err), f"expected the sentence {expected.err!r}", ended)
        trial.check_whole(finished=True)
        trial.check_same(trial.reference.folder, but=BEST)


def other_data(trial: Trial) -> None:
    """Data that have changed since are refused; when they are as before, the run goes on."""
    data = trial.place / "data"
    shutil.copytree(trial.ground.data, data)
    trial.data = data
    trial.break_off()
    samples = data / "labels.npz"
    whole = samples.read_bytes()
    with np.load(samples) as arrays:
        x, y = arrays["X"].copy(), arrays["y"].copy()
    row = trial.rng.randrange(len(x))
    if trial.rng.random() < 0.5:
        x[row, 0] = np.nextafter(x[row, 0], np.float32(np.inf))
    else:
        y[row, 0] = 1 - y[row, 0]
    np.savez(samples, X=x, y=y)
    before = trial.snapshot()
    ended = trial.end(trial.resume())
    trial.check(ended.status == BAD_INPUT, f"with other data, it ended with status {ended.status}", ended)
    trial.check_sentence(ended, "data")
    trial.check(_same_files(before, trial.snapshot()), "it was refused, but its folder changed", ended)
    samples.write_bytes(whole)
    trial.finish(but=(CONFIG,))  # which has the path of the data


OTHER_SETTINGS = {
    "activation": "silu",
    "batch_size": "31",
    "bias_init": "uniform(0.1)",
    "clip_norm": "0.123",
    "dropout": "0.35",
    "dtype": "float64",
    "early_stopping": "7",
    "epochs": "1",
    "eval_every": "11",
    "final_weights": "last",
    "hidden": "7 7",
    "init": "he_normal",
    "l2": "0.123",
    "label_smoothing": "0.123",
    "lr": "0.0123",
    "max_norm": "1.23",
    "monitor": "train_loss",
    "normalization": "layer",
    "optimizer": "adamw",
    "scale": "0.123",
    "schedule": "inverse",
    "seed": "123",
    "standardize": "",
    "train_size": "999",
    "val_size": "0.25",
    "warmup": "1.23",
}
"""Another value of each setting than cases have, but for those that a case is told."""


def other_settings(trial: Trial) -> None:
    """Settings that are not those of the run are refused by name; how it is written and shown may change."""
    trial.break_off()
    others = {name: f"--{name.replace('_', '-')} {value}" for name, value in OTHER_SETTINGS.items()}
    names = trial.rng.sample(sorted(name for name in others if others[name] not in trial.case.options), 6)
    names.sort(key=lambda name: name != "epochs")  # too few of them are refused by a sentence of their own
    for those in (*([name] for name in names[:4]), names[4:]):
        options = [part for name in those for part in others[name].split()]
        before = trial.snapshot()
        ended = trial.end(trial.launch("--resume", str(trial.folder), "--quiet", *options))
        trial.check(ended.status == BAD_INPUT, f"with other settings, it ended with status {ended.status}", ended)
        trial.check_sentence(ended)
        words = ended.err.replace("-", "_")
        trial.check(all(name in words for name in those), "its sentence does not name what differs", ended)
        trial.check(_same_files(before, trial.snapshot()), "it was refused, but its folder changed", ended)
        trial.ground.count("settings refused")
    trial.finish()


def more_epochs(trial: Trial) -> None:
    """A run that has ended, or has not, is given more epochs: it ends as one that had them from the start."""
    few = replace(trial.case, length="--epochs 100")
    run = trial.launch(*few.arguments(trial.data), *trial.output())
    if trial.rng.random() < 0.5:
        run.wait(trial.moment() / 2)
        run.strike(signal.SIGKILL)
    ended = trial.end(run)
    trial.check(ended.status in (0, -signal.SIGKILL), f"it ended with status {ended.status}", ended)
    if (trial.folder / CONFIG).exists():
        ended = trial.end(trial.launch("--resume", str(trial.folder), "--json", "--quiet", *trial.case.length.split()))
        trial.check(ended.status == 0, f"with more epochs, it ended with status {ended.status}", ended)
    trial.finish()


def _held(folder: Path) -> dict[str, tuple[int, bytes]]:
    return {str(path): (0, path.read_bytes()) for path in folder.rglob("*") if path.is_file()}


def _same_files(before: dict[str, tuple[int, bytes]], after: dict[str, tuple[int, bytes]]) -> bool:
    """Whether the same files hold the same; the lock may have been made."""
    return {**before, ".lock": None} == {**after, ".lock": None}


def has_checkpoints(case: Case) -> bool:
    """Whether it takes checkpoints on its way; at their defaults it is too short for that."""
    return "--checkpoint-every" in case.options


def is_forked(case: Case) -> bool:
    """Whether its imports are done: without memory for them it does not come to the first line of the command."""
    return not case.fresh


FAULTS = {
    "kill": Fault(kill, 100),
    "kill-while-writing": Fault(kill_while_writing, 12),
    "terminate": Fault(partial(asked_to_end, number=signal.SIGTERM), 10),
    "interrupt": Fault(partial(asked_to_end, number=signal.SIGINT), 10),
    "hang-up": Fault(partial(asked_to_end, number=signal.SIGHUP), 5),
    "full-disk": Fault(full_disk, 20, impossible=why_no_disk),
    "small-files": Fault(small_files, 10),
    "read-only": Fault(read_only, 10, impossible=why_no_lock),
    "newest-truncated": Fault(partial(newest_damaged, damage=truncated), 10, suits=has_checkpoints),
    "newest-flipped": Fault(partial(newest_damaged, damage=flipped), 20, suits=has_checkpoints),
    "newest-removed": Fault(partial(newest_damaged, damage=removed), 5, suits=has_checkpoints),
    "all-truncated": Fault(partial(all_damaged, damage=truncated), 5, suits=has_checkpoints),
    "all-flipped": Fault(partial(all_damaged, damage=flipped), 5, suits=has_checkpoints),
    "best-truncated": Fault(partial(best_damaged, damage=truncated), 5, suits=has_checkpoints),
    "best-flipped": Fault(partial(best_damaged, damage=flipped), 5, suits=has_checkpoints),
    "best-removed": Fault(partial(best_damaged, damage=removed), 5, suits=has_checkpoints),
    "settings-truncated": Fault(partial(settings_damaged, damage=truncated), 10, suits=has_checkpoints),
    "settings-flipped": Fault(partial(settings_damaged, damage=flipped), 20, suits=has_checkpoints),
    "settings-removed": Fault(partial(settings_damaged, damage=removed), 5, suits=has_checkpoints),
    "history-truncated": Fault(partial(history_damaged, damage=truncated), 10, suits=has_checkpoints),
    "history-flipped": Fault(partial(history_damaged, damage=flipped), 5, suits=has_checkpoints),
    "history-removed": Fault(partial(history_damaged, damage=removed), 5, suits=has_checkpoints),
    "model-truncated": Fault(partial(model_damaged, damage=truncated), 5, suits=has_checkpoints),
    "model-flipped": Fault(partial(model_damaged, damage=flipped), 5, suits=has_checkpoints),
    "result-truncated": Fault(partial(result_damaged, damage=truncated), 5),
    "result-flipped": Fault(partial(result_damaged, damage=flipped), 5),
    "result-removed": Fault(partial(result_damaged, damage=removed), 3),
    "leftovers": Fault(leftovers, 5, suits=has_checkpoints),
    "second-run": Fault(second_run, 10, suits=has_checkpoints),
    "two-resumes": Fault(two_resumes, 10, suits=has_checkpoints),
    "broken-stdout": Fault(partial(broken_pipes, both=False), 5),
    "broken-stdout-and-stderr": Fault(partial(broken_pipes, both=True), 5),
    "closed-streams": Fault(closed_streams, 8),
    "little-memory": Fault(little_memory, 60, suits=is_forked),
    "diverging": Fault(diverging, 10, DIVERGING),
    "other-data": Fault(other_data, 5, LABELS),
    "other-settings": Fault(other_settings, 5, suits=has_checkpoints),
    "more-epochs": Fault(more_epochs, 8, GROWING),
}
"""All kinds, by name."""
