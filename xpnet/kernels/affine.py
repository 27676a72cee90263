"""z = x w + b and its gradients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels.table import Table


def affine_product(k: Table, x: Array, w: Array, *, out: Array) -> None:
    """out = x w. x: (B, I), w: (I, O), out: (B, O), which aliases neither."""
    k.gemm(x, w, out=out)


def affine_forward(k: Table, x: Array, w: Array, b: Array, *, out: Array) -> None:
    """z = x w + b. x: (B, I), w: (I, O), b: (O,), out: (B, O), which aliases none of them."""
    k.affine_product(x, w, out=out)
    k.xp.add(out, b, out=out)


def affine_inputs(k: Table, dz: Array, w: Array, *, alpha: float = 1.0, first: int = 0, out: Array) -> None:
    """dx = alpha dz w^T, of the inputs from number `first` on.

    dz: (B, O), w: (I, O), out: (B, I - first), which aliases neither.
    """
    k.gemm(dz, w[first:].T, out=out, alpha=alpha)


def affine_weights(k: Table, x: Array, dz: Array, *, out: Array, alpha: Any = 1.0, beta: Any = 0.0) -> None:
    """out <- alpha x^T dz + beta out: the weight gradient (1, 0) or the SGD step itself (-lr, 1 - lr l2).

    x: (B, I), dz: (B, O), out: (I, O), which aliases neither. alpha and beta are both floats or both 0-d arrays.
    """
    k.gemm(x.T, dz, out=out, alpha=alpha, beta=beta)


def affine_biases(k: Table, dz: Array, *, out: Array) -> None:
    """db = the sum of dz over the batch. dz: (B, O), out: (O,)."""
    k.xp.sum(dz, axis=0, out=out)
