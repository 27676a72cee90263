"""Training by L-BFGS: SciPy's search over xpnet's gradients of all samples at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.optimize
from sklearn.utils.fixes import _get_additional_lbfgs_options_dict
from sklearn.utils.optimize import _check_optimize_result

from xpnet.feed import Feed
from xpnet.optimizers import Update
from xpnet.program import Chunk, Program
from xpnet.workspace import Workspace

if TYPE_CHECKING:
    from xpnet.estimators.problem import Problem
    from xpnet.estimators.validation import Validation
    from xpnet.estimators.watching import Watch


def fit(estimator: Any, problem: Problem, validation: Validation | None, watch: Watch) -> None:
    """Iterations until the gradient is small, or there were `max_iter`, or `max_fun` gradients."""
    e, objective = estimator, _Objective(problem, float(estimator.alpha))
    stopped = False

    def after_iteration(intermediate_result: Any) -> None:
        nonlocal stopped
        watch.epoch_begins()
        objective.place(intermediate_result.x)
        e._history.append(loss=float(intermediate_result.fun), **({} if validation is None else validation.measure()))
        if e.verbose == "bar":  # SciPy says it in its own words else
            watch.loss_is(len(e._history), float(intermediate_result.fun))
        stopped = watch.epoch_ends()
        if stopped:
            raise StopIteration

    result = scipy.optimize.minimize(
        objective,
        objective.start,
        method="L-BFGS-B",
        jac=True,
        callback=after_iteration,
        options={
            "maxfun": e.max_fun,
            "maxiter": e.max_iter,
            "gtol": e.tol,
            **_get_additional_lbfgs_options_dict("iprint", 1 if e.verbose and e.verbose != "bar" else -1),
        },
    )
    e.n_iter_ = result.nit if stopped else _check_optimize_result("lbfgs", result, e.max_iter)
    e.loss_ = result.fun
    objective.place(result.x)


class _Gradient(Update):
    """Leaves the gradient where it is."""

    columns = ()

    def table(self, step: np.ndarray, lr: np.ndarray, l2: np.ndarray) -> dict[str, np.ndarray]:
        return {}

    def apply(self, k: Any, row: Any) -> None:
        pass


class _Objective:
    """The mean loss of all samples with its penalty, and the gradient, at any point of the parameters' block."""

    def __init__(self, problem: Problem, alpha: float) -> None:
        network, samples = problem.network, problem.samples
        self._problem, self._network = problem, network
        self._l2 = alpha / samples.total_weight
        feed = Feed(samples, network, problem.loss, problem.metric)
        workspace = Workspace(network, feed, len(samples))
        self._update = _Gradient(network.parameters)
        self._program = Program(
            network, problem.loss, problem.metric, self._update, feed, workspace, batch=len(samples), chunk=1
        )
        self._chunk = Chunk(samples.rows, {})
        self._weights = network.parameters.weights.size
        self.start = network.device.to_host(network.parameters.flat).astype(np.float64)

    def __call__(self, point: np.ndarray) -> tuple[float, np.ndarray]:
        """The loss and its gradient."""
        self.place(point)
        outcome = self._program.run(self._chunk)
        loss = float(outcome.losses[0]) / self._problem.samples.total_weight / self._problem.reported
        gradient = self._network.device.to_host(self._update.grads.flat).astype(np.float64)
        weights = point[: self._weights]
        gradient[: self._weights] += self._l2 * weights
        return loss + 0.5 * self._l2 * float(weights @ weights), gradient

    def place(self, point: np.ndarray) -> None:
        """The parameters into the network."""
        self._network.device.upload(point, out=self._network.parameters.flat)
