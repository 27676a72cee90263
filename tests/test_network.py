"""Networks: their parameters, what they predict, and what they refuse."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array

import xpnet
from xpnet.data.transform import InputTransform


def test_the_block_is_flat_aligned_and_named():
    network = xpnet.MLP((3, 5, 2), init="normal(1)", bias_init="normal(1)")
    p = network.parameters
    assert [name for name, _ in p.named()] == ["w1", "b1", "w2", "b2"]
    assert [view.shape for _, view in p.named()] == [(3, 5), (5,), (5, 2), (2,)]
    start = p.flat.__array_interface__["data"][0]
    for _, view in p.named():
        assert view.flags.c_contiguous
        assert np.shares_memory(view, p.flat)
        assert (view.__array_interface__["data"][0] - start) % 256 == 0
    assert all(np.shares_memory(p.weights, w) for w in p.w)
    assert not any(np.shares_memory(p.weights, b) for b in p.b)
    assert np.count_nonzero(p.flat) == 3 * 5 + 5 + 5 * 2 + 2


def test_gains_lie_behind_the_biases_and_statistics_in_a_block_of_their_own():
    network = xpnet.MLP((3, 5, 4, 2), init="normal(1)", normalization="batch")
    p, s = network.parameters, network.statistics
    assert [name for name, _ in p.named()] == ["w1", "b1", "w2", "b2", "w3", "b3", "g1", "g2"]
    assert [name for name, _ in s.named()] == ["m1", "v1", "m2", "v2"]
    assert all(np.shares_memory(p.biases, gain) and (gain == 1).all() for gain in p.gains)
    assert [view.shape for _, view in s.named()] == [(5,), (5,), (4,), (4,)]
    assert all((mean == 0).all() for mean in s.mean)
    assert all((variance == 1).all() for variance in s.variance)
    assert s.flat.size == 2 * (5 + 4)
    assert network.state == (p.flat, s.flat)
    assert xpnet.MLP((3, 5, 4, 2), normalization="layer").statistics is None


@pytest.mark.parametrize(
    ("init", "variance"),
    [
        ("glorot_uniform", 2 / 500),
        ("glorot_normal", 2 / 500),
        ("he_uniform", 2 / 300),
        ("he_normal", 2 / 300),
        ("lecun_uniform", 1 / 300),
        ("lecun_normal", 1 / 300),
        ("normal(0.02)", 0.02**2),
        ("uniform(0.3)", 0.3**2 / 3),
        ("zeros", 0.0),
    ],
)
def test_initializers_have_their_variance_for_weights_and_biases(init, variance):
    network = xpnet.MLP((300, 200), init=init, bias_init=init)
    w, b = network.parameters.w[0], network.parameters.b[0]
    assert w.var() == pytest.approx(variance, rel=0.05)
    assert b.var() == pytest.approx(variance, rel=0.5)
    if "uniform" in init:
        assert np.abs(w).max() <= np.sqrt(3 * variance) * 1.0001


def test_the_same_seed_draws_the_same_numbers_whatever_the_precision():
    single, double = (xpnet.MLP((4, 3), dtype=dtype, seed=9) for dtype in ("float32", "float64"))
    np.testing.assert_array_equal(single.parameters.flat[:12], double.parameters.flat[:12].astype(np.float32))
    assert not np.array_equal(single.parameters.flat, xpnet.MLP((4, 3), seed=10).parameters.flat)


def by_hand(network: xpnet.MLP, x: np.ndarray) -> np.ndarray:
    p, h = network.parameters, x * network.transform.scale - network.transform.shift
    for w, b in zip(p.w[:-1], p.b[:-1], strict=True):
        h = np.maximum(h @ w + b, 0)
    z = np.exp(h @ p.w[-1] + p.b[-1])
    return z / z.sum(axis=1, keepdims=True)


@pytest.mark.parametrize("rows", [1, 7, 1024, 1025])
def test_predictions_start_from_raw_samples_of_any_rank_dense_or_sparse(rows):
    network = xpnet.MLP((6, 5, 3), dtype="float64")
    network.transform = InputTransform(0.5, np.arange(6.0) / 10)
    network.task, network.classes = "classification", ("a", "b", "c")
    x = np.random.default_rng(0).integers(0, 3, (rows, 2, 3)).astype(np.uint8)
    expected = by_hand(network, x.reshape(rows, 6).astype(float))
    np.testing.assert_allclose(network.predict_proba(x), expected, rtol=1e-12)
    np.testing.assert_allclose(network.predict_proba(csr_array(x.reshape(rows, 6))), expected, rtol=1e-12)
    assert network.predict(x).tolist() == [("a", "b", "c")[i] for i in expected.argmax(axis=1)]


def test_one_sigmoid_for_two_classes_gives_both_columns():
    network = xpnet.MLP((2, 1), output="sigmoid")
    network.task, network.classes = "classification", ("no", "yes")
    p = network.predict_proba([[0.0, 1.0], [2.0, -1.0]])
    assert p.shape == (2, 2)
    np.testing.assert_allclose(p.sum(axis=1), 1, rtol=1e-6)
    assert network.predict([[0.0, 1.0]])[0] == ("yes" if p[0, 1] > 0.5 else "no")


def test_regression_predicts_numbers_and_labels_are_zero_or_one():
    network = xpnet.MLP((2, 1), output="linear")
    network.task = "regression"
    assert network.predict(np.zeros((4, 2))).shape == (4,)
    network = xpnet.MLP((2, 3), output="sigmoid")
    network.task, network.classes = "multilabel", ("0", "1", "2")
    assert set(network.predict(np.random.default_rng(0).normal(size=(9, 2))).ravel()) <= {0, 1}


def test_the_summary_counts_parameters_and_products():
    summary = xpnet.MLP((784, 300, 100, 10), ["relu", "tanh"]).summary()
    for text in ("784 x 300", "300 x 100", "tanh", "softmax", "266,610", "266,200"):
        assert text in summary


def test_the_summary_tells_of_normalization_and_counts_gains():
    summary = xpnet.MLP((784, 300, 100, 10), ["relu", "tanh"], normalization="batch").summary()
    for text in ("batch norm, relu", "batch norm, tanh", "235,800", "30,200", "1,010", "267,010", "266,200"):
        assert text in summary


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"sizes": (3,)}, ["sizes", "(3,)"]),
        ({"sizes": (3, 0, 2)}, ["width of a layer", "got 0"]),
        ({"sizes": (3, 2.5, 2)}, ["width of a layer", "2.5"]),
        ({"sizes": (3, 10**9, 10**9)}, ["memory"]),
        ({"sizes": 5}, ["sizes", "5"]),
        ({"seed": -3}, ["seed", "-3"]),
        ({"activations": "rellu"}, ["rellu", "relu", "silu"]),
        ({"activations": ["relu", "tanh", "relu"]}, ["3 names", "2 hidden"]),
        ({"output": "softmin"}, ["softmin", "softmax"]),
        ({"init": "normal(-1)"}, ["init", "normal(-1)", "he_normal"]),
        ({"bias_init": "ones"}, ["bias_init", "ones"]),
        ({"normalization": "group"}, ["normalization", "group", "batch", "layer"]),
        ({"dtype": "float16"}, ["float16", "float32"]),
        ({"device": "tpu"}, ["tpu", "cuda"]),
    ],
)
def test_a_wrong_argument_is_named_with_what_is_right(arguments, words):
    with pytest.raises(xpnet.XpnetError) as refusal:
        xpnet.MLP(**{"sizes": (3, 4, 4, 2), **arguments})
    assert "\n" not in str(refusal.value)
    for word in words:
        assert word in str(refusal.value)


def test_samples_of_another_width_are_refused():
    with pytest.raises(xpnet.XpnetError, match=r"samples of 3 values, expected 2"):
        xpnet.MLP((2, 2)).predict(np.zeros((1, 3)))


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 9), min_size=2, max_size=5),
    activation=st.sampled_from(xpnet.kernels.ACTIVATIONS),
    output=st.sampled_from(("softmax", *xpnet.kernels.ACTIVATIONS, "exp")),
    normalization=st.sampled_from([None, "batch", "layer"]),
    rows=st.integers(1, 5),
    dtype=st.sampled_from(["float32", "float64"]),
)
def test_any_network_predicts_finite_numbers_of_its_dtype(sizes, activation, output, normalization, rows, dtype):
    network = xpnet.MLP(sizes, activation, output, normalization=normalization, dtype=dtype)
    outputs = network.predict_proba(np.random.default_rng(0).normal(size=(rows, sizes[0])))
    assert outputs.shape == (rows, sizes[-1])
    assert outputs.dtype == dtype
    assert np.isfinite(outputs).all()
