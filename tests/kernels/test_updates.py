"""Parameter updates against PyTorch's documented rules, written down for single numbers, and on small landscapes."""

import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from sklearn.neural_network._stochastic_optimizers import AdamOptimizer, SGDOptimizer

import xpnet
from xpnet import kernels
from xpnet.devices import Plain
from xpnet.network import MLP
from xpnet.optimizers import SGD, AdaGrad, Adam, AdamW, RMSProp

STEPS = 5
SIZES = (3, 4, 2)
ROWS = 6

# The rules: from one parameter, its gradients (as clipped), the rates and l2 to what it becomes


def sgd(w: float, gradients: list[float], rates: list[float], l2: float, o: SGD) -> float:
    for g, lr in zip(gradients, rates, strict=True):
        w = (1 - lr * l2) * w - lr * g
    return w


def sgd_with_momentum(w: float, gradients: list[float], rates: list[float], l2: float, o: SGD) -> float:
    velocity = None
    for g, lr in zip(gradients, rates, strict=True):
        g = g + l2 * w
        velocity = g if velocity is None else o.momentum * velocity + g
        w -= lr * (g + o.momentum * velocity if o.nesterov else velocity)
    return w


def adam(w: float, gradients: list[float], rates: list[float], l2: float, o: Adam) -> float:
    m = v = 0.0
    for t, (g, lr) in enumerate(zip(gradients, rates, strict=True), 1):
        if isinstance(o, AdamW):
            w -= lr * l2 * w
        else:
            g = g + l2 * w
        m = o.beta1 * m + (1 - o.beta1) * g
        v = o.beta2 * v + (1 - o.beta2) * g**2
        m_hat, v_hat = m / (1 - o.beta1**t), v / (1 - o.beta2**t)
        w -= lr * m_hat / (math.sqrt(v_hat) + o.eps)
    return w


def rmsprop(w: float, gradients: list[float], rates: list[float], l2: float, o: RMSProp) -> float:
    v = 0.0
    for g, lr in zip(gradients, rates, strict=True):
        g = g + l2 * w
        v = o.alpha * v + (1 - o.alpha) * g**2
        w -= lr * g / (math.sqrt(v) + o.eps)
    return w


def adagrad(w: float, gradients: list[float], rates: list[float], l2: float, o: AdaGrad) -> float:
    total = 0.0
    for g, lr in zip(gradients, rates, strict=True):
        g = g + l2 * w
        total += g**2
        w -= lr * g / (math.sqrt(total) + o.eps)
    return w


Rule = Callable[[float, list[float], list[float], float, Any], float]

# eps is large, so that a wrong place for it shows.
OPTIMIZERS: dict[str, tuple[Any, Rule]] = {
    "sgd": (SGD(lr=0.05), sgd),
    "momentum": (SGD(lr=0.05, momentum=0.8), sgd_with_momentum),
    "nesterov": (SGD(lr=0.05, momentum=0.8, nesterov=True), sgd_with_momentum),
    "nesterov without momentum": (SGD(lr=0.05, nesterov=True), sgd_with_momentum),
    "adam": (Adam(lr=0.1, beta1=0.8, beta2=0.95, eps=0.2), adam),
    "adam with its defaults": (Adam(), adam),
    "adamw": (AdamW(lr=0.1, beta1=0.8, beta2=0.95, eps=0.2), adam),
    "adamw with its defaults": (AdamW(), adam),
    "rmsprop": (RMSProp(lr=0.1, alpha=0.9, eps=0.2), rmsprop),
    "rmsprop with its defaults": (RMSProp(), rmsprop),
    "adagrad": (AdaGrad(lr=0.1, eps=0.2), adagrad),
    "adagrad with its defaults": (AdaGrad(), adagrad),
}

each_optimizer = pytest.mark.parametrize(("options", "rule"), OPTIMIZERS.values(), ids=OPTIMIZERS)


def network(seed: int = 0) -> MLP:
    return MLP(SIZES, init="normal(1)", bias_init="normal(1)", seed=seed, dtype="float64")


def products(seed: int = 1) -> Iterator[list[tuple[np.ndarray, np.ndarray]]]:
    """Step by step and layer by layer, the factors x and dz of a gradient."""
    rng = np.random.default_rng(seed)
    for _ in range(STEPS):
        yield [(rng.normal(size=(ROWS, i)), rng.normal(size=(ROWS, o))) for i, o in itertools.pairwise(SIZES)]


def clipped(gradients: list[np.ndarray], limit: float | None) -> list[np.ndarray]:
    """As torch.nn.utils.clip_grad_norm_."""
    if limit is None:
        return gradients
    norm = math.sqrt(sum(float(g) ** 2 for array in gradients for g in array.ravel()))
    return [array * min(1.0, limit / (norm + 1e-6)) for array in gradients]


def after_steps(net: MLP, options: Any, l2: float, clip_norm: float | None, rates: np.ndarray) -> Any:
    """The update, when it has taken all steps as a training program would have it do."""
    k, update = net.k, options.bind(net.parameters, decays=bool(l2), clip_norm=clip_norm)
    table = update.table(np.arange(STEPS), rates, np.full(STEPS, l2))
    assert set(update.columns) <= set(table)
    for step, layers in enumerate(products()):
        row = {column: np.array(table[column][step]) for column in update.columns}
        alpha, beta = update.scales(row)
        for i, (x, dz) in enumerate(layers):
            k.affine_biases(dz, out=update.grads.b[i])
            k.affine_weights(x, dz, out=update.target[i], alpha=alpha, beta=beta)
        update.apply(k, row)
    return update


@pytest.mark.parametrize("clip_norm", [None, 3.0, 1e6], ids=["", "clipped", "clipped beyond reach"])
@pytest.mark.parametrize("l2", [0.0, 0.3], ids=["", "with l2"])
@each_optimizer
def test_five_steps_follow_the_documented_rule(options, rule, l2, clip_norm):
    net = network()
    before = [(name, view.copy()) for name, view in net.parameters.named()]
    rates = options.lr * np.array([1, 0.5, 2, 0.25, 1])
    gradients = [
        clipped([g for x, dz in layers for g in (x.T @ dz, dz.sum(axis=0))], clip_norm) for layers in products()
    ]
    after_steps(net, options, l2, clip_norm, rates)
    for i, ((name, start), (_, view)) in enumerate(zip(before, net.parameters.named(), strict=True)):
        expected = np.empty_like(start)
        for place in np.ndindex(start.shape):
            slopes = [float(step[i][place]) for step in gradients]
            expected[place] = rule(start[place], slopes, list(rates), l2 if name.startswith("w") else 0.0, options)
        assert np.abs(expected - start).max() > options.lr / 10, "the case proves nothing"
        np.testing.assert_allclose(view, expected, rtol=1e-10, atol=1e-12, err_msg=name)


@pytest.mark.parametrize("clip_norm", [None, 3.0], ids=["", "clipped"])
@pytest.mark.parametrize("l2", [0.0, 0.3], ids=["", "with l2"])
@each_optimizer
def test_the_padding_between_parameters_stays_zero(options, rule, l2, clip_norm):
    net = network()
    update = after_steps(net, options, l2, clip_norm, np.full(STEPS, options.lr))
    of_a_view = net.parameters.like()
    for _, view in of_a_view.named():
        view.fill(1)
    padding = of_a_view.flat == 0
    assert padding.any()
    for block in (net.parameters.flat, update.grads.flat, *update.state):
        assert not block[padding].any()


def first_row(update: Any, l2: float) -> dict[str, np.ndarray]:
    """The numbers of a first step at a rate of 0.1."""
    table = update.table(np.arange(1), np.array([0.1]), np.array([l2]))
    return {column: np.array(table[column][0]) for column in update.columns}


@each_optimizer
def test_without_a_gradient_only_l2_moves_weights_and_nothing_moves_biases(options, rule):
    for l2 in (0.0, 0.3):
        net = network()
        before = net.parameters.flat.copy()
        update = options.bind(net.parameters, decays=bool(l2), clip_norm=1.0)
        update.apply(net.k, first_row(update, l2))
        weights = len(net.parameters.weights)
        np.testing.assert_array_equal(net.parameters.biases, before[weights:])
        moved = net.parameters.weights != before[:weights]
        np.testing.assert_array_equal(moved, (before[:weights] != 0) & (l2 > 0))


@each_optimizer
def test_every_step_has_its_own_penalty(options, rule):
    net = network()
    update = options.bind(net.parameters, decays=True, clip_norm=1.0)  # of plain steps, the penalty rides in a product
    table = update.table(np.arange(3), np.full(3, 0.1), np.array([0.0, 0.3, 0.0]))
    moved = []
    for step in range(3):
        before, state = net.parameters.weights.copy(), [moment.copy() for moment in update.state]
        update.apply(net.k, {column: np.array(table[column][step]) for column in update.columns})
        moved.append(not np.array_equal(net.parameters.weights, before))
        for moment, kept in zip(update.state, state, strict=True):
            moment[:] = kept
    assert moved == [False, True, False]


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("constant", [True, False], ids=["floats", "0-d arrays"])
@pytest.mark.parametrize(("alpha", "beta"), [(1.0, 0.0), (-0.25, 0.0), (1.0, 1.0), (-0.25, 0.875)])
def test_a_step_rides_in_the_product_of_the_weight_gradient(alpha, beta, constant, dtype):
    rng = np.random.default_rng(3)
    x, dz, out = (rng.normal(size=shape).astype(dtype) for shape in ((6, 4), (6, 3), (4, 3)))
    expected = alpha * x.T.astype(float) @ dz + beta * out.astype(float)
    if constant and beta == 0:
        out.fill(np.nan)  # not read
    rates = (alpha, beta) if constant else (np.array(alpha, dtype), np.array(beta, dtype))
    kernels.on(Plain()).affine_weights(x, dz, out=out, alpha=rates[0], beta=rates[1])
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-5 if dtype == "float32" else 1e-13)


def kernel_steps(k: Any) -> dict[str, tuple[int, Callable[..., None]]]:
    """By name, how many moments a kernel has and a call of it at step t (from 1)."""
    fixed = {"l2": None, "clip": None}

    def adam_step(update: Any, w: Any, g: Any, m: Any, v: Any, lr: float, t: int, **rest: Any) -> None:
        correction = math.sqrt(1 - 0.999**t)
        size, eps = np.array(lr * correction / (1 - 0.9**t)), np.array(1e-8 * correction)
        update(w, g, m, v, size=size, eps=eps, beta1=0.9, beta2=0.999, clip=None, **rest)

    return {
        "sgd": (0, lambda w, g, lr, t: k.sgd_update(w, g, lr=np.array(lr))),
        "momentum": (1, lambda w, g, v, lr, t: k.momentum_update(w, g, v, lr=np.array(lr), momentum=0.9, **fixed)),
        "nesterov": (1, lambda w, g, v, lr, t: k.nesterov_update(w, g, v, lr=np.array(lr), momentum=0.9, **fixed)),
        "velocity": (1, lambda w, g, v, lr, t: k.velocity_update(w, g, v, lr=np.array(lr), momentum=0.9, **fixed)),
        "nesterov velocity": (
            1,
            lambda w, g, v, lr, t: k.nesterov_velocity_update(w, g, v, lr=np.array(lr), momentum=0.9, **fixed),
        ),
        "adam": (2, lambda w, g, m, v, lr, t: adam_step(k.adam_update, w, g, m, v, lr, t, l2=None)),
        "adamw": (2, lambda w, g, m, v, lr, t: adam_step(k.adamw_update, w, g, m, v, lr, t, keep=None)),
        "rmsprop": (
            1,
            lambda w, g, v, lr, t: k.rmsprop_update(w, g, v, lr=np.array(lr), alpha=0.99, eps=1e-8, **fixed),
        ),
        "adagrad": (1, lambda w, g, v, lr, t: k.adagrad_update(w, g, v, lr=np.array(lr), eps=1e-10, **fixed)),
    }


def parabola(w: np.ndarray) -> np.ndarray:
    """The gradient of (x - 3)^2 + 5 (y + 1)^2."""
    return np.array([2 * (w[0] - 3), 10 * (w[1] + 1)])


def rosenbrock(w: np.ndarray) -> np.ndarray:
    """The gradient of (1 - x)^2 + 100 (y - x^2)^2, whose minimum lies in a narrow bent valley."""
    x, y = float(w[0]), float(w[1])
    return np.array([-2 * (1 - x) - 400 * x * (y - x * x), 200 * (y - x * x)])


LANDSCAPES = {
    "parabola": (parabola, (0.0, 0.0), (3.0, -1.0)),
    "rosenbrock": (rosenbrock, (-1.2, 1.0), (1.0, 1.0)),
}


@pytest.mark.parametrize(
    ("name", "landscape", "lr", "steps"),
    [
        ("sgd", "parabola", 0.1, 100),
        ("momentum", "parabola", 0.02, 300),
        ("nesterov", "parabola", 0.02, 300),
        ("velocity", "parabola", 0.02, 300),
        ("nesterov velocity", "parabola", 0.02, 300),
        ("adam", "parabola", 0.1, 500),
        ("adamw", "parabola", 0.1, 500),
        ("rmsprop", "parabola", 0.01, 1000),
        ("adagrad", "parabola", 0.5, 1000),
        ("sgd", "rosenbrock", 0.001, 20000),
        ("momentum", "rosenbrock", 0.0005, 5000),
        ("nesterov", "rosenbrock", 0.0005, 5000),
        ("velocity", "rosenbrock", 0.0005, 5000),
        ("nesterov velocity", "rosenbrock", 0.0005, 5000),
        ("adam", "rosenbrock", 0.02, 5000),
        ("adamw", "rosenbrock", 0.02, 5000),
        ("rmsprop", "rosenbrock", 0.002, 10000),
        ("adagrad", "rosenbrock", 0.5, 10000),
    ],
)
def test_every_kernel_finds_the_minimum(name, landscape, lr, steps):
    gradient, start, minimum = LANDSCAPES[landscape]
    slots, step = kernel_steps(kernels.on(Plain()))[name]
    w, moments = np.array(start), [np.zeros(2) for _ in range(slots)]
    for t in range(1, steps + 1):
        step(w, gradient(w), *moments, lr=lr, t=t)
    np.testing.assert_allclose(w, minimum, rtol=0, atol=0.02)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("limit", [0.5, 1.0, 1e3])
@pytest.mark.parametrize("g", [[3.0, 4.0], [0.3, -0.4], [0.0, 0.0], [1e6, 0.0, -1e6]], ids=str)
def test_clip_scale_bounds_the_norm_and_keeps_small_gradients(g, limit, dtype):
    g, scale = np.array(g, dtype), np.full((), np.nan, dtype)
    kernels.on(Plain()).clip_scale(g, limit=limit, out=scale)
    norm = float(np.linalg.norm(g.astype(np.float64)))
    assert np.linalg.norm(g * scale) <= limit * (1 + 1e-6)
    assert scale == pytest.approx(min(1, limit / (norm + 1e-6)), rel=1e-6)
    assert (scale == 1) == (norm + 1e-6 <= limit)


each_device = pytest.mark.parametrize("device", ["numpy", "cpu"])


@each_device
@pytest.mark.parametrize("l2", [0.0, 0.3])
@pytest.mark.parametrize("nesterov", [False, True])
def test_velocities_are_those_of_scikit_learn(nesterov, l2, device):
    rng, momentum = np.random.default_rng(4), 0.8
    w = rng.normal(size=500)
    learnt, velocity = w.copy(), np.zeros_like(w)
    theirs = SGDOptimizer([w], momentum=momentum, nesterov=nesterov)
    k = kernels.on(xpnet.device(device))
    update = k.nesterov_velocity_update if nesterov else k.velocity_update
    for lr in (0.1, 0.1, 0.02, 0.004, 0.3):
        g, theirs.learning_rate = rng.normal(size=500), lr
        theirs.update_params([w], [g + l2 * w])
        penalty = np.array(l2) if l2 else None
        update(learnt, g, velocity, lr=np.array(lr), momentum=momentum, l2=penalty, clip=None)
    np.testing.assert_allclose(learnt, w, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(velocity, theirs.velocities[0], rtol=1e-12, atol=1e-12)


@each_device
def test_adam_without_correction_of_eps_is_scikit_learn_s(device):
    rng = np.random.default_rng(5)
    w = rng.normal(size=500)
    learnt, m, v = w.copy(), np.zeros_like(w), np.zeros_like(w)
    theirs = AdamOptimizer([w], 0.1, 0.8, 0.95, 0.2)
    for t in range(1, 6):
        g = rng.normal(size=500)
        theirs.update_params([w], [g])
        size = np.array(0.1 * math.sqrt(1 - 0.95**t) / (1 - 0.8**t))
        options = {"size": size, "eps": np.array(0.2), "beta1": 0.8, "beta2": 0.95, "l2": None, "clip": None}
        kernels.on(xpnet.device(device)).adam_update(learnt, g, m, v, **options)
    np.testing.assert_allclose(learnt, w, rtol=1e-12, atol=1e-12)


@each_device
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_max_norm_shortens_long_columns_and_leaves_the_others(dtype, device):
    w = np.random.default_rng(6).normal(size=(300, 70)).astype(dtype)
    w[:, ::2] *= 3
    w[:, 5] = 0
    before, limit = w.copy(), 20.0
    kernels.on(xpnet.device(device)).max_norm(w, limit=limit)
    norms = np.linalg.norm(before.astype(float), axis=0)
    long = norms > limit
    assert 0 < long.sum() < 70
    np.testing.assert_array_equal(w[:, ~long], before[:, ~long])
    expected = before[:, long] * (limit / norms[long])
    np.testing.assert_allclose(w[:, long], expected, rtol=1e-5 if dtype == "float32" else 1e-12)


def test_squared_norm_is_the_sum_of_squares():
    out = np.full((), np.nan)
    kernels.on(Plain()).squared_norm(np.array([1.0, -2.0, 3.0]), out=out)
    assert out == 14


@each_optimizer
def test_the_gradient_is_left_as_it_was(options, rule):
    net = network()
    update = options.bind(net.parameters, decays=True, clip_norm=0.5)
    update.grads.flat[:] = np.random.default_rng(2).normal(size=update.grads.flat.shape)
    before = update.grads.flat.copy()
    update.apply(net.k, first_row(update, 0.3))
    np.testing.assert_array_equal(update.grads.flat, before)
