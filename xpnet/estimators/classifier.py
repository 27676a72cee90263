"""MLPClassifier."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import _fit_context
from sklearn.neural_network import MLPClassifier as SklearnClassifier
from sklearn.preprocessing import LabelBinarizer
from sklearn.utils import compute_sample_weight
from sklearn.utils._array_api import get_namespace
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.metaestimators import available_if
from sklearn.utils.multiclass import _check_partial_fit_first_call, type_of_target, unique_labels

from xpnet.devices import Device
from xpnet.estimators import arrays
from xpnet.estimators.base import Estimator
from xpnet.estimators.targets import MultiOutputBinarizer, are_of_several_outputs, has_several_outputs, numbers, split


class MLPClassifier(Estimator, SklearnClassifier):
    """scikit-learn's MLPClassifier on xpnet's kernels: on any device, with what scikit-learn's lacks.

    All of scikit-learn's parameters, attributes and methods are here with their meaning, and a `random_state` draws the
    same weights, split and batches. What is said here is beside that.

    Args:
        activation: Also "leaky_relu", "elu", "softplus", "gelu", "silu", or a list with one for each hidden layer.
        solver: Also "adamw" (alpha is then its decoupled decay), "rmsprop" and "adagrad".
        learning_rate: Also "step", "exponential", "cosine", "one-cycle" or one of `xpnet.schedules`, with any solver
            but "lbfgs".
        verbose: "bar" for a progress bar in place of lines.
        device: "cpu", "cuda", "cuda:1" and so on, "auto" (a GPU where one works), or "numpy" (the plain references).
        dtype: "float32" or "float64" to compute in; None for the samples' own.
        n_threads: Of the CPU; None for as many as the BLAS takes.
        dropout: The part of the units that is dropped at random in training: one number, or one for each hidden layer.
        normalization: Of the pre-activations of hidden layers: None, "batch" or "layer".
        max_norm: A bound on the norm of the weights into each hidden unit; None for none.
        clip_norm: A bound on the norm of the gradient; None for none.
        scoring: What early stopping watches: None for scikit-learn's accuracy, "loss" for the loss (its negative is the
            score), or any scorer of scikit-learn or its name. The weights of the best epoch are kept.
        class_weight: Weights by class, as a dict, or "balanced"; for several outputs a list of dicts.
        label_smoothing: The part of each target that is moved to all classes alike.

    Attributes:
        history_: The curves as a dict of arrays, an entry an epoch: "loss", with solvers by steps "learning_rate",
            and where there is a validation set "val_loss" and "val_score".
        classes_: The labels; where y has several columns of several classes, a list of the labels of each: `predict`
            then gives (N, outputs), and `predict_proba` a list.
        gains_, running_means_, running_variances_: What normalization has learnt, layer by layer.

    Raises:
        DivergenceError: The weights are no longer finite; it says in which epoch and at which learning rate, and
            `history_` is kept. Under early stopping that is a warning, and the best weights are kept.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Estimator._parameter_constraints,
        "class_weight": [dict, list, StrOptions({"balanced"}), None],
        "label_smoothing": [Interval(Real, 0, 1, closed="left")],
    }

    def __init__(
        self,
        hidden_layer_sizes: Any = (100,),
        activation: Any = "relu",
        *,
        solver: str = "adam",
        alpha: float = 0.0001,
        batch_size: int | str = "auto",
        learning_rate: Any = "constant",
        learning_rate_init: float = 0.001,
        power_t: float = 0.5,
        max_iter: int = 200,
        shuffle: bool = True,
        random_state: Any = None,
        tol: float = 1e-4,
        verbose: bool | int | str = False,
        warm_start: bool = False,
        momentum: float = 0.9,
        nesterovs_momentum: bool = True,
        early_stopping: bool = False,
        validation_fraction: float = 0.1,
        beta_1: float = 0.9,
        beta_2: float = 0.999,
        epsilon: float = 1e-8,
        n_iter_no_change: int = 10,
        max_fun: int = 15000,
        device: str = "cpu",
        dtype: str | None = None,
        n_threads: int | None = None,
        class_weight: Any = None,
        label_smoothing: float = 0.0,
        dropout: Any = 0.0,
        normalization: str | None = None,
        max_norm: float | None = None,
        clip_norm: float | None = None,
        scoring: Any = None,
    ) -> None:
        super().__init__(
            hidden_layer_sizes=hidden_layer_sizes,
            activation=activation,
            solver=solver,
            alpha=alpha,
            batch_size=batch_size,
            learning_rate=learning_rate,
            learning_rate_init=learning_rate_init,
            power_t=power_t,
            max_iter=max_iter,
            shuffle=shuffle,
            random_state=random_state,
            tol=tol,
            verbose=verbose,
            warm_start=warm_start,
            momentum=momentum,
            nesterovs_momentum=nesterovs_momentum,
            early_stopping=early_stopping,
            validation_fraction=validation_fraction,
            beta_1=beta_1,
            beta_2=beta_2,
            epsilon=epsilon,
            n_iter_no_change=n_iter_no_change,
            max_fun=max_fun,
        )
        self.device, self.dtype, self.n_threads = device, dtype, n_threads
        self.class_weight, self.label_smoothing = class_weight, label_smoothing
        self.dropout, self.normalization = dropout, normalization
        self.max_norm, self.clip_norm, self.scoring = max_norm, clip_norm, scoring

    @_fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
    ) -> MLPClassifier:
        """Fit to samples.

        Args:
            X: (N, I), dense or sparse.
            y: (N,) labels, (N, K) of 0 and 1, or (N, G) labels of several outputs.
            sample_weight: (N,), or None.
            X_val, y_val, sample_weight_val: To watch: early stopping then splits nothing off; without early stopping
                they are only measured.

        Raises:
            ValueError: As scikit-learn's; the estimator is then as it was before.
        """
        with self._unchanged_on_error():
            self._fit(X, y, sample_weight, validation=(X_val, y_val, sample_weight_val))
        return self

    @available_if(lambda estimator: estimator._check_solver())
    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None, classes: Any = None) -> MLPClassifier:
        """One epoch over samples, from where the last one ended.

        Args:
            X, y, sample_weight: As for `fit`.
            classes: All that there will ever be; the first call needs them. For several outputs, those of each.

        Raises:
            ValueError: y has a class that was not named in the first call.
        """
        y, classes = arrays.on_host(y), arrays.on_host(classes)
        with self._unchanged_on_error():
            if are_of_several_outputs(classes) or (classes is None and self._groups):
                self._know_outputs(classes)
            elif classes is None and not hasattr(self, "classes_"):
                raise ValueError("classes must be passed on the first call to partial_fit.")
            elif _check_partial_fit_first_call(self, classes):
                known = y if type_of_target(y).startswith("multilabel") else classes
                self._label_binarizer = LabelBinarizer().fit(known)
            self._fit(X, y, sample_weight, incremental=True)
        return self

    def predict_proba(self, X: Any) -> Any:
        """(N, classes) probabilities; for several outputs, a list of them. See `predict` for whose arrays these are."""

        def here(X: Any) -> Any:
            probabilities = super(MLPClassifier, self).predict_proba(X)
            return split(probabilities, self._groups) if self._groups else probabilities

        return self._answer(X, "predict_proba", here, self._probabilities)

    def predict_log_proba(self, X: Any) -> Any:
        """Their logarithms."""
        arrays.check_library(self, arrays.Library.of(X), "predict_log_proba")
        probabilities, (xp, _) = self.predict_proba(X), get_namespace(X)
        return [xp.log(part) for part in probabilities] if self._groups else xp.log(probabilities)

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """The part of the samples that is right, in all their outputs."""
        if self._groups:
            right = (arrays.on_host(self.predict(X)) == np.asarray(arrays.on_host(y))).all(axis=1)
            return float(np.average(right, weights=arrays.on_host(sample_weight)))
        return super().score(X, y, sample_weight)

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.target_tags.multi_output = True
        return tags

    _label_binarizer: Any
    classes_: Any

    @property
    def _groups(self) -> tuple[int, ...]:
        """How many classes each of several outputs has."""
        return getattr(getattr(self, "_label_binarizer", None), "groups", ())

    def _check_solver(self) -> bool:
        return True if self.solver != "lbfgs" else bool(super()._check_solver())

    def _know_outputs(self, classes: Any) -> None:
        """Take the classes of each output, or see that they are those of the first call."""
        told = None if classes is None else MultiOutputBinarizer(classes)
        if not hasattr(self, "classes_"):
            self._label_binarizer, self.classes_ = told, told.classes_ if told else None
        elif told is not None and not told.knows_the_same(self.classes_):
            raise ValueError(
                f"`classes={classes!r}` is not the same as on last call to partial_fit, was: {self.classes_!r}"
            )

    def _validate_input(self, X: Any, y: Any, incremental: bool, reset: bool) -> tuple[Any, np.ndarray]:
        # What a batch holds does not say of how many classes it is: 0 and 1 may be all that there are in it.
        fresh = reset and not incremental
        if (fresh and has_several_outputs(y)) or (not fresh and self._groups):
            return self._validate_outputs(X, y, fresh, reset)
        try:
            return super()._validate_input(X, y, incremental, reset)
        except ValueError as error:
            if incremental and str(error).startswith("`y` has classes"):
                raise ValueError(f"{error} Name them all in the first call: partial_fit(X, y, classes=...).") from None
            raise

    def _validate_outputs(self, X: Any, y: Any, fresh: bool, reset: bool) -> tuple[Any, np.ndarray]:
        X, y = self._validated(X, y, reset=reset)
        if fresh:
            self._label_binarizer = MultiOutputBinarizer(y.T)
            self.classes_ = self._label_binarizer.classes_
        return X, self._label_binarizer.transform(y)

    def _answers(self, outputs: Any, device: Device) -> Any:
        if self._groups:
            chosen = [device.xp.argmax(part, axis=1) for part in split(outputs, self._groups)]
            columns = [_labels(*pair, device) for pair in zip(self.classes_, chosen, strict=True)]
            return np.column_stack(columns)  # which NumPy leaves to CuPy if the columns are CuPy's
        if self._label_binarizer.y_type_.startswith("multilabel"):
            return (outputs > 0.5).astype(np.int64)
        if self.n_outputs_ > 1:
            return _labels(self.classes_, device.xp.argmax(outputs, axis=1), device)
        return _labels(self.classes_, (outputs[:, 0] > 0.5) * (len(self.classes_) - 1), device)

    def _probabilities(self, outputs: Any, device: Device) -> Any:
        """What `predict_proba` gives, from outputs on a device."""
        if self.n_outputs_ == 1:
            return device.xp.concatenate([1 - outputs, outputs], axis=1)
        return split(outputs, self._groups) if self._groups else outputs

    def _output(self) -> str:
        return "softmax" if self._groups or self._label_binarizer.y_type_ == "multiclass" else "logistic"

    def _class_weighted(self, y: np.ndarray, weights: np.ndarray | None, *, incremental: bool) -> np.ndarray | None:
        if self.class_weight is None:
            return weights
        if incremental and isinstance(self.class_weight, str):
            raise ValueError(
                "class_weight 'balanced' is not supported for partial_fit. In order to use 'balanced' weights, use "
                "compute_class_weight('balanced', classes=classes, y=y). In place of y you can use a large enough "
                "sample of the full training set target to properly estimate the class frequency distributions. Pass "
                "the resulting weights as the class_weight parameter."
            )
        by_class = compute_sample_weight(self.class_weight, self._decode(y.reshape(len(y), -1)))
        return by_class if weights is None else by_class * weights

    def _encode(self, y: np.ndarray) -> np.ndarray:
        if not self._groups:
            unknown = np.setdiff1d(unique_labels(y), self.classes_)
            if len(unknown):
                raise ValueError(f"y has classes not in `classes_`: {unknown}.")
        return self._label_binarizer.transform(y).astype(bool)

    def _targets(self, y: np.ndarray) -> np.ndarray:
        if self._groups:
            return numbers(y, self._groups)
        return y.argmax(axis=1).astype(np.int32) if self._output() == "softmax" else y

    def _decode(self, y: np.ndarray) -> np.ndarray:
        return self._label_binarizer.inverse_transform(y)


def _labels(classes: np.ndarray, numbers: Any, device: Device) -> Any:
    """classes[numbers] on the device; of text, which no device has, on the host."""
    if classes.dtype.kind not in "biuf":
        return classes[device.to_host(numbers)]
    return device.asarray(classes)[numbers]
