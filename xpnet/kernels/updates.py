"""Parameter updates, in place over contiguous blocks, in PyTorch's forms where nothing else is said.

w: the parameters, g: the gradient of the mean loss (not changed), all of one shape (P,). Rates that change from step
to step are 0-d arrays of w's dtype, the rest are Python floats. `l2` is added to the gradient as l2 w; `clip` is a
factor on the gradient, taken before l2 is added; both are 0-d, or None.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels.table import Table


def sgd_update(k: Table, w: Array, g: Array, *, lr: Array) -> None:
    """w <- w - lr g."""
    step = k.like("step", w)
    k.xp.multiply(g, lr, out=step)
    k.xp.subtract(w, step, out=w)


def momentum_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, momentum: float, l2: Array | None, clip: Array | None
) -> None:
    """v <- momentum v + d, w <- w - lr v, with d = clip g + l2 w. (Polyak 1964, as in torch.optim.SGD.)"""
    d = _direction(k, w, g, l2=l2, clip=clip)
    k.xp.multiply(v, momentum, out=v)
    k.xp.add(v, d, out=v)
    k.sgd_update(w, v, lr=lr)


def nesterov_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, momentum: float, l2: Array | None, clip: Array | None
) -> None:
    """v <- momentum v + d, w <- w - lr (d + momentum v), with d = clip g + l2 w. (As in torch.optim.SGD.)"""
    d = _direction(k, w, g, l2=l2, clip=clip)
    ahead = k.like("ahead", w)
    k.xp.multiply(v, momentum, out=v)
    k.xp.add(v, d, out=v)
    k.xp.multiply(v, momentum, out=ahead)
    k.xp.add(ahead, d, out=ahead)
    k.sgd_update(w, ahead, lr=lr)


def velocity_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, momentum: float, l2: Array | None, clip: Array | None
) -> None:
    """v <- momentum v - lr d, w <- w + v, with d = clip g + l2 w. (Sutskever et al. 2013, eq. 1; scikit-learn.)"""
    _velocity(k, w, g, v, lr=lr, momentum=momentum, l2=l2, clip=clip)
    k.xp.add(w, v, out=w)


def nesterov_velocity_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, momentum: float, l2: Array | None, clip: Array | None
) -> None:
    """v <- momentum v - lr d, w <- w + momentum v - lr d, with d = clip g + l2 w. (As in scikit-learn.)"""
    step, ahead = _velocity(k, w, g, v, lr=lr, momentum=momentum, l2=l2, clip=clip), k.like("ahead", w)
    k.xp.multiply(v, momentum, out=ahead)
    k.xp.subtract(ahead, step, out=ahead)
    k.xp.add(w, ahead, out=w)


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
    l2: Array | None,
    clip: Array | None,
) -> None:
    """m <- beta1 m + (1 - beta1) d, v <- beta2 v + (1 - beta2) d^2, w <- w - size m / (sqrt(v) + eps).

    d = clip g + l2 w; size = lr c / (1 - beta1^t) and eps = c epsilon, with c = sqrt(1 - beta2^t), are the bias
    corrections of step t (Kingma and Ba 2015, section 2, last lines, with epsilon inside as in torch.optim.Adam;
    scikit-learn's has eps = epsilon).
    """
    d = _direction(k, w, g, l2=l2, clip=clip)
    _adam_moments(k, d, m, v, beta1=beta1, beta2=beta2)
    _scaled_step(k, w, m, v, lr=size, eps=eps)


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
    """Adam's update after w <- keep w, keep = 1 - lr l2; None leaves w. (Loshchilov and Hutter 2019, algorithm 2.)"""
    d = _direction(k, w, g, l2=None, clip=clip)
    _adam_moments(k, d, m, v, beta1=beta1, beta2=beta2)
    if keep is not None:
        k.xp.multiply(w, keep, out=w)
    _scaled_step(k, w, m, v, lr=size, eps=eps)


def rmsprop_update(
    k: Table,
    w: Array,
    g: Array,
    v: Array,
    *,
    lr: Array,
    alpha: float,
    eps: float,
    l2: Array | None,
    clip: Array | None,
) -> None:
    """v <- alpha v + (1 - alpha) d^2, w <- w - lr d / (sqrt(v) + eps). (Hinton 2012, lecture 6e.)"""
    xp, d, t = k.xp, _direction(k, w, g, l2=l2, clip=clip), k.like("square", w)
    xp.multiply(d, d, out=t)
    xp.multiply(t, 1 - alpha, out=t)
    xp.multiply(v, alpha, out=v)
    xp.add(v, t, out=v)
    _scaled_step(k, w, d, v, lr=lr, eps=eps)


def adagrad_update(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, eps: float, l2: Array | None, clip: Array | None
) -> None:
    """v <- v + d^2, w <- w - lr d / (sqrt(v) + eps). (Duchi, Hazan and Singer 2011, figure 1.)"""
    d, t = _direction(k, w, g, l2=l2, clip=clip), k.like("square", w)
    k.xp.multiply(d, d, out=t)
    k.xp.add(v, t, out=v)
    _scaled_step(k, w, d, v, lr=lr, eps=eps)


def max_norm(k: Table, w: Array, *, limit: float) -> None:
    """w_j <- w_j min(1, limit / |w_j|) for each column j of w: (I, O), the weights into one unit.

    (Srivastava et al. 2014, section 5.1.)
    """
    xp, square = k.xp, k.like("max_norm", w)
    unit, norm = (k.scratch(f"max_norm {what}", (w.shape[1],), w.dtype) for what in ("unit", "norm"))
    xp.absolute(w, out=square)
    xp.max(square, axis=0, out=unit)
    xp.maximum(unit, limit, out=unit)
    xp.divide(w, unit, out=square)  # in units that large, squares do not overflow
    xp.multiply(square, square, out=square)
    xp.sum(square, axis=0, out=norm)
    xp.sqrt(norm, out=norm)
    xp.divide(limit, unit, out=unit)
    xp.maximum(norm, unit, out=norm)
    xp.divide(unit, norm, out=norm)
    xp.multiply(w, norm, out=w)


def squared_norm(k: Table, x: Array, *, out: Array) -> None:
    """out: () <- the sum of x^2. x: (P,)."""
    square = k.like("norm", x)
    k.xp.multiply(x, x, out=square)
    k.xp.sum(square, out=out)


def clip_scale(k: Table, g: Array, *, limit: float, out: Array) -> None:
    """out: () <- min(1, limit / (|g| + 1e-6)): the factor that bounds the gradient's norm. (As in PyTorch.)"""
    xp, scaled = k.xp, k.like("clip_scale", g)
    unit, least = (k.scratch(f"clip_scale {what}", (), g.dtype) for what in ("unit", "least"))
    xp.absolute(g, out=scaled)
    xp.max(scaled, out=unit)
    xp.maximum(unit, 1, out=unit)
    xp.divide(g, unit, out=scaled)  # in units that large, squares do not overflow
    k.squared_norm(scaled, out=out)
    xp.sqrt(out, out=out)
    xp.divide(1e-6, unit, out=least)
    xp.add(out, least, out=out)
    xp.divide(limit, out, out=out)
    xp.divide(out, unit, out=out)
    xp.minimum(out, 1, out=out)


def _direction(k: Table, w: Array, g: Array, *, l2: Array | None, clip: Array | None) -> Array:
    """clip g + l2 w, in scratch memory, or g itself where it is just that."""
    if clip is None and l2 is None:
        return g
    d = k.like("direction", g)
    if l2 is None:
        k.xp.multiply(g, clip, out=d)
        return d
    k.xp.multiply(w, l2, out=d)
    if clip is not None:
        clipped = k.like("clipped", g)
        k.xp.multiply(g, clip, out=clipped)
        g = clipped
    k.xp.add(d, g, out=d)
    return d


def _velocity(
    k: Table, w: Array, g: Array, v: Array, *, lr: Array, momentum: float, l2: Array | None, clip: Array | None
) -> Array:
    """v <- momentum v - lr d; lr d."""
    d, step = _direction(k, w, g, l2=l2, clip=clip), k.like("step", w)
    k.xp.multiply(d, lr, out=step)
    k.xp.multiply(v, momentum, out=v)
    k.xp.subtract(v, step, out=v)
    return step


def _adam_moments(k: Table, d: Array, m: Array, v: Array, *, beta1: float, beta2: float) -> None:
    """m and v move towards d and d^2."""
    xp, t = k.xp, k.like("square", d)
    xp.subtract(d, m, out=t)
    xp.multiply(t, 1 - beta1, out=t)
    xp.add(m, t, out=m)
    xp.multiply(d, d, out=t)
    xp.subtract(t, v, out=t)
    xp.multiply(t, 1 - beta2, out=t)
    xp.add(v, t, out=v)


def _scaled_step(k: Table, w: Array, d: Array, v: Array, *, lr: Array, eps: Any) -> None:
    """w <- w - lr d / (sqrt(v) + eps)."""
    xp, t = k.xp, k.like("square", w)
    xp.sqrt(v, out=t)
    xp.add(t, eps, out=t)
    xp.divide(d, t, out=t)
    k.sgd_update(w, t, lr=lr)
