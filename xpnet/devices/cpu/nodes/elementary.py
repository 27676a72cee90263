"""exp, log and what is near to them, for loops that become vectors: calls of the system's library would not.

Each is for float32 and float64 and within two units of the last place. All but the logarithm let NaN pass. None may be
reassociated: to bring an argument near to 0 they subtract ln 2 in two parts.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numba import types
from numba.extending import overload

from xpnet.devices.cpu.native import bits_of, number_of

OPTIONS: Any = {"fastmath": {"contract"}, "error_model": "numpy", "forceinline": True}

LN_2 = math.log(2)
LN_2_REST = 2.3190468138462996e-17
"""What ln 2 has beyond float64."""


@dataclass(frozen=True)
class _Format:
    """Of one kind of numbers.

    Attributes:
        real, whole: The kind, and whole numbers of the same size.
        fraction, bias: How many bits its fraction has, and what is added to its exponent.
        parts_of_ln_2: The first has few bits, so that it times an exponent is exact.
        factorials: 1 / n! as far as exp needs them up to ln(2) / 2, from the last to n = 2.
        odd: 2 / n of odd n as far as 2 artanh needs them up to 0.172, from the last to n = 3.
    """

    real: Any
    whole: Any
    fraction: int
    bias: int
    parts_of_ln_2: tuple[Any, Any]
    factorials: tuple[Any, ...]
    odd: tuple[Any, ...]


def _format(real: Any, whole: Any, *, bits: int, powers: int, odd: int) -> _Format:
    info = np.finfo(real)
    first = math.floor(LN_2 * 2**bits) / 2**bits
    return _Format(
        real,
        whole,
        info.nmant,
        info.maxexp - 1,
        (real(first), real(LN_2 - first + LN_2_REST)),
        tuple(real(1 / math.factorial(n)) for n in range(powers, 1, -1)),
        tuple(real(2 / n) for n in range(odd, 1, -2)),
    )


_FORMATS = {
    types.float32: _format(np.float32, np.int32, bits=12, powers=7, odd=9),
    types.float64: _format(np.float64, np.int64, bits=32, powers=13, odd=21),
}


def _reduced(x: Any) -> Any:
    """q and s with exp(x) = 2 s (1 + q), where s is a power of 2 and |q| < 0.42."""


def exponential(x: Any) -> Any:
    """exp(x), or 0 where that is below twice the smallest normal number."""


def exponential_less_one(x: Any) -> Any:
    """exp(x) - 1 with all its digits, for x <= 0."""


def logarithm(x: Any) -> Any:
    """log(x), for x neither below the smallest normal number nor infinite; of 0 something finite."""


def logarithm_of_one_and(x: Any) -> Any:
    """log(1 + x) with all its digits, for x from 0 to 1."""


@overload(_reduced, jit_options=OPTIONS)
def _(x):
    f = _FORMATS[x]
    real, whole, fraction, terms, (ln_2, rest) = f.real, f.whole, f.fraction, f.factorials, f.parts_of_ln_2
    per_ln_2, one_half_up = real(1 / LN_2), real(1.5 * 2**fraction)  # a sum with the latter has no fraction
    bias = whole(f.bias - 1)

    def reduced(x):
        shifted = x * per_ln_2 + one_half_up
        n = shifted - one_half_up
        r = (x - n * ln_2) - n * rest
        q = real(0)
        for term in terms:
            q = q * r + term
        q = q * r * r + r
        return q, number_of(whole((bits_of(shifted) + bias) << fraction))

    return reduced


@overload(exponential, jit_options=OPTIONS)
def _(x):
    f = _FORMATS[x]
    real, two = f.real, f.real(2)
    least, most = real((2 - f.bias) * LN_2), real((f.bias + 1.25) * LN_2)  # from there on it is infinite

    def exponential(x):
        q, s = _reduced(most if x > most else x)
        return real(0) if x < least else (q * s + s) * two

    return exponential


@overload(exponential_less_one, jit_options=OPTIONS)
def _(x):
    f = _FORMATS[x]
    real, least = f.real, f.real(-(f.fraction + 2) * LN_2)  # up to there it is -1

    def exponential_less_one(x):
        q, s = _reduced(least if x < least else x)
        s += s
        return q * s + (s - real(1))

    return exponential_less_one


def _twice_artanh(x: Any) -> Any:
    """2 artanh(x), for |x| up to 0.172."""


@overload(_twice_artanh, jit_options=OPTIONS)
def _(x):
    real, terms = _FORMATS[x].real, _FORMATS[x].odd

    def twice_artanh(x):
        square, q = x * x, real(0)
        for term in terms:
            q = q * square + term
        return q * square * x + (x + x)

    return twice_artanh


@overload(logarithm, jit_options=OPTIONS)
def _(x):
    f = _FORMATS[x]
    real, whole, fraction, (ln_2, rest) = f.real, f.whole, f.fraction, f.parts_of_ln_2
    root = real(math.sqrt(0.5)).view(whole)

    def logarithm(x):
        bits = bits_of(x)
        n = whole(bits - root) >> fraction  # x = 2^n m with m from sqrt(1/2) to sqrt(2)
        m = number_of(whole(bits - whole(n << fraction)))
        return real(n) * ln_2 + (_twice_artanh((m - real(1)) / (m + real(1))) + real(n) * rest)

    return logarithm


@overload(logarithm_of_one_and, jit_options=OPTIONS)
def _(x):
    real = _FORMATS[x].real
    ln_2, most = real(LN_2), real(math.sqrt(2) - 1)

    def logarithm_of_one_and(x):
        n = real(1) if x > most else real(0)  # 1 + x = 2^n m with m from sqrt(1/2) to sqrt(2)
        return n * ln_2 + _twice_artanh((x - n) / (x + (real(2) + n)))

    return logarithm_of_one_and
