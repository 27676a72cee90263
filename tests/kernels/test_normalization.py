"""Normalization over the batch and over the layer against plain formulas, on both CPU devices."""

import numpy as np
import pytest

import xpnet
from xpnet import kernels

EPS = 1e-5
MOMENTUM = 0.1
TOLERANCES = {"float32": 2e-5, "float64": 1e-12}

each_device = pytest.mark.parametrize("device", ["numpy", "cpu"])
each_dtype = pytest.mark.parametrize("dtype", TOLERANCES)
each_shape = pytest.mark.parametrize("shape", [(1, 5), (2, 1), (7, 3), (40, 33), (300, 120)], ids=str)


def drawn(*shape: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """z, gain and shift."""
    rng = np.random.default_rng(list(shape))
    return rng.normal(2, 3, shape), rng.uniform(0.5, 2, shape[1]), rng.normal(size=shape[1])


def normalized(z: np.ndarray, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """hat and the deviation."""
    mean, variance = z.mean(axis=axis, keepdims=True), z.var(axis=axis, keepdims=True)
    deviation = np.sqrt(variance + EPS)
    return (z - mean) / deviation, deviation


def gradient(dy: np.ndarray, z: np.ndarray, gain: np.ndarray, axis: int) -> np.ndarray:
    """dz, from the derivatives of the mean and of the variance by every z."""
    n, (hat, deviation) = z.shape[axis], normalized(z, axis)
    d = gain * dy
    d_variance = (d * hat).sum(axis=axis, keepdims=True) * -0.5 / deviation**2
    d_mean = -(d / deviation).sum(axis=axis, keepdims=True)
    return d / deviation + d_variance * 2 * hat * deviation / n + d_mean / n


def assert_close(actual: np.ndarray, expected: np.ndarray, dtype: str) -> None:
    assert actual.dtype == dtype
    np.testing.assert_allclose(actual, expected, rtol=0, atol=TOLERANCES[dtype] * np.abs(expected).max())


def nan(dtype: str, *shape: int) -> np.ndarray:
    return np.full(shape, np.nan, dtype)


@each_device
@each_dtype
@each_shape
def test_batch_norm_follows_its_formula_and_keeps_running_statistics(shape, dtype, device):
    z, gain, shift = drawn(*shape)
    rng = np.random.default_rng(1)
    before, spread = rng.normal(size=shape[1]), rng.uniform(0.5, 2, shape[1])
    mean, variance, (hat, deviation) = before.astype(dtype), spread.astype(dtype), normalized(z, 0)
    kept = {"hat": nan(dtype, *shape), "inverse": nan(dtype, 1, shape[1]), "out": nan(dtype, *shape)}
    arrays = [array.astype(dtype) for array in (z, gain, shift)]
    kernels.on(xpnet.device(device)).batch_norm(*arrays, mean=mean, variance=variance, **kept)
    assert_close(kept["out"], gain * hat + shift, dtype)
    assert_close(kept["hat"], hat, dtype)
    assert_close(kept["inverse"], 1 / deviation, dtype)
    unbiased = z.var(axis=0, ddof=1) if len(z) > 1 else spread  # of one sample there is none
    assert_close(mean, (1 - MOMENTUM) * before + MOMENTUM * z.mean(axis=0), dtype)
    assert_close(variance, (1 - MOMENTUM) * spread + MOMENTUM * unbiased, dtype)


@each_device
@each_dtype
@each_shape
def test_a_network_that_predicts_goes_by_the_running_statistics(shape, dtype, device):
    z, gain, shift = drawn(*shape)
    rng = np.random.default_rng(2)
    mean, variance = rng.normal(size=shape[1]), rng.uniform(0.5, 2, shape[1])
    out = nan(dtype, *shape)
    arrays = [array.astype(dtype) for array in (z, gain, shift)]
    statistics = {"mean": mean.astype(dtype), "variance": variance.astype(dtype)}
    kernels.on(xpnet.device(device)).batch_norm_inference(*arrays, **statistics, out=out)
    assert_close(out, gain * (z - mean) / np.sqrt(variance + EPS) + shift, dtype)


@each_device
@each_dtype
@each_shape
def test_layer_norm_follows_its_formula(shape, dtype, device):
    z, gain, shift = drawn(*shape)
    hat, deviation = normalized(z, 1)
    kept = {"hat": nan(dtype, *shape), "inverse": nan(dtype, len(z), 1), "out": nan(dtype, *shape)}
    kernels.on(xpnet.device(device)).layer_norm(*(array.astype(dtype) for array in (z, gain, shift)), **kept)
    assert_close(kept["out"], gain * hat + shift, dtype)
    assert_close(kept["hat"], hat, dtype)
    assert_close(kept["inverse"], 1 / deviation, dtype)


@each_device
@pytest.mark.parametrize("axis", [0, 1], ids=["batch_norm", "layer_norm"])
@pytest.mark.parametrize("shape", [(3, 4), (40, 33), (300, 120)], ids=str)
def test_gradients_follow_their_formulas(shape, axis, device):
    z, gain, _ = drawn(*shape)
    dy, (hat, deviation) = np.random.default_rng(3).normal(size=shape), normalized(z, axis)
    dshift, dgain, out = dy.sum(axis=0), np.full(shape[1], np.nan), np.full(shape, np.nan)
    k, kept = kernels.on(xpnet.device(device)), {"hat": hat, "inverse": 1 / deviation, "dgain": dgain, "out": out}
    if axis == 0:
        k.batch_norm_backward(dy, gain, dshift=dshift, **kept)
    else:
        k.layer_norm_backward(dy, gain, **kept)
    assert_close(out, gradient(dy, z, gain, axis), "float64")
    assert_close(dgain, (dy * hat).sum(axis=0), "float64")


@pytest.mark.parametrize("name", ["batch_norm", "layer_norm"])
def test_the_textbook_s_gradients_are_those_of_the_formulas(name):
    z, gain, shift = drawn(9, 6)
    dy, axis = np.random.default_rng(4).normal(size=z.shape), int(name == "layer_norm")
    dz, dgain, dshift = getattr(kernels, f"{name}_backward")(dy, z, gain, shift)
    assert_close(dz, gradient(dy, z, gain, axis), "float64")
    assert_close(dgain, (dy * normalized(z, axis)[0]).sum(axis=0), "float64")
    np.testing.assert_allclose(dshift, dy.sum(axis=0))


@each_device
def test_large_means_do_not_spoil_small_deviations(device):
    """A variance as the mean square less the squared mean would be lost in rounding."""
    z, ones, zeros = (
        (1000 + np.random.default_rng(5).normal(size=(64, 64))).astype("float32"),
        np.ones(64),
        np.zeros(64),
    )
    gain, shift, exact = ones.astype("float32"), zeros.astype("float32"), z.astype("float64")
    k, out, hat = kernels.on(xpnet.device(device)), nan("float32", 64, 64), nan("float32", 64, 64)
    k.layer_norm(z, gain, shift, hat=hat, inverse=nan("float32", 64, 1), out=out)
    np.testing.assert_allclose(out, normalized(exact, 1)[0], atol=1e-3)
    running = {"mean": shift.copy(), "variance": gain.copy()}
    k.batch_norm(z, gain, shift, **running, hat=hat, inverse=nan("float32", 1, 64), out=out)
    np.testing.assert_allclose(out, normalized(exact, 0)[0], atol=1e-3)
