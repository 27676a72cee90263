"""A hidden layer, forward and backward: what a device may fuse into the products' epilogues.

`aux` carries what the backward pass needs of the activation and of dropout, one row a sample, so that `aux[:n]` is that
of the first n. What is in it is the device's own matter: here the slope, 0 where a unit was dropped; elsewhere packed
bits or the output itself. A layer with normalization goes through the same kernels, part by part.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xpnet.kernels.activations import STEP_SLOPES

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels.table import Table


def hidden_aux(
    k: Table, y: Array, *, activation: str, rate: float = 0.0, normalized: bool = False, below: int, above: int
) -> Array:
    """What hidden_forward leaves for hidden_backward when it writes its outputs into y: (B, O); perhaps y itself.

    rate: Of dropout. normalized: Whether hidden_activation fills it, after a normalization, in place of hidden_forward.
    below, above: The units of the layers on both sides.
    """
    return k.device.empty(y.shape, bool if activation in STEP_SLOPES else y.dtype)


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
    """y = dropout(activation(x w + b)); fills `aux` where it is given, and drops units only there.

    x: (B, I), w: (I, O), b: (O,), out: (B, O), which aliases none of them. key: () uint32, where the rate is not 0.
    """
    k.affine_forward(x, w, b, out=out)
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
    """y = dropout(activation(z)), the end of hidden_forward. z: (B, O); `out` may be z."""
    getattr(k, activation)(z, out=out, slope=aux)
    if rate and aux is not None:
        k.dropout(out, key=key, rate=rate, out=out, slope=aux)


def hidden_backward(
    k: Table, dz: Array, w: Array, *, activation: str, rate: float = 0.0, aux: Array, out: Array, db: Array
) -> None:
    """out <- (dz w^T) * slope * m / (1 - rate), dz of the layer below, and db <- its sum over the batch.

    dz: (B, O) and w: (I, O), as it was in the forward pass, of the layer above; activation, rate, aux, out: (B, I) and
    db: (I,) of the layer below; m is 0 for the units that were dropped, else 1.
    """
    k.affine_inputs(dz, w, alpha=1 / (1 - rate), out=out)
    k.activation_backward(out, aux, out=out)
    k.affine_biases(out, out=db)


def activation_backward(k: Table, dy: Array, slope: Array, *, out: Array) -> Any:
    """dz = dy * slope. `out` may be dy."""
    k.xp.multiply(dy, slope, out=out)
