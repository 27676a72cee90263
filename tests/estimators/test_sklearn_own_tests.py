"""scikit-learn's own tests of its MLP, read from where it is installed and run on xpnet's classes.

Its module is executed with xpnet's estimators where it imports scikit-learn's; pytest then finds its functions, with
their parametrizations, among the names of this one.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from unittest import mock

import numpy as np
import pytest
import sklearn.neural_network

import xpnet

SOURCE = Path(sklearn.neural_network.__file__).parent / "tests" / "test_mlp.py"

LEFT_OUT = {
    "test_gradient": "differentiates scikit-learn's private backpropagation; xpnet has its own, and test_gradcheck.py",
}
"""Tests of scikit-learn's inner workings that have no counterpart here, with the reason of each."""

if not SOURCE.exists():
    pytest.skip("this scikit-learn was installed without its tests", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def with_xpnets_classes() -> ModuleType:
    module = ModuleType("sklearn_test_mlp_on_xpnet")
    module.__file__ = str(SOURCE)
    ours = {"MLPClassifier": xpnet.MLPClassifier, "MLPRegressor": xpnet.MLPRegressor}
    with mock.patch.multiple(sklearn.neural_network, **ours):
        exec(compile(SOURCE.read_text(encoding="utf-8"), SOURCE, "exec"), vars(module))
    return module


MODULE = with_xpnets_classes()
THEIR_TESTS = {name: test for name, test in vars(MODULE).items() if name.startswith("test_")}
globals().update({name: test for name, test in THEIR_TESTS.items() if name not in LEFT_OUT})


@pytest.fixture(autouse=True)
def numpys_own_generator_begins_anew() -> Iterator[None]:
    """Half of their tests give no random state."""
    kept = np.random.get_state()
    np.random.seed(0)
    yield
    np.random.set_state(kept)


@pytest.fixture
def global_random_seed() -> int:
    """As scikit-learn's settings have it where nothing else is asked for."""
    return 42


def test_their_tests_are_here_and_see_xpnets_classes():
    assert len(THEIR_TESTS) > 30
    assert set(LEFT_OUT) <= set(THEIR_TESTS)
    assert MODULE.MLPClassifier is xpnet.MLPClassifier
    assert MODULE.MLPRegressor is xpnet.MLPRegressor
