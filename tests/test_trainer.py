"""Training: what is counted, kept, stopped and told."""

from __future__ import annotations

import os
import signal
import threading
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xpnet
from xpnet import Trainer
from xpnet.data.samples import Samples
from xpnet.training import Interval


def blobs(rows: int = 90, classes: int = 3, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points around one centre a class."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % classes
    centres = 3 * np.eye(classes, 4)
    return centres[y] + rng.normal(size=(rows, 4)), y


def network(**options) -> xpnet.MLP:
    return xpnet.MLP((4, 8, 3), **options)


class Recorder(xpnet.Callback):
    """Notes every event, and may act on it."""

    def __init__(self, act=lambda event, trainer: None):
        self.events, self.act = [], act

    def _note(self, event, trainer):
        self.events.append(event)
        self.act(event, trainer)

    def on_start(self, trainer):
        self._note("start", trainer)

    def on_chunk(self, trainer):
        self._note("chunk", trainer)

    def on_row(self, trainer, row):
        self._note("row", trainer)

    def on_end(self, trainer):
        self._note("end", trainer)


def test_a_network_learns_and_says_how():
    x, y = blobs()
    net = network()
    trainer = Trainer(net, optimizer=xpnet.Adam(0.05), batch_size=10, epochs=20)
    history = trainer.fit(x, y, validation=0.2)
    assert history.column("train_loss")[-1] < 0.3 < history.initial_loss
    assert trainer.evaluate(x, y)["accuracy"] > 0.9
    assert (net.predict(x) == y).mean() == pytest.approx(trainer.evaluate(x, y)["accuracy"])
    assert history.stopped == "done"


@pytest.mark.parametrize(
    ("options", "steps", "rows"),
    [
        ({"batch_size": 20, "epochs": 3}, 15, 3),
        ({"batch_size": 7, "epochs": 2}, 26, 2),
        ({"batch_size": "all", "epochs": 4}, 4, 4),
        ({"batch_size": 1000, "epochs": 4}, 4, 4),
        ({"batch_size": 1, "epochs": 1}, 90, 1),
        ({"batch_size": 20, "steps": 12}, 12, 3),
        ({"batch_size": 20, "epochs": 3, "replacement": True}, 12, 3),
        ({"batch_size": 20, "epochs": 3, "eval_every": "4steps"}, 15, 4),
        ({"batch_size": 20, "epochs": 3, "eval_every": 2}, 15, 3),
    ],
    ids=str,
)
def test_epochs_and_steps_are_counted(options, steps, rows):
    x, y = blobs()
    trainer = Trainer(network(), **options)
    history = trainer.fit(x, y, validation=(x, y))
    assert trainer.step == trainer.total_steps == history.rows[-1].step == steps
    assert len(history.step_losses) == steps
    assert len(history.rows) == rows
    evaluated = [row.val_loss is not None for row in history.rows]
    assert evaluated == [row.evaluated for row in history.rows]
    assert evaluated[-1]
    if options.get("eval_every") == 2:
        assert evaluated == [False, True, True]


def test_an_epoch_meets_every_sample_once_and_the_last_batch_is_partial():
    """With a learning rate of almost nothing, the losses of the steps are those of the batches of one network."""
    x, y = blobs(23)
    net = network(dtype="float64")
    trainer = Trainer(net, optimizer=xpnet.SGD(1e-300), batch_size=5, epochs=1)
    history = trainer.fit(x, y)
    sizes = np.array([5, 5, 5, 5, 3])
    whole = trainer.evaluate(x, y)["loss"]
    assert (history.step_losses * sizes).sum() / 23 == pytest.approx(whole, rel=1e-12)
    assert history.rows[0].train_loss == pytest.approx(whole, rel=1e-12)
    assert history.rows[0].train_metric == pytest.approx(trainer.evaluate(x, y)["accuracy"])


def test_the_penalty_is_part_of_the_training_loss_alone():
    x, y = blobs()
    net = network(dtype="float64")
    trainer = Trainer(net, optimizer=xpnet.SGD(1e-300), l2=0.5, epochs=1, batch_size="all")
    history = trainer.fit(x, y, validation=(x, y))
    penalty = 0.25 * sum((w**2).sum() for w in net.parameters.w)
    assert trainer.penalty() == pytest.approx(penalty)
    assert history.rows[0].train_loss == pytest.approx(history.rows[0].val_loss + penalty)
    assert history.initial_loss == pytest.approx(history.rows[0].train_loss)


@pytest.mark.parametrize("kept", ["best", "last", None])
def test_the_weights_that_are_kept_are_those_that_are_reported(kept):
    x, y = blobs(60)
    noisy = y.copy()
    noisy[::4] = (noisy[::4] + 1) % 3
    options = {"epochs": 30, "batch_size": 5, "final_weights": kept, "monitor": "val_loss"}
    trainer = Trainer(network(), optimizer=xpnet.Adam(0.05), **options)
    history = trainer.fit(x, noisy, validation=(x[:30], y[:30]))
    losses = history.column("val_loss")
    assert losses.argmin() < len(losses) - 1, "this test wants a training that over-fits"
    expected = losses[-1] if kept == "last" else losses.min()
    assert trainer.evaluate(x[:30], y[:30])["loss"] == pytest.approx(expected, rel=1e-5)


def test_early_stopping_waits_and_restores():
    x, y = blobs(60)
    trainer = Trainer(network(), optimizer=xpnet.Adam(0.1), epochs=500, early_stopping=4, monitor="val_loss")
    history = trainer.fit(x, y, validation=(x[:20], (y[:20] + 1) % 3))
    losses = history.column("val_loss")
    assert history.stopped == "early stopping"
    assert len(losses) == losses.argmin() + 1 + 4
    assert history.best is history.rows[losses.argmin()]
    assert trainer.evaluate(x[:20], (y[:20] + 1) % 3)["loss"] == pytest.approx(losses.min(), rel=1e-5)


def test_early_stopping_works_on_the_training_loss_too():
    x, y = blobs(30)
    trainer = Trainer(network(), optimizer=xpnet.SGD(1e-12), epochs=50, early_stopping=2, batch_size="all")
    history = trainer.fit(x, y)
    assert history.stopped == "early stopping"
    assert len(history.rows) < 50


@pytest.mark.parametrize("event", ["chunk", "row"])
def test_a_callback_can_stop_and_all_events_are_told(event):
    x, y = blobs()
    recorder = Recorder(lambda happened, trainer: trainer.stop("enough") if happened == event else None)
    history = Trainer(network(), epochs=9, batch_size=30, callbacks=[recorder]).fit(x, y)
    assert history.stopped == "enough"
    assert recorder.events == ["start", "chunk", "row", "end"]


def test_the_end_is_told_when_a_callback_fails():
    x, y = blobs()

    def fail(event, trainer):
        if event == "row":
            raise RuntimeError("mine")

    recorder = Recorder(fail)
    with pytest.raises(RuntimeError, match="mine"):
        Trainer(network(), callbacks=[recorder]).fit(x, y)
    assert recorder.events[-1] == "end"


@pytest.mark.skipif(os.name != "posix", reason="signals are sent as on POSIX")
def test_ctrl_c_ends_training_after_the_chunk_with_the_best_weights():
    x, y = blobs()
    before = signal.getsignal(signal.SIGINT)

    def press(event, trainer):
        if event == "row" and len(trainer.history.rows) == 3:
            os.kill(os.getpid(), signal.SIGINT)

    trainer = Trainer(network(), epochs=1000, callbacks=[Recorder(press)], monitor="val_loss")
    history = trainer.fit(x, y, validation=(x, y))
    assert history.stopped == "interrupted"
    assert 3 <= len(history.rows) <= 4
    assert trainer.evaluate(x, y)["loss"] == pytest.approx(history.column("val_loss").min(), rel=1e-5)
    assert signal.getsignal(signal.SIGINT) is before


def test_training_works_beside_the_main_thread():
    x, y = blobs()
    results = []
    thread = threading.Thread(target=lambda: results.append(Trainer(network(), epochs=2).fit(x, y)))
    thread.start()
    thread.join()
    assert results[0].stopped == "done"


@pytest.mark.parametrize("validated", [True, False])
def test_a_divergence_names_its_step_and_keeps_the_last_good_weights(validated):
    x, y = blobs()
    net = network()
    schedule = xpnet.schedules.StepDecay(decay=1e30, every=3)
    trainer = Trainer(net, optimizer=xpnet.SGD(0.1), schedule=schedule, epochs=10, batch_size=30)
    with pytest.raises(xpnet.DivergenceError, match=r"epoch 4, step 1[0-2], at a learning rate of 1e\+29"):
        trainer.fit(x, y, validation=(x, y) if validated else None)
    assert trainer.history.stopped == "diverged"
    assert len(trainer.history.rows) == 3
    value = trainer.evaluate(x, y)["loss"]
    assert np.isfinite(value)
    assert value < trainer.history.initial_loss


def test_sample_weights_count_as_repeated_samples():
    x, y = blobs(12)
    weights = np.array([1, 2, 0, 1, 3, 1, 1, 0, 2, 1, 1, 1])
    rows = np.repeat(np.arange(12), weights)
    results = []
    for data, options in (((x, y), {"sample_weight": weights}), ((x[rows], y[rows]), {})):
        net = network(dtype="float64")
        trainer = Trainer(net, epochs=5, batch_size="all", l2=0.1)
        history = trainer.fit(*data, **options)
        results.append((net.parameters.flat.copy(), history.column("train_loss"), history.column("train_accuracy")))
    for weighted, repeated in zip(*results, strict=True):
        np.testing.assert_allclose(weighted, repeated, rtol=1e-10)


def test_a_batch_without_weight_changes_nothing():
    x, y = blobs(10)
    net = network()
    before = net.parameters.flat.copy()
    weights = np.zeros(10)
    weights[9] = 1
    trainer = Trainer(net, batch_size=5, steps=1, seed=1)
    history = trainer.fit(x, y, sample_weight=weights)
    if history.step_losses[0] == 0:
        np.testing.assert_array_equal(net.parameters.flat, before)
    assert np.isfinite(net.parameters.flat).all()


@pytest.mark.parametrize(
    ("y", "output", "loss", "metric"),
    [
        (np.linspace(-1, 1, 30), "linear", None, "mse"),
        (np.linspace(-1, 1, 60).reshape(30, 2), "linear", "huber", "mse"),
        (np.linspace(-0.9, 0.9, 30), "tanh", "mae", "mse"),
        (np.linspace(0, 1, 30), "sigmoid", "mse", "mse"),
        (np.arange(30) % 2, "sigmoid", None, "accuracy"),
        (np.array(["yes", "no"] * 15), "sigmoid", "mse", "accuracy"),
        (np.arange(30) % 3, "linear", "mse", "accuracy"),
        (np.arange(60).reshape(30, 2) % 3 // 2, "sigmoid", None, "accuracy"),
        (np.eye(3)[np.arange(30) % 3] * 0.8 + 0.2 / 3, "softmax", None, "accuracy"),
        ([True, False] * 15, "softmax", None, "accuracy"),
    ],
    ids=str,
)
def test_every_kind_of_target_trains(y, output, loss, metric):
    x, _ = blobs(30)
    y = np.asarray(y)
    units = y.shape[1] if y.ndim == 2 else 1 if output in ("sigmoid", "tanh") or y.dtype.kind == "f" else len(set(y))
    net = xpnet.MLP((4, 16, units), "tanh", output)
    trainer = Trainer(net, loss=loss, optimizer=xpnet.Adam(0.02), epochs=150, batch_size=10)
    history = trainer.fit(x, y)
    assert history.metric == metric
    assert history.column("train_loss")[-1] < 0.9 * history.column("train_loss")[0]
    assert set(trainer.evaluate(x, y)) == {"loss", metric}
    assert len(net.predict(x)) == 30


def test_a_regression_is_measured_by_its_squared_error():
    x, _ = blobs(30)
    y = x[:, :2] @ np.ones((2, 1))
    net = xpnet.MLP((4, 1), output="linear", dtype="float64")
    trainer = Trainer(net, loss="huber", epochs=3)
    trainer.fit(x, y)
    error = ((net.predict(x) - y[:, 0]) ** 2).mean()
    assert trainer.evaluate(x, y)["mse"] == pytest.approx(error, rel=1e-12)


def test_the_same_seed_gives_the_same_bits_and_another_one_others():
    x, y = blobs()

    def run(seed):
        net = network(seed=1)
        Trainer(net, seed=seed, epochs=3, batch_size=8).fit(x, y, validation=0.2)
        return net.parameters.flat.tobytes()

    assert run(1) == run(1) != run(2)


def test_training_goes_on_where_it_was():
    x, y = blobs()
    net = network()
    first = Trainer(net, epochs=3).fit(x, y)
    second = Trainer(net, epochs=3).fit(x, y)
    assert second.initial_loss < first.column("train_loss")[0]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"epochs": 0}, ["epochs", "0"]),
        ({"epochs": 1.5}, ["epochs", "1.5"]),
        ({"steps": 0}, ["steps"]),
        ({"batch_size": 0}, ["batch_size", "0"]),
        ({"batch_size": "some"}, ["batch_size", "some", "all"]),
        ({"l2": -1}, ["l2", "-1"]),
        ({"l2": float("nan")}, ["l2", "nan"]),
        ({"clip_norm": 0}, ["clip_norm"]),
        ({"eval_every": 0}, ["eval_every"]),
        ({"eval_every": "3 minutes"}, ["eval_every", "3 minutes"]),
        ({"early_stopping": 0}, ["early_stopping"]),
        ({"final_weights": "all"}, ["final_weights", "all", "best"]),
        ({"seed": -1}, ["seed", "-1"]),
        ({"loss": "l1"}, ["loss", "l1", "mae"]),
        ({"loss": "mse"}, ["mse", "softmax"]),
        ({"monitor": "val_loss"}, ["monitor", "val_loss", "no validation set"]),
        ({"monitor": "f1"}, ["monitor", "f1", "train_loss"]),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named_with_what_is_right(options, words):
    with pytest.raises(xpnet.XpnetError) as refusal:
        Trainer(network(), **options).fit(*blobs())
    for word in words:
        assert word in str(refusal.value)


@pytest.mark.parametrize(
    ("x", "y", "options", "words"),
    [
        (np.zeros((6, 5)), np.arange(6) % 3, {}, ["5 values", "4 inputs"]),
        (np.zeros((6, 4)), np.arange(6) % 2, {}, ["2 classes", "3 outputs"]),
        (np.zeros((6, 4)), np.zeros((6, 2)), {}, ["2 columns", "3 outputs"]),
        (np.zeros((6, 4)), np.eye(6, 3, dtype=int), {}, ["0/1 labels", "sigmoid"]),
        (np.zeros((6, 4)), np.arange(5) % 3, {}, ["5", "6"]),
        (np.zeros((6, 4)), np.arange(6) % 3, {"sample_weight": -np.ones(6)}, ["sample_weight"]),
        (np.zeros((6, 4)), np.arange(6) % 3, {"sample_weight": np.ones(5)}, ["sample_weight", "(5,)"]),
        (np.zeros((6, 4)), np.arange(6) % 3, {"validation": 6}, ["val", "6"]),
        (np.zeros((6, 4)), np.arange(6) % 3, {"validation": (np.zeros((2, 4)), [0, 7])}, ["7"]),
    ],
)
def test_arrays_that_do_not_fit_are_refused(x, y, options, words):
    with pytest.raises(xpnet.DataError) as refusal:
        Trainer(network()).fit(x, y, **options)
    assert "\n" not in str(refusal.value)
    for word in words:
        assert word in str(refusal.value)


def test_a_refused_fit_leaves_the_network_as_it_was():
    net = network()
    with pytest.raises(xpnet.DataError):
        Trainer(net).fit(np.zeros((6, 4)), np.arange(6) % 2)
    assert net.task is None
    Trainer(net, epochs=1).fit(*blobs())


def test_intervals_are_epochs_or_steps():
    assert [Interval.of(text) for text in (5, "5", "5 epochs", "200steps", "1 step")] == [
        *[Interval(5, "epochs")] * 3,
        Interval(200, "steps"),
        Interval(1, "steps"),
    ]
    assert [Interval(4, "steps").left(step) for step in range(5)] == [4, 3, 2, 1, 4]


@settings(max_examples=50, deadline=None)
@given(
    rows=st.integers(3, 40),
    batch=st.integers(1, 45),
    dtype=st.sampled_from(["uint8", "int64", "float32", "float64", "bool"]),
    replacement=st.booleans(),
    optimizer=st.sampled_from([xpnet.SGD(), xpnet.Adam(), xpnet.RMSProp()]),
    normalization=st.sampled_from([None, "batch", "layer"]),
    dropout=st.sampled_from([0.0, 0.5]),
)
def test_any_shape_and_type_of_samples_trains(rows, batch, dtype, replacement, optimizer, normalization, dropout):
    x = np.random.default_rng(rows).integers(0, 2, (rows, 2, 2)).astype(dtype)
    options = {"batch_size": batch, "replacement": replacement, "optimizer": optimizer, "dropout": dropout}
    trainer = Trainer(network(normalization=normalization), epochs=2, **options)
    history = trainer.fit(x, np.arange(rows) % 3)
    assert np.isfinite(history.step_losses).all()
    assert history.samples == 2 * ((rows // min(batch, rows)) * min(batch, rows) if replacement else rows)


def test_a_broken_training_keeps_the_weights_of_its_last_whole_row():
    """Ctrl-C pressed twice ends a training in the middle of anything."""
    x, y = blobs()
    net = network()
    saved = {}

    def press_twice(event, trainer):
        if event == "row":
            saved["last"] = net.parameters.flat.copy()
        if event == "chunk" and len(trainer.history.rows) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(net, epochs=9, callbacks=[Recorder(press_twice)]).fit(x, y)
    np.testing.assert_array_equal(net.parameters.flat, saved["last"])


def test_a_divergence_with_finite_weights_takes_them_back_too():
    x, y = np.ones((4, 1)), np.array([0.0, 0.0, 0.0, 1e30])
    net = xpnet.MLP((1, 1), output="linear")
    before = net.parameters.flat.copy()
    with pytest.raises(xpnet.DivergenceError):
        Trainer(net, optimizer=xpnet.SGD(1e-25), batch_size="all", epochs=3).fit(x, y)
    np.testing.assert_array_equal(net.parameters.flat, before)


def test_a_training_that_is_stopped_on_the_way_has_a_row_for_what_is_kept():
    x, y = blobs(200)
    trainer = Trainer(network(), batch_size=1, epochs=3, monitor="val_loss", final_weights="last")
    trainer.callbacks = [Recorder(lambda event, t: t.stop("enough") if event == "chunk" else None)]
    original = trainer.prepare

    def in_small_chunks(samples, validation=None):
        training = original(samples, validation)
        training.chunk = 30
        return training

    trainer.prepare = in_small_chunks
    history = trainer.fit(x, y, validation=(x, y))
    assert [row.step for row in history.rows] == [30]
    assert history.best is history.rows[0]
    assert trainer.evaluate(x, y)["loss"] == pytest.approx(history.rows[0].val_loss)


def test_large_values_with_small_differences_survive_standardizing():
    rng = np.random.default_rng(0)
    y = np.arange(200) % 2
    x = 1e9 + 100 * rng.normal(size=(200, 3)) + 400 * y[:, None]
    net = xpnet.MLP((3, 8, 2))
    net.transform = xpnet.data.transform.fit_transform(x, standardize=True)
    trainer = Trainer(net, epochs=30)
    trainer.fit(x, y)
    assert (net.predict(x) == y).mean() > 0.95
    assert net.predict(x[:5].astype(int)).shape == (5,)


def test_values_beyond_the_precision_are_told():
    x, y = blobs(9)
    x[2, 1] = 1e300
    with pytest.raises(xpnet.DataError, match="row 2, column 1, too large for float32"):
        Trainer(network()).fit(x, y)


def test_predictions_are_decided_as_accuracy_is():
    """Two sigmoids that both round to 1 are not equal."""
    net = xpnet.MLP((3, 3), output="sigmoid", init="zeros")
    for i in range(3):
        net.parameters.w[0][i, i] = 1
    net.task, net.classes = "classification", ("a", "b", "c")
    x = [[18.0, 40.0, 0.0]]
    assert net.predict(x).tolist() == ["b"]
    assert Trainer(net).evaluate(x, ["b"])["accuracy"] == 1


@pytest.mark.parametrize(
    ("y", "kind"),
    [([3, 5, 9] * 10, "i"), (["x", "y", "z"] * 10, "U"), (np.array([3, 5, 9] * 10, dtype=np.uint8), "i")],
)
def test_predictions_are_labels_as_they_were_given(y, kind, tmp_path):
    x, _ = blobs(30)
    net = network()
    Trainer(net, epochs=60, batch_size=10, optimizer=xpnet.Adam(0.05)).fit(x, y)
    for model in (net, xpnet.load(xpnet.save(net, tmp_path / "m.safetensors"))):
        predicted = model.predict(x)
        assert predicted.dtype.kind == kind
        assert (predicted == np.asarray(y)).mean() > 0.9


@pytest.mark.parametrize("y", [np.random.default_rng(0).normal(size=(9, 3)), np.full((9, 3), 0.4)])
def test_floats_that_are_no_probabilities_are_refused_by_softmax(y):
    with pytest.raises(xpnet.DataError, match="no probabilities"):
        Trainer(network()).fit(blobs(9)[0], y)


def test_a_part_without_any_weight_is_refused():
    x, y = blobs(30)
    weights = np.ones(30)
    weights[20:] = 0
    whole = Samples.of(x, y.astype(np.int32), weights)
    with pytest.raises(xpnet.DataError, match="only zeros in the validation set"):
        Trainer(network()).train(whole.first(20), replace(whole, rows=np.arange(20, 30)))


def test_a_validation_set_may_be_a_list_and_must_be_a_set_or_a_size():
    x, y = blobs(30)
    assert Trainer(network(), epochs=1).fit(x, y, validation=[x, y]).rows[0].val_loss is not None
    with pytest.raises(xpnet.XpnetError, match="validation: got some"):
        Trainer(network()).fit(x, y, validation="some")


def test_an_optimizer_can_be_named():
    assert Trainer(network(), optimizer="adamw").optimizer == xpnet.AdamW()
    with pytest.raises(xpnet.XpnetError, match="lion"):
        Trainer(network(), optimizer="lion")


def test_only_a_penalty_that_is_minimised_is_part_of_the_loss():
    x, y = np.random.default_rng(0).normal(size=(40, 5)), np.arange(40) % 3
    losses = {}
    for optimizer in (xpnet.Adam(1e-9), xpnet.AdamW(1e-9)):
        trainer = xpnet.Trainer(xpnet.MLP((5, 4, 3)), optimizer=optimizer, l2=2.0, epochs=1)
        history = trainer.fit(x, y)
        losses[type(optimizer)] = history.rows[-1].train_loss
        squares = float((trainer.network.parameters.weights**2).sum())
        assert trainer.penalty() == pytest.approx(0 if optimizer.decouples_decay else squares)
        assert history.initial_loss == pytest.approx(history.step_losses[0] + trainer.penalty(), rel=1e-5)
    assert losses[xpnet.Adam] == pytest.approx(losses[xpnet.AdamW] + squares, rel=1e-5)
