"""A network as one Python file that needs nothing but NumPy.

What comes from the model is written as literals of Python's alone (numbers, quoted text, base64), so that a stranger's
model cannot bring code.
"""

from __future__ import annotations

import base64
import dataclasses
import pprint
from functools import cache
from typing import Any

import jinja2
import numpy as np

import xpnet
from xpnet.exporters.checking import Artifact, Predictions, Samples
from xpnet.exporters.layers import layers_of, tables_of, without_batch_norm
from xpnet.kernels.activations import GELU_CUBIC, GELU_FLAT, LEAK, SQRT_2_OVER_PI
from xpnet.kernels.metrics import ORDER_KEEPING
from xpnet.kernels.normalization import EPS
from xpnet.network import MLP
from xpnet.tables import Category, Number
from xpnet.tables.encoder import BEND, FARTHEST, LARGEST, MISSING, NUMERAL, places_of
from xpnet.tables.reading import DECIMAL_COMMA, EUROPEAN

_WIDTH = 110


def make(network: MLP) -> Artifact:
    """The network as the source of a program."""
    source = _template().render(_facts(network))
    return Artifact(source.encode(), "the program itself", lambda samples: _run(source, samples))


@cache
def _template() -> jinja2.Template:
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("xpnet.exporters", ""),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["literal"] = _literal
    return environment.get_template("predictor.py.jinja")


def _facts(network: MLP) -> dict[str, Any]:
    layers, transform = without_batch_norm(layers_of(network)), network.codes.sparing(network.transform)
    return {
        "version": xpnet.__version__,
        "task": network.task or "classification",
        "classes": None if network.classes is None else list(network.classes),
        "hidden_column": network.task == "classification" and network.sizes[-1] == 1,
        "columns": None if network.table is None else [_column(column) for column in network.table.columns],
        "missing": sorted(MISSING),
        "numeral": NUMERAL.pattern,
        "european": EUROPEAN,
        "decimal_comma": DECIMAL_COMMA,
        "numbered": lambda name, count: [f"{name} {i}" for i in range(count)],
        "inputs": network.inputs,
        "outputs": network.sizes[-1],
        "ordered": network.output in ORDER_KEEPING,
        "activations": {layer.activation for layer in layers},
        "normalized": network.normalization == "layer",
        "target": network.target_transform,
        "dtype": network.dtype.name,
        "transformed": not transform.is_identity,
        "scale": _array(transform.scale) if isinstance(transform.scale, np.ndarray) else _literal(transform.scale),
        "shift": "0.0" if transform.shift is None else _array(transform.shift),
        "embeddings": [_array(table) for table in tables_of(network)],
        "layers": [
            {
                "activation": layer.activation,
                "arrays": {
                    name: _array(array)
                    for name in ("w", "b", "gain", "shift")
                    if (array := getattr(layer, name)) is not None
                },
            }
            for layer in layers
        ],
        "largest": LARGEST,
        "farthest": FARTHEST,
        "bend": BEND,
        "eps": EPS,
        "leak": LEAK,
        "gelu": {"cubic": GELU_CUBIC, "flat": GELU_FLAT, "factor": 2 * SQRT_2_OVER_PI},
    }


def _column(column: Number | Category) -> dict[str, Any]:
    facts = {"kind": type(column).__name__.lower(), **dataclasses.asdict(column)}
    return facts if isinstance(column, Number) else facts | {"places": places_of(column.values)}


def _literal(value: Any) -> str:
    """The value, of Python's plain types, as Python reads it; all that is not to be seen as escapes."""
    return pprint.pformat(value, width=_WIDTH, compact=True, sort_dicts=False)


def _array(array: np.ndarray) -> str:
    """An expression for the array."""
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    text = base64.b64encode(little.tobytes()).decode()
    text = "\n".join(text[start : start + _WIDTH] for start in range(0, len(text), _WIDTH))
    return f'_array("{little.dtype.str}", {little.shape}, """\n{text}\n""")'


def _run(source: str, samples: Samples) -> Predictions:
    """What the program says."""
    program: dict[str, Any] = {"__name__": "predictor"}
    exec(compile(source, "predictor.py", "exec"), program)
    frame = samples.frame
    rows = samples.x if frame is None else {name: frame[name].tolist() for name in frame.columns}
    labels = program["predict"](rows)
    if "predict_proba" in program:
        return program["predict_proba"](rows), labels
    return labels.reshape(len(labels), -1), labels
