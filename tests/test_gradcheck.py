"""The gradient check itself: it must pass right gradients and catch wrong ones."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet import gradcheck
from xpnet.kernels import ACTIVATIONS, table
from xpnet.losses import Loss


def test_the_numerical_gradient_of_a_number_and_of_an_array():
    rng = np.random.default_rng(0)
    x = rng.normal(size=(3, 4))
    before = x.copy()
    np.testing.assert_allclose(gradcheck.numerical_gradient(lambda x: (x**3).sum(), x), 3 * x**2, rtol=1e-7)
    upstream = rng.normal(size=(3, 2))
    w = rng.normal(size=(4, 2))
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


def check(activations="relu", output="softmax", loss=None, weights=None, sizes=(5, 7, 6, 3), dropout=0.0, **build):
    net = xpnet.MLP(sizes, activations, output, init="normal(0.6)", bias_init="normal(0.3)", seed=1, **build)
    rng = np.random.default_rng(0)  # its own: which numbers a test gets is not for the tests before it to say
    for gain in net.parameters.gains:
        gain[...] = rng.uniform(0.5, 2, gain.shape)
    x = rng.normal(size=(8, sizes[0]))
    if output == "softmax":
        t = (np.arange(8) % sizes[-1]).astype(np.int32)
    else:
        t = rng.uniform(0.1, 0.9, size=(8, sizes[-1]))
    return gradcheck.check(net, x, t, loss=loss, weights=weights, dropout=dropout)


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


@pytest.mark.parametrize("activation", ACTIVATIONS)
@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
@pytest.mark.parametrize("dropout", [0.0, (0.5, 0.2)], ids=str)
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_networks_agree_as_they_are_trained(activation, normalization, dropout, device):
    loss = Loss("cross_entropy", "softmax", smoothing=0.2)
    agreements = check(activation, loss=loss, dropout=dropout, normalization=normalization, device=device)
    gains = [] if normalization is None else ["g1", "g2"]
    assert [a.name for a in agreements] == ["w1", "b1", "w2", "b2", "w3", "b3", *gains]
    for a in agreements:
        assert a.checked > 0.9 * np.prod(a.shape)
        assert a.relative_error <= 1e-6, a


@pytest.mark.parametrize("normalization", ["batch", "layer"])
@pytest.mark.parametrize(
    ("output", "loss"),
    [
        ("sigmoid", Loss("cross_entropy", "sigmoid", smoothing=0.3)),
        ("exp", "poisson"),
        ("linear", Loss("huber", "linear", delta=0.3)),
        ("tanh", "mse"),
    ],
    ids=["sigmoid", "exp", "huber", "tanh"],
)
def test_every_loss_agrees_behind_a_normalization(output, loss, normalization):
    agreements = check("silu", output, loss, np.linspace(0.5, 2, 8), dropout=0.2, normalization=normalization)
    assert all(a.good for a in agreements), agreements


def test_batches_of_one_sample_agree():
    for normalization in (None, "batch", "layer"):
        net = xpnet.MLP((5, 4, 3), "tanh", normalization=normalization, seed=1)
        t = np.array([1], dtype=np.int32)
        assert all(a.good for a in gradcheck.check(net, np.random.default_rng(0).normal(size=(1, 5)), t, dropout=0.3))


def test_the_network_that_is_checked_stays_as_it_is():
    net = xpnet.MLP((5, 4, 3), normalization="batch", seed=1)
    before = [array.copy() for array in net.state]
    gradcheck.check(net, np.random.default_rng(0).normal(size=(8, 5)), (np.arange(8) % 3).astype(np.int32), dropout=0.3)
    for array, copy in zip(net.state, before, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize("output", ACTIVATIONS)
def test_every_activation_can_be_an_output(output):
    assert all(a.relative_error <= 1e-7 for a in check("tanh", output, "mse"))


def test_large_tensors_are_sampled_and_saturated_losses_pass():
    net = xpnet.MLP((300, 10, 5), init="normal(1)", seed=0)
    t = (np.arange(4) % 5).astype(np.int32)
    agreements = gradcheck.check(net, 50 * np.random.default_rng(0).normal(size=(4, 300)), t)
    assert [a.checked for a in agreements] == [200, 10, 50, 5]
    assert all(a.relative_error <= 1e-6 for a in agreements)


@pytest.mark.parametrize(
    ("name", "broken"),
    [
        ("tanh", lambda k, z, *, out, slope=None: (k.xp.tanh(z, out=out), slope is not None and slope.fill(0.7))),
        ("affine_biases", lambda k, dz, *, out: k.xp.sum(2 * dz, axis=0, out=out)),
        ("affine_inputs", lambda k, dz, w, *, alpha=1.0, out: k.gemm(dz, -w.T, alpha=alpha, out=out)),
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


def without(argument):
    """The kernel, which takes zeros for that argument."""

    def break_it(kernel):
        return lambda k, *arrays, **options: kernel(k, *arrays, **{**options, argument: 0 * options[argument]})

    return break_it


def keeping_all(kernel):
    """Dropout that forgets the slopes."""
    return lambda k, *arrays, slope=None, **options: kernel(k, *arrays, **options)


@pytest.mark.parametrize(
    ("name", "spoil", "options"),
    [
        ("batch_norm_backward", without("hat"), {"normalization": "batch"}),
        ("batch_norm_backward", without("dshift"), {"normalization": "batch"}),
        ("layer_norm_backward", without("hat"), {"normalization": "layer"}),
        ("dropout", keeping_all, {"dropout": 0.5}),
    ],
)
def test_a_wrong_kernel_of_training_is_caught(monkeypatch, name, spoil, options):
    assert max(a.relative_error for a in check("tanh", device="numpy", **options)) <= 1e-7
    monkeypatch.setitem(table.REFERENCE, name, spoil(table.REFERENCE[name]))
    assert max(a.relative_error for a in check("tanh", device="numpy", **options)) > 1e-4


@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_a_gradient_that_is_zero_by_symmetry_is_right(normalization):
    """What a shift adds to all units alike, or to all samples, the next normalization takes away."""
    agreements = check("linear", normalization=normalization)
    assert all(a.good for a in agreements), agreements
    b1 = next(a for a in agreements if a.name == "b1")
    assert b1.max_relative_error > 1e-6 or normalization == "layer"


def test_a_function_may_return_its_argument_or_a_buffer_of_its_own():
    x, buffer = np.random.default_rng(0).normal(size=3), np.empty(3)
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
    x = np.random.default_rng(0).normal(size=(8, 5))
    agreements = gradcheck.check(net, x, t, l2=0.7)
    assert all(a.good for a in agreements)
