"""scikit-learn's documented uses of its MLP: they run with xpnet's classes, and end where they end there.

Each gallery example is here in its essence: its estimators, its calls and its data, fewer rows and fewer epochs where
it takes long, the bundled digits where it downloads MNIST. The examples in the docstrings are read from scikit-learn.
"""

from __future__ import annotations

import doctest
import re
from collections.abc import Iterator
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
import sklearn.neural_network
from sklearn.datasets import (
    load_diabetes,
    load_digits,
    load_iris,
    make_circles,
    make_classification,
    make_moons,
    make_regression,
)
from sklearn.inspection import DecisionBoundaryDisplay, PartialDependenceDisplay
from sklearn.model_selection import GridSearchCV, train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, QuantileTransformer, StandardScaler
from sklearn.tree import DecisionTreeRegressor

import xpnet

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(autouse=True)
def figures_without_a_window() -> Iterator[None]:
    before = plt.get_backend()
    plt.switch_backend("Agg")
    yield
    plt.close("all")
    plt.switch_backend(before)


def linearly_separable() -> tuple[np.ndarray, np.ndarray]:
    x, y = make_classification(n_features=2, n_redundant=0, n_informative=2, random_state=0, n_clusters_per_class=1)
    return x + 2 * np.random.RandomState(2).uniform(size=x.shape), y


def shapes() -> list[tuple[np.ndarray, np.ndarray]]:
    return [
        make_moons(noise=0.3, random_state=0),
        make_circles(noise=0.2, factor=0.5, random_state=1),
        linearly_separable(),
    ]


# The gallery: every function gives the scores that its example shows


def plot_mlp_alpha(home: Any) -> list[float]:
    scores = []
    for x, y in shapes():
        x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.4, random_state=42)
        for alpha in np.logspace(-1, 1, 3):
            model = make_pipeline(
                StandardScaler(),
                home.MLPClassifier(
                    solver="lbfgs",
                    alpha=alpha,
                    random_state=1,
                    max_iter=2000,
                    early_stopping=True,
                    hidden_layer_sizes=[10, 10],
                ),
            )
            model.fit(x_train, y_train)
            assert not hasattr(model, "decision_function")
            mesh = np.column_stack([axis.ravel() for axis in np.meshgrid(np.arange(-3, 3, 0.5), np.arange(-3, 3, 0.5))])
            assert model.predict_proba(mesh)[:, 1].shape == (len(mesh),)
            scores.append(model.score(x_test, y_test))
    return scores


def plot_mlp_training_curves(home: Any) -> list[float]:
    strategies = [
        {"solver": "sgd", "learning_rate": "constant", "momentum": 0},
        {"solver": "sgd", "learning_rate": "constant", "momentum": 0.9, "nesterovs_momentum": False},
        {"solver": "sgd", "learning_rate": "constant", "momentum": 0.9, "nesterovs_momentum": True},
        {"solver": "sgd", "learning_rate": "invscaling", "momentum": 0},
        {"solver": "sgd", "learning_rate": "invscaling", "momentum": 0.9, "nesterovs_momentum": False},
        {"solver": "sgd", "learning_rate": "invscaling", "momentum": 0.9, "nesterovs_momentum": True},
        {"solver": "adam", "learning_rate_init": 0.01},
    ]
    digits = load_digits(return_X_y=True)
    numbers = []
    for (x, y), max_iter in (
        (load_iris(return_X_y=True), 60),
        ((digits[0][:600], digits[1][:600]), 15),
        (make_circles(noise=0.2, factor=0.5, random_state=1), 60),
        (make_moons(noise=0.3, random_state=0), 60),
    ):
        x = MinMaxScaler().fit_transform(x)
        for strategy in strategies:
            options = {"learning_rate_init": 0.2, **strategy}
            mlp = home.MLPClassifier(verbose=0, random_state=0, max_iter=max_iter, **options).fit(x, y)
            plt.plot(mlp.loss_curve_)
            numbers += [mlp.score(x, y), mlp.loss_]
    return numbers


def plot_mnist_filters(home: Any) -> list[float]:
    x, y = load_digits(return_X_y=True)
    x_train, x_test, y_train, y_test = train_test_split(x / 16.0, y, random_state=0, test_size=0.7)
    mlp = home.MLPClassifier(
        hidden_layer_sizes=(40,),
        max_iter=8,
        alpha=1e-4,
        solver="sgd",
        verbose=10,
        random_state=1,
        learning_rate_init=0.2,
    )
    mlp.fit(x_train, y_train)
    _, axes = plt.subplots(4, 4)
    vmin, vmax = mlp.coefs_[0].min(), mlp.coefs_[0].max()
    for coef, ax in zip(mlp.coefs_[0].T, axes.ravel(), strict=False):
        ax.matshow(coef.reshape(8, 8), cmap=plt.cm.gray, vmin=0.5 * vmin, vmax=0.5 * vmax)
    return [mlp.score(x_train, y_train), mlp.score(x_test, y_test)]


def plot_classifier_comparison(home: Any) -> list[float]:
    scores = []
    for x, y in shapes():
        x_train, x_test, y_train, y_test = train_test_split(x, y, test_size=0.4, random_state=42)
        clf = make_pipeline(StandardScaler(), home.MLPClassifier(alpha=1, max_iter=1000, random_state=42))
        clf.fit(x_train, y_train)
        display = DecisionBoundaryDisplay.from_estimator(clf, x, cmap=plt.cm.RdBu, alpha=0.8, eps=0.5)
        assert display.response.shape == (100, 100)
        scores.append(clf.score(x_test, y_test))
    return scores


def plot_partial_dependence(home: Any) -> list[float]:
    x, y = load_diabetes(return_X_y=True)
    est = make_pipeline(
        QuantileTransformer(n_quantiles=100),
        home.MLPRegressor(
            hidden_layer_sizes=(30, 15), learning_rate_init=0.01, early_stopping=True, random_state=0, max_iter=60
        ),
    )
    est.fit(x, y - y.mean())
    common = {"subsample": 20, "n_jobs": 1, "grid_resolution": 5, "random_state": 0}
    display = PartialDependenceDisplay.from_estimator(
        est, x, [0, 2, (2, 8)], kind=["both", "both", "average"], centered=True, **common
    )
    assert display.axes_.size == 3
    return [est.score(x, y - y.mean())]


def plot_partial_dependence_visualization_api(home: Any) -> list[float]:
    pytest.importorskip("pandas", reason="pandas is not installed")
    x, y = load_diabetes(return_X_y=True, as_frame=True)
    tree = DecisionTreeRegressor(random_state=0).fit(x, y)
    mlp = make_pipeline(
        StandardScaler(),
        home.MLPRegressor(hidden_layer_sizes=(100, 100), tol=1e-2, max_iter=100, random_state=0),
    )
    mlp.fit(x, y)
    few = {"grid_resolution": 5}
    tree_disp = PartialDependenceDisplay.from_estimator(tree, x, ["age", "bmi"], **few)
    mlp_disp = PartialDependenceDisplay.from_estimator(mlp, x, ["age", "bmi"], line_kw={"color": "red"}, **few)
    mlp_disp.plot(ax=tree_disp.axes_, line_kw={"label": "Multi-layer Perceptron"})
    return [mlp.score(x, y)]


@pytest.mark.parametrize(
    "example",
    [
        plot_mlp_alpha,
        plot_mlp_training_curves,
        plot_mnist_filters,
        plot_classifier_comparison,
        plot_partial_dependence,
        plot_partial_dependence_visualization_api,
    ],
    ids=lambda example: example.__name__,
)
def test_gallery_examples_end_where_they_end_there(example):
    """Long trainings drift apart by rounding: a few test samples may change sides."""
    expected, got = example(sklearn.neural_network), example(xpnet)
    assert got == pytest.approx(expected, abs=0.05)


# The user guide, "Neural network models (supervised)"


def test_guide_classification():
    x, y = [[0.0, 0.0], [1.0, 1.0]], [0, 1]
    clf = xpnet.MLPClassifier(solver="lbfgs", alpha=1e-5, hidden_layer_sizes=(5, 2), random_state=1)
    clf.fit(x, y)
    assert (
        repr(clf)
        == "MLPClassifier(alpha=1e-05, hidden_layer_sizes=(5, 2), random_state=1,\n              solver='lbfgs')"
    )
    assert clf.predict([[2.0, 2.0], [-1.0, -2.0]]).tolist() == [1, 0]
    assert [coef.shape for coef in clf.coefs_] == [(2, 5), (5, 2), (2, 1)]
    assert clf.predict_proba([[2.0, 2.0], [1.0, 2.0]]) == pytest.approx(np.array([[1.967e-4, 9.998e-1]] * 2), rel=1e-3)


def test_guide_labels():
    clf = xpnet.MLPClassifier(solver="lbfgs", alpha=1e-5, hidden_layer_sizes=(15,), random_state=1)
    clf.fit([[0.0, 0.0], [1.0, 1.0]], [[0, 1], [1, 1]])
    assert clf.predict([[1.0, 2.0]]).tolist() == [[1, 1]]
    assert clf.predict([[0.0, 0.0]]).tolist() == [[0, 1]]


def test_guide_scaling_and_the_search_for_alpha():
    x, y = make_moons(120, noise=0.2, random_state=0)
    x_train, x_test, y_train, y_test = train_test_split(100 * x, y, random_state=0)
    scaler = StandardScaler().fit(x_train)
    mlp = xpnet.MLPClassifier(random_state=0, max_iter=30)
    search = GridSearchCV(mlp, {"alpha": 10.0 ** -np.arange(1, 4)}, cv=2).fit(scaler.transform(x_train), y_train)
    assert search.score(scaler.transform(x_test), y_test) > 0.75


def test_guide_more_control_with_warm_start():
    x, y = [[0.0, 0.0], [1.0, 1.0]], [0, 1]
    clf = xpnet.MLPClassifier(hidden_layer_sizes=(15,), random_state=1, max_iter=1, warm_start=True)
    for i in range(10):
        clf.fit(x, y)
        assert len(clf.loss_curve_) == i + 1
    assert clf.loss_curve_[-1] < clf.loss_curve_[0]


def test_guide_regression():
    x, y = make_regression(n_samples=100, n_features=5, n_targets=2, random_state=0)
    mlp = xpnet.MLPRegressor(solver="lbfgs", random_state=0, max_iter=300).fit(x, y)
    assert mlp.predict(x).shape == y.shape
    assert mlp.score(x, y) > 0.99


# The docstrings


class Numbers(doctest.OutputChecker):
    """Numbers agree up to one unit in the last digit that the docstring shows, as where scikit-learn checks them."""

    NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d*)?(?:e[-+]?\d+)?")

    def check_output(self, want: str, got: str, optionflags: int) -> bool:
        if super().check_output(want, got, optionflags):
            return True
        words = ["".join(self.NUMBER.sub("0", text).split()) for text in (want, got)]
        pairs = zip(self.NUMBER.findall(want), self.NUMBER.findall(got), strict=True)
        return words[0] == words[1] and all(float(other) == pytest.approx(float(one), rel=5e-3) for one, other in pairs)


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_docstring_examples(kind):
    theirs = getattr(sklearn.neural_network, kind)
    text = theirs.__doc__.replace("from sklearn.neural_network import", "from xpnet import")
    test = doctest.DocTestParser().get_doctest(text, {}, kind, None, None)
    assert any(f"from xpnet import {kind}" in example.source for example in test.examples)
    told: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    result = doctest.DocTestRunner(Numbers(), optionflags=flags).run(test, out=told.append)
    assert (result.failed, result.attempted) == (0, len(test.examples)), "".join(told)
