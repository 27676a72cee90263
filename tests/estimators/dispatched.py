"""With scikit-learn's array API dispatch on: answers in the library of the samples, on their device.

test_array_libraries.py runs this in a process of its own, for SciPy reads SCIPY_ARRAY_API when it is imported.
XPNET_ARRAYS names the library, the device of its arrays, and the estimators' device, such as "torch cuda cuda".
"""

from __future__ import annotations

import importlib
import os
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.utils import get_tags
from sklearn.utils._array_api import get_namespace_and_device, move_estimator_to, move_to
from sklearn.utils.estimator_checks import check_array_api_input_and_values, estimator_checks_generator

import xpnet
from xpnet.estimators import inference

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

LIBRARY, PLACE, DEVICE = os.environ["XPNET_ARRAYS"].split()
xp = importlib.import_module(LIBRARY)
PLACES = {(LIBRARY, PLACE), (LIBRARY, None), ("numpy", None), ("array_api_strict", None)}
PLACES |= {("array_api_strict", "CPU_DEVICE"), ("array_api_strict", "device1")}
PLACES |= {("torch", "cuda"), ("cupy", None)} if DEVICE == "cuda" else set()

ROWS = 80
_rng = np.random.RandomState(0)
X = _rng.normal(size=(ROWS, 5))
NUMBERS = X @ _rng.normal(size=(5, 3))
CLASSES = NUMBERS.argmax(axis=1)
WEIGHTS = _rng.uniform(0.5, 2, ROWS)
PROBLEMS = {
    "classes": (xpnet.MLPClassifier, 2 * CLASSES),
    "yes or no": (xpnet.MLPClassifier, (NUMBERS[:, 0] > 0).astype(np.int64)),
    "labels": (xpnet.MLPClassifier, (NUMBERS > 0).astype(np.int64)),
    "several outputs": (xpnet.MLPClassifier, np.column_stack([CLASSES, NUMBERS.argmin(axis=1) + 5])),
    "numbers": (xpnet.MLPRegressor, NUMBERS),
    "one number": (xpnet.MLPRegressor, NUMBERS[:, 0]),
}
FEW = {"hidden_layer_sizes": (6,), "max_iter": 4, "random_state": 0}


def theirs(array: Any) -> Any:
    """It as an array of the library, on the device."""
    if LIBRARY == "array_api_strict":
        return xp.asarray(array, device=xp.Device(PLACE))
    return xp.asarray(array) if LIBRARY == "cupy" else xp.asarray(array, device=PLACE)


def ours(array: Any) -> np.ndarray:
    return move_to(array, xp=np, device="cpu")


def estimator(name: str, **options: Any) -> Any:
    return PROBLEMS[name][0](**{**FEW, "device": DEVICE, **options})


def assert_in_kind(answer: Any, expected: Any, like: Any) -> None:
    """The same numbers, in an array of the type, and on the device, of that one."""
    if isinstance(expected, list):
        for part, e in zip(answer, expected, strict=True):
            assert_in_kind(part, e, like)
        return
    assert type(answer) is type(like)
    assert get_namespace_and_device(answer) == get_namespace_and_device(like)
    assert ours(answer).dtype == expected.dtype
    np.testing.assert_allclose(ours(answer), expected, rtol=1e-5 if expected.dtype == np.float32 else 1e-12)


@pytest.fixture(autouse=True)
def dispatch() -> Any:
    with sklearn.config_context(array_api_dispatch=True):
        yield


# scikit-learn's own checks


def _checks() -> list[Any]:
    """Those about such arrays, with arrays of which all are at hand."""
    found = []
    for kind in (xpnet.MLPClassifier, xpnet.MLPRegressor):
        for made, check in estimator_checks_generator(kind(device=DEVICE)):
            if not check.func.__name__.startswith("check_array_api"):
                continue
            words = dict(check.keywords)
            places = {tuple(words[key]) for key in ("X_ns_and_device", "other_ns_and_device") if key in words}
            places |= {(words["array_namespace"], words.get("device_name"))} if "array_namespace" in words else set()
            if places <= PLACES and any(name == LIBRARY for name, _ in places):
                label = "-".join(map(str, [kind.__name__, check.func.__name__, *sorted(map(str, places))]))
                found.append(pytest.param(made, check, id=label))
    return found


@pytest.mark.parametrize(("made", "check"), _checks())
def test_a_check_of_scikit_learn_passes(made, check):
    with sklearn.config_context(array_api_dispatch=False):
        check(made)


@pytest.mark.parametrize("kind", [xpnet.MLPClassifier, xpnet.MLPRegressor])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_its_values_are_those_for_numpys_arrays(kind, dtype):
    place = None if LIBRARY == "cupy" else PLACE
    with sklearn.config_context(array_api_dispatch=False):
        check_array_api_input_and_values(kind.__name__, kind(**FEW, device=DEVICE), LIBRARY, place, dtype, True)


def test_there_are_checks():
    names = {param.values[1].func.__name__ for param in _checks()}
    assert "check_array_api_input" in names
    assert get_tags(xpnet.MLPClassifier()).array_api_support
    assert get_tags(xpnet.MLPRegressor()).array_api_support


# In kind


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_answers_come_back_in_kind(name, dtype):
    x, y = X.astype(dtype), PROBLEMS[name][1]
    plain, fitted = estimator(name).fit(x, y, WEIGHTS), estimator(name).fit(theirs(x), theirs(y), theirs(WEIGHTS))
    for w, e in zip(fitted.coefs_, plain.coefs_, strict=True):
        assert type(w) is np.ndarray
        np.testing.assert_array_equal(w, e)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        if hasattr(fitted, method):
            assert_in_kind(getattr(fitted, method)(theirs(x)), getattr(plain, method)(x), theirs(x))
    score = fitted.score(theirs(x), theirs(y), theirs(WEIGHTS))
    assert isinstance(score, float)
    assert score == pytest.approx(plain.score(x, y, WEIGHTS), rel=1e-5)


def test_text_stays_numpys():
    names = np.array(["a", "b", "c"])[CLASSES]
    fitted = estimator("classes").fit(theirs(X), names)
    answer = fitted.predict(theirs(X))
    assert type(answer) is np.ndarray
    np.testing.assert_array_equal(answer, estimator("classes").fit(X, names).predict(X))
    assert fitted.score(theirs(X), names) == (answer == names).mean()
    assert_in_kind(fitted.predict_proba(theirs(X)), estimator("classes").fit(X, names).predict_proba(X), theirs(X))


@pytest.mark.parametrize("scoring", [None, "loss", "f1_macro"])
def test_a_validation_set_of_any_library(scoring):
    y = PROBLEMS["classes"][1]
    options = {"early_stopping": True, "scoring": scoring}
    fitted = estimator("classes", **options).fit(
        theirs(X), theirs(y), X_val=theirs(X[:30]), y_val=theirs(y[:30]), sample_weight_val=theirs(WEIGHTS[:30])
    )
    plain = estimator("classes", **options).fit(X, y, X_val=X[:30], y_val=y[:30], sample_weight_val=WEIGHTS[:30])
    np.testing.assert_array_equal(fitted.history_["val_score"], plain.history_["val_score"])
    np.testing.assert_array_equal(
        estimator("classes", **options).fit(theirs(X), theirs(y)).history_["val_score"],
        estimator("classes", **options).fit(X, y).history_["val_score"],
    )


def test_epoch_by_epoch():
    y = PROBLEMS["classes"][1]
    one, other = estimator("classes"), estimator("classes")
    for _ in range(3):
        one.partial_fit(theirs(X), theirs(y), classes=theirs(np.unique(y)))
        other.partial_fit(X, y, classes=np.unique(y))
    assert_in_kind(one.predict_proba(theirs(X)), other.predict_proba(X), theirs(X))


def test_behind_another_step_of_a_pipeline():
    y = PROBLEMS["classes"][1]
    one, other = (
        make_pipeline(PCA(3, svd_solver="full"), estimator("classes")).fit(*data)
        for data in ((theirs(X), theirs(y)), (X, y))
    )
    answer = one.predict_proba(theirs(X))
    assert type(answer) is type(theirs(X))
    np.testing.assert_allclose(ours(answer), other.predict_proba(X), rtol=1e-6)


# Whose arrays an estimator takes


def test_what_numpy_taught_answers_everybody():
    fitted = estimator("classes").fit(X, PROBLEMS["classes"][1])
    assert_in_kind(fitted.predict_proba(theirs(X)), fitted.predict_proba(X), theirs(X))
    with warnings.catch_warnings(), sklearn.config_context(array_api_dispatch=False):
        warnings.simplefilter("error")
        moved = xpnet.from_sklearn(fitted.to_sklearn(), device=DEVICE)
    assert_in_kind(moved.predict(theirs(X)), fitted.predict(X), theirs(X))


def test_what_another_library_taught_keeps_to_it_until_it_is_moved():
    """As scikit-learn has it."""
    fitted = estimator("classes").fit(theirs(X), theirs(PROBLEMS["classes"][1]))
    expected = ours(fitted.predict_proba(theirs(X)))
    for x in (X, X.tolist()):
        with pytest.raises(ValueError, match=r"MLPClassifier\.predict_log_proba\(\) must use the same namespace"):
            fitted.predict_log_proba(x)
    namespace, _, device = get_namespace_and_device(X)
    moved = move_estimator_to(fitted, namespace, device)
    np.testing.assert_array_equal(moved.predict_proba(X), expected)
    namespace, _, device = get_namespace_and_device(theirs(X))
    back = move_estimator_to(moved, namespace, device)
    assert_in_kind(back.predict_proba(theirs(X)), expected, theirs(X))
    with pytest.raises(ValueError, match="must use the same namespace"):
        back.predict(X)
    with sklearn.config_context(array_api_dispatch=False):
        np.testing.assert_array_equal(fitted.predict_proba(X), expected)
    assert fitted.fit(X, PROBLEMS["classes"][1]).predict(X).shape == (ROWS,)


def test_a_fitted_one_can_be_kept_without_the_library():
    fitted = estimator("classes").fit(theirs(X), theirs(PROBLEMS["classes"][1]))
    kept = pickle.dumps(fitted)
    assert LIBRARY.encode() not in kept.replace(str(fitted._fitted_in[0]).encode(), b"")
    assert_in_kind(pickle.loads(kept).predict(theirs(X)), ours(fitted.predict(theirs(X))), theirs(X))


if (LIBRARY, PLACE) == ("torch", "cpu"):

    def test_no_number_is_copied_between_numpy_and_pytorch(monkeypatch):
        seen, tensor = [], theirs(X)

        def outputs(fitted: Any, x: Any, *rest: Any, real: Any = inference.outputs) -> Any:
            seen.extend((x, real(fitted, x, *rest)))
            return seen[-1]

        monkeypatch.setattr(inference, "outputs", outputs)
        fitted = estimator("numbers", activation="gelu").fit(X, NUMBERS)  # scikit-learn's own forward pass lacks it
        answer = fitted.predict(tensor)
        assert [array.ctypes.data for array in seen] == [tensor.data_ptr(), answer.data_ptr()]
