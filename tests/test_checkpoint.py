"""Snapshots of a training: what goes on from one ends as what was never broken off."""

from __future__ import annotations

import errno
import json
import re
import threading
from dataclasses import fields
from types import SimpleNamespace

import numpy as np
import pytest
from scipy import sparse

import xpnet
from xpnet import Trainer, checkpoint, schedules, snapshots
from xpnet.callbacks import Row
from xpnet.checkpoint import Checkpoints, Every
from xpnet.data.samples import Samples
from xpnet.snapshots import Snapshot
from xpnet.training import Training

TIMES = {"seconds", "samples_per_second"}
ROWS = 75

# Going on


def samples(x, y, weights=None):
    return Samples.of(x, y, weights)


def problem(targets="classes"):
    """Samples to train and to validate on."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(ROWS, 6))
    y = (x[:, 0] + x[:, 1] > 0).astype(np.int32) + (x[:, 2] > 1)
    if targets == "numbers":
        y = x[:, :1] ** 2
    if targets == "sparse":
        x = sparse.csr_array(np.where(x > 0, x, 0))
    weights = rng.uniform(0.5, 2, ROWS) if targets == "weighted" else None
    return samples(x, y, weights), samples(x[:20], y[:20], None if weights is None else weights[:20])


SETTINGS = {
    "sgd": {"optimizer": "sgd"},
    "momentum": {"optimizer": xpnet.SGD(0.05, momentum=0.9)},
    "nesterov": {"optimizer": xpnet.SGD(0.05, momentum=0.9, nesterov=True), "final_weights": "last"},
    "adam": {"optimizer": "adam"},
    "adamw": {"optimizer": "adamw", "l2": 0.1},
    "rmsprop": {"optimizer": "rmsprop"},
    "adagrad": {"optimizer": "adagrad"},
    "step decay": {"schedule": schedules.StepDecay(0.5, 2)},
    "exponential": {"schedule": schedules.Exponential(0.7)},
    "inverse": {"schedule": schedules.InverseScaling()},
    "cosine": {"schedule": schedules.Cosine()},
    "one-cycle": {"schedule": schedules.OneCycle()},
    "warm-up": {"schedule": schedules.WarmUp(2.5)},
    "dropout": {"dropout": (0.5, 0.2)},
    "batch norm": {"normalization": "batch", "dropout": 0.2},
    "layer norm": {"normalization": "layer"},
    "bounds": {"clip_norm": 0.5, "max_norm": 1.0, "label_smoothing": 0.1, "l2": 0.01},
    "replacement": {"replacement": True, "batch_size": 20},
    "rows by steps": {"eval_every": "7steps"},
    "rows by epochs": {"eval_every": 3},
    "steps": {"steps": 37, "eval_every": "5steps"},
    "early stopping": {"early_stopping": 2, "optimizer": xpnet.Adam(0.05), "epochs": 60, "monitor": "val_loss"},
    "early stopping, last": {"early_stopping": 2, "optimizer": xpnet.Adam(0.05), "epochs": 60, "final_weights": "last"},
    "float64": {"dtype": "float64"},
    "one batch": {"batch_size": "all"},
    "numbers": {"targets": "numbers", "loss": "huber"},
    "sparse": {"targets": "sparse"},
    "weighted": {"targets": "weighted"},
    "references": {"device": "numpy", "dropout": 0.3},
    "no validation": {"validated": False},
}


def make(*, targets="classes", validated=True, normalization=None, dtype="float32", device="cpu", chunk=3, **options):
    """A training of a small network, in chunks of few steps."""
    train, validation = problem(targets)
    sizes, output = ((6, 9, 7, 1), "linear") if targets == "numbers" else ((6, 9, 7, 3), "softmax")
    network = xpnet.MLP(sizes, output=output, normalization=normalization, dtype=dtype, device=device)
    if targets == "numbers":
        network.task = "regression"
    trainer = Trainer(network, **{"batch_size": 8, "epochs": 5, **options})
    training = trainer.prepare(train, validation if validated else None)
    training.chunk = min(training.chunk, chunk)
    return training


class Collect(xpnet.Callback):
    """Takes a snapshot at every safe point."""

    def __init__(self, training):
        self.training, self.snapshots = training, []
        training.trainer.callbacks.append(self)

    def on_safe_point(self, trainer):
        self.snapshots.append(self.training.snapshot())


def ended(training):
    """All that is left of a training, but for times."""
    trainer = training.trainer
    rows = [[value for name, value in row.named("m").items() if name not in TIMES] for row in trainer.history.rows]
    history = trainer.history
    best = None if history.best is None else history.rows.index(history.best)
    arrays = [trainer.network.device.to_host(array) for _, array in training._arrays()]
    return arrays, (
        rows,
        best,
        history.initial_loss,
        history.stopped,
        history.samples,
        trainer.step,
        history.step_losses,
    )


def assert_same(one, other):
    for a, b in zip(one[0], other[0], strict=True):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_equal(one[1], other[1])


@pytest.mark.parametrize("settings", SETTINGS.values(), ids=SETTINGS)
def test_what_goes_on_from_any_snapshot_ends_as_what_was_never_broken(settings, tmp_path):
    whole = make(**settings)
    collected = Collect(whole)
    whole.trainer.run(whole)
    expected = ended(whole)
    assert len(collected.snapshots) > 1
    rng = np.random.default_rng(1)
    for snapshot in {id(s): s for s in [*rng.choice(collected.snapshots, 4), collected.snapshots[-1]]}.values():
        path = snapshots.write(tmp_path / "s.safetensors", snapshot)
        other = make(**settings)
        other.go_on(snapshots.read(path))
        assert other.trainer.step == snapshot.facts["step"]
        other.trainer.run(other)
        assert_same(ended(other), expected)


class StopAt(xpnet.Callback):
    """Stops before the row that a chunk ends, as a signal does that comes while steps are done."""

    def __init__(self, step):
        self.step = step

    def on_chunk(self, trainer):
        if trainer.step >= self.step:
            trainer.stop("interrupted")


@pytest.mark.parametrize("eval_every", [1, 2, "4steps", "6steps"])
@pytest.mark.parametrize("step", [1, 9, 10, 13, 20, 48, 50])
def test_what_was_stopped_goes_on_as_if_it_had_not_been(eval_every, step):
    whole = make(eval_every=eval_every)
    whole.trainer.run(whole)
    stopped = make(eval_every=eval_every)
    collected = Collect(stopped)
    stopped.trainer.callbacks.append(StopAt(step))
    stopped.trainer.run(stopped)
    assert stopped.trainer.history.rows[-1].step == stopped.trainer.step, "what is kept has its row"
    assert stopped.trainer.history.rows[-1].val_loss is not None
    other = make(eval_every=eval_every)
    other.go_on(collected.snapshots[-1])
    other.trainer.run(other)
    assert_same(ended(other), ended(whole))


@pytest.mark.parametrize("eval_every", [1, 2, "7steps"])
@pytest.mark.parametrize("stopping", [None, 30], ids=["done", "stopped at its end"])
def test_a_longer_training_goes_on_from_the_end_of_a_shorter_one(eval_every, stopping):
    longer, shorter = make(epochs=6, eval_every=eval_every), make(epochs=3, eval_every=eval_every)
    collected = Collect(shorter)
    if stopping:
        shorter.trainer.callbacks.append(StopAt(stopping))
    shorter.trainer.run(shorter)
    assert shorter.trainer.history.stopped == "done"
    assert shorter.trainer.history.rows[-1].val_loss is not None
    again, other = make(epochs=3, eval_every=eval_every), make(epochs=6, eval_every=eval_every)
    for training in (again, other):
        training.go_on(collected.snapshots[-1])
        training.trainer.run(training)
    longer.trainer.run(longer)
    assert_same(ended(again), ended(shorter))
    assert_same(ended(other), ended(longer))


@pytest.mark.parametrize("targets", ["classes", "weighted", "numbers"])
def test_more_steps_go_on_within_a_row_with_the_same_sums(targets):
    settings = {"targets": targets, "dtype": "float64", "chunk": 10}
    for steps in range(1, 10):
        longer, shorter, other = (make(**settings, steps=count) for count in (40, steps, 40))
        collected = Collect(shorter)
        for training in (longer, shorter):
            training.trainer.run(training)
        other.go_on(collected.snapshots[-1])
        other.trainer.run(other)
        assert_same(ended(other), ended(longer))


class StopInRow(xpnet.Callback):
    """Stops while a row is made, as a signal does that comes while the validation set is evaluated."""

    def __init__(self, step):
        self.step = step

    def on_row(self, trainer, row):
        if trainer.step == self.step:
            trainer.stop("interrupted")


@pytest.mark.parametrize("settings", ["early stopping", "early stopping, last", "adam"])
def test_a_signal_in_the_last_row_changes_nothing(settings):
    whole, stopped, other = (make(**SETTINGS[settings]) for _ in range(3))
    whole.trainer.run(whole)
    collected = Collect(stopped)
    stopped.trainer.callbacks.append(StopInRow(whole.trainer.step))
    stopped.trainer.run(stopped)
    assert stopped.trainer.stopped == "interrupted"
    other.go_on(collected.snapshots[-1])
    other.trainer.run(other)
    assert_same(ended(other), ended(whole))


def test_nothing_is_trained_after_early_stopping():
    settings = SETTINGS["early stopping"]
    training = make(**settings)
    collected = Collect(training)
    training.trainer.run(training)
    assert training.trainer.history.stopped == "early stopping"
    other = make(**{**settings, "epochs": 100})
    other.go_on(collected.snapshots[-1])
    other.trainer.run(other)
    assert_same(ended(other), ended(training))


@pytest.mark.parametrize("how", ["shape", "dtype", "missing", "facts", "generator"])
def test_a_snapshot_of_another_training_is_refused(how):
    training = make()
    collected = Collect(training)
    training.trainer.run(training)
    arrays, facts = dict(collected.snapshots[0].arrays), json.loads(json.dumps(collected.snapshots[0].facts))
    if how == "shape":
        arrays["network.0"] = arrays["network.0"][:-1]
    elif how == "dtype":
        arrays["network.0"] = arrays["network.0"].astype(np.float64)
    elif how == "missing":
        del arrays["update.1"]
    elif how == "facts":
        del facts["sums"]
    else:
        facts["position"]["generator"] = {"bit_generator": "MT19937"}
    with pytest.raises((LookupError, TypeError, ValueError)):
        make().go_on(Snapshot(arrays, facts))


# The file


def small_snapshot():
    return Snapshot(
        {"a": np.arange(3.0), "b.0": np.zeros((2, 0)), "b.1": np.ones(2, np.float32)}, {"x": [1, None, "é"]}
    )


def test_what_is_written_is_read():
    row = Row(1.5, 3, 0.1, 0.2, None, None, 0.01, 2.0, 30.0, True)
    assert Row.of_numbers(row.as_numbers()) == row
    assert len(row.as_numbers()) == len(fields(Row)) + 1


def test_a_snapshot_is_read_as_it_was_written(tmp_path):
    snapshot = small_snapshot()
    path = snapshots.write(tmp_path / "s.safetensors", snapshot)
    other = snapshots.read(path)
    assert other.facts == {"version": snapshots.VERSION, **snapshot.facts}
    assert other.arrays.keys() == snapshot.arrays.keys()
    for name, array in snapshot.arrays.items():
        np.testing.assert_array_equal(other.arrays[name], array)
        assert other.arrays[name].dtype == array.dtype
    assert other.part("b.").keys() == {"0", "1"}
    assert [file.name for file in tmp_path.iterdir()] == ["s.safetensors"]


def test_any_changed_byte_is_told(tmp_path):
    path = snapshots.write(tmp_path / "s.safetensors", small_snapshot())
    content = path.read_bytes()
    for place in range(len(content)):
        for bit in (1, 128):
            changed = bytearray(content)
            changed[place] ^= bit
            path.write_bytes(changed)
            with pytest.raises(xpnet.DataError, match="no whole checkpoint"):
                snapshots.read(path)


def test_any_cut_is_told(tmp_path):
    path = snapshots.write(tmp_path / "s.safetensors", small_snapshot())
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        with pytest.raises(xpnet.DataError, match="no whole checkpoint"):
            snapshots.read(path)
    path.write_bytes(content + b"\0")
    with pytest.raises(xpnet.DataError, match="no whole checkpoint"):
        snapshots.read(path)


def test_another_version_is_not_taken_for_damage(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshots, "VERSION", 99)
    snapshots.write(tmp_path / "step-1.safetensors", small_snapshot())
    monkeypatch.undo()
    with pytest.raises(xpnet.XpnetError, match="version 1"):
        checkpoint.newest(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["step-1.safetensors"]


def test_the_newest_whole_one_is_taken_and_damage_is_told(tmp_path):
    for step in (5, 10, 100):
        snapshots.write(tmp_path / f"step-{step:012d}.safetensors", Snapshot({}, {"step": step}))
    damaged = checkpoint.in_folder(tmp_path)[0]
    assert damaged.name == "step-000000000100.safetensors"
    damaged.write_bytes(damaged.read_bytes()[:-1])
    told = []
    assert checkpoint.newest(tmp_path, told.append).facts["step"] == 10
    assert len(told) == 1
    assert "step-000000000100.safetensors.damaged" in told[0]
    assert len(checkpoint.in_folder(tmp_path)) == 2
    assert checkpoint.newest(tmp_path / "nothing") is None


# When they are taken


@pytest.mark.parametrize(
    ("text", "epochs", "seconds"),
    [(1, 1, 0), ("5", 5, 0), ("30s", 0, 30), ("10m", 0, 600), ("2h", 0, 7200), (".5s", 0, 0.5), (None, 1, 10)],
)
def test_how_often_is_told_by_epochs_or_time(text, epochs, seconds):
    every = Every.of(text)
    assert (every.epochs, every.seconds) == (epochs, seconds)


@pytest.mark.parametrize("text", ["", "0", "-1", "0s", "5d", "m", "1.5", "1e3s", "30 s", "٣s", "nan"])
def test_how_often_is_refused(text):
    with pytest.raises(xpnet.XpnetError, match=r"checkpoint_every: .*30s"):
        Every.of(text)


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes when it is told to."""
    time = SimpleNamespace(now=0.0, monotonic=lambda: time.now)
    monkeypatch.setattr(checkpoint, "time", time)
    return time


class Tick(xpnet.Callback):
    """Every chunk takes so long."""

    def __init__(self, clock, seconds):
        self.clock, self.seconds = clock, seconds

    def on_chunk(self, trainer):
        self.clock.now += self.seconds


def steps_written(folder, every, clock, seconds, *, cost=0.0, keep=10_000, tell=print, **options):
    """Of a training of 10 steps an epoch, in chunks of 5."""
    training = make(chunk=5, **{"epochs": 12, **options})
    checkpoints = Checkpoints(training, folder, every=Every.of(every), keep=keep, tell=tell)
    written, write = [], checkpoints._write

    def note(snapshot):
        written.append(snapshot.facts["step"])
        write(snapshot)
        checkpoints._cost = cost

    checkpoints._write = note
    training.trainer.callbacks = [Tick(clock, seconds), checkpoints, Joined(checkpoints)]
    training.trainer.run(training)
    return written


class Joined(xpnet.Callback):
    """Waits for the one that is being written, so that none is left out by chance."""

    def __init__(self, checkpoints):
        self.checkpoints = checkpoints

    def on_safe_point(self, trainer):
        self.checkpoints.finish()


def test_training_goes_on_while_one_is_written(tmp_path, monkeypatch):
    written = threading.Event()

    def slow(path, snapshot):
        if not written.wait(10):
            raise OSError(errno.EIO, "training waited for it")
        return snapshots.write(path, snapshot)

    class Watch(xpnet.Callback):
        def on_chunk(self, trainer):
            if trainer.step >= 40:
                written.set()

    monkeypatch.setattr(checkpoint, "write", slow)
    training = make(epochs=6)
    training.trainer.callbacks = [
        Checkpoints(training, tmp_path / "c", every=Every.of(1), keep=10, tell=print),
        Watch(),
    ]
    training.trainer.run(training)
    steps = [int(path.stem.removeprefix("step-")) for path in checkpoint.in_folder(tmp_path / "c")]
    assert {10, 60} <= set(steps)
    assert not {20, 30} & set(steps)  # due while the first was being written


@pytest.mark.parametrize(
    ("every", "seconds", "cost", "expected"),
    [
        ("1", 0, 0, list(range(10, 121, 10))),
        ("5", 0, 0, [50, 100, 120]),
        ("2.5s", 1, 0, [15, 30, 45, 60, 75, 90, 105, 120]),
        ("1h", 1, 0, [120]),
        (None, 1, 0, [50, 100, 120]),
        (None, 20, 0, list(range(10, 121, 10))),
        (None, 1, 0.3, [50, 120]),
        (None, 5, 1.0, [10, 60, 110, 120]),
    ],
)
def test_they_are_taken_as_often_as_asked(tmp_path, clock, every, seconds, cost, expected):
    assert steps_written(tmp_path / "c", every, clock, seconds, cost=cost) == expected


def test_the_newest_are_kept_and_the_best_beside_them(tmp_path, clock):
    folder = tmp_path / "c"
    steps_written(folder, "1", clock, 0, keep=3, optimizer=xpnet.Adam(0.1), monitor="val_loss")
    names = sorted(file.name for file in folder.iterdir())
    assert names == ["best.safetensors", *(f"step-000000000{step}.safetensors" for step in (100, 110, 120))]


def test_the_best_model_so_far_is_a_model(tmp_path):
    training = make(normalization="batch", optimizer=xpnet.Adam(0.1), monitor="val_loss", epochs=8)
    network = training.trainer.network
    network.transform, network.classes = xpnet.data.InputTransform(0.5), ("a", "b", "c")
    checkpoints = Checkpoints(training, tmp_path / "c", every=Every.of(1))
    training.trainer.callbacks = [checkpoints, StopAt(71)]
    training.trainer.run(training)
    best = xpnet.load(tmp_path / "c" / checkpoint.BEST)
    x = problem()[0].x
    np.testing.assert_array_equal(best.predict_proba(x), network.predict_proba(x))
    assert best.classes == network.classes
    assert xpnet.save(network, tmp_path / "m").read_bytes() == (tmp_path / "c" / checkpoint.BEST).read_bytes()


def test_a_full_disk_is_told_and_training_goes_on(tmp_path, monkeypatch, clock):
    def full(path, snapshot):
        if 30 < snapshot.facts["step"] < 100:
            raise OSError(errno.ENOSPC, "No space left on device")
        return snapshots.write(path, snapshot)

    monkeypatch.setattr(checkpoint, "write", full)
    told = []
    steps_written(tmp_path / "c", "1", clock, 0, keep=2, tell=told.append)
    assert len(told) == 6
    assert all(re.search(r"step \d+ could not be written \(No space left on device\); ", text) for text in told)
    assert [path.name[-11:] for path in checkpoint.in_folder(tmp_path / "c")] == ["safetensors"] * 2
    assert checkpoint.newest(tmp_path / "c").facts["step"] == 120


def test_where_there_is_no_memory_the_training_goes_on(tmp_path, monkeypatch, clock):
    def no_room(self):
        raise MemoryError

    monkeypatch.setattr(Training, "snapshot", no_room)
    told = []
    assert steps_written(tmp_path / "c", "5", clock, 0, tell=told.append) == []
    assert [text[text.index("step") :] for text in told] == [
        f"step {step} could not be written (out of memory); training goes on, make room for the next one."
        for step in (50, 100, 120)
    ]


def test_where_there_is_no_thread_it_is_written_all_the_same(tmp_path, monkeypatch, clock):
    def no_room(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr("threading.Thread.start", no_room)
    assert steps_written(tmp_path / "c", "5", clock, 0) == [50, 100, 120]
    assert len(checkpoint.in_folder(tmp_path / "c")) == 3


def test_what_was_left_by_a_kill_is_removed(tmp_path, clock):
    folder = tmp_path / "c"
    folder.mkdir()
    (folder / ".step-000000000010.safetensors.0a0a.part").write_bytes(b"half")
    steps_written(folder, "5", clock, 0)
    assert not list(folder.glob(".*"))
