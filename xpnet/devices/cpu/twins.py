"""The CPU's twins of kernels: the same names and signatures as the references, by the nodes of a tape.

Each hands what it does not cover to `k.reference`, deciding on options and shapes alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.devices.cpu import native, nodes, updates

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table

LOG_SMALLEST = math.log(1e-10)
"""As in the reference."""

WIDEST = 64
"""Classes up to which a scalar exponential, in one pass, beats NumPy's vectors in many."""

EXPONENTIAL = 16
"""How many numbers read and written take as long as an exponential."""

LINEAR = nodes.affine, nodes.activation_of_sum

CACHE_LINE = 8
"""Float64 numbers that keep the sums of two parts apart."""


def hidden_aux(k: Table, y: Array, *, activation: str, below: int, above: int) -> Array:
    """y itself: where it is positive, the slope of relu is 1."""
    return y if activation == "relu" else k.reference.hidden_aux(y, activation=activation, below=below, above=above)


def hidden_forward(
    k: Table, x: Array, w: Array, b: Array, *, activation: str, out: Array, aux: Array | None = None
) -> None:
    """The product with the bias and, where it is relu, the activation."""
    node, of_sum = (nodes.affine_relu, nodes.relu_of_sum) if activation == "relu" else LINEAR
    _affine(node, of_sum, k, x, w, b, out)
    if activation != "relu":
        getattr(k, activation)(out, out=out, slope=aux)


def affine_forward(k: Table, x: Array, w: Array, b: Array, *, out: Array) -> None:
    """The product with the bias."""
    _affine(*LINEAR, k, x, w, b, out)


def linear(k: Table, z: Array, *, out: Array, slope: Array | None = None) -> None:
    """Nothing, where it is in place and nobody asks for the slope."""
    if out is not z or slope is not None:
        k.reference.linear(z, out=out, slope=slope)


def affine_inputs(k: Table, dz: Array, w: Array, *, out: Array) -> None:
    """The product."""
    k.gemm(dz, w.T, out=out)


def affine_weights(k: Table, x: Array, dz: Array, *, out: Array, alpha: Any = 1.0, beta: Any = 0.0) -> None:
    """The product, with alpha and beta in it."""
    k.gemm(x.T, dz, out=out, alpha=alpha, beta=beta)


def _affine(node: Any, of_sum: Any, k: Table, x: Array, w: Array, b: Array, out: Array) -> None:
    """The activation of x w + b, cut by rows of x, or, where these are few, by rows of w."""
    parts, kinds, blas = k.device.parts(products=x.shape[0] * w.size), (out.dtype,), native.blas(out.dtype)
    if nodes.many_rows(out, parts):
        return k.device.do(node, x, w, b, out, *blas, kinds=kinds, parts=parts)
    sums = k.scratch("products", (parts * len(x), len(b)), out.dtype)
    k.device.do(nodes.product_of_part, x, w, sums, *blas, kinds=kinds, parts=parts)
    return k.device.do(of_sum, sums, b, out, kinds=kinds, parts=parts)


def hidden_backward(k: Table, dz: Array, w: Array, *, activation: str, aux: Array, out: Array, db: Array) -> None:
    """The product with the slope and the bias gradient."""
    parts = k.device.parts(products=dz.shape[0] * w.size)
    sums = k.scratch("sums", (parts, len(db)), db.dtype)
    node = nodes.backward_by_output if activation == "relu" else nodes.backward_by_slope
    kinds = (aux.dtype, out.dtype)
    k.device.do(node, dz, w, aux, out, sums, *native.blas(out.dtype), kinds=kinds, parts=parts)
    k.device.do(nodes.sum_of_parts, sums, db, kinds=(db.dtype, db.dtype))


def softmax(k: Table, z: Array, *, out: Array) -> None:
    """Row by row."""
    if z.shape[1] > WIDEST:
        return k.reference.softmax(z, out=out)
    parts = k.device.parts(numbers=2 * EXPONENTIAL * z.size)
    return k.device.do(nodes.softmax, z, out, kinds=(z.dtype,), parts=parts)


def softmax_cross_entropy(
    k: Table,
    z: Array,
    t: Array,
    *,
    log_smallest: float = LOG_SMALLEST,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """Loss, gradient and bias gradient, row by row."""
    if t.ndim != 1 or weights is not None or z.shape[1] > WIDEST:
        return k.reference.softmax_cross_entropy(
            z, t, log_smallest=log_smallest, weights=weights, out=out, db=db, loss=loss
        )
    parts = k.device.parts(numbers=2 * EXPONENTIAL * z.size)
    sums, losses = k.scratch("sums", (parts, len(db)), db.dtype), _totals(k, parts)
    smallest = nodes.constant(log_smallest, z.dtype)
    k.device.do(nodes.softmax_cross_entropy, z, t, out, sums, losses, smallest, kinds=(t.dtype, z.dtype), parts=parts)
    k.device.do(nodes.sum_of_parts, sums, db, kinds=(db.dtype, db.dtype))
    return _total(k, losses, loss)


def scored_softmax_cross_entropy(
    k: Table,
    z: Array,
    t: Array,
    *,
    log_smallest: float = LOG_SMALLEST,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
    hits: Array,
) -> None:
    """The hits, then the loss: nodes of their own, where the reference would be recorded as a call of Python."""
    k.hits(z, t, output="softmax", weights=weights, out=hits)
    k.softmax_cross_entropy(z, t, log_smallest=log_smallest, weights=weights, out=out, db=db, loss=loss)


def hits(k: Table, z: Array, t: Array, *, output: str, weights: Array | None = None, out: Array) -> None:
    """The largest entries, row by row."""
    if t.ndim != 1 or weights is not None or output not in ("softmax", "sigmoid", "linear"):
        return k.reference.hits(z, t, output=output, weights=weights, out=out)
    parts = k.device.parts(numbers=z.size)
    counts = _totals(k, parts)
    k.device.do(nodes.hits, z, t, counts, kinds=(t.dtype, z.dtype), parts=parts)
    return _total(k, counts, out)


def gather(k: Table, source: Array, index: Array, *, scale: Any = None, shift: Array | None = None, out: Array) -> None:
    """Rows as they are, or scaled and shifted in one pass."""
    if not (scale is None or isinstance(scale, float)):
        return k.reference.gather(source, index, scale=scale, shift=shift, out=out)
    parts, (rows, width) = k.device.parts(numbers=out.size), (len(source), math.prod(source.shape[1:]))
    table, into = source.reshape(rows, width), out.reshape(len(out), width)
    if source.dtype == out.dtype and scale is None and shift is None:
        return k.device.do(nodes.take, table, index, into, kinds=(out.dtype,), parts=parts)
    factor, kinds = nodes.constant(1.0 if scale is None else scale, out.dtype), (source.dtype, out.dtype)
    if shift is None:
        return k.device.do(nodes.gather, table, index, into, factor, kinds=kinds, parts=parts)
    return k.device.do(nodes.gather_shifted, table, index, into, factor, shift, kinds=kinds, parts=parts)


def sgd_update(k: Table, w: Array, g: Array, *, lr: Array) -> None:
    """In one pass."""
    _update(updates.sgd_update, k, [w, g], [lr])


def momentum_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, momentum: float, l2: float, clip: Array | None
) -> None:
    """In one pass."""
    _update(updates.momentum_update, k, [w, g, v], [lr, momentum, l2, clip])


def nesterov_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, momentum: float, l2: float, clip: Array | None
) -> None:
    """In one pass."""
    _update(updates.nesterov_update, k, [w, g, v], [lr, momentum, l2, clip])


def adam_update(
    k: Table,
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    size: Array,
    eps: Array,
    beta1: float,
    beta2: float,
    l2: float,
    clip: Array | None,
) -> None:
    """In one pass."""
    _update(updates.adam_update, k, [w, g, m, v], [size, eps, 1 - beta1, 1 - beta2, l2, None, clip])


def adamw_update(
    k: Table,
    w: Array,
    g: Array,
    m: Array,
    v: Array,
    *,
    size: Array,
    eps: Array,
    beta1: float,
    beta2: float,
    keep: Array | None,
    clip: Array | None,
) -> None:
    """In one pass."""
    _update(updates.adam_update, k, [w, g, m, v], [size, eps, 1 - beta1, 1 - beta2, 0.0, keep, clip])


def rmsprop_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, alpha: float, eps: float, l2: float, clip: Array | None
) -> None:
    """In one pass."""
    _update(updates.rmsprop_update, k, [w, g, v], [lr, alpha, 1 - alpha, eps, l2, clip])


def adagrad_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, eps: float, l2: float, clip: Array | None
) -> None:
    """In one pass."""
    _update(updates.adagrad_update, k, [w, g, v], [lr, eps, l2, clip])


def squared_norm(k: Table, x: Array, *, out: Array) -> None:
    """In one pass, summed in double precision."""
    parts = k.device.parts(numbers=x.size)
    sums = _totals(k, parts)
    k.device.do(updates.squared_norm, x, sums, kinds=(x.dtype,), parts=parts)
    _total(k, sums, out)


def _update(node: Callable[..., Any], k: Table, blocks: list[Array], numbers: list[Any]) -> None:
    """A node over contiguous blocks of one shape, with numbers of their type; None is the factor 1."""
    dtype, parts = blocks[0].dtype, k.device.parts(numbers=len(blocks) * blocks[0].size)
    scalars = [nodes.constant(1.0 if value is None else value, dtype) for value in numbers]
    k.device.do(node, *blocks, *scalars, kinds=(dtype,), parts=parts)


def _totals(k: Table, parts: int) -> Array:
    """Room for what each part sums up."""
    return k.scratch("totals", (parts, CACHE_LINE), np.float64)


def _total(k: Table, totals: Array, out: Array) -> None:
    """out: () <- the sum of the parts."""
    k.device.do(nodes.sum_of_parts, totals, out.reshape(1), kinds=(totals.dtype, out.dtype))


TWINS: dict[str, Callable[..., Any]] = {
    twin.__name__: twin
    for twin in (
        hidden_aux,
        affine_forward,
        linear,
        affine_inputs,
        affine_weights,
        hidden_forward,
        hidden_backward,
        softmax,
        softmax_cross_entropy,
        scored_softmax_cross_entropy,
        hits,
        gather,
        sgd_update,
        momentum_update,
        nesterov_update,
        adam_update,
        adamw_update,
        rmsprop_update,
        adagrad_update,
        squared_norm,
    )
}
