"""Layers whose bias, activation and slope ride in the epilogues of their products.

What aux holds (see xpnet.kernels.hidden) follows from the numbers' type, the activation, and whether there are
epilogues for the layer: cuBLASLt has them for its widths, and neither dropout nor a normalization comes in between. aux
itself tells which it is:

    float32, ReLU      the signs of the pre-activations, packed into bytes; without epilogues the output itself
    float32, GELU      the pre-activations, in rows with room for more; without epilogues what the references keep
    bfloat16, ReLU     the output itself
    bfloat16, others   the slope in float32
    otherwise          what the references keep

Of a unit that was dropped, the output and the slope are 0; the others' factor is that of the product back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import numpy as np

from xpnet.devices.cuda.matmul import Matmuls
from xpnet.devices.cuda.product import aux_shape
from xpnet.devices.cuda.twins.columns import convert, slope_and_sum
from xpnet.devices.cuda.twins.dropout import rectified
from xpnet.devices.cuda.twins.launching import BFLOAT16

if TYPE_CHECKING:
    from xpnet.devices.base import Array
    from xpnet.kernels.table import Table

PADDING = 8
"""Rows of bfloat16 start at multiples of so many numbers: tensor cores read 16 bytes at once."""

EPILOGUES = {
    "relu": ("relu_bias", "relu_aux_bias", "drelu_bgrad"),
    "gelu": ("gelu_bias", "gelu_aux_bias", "dgelu_bgrad"),
}
"""Of a forward product without and with aux, and of the backward product."""


_rounded: WeakKeyDictionary[Table, dict[tuple[int, tuple[int, int]], Array]] = WeakKeyDictionary()
"""Weights rounded to bfloat16, by where the weights lie."""


def fused_activations(matmuls: Matmuls) -> frozenset[str]:
    """Those for which the library has the epilogues of all three products of some float32 layer."""
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
        k.device.matmuls(x, _operand(k, w, x, anew=True), out=out, epilogue="bias", bias=b)


def affine_product(k: Any, x: Array, w: Array, *, out: Array) -> None:
    """out = x w; of bfloat16 inputs too, with float32 outputs."""
    k.gemm(x, _operand(k, w, x, anew=True), out=out)


def affine_inputs(k: Any, dz: Array, w: Array, *, alpha: float = 1.0, first: int = 0, out: Array) -> None:
    """dx = alpha dz w^T, with w as a forward product has read it before."""
    k.gemm(dz, _operand(k, w, dz, anew=False)[first:].T, out=out, alpha=alpha)


def hidden_aux(
    k: Any, y: Array, *, activation: str, rate: float = 0.0, normalized: bool = False, below: int, above: int
) -> Array:
    """Room for what hidden_backward needs."""
    if rate == 0 and not normalized and _has_epilogues(k, y, activation, below, above):
        (rows, columns), dtype = aux_shape(y.shape, EPILOGUES[activation][1], y.dtype)
        if dtype == y.dtype and columns == y.shape[1]:
            columns += PADDING  # so that it is wider than y, which a slope is not
        return k.device.zeros((rows, columns), dtype)  # the packed bits of rows that nobody wrote are read, and dropped
    if _by_output(y, activation):
        return y
    if y.dtype == BFLOAT16:
        return k.device.empty(y.shape, np.float32)
    return k.reference.hidden_aux(y, activation=activation, rate=rate, normalized=normalized, below=below, above=above)


def hidden_forward(
    k: Any,
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
    """y = dropout(activation(x w + b)); dropout is a launch of its own."""
    with_aux = aux is not None and _is_epilogue_s(aux, out)
    if with_aux or _by_output(out, activation) or (aux is None and _fused(k, out, activation)):
        k.device.matmuls(
            x,
            _operand(k, w, x, anew=True),
            out=out,
            epilogue=EPILOGUES[activation][int(with_aux)],
            bias=_bias(k, b, out),
            aux=aux if with_aux else None,
        )
        if rate and aux is not None:
            k.dropout(out, key=key, rate=rate, out=out)
        return
    z = k.scratch("hidden z", out.shape, np.float32) if out.dtype == BFLOAT16 else out
    k.affine_forward(x, w, b, out=z)
    k.hidden_activation(z, activation=activation, rate=rate, key=key, out=out, aux=aux)


def hidden_activation(
    k: Any,
    z: Array,
    *,
    activation: str,
    rate: float = 0.0,
    key: Array | None = None,
    out: Array,
    aux: Array | None = None,
) -> None:
    """y = dropout(activation(z)); ReLU in one launch with dropout, or with the rounding to bfloat16."""
    drops, rounds = bool(rate) and aux is not None, out.dtype == BFLOAT16
    by_output = _by_output(out, activation)
    if by_output and (drops or rounds):
        return rectified(k, z, key=key if drops else None, rate=rate, out=out)
    slope = None if by_output else aux
    y = k.scratch("hidden y", z.shape, z.dtype) if rounds else out
    getattr(k, activation)(z, out=y, slope=slope)
    if drops:
        return k.dropout(y, key=key, rate=rate, out=out, slope=slope)
    return convert(k, y, out=out) if rounds else None


def hidden_backward(
    k: Any, dz: Array, w: Array, *, activation: str, rate: float = 0.0, aux: Array, out: Array, db: Array
) -> None:
    """out <- (dz w^T) * slope / (1 - rate), and db <- its sum over the batch."""
    if _is_epilogue_s(aux, out):
        k.device.matmuls(dz, w.T, out=out, epilogue=EPILOGUES[activation][2], bias=db, aux=aux)
        return
    dy = k.scratch("hidden dy", out.shape, np.float32) if out.dtype == BFLOAT16 else out
    k.affine_inputs(dz, w, alpha=1 / (1 - rate), out=dy)
    slope_and_sum(k, dy, aux, out=out, db=db, by_output=_by_output(out, activation))


def _fused(k: Any, y: Array, activation: str) -> bool:
    return bool(y.dtype == np.float32 and activation in k.device.fused_activations)


def _has_epilogues(k: Any, y: Array, activation: str, below: int, above: int) -> bool:
    """Whether there are epilogues for whole batches, and single rows, of a layer of these widths."""
    if not _fused(k, y, activation):
        return False
    (rows, units), (_, forward, backward) = y.shape, EPILOGUES[activation]
    return all(
        k.device.matmuls.supports(y.dtype, epilogue, shape=(n, inner, units))
        for epilogue, inner in ((forward, below), (backward, above))
        for n in (1, rows)
    )


def _is_epilogue_s(aux: Array, y: Array) -> bool:
    """Whether aux is what a product's epilogue leaves: bytes of bits, or rows with more room than y's."""
    return bool(aux.dtype == np.uint8 or aux.shape[1] > y.shape[1])


def _by_output(y: Array, activation: str) -> bool:
    """Whether the slope is read off the output itself, where no epilogue keeps it: kept units alone are above 0."""
    return bool(activation == "relu" and y.dtype in (np.float32, BFLOAT16))


def _operand(k: Table, w: Array, like: Array, *, anew: bool) -> Array:
    """The weights in the form of what they are multiplied with: themselves, or rounded to bfloat16.

    They are rounded for the forward product; the backward product of the same step finds them.
    """
    if like.dtype != BFLOAT16:
        return w
    known, place = _rounded.setdefault(k, {}), (w.data.ptr, w.shape)
    if place not in known:
        known[place] = k.device.empty((w.shape[0], padded(w.shape[1])), BFLOAT16)[:, : w.shape[1]]
    elif not anew:
        return known[place]
    convert(k, w, out=known[place])
    return known[place]


def _bias(k: Any, b: Array, out: Array) -> Array:
    """The bias in the outputs' type, as epilogues want it."""
    if out.dtype != BFLOAT16:
        return b
    half = k.scratch("bfloat16 bias", (1, len(b)), BFLOAT16)
    convert(k, b[None, :], out=half)
    return half[0]


TWINS = (
    affine_forward,
    affine_product,
    affine_inputs,
    hidden_aux,
    hidden_forward,
    hidden_activation,
    hidden_backward,
)
