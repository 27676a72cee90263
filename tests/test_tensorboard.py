"""--tensorboard: the events are read back as TensorBoard reads them, by their records and protocol buffers."""

from __future__ import annotations

import builtins
import math
import struct
import sys

import numpy as np
import pytest
from tensorboardX import SummaryWriter
from tensorboardX.proto.event_pb2 import Event

import xpnet
from xpnet import run
from xpnet.callbacks import Callback
from xpnet.config import Config
from xpnet.task import prepare
from xpnet.train import main


def events(folder):
    """What was written, file after file: a record is its length, a checksum, the event and a checksum."""
    found = []
    for file in sorted((folder / "tensorboard").iterdir()):
        content = file.read_bytes()
        while content:
            (length,) = struct.unpack("<Q", content[:8])
            found.append(Event.FromString(content[12 : 12 + length]))
            content = content[16 + length :]
    return found


def scalars(folder):
    """{tag: {step: value}}, as they are once what is purged is gone."""
    found = {}
    for event in events(folder):
        if event.session_log.status == event.session_log.START:
            for values in found.values():
                for step in [step for step in values if step >= event.step]:
                    del values[step]
        for value in event.summary.value:
            if value.HasField("simple_value"):
                found.setdefault(value.tag, {})[event.step] = value.simple_value
    return found


def trained(folder, *callbacks, **settings):
    usual = {"train_size": 200, "hidden": (8,), "epochs": 4, "tensorboard": True, "out": str(folder)}
    usual |= dict.fromkeys(("plot", "report"), False) | {"quiet": True}
    task = prepare(Config(**{**usual, **settings}), xpnet.device("cpu"))
    run.run(task, callbacks)
    return task


def test_scalars_are_the_history(tmp_path):
    history = trained(tmp_path / "run").trainer.history
    found = scalars(tmp_path / "run")
    tags = {"loss/train", "loss/val", "accuracy/train", "accuracy/val", "lr", "samples_per_second"}
    assert set(found) == tags
    steps = [row.step for row in history.rows]
    for tag, values in found.items():
        column = "_".join(reversed(tag.split("/")))
        np.testing.assert_allclose(list(values.values()), history.column(column), rtol=1e-6)
        assert list(values) == steps


def test_histograms_are_of_every_parameter_at_every_evaluation(tmp_path):
    task = trained(tmp_path / "run", eval_every="2", final_weights="last")
    found = {}
    for event in events(tmp_path / "run"):
        for value in event.summary.value:
            if value.HasField("histo"):
                found.setdefault(value.tag, {})[event.step] = value.histo
    rows = [row.step for row in task.trainer.history.rows if row.evaluated]
    assert len(rows) == 2
    for name, array in task.network.parameters.named():
        assert list(found.pop(name)) == rows or not math.isfinite(array.sum())
    assert found == {}


def test_the_last_histogram_is_of_the_weights(tmp_path):
    task = trained(tmp_path / "run", final_weights="last")
    last = [value.histo for event in events(tmp_path / "run") for value in event.summary.value if value.tag == "w1"][-1]
    w = task.network.parameters.w[0]
    assert (last.num, last.min, last.max) == pytest.approx((w.size, w.min(), w.max()))


class Interrupts(Callback):
    def on_row(self, trainer, row):
        if row.epoch == 2:
            trainer.stop("interrupted")


def test_a_resumed_run_goes_on_in_the_same_folder(tmp_path):
    trained(tmp_path / "run", Interrupts(), checkpoint_every="1")
    before = scalars(tmp_path / "run")["loss/val"]
    assert len(before) == 2
    with SummaryWriter(str(tmp_path / "run" / "tensorboard"), filename_suffix=".000000000001") as lost:
        lost.add_scalar("loss/val", 99.0, 100)  # written after the last checkpoint by a process that was killed
    assert main(["--resume", str(tmp_path / "run"), "--quiet"]) == 0
    trained(tmp_path / "whole")
    whole = scalars(tmp_path / "whole")
    assert scalars(tmp_path / "run")["loss/val"] == whole["loss/val"]


def test_a_run_that_takes_the_place_of_another_has_its_own_events_alone(tmp_path):
    trained(tmp_path / "run")
    trained(tmp_path / "run", epochs=2, overwrite=True)
    assert len(scalars(tmp_path / "run")["lr"]) == 2


def test_without_it_nothing_is_written(tmp_path):
    trained(tmp_path / "run", tensorboard=False)
    assert not (tmp_path / "run" / "tensorboard").exists()


def test_a_missing_library_is_told_before_anything_is_begun(tmp_path, monkeypatch, capsys):
    there = builtins.__import__

    def without(name, *rest):
        if name.partition(".")[0] == "tensorboardX":
            raise ModuleNotFoundError("No module named 'tensorboardX'")
        return there(name, *rest)

    for name in [name for name in sys.modules if name.partition(".")[0] == "tensorboardX"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(builtins, "__import__", without)
    assert main(["--tensorboard", "--epochs", "1", "--quiet", "--out", str(tmp_path / "run")]) == 2
    said = capsys.readouterr().err
    assert said == (
        "xpnet: tensorboard: this needs tensorboardX, which is not installed; pip install 'xpnet[tensorboard]'.\n"
    )
    assert not (tmp_path / "run").exists()
