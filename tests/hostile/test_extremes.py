"""Kernels, and the gradient check, on the largest and smallest numbers there are: the limit, infinity or NaN told."""

import math
from functools import partial
from typing import Any

import numpy as np
import pytest
from gpu.host_kernels import why_not
from gpu.test_kernels_on_cpu import OnCpu

import xpnet
from xpnet import MLP, gradcheck, kernels
from xpnet.kernels import ACTIVATIONS

PLACES = ["numpy", "cpu"]
NO_COMPILER = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")
WITH_GPU = [*PLACES, pytest.param("gpu", marks=NO_COMPILER)]
"""The last is a GPU that the processor plays, whose kernels are compiled one by one: in float32 alone."""

DTYPES = ["float32", "float64"]
ROUNDING = {"float32": 2e-6, "float64": 1e-14}

each_dtype = pytest.mark.parametrize("dtype", DTYPES)
each_place = pytest.mark.parametrize("place", PLACES)
each_place_and_gpu = pytest.mark.parametrize("place", WITH_GPU)


def table(place: str) -> Any:
    return kernels.on(OnCpu() if place == "gpu" else xpnet.device(place))


def only_float32_on_a_gpu(place: str, dtype: str) -> None:
    if (place, dtype) == ("gpu", "float64"):
        pytest.skip("compiled for float32 alone, to be quick")


def nan(dtype: str, *shape: int) -> np.ndarray:
    return np.full(shape, np.nan, dtype)


def largest(dtype: str) -> float:
    return float(np.finfo(dtype).max)


@pytest.fixture(autouse=True)
def quiet_numpy():
    """As in a training, where infinity and NaN are found in the results."""
    with np.errstate(all="ignore"):
        yield


def assert_near(actual: Any, expected: Any, dtype: str, *, tolerance: float | None = None) -> None:
    """Equal but for rounding, where what is too large for the dtype is infinite."""
    expected = np.asarray(expected, np.float64).astype(dtype)
    tolerance = ROUNDING[dtype] if tolerance is None else tolerance
    np.testing.assert_allclose(actual, expected, rtol=tolerance, atol=float(np.finfo(dtype).tiny) * 1e3)


# Activations

FAR_BELOW = {  # y and slope
    "relu": lambda z: (0, 0),
    "sigmoid": lambda z: (0, 0),
    "tanh": lambda z: (-1, 0),
    "linear": lambda z: (z, 1),
    "leaky_relu": lambda z: (0.01 * z, 0.01),
    "elu": lambda z: (-1, 0),
    "softplus": lambda z: (0, 0),
    "gelu": lambda z: (0, 0),
    "silu": lambda z: (0, 0),
}
SATURATED = {"sigmoid", "tanh"}


def activated(place: str, name: str, z: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y, slope = np.full_like(z, np.nan), np.full_like(z, np.nan)
    getattr(table(place), name)(z, out=y, slope=slope)
    return y, slope


@each_place
@each_dtype
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_far_out_are_their_limits(name, dtype, place):
    z = np.array([1e4, 1e30, largest(dtype)] * 11, dtype)  # as long as the loops that are made vectors
    y, slope = activated(place, name, -z)
    for actual, expected in zip((y, slope), FAR_BELOW[name](-z.astype(np.float64)), strict=True):
        np.testing.assert_allclose(actual, np.broadcast_to(expected, z.shape), rtol=1e-6, atol=1e-30)
    y, slope = activated(place, name, z)
    np.testing.assert_allclose(y, np.ones_like(z) if name in SATURATED else z, rtol=1e-6)
    np.testing.assert_allclose(slope, np.full_like(z, name not in SATURATED), atol=1e-6)


@each_place
@each_dtype
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_infinity_are_their_limits_and_of_nan_are_nan(name, dtype, place):
    z = np.array([-np.inf, np.inf, np.nan] * 11, dtype)
    y = activated(place, name, z)[0]
    below = FAR_BELOW[name](-np.inf)[0]
    np.testing.assert_allclose(y, [below, 1 if name in SATURATED else np.inf, np.nan] * 11, atol=1e-30)


@each_place
@each_dtype
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_of_nearly_nothing_are_those_of_zero(name, dtype, place):
    tiny = np.finfo(dtype)
    z = np.array([0.0, -0.0, tiny.tiny, -tiny.tiny, tiny.smallest_subnormal, -tiny.smallest_subnormal], dtype)
    y, slope = activated(place, name, z)
    at_zero = {"sigmoid": 0.5, "softplus": math.log(2)}.get(name, 0.0)
    np.testing.assert_allclose(y, np.full_like(y, at_zero), rtol=1e-6, atol=1e-30)
    assert np.isfinite(slope).all()


# Softmax and cross-entropy

HUGE = [[1.0, 0, -1], [0, 0, 1], [1, 1, -1], [-1, -1, -1], [0, 0, 0]]


@each_place_and_gpu
@each_dtype
@pytest.mark.parametrize("size", [1e4, 1e30, 0.0], ids=["1e4", "1e30", "largest"])
def test_cross_entropy_of_huge_differences_is_bounded_and_its_gradient_exact(size, dtype, place):
    only_float32_on_a_gpu(place, dtype)
    z, t = np.array(HUGE, dtype) * dtype_of(dtype, size or largest(dtype)), np.array([1, 2, 1, 0, 2], np.int32)
    dz, db, loss = nan(dtype, 5, 3), nan(dtype, 3), nan(dtype)
    table(place).softmax_cross_entropy(z, t, out=dz, db=db, loss=loss)
    p = np.array([[1, 0, 0], [0, 0, 1], [0.5, 0.5, 0], [1 / 3] * 3, [1 / 3] * 3])
    assert_near(dz, (p - np.eye(3)[t]) / 5, dtype)
    assert_near(db, (p - np.eye(3)[t]).sum(axis=0) / 5, dtype, tolerance=1e-5)
    assert_near(loss, -math.log(1e-10) - math.log(0.5) - 2 * math.log(1 / 3), dtype)


@each_place
@each_dtype
def test_softmax_of_huge_differences_picks_the_largest(dtype, place):
    z = np.array(HUGE, dtype) * dtype_of(dtype, largest(dtype))
    p = nan(dtype, 5, 3)
    table(place).softmax(z, out=p)
    assert_near(p, [[1, 0, 0], [0, 0, 1], [0.5, 0.5, 0], [1 / 3] * 3, [1 / 3] * 3], dtype)


@each_place
@each_dtype
def test_without_its_bound_cross_entropy_is_the_difference(dtype, place):
    """What the gradient check uses."""
    z, t = np.array([[1e30, 0.0], [0.0, 1e4]], dtype), np.array([1, 0], np.int32)
    loss = nan(dtype)
    options = {"out": nan(dtype, 2, 2), "db": nan(dtype, 2), "loss": loss}
    table(place).softmax_cross_entropy(z, t, log_smallest=-math.inf, **options)
    assert_near(loss, 1e30, dtype)


def dtype_of(dtype: str, value: float) -> Any:
    return np.dtype(dtype).type(value)


@each_place
@each_dtype
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_an_infinite_score_makes_the_loss_nan(bad, dtype, place):
    """Nothing may take it for an ordinary one: this is how a training that diverged is found."""
    z, t = np.array([[0, bad, 1], [1, 2, 3]], dtype), np.array([0, 1], np.int32)
    loss = np.zeros((), dtype)
    table(place).softmax_cross_entropy(z, t, out=nan(dtype, 2, 3), db=nan(dtype, 3), loss=loss)
    assert np.isnan(loss)


# The other losses: the loss and dz of one entry, by formulas in long double


def squared(y: Any, t: Any) -> tuple[Any, Any]:
    return (y - t) ** 2, 2 * (y - t)


def absolute(y: Any, t: Any) -> tuple[Any, Any]:
    return abs(y - t), np.sign(y - t)


def huber(y: Any, t: Any) -> tuple[Any, Any]:
    c = np.clip(y - t, -1, 1)
    return c * (y - t - c / 2), c


def poisson(z: Any, t: Any) -> tuple[Any, Any]:
    log_t = np.log(t) if t > 0 else 0
    return t * (log_t - z) - t + np.exp(z), np.exp(z) - t


def sigmoid_cross_entropy(z: Any, t: Any) -> tuple[Any, Any]:
    return max(z, 0) - z * t + np.log1p(np.exp(-abs(z))), (1 / (1 + np.exp(-z)) if z > -700 else 0) - t


POINTWISE = {
    "squared_error": (
        squared,
        {"output": "linear"},
        (0, 1, -1e15, 1e30, -1e30, "max", "-max"),
        (0, 1e15, -1e30, "max"),
    ),
    "absolute_error": (absolute, {"output": "linear"}, (0, 1, 1e30, "max", "-max"), (0, -1e30, "max")),
    "huber": (huber, {"output": "linear"}, (0, 0.5, 1e30, "max", "-max"), (0, -1e30, "max")),
    "poisson": (poisson, {"output": "exp"}, (0, 1, -1e4, -1e30, 1e4, 1e30, "-max"), (0, 1, 1e30)),
    "sigmoid_cross_entropy": (sigmoid_cross_entropy, {}, (0, 1e4, -1e4, 1e30, -1e30, "max", "-max"), (0, 1, 0.5)),
}


@each_place
@each_dtype
@pytest.mark.parametrize("name", POINTWISE)
def test_losses_of_huge_numbers_are_right_or_not_finite(name, dtype, place):
    formula, options, outputs, targets = POINTWISE[name]
    ends = {"max": largest(dtype), "-max": -largest(dtype)}
    k = table(place)
    for z in (ends.get(z, z) for z in outputs):
        for t in (ends.get(t, t) for t in targets):
            dz, db, loss = nan(dtype, 1, 1), nan(dtype, 1), nan(dtype)
            arrays = np.full((1, 1), z, dtype), np.full((1, 1), t, dtype)
            getattr(k, name)(*arrays, **options, out=dz, db=db, loss=loss)
            value, gradient = formula(*(np.longdouble(array[0, 0]) for array in arrays))
            bounded = {"rtol": 1e-5, "err_msg": f"{name} at {z:g}, {t:g}"}
            if np.isfinite(dtype_of(dtype, value)):
                np.testing.assert_allclose(loss, dtype_of(dtype, value), **bounded, atol=1e-6)
            else:  # infinity less infinity is as good: both are found
                assert not np.isfinite(loss), bounded["err_msg"]
            np.testing.assert_allclose(dz[0, 0], dtype_of(dtype, gradient), **bounded, atol=1e-6)


# Sample weights


@each_place_and_gpu
@each_dtype
@pytest.mark.parametrize(
    ("weights", "proportions"),
    [
        ([1e-30, 3e-30], [0.25, 0.75]),
        ([1e30, 3e30], [0.25, 0.75]),
        ([1e30, 1e-30], [1, 0]),
        ([1.0, -3.0], [-0.5, 1.5]),
        ([-1.0, -3.0], [0.25, 0.75]),
        ([0.0, 0.0], [0, 0]),
        ([2.0, -2.0], [0, 0]),
    ],
    ids=str,
)
def test_only_the_proportions_of_weights_count_in_a_gradient(weights, proportions, dtype, place):
    """Of weights that sum up to nothing there are none, and the batch changes nothing."""
    only_float32_on_a_gpu(place, dtype)
    z, t = np.zeros((2, 2), dtype), np.array([0, 0], np.int32)
    dz, db, loss = nan(dtype, 2, 2), nan(dtype, 2), nan(dtype)
    table(place).softmax_cross_entropy(z, t, weights=np.array(weights, dtype), out=dz, db=db, loss=loss)
    np.testing.assert_allclose(dz, np.outer(proportions, [-0.5, 0.5]), rtol=ROUNDING[dtype], atol=1e-30)
    assert_near(loss, math.log(2) * math.fsum(np.array(weights, dtype).astype(float)), dtype)


# Normalization


def batch_norm(place: str, z: np.ndarray, mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    dtype, columns = z.dtype.name, z.shape[1]
    k, out = table(place), nan(dtype, *z.shape)
    arrays = (k.device.asarray(array) for array in (z, np.ones(columns, dtype), np.zeros(columns, dtype)))
    statistics = {"mean": mean, "variance": variance}
    k.batch_norm(*arrays, **statistics, hat=nan(dtype, *z.shape), inverse=nan(dtype, 1, columns), out=out)
    return out


@each_place_and_gpu
@each_dtype
def test_a_batch_of_one_sample_leaves_the_running_variance(dtype, place):
    """Which has no unbiased estimate by one sample; that of nothing would pull it to 0, and predictions up."""
    only_float32_on_a_gpu(place, dtype)
    z, mean, variance = np.array([[3.0, -1.0]], dtype), np.zeros(2, dtype), np.array([4.0, 0.25], dtype)
    for _ in range(100):
        out = batch_norm(place, z, mean, variance)
    np.testing.assert_array_equal(variance, [4.0, 0.25])
    np.testing.assert_allclose(mean, z[0], rtol=1e-3)
    np.testing.assert_array_equal(out, np.zeros((1, 2)))


@each_place_and_gpu
@each_dtype
def test_batch_norm_that_overflows_is_nan_and_not_silent_zero(dtype, place):
    """A column whose variance is too large must not look like one without a signal."""
    only_float32_on_a_gpu(place, dtype)
    z = np.array([[1, 1], [3, 1], [2, 1], [6, 1]]) * np.array([largest(dtype) ** 0.75, 1])
    out = batch_norm(place, z.astype(dtype), np.zeros(2, dtype), np.ones(2, dtype))
    assert np.isnan(out[:, 0]).all()
    np.testing.assert_array_equal(out[:, 1], np.zeros(4))


@each_place_and_gpu
@each_dtype
def test_layer_norm_that_overflows_is_nan_and_not_silent_zero(dtype, place):
    only_float32_on_a_gpu(place, dtype)
    z = np.array([[1, 3, 2], [1, 3, 2]]) * np.array([[largest(dtype) ** 0.75], [largest(dtype) ** 0.25]])
    out, z = nan(dtype, 2, 3), z.astype(dtype)
    kept = {"hat": nan(dtype, 2, 3), "inverse": nan(dtype, 2, 1)}
    table(place).layer_norm(z, np.ones(3, dtype), np.zeros(3, dtype), **kept, out=out)
    assert np.isnan(out[0]).all()
    np.testing.assert_allclose(out[1], np.array([-1, 1, 0]) * math.sqrt(1.5), atol=1e-6)


@each_place
@each_dtype
def test_normalization_of_what_is_constant_or_denormal_is_nothing(dtype, place):
    z = np.full((5, 3), [7.1, 0.0, 1e-30], dtype)
    z[:, 1] = np.arange(5) * np.finfo(dtype).smallest_subnormal
    out = batch_norm(place, z, np.zeros(3, dtype), np.ones(3, dtype))
    np.testing.assert_allclose(out, np.zeros((5, 3)), atol=3e-4 if dtype == "float32" else 1e-9)


# Bounds on gradients and weights


def gradients(dtype: str) -> dict[str, np.ndarray]:
    far, rng = largest(dtype), np.random.default_rng(7)
    drawn = rng.uniform(0.5, 1, 1500) * rng.choice([-1, 1], 1500)
    return {
        "nothing": np.zeros(1500),
        "denormal": drawn * float(np.finfo(dtype).tiny) / 8,
        "tiny": drawn * 1e-30,
        "ordinary": drawn * 1e-3,
        "large": drawn * 1e15,
        "squares overflow": drawn * far**0.75,
        "norm overflows": drawn * far,
        "one is huge": np.where(np.arange(1500) == 700, far / 2, drawn),
    }


@each_place_and_gpu
@each_dtype
@pytest.mark.parametrize("limit", [1e-3, 1.0, 1e6])
@pytest.mark.parametrize("what", gradients("float32"))
def test_clip_scale_bounds_gradients_of_every_size(what, limit, dtype, place):
    """Squares that overflow must not make the factor 0, which would stop the training without a word."""
    only_float32_on_a_gpu(place, dtype)
    g, scale = gradients(dtype)[what].astype(dtype), nan(dtype)
    table(place).clip_scale(g, limit=limit, out=scale)
    exact = g.astype(np.longdouble)
    expected = min(1, limit / (np.sqrt((exact**2).sum()) + 1e-6))
    np.testing.assert_allclose(scale, float(expected), rtol=1e-5, atol=float(np.finfo(dtype).smallest_subnormal))
    assert scale > 0


@each_place_and_gpu
@each_dtype
@pytest.mark.parametrize("bad", [np.inf, -np.inf, np.nan])
def test_a_clipped_gradient_that_is_not_finite_stays_so(bad, dtype, place):
    only_float32_on_a_gpu(place, dtype)
    g, scale = np.ones(1500, dtype), nan(dtype)
    g[900] = bad
    table(place).clip_scale(g, limit=1.0, out=scale)
    assert np.isnan(g * scale).any()


@each_place_and_gpu
@each_dtype
def test_max_norm_shortens_columns_of_every_size_and_zeroes_none(dtype, place):
    only_float32_on_a_gpu(place, dtype)
    columns, limit = [value[:300] for value in gradients(dtype).values()], 2.0
    before = np.stack(columns, axis=1).astype(dtype)
    w = before.copy()
    table(place).max_norm(w, limit=limit)
    exact = before.astype(np.longdouble)
    norms = np.sqrt((exact**2).sum(axis=0))
    expected = exact * np.minimum(1, limit / np.maximum(norms, 1e-4000))
    np.testing.assert_allclose(w, expected.astype(dtype), rtol=1e-5, atol=float(np.finfo(dtype).tiny))
    assert (np.abs(w).max(axis=0) > 0)[norms > 0].all()


@each_place_and_gpu
@each_dtype
def test_max_norm_leaves_what_is_not_finite_to_be_found(dtype, place):
    only_float32_on_a_gpu(place, dtype)
    w = np.ones((300, 3), dtype)
    w[7] = [np.inf, np.nan, 1]
    table(place).max_norm(w, limit=2.0)
    assert np.isnan(w).any(axis=0).tolist() == [True, True, False]


# Updates

UPDATES = {
    "sgd_update": (0, {"lr": 0.1}),
    "momentum_update": (1, {"lr": 0.1, "momentum": 0.9, "l2": None, "clip": None}),
    "nesterov_update": (1, {"lr": 0.1, "momentum": 0.9, "l2": None, "clip": None}),
    "velocity_update": (1, {"lr": 0.1, "momentum": 0.9, "l2": None, "clip": None}),
    "nesterov_velocity_update": (1, {"lr": 0.1, "momentum": 0.9, "l2": None, "clip": None}),
    "adam_update": (2, {"size": 0.1, "eps": 1e-8, "beta1": 0.9, "beta2": 0.999, "l2": None, "clip": None}),
    "adamw_update": (2, {"size": 0.1, "eps": 1e-8, "beta1": 0.9, "beta2": 0.999, "keep": None, "clip": None}),
    "rmsprop_update": (1, {"lr": 0.1, "alpha": 0.99, "eps": 1e-8, "l2": None, "clip": None}),
    "adagrad_update": (1, {"lr": 0.1, "eps": 1e-10, "l2": None, "clip": None}),
}


def updated(place: str, name: str, dtype: str, g: np.ndarray, steps: int) -> list[np.ndarray]:
    """The weights, which begin at 1, and the moments after so many steps by that gradient."""
    slots, options = UPDATES[name]
    arrays = [np.ones_like(g), *(np.zeros_like(g) for _ in range(slots))]
    varying = {o: np.array(value, dtype) for o, value in options.items() if o in ("lr", "size") or is_given(name, o)}
    for _ in range(steps):
        getattr(table(place), name)(arrays[0], g, *arrays[1:], **{**options, **varying})
    return arrays


def is_given(name: str, option: str) -> bool:
    """Whether that epsilon changes from step to step."""
    return option == "eps" and name.startswith("adam")


@each_place
@each_dtype
@pytest.mark.parametrize("name", UPDATES)
def test_updates_by_nothing_change_nothing(name, dtype, place):
    for g in (np.zeros(40, dtype), -np.zeros(40, dtype)):
        for array, expected in zip(updated(place, name, dtype, g, 5), (1, 0, 0), strict=False):
            np.testing.assert_array_equal(array, np.full(40, expected, dtype))


@each_place
@each_dtype
@pytest.mark.parametrize("name", UPDATES)
def test_updates_by_denormal_gradients_stay_finite_and_small(name, dtype, place):
    """Second moments underflow to 0 then; epsilon keeps the quotient small."""
    g = np.full(40, np.finfo(dtype).tiny / 4, dtype)
    w, *moments = updated(place, name, dtype, g, 5)
    np.testing.assert_allclose(w, np.ones(40), atol=1e-6)
    assert all(np.isfinite(moment).all() for moment in moments)


@each_dtype
@pytest.mark.parametrize("name", UPDATES)
def test_updates_by_huge_gradients_are_those_of_the_references(name, dtype):
    """Where a second moment overflows, the step is 0 and then NaN, or 0 for ever: as the formulas say."""
    sizes = np.array([1e10, 1e15, float(np.finfo(dtype).max) ** 0.75, float(np.finfo(dtype).max) / 2])
    g = np.repeat(np.concatenate([sizes, -sizes]), 11).astype(dtype)
    for steps in (1, 2):
        for actual, expected in zip(*(updated(place, name, dtype, g, steps) for place in PLACES), strict=True):
            np.testing.assert_allclose(actual, expected, rtol=1e-5)


# The gradient check where units saturate

LARGE_SIZES = [1.0, 30.0, 1e4]


@each_place
@pytest.mark.parametrize("size", LARGE_SIZES)
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_gradients_agree_or_vanish_where_units_saturate(activation, size, place):
    network = MLP([4, 6, 5, 3], activation, device=place, dtype="float64", seed=3)
    network.parameters.w[0][...] *= size
    rng = np.random.default_rng(8)
    x, t = rng.normal(size=(9, 4)), rng.integers(0, 3, 9).astype(np.int32)
    for agreement in gradcheck.check(network, x, t):
        assert agreement.good, agreement


@each_place
@pytest.mark.parametrize("normalization", ["batch", "layer"])
def test_gradients_agree_behind_the_normalization_of_huge_numbers(normalization, place):
    network = MLP([4, 6, 3], "tanh", normalization=normalization, device=place, dtype="float64", seed=3)
    rng = np.random.default_rng(9)
    x, t = rng.normal(size=(9, 4)) * 1e3, rng.integers(0, 3, 9).astype(np.int32)
    check = partial(gradcheck.check, network, x, t)
    assert all(agreement.good for agreement in check()), check()
