"""A network's weights as `torch.nn.Sequential` loads them, written without PyTorch.

    network = torch.nn.Sequential(...)      # as the file's metadata "torch.nn.Sequential" says, and the command prints
    network.load_state_dict(safetensors.torch.load_file("model.torch.safetensors"))
    network.eval()

The transform of the inputs is folded into the first layer, so that it takes raw samples; that of numbers that are
predicted into the last one, where it has no activation.
"""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np

from xpnet.data import TargetTransform
from xpnet.errors import XpnetError
from xpnet.exporters.checking import Artifact, Predictions, Samples
from xpnet.exporters.layers import Layer, forward, layers_of, of_raw_samples, of_targets
from xpnet.kernels.activations import LEAK
from xpnet.kernels.normalization import EPS, MOMENTUM
from xpnet.network import MLP
from xpnet.tensors import as_safetensors

_MODULES = {
    "relu": "ReLU()",
    "sigmoid": "Sigmoid()",
    "tanh": "Tanh()",
    "leaky_relu": f"LeakyReLU({LEAK})",
    "elu": "ELU()",
    "softplus": "Softplus()",
    "gelu": "GELU('tanh')",
    "silu": "SiLU()",
    "softmax": "Softmax(1)",
}
"""Of the activations and outputs; of "linear" there is none, and none of "exp" in PyTorch."""

CODE = "torch.nn.Sequential"
"""The name of the metadata that makes the network."""


def make(network: MLP) -> Artifact:
    """The weights by the names of a Sequential's modules, which is told in the metadata.

    Raises:
        XpnetError: The network has embeddings.
    """
    if network.embeddings:
        raise XpnetError("export: torch.nn.Sequential has no place for embeddings; take --to onnx or --to numpy.")
    target = network.target_transform
    layers = of_raw_samples(layers_of(network), network.transform, network.dtype)
    folded = network.output == "linear"
    if folded:
        layers = of_targets(layers, target)
    tensors: dict[str, np.ndarray] = {}
    modules: list[str] = []
    for layer in layers:
        for module, arrays in _modules(layer):
            tensors |= {f"{len(modules)}.{name}": array for name, array in arrays.items()}
            modules.append(f"torch.nn.{module}")
    code = f"{CODE}({', '.join(modules)})"
    labels = {} if network.classes is None else {"classes": json.dumps(network.classes)}
    after = list(_afterwards(network, TargetTransform() if folded else target))
    content = b"".join(as_safetensors(tensors, {CODE: code, **labels}))
    return Artifact(
        content, "its products in NumPy", lambda samples: _predictions(network, layers, folded, samples), (code, *after)
    )


def _modules(layer: Layer) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """The modules of a layer, with their tensors by name."""
    inputs, outputs = layer.w.shape
    linear = {"weight": np.ascontiguousarray(layer.w.T)}
    if layer.gain is None or layer.shift is None:
        yield f"Linear({inputs}, {outputs})", linear | {"bias": layer.b}
    else:
        biased = bool(layer.b.any())  # by a shift of the inputs; else the normalization has the only one
        yield (
            f"Linear({inputs}, {outputs}{'' if biased else ', bias=False'})",
            linear | ({"bias": layer.b} if biased else {}),
        )
        yield _normalization(layer, layer.gain, layer.shift)
    if layer.activation in _MODULES:
        yield _MODULES[layer.activation], {}


def _normalization(layer: Layer, gain: np.ndarray, shift: np.ndarray) -> tuple[str, dict[str, np.ndarray]]:
    learnt = {"weight": gain, "bias": shift}
    if layer.mean is None or layer.variance is None:
        return f"LayerNorm({len(gain)}, eps={EPS})", learnt
    running = {"running_mean": layer.mean, "running_var": layer.variance, "num_batches_tracked": np.array(0, np.int64)}
    return f"BatchNorm1d({len(gain)}, eps={EPS}, momentum={MOMENTUM})", learnt | running


def _afterwards(network: MLP, target: TargetTransform) -> Iterator[str]:
    """What the Sequential leaves to do."""
    if network.table is not None:
        columns = len(network.table.columns)
        yield f"It takes rows of the table's {columns} columns encoded by xpnet, which are {network.inputs} numbers."
    if network.output == "exp":
        yield "Its outputs are logarithms of what is predicted: take torch.exp of them."
    if target != TargetTransform():
        yield f"Then a prediction is an output times {target.scale!r} plus {target.shift!r}."


def _predictions(network: MLP, layers: list[Layer], folded: bool, samples: Samples) -> Predictions:
    outputs = forward(layers, samples.x)
    if not folded:
        outputs = network.target_transform.to_targets(outputs)
    if network.task == "classification" and network.sizes[-1] == 1:
        outputs = np.hstack([1 - outputs, outputs])
    return outputs, None
