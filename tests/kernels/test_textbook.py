"""The textbook functions: known numbers, finite differences, work in place, hard numbers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import xpnet
from xpnet import kernels
from xpnet.gradcheck import max_relative_error, numerical_gradient, relative_error
from xpnet.kernels import ACTIVATIONS, textbook

TOLERANCE = 1e-7
MARGIN = 1e-3
"""How far inputs stay from kinks; finite differences reach 1e-5."""

POINTWISE = ("squared_error", "absolute_error", "huber", "poisson")
NORMS = {"batch_norm": 0, "layer_norm": 1}
"""With the axis over which they normalize."""
FLOATS = (np.float32, np.float64)


def linspace(a: float, b: float, *shape: int) -> np.ndarray:
    return np.linspace(a, b, int(np.prod(shape))).reshape(shape)


def pair(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    return getattr(textbook, f"{name}_forward"), getattr(textbook, f"{name}_backward")


def off(values: np.ndarray, *kinks: float) -> np.ndarray:
    """The values, those within MARGIN of a kink pushed that far away."""
    for kink in kinks:
        away = np.copysign(MARGIN, values - kink)
        values = np.where(np.abs(values - kink) < MARGIN, kink + away, values)
    return values


def one_hot(t: np.ndarray, columns: int) -> np.ndarray:
    return np.eye(columns)[t]


def probabilities(rng: np.random.Generator, *shape: int) -> np.ndarray:
    p = rng.uniform(0.1, 1, shape)
    return p / p.sum(axis=1, keepdims=True)


# Known numbers


def test_affine_forward_gives_the_known_numbers():
    z = kernels.affine_forward(linspace(-0.1, 0.5, 2, 4, 5, 6), linspace(-0.2, 0.3, 120, 3), linspace(-0.3, 0.1, 3))
    known = [[1.49834967, 1.70660132, 1.91485297], [3.25553199, 3.5141327, 3.77273342]]
    np.testing.assert_allclose(z, known, rtol=0, atol=5e-9)


def test_relu_forward_gives_the_known_numbers():
    known = [[0, 0, 0, 0], [0, 0, 0.04545455, 0.13636364], [0.22727273, 0.31818182, 0.40909091, 0.5]]
    np.testing.assert_allclose(kernels.relu_forward(linspace(-0.5, 0.5, 3, 4)), known, rtol=0, atol=5e-9)


def test_two_layers_with_softmax_give_the_known_scores_and_losses():
    w1, b1 = linspace(-0.7, 0.3, 5, 50), linspace(-0.1, 0.9, 50)
    w2, b2 = linspace(-0.3, 0.4, 50, 7), linspace(-0.9, 0.1, 7)
    x, t = linspace(-5.5, 4.5, 5, 3).T, np.array([0, 5, 1])
    scores = kernels.affine_forward(kernels.affine_relu_forward(x, w1, b1), w2, b2)
    np.testing.assert_allclose(scores[0, :2], [11.53165108, 12.2917344], rtol=0, atol=5e-9)
    np.testing.assert_allclose(scores[-1, -2:], [15.66781506, 16.2846319], rtol=0, atol=5e-9)
    loss = kernels.softmax_cross_entropy_forward(scores, t)
    assert loss == pytest.approx(3.4702243556, rel=0, abs=5e-11)
    assert loss + kernels.l2_penalty_forward(w1, w2, l2=1.0) == pytest.approx(26.5948426952, rel=0, abs=5e-11)


# The one rule: backward is the slope of forward


@dataclass(frozen=True)
class Case:
    """A pair of functions with inputs: those that gradients are taken by, then the others."""

    label: str
    pair: str
    draw: Callable[[np.random.Generator], tuple[list[np.ndarray], list[np.ndarray]]]
    options: dict[str, Any] = field(default_factory=dict)
    ends_the_chain: bool = False


def activation_case(name: str) -> Case:
    return Case(name, name, lambda rng: ([off(rng.normal(0, 2, (5, 4)), 0)], []))


def affine_case(name: str, *shape: int) -> Case:
    def draw(rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
        columns = int(np.prod(shape[1:]))
        while True:
            x, w, b = rng.normal(size=shape), rng.normal(size=(columns, 3)), rng.normal(size=3)
            if np.abs(x.reshape(len(x), -1) @ w + b).min() > MARGIN:
                return [x, w, b], []

    return Case(f"{name} of rank {len(shape)}", name, draw)


def norm_case(name: str, *shape: int) -> Case:
    def draw(rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
        return [rng.normal(1, 2, shape), rng.uniform(0.5, 2, shape[1]), rng.normal(size=shape[1])], []

    return Case(f"{name} of {shape}", name, draw)


def grouped_case(options: dict[str, Any]) -> Case:
    def draw(rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
        t = np.stack([rng.integers(0, size, 4) for size in GROUPS], axis=1)
        return [rng.normal(0, 2, (4, sum(GROUPS)))], [t]

    label = f"grouped_softmax_cross_entropy {shown(options)}"
    options = {"groups": GROUPS, **options}
    return Case(label, "grouped_softmax_cross_entropy", draw, options, ends_the_chain=True)


def shown(options: dict[str, Any]) -> str:
    return ", ".join(key if key == "weights" else f"{key} {value}" for key, value in options.items())


def cross_entropy_case(targets: str, columns: int, options: dict[str, Any]) -> Case:
    def draw(rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
        t = rng.integers(0, columns, 4)
        form = {"integer": t, "one-hot": one_hot(t, columns), "soft": probabilities(rng, 4, columns)}
        return [rng.normal(0, 2, (4, columns))], [form[targets]]

    label = f"softmax_cross_entropy of {columns} {targets} {shown(options)}"
    return Case(label, "softmax_cross_entropy", draw, options, ends_the_chain=True)


def label_case(targets: str, columns: int, options: dict[str, Any]) -> Case:
    def draw(rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
        t = rng.uniform(0, 1, (4, columns))
        return [rng.normal(0, 2, (4, columns))], [t.round() if targets == "hard" else t]

    label = f"sigmoid_cross_entropy of {columns} {targets} {shown(options)}"
    return Case(label, "sigmoid_cross_entropy", draw, options, ends_the_chain=True)


def pointwise_case(name: str, columns: int, options: dict[str, Any]) -> Case:
    output = options.get("output", "linear")
    delta = options.get("delta", 1.0)
    kinks = {"absolute_error": (0.0,), "huber": (-delta, delta)}.get(name, ())

    def draw(rng: np.random.Generator) -> tuple[list[np.ndarray], list[np.ndarray]]:
        z = off(rng.normal(0, 1.5, (4, columns)), 0)
        if name == "poisson":
            return [z], [rng.poisson(2, z.shape).astype(float)]
        return [z], [pair(output)[0](z) - off(rng.normal(0, 1.5 * delta, z.shape), *kinks)]

    return Case(f"{name} of {columns} {shown(options)}", name, draw, options, ends_the_chain=True)


GROUPS = (3, 1, 2)
WEIGHTINGS: tuple[dict[str, Any], ...] = ({}, {"weights": np.array([0.5, 0.0, 2.0, 1.25])})

CASES = [
    *map(activation_case, ACTIVATIONS),
    *(affine_case("affine", *shape) for shape in ((4, 6), (3, 2, 5), (2, 3, 2, 2), (1, 5))),
    *(affine_case(f"affine_{name}", 4, 3, 2) for name in ACTIVATIONS),
    Case("softmax", "softmax", lambda rng: ([rng.normal(0, 2, (4, 5))], [])),
    Case("exp", "exp", lambda rng: ([rng.normal(size=(4, 5))], [])),
    *(norm_case(name, *shape) for name in NORMS for shape in ((3, 3), (7, 5))),
    Case("embedding", "embedding", lambda rng: ([rng.normal(size=(4, 3))], [np.array([2, 0, 2, 3, 0])])),
    Case("dropout", "dropout", lambda rng: ([rng.normal(size=(4, 5))], []), {"key": 7, "rate": 0.4}),
    Case(
        "l2_penalty",
        "l2_penalty",
        lambda rng: ([rng.normal(size=(3, 4)), rng.normal(size=5)], []),
        {"l2": 0.7},
        ends_the_chain=True,
    ),
    *(
        cross_entropy_case(targets, columns, weighting | smoothing)
        for targets in ("integer", "one-hot", "soft")
        for columns in (2, 5)
        for weighting in WEIGHTINGS
        for smoothing in ({}, {"smoothing": 0.2})
    ),
    *(grouped_case(weighting | smoothing) for weighting in WEIGHTINGS for smoothing in ({}, {"smoothing": 0.2})),
    *(
        label_case(targets, columns, weighting | options)
        for targets in ("hard", "soft")
        for columns in (1, 5)
        for weighting in WEIGHTINGS
        for options in ({}, {"scale": 1.5}, {"smoothing": 0.3}, {"scale": 1.0, "smoothing": 0.1})
    ),
    *(
        pointwise_case(name, columns, weighting | output)
        for name in POINTWISE
        for columns in (1, 5)
        for weighting in WEIGHTINGS
        for output in ({}, {"scale": 0.5}, *([] if name == "poisson" else [{"output": "sigmoid"}]))
    ),
    *(pointwise_case(name, 3, {"output": output}) for name in POINTWISE[:3] for output in ACTIVATIONS),
    *(
        pointwise_case("huber", 3, weighting | {"delta": delta, "output": output})
        for delta in (0.1, 2.5)
        for output in ("linear", "tanh")
        for weighting in WEIGHTINGS
    ),
]


def test_every_pair_has_a_case():
    forwards = {name.removesuffix("_forward") for name in textbook.__all__ if name.endswith("_forward")}
    backwards = {name.removesuffix("_backward") for name in textbook.__all__ if name.endswith("_backward")}
    assert forwards == backwards == {case.pair for case in CASES}
    assert all(hasattr(kernels, name) for name in textbook.__all__)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.label)
def test_backward_is_the_slope_of_forward(case, record_property):
    rng = np.random.default_rng(20)
    forward, backward = pair(case.pair)
    inputs, others = case.draw(rng)

    def value(*arrays: np.ndarray) -> Any:
        return forward(*arrays, *others, **case.options)

    d = None if case.ends_the_chain else rng.normal(size=value(*inputs).shape)
    analytic = backward(*([] if d is None else [d]), *inputs, *others, **case.options)
    analytic = analytic if isinstance(analytic, tuple) else (analytic,)
    assert len(analytic) == len(inputs)
    for i, (x, gradient) in enumerate(zip(inputs, analytic, strict=True)):
        numerical = numerical_gradient(lambda _: value(*inputs), x, upstream=d)
        assert gradient.shape == x.shape
        assert np.abs(numerical).max() > 1e-3, "the case proves nothing"
        record_property(f"max_relative_error of input {i}", max_relative_error(gradient, numerical))
        assert relative_error(gradient, numerical) <= TOLERANCE


def test_a_single_class_has_neither_loss_nor_gradient():
    z, t = np.array([[3.0], [-2.0]]), np.array([0, 0])
    assert kernels.softmax_cross_entropy_forward(z, t) == 0
    np.testing.assert_array_equal(kernels.softmax_cross_entropy_backward(z, t), np.zeros((2, 1)))


# In place

SHAPES = ((1, 1), (1, 7), (5, 1), (3, 11))


def nan_like(shape: tuple[int, ...]) -> np.ndarray:
    return np.full(shape, np.nan)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", [*ACTIVATIONS, "softmax", "exp"])
def test_forward_writes_over_its_input_or_into_out(name, shape):
    forward, _ = pair(name)
    z = np.random.default_rng(1).normal(0, 2, shape)
    before, out, plain = z.copy(), nan_like(shape), forward(z)
    np.testing.assert_array_equal(z, before)
    assert forward(z, out=out) is out
    np.testing.assert_array_equal(out, plain)
    assert forward(z, out=z) is z
    np.testing.assert_array_equal(z, plain)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", [*ACTIVATIONS, "exp"])
def test_backward_writes_over_its_gradient_or_into_out(name, shape):
    _, backward = pair(name)
    rng = np.random.default_rng(2)
    z, dy, out = rng.normal(0, 2, shape), rng.normal(size=shape), nan_like(shape)
    before, plain = (z.copy(), dy.copy()), backward(dy, z)
    np.testing.assert_array_equal(z, before[0])
    np.testing.assert_array_equal(dy, before[1])
    assert backward(dy, z, out=out) is out
    np.testing.assert_array_equal(out, plain)
    assert backward(dy, z, out=dy) is dy
    np.testing.assert_array_equal(dy, plain)
    np.testing.assert_array_equal(z, before[0])


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_relu_backward_takes_the_output_in_place_of_the_input(shape):
    rng = np.random.default_rng(3)
    z, dy = rng.normal(size=shape), rng.normal(size=shape)
    plain, y = kernels.relu_backward(dy, z), kernels.relu_forward(z)
    np.testing.assert_array_equal(plain, np.where(z > 0, dy, 0))
    np.testing.assert_array_equal(kernels.relu_backward(dy, y, out=dy), plain)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("name", NORMS)
def test_a_normalization_writes_over_its_input_or_into_out(name, shape):
    rng = np.random.default_rng(3)
    z, gain, shift = rng.normal(size=shape), rng.normal(size=shape[1]), rng.normal(size=shape[1])
    before, out, plain = z.copy(), nan_like(shape), pair(name)[0](z, gain, shift)
    np.testing.assert_array_equal(z, before)
    assert pair(name)[0](z, gain, shift, out=out) is out
    np.testing.assert_array_equal(out, plain)
    assert pair(name)[0](z, gain, shift, out=z) is z
    np.testing.assert_array_equal(z, plain)


@pytest.mark.parametrize("name", ["affine", *(f"affine_{name}" for name in ACTIVATIONS)])
@pytest.mark.parametrize(("rows", "columns", "units"), [(1, 1, 1), (1, 5, 1), (4, 7, 3)])
def test_an_affine_layer_fills_all_of_out(name, rows, columns, units):
    rng = np.random.default_rng(4)
    x, w, b = rng.normal(size=(rows, columns)), rng.normal(size=(columns, units)), rng.normal(size=units)
    out = nan_like((rows, units))
    assert pair(name)[0](x, w, b, out=out) is out
    np.testing.assert_array_equal(out, pair(name)[0](x, w, b))


# Values against formulas written down once more

FORMULAS = {
    "relu": lambda z: max(z, 0.0),
    "sigmoid": lambda z: 1 / (1 + np.exp(-z)),
    "tanh": lambda z: (np.exp(z) - np.exp(-z)) / (np.exp(z) + np.exp(-z)),
    "linear": lambda z: z,
    "leaky_relu": lambda z: z if z > 0 else 0.01 * z,
    "elu": lambda z: z if z > 0 else np.exp(z) - 1,
    "softplus": lambda z: np.log(1 + np.exp(z)),
    "gelu": lambda z: 0.5 * z * (1 + np.tanh(np.sqrt(2 / np.pi) * (z + 0.044715 * z**3))),
    "silu": lambda z: z / (1 + np.exp(-z)),
}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_follow_their_formulas(name):
    z = np.random.default_rng(5).normal(0, 3, 50)
    expected = [FORMULAS[name](float(value)) for value in z]
    np.testing.assert_allclose(pair(name)[0](z), expected, rtol=1e-12, atol=1e-14)


def softmax(z: np.ndarray) -> np.ndarray:
    return np.array([np.exp(row) / np.exp(row).sum() for row in z])


def test_softmax_follows_its_formula_row_by_row():
    z = np.random.default_rng(6).normal(0, 3, (4, 6))
    np.testing.assert_allclose(kernels.softmax_forward(z), softmax(z), rtol=1e-12)


def plain_huber(r: float, delta: float) -> tuple[float, float]:
    return (r * r / 2, r) if abs(r) <= delta else (delta * (abs(r) - delta / 2), delta * np.sign(r))


def plain_loss(
    name: str, z: np.ndarray, t: np.ndarray, *, smoothing: float = 0.0, scale: float | None = None, **options: Any
) -> tuple[np.ndarray, np.ndarray]:
    """The loss of each sample and its gradient by z, sample by sample."""
    if name == "grouped_softmax_cross_entropy":
        ends = np.cumsum(options["groups"])[:-1]
        parts = [
            plain_loss("softmax_cross_entropy", *both, smoothing=smoothing)
            for both in zip(np.split(z, ends, axis=1), t.T, strict=True)
        ]
        return sum(values for values, _ in parts), np.hstack([slopes for _, slopes in parts])
    if name == "softmax_cross_entropy":
        p, t = softmax(z), t if t.ndim == 2 else one_hot(t, z.shape[1])
        t = (1 - smoothing) * t + smoothing / z.shape[1]
        return -(t * np.log(p)).sum(axis=1), p - t
    if name == "sigmoid_cross_entropy":
        p, t = 1 / (1 + np.exp(-z)), (1 - smoothing) * t + smoothing / 2
        values, slopes = -t * np.log(p) - (1 - t) * np.log(1 - p), p - t
        values = np.minimum(values, options.get("largest", np.inf))
    elif name == "squared_error":
        values, slopes = (z - t) ** 2, 2 * (z - t)
    elif name == "absolute_error":
        values, slopes = np.abs(z - t), np.sign(z - t)
    elif name == "poisson":
        y = np.exp(z)
        values, slopes = t * np.log(t / y) - t + y, y - t
    else:
        both = np.array([plain_huber(r, options.get("delta", 1.0)) for r in (z - t).ravel()])
        values, slopes = both[:, 0].reshape(z.shape), both[:, 1].reshape(z.shape)
    scale = 1 / z.shape[1] if scale is None else scale
    return scale * values.sum(axis=1), scale * slopes


LOSS_CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "softmax_cross_entropy of integers": ("softmax_cross_entropy", {}),
    "softmax_cross_entropy of integers, smoothed": ("softmax_cross_entropy", {"smoothing": 0.2}),
    "softmax_cross_entropy of probabilities": ("softmax_cross_entropy", {}),
    "softmax_cross_entropy of probabilities, smoothed": ("softmax_cross_entropy", {"smoothing": 0.2}),
    "grouped_softmax_cross_entropy": ("grouped_softmax_cross_entropy", {}),
    "grouped_softmax_cross_entropy, smoothed": ("grouped_softmax_cross_entropy", {"smoothing": 0.2}),
    "sigmoid_cross_entropy": ("sigmoid_cross_entropy", {}),
    "sigmoid_cross_entropy, smoothed and summed": ("sigmoid_cross_entropy", {"smoothing": 0.2, "scale": 1.0}),
    "sigmoid_cross_entropy with a bound": ("sigmoid_cross_entropy", {"largest": 0.6}),
    "squared_error": ("squared_error", {"output": "linear"}),
    "squared_error, half of it": ("squared_error", {"output": "linear", "scale": 0.5}),
    "absolute_error": ("absolute_error", {"output": "linear"}),
    "absolute_error, summed": ("absolute_error", {"output": "linear", "scale": 1.0}),
    "huber": ("huber", {"output": "linear"}),
    "huber of another delta": ("huber", {"output": "linear", "delta": 0.3}),
    "huber, summed": ("huber", {"output": "linear", "scale": 1.0}),
    "poisson": ("poisson", {"output": "exp"}),
    "poisson, summed": ("poisson", {"output": "exp", "scale": 1.0}),
}


def drawn_loss(label: str, rows: int, columns: int, seed: int = 7) -> tuple[str, dict[str, Any], np.ndarray, Any]:
    """The kernel's name, its options, z and t."""
    rng = np.random.default_rng(seed)
    name, options = LOSS_CASES[label]
    z, t = rng.normal(0, 2, (rows, columns)), rng.uniform(0, 1, (rows, columns))
    if "integers" in label:
        t = rng.integers(0, columns, rows)
    elif "probabilities" in label:
        t = probabilities(rng, rows, columns)
    elif "grouped" in label:
        options = {**options, "groups": (columns - 1, 1) if columns > 1 else (1,)}
        t = np.stack([rng.integers(0, size, rows) for size in options["groups"]], axis=1)
    return name, options, z, t


@pytest.mark.parametrize("in_place", [False, True], ids=["", "over z"])
@pytest.mark.parametrize("weighted", [False, True], ids=["", "weighted"])
@pytest.mark.parametrize("shape", [(1, 1), (1, 4), (6, 1), (5, 3)], ids=str)
@pytest.mark.parametrize("label", LOSS_CASES)
def test_losses_follow_their_formulas(label, shape, weighted, in_place):
    name, options, z, t = drawn_loss(label, *shape)
    weights = np.random.default_rng(8).uniform(0.2, 2, len(z)) if weighted else None
    values, slopes = plain_loss(name, z, t, **options)
    factors = np.ones(len(z)) if weights is None else weights
    dz, db, loss = z if in_place else nan_like(shape), nan_like(shape[1:]), nan_like(())
    getattr(kernels.on(xpnet.device("cpu")), name)(z, t, weights=weights, out=dz, db=db, loss=loss, **options)
    expected = slopes * factors[:, None] / factors.sum()
    np.testing.assert_allclose(loss, (factors * values).sum(), rtol=1e-12)
    np.testing.assert_allclose(dz, expected, rtol=1e-12, atol=1e-15)
    np.testing.assert_allclose(db, expected.sum(axis=0), rtol=1e-12, atol=1e-15)


@pytest.mark.parametrize("label", LOSS_CASES)
def test_the_mean_loss_is_the_sum_over_the_sum_of_weights(label):
    name, options, z, t = drawn_loss(label, 5, 3)
    forward, _ = pair(name)
    values, _ = plain_loss(name, z, t, **options)
    weights = np.array([0.5, 0, 3, 1, 1])
    assert forward(z, t, **options) == pytest.approx(values.mean(), rel=1e-12)
    assert forward(z, t, weights=weights, **options) == pytest.approx((weights * values).sum() / 5.5, rel=1e-12)


@pytest.mark.parametrize("label", LOSS_CASES)
def test_a_batch_twice_over_has_the_same_loss_and_half_the_gradient_in_each_row(label):
    name, options, z, t = drawn_loss(label, 5, 3)
    forward, backward = pair(name)
    twice = np.concatenate([z, z]), np.concatenate([t, t])
    assert forward(*twice, **options) == pytest.approx(forward(z, t, **options), rel=1e-12)
    half = backward(z, t, **options) / 2
    np.testing.assert_allclose(backward(*twice, **options), np.concatenate([half, half]), rtol=1e-12)


@pytest.mark.parametrize("label", LOSS_CASES)
def test_weights_of_one_change_nothing(label):
    name, options, z, t = drawn_loss(label, 5, 3)
    for function in pair(name):
        plain, weighted = function(z, t, **options), function(z, t, weights=np.ones(5), **options)
        np.testing.assert_allclose(weighted, plain, rtol=1e-12)


@pytest.mark.parametrize("label", LOSS_CASES)
def test_a_weight_of_two_is_a_sample_twice(label):
    name, options, z, t = drawn_loss(label, 3, 4)
    forward, backward = pair(name)
    weights, rows = np.array([1.0, 2.0, 1.0]), [0, 1, 1, 2]
    assert forward(z, t, weights=weights, **options) == pytest.approx(forward(z[rows], t[rows], **options), rel=1e-12)
    repeated = backward(z[rows], t[rows], **options)
    merged = np.stack([repeated[0], repeated[1] + repeated[2], repeated[3]])
    np.testing.assert_allclose(backward(z, t, weights=weights, **options), merged, rtol=1e-12)


@pytest.mark.parametrize("label", LOSS_CASES)
def test_a_batch_of_weightless_samples_changes_nothing(label):
    name, options, z, t = drawn_loss(label, 3, 4)
    dz, db, loss = nan_like(z.shape), nan_like(z.shape[1:]), nan_like(())
    kernel = getattr(kernels.on(xpnet.device("cpu")), name)
    kernel(z, t, weights=np.zeros(3), out=dz, db=db, loss=loss, **options)
    assert not dz.any()
    assert not db.any()
    assert loss == 0


# Hard numbers

STRICT = {"over": "raise", "divide": "raise", "invalid": "raise"}


FAR_OUT = {  # at -s and at s: y and y, slope and slope
    "relu": lambda s: (0, s, 0, 1),
    "sigmoid": lambda s: (0, 1, 0, 0),
    "tanh": lambda s: (-1, 1, 0, 0),
    "linear": lambda s: (-s, s, 1, 1),
    "leaky_relu": lambda s: (-0.01 * s, s, 0.01, 1),
    "elu": lambda s: (-1, s, 0, 1),
    "softplus": lambda s: (0, s, 0, 1),
    "gelu": lambda s: (0, s, 0, 1),
    "silu": lambda s: (0, s, 0, 1),
}


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("name", ACTIVATIONS)
def test_activations_and_slopes_stand_ten_thousand(name, dtype):
    forward, backward = pair(name)
    s = np.array([100, 1e3, 1e4], dtype)
    with np.errstate(**STRICT):
        got = [f(z) for f in (forward, lambda z: backward(np.ones_like(z), z)) for z in (-s, s)]
    for actual, expected in zip(got, FAR_OUT[name](s), strict=True):
        np.testing.assert_allclose(actual, np.broadcast_to(expected, 3), rtol=1e-6, atol=1e-20)


@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-14)])
def test_a_sigmoid_close_to_zero_keeps_its_digits(dtype, tolerance):
    z = np.array([-30.0, -60.0], dtype)
    exact = 1 / (1 + np.exp(-z.astype(np.float64)))
    np.testing.assert_allclose(kernels.sigmoid_forward(z), exact, rtol=tolerance)
    np.testing.assert_allclose(kernels.sigmoid_backward(np.ones_like(z), z), exact * (1 - exact), rtol=tolerance)
    np.testing.assert_allclose(kernels.softplus_forward(z), np.log1p(np.exp(z.astype(np.float64))), rtol=tolerance)


@pytest.mark.parametrize("dtype", FLOATS)
def test_an_elu_close_to_zero_keeps_its_digits(dtype):
    z = np.array([-1e-6, -1e-12], dtype)
    np.testing.assert_allclose(kernels.elu_forward(z), np.expm1(z.astype(np.float64)), rtol=1e-6)


@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    ("z", "expected"),
    [
        ([[1e30, 0, -1e30]], [[1, 0, 0]]),
        ([[-1e30, -1e30, 1e30]], [[0, 0, 1]]),
        ([[1e30, 1e30]], [[0.5, 0.5]]),
        ([[-1e30, -1e30], [0, 0]], [[0.5, 0.5], [0.5, 0.5]]),
        ([[1e4, 1e4, 1e4, 1e4]], [[0.25] * 4]),
    ],
    ids=str,
)
def test_softmax_stands_huge_logits(z, expected, dtype):
    with np.errstate(**STRICT):
        np.testing.assert_array_equal(kernels.softmax_forward(np.array(z, dtype)), np.array(expected, dtype))


@pytest.mark.parametrize("dtype", FLOATS)
def test_softmax_cross_entropy_bounds_what_it_reports_and_not_its_gradient(dtype):
    z, t = np.array([[1e30, 0, 0], [0, 100, 0], [0, 0, 0]], dtype), np.array([1, 0, 2])
    with np.errstate(**STRICT):
        loss = kernels.softmax_cross_entropy_forward(z, t)
        dz = kernels.softmax_cross_entropy_backward(z, t)
    assert loss == pytest.approx((2 * -np.log(1e-10) + np.log(3)) / 3, rel=1e-6)
    third = 1 / 3
    known = np.array([[1, -1, 0], [-1, 1, 0], [third, third, third - 1]]) / 3
    np.testing.assert_allclose(dz, known, rtol=1e-6, atol=1e-7)


def test_the_bound_on_reported_losses_can_be_lifted():
    z, t = np.array([[0.0, 100.0]]), np.array([0])
    assert kernels.softmax_cross_entropy_forward(z, t, log_smallest=-np.inf) == pytest.approx(100, rel=1e-12)


@pytest.mark.parametrize("dtype", FLOATS)
def test_sigmoid_cross_entropy_stands_ten_thousand(dtype):
    z, t = np.array([[1e4], [-1e4], [1e4], [-1e4]], dtype), np.array([[1], [0], [0], [1]], dtype)
    with np.errstate(**STRICT):
        assert kernels.sigmoid_cross_entropy_forward(z, t) == pytest.approx(5e3, rel=1e-6)
        dz = kernels.sigmoid_cross_entropy_backward(z, t)
    np.testing.assert_allclose(dz, np.array([[0], [0], [1], [-1]]) / 4, rtol=1e-6, atol=1e-30)


# Any shape, both dtypes

SIZE = st.integers(1, 7)
DTYPE = st.sampled_from(FLOATS)
any_arrays = settings(deadline=None, max_examples=40)


def arrays(dtype: Any, *shape: int, low: float = -30, high: float = 30) -> st.SearchStrategy[np.ndarray]:
    width = np.dtype(dtype).itemsize * 8
    return hnp.arrays(dtype, shape, elements=st.floats(low, high, width=width, allow_subnormal=False))


def is_sound(array: Any, shape: tuple[int, ...], dtype: Any) -> bool:
    return array.shape == shape and array.dtype == dtype and bool(np.isfinite(array).all())


@any_arrays
@given(data=st.data(), name=st.sampled_from([*ACTIVATIONS, "softmax"]), rows=SIZE, columns=SIZE, dtype=DTYPE)
def test_entrywise_pairs_keep_shape_and_dtype_and_stay_finite(data, name, rows, columns, dtype):
    forward, backward = pair(name)
    z, dy = (data.draw(arrays(dtype, rows, columns)) for _ in range(2))
    assert is_sound(forward(z), z.shape, dtype)
    assert is_sound(backward(dy, z), z.shape, dtype)


@any_arrays
@given(
    data=st.data(),
    name=st.sampled_from(["affine", *(f"affine_{name}" for name in ACTIVATIONS)]),
    shape=st.lists(SIZE, min_size=2, max_size=3).map(tuple),
    units=SIZE,
    dtype=DTYPE,
)
def test_affine_pairs_keep_shape_and_dtype_and_stay_finite(data, name, shape, units, dtype):
    forward, backward = pair(name)
    x, w = data.draw(arrays(dtype, *shape)), data.draw(arrays(dtype, int(np.prod(shape[1:])), units))
    b, dy = data.draw(arrays(dtype, units)), data.draw(arrays(dtype, len(x), units))
    assert is_sound(forward(x, w, b), dy.shape, dtype)
    for gradient, given_array in zip(backward(dy, x, w, b), (x, w, b), strict=True):
        assert is_sound(gradient, given_array.shape, dtype)


@any_arrays
@given(data=st.data(), label=st.sampled_from(sorted(LOSS_CASES)), rows=SIZE, columns=SIZE, dtype=DTYPE)
def test_losses_keep_shape_and_dtype_and_stay_finite(data, label, rows, columns, dtype):
    name, options, _, t = drawn_loss(label, rows, columns)
    z, t = data.draw(arrays(dtype, rows, columns)), t if t.dtype.kind == "i" else t.astype(dtype)
    weights = data.draw(st.none() | arrays(dtype, rows, low=0.25, high=4))
    forward, backward = pair(name)
    assert is_sound(forward(z, t, weights=weights, **options), (), dtype)
    assert is_sound(backward(z, t, weights=weights, **options), z.shape, dtype)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_whole_numbers_are_computed_in_double_precision(name):
    z = [[-2, 0], [1, 3]]
    y = pair(name)[0](z)
    assert y.dtype == np.float64
    np.testing.assert_array_equal(y, pair(name)[0](np.array(z, np.float64)))
