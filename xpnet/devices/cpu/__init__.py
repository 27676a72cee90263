"""The CPU at its fastest: SciPy's BLAS with updates fused into the products, and compiled one-pass loops.

All products go through one BLAS: NumPy and SciPy each bring one with a pool of threads of its own, and pools that idle
between two calls take the processors from each other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from xpnet.devices.base import Array
from xpnet.devices.plain import Plain


class Cpu(Plain):
    """NumPy arrays, SciPy's BLAS and compiled loops; without SciPy or Numba, what NumPy has."""

    def __init__(self) -> None:
        super().__init__("cpu", _twins())
        self._products_by_type = _blas()

    def gemm(self, a: Array, b: Array, *, out: Array, alpha: Any = 1.0, beta: Any = 0.0) -> Array:
        """out <- alpha a b + beta out, in one call of BLAS and without a copy.

        A row-major out = a b is a column-major out^T = b^T a^T, so that every operand is handed over transposed.
        """
        product = self._products_by_type.get(out.dtype.char)
        if product is None:
            return super().gemm(a, b, out=out, alpha=alpha, beta=beta)
        left, transpose_left = (b.T, 0) if b.flags.c_contiguous else (b, 1)
        right, transpose_right = (a.T, 0) if a.flags.c_contiguous else (a, 1)
        product(
            float(alpha),
            left,
            right,
            beta=float(beta),
            c=out.T,
            trans_a=transpose_left,
            trans_b=transpose_right,
            overwrite_c=1,
        )
        return out


def _blas() -> Mapping[str, Callable[..., Any]]:
    """The matrix products by the character of their type."""
    try:
        from scipy.linalg.blas import dgemm, sgemm
    except ImportError:
        return {}
    return {np.dtype(np.float32).char: sgemm, np.dtype(np.float64).char: dgemm}


def _twins() -> Mapping[str, Callable[..., Any]]:
    """The compiled kernels, where there is a compiler."""
    try:
        from xpnet.devices.cpu import twins
    except ImportError:
        return {}
    return twins.TWINS
