"""The same parameters, data and random state: the curves, predictions, warnings, errors and words of scikit-learn.

What is asked of a `Pair` is asked of scikit-learn's estimator and of xpnet's; what they warn of is compared every time.
"""

from __future__ import annotations

import copy
import inspect
import io
import itertools
import re
import signal
import sys
import warnings
from typing import Any

import numpy as np
import pytest
import scipy.sparse
import sklearn.neural_network
from sklearn.exceptions import ConvergenceWarning, DataConversionWarning

import xpnet

ROWS, FEATURES = 103, 7
CLOSE = 1e-6
"""Of float64 curves, over ten epochs."""

_rng = np.random.RandomState(0)
X = _rng.normal(size=(ROWS, FEATURES))
NEW_X = _rng.normal(size=(21, FEATURES))
WEIGHTS = _rng.exponential(size=ROWS)
_signal = X @ _rng.normal(size=(FEATURES, 3)) + 0.3 * _rng.normal(size=(ROWS, 3))
TARGETS = {
    "binary": (_signal[:, 0] > 0).astype(int),
    "classes": _signal.argmax(axis=1),
    "labels": (_signal > 0).astype(int),
    "number": _signal[:, 0],
    "numbers": _signal,
    "counts": _rng.poisson(np.exp(_signal[:, 0] / 3)),
}
TASKS = list(TARGETS)
CLASSIFICATION = ("binary", "classes", "labels")
KINDS = ["MLPClassifier", "MLPRegressor"]


class Pair:
    """scikit-learn's estimator and xpnet's with the same parameters, each with a generator of its own."""

    def __init__(self, task: str, **options: Any) -> None:
        kind = "MLPClassifier" if task in CLASSIFICATION else "MLPRegressor"
        some = {"hidden_layer_sizes": (9, 5), "learning_rate_init": 0.02, "batch_size": 16, "max_iter": 10, "tol": 0.0}
        options = {**some, "random_state": 1, **({"loss": "poisson"} if task == "counts" else {}), **options}
        homes = (sklearn.neural_network, xpnet)
        self.both = self.theirs, self.ours = [getattr(home, kind)(**copy.deepcopy(options)) for home in homes]
        self.y = TARGETS[task]

    def ask(self, method: str, *args: Any, **more: Any) -> list[Any]:
        """What both return, having warned of the same."""
        (expected, expected_words), (got, words) = (
            answer_and_warnings(estimator, method, *args, **more) for estimator in self.both
        )
        assert words == expected_words
        return [expected, got]

    def fit(self, x: Any = X, y: Any = None, **more: Any) -> Pair:
        self.ask("fit", x, self.y if y is None else y, **more)
        return self

    def partial_fit(self, x: Any = X, y: Any = None, **more: Any) -> Pair:
        self.ask("partial_fit", x, self.y if y is None else y, **more)
        return self

    def set_params(self, **options: Any) -> Pair:
        for estimator in self.both:
            estimator.set_params(**options)
        return self

    def assert_alike(self, rel: float = CLOSE, *, new_x: Any = NEW_X) -> None:
        """The same fitted attributes, of the same types, and the same predictions."""
        expected, got = (fitted(estimator) for estimator in self.both)
        assert set(got) - {"history_"} == set(expected)
        for name in expected:
            assert_alike(expected[name], got[name], rel, name)
        for method in ("predict", "predict_proba", "predict_log_proba"):
            if hasattr(self.theirs, method):
                assert_alike(*self.ask(method, new_x), rel, method)
        assert_alike(*self.ask("score", X, self.y), rel, "score")


def answer_and_warnings(estimator: Any, method: str, *args: Any, **more: Any) -> tuple[Any, list[tuple[type, str]]]:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        answer = getattr(estimator, method)(*args, **more)
    return answer, [(warning.category, str(warning.message)) for warning in caught]


def fitted(estimator: Any) -> dict[str, Any]:
    names = [name for name in dir(estimator) if name.endswith("_") and not name.startswith("_")]
    return {name: getattr(estimator, name) for name in names if hasattr(estimator, name)}


def assert_alike(expected: Any, got: Any, rel: float, name: str) -> None:
    """Equal; floats so up to `rel`, or to `rel` of the largest number of their array."""
    if isinstance(expected, list):
        assert isinstance(got, list), name
        assert len(got) == len(expected), name
        for one, other in zip(expected, got, strict=True):
            assert_alike(one, other, rel, name)
    elif isinstance(expected, np.ndarray):
        assert isinstance(got, np.ndarray), name
        assert (got.dtype, got.shape) == (expected.dtype, expected.shape), name
        if expected.dtype.kind == "f":
            atol = rel * np.abs(expected).max(initial=0)
            np.testing.assert_allclose(got, expected, rtol=rel, atol=atol, err_msg=name)
        else:
            np.testing.assert_array_equal(got, expected, err_msg=name)
    elif isinstance(expected, float | np.floating):
        assert isinstance(got, float | np.floating), name
        assert got == pytest.approx(expected, rel=rel, abs=rel * 1e-3, nan_ok=True), name
    else:
        assert type(got) is type(expected), name
        assert got == expected, name


SGD = {
    "plain": {"momentum": 0.0, "nesterovs_momentum": False},
    "momentum": {"nesterovs_momentum": False},
    "nesterov": {"nesterovs_momentum": True},
}
RATES = {
    "constant": {},
    "invscaling": {"learning_rate_init": 0.2},
    "adaptive": {"n_iter_no_change": 1, "tol": 0.2},
}
SOLVERS = {
    **{
        f"{form}-{rate}": {"solver": "sgd", "learning_rate": rate, **SGD[form], **RATES[rate]}
        for form, rate in itertools.product(SGD, RATES)
    },
    "adam": {"solver": "adam"},
    "lbfgs": {"solver": "lbfgs"},
}
THREE = {name: SOLVERS[name] for name in ("nesterov-constant", "adam", "lbfgs")}

over_solvers = pytest.mark.parametrize("options", list(SOLVERS.values()), ids=list(SOLVERS))
over_three_solvers = pytest.mark.parametrize("options", list(THREE.values()), ids=list(THREE))
over_stochastic_solvers = pytest.mark.parametrize("options", list(THREE.values())[:2], ids=list(THREE)[:2])
over_tasks = pytest.mark.parametrize("task", TASKS)


# Curves and predictions


@over_solvers
@over_tasks
def test_ten_epochs_follow(task, options):
    pair = Pair(task, **options).fit()
    pair.assert_alike()
    if options["solver"] != "lbfgs":
        assert len(pair.ours.loss_curve_) == 10


def test_the_adaptive_rate_falls_in_those_ten_epochs():
    pair = Pair("classes", **SOLVERS["plain-adaptive"]).fit()
    assert pair.theirs._optimizer.learning_rate < 0.02, "else the test above tests nothing"


@over_stochastic_solvers
@over_tasks
def test_float32_follows_from_further_away(task, options):
    pair = Pair(task, **options).fit(X.astype(np.float32))
    assert {array.dtype for array in pair.ours.coefs_ + pair.ours.intercepts_} == {np.dtype(np.float32)}
    pair.assert_alike(2e-3, new_x=NEW_X.astype(np.float32))


@over_tasks
def test_float32_by_lbfgs(task):
    """scikit-learn's weights are float64 then, which nobody counts on."""
    pair = Pair(task, solver="lbfgs", max_iter=5).fit(X.astype(np.float32))
    expected, got = pair.ask("predict", NEW_X.astype(np.float32))
    np.testing.assert_allclose(got, expected, rtol=2e-3, atol=2e-3)


@pytest.mark.parametrize("task", ["binary", "number"])
def test_a_whole_training_with_the_default_parameters(task):
    pair = Pair(task)
    for estimator in pair.both:
        estimator.set_params(**{**type(estimator)().get_params(), "random_state": 0})
    pair.fit().assert_alike(1e-4)


@over_three_solvers
@pytest.mark.parametrize("activation", ["identity", "logistic", "tanh", "relu"])
@pytest.mark.parametrize("task", ["classes", "number"])
def test_every_activation(task, activation, options):
    Pair(task, activation=activation, **options).fit().assert_alike()


@over_three_solvers
@over_tasks
def test_sample_weights_with_a_last_batch_that_is_not_full(task, options):
    Pair(task, **options).fit(sample_weight=WEIGHTS).assert_alike()


@pytest.mark.parametrize(
    "options",
    [
        {"alpha": 0.0},
        {"alpha": 3.0},
        {"alpha": 3.0, "solver": "sgd", "momentum": 0.0},
        {"alpha": 3.0, "solver": "lbfgs"},
        {"beta_1": 0.5},
        {"beta_1": 0.0, "beta_2": 0.0, "epsilon": 0.1},
        {"beta_2": 0.9},
        {"epsilon": 0.01},
        {"solver": "sgd", "momentum": 0.3},
        {"solver": "sgd", "momentum": 1.0, "learning_rate_init": 1e-3},
        {"solver": "sgd", "momentum": 0.0, "nesterovs_momentum": True},
        {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.1},
        {"solver": "sgd", "learning_rate": "invscaling", "power_t": 0.0},
        {"solver": "adam", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1},
        {"solver": "adam", "learning_rate": "invscaling"},
        {"n_iter_no_change": np.inf, "tol": 1e9},
        {"n_iter_no_change": 3, "tol": 0.5},
        {"max_iter": 1},
        {"hidden_layer_sizes": 4},
        {"hidden_layer_sizes": [4]},
        {"hidden_layer_sizes": np.array([4, 3, 2])},
        {"hidden_layer_sizes": ()},
        {"shuffle": False},
        {"solver": "lbfgs", "max_fun": 4},
        {"solver": "lbfgs", "tol": 0.1},
        {"solver": "lbfgs", "early_stopping": True},
    ],
    ids=str,
)
@pytest.mark.parametrize("task", ["classes", "number"])
def test_every_setting_means_what_it_means_there(task, options):
    Pair(task, **options).fit(sample_weight=WEIGHTS).assert_alike()


@pytest.mark.parametrize("batch_size", ["auto", 1, 16, np.int64(16), ROWS - 1, ROWS, 10 * ROWS], ids=repr)
@pytest.mark.parametrize("shuffle", [True, False])
@over_stochastic_solvers
def test_batch_sizes(batch_size, shuffle, options):
    options = {**options, "learning_rate_init": 0.01, "max_iter": 4}
    Pair("classes", batch_size=batch_size, shuffle=shuffle, **options).fit().assert_alike()


@pytest.mark.parametrize("kind", ["csr_matrix", "csr_array", "csc_matrix", "csc_array", "coo_array"])
@over_three_solvers
def test_sparse_rows(kind, options):
    dense = np.where(np.abs(X) > 0.7, X, 0)
    sparse = getattr(scipy.sparse, kind)
    pair = Pair("classes", **options).fit(sparse(dense))
    pair.assert_alike(new_x=sparse(NEW_X))


def test_sparse_rows_with_early_stopping_weights_and_float32():
    sparse = scipy.sparse.csr_array(np.where(np.abs(X) > 0.7, X, 0).astype(np.float32))
    pair = Pair("classes", early_stopping=True, solver="sgd").fit(sparse, sample_weight=WEIGHTS)
    pair.assert_alike(2e-3, new_x=scipy.sparse.csc_array(NEW_X.astype(np.float32)))


def test_a_column_without_entries_and_explicit_zeros():
    sparse = scipy.sparse.csr_array(np.where(np.arange(FEATURES) == 2, 0, X))
    sparse.data[::5] = 0
    Pair("binary").fit(sparse).assert_alike()


@pytest.mark.parametrize(
    "form",
    [
        lambda x: x.tolist(),
        np.asfortranarray,
        lambda x: np.repeat(x, 2, axis=0)[::2],
        lambda x: (10 * x).astype(np.int16),
        lambda x: x.astype(np.float16),
        lambda x: x > 0,
    ],
    ids=["list", "fortran", "strided", "int16", "float16", "bool"],
)
@over_tasks
def test_forms_of_x(task, form):
    Pair(task).fit(form(X)).assert_alike(new_x=form(NEW_X))


@pytest.mark.parametrize(
    "names",
    [
        np.array(["no", "perhaps", "yes"]),
        np.array(["no", "perhaps", "yes"], dtype=object),
        np.array([-5, 0, 7]),
        np.array([0.0, 1.0, 2.0]),
        np.array([False, True, True]),
        np.array(["all", "all", "all"]),
    ],
    ids=["text", "object", "int", "float", "bool", "one"],
)
@pytest.mark.parametrize("early_stopping", [False, True])
def test_names_of_classes(names, early_stopping):
    y = names[TARGETS["classes"]]
    pair = Pair("classes", early_stopping=early_stopping).fit(y=y)
    pair.y = y
    pair.assert_alike()


@over_tasks
def test_forms_of_y(task):
    y = TARGETS[task]
    for form in (y.tolist(), y.reshape(ROWS, -1), np.asfortranarray(y.reshape(ROWS, -1)), y.astype(np.float32)):
        Pair(task).fit(y=form).assert_alike()


@over_tasks
def test_predictions_for_one_row_and_for_the_other_dtype(task):
    pair = Pair(task).fit()
    for new_x in (NEW_X[:1], NEW_X.astype(np.float32), scipy.sparse.csr_array(NEW_X), np.asfortranarray(NEW_X)):
        assert_alike(*pair.ask("predict", new_x), CLOSE, "predict")


def test_x_y_and_weights_are_left_alone():
    arrays = X.copy(), TARGETS["classes"].copy(), WEIGHTS.copy()
    for array in arrays:
        array.setflags(write=False)
    Pair("classes", early_stopping=True).fit(arrays[0], arrays[1], sample_weight=arrays[2]).assert_alike()


# Early stopping


@over_stochastic_solvers
@over_tasks
@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["alike", "weighted"])
def test_early_stopping_on_the_same_split(task, weights, options):
    more = {"early_stopping": True, "validation_fraction": 0.2, "n_iter_no_change": 2, "max_iter": 30}
    pair = Pair(task, **options, **more).fit(sample_weight=weights)
    pair.assert_alike()
    assert pair.ours.best_validation_score_ == max(pair.ours.validation_scores_)
    assert pair.ours.best_loss_ is None


def test_the_best_weights_come_back_and_they_are_not_the_last():
    more = {"early_stopping": True, "n_iter_no_change": 5, "max_iter": 30, "learning_rate_init": 0.1}
    pair = Pair("number", **more).fit()
    assert np.argmax(pair.theirs.validation_scores_) < len(pair.theirs.validation_scores_) - 1
    pair.assert_alike()


def test_an_adaptive_rate_falls_when_the_score_does_not_rise():
    options = SOLVERS["momentum-adaptive"] | {"early_stopping": True, "max_iter": 40, "tol": 0.01}
    pair = Pair("classes", **options).fit()
    assert pair.theirs._optimizer.learning_rate < 1e-3
    pair.assert_alike()


# Starting again, going on


@over_three_solvers
@over_tasks
def test_warm_starts(task, options):
    pair = Pair(task, warm_start=True, **options)
    for max_iter in (4, 3, 6):
        pair.set_params(max_iter=max_iter).fit().assert_alike()
    pair.fit(X[::-1], TARGETS[task][::-1], sample_weight=WEIGHTS).assert_alike()


@over_stochastic_solvers
def test_warm_starts_with_early_stopping(options):
    pair = Pair("classes", warm_start=True, early_stopping=True, max_iter=2, **options)
    for _ in range(2):
        best = getattr(pair.theirs, "best_validation_score_", 0)
        pair.fit().assert_alike()
        assert pair.theirs.best_validation_score_ > best


@over_stochastic_solvers
def test_a_warm_start_that_finds_no_better_score_goes_on_all_the_same(options):
    """Its best weights are those that training moves on from: there they are left as the last epoch made them."""
    pair = Pair("classes", warm_start=True, early_stopping=True, **{**options, "learning_rate_init": 1e-4})
    for _ in range(3):
        best = getattr(pair.theirs, "best_validation_score_", 0)
        pair.fit().assert_alike()
    assert pair.theirs.best_validation_score_ == best


def test_a_second_fit_begins_anew_with_other_data():
    pair = Pair("classes").fit()
    pair.fit().assert_alike()
    pair.y = TARGETS["binary"]
    pair.fit(X[:, :4])
    assert pair.ours.n_features_in_ == pair.theirs.n_features_in_ == 4
    assert_alike(*pair.ask("predict_proba", NEW_X[:, :4]), CLOSE, "predict_proba")


PARTS = [slice(0, 30), slice(30, 35), slice(35, 36), slice(36, ROWS)]
FIRST = {"binary": {"classes": [0, 1]}, "classes": {"classes": [0, 1, 2]}, "labels": {"classes": [0, 1, 2]}}
"""What the first call of partial_fit needs beside the data."""


@over_tasks
@pytest.mark.parametrize("solver", ["plain-constant", "momentum-invscaling", "nesterov-adaptive", "adam"])
def test_partial_fits_follow(task, solver):
    pair, y, more = Pair(task, **SOLVERS[solver]), TARGETS[task], FIRST.get(task, {})
    for part, weights in itertools.product(PARTS, (None, WEIGHTS)):
        pair.partial_fit(X[part], y[part], sample_weight=None if weights is None else weights[part], **more)
        more = {}
    pair.assert_alike()


@over_stochastic_solvers
def test_fits_and_partial_fits_take_turns(options):
    pair = Pair("classes", **options).fit()
    pair.partial_fit().partial_fit(X[:9], TARGETS["classes"][:9]).assert_alike()
    pair.fit().partial_fit().assert_alike()
    Pair("classes", **options).partial_fit(classes=[0, 1, 2]).fit().partial_fit().assert_alike()


@over_stochastic_solvers
@pytest.mark.parametrize("more", [{}, {"warm_start": True}], ids=["cold", "warm"])
def test_parameters_changed_between_partial_fits(options, more):
    pair = Pair("classes", **options, **more).partial_fit(classes=[0, 1, 2])
    for change in (
        {"alpha": 1.0},
        {"batch_size": 50},
        {"learning_rate_init": 0.3},
        {"shuffle": False},
        {"momentum": 0.1},
        {"activation": "tanh"},
        {"solver": "sgd" if options["solver"] == "adam" else "adam"},
    ):
        pair.set_params(**change).partial_fit()
    pair.assert_alike()
    pair.fit().assert_alike()


@over_stochastic_solvers
def test_weights_that_the_user_sets_are_trained_further(options):
    pair = Pair("classes", warm_start=True, **options).fit()
    for method in ("partial_fit", "fit"):
        for estimator in pair.both:
            estimator.coefs_[0][:] *= 0.5
            estimator.coefs_[1] = estimator.coefs_[1] + 0.1
            estimator.intercepts_ = [np.zeros_like(intercept) for intercept in estimator.intercepts_]
        getattr(pair, method)().assert_alike()


@pytest.mark.parametrize("dtypes", [(np.float64, np.float32), (np.float32, np.float64)], ids=["64 to 32", "32 to 64"])
def test_weights_keep_their_dtype_when_the_data_change_theirs(dtypes):
    pair = Pair("number").fit(X.astype(dtypes[0])).partial_fit(X.astype(dtypes[1]))
    pair.assert_alike(2e-3, new_x=NEW_X.astype(dtypes[1]))


def test_partial_fits_of_float32_stay_float32():
    pair = Pair("number")
    for _ in range(3):
        pair.partial_fit(X.astype(np.float32))
    pair.assert_alike(2e-3)


# Random states


@pytest.mark.parametrize("activation", ["logistic", "tanh", "relu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("task", ["classes", "numbers"])
def test_the_initial_weights_are_the_same_bit_by_bit(task, dtype, activation):
    """With a learning rate of almost nothing, the weights at the end are those at the beginning."""
    still = {"solver": "sgd", "momentum": 0.0, "learning_rate_init": 1e-300, "max_iter": 1}
    pair = Pair(task, activation=activation, **still).fit(X.astype(dtype))
    for name in ("coefs_", "intercepts_"):
        for expected, got in zip(getattr(pair.theirs, name), getattr(pair.ours, name), strict=True):
            np.testing.assert_array_equal(got, expected)
            assert got.dtype == dtype


def assert_same_state(one: Any, other: Any) -> None:
    for expected, got in zip(one.get_state(), other.get_state(), strict=True):
        np.testing.assert_array_equal(got, expected)


RUNS = {
    "all epochs": {},
    "stopped by tol": {"tol": 1.0, "n_iter_no_change": 2, "max_iter": 50},
    "early stopping": {"early_stopping": True, "n_iter_no_change": 1, "tol": 0.1, "max_iter": 50},
    "early stopping, all epochs": {"early_stopping": True},
    "adaptive": {**SOLVERS["plain-adaptive"], "tol": 1.0, "max_iter": 50},
    "in order": {"shuffle": False},
    "lbfgs": {"solver": "lbfgs"},
    "warm": {"warm_start": True},
}


@pytest.mark.parametrize("options", list(RUNS.values()), ids=list(RUNS))
@pytest.mark.parametrize("task", ["classes", "numbers"])
def test_a_generator_is_left_where_scikit_learn_leaves_it(task, options):
    generator = np.random.RandomState(5)
    generator.normal()  # half of a pair of draws is kept in it
    pair = Pair(task, random_state=generator, **options)
    for _ in range(2):
        pair.fit().assert_alike()
        assert_same_state(pair.theirs.random_state, pair.ours.random_state)
    assert (pair.ours.n_iter_ < pair.ours.max_iter) == ("tol" in options)


def test_a_generator_is_left_there_by_partial_fits_too():
    pair = Pair("numbers", random_state=np.random.RandomState(5))
    for part in PARTS:
        pair.partial_fit(X[part], TARGETS["numbers"][part])
        assert_same_state(pair.theirs.random_state, pair.ours.random_state)
    pair.assert_alike()


def test_without_a_random_state_numbers_come_from_numpys_own():
    pair = Pair("classes", random_state=None)
    kept, states = np.random.get_state(), []
    try:
        for estimator in pair.both:
            np.random.seed(3)
            with pytest.warns(ConvergenceWarning):
                estimator.fit(X, pair.y)
            states.append(np.random.get_state())
    finally:
        np.random.set_state(kept)
    pair.assert_alike()
    for expected, got in zip(*states, strict=True):
        np.testing.assert_array_equal(got, expected)


# Words


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, r"Stochastic Optimizer: Maximum iterations \(10\) reached"),
        ({"batch_size": 1000}, "larger than sample size. It is going to be clipped"),
        ({"solver": "lbfgs"}, r"lbfgs failed to converge after 10 iteration\(s\)"),
    ],
)
def test_warnings_that_both_give(options, words):
    pair = Pair("classes", **options)
    _, heard = answer_and_warnings(pair.ours, "fit", X, pair.y)
    assert any(re.search(words, message) for _, message in heard)
    pair.fit()  # compares all of them


def test_a_column_of_y_is_warned_of():
    pair = Pair("binary")
    _, heard = answer_and_warnings(pair.ours, "fit", X, pair.y[:, None])
    assert [category for category, _ in heard] == [DataConversionWarning, ConvergenceWarning]
    pair.fit(y=pair.y[:, None]).assert_alike()


@pytest.mark.parametrize(
    "options",
    [
        {"verbose": True},
        {"verbose": 1},
        {"verbose": 10},
        {"tol": 1.0, "n_iter_no_change": 2},
        {"early_stopping": True, "tol": 0.3, "n_iter_no_change": 1},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "n_iter_no_change": 1, "max_iter": 60},
        {"solver": "sgd", "learning_rate": "adaptive", "tol": 1.0, "early_stopping": True, "n_iter_no_change": 1},
        {"solver": "lbfgs"},
    ],
    ids=str,
)
@pytest.mark.parametrize("task", ["classes", "number"])
def test_what_is_printed(task, options, capsys):
    pair, printed = Pair(task, **{"verbose": True, **options}), []
    for estimator in pair.both:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)
            estimator.fit(X, pair.y)
        printed.append(capsys.readouterr())
    assert printed[0] == printed[1]
    assert ("Iteration 2, loss = " in printed[0].out) == (pair.ours.solver != "lbfgs")


def test_what_is_printed_by_partial_fits(capsys):
    pair, printed = Pair("number", verbose=True, batch_size="auto"), []
    for estimator in pair.both:
        for part in PARTS:
            estimator.partial_fit(X[part], pair.y[part])
        printed.append(capsys.readouterr())
    assert printed[0] == printed[1]


class InterruptedAtTheThirdLine(io.StringIO):
    """A terminal at which somebody presses Ctrl-C when the third epoch is told."""

    def __init__(self, press: Any) -> None:
        super().__init__()
        self.press = press

    def write(self, text: str) -> int:
        if "Iteration 3," in text:
            self.press()
        return super().write(text)


def press_in_place() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("early_stopping", [False, True])
def test_an_interrupt_keeps_what_was_reached(early_stopping, monkeypatch):
    pair = Pair("classes", verbose=True, early_stopping=early_stopping, random_state=np.random.RandomState(2))
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", InterruptedAtTheThirdLine(press_in_place))
        pair.fit()
    assert pair.ours.n_iter_ == 3
    pair.assert_alike()
    assert_same_state(pair.theirs.random_state, pair.ours.random_state)


def test_ctrl_c_ends_training_with_a_warning(monkeypatch):
    before = signal.getsignal(signal.SIGINT)
    estimator = xpnet.MLPClassifier(max_iter=1000, verbose=True, random_state=0)
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", InterruptedAtTheThirdLine(lambda: signal.raise_signal(signal.SIGINT)))
        _, heard = answer_and_warnings(estimator, "fit", X, TARGETS["classes"])
    assert heard == [(UserWarning, "Training interrupted by user.")]
    assert 3 <= estimator.n_iter_ <= 4
    assert len(estimator.predict(NEW_X)) == len(NEW_X)
    assert signal.getsignal(signal.SIGINT) is before


# What is written on the box


@pytest.mark.parametrize("kind", KINDS)
def test_parameters_have_the_same_order_and_defaults_and_new_ones_are_keywords(kind):
    theirs, ours = (inspect.signature(getattr(home, kind)).parameters for home in (sklearn.neural_network, xpnet))
    assert [ours[name].replace(annotation=inspect.Parameter.empty) for name in theirs] == list(theirs.values())
    assert positional(ours) == positional(theirs)
    new = {"device": "cpu", "dtype": None, "n_threads": None, "dropout": 0.0, "normalization": None}
    new |= {"max_norm": None, "clip_norm": None, "scoring": None}
    new |= {"class_weight": None, "label_smoothing": 0.0} if kind == "MLPClassifier" else {"huber_delta": 1.0}
    assert {name: ours[name].default for name in ours if name not in theirs} == new


@pytest.mark.parametrize("kind", KINDS)
def test_methods_take_what_they_take_there(kind):
    theirs, ours = getattr(sklearn.neural_network, kind), getattr(xpnet, kind)
    assert issubclass(ours, theirs)
    for name in dir(theirs):
        if not name.startswith("_") and callable(getattr(theirs, name)):
            expected, got = (inspect.signature(getattr(home, name)).parameters for home in (theirs, ours))
            assert positional(got) == positional(expected), name
            assert set(expected) <= set(got), name
    more = inspect.signature(ours.fit).parameters
    for name in ("X_val", "y_val", "sample_weight_val"):
        assert (more[name].kind, more[name].default) == (inspect.Parameter.KEYWORD_ONLY, None)


def positional(parameters: Any) -> list[str]:
    return [name for name in parameters if parameters[name].kind is not inspect.Parameter.KEYWORD_ONLY]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_shown_as_there(kind):
    theirs, ours = (getattr(home, kind)(alpha=0.5, solver="sgd") for home in (sklearn.neural_network, xpnet))
    assert repr(ours) == repr(theirs)
    expected, got = theirs.__sklearn_tags__(), ours.__sklearn_tags__()
    assert got.estimator_type == expected.estimator_type
    assert got.input_tags.sparse
    assert got.classifier_tags is None or got.classifier_tags.multi_label


# Bad input


def with_one(value: float) -> np.ndarray:
    x = X.copy()
    x[50, 3] = value
    return x


Y, LABELS, NUMBER = TARGETS["classes"], TARGETS["labels"], TARGETS["number"]
MISTAKES = {
    "nan": lambda c, r: c.fit(with_one(np.nan), Y),
    "inf": lambda c, r: r.fit(with_one(np.inf), NUMBER),
    "nan in y": lambda c, r: r.fit(X, np.where(NUMBER > 0, NUMBER, np.nan)),
    "nan in classes": lambda c, r: c.fit(X, np.where(Y > 0, Y, np.nan)),
    "numbers as classes": lambda c, r: c.fit(X, NUMBER),
    "text as numbers": lambda c, r: r.fit(X, np.array(["no", "perhaps", "yes"], dtype=object)[Y]),
    "short y": lambda c, r: c.fit(X, Y[:-1]),
    "no y": lambda c, r: c.fit(X, None),
    "no rows": lambda c, r: r.fit(X[:0], NUMBER[:0]),
    "one-dimensional": lambda c, r: c.fit(X[:, 0], Y),
    "three-dimensional": lambda c, r: c.fit(X[:, :, None], Y),
    "complex": lambda c, r: c.fit(X * 1j, Y),
    "text": lambda c, r: c.fit([*X.astype(str).tolist()[:5], ["a"] * FEATURES], Y[:6]),
    "sparse with nan": lambda c, r: c.fit(scipy.sparse.csr_array(with_one(np.nan)), Y),
    "weights of another length": lambda c, r: c.fit(X, Y, sample_weight=WEIGHTS[:-1]),
    "weights with nan": lambda c, r: r.fit(X, NUMBER, sample_weight=with_one(np.nan)[:, 3]),
    "table of weights": lambda c, r: c.fit(X, Y, sample_weight=X),
    "unfitted": lambda c, r: c.predict(X),
    "unfitted probabilities": lambda c, r: c.predict_proba(X),
    "unfitted number": lambda c, r: r.predict(X),
    "other width": lambda c, r: c.fit(X, Y).predict(X[:, :3]),
    "nan to predict": lambda c, r: r.fit(X, NUMBER).predict(with_one(np.nan)),
    "other width in partial_fit": lambda c, r: r.partial_fit(X, NUMBER).partial_fit(X[:, :3], NUMBER),
    "no classes": lambda c, r: c.partial_fit(X, Y),
    "other classes": lambda c, r: c.partial_fit(X, Y, classes=[0, 1, 2]).partial_fit(X, Y, classes=[0, 1]),
    "warm start of other classes": lambda c, r: c.set_params(warm_start=True).fit(X, Y).fit(X, Y > 0),
    "partial_fit and early stopping": lambda c, r: r.set_params(early_stopping=True).partial_fit(X, NUMBER),
    "partial_fit and lbfgs": lambda c, r: c.set_params(solver="lbfgs").partial_fit(X, Y, classes=[0, 1, 2]),
    "zero units": lambda c, r: c.set_params(hidden_layer_sizes=(4, 0)).fit(X, Y),
    "negative units": lambda c, r: c.set_params(hidden_layer_sizes=[-1]).fit(X, Y),
    "one of a class": lambda c, r: c.set_params(early_stopping=True).fit(X, np.arange(ROWS) == 5),
    "two rows": lambda c, r: r.set_params(early_stopping=True).fit(X[:2], NUMBER[:2]),
    "no validation": lambda c, r: r.set_params(early_stopping=True, validation_fraction=0.0).fit(X, NUMBER),
    "validation below 0": lambda c, r: c.set_params(validation_fraction=-0.1).fit(X, Y),
    "alpha": lambda c, r: c.set_params(alpha=-1.0).fit(X, Y),
    "batch_size": lambda c, r: r.set_params(batch_size=0).fit(X, NUMBER),
    "learning_rate_init": lambda c, r: r.set_params(learning_rate_init=0.0).fit(X, NUMBER),
    "max_iter": lambda c, r: r.set_params(max_iter=0).fit(X, NUMBER),
    "momentum": lambda c, r: r.set_params(momentum=1.5).partial_fit(X, NUMBER),
    "beta_1": lambda c, r: c.set_params(beta_1=1.0).fit(X, Y),
    "n_iter_no_change": lambda c, r: c.set_params(n_iter_no_change=0).fit(X, Y),
    "random_state": lambda c, r: c.set_params(random_state="seven").fit(X, Y),
    "tol": lambda c, r: c.set_params(tol=-1e-4).fit(X, Y),
    "hidden_layer_sizes": lambda c, r: c.set_params(hidden_layer_sizes="wide").fit(X, Y),
    "shuffle": lambda c, r: c.set_params(shuffle="yes").fit(X, Y),
}


@pytest.mark.parametrize("mistake", list(MISTAKES.values()), ids=list(MISTAKES))
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_mistakes_are_answered_in_the_same_words(mistake):
    raised = []
    for home in (sklearn.neural_network, xpnet):
        with pytest.raises((ValueError, TypeError, AttributeError)) as caught:
            mistake(home.MLPClassifier(max_iter=2, random_state=0), home.MLPRegressor(max_iter=2, random_state=0))
        raised.append((caught.type, str(caught.value)))
    assert raised[0] == raised[1]


@pytest.mark.parametrize(
    ("name", "value"), [("solver", "newton"), ("activation", "step"), ("learning_rate", "fast"), ("loss", "hinge")]
)
def test_choices_that_grew_are_refused_in_the_same_manner(name, value):
    estimator = xpnet.MLPRegressor(**{name: value})
    with pytest.raises(ValueError, match=f"^The '{name}' parameter of MLPRegressor must be ") as caught:
        estimator.fit(X, NUMBER)
    assert type(caught.value).__name__ == "InvalidParameterError"
    assert str(caught.value).endswith(f"Got {value!r} instead.")
