"""Numbers that nobody should train on, by the ways that people have in: right, or a sentence; never a silent NaN."""

import itertools
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from scipy.sparse import csr_array, random_array
from sklearn.exceptions import ConvergenceWarning

import xpnet
from xpnet import MLP, MLPClassifier, MLPRegressor, Trainer
from xpnet.data.transform import fit_transform
from xpnet.errors import DataError, XpnetError
from xpnet.train import main

DEVICES = ["cpu", "numpy"]
FLOAT32, FLOAT64 = (float(np.finfo(kind).max) for kind in ("float32", "float64"))
ROWS = 48

each_device = pytest.mark.parametrize("device", DEVICES)

RNG = np.random.default_rng(20)
X = RNG.normal(size=(ROWS, 4))
CLASSES = (X[:, 0] + X[:, 2] > 0).astype(int)
NUMBERS = X @ np.array([1, -2, 0.5, 0])


def with_column(value: float) -> np.ndarray:
    x = X.copy()
    x[:, 1] = value
    return x


# The command

SIZES = (1e30, 1e-30, 1e200, 1e-200, 1e19, 1e10, FLOAT32 / 10, FLOAT64 / 10, 1e-42, 1e-310)

DATA: dict[str, tuple[np.ndarray, np.ndarray]] = {
    **{
        f"a column of {v:g}": (with_column(v), CLASSES)
        for v in (7.1, 1e30, 1e-30, FLOAT32, 0.0, -0.0, 1e-42, 5e-324, FLOAT64)
    },
    **{f"samples of {size:g}": (X * size, CLASSES) for size in SIZES},
    **{f"targets of {size:g}": (X, NUMBERS * size) for size in SIZES},
    "samples of 0": (X * 0, CLASSES),
    "samples of all scales": (X * [1e30, 1e-30, 1, 1e5], CLASSES),
    "samples of all scales in float32": ((X * [1e30, 1e-30, 1, 1e5]).astype("f"), CLASSES),
    "samples of all scales there are": (X * [1e200, 1e-200, 1, 1e5], CLASSES),
    "one sample of 1e200": (np.where(np.arange(ROWS)[:, None] == 0, 1e200, X), CLASSES),
    "samples at both ends": (np.where(np.arange(ROWS)[:, None] % 2, FLOAT64, -FLOAT64) * np.ones(4), CLASSES),
    "whole numbers beyond int32": ((np.clip(X, -1.9, 1.9) * 2**62).astype(np.int64), CLASSES),
    "unsigned numbers beyond int64": ((np.clip(abs(X), 0, 3.9) * 2**62).astype(np.uint64), CLASSES),
    "half precision": (X.astype(np.float16), CLASSES),
    "truths": (X > 0, CLASSES),
    "equal targets": (X, NUMBERS * 0 + 3),
    "targets of 0": (X, NUMBERS * 0),
    "targets of two scales": (X, np.stack([NUMBERS, NUMBERS * 1e30], axis=1)),
    "one sample": (X[:1], NUMBERS[:1]),
    "one sample of a class": (X[:1], CLASSES[:1]),
    "one class": (X, CLASSES * 0),
    "a sample a class": (X[:6], np.arange(6)),
    "two samples": (X[:2], np.array([0, 1])),
    "the same two samples": (np.repeat(X[:2], ROWS // 2, axis=0), np.repeat([0, 1], ROWS // 2)),
    "one sample in two classes": (np.repeat(X[:1], ROWS, axis=0), CLASSES),
}
OPTIONS = [
    ("--standardize",),
    ("--center",),
    ("--normalization", "batch"),
    ("--normalization", "layer"),
    ("--clip-norm", 1),
    ("--optimizer", "sgd", "--max-norm", 1),
    ("--dtype", "float64"),
    ("--dtype", "float64", "--standardize"),
    ("--dtype", "float64", "--normalization", "batch"),
    ("--normalization", "batch", "--batch-size", 1),
    ("--normalization", "batch", "--batch-size", 5, "--val-size", 1),
    ("--loss", "mae"),
    ("--loss", "huber"),
    ("--early-stopping", 2, "--activation", "gelu"),
    ("--activation", "silu"),
    ("--activation", "softplus", "--optimizer", "sgd", "--clip-norm", 1),
    ("--optimizer", "adagrad"),
    ("--scale", 1e-30),
]
ALL = list(itertools.product(DATA, OPTIONS))
FEW = ALL[::11]  # all data and all options, if not all pairs
assert {data for data, _ in FEW} == set(DATA)
assert {options for _, options in FEW} == set(OPTIONS)


@pytest.fixture
def command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Train on arrays by the command, in this process, where warnings are errors; checks all that must hold always."""
    monkeypatch.chdir(tmp_path)
    runs = itertools.count()

    def run(x: np.ndarray, y: np.ndarray, *options: object) -> tuple[int, dict[str, Any]]:
        out = tmp_path / f"run{next(runs)}"
        np.savez(tmp_path / "data.npz", X=x, y=y)
        given = ["--data", "data.npz", "--out", out, "--hidden", 8, 6, "--no-plot", "--no-report", "--quiet", "--json"]
        for name, usual in (("--batch-size", 16), ("--epochs", 3)):
            given += [name, usual] * (name not in options)
        capsys.readouterr()
        status = main([str(option) for option in (*given, *options)])
        printed, told = capsys.readouterr()
        assert status in (0, 2, 3), told
        assert re.fullmatch("" if status == 0 else r"xpnet: .+\n", told), told
        model = out / "model.safetensors"
        assert model.exists() == (status != 2)
        if model.exists():
            for name, array in safetensors.numpy.load_file(model).items():
                assert np.isfinite(array).all(), name
        return status, json.loads(printed.splitlines()[-1]) if printed else {}

    return run


def assert_sound(command: Callable[..., Any], data: str, options: tuple[object, ...], device: str) -> None:
    x, y = DATA[data]
    status, result = command(x, y, "--device", device, *options)
    if status == 0:
        assert result["initial_loss"] is not None
        assert result["train_loss"] is not None
        if "val_loss" in result and result["val_loss"] is None:
            assert len(x) < 4, "the validation loss is not finite"


@each_device
@pytest.mark.parametrize(("data", "options"), FEW, ids=str)
def test_the_command_is_right_or_says_why_not(command, data, options, device):
    assert_sound(command, data, options, device)


@pytest.mark.slow
@each_device
def test_the_command_is_right_or_says_why_not_for_all_pairs(command, device):
    for data, options in itertools.product(DATA, ((), *OPTIONS)):
        print("pair:", data, *options)
        assert_sound(command, data, options, device)


LEARNABLE = {
    "a column of 1e+30": ("--standardize",),
    "a column of 4.94066e-324": ("--standardize",),
    f"a column of {FLOAT64:g}": ("--standardize",),
    "a column of 7.1": ("--normalization", "layer"),
    "samples of 1e+200": ("--standardize",),
    "samples of 1e-200": ("--standardize",),
    f"samples of {FLOAT64 / 10:g}": ("--standardize",),
    "samples of all scales there are": ("--standardize",),
    "whole numbers beyond int32": ("--standardize",),
    "samples of 1e+30": ("--scale", 1e-30),
    "samples of 1e-30": ("--scale", 1e30),
    "half precision": (),
}


@each_device
@pytest.mark.parametrize("data", LEARNABLE)
def test_what_can_be_learnt_is_learnt_whatever_its_size(command, data, device):
    x, y = DATA[data]
    more = ("--epochs", 40, "--optimizer", "adam", "--lr", 0.03, "--val-size", 0, "--device", device)
    status, result = command(x, y, *more, *LEARNABLE[data])
    assert status == 0
    assert result["train_accuracy"] > 0.9


@each_device
def test_a_running_variance_that_overflows_is_told_of(command, device):
    """It was inf less inf, which no loss of a training batch showed."""
    assert command(X * 1e30, CLASSES, "--normalization", "batch", "--device", device)[0] == 3


def test_targets_beyond_float32_are_refused_and_float64_takes_them(command, capsys):
    assert command(X, NUMBERS * 1e200)[0] == 2
    with pytest.raises(DataError, match=r"^y holds \S+ in row 0, column 0, too large for float32: use float64, or"):
        Trainer(MLP([4, 3, 1], output="linear")).fit(X, NUMBERS * 1e200)
    assert command(X, NUMBERS * 1e60, "--dtype", "float64")[0] == 0


# Standardizing and centring


def test_columns_of_every_size_are_standardized():
    rng = np.random.default_rng(21)
    x = rng.normal(size=(5000, 8))
    sizes = [1, 1e200, 1e-200, 1e-307, FLOAT64 / 5, 1e100, 1, 1]
    x = x * sizes + [0, 0, 0, 0, 0, 1e105, 1e6, -1e-3]
    transformed = fit_transform(x, standardize=True).apply(x, np.dtype("float64"))
    np.testing.assert_allclose(transformed.mean(axis=0), np.zeros(8), atol=1e-8)
    np.testing.assert_allclose(transformed.std(axis=0), np.ones(8), rtol=1e-9)


@pytest.mark.parametrize("value", [0.1, -1e300, FLOAT64, 1e-310, 5e-324, 0.0, 1 / 3])
@pytest.mark.parametrize("rows", [1, 3, 48, 5000])
def test_a_constant_column_becomes_0_however_its_mean_is_rounded(rows, value):
    """0.1 was 1.4e-17 off its mean: a "deviation" by which another value would have been divided."""
    x = np.full((rows, 2), value)
    for options in ({"standardize": True}, {"center": True}):
        transform = fit_transform(x, **options)
        assert not transform.apply(x, np.dtype("float64")).any()
        assert np.isfinite(transform.apply(np.ones((1, 2)), np.dtype("float64"))).all()
        assert np.abs(transform.apply(np.ones((1, 2)), np.dtype("float64"))).max() <= 2 + abs(value)


def test_denormal_columns_count_as_constant():
    x = X * 1e-310
    assert np.abs(fit_transform(x, standardize=True).apply(x, np.dtype("float64"))).max() < 1e-300


@each_device
@pytest.mark.parametrize("size", [1e300, 1e-300, 1e30])
def test_sparse_samples_of_every_size_are_standardized(size, device):
    x = random_array((ROWS, 400), density=0.01, rng=np.random.default_rng(22), format="csr")
    losses = []
    for samples in (x, csr_array(x * size)):
        network = MLP([400, 8, 2], device=device)
        network.transform = fit_transform(samples, standardize=True)
        losses.append(Trainer(network, epochs=2, batch_size=16).fit(samples, CLASSES).step_losses)
    np.testing.assert_allclose(*losses, rtol=1e-4)


@each_device
def test_sparse_samples_beyond_float32_are_refused(device):
    x = random_array((ROWS, 400), density=0.01, rng=np.random.default_rng(22), format="csr") * 1e200
    with pytest.raises(DataError, match="too large for float32 after scaling"):
        Trainer(MLP([400, 8, 2], device=device)).fit(csr_array(x), CLASSES)


@each_device
@pytest.mark.parametrize("center", [False, True])
def test_a_scale_that_float32_does_not_hold_is_refused(center, device):
    x = np.arange(ROWS * 4).reshape(ROWS, 4).astype(np.uint8)
    network = MLP([4, 3, 2], device=device)
    network.transform = fit_transform(x, scale=1e40, center=center)
    with pytest.raises(DataError, match="too large for float32"):
        Trainer(network).fit(x, CLASSES)


# Labels

TAKEN = {
    "beyond int53": CLASSES + 2**60,
    "unsigned": CLASSES.astype(np.uint64) + np.uint64(2**63),
    "negative": -CLASSES,
    "a byte": CLASSES.astype(np.int8),
    "truths": CLASSES > 0,
    "text": np.array(["no", "yes"])[CLASSES],
    "bytes": np.array([b"no", b"yes"])[CLASSES],
    "objects": CLASSES.astype(object),
    "true objects": (CLASSES > 0).astype(object),
    "text objects": np.array(["no", "yes"], object)[CLASSES],
    "a column": CLASSES[:, None],
}


@each_device
@pytest.mark.parametrize("kind", TAKEN)
def test_labels_come_back_as_they_went_in(kind, device):
    y = TAKEN[kind]
    network = MLP([4, 8, 2], device=device)
    Trainer(network, epochs=60, optimizer=xpnet.Adam(0.03)).fit(X, y)
    predicted, expected = network.predict(X), y.astype(str) if y.dtype.kind == "S" else y
    assert (predicted == expected.reshape(-1)).mean() > 0.9
    assert set(predicted.tolist()) == set(expected.reshape(-1).tolist())


REFUSED = {
    "dates": (CLASSES.astype("datetime64[s]"), r"datetime64\[s\]"),
    "spans of time": (CLASSES.astype("timedelta64[s]"), r"timedelta64\[s\]"),
    "complex": (CLASSES + 1j, "complex"),
    "nothing": ([None] * ROWS, "None"),
    "text beside numbers": ([1, "a"] * (ROWS // 2), "text"),
    "numbers beyond int64": ([2**70 + int(v) for v in CLASSES], "object"),
    "records": (np.zeros(ROWS, [("a", int)]), r"\('a'"),
    "NaN": (np.where(CLASSES > 0, np.nan, 1.0), "nan in row"),
    "longer floats": (NUMBERS.astype(np.longdouble) * np.longdouble(10) ** 4000, "inf in row"),
    "one class": (CLASSES * 0, "single class 0"),
    "too few": (CLASSES[:5], "5 rows but there are 48"),
}
if np.finfo(np.longdouble).max == FLOAT64:  # where there are none
    del REFUSED["longer floats"]


@pytest.mark.parametrize("kind", REFUSED)
def test_labels_that_are_none_are_refused_by_a_sentence(kind):
    y, told = REFUSED[kind]
    with pytest.raises(DataError, match=told) as raised:
        Trainer(MLP([4, 8, 2])).fit(X, y)
    assert "\n" not in str(raised.value)


@each_device
def test_whole_floats_are_numbers(device):
    network = MLP([4, 8, 1], output="linear", device=device)
    Trainer(network, epochs=2).fit(X, CLASSES.astype(float))
    assert network.task == "regression"


@each_device
def test_classes_that_training_lacks_are_told_of_or_counted_as_wrong(device):
    three = np.arange(ROWS) % 3
    network = MLP([4, 8, 3], device=device)
    with pytest.raises(DataError, match="got 2 classes for a network with 3 outputs"):
        Trainer(network).fit(X, CLASSES, validation=(X, three))
    network.task, network.classes = "classification", (0, 1, 2)
    history = Trainer(network, epochs=3).fit(X, CLASSES, validation=(X, three))
    assert np.isfinite(history.column("val_loss")).all()
    with pytest.raises(DataError, match="label 2 in row 2, out of the known range"):
        Trainer(MLP([4, 8, 2], device=device)).fit(X, CLASSES, validation=(X, three))


@each_device
@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
def test_batches_of_one_class_and_of_one_sample_train(normalization, device):
    network = MLP([4, 8, 2], normalization=normalization, device=device)
    order = np.argsort(CLASSES)
    history = Trainer(network, batch_size=47, epochs=20).fit(X[order], CLASSES[order], validation=(X[:1], CLASSES[:1]))
    assert np.isfinite(history.step_losses).all()
    assert all(np.isfinite(network.device.to_host(array)).all() for array in network.state)
    assert np.isfinite(history.column("val_loss")).all()


# Weights of samples


def trained(weights: np.ndarray, y: np.ndarray, device: str, dtype: str) -> tuple[np.ndarray, np.ndarray]:
    """The weights of the network and the losses of its steps."""
    classes = y.dtype.kind == "i"
    network = MLP([4, 8, 2 if classes else 1], output="softmax" if classes else "linear", device=device, dtype=dtype)
    history = Trainer(network, epochs=3, batch_size=16, optimizer="sgd").fit(X, y, sample_weight=weights)
    return network.device.to_host(network.parameters.flat), history.step_losses


@each_device
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("exponent", [-1070, -1000, -200, -40, 40, 100, 200, 1000])
@pytest.mark.parametrize("y", [CLASSES, NUMBERS], ids=["classes", "numbers"])
def test_only_the_proportions_of_sample_weights_count(y, exponent, dtype, device):
    """1e-300 was 0 in float32: nothing was learnt, at a loss of 0."""
    weights = 2.0 ** np.random.default_rng(23).integers(-3, 0, ROWS)
    expected, actual = (trained(w, y, device, dtype) for w in (weights, np.ldexp(weights, exponent)))
    for a, e in zip(actual, expected, strict=True):
        np.testing.assert_array_equal(a, e)


@each_device
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("heavy", [1e30, 1e300, FLOAT64])
def test_one_heavy_sample_outweighs_all_others(heavy, dtype, device):
    weights = np.ones(ROWS)
    weights[3] = heavy
    network = MLP([4, 8, 1], output="linear", device=device, dtype=dtype)
    Trainer(network, epochs=200, batch_size="all", optimizer="sgd").fit(X, NUMBERS + 5, sample_weight=weights)
    assert network.predict(X[3:4])[0] == pytest.approx(NUMBERS[3] + 5, rel=1e-3)


@pytest.mark.parametrize(
    "weights",
    [-np.ones(ROWS), np.zeros(ROWS), np.full(ROWS, np.nan), np.full(ROWS, np.inf), np.ones(5), ["a"] * ROWS, [None]],
    ids=["negative", "nothing", "NaN", "infinite", "few", "text", "none"],
)
def test_weights_that_are_none_are_refused_by_a_sentence(weights):
    with pytest.raises(DataError, match=r"^sample_weight .* 48 ") as raised:
        Trainer(MLP([4, 8, 2])).fit(X, CLASSES, sample_weight=weights)
    assert "\n" not in str(raised.value)


# Predictions


@each_device
def test_predictions_are_numbers_or_refused(device):
    """A layer whose sums overflow in both directions has no outputs, only NaN."""
    network = MLP([4, 8, 8, 2], device=device)
    Trainer(network, epochs=2).fit(X, CLASSES)
    assert np.isfinite(network.predict_proba(X * 1e30)).all()
    far = np.where(X > 0, FLOAT32, -FLOAT32)
    for predict in (network.predict, network.predict_proba):
        with pytest.raises(DataError, match=r"^X: got numbers in row \d+ for which the network's output is nan"):
            predict(far)
        with pytest.raises(DataError, match="too large for float32"):
            predict(X * 1e300)


@each_device
@pytest.mark.parametrize("options", [{}, {"early_stopping": 2}], ids=["", "early stopping"])
def test_a_validation_loss_that_is_nan_is_told_of(options, device):
    far = np.where(X > 0, FLOAT32, -FLOAT32)
    network = MLP([4, 8, 8, 2], device=device)
    with pytest.raises(XpnetError, match="validation"):
        Trainer(network, epochs=6, **options).fit(X, CLASSES, validation=(far, CLASSES))


# What the trainer's own numbers may be


@each_device
@pytest.mark.parametrize(
    "options",
    [
        {"clip_norm": 1e300},
        {"clip_norm": 1e-300},
        {"max_norm": 1e300},
        {"max_norm": 1e-300},
        {"l2": 1e300},
        {"optimizer": xpnet.Adam(lr=1e300)},
        {"optimizer": xpnet.SGD(lr=1e-300)},
        {"optimizer": xpnet.Adam(eps=1e-300)},
        {"optimizer": xpnet.AdaGrad(eps=1e-300)},
        {"optimizer": xpnet.RMSProp(eps=1e300)},
    ],
    ids=str,
)
def test_settings_beyond_float32_do_no_silent_harm(options, device):
    network = MLP([4, 8, 2], device=device)
    try:
        history = Trainer(network, epochs=3, **options).fit(X, CLASSES)
    except XpnetError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either is right
    else:
        assert np.isfinite(history.step_losses).all()
    assert all(np.isfinite(network.device.to_host(array)).all() for array in network.state)


@each_device
@pytest.mark.parametrize("delta", [1e300, 1e-300])
def test_huber_s_delta_may_be_anything(delta, device):
    network = MLP([4, 8, 1], output="linear", device=device)
    history = Trainer(network, loss="huber", huber_delta=delta, epochs=3).fit(X, NUMBERS)
    assert np.isfinite(history.step_losses).all()


@each_device
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_gradient_whose_squares_overflow_is_clipped_and_not_dropped(dtype, device):
    size = 1e25 if dtype == "float32" else 1e200
    network = MLP([4, 2], device=device, dtype=dtype)
    before = network.device.to_host(network.parameters.flat)
    Trainer(network, optimizer="sgd", clip_norm=1.0, batch_size="all", steps=1).fit(X * size, CLASSES)
    moved = network.device.to_host(network.parameters.flat).astype(float) - before
    assert np.linalg.norm(moved) == pytest.approx(0.1, rel=1e-3)  # the learning rate times the bound


@each_device
def test_weights_that_become_denormal_stay_right(device):
    network = MLP([4, 8, 2], device=device)
    history = Trainer(network, optimizer=xpnet.SGD(0.5), l2=1.99, batch_size="all", steps=300).fit(X * 1e-30, CLASSES)
    assert np.isfinite(history.step_losses).all()
    first = np.abs(network.device.to_host(network.parameters.w[0]))
    assert 0 < first.max() < np.finfo(np.float32).tiny
    share = CLASSES.mean()
    expected = -share * np.log(share) - (1 - share) * np.log(1 - share)
    assert history.step_losses[-1] == pytest.approx(expected, rel=1e-3)


# The estimators

ESTIMATORS = {
    "adam": {},
    "sgd": {"solver": "sgd"},
    "lbfgs": {"solver": "lbfgs"},
    "batch": {"normalization": "batch"},
    "layer": {"normalization": "layer"},
    "clipped": {"solver": "sgd", "clip_norm": 1.0},
    "stopping": {"early_stopping": True},
}


def assert_finite_or_told(estimator: Any, x: np.ndarray, y: np.ndarray, **more: Any) -> None:
    try:
        estimator.fit(x, y, **more)
    except ValueError as error:
        assert "\n" not in str(error)  # noqa: PT017 - either is right
        return
    assert all(np.isfinite(array).all() for array in estimator.coefs_ + estimator.intercepts_)
    outputs = estimator.predict_proba(x) if hasattr(estimator, "predict_proba") else estimator.predict(x)
    assert np.isfinite(outputs).all()


def estimator(kind: Any, device: str, **options: Any) -> Any:
    return kind((8,), max_iter=3, batch_size=16, random_state=0, device=device, **options)


@pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.{ConvergenceWarning.__name__}")
@each_device
@pytest.mark.parametrize("how", ESTIMATORS)
def test_estimators_are_right_or_say_why_not(how, device):
    for size, dtype in (
        (1e30, "f"),
        (1e-30, "f"),
        (1e-42, "f"),
        (1e37, "f"),
        (1e150, "d"),
        (1e300, "d"),
        (1e-310, "d"),
    ):
        classifier, regressor = (estimator(kind, device, **ESTIMATORS[how]) for kind in (MLPClassifier, MLPRegressor))
        assert_finite_or_told(classifier, (X * size).astype(dtype), CLASSES)
        assert_finite_or_told(regressor, X.astype(dtype), NUMBERS * size)


@pytest.mark.filterwarnings(f"ignore::{ConvergenceWarning.__module__}.{ConvergenceWarning.__name__}")
@each_device
@pytest.mark.parametrize("weight", [5e-324, 1e-300, 1e300, FLOAT64, -1.0])
def test_estimators_take_weights_of_every_size_or_say_why_not(weight, device):
    for dtype in "fd":
        for kind, y in ((MLPClassifier, CLASSES), (MLPRegressor, NUMBERS)):
            assert_finite_or_told(estimator(kind, device), X.astype(dtype), y, sample_weight=np.full(ROWS, weight))
