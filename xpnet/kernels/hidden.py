"""A hidden layer, forward and backward: what a device may fuse into the products' epilogues.

`aux` carries what the backward pass needs of the activation, one row a sample, so that `aux[:n]` is that of the first
n. What is in it is the device's own matter: here the slope, elsewhere packed bits or the output itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from xpnet.kernels.activations import STEP_SLOPES

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels.table import Table


def hidden_aux(k: Table, y: Array, *, activation: str, below: int, above: int) -> Array:
    """What hidden_forward leaves for hidden_backward when it writes its outputs into y: (B, O); perhaps y itself.

    below, above: The units of the layers on both sides.
    """
    return k.device.empty(y.shape, bool if activation in STEP_SLOPES else y.dtype)


def hidden_forward(
    k: Table, x: Array, w: Array, b: Array, *, activation: str, out: Array, aux: Array | None = None
) -> None:
    """y = activation(x w + b); fills `aux` where it is given.

    x: (B, I), w: (I, O), b: (O,), out: (B, O), which aliases none of them.
    """
    k.affine_forward(x, w, b, out=out)
    getattr(k, activation)(out, out=out, slope=aux)


def hidden_backward(k: Table, dz: Array, w: Array, *, activation: str, aux: Array, out: Array, db: Array) -> None:
    """out <- (dz w^T) * slope, dz of the layer below, and db <- its sum over the batch: that layer's bias gradient.

    dz: (B, O) and w: (I, O), as it was in the forward pass, of the layer above; activation, aux, out: (B, I) and
    db: (I,) of the layer below.
    """
    k.affine_inputs(dz, w, out=out)
    k.activation_backward(out, aux, out=out)
    k.affine_biases(out, out=db)


def activation_backward(k: Table, dy: Array, slope: Array, *, out: Array) -> Any:
    """dz = dy * slope. `out` may be dy."""
    k.xp.multiply(dy, slope, out=out)
