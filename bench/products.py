"""The frozen yardstick: plain matrix products. Never tune them; every cost of the regression run is a ratio to one."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.linalg.blas import sgemm


def product(batch: int) -> Callable[[], None]:
    """(batch, 784) times (784, 300) in float32, by the BLAS that xpnet uses on the CPU."""
    rng = np.random.default_rng(0)
    a, b = (np.asfortranarray(rng.random(shape, dtype=np.float32)) for shape in ((300, 784), (784, batch)))
    out = np.zeros((300, batch), np.float32, order="F")

    def run() -> None:
        sgemm(1.0, a, b, c=out, overwrite_c=1)

    run()
    np.testing.assert_allclose(out, a @ b, rtol=1e-4)
    return run


def elementwise() -> Callable[[], None]:
    """The product of two blocks as large as the parameters, number by number: what memory gives a loop over them."""
    a, b, out = (np.full(266_610, 0.5, np.float32) for _ in range(3))

    def run() -> None:
        for _ in range(4):
            np.multiply(a, b, out=out)

    return run
