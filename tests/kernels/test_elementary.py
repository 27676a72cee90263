"""The CPU's own exponentials and logarithms, through the activations and losses that are made of them."""

import numpy as np
import pytest

import xpnet
from xpnet import kernels
from xpnet.kernels import ACTIVATIONS

ULPS = 4
"""Units of the last place."""

each_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])


@pytest.fixture(scope="module")
def k():
    return kernels.on(xpnet.device("cpu"))


def wide(z: np.ndarray) -> np.ndarray:
    """With digits beyond those of the dtype."""
    return z.astype(np.float64 if z.dtype == np.float32 else np.longdouble)


def spread(dtype: str, low: float, high: float) -> np.ndarray:
    """Numbers of both signs, as many between 2^-30 and 2^-29 as between 1 and 2."""
    sizes = np.exp2(np.linspace(-30, 10, 100_001))
    both = np.concatenate([-sizes, sizes, np.linspace(low, high, 100_001)])
    return both[(both >= low) & (both <= high)].astype(dtype)


EXACT = {
    "exp": (np.exp, -80, 80),
    "sigmoid": (lambda z: 1 / (1 + np.exp(-z)), -80, 80),
    "tanh": (np.tanh, -30, 30),
    "elu": (lambda z: np.where(z > 0, z, np.expm1(np.minimum(z, 0))), -100, 100),
    "softplus": (lambda z: np.maximum(z, 0) + np.log1p(np.exp(-np.abs(z))), -80, 100),
    "silu": (lambda z: z / (1 + np.exp(-z)), -80, 80),
}


@each_dtype
@pytest.mark.parametrize("name", EXACT)
def test_all_digits_are_right_near_zero_and_far_out(k, name, dtype):
    function, low, high = EXACT[name]
    z = spread(dtype, low, high)
    y = np.full_like(z, np.nan)
    getattr(k, name)(z, out=y)
    np.testing.assert_allclose(wide(y), function(wide(z)), rtol=ULPS * float(np.finfo(dtype).eps), atol=0)


@each_dtype
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_what_is_no_number_stays_so(k, name, dtype):
    z = np.array([1, np.nan, -1] * 20, dtype)
    y, slope = np.zeros_like(z), np.zeros_like(z)
    getattr(k, name)(z, out=y, slope=slope)
    np.testing.assert_array_equal(np.isnan(y), np.isnan(z))
    np.testing.assert_array_equal(np.isfinite(slope[::3]), True)


@each_dtype
@pytest.mark.parametrize("name", [*ACTIVATIONS, "exp"])
def test_numbers_far_out_are_the_references(k, name, dtype):
    z = np.array([-np.inf, -1e30, -1e4, -710, -89, -50, 50, 88.5, 89, 709.5, 1e4, 1e30], dtype)
    z = z[np.isfinite(z)] if name in ("silu", "gelu") else z  # infinity times nothing
    actual, expected = np.zeros_like(z), np.zeros_like(z)
    getattr(k, name)(z, out=actual)
    with np.errstate(all="ignore"):
        getattr(k.reference, name)(z, out=expected)
    np.testing.assert_allclose(actual, expected, rtol=1e-6, atol=4 * np.finfo(dtype).tiny)


@each_dtype
def test_diverged_scores_give_a_loss_that_is_no_number(k, dtype):
    labels, classes = np.zeros((3, 4), dtype), np.zeros(3, np.int32)
    for value in (np.nan, np.inf):
        z = np.zeros((3, 4), dtype)
        z[1, 2] = value
        for name, t, options in (
            ("softmax_cross_entropy", classes, {}),
            ("softmax_cross_entropy", classes, {"smoothing": 0.1}),
            ("softmax_cross_entropy", labels + 0.25, {}),
            ("sigmoid_cross_entropy", labels, {}),
            ("squared_error", labels, {"output": "linear"}),
            ("huber", labels, {"output": "linear"}),
            ("absolute_error", labels, {"output": "linear"}),
            ("poisson", labels, {"output": "exp"}),
        ):
            loss = np.zeros((), dtype)
            getattr(k, name)(z, t, out=np.empty_like(z), db=np.empty(4, dtype), loss=loss, **options)
            assert not np.isfinite(loss), (name, value)


@each_dtype
def test_a_loss_by_counts_takes_none_and_many(k, dtype):
    t = np.array([[0, 1, 2, 20]], dtype)
    z, loss = np.log(np.maximum(t, 1e-3)).astype(dtype), np.zeros((), dtype)
    k.poisson(z, t, output="exp", scale=1.0, out=np.empty_like(z), db=np.empty(4, dtype), loss=loss)
    assert loss == pytest.approx(1e-3, abs=3e-5)
