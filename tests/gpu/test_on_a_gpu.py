"""Training on a GPU: what only a real one can show. Every expectation comes from the references on the CPU."""

import functools
import gc
import itertools
from typing import Any

import numpy as np
import pytest
import test_checkpoint as resuming
import test_program as program
from gpu.test_kernels_on_cpu import (
    GATHER_SHAPES,
    GATHERS,
    LARGE,
    LARGE_SHAPES,
    NORM_SHAPES,
    NORMALIZED,
    NORMALIZED_SHAPES,
    NORMS,
    WITH_SLOPE,
)
from kernels.test_parity import assert_same_effects, effects

import xpnet
from xpnet import kernels, memory
from xpnet.data.samples import Samples
from xpnet.data.transform import InputTransform
from xpnet.devices.cuda.twins.columns import convert
from xpnet.devices.cuda.twins.dropout import rectified
from xpnet.kernels import ACTIVATIONS
from xpnet.program import Chunk

pytestmark = pytest.mark.gpu

OPTIMIZERS = program.OPTIMIZERS | {"rmsprop": xpnet.RMSProp(0.003)}
PRECISIONS = ("fp32", "tf32", "bf16")
EXACT, CLOSE = {"rtol": 1e-9, "atol": 1e-11}, {"rtol": 2e-3, "atol": 1e-5}
"""For float64 and float32. Rounding grows from step to step; where a gradient is all rounding, so is Adam's step."""

ROWS, BATCH, EPOCHS = 700, 32, 3
SIZES = (40, 48, 24, 5)

REGULARIZED: dict[str, dict[str, Any]] = {
    "dropout": {"dropout": 0.3},
    "dropout, gelu": {"dropout": (0.3, 0.0), "activations": "gelu"},
    "dropout, tanh": {"dropout": (0.0, 0.4), "activations": "tanh"},
    "batch norm": {"normalization": "batch"},
    "layer norm": {"normalization": "layer"},
    "batch norm and dropout": {"normalization": "batch", "dropout": 0.2, "max_norm": 1.5},
    "layer norm and dropout, silu": {"normalization": "layer", "dropout": 0.2, "activations": "silu"},
    "smoothed labels": {"label_smoothing": 0.1, "max_norm": 0.8},
}


@functools.cache
def gpu(precision: str = "fp32", *, eager: bool = False) -> Any:
    return xpnet.device("cuda", precision=precision, eager=eager)


@functools.cache
def digits(rows: int = ROWS, classes: int = SIZES[-1]) -> tuple[np.ndarray, np.ndarray]:
    """Bytes, and classes that depend on them."""
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (rows, SIZES[0])).astype(np.uint8)
    return x, ((x - 127.5) @ rng.normal(size=(SIZES[0], classes))).argmax(axis=1)


def train(device: Any, x: Any = None, y: Any = None, **options: Any) -> Any:
    """A trained network and its history; the last batch of each epoch is partial."""
    if x is None:
        x, y = digits()
    made = {key: options.pop(key) for key in ("activations", "output", "dtype", "normalization") if key in options}
    weights, sizes = options.pop("weights", None), options.pop("sizes", SIZES)
    network = xpnet.MLP(sizes, device=device, seed=3, **made)
    if getattr(x, "dtype", None) == np.uint8:
        network.transform = InputTransform(1 / 255, np.full(sizes[0], 0.4))
    options = {"batch_size": BATCH, "epochs": EPOCHS, "seed": 5} | options
    trainer = xpnet.Trainer(network, **options)
    history = trainer.fit(x, y, sample_weight=weights, validation=(x[:100], y[:100]))
    return network, history, trainer


def flat(network: Any) -> np.ndarray:
    with network.device:
        return network.device.to_host(network.parameters.flat)


def assert_same_training(one: Any, other: Any) -> None:
    """Bit for bit."""
    np.testing.assert_array_equal(one[1].step_losses, other[1].step_losses)
    np.testing.assert_array_equal(one[1].column("val_loss"), other[1].column("val_loss"))
    np.testing.assert_array_equal(flat(one[0]), flat(other[0]))


def assert_close_training(one: Any, other: Any, **tolerance: float) -> None:
    np.testing.assert_allclose(one[1].step_losses, other[1].step_losses, **tolerance)
    np.testing.assert_allclose(one[1].column("val_loss"), other[1].column("val_loss"), **tolerance)
    if tolerance == EXACT:
        np.testing.assert_allclose(flat(one[0]), flat(other[0]), **tolerance)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_training_gives_what_the_cpu_gives(name, dtype):
    for options in ({}, {"l2": 1e-2, "clip_norm": 0.5}):
        options = options | {"optimizer": OPTIMIZERS[name], "dtype": dtype}
        expected = train("numpy", **options)
        assert_close_training(train(gpu(), **options), expected, **(EXACT if dtype == "float64" else CLOSE))


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_a_replay_gives_the_bits_of_eager_launches(name, precision):
    for activation in ("relu", "gelu", "tanh"):
        options = {"optimizer": OPTIMIZERS[name], "activations": activation}
        assert_same_training(train(gpu(precision), **options), train(gpu(precision, eager=True), **options))


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("name", REGULARIZED)
def test_regularized_training_gives_what_the_cpu_gives(name, dtype):
    """The same masks; running means and variances, where there are any, show in the validation."""
    for optimizer in ("sgd", "adam"):
        options = {"optimizer": OPTIMIZERS[optimizer], "dtype": dtype, "final_weights": "last", **REGULARIZED[name]}
        (cpu, *_), (network, *_) = one, other = train("numpy", **options), train(gpu(), **options)
        assert_close_training(other, one, **(EXACT if dtype == "float64" else CLOSE))
        if dtype == "float64":
            for there, here in zip(network.state, cpu.state, strict=True):
                np.testing.assert_allclose(network.device.to_host(there), here, **EXACT)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("name", REGULARIZED)
def test_a_regularized_replay_gives_the_bits_of_eager_launches(name, precision):
    options = {"optimizer": OPTIMIZERS["adam"], **REGULARIZED[name]}
    replayed = train(gpu(precision), **options)
    assert_same_training(replayed, train(gpu(precision, eager=True), **options))
    assert_same_training(replayed, train(gpu(precision), **options))


@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 2e-2), ("bf16", 0.2)])
@pytest.mark.parametrize("name", REGULARIZED)
def test_regularized_training_in_other_precisions_is_close_to_fp32(name, precision, tolerance):
    x, y = digits(classes=8)
    options = {"optimizer": OPTIMIZERS["sgd"], "sizes": (*SIZES[:-1], 8), **REGULARIZED[name]}
    expected, losses = (train(gpu(of), x, y, **options)[1].step_losses for of in ("fp32", precision))
    np.testing.assert_allclose(losses, expected, rtol=tolerance)
    assert not np.array_equal(losses, expected), "nothing was rounded"


@pytest.mark.parametrize("eager", [False, True])
def test_how_many_steps_are_gathered_together_changes_no_bit(eager, monkeypatch):
    """One graph of all steps, or one of three steps that is recorded many times over, and the rest."""
    expected = train(gpu(), optimizer=OPTIMIZERS["adam"])
    monkeypatch.setattr(type(gpu(eager=eager)), "gathered_bytes", 3 * BATCH * SIZES[0] * 4)
    assert_same_training(train(gpu(eager=eager), optimizer=OPTIMIZERS["adam"]), expected)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_same_seed_gives_the_same_bits(precision):
    """On the same device and on one that was opened anew; 784-300-100-10 has products that are split."""
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (3000, 784)).astype(np.uint8), rng.integers(0, 10, 3000)
    options = {"sizes": (784, 300, 100, 10), "optimizer": xpnet.Adam(1e-3), "batch_size": 128, "epochs": 2}
    first = train(gpu(precision), x, y, **options)
    for device in (gpu(precision), gpu(precision), xpnet.device("cuda", precision=precision)):
        assert_same_training(train(device, x, y, **options), first)


@pytest.mark.parametrize(("precision", "tolerance"), [("tf32", 5e-3), ("bf16", 5e-2)])
@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
def test_the_other_precisions_are_close_to_fp32_and_not_it(precision, tolerance, activation):
    """Widths are multiples of 4, without which tensor cores have no tf32."""
    x, y = digits(classes=8)
    options = {"optimizer": OPTIMIZERS["sgd"], "activations": activation, "sizes": (*SIZES[:-1], 8)}
    network, history, _ = train(gpu(), x, y, **options)
    rounded, rounded_history, _ = train(gpu(precision), x, y, **options)
    np.testing.assert_allclose(rounded_history.step_losses, history.step_losses, rtol=tolerance)
    assert not np.array_equal(flat(rounded), flat(network)), "nothing was rounded"


@pytest.mark.parametrize(("precision", "largest"), [("tf32", 2e-3), ("bf16", 2e-2)])
def test_products_are_rounded_as_the_precision_says(precision, largest):
    """tf32 keeps 10 bits of each factor, bfloat16 7."""
    rng = np.random.default_rng(0)
    a, b = (rng.uniform(0.5, 1, (256, 256)).astype(np.float32) for _ in range(2))
    products = []
    for device in (gpu(), gpu(precision)):
        with device:
            factors = [device.operands(array.shape, np.float32) for array in (a, b)]
            for factor, array in zip(factors, (a, b), strict=True):
                convert(kernels.on(device), device.asarray(array), out=factor)
            out = device.empty(a.shape, np.float32)
            device.gemm(*factors, out=out)
            products.append(device.to_host(out))
    exact, rounded = products
    np.testing.assert_allclose(exact, a.astype(np.float64) @ b, rtol=1e-5)
    errors = np.abs(rounded / exact - 1)
    assert 1e-5 < errors.max() < largest


def test_gradients_are_the_differences_of_the_loss():
    """Of a float64 network, by the program itself: one step of plain gradient descent at a learning rate of 1."""
    device, sizes, h = gpu(), (6, 7, 5, 3), 1e-5
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(33, 6)), rng.integers(0, 3, 33)
    for activation, (output, targets), normalization in itertools.product(
        ("tanh", "gelu", "silu"), [("softmax", y), ("linear", rng.normal(size=(33, 3)))], (None, "layer")
    ):
        made = {"normalization": normalization, "device": device, "dtype": "float64", "seed": 1}
        network = xpnet.MLP(sizes, activation, output, **made)
        trainer = xpnet.Trainer(network, optimizer=xpnet.SGD(1.0), l2=0.1, batch_size=33, steps=1)
        samples = trainer._samples(x, targets)
        training = trainer.prepare(samples)
        start = flat(network)
        training.program.run(
            Chunk(samples.rows, training.update.table(np.zeros(1), np.ones(1), np.full(1, trainer.l2)))
        )
        gradient = start - flat(network)

        def loss(at: np.ndarray, network: Any = network, trainer: Any = trainer, samples: Any = samples) -> float:
            with network.device:
                network.device.upload(at, out=network.parameters.flat)
            return trainer.measure(samples)["loss"] + trainer.penalty()

        places = np.flatnonzero(gradient)
        for place in rng.choice(places, 12, replace=False):
            sides = []
            for side in (h, -h):
                moved = start.copy()
                moved[place] += side
                sides.append(loss(moved))
            assert gradient[place] == pytest.approx((sides[0] - sides[1]) / (2 * h), rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_every_activation_trains(activation):
    for dtype, tolerance in (("float64", EXACT), ("float32", CLOSE)):
        options = {"activations": activation, "optimizer": OPTIMIZERS["sgd"], "dtype": dtype}
        assert_close_training(train(gpu(), **options), train("numpy", **options), **tolerance)


@pytest.mark.parametrize(
    ("loss", "output"),
    [*itertools.product(("mse", "mae", "huber"), ("linear", "tanh", "sigmoid")), ("poisson", "exp")],
)
def test_regression_trains(loss, output):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(300, 8)), rng.normal(size=(300, 2))
    y = np.floor(abs(2 * y)) if loss == "poisson" else y
    options = {"sizes": (8, 20, 2), "output": output, "loss": loss, "activations": "tanh", "dtype": "float64"}
    expected = train("numpy", x, y, optimizer=OPTIMIZERS["momentum"], **options)
    assert_close_training(train(gpu(), x, y, optimizer=OPTIMIZERS["momentum"], **options), expected, **EXACT)


def test_labels_and_sample_weights_train():
    rng = np.random.default_rng(3)
    x = rng.normal(size=(300, 8))
    weights = rng.uniform(0, 2, 300)
    weights[::7] = 0
    cases = [((8, 20, 4), "sigmoid", rng.integers(0, 2, (300, 4))), ((8, 20, 5), "softmax", rng.integers(0, 5, 300))]
    cases += [((8, 20, 1), "sigmoid", rng.integers(0, 2, 300))]
    for sizes, output, y in cases:
        trainings = []
        for device in ("numpy", gpu()):
            network = xpnet.MLP(sizes, "tanh", output, device=device, dtype="float64")
            trainer = xpnet.Trainer(network, optimizer="adam", batch_size=32, epochs=3)
            trainings.append((network, trainer.fit(x, y, sample_weight=weights)))
        (cpu, expected), (network, history) = trainings
        np.testing.assert_allclose(history.step_losses, expected.step_losses, **EXACT)
        np.testing.assert_allclose(flat(network), flat(cpu), **EXACT)


def test_sparse_samples_train():
    sparse = pytest.importorskip("scipy.sparse")
    rng = np.random.default_rng(4)
    x = sparse.random_array((200, 300), density=0.02, rng=rng, format="csr")
    y = rng.integers(0, 3, 200)
    options = {"sizes": (300, 12, 3), "dtype": "float64", "optimizer": OPTIMIZERS["sgd"]}
    assert_close_training(train(gpu(), x, y, **options), train("numpy", x, y, **options), **EXACT)


def test_many_samples_in_a_batch_train():
    """More than a block, or a wave of blocks, adds up."""
    x, y = digits(9000)
    for batch in (1, 2000, 9000):
        options = {"batch_size": batch, "steps": 3, "dtype": "float64", "optimizer": OPTIMIZERS["sgd"]}
        assert_close_training(train(gpu(), x, y, **options), train("numpy", x, y, **options), **EXACT)


def test_evaluations_and_predictions_are_those_of_the_cpu():
    x, y = digits(10_000)
    cpu, _, trainer = train("numpy", epochs=1, optimizer="adam")
    for precision, tolerance in (("fp32", 1e-4), ("tf32", 5e-3), ("bf16", 5e-2)):
        network = xpnet.MLP(SIZES, device=gpu(precision))
        with network.device:
            network.device.upload(flat(cpu), out=network.parameters.flat)
        network.transform, network.task, network.classes = cpu.transform, cpu.task, cpu.classes
        np.testing.assert_allclose(network.predict_proba(x), cpu.predict_proba(x), atol=tolerance)
        expected = trainer.evaluate(x, y)
        measured = xpnet.Trainer(network).evaluate(x, y)
        assert measured["loss"] == pytest.approx(expected["loss"], rel=tolerance)
        assert measured["accuracy"] == pytest.approx(expected["accuracy"], abs=max(2e-4, tolerance))
        agree = (network.predict(x) == cpu.predict(x)).mean()
        assert agree >= 1 - max(1e-3, tolerance)


@pytest.mark.parametrize(
    ("weighted", "more"), [(False, {}), (True, {}), (False, REGULARIZED["batch norm and dropout"])]
)
def test_samples_that_do_not_fit_come_by_windows_with_the_same_bits(weighted, more, monkeypatch):
    x, y = digits(6000)
    weights = np.random.default_rng(0).uniform(0.5, 2, len(x)) if weighted else None
    options = {"optimizer": OPTIMIZERS["adam"], "weights": weights, **more}
    expected = train(gpu(), x, y, **options)
    device = xpnet.device("cuda")
    with_room_for(device, 1200, more.get("normalization"), monkeypatch)
    windows = []
    foresee = memory.foresee

    def noting(*arguments: Any, **named: Any) -> Any:
        plan = foresee(*arguments, **named)
        windows.append(plan.window)
        return plan

    monkeypatch.setattr("xpnet.training.foresee", noting)
    streamed = train(device, x, y, **options)
    assert windows[0] is not None, "all samples fit"
    assert windows[0] < len(x)
    np.testing.assert_array_equal(streamed[1].step_losses, expected[1].step_losses)
    np.testing.assert_array_equal(flat(streamed[0]), flat(expected[0]))
    val_losses = (training[1].column("val_loss") for training in (streamed, expected))
    np.testing.assert_allclose(*val_losses, rtol=1e-5)  # added up by other blocks


def with_room_for(device: Any, rows: int, normalization: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    """As little memory as holds a training with so many of the digits."""
    monkeypatch.setattr(type(device), "block_rows", 64)
    network = xpnet.MLP(SIZES, normalization=normalization, device=device)
    blocks = memory.TRAINING_BLOCKS * sum(array.nbytes for array in network.state)
    sample = SIZES[0] + 2 * network.dtype.itemsize
    gathered = 40 * BATCH  # a bound on what is gathered together
    monkeypatch.setattr(type(device), "gathered_bytes", gathered * SIZES[0] * network.dtype.itemsize)
    needed = blocks + memory.buffer_bytes(network, 64, gathered) + 4 * rows * sample
    monkeypatch.setattr(type(device), "free_memory", property(lambda _: int(needed / (1 - memory.RESERVE))))


def test_memory_that_does_not_suffice_is_foreseen(monkeypatch):
    device = xpnet.device("cuda")
    network = xpnet.MLP(SIZES, device=device)
    monkeypatch.setattr(type(device), "free_memory", property(lambda _: 5000))
    with pytest.raises(xpnet.OutOfMemoryError, match="cuda:0"):
        xpnet.Trainer(network).fit(*digits())


@pytest.mark.parametrize(
    ("optimizer", "more"),
    [("sgd", {}), ("adam", {}), ("adam", REGULARIZED["batch norm and dropout"]), ("sgd", REGULARIZED["layer norm"])],
)
def test_memory_does_not_grow_from_epoch_to_epoch(optimizer, more, monkeypatch):
    gc.collect()  # devices of other tests, if they are done
    device = gpu()
    cuda, taken, pools = device.xp.cuda, [], [device.xp.get_default_memory_pool()]
    make = cuda.MemoryPool
    monkeypatch.setattr(cuda, "MemoryPool", lambda: pools.append(make()) or pools[-1])  # each graph has one

    class Watch(xpnet.Callback):
        def on_row(self, trainer: Any, row: Any) -> None:
            taken.append(sum(pool.used_bytes() for pool in pools))

    train(device, optimizer=OPTIMIZERS[optimizer], epochs=40, clip_norm=1.0, callbacks=[Watch()], **more)
    assert len(taken) == 40
    assert len(set(taken[1:])) == 1, taken


def bits_of(array: np.ndarray) -> np.ndarray:
    return array.view(np.uint8)


@pytest.mark.parametrize("shape", [(1, 1), (33, 7), (500, 300)])
def test_random_words_are_those_of_the_cpu(shape):
    for key in (0, 7, 2**31, 2**32 - 2):
        words = []
        for device in (xpnet.device("numpy"), gpu()):
            with device:
                out = device.empty(shape, np.uint32)
                kernels.on(device).random_bits(key=device.asarray(np.array(key, np.uint32)), out=out)
                words.append(device.to_host(out))
        np.testing.assert_array_equal(*words)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_gives_the_bits_of_the_cpu(rate, dtype):
    rng = np.random.default_rng(0)
    for (rows, columns), of_slope in itertools.product([(257, 100), (2000, 200)], (None, bool, dtype)):
        y, slope = rng.normal(size=(2, rows, columns)).astype(dtype)
        slope = slope > 0 if of_slope is bool else slope
        results = []
        for device in (xpnet.device("numpy"), gpu()):
            with device:
                there, out, slopes = device.asarray(y), device.empty(y.shape, dtype), device.asarray(slope.copy())
                key = device.asarray(np.array(2**32 - 9, np.uint32))
                kernels.on(device).dropout(there, key=key, rate=rate, out=out, slope=slopes if of_slope else None)
                results += [[bits_of(device.to_host(array)) for array in (out, slopes)]]
        for one, other in zip(*results, strict=True):
            np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("rate", [0.0, 0.5])
def test_relu_with_dropout_is_relu_and_then_dropout_and_rounds_once(rate):
    z = np.random.default_rng(0).normal(size=(1500, 200)).astype(np.float32)
    with gpu() as device:
        k, key, there = kernels.on(device), device.asarray(np.array(5, np.uint32)), device.asarray(z)
        expected, out = device.asarray(np.maximum(z, 0)), device.empty(z.shape, np.float32)
        k.dropout(expected, key=key, rate=rate, out=expected)
        rectified(k, there, key=key if rate else None, rate=rate, out=out)
        rounded, rounded_once = (device.operands(z.shape, np.uint16) for _ in range(2))
        rectified(k, there, key=key if rate else None, rate=rate, out=rounded_once)
        convert(k, expected, out=rounded)
        for one, other in ((out, expected), (rounded_once, rounded)):
            np.testing.assert_array_equal(*(bits_of(device.to_host(array)) for array in (one, other)))


def test_chains_are_one_kernel_each():
    """Large blocks, on which CuPy's compiler of chains and NumPy agree; as launches of a recorded graph."""
    device = gpu()
    k, plain = kernels.on(device), kernels.on(xpnet.device("numpy"))
    rng = np.random.default_rng(0)
    w, g, m, v = (rng.uniform(0.1, 1, 100_003).astype(np.float32) for _ in range(4))
    rates = {"size": 0.01, "eps": 1e-8, "l2": 1e-3}
    numbers = {name: np.array(rate, np.float32) for name, rate in rates.items()}
    options = {"beta1": 0.9, "beta2": 0.999, "clip": None}
    with device:
        there = [device.asarray(array) for array in (w, g, m, v)]
        numbers_there = {name: device.asarray(number) for name, number in numbers.items()}
        assert "adam_update" in device.chains
        replay = device.capture(
            lambda _: k.adam_update(*there, **numbers_there, **options), state=[there[0], there[2], there[3]]
        )
        replay()
    plain.adam_update(w, g, m, v, **numbers, **options)
    for name, array, expected in zip("wgmv", there, (w, g, m, v), strict=True):
        np.testing.assert_allclose(device.to_host(array), expected, rtol=1e-5, atol=1e-7, err_msg=name)


def test_an_epoch_waits_for_the_device_once(monkeypatch):
    """Each wait of the program's is for one receipt."""
    device = gpu()
    x, y = digits()
    network = xpnet.MLP(SIZES, device=device)
    network.task, network.classes = "classification", tuple(range(SIZES[-1]))
    trainer = xpnet.Trainer(network, optimizer="sgd", batch_size=BATCH, epochs=6, final_weights="last")
    training = trainer.prepare(Samples.of(x, y.astype(np.int32)))
    receipts = []
    receipt = device.receipt
    monkeypatch.setattr(device, "receipt", lambda array: receipts.append(array) or receipt(array))
    monkeypatch.setattr(device, "to_host", lambda array: pytest.fail("an array was read"))
    monkeypatch.setattr(device, "synchronize", lambda: pytest.fail("the device was waited for"))
    trainer.run(training)
    assert len(receipts) == 6


@pytest.mark.parametrize(
    "a_case", [*LARGE, *NORMS, *GATHERS, *NORMALIZED, *WITH_SLOPE], ids=lambda a_case: a_case.label
)
def test_kernels_of_many_blocks_do_what_the_references_do_and_repeat_their_bits(a_case):
    """Sums over blocks end with the last block to finish, whichever that is."""
    shapes_of = [(NORMS, NORM_SHAPES), (GATHERS, GATHER_SHAPES), (NORMALIZED, (*NORMALIZED_SHAPES, (20_000, 1, 300)))]
    shapes_of += [(LARGE, (*LARGE_SHAPES, (65536, 1, 10))), (WITH_SLOPE, ((1500, 1, 200),))]
    with gpu() as device:
        k = kernels.on(device)
        for shape in next(shapes for cases, shapes in shapes_of if a_case in cases):
            assert_same_effects(device, a_case, "float32", shape, k)
            first = effects(device, k, a_case, "float32", shape)
            for _ in range(5):
                for again, expected in zip(effects(device, k, a_case, "float32", shape), first, strict=True):
                    np.testing.assert_array_equal(again, expected)


@pytest.mark.parametrize("sizes", [(1, 8, 20, 1), (9, 1, 5, 3), (9, 8, 16, 3), (33, 65, 31, 10)], ids=str)
@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("batch", [1, 9, 32])
def test_odd_widths_and_batches_train_with_or_without_epilogues(sizes, activation, batch):
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(40, sizes[0])), rng.normal(size=(40, sizes[-1]))

    def losses(device: Any) -> Any:
        network = xpnet.MLP(sizes, activation, "linear", device=device, seed=1)
        return xpnet.Trainer(network, batch_size=batch, epochs=2).fit(x, y).step_losses

    for precision, tolerance in (("fp32", 2e-3), ("tf32", 2e-2), ("bf16", 0.2)):
        np.testing.assert_allclose(losses(gpu(precision)), losses("numpy"), rtol=tolerance, atol=1e-4)


@pytest.mark.parametrize("name", ["sgd", "adam", "dropout", "batch norm", "bounds", "replacement", "sparse"])
def test_what_goes_on_from_a_snapshot_ends_as_what_was_never_broken(name):
    whole = resuming.make(device=gpu(), **resuming.SETTINGS[name])
    collected = resuming.Collect(whole)
    whole.trainer.run(whole)
    for snapshot in collected.snapshots[2::5]:
        other = resuming.make(device=gpu(), **resuming.SETTINGS[name])
        other.go_on(snapshot)
        other.trainer.run(other)
        resuming.assert_same(resuming.ended(other), resuming.ended(whole))
