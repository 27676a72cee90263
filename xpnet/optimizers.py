"""Optimizers: what a user names (`SGD`, `Adam`, ...), and the update that it becomes over a network's block.

An `Update` says three things: where a weight gradient goes and with which alpha and beta (`target`, `scales`), which
numbers change from step to step (`columns`, computed on the host in float64), and what runs once all gradients are
there. Plain SGD targets the parameters themselves: its step rides in the product x^T dz.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import numpy as np

from xpnet.errors import number, one_of

if TYPE_CHECKING:
    from xpnet.devices import Array
    from xpnet.kernels import Table
    from xpnet.parameters import Parameters

Scalars = dict[str, "Array"]
"""The numbers of one step: 0-d arrays of the parameters' dtype, by column."""


class Update(ABC):
    """An optimizer at work on one network.

    Attributes:
        columns: Names of the numbers that change from step to step.
        grads: The gradient block; biases, gains and tables always go there, weights unless they are the target.
        target: Where affine_weights writes, layer by layer.
        state: The arrays, beside the parameters, that outlive a step.
    """

    columns: tuple[str, ...]
    state: tuple[Array, ...] = ()

    def __init__(self, parameters: Parameters) -> None:
        self.parameters, self.grads = parameters, parameters.like()
        self.target: Sequence[Array] = self.grads.w

    @abstractmethod
    def table(self, step: np.ndarray, lr: np.ndarray, l2: np.ndarray) -> dict[str, np.ndarray]:
        """The columns for these step numbers (from 0), learning rates and penalties, in float64."""

    def scales(self, row: Scalars) -> tuple[Any, Any]:
        """alpha and beta of the weight gradient's product."""
        return 1.0, 0.0

    @abstractmethod
    def apply(self, k: Table, row: Scalars) -> None:
        """Change the parameters, once all gradients are there."""


class InPlaceSGD(Update):
    """w <- (1 - lr l2) w - lr x^T dz in one product, b <- b - lr db; no weight gradient is ever stored."""

    columns = ("lr", "alpha", "beta")

    def __init__(self, parameters: Parameters) -> None:
        super().__init__(parameters)
        self.target = parameters.w

    def table(self, step: np.ndarray, lr: np.ndarray, l2: np.ndarray) -> dict[str, np.ndarray]:
        """lr for all but the weights, alpha and beta for the products."""
        return {"lr": lr, "alpha": -lr, "beta": 1 - lr * l2}

    def scales(self, row: Scalars) -> tuple[Any, Any]:
        """-lr and 1 - lr l2."""
        return row["alpha"], row["beta"]

    def apply(self, k: Table, row: Scalars) -> None:
        """The step of biases, gains and tables."""
        k.sgd_update(self.parameters.biases, self.grads.biases, lr=row["lr"])


class BlockUpdate(Update):
    """An update kernel over the flat block, weights with l2 and biases without; the gradient's norm may be bounded."""

    rates: tuple[str, ...] = ("lr",)
    decay = "l2"
    slots = 0

    def __init__(self, parameters: Parameters, options: Any, *, decays: bool, clip_norm: float | None) -> None:
        super().__init__(parameters)
        self.options, self.decays, self.clip_norm = options, decays, clip_norm
        self.columns = (*self.rates, self.decay) if decays else self.rates
        self.moments = [parameters.like() for _ in range(self.slots)]
        self.state = tuple(moment.flat for moment in self.moments)
        self.clip = None if clip_norm is None else parameters.flat[:1].reshape(()).copy()

    def table(self, step: np.ndarray, lr: np.ndarray, l2: np.ndarray) -> dict[str, np.ndarray]:
        """What the learning rate becomes, and the penalty."""
        return {"lr": lr, "l2": l2}

    def apply(self, k: Table, row: Scalars) -> None:
        """Bound the gradient if asked to, then one kernel over the block, or over its two parts where l2 tells them."""
        if self.clip is not None:
            k.clip_scale(self.grads.flat, limit=self.clip_norm, out=self.clip)
        blocks = [self.parameters, self.grads, *self.moments]
        if self.decays:
            self.kernel(k, *(block.weights for block in blocks), row=row, decay=row[self.decay])
            self.kernel(k, *(block.biases for block in blocks), row=row, decay=None)
        else:
            self.kernel(k, *(block.flat for block in blocks), row=row, decay=None)

    @abstractmethod
    def kernel(self, k: Table, *blocks: Array, row: Scalars, decay: Array | None) -> None:
        """The update of parameters by gradient and moments, all of one contiguous shape."""


class _Momentum(BlockUpdate):
    slots = 1

    def kernel(self, k: Table, *blocks: Array, row: Scalars, decay: Array | None) -> None:
        update = k.nesterov_update if self.options.nesterov else k.momentum_update
        update(*blocks, lr=row["lr"], momentum=self.options.momentum, l2=decay, clip=self.clip)


class AdamUpdate(BlockUpdate):
    """Adam's kernel over the block."""

    rates = ("size", "eps")
    slots = 2

    def table(self, step: np.ndarray, lr: np.ndarray, l2: np.ndarray) -> dict[str, np.ndarray]:
        """The size of a step and epsilon, with the corrections of both moments."""
        o, t = self.options, step + 1
        correction = np.sqrt(1 - o.beta2**t)
        return {"size": lr * correction / (1 - o.beta1**t), "eps": o.eps * correction, "l2": l2}

    def kernel(self, k: Table, *blocks: Array, row: Scalars, decay: Array | None) -> None:
        """Both moments and the parameters."""
        o = self.options
        k.adam_update(*blocks, size=row["size"], eps=row["eps"], beta1=o.beta1, beta2=o.beta2, l2=decay, clip=self.clip)


class _AdamW(AdamUpdate):
    decay = "keep"

    def table(self, step: np.ndarray, lr: np.ndarray, l2: np.ndarray) -> dict[str, np.ndarray]:
        return {**super().table(step, lr, l2), "keep": 1 - lr * l2}

    def kernel(self, k: Table, *blocks: Array, row: Scalars, decay: Array | None) -> None:
        o = self.options
        k.adamw_update(
            *blocks, size=row["size"], eps=row["eps"], beta1=o.beta1, beta2=o.beta2, keep=decay, clip=self.clip
        )


class _RMSProp(BlockUpdate):
    slots = 1

    def kernel(self, k: Table, *blocks: Array, row: Scalars, decay: Array | None) -> None:
        o = self.options
        k.rmsprop_update(*blocks, lr=row["lr"], alpha=o.alpha, eps=o.eps, l2=decay, clip=self.clip)


class _AdaGrad(BlockUpdate):
    slots = 1

    def kernel(self, k: Table, *blocks: Array, row: Scalars, decay: Array | None) -> None:
        k.adagrad_update(*blocks, lr=row["lr"], eps=self.options.eps, l2=decay, clip=self.clip)


class Optimizer(Protocol):
    """What the trainer needs of an optimizer.

    Attributes:
        decouples_decay: Whether l2 acts on the weights beside the gradient, and so is no part of the loss.
    """

    decouples_decay: ClassVar[bool]

    @property
    def lr(self) -> float:
        """The learning rate, which a schedule multiplies."""

    def bind(self, parameters: Parameters, *, decays: bool, clip_norm: float | None) -> Update:
        """The update of these parameters; `decays` says whether there is any penalty on the weights."""


@dataclass(frozen=True)
class _Options:
    """lr and eps are positive, other numbers at least 0 and below 1."""

    lr: float = 1e-3
    decouples_decay: ClassVar[bool] = False

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name in ("lr", "eps"):
                number(field.name, value, above=0)
            elif field.type != "bool":
                number(field.name, value, below=1)


@dataclass(frozen=True)
class SGD(_Options):
    """Stochastic gradient descent: w <- w - lr g, with momentum v <- momentum v + g, w <- w - lr v.

    Attributes:
        lr: Learning rate.
        momentum: 0 for none.
        nesterov: Look ahead along the velocity.
    """

    lr: float = 0.1
    momentum: float = 0.0
    nesterov: bool = False

    def bind(self, parameters: Parameters, *, decays: bool, clip_norm: float | None) -> Update:
        """In place in the products, or over the block where momentum or a bound needs the gradient."""
        if self.momentum == 0.0 and clip_norm is None:
            return InPlaceSGD(parameters)
        return _Momentum(parameters, self, decays=decays, clip_norm=clip_norm)


@dataclass(frozen=True)
class Adam(_Options):
    """Adam (Kingma and Ba 2015); l2 is part of the gradient."""

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def bind(self, parameters: Parameters, *, decays: bool, clip_norm: float | None) -> Update:
        """Over the block, with two moments."""
        return AdamUpdate(parameters, self, decays=decays, clip_norm=clip_norm)


@dataclass(frozen=True)
class AdamW(Adam):
    """Adam with decoupled weight decay, w <- (1 - lr l2) w (Loshchilov and Hutter 2019)."""

    decouples_decay: ClassVar[bool] = True

    def bind(self, parameters: Parameters, *, decays: bool, clip_norm: float | None) -> Update:
        """Over the block, with two moments."""
        return _AdamW(parameters, self, decays=decays, clip_norm=clip_norm)


@dataclass(frozen=True)
class RMSProp(_Options):
    """RMSProp (Hinton 2012): steps divided by a running root mean square of the gradient."""

    alpha: float = 0.99
    eps: float = 1e-8

    def bind(self, parameters: Parameters, *, decays: bool, clip_norm: float | None) -> Update:
        """Over the block, with one moment."""
        return _RMSProp(parameters, self, decays=decays, clip_norm=clip_norm)


@dataclass(frozen=True)
class AdaGrad(_Options):
    """AdaGrad (Duchi, Hazan and Singer 2011): steps divided by the root of the sum of squared gradients."""

    lr: float = 0.01
    eps: float = 1e-10

    def bind(self, parameters: Parameters, *, decays: bool, clip_norm: float | None) -> Update:
        """Over the block, with one sum."""
        return _AdaGrad(parameters, self, decays=decays, clip_norm=clip_norm)


def make(name: str, **options: Any) -> Optimizer:
    """The optimizer of that name: sgd, adam, adamw, rmsprop or adagrad."""
    optimizer: Optimizer = OPTIMIZERS[one_of("optimizer", name, OPTIMIZERS)](**options)
    return optimizer


OPTIMIZERS: dict[str, type[Any]] = {
    "sgd": SGD,
    "adam": Adam,
    "adamw": AdamW,
    "rmsprop": RMSProp,
    "adagrad": AdaGrad,
}
