"""Among scikit-learn's tools: xpnet's estimators do there what scikit-learn's own do, and a little more."""

from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
import textwrap
from typing import Any

import joblib
import numpy as np
import pytest
import sklearn
import sklearn.neural_network
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.callback import ProgressBar, ScoringMonitor
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import (
    AdaBoostClassifier,
    BaggingClassifier,
    BaggingRegressor,
    StackingClassifier,
    VotingClassifier,
)
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_predict, cross_val_score, learning_curve, validation_curve
from sklearn.multiclass import OneVsOneClassifier, OneVsRestClassifier
from sklearn.multioutput import ClassifierChain, MultiOutputClassifier, MultiOutputRegressor, RegressorChain
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import xpnet

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROWS = 90
_rng = np.random.RandomState(0)
X = _rng.normal(size=(ROWS, 5))
NUMBERS = X @ _rng.normal(size=(5, 3)) + 0.2 * _rng.normal(size=(ROWS, 3))
NUMBER, LABELS = NUMBERS[:, 0], (NUMBERS > 0).astype(int)
NAMES = np.array(["no", "perhaps", "yes"])[NUMBERS.argmax(axis=1)]
COLUMNS = ["a", "b", "c", "d", "e"]
FEW = {"hidden_layer_sizes": (8,), "max_iter": 12, "learning_rate_init": 0.02, "random_state": 0}


def classifier(home: Any = xpnet, **options: Any) -> Any:
    return home.MLPClassifier(**{**FEW, **options})


def regressor(home: Any = xpnet, **options: Any) -> Any:
    return home.MLPRegressor(**{**FEW, **options})


def by_both(result: Any) -> tuple[Any, Any]:
    """What scikit-learn's estimators give, and what xpnet's give."""
    return result(sklearn.neural_network), result(xpnet)


# Tools that fit it


@pytest.mark.parametrize(
    "wrapped",
    [
        lambda home: make_pipeline(StandardScaler(), classifier(home)).fit(X, NAMES),
        lambda home: CalibratedClassifierCV(classifier(home), cv=2).fit(X, NAMES),
        lambda home: CalibratedClassifierCV(classifier(home), cv=2, method="isotonic", ensemble=False).fit(X, NAMES),
        lambda home: BaggingClassifier(classifier(home), 3, random_state=0).fit(X, NAMES),
        lambda home: AdaBoostClassifier(classifier(home), n_estimators=3, random_state=0).fit(X, NAMES),
        lambda home: StackingClassifier([("mlp", classifier(home))], LogisticRegression(), cv=2).fit(X, NAMES),
        lambda home: VotingClassifier([("one", classifier(home)), ("two", LogisticRegression())], voting="soft").fit(
            X, NAMES
        ),
        lambda home: OneVsRestClassifier(classifier(home)).fit(X, NAMES),
        lambda home: OneVsOneClassifier(classifier(home)).fit(X, NAMES),
        lambda home: ClassifierChain(classifier(home), order=[2, 0, 1]).fit(X, LABELS),
        lambda home: MultiOutputClassifier(classifier(home)).fit(X, LABELS),
        lambda home: MultiOutputRegressor(regressor(home)).fit(X, NUMBERS),
        lambda home: RegressorChain(regressor(home)).fit(X, NUMBERS),
        lambda home: BaggingRegressor(regressor(home), 3, random_state=0).fit(X, NUMBER),
        lambda home: TransformedTargetRegressor(regressor(home), transformer=StandardScaler()).fit(X, NUMBER),
    ],
    ids=[
        "pipeline",
        "calibrated",
        "calibrated as one",
        "bagging",
        "boosting",
        "stacking",
        "voting",
        "one against the rest",
        "one against one",
        "chain",
        "classifier per output",
        "regressor per output",
        "chain of numbers",
        "bagging of numbers",
        "transformed target",
    ],
)
def test_estimators_around_it_predict_the_same(wrapped):
    expected, got = by_both(wrapped)
    for method in ("predict", "predict_proba"):
        if hasattr(expected, method):
            one, other = getattr(expected, method)(X), getattr(got, method)(X)
            assert_alike(one, other)


def assert_alike(expected: Any, got: Any) -> None:
    for one, other in zip(expected, got, strict=True) if isinstance(expected, list) else [(expected, got)]:
        if one.dtype.kind == "f":
            np.testing.assert_allclose(other, one, rtol=1e-6, atol=1e-6)
        else:
            np.testing.assert_array_equal(other, one)


def test_a_grid_is_searched_by_two_processes():
    grid = {"hidden_layer_sizes": [(4,), (8, 4)], "alpha": [1e-4, 10.0]}
    expected, got = by_both(lambda home: GridSearchCV(classifier(home), grid, cv=2, n_jobs=2).fit(X, NAMES))
    np.testing.assert_allclose(got.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
    assert got.best_params_ == expected.best_params_
    assert isinstance(got.best_estimator_, xpnet.MLPClassifier)
    assert_alike(expected.predict_proba(X), got.predict_proba(X))


def test_a_grid_over_what_scikit_learn_lacks():
    grid = {"dropout": [0.0, 0.3], "activation": ["relu", "gelu"]}
    search = GridSearchCV(classifier(), grid, cv=2, error_score="raise").fit(X, NAMES)
    assert set(search.best_params_) == set(grid)


def test_threads_fit_side_by_side():
    seeds = range(6)
    jobs = Parallel(n_jobs=3, prefer="threads")(delayed(classifier(random_state=s).fit)(X, NAMES) for s in seeds)
    for seed, fitted in zip(seeds, jobs, strict=True):
        np.testing.assert_array_equal(
            fitted.predict_proba(X), classifier(random_state=seed).fit(X, NAMES).predict_proba(X)
        )


@pytest.mark.parametrize(
    "measure",
    [
        lambda home: cross_val_score(classifier(home), X, NAMES, cv=3),
        lambda home: cross_val_score(classifier(home, early_stopping=True), X, NAMES, cv=3, scoring="neg_log_loss"),
        lambda home: cross_val_score(regressor(home), X, NUMBERS, cv=3, scoring="neg_mean_absolute_error"),
        lambda home: cross_val_predict(classifier(home), X, NAMES, cv=3, method="predict_proba"),
        lambda home: (
            permutation_importance(regressor(home).fit(X, NUMBER), X, NUMBER, n_repeats=3, random_state=0).importances
        ),
        lambda home: learning_curve(classifier(home), X, NAMES, cv=3, train_sizes=[0.5, 1.0])[2],
        lambda home: learning_curve(
            classifier(home), X, NAMES, cv=3, train_sizes=[0.2, 0.5, 1.0], exploit_incremental_learning=True
        )[2],
        lambda home: validation_curve(regressor(home), X, NUMBER, param_name="alpha", param_range=[0.1, 10], cv=3)[1],
    ],
    ids=[
        "scores",
        "log losses",
        "scores of numbers",
        "predictions",
        "importances",
        "learning curve",
        "increments",
        "validation curve",
    ],
)
def test_measures_are_the_same(measure):
    expected, got = by_both(measure)
    np.testing.assert_allclose(got, expected, rtol=1e-6, atol=1e-9)


# Copies


EVERYTHING = {
    **{"activation": ["relu"], "dropout": [0.2], "normalization": "batch", "max_norm": 3.0, "clip_norm": 1.0},
    **{"solver": "adamw", "learning_rate": "cosine", "n_threads": 1, "scoring": "f1_macro", "dtype": "float32"},
    **{"class_weight": "balanced", "label_smoothing": 0.1, "device": "numpy"},
}


@pytest.mark.parametrize("options", [{}, EVERYTHING], ids=["scikit-learn's", "ours"])
def test_clones_have_the_parameters_and_nothing_else(options):
    estimator = classifier(**options).fit(X, NAMES)
    copied = clone(estimator)
    assert copied.get_params() == estimator.get_params()
    assert vars(copied).keys() == vars(classifier()).keys()
    np.testing.assert_array_equal(copied.fit(X, NAMES).predict_proba(X), estimator.predict_proba(X))


def through_joblib(estimator: Any, folder: Any) -> Any:
    joblib.dump(estimator, folder / "estimator.joblib")
    return joblib.load(folder / "estimator.joblib")


WAYS = {
    "pickle": lambda estimator, folder: pickle.loads(pickle.dumps(estimator)),
    "joblib": through_joblib,
    "deepcopy": lambda estimator, folder: copy.deepcopy(estimator),
}


@pytest.mark.parametrize("way", list(WAYS.values()), ids=list(WAYS))
@pytest.mark.parametrize(
    "options", [{}, {"solver": "sgd"}, {**EVERYTHING, "class_weight": None}], ids=["adam", "sgd", "ours"]
)
def test_a_copy_goes_on_as_the_original_would(way, options, tmp_path):
    estimator = classifier(**options).fit(X, NAMES)
    copied = way(estimator, tmp_path)
    for _ in range(2):
        np.testing.assert_array_equal(copied.predict_proba(X), estimator.predict_proba(X))
        assert copied.loss_curve_ == estimator.loss_curve_
        for each in (copied, estimator):
            each.partial_fit(X, NAMES)


# Tables


def test_pandas_names_are_kept_and_checked():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table = pandas.DataFrame(X, columns=COLUMNS)
    estimator = classifier(early_stopping=True).fit(table, pandas.Series(NAMES, dtype=object))
    assert estimator.feature_names_in_.tolist() == COLUMNS
    np.testing.assert_array_equal(estimator.predict(table), classifier(early_stopping=True).fit(X, NAMES).predict(X))
    with pytest.raises(ValueError, match="The feature names should match those that were passed during fit"):
        estimator.predict(table[COLUMNS[::-1]])
    with pytest.warns(UserWarning, match="X does not have valid feature names"):
        estimator.predict(X)
    assert not hasattr(estimator.fit(X, NAMES), "feature_names_in_")


def test_pandas_in_every_argument():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    table, weights = pandas.DataFrame(X, columns=COLUMNS), pandas.Series(np.linspace(0.1, 1, ROWS))
    many = pandas.DataFrame(NUMBERS)
    estimator = regressor().fit(table, many, sample_weight=weights, X_val=table, y_val=many, sample_weight_val=weights)
    plain = regressor().fit(X, NUMBERS, sample_weight=weights.to_numpy())
    np.testing.assert_array_equal(estimator.predict(table), plain.predict(X))
    expected = plain.score(X, NUMBERS, sample_weight=weights.to_numpy())
    assert estimator.history_["val_score"][-1] == pytest.approx(expected)


def test_set_output_reaches_it_as_a_table():
    pytest.importorskip("pandas", reason="pandas is not installed")
    pipeline = make_pipeline(StandardScaler(), classifier()).set_output(transform="pandas").fit(X, NAMES)
    assert pipeline[-1].feature_names_in_.tolist() == ["x0", "x1", "x2", "x3", "x4"]
    assert_alike(
        make_pipeline(StandardScaler(), classifier()).fit(X, NAMES).predict_proba(X), pipeline.predict_proba(X)
    )


def test_polars_tables():
    polars = pytest.importorskip("polars", reason="polars is not installed")
    table = polars.DataFrame(X, schema=COLUMNS)
    estimator = classifier().fit(table, polars.Series(NAMES))
    assert estimator.feature_names_in_.tolist() == COLUMNS
    np.testing.assert_array_equal(estimator.predict(table), classifier().fit(X, NAMES).predict(X))
    numbers = regressor().fit(table, polars.DataFrame(NUMBERS), sample_weight=polars.Series(np.ones(ROWS)))
    np.testing.assert_allclose(numbers.predict(table), regressor().fit(X, NUMBERS).predict(X), rtol=1e-9)


# Arrays of other libraries


def test_torch_tensors_are_taken():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    x, y = torch.asarray(X), torch.asarray(NUMBERS)
    np.testing.assert_allclose(regressor().fit(x, y).predict(x), regressor().fit(X, NUMBERS).predict(X), rtol=1e-9)


DISPATCHED = """
    import numpy as np, sklearn, torch
    from xpnet import MLPClassifier, MLPRegressor

    few = {"hidden_layer_sizes": (8,), "max_iter": 12, "tol": 0.0, "n_iter_no_change": 99, "random_state": 0}
    rng = np.random.RandomState(0)
    x = rng.normal(size=(60, 4))
    targets = {"classes": x.argmax(axis=1), "numbers": x @ rng.normal(size=(4, 2))}
    import warnings
    warnings.simplefilter("ignore", sklearn.exceptions.ConvergenceWarning)
    for kind, y, methods in (
        (MLPClassifier, targets["classes"], ("predict", "predict_proba", "predict_log_proba")),
        (MLPRegressor, targets["numbers"], ("predict",)),
    ):
        plain = kind(**few).fit(x, y)
        with sklearn.config_context(array_api_dispatch=True):
            tensor = torch.asarray(x, device=DEVICE)
            estimator = kind(device=NAME, **few).fit(tensor, torch.asarray(y, device=DEVICE))
            for method in methods:
                answer = getattr(estimator, method)(tensor)
                assert isinstance(answer, torch.Tensor), (method, type(answer))
                assert answer.device == tensor.device, (method, answer.device)
                np.testing.assert_allclose(answer.cpu().numpy(), getattr(plain, method)(x), rtol=1e-6, atol=1e-6)
"""


def run_dispatched(device: str, name: str) -> None:
    """In a process of its own, because SciPy reads its switch when it is imported."""
    code = textwrap.dedent(DISPATCHED).replace("DEVICE", repr(device)).replace("NAME", repr(name))
    environment = os.environ | {"SCIPY_ARRAY_API": "1"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stderr


def test_with_array_api_dispatch_results_come_back_as_tensors():
    pytest.importorskip("torch", reason="PyTorch is not installed")
    run_dispatched("cpu", "cpu")


@pytest.mark.gpu
def test_with_array_api_dispatch_results_stay_on_the_gpu():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("PyTorch was installed without CUDA")
    run_dispatched("cuda", "cuda")


@pytest.mark.gpu
def test_cupy_arrays_are_taken():
    import cupy

    x, y = cupy.asarray(X), cupy.asarray(NUMBERS)
    estimator = regressor(device="cuda").fit(x, y)
    np.testing.assert_allclose(
        cupy.asnumpy(estimator.predict(x)), regressor().fit(X, NUMBERS).predict(X), rtol=1e-6, atol=1e-6
    )


# Metadata


def test_sample_weights_are_routed():
    weights = np.linspace(0, 1, ROWS) ** 3
    with sklearn.config_context(enable_metadata_routing=True):

        def searched(home: Any) -> Any:
            mlp = classifier(home).set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
            return GridSearchCV(mlp, {"alpha": [0.1, 1.0]}, cv=2).fit(X, NAMES, sample_weight=weights)

        expected, got = by_both(searched)
        np.testing.assert_allclose(got.cv_results_["mean_test_score"], expected.cv_results_["mean_test_score"])
        assert_alike(expected.predict_proba(X), got.predict_proba(X))
        assert not np.allclose(
            got.predict_proba(X), classifier(alpha=got.best_params_["alpha"]).fit(X, NAMES).predict_proba(X)
        )


def test_a_validation_set_is_routed_and_scaled_by_a_pipeline():
    val = 10 * X[::3] + 1, NAMES[::3]
    with sklearn.config_context(enable_metadata_routing=True):
        mlp = classifier().set_fit_request(X_val=True, y_val=True)
        pipeline = make_pipeline(StandardScaler(), mlp, transform_input=["X_val"])
        pipeline.fit(10 * X + 1, NAMES, X_val=val[0], y_val=val[1])
        assert pipeline[-1].history_["val_score"][-1] == pytest.approx(pipeline.score(*val))


# scikit-learn's callbacks


class Recorder:
    """Notes what it is told; asks to stop after so many epochs."""

    def __init__(self, stop_after: int | None = None, fail: bool = False) -> None:
        self.events: list[str] = []
        self.stop_after, self.fail = stop_after, fail

    def setup(self, estimator, context):
        self.events.append("setup")

    def teardown(self, estimator, context):
        self.events.append("teardown")

    def on_fit_task_begin(self, estimator, context):
        self.events.append("begin fit" if context.parent is None else "begin")

    def on_fit_task_end(self, estimator, context, *, X=None, y=None, fitted_estimator=None):  # noqa: N803 - its name there
        self.events.append("end fit" if context.parent is None else "end")
        if self.fail:
            raise RuntimeError("mine")
        return context.parent is not None and self.events.count("end") == self.stop_after


@pytest.mark.parametrize("solver", ["sgd", "adam"])
def test_a_callback_is_told_of_every_epoch_and_changes_nothing(solver):
    recorder = Recorder()
    told = classifier(solver=solver).set_callbacks(recorder).fit(X, NAMES)
    assert recorder.events == ["setup", "begin fit", *["begin", "end"] * told.n_iter_, "end fit", "teardown"]
    np.testing.assert_array_equal(told.predict_proba(X), classifier(solver=solver).fit(X, NAMES).predict_proba(X))


def test_a_callback_can_stop_training():
    stopped = classifier().set_callbacks(Recorder(stop_after=3)).fit(X, NAMES)
    assert stopped.n_iter_ == len(stopped.loss_curve_) == len(stopped.history_["loss"]) == 3
    assert stopped.loss_curve_ == classifier().fit(X, NAMES).loss_curve_[:3]


def test_a_callback_that_fails_is_heard_and_torn_down():
    recorder = Recorder(fail=True)
    with pytest.raises(RuntimeError, match="mine"):
        classifier().set_callbacks(recorder).fit(X, NAMES)
    assert recorder.events[-1] == "teardown"
    recorder = Recorder()
    with pytest.raises(ValueError, match="NaN"):
        classifier().set_callbacks(recorder).fit(np.where(X > 2, np.nan, X), NAMES)
    assert recorder.events.count("setup") == recorder.events.count("teardown")


@pytest.mark.parametrize(
    ("make", "y", "scoring"), [(classifier, NAMES, "accuracy"), (regressor, NUMBERS, "neg_mean_squared_error")]
)
def test_scoring_monitor_scores_every_epoch(make, y, scoring):
    monitor = ScoringMonitor(scoring=scoring)
    estimator = make(max_iter=5).set_callbacks(monitor).fit(X, y)
    epochs = [row for row in monitor.get_logs().data if len(row["task_id_path"]) == 2]
    scores = [sklearn.metrics.get_scorer(scoring)(make(max_iter=n).fit(X, y), X, y) for n in range(1, 6)]
    assert [row[scoring] for row in epochs] == pytest.approx(scores)
    assert estimator.n_iter_ == 5


def test_progress_bar_shows_the_fit(capsys):
    classifier().set_callbacks(ProgressBar()).fit(X, NAMES)
    printed = capsys.readouterr().out
    assert "MLPClassifier - fit" in printed
    assert "100%" in printed


def test_progress_bars_come_down_from_a_search(capsys):
    search = GridSearchCV(classifier(max_iter=3), {"alpha": [0.1, 1.0]}, cv=2)
    search.set_callbacks(ProgressBar(max_propagation_depth=None)).fit(X, NAMES)
    printed = capsys.readouterr().out
    assert "GridSearchCV - fit" in printed
    assert "MLPClassifier - fit" in printed


def test_callbacks_survive_clone_and_pickle():
    monitor = ScoringMonitor(scoring="accuracy")
    estimator = clone(classifier(max_iter=3).set_callbacks(monitor)).fit(X, NAMES)
    assert len(monitor.get_logs().data) >= 3
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(estimator)).predict(X), estimator.predict(X))
