"""A network as scikit-learn's own MLPClassifier or MLPRegressor, in a file of skops: no pickle, nothing of xpnet.

    skops.io.load("model.skops").predict(X)

Transforms of inputs and targets and batch normalization are folded into its layers, which are in double precision.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from xpnet.data import TargetTransform
from xpnet.errors import XpnetError
from xpnet.exporters.checking import Artifact, Predictions, Samples
from xpnet.exporters.layers import Layer, layers_of, of_raw_samples, of_targets, without_batch_norm
from xpnet.network import MLP

_ACTIVATIONS = {"linear": "identity", "sigmoid": "logistic", "tanh": "tanh", "relu": "relu"}
_LOSSES = {"linear": "squared_error", "exp": "poisson"}
_LEARNING = ("_optimizer", "_random_state", "_best_coefs", "_best_intercepts")
"""What scikit-learn keeps of the fit that shapes the estimator, and makes anew if it has to go on learning."""


def make(network: MLP) -> Artifact:
    """The estimator with the network's weights, in skops' format.

    Raises:
        XpnetError: skops is not installed, or scikit-learn has no such network; the message says what of it.
    """
    if lack := _lack(network):
        raise XpnetError(f"export: scikit-learn's MLP has no {lack}; take --to onnx or --to numpy.")
    try:
        from skops import io
    except ImportError as error:
        raise XpnetError(
            f"export: sklearn needs {error.name}, which is not installed; pip install 'xpnet[export]'."
        ) from None
    layers = of_raw_samples(without_batch_norm(layers_of(network)), network.transform, np.dtype(np.float64))
    if network.task == "regression":
        estimator, order = _regressor(network, layers), np.arange(network.sizes[-1])
    else:
        estimator, order = _classifier(network, layers)
    content: bytes = io.dumps(estimator)
    return Artifact(content, "scikit-learn", lambda samples: _predictions(content, order, samples))


def _lack(network: MLP) -> str | None:
    """What scikit-learn's MLP cannot be or do."""
    target, names = network.target_transform, set(network.activations)
    if network.table is not None:
        return "encoding of a table's columns"
    if network.embeddings:
        return "embeddings"
    if network.normalization == "layer":
        return "layer normalization"
    if unknown := sorted(names - _ACTIVATIONS.keys()):
        return f"activation {unknown[0]}"
    if len(names) > 1:
        return f"more than one activation ({', '.join(sorted(names))})"
    known = {
        "regression": ("linear", "exp") if target == TargetTransform() else ("linear",),
        "multilabel": ("sigmoid",),
    }.get(network.task or "", ("sigmoid",) if network.sizes[-1] == 1 else ("softmax",))
    if network.output not in known:
        return f"{network.task or 'classification'} with the output {network.output}"
    if network.task == "multilabel" and network.sizes[-1] == 1:
        return "single label of several"
    return None


def _regressor(network: MLP, layers: list[Layer]) -> Any:
    from sklearn.neural_network import MLPRegressor

    outputs = network.sizes[-1]
    estimator = MLPRegressor(**_shape(network), loss=_LOSSES[network.output])
    estimator.partial_fit(np.zeros((1, network.sizes[0])), np.ones((1, outputs)) if outputs > 1 else np.ones(1))
    if network.output == "linear":
        layers = of_targets(layers, network.target_transform)
    return _with_weights(estimator, layers)


def _classifier(network: MLP, layers: list[Layer]) -> tuple[Any, np.ndarray]:
    """The estimator, and where its outputs have those of the network: it sorts the classes."""
    from sklearn.neural_network import MLPClassifier

    estimator, x = MLPClassifier(**_shape(network)), np.zeros((1, network.sizes[0]))
    *hidden, last = layers
    if network.task == "multilabel":
        numbers = np.arange(network.sizes[-1])
        estimator.partial_fit(x, np.zeros((1, len(numbers)), int), classes=numbers)
        return _with_weights(estimator, layers), numbers
    if network.sizes[-1] == 1:  # scores of the two classes that differ by that of the second
        last = replace(last, w=last.w * [0, 1], b=last.b * [0, 1])
    labels = np.arange(last.w.shape[1]) if network.classes is None else np.array(network.classes)
    sorting = np.argsort(labels)
    w, b = last.w[:, sorting], last.b[sorting]
    if len(labels) == 2:
        w, b = w[:, 1:] - w[:, :1], b[1:] - b[:1]
    estimator.partial_fit(x, labels[:1], classes=labels)
    return _with_weights(estimator, [*hidden, replace(last, w=w, b=b)]), np.argsort(sorting)


def _shape(network: MLP) -> dict[str, Any]:
    activation = next(iter(network.activations), "relu")
    return {"hidden_layer_sizes": network.sizes[1:-1], "activation": _ACTIVATIONS[activation], "random_state": 0}


def _with_weights(estimator: Any, layers: Sequence[Layer]) -> Any:
    """The estimator, fitted so far to have its shape, with these weights in place of its own."""
    estimator.coefs_, estimator.intercepts_ = [layer.w for layer in layers], [layer.b for layer in layers]
    for name in _LEARNING:
        vars(estimator).pop(name, None)
    return estimator


def _predictions(content: bytes, order: np.ndarray, samples: Samples) -> Predictions:
    """What scikit-learn says, as anyone loads it: trusting nothing that skops does not."""
    from skops import io

    estimator = io.loads(content)
    x, labels = samples.x.astype(np.float64), estimator.predict(samples.x.astype(np.float64))
    if hasattr(estimator, "predict_proba"):
        return estimator.predict_proba(x)[:, order], labels
    return labels.reshape(len(labels), -1), labels
