"""A hidden layer's kernels against the textbook's."""

import numpy as np
import pytest

import xpnet
from xpnet import kernels
from xpnet.devices import Plain
from xpnet.kernels import ACTIVATIONS

SIZES = ((1, 1, 1, 1), (5, 3, 4, 2), (3, 7, 1, 5))
"""Rows, and units of the layer below, of this one and of the one above."""


@pytest.mark.parametrize("sizes", SIZES, ids=str)
@pytest.mark.parametrize("device", [Plain(), xpnet.device("cpu")], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_hidden_layer_is_the_textbook_s_layer(activation, device, sizes):
    rows, below, units, above = sizes
    rng = np.random.default_rng(0)
    x, w, b = rng.normal(size=(rows, below)), rng.normal(size=(below, units)), rng.normal(size=units)
    dz, w_above = rng.normal(size=(rows, above)), rng.normal(size=(units, above))
    k, y, out, db = kernels.on(device), *(np.full(shape, np.nan) for shape in ((rows, units), (rows, units), units))

    aux = k.hidden_aux(y, activation=activation, below=below, above=above)
    k.hidden_forward(x, w, b, activation=activation, out=y, aux=aux)
    np.testing.assert_allclose(y, getattr(kernels, f"affine_{activation}_forward")(x, w, b), rtol=1e-12)

    k.hidden_backward(dz, w_above, activation=activation, aux=aux, out=out, db=db)
    slope = getattr(kernels, f"{activation}_backward")
    expected = slope(dz @ w_above.T, x @ w + b)
    np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-13)
    np.testing.assert_allclose(db, expected.sum(axis=0), rtol=1e-10, atol=1e-13)


@pytest.mark.parametrize("device", [Plain(), xpnet.device("cpu")], ids=str)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_the_first_rows_of_a_buffer_are_a_smaller_batch_s(activation, device):
    rng = np.random.default_rng(1)
    x, w, b = rng.normal(size=(5, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)
    dz, w_above = rng.normal(size=(5, 2)), rng.normal(size=(4, 2))
    k = kernels.on(device)
    results = []
    for spare in (0, 6):
        buffer = np.empty((5 + spare, 4))
        y, aux = buffer[:5], k.hidden_aux(buffer, activation=activation, below=3, above=2)[:5]
        k.hidden_forward(x, w, b, activation=activation, out=y, aux=aux)
        out, db = np.empty((5, 4)), np.empty(4)
        k.hidden_backward(dz, w_above, activation=activation, aux=aux, out=out, db=db)
        results.append((out, db))
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1], results[1][1])
