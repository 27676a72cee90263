"""From scikit-learn's fitted estimators to xpnet's, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from sklearn import neural_network
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer
from sklearn.utils.validation import check_is_fitted

from xpnet.estimators.history import History
from xpnet.estimators.problem import SHARED, shared_activation
from xpnet.estimators.solvers import State

FOREIGN: dict[str, tuple[Any, set[Any]]] = {
    "solver": ("adam", {"lbfgs", "sgd", "adam"}),
    "learning_rate": ("constant", {"constant", "invscaling", "adaptive"}),
    "loss": ("squared_error", {"squared_error", "poisson"}),
    "verbose": (True, {True, False}),
}
"""Parameters with values that scikit-learn lacks: what it gets in their place, and the values that it knows."""

OURS = ("_fitted_in", "_history", "_live", "_optimizer", "gains_", "running_means_", "running_variances_")
"""Attributes that scikit-learn lacks, or has in another form."""


def from_sklearn(model: Any, **parameters: Any) -> Any:
    """xpnet's estimator with what scikit-learn's has learnt; it predicts the same and can be trained further.

    Args:
        model: A fitted MLPClassifier or MLPRegressor of scikit-learn.
        parameters: Of the new estimator, in place of the model's or beside them, such as device="cuda".

    Raises:
        TypeError: The model is neither.
    """
    from xpnet.estimators import MLPClassifier, MLPRegressor

    pairs = {neural_network.MLPClassifier: MLPClassifier, neural_network.MLPRegressor: MLPRegressor}
    if type(model) not in pairs:
        raise TypeError(
            f"from_sklearn: got a {type(model).__name__}, expected a fitted MLPClassifier or MLPRegressor of "
            "scikit-learn."
        )
    check_is_fitted(model)
    made = pairs[type(model)](**(model.get_params() | parameters))
    own = set(model.get_params())
    learnt = {name: value for name, value in vars(model).items() if name not in own and not name.startswith("_best")}
    optimizer = learnt.pop("_optimizer", None)
    vars(made).update({name: _copied(value) for name, value in learnt.items() if name != "loss"})
    made._history = History()
    losses = getattr(made, "loss_curve_", [])
    scores = getattr(made, "validation_scores_", None) or [None] * len(losses)
    for loss, score in zip(losses, scores, strict=True):
        made._history.append(loss=loss, **({} if score is None else {"val_score": score}))
    if optimizer is not None and made.solver == model.solver:
        made._optimizer = _state(made, optimizer)
    return made


def to_sklearn(estimator: Any) -> Any:
    """scikit-learn's estimator with what xpnet's has learnt; it predicts the same.

    Where a parameter has a value that scikit-learn lacks (a solver, a loss, a schedule), the new estimator has the
    default, which matters only if it is trained further.

    Raises:
        ValueError: scikit-learn cannot predict with such a network.
    """
    check_is_fitted(estimator)
    activation = shared_activation(estimator)
    if activation is None:
        raise ValueError(
            "to_sklearn: got a network with normalization, several outputs, or other activations than one of "
            f"{', '.join(sorted(SHARED))}, which scikit-learn does not have; predict with xpnet's."
        )
    kind = neural_network.MLPClassifier if hasattr(estimator, "classes_") else neural_network.MLPRegressor
    made = kind()
    values = {name: value for name, value in estimator.get_params().items() if name in made.get_params()}
    values["activation"] = activation
    for name, (default, known) in FOREIGN.items():
        if name in values and (not isinstance(values[name], (str, bool, int)) or values[name] not in known):
            values[name] = default
    made.set_params(**values)
    own = set(estimator.get_params())
    learnt = {name: value for name, value in vars(estimator).items() if name not in own and name not in OURS}
    vars(made).update({name: _copied(value) for name, value in learnt.items() if name != "loss"})
    made._best_coefs, made._best_intercepts = _copied(made.coefs_), _copied(made.intercepts_)
    state = getattr(estimator, "_optimizer", None)
    if state is not None and state.settings.solver == made.solver:
        made._optimizer = _optimizer(made, state)
    return made


def _copied(value: Any) -> Any:
    """Arrays and lists of them, so that the two estimators share none."""
    if isinstance(value, list):
        return [_copied(entry) for entry in value]
    return value.copy() if isinstance(value, np.ndarray) else value


def _state(estimator: Any, optimizer: Any) -> State:
    """What scikit-learn's optimizer remembers, in xpnet's form."""
    state = State.fresh(estimator)
    if isinstance(optimizer, AdamOptimizer):
        state.steps, state.moments = optimizer.t, [_copied(optimizer.ms), _copied(optimizer.vs)]
    else:
        state.learning_rate, state.moments = optimizer.learning_rate, [_copied(optimizer.velocities)]
    return state


def _optimizer(model: Any, state: State) -> Any:
    """What xpnet's solver remembers, in scikit-learn's form."""
    s, parameters = state.settings, model.coefs_ + model.intercepts_
    moments = [_copied(moment) for moment in state.moments]
    if s.solver == "adam":
        optimizer = AdamOptimizer(parameters, s.learning_rate_init, s.beta_1, s.beta_2, s.epsilon)
        optimizer.t = state.steps
        optimizer.ms, optimizer.vs = moments or (optimizer.ms, optimizer.vs)
        return optimizer
    optimizer = SGDOptimizer(
        parameters, s.learning_rate_init, s.learning_rate, s.momentum, s.nesterovs_momentum, s.power_t
    )
    optimizer.learning_rate = state.learning_rate
    optimizer.velocities = moments[0] if moments else optimizer.velocities
    return optimizer
