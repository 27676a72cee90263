"""The estimators on arrays that lie on a GPU: what is there stays there. The GPU is played by a processor.

Two libraries have arrays on it: CuPy, and one that has nothing in common with CuPy but DLPack, as PyTorch.
"""

from __future__ import annotations

import sys
import types
from typing import Any

import numpy as np
import pytest
import sklearn
from gpu.fake_cupy import Array, FakeCupy, Pointer, Stream, install

import xpnet
from xpnet.devices.cuda.arrays import CupyArrays
from xpnet.devices.cuda.device import Cuda
from xpnet.feed import Feed
from xpnet.memory import SMALL

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

ROWS, FEATURES, BATCH = 150, 60, 32
_rng = np.random.RandomState(0)
X = _rng.normal(size=(ROWS, FEATURES)).astype(np.float32)
NUMBERS = X @ _rng.normal(size=(FEATURES, 3)).astype(np.float32)
CLASSES = NUMBERS.argmax(axis=1)
NAMES = np.array(["a", "b", "c"])
WEIGHTS = _rng.uniform(0.5, 2, ROWS)
PROBLEMS = {
    "classes": (xpnet.MLPClassifier, 2 * CLASSES),
    "text": (xpnet.MLPClassifier, NAMES[CLASSES]),
    "yes or no": (xpnet.MLPClassifier, NUMBERS[:, 0] > 0),
    "one class": (xpnet.MLPClassifier, np.full(ROWS, 7)),
    "labels": (xpnet.MLPClassifier, (NUMBERS > 0).astype(int)),
    "several outputs": (xpnet.MLPClassifier, np.column_stack([CLASSES, NUMBERS.argmin(axis=1) + 5])),
    "several outputs of text": (xpnet.MLPClassifier, NAMES[np.column_stack([CLASSES, NUMBERS.argmin(axis=1)])]),
    "numbers": (xpnet.MLPRegressor, NUMBERS),
    "one number": (xpnet.MLPRegressor, NUMBERS[:, 0]),
}
LIBRARIES = ["CuPy", "another"]
FEW = {"hidden_layer_sizes": (7,), "max_iter": 3, "random_state": 0, "batch_size": BATCH}
Copies = list[tuple[str, tuple[int, ...]]]


class Tensor:
    """An array of the other library; like PyTorch's, it comes to the host only where that is said."""

    copies: Copies

    def __init__(self, there: Array, gpu: int = 0) -> None:
        self.there, self.gpu, self.streams = there, gpu, []
        self.shape, self.dtype, self.ndim, self.device = there.shape, there.dtype, there.ndim, f"gpu:{gpu}"

    def __len__(self) -> int:
        return len(self.there)

    def __dlpack_device__(self) -> tuple[int, int]:
        return 2, self.gpu

    def __dlpack__(self, *, stream: int | None = None, **options: Any) -> Array:
        assert options.get("dl_device") in (None, (2, self.gpu)), "a copy to the host that nobody asked for"
        self.streams.append(stream)
        return self.there

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return ANOTHER

    def __array__(self, dtype: Any = None, copy: Any = None) -> np.ndarray:
        self.copies.append(("to the host", self.shape))
        return np.array(self.there.view(np.ndarray), dtype)


class Another(types.ModuleType):
    """The other library's namespace, as far as scikit-learn and xpnet need it."""

    float32, float64 = np.dtype("float32"), np.dtype("float64")

    def from_dlpack(self, array: Any, device: str | None = None) -> Tensor:
        if not isinstance(array, Array):
            raise BufferError("this does not lie on the GPU")
        return Tensor(array.__dlpack__(stream=1))

    def asarray(self, array: np.ndarray, device: str) -> Tensor:
        return Tensor(there(array), int(device.removeprefix("gpu:")))

    def log(self, array: Tensor) -> Tensor:
        return Tensor(np.log(array.there))

    def __array_namespace_info__(self) -> Any:
        return types.SimpleNamespace(dtypes=lambda **_: {"float32": self.float32, "float64": self.float64})


ANOTHER = Another("another")


def cupy() -> Any:
    return sys.modules["cupy"]


def there(array: Any) -> Array:
    """It on the GPU."""
    array = np.asarray(array)
    on_gpu = cupy().zeros(array.shape, array.dtype)
    on_gpu.view(np.ndarray)[...] = array
    return on_gpu


def on_gpu(library: str, array: Any) -> Any:
    return there(array) if library == "CuPy" else Tensor(there(array))


def values(answer: Any) -> np.ndarray:
    """What an array of anybody holds when the GPU has done all its work."""
    cupy()._finish()
    return np.array((answer.there if isinstance(answer, Tensor) else answer).view(np.ndarray))


@pytest.fixture
def copies(monkeypatch: pytest.MonkeyPatch) -> Copies:
    """A GPU, and what went to the host or came from there since: the shape, or the bytes where none is known."""
    made: Copies = []
    install(monkeypatch)
    monkeypatch.setattr(Tensor, "copies", made, raising=False)

    def told(way: str, method: Any, shape: Any) -> Any:
        def call(*arguments: Any) -> Any:
            made.append((way, shape(*arguments)))
            return method(*arguments)

        return call

    monkeypatch.setattr(Array, "__dlpack_device__", lambda self: (2, 0), raising=False)
    monkeypatch.setattr(Array, "__dlpack__", lambda self, **_: self, raising=False)
    monkeypatch.setattr(
        FakeCupy, "from_dlpack", lambda self, array: array.__dlpack__(stream=self.current[-1].ptr), raising=False
    )
    monkeypatch.setattr(FakeCupy, "asnumpy", told("to the host", FakeCupy.asnumpy, lambda gpu, array: array.shape))
    monkeypatch.setattr(Array, "set", told("from the host", Array.set, lambda array, host: host.shape))
    for way, name in (("from the host", "copy_from_host_async"), ("to the host", "copy_to_host_async")):
        method = getattr(Pointer, name)
        monkeypatch.setattr(Pointer, name, told(way, method, lambda pointer, host, size, stream: (size,)))
    return made


@pytest.fixture
def dispatch(monkeypatch: pytest.MonkeyPatch) -> Any:
    """scikit-learn's array API dispatch."""
    monkeypatch.setenv("SCIPY_ARRAY_API", "1")
    with sklearn.config_context(array_api_dispatch=True):
        yield


def assert_samples_stayed(copies: Copies) -> None:
    """Nothing passed that is as large as a batch of samples: everything else is smaller here."""
    assert copies
    assert max(np.prod(shape) for _, shape in copies) < BATCH * FEATURES, copies


def fitted(name: str, x: Any = X, y: Any = None, **options: Any) -> Any:
    kind, targets = PROBLEMS[name]
    return kind(**{**FEW, **options}).fit(x, targets if y is None else y)


def assert_same_weights(one: Any, other: Any) -> None:
    for a, b in zip(one.coefs_ + one.intercepts_, other.coefs_ + other.intercepts_, strict=True):
        assert isinstance(a, np.ndarray)
        assert not isinstance(a, Array)
        np.testing.assert_array_equal(a, b)


# Without dispatch: read there, answered by NumPy


@pytest.mark.parametrize(
    ("name", "library"), [*((name, "another") for name in PROBLEMS), ("classes", "CuPy"), ("numbers", "CuPy")]
)
def test_samples_are_learnt_where_they_lie(copies, name, library):
    x, y = on_gpu(library, X), PROBLEMS[name][1]
    estimator = fitted(name, x, Tensor(there(y)) if y.dtype.kind in "bif" else y, device="cuda")
    assert_samples_stayed(copies)
    assert_same_weights(estimator, fitted(name, device="cuda"))


@pytest.mark.parametrize(
    "options",
    [
        {"early_stopping": True},
        {"early_stopping": True, "scoring": "f1_macro"},
        {"solver": "lbfgs"},
        {"dtype": "float64"},
        {"normalization": "batch", "dropout": 0.2},
        {"warm_start": True},
        {"device": "auto"},
    ],
    ids=str,
)
def test_they_stay_with_every_option(copies, options):
    options = {"device": "cuda"} | options
    estimator = fitted("classes", there(X), **options)
    if "warm_start" in options:
        estimator.fit(there(X), PROBLEMS["classes"][1])
    assert_samples_stayed(copies)
    expected = fitted("classes", **options)
    if "warm_start" in options:
        expected.fit(X, PROBLEMS["classes"][1])
    assert_same_weights(estimator, expected)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_validation_set_and_weights(copies, library):
    x, y = on_gpu(library, X), PROBLEMS["classes"][1]
    weights = Tensor(there(WEIGHTS))
    kind = PROBLEMS["classes"][0](**FEW, device="cuda")
    kind.fit(x, y, weights, X_val=x, y_val=Tensor(there(y)), sample_weight_val=weights)
    assert_samples_stayed(copies)
    expected = PROBLEMS["classes"][0](**FEW, device="cuda")
    expected.fit(X, y, WEIGHTS, X_val=X, y_val=y, sample_weight_val=WEIGHTS)
    assert_same_weights(kind, expected)
    np.testing.assert_array_equal(kind.history_["val_loss"], expected.history_["val_loss"])
    assert kind.score(x, Tensor(there(y)), weights) == pytest.approx(expected.history_["val_score"][-1])


@pytest.mark.parametrize("library", LIBRARIES)
def test_epoch_by_epoch_on_samples_of_both_sides(copies, library):
    """The second lot comes from the host; what was made for the first serves it too."""
    kind, y = PROBLEMS["classes"]
    estimator, expected = (kind(**FEW, device="cuda") for _ in range(2))
    estimator.partial_fit(on_gpu(library, X), y, classes=Tensor(there(np.unique(y))))
    estimator.partial_fit(on_gpu(library, X[::-1]), y[::-1])
    assert_samples_stayed(copies)
    estimator.partial_fit(X, y)
    estimator.partial_fit(on_gpu(library, X), y)
    for sign in (1, -1, 1, 1):
        expected.partial_fit(X[::sign], y[::sign], classes=np.unique(y))
    assert_same_weights(estimator, expected)


@pytest.mark.parametrize(
    ("name", "library"), [*((name, "another") for name in PROBLEMS), ("classes", "CuPy"), ("numbers", "CuPy")]
)
def test_without_dispatch_answers_are_numpys(copies, name, library):
    estimator = fitted(name, device="cuda")
    copies.clear()
    answer = estimator.predict(on_gpu(library, X))
    assert_samples_stayed(copies)
    assert type(answer) is np.ndarray
    np.testing.assert_array_equal(answer, estimator.predict(X))
    if hasattr(estimator, "predict_proba"):
        np.testing.assert_array_equal(estimator.predict_log_proba(on_gpu(library, X)), estimator.predict_log_proba(X))


def test_columns_in_another_order_and_other_numbers(copies):
    x = there(X.T).T
    assert not x.flags.c_contiguous
    assert_same_weights(fitted("classes", x, device="cuda"), fitted("classes", device="cuda"))
    whole = (10 * X).astype(int)
    for dtype in ("int64", "int8", "float16"):
        there_too = fitted("classes", Tensor(there(whole.astype(dtype))), device="cuda")
        assert there_too.coefs_[0].dtype == np.float64
        assert_same_weights(there_too, fitted("classes", whole.astype(float), device="cuda"))


def test_samples_that_fit_only_once_are_not_copied_whole(copies, monkeypatch):
    """Where a second copy would not fit, windows are filled from the first, on the GPU."""
    monkeypatch.setattr(Cuda, "block_rows", 16)
    windows = []
    monkeypatch.setattr(
        Feed, "bring", lambda feed, rows, bring=Feed.bring: windows.append(feed.window) or bring(feed, rows)
    )
    expected = fitted("classes", device="cuda")
    install(monkeypatch, memory=SMALL + 3 * X.nbytes)
    copies.clear()
    windows.clear()
    estimator = fitted("classes", on_gpu("CuPy", X), device="cuda")
    assert windows
    assert max(windows) < ROWS, windows
    assert_samples_stayed(copies)
    assert_same_weights(estimator, expected)


def test_the_stream_of_the_caller_is_waited_for(copies, monkeypatch):
    """Samples that CuPy has yet to write, on the stream that is current for the caller."""
    x, waited = cupy().zeros(X.shape, X.dtype), []
    synchronize = Stream.synchronize
    monkeypatch.setattr(Stream, "synchronize", lambda stream: waited.append(stream) or synchronize(stream))
    with cupy().cuda.Stream(non_blocking=True) as stream:
        cupy().add(there(X), 0, out=x)
        assert not x.view(np.ndarray).any()
        estimator = fitted("classes", x, device="cuda")
    assert waited[0] is stream
    assert_same_weights(estimator, fitted("classes", device="cuda"))


def test_another_library_is_told_the_stream(copies):
    """It makes that stream wait for its own, by the rules of DLPack."""
    x = Tensor(there(X))
    fitted("classes", x, device="cuda")
    assert len(x.streams) == 1
    assert x.streams[0] not in (None, -1)


@pytest.mark.parametrize(("gpu", "device"), [(0, "cpu"), (0, "numpy"), (1, "cuda"), (1, "auto")])
def test_samples_elsewhere_than_the_device_come_by_the_host(copies, gpu, device):
    x = Tensor(there(X), gpu)
    estimator = fitted("classes", x, device=device)
    assert ("to the host", X.shape) in copies
    assert_same_weights(estimator, fitted("classes", device=device))
    np.testing.assert_array_equal(estimator.predict(x), estimator.predict(X))


# Bad samples: scikit-learn's own messages


def _with(value: float) -> np.ndarray:
    bad = X.copy()
    bad[3, 4] = value
    return bad


BAD = {
    "nan": _with(np.nan),
    "infinity": _with(-np.inf),
    "one dimension": X[:, 0],
    "three dimensions": X.reshape(ROWS, 2, -1),
    "none": X[:0],
    "no columns": X[:, :0],
    "complex": X[:9, :2].astype(complex),
}


@pytest.mark.parametrize("what", [*BAD, "fewer than targets"])
def test_bad_samples_are_refused_as_on_the_host(copies, what):
    bad = BAD.get(what, X[:-1])
    y = CLASSES if what == "fewer than targets" else CLASSES[: len(bad)]
    for kind in (xpnet.MLPClassifier, xpnet.MLPRegressor):
        with pytest.raises(ValueError, match=r"\w") as expected:
            kind(**FEW).fit(bad, y)
        with pytest.raises(ValueError, match=r"\w") as error:
            kind(**FEW, device="cuda").fit(there(bad), y)
        assert str(error.value) == str(expected.value)


def test_bad_samples_to_predict_for_are_refused_too(copies):
    estimator = fitted("classes", device="cuda")
    for bad in (*BAD.values(), X[:, 1:]):
        with pytest.raises(ValueError, match=r"\w") as expected:
            estimator.predict(bad)
        with pytest.raises(ValueError, match=r"\w") as error:
            estimator.predict(Tensor(there(bad)))
        assert str(error.value) == str(expected.value)
        with pytest.raises(ValueError, match="X_val, y_val: "):
            estimator.fit(X, CLASSES, X_val=there(bad), y_val=CLASSES[: len(bad)])


def test_what_is_finite_is_looked_at_itself_not_by_its_sum(copies):
    large = np.where(X > 0, 3e38, -1).astype(np.float32)
    with np.errstate(over="ignore"):
        assert np.isinf(large.sum())
        fitted("classes", device="cuda").predict(there(large))
    with sklearn.config_context(assume_finite=True):
        fitted("classes", device="cuda").predict(there(BAD["infinity"]))


# With dispatch: answered in kind


@pytest.mark.parametrize("name", PROBLEMS)
def test_answers_are_the_callers_and_never_on_the_host(copies, dispatch, name):
    """The other library's; to scikit-learn, arrays of the CuPy that is played are NumPy's."""
    estimator = fitted(name, device="cuda")
    for method in ("predict", "predict_proba", "predict_log_proba"):
        if not hasattr(estimator, method):
            continue
        expected = getattr(estimator, method)(X)
        copies.clear()
        answer = getattr(estimator, method)(Tensor(there(X)))
        assert_samples_stayed(copies)
        if method == "predict" and PROBLEMS[name][1].dtype.kind == "U":
            assert type(answer) is np.ndarray
            np.testing.assert_array_equal(answer, expected)
            continue
        assert not [shape for way, shape in copies if way == "to the host" and np.prod(shape) > 2], copies
        answers = zip(answer, expected, strict=True) if isinstance(expected, list) else [(answer, expected)]
        for part, e in answers:
            assert type(part) is Tensor
            assert part.dtype == e.dtype
            np.testing.assert_allclose(values(part), e, rtol=1e-5)


def test_it_is_learnt_from_samples_there_and_keeps_to_their_library(copies, dispatch):
    y = PROBLEMS["classes"][1]
    estimator = xpnet.MLPClassifier(**FEW, device="cuda", early_stopping=True, scoring="f1_macro")
    estimator.fit(Tensor(there(X)), Tensor(there(y)), Tensor(there(WEIGHTS)))
    assert_samples_stayed(copies)
    expected = xpnet.MLPClassifier(**FEW, device="cuda", early_stopping=True, scoring="f1_macro").fit(X, y, WEIGHTS)
    assert_same_weights(estimator, expected)
    with pytest.raises(ValueError, match=r"MLPClassifier.predict\(\) must use the same namespace.* another on gpu:0"):
        estimator.predict(X)


def test_scorers_of_early_stopping_get_numpys_answers(copies, dispatch):
    """The targets that they compare with are NumPy's."""

    def score(estimator: Any, x: Any, y: Any) -> float:
        assert not sklearn.get_config()["array_api_dispatch"]
        assert isinstance(x, Array)
        assert type(y) is np.ndarray
        return float((estimator.predict(x) == y).mean())

    estimator = fitted("classes", Tensor(there(X)), early_stopping=True, scoring=score, device="cuda")
    assert len(estimator.validation_scores_) == FEW["max_iter"]


def test_an_answer_goes_back_where_the_samples_came_from(copies, dispatch):
    """By the host, for the estimator's device is not theirs."""
    estimator, x = fitted("numbers"), Tensor(there(X), gpu=1)
    answer = estimator.predict(x)
    assert isinstance(answer, Tensor)
    assert answer.device == "gpu:1"
    np.testing.assert_array_equal(values(answer), estimator.predict(X))


# On a real one


@pytest.mark.gpu
@pytest.mark.parametrize("library", ["cupy", "torch"])
def test_on_a_gpu_samples_stay_and_answers_too(library, dispatch, monkeypatch):
    real = pytest.importorskip(library, reason=f"{library} is not installed")
    if library == "torch" and not real.cuda.is_available():
        pytest.skip("PyTorch was installed without CUDA")
    x = real.asarray(X, **({"device": "cuda"} if library == "torch" else {}))
    made: Copies = []
    for name in ("to_host", "upload"):
        method = getattr(CupyArrays, name)

        def told(device: Any, array: Any, *, name: str = name, method: Any = method, **out: Any) -> Any:
            made.append((name, array.shape))
            return method(device, array, **out)

        monkeypatch.setattr(CupyArrays, name, told)
    estimator = fitted("classes", x, device="cuda")
    assert_samples_stayed(made)
    for method in ("predict", "predict_proba", "predict_log_proba"):
        made.clear()
        answer = getattr(estimator, method)(x)
        assert type(answer) is type(x)
        assert answer.device == x.device
        assert not [shape for name, shape in made if name == "to_host" and np.prod(shape) > 2], made
        with sklearn.config_context(array_api_dispatch=False):
            expected = getattr(estimator, method)(X)
            np.testing.assert_allclose(answer.get() if library == "cupy" else answer.cpu(), expected, rtol=1e-5)
    assert_same_weights(estimator, fitted("classes", device="cuda"))
