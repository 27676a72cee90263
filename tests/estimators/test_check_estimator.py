"""scikit-learn's own checks of an estimator: all pass, and none is skipped that its own MLP does not skip."""

from __future__ import annotations

from unittest import SkipTest

import pytest
import sklearn.neural_network
from sklearn.utils.estimator_checks import (
    check_estimator,
    check_sample_weight_equivalence_on_dense_data,
    estimator_checks_generator,
    parametrize_with_checks,
)

import xpnet

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@parametrize_with_checks([xpnet.MLPClassifier(), xpnet.MLPRegressor()])
def test_a_check_passes(estimator, check):
    check(estimator)


@pytest.mark.parametrize(
    "estimator", [xpnet.MLPClassifier(solver="lbfgs"), xpnet.MLPRegressor(solver="sgd", tol=1e-2)], ids=str
)
def test_weights_are_repetitions_with_the_solvers_that_scikit_learn_checks(estimator):
    check_sample_weight_equivalence_on_dense_data(type(estimator).__name__, estimator)


@pytest.mark.parametrize("kind", ["MLPClassifier", "MLPRegressor"])
def test_no_check_is_expected_to_fail_or_missing_or_skipped_that_scikit_learn_runs(kind):
    few = {"max_iter": 2}  # what passes depends on it, what is skipped does not
    ours, theirs = getattr(xpnet, kind)(**few), getattr(sklearn.neural_network, kind)(**few)
    results = check_estimator(ours, on_fail=None, on_skip=None)
    assert not [result["check_name"] for result in results if result["expected_to_fail"]]

    skipped_here = {result["check_name"] for result in results if result["status"] == "skipped"}
    checks = {(check.func.__name__, str(check.keywords)): check for _, check in estimator_checks_generator(theirs)}
    skipped_there = {name for (name, _), check in checks.items() if name in skipped_here and is_skipped(check, theirs)}
    assert skipped_here <= skipped_there
    assert set(checks) <= {(check.func.__name__, str(check.keywords)) for _, check in estimator_checks_generator(ours)}


def is_skipped(check, estimator) -> bool:
    try:
        check(estimator)
    except SkipTest:
        return True
    return False
