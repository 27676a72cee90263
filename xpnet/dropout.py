"""Dropout as the host sees it: a rate for each layer, and a key for each layer and step."""

from __future__ import annotations

from typing import Any

import numpy as np

from xpnet.errors import XpnetError, number


def dropout_keys(seed: int, layers: int, steps: np.ndarray) -> np.ndarray:
    """(layers, steps) uint32: words that look random, by seed, layer and number of the step.

    The upper halves of splitmix64 (Steele, Lea and Flood 2014, figure 17), first of the seed, then of what that gives.
    """
    layer = _splitmix(np.uint64(seed) + np.arange(1, layers + 1, dtype=np.uint64))[:, None]
    return (_splitmix(layer + steps.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32)


def dropout_rates(dropout: Any, layers: int) -> tuple[float, ...]:
    """One rate for each hidden layer, from one for all of them or one for each, from 0 to below 1."""
    given = [dropout] if np.ndim(dropout) == 0 else list(dropout)
    rates = [number("dropout", rate, below=1) for rate in given]
    if len(rates) not in (1, layers):
        raise XpnetError(
            f"dropout: got {len(rates)} rates for {layers} hidden layers; give one for all or one for each."
        )
    return tuple(rates * layers if len(rates) == 1 else rates)


def _splitmix(x: np.ndarray) -> np.ndarray:
    x = x * np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ x >> np.uint64(30)) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ x >> np.uint64(27)) * np.uint64(0x94D049BB133111EB)
    return x ^ x >> np.uint64(31)
