"""Dropout, normalization, smoothed labels and bounded weights, as the trainer makes use of them."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import Trainer
from xpnet.data.batches import Batches
from xpnet.data.samples import Samples
from xpnet.kernels.normalization import EPS

STILL = xpnet.SGD(1e-300)
"""Steps that change nothing."""

DEVICES = ["numpy", "cpu"]

REGULARIZED = {
    "dropout": ({}, {"dropout": 0.3}),
    "dropout of one layer": ({}, {"dropout": (0.0, 0.4)}),
    "dropout of other activations": ({"activations": ["gelu", "tanh"]}, {"dropout": (0.2, 0.4)}),
    "batch norm": ({"normalization": "batch"}, {}),
    "layer norm": ({"normalization": "layer"}, {}),
    "batch norm and dropout": ({"normalization": "batch"}, {"dropout": 0.2}),
    "layer norm and dropout": ({"normalization": "layer", "activations": "silu"}, {"dropout": 0.2}),
    "smoothed labels": ({}, {"label_smoothing": 0.1}),
    "bounded weights": ({}, {"max_norm": 0.8}),
    "all": (
        {"normalization": "batch"},
        {"dropout": 0.2, "label_smoothing": 0.1, "max_norm": 2.0, "l2": 1e-3, "clip_norm": 1.0},
    ),
}


def blobs(rows: int = 90, *, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Points around three centres."""
    rng = np.random.default_rng(seed)
    y = np.arange(rows) % 3
    return 3 * np.eye(3, 4)[y] + rng.normal(size=(rows, 4)), y


def network(sizes=(4, 8, 8, 3), **options) -> xpnet.MLP:
    return xpnet.MLP(sizes, **{"dtype": "float64", "seed": 1, **options})


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def log_loss(z: np.ndarray, t: np.ndarray) -> float:
    return float(-(t * np.log(softmax(z))).sum(axis=1).mean())


def by_hand(net: xpnet.MLP, x: np.ndarray) -> np.ndarray:
    """The last pre-activations of a network of relus, as it predicts."""
    p, h = net.parameters, x
    for i in range(len(p.w) - 1):
        z = h @ p.w[i]
        if net.normalization == "batch":
            z = (z - net.statistics.mean[i]) / np.sqrt(net.statistics.variance[i] + EPS)
        elif net.normalization == "layer":
            z = (z - z.mean(axis=1, keepdims=True)) / np.sqrt(z.var(axis=1, keepdims=True) + EPS)
        h = np.maximum(z * (p.gains[i] if p.gains else 1) + p.b[i], 0)
    return h @ p.w[-1] + p.b[-1]


def arrays(net: xpnet.MLP) -> list[np.ndarray]:
    return [net.device.to_host(array) for array in net.state]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", REGULARIZED)
def test_digits_are_learnt(name, device):
    build, options = REGULARIZED[name]
    digits = xpnet.data.load("digits")
    net = xpnet.MLP((64, 60, 40, 10), **{"device": device, **build})
    net.transform = xpnet.data.InputTransform(scale=digits.scale)
    trainer = Trainer(net, optimizer=xpnet.Adam(0.005), epochs=8, **options)
    history = trainer.fit(digits.x, digits.y, validation=0.1)
    scores = trainer.evaluate(digits.x_test, digits.y_test)
    assert scores["accuracy"] > 0.93
    assert history.rows[-1].train_loss < 0.5 * history.initial_loss
    assert (net.predict(digits.x_test) == digits.y_test).mean() == pytest.approx(scores["accuracy"])


@pytest.mark.parametrize("name", REGULARIZED)
@pytest.mark.parametrize("optimizer", [xpnet.SGD(0.1), xpnet.Adam(0.01)], ids=["sgd", "adam"])
def test_both_devices_of_the_cpu_agree(name, optimizer):
    (build, options), (x, y) = REGULARIZED[name], blobs(50)
    states, losses, validations = [], [], []
    for device in DEVICES:
        net = network(device=device, **build)
        history = Trainer(net, optimizer=optimizer, batch_size=7, epochs=3, final_weights="last", **options).fit(
            x, y, validation=(x[:20], y[:20])
        )
        states.append(arrays(net))
        losses.append(history.step_losses)
        validations.append(history.column("val_loss"))
    np.testing.assert_allclose(*losses, rtol=1e-9)
    np.testing.assert_allclose(*validations, rtol=1e-9)
    for one, other in zip(*states, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-7, atol=1e-10)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", REGULARIZED)
def test_the_same_seed_gives_the_same_bits_however_steps_are_cut_into_chunks(name, device):
    (build, options), (x, y) = REGULARIZED[name], blobs(50)

    def run(chunk):
        net = network(device=device, **build)
        net.task, net.classes = "classification", (0, 1, 2)
        trainer = Trainer(net, batch_size=8, epochs=3, seed=4, **options)
        training = trainer.prepare(Samples.of(x, y.astype(np.int32)))
        training.chunk = min(chunk, training.chunk)
        trainer.run(training)
        return [array.tobytes() for array in arrays(net)]

    assert run(1000) == run(1000) == run(2)


# Dropout


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("build", [{}, {"normalization": "batch"}, {"normalization": "layer"}], ids=str)
def test_evaluations_and_predictions_drop_nothing_and_use_running_statistics(build, device):
    x, y = blobs(60)
    net = network(device=device, **build)
    trainer = Trainer(net, dropout=0.5, label_smoothing=0.2, l2=0.1, batch_size=9, epochs=4, final_weights="last")
    history = trainer.fit(x, y, validation=(x[:25], y[:25]))
    z = by_hand(net, x)
    np.testing.assert_allclose(net.predict_proba(x), softmax(z), rtol=1e-9)
    expected = log_loss(z[:25], np.eye(3)[y[:25]])
    assert history.rows[-1].val_loss == pytest.approx(expected, rel=1e-9)
    assert trainer.evaluate(x[:25], y[:25])["loss"] == pytest.approx(expected, rel=1e-9)
    assert history.rows[-1].val_metric == (z[:25].argmax(axis=1) == y[:25]).mean()


def step_losses(steps=6, *, seed=0, **options) -> np.ndarray:
    """Of a network that stays as it is, on the same samples again and again."""
    x, y = blobs(60)
    trainer = Trainer(network(), optimizer=STILL, batch_size="all", steps=steps, seed=seed, **options)
    return trainer.fit(x, y).step_losses


def test_masks_differ_from_step_to_step_and_from_seed_to_seed():
    np.testing.assert_allclose(step_losses(), step_losses(seed=1)[0], rtol=1e-12)
    dropped, others = step_losses(dropout=0.5), step_losses(dropout=0.5, seed=1)
    together = np.sort(np.concatenate([dropped, others]))
    assert np.diff(together).min() > 1e-6
    np.testing.assert_array_equal(dropped, step_losses(dropout=0.5))
    np.testing.assert_allclose(dropped, step_losses(12, dropout=0.5)[:6], rtol=1e-12)


def test_the_mean_over_masks_is_what_is_predicted_without():
    """Of a network that is linear up to its loss, which is nearly linear for small outputs."""
    x, _ = blobs(60)
    net = network((4, 500, 1), activations="linear", output="linear", init="normal(0.05)")
    trainer = Trainer(net, loss="mae", optimizer=STILL, dropout=0.4, batch_size="all", steps=200)
    losses = trainer.fit(x, np.full(60, -100.0)).step_losses
    assert losses.mean() == pytest.approx(trainer.evaluate(x, np.full(60, -100.0))["loss"], abs=0.01)
    assert losses.std() > 1e-3


def masks(training) -> list[np.ndarray]:
    """The hidden units that the last step did not drop, of a training in one batch with linear activations."""
    return [h != 0 for h in training.program.workspace.batch(0, len(training.samples)).h[1:-1]]


@pytest.mark.parametrize("device", DEVICES)
def test_layers_have_masks_of_their_own_at_their_own_rates(device):
    net = network((4, 40, 40, 40, 3), activations="linear", device=device)
    net.task, net.classes = "classification", (0, 1, 2)
    x, y = blobs(300)
    trainer = Trainer(net, dropout=(0.3, 0.3, 0.0), batch_size="all", steps=1)
    training = trainer.prepare(Samples.of(x, y.astype(np.int32)))
    trainer.run(training)
    first, second, third = masks(training)
    assert third.all()
    assert [mask.mean() for mask in (first, second)] == pytest.approx([0.7, 0.7], abs=0.02)
    assert (first == second).mean() == pytest.approx(0.3**2 + 0.7**2, abs=0.02)
    for mask in (first, second):  # neither whole samples nor whole units
        assert 0.4 < mask.mean(axis=0).min() <= mask.mean(axis=0).max() < 0.9
        assert 0.3 < mask.mean(axis=1).min() <= mask.mean(axis=1).max() < 1.0


def test_a_validation_between_and_what_is_evaluated_change_no_bit():
    x, y = blobs(60)

    def run(**options):
        net = network(normalization="batch", seed=3)
        trainer = Trainer(net, dropout=0.3, batch_size=7, epochs=3, final_weights="last", **options)
        trainer.fit(x, y, validation=(x[:11], y[:11]) if options else None)
        before = [array.tobytes() for array in arrays(net)]
        trainer.evaluate(x, y)
        net.predict(x)
        assert [array.tobytes() for array in arrays(net)] == before
        return before

    assert run() == run(eval_every="2steps") == run(eval_every=2)


# Batch and layer normalization


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("rows", "batch"), [(23, 5), (21, 5), (20, 5), (7, 1), (12, 12)], ids=str)
def test_running_statistics_are_those_of_the_batches(rows, batch, device):
    x, y = blobs(rows)
    net = network((4, 6, 3), normalization="batch", device=device)
    trainer = Trainer(net, optimizer=STILL, batch_size=batch, epochs=2)
    trainer.fit(x, y)
    batches = Batches(np.arange(rows), batch, replacement=False, rng=np.random.default_rng(trainer.seeds()[0]))
    mean, variance = np.zeros(6), np.ones(6)
    for order in (batches.epoch(), batches.epoch()):
        for start in range(0, rows, batch):
            z = x[order[start : start + batch]] @ net.parameters.w[0]
            mean += 0.1 * (z.mean(axis=0) - mean)
            if len(z) > 1:  # one sample has no variance
                variance += 0.1 * (z.var(axis=0, ddof=1) - variance)
    np.testing.assert_allclose(net.statistics.mean[0], mean, rtol=1e-10)
    np.testing.assert_allclose(net.statistics.variance[0], variance, rtol=1e-10)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("normalization", ["batch", "layer"])
@pytest.mark.parametrize(("rows", "batch"), [(9, 1), (10, 3), (1025, 1024)], ids=str)
def test_batches_of_one_sample_and_partial_ones_train(normalization, rows, batch, device):
    x, y = blobs(rows)
    net = network(normalization=normalization, device=device, dtype="float32")
    history = Trainer(net, dropout=0.1, batch_size=batch, epochs=2).fit(x, y, validation=(x[:1], y[:1]))
    assert np.isfinite(history.step_losses).all()
    assert np.isfinite(history.column("val_loss")).all()
    assert all(np.isfinite(array).all() for array in arrays(net))


def test_layers_of_one_unit_and_networks_without_hidden_layers_train():
    x, y = blobs(30)
    for sizes in ((4, 1, 3), (4, 3)):
        for normalization in ("batch", "layer"):
            net = network(sizes, normalization=normalization)
            history = Trainer(net, dropout=0.2, max_norm=1.0, epochs=2).fit(x, y)
            assert np.isfinite(history.step_losses).all()


def test_early_stopping_restores_the_statistics_with_the_weights():
    x, y = blobs(60)
    net = network(normalization="batch")
    kept = []

    class Copies(xpnet.Callback):
        def on_row(self, trainer, row):
            kept.append(arrays(net))

    trainer = Trainer(
        net, optimizer=xpnet.Adam(0.05), epochs=300, early_stopping=5, monitor="val_loss", callbacks=[Copies()]
    )
    validation = x[:20], (y[:20] + 1) % 3
    losses = trainer.fit(x, y, validation=validation).column("val_loss")
    best = losses.argmin()
    assert best < len(losses) - 1
    for now, then, last in zip(arrays(net), kept[best], kept[-1], strict=True):
        np.testing.assert_array_equal(now, then)
        assert not np.array_equal(now, last)
    assert trainer.evaluate(*validation)["loss"] == pytest.approx(losses[best], rel=1e-9)


def test_a_broken_training_has_the_statistics_of_its_last_whole_row():
    x, y = blobs()
    net = network(normalization="batch")
    saved = []

    class PressTwice(xpnet.Callback):
        def on_row(self, trainer, row):
            saved[:] = arrays(net)

        def on_chunk(self, trainer):
            if len(trainer.history.rows) == 2:
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Trainer(net, epochs=9, callbacks=[PressTwice()]).fit(x, y)
    for now, then in zip(arrays(net), saved, strict=True):
        np.testing.assert_array_equal(now, then)


def test_preparing_a_training_leaves_the_statistics():
    x, y = blobs()
    net = network(normalization="batch")
    net.task, net.classes = "classification", (0, 1, 2)
    before = arrays(net)
    Trainer(net, dropout=0.5).prepare(Samples.of(x, y.astype(np.int32)))
    for now, then in zip(arrays(net), before, strict=True):
        np.testing.assert_array_equal(now, then)


# Smoothed labels


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("weights", [None, np.linspace(0.5, 2, 30)], ids=["alike", "weighted"])
def test_smoothed_labels_are_part_of_the_training_loss_alone(weights, device):
    x, y = blobs(30)
    net = network(device=device)
    trainer = Trainer(net, optimizer=STILL, label_smoothing=0.3, batch_size="all", epochs=1)
    history = trainer.fit(x, y, validation=(x, y), sample_weight=weights)
    log_p = np.log(softmax(by_hand(net, x)))
    targets = 0.7 * np.eye(3)[y] + 0.1
    losses = -(targets * log_p).sum(axis=1)
    assert history.initial_loss == pytest.approx(np.average(losses, weights=weights), rel=1e-9)
    assert history.rows[0].train_loss == history.initial_loss
    assert history.rows[0].val_loss == pytest.approx(-log_p[np.arange(30), y].mean(), rel=1e-9)
    assert trainer.loss.plain.smoothing == 0


def test_smoothed_labels_of_sigmoids_move_to_one_half():
    x, _ = blobs(30)
    y = np.arange(90).reshape(30, 3) % 2
    net = network(output="sigmoid")
    trainer = Trainer(net, optimizer=STILL, label_smoothing=0.3, batch_size="all", epochs=1)
    p, t = 1 / (1 + np.exp(-by_hand(net, x))), 0.7 * y + 0.15
    expected = -(t * np.log(p) + (1 - t) * np.log(1 - p)).mean()
    assert trainer.fit(x, y).initial_loss == pytest.approx(expected, rel=1e-9)


# Bounded weights


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("optimizer", ["sgd", "adam"])
def test_no_hidden_unit_has_larger_weights_after_any_step(optimizer, device):
    x, y = blobs()
    net = network(device=device, init="normal(1)")
    norms = []

    class Norms(xpnet.Callback):
        def on_row(self, trainer, row):
            norms.append([np.linalg.norm(w, axis=0) for w in net.parameters.w])

    trainer = Trainer(net, optimizer=optimizer, max_norm=0.9, batch_size=20, epochs=4, eval_every="1steps")
    trainer.callbacks = [Norms()]
    trainer.fit(x, y)
    assert len(norms) == 20
    hidden = np.array([[*first, *second] for first, second, _ in norms])
    assert hidden.max() <= 0.9 * (1 + 1e-12)
    assert (hidden > 0.89).any(axis=1).all(), "the bound never mattered"
    assert max(last.max() for *_, last in norms) > 0.9


@pytest.mark.parametrize("bound", [1e300, 1e-300])
def test_a_bound_beyond_the_precision_is_a_bound(bound):
    net = network(dtype="float32", init="normal(1)")
    net.parameters.w[0][:, 0] = 0
    Trainer(net, optimizer=xpnet.SGD(1e-30), max_norm=bound, epochs=1).fit(*blobs())
    norms = np.linalg.norm(net.parameters.w[0], axis=0)
    assert (norms < 1e-30).all() if bound < 1 else (norms[1:] > 0.1).all()
    assert np.isfinite(net.parameters.flat).all()


# Counts, and where errors become linear


@pytest.mark.parametrize("device", DEVICES)
def test_counts_are_learnt(device):
    rng = np.random.default_rng(0)
    x = rng.uniform(-1, 1, (400, 2))
    rate = np.exp(1 + x @ [1.0, -0.5])
    y = rng.poisson(rate).astype(float)
    net = network((2, 20, 1), output="exp", device=device)
    trainer = Trainer(net, optimizer=xpnet.Adam(0.01), epochs=30)
    trainer.fit(x, y)
    predicted = net.predict(x)
    with np.errstate(divide="ignore", invalid="ignore"):
        deviance = np.where(y > 0, y * np.log(y / predicted), 0) - y + predicted
    assert trainer.loss.name == "poisson"
    assert trainer.evaluate(x, y) == pytest.approx(
        {"loss": deviance.mean(), "mse": ((predicted - y) ** 2).mean()}, rel=1e-9
    )
    assert (predicted > 0).all()
    assert np.abs(np.log(predicted / rate)).mean() < 0.15


@pytest.mark.parametrize("delta", [0.1, 3.0])
def test_huber_is_linear_beyond_delta(delta):
    x, _ = blobs(30)
    y = np.linspace(-5, 5, 30)
    net = network((4, 5, 1), output="linear")
    trainer = Trainer(net, loss="huber", huber_delta=delta, epochs=2)
    trainer.fit(x, y)
    error = np.abs(net.predict(x) - y)
    expected = np.where(error <= delta, error**2 / 2, delta * (error - delta / 2)).mean()
    assert trainer.evaluate(x, y)["loss"] == pytest.approx(expected, rel=1e-9)


# What is refused


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"dropout": 1}, ["dropout", "got 1,", "at least 0 and below 1"]),
        ({"dropout": -0.1}, ["dropout", "-0.1"]),
        ({"dropout": float("nan")}, ["dropout", "nan"]),
        ({"dropout": "half"}, ["dropout", "half"]),
        ({"dropout": (0.5, 1.5)}, ["dropout", "1.5"]),
        ({"dropout": (0.5, 0.5, 0.5)}, ["dropout", "3 rates", "2 hidden layers", "one for all or one for each"]),
        ({"dropout": ()}, ["dropout", "0 rates"]),
        ({"max_norm": 0}, ["max_norm", "0", "positive"]),
        ({"max_norm": float("inf")}, ["max_norm", "inf", "finite"]),
        ({"label_smoothing": 1}, ["label_smoothing", "1", "below 1"]),
        ({"label_smoothing": -0.5}, ["label_smoothing", "-0.5"]),
        ({"label_smoothing": "some"}, ["label_smoothing", "some"]),
        ({"huber_delta": 0}, ["huber_delta", "0", "positive"]),
        ({"huber_delta": 2}, ["huber_delta", "2", "cross_entropy", "huber", "leave it out"]),
        ({"loss": "poisson"}, ["poisson", "softmax", "exp"]),
    ],
    ids=str,
)
def test_a_wrong_argument_is_named_with_what_is_right(options, words):
    with pytest.raises(xpnet.XpnetError) as refusal:
        Trainer(network(), **options)
    assert "\n" not in str(refusal.value)
    for word in words:
        assert word in str(refusal.value)


def test_smoothing_is_for_classes():
    with pytest.raises(xpnet.XpnetError, match=r'label_smoothing: got 0.1 with the loss "mse", expected "cross_ent'):
        Trainer(network(output="linear"), label_smoothing=0.1)


@pytest.mark.parametrize(
    ("y", "words"), [([1.0, 2.0, -3.0], ["-3", "none negative"]), ([1, 2, 3], ["classes", "counts as floats"])]
)
def test_what_are_no_counts_is_refused(y, words):
    with pytest.raises(xpnet.DataError) as refusal:
        Trainer(network((4, 1), output="exp")).fit(np.zeros((3, 4)), y)
    for word in words:
        assert word in str(refusal.value)


def test_one_rate_is_that_of_all_layers():
    assert Trainer(network(), dropout=0.25).dropout == Trainer(network(), dropout=[0.25]).dropout == (0.25, 0.25)
    assert Trainer(network(), dropout=np.array([0.1, 0.2])).dropout == (0.1, 0.2)
    assert Trainer(network((4, 3)), dropout=0.25).dropout == ()
