"""What scikit-learn's MLP lacks: each new parameter does what it says, and does nothing when it is left alone."""

from __future__ import annotations

import pickle
import re
import warnings
from typing import Any

import joblib
import numpy as np
import pytest
import scipy.special
import sklearn.neural_network
from sklearn.datasets import load_digits
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.metrics import f1_score, get_scorer, log_loss, mean_absolute_error, mean_squared_error
from sklearn.utils import compute_sample_weight

import xpnet
from xpnet import schedules
from xpnet.devices import why_no_cuda

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

_rng = np.random.RandomState(0)
ROWS, FEATURES = 120, 6
X = _rng.normal(size=(ROWS, FEATURES))
VAL_X = _rng.normal(size=(45, FEATURES))
WEIGHTS, VAL_WEIGHTS = _rng.exponential(size=ROWS), _rng.exponential(size=45)
_W = _rng.normal(size=(FEATURES, 3))
NUMBERS, VAL_NUMBERS = X @ _W + 0.5 * _rng.normal(size=(ROWS, 3)), VAL_X @ _W + 0.5 * _rng.normal(size=(45, 3))
NUMBER, VAL_NUMBER = NUMBERS[:, 0], VAL_NUMBERS[:, 0]
BIAS = np.array([0.0, 2.0, -1.0])
CLASSES, VAL_CLASSES = (NUMBERS + BIAS).argmax(axis=1), (VAL_NUMBERS + BIAS).argmax(axis=1)
BINARY = (NUMBER > 1).astype(int)
LABELS = (NUMBERS > 0).astype(int)
COUNTS = _rng.poisson(np.exp(NUMBER / 3))
NAMES = np.array(["often", "most", "rare"])

FEW = {"hidden_layer_sizes": (10, 6), "max_iter": 8, "learning_rate_init": 0.01, "batch_size": 32, "random_state": 3}
STILL = {
    "solver": "sgd",
    "momentum": 0.0,
    "learning_rate_init": 1e-300,
    "max_iter": 1,
    "batch_size": ROWS,
    "alpha": 0.0,
}
"""One step that goes nowhere: the loss that is reported is that of the initial weights."""


def classifier(**options: Any) -> xpnet.MLPClassifier:
    return xpnet.MLPClassifier(**{**FEW, **options})


def regressor(**options: Any) -> xpnet.MLPRegressor:
    return xpnet.MLPRegressor(**{**FEW, **options})


def weights_of(estimator: Any) -> np.ndarray:
    return np.concatenate([array.ravel() for array in (*estimator.coefs_, *estimator.intercepts_)])


def assert_same_weights(one: Any, other: Any, rel: float = 1e-9) -> None:
    np.testing.assert_allclose(weights_of(one), weights_of(other), rtol=rel, atol=rel)
    assert one.loss_curve_ == pytest.approx(other.loss_curve_, rel=rel)


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """500 small images to learn, 500 to be asked about."""
    x, y = load_digits(return_X_y=True)
    return x[:500] / 16, y[:500], x[500:1000] / 16, y[500:1000]


def accuracy_on(digits: Any, **options: Any) -> float:
    x, y, x_test, y_test = digits
    some = {
        "hidden_layer_sizes": (40,),
        "max_iter": 25,
        "learning_rate_init": 0.005,
        "random_state": 0,
        "batch_size": 50,
    }
    return xpnet.MLPClassifier(**{**some, **options}).fit(x, y).score(x_test, y_test)


# Weights of classes


@pytest.mark.parametrize(
    ("y", "class_weight"),
    [(CLASSES, {0: 0.2, 1: 1.5, 2: 4.0}), (BINARY, {1: 7.0}), (NAMES[CLASSES], {"rare": 5.0, "most": 0.1})],
    ids=["three", "one of two", "by name"],
)
@pytest.mark.parametrize("options", [{"solver": "adam"}, {"solver": "sgd"}, {"early_stopping": True}], ids=str)
def test_a_weight_for_each_class_is_that_weight_for_its_samples(y, class_weight, options):
    weights = compute_sample_weight(class_weight, y)
    weighted = classifier(class_weight=class_weight, **options).fit(X, y)
    assert_same_weights(weighted, classifier(**options).fit(X, y, sample_weight=weights))
    assert np.abs(weights_of(weighted) - weights_of(classifier(**options).fit(X, y))).max() > 1e-3
    both = classifier(class_weight=class_weight, **options).fit(X, y, sample_weight=WEIGHTS)
    assert_same_weights(both, classifier(**options).fit(X, y, sample_weight=weights * WEIGHTS))


@pytest.mark.parametrize("early_stopping", [False, True])
def test_balanced_weights_are_those_of_all_samples(early_stopping):
    """Also where some samples become the validation set, whose score is weighted as theirs."""
    options = {"early_stopping": early_stopping, "max_iter": 15}
    balanced = classifier(class_weight="balanced", **options).fit(X, CLASSES)
    weighted = classifier(**options).fit(X, CLASSES, sample_weight=compute_sample_weight("balanced", CLASSES))
    assert_same_weights(balanced, weighted)
    assert balanced.validation_scores_ == pytest.approx(weighted.validation_scores_)


def test_balance_helps_a_rare_class():
    y = (NUMBER.argsort().argsort() >= ROWS - 8).astype(int)
    plain, balanced = (classifier(class_weight=how, max_iter=30).fit(X, y) for how in (None, "balanced"))
    assert balanced.predict(X).sum() > plain.predict(X).sum()


def test_weights_of_classes_in_partial_fit():
    by_class = {0: 0.2, 2: 4.0}
    weighted, plain = classifier(class_weight=by_class), classifier()
    for part in np.array_split(np.arange(ROWS), 3):
        weighted.partial_fit(X[part], CLASSES[part], classes=[0, 1, 2])
        weights = compute_sample_weight(by_class, CLASSES[part])
        plain.partial_fit(X[part], CLASSES[part], sample_weight=weights, classes=[0, 1, 2])
    assert_same_weights(weighted, plain)


def test_balance_needs_all_samples():
    with pytest.raises(ValueError, match="class_weight 'balanced' is not supported for partial_fit"):
        classifier(class_weight="balanced").partial_fit(X, CLASSES, classes=[0, 1, 2])


# A validation set of one's own


def test_a_validation_set_is_measured_and_nothing_else():
    watched = classifier().fit(X, CLASSES, X_val=VAL_X, y_val=VAL_CLASSES)
    alone = classifier().fit(X, CLASSES)
    np.testing.assert_array_equal(weights_of(watched), weights_of(alone))
    assert watched.validation_scores_ is None
    assert set(alone.history_) == {"loss", "learning_rate"}
    assert set(watched.history_) == {"loss", "learning_rate", "val_loss", "val_score"}
    assert {len(column) for column in watched.history_.values()} == {watched.n_iter_}
    assert watched.history_["val_score"][-1] == pytest.approx(watched.score(VAL_X, VAL_CLASSES))
    expected = log_loss(VAL_CLASSES, watched.predict_proba(VAL_X))
    assert watched.history_["val_loss"][-1] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("y", "val_y", "half"), [(NUMBER, VAL_NUMBER, 0.5), (NUMBERS, VAL_NUMBERS, 0.5)], ids=["one", "many"]
)
def test_a_validation_set_of_numbers(y, val_y, half):
    watched = regressor().fit(X, y, X_val=VAL_X, y_val=val_y, sample_weight_val=VAL_WEIGHTS)
    assert watched.history_["val_score"][-1] == pytest.approx(watched.score(VAL_X, val_y, VAL_WEIGHTS))
    error = mean_squared_error(val_y, watched.predict(VAL_X), sample_weight=VAL_WEIGHTS)
    assert watched.history_["val_loss"][-1] == pytest.approx(half * error, rel=1e-6)


def test_the_generator_does_not_notice_a_validation_set():
    """It saves the draws of a split."""
    states = []
    for more in ({}, {"X_val": VAL_X, "y_val": VAL_CLASSES}):
        generator = np.random.RandomState(1)
        classifier(random_state=generator, early_stopping=bool(more), tol=0, max_iter=4).fit(X, CLASSES, **more)
        states.append(generator.get_state())
    for one, other in zip(*states, strict=True):
        np.testing.assert_array_equal(one, other)


def test_early_stopping_watches_it_and_trains_on_all_samples():
    options = {"early_stopping": True, "n_iter_no_change": 3, "max_iter": 60, "learning_rate_init": 0.1}
    stopped = classifier(**options).fit(X, CLASSES, X_val=VAL_X, y_val=VAL_CLASSES, sample_weight_val=VAL_WEIGHTS)
    scores = stopped.validation_scores_
    assert stopped.t_ == stopped.n_iter_ * ROWS
    assert stopped.n_iter_ == len(scores) < 60
    assert stopped.best_validation_score_ == max(scores)
    assert max(scores) == pytest.approx(stopped.score(VAL_X, VAL_CLASSES, VAL_WEIGHTS))
    assert np.argmax(scores) < len(scores) - 1, "this test wants a training that goes on after its best epoch"
    np.testing.assert_array_equal(stopped.history_["val_score"], scores)


def test_a_validation_set_as_sparse_rows_lists_and_names():
    import scipy.sparse

    dense = classifier().fit(X, NAMES[CLASSES], X_val=VAL_X, y_val=NAMES[VAL_CLASSES])
    for x_val in (scipy.sparse.csr_array(VAL_X), scipy.sparse.csc_array(VAL_X), VAL_X.tolist()):
        other = classifier().fit(X, NAMES[CLASSES], X_val=x_val, y_val=NAMES[VAL_CLASSES].tolist())
        np.testing.assert_allclose(other.history_["val_loss"], dense.history_["val_loss"], rtol=1e-9)
        np.testing.assert_allclose(other.history_["val_score"], dense.history_["val_score"], rtol=1e-9)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"X_val": VAL_X}, "y_val"),
        ({"y_val": VAL_CLASSES}, "X_val"),
        ({"X_val": VAL_X[:, :3], "y_val": VAL_CLASSES}, f"3 features.*expecting {FEATURES} features"),
        ({"X_val": VAL_X, "y_val": VAL_CLASSES[:-1]}, "inconsistent numbers of samples"),
        ({"X_val": np.where(VAL_X > 2, np.nan, VAL_X), "y_val": VAL_CLASSES}, "NaN"),
        ({"X_val": VAL_X, "y_val": VAL_CLASSES + 5}, "y_val"),
        ({"X_val": VAL_X, "y_val": VAL_CLASSES, "sample_weight_val": WEIGHTS}, "sample_weight"),
        ({"sample_weight_val": VAL_WEIGHTS}, "X_val"),
    ],
    ids=["no y", "no X", "width", "length", "nan", "unknown class", "weights", "weights alone"],
)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_bad_validation_sets_are_refused(given, words, early_stopping):
    with pytest.raises(ValueError, match=words):
        classifier(early_stopping=early_stopping).fit(X, CLASSES, **given)


# What early stopping watches

STOPPED = {"early_stopping": True, "n_iter_no_change": 4, "max_iter": 60, "learning_rate_init": 0.1, "tol": 0.0}
VAL = {"X_val": VAL_X, "y_val": VAL_CLASSES}


def test_early_stopping_on_the_loss_restores_the_least():
    stopped = classifier(scoring="loss", **STOPPED).fit(X, CLASSES, **VAL)
    losses = stopped.history_["val_loss"]
    assert losses.argmin() < len(losses) - 1
    assert len(losses) == stopped.n_iter_ < 60
    assert log_loss(VAL_CLASSES, stopped.predict_proba(VAL_X)) == pytest.approx(losses.min(), rel=1e-6)
    assert abs(stopped.best_validation_score_) == pytest.approx(losses.min())
    assert np.abs(stopped.validation_scores_) == pytest.approx(losses)


@pytest.mark.parametrize("scoring", ["f1_macro", "neg_log_loss", "roc_auc_ovr", "balanced_accuracy"])
def test_early_stopping_on_a_scorer_by_name(scoring):
    stopped = classifier(scoring=scoring, **STOPPED).fit(X, NAMES[CLASSES], X_val=VAL_X, y_val=NAMES[VAL_CLASSES])
    scores = stopped.history_["val_score"]
    np.testing.assert_array_equal(stopped.validation_scores_, scores)
    assert stopped.best_validation_score_ == max(scores)
    assert get_scorer(scoring)(stopped, VAL_X, NAMES[VAL_CLASSES]) == pytest.approx(max(scores))


def test_a_scorer_on_the_split_that_scikit_learn_draws():
    stopped = classifier(scoring="f1_macro", **STOPPED).fit(X, CLASSES)
    theirs = sklearn.neural_network.MLPClassifier(**{**FEW, **STOPPED}).fit(X, CLASSES)
    n = min(stopped.n_iter_, theirs.n_iter_)
    assert stopped.loss_curve_[:n] == pytest.approx(theirs.loss_curve_[:n], rel=1e-6)


def test_early_stopping_on_a_function():
    seen = []

    def score(estimator, x, y):
        seen.append((x.shape, set(y)))
        return -mean_absolute_error(y, estimator.predict(x))

    stopped = regressor(scoring=score, **STOPPED).fit(X, NUMBER, X_val=VAL_X, y_val=VAL_NUMBER)
    assert seen == [(VAL_X.shape, set(VAL_NUMBER))] * stopped.n_iter_
    errors = -mean_absolute_error(VAL_NUMBER, stopped.predict(VAL_X))
    assert stopped.best_validation_score_ == max(stopped.validation_scores_) == pytest.approx(errors)


def test_the_default_scores_by_name_are_the_default_scores():
    for make, y, val_y, name in (
        (classifier, CLASSES, VAL_CLASSES, "accuracy"),
        (regressor, NUMBERS, VAL_NUMBERS, "r2"),
    ):
        by_name, default = (make(scoring=s, **STOPPED).fit(X, y, X_val=VAL_X, y_val=val_y) for s in (name, None))
        assert by_name.validation_scores_ == pytest.approx(default.validation_scores_)
        assert_same_weights(by_name, default)


def test_labels_and_several_outputs_can_be_scored():
    stopped = classifier(scoring="f1_macro", **STOPPED).fit(X, LABELS)
    assert stopped.best_validation_score_ == max(stopped.validation_scores_)
    assert f1_score(LABELS, stopped.predict(X), average="macro") > 0.6


# Activations

TEXTBOOK = {
    "identity": lambda z: z,
    "logistic": scipy.special.expit,
    "tanh": np.tanh,
    "relu": lambda z: np.maximum(z, 0),
    "leaky_relu": lambda z: np.where(z > 0, z, 0.01 * z),
    "elu": lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))),
    "softplus": lambda z: np.logaddexp(z, 0),
    "gelu": lambda z: z * scipy.special.ndtr(z),
    "silu": lambda z: z * scipy.special.expit(z),
}


def by_hand(estimator: Any, activations: list[str], x: np.ndarray) -> np.ndarray:
    """The outputs before the last function, from the fitted attributes."""
    h = x
    for w, b, activation in zip(estimator.coefs_, estimator.intercepts_, [*activations, "identity"], strict=True):
        h = TEXTBOOK[activation](h @ w + b)
    return h


@pytest.mark.parametrize(
    "activation", [*TEXTBOOK, ["tanh", "relu"], ("gelu", "logistic"), ["identity", "silu"]], ids=str
)
def test_predictions_are_what_the_attributes_say(activation):
    names = [activation] * 2 if isinstance(activation, str) else list(activation)
    fitted = regressor(activation=activation).fit(X, NUMBERS)
    tolerance = 5e-3 if "gelu" in names else 1e-9  # its form by tanh
    np.testing.assert_allclose(fitted.predict(VAL_X), by_hand(fitted, names, VAL_X), rtol=tolerance, atol=tolerance)
    assert fitted.loss_ < fitted.loss_curve_[0]


@pytest.mark.parametrize("activation", ["relu", "logistic"])
def test_a_list_of_one_activation_is_that_activation(activation):
    listed, named = (classifier(activation=how).fit(X, CLASSES) for how in ([activation] * 2, activation))
    np.testing.assert_array_equal(weights_of(listed), weights_of(named))


@pytest.mark.parametrize("activation", [["relu"], ["relu"] * 3, ["relu", "step"], []])
def test_lists_that_do_not_fit_are_refused(activation):
    with pytest.raises(ValueError, match="activation"):
        classifier(activation=activation).fit(X, CLASSES)


# Dropout, normalisation, limits

REGULARIZED = [
    {"dropout": 0.2},
    {"dropout": [0.1, 0.3], "hidden_layer_sizes": (60, 40)},
    {"normalization": "batch"},
    {"normalization": "layer"},
    {"normalization": "batch", "dropout": 0.2, "hidden_layer_sizes": (60, 40)},
    {"max_norm": 0.8},
    {"clip_norm": 0.5},
    {"label_smoothing": 0.1},
    {"normalization": "layer", "dropout": 0.1, "max_norm": 2.0, "clip_norm": 1.0, "label_smoothing": 0.05},
]


@pytest.mark.parametrize("options", REGULARIZED, ids=str)
def test_digits_are_learnt_with(options, digits):
    assert accuracy_on(digits, **options) > 0.85


@pytest.mark.parametrize("options", REGULARIZED, ids=str)
def test_the_same_seed_gives_the_same_bits_and_another_gives_others(options):
    options = {"hidden_layer_sizes": (10, 6), **{k: v for k, v in options.items() if k != "hidden_layer_sizes"}}
    one, again, other = (classifier(**{**options, "random_state": seed}).fit(X, CLASSES) for seed in (0, 0, 1))
    np.testing.assert_array_equal(one.predict_proba(VAL_X), again.predict_proba(VAL_X))
    assert one.loss_curve_ == again.loss_curve_
    assert not np.array_equal(one.predict_proba(VAL_X), other.predict_proba(VAL_X))
    assert not np.array_equal(one.predict_proba(VAL_X), classifier(random_state=0).fit(X, CLASSES).predict_proba(VAL_X))


@pytest.mark.parametrize("options", REGULARIZED, ids=str)
def test_a_prediction_does_not_depend_on_the_rows_beside_it(options):
    options = {**options, "hidden_layer_sizes": (10, 6)}
    for fitted in (
        classifier(**options).fit(X, CLASSES),
        classifier(**options).partial_fit(X, CLASSES, classes=range(3)),
    ):
        whole = fitted.predict_proba(VAL_X)
        np.testing.assert_allclose(fitted.predict_proba(VAL_X[:3]), whole[:3], rtol=1e-9)
        np.testing.assert_array_equal(fitted.predict_proba(VAL_X), whole)


def test_dropout_is_off_when_it_predicts_and_measures():
    fitted = regressor(dropout=0.5).fit(X, NUMBERS, X_val=X, y_val=NUMBERS)
    np.testing.assert_allclose(fitted.predict(VAL_X), by_hand(fitted, ["relu"] * 2, VAL_X), rtol=1e-9, atol=1e-9)
    error = 0.5 * mean_squared_error(NUMBERS, fitted.predict(X))
    assert fitted.history_["val_loss"][-1] == pytest.approx(error, rel=1e-6)
    assert fitted.history_["loss"][-1] != pytest.approx(error, rel=1e-3)


def test_dropout_begins_with_the_same_weights():
    np.testing.assert_array_equal(
        weights_of(classifier(dropout=0.4, **STILL).fit(X, CLASSES)), weights_of(classifier(**STILL).fit(X, CLASSES))
    )


def test_dropout_drops_other_units_in_every_epoch():
    """Of all samples in one batch, with weights that do not move, only the masks change."""
    losses = classifier(dropout=0.5, **{**STILL, "max_iter": 4, "shuffle": False}).fit(X, CLASSES).loss_curve_
    assert len(set(losses)) == 4


def test_a_rate_for_each_layer():
    for rates, alike in (([0.0, 0.0], True), ([0.3, 0.3], False)):
        listed = classifier(dropout=rates).fit(X, CLASSES)
        named = classifier(dropout=rates[0]).fit(X, CLASSES)
        np.testing.assert_array_equal(weights_of(listed), weights_of(named))
        assert np.array_equal(weights_of(listed), weights_of(classifier().fit(X, CLASSES))) == alike
    first, second = (classifier(dropout=rates).fit(X, CLASSES) for rates in ([0.5, 0.0], [0.0, 0.5]))
    assert not np.array_equal(weights_of(first), weights_of(second))


@pytest.mark.parametrize("dropout", [[0.1], [0.1, 0.1, 0.1], [0.1, 1.5], [0.1, -0.1], [0.1, "much"]], ids=str)
def test_rates_that_do_not_fit_are_refused(dropout):
    with pytest.raises(ValueError, match="dropout"):
        classifier(dropout=dropout).fit(X, CLASSES)


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_normalisation_makes_the_scale_of_the_data_matter_less(normalization):
    """What a normalised layer puts out is the same for data a hundred times as large."""
    options = {"max_iter": 15, "learning_rate_init": 0.02, "hidden_layer_sizes": (20,)}
    normalised = regressor(normalization=normalization, **options).fit(100 * X, NUMBERS)
    assert np.isfinite(normalised.loss_curve_).all()
    assert normalised.loss_ < normalised.loss_curve_[0]


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_normalised_networks_go_on_by_partial_fit_and_warm_start(normalization):
    one = classifier(normalization=normalization, warm_start=True).fit(X, CLASSES)
    before = one.loss_
    assert one.fit(X, CLASSES).loss_ < before
    assert one.partial_fit(X, CLASSES).loss_ < before


def test_weights_into_a_unit_stay_within_max_norm():
    fitted = classifier(max_norm=0.7, learning_rate_init=0.05).fit(X, CLASSES)
    for w in fitted.coefs_[:-1]:
        norms = np.linalg.norm(w, axis=0)
        assert norms.max() <= 0.7 * (1 + 1e-9)
    free = classifier(learning_rate_init=0.05).fit(X, CLASSES)
    assert max(np.linalg.norm(w, axis=0).max() for w in free.coefs_[:-1]) > 0.7


def test_a_step_is_no_longer_than_clip_norm_allows():
    options = {**STILL, "learning_rate_init": 0.1}
    start = weights_of(regressor(**STILL).fit(X, 100 * NUMBERS))
    clipped = weights_of(regressor(clip_norm=2.0, **options).fit(X, 100 * NUMBERS)) - start
    free = weights_of(regressor(**options).fit(X, 100 * NUMBERS)) - start
    assert np.linalg.norm(clipped) == pytest.approx(0.1 * 2.0, rel=1e-4)
    np.testing.assert_allclose(clipped / np.linalg.norm(clipped), free / np.linalg.norm(free), atol=1e-6)


@pytest.mark.parametrize("y", [CLASSES, BINARY], ids=["three", "two"])
def test_label_smoothing_moves_the_targets(y):
    smoothing, classes = 0.2, len(np.unique(y))
    fitted = classifier(label_smoothing=smoothing, **STILL).fit(X, y)
    targets = (1 - smoothing) * np.eye(classes)[y] + smoothing / classes
    expected = -(targets * np.log(fitted.predict_proba(X))).sum(axis=1).mean()
    assert fitted.loss_ == pytest.approx(expected, rel=1e-9)


def test_label_smoothing_leaves_doubt():
    """Which is what it is for: the probability of a learnt class tends to 1 - s + s/K."""
    long = {"max_iter": 150, "learning_rate_init": 0.02, "n_iter_no_change": 200}
    doubting, sure = (classifier(label_smoothing=s, **long).fit(X, CLASSES).predict_proba(X) for s in (0.3, 0.0))
    assert np.median(doubting.max(axis=1)) == pytest.approx(0.8, abs=0.06)
    assert np.median(sure.max(axis=1)) > 0.97


# Losses


def huber(error: np.ndarray, delta: float) -> np.ndarray:
    size = np.abs(error)
    return np.where(size <= delta, 0.5 * error**2, delta * (size - 0.5 * delta))


@pytest.mark.parametrize(
    ("options", "loss"),
    [
        ({"loss": "huber"}, lambda error: huber(error, 1.0)),
        ({"loss": "huber", "huber_delta": 0.3}, lambda error: huber(error, 0.3)),
        ({"loss": "absolute_error"}, np.abs),
        ({"loss": "squared_error", "huber_delta": 0.1}, lambda error: 0.5 * error**2),
    ],
    ids=["huber", "huber 0.3", "absolute", "squared"],
)
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
@pytest.mark.parametrize("y", [NUMBER, NUMBERS], ids=["one", "many"])
def test_losses_are_those_of_the_textbook(y, options, loss, weights):
    fitted = regressor(**options, **STILL).fit(X, y, sample_weight=weights)
    expected = np.average(loss(fitted.predict(X) - y).reshape(ROWS, -1).mean(axis=1), weights=weights)
    assert fitted.loss_ == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("loss", ["huber", "absolute_error"])
def test_outliers_do_little_to_robust_losses(loss, solver):
    clean = X @ np.array([1.0, -2, 0.5, 0, 0, 1])
    y = clean + np.where(np.arange(ROWS) % 10 == 3, 60.0, 0.0)
    options = {"solver": solver, "max_iter": 150, "activation": "identity", "hidden_layer_sizes": (4,)}
    robust, square = (regressor(loss=name, **options).fit(X, y) for name in (loss, "squared_error"))
    errors = [np.abs(fitted.predict(X) - clean).mean() for fitted in (robust, square)]
    assert errors[0] < 0.3 * errors[1]


# Solvers and learning rates


@pytest.mark.parametrize("solver", ["adamw", "rmsprop", "adagrad"])
def test_other_solvers_learn_digits(solver, digits):
    rate = {"adagrad": 0.05}.get(solver, 0.005)
    assert accuracy_on(digits, solver=solver, learning_rate_init=rate) > 0.85


@pytest.mark.parametrize("solver", ["adamw", "rmsprop", "adagrad"])
def test_other_solvers_go_on_by_partial_fit_and_stop_early(solver):
    fitted = classifier(solver=solver, warm_start=True).fit(X, CLASSES)
    assert fitted.loss_ < fitted.loss_curve_[0]
    assert fitted.partial_fit(X, CLASSES).loss_ < fitted.loss_curve_[0]
    stopped = classifier(solver=solver, **{**STOPPED, "learning_rate_init": 0.01}).fit(X, CLASSES)
    assert stopped.best_validation_score_ == max(stopped.validation_scores_)


SCHEDULES = {
    "step": schedules.StepDecay(),
    "exponential": schedules.Exponential(),
    "cosine": schedules.Cosine(),
    "one-cycle": schedules.OneCycle(),
}


@pytest.mark.parametrize("solver", ["sgd", "adam", "adamw", "rmsprop", "adagrad"])
@pytest.mark.parametrize("named", [True, False], ids=["by name", "as an object"])
@pytest.mark.parametrize("name", list(SCHEDULES))
def test_schedules_turn_the_learning_rate(name, named, solver):
    """With all samples in a batch a step is an epoch."""
    options = {"solver": solver, "batch_size": ROWS, "max_iter": 12, "n_iter_no_change": 99}
    fitted = classifier(learning_rate=name if named else SCHEDULES[name], **options).fit(X, CLASSES)
    factors = SCHEDULES[name](np.arange(12), schedules.Span(1, 12))
    np.testing.assert_allclose(fitted.history_["learning_rate"], 0.01 * factors, rtol=1e-9)
    constant = classifier(**options).fit(X, CLASSES)
    assert not np.array_equal(weights_of(fitted), weights_of(constant))


def test_the_history_shows_scikit_learns_learning_rates_too():
    options = {"solver": "sgd", "max_iter": 6}
    assert (classifier(**options).fit(X, CLASSES).history_["learning_rate"] == 0.01).all()
    scaled = classifier(learning_rate="invscaling", power_t=0.25, **options).fit(X, CLASSES)
    expected = 0.01 / (np.arange(6) * ROWS + 1) ** 0.25
    np.testing.assert_allclose(scaled.history_["learning_rate"], expected, rtol=1e-9)
    falling = classifier(learning_rate="adaptive", n_iter_no_change=1, tol=10.0, **options).fit(X, CLASSES)
    np.testing.assert_allclose(falling.history_["learning_rate"][[0, -1]], [0.01, 0.01 / 25], rtol=1e-9)


def test_a_schedule_of_ones_own():
    halved = classifier(solver="sgd", learning_rate=schedules.WarmUp(2, schedules.Exponential(0.5))).fit(X, CLASSES)
    rates = halved.history_["learning_rate"]
    assert (np.diff(rates[2:]) < 0).all()
    assert rates[0] < 0.01


# Where and in what it computes


@pytest.mark.parametrize("options", [{"device": "numpy"}, {"n_threads": 1}, {"n_threads": 2}], ids=str)
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
def test_devices_and_threads_do_not_change_results(options, solver):
    one = classifier(solver=solver, **options).fit(X, CLASSES)
    other = classifier(solver=solver).fit(X, CLASSES)
    np.testing.assert_allclose(one.predict_proba(VAL_X), other.predict_proba(VAL_X), rtol=1e-7)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("given", [np.float32, np.float64])
def test_dtype_says_in_what_it_computes(dtype, given):
    for make, y in ((classifier, CLASSES), (regressor, NUMBERS)):
        fitted = make(dtype=dtype).fit(X.astype(given), y, X_val=VAL_X.astype(given), y_val=y[:45])
        assert {array.dtype for array in (*fitted.coefs_, *fitted.intercepts_)} == {np.dtype(dtype)}
        default = make().fit(X.astype(dtype), y)
        np.testing.assert_allclose(weights_of(fitted), weights_of(default), rtol=1e-4, atol=1e-4)
    assert regressor(dtype=dtype).fit(X.astype(given), NUMBERS).predict(VAL_X).dtype == dtype


@pytest.mark.skipif(not why_no_cuda(), reason="there is a GPU, and so nothing to miss")
def test_cuda_is_asked_for_by_name_and_missing():
    with pytest.raises(xpnet.DeviceError):
        classifier(device="cuda").fit(X, CLASSES)
    auto = classifier(device="auto").fit(X, CLASSES)
    np.testing.assert_allclose(auto.predict_proba(VAL_X), classifier().fit(X, CLASSES).predict_proba(VAL_X), rtol=1e-9)


@pytest.mark.gpu
@pytest.mark.parametrize("solver", ["sgd", "adam", "lbfgs"])
@pytest.mark.parametrize("task", ["classes", "numbers"])
def test_on_a_gpu_it_follows_scikit_learn(task, solver):
    make, y = {"classes": (classifier, CLASSES), "numbers": (regressor, NUMBERS)}[task]
    one, other = (make(solver=solver, device=device).fit(X, y) for device in ("cuda", "cpu"))
    np.testing.assert_allclose(one.predict(VAL_X), other.predict(VAL_X), rtol=1e-6, atol=1e-6)
    assert one.loss_ == pytest.approx(other.loss_, rel=1e-6)


# Classes that come later


def test_a_class_that_comes_later_is_an_error_that_says_how():
    estimator = classifier().partial_fit(X[:50], BINARY[:50], classes=[0, 1])
    with pytest.raises(ValueError, match=r"`y` has classes not in `self\.classes_`") as caught:
        estimator.partial_fit(X, CLASSES)
    assert "classes=" in str(caught.value)
    later = classifier().partial_fit(X[:50], BINARY[:50], classes=[0, 1, 2])
    for _ in range(30):
        later.partial_fit(X, CLASSES)
    assert later.score(X, CLASSES) > 0.7


# Several outputs, each with classes of its own

MANY = np.column_stack([NAMES[CLASSES], np.array(["no", "yes"])[BINARY]])
VAL_MANY = np.column_stack([NAMES[VAL_CLASSES], np.array(["no", "yes"])[(VAL_NUMBER > 1).astype(int)]])


@pytest.mark.parametrize("solver", ["adam", "sgd", "lbfgs"])
@pytest.mark.parametrize("y", [MANY, np.column_stack([CLASSES, BINARY + 3])], ids=["text", "numbers"])
def test_several_outputs(y, solver):
    fitted = classifier(solver=solver, max_iter=60, n_iter_no_change=99, alpha=1.0).fit(X, y)
    assert isinstance(fitted.classes_, list)
    for column, classes in zip(y.T, fitted.classes_, strict=True):
        np.testing.assert_array_equal(classes, np.unique(column))
    predicted, probabilities = fitted.predict(VAL_X), fitted.predict_proba(VAL_X)
    assert predicted.shape == (len(VAL_X), 2)
    assert predicted.dtype.kind == y.dtype.kind
    assert isinstance(probabilities, list)
    for column, classes, p, log_p in zip(
        predicted.T, fitted.classes_, probabilities, fitted.predict_log_proba(VAL_X), strict=True
    ):
        assert p.shape == (len(VAL_X), len(classes))
        np.testing.assert_allclose(p.sum(axis=1), 1)
        np.testing.assert_array_equal(classes[p.argmax(axis=1)], column)
        np.testing.assert_allclose(np.exp(log_p), p)
    assert fitted.score(X, y) == pytest.approx((fitted.predict(X) == y).all(axis=1).mean())
    weighted = np.average((fitted.predict(X) == y).all(axis=1), weights=WEIGHTS)
    assert fitted.score(X, y, sample_weight=WEIGHTS) == pytest.approx(weighted)
    assert fitted.score(X, y) > 0.7


def test_one_output_is_learnt_as_it_is_alone():
    """The loss of several outputs is the sum of theirs."""
    both = classifier(**STILL).fit(X, MANY)
    expected = sum(log_loss(y, p) for y, p in zip(MANY.T, both.predict_proba(X), strict=True))
    assert both.loss_ == pytest.approx(expected, rel=1e-9)


def test_several_outputs_stop_early_go_on_and_are_weighted():
    options = {"early_stopping": True, "n_iter_no_change": 4, "max_iter": 40}
    stopped = classifier(**options).fit(X, MANY, sample_weight=WEIGHTS, X_val=VAL_X, y_val=VAL_MANY)
    assert stopped.best_validation_score_ == pytest.approx(stopped.score(VAL_X, VAL_MANY))
    drawn = classifier(**options).fit(X, MANY)
    assert len(drawn.validation_scores_) == drawn.n_iter_
    again = classifier(warm_start=True).fit(X, MANY)
    before = again.loss_
    assert again.fit(X, MANY).loss_ < before
    assert again.partial_fit(X[:50], MANY[:50]).loss_ < before


def test_a_table_of_zeros_and_ones_stays_labels():
    fitted = classifier().fit(X, LABELS)
    theirs = sklearn.neural_network.MLPClassifier(**FEW).fit(X, LABELS)
    np.testing.assert_array_equal(fitted.predict(VAL_X), theirs.predict(VAL_X))
    assert isinstance(fitted.predict_proba(VAL_X), np.ndarray)


# What is told


@pytest.mark.parametrize("make", [classifier, regressor])
def test_the_history_is_the_curves_as_arrays(make):
    fitted = make(early_stopping=True).fit(X, CLASSES)
    history = fitted.history_
    assert isinstance(history, dict)
    assert all(isinstance(column, np.ndarray) and column.dtype == np.float64 for column in history.values())
    np.testing.assert_array_equal(history["loss"], fitted.loss_curve_)
    np.testing.assert_array_equal(history["val_score"], fitted.validation_scores_)
    assert {len(column) for column in history.values()} == {fitted.n_iter_}


def test_the_history_grows_where_the_loss_curve_grows():
    estimator = classifier(warm_start=True)
    for act in ("fit", "fit", "partial_fit", "partial_fit"):
        getattr(estimator, act)(X, CLASSES)
        np.testing.assert_array_equal(estimator.history_["loss"], estimator.loss_curve_)
    np.testing.assert_array_equal(
        estimator.set_params(warm_start=False).fit(X, CLASSES).history_["loss"], estimator.loss_curve_
    )
    with pytest.raises(AttributeError):
        classifier().history_  # noqa: B018 - reading it is what must fail


@pytest.mark.parametrize("early_stopping", [False, True])
def test_a_bar_can_take_the_place_of_the_lines(early_stopping, capsys, monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    told = classifier(verbose="bar", early_stopping=early_stopping).fit(X, CLASSES)
    printed = "".join(capsys.readouterr())
    assert "8/8" in printed or "100%" in printed
    assert len(printed.splitlines()) < 8
    np.testing.assert_array_equal(
        weights_of(told), weights_of(classifier(early_stopping=early_stopping).fit(X, CLASSES))
    )
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("device", ["cpu", "numpy"])
def test_divergence_is_an_error_that_says_when_and_at_which_learning_rate(device):
    estimator = regressor(solver="sgd", momentum=0.0, learning_rate_init=1e6, activation="identity", device=device)
    with pytest.raises(xpnet.DivergenceError, match=r"[Ee]poch 1\b.*learning rate.*1e\+06") as caught:
        estimator.fit(X, NUMBERS)
    assert isinstance(caught.value, ValueError)
    assert "Solver produced non-finite parameter weights" in str(caught.value)


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_the_history_up_to_divergence_is_kept(solver):
    leap = schedules.StepDecay(decay=1e200, every=3)
    estimator = regressor(solver=solver, activation="identity", learning_rate=leap, alpha=1.0)
    with pytest.raises(xpnet.DivergenceError, match=r"[Ee]poch [45]\b.*learning rate.*1e\+198"):
        estimator.fit(X, NUMBERS, X_val=VAL_X, y_val=VAL_NUMBERS)
    calm = regressor(solver=solver, activation="identity", max_iter=3, alpha=1.0).fit(X, NUMBERS)
    np.testing.assert_allclose(estimator.history_["loss"][:3], calm.history_["loss"])
    assert len(estimator.history_["val_loss"]) == len(estimator.history_["loss"])


def test_divergence_leaves_a_fitted_estimator_as_it_was_but_for_the_history():
    estimator = regressor(solver="sgd", activation="identity").fit(X, NUMBERS)
    before = estimator.predict(VAL_X)
    with pytest.raises(xpnet.DivergenceError):
        estimator.set_params(learning_rate_init=1e6).fit(X, NUMBERS)
    np.testing.assert_array_equal(estimator.predict(VAL_X), before)


# Bad values

BAD = {
    "device": ["abacus", 0, None],
    "dtype": ["float16", "int", np.float32],
    "n_threads": [0, -1, 1.5, "all"],
    "dropout": [-0.1, 1.0, 2, "much", None],
    "normalization": ["group", True],
    "max_norm": [0, -1.0, "much"],
    "clip_norm": [0, -1.0, "much"],
    "scoring": ["beauty", 3],
    "activation": ["step", 3, None],
    "solver": ["newton", None],
    "learning_rate": ["fast", 0.1],
}
BAD_OF_CLASSIFIER = {"class_weight": ["unbalanced", 3.0], "label_smoothing": [-0.1, 1.5, "much"]}
BAD_OF_REGRESSOR = {"loss": ["log_loss", "huge"], "huber_delta": [0, -1.0, "much"]}


@pytest.mark.parametrize(
    ("make", "name", "value"),
    [
        (make, name, value)
        for make, bad in ((classifier, {**BAD, **BAD_OF_CLASSIFIER}), (regressor, {**BAD, **BAD_OF_REGRESSOR}))
        for name, values in bad.items()
        for value in values
    ],
)
@pytest.mark.parametrize("act", ["fit", "partial_fit"])
def test_bad_values_are_refused_as_scikit_learn_refuses(make, name, value, act):
    estimator = make(**{name: value})
    more = {"classes": [0, 1, 2]} if act == "partial_fit" and make is classifier else {}
    with pytest.raises(ValueError, match=f"The '{name}' parameter of {type(estimator).__name__} must be") as caught:
        getattr(estimator, act)(X, CLASSES, **more)
    assert type(caught.value).__name__ == "InvalidParameterError"


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_every_parameter_is_validated(kind):
    estimator = getattr(xpnet, kind)
    assert set(estimator._parameter_constraints) >= set(estimator().get_params())


# A failed fit changes nothing


def spoilt(x: np.ndarray) -> np.ndarray:
    x = x.copy()
    x[7, 1] = np.nan
    return x


NARROW = X[:, :3]
FAILURES = {
    "bad parameter": ({"alpha": -1.0}, lambda e: e.fit(NARROW, CLASSES)),
    "bad new parameter": ({"dropout": 7}, lambda e: e.fit(NARROW, CLASSES)),
    "rates for other layers": ({"dropout": [0.1, 0.1, 0.1]}, lambda e: e.fit(NARROW, CLASSES)),
    "activations for other layers": ({"activation": ["relu"]}, lambda e: e.fit(NARROW, CLASSES)),
    "no units": ({"hidden_layer_sizes": (3, 0)}, lambda e: e.fit(NARROW, CLASSES)),
    "no such device": ({"device": "abacus"}, lambda e: e.fit(NARROW, CLASSES)),
    "nan in X": ({}, lambda e: e.fit(spoilt(NARROW), CLASSES)),
    "infinite y": ({}, lambda e: e.fit(NARROW, np.where(CLASSES > 0, np.inf, 0.0))),
    "short y": ({}, lambda e: e.fit(NARROW, CLASSES[:-1])),
    "no y": ({}, lambda e: e.fit(NARROW, None)),
    "short weights": ({}, lambda e: e.fit(NARROW, CLASSES, sample_weight=WEIGHTS[:-1])),
    "nan in weights": ({}, lambda e: e.fit(NARROW, CLASSES, sample_weight=spoilt(X)[:, 1])),
    "X_val alone": ({}, lambda e: e.fit(NARROW, CLASSES, X_val=VAL_X[:, :3])),
    "wide X_val": ({}, lambda e: e.fit(NARROW, CLASSES, X_val=VAL_X, y_val=VAL_CLASSES)),
    "nan in X_val": ({}, lambda e: e.fit(NARROW, CLASSES, X_val=spoilt(VAL_X[:, :3]), y_val=VAL_CLASSES)),
    "short y_val": ({}, lambda e: e.fit(NARROW, CLASSES, X_val=VAL_X[:, :3], y_val=VAL_CLASSES[1:])),
    "validation set too small": ({"early_stopping": True}, lambda e: e.fit(NARROW[:3], CLASSES[:3])),
    "partial_fit of another width": ({}, lambda e: e.partial_fit(NARROW, CLASSES)),
    "partial_fit of nan": ({}, lambda e: e.partial_fit(spoilt(X), CLASSES)),
    "partial_fit and early stopping": ({"early_stopping": True}, lambda e: e.partial_fit(X, CLASSES)),
    "warm start of another width": ({"warm_start": True}, lambda e: e.fit(NARROW, CLASSES)),
}
FAILURES_OF_CLASSIFIER = {
    "warm start of other classes": ({"warm_start": True}, lambda e: e.fit(X, CLASSES + 1)),
    "partial_fit of other classes": ({}, lambda e: e.partial_fit(X, CLASSES + 1)),
    "partial_fit with other classes=": ({}, lambda e: e.partial_fit(X, CLASSES, classes=[0, 1])),
    "balance in partial_fit": ({"class_weight": "balanced"}, lambda e: e.partial_fit(X, CLASSES)),
    "unknown class to validate": ({}, lambda e: e.fit(NARROW, CLASSES, X_val=VAL_X[:, :3], y_val=VAL_CLASSES + 9)),
    "numbers for classes": ({}, lambda e: e.fit(NARROW, NUMBER)),
    "one sample of a class": ({"early_stopping": True}, lambda e: e.fit(NARROW, np.arange(ROWS) == 4)),
}


@pytest.mark.parametrize(
    ("make", "change", "act"),
    [(classifier, *failure) for failure in (FAILURES | FAILURES_OF_CLASSIFIER).values()]
    + [(regressor, *failure) for failure in FAILURES.values()],
    ids=[f"classifier: {name}" for name in FAILURES | FAILURES_OF_CLASSIFIER]
    + [f"regressor: {name}" for name in FAILURES],
)
def test_a_fit_that_fails_on_its_arguments_changes_nothing(make, change, act):
    """Nothing that is kept, and nothing that training goes on from."""
    estimator = make().fit(X, CLASSES).partial_fit(X, CLASSES).set_params(**change)
    before, twin = kept(estimator), pickle.loads(pickle.dumps(estimator))
    with pytest.raises((ValueError, TypeError)):
        act(estimator)
    assert kept(estimator) == before
    for each in (estimator, twin):
        each.set_params(**make().get_params()).partial_fit(X, CLASSES)
    np.testing.assert_array_equal(weights_of(estimator), weights_of(twin))


def kept(estimator: Any) -> dict[str, str]:
    return {name: joblib.hash(value) for name, value in estimator.__getstate__().items()}


def test_an_estimator_that_was_never_fitted_stays_so_when_a_fit_fails():
    estimator = classifier()
    before = set(vars(estimator))
    with pytest.raises(ValueError, match="NaN"):
        estimator.fit(spoilt(X), CLASSES)
    assert set(vars(estimator)) == before
    with pytest.raises(NotFittedError):
        estimator.predict(X)


# To and from scikit-learn

TASKS = {
    "binary": ("MLPClassifier", {}, BINARY),
    "classes": ("MLPClassifier", {}, NAMES[CLASSES]),
    "labels": ("MLPClassifier", {}, LABELS),
    "number": ("MLPRegressor", {}, NUMBER),
    "numbers": ("MLPRegressor", {}, NUMBERS),
    "counts": ("MLPRegressor", {"loss": "poisson"}, COUNTS),
}
HOMES = {"there": (sklearn.neural_network, xpnet), "back": (xpnet, sklearn.neural_network)}


def converted(estimator: Any) -> Any:
    return estimator.to_sklearn() if type(estimator).__module__.startswith("xpnet") else xpnet.from_sklearn(estimator)


def assert_alike_in_public(one: Any, other: Any) -> None:
    shared = set(one.get_params()) & set(other.get_params())
    assert {name: one.get_params()[name] for name in shared} == {name: other.get_params()[name] for name in shared}
    for method in ("predict", "predict_proba"):
        if hasattr(one, method):
            expected, got = getattr(one, method)(VAL_X), getattr(other, method)(VAL_X)
            if expected.dtype.kind == "f":
                np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)
            else:
                np.testing.assert_array_equal(got, expected)
    for name in ("n_iter_", "t_", "n_layers_", "n_outputs_", "out_activation_", "n_features_in_", "loss_"):
        assert getattr(other, name) == getattr(one, name), name


@pytest.mark.parametrize("options", [{}, {"solver": "sgd"}, {"solver": "lbfgs"}, {"early_stopping": True}], ids=str)
@pytest.mark.parametrize("direction", list(HOMES))
@pytest.mark.parametrize("task", list(TASKS))
def test_fitted_models_are_converted(task, direction, options):
    kind, more, y = TASKS[task]
    source, target = HOMES[direction]
    fitted = getattr(source, kind)(**{**FEW, **more, **options}).fit(X, y)
    before = joblib.hash(fitted.coefs_)
    other = converted(fitted)
    assert type(other) is getattr(target, kind)
    assert_alike_in_public(fitted, other)
    if options.get("solver") != "lbfgs":
        assert other.loss_curve_ == fitted.loss_curve_
        assert other.validation_scores_ == fitted.validation_scores_
    other.coefs_[0][:] = 0
    assert joblib.hash(fitted.coefs_) == before, "the converted model shares its weights"


@pytest.mark.parametrize("solver", ["sgd", "adam"])
@pytest.mark.parametrize("direction", list(HOMES))
@pytest.mark.parametrize("task", list(TASKS))
def test_training_goes_on_after_conversion_as_it_would_have_before(task, direction, solver):
    kind, more, y = TASKS[task]
    source = HOMES[direction][0]
    fitted = getattr(source, kind)(**{**FEW, **more}, solver=solver).fit(X, y)
    other = converted(fitted)
    for _ in range(3):
        for each in (fitted, other):
            each.partial_fit(X, y)
    np.testing.assert_allclose(weights_of(other), weights_of(fitted), rtol=1e-6, atol=1e-6)
    assert other.loss_curve_ == pytest.approx(fitted.loss_curve_, rel=1e-6)
    for each in (fitted, other):
        each.set_params(warm_start=True).fit(X, y)
    np.testing.assert_allclose(weights_of(other), weights_of(fitted), rtol=1e-6, atol=1e-6)


def test_there_and_back_again():
    fitted = classifier(class_weight="balanced", dropout=0.1).fit(X, CLASSES)
    again = xpnet.from_sklearn(fitted.to_sklearn())
    np.testing.assert_array_equal(again.predict_proba(VAL_X), fitted.predict_proba(VAL_X))


@pytest.mark.parametrize(
    "options",
    [
        {"solver": "adamw"},
        {"learning_rate": "cosine"},
        {"dropout": 0.1},
        {"max_norm": 2.0},
        {"activation": ["tanh"] * 2},
    ],
    ids=str,
)
def test_what_only_training_knows_does_not_hinder_conversion(options):
    """The model that comes out is one that scikit-learn's checks let through."""
    fitted = classifier(**options).fit(X, CLASSES)
    theirs = fitted.to_sklearn()
    np.testing.assert_allclose(theirs.predict_proba(VAL_X), fitted.predict_proba(VAL_X), rtol=1e-6)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        sklearn.base.clone(theirs).fit(X, CLASSES)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"activation": "gelu"}, "activation"),
        ({"activation": ["relu", "tanh"]}, "activation"),
        ({"normalization": "layer"}, "normalization"),
    ],
    ids=str,
)
def test_what_scikit_learn_cannot_compute_is_not_converted(options, words):
    with pytest.raises(ValueError, match=words):
        classifier(**options).fit(X, CLASSES).to_sklearn()


def test_several_outputs_are_not_converted():
    with pytest.raises(ValueError, match="output"):
        classifier().fit(X, MANY).to_sklearn()


def test_what_is_not_a_fitted_mlp_is_not_converted():
    with pytest.raises(NotFittedError):
        classifier().to_sklearn()
    with pytest.raises(NotFittedError):
        xpnet.from_sklearn(sklearn.neural_network.MLPClassifier())
    with pytest.raises((TypeError, ValueError), match=re.compile("MLP")):
        xpnet.from_sklearn(sklearn.linear_model.LogisticRegression())


def test_names_of_features_are_converted_too():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pandas.DataFrame(X, columns=list("abcdef"))
    theirs = classifier().fit(table, CLASSES).to_sklearn()
    assert theirs.feature_names_in_.tolist() == list("abcdef")
    assert xpnet.from_sklearn(theirs).feature_names_in_.tolist() == list("abcdef")
