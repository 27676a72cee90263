"""Layers whose bias, activation and slope ride in the epilogues of their products.

What aux holds (see xpnet.kernels.hidden) follows from the numbers' type and the activation:

    float32, ReLU      the signs of the pre-activations, packed, where cuBLASLt has the epilogue; else the output itself
    float32, GELU      the pre-activations, where it has the epilogue
    bfloat16, ReLU     the output itself
    bfloat16, others   the slope in float32
    otherwise          what the references keep
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from xpnet.devices.cuda.matmul import Matmuls, aux_shape
from xpnet.devices.cuda.twins import convert, slope_and_sum

if TYPE_CHECKING:
    from xpnet.devices.base import Array

BF16 = np.dtype(np.uint16)
"""Whose words hold the bits of bfloat16."""

PADDING = 8
"""Rows of bfloat16 start at multiples of so many numbers: tensor cores read 16 bytes at once."""

EPILOGUES = {
    "relu": ("relu_bias", "relu_aux_bias", "drelu_bgrad"),
    "gelu": ("gelu_bias", "gelu_aux_bias", "dgelu_bgrad"),
}
"""Of a forward product without and with aux, and of the backward product."""


def fused_activations(matmuls: Matmuls) -> frozenset[str]:
    """Those for which the library has the epilogues of all three products of a float32 layer."""
    return frozenset(
        activation
        for activation, epilogues in EPILOGUES.items()
        if all(matmuls.supports(np.float32, epilogue) for epilogue in epilogues)
    )


def padded(columns: int) -> int:
    """How many numbers apart rows of bfloat16 start."""
    return -(-columns // PADDING) * PADDING


def affine_forward(k: Any, x: Array, w: Array, b: Array, *, out: Array) -> None:
    """z = x w + b in one product; of bfloat16 inputs too, with float32 outputs."""
    if x.dtype == np.float64:
        k.reference.affine_forward(x, w, b, out=out)
    else:
        k.device.matmuls(x, _operand(k, w, x), out=out, epilogue="bias", bias=b)


def affine_inputs(k: Any, dz: Array, w: Array, *, out: Array) -> None:
    """dx = dz w^T."""
    k.gemm(dz, _operand(k, w, dz).T, out=out)


def hidden_aux(k: Any, y: Array, *, activation: str) -> Array:
    """Room for what hidden_backward needs."""
    if _fused(k, y, activation):
        shape, dtype = aux_shape(y.shape, EPILOGUES[activation][1], y.dtype)
        return k.device.zeros(shape, dtype)  # the packed bits of rows that nobody wrote are read, and dropped
    if _by_output(k, y, activation):
        return y
    if y.dtype == BF16:
        return k.device.empty(y.shape, np.float32)
    return k.reference.hidden_aux(y, activation=activation)


def hidden_forward(
    k: Any, x: Array, w: Array, b: Array, *, activation: str, out: Array, aux: Array | None = None
) -> None:
    """y = activation(x w + b)."""
    by_output = _by_output(k, out, activation)
    if by_output or _fused(k, out, activation):
        aux = None if by_output else aux
        operand, bias = _operand(k, w, x), _bias(k, b, out)
        k.device.matmuls(x, operand, out=out, epilogue=EPILOGUES[activation][int(aux is not None)], bias=bias, aux=aux)
    elif out.dtype == BF16:
        z = k.scratch("hidden z", out.shape, np.float32)
        k.affine_forward(x, w, b, out=z)
        getattr(k, activation)(z, out=z, slope=aux)
        convert(k, z, out=out)
    else:
        k.reference.hidden_forward(x, w, b, activation=activation, out=out, aux=aux)


def hidden_backward(k: Any, dz: Array, w: Array, *, activation: str, aux: Array, out: Array, db: Array) -> None:
    """out <- (dz w^T) * slope, and db <- its sum over the batch."""
    if _fused(k, out, activation):
        k.device.matmuls(dz, w.T, out=out, epilogue=EPILOGUES[activation][2], bias=db, aux=aux)
        return
    dy = k.scratch("hidden dy", out.shape, np.float32) if out.dtype == BF16 else out
    k.affine_inputs(dz, w, out=dy)
    slope_and_sum(k, dy, aux, out=out, db=db, by_output=_by_output(k, out, activation))


def _fused(k: Any, y: Array, activation: str) -> bool:
    """Whether activation and slope ride in the products of such a layer."""
    return bool(y.dtype == np.float32 and activation in k.device.fused_activations)


def _by_output(k: Any, y: Array, activation: str) -> bool:
    """Whether the slope is read off the output itself."""
    return bool(activation == "relu" and y.dtype in (np.float32, BF16) and not _fused(k, y, activation))


def _operand(k: Any, w: Array, like: Array) -> Array:
    """The weights in the form of what they are multiplied with: themselves, or rounded to bfloat16."""
    if like.dtype != BF16:
        return w
    half = k.scratch("bfloat16 weights", (w.shape[0], padded(w.shape[1])), BF16)[:, : w.shape[1]]
    convert(k, w, out=half)
    return half


def _bias(k: Any, b: Array, out: Array) -> Array:
    """The bias in the outputs' type, as epilogues want it."""
    if out.dtype != BF16:
        return b
    half = k.scratch("bfloat16 bias", (1, len(b)), BF16)
    convert(k, b[None, :], out=half)
    return half[0]


TWINS: dict[str, Callable[..., Any]] = {
    kernel.__name__: kernel for kernel in (affine_forward, affine_inputs, hidden_aux, hidden_forward, hidden_backward)
}
