"""The CPU's twins of kernels: the same names and signatures as the references, by compiled loops.

Each hands what it does not cover to `k.reference`, deciding on options and shapes alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from xpnet.devices.cpu import loops

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table

LOG_SMALLEST = math.log(1e-10)
"""As in the reference."""

WIDEST = 64
"""Classes up to which a scalar exponential, in one pass, beats NumPy's vectors in many."""


def hidden_aux(k: Table, y: Array, *, activation: str) -> Array:
    """y itself: where it is positive, the slope of relu is 1."""
    return y if activation == "relu" else k.reference.hidden_aux(y, activation=activation)


def hidden_forward(
    k: Table, x: Array, w: Array, b: Array, *, activation: str, out: Array, aux: Array | None = None
) -> None:
    """The product, then bias and relu in one pass."""
    if activation != "relu":
        return k.reference.hidden_forward(x, w, b, activation=activation, out=out, aux=aux)
    k.gemm(x, w, out=out)
    return loops.bias_relu(out, b)


def hidden_backward(k: Table, dz: Array, w: Array, *, activation: str, aux: Array, out: Array, db: Array) -> None:
    """The product, then mask and bias gradient in one pass."""
    if activation != "relu":
        return k.reference.hidden_backward(dz, w, activation=activation, aux=aux, out=out, db=db)
    k.gemm(dz, w.T, out=out)
    return loops.mask_and_sum(out, aux, db)


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
    loss[...] = loops.softmax_cross_entropy(z, t, log_smallest, out, db)
    return None


def hits(k: Table, z: Array, t: Array, *, output: str, weights: Array | None = None, out: Array) -> None:
    """The largest entries, row by row."""
    if t.ndim != 1 or weights is not None or output not in ("softmax", "sigmoid", "linear"):
        return k.reference.hits(z, t, output=output, weights=weights, out=out)
    out[...] = loops.hits(z, t)
    return None


def gather(k: Table, source: Array, index: Array, *, scale: Any = None, shift: Array | None = None, out: Array) -> None:
    """Bytes to floats, scaled and shifted in one pass."""
    if source.ndim != 2 or source.dtype == out.dtype or not (scale is None or isinstance(scale, float)):
        return k.reference.gather(source, index, scale=scale, shift=shift, out=out)
    factor = out.dtype.type(1 if scale is None else scale)
    if shift is None:
        return loops.gather(source, index, factor, out)
    return loops.gather_shifted(source, index, factor, shift, out)


def momentum_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, momentum: float, l2: float, clip: Array | None
) -> None:
    """In one pass."""
    loops.momentum_update(w, g, v, *_numbers(w, lr, momentum, l2, clip))


def nesterov_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, momentum: float, l2: float, clip: Array | None
) -> None:
    """In one pass."""
    loops.nesterov_update(w, g, v, *_numbers(w, lr, momentum, l2, clip))


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
    loops.adam_update(w, g, m, v, *_numbers(w, size, eps, 1 - beta1, 1 - beta2, l2, None, clip))


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
    loops.adam_update(w, g, m, v, *_numbers(w, size, eps, 1 - beta1, 1 - beta2, 0.0, keep, clip))


def rmsprop_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, alpha: float, eps: float, l2: float, clip: Array | None
) -> None:
    """In one pass."""
    loops.rmsprop_update(w, g, v, *_numbers(w, lr, alpha, 1 - alpha, eps, l2, clip))


def adagrad_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, eps: float, l2: float, clip: Array | None
) -> None:
    """In one pass."""
    loops.adagrad_update(w, g, v, *_numbers(w, lr, eps, l2, clip))


def squared_norm(k: Table, x: Array, *, out: Array) -> None:
    """In one pass, summed in double precision."""
    out[...] = loops.squared_norm(x)


def _numbers(w: Array, *values: Any) -> list[Any]:
    """Scalars of the parameters' type, so that nothing is computed in another one; None is the factor 1."""
    kind = w.dtype.type
    return [kind(1.0 if value is None else value) for value in values]


TWINS: dict[str, Callable[..., Any]] = {
    twin.__name__: twin
    for twin in (
        hidden_aux,
        hidden_forward,
        hidden_backward,
        softmax_cross_entropy,
        hits,
        gather,
        momentum_update,
        nesterov_update,
        adam_update,
        adamw_update,
        rmsprop_update,
        adagrad_update,
        squared_norm,
    )
}
