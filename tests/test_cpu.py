"""The CPU device: kernels cut into parts for several threads, runs on tapes, and a BLAS that stays out of their way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest
import scipy.sparse
from threadpoolctl import threadpool_info, threadpool_limits

import xpnet
from xpnet import kernels
from xpnet.devices.cpu import tape
from xpnet.devices.cpu.nodes import products
from xpnet.errors import DeviceError
from xpnet.kernels import ACTIVATIONS

THREADS = (1, 2, 3)
SHAPES = (
    (0, 300, 100),
    (12, 2, 30_000),
    (1, 784, 300),
    (5, 300, 100),
    (40, 784, 301),
    (70, 1100, 600),
    (200, 129, 67),
    (601, 300, 100),
)
"""Rows, inputs and outputs: beyond every rule on shapes, on both sides."""


def cpu(threads: int):
    device = xpnet.device("cpu")
    device.threads = threads
    return device


def normal(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).normal(size=shape).astype(np.float32)


def assert_close(actual, expected):
    scale = np.abs(expected).max(initial=0)
    np.testing.assert_allclose(actual, expected, rtol=1e-5, atol=1e-5 * scale)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_products_cut_into_parts_and_tiles_are_the_products(shape, threads):
    device, (rows, inputs, outputs) = cpu(threads), shape
    x, w, dz = normal(rows, inputs), normal(inputs, outputs), normal(rows, outputs)
    for a, b in ((x, w), (dz, w.T), (x.T, dz)):
        before = normal(len(a), b.shape[1])
        exact = a.astype(np.float64) @ b.astype(np.float64)
        assert_close(device.gemm(a, b, out=np.full_like(before, np.nan)), exact)
        alpha, beta = np.float32(-0.5).reshape(()), np.float32(0.25).reshape(())
        assert_close(device.gemm(a, b, out=before.copy(), alpha=alpha, beta=beta), 0.25 * before - 0.5 * exact)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_hidden_layers_cut_into_parts_are_the_references(activation, shape, threads):
    rows, inputs, outputs = shape
    x, w, b, dz = normal(rows, inputs), normal(inputs, outputs) / 30, normal(outputs), normal(rows, outputs)
    results = []
    for k in (kernels.on(cpu(threads)), kernels.on(xpnet.device("numpy"))):
        y, db, dx = np.full((rows, outputs), np.nan, np.float32), np.full(inputs, np.nan, np.float32), np.empty_like(x)
        aux = k.hidden_aux(y, activation=activation, below=inputs, above=1)
        k.hidden_forward(x, w, b, activation=activation, out=y, aux=aux)
        below = x.copy()
        aux_below = k.hidden_aux(below, activation=activation, below=1, above=outputs)
        if aux_below is not below:
            getattr(k, activation)(below, out=below, slope=aux_below)
        k.hidden_backward(dz, w, activation=activation, aux=aux_below, out=dx, db=db)
        z = np.full_like(y, np.nan)
        k.affine_forward(x, w, b, out=z)
        results.append((y, z, dx, db))
    for actual, expected in zip(*results, strict=True):
        assert_close(actual, expected)


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("shape", [(3, 10), (700, 10), (5000, 10), (9, 5000)], ids=str)
def test_losses_hits_and_gathers_cut_into_parts_and_blocks_are_the_references(shape, threads):
    (rows, columns), rng = shape, np.random.default_rng(0)
    z, t = normal(rows, columns), rng.integers(0, columns, rows).astype(np.int32)
    labels, pairs = (normal(rows, columns) > 0).astype(np.float32), np.stack([t // 2, t % 3], axis=1)
    groups = (columns - 3, 3)
    source = np.random.default_rng(1).integers(0, 256, (1000, 50)).astype(np.uint8)
    index = np.random.default_rng(2).integers(0, 1000, rows)
    results = []
    for k in (kernels.on(cpu(threads)), kernels.on(xpnet.device("numpy"))):
        for name, targets, options in (
            ("softmax_cross_entropy", t, {}),
            ("softmax_cross_entropy", labels, {"smoothing": 0.1}),
            ("grouped_softmax_cross_entropy", pairs, {"groups": groups}),
            ("sigmoid_cross_entropy", labels, {}),
            ("huber", labels, {"output": "linear"}),
        ):
            dz, db, loss = np.full_like(z, np.nan), np.full(columns, np.nan, np.float32), np.empty((), np.float32)
            getattr(k, name)(z, targets, out=dz, db=db, loss=loss, **options)
            results += [dz, db, loss]
        p, x = np.full_like(z, np.nan), np.full((rows, 50), np.nan, np.float32)
        hits, norm = (np.empty((), np.float32) for _ in range(2))
        k.hits(z, t, output="softmax", out=hits)
        k.softmax(z, out=p)
        k.gather(source, index, scale=1 / 255, shift=np.full(50, 0.5, np.float32), out=x)
        k.squared_norm(z.reshape(-1), out=norm)
        results += [hits, p, x, norm]
    half = len(results) // 2
    for actual, expected in zip(results[:half], results[half:], strict=True):
        assert_close(actual, expected)


def trained(threads: int, batch: int, steps: int = 6, optimizer=None) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    rows = max(batch * steps, 20)
    x, y = rng.normal(size=(rows, 784)).astype(np.float32), np.arange(rows) % 10
    network = xpnet.MLP((784, 300, 100, 10), device=cpu(threads) if threads else "numpy")
    trainer = xpnet.Trainer(network, optimizer=optimizer or xpnet.SGD(0.05), batch_size=batch, epochs=2, seed=1)
    return network.parameters.flat, trainer.fit(x, y).step_losses


@pytest.mark.parametrize("threads", THREADS)
@pytest.mark.parametrize("batch", [1, 16, 100])
def test_every_number_of_threads_trains_the_same_and_twice_the_same_bits(threads, batch):
    (flat, losses), (flat_too, losses_too) = trained(threads, batch), trained(threads, batch)
    np.testing.assert_array_equal(flat, flat_too)
    np.testing.assert_array_equal(losses, losses_too)
    np.testing.assert_allclose(losses, trained(0, batch)[1], rtol=1e-4, atol=1e-5)


def test_adam_cut_into_parts_trains_the_same():
    np.testing.assert_allclose(trained(3, 50, 3, xpnet.Adam())[1], trained(0, 50, 3, xpnet.Adam())[1], rtol=1e-3)


@pytest.mark.parametrize("compiled", [True, False])
def test_runs_are_repeated_with_arrays_that_move(compiled):
    """Ten runs that are recorded as one that moves; a kernel that is not compiled has each of them recorded."""
    device = xpnet.device("cpu")
    k = kernels.on(device)
    z = normal(10, 4, 6)
    out = np.full_like(z, np.nan)
    kernel = k.softmax if compiled else k.reference.softmax
    replay = device.capture(lambda i: kernel(z[i], out=out[i]), 10)
    assert np.isnan(out).all(), "recording does nothing"
    for _ in range(2):
        out[...] = np.nan
        replay()
        expected = np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True)
        np.testing.assert_allclose(out, expected, rtol=1e-5)
    z[...] = 0
    replay()
    np.testing.assert_allclose(out, 1 / 6, rtol=1e-6)


def test_runs_whose_arrays_do_not_move_evenly_are_all_recorded():
    device = xpnet.device("cpu")
    k = kernels.on(device)
    order = [0, 1, 4, 3, 2, 5, 7]
    z, out = normal(8, 3, 5), np.zeros((8, 3, 5), np.float32)
    device.capture(lambda i: k.softmax(z[order[i]], out=out[order[i]]), 7)()
    assert (out.sum(axis=(1, 2)) > 0).tolist() == [i in order for i in range(8)]


@pytest.mark.parametrize("error", [ValueError("no"), KeyboardInterrupt()])
def test_what_a_kernel_in_python_raises_comes_out_and_ends_the_run(error):
    device = xpnet.device("cpu")
    calls = []

    def kernel():
        calls.append(1)
        raise error

    replay = device.capture(lambda _: device.scheduled(kernel)(), 5)
    with pytest.raises(type(error)):
        replay()
    assert len(calls) == 1
    with pytest.raises(type(error)):
        replay()


def test_the_blas_has_its_threads_back_after_a_run_and_one_during_it():
    device = xpnet.device("cpu")
    counts = []

    def kernel():
        counts.append({library["num_threads"] for library in threadpool_info() if library["user_api"] == "blas"})

    with threadpool_limits(3):
        device.capture(lambda _: device.scheduled(kernel)())()
        assert counts == [{1}]
        assert all(library["num_threads"] == 3 for library in threadpool_info() if library["user_api"] == "blas")


def test_the_threads_are_as_many_as_the_blas_would_take():
    with threadpool_limits(1):
        assert xpnet.device("cpu").threads == 1


def test_two_trainings_at_once_do_not_disturb_each_other():
    expected, results = trained(2, 16)[0], {}
    threads = [threading.Thread(target=lambda i=i: results.update({i: trained(2, 16)[0]})) for i in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 3
    for flat in results.values():
        np.testing.assert_array_equal(flat, expected)


def test_a_system_without_more_threads_is_told_of(monkeypatch):
    class Refused(threading.Thread):
        def start(self):
            raise RuntimeError("can't start new thread")

    device = cpu(2)
    monkeypatch.setattr(tape.threading, "Thread", Refused)
    with pytest.raises(DeviceError, match="OMP_NUM_THREADS"):
        device.gemm(normal(400, 400), normal(400, 400), out=normal(400, 400))


def test_a_tile_is_small_enough_for_the_products_without_packing():
    assert np.prod(products.TILE) <= 1e6


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("rows", [1, 1024, 1500, 17_000])
def test_predictions_are_the_same_whatever_lies_how(dtype, rows):
    network = xpnet.MLP((6, 5, 3), dtype=dtype)
    x = np.random.default_rng(0).integers(0, 3, (rows, 6))
    h = np.maximum(x @ network.parameters.w[0], 0)
    scores = np.exp(h @ network.parameters.w[1])
    expected = scores / scores.sum(axis=1, keepdims=True)
    for samples in (x.astype(dtype), x.astype(np.uint8), np.asfortranarray(x.astype(dtype)), x.astype(np.float16)):
        np.testing.assert_allclose(network.predict_proba(samples), expected, rtol=1e-5)


RNG = np.random.default_rng(0)
BYTES, NUMBERS = RNG.integers(0, 256, (100, 20)).astype(np.uint8), RNG.normal(size=(100, 20))
FEW = scipy.sparse.random_array((100, 20), density=0.05, format="csr", rng=RNG)
CLASSES, LABELS, WEIGHTS = RNG.integers(0, 5, 100), RNG.integers(0, 2, (100, 5)), RNG.uniform(0.5, 2, 100)
SCORES, COUNTS = RNG.normal(size=(100, 5)), RNG.poisson(2, (100, 5)).astype(float)
SHIFTED = xpnet.data.InputTransform(1 / 255, np.full(20, 0.5))
STANDARDIZED = xpnet.data.InputTransform(np.full(20, 1 / 255), np.full(20, 0.5))
KEEN = {"clip_norm": 1.0, "max_norm": 2.0, "l2": 1e-3}

TRAININGS: dict[str, tuple[np.ndarray, dict, dict]] = {
    **{f"{name}": (CLASSES, {"activations": name}, {"dropout": 0.2}) for name in ACTIVATIONS},
    **{
        f"{activation} with {name} normalization": (CLASSES, {"activations": activation, "normalization": name}, {})
        for activation in ("relu", "tanh")
        for name in ("batch", "layer")
    },
    **{name: (CLASSES, {}, {"optimizer": name, **KEEN}) for name in ("sgd", "adam", "adamw", "rmsprop", "adagrad")},
    "nesterov": (CLASSES, {}, {"optimizer": xpnet.SGD(0.1, momentum=0.9, nesterov=True), "l2": 1e-3}),
    "smoothed labels": (CLASSES, {}, {"label_smoothing": 0.1}),
    "two classes": (CLASSES % 2, {"sizes": (20, 16, 1), "output": "sigmoid"}, {"label_smoothing": 0.1}),
    "several labels": (LABELS, {"output": "sigmoid"}, {}),
    "probabilities": (RNG.dirichlet(np.ones(5), 100), {}, {}),
    "counts": (COUNTS, {"output": "exp"}, {}),
    **{
        f"{loss} of {output}": (SCORES, {"output": output}, {"loss": loss})
        for loss in ("mse", "mae", "huber")
        for output in ("linear", "sigmoid")
    },
    "in double precision": (CLASSES, {"dtype": "float64"}, {"dropout": 0.2}),
}


def refuse(self, call):
    raise AssertionError("a call of Python is recorded")


@pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["", "weighted"])
@pytest.mark.parametrize(("y", "network", "training"), TRAININGS.values(), ids=TRAININGS)
def test_a_training_is_made_of_compiled_nodes_alone(monkeypatch, y, network, training, weights):
    """A call of Python on the tape costs a hundred microseconds and keeps a run from being repeated with strides."""
    monkeypatch.setattr(tape.Tape, "append_call", refuse)
    options = {"sizes": (20, 16, 5), **network}
    trainer = xpnet.Trainer(xpnet.MLP(options.pop("sizes"), **options), batch_size=8, epochs=2, **training)
    history = trainer.fit(NUMBERS, y, sample_weight=weights, validation=0.2)
    assert np.isfinite(history.step_losses).all()


@pytest.mark.parametrize(
    ("x", "transform"),
    [(BYTES, SHIFTED), (BYTES, STANDARDIZED), (FEW, SHIFTED), (FEW, STANDARDIZED), (NUMBERS, STANDARDIZED)],
    ids=["bytes", "standardized bytes", "sparse", "standardized sparse", "numbers"],
)
def test_samples_are_gathered_by_compiled_nodes_alone(monkeypatch, x, transform):
    monkeypatch.setattr(tape.Tape, "append_call", refuse)
    network = xpnet.MLP((20, 16, 5))
    network.transform = transform
    xpnet.Trainer(network, batch_size=8, epochs=2).fit(x, CLASSES, validation=0.2)
    assert np.isfinite(network.predict_proba(x)).all()


COMPILE = """
import numpy as np
import xpnet
from xpnet.devices.cpu.nodes import activations, compiling, losses, products

xpnet.device("cpu")
single, double = np.dtype(np.float32), np.dtype(np.float64)
nodes = [
    compiling.compiled(activations.activation, name, dtype)
    for name, dtype in (("tanh", single), ("tanh", double), ("elu", single))
]
nodes.append(compiling.compiled(products.backward_by_output, single, single))
nodes.append(compiling.compiled(losses.pointwise, "huber", single))
print([node.cache_hits for node in nodes])
"""


def test_machine_code_is_found_on_disk_again(tmp_path):
    """Of each node in files of its own: a node that closed over a function would be compiled anew by each process."""
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    hits = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        hits.append(json.loads(done.stdout))
    assert hits == [[0] * 5, [1] * 5]
    assert len(list(tmp_path.rglob("*-float*.nbi"))) == 5
