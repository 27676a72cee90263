"""What both estimators do: scikit-learn checks the arguments, xpnet trains and predicts."""

from __future__ import annotations

import contextlib
import copy
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from numbers import Integral, Real
from types import SimpleNamespace
from typing import Any, ClassVar

import numpy as np
from sklearn._config import get_config
from sklearn.base import is_classifier
from sklearn.callback import CallbackSupportMixin, with_callbacks
from sklearn.metrics import get_scorer_names
from sklearn.model_selection import train_test_split
from sklearn.neural_network._multilayer_perceptron import BaseMultilayerPerceptron
from sklearn.utils import check_array, check_random_state
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _check_sample_weight, check_is_fitted, validate_data

from xpnet.data.samples import Samples
from xpnet.data.sources import gpu_of
from xpnet.devices import Device
from xpnet.devices import device as open_device
from xpnet.errors import DivergenceError
from xpnet.estimators import arrays, inference, lbfgs, stochastic
from xpnet.estimators.history import History
from xpnet.estimators.problem import ACTIVATIONS, Problem, dense_or_csr, pose, shared_activation, take_weights
from xpnet.estimators.rates import POLICIES, SCHEDULES
from xpnet.estimators.solvers import SOLVERS
from xpnet.estimators.stochastic import Epochs
from xpnet.estimators.validation import Validation
from xpnet.estimators.watching import watch
from xpnet.network import NORMALIZATIONS

SPARSE = ["csr", "csc"]


class DeviceName(StrOptions):
    """A name that `xpnet.device` knows."""

    def __init__(self) -> None:
        super().__init__({"auto", "cpu", "numpy", "cuda"})

    def is_satisfied_by(self, val: Any) -> bool:
        """Whether it is one, whatever this machine has."""
        return isinstance(val, str) and re.fullmatch(r"auto|cpu|numpy|cuda(:\d+)?", val) is not None

    def __str__(self) -> str:
        return "one of 'auto', 'cpu', 'numpy', 'cuda', 'cuda:1' and so on"


class Estimator(CallbackSupportMixin, BaseMultilayerPerceptron):
    """scikit-learn's multilayer perceptron with xpnet's solvers and forward pass; base of the two estimators."""

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **BaseMultilayerPerceptron._parameter_constraints,
        "activation": [StrOptions(set(ACTIVATIONS)), list, tuple],
        "solver": [StrOptions({"lbfgs", *SOLVERS})],
        "learning_rate": [StrOptions({*POLICIES, *SCHEDULES}), callable],
        "device": [DeviceName()],
        "dtype": [StrOptions({"float32", "float64"}), None],
        "n_threads": [Interval(Integral, 1, None, closed="left"), None],
        "dropout": [Interval(Real, 0, 1, closed="left"), list, tuple],
        "normalization": [StrOptions(set(NORMALIZATIONS)), None],
        "max_norm": [Interval(Real, 0, None, closed="neither"), None],
        "clip_norm": [Interval(Real, 0, None, closed="neither"), None],
        "scoring": [StrOptions({"loss", *get_scorer_names()}), callable, None],
        "verbose": ["verbose", StrOptions({"bar"})],
    }

    _history: History
    loss_curve_: list[float]
    validation_scores_: list[float] | None

    _fitted_in: tuple[str, str] | None = None
    """The library and the device of the samples, where these were another than NumPy's by array API dispatch."""

    @property
    def history_(self) -> dict[str, np.ndarray]:
        """The curves, an entry an epoch: loss and, where there are such, learning_rate, val_loss and val_score."""
        try:
            return self._history.arrays()
        except AttributeError:
            raise AttributeError("history_: there is none before the first fit.") from None

    def to_sklearn(self) -> Any:
        """scikit-learn's own estimator with what this one has learnt; see `xpnet.estimators.conversion`."""
        from xpnet.estimators.conversion import to_sklearn

        return to_sklearn(self)

    @contextlib.contextmanager
    def _unchanged_on_error(self) -> Iterator[None]:
        """What goes wrong leaves every attribute as it was; of a training that diverged the history stays."""
        before = dict(vars(self))
        try:
            yield
        except BaseException as error:
            history = getattr(self, "_history", None)
            self.__dict__.clear()
            self.__dict__.update(before)
            if isinstance(error, DivergenceError) and history is not None:
                self._history = history
            raise

    @with_callbacks
    def _fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        incremental: bool = False,
        *,
        validation: tuple[Any, Any, Any] = (None, None, None),
    ) -> Estimator:
        given = {"X": X, "y": y, "metadata": None if sample_weight is None else {"sample_weight": sample_weight}}
        hidden = self._hidden_sizes()
        self._check_new_parameters(len(hidden))
        first = not hasattr(self, "coefs_") or (not self.warm_start and not incremental)
        library = arrays.Library.of(X)
        self._fitted_in = None
        raw, device = arrays.brought(X, self.device)
        y, sample_weight = arrays.on_host(y), arrays.on_host(sample_weight)
        X, y = self._validate_input(arrays.form(raw), y, incremental, reset=first)
        X = self._typed(X)
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        X = arrays.content(raw, X, device, self)
        weights = self._class_weighted(y, sample_weight, incremental=incremental)
        y = y.reshape(-1, 1) if y.ndim == 1 else y
        learnt = hidden if first else [len(b) for b in self.intercepts_[:-1]]
        if hidden != learnt:
            raise ValueError(
                f"hidden_layer_sizes: got {hidden} for weights of {learnt} hidden units; change it back, or fit anew "
                "with warm_start=False."
            )
        if not first and y.shape[1] != self.n_outputs_:
            raise ValueError(
                f"y: got {y.shape[1]} columns of targets, expected {self.n_outputs_}, as in the first fit."
            )
        samples = Samples.of(dense_or_csr(X), self._targets(y), weights)
        validated = self._given_validation(*validation, columns=y.shape[1])
        if incremental and self.early_stopping:
            raise ValueError("partial_fit does not support early_stopping=True")
        self._random_state = check_random_state(self.random_state)
        if first:
            self._initialize(y, [X.shape[1], *hidden, y.shape[1]], X.dtype)
        self._go_on_with_copies()
        if self.early_stopping and validated is None and self.solver != "lbfgs":
            samples, validated = self._split(samples, y)
        with inference.threads(self.n_threads):
            problem, epochs = self._begin(samples, device, incremental=incremental)
            with problem.network.device:
                self._train(problem, epochs, validated, given, incremental=incremental)
        self._fitted_in = None if library is None else library.names
        return self

    def _begin(self, samples: Samples, device: str | Device, *, incremental: bool) -> tuple[Problem, Epochs | None]:
        """The problem, and what trains on it, unless that is L-BFGS; a `partial_fit` goes on with those of the last."""
        epochs = self.__dict__.pop("_live", stochastic.Live()).epochs
        if incremental and epochs is not None and epochs.can_take(self, samples):
            epochs.take(self, samples)
            return epochs.problem, epochs
        problem = pose(self, open_device(device), samples)
        if self.solver == "lbfgs":
            return problem, None
        with problem.network.device:
            return problem, Epochs(self, problem, incremental=incremental)

    def _train(
        self,
        problem: Problem,
        epochs: Epochs | None,
        validated: tuple[Samples, Any] | None,
        given: dict[str, Any],
        *,
        incremental: bool,
    ) -> None:
        """The solver's work, and its results as attributes."""
        network, dtype = problem.network, self.coefs_[0].dtype

        def attributes() -> dict[str, Any]:
            fitted = SimpleNamespace()
            take_weights(fitted, network, dtype)
            return vars(fitted)

        validation = None
        if validated is not None:
            validation = Validation(self, problem, *validated, attributes)
        with watch(self, attributes, given) as watcher:
            if epochs is None:
                lbfgs.fit(self, problem, validation, watcher)
            else:
                stochastic.fit(self, epochs, validation, watcher, incremental=incremental)
            take_weights(self, network, dtype)
        if not all(np.isfinite(array).all() for array in (*self.coefs_, *self.intercepts_)):
            raise DivergenceError(
                "Solver produced non-finite parameter weights. The input data may contain large values and need to be "
                "preprocessed."
            )
        if incremental:
            self._live = stochastic.Live(epochs)

    def _hidden_sizes(self) -> list[int]:
        sizes = self.hidden_layer_sizes
        sizes = list(sizes) if hasattr(sizes, "__iter__") else [sizes]
        if np.any(np.array(sizes) <= 0):
            raise ValueError(f"hidden_layer_sizes must be > 0, got {sizes}.")
        return sizes

    def _check_new_parameters(self, hidden: int) -> None:
        """What constraints on single parameters cannot say."""
        for name in ("activation", "dropout"):
            values = getattr(self, name)
            if isinstance(values, (list, tuple)) and len(values) != hidden:
                raise ValueError(f"{name}: got {len(values)} values for {hidden} hidden layers; give one for each.")
        if isinstance(self.activation, (list, tuple)):
            for name in self.activation:
                if name not in ACTIVATIONS:
                    raise ValueError(f"activation: got {name!r}, expected some of {', '.join(ACTIVATIONS)}.")
        for rate in self.dropout if isinstance(self.dropout, (list, tuple)) else ():
            if not (isinstance(rate, Real) and 0 <= float(rate) < 1):
                raise ValueError(f"dropout: got {rate!r}, expected rates from 0 to below 1.")
        if self.solver == "lbfgs" and (np.any(np.asarray(self.dropout) != 0) or self.max_norm or self.clip_norm):
            raise ValueError(
                "dropout, max_norm and clip_norm: got one of them with solver='lbfgs', whose steps are not its own to "
                "bound; choose another solver."
            )

    def _validated(self, X: Any, y: Any, *, reset: bool) -> tuple[Any, np.ndarray]:
        """What scikit-learn makes of samples and targets of any number of columns."""
        return validate_data(
            self, X, y, accept_sparse=SPARSE, multi_output=True, dtype=(np.float64, np.float32), reset=reset
        )

    def _typed(self, X: Any) -> Any:
        """The samples in the dtype to compute in."""
        if self.dtype is None or X.dtype == self.dtype:
            return X
        return check_array(X, accept_sparse=SPARSE, dtype=np.dtype(self.dtype), estimator=self, input_name="X")

    def _class_weighted(self, y: np.ndarray, weights: np.ndarray | None, *, incremental: bool) -> np.ndarray | None:
        """The weights of the samples."""
        return weights

    def _given_validation(self, X: Any, y: Any, weights: Any, *, columns: int) -> tuple[Samples, Any] | None:
        """The user's validation set: as it is trained on, and its targets as scorers take them."""
        if X is None and y is None and weights is None:
            return None
        if X is None or y is None:
            raise ValueError("X_val, y_val, sample_weight_val: got some without X_val or y_val; give both of these.")
        raw, device = arrays.brought(X, self.device)
        try:
            X, y = self._validated(arrays.form(raw), arrays.on_host(y), reset=False)
            encoded = self._encode(y)
            if encoded.ndim == 1:
                encoded = encoded.reshape(-1, 1)
            if encoded.shape[1] != columns:
                raise ValueError(f"got {encoded.shape[1]} columns of targets, expected {columns}, as in y.")
            if weights is not None:
                weights = _check_sample_weight(arrays.on_host(weights), X)
            X = arrays.content(raw, self._typed(X), device, self)
        except ValueError as error:
            raise ValueError(f"X_val, y_val: {error}") from error
        weights = self._class_weighted(encoded, weights, incremental=False)
        return Samples.of(dense_or_csr(X), self._targets(encoded), weights), y

    def _split(self, samples: Samples, y: np.ndarray) -> tuple[Samples, tuple[Samples, Any]]:
        """What remains, and a validation set; drawn as scikit-learn draws it."""
        stratify = y if is_classifier(self) and self.n_outputs_ == 1 else None
        rest, drawn = train_test_split(
            samples.rows, random_state=self._random_state, test_size=self.validation_fraction, stratify=stratify
        )
        if len(drawn) < 2:
            raise ValueError(
                "The validation set is too small. Increase 'validation_fraction' or the size of your dataset."
            )
        return replace(samples, rows=rest), (replace(samples, rows=drawn), self._decode(y[drawn]))

    def _initialize(self, y: np.ndarray, layer_units: list[int], dtype: Any) -> None:
        """First weights, drawn as scikit-learn draws them, and empty curves."""
        self.n_iter_ = self.t_ = 0
        self.n_layers_, self.n_outputs_ = len(layer_units), y.shape[1]
        self.out_activation_ = self._output()
        self.coefs_, self.intercepts_ = [], []
        names = self.activation
        names = [names] * (len(layer_units) - 1) if isinstance(names, str) else [*names, names[-1] if names else "relu"]
        for name, fan_in, fan_out in zip(names, layer_units[:-1], layer_units[1:], strict=True):
            bound = np.sqrt((2.0 if name == "logistic" else 6.0) / (fan_in + fan_out))
            self.coefs_.append(self._random_state.uniform(-bound, bound, (fan_in, fan_out)).astype(dtype, copy=False))
            self.intercepts_.append(self._random_state.uniform(-bound, bound, fan_out).astype(dtype, copy=False))
        for name in ("gains_", "running_means_", "running_variances_"):
            self.__dict__.pop(name, None)
        if self.normalization is not None:
            self.gains_ = [np.ones(units, dtype) for units in layer_units[1:-1]]
        if self.normalization == "batch":
            self.running_means_ = [np.zeros(units, dtype) for units in layer_units[1:-1]]
            self.running_variances_ = [np.ones(units, dtype) for units in layer_units[1:-1]]
        self._history = History()
        if self.solver != "lbfgs":
            self.loss_curve_, self._no_improvement_count = [], 0
            stops = self.early_stopping
            self.validation_scores_ = [] if stops else None
            self.best_validation_score_ = -np.inf if stops else None
            self.best_loss_ = None if stops else np.inf

    def _go_on_with_copies(self) -> None:
        """The curves are appended to; those of before must stay what they were, should this fit fail."""
        self._history = self._history.copy() if hasattr(self, "_history") else History()
        for name in ("loss_curve_", "validation_scores_"):
            if isinstance(getattr(self, name, None), list):
                setattr(self, name, list(getattr(self, name)))

    def _forward_pass_fast(self, X: Any, check_input: bool = True) -> np.ndarray:
        """The outputs for samples."""
        X, device = arrays.brought(X, self.device)
        if check_input:
            X = self._checked(X, device)
        with inference.threads(self.n_threads):
            if inference.is_small(self, X) and shared_activation(self) == self.activation:
                return super()._forward_pass_fast(X if self.dtype is None else X.astype(self.dtype), check_input=False)
            return inference.outputs(self, X, device)

    def _checked(self, X: Any, device: str | Device) -> Any:
        """Samples to predict for, as scikit-learn wants them."""
        return arrays.content(X, validate_data(self, arrays.form(X), accept_sparse=SPARSE, reset=False), device, self)

    def _answer(self, X: Any, method: str, here: Callable[[Any], Any], there: Callable[[Any, Device], Any]) -> Any:
        """What here(X) makes of the samples; where array API dispatch is on, in their library and on their device.

        Of samples on the estimator's GPU it is what there(outputs, device) makes of the network's outputs, all of
        which stay there.
        """
        library = arrays.Library.of(X)
        arrays.check_library(self, library, method)
        if library is None:
            return here(X)
        check_is_fitted(self)
        X, device = arrays.brought(X, self.device)
        if gpu_of(X) is None:
            return library.take(here(X))
        X = self._checked(X, device)
        with inference.threads(self.n_threads), device:
            answer = library.take(there(inference.outputs(self, X, device, there=True), device))
            device.synchronize()
        return answer

    def predict(self, X: Any) -> Any:
        """(N,) or (N, O): classes' labels, or numbers.

        Samples may be NumPy's, SciPy's, a data frame of pandas or polars, or an array of any library with DLPack, such
        as PyTorch and CuPy. What lies on the GPU that is the estimator's `device` stays there; what lies on another
        one is copied. Answers are NumPy arrays; with scikit-learn's array API dispatch they are arrays of the library
        of X on its device, and pass through the host only if that device is not the estimator's, or if they are text,
        which stays NumPy's.
        """
        return self._answer(X, "predict", super().predict, self._answers)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The accuracy, or R^2."""
        if not get_config()["array_api_dispatch"]:
            y, sample_weight = arrays.on_host(y), arrays.on_host(sample_weight)
        return float(super().score(X, y, sample_weight))

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.array_api_support = os.environ.get("SCIPY_ARRAY_API") == "1"  # without it there is no dispatch
        return tags

    def __sklearn_array_api_convert__(self, converter: Callable[[Any], Any]) -> Estimator:
        """A copy for arrays of another library, by scikit-learn's `move_estimator_to`; weights are NumPy's always."""
        moved = copy.deepcopy(self)
        moved._fitted_in = arrays.names_after(converter)
        return moved
