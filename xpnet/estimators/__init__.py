"""scikit-learn's MLPClassifier and MLPRegressor on xpnet's kernels: same parameters, same results, any device."""

from xpnet.estimators.classifier import MLPClassifier
from xpnet.estimators.conversion import from_sklearn
from xpnet.estimators.regressor import MLPRegressor

__all__ = ["MLPClassifier", "MLPRegressor", "from_sklearn"]
