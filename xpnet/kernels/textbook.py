"""Backpropagation on plain arrays, to read and to call: `<name>_forward(inputs)` and `<name>_backward(d, inputs)`.

One rule holds for all: `f_backward(d, *inputs)` takes d, the gradient of a loss with respect to f's value, and the
inputs of `f_forward`, and returns the gradients of that loss with respect to these inputs. Losses end the chain, so
theirs takes no d. The functions find NumPy or CuPy from their arrays and call the kernels that training uses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from xpnet.devices import Array, device_of
from xpnet.kernels.activations import ACTIVATIONS
from xpnet.kernels.table import Table, on

POINTWISE = {"squared_error": "linear", "absolute_error": "linear", "huber": "linear", "poisson": "exp"}
"""Losses that are told the output, and the one that is meant if none is named."""


def affine_forward(x: Array, w: Array, b: Array, *, out: Array | None = None) -> Array:
    """z = x w + b. x: (B, ...) of any rank, flattened to (B, I); w: (I, O); b: (O,); returns (B, O).

    `out` may alias none of the inputs.
    """
    k, (x, w, b) = _prepare(x, w, b)
    out = k.device.empty((len(x), w.shape[1]), x.dtype) if out is None else out
    k.affine_forward(x.reshape(len(x), -1), w, b, out=out)
    return out


def affine_backward(dz: Array, x: Array, w: Array, b: Array) -> tuple[Array, Array, Array]:
    """dx = dz w^T in x's shape, dw = x^T dz, db = sum of dz over the batch. dz: (B, O)."""
    k, (dz, x, w, b) = _prepare(dz, x, w, b)
    flat = x.reshape(len(x), -1)
    dx, dw, db = (k.device.empty(a.shape, dz.dtype) for a in (flat, w, b))
    k.affine_inputs(dz, w, out=dx)
    k.affine_weights(flat, dz, out=dw)
    k.affine_biases(dz, out=db)
    return dx.reshape(x.shape), dw, db


def embedding_forward(table: Array, codes: Array, *, out: Array | None = None) -> Array:
    """y = table[codes], of a code beyond the table its nearest row. table: (R, W), codes: (B,); returns (B, W)."""
    k, (table, codes) = _prepare(table, codes)
    out = k.device.empty((len(codes), table.shape[1]), table.dtype) if out is None else out
    k.embedding_forward(codes, table, out=out)
    return out


def embedding_backward(dy: Array, table: Array, codes: Array) -> Array:
    """dtable: (R, W), in each row the sum of the rows of dy with its code; codes have no gradient. dy: (B, W)."""
    k, (dy, table, codes) = _prepare(dy, table, codes)
    out = k.device.empty(table.shape, dy.dtype)
    k.embedding_backward(codes, dy, out=out)
    return out


def dropout_forward(y: Array, *, key: int, rate: float, out: Array | None = None) -> Array:
    """y m / (1 - rate), m_ij = 1 with probability 1 - rate, else 0, by the key alone. y: (B, O); `out` may be y."""
    k, (y,) = _prepare(y)
    out = k.device.empty(y.shape, y.dtype) if out is None else out
    k.dropout(y, key=k.device.asarray(np.array(key, np.uint32)), rate=rate, out=out)
    return out


def dropout_backward(dy: Array, y: Array, *, key: int, rate: float, out: Array | None = None) -> Array:
    """dx = dy m / (1 - rate), with the m of the same key. dy, y: (B, O); `out` may be dy."""
    return dropout_forward(dy, key=key, rate=rate, out=out)


def softmax_forward(z: Array, *, out: Array | None = None) -> Array:
    """y = exp(z - max z) / sum exp(z - max z), row by row. z: (B, O); `out` may be z."""
    k, (z,) = _prepare(z)
    out = k.device.empty(z.shape, z.dtype) if out is None else out
    k.softmax(z, out=out)
    return out


def softmax_backward(dy: Array, z: Array) -> Array:
    """dz = y (dy - sum_j dy_j y_j) with y = softmax(z). dy, z: (B, O)."""
    k, (dy, z) = _prepare(dy, z)
    y = softmax_forward(z)
    return y * (dy - k.xp.sum(dy * y, axis=1, keepdims=True))


def exp_forward(z: Array, *, out: Array | None = None) -> Array:
    """y = exp(z), entry by entry. `out` may be z."""
    k, (z,) = _prepare(z)
    out = k.device.empty(z.shape, z.dtype) if out is None else out
    k.exp(z, out=out)
    return out


def exp_backward(dy: Array, z: Array, *, out: Array | None = None) -> Array:
    """dz = dy exp(z). `out` may be dy."""
    k, (dy, z) = _prepare(dy, z)
    out = k.device.empty(dy.shape, dy.dtype) if out is None else out
    k.activation_backward(dy, exp_forward(z), out=out)
    return out


def batch_norm_forward(z: Array, gain: Array, shift: Array, *, out: Array | None = None) -> Array:
    """y = gain hat + shift, hat being z less its mean, over its deviation, by columns: (B, O). gain, shift: (O,).

    `out` may be z.
    """
    return _batch_norm(z, gain, shift, out)[0]


def batch_norm_backward(dy: Array, z: Array, gain: Array, shift: Array) -> tuple[Array, Array, Array]:
    """dz, dgain and dshift; dz = gain (dy - mean dy - hat mean(dy hat)) / deviation, means by columns. dy: (B, O)."""
    k, (dy, gain) = _prepare(dy, gain)
    _, hat, inverse = _batch_norm(z, gain, shift, None)
    dz, dgain, dshift = (k.device.empty(a.shape, dy.dtype) for a in (dy, gain, gain))
    k.affine_biases(dy, out=dshift)
    k.batch_norm_backward(dy, gain, hat=hat, inverse=inverse, dshift=dshift, dgain=dgain, out=dz)
    return dz, dgain, dshift


def layer_norm_forward(z: Array, gain: Array, shift: Array, *, out: Array | None = None) -> Array:
    """y = gain hat + shift, hat being z less its mean, over its deviation, by rows: (B, O). gain, shift: (O,).

    `out` may be z.
    """
    return _layer_norm(z, gain, shift, out)[0]


def layer_norm_backward(dy: Array, z: Array, gain: Array, shift: Array) -> tuple[Array, Array, Array]:
    """dz, dgain and dshift; dz = (d - mean d - hat mean(d hat)) / deviation, d = gain dy, means by rows. dy: (B, O)."""
    k, (dy, gain) = _prepare(dy, gain)
    _, hat, inverse = _layer_norm(z, gain, shift, None)
    dz, dgain, dshift = (k.device.empty(a.shape, dy.dtype) for a in (dy, gain, gain))
    k.affine_biases(dy, out=dshift)
    k.layer_norm_backward(dy, gain, hat=hat, inverse=inverse, dgain=dgain, out=dz)
    return dz, dgain, dshift


def _batch_norm(z: Array, gain: Array, shift: Array, out: Array | None) -> tuple[Array, Array, Array]:
    """y, hat and 1 / deviation: (1, O), by the batch alone: running statistics are thrown away."""
    k, (z, gain, shift) = _prepare(z, gain, shift)
    out = k.device.empty(z.shape, z.dtype) if out is None else out
    hat, inverse = k.device.empty(z.shape, z.dtype), k.device.empty((1, z.shape[1]), z.dtype)
    mean, variance = (k.device.zeros(gain.shape, z.dtype) for _ in range(2))
    k.batch_norm(z, gain, shift, mean=mean, variance=variance, hat=hat, inverse=inverse, out=out)
    return out, hat, inverse


def _layer_norm(z: Array, gain: Array, shift: Array, out: Array | None) -> tuple[Array, Array, Array]:
    """y, hat and 1 / deviation: (B, 1)."""
    k, (z, gain, shift) = _prepare(z, gain, shift)
    out = k.device.empty(z.shape, z.dtype) if out is None else out
    hat, inverse = k.device.empty(z.shape, z.dtype), k.device.empty((len(z), 1), z.dtype)
    k.layer_norm(z, gain, shift, hat=hat, inverse=inverse, out=out)
    return out, hat, inverse


def l2_penalty_forward(*weights: Array, l2: float) -> Array:
    """0.5 l2 times the sum of the squares of all weights."""
    return sum(0.5 * l2 * (w * w).sum() for w in weights)


def l2_penalty_backward(*weights: Array, l2: float) -> tuple[Array, ...]:
    """dw = l2 w for each of the weights."""
    return tuple(l2 * w for w in weights)


def _prepare(*arrays: Any) -> tuple[Table, list[Array]]:
    """The kernels for the arrays, without kept memory, and the arrays as contiguous floats."""
    k = on(device_of(arrays[0]))
    arrays = tuple(k.device.asarray(a) for a in arrays)
    return k, [a if a.dtype.kind == "f" else a.astype(float) for a in arrays]


def _activation_pair(name: str) -> tuple[Callable[..., Array], Callable[..., Array]]:
    def forward(z: Array, *, out: Array | None = None) -> Array:
        k, (z,) = _prepare(z)
        out = k.device.empty(z.shape, z.dtype) if out is None else out
        getattr(k, name)(z, out=out)
        return out

    def backward(dy: Array, z: Array, *, out: Array | None = None) -> Array:
        k, (dy, z) = _prepare(dy, z)
        out = k.device.empty(dy.shape, dy.dtype) if out is None else out
        y, slope = (k.device.empty(z.shape, z.dtype) for _ in range(2))
        getattr(k, name)(z, out=y, slope=slope)
        k.activation_backward(dy, slope, out=out)
        return out

    forward.__doc__ = f"y = {name}(z), entry by entry. `out` may be z."
    backward.__doc__ = f"dz = dy times the slope of {name} at z. `out` may be dy." + (
        " z may be y = relu(z): both have the same sign." if name == "relu" else ""
    )
    return forward, backward


def _affine_activation_pair(name: str) -> tuple[Callable[..., Array], Callable[..., tuple[Array, Array, Array]]]:
    activation_forward, activation_backward = _activation_pair(name)

    def forward(x: Array, w: Array, b: Array, *, out: Array | None = None) -> Array:
        z = affine_forward(x, w, b, out=out)
        return activation_forward(z, out=z)

    def backward(dy: Array, x: Array, w: Array, b: Array) -> tuple[Array, Array, Array]:
        return affine_backward(activation_backward(dy, affine_forward(x, w, b)), x, w, b)

    forward.__doc__ = f"y = {name}(x w + b). x: (B, ...), w: (I, O), b: (O,)."
    backward.__doc__ = f"dx, dw and db of y = {name}(x w + b). dy: (B, O)."
    return forward, backward


def _loss_pair(name: str) -> tuple[Callable[..., Array], Callable[..., Array]]:
    def run(z: Array, t: Array, weights: Array | None, options: dict[str, Any]) -> tuple[Array, Array]:
        k, (z,) = _prepare(z)
        if name in POINTWISE:
            options = {"output": POINTWISE[name], **options}
        t = k.device.asarray(t)
        dz, db, loss = (k.device.empty(shape, z.dtype) for shape in (z.shape, z.shape[1:], ()))
        weights = weights if weights is None else k.device.asarray(weights, z.dtype)
        getattr(k, name)(z, t, weights=weights, out=dz, db=db, loss=loss, **options)
        total = len(z) if weights is None else k.xp.maximum(weights.sum(), k.xp.finfo(z.dtype).tiny)
        return loss / total, dz

    def forward(z: Array, t: Array, *, weights: Array | None = None, **options: Any) -> Array:
        return run(z, t, weights, options)[0]

    def backward(z: Array, t: Array, *, weights: Array | None = None, **options: Any) -> Array:
        return run(z, t, weights, options)[1]

    forward.__doc__ = (
        f"The mean {name} of pre-activations z: (B, O) and targets t; weights: (B,), options as of the kernel."
    )
    backward.__doc__ = f"dz: (B, O), the gradient of the mean {name}."
    return forward, backward


def _publish() -> list[str]:
    """Name the generated pairs in this module as if they had been written out; the names."""
    pairs: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {}
    for name in ACTIVATIONS:
        pairs[name], pairs[f"affine_{name}"] = _activation_pair(name), _affine_activation_pair(name)
    for name in ("softmax_cross_entropy", "grouped_softmax_cross_entropy", "sigmoid_cross_entropy", *POINTWISE):
        pairs[name] = _loss_pair(name)
    published = []
    for name, functions in pairs.items():
        for function, suffix in zip(functions, ("forward", "backward"), strict=True):
            function.__name__ = function.__qualname__ = f"{name}_{suffix}"
            globals()[function.__name__] = function
            published.append(function.__name__)
    return published


__all__ = [
    "affine_backward",
    "affine_forward",
    "batch_norm_backward",
    "batch_norm_forward",
    "dropout_backward",
    "dropout_forward",
    "embedding_backward",
    "embedding_forward",
    "exp_backward",
    "exp_forward",
    "l2_penalty_backward",
    "l2_penalty_forward",
    "layer_norm_backward",
    "layer_norm_forward",
    "softmax_backward",
    "softmax_forward",
    *_publish(),
]
