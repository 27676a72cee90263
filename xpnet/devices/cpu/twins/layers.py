"""Twins of layers: products with what goes before and after them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xpnet.devices.cpu import native
from xpnet.devices.cpu.nodes import products
from xpnet.devices.cpu.nodes.compiling import constant
from xpnet.devices.cpu.twins.sums import columns_of_parts, sum_columns

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table


def hidden_aux(
    k: Table, y: Array, *, activation: str, rate: float = 0.0, normalized: bool = False, below: int, above: int
) -> Array:
    """y itself: where it is positive, the slope of relu is 1, and a unit that was dropped is 0."""
    if activation == "relu":
        return y
    options: dict[str, Any] = {"rate": rate, "normalized": normalized, "below": below, "above": above}
    return k.reference.hidden_aux(y, activation=activation, **options)


def hidden_forward(
    k: Table,
    x: Array,
    w: Array,
    b: Array,
    *,
    activation: str,
    rate: float = 0.0,
    key: Array | None = None,
    out: Array,
    aux: Array | None = None,
) -> None:
    """The product with the bias and, where it is relu, the activation."""
    if activation == "relu":
        _affine("relu", k, x, w, b, out)
        _drop(k, activation, rate, key, out, aux)
    else:
        _affine("linear", k, x, w, b, out)
        k.hidden_activation(out, activation=activation, rate=rate, key=key, out=out, aux=aux)


def hidden_activation(
    k: Table,
    z: Array,
    *,
    activation: str,
    rate: float = 0.0,
    key: Array | None = None,
    out: Array,
    aux: Array | None = None,
) -> None:
    """The activation, then dropout."""
    getattr(k, activation)(z, out=out, slope=None if activation == "relu" else aux)
    _drop(k, activation, rate, key, out, aux)


def _drop(k: Table, activation: str, rate: float, key: Array | None, y: Array, aux: Array | None) -> None:
    if rate and aux is not None:
        k.dropout(y, key=key, rate=rate, out=y, slope=None if activation == "relu" else aux)


def affine_forward(k: Table, x: Array, w: Array, b: Array, *, out: Array) -> None:
    """The product with the bias."""
    _affine("linear", k, x, w, b, out)


def affine_product(k: Table, x: Array, w: Array, *, out: Array) -> None:
    """The product."""
    k.gemm(x, w, out=out)


def affine_inputs(k: Table, dz: Array, w: Array, *, alpha: float = 1.0, first: int = 0, out: Array) -> None:
    """The product."""
    k.gemm(dz, w[first:].T, out=out, alpha=alpha)


def affine_weights(k: Table, x: Array, dz: Array, *, out: Array, alpha: Any = 1.0, beta: Any = 0.0) -> None:
    """The product, with alpha and beta in it."""
    k.gemm(x.T, dz, out=out, alpha=alpha, beta=beta)


def _affine(activation: str, k: Table, x: Array, w: Array, b: Array, out: Array) -> None:
    """The activation of x w + b, cut by rows of x, or, where these are few, by rows of w."""
    parts, dtype, blas = k.device.parts(products=x.shape[0] * w.size), out.dtype, native.blas(out.dtype)
    kinds = activation, dtype
    if products.many_rows(out, parts):
        return k.device.do(products.affine, x, w, b, out, *blas, kinds=kinds, parts=parts)
    sums = k.scratch("products", (parts * len(x), len(b)), dtype)
    k.device.do(products.product_of_part, x, w, sums, *blas, kinds=(dtype,), parts=parts)
    return k.device.do(products.activation_of_sum, sums, b, out, kinds=kinds, parts=parts)


def hidden_backward(
    k: Table, dz: Array, w: Array, *, activation: str, rate: float = 0.0, aux: Array, out: Array, db: Array
) -> None:
    """The product with the slope and the bias gradient."""
    parts = k.device.parts(products=dz.shape[0] * w.size)
    sums, alpha = columns_of_parts(k, parts, db), constant(1 / (1 - rate), out.dtype)
    node = products.backward_by_output if activation == "relu" else products.backward_by_slope
    arguments, kinds = (dz, w, aux, out, sums, alpha, *native.blas(out.dtype)), (aux.dtype, out.dtype)
    k.device.do(node, *arguments, kinds=kinds, parts=parts)
    sum_columns(k, sums, db)
