"""One call after another: what changes in between is taken, or refused before it does harm."""

from __future__ import annotations

import pickle

import numpy as np
import pytest
import scipy.sparse as sp
from sklearn import neural_network

from xpnet import MLPClassifier, MLPRegressor, from_sklearn

rng = np.random.default_rng(0)
X = rng.normal(size=(60, 5))
NUMBER, NUMBERS = X[:, 0], X[:, :2]
CLASSES = np.digitize(X[:, 0], [-0.5, 0.5])
OUTPUTS = np.column_stack([CLASSES, X[:, 1] > 0]).astype(int)
KNOWN = [[0, 1, 2], [0, 1]]
SMALL = {"hidden_layer_sizes": (6,), "max_iter": 2, "random_state": 0}

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.mark.parametrize(("before", "after"), [(NUMBER, NUMBERS), (NUMBERS, NUMBER), (NUMBERS, X[:, :3])])
def test_another_number_of_targets_is_refused(before, after):
    with pytest.raises(ValueError, match="columns of targets"):
        MLPRegressor(**SMALL).partial_fit(X, before).partial_fit(X, after)
    with pytest.raises(ValueError, match="columns of targets"):
        MLPRegressor(**SMALL, warm_start=True).fit(X, before).fit(X, after)
    with pytest.raises(ValueError, match=r"X_val, y_val.*columns of targets"):
        MLPRegressor(**SMALL, scoring="loss").fit(X, before, X_val=X, y_val=after)


def test_a_batch_of_several_outputs_may_hold_few_of_their_classes():
    few = OUTPUTS.clip(max=1)
    one, other = MLPClassifier(**SMALL), MLPClassifier(**SMALL)
    one.partial_fit(X, few, classes=KNOWN).partial_fit(X, OUTPUTS).partial_fit(X[:1], few[:1])
    other.partial_fit(X, OUTPUTS, classes=KNOWN).partial_fit(X, few)
    for fitted in (one, other):
        assert [part.shape for part in fitted.predict_proba(X)] == [(60, 3), (60, 2)]
    with pytest.raises(ValueError, match="not the same as on last call"):
        one.partial_fit(X, few, classes=[[0, 1], [0, 1]])
    with pytest.raises(ValueError, match="classes must be passed on the first call"):
        MLPClassifier(**SMALL).partial_fit(X, OUTPUTS)


def test_sparse_then_dense_samples_are_both_learnt_from():
    sparse = sp.csr_matrix(X * (X > 0))
    for after in (X, 1000 * X):
        ours, theirs = (
            home(**SMALL).partial_fit(sparse, CLASSES, classes=[0, 1, 2]).partial_fit(after, CLASSES)
            for home in (MLPClassifier, neural_network.MLPClassifier)
        )
        np.testing.assert_allclose(ours.coefs_[0], theirs.coefs_[0], rtol=1e-9)
        assert ours.loss_ == pytest.approx(theirs.loss_, rel=1e-9)


@pytest.mark.parametrize("scoring", [lambda fitted, x, y: fitted.score(x, y), "adjusted_rand_score", "f1_macro"])
def test_scorers_that_take_no_weights_do_without(scoring):
    fitted = MLPClassifier(**SMALL, early_stopping=True, class_weight="balanced", scoring=scoring).fit(X, CLASSES)
    assert len(fitted.validation_scores_) == 2


def test_what_scikit_learn_gets_is_free_of_xpnet():
    fitted = MLPClassifier(**SMALL).partial_fit(X, CLASSES, classes=[0, 1, 2])
    assert b"xpnet" not in pickle.dumps(fitted.to_sklearn())


def test_another_solver_begins_anew():
    theirs = neural_network.MLPClassifier(**SMALL).fit(X, CLASSES)
    switched = from_sklearn(theirs, solver="sgd").partial_fit(X, CLASSES)
    theirs.set_params(solver="sgd")
    del theirs._optimizer
    np.testing.assert_allclose(switched.coefs_[0], theirs.partial_fit(X, CLASSES).coefs_[0], rtol=1e-9)


def test_a_network_of_another_form_is_asked_for_in_vain():
    fitted = MLPClassifier(**SMALL).fit(X, CLASSES)
    with pytest.raises(ValueError, match="normalization"):
        fitted.set_params(normalization="batch").predict(X)
    fitted.set_params(normalization=None, hidden_layer_sizes=(3,), warm_start=True)
    with pytest.raises(ValueError, match="hidden_layer_sizes"):
        fitted.fit(X, CLASSES)
    plain = MLPClassifier(**SMALL, normalization="batch").fit(X, CLASSES).set_params(normalization=None)
    assert not hasattr(plain.fit(X, CLASSES), "gains_")


def test_lbfgs_moves_the_bar(capsys):
    MLPClassifier(**SMALL, solver="lbfgs", verbose="bar").fit(X, CLASSES)
    assert "2/2" in capsys.readouterr().out


def test_counts_to_validate_with_are_not_negative():
    with pytest.raises(ValueError, match=r"X_val, y_val.*negative"):
        MLPRegressor(**SMALL, loss="poisson").fit(X, np.abs(NUMBER), X_val=X, y_val=NUMBER)
