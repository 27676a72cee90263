"""The program: the same numbers on every device, replayed or not, without allocating."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from emulated import CaptureError, Emulated

import xpnet
from xpnet.data.samples import Samples
from xpnet.data.transform import InputTransform
from xpnet.dropout import dropout_keys
from xpnet.program import Chunk

ACTIVATION_NAMES = xpnet.kernels.ACTIVATIONS

OPTIMIZERS = {
    "sgd": xpnet.SGD(0.1),
    "momentum": xpnet.SGD(0.05, momentum=0.9),
    "nesterov": xpnet.SGD(0.05, momentum=0.9, nesterov=True),
    "adam": xpnet.Adam(0.01),
    "adamw": xpnet.AdamW(0.01),
    "rmsprop": xpnet.RMSProp(0.01),
    "adagrad": xpnet.AdaGrad(0.05),
}


def classes(rows: int = 50) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(1)
    x = rng.integers(0, 256, (rows, 9)).astype(np.uint8)
    return x, (x[:, :3].astype(int).argmax(axis=1)).astype(np.int32)


def train(
    device: xpnet.Device | str,
    x,
    y,
    *,
    output="softmax",
    sizes=(9, 8, 5, 3),
    activations="relu",
    normalization=None,
    **options,
):
    network = xpnet.MLP(sizes, activations, output, normalization=normalization, device=device, seed=3)
    network.transform = InputTransform(1 / 255, np.full(sizes[0], 0.4))
    trainer = xpnet.Trainer(network, batch_size=8, epochs=3, seed=5, **options)
    history = trainer.fit(x, y, validation=(x[:20], y[:20]))
    return network.device.to_host(network.parameters.flat), history


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("options", [{}, {"l2": 0.01}, {"l2": 0.01, "clip_norm": 0.5}, {"replacement": True}], ids=str)
def test_a_captured_training_gives_the_bits_of_a_direct_one(name, options):
    x, y = classes()
    flat, history = train("numpy", x, y, optimizer=OPTIMIZERS[name], **options)
    emulated = Emulated()
    flat_too, history_too = train(emulated, x, y, optimizer=OPTIMIZERS[name], **options)
    assert emulated.nodes, "nothing was captured"
    np.testing.assert_array_equal(flat, flat_too)
    np.testing.assert_array_equal(history.step_losses, history_too.step_losses)
    assert history.column("val_accuracy").tolist() == history_too.column("val_accuracy").tolist()


@pytest.mark.parametrize("normalization", [None, "batch", "layer"])
@pytest.mark.parametrize("activations", ["relu", "gelu"])
@pytest.mark.parametrize("dropout", [0.0, (0.5, 0.1)], ids=str)
def test_dropout_and_normalization_can_be_captured(normalization, activations, dropout):
    x, y = classes()
    options = {"normalization": normalization, "activations": activations, "dropout": dropout}
    options |= {"label_smoothing": 0.1, "max_norm": 1.0}
    flat, history = train("numpy", x, y, **options)
    flat_too, history_too = train(Emulated(), x, y, **options)
    np.testing.assert_array_equal(flat, flat_too)
    np.testing.assert_array_equal(history.step_losses, history_too.step_losses)
    assert history.column("val_loss").tolist() == history_too.column("val_loss").tolist()


def test_counts_can_be_captured():
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(30, 4)), rng.poisson(3.0, (30, 2)).astype(float)
    options = {"output": "exp", "sizes": (4, 6, 2), "loss": "poisson"}
    np.testing.assert_array_equal(train("numpy", x, y, **options)[0], train(Emulated(), x, y, **options)[0])


def test_keys_of_dropout_are_those_of_their_seed_layer_and_step_alone():
    keys = dropout_keys(7, 3, np.arange(2000))
    assert (keys.shape, keys.dtype) == ((3, 2000), np.uint32)
    assert len(np.unique(keys)) == keys.size
    np.testing.assert_array_equal(dropout_keys(7, 2, np.arange(500, 900)), keys[:2, 500:900])
    assert not np.isin(dropout_keys(8 + 2**62, 3, np.arange(100)), keys).any()
    bits = np.unpackbits(keys.view(np.uint8))
    assert bits.mean() == pytest.approx(0.5, abs=0.01)


@pytest.mark.parametrize("activation", ACTIVATION_NAMES)
@pytest.mark.parametrize("loss", ["mse", "huber", "mae"])
def test_every_activation_and_regression_loss_can_be_captured(activation, loss):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(30, 2))
    options = {"output": activation, "sizes": (4, 6, 2), "activations": activation, "loss": loss}
    flat, _ = train("numpy", x, y, **options)
    flat_too, _ = train(Emulated(), x, y, **options)
    np.testing.assert_array_equal(flat, flat_too)


def test_labels_weights_and_sparse_samples_can_be_captured():
    from scipy.sparse import random_array

    rng = np.random.default_rng(4)
    x = random_array((40, 300), density=0.02, rng=rng, format="csr")
    y = rng.integers(0, 2, (40, 3))

    def run(device):
        network = xpnet.MLP((300, 5, 3), "tanh", "sigmoid", device=device)
        trainer = xpnet.Trainer(network, batch_size=7, epochs=2)
        trainer.fit(x, y, sample_weight=np.arange(1.0, 41.0))
        return network.device.to_host(network.parameters.flat), trainer.history.step_losses

    for direct, captured in zip(run("numpy"), run(Emulated()), strict=True):
        np.testing.assert_array_equal(direct, captured)


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_warming_up_leaves_no_trace(name):
    x, y = classes()
    network = xpnet.MLP((9, 8, 3), seed=3)
    network.task, network.classes = "classification", (0, 1, 2)
    before = network.parameters.flat.copy()
    program = xpnet.Trainer(network, optimizer=OPTIMIZERS[name]).prepare(Samples.of(x, y)).program
    np.testing.assert_array_equal(network.parameters.flat, before)
    assert not any(array.any() for array in program.state[1:])


def test_the_emulated_device_refuses_what_a_captured_stream_refuses():
    device = Emulated()
    a, b = device.zeros((3,), "f4"), device.zeros((3,), "f4")
    forbidden = {
        "allocation": lambda: np.add(a, b),
        "operator": lambda: a + b,
        "host read": lambda: float(a[0]),
        "branch": lambda: bool(a[0] > 0),
        "host array": lambda: np.add(a, np.zeros(3, "f4"), out=b),
        "upload": lambda: device.upload(np.zeros(3, "f4"), out=a),
    }
    for run in forbidden.values():
        runs = iter([lambda: None, run])  # the warm-up is allowed to do it
        with pytest.raises(CaptureError):
            device.capture(lambda _, runs=runs: next(runs)())


def test_a_replay_reads_arrays_anew_and_keeps_python_numbers():
    device = Emulated()
    rate, w = device.asarray(np.array(0.5, "f4")), device.zeros((2,), "f4")
    number = [1.0]

    def step(_):
        np.add(w, number[0], out=w)
        np.multiply(w, rate, out=w)

    replay = device.capture(step, state=(w,))
    number[0] = 100.0
    device.upload(np.array(0.25, "f4"), out=rate)
    replay()
    assert device.to_host(w).tolist() == [0.25, 0.25]


REGULARIZED = {
    "dropout": (None, {"dropout": 0.5}),
    "batch norm": ("batch", {}),
    "layer norm and dropout": ("layer", {"dropout": 0.5}),
    "bounds and smoothed labels": (None, {"max_norm": 1.0, "label_smoothing": 0.1}),
}


@pytest.mark.parametrize("name", [*OPTIMIZERS, *REGULARIZED])
def test_a_step_allocates_nothing_that_grows_with_the_batch(name):
    """tracemalloc sees NumPy's buffers; a ufunc that casts goes through one of 8,192 entries, whatever the batch."""
    normalization, options = REGULARIZED.get(name, (None, {"optimizer": OPTIMIZERS.get(name, "sgd")}))
    peaks = {}
    for batch in (256, 4096):
        rng = np.random.default_rng(0)
        x, y = rng.integers(0, 256, (2 * batch, 64)).astype(np.uint8), rng.integers(0, 10, 2 * batch).astype(np.int32)
        network = xpnet.MLP((64, 128, 10), normalization=normalization)
        network.task, network.classes = "classification", tuple("0123456789")
        network.transform = InputTransform(1 / 255)
        trainer = xpnet.Trainer(network, batch_size=batch, l2=1e-3, epochs=3, **options)
        program = trainer.prepare(Samples.of(x, y)).program
        order, steps = np.arange(2 * batch), np.arange(2)
        keys = dropout_keys(1, 1, steps) if program.workspace.drops else None
        chunk = Chunk(order, program.update.table(steps, np.full(2, 0.01), np.zeros(2)), keys)
        program.run(chunk)
        tracemalloc.start()
        program.run(chunk)
        peaks[batch] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[4096] < peaks[256] + 50_000, peaks
    assert peaks[4096] < 300_000, peaks
