"""A run's folder, when things go wrong on the way."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from matplotlib.figure import Figure

import xpnet
from xpnet import run
from xpnet.callbacks import History, Row
from xpnet.config import Config
from xpnet.folder import FILES, HistoryFile
from xpnet.reporting import curves
from xpnet.task import prepare


class At(xpnet.Callback):
    """Does something after a row."""

    def __init__(self, row, act):
        self.row, self.act = row, act

    def on_row(self, trainer, row):
        if len(trainer.history.rows) == self.row:
            self.act()


def press_ctrl_c():
    raise KeyboardInterrupt


@pytest.fixture
def task(tmp_path):
    config = Config(epochs=5, out=str(tmp_path / "run"), plot=False, report=False, quiet=True)
    return prepare(config, xpnet.device("cpu"))


def test_a_second_ctrl_c_saves_what_is_whole(task, tmp_path):
    result = run.run(task, [At(3, press_ctrl_c)])
    assert (result.status, result.stopped) == (130, "interrupted")
    assert "are saved" in result.problem
    model = xpnet.load(tmp_path / "run" / "model.safetensors")
    test = task.test
    accuracy = (model.predict(test.x) == test.y).mean()
    assert accuracy == pytest.approx(result.scores["test"]["accuracy"])
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 1 + 3


def test_a_disk_that_fills_up_ends_in_a_sentence(task):
    def full():
        raise OSError(28, "No space left on device")

    with pytest.raises(xpnet.XpnetError, match="No space left on device"):
        run.run(task, [At(2, full)])


def test_a_disk_that_fills_within_a_line_leaves_whole_lines(tmp_path):
    resource = pytest.importorskip("resource", reason="Windows has no limits to stand for a full disk")
    trainer = SimpleNamespace(history=History("accuracy", 10))
    path, row = tmp_path / "history.csv", Row(1, 10, 0.5, 0.9, None, None, 0.01, 1.0, 100.0, True)
    file = HistoryFile(path)
    file.on_start(trainer)
    file.on_row(trainer, row)
    whole, before = path.read_bytes(), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(whole) + 9, before[1]))
    try:
        with pytest.raises(OSError, match="File too large"):
            file.on_row(trainer, row)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == whole
    file.on_row(trainer, row)
    file.on_end(trainer)
    assert path.read_bytes() == whole + whole.splitlines(keepends=True)[-1]


def test_curves_are_whole_or_not_there(tmp_path, monkeypatch):
    def die_on_the_way(figure, target, **_):
        with open(target, "wb") if isinstance(target, Path) else target as file:
            file.write(b"half")
            raise KeyboardInterrupt

    monkeypatch.setattr(Figure, "savefig", die_on_the_way)
    row = Row(1.0, 10, 0.5, 0.5, None, None, 0.1, 1.0, 10.0, False)
    with pytest.raises(KeyboardInterrupt):
        curves.draw(History("accuracy", 10, rows=[row]), tmp_path / "curves.png", title="run")
    assert not list(tmp_path.iterdir())


def test_overwriting_leaves_nothing_of_another_run(task, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    for name in FILES:
        (folder / name).write_text("old")
    (folder / "notes.txt").write_text("mine")
    config = Config(epochs=1, out=str(folder), plot=False, report=False, quiet=True, overwrite=True)
    run.run(prepare(config, xpnet.device("cpu")))
    assert not (folder / "curves.png").exists()
    assert (folder / "notes.txt").read_text() == "mine"
    xpnet.load(folder / "model.safetensors")
