"""Metrics against counting by hand."""

import numpy as np
import pytest

from xpnet import kernels
from xpnet.devices import Plain
from xpnet.kernels import ACTIVATIONS

Z = np.array([[0.1, 0.9, -1.0], [2.0, -3.0, 1.0], [-0.5, -0.1, -0.2], [0.0, 0.0, 3.0]])
LARGEST = [1, 0, 1, 2]
WEIGHTS = np.array([0.5, 0.0, 2.0, 1.0])
OUTPUTS = ("softmax", "sigmoid", "linear", "tanh", "leaky_relu", "elu", "softplus")


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("t", "right"),
    [
        (LARGEST, [1, 1, 1, 1]),
        ([0, 0, 0, 0], [0, 1, 0, 0]),
        ([2, 1, 1, 2], [0, 0, 1, 1]),
        ([0, 2, 2, 1], [0, 0, 0, 0]),
    ],
    ids=str,
)
@pytest.mark.parametrize("output", OUTPUTS)
def test_a_class_is_hit_where_its_output_is_largest(output, t, right, dtype):
    z, out, weighted = Z.astype(dtype), np.full((), np.nan, dtype), np.full((), np.nan, dtype)
    k = kernels.on(Plain())
    k.hits(z, np.array(t, np.int32), output=output, out=out)
    k.hits(z, np.array(t, np.int32), output=output, weights=WEIGHTS.astype(dtype), out=weighted)
    assert out == sum(right)
    assert weighted == np.dot(right, WEIGHTS)
    np.testing.assert_array_equal(z, Z.astype(dtype))


def test_an_output_that_turns_the_order_is_computed_first():
    out = np.empty(())
    kernels.on(Plain()).hits(np.array([[-0.75, -9.0]]), np.array([1]), output="gelu", out=out)
    assert out == 1, "gelu(-0.75) is about -0.17, gelu(-9) about 0"


@pytest.mark.parametrize(
    ("t", "right"),
    [
        ([[1, 1, 0], [1, 0, 1], [0, 0, 0], [0, 0, 1]], [1, 1, 1, 1]),
        ([[1, 1, 1], [1, 0, 1], [0, 1, 0], [0, 0, 1]], [0, 1, 0, 1]),
        ([[0, 0, 1], [0, 1, 0], [1, 1, 1], [1, 1, 0]], [0, 0, 0, 0]),
    ],
    ids=["all", "some", "none"],
)
def test_labels_are_hit_where_every_one_is_on_its_side(t, right):
    out, weighted = np.empty(()), np.empty(())
    k = kernels.on(Plain())
    k.hits(Z, np.array(t, np.float64), output="sigmoid", out=out)
    k.hits(Z, np.array(t, np.float64), output="sigmoid", weights=WEIGHTS, out=weighted)
    assert out == sum(right)
    assert weighted == np.dot(right, WEIGHTS)


@pytest.mark.parametrize("output", ["softmax", *ACTIVATIONS])
@pytest.mark.parametrize("columns", [1, 3])
def test_squared_errors_are_means_over_columns_and_sums_over_samples(output, columns):
    rng = np.random.default_rng(0)
    z, t, out = rng.normal(size=(4, columns)), rng.normal(size=(4, columns)), np.full((), np.nan)
    y = getattr(kernels, f"{output}_forward")(z)
    rows = [sum((a - b) ** 2 for a, b in zip(*pair, strict=True)) / columns for pair in zip(y, t, strict=True)]
    k = kernels.on(Plain())
    k.squared_errors(z, t, output=output, out=out)
    assert out == pytest.approx(sum(rows), rel=1e-13)
    k.squared_errors(z, t, output=output, weights=WEIGHTS, out=out)
    assert out == pytest.approx(np.dot(rows, WEIGHTS), rel=1e-13)
