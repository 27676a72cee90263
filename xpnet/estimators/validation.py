"""What is measured after each epoch on samples that are not trained on."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
from sklearn._config import config_context
from sklearn.base import is_classifier
from sklearn.metrics import check_scoring, r2_score

from xpnet.data.samples import Samples
from xpnet.estimators.problem import Problem
from xpnet.evaluation import Evaluation
from xpnet.feed import Feed
from xpnet.memory import foresee
from xpnet.workspace import Workspace


class Validation:
    """The loss and a score on a validation set.

    Args:
        estimator: Whose `scoring` it is; None for scikit-learn's accuracy or R^2.
        problem: In training.
        samples: The set.
        y: Its targets, as a scorer takes them.
        attributes: Makes the attributes of a fitted estimator out of the present weights.
    """

    def __init__(
        self,
        estimator: Any,
        problem: Problem,
        samples: Samples,
        y: Any,
        attributes: Callable[[], dict[str, Any]],
    ) -> None:
        network, loss = problem.network, problem.loss.plain
        plan = foresee(network, [samples], batch=1, chunk=len(samples), blocks=0)
        feed = Feed(samples, network, loss, problem.metric, window=plan.window)
        workspace = Workspace(network, feed, plan.rows)
        self._evaluation = Evaluation(network, loss, problem.metric, samples, feed, workspace)
        self._problem, self._attributes = problem, attributes
        self._y = y
        self._weights = None if samples.weights is None else samples.weights[samples.rows]
        self._score = self._scorer(estimator, samples)

    def measure(self) -> dict[str, float]:
        """By the names of the history's columns."""
        loss, metric = self._evaluation()
        loss /= self._problem.reported
        return {"val_loss": loss, "val_score": float(self._score(loss, metric))}

    def _scorer(self, estimator: Any, samples: Samples) -> Callable[[float, float], float]:
        """A score from the loss, the metric and, where need be, predictions; weighted if the scorer takes weights."""
        if estimator.scoring == "loss":
            return lambda loss, metric: -loss
        if estimator.scoring is None and is_classifier(estimator):
            return lambda loss, metric: metric
        x = samples.x[samples.rows]
        if estimator.scoring is None:
            return lambda loss, metric: self._r2(x)
        fitted = copy.copy(estimator)
        vars(fitted).pop("feature_names_in_", None)  # the samples have lost their names
        scorer = check_scoring(fitted, estimator.scoring)
        weighted = self._weights is not None and _takes_weights(scorer)
        weights = {"sample_weight": self._weights} if weighted else {}

        def score(loss: float, metric: float) -> float:
            vars(fitted).update(self._attributes())
            with config_context(array_api_dispatch=False):  # the targets are NumPy's, and so must predictions be
                return float(scorer(fitted, x, self._y, **weights))

        return score

    def _r2(self, x: Any) -> float:
        outputs = self._problem.network.outputs(x)
        if not np.isfinite(outputs).all():
            return np.nan
        return float(r2_score(self._y, outputs, sample_weight=self._weights))


def _takes_weights(scorer: Any) -> bool:
    """Whether the function behind a scorer has a parameter for them."""
    function = getattr(scorer, "_score_func", scorer)
    try:
        return "sample_weight" in inspect.signature(function).parameters
    except ValueError:  # it does not tell
        return True
