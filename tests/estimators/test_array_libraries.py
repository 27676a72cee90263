"""Arrays of other libraries in place of NumPy's, and what comes back."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sklearn
from sklearn.utils import get_tags

import xpnet

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROWS = 70
_rng = np.random.RandomState(0)
X = _rng.normal(size=(ROWS, 4))
NUMBERS = X @ _rng.normal(size=(4, 3))
CLASSES, WEIGHTS = 2 * NUMBERS.argmax(axis=1), _rng.uniform(0.5, 2, ROWS)
SEVERAL = np.column_stack([CLASSES, NUMBERS.argmin(axis=1)])
FEW = {"hidden_layer_sizes": (6,), "max_iter": 4, "random_state": 0}


class Exchanged:
    """An array that offers DLPack and nothing else: NumPy alone would make an object of it."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        self.shape = array.shape

    def __dlpack__(self, **options: Any) -> Any:
        return self._array.__dlpack__(**options)

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._array.__dlpack_device__()


class Interface:
    """An array that offers NumPy's interface."""

    def __init__(self, array: np.ndarray) -> None:
        self._array, self.__array_interface__ = array, array.__array_interface__

    def __len__(self) -> int:
        return len(self._array)


def _strict(array: np.ndarray) -> Any:
    return pytest.importorskip("array_api_strict", reason="array-api-strict is not installed").asarray(array)


def _torch(array: np.ndarray) -> Any:
    return pytest.importorskip("torch", reason="PyTorch is not installed").asarray(array)


def _polars(array: np.ndarray) -> Any:
    polars = pytest.importorskip("polars", reason="polars is not installed")
    return polars.Series(array) if array.ndim == 1 else polars.DataFrame(array)


def _pandas(array: np.ndarray) -> Any:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    return pandas.Series(array) if array.ndim == 1 else pandas.DataFrame(array)


KINDS = {
    "DLPack": Exchanged,
    "NumPy's interface": Interface,
    "array-api-strict": _strict,
    "PyTorch": _torch,
    "polars": _polars,
    "pandas": _pandas,
}
every_kind = pytest.mark.parametrize("kind", KINDS.values(), ids=KINDS)


def assert_same(one: Any, other: Any) -> None:
    for a, b in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        assert type(a) is np.ndarray
        np.testing.assert_allclose(a, b, rtol=1e-9)  # tables have their columns one after the other


def classifier(**options: Any) -> Any:
    return xpnet.MLPClassifier(**{**FEW, **options})


def regressor(**options: Any) -> Any:
    return xpnet.MLPRegressor(**{**FEW, **options})


# Without dispatch


@every_kind
def test_arrays_of_every_kind_in_every_argument(kind):
    for made, y in ((classifier, CLASSES), (regressor, NUMBERS), (regressor, NUMBERS[:, 0]), (classifier, SEVERAL)):
        plain = made().fit(X, y, WEIGHTS, X_val=X[:20], y_val=y[:20], sample_weight_val=WEIGHTS[:20])
        fitted = made().fit(
            kind(X),
            kind(y),
            kind(WEIGHTS),
            X_val=kind(X[:20].copy()),
            y_val=kind(y[:20].copy()),
            sample_weight_val=kind(WEIGHTS[:20].copy()),
        )
        assert_same(fitted, plain)
        np.testing.assert_allclose(fitted.history_["val_score"], plain.history_["val_score"], rtol=1e-9)
        for method in ("predict", "predict_proba", "predict_log_proba"):
            if hasattr(plain, method):
                answer, expected = getattr(fitted, method)(kind(X)), getattr(plain, method)(X)
                several = isinstance(expected, list)
                for part, e in zip(answer, expected, strict=True) if several else [(answer, expected)]:
                    assert type(part) is np.ndarray
                    np.testing.assert_allclose(part, e, rtol=1e-9)
        assert fitted.score(kind(X), kind(y), kind(WEIGHTS)) == pytest.approx(plain.score(X, y, WEIGHTS), rel=1e-9)


@every_kind
def test_arrays_of_every_kind_epoch_by_epoch(kind):
    one, other = classifier(), classifier()
    for _ in range(2):
        one.partial_fit(kind(X), kind(CLASSES), kind(WEIGHTS), classes=kind(np.unique(CLASSES)))
        other.partial_fit(X, CLASSES, WEIGHTS, classes=np.unique(CLASSES))
    assert_same(one, other)


@pytest.mark.parametrize("kind", [Exchanged, _strict, _torch])
def test_the_dtype_of_the_samples_is_that_of_the_computation(kind):
    for dtype, expected in (("float32", "float32"), ("float64", "float64"), ("int32", "float64"), ("bool", "float64")):
        fitted = regressor().fit(kind(X.astype(dtype)), kind(NUMBERS))
        assert fitted.coefs_[0].dtype == expected
        assert_same(fitted, regressor().fit(X.astype(dtype), NUMBERS))


def test_samples_are_read_where_they_lie():
    from xpnet.estimators.arrays import on_host

    assert np.shares_memory(on_host(Exchanged(X)), X)
    assert on_host(X) is X
    assert on_host([1]) == [1]
    assert on_host(None) is None


def test_what_a_library_refuses_to_show_is_said_by_it():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    for tensor, message in (
        (torch.zeros((5, 2), requires_grad=True), "detach"),
        (torch.zeros((5, 2), dtype=torch.bfloat16), "BFloat16"),
        (torch.zeros((5, 2)).to_sparse(), "to_dense"),
    ):
        with pytest.raises((RuntimeError, TypeError), match=message):
            regressor().fit(tensor, np.zeros(5))


@every_kind
def test_scikit_learn_speaks_of_bad_samples_of_every_kind(kind):
    bad = X.copy()
    bad[2, 1] = np.nan
    with pytest.raises(ValueError, match="Input X contains NaN"):
        classifier().fit(kind(bad), CLASSES)
    if kind not in (_polars, _pandas):  # which are told that names are missing
        with pytest.raises(ValueError, match="X has 3 features, but MLPClassifier is expecting 4 features as input"):
            classifier().fit(X, CLASSES).predict(kind(X[:, :3].copy()))


def test_names_of_a_table_are_kept_and_checked():
    for module in ("polars", "pandas"):
        tables = pytest.importorskip(module, reason=f"{module} is not installed")
        table = tables.DataFrame({name: X[:, i] for i, name in enumerate("abcd")})
        fitted = classifier().fit(table, tables.Series(CLASSES), X_val=table, y_val=tables.Series(CLASSES))
        assert fitted.feature_names_in_.tolist() == list("abcd")
        with pytest.raises(ValueError, match="The feature names should match those that were passed during fit"):
            fitted.predict(table[list("badc")])
        with pytest.raises(ValueError, match="X_val, y_val: The feature names should match"):
            classifier().fit(table, CLASSES, X_val=table[list("badc")], y_val=CLASSES)


# With dispatch


def run_dispatched(library: str, place: str, device: str) -> None:
    """In a process of its own, for SciPy reads its switch when it is imported."""
    pytest.importorskip(library, reason=f"{library} is not installed")
    environment = os.environ | {"SCIPY_ARRAY_API": "1", "XPNET_ARRAYS": f"{library} {place} {device}"}
    tests = Path(__file__).with_name("dispatched.py")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tests)]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert ended.returncode == 0, ended.stdout + ended.stderr


@pytest.mark.parametrize(("library", "place"), [("array_api_strict", "device1"), ("torch", "cpu")])
def test_answers_come_back_in_the_callers_library(library, place):
    run_dispatched(library, place, "cpu")


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_answers_stay_on_the_gpu(library):
    if library == "torch":
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        if not torch.cuda.is_available():
            pytest.skip("PyTorch was installed without CUDA")
    run_dispatched(library, "cuda", "cuda")


def test_it_is_said_to_scikit_learn_where_dispatch_is_possible(monkeypatch):
    for switch, said in (("1", True), ("0", False)):
        monkeypatch.setenv("SCIPY_ARRAY_API", switch)
        assert get_tags(xpnet.MLPClassifier()).array_api_support is said
        assert get_tags(xpnet.MLPRegressor()).array_api_support is said


def test_dispatch_changes_nothing_for_numpys_arrays_lists_and_tables(monkeypatch):
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    plain = classifier().fit(X, CLASSES)
    with sklearn.config_context(array_api_dispatch=True):
        for x in (X, X.tolist(), _pandas(X), _polars(X)):
            fitted = classifier().fit(x, CLASSES)
            assert_same(fitted, plain)
            answer = fitted.predict_proba(x)
            assert type(answer) is np.ndarray
            np.testing.assert_array_equal(answer, plain.predict_proba(X))
