"""--resume, from the command line: goes on with what ended early, and with nothing else."""

import csv
import itertools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet import checkpoint
from xpnet.folder import RunFolder
from xpnet.settings import read_settings
from xpnet.training import DONE, Training

posix = pytest.mark.skipif(os.name != "posix", reason="signals are sent by POSIX's kill")
SHORT = ["--no-plot", "--no-report", "--hidden", "9", "--epochs", "4", "--checkpoint-every", "1", "--keep", "10"]
TIMES = {"seconds", "samples_per_second"}


class Immediate(threading.Thread):
    """Done as soon as it is started: no checkpoint is left out because another one is being written."""

    def start(self):
        super().start()
        self.join()


@pytest.fixture(autouse=True)
def every_checkpoint(monkeypatch):
    monkeypatch.setattr(checkpoint.threading, "Thread", Immediate)


def history(folder):
    with open(f"{folder}/history.csv", encoding="utf-8", newline="") as file:
        return [{k: v for k, v in row.items() if k not in TIMES} for row in csv.DictReader(file)]


def result(folder):
    return {k: v for k, v in told(folder).items() if k not in {*TIMES, "out"}}


def told(folder):
    return json.loads(Path(folder, "result.json").read_bytes())


def model(folder):
    return Path(folder, "model.safetensors").read_bytes()


def assert_same(one, other):
    assert history(one) == history(other)
    assert result(one) == result(other)
    assert model(one) == model(other)


def break_off(folder, step):
    """Leave a folder as a kill after this step's checkpoint does."""
    for path in checkpoint.in_folder(folder / "checkpoints"):
        if int(path.name[5:17]) > step:
            path.unlink()
    for name in ("model.safetensors", "result.json"):
        (folder / name).unlink()


@pytest.fixture
def whole(command):
    """Runs an unbroken training into the folder "whole", and returns its options."""

    def train(*options):
        ended = command(*SHORT, *options, "--out", "whole")
        assert ended.status == 0
        return [*SHORT, *options]

    return train


@pytest.fixture
def broken(command, whole, tmp_path):
    """The same into "broken", which ended after two epochs."""

    def train(*options):
        options = whole(*options)
        assert command(*options, "--out", "broken").status == 0
        steps = [int(row["step"]) for row in history("broken")]
        break_off(tmp_path / "broken", steps[1])
        return options

    return train


@pytest.mark.parametrize(
    "options", [[], ["--dropout", 0.3, "--schedule", "cosine"], ["--optimizer", "sgd", "--data", "sine"]], ids=str
)
def test_a_broken_run_ends_as_the_unbroken_one(command, broken, options):
    broken(*options)
    ended = command("--resume", "broken", "--json")
    assert ended.status == 0
    assert re.fullmatch(r"xpnet: broken: going on after step \d+ of \d+\.\n", ended.err)
    assert ended.result == told("broken")
    assert_same("whole", "broken")


def test_all_that_the_run_was_told_may_be_told_again(command, broken):
    options = broken("--lr", 0.01)
    assert command(*options, "--resume", "broken", "--out", "broken").status == 0
    assert_same("whole", "broken")


def test_auto_begins_goes_on_and_leaves_a_finished_run_alone(command, whole, tmp_path):
    options = whole()
    first = command(*options, "--resume", "auto", "--out", "own")
    assert "no run to go on with yet" in first.err
    assert_same("whole", "own")
    break_off(tmp_path / "own", 82)
    assert "going on after step 82" in command(*options, "--resume", "auto", "--out", "own").err
    assert_same("whole", "own")
    before = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "own").rglob("[!.]*.*")}
    third = command(*options, "--resume", "auto", "--out", "own", "--json")
    assert (third.status, third.err) == (0, "")
    assert "own is finished" in third.out
    assert third.result == told("own")
    assert {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in before} == before


def test_auto_without_a_folder_takes_the_newest_run_of_that_name(command, tmp_path):
    for _ in range(10):
        assert command(*SHORT).status == 0
    break_off(tmp_path / "runs" / "digits-10", 41)
    assert "runs/digits-10: going on after step 41" in command("--resume", "auto").err
    assert len(os.listdir("runs")) == 10
    command("--resume", "auto", "--name", "mine", *SHORT)
    assert os.path.exists("runs/mine/result.json")


def test_more_epochs_go_on_with_a_finished_run(command, whole):
    options = whole()
    assert command(*[7 if part == "4" else part for part in options], "--out", "longer").status == 0
    ended = command("--resume", "whole", "--epochs", 7)
    assert "going on after step 164 of 287" in ended.err
    assert_same("whole", "longer")
    assert read_settings(Path("whole/config.toml"))["epochs"] == 7


class KilledError(BaseException):
    """Stands for a kill, which nothing can catch."""


def test_more_epochs_are_not_forgotten_by_a_run_that_is_killed_at_once(command, whole, monkeypatch):
    options = whole()
    assert command(*[7 if part == "4" else part for part in options], "--out", "longer").status == 0

    def kill(training):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(Training, "run", kill)
        with pytest.raises(KilledError):
            command("--resume", "whole", "--epochs", 7)
    assert command("--resume", "whole").status == 0
    assert_same("whole", "longer")


def killed_at(number, monkeypatch):
    """From now on the removal of a file or folder with this number kills."""
    counted = itertools.count()

    def deadly(remove):
        def removed(path, *arguments, **options):
            if next(counted) == number:
                raise KilledError
            remove(path, *arguments, **options)

        return removed

    monkeypatch.setattr(Path, "unlink", deadly(Path.unlink))
    monkeypatch.setattr(Path, "rmdir", deadly(Path.rmdir))


@pytest.mark.parametrize("without", [[], ["checkpoints", "result.json"]], ids=["finished", "not begun"])
def test_auto_takes_what_is_left_where_a_kill_came_while_room_was_made(command, tmp_path, monkeypatch, without):
    options = ["--epochs", "1", "--no-plot", "--no-report", "--hidden", "9", "--tensorboard", "--out", "run"]
    assert command(*options).status == 0
    for path in [path for name in without for path in tmp_path.glob(f"run/**/{name}")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    (tmp_path / "run").rename(tmp_path / "before")
    for number in itertools.count():
        shutil.rmtree(tmp_path / "run", ignore_errors=True)
        shutil.copytree(tmp_path / "before", tmp_path / "run")
        with monkeypatch.context() as patch:
            killed_at(number, patch)
            try:
                assert command(*options, "--overwrite").status == 0
                break
            except KilledError:
                pass
        assert command(*options, "--resume", "auto").status == 0, number
        assert (history("run"), model("run")) == (history("before"), model("before"))
    assert number > 8


def test_a_run_that_goes_on_leaves_nothing_that_tells_of_its_end_before(command, whole, tmp_path):
    whole()
    for name in ("report.html", "curves.png"):
        (tmp_path / "whole" / name).write_text("of four epochs")
    assert command("--resume", "whole", "--epochs", 5).status == 0
    assert not (tmp_path / "whole" / "report.html").exists()
    assert not (tmp_path / "whole" / "curves.png").exists()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", "3"], "123 steps|164|leave --epochs"),
        (["--lr", "0.5", "--hidden", "8"], "hidden [8] (it was [9])|lr 0.5 (it was unset)|--out"),
        (["--seed", "1"], "seed 1 (it was 0)"),
        (["--data", "sine"], "data (other samples)"),
        (["--train-size", "100"], "train_size 100"),
        (["--out", "elsewhere"], "out: got elsewhere beside --resume broken"),
        (["--recipe", "xor"], "hidden|optimizer"),
    ],
    ids=str,
)
def test_what_is_another_run_is_refused_and_nothing_changes(command, broken, tmp_path, options, words):
    broken()
    before = {path: path.read_bytes() for path in (tmp_path / "broken").rglob("*.*") if path.is_file()}
    ended = command("--resume", "broken", *options)
    assert ended.status == 2
    assert ended.err.count("\n") == 1
    for word in words.split("|"):
        assert word in ended.err
    assert {path: path.read_bytes() for path in (tmp_path / "broken").rglob("*.*") if path.is_file()} == before
    assert not (tmp_path / "elsewhere").exists()


def nudged(data):
    data["X"][7, 1] = np.nextafter(data["X"][7, 1], 9)


def renamed(data):
    for name in ("y", "y_test"):
        data[name] = np.where(data[name] == "c", "d", data[name])


def other_tests(data):
    data["X_test"] = data["X_test"] + 1


@pytest.mark.parametrize("change", [nudged, renamed, other_tests])
def test_other_samples_in_the_same_file_are_refused(command, blobs, change):
    data = {"X": blobs[0], "y": np.array(list("abc"))[blobs[1]], "X_test": blobs[0][:9]}
    data["y_test"] = data["y"][:9]
    np.savez("own.npz", **data)
    assert command(*SHORT, "--data", "own.npz", "--out", "own").status == 0
    change(data)
    np.savez("own.npz", **data)
    ended = command("--resume", "own", "--epochs", 9)
    assert ended.status == 2
    assert "data (other samples)" in ended.err


def test_samples_may_lie_elsewhere_now(command, blobs, tmp_path):
    np.savez("own.npz", X=blobs[0], y=blobs[1])
    assert command(*SHORT, "--data", "own.npz", "--out", "own").status == 0
    (tmp_path / "own.npz").rename(tmp_path / "moved.npz")
    assert command("--resume", "own", "--epochs", 5, "--data", "moved.npz").status == 0
    assert len(history("own")) == 5


@pytest.mark.parametrize("name", ["nothing", ""])
def test_a_folder_that_is_not_there_is_refused(command, name):
    ended = command("--resume", name or "nothing/at/all")
    assert ended.status == 2
    assert re.fullmatch(r"xpnet: resume: there is no folder nothing.*auto.*\n", ended.err)


def test_a_folder_of_something_else_is_refused(command, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("precious")
    for options in (["--resume", "mine"], ["--resume", "auto", "--out", "mine"]):
        ended = command(*options)
        assert ended.status == 2
        assert "mine holds neither checkpoints nor settings of a run" in ended.err
    assert (tmp_path / "mine" / "thesis.tex").read_text() == "precious"


def test_a_finished_run_whose_settings_are_lost_is_left_alone(command, whole, tmp_path):
    whole()
    kept = model("whole")
    for path in [tmp_path / "whole" / "config.toml", *(tmp_path / "whole" / "checkpoints").iterdir()]:
        path.unlink()
    ended = command("--resume", "whole")
    assert ended.status == 2
    assert "neither checkpoints nor settings" in ended.err
    assert model("whole") == kept


def test_a_finished_run_is_not_taken_for_one_of_other_settings(command, whole):
    whole()
    ended = command("--resume", "whole", "--lr", 0.5)
    assert ended.status == 2
    assert "lr 0.5 (it was unset)" in ended.err


def test_a_finished_run_without_checkpoints_is_left_alone(command, whole, tmp_path):
    whole()
    for path in (tmp_path / "whole" / "checkpoints").iterdir():
        path.unlink()
    kept = model("whole")
    assert "whole is finished" in command("--resume", "whole").out
    longer = command("--resume", "whole", "--epochs", 9)
    assert longer.status == 2
    assert "its checkpoints are gone" in longer.err
    assert model("whole") == kept


@pytest.mark.parametrize("left", ["nothing", "settings", "damage"])
def test_without_a_whole_checkpoint_the_run_begins_anew(command, broken, tmp_path, left):
    options = broken()
    folder = tmp_path / "broken"
    for path in checkpoint.in_folder(folder / "checkpoints"):
        path.write_bytes(path.read_bytes()[:-1]) if left == "damage" else path.unlink()
    if left == "nothing":
        for path in [*folder.glob("*.*"), *folder.glob("checkpoints/*")]:
            path.unlink() if path.is_file() else None
        (folder / "checkpoints").rmdir()
    ended = command("--resume", "broken", *(options if left == "nothing" else []))
    assert ended.status == 0
    assert "broken: there is no whole checkpoint yet; the run begins anew." in ended.err
    assert ended.err.count("this is no whole checkpoint") == (2 if left == "damage" else 0)
    assert_same("whole", "broken")


def test_a_damaged_newest_checkpoint_is_told_and_the_one_before_used(command, broken, tmp_path):
    broken()
    newest = checkpoint.in_folder(tmp_path / "broken" / "checkpoints")[0]
    content = bytearray(newest.read_bytes())
    content[len(content) // 2] ^= 16
    newest.write_bytes(content)
    ended = command("--resume", "broken")
    assert ended.status == 0
    assert f"{newest.name}: this is no whole checkpoint" in ended.err
    assert "going on after step 41 " in ended.err
    assert_same("whole", "broken")


@pytest.mark.parametrize("cut", [1, 20, 400])
def test_a_history_that_was_cut_is_whole_again(command, broken, tmp_path, cut):
    broken()
    path = tmp_path / "broken" / "history.csv"
    path.write_bytes(path.read_bytes()[:-cut])
    assert command("--resume", "broken").status == 0
    assert_same("whole", "broken")


def test_a_lost_configuration_is_in_the_checkpoint_too(command, broken, tmp_path):
    broken("--lr", 0.02)
    (tmp_path / "broken" / "config.toml").write_bytes(b"\xff\0")
    assert command("--resume", "broken").status == 0
    assert_same("whole", "broken")
    assert (tmp_path / "broken" / "config.toml").read_bytes() == (tmp_path / "whole" / "config.toml").read_bytes()


def test_a_second_run_into_a_folder_is_refused(command, broken, tmp_path):
    options = broken()
    before = {path: path.read_bytes() for path in (tmp_path / "broken").rglob("*.*") if path.is_file()}
    with RunFolder(tmp_path / "broken"):
        for more in (["--resume", "broken"], [*options, "--out", "broken", "--overwrite"]):
            ended = command(*more)
            assert ended.status == 2
            assert re.fullmatch(r"xpnet: out: another run is at work in broken; .*\n", ended.err)
    assert {path: path.read_bytes() for path in before} == before


def test_other_threads_are_told(command, broken, monkeypatch):
    broken()
    monkeypatch.setattr(xpnet, "__version__", "9")
    ended = command("--resume", "broken", "--device", "numpy")
    assert ended.status == 0
    assert "device was cpu and is numpy now; the results may differ" in ended.err
    assert "xpnet was" in ended.err


def test_a_divergence_is_met_again(command):
    options = [*SHORT, "--optimizer", "sgd", "--lr", "0.01", "--schedule", "exponential", "--decay", "40"]
    options[options.index("4")] = "9"
    first = command(*options, "--data", "sine", "--out", "steep")
    assert first.status == 3
    assert checkpoint.in_folder(Path("steep/checkpoints"))
    kept = model("steep")
    again = command("--resume", "steep")
    assert again.status == 3
    assert again.err.splitlines()[-1] == first.err.splitlines()[-1]
    assert model("steep") == kept


def test_settings_of_no_run_are_refused(command, tmp_path):
    (tmp_path / "c.toml").write_text('[settings]\nresume = "auto"\n')
    assert command("--config", "c.toml").status == 2
    for options in (["--checkpoint-every", "0"], ["--keep", "0"], ["--checkpoint-every", "often"]):
        ended = command(*options)
        assert ended.status == 2
        assert re.match(r"xpnet: (keep|checkpoint_every): got .*expected", ended.err)
    assert not (tmp_path / "runs").exists()


# Signals


@posix
@pytest.mark.parametrize(("name", "status"), [("SIGTERM", 143), ("SIGINT", 130), ("SIGHUP", 129)])
def test_a_signal_leaves_a_checkpoint_from_which_it_goes_on(command, tmp_path, name, status):
    options = ["--no-plot", "--no-report", "--hidden", "9", "--epochs", "200", "--batch-size", "4", "--dropout", "0.2"]
    line = [sys.executable, "-u", "-m", "xpnet.train", *options, "--out", "broken"]
    with subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        for _ in itertools.takewhile(lambda line: not line.startswith("epoch 3/"), process.stdout):
            pass
        process.send_signal(getattr(signal, name))
        _, err = process.communicate()
    assert process.returncode == status
    assert re.fullmatch(r"xpnet: \w.* after \d+ of \d+ steps; .* are saved, and --resume broken goes on\.\n", err)
    assert result("broken")["steps"] < 200 * 324
    assert result("broken")["train_loss"] is None, "who broke it off would wait for that, where the set is large"
    assert result("broken")["val_loss"] > 0
    assert len(checkpoint.in_folder(tmp_path / "broken" / "checkpoints")) == 1
    assert command("--resume", "broken").status == 0
    assert command(*options, "--out", "whole").status == 0
    assert_same("whole", "broken")


# What it prints to


@posix
@pytest.mark.parametrize("gone", ["stdout", "stderr"])
def test_a_run_whose_reader_has_gone_trains_on(tmp_path, gone):
    options = ["60" if part == "4" else part for part in SHORT]
    line = [sys.executable, "-u", "-m", "xpnet.train", *options, "--json", "--out", "run"]
    with subprocess.Popen(line, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        getattr(process, gone).close()
        rest = (process.stderr if gone == "stdout" else process.stdout).read()
    assert process.returncode == 0
    assert "Traceback" not in rest
    assert result("run")["epochs"] == 60


@posix
@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full to stand for a full disk")
def test_a_run_that_prints_to_a_full_disk_trains_on(tmp_path):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "xpnet.train", *SHORT, "--out", "run"], cwd=tmp_path, stdout=full, stderr=full
        )
    assert done.returncode == 0
    assert result("run")["stopped"] == DONE
