"""A network as an ONNX file: raw samples, or a table's columns, to labels and probabilities.

Inputs: "X", (N, I) raw samples; or, of a network with a table, each column by its name, (N, 1): numbers as doubles, NaN
where one is missing, and text as `xpnet.tables.encoder.as_text` gives it, or in one of its `spellings`, and empty where
it is missing. Outputs, as skl2onnx names them:
"label" (N,) or, of several labels, (N, K), and "probabilities" (N, K); of regression "variable" (N, O).

References:
    https://onnx.ai/onnx/operators (opset 17, and 3 of ai.onnx.ml, for onnxruntime 1.14 and later).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

import xpnet
from xpnet.errors import XpnetError
from xpnet.exporters.checking import Artifact, Predictions, Samples
from xpnet.exporters.layers import Layer, layers_of, tables_of, without_batch_norm
from xpnet.kernels.activations import GELU_CUBIC, GELU_FLAT, LEAK, SQRT_2_OVER_PI
from xpnet.kernels.metrics import ORDER_KEEPING
from xpnet.kernels.normalization import EPS
from xpnet.network import MLP
from xpnet.tables import Category, Encoder, Number
from xpnet.tables.encoder import BEND, FARTHEST, LARGEST, as_numbers, as_text, places_of, spelling

OPSET, ML_OPSET, IR_VERSION = 17, 3, 8
"""The IR is that of opset 17: newer ones shut out older runtimes."""

_ML = "ai.onnx.ml"
_ROWS = 1000
"""Samples that onnxruntime is given at a time: of tables, a sample can become thousands of numbers on the way."""

_RESOLVED = 2.0**24 * 1e-6
"""A shift up to this leaves a millionth of the deviation in float32."""


def make(network: MLP) -> Artifact:
    """The network as an ONNX model.

    Raises:
        XpnetError: onnx or onnxruntime is not installed, or the network cannot be told in ONNX.
    """
    try:
        import onnx
        import onnxruntime  # noqa: F401 - before the work, not after it
    except ImportError as error:
        raise XpnetError(
            f"export: onnx needs {error.name}, which is not installed; pip install 'xpnet[export]'."
        ) from None
    try:
        model = _model(network)
        onnx.checker.check_model(model, full_check=True)
        content = model.SerializeToString()
    except (
        ValueError,
        TypeError,
        OverflowError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as e:
        raise XpnetError(f"export: ONNX cannot hold this network ({e!s:.200}); choose another format.") from e
    return Artifact(
        content, "onnxruntime", lambda samples: _run(content, network, samples), _how_to_feed(model, network)
    )


def _how_to_feed(model: Any, network: MLP) -> tuple[str, ...]:
    """What goes in and comes out, a line each."""
    from onnx import TensorProto

    names: dict[str, list[str]] = {}
    for entry in model.graph.input:
        tensor = entry.type.tensor_type
        kind = TensorProto.DataType.Name(tensor.elem_type).lower()
        names.setdefault(f"{kind} (N, {tensor.shape.dim[1].dim_value})", []).append(entry.name)
    lines = [f"inputs of {kind}: {', '.join(part)}" for kind, part in names.items()]
    if network.table is None:
        lines[0] += ", raw samples as the training data have them, such as bytes from 0 to 255"
    else:
        lines[-1] += "; what is missing is NaN, or empty text"
        if any(isinstance(column, Category) for column in network.table.columns):
            lines.append(
                "text as the files have it, with one blank before or behind it at most: 3, 3.0 and 3.00 are the same, "
                "1.5 and 1.50, true, True and TRUE; any other spelling is a value that was not seen"
            )
    return (*lines, f"outputs: {', '.join(entry.name for entry in model.graph.output)}")


class _Graph:
    """Nodes as they come, each with a name of its own for what it makes."""

    def __init__(self, taken: Iterable[str] = ()) -> None:
        self.inputs: list[Any] = []
        self.outputs: list[Any] = []
        self.nodes: list[Any] = []
        self.constants: list[Any] = []
        self._taken = dict.fromkeys(taken, 0)

    def fresh(self, name: str) -> str:
        """The name, or one like it that is not taken."""
        free = name
        while free in self._taken:
            self._taken[name] = self._taken.get(name, 0) + 1
            free = f"{name}_{self._taken[name]}"
        self._taken[free] = 0
        return free

    def input(self, name: str, dtype: Any, width: int) -> str:
        from onnx import helper

        kind = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        self.inputs.append(helper.make_tensor_value_info(name, kind, ["N", width]))
        return name

    def output(self, name: str, value: str, dtype: Any, *widths: int) -> None:
        from onnx import helper

        kind, free = helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), self.fresh(name)
        self.nodes.append(helper.make_node("Identity", [value], [free]))
        self.outputs.append(helper.make_tensor_value_info(free, kind, ["N", *widths]))

    def constant(self, value: Any, dtype: Any = None, name: str = "constant") -> str:
        from onnx import numpy_helper

        name = self.fresh(name)
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def node(self, kind: str, *inputs: str, domain: str = "", **attributes: Any) -> str:
        from onnx import helper

        made = self.fresh(kind.lower())
        self.nodes.append(helper.make_node(kind, inputs, [made], domain=domain, **attributes))
        return made

    def cast(self, value: str, dtype: Any) -> str:
        from onnx import helper

        return self.node("Cast", value, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))


def _model(network: MLP) -> Any:
    from onnx import helper

    table = network.table
    graph = _Graph(["X"] if table is None else table.names)
    x = _input(graph, network) if table is None else _encoded(graph, table)
    h = _seen(graph, network, x)
    *hidden, last = without_batch_norm(layers_of(network))
    for i, layer in enumerate(hidden, 1):
        h = _activated(graph, layer.activation, _affine(graph, layer, h, i), network.dtype)
    z = _affine(graph, last, h, len(network.sizes) - 1)
    _answer(graph, network, z)
    return helper.make_model(
        helper.make_graph(graph.nodes, "xpnet", graph.inputs, graph.outputs, graph.constants),
        opset_imports=[helper.make_opsetid("", OPSET), helper.make_opsetid(_ML, ML_OPSET)],
        ir_version=IR_VERSION,
        producer_name="xpnet",
        producer_version=xpnet.__version__,
    )


def _input(graph: _Graph, network: MLP) -> str:
    """Raw samples: float, or double where the network is, or where float would lose what a large shift leaves."""
    shift = network.transform.shift
    fine = shift is not None and np.abs(shift).max() > _RESOLVED
    return graph.input("X", np.float64 if fine else network.dtype, network.inputs)


def _seen(graph: _Graph, network: MLP, x: str) -> str:
    """Samples as the network sees them: raw * scale - shift, in double precision as in xpnet, and codes embedded."""
    transform = network.codes.sparing(network.transform)
    if not transform.is_identity:
        x = graph.node("Mul", graph.cast(x, np.float64), graph.constant(transform.scale, np.float64, "scale"))
        if transform.shift is not None:
            x = graph.node("Sub", x, graph.constant(transform.shift, np.float64, "shift"))
    x = graph.cast(x, network.dtype)
    return _embedded(graph, network, x) if network.embeddings else x


def _embedded(graph: _Graph, network: MLP, x: str) -> str:
    """The numbers of each sample, then the row of its table that each code means."""
    dense = network.codes.dense
    parts = [graph.node("Gather", x, graph.constant(np.arange(dense), np.int64), axis=1)] if dense else []
    for i, table in enumerate(tables_of(network)):
        code = graph.cast(graph.node("Gather", x, graph.constant(dense + i, np.int64), axis=1), np.int64)
        held = graph.node("Clip", code, graph.constant(0, np.int64), graph.constant(len(table) - 1, np.int64))
        parts.append(graph.node("Gather", graph.constant(table, name=f"e{i + 1}"), held, axis=0))
    return graph.node("Concat", *parts, axis=1)


def _affine(graph: _Graph, layer: Layer, x: str, number: int) -> str:
    w, b = graph.constant(layer.w, name=f"w{number}"), graph.constant(layer.b, name=f"b{number}")
    z = graph.node("Gemm", x, w, b)
    if layer.gain is None:
        return z
    gain, shift = graph.constant(layer.gain, name=f"gain{number}"), graph.constant(layer.shift, name=f"shift{number}")
    return graph.node("LayerNormalization", z, gain, shift, axis=-1, epsilon=EPS)


def _activated(graph: _Graph, name: str, z: str, dtype: np.dtype) -> str:
    """y of an activation or output, as in `xpnet.kernels.activations`.

    Elu and softplus are put together: onnxruntime has their nodes for float alone, and gelu's came with opset 20.
    """

    def number(value: float) -> str:
        return graph.constant(value, dtype)

    nodes = {"relu": "Relu", "sigmoid": "Sigmoid", "tanh": "Tanh", "exp": "Exp"}
    if name in nodes:
        return graph.node(nodes[name], z)
    if name == "softmax":
        return graph.node("Softmax", z, axis=1)
    if name == "leaky_relu":
        return graph.node("LeakyRelu", z, alpha=LEAK)
    if name == "elu":
        below = graph.node("Sub", graph.node("Exp", graph.node("Min", z, number(0))), number(1))
        return graph.node("Add", graph.node("Relu", z), below)
    if name == "softplus":
        rest = graph.node("Exp", graph.node("Neg", graph.node("Abs", z)))
        return graph.node("Add", graph.node("Relu", z), graph.node("Log", graph.node("Add", rest, number(1))))
    if name == "silu":
        return graph.node("Mul", z, graph.node("Sigmoid", z))
    if name == "gelu":
        held = graph.node("Clip", z, number(-GELU_FLAT), number(GELU_FLAT))
        cubic = graph.node("Mul", graph.node("Mul", held, held), number(GELU_CUBIC))
        u = graph.node("Mul", graph.node("Mul", held, graph.node("Add", cubic, number(1))), number(2 * SQRT_2_OVER_PI))
        return graph.node("Mul", z, graph.node("Sigmoid", u))
    return z


def _answer(graph: _Graph, network: MLP, z: str) -> None:
    """What is said of the last pre-activations, as `MLP.predict_proba` and `MLP.predict` do."""
    y, units, dtype = _activated(graph, network.output, z, network.dtype), network.sizes[-1], network.dtype
    target = network.target_transform
    outputs = graph.node("Mul", y, graph.constant(target.scale, dtype))
    outputs = graph.node("Add", outputs, graph.constant(target.shift, dtype))
    if network.task == "regression":
        graph.output("variable", outputs, dtype, units)
        return
    scores = z if network.output in ORDER_KEEPING else y
    if network.task == "multilabel":
        above = graph.node("Greater", scores, graph.constant(0, dtype))
        graph.output("label", graph.cast(above, np.int64), np.int64, units)
    else:
        _label(graph, network, scores)
    if network.task == "classification" and units == 1:
        other = graph.node("Sub", graph.constant(1, dtype), outputs)
        outputs, units = graph.node("Concat", other, outputs, axis=1), 2
    graph.output("probabilities", outputs, dtype, units)


def _label(graph: _Graph, network: MLP, scores: str) -> None:
    """(N,) the class of the largest score, or whether a single one is above 0: its label, or its number."""
    if network.sizes[-1] == 1:
        first = graph.node("Gather", scores, graph.constant(0, np.int64), axis=1)
        number = graph.cast(graph.node("Greater", first, graph.constant(0, network.dtype)), np.int64)
    else:
        number = graph.node("ArgMax", scores, axis=1, keepdims=0)
    if network.classes is None:
        graph.output("label", number, np.int64)
        return
    labels = np.array(network.classes)
    labels = labels.astype({"U": object, "b": bool}.get(labels.dtype.kind, np.int64))
    graph.output("label", graph.node("Gather", graph.constant(labels, name="classes"), number), labels.dtype)


def _encoded(graph: _Graph, table: Encoder) -> str:
    """(N, width) float, what `Encoder` makes of the columns."""
    parts = [
        part
        for column in table.columns
        for part in (_number(graph, column) if isinstance(column, Number) else [_category(graph, column)])
    ]
    return graph.cast(graph.node("Concat", *parts, axis=1), np.float32)


def _number(graph: _Graph, column: Number) -> list[str]:
    """What a column of numbers becomes, in double precision, part by part; see `Number`."""

    def number(value: Any) -> str:
        return graph.constant(value, np.float64)

    raw = graph.input(column.name, np.float64, 1)
    missing = graph.node("Or", graph.node("IsNaN", raw), graph.node("IsInf", raw))
    held = graph.node("Clip", raw, number(-LARGEST), number(LARGEST))
    value = graph.node("Where", missing, number(column.fill), held)

    def through(ends: tuple[float, ...]) -> str:
        """(N, bins) how far the value has come through each bin."""
        part = graph.node("Div", graph.node("Sub", value, number(ends[:-1])), number(np.diff(ends)))
        return graph.node("Clip", part, number(0), number(1))

    if column.knots:
        risen = graph.node("MatMul", through(column.knots), number(np.diff(column.heights)[:, None]))
        parts = [graph.node("Add", risen, number(column.heights[0]))]
    else:
        r = graph.node("Mul", graph.node("Sub", value, number(column.center)), number(column.scale))
        most = LARGEST if column.bend else FARTHEST
        r = graph.node("Clip", r, number(-most), number(most))
        if column.bend:
            third = graph.node("Div", r, number(BEND))
            square = graph.node("Add", graph.node("Mul", third, third), number(1))
            r = graph.node("Div", r, graph.node("Sqrt", square))
        parts = [r]
    if column.edges:
        parts.append(through(column.edges))
    if column.indicator:
        parts.append(graph.cast(missing, np.float64))
    return parts


def _category(graph: _Graph, column: Category) -> str:
    """What a column of text becomes, in double precision; see `Category`."""
    raw = graph.input(column.name, object, 1)
    places = {
        padded: place
        for value, place in places_of(column.values).items()
        for spelled in spellings(value)
        for padded in (spelled, f" {spelled}", f"{spelled} ")  # as behind ", " in many a file
    }
    code = graph.node(
        "LabelEncoder",
        raw,
        domain=_ML,
        keys_strings=list(places),
        values_int64s=list(places.values()),
        default_int64=-1,
    )
    if column.embedding:
        return graph.cast(graph.node("Add", code, graph.constant(1, np.int64)), np.float64)
    if column.width == 1:
        first, second = (graph.node("Equal", code, graph.constant(i, np.int64)) for i in (0, 1))
        return graph.node("Sub", graph.cast(first, np.float64), graph.cast(second, np.float64))
    numbers = graph.constant(np.arange(column.width)[None, :], np.int64)
    return graph.cast(graph.node("Equal", code, numbers), np.float64)


def spellings(value: str) -> Iterator[str]:
    """Those of a value that occur in files, of the many that training takes for the same: ONNX compares text alone."""
    yield value
    if value in ("true", "false"):
        yield from (value.capitalize(), value.upper())
    elif re.fullmatch(r"-?[0-9]+", value) and spelling(f"{value}.0") == value:
        yield from (f"{value}.0", f"{value}.00")
    elif re.fullmatch(r"-?[0-9]+\.[0-9]", value) and spelling(f"{value}0") == value:
        yield f"{value}0"


def _run(content: bytes, network: MLP, samples: Samples) -> Predictions:
    """What onnxruntime makes of the samples."""
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(content, _quiet(), providers=["CPUExecutionProvider"])
        fed = _fed(network, session.get_inputs()[0].type, samples)
        blocks = [
            session.run(None, {name: values[start : start + _ROWS] for name, values in fed.items()})
            for start in range(0, len(samples.x), _ROWS)
        ]
    except Exception as error:  # onnxruntime raises each kind of its own
        raise XpnetError(
            f"export: onnxruntime cannot run this network ({error!s:.200}); choose another format."
        ) from error
    *labels, outputs = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    return outputs, labels[0] if labels else None


def _fed(network: MLP, kind: str, samples: Samples) -> dict[str, np.ndarray]:
    """The samples as the model's inputs."""
    if network.table is None or samples.frame is None:
        return {"X": samples.x.astype(np.float64 if kind == "tensor(double)" else np.float32)}
    frame = samples.frame
    return {
        column.name: (
            as_numbers(frame[column.name])
            if isinstance(column, Number)
            else as_text(frame[column.name]).fillna("").to_numpy(object)
        )[:, None]
        for column in network.table.columns
    }


def _quiet() -> Any:
    """One thread, and errors told by exceptions alone."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    return options
