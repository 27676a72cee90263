"""What an estimator's network puts out, where that is fastest."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
from scipy.special import softmax

from xpnet.devices import Array, Device, Plain
from xpnet.devices import device as open_device
from xpnet.estimators.problem import dense_or_csr, network_of
from xpnet.estimators.targets import split
from xpnet.network import MLP

SMALL = 2**22
"""Multiply-adds up to which opening a device and recording a run cost more than they save."""


def threads(limit: int | None) -> AbstractContextManager[Any]:
    """Within it the BLAS, and any device that is opened, take so many threads; None for as many as they like."""
    if limit is None:
        return contextlib.nullcontext()
    from threadpoolctl import threadpool_limits

    return threadpool_limits(limit, user_api="blas")


def is_small(estimator: Any, x: Any) -> bool:
    """Whether the samples are so few that plain NumPy is fastest."""
    return estimator.device == "cpu" and x.shape[0] * sum(w.size for w in estimator.coefs_) <= SMALL


def outputs(estimator: Any, x: Any, device: str | Device, *, there: bool = False) -> Array:
    """(N, O): the outputs for checked samples, computed in what NumPy makes of their dtype and the weights'.

    Args:
        estimator: A fitted one.
        x: (N, I), on the host or on the device.
        device: The estimator's, or its name.
        there: Leave them on the device.
    """
    e, groups = estimator, getattr(estimator, "_groups", ())
    dtype = np.dtype(e.dtype) if e.dtype else np.result_type(x.dtype, e.coefs_[0].dtype)
    x, output = x.astype(dtype, copy=False), "linear" if groups else None
    if is_small(e, x):
        z = _at_once(network_of(e, Plain(), dtype), x.toarray() if hasattr(x, "toarray") else x, output)
    else:
        z = network_of(e, open_device(device), dtype).outputs(dense_or_csr(x), output, there=there)
    if not groups:
        return z
    if not there:
        return np.hstack([softmax(part, axis=1) for part in split(z, groups)])
    for part in split(z, groups):
        odds = np.exp(part - part.max(axis=1, keepdims=True))
        part[...] = odds / odds.sum(axis=1, keepdims=True)
    return z


def _at_once(network: MLP, x: np.ndarray, output: str | None) -> np.ndarray:
    h = [x, *(np.empty((len(x), size), network.dtype) for size in network.sizes[1:])]
    with np.errstate(all="ignore"):  # as in scikit-learn, what is not finite is found in the results
        network.forward(h)
        getattr(network.k, output or network.output)(h[-1], out=h[-1])
    return h[-1]
