"""Losses, fused with their output layer: from pre-activations z to the gradient dz of the mean loss, in one go.

Every loss takes z: (B, O), targets t, optional sample weights: (B,), and writes

    out: (B, O)  dz, the gradient of sum_i weight_i loss_i / sum_i weight_i (`out` may be z),
    db: (O,)     its sum over the batch, the gradient of the output layer's biases,
    loss: ()     sum_i weight_i loss_i, which adds up over batches.

The division by B, or by the sum of the weights, is here and nowhere else. `scale` is the factor on the sum over a
sample's outputs, None for 1/O: their mean. `smoothing` moves that part of every target to all classes alike (Szegedy et
al. 2016, section 7).
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels.table import Table

LOG_SMALLEST = math.log(1e-10)
"""Probabilities below 1e-10 are reported as 1e-10; gradients know no such bound."""


def softmax_cross_entropy(
    k: Table,
    z: Array,
    t: Array,
    *,
    log_smallest: float = LOG_SMALLEST,
    smoothing: float = 0.0,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """loss_i = -sum_j t_ij log p_ij with p = softmax(z); dz_i = (p_i - t_i) / B.

    t: (B,) integers, the number of the class, or (B, O) probabilities that sum to 1 in each row. The reported loss
    takes log p to be at least `log_smallest`.
    """
    xp = k.xp
    row, log_p = k.scratch("loss row", (len(z), 1), z.dtype), k.like("log p", z)
    if t.ndim == 1:
        t = _one_hot(k, t, z)
    if smoothing:
        t = _smoothed(k, t, z, smoothing, 1 / z.shape[1])
    xp.max(z, axis=1, keepdims=True, out=row)
    xp.subtract(z, row, out=log_p)
    xp.exp(log_p, out=out)
    xp.sum(out, axis=1, keepdims=True, out=row)
    xp.divide(out, row, out=out)
    xp.log(row, out=row)
    xp.subtract(log_p, row, out=log_p)
    xp.maximum(log_p, log_smallest, out=log_p)
    xp.multiply(log_p, t, out=log_p)
    xp.negative(log_p, out=log_p)
    xp.subtract(out, t, out=out)
    _weigh(k, log_p, out, scale=1.0, weights=weights, db=db, loss=loss)


def scored_softmax_cross_entropy(
    k: Table,
    z: Array,
    t: Array,
    *,
    log_smallest: float = LOG_SMALLEST,
    smoothing: float = 0.0,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
    hits: Array,
) -> None:
    """softmax_cross_entropy, and hits: () <- how many samples (or how much weight) the network gets right.

    t: (B,) integers, the number of the class.
    """
    k.hits(z, t, output="softmax", weights=weights, out=hits)
    k.softmax_cross_entropy(
        z, t, log_smallest=log_smallest, smoothing=smoothing, weights=weights, out=out, db=db, loss=loss
    )


def grouped_softmax_cross_entropy(
    k: Table,
    z: Array,
    t: Array,
    *,
    groups: tuple[int, ...],
    log_smallest: float = LOG_SMALLEST,
    smoothing: float = 0.0,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """The sum of softmax_cross_entropy over groups of neighbouring columns, one group of classes for each output.

    t: (B, G) integers, the class in each group; groups: the columns of each group, which sum to O.
    """
    xp, total, start = k.xp, k.scratch("group total", (), z.dtype), 0
    total.fill(0)
    for i, size in enumerate(groups):
        columns = slice(start, start + size)
        part, classes = (
            k.scratch(f"group {what}", (len(z), n), d) for what, n, d in (("z", size, z.dtype), ("t", 1, t.dtype))
        )
        sums = k.scratch("group db", (size,), z.dtype)
        xp.copyto(part, z[:, columns])
        xp.copyto(classes, t[:, i : i + 1])
        k.softmax_cross_entropy(
            part,
            classes[:, 0],
            log_smallest=log_smallest,
            smoothing=smoothing,
            weights=weights,
            out=part,
            db=sums,
            loss=loss,
        )
        xp.copyto(out[:, columns], part)
        xp.copyto(db[columns], sums)
        xp.add(total, loss, out=total)
        start += size
    xp.copyto(loss, total)


def sigmoid_cross_entropy(
    k: Table,
    z: Array,
    t: Array,
    *,
    scale: float | None = None,
    largest: float = math.inf,
    smoothing: float = 0.0,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """loss_i = scale sum_j l_ij with l = log(1 + exp(z)) - t z; dz = scale (sigmoid(z) - t) / B.

    t: (B, O), each 0, 1 or between: one label a column. Each l is reported to be at most `largest`.
    """
    xp, values = k.xp, k.like("loss values", z)
    product = k.like("loss product", z)
    if smoothing:
        t = _smoothed(k, t, z, smoothing, 1 / 2)
    xp.logaddexp(z, 0, out=values)
    xp.multiply(z, t, out=product)
    xp.subtract(values, product, out=values)
    xp.minimum(values, largest, out=values)
    k.sigmoid(z, out=out)
    xp.subtract(out, t, out=out)
    _weigh(k, values, out, scale=scale, weights=weights, db=db, loss=loss)


def squared_error(
    k: Table,
    z: Array,
    t: Array,
    *,
    output: str,
    scale: float | None = None,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """loss_i = scale sum_j (y_ij - t_ij)^2 with y = output(z); dy = 2 scale (y - t) / B. t: (B, O)."""
    values, slope = _residual(k, z, t, output=output, out=out)
    k.xp.multiply(out, out, out=values)
    k.xp.multiply(out, 2, out=out)
    k.activation_backward(out, slope, out=out)
    _weigh(k, values, out, scale=scale, weights=weights, db=db, loss=loss)


def absolute_error(
    k: Table,
    z: Array,
    t: Array,
    *,
    output: str,
    scale: float | None = None,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """loss_i = scale sum_j |y_ij - t_ij| with y = output(z); dy = scale sign(y - t) / B. t: (B, O)."""
    values, slope = _residual(k, z, t, output=output, out=out)
    k.xp.absolute(out, out=values)
    k.xp.sign(out, out=out)
    k.activation_backward(out, slope, out=out)
    _weigh(k, values, out, scale=scale, weights=weights, db=db, loss=loss)


def huber(
    k: Table,
    z: Array,
    t: Array,
    *,
    output: str,
    delta: float = 1.0,
    scale: float | None = None,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """loss_i = scale sum_j c_ij (r_ij - c_ij / 2) with r = output(z) - t, c = r clipped to +-delta; dy = scale c / B.

    r^2 / 2 near zero, delta (|r| - delta / 2) beyond delta (Huber 1964, eq. 1.2). t: (B, O).
    """
    xp = k.xp
    values, slope = _residual(k, z, t, output=output, out=out)
    clipped = k.like("huber", z)
    xp.clip(out, -delta, delta, out=clipped)
    xp.multiply(clipped, 0.5, out=values)
    xp.subtract(out, values, out=values)
    xp.multiply(values, clipped, out=values)
    k.activation_backward(clipped, slope, out=out)
    _weigh(k, values, out, scale=scale, weights=weights, db=db, loss=loss)


def poisson(
    k: Table,
    z: Array,
    t: Array,
    *,
    output: str,
    scale: float | None = None,
    weights: Array | None = None,
    out: Array,
    db: Array,
    loss: Array,
) -> None:
    """loss_i = scale sum_j [t_ij log(t_ij / y_ij) - t_ij + y_ij] with y = exp(z); dz = scale (y - t) / B.

    Half the Poisson deviance. t: (B, O), none negative; output: "exp". (McCullagh and Nelder 1989, table 2.1.)
    """
    xp, values = k.xp, k.like("loss values", z)
    smallest = float(xp.finfo(z.dtype).tiny)
    xp.maximum(t, smallest, out=values)
    xp.log(values, out=values)  # of 0 it stays finite, and 0 times it is 0
    xp.subtract(values, z, out=values)
    xp.multiply(values, t, out=values)
    k.exp(z, out=out)
    xp.subtract(out, t, out=out)
    xp.add(values, out, out=values)
    _weigh(k, values, out, scale=scale, weights=weights, db=db, loss=loss)


def _residual(k: Table, z: Array, t: Array, *, output: str, out: Array) -> tuple[Array, Array]:
    """out <- output(z) - t; the slope of the output, and room for the values of the loss."""
    slope = k.like("loss slope", z)
    getattr(k, output)(z, out=out, slope=slope)
    k.xp.subtract(out, t, out=out)
    return k.like("loss values", z), slope


def _weigh(
    k: Table, values: Array, dz: Array, *, scale: float | None, weights: Array | None, db: Array, loss: Array
) -> None:
    """From the values of the loss and unscaled gradients, entry by entry, to loss, dz and db; overwrites values."""
    xp, (rows, columns) = k.xp, dz.shape
    scale = 1 / columns if scale is None else scale
    factor: Any = scale / rows
    if weights is not None:
        column, total = weights[:, None], k.scratch("weight sum", (1, 1), dz.dtype)
        nothing = k.scratch("weight nothing", (1, 1), bool)
        factor = k.scratch("weight factor", (rows, 1), dz.dtype)
        xp.multiply(values, column, out=values)
        xp.sum(column, axis=0, keepdims=True, out=total)
        xp.equal(total, 0, out=nothing)  # a batch of weightless samples changes nothing
        xp.copyto(total, math.inf, where=nothing)
        xp.divide(column, total, out=factor)
        xp.multiply(factor, scale, out=factor)
    xp.sum(values, out=loss)
    xp.multiply(loss, scale, out=loss)
    xp.multiply(dz, factor, out=dz)
    k.affine_biases(dz, out=db)


def _one_hot(k: Table, t: Array, z: Array) -> Array:
    """(B, O) of z's dtype: 1 in the column of the class, else 0."""
    one_hot = k.like("one hot", z)
    k.xp.equal(t[:, None], k.iota(z.shape[1], t.dtype)[None, :], out=one_hot)
    return one_hot


def _smoothed(k: Table, t: Array, z: Array, smoothing: float, share: float) -> Array:
    """(1 - smoothing) t + smoothing share."""
    smoothed = k.like("smoothed", z)
    k.xp.multiply(t, 1 - smoothing, out=smoothed)
    return k.xp.add(smoothed, smoothing * share, out=smoothed)
