"""From the factory of a node to machine code, which is kept on disk."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numba import cfunc, from_dtype, types

from xpnet.devices.cpu import native
from xpnet.signals import postponed

OPTIONS: dict[str, Any] = {"fastmath": {"contract", "reassoc", "nsz", "arcp"}, "error_model": "numpy"}

Kind = np.dtype | str
"""The dtype of an array, or which of several functions a node computes."""


@cache
def compiled(factory: Callable[..., Any], *kinds: Kind) -> Any:
    """The node as machine code for these kinds; has an `address`. Kept on disk where there is a place for it."""
    function = factory(*(from_dtype(kind) if isinstance(kind, np.dtype) else kind for kind in kinds))
    # Names a file on disk. Numba would have one for all that a factory makes, where two processes that compile at once
    # may take each other's code, and would look at changes of the function's own file alone.
    function.__qualname__ = "-".join([factory.__name__, *map(str, kinds), _sources()])
    node = partial(cfunc, types.void(types.int64, types.int64, types.int64), **OPTIONS)
    with postponed():  # LLVM calls Python back, where what is thrown would be lost
        return native.kept_on_disk(node, function)


@cache
def _sources() -> str:
    """A digest of everything that nodes are made of."""
    files = [Path(native.__file__), *sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:16]


def constant(value: Any, dtype: np.dtype) -> np.ndarray:
    """A number where nodes look for numbers: the 0-d array that is given, or always the same one for an equal value."""
    return value if isinstance(value, np.ndarray) else _constant(float(value), dtype)


@cache
def _constant(value: float, dtype: np.dtype) -> np.ndarray:
    with np.errstate(over="ignore"):  # as where the references take it
        return np.asarray(value, dtype)
