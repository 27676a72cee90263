"""CUDA's twins of kernels: the same names and signatures as the references, one launch each, few of them two.

Each hands what it does not cover to `k.reference`, deciding on dtypes, options and shapes alone. An output of dtype
uint16 and two dimensions holds bfloat16 bits; there the reference's float32 numbers are converted.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from xpnet.devices.cuda.twins import dropout, embedding, gathers, hidden, losses, normalization, sums

TWINS: dict[str, Callable[..., Any]] = {
    twin.__name__: twin
    for module in (gathers, embedding, hidden, normalization, dropout, losses, sums)
    for twin in module.TWINS
}
