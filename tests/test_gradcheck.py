"""The gradient check itself: it must pass right gradients and catch wrong ones."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import gradcheck
from xpnet.kernels import ACTIVATIONS, table

RNG = np.random.default_rng(0)


def test_the_numerical_gradient_of_a_number_and_of_an_array():
    x = RNG.normal(size=(3, 4))
    before = x.copy()
    np.testing.assert_allclose(gradcheck.numerical_gradient(lambda x: (x**3).sum(), x), 3 * x**2, rtol=1e-7)
    upstream = RNG.normal(size=(3, 2))
    w = RNG.normal(size=(4, 2))
    np.testing.assert_allclose(
        gradcheck.numerical_gradient(lambda x: x @ w, x, upstream=upstream), upstream @ w.T, rtol=1e-7
    )
    np.testing.assert_array_equal(x, before)


def test_relative_errors():
    assert gradcheck.relative_error([3, 4], [3, 4]) == 0
    assert gradcheck.relative_error([0, 0], [0, 0]) == 0
    assert gradcheck.relative_error([3.0, 4.0], [0.0, 0.0]) == 1
    assert gradcheck.relative_error([1.0], [1.1]) == pytest.approx(0.1 / 2.1)
    assert gradcheck.max_relative_error([1.0, 1e-6], [1.0, 3e-6]) == pytest.approx(0.5)


def check(activations="relu", output="softmax", loss=None, weights=None, sizes=(5, 7, 6, 3)):
    net = xpnet.MLP(sizes, activations, output, init="normal(0.6)", bias_init="normal(0.3)", seed=1)
    x = RNG.normal(size=(8, sizes[0]))
    if output == "softmax":
        t = (np.arange(8) % sizes[-1]).astype(np.int32)
    else:
        t = RNG.uniform(0.1, 0.9, size=(8, sizes[-1]))
    return gradcheck.check(net, x, t, loss=loss, weights=weights)


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize(
    ("output", "loss"),
    [("softmax", None), ("sigmoid", None), ("linear", "mse"), ("sigmoid", "mse"), ("tanh", "huber"), ("linear", "mae")],
)
def test_whole_networks_agree(activation, output, loss, record_property):
    agreements = check(activation, output, loss, weights=np.linspace(0.5, 2, 8))
    assert [a.name for a in agreements] == ["w1", "b1", "w2", "b2", "w3", "b3"]
    for a in agreements:
        assert a.checked > 0.9 * np.prod(a.shape)
        assert a.relative_error <= 1e-7, a
        record_property(a.name, a.max_relative_error)


@pytest.mark.parametrize("output", ACTIVATIONS)
def test_every_activation_can_be_an_output(output):
    assert all(a.relative_error <= 1e-7 for a in check("tanh", output, "mse"))


def test_large_tensors_are_sampled_and_saturated_losses_pass():
    net = xpnet.MLP((300, 10, 5), init="normal(1)", seed=0)
    t = (np.arange(4) % 5).astype(np.int32)
    agreements = gradcheck.check(net, 50 * RNG.normal(size=(4, 300)), t)
    assert [a.checked for a in agreements] == [200, 10, 50, 5]
    assert all(a.relative_error <= 1e-6 for a in agreements)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("tanh", lambda k, z, *, out, slope=None: (k.xp.tanh(z, out=out), slope is not None and slope.fill(0.7))),
        ("affine_biases", lambda k, dz, *, out: k.xp.sum(2 * dz, axis=0, out=out)),
        ("affine_inputs", lambda k, dz, w, *, out: k.gemm(dz, -w.T, out=out)),
        (
            "affine_weights",
            lambda k, x, dz, *, out, alpha=1.0, beta=0.0: k.gemm(0.99 * x.T, dz, out=out, alpha=alpha, beta=beta),
        ),
    ],
)
def test_a_wrong_kernel_is_caught(monkeypatch, name, broken):
    assert max(a.relative_error for a in check("tanh")) <= 1e-7
    monkeypatch.setitem(table.REFERENCE, name, broken)
    for twin in list(xpnet.device("cpu").twins):  # which know nothing of references
        monkeypatch.delitem(xpnet.device("cpu").twins, twin)
    assert max(a.relative_error for a in check("tanh")) > 1e-4


def test_a_function_may_return_its_argument_or_a_buffer_of_its_own():
    x, buffer = RNG.normal(size=3), np.empty(3)
    np.testing.assert_allclose(gradcheck.numerical_gradient(lambda x: x, x), 1, rtol=1e-9)
    np.testing.assert_allclose(gradcheck.numerical_gradient(lambda x: np.exp(x, out=buffer), x), np.exp(x), rtol=1e-9)


def test_only_double_precision_is_taken():
    with pytest.raises(xpnet.XpnetError, match="float64"):
        gradcheck.numerical_gradient(np.sum, np.arange(3))


def test_nan_is_never_right():
    assert not gradcheck.relative_error([np.nan], [1.0]) <= 1
    assert not gradcheck.Agreement("w1", (1,), 1, float("nan"), 0.0).good
    assert not gradcheck.Agreement("w1", (1,), 0, 0.0, 0.0).good


def test_the_penalty_is_checked_with_the_step_that_applies_it():
    net = xpnet.MLP((5, 4, 3), seed=1)
    t = (np.arange(8) % 3).astype(np.int32)
    x = RNG.normal(size=(8, 5))
    agreements = gradcheck.check(net, x, t, l2=0.7)
    assert all(a.good for a in agreements)
