"""MLPRegressor."""

from __future__ import annotations

from numbers import Real
from typing import Any, ClassVar

import numpy as np
from sklearn.base import _fit_context
from sklearn.neural_network import MLPRegressor as SklearnRegressor
from sklearn.utils._param_validation import Interval, StrOptions

from xpnet.devices import Device
from xpnet.estimators.base import Estimator
from xpnet.estimators.problem import REGRESSION


class MLPRegressor(Estimator, SklearnRegressor):
    """scikit-learn's MLPRegressor on xpnet's kernels: on any device, with what scikit-learn's lacks.

    All of scikit-learn's parameters, attributes and methods are here with their meaning, and a `random_state` draws the
    same weights, split and batches. What is said here is beside that.

    Args:
        loss: Also "huber" and "absolute_error".
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
        scoring: What early stopping watches: None for scikit-learn's R^2, "loss" for the loss (its negative is the
            score), or any scorer of scikit-learn or its name. The weights of the best epoch are kept.
        huber_delta: Where the loss "huber" turns from squares to straight lines.

    Attributes:
        history_: The curves as a dict of arrays, an entry an epoch: "loss", with solvers by steps "learning_rate",
            and where there is a validation set "val_loss" and "val_score".
        gains_, running_means_, running_variances_: What normalization has learnt, layer by layer.

    Raises:
        DivergenceError: The weights are no longer finite; it says in which epoch and at which learning rate, and
            `history_` is kept. Under early stopping that is a warning, and the best weights are kept.
    """

    _parameter_constraints: ClassVar[dict[str, Any]] = {
        **Estimator._parameter_constraints,
        "loss": [StrOptions(set(REGRESSION))],
        "huber_delta": [Interval(Real, 0, None, closed="neither")],
    }

    def __init__(
        self,
        loss: str = "squared_error",
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
        huber_delta: float = 1.0,
        dropout: Any = 0.0,
        normalization: str | None = None,
        max_norm: float | None = None,
        clip_norm: float | None = None,
        scoring: Any = None,
    ) -> None:
        super().__init__(
            loss=loss,
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
        self.huber_delta, self.dropout, self.normalization = huber_delta, dropout, normalization
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
    ) -> MLPRegressor:
        """Fit to samples; see MLPClassifier.fit."""
        with self._unchanged_on_error():
            self._fit(X, y, sample_weight, validation=(X_val, y_val, sample_weight_val))
        return self

    @_fit_context(prefer_skip_nested_validation=True)
    def partial_fit(self, X: Any, y: Any, sample_weight: Any = None) -> MLPRegressor:
        """One epoch over samples."""
        with self._unchanged_on_error():
            self._fit(X, y, sample_weight, incremental=True)
        return self

    def _answers(self, outputs: Any, device: Device) -> Any:
        return outputs[:, 0] if outputs.shape[1] == 1 else outputs

    def _output(self) -> str:
        return "exp" if self.loss == "poisson" else "identity"

    def _encode(self, y: np.ndarray) -> np.ndarray:
        y = np.asarray(y, dtype=np.float64)
        if self.loss == "poisson" and (y < 0).any():
            raise ValueError("got negative values of y, which loss='poisson' does not take; leave them out.")
        return y

    def _targets(self, y: np.ndarray) -> np.ndarray:
        return y

    def _decode(self, y: np.ndarray) -> np.ndarray:
        return y[:, 0] if y.shape[1] == 1 else y
