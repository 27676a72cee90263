"""Ctrl-C and its kin: what asks a training to end comes when it can be heeded, and is never lost."""

from __future__ import annotations

import importlib
import os
import signal
import subprocess
import sys
import threading
from types import SimpleNamespace

import numpy as np
import pytest

import xpnet
from xpnet import command, signals
from xpnet.command import perform
from xpnet.devices.cpu import device as cpu_device
from xpnet.estimators import stochastic

posix = pytest.mark.skipif(os.name != "posix", reason="signals are sent by POSIX's kill")


def ctrl_c():
    signal.raise_signal(signal.SIGINT)


@pytest.fixture(autouse=True)
def handler():
    """That of Python's beginning, which an ignored Ctrl-C would not have set."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield signal.default_int_handler
    signal.signal(signal.SIGINT, before)


def test_a_postponed_ctrl_c_comes_at_the_end(handler):
    done = []

    @signals.postponed()
    def work():
        ctrl_c()
        ctrl_c()
        done.append("all of it")

    with pytest.raises(KeyboardInterrupt):
        work()
    assert done == ["all of it"]
    assert signal.getsignal(signal.SIGINT) is handler


def test_a_postponed_ctrl_c_calls_what_it_would_have_called():
    called = []
    with signals.calling(lambda: called.append("first"), "SIGINT"):
        with signals.postponed():
            ctrl_c()
            assert called == []
        assert called == ["first"]
        with pytest.raises(KeyboardInterrupt):
            ctrl_c()


@posix
def test_a_child_never_sees_a_ctrl_c_that_waits_for_this_process():
    children = []

    @signals.kept_from_children()
    def begin():
        os.kill(os.getpid(), signal.SIGINT)
        children.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1)"]))

    with pytest.raises(KeyboardInterrupt):
        begin()
    children[0].send_signal(signal.SIGINT)
    assert children[0].wait() == 0


@pytest.mark.parametrize("ignored", [signal.SIG_IGN])
def test_what_is_ignored_stays_so(ignored):
    signal.signal(signal.SIGINT, ignored)
    with signals.calling(pytest.fail, "SIGINT"), signals.postponed(), signals.noted():
        assert signal.getsignal(signal.SIGINT) is ignored
        ctrl_c()
    assert signal.getsignal(signal.SIGINT) is ignored


@posix
@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_a_training_under_nohup_goes_on(tmp_path, name):
    """A shell's "&" makes a script's command ignore Ctrl-C, nohup makes it ignore the end of the terminal."""
    number = getattr(signal, name)
    code = f"""
import os, signal, sys
from xpnet import Callback, train
from xpnet.reporting import console
class Struck(Callback):
    def on_row(self, trainer, row):
        os.kill(os.getpid(), {int(number)})
console.watch = lambda screen: Struck()
sys.exit(train.main(["--hidden", "5", "--epochs", "3", "--no-plot", "--no-report", "--out", "run", "--quiet"]))
"""
    command = [sys.executable, "-c", code]
    ignoring = {"preexec_fn": lambda: signal.signal(number, signal.SIG_IGN)}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, **ignoring)
    assert (done.returncode, done.stderr) == (0, "")
    assert len((tmp_path / "run" / "history.csv").read_text().splitlines()) == 4


def test_an_interrupted_import_is_an_interruption(capsys):
    def app(arguments, **_):
        try:
            ctrl_c()
        except KeyboardInterrupt:  # what C code makes of it
            raise ImportError("numpy._core.multiarray failed to import") from None

    assert perform(app, [], interrupted="Interrupted.") == 130
    assert capsys.readouterr().err == "xpnet: Interrupted.\n"


def test_a_further_ctrl_c_while_the_first_is_told_ends_it_too(monkeypatch):
    def app(arguments, **_):
        ctrl_c()

    monkeypatch.setattr(command, "tell", lambda sentence: ctrl_c())
    assert perform(app, []) == 130


def test_another_failed_import_is_told_as_such():
    def app(arguments, **_):
        raise ImportError("no such thing")

    with pytest.raises(ImportError, match="no such thing"):
        perform(app, [])


def train_for_ever(replay, struck):
    struck.start()
    while True:
        replay()


def test_ctrl_c_waits_for_the_threads_of_a_run():
    device = xpnet.device("cpu")
    device.threads = 2
    a, b = (np.random.default_rng(i).normal(size=(600, 600)).astype(np.float32) for i in range(2))
    out = np.zeros((40, 600, 600), np.float32)
    before = threading.active_count()
    replay = device.capture(lambda i: device.gemm(a, b, out=out[i]), len(out))
    replay()
    expected = out.copy()
    for moment in np.linspace(0.001, 0.03, 15):
        out.fill(0)
        struck = threading.Timer(moment, os.kill, (os.getpid(), signal.SIGINT))
        with pytest.raises(KeyboardInterrupt):
            train_for_ever(replay, struck)
        struck.join()
        assert threading.active_count() == before, "its threads would write into the arrays of the next run"
        np.testing.assert_array_equal(out, expected if out.any() else 0)  # all of a run, or none


class Library:
    """A BLAS that Ctrl-C comes to with one of the calls, before or after what it does."""

    def __init__(self, moments):
        self.threads, self.moments = 4, moments

    def get_num_threads(self):
        self.struck()
        return self.threads

    def set_num_threads(self, threads):
        self.struck()
        self.threads = threads
        self.struck()

    def struck(self):
        if next(self.moments, False):
            ctrl_c()


@pytest.mark.parametrize("moment", range(10))
def test_ctrl_c_leaves_the_blas_as_many_threads_as_it_had(monkeypatch, moment):
    device = xpnet.device("cpu")
    replay = device.capture(lambda i: device.gemm(np.ones((2, 2)), np.ones((2, 2)), out=np.empty((2, 2))))
    moments = iter([False] * moment + [True])
    libraries = [Library(moments), Library(moments)]
    monkeypatch.setattr(cpu_device, "_libraries", lambda: libraries)
    with pytest.raises(KeyboardInterrupt):
        replay()
    assert [library.threads for library in libraries] == [4, 4]


def test_ctrl_c_while_the_final_weights_are_put_back_waits_for_them(monkeypatch):
    x, y = np.random.default_rng(0).normal(size=(50, 4)), np.arange(50) % 3
    network = xpnet.MLP([4, 6, 3], output="softmax", device="cpu")
    trainer = xpnet.Trainer(network, epochs=4, batch_size=10, final_weights="best")
    training = trainer.prepare(trainer._samples(x, y))
    copy = training.keeper._copy

    def interrupted_copy(arrays, *, to):
        ctrl_c()
        copy(arrays, to=to)

    class Last(xpnet.Callback):
        def on_row(self, trainer, row):
            if row.epoch == 4:
                monkeypatch.setattr(training.keeper, "_copy", interrupted_copy)

    trainer.callbacks.append(Last())
    with pytest.raises(KeyboardInterrupt):
        trainer.run(training)
    assert training.history.stopped == "done"
    for kept, array in zip(training.keeper.arrays["best"], network.state, strict=True):
        np.testing.assert_array_equal(kept, array)


@pytest.mark.parametrize(
    ("command", "arguments"),
    [
        ("train", []),
        ("evaluate", ["m", "--data", "d"]),
        ("predict", ["m", "--data", "d", "--out", "p.csv"]),
        ("compare", []),
        ("tune", []),
        ("export", ["m", "--to", "numpy"]),
    ],
)
def test_every_command_tells_of_ctrl_c(command, arguments, monkeypatch, capsys):
    def press(*_, **__):
        raise KeyboardInterrupt

    module = importlib.import_module(f"xpnet.{command}")
    first = {"train": "lay_over", "tune": "lay_over", "compare": "comparison"}.get(command, "model_file")
    monkeypatch.setattr(module, first, SimpleNamespace(compare=press) if command == "compare" else press)
    assert module.main(arguments) == 130
    assert capsys.readouterr().err.startswith("xpnet: Interrupted")


def test_a_second_ctrl_c_while_the_best_weights_are_kept_waits_for_them(monkeypatch):
    x, y = np.random.default_rng(0).normal(size=(50, 4)), np.arange(50) % 3
    network = xpnet.MLP([4, 6, 3], output="softmax", device="cpu")
    trainer = xpnet.Trainer(network, epochs=9, batch_size=10, final_weights="best", monitor="train_loss")
    training = trainer.prepare(trainer._samples(x, y))
    copy = training.keeper._copy

    def interrupted_copy(arrays, *, to):
        if len(training.history.rows) == 5 and to is training.keeper.arrays["best"]:
            ctrl_c()
            ctrl_c()
        copy(arrays, to=to)

    monkeypatch.setattr(training.keeper, "_copy", interrupted_copy)
    trainer.run(training)
    assert (training.history.stopped, training.history.best.epoch) == ("interrupted", 5)
    for kept, array in zip(training.keeper.arrays["good"], network.state, strict=True):
        np.testing.assert_array_equal(kept, array)


def test_ctrl_c_while_an_estimator_keeps_its_best_weights_waits_for_them(monkeypatch):
    keep, kept = stochastic._Best.keep, []

    def interrupted_keep(best):
        kept.append(best)
        if len(kept) == 2:
            ctrl_c()
        keep(best)

    monkeypatch.setattr(stochastic._Best, "keep", interrupted_keep)
    x, y = np.random.default_rng(0).normal(size=(2, 200, 4)), np.arange(200) % 2
    x += y[:, None]
    model = xpnet.MLPClassifier((5,), early_stopping=True, random_state=0)
    with pytest.warns(UserWarning, match="interrupted by user"):
        model.fit(x[0], y, X_val=x[1], y_val=y)
    assert model.score(x[1], y) == model.best_validation_score_
