"""Nodes of activations, entry by entry."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numba import njit
from numba.extending import overload

from xpnet.devices.cpu.nodes.elementary import (
    OPTIONS,
    exponential,
    exponential_less_one,
    logarithm_of_one_and,
)
from xpnet.devices.cpu.nodes.parts import taken_over, vector_part

# As in the references.
LEAK = 0.01
SQRT_2_OVER_PI = math.sqrt(2 / math.pi)
GELU_CUBIC = 0.044715
GELU_FLAT = 10.0


def activation(name, kind):
    """y <- the activation of that name of z; y may be z. Words: z, y."""

    def node(arguments, part, parts):
        z, y = vector_part(arguments, 0, kind, part, parts), vector_part(arguments, 2, kind, part, parts)
        taken_over(z, y)
        for i in range(y.shape[0]):
            y[i] = activated(name, y[i])[0]

    return node


def activation_and_slope(name, slope_kind, kind):
    """y <- the activation of that name of z, slope <- its derivative there; y may be z. Words: z, y, slope."""

    def node(arguments, part, parts):
        z, y = vector_part(arguments, 0, kind, part, parts), vector_part(arguments, 2, kind, part, parts)
        slope = vector_part(arguments, 4, slope_kind, part, parts)
        taken_over(z, y)
        for i in range(y.shape[0]):
            y[i], slope[i] = activated(name, y[i])

    return node


def activated(name: str, z: Any) -> Any:
    """The activation of that name at z, and its derivative."""


@overload(activated, jit_options=OPTIONS, prefer_literal=True)
def _(name, z):
    function = njit(**OPTIONS)(_ACTIVATIONS[name.literal_value](np.dtype(str(z)).type))
    return lambda name, z: function(z)


# Each takes the type of the numbers, for constants are of that type, and returns f(z).


def _linear(real: Any) -> Callable[[Any], Any]:
    one = real(1)

    def linear(z):
        return z, one

    return linear


def _relu(real: Any) -> Callable[[Any], Any]:
    zero, one = real(0), real(1)

    def relu(z):
        return zero if z <= zero else z, one if z > zero else zero

    return relu


def _leaky_relu(real: Any) -> Callable[[Any], Any]:
    zero, one, leak = real(0), real(1), real(LEAK)

    def leaky_relu(z):
        slope = one if z > zero else leak
        return z * slope, slope

    return leaky_relu


def _elu(real: Any) -> Callable[[Any], Any]:
    zero, one = real(0), real(1)

    def elu(z):
        below = exponential_less_one(z if z < zero else zero)
        return below if z < zero else z, below + one

    return elu


def _sigmoid(real: Any) -> Callable[[Any], Any]:
    one, least = real(1), real(math.log(np.finfo(real).tiny))

    def sigmoid(z):
        y = one / (one + exponential(-(least if z < least else z)))
        return y, y * (one - y)

    return sigmoid


def _tanh(real: Any) -> Callable[[Any], Any]:
    one, two = real(1), real(2)

    def tanh(z):
        below = exponential_less_one(-two * abs(z))
        y = math.copysign(below / (below + two), z)
        return y, one - y * y

    return tanh


def _softplus(real: Any) -> Callable[[Any], Any]:
    zero, one = real(0), real(1)

    def softplus(z):
        e = exponential(-abs(z))
        return (z if z > zero else zero) + logarithm_of_one_and(e), (one if z > zero else e) / (one + e)

    return softplus


def _silu(real: Any) -> Callable[[Any], Any]:
    one, least, sigmoid = real(1), real(math.log(np.finfo(real).tiny)), njit(**OPTIONS)(_sigmoid(real))

    def silu(z):
        s = sigmoid(z)[0]
        y = (least if z < least else z) * s
        return y, s + y * (one - s)

    return silu


def _gelu(real: Any) -> Callable[[Any], Any]:
    one, flat, cubic, sigmoid = real(1), real(GELU_FLAT), real(GELU_CUBIC), njit(**OPTIONS)(_sigmoid(real))
    twice, three = real(2 * SQRT_2_OVER_PI), real(3)

    def gelu(z):
        within = flat if z > flat else (-flat if z < -flat else z)
        bend = cubic * within * within
        c = sigmoid(twice * within * (one + bend))[0]
        y = (-flat if z < -flat else z) * c
        return y, c + y * (one - c) * (twice * (one + three * bend))

    return gelu


def _exp(real: Any) -> Callable[[Any], Any]:
    def exp(z):
        y = exponential(z)
        return y, y

    return exp


_ACTIVATIONS = {
    "linear": _linear,
    "relu": _relu,
    "leaky_relu": _leaky_relu,
    "elu": _elu,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "softplus": _softplus,
    "silu": _silu,
    "gelu": _gelu,
    "exp": _exp,
}
