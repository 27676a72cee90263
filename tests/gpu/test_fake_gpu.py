"""The CUDA device, whole, on a GPU that a processor plays: its kernels, products, graphs, streams and copies."""

import contextlib
import functools

import numpy as np
import pytest
from emulated import CaptureError, Emulated
from gpu.fake_cupy import fake_gpu
from kernels.test_parity import CASES, SHAPES, assert_same_effects
from test_checkpoint import SETTINGS, Collect, assert_same, ended, make
from test_program import OPTIMIZERS, classes

import xpnet
from xpnet import kernels
from xpnet.data.samples import Samples
from xpnet.data.transform import InputTransform
from xpnet.devices.cuda.device import Cuda
from xpnet.devices.cuda.twins import TWINS, hidden
from xpnet.dropout import dropout_keys
from xpnet.evaluation import Evaluation
from xpnet.feed import Feed
from xpnet.losses import Loss, Metric
from xpnet.memory import SMALL
from xpnet.program import Chunk, Program
from xpnet.workspace import Workspace


@functools.cache
def shared_gpu():
    return fake_gpu()


# What kernels of ours do by themselves is tests/gpu/test_kernels_on_cpu.py's.
COMPOSED = [case for case in CASES if not set(case.names) <= set(TWINS) - {twin.__name__ for twin in hidden.TWINS}]


@pytest.mark.parametrize("case", COMPOSED, ids=lambda case: case.label)
def test_a_gpu_does_what_the_references_do_on_the_cpu(case):
    gpu = shared_gpu()
    k = kernels.on(gpu)
    for dtype, shape in (("float32", SHAPES[0]), ("float32", SHAPES[-1]), ("float64", SHAPES[2])):
        with gpu:
            assert_same_effects(gpu, case, dtype, shape, k)


REGULARIZED = {
    "dropout": {"dropout": 0.3},
    "dropout, gelu": {"dropout": (0.3, 0.0), "activations": "gelu"},
    "dropout, tanh": {"dropout": (0.0, 0.4), "activations": "tanh"},
    "dropout, linear": {"dropout": 0.2, "activations": "linear"},
    "batch norm": {"normalization": "batch"},
    "layer norm": {"normalization": "layer"},
    "batch norm and dropout": {"normalization": "batch", "dropout": 0.2},
    "layer norm and dropout, gelu": {"normalization": "layer", "dropout": 0.2, "activations": "gelu"},
    "smoothed labels": {"label_smoothing": 0.1},
    "bounded weights": {"max_norm": 0.8},
    "all": {"normalization": "batch", "dropout": 0.2, "label_smoothing": 0.1, "max_norm": 2.0, "l2": 1e-3},
}
REGULARIZED["all"] |= {"clip_norm": 1.0}


def train(device, x, y, *, output="softmax", sizes=(9, 8, 5, 3), activations="relu", weights=None, **options):
    normalization = options.pop("normalization", None)
    network = xpnet.MLP(sizes, activations, output, normalization=normalization, device=device, seed=3)
    network.transform = InputTransform(1 / 255, np.full(sizes[0], 0.4))
    trainer = xpnet.Trainer(network, batch_size=8, epochs=3, seed=5, **options)
    history = trainer.fit(x, y, validation=(x[:20], y[:20]), sample_weight=weights)
    return network.device.to_host(network.parameters.flat), history, network


@pytest.mark.parametrize("name", OPTIMIZERS)
@pytest.mark.parametrize("options", [{}, {"l2": 0.01, "clip_norm": 0.5}], ids=str)
def test_training_gives_what_the_cpu_gives(name, options):
    x, y = classes()
    flat, history, network = train("numpy", x, y, optimizer=OPTIMIZERS[name], **options)
    there, history_there, network_there = train(fake_gpu(), x, y, optimizer=OPTIMIZERS[name], **options)
    np.testing.assert_allclose(there, flat, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(history_there.step_losses, history.step_losses, rtol=1e-4)
    np.testing.assert_allclose(history_there.column("val_loss"), history.column("val_loss"), rtol=1e-4)
    np.testing.assert_allclose(network_there.predict_proba(x), network.predict_proba(x), atol=1e-5)


@pytest.mark.parametrize("hasty", [False, True])
@pytest.mark.parametrize("name", REGULARIZED)
def test_regularized_training_gives_what_the_cpu_gives(name, hasty):
    """The last batch is partial; a network that predicts drops nothing and uses running statistics."""
    x, y = classes()
    options = {"optimizer": OPTIMIZERS["nesterov"], "final_weights": "last", **REGULARIZED[name]}
    _, history, network = train("numpy", x, y, **options)
    _, history_there, network_there = train(fake_gpu(hasty=hasty), x, y, **options)
    for there, here in zip(network_there.state, network.state, strict=True):
        np.testing.assert_allclose(network_there.device.to_host(there), here, rtol=1e-3, atol=1e-5)
    np.testing.assert_allclose(history_there.step_losses, history.step_losses, rtol=1e-4)
    np.testing.assert_allclose(history_there.column("val_loss"), history.column("val_loss"), rtol=1e-4)
    np.testing.assert_allclose(network_there.predict_proba(x), network.predict_proba(x), atol=1e-5)


@pytest.mark.parametrize("name", REGULARIZED)
def test_regularized_training_in_bfloat16_is_close_to_float32(name):
    x, y = classes()
    options = {"optimizer": xpnet.SGD(0.05), **REGULARIZED[name]}
    expected = train("numpy", x, y, **options)[1].step_losses
    losses = train(fake_gpu(precision="bf16"), x, y, **options)[1].step_losses
    np.testing.assert_allclose(losses, expected, rtol=0.1)
    assert not np.array_equal(losses.astype(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("name", REGULARIZED)
def test_the_references_alone_can_be_captured_too(name):
    x, y = classes()
    (flat, history, _), (flat_too, history_too, network) = (
        train(device, x, y, optimizer="adam", **REGULARIZED[name]) for device in ("numpy", Emulated())
    )
    assert network.device.nodes, "nothing was captured"
    np.testing.assert_array_equal(flat_too, flat)
    np.testing.assert_array_equal(history_too.step_losses, history.step_losses)
    np.testing.assert_array_equal(history_too.column("val_loss"), history.column("val_loss"))


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_where_nothing_is_kept_nothing_is_dropped(precision, activation):
    rng = np.random.default_rng(0)
    results = []
    with fake_gpu(precision=precision) as gpu:
        k, key = kernels.on(gpu), gpu.asarray(np.array(7, np.uint32))
        z = gpu.asarray(rng.normal(size=(9, 8)).astype(np.float32))
        for rate in (0.0, 0.5):
            y = gpu.operands((9, 8), np.float32)
            k.hidden_activation(z, activation=activation, rate=rate, key=key, out=y)
            results.append(gpu.to_host(y))
    np.testing.assert_array_equal(*results)
    assert results[0].any()


REPLAYED = {activation: {"activations": activation} for activation in ("relu", "gelu", "tanh")}
REPLAYED |= {name: REGULARIZED[name] for name in ("dropout", "dropout, tanh", "layer norm and dropout, gelu", "all")}


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("name", REPLAYED)
def test_a_replay_gives_the_bits_of_eager_launches(precision, name):
    x, y = classes()
    options = REPLAYED[name]
    results = [
        train(fake_gpu(precision=precision, eager=eager), x, y, optimizer=xpnet.Adam(0.01), **options)
        for eager in (False, True)
    ]
    assert results[0][2].device.xp.nodes, "nothing was captured"
    assert not results[1][2].device.xp.nodes
    np.testing.assert_array_equal(results[0][0], results[1][0])
    np.testing.assert_array_equal(results[0][1].step_losses, results[1][1].step_losses)


@pytest.mark.parametrize("activation", kernels.ACTIVATIONS)
def test_bfloat16_is_close_to_float32(activation):
    x, y = classes()
    options = {"activations": activation, "optimizer": xpnet.SGD(0.1)}
    expected = train("numpy", x, y, **options)[1].step_losses
    losses = train(fake_gpu(precision="bf16"), x, y, **options)[1].step_losses
    np.testing.assert_allclose(losses, expected, rtol=0.05)
    assert not np.array_equal(losses.astype(np.float32), expected.astype(np.float32))


@pytest.mark.parametrize("activation", kernels.ACTIVATIONS)
@pytest.mark.parametrize("loss", ["mse", "huber", "mae"])
def test_every_activation_and_regression_loss_trains(activation, loss):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(30, 4)), rng.normal(size=(30, 2))
    options = {"output": activation, "sizes": (4, 6, 2), "activations": activation, "loss": loss}
    expected = train("numpy", x, y, **options)[1].step_losses
    np.testing.assert_allclose(train(fake_gpu(), x, y, **options)[1].step_losses, expected, rtol=2e-4)
    bf16 = train(fake_gpu(precision="bf16"), x, y, **options)[1].step_losses
    np.testing.assert_allclose(bf16, expected, rtol=0.1)


@pytest.mark.parametrize(
    "options", [{"output": "exp"}, {"loss": "huber", "huber_delta": 0.3, "output": "linear"}], ids=str
)
def test_counts_and_outliers_train(options):
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(30, 4)), rng.poisson(2.0, (30, 2)).astype(float)
    options = {"sizes": (4, 6, 2), "optimizer": OPTIMIZERS["momentum"], **options}
    expected = train("numpy", x, y, **options)[1].step_losses
    np.testing.assert_allclose(train(fake_gpu(), x, y, **options)[1].step_losses, expected, rtol=2e-4)
    bf16 = train(fake_gpu(precision="bf16"), x, y, **options)[1].step_losses
    np.testing.assert_allclose(bf16, expected, rtol=0.1)


def grouped_training(device):
    """By the program itself: two groups of classes, the norm of the weights before every step; all that came of it."""
    rng = np.random.default_rng(2)
    x, y = rng.normal(size=(40, 4)), np.stack([rng.integers(0, 3, 40), rng.integers(0, 2, 40)], axis=1)
    network = xpnet.MLP((4, 8, 5), device=device)
    loss = Loss("cross_entropy", "softmax", groups=(3, 2), smoothing=0.1)
    metric = Metric("accuracy", "softmax", groups=(3, 2))
    samples = Samples.of(x, y.astype(np.int32), np.linspace(0.5, 2, 40))
    with network.device:
        feed = Feed(samples, network, loss, metric)
        workspace = Workspace(network, feed, 8, dropout=(0.25,))
        update = xpnet.SGD(0.1, momentum=0.9).bind(network.parameters, decays=True, clip_norm=1.0)
        program = Program(network, loss, metric, update, feed, workspace, batch=8, chunk=5, max_norm=1.0, norms=True)
        columns = update.table(np.arange(5), np.full(5, 0.1), np.linspace(1e-3, 1e-2, 5))
        chunk = Chunk(samples.rows, columns, dropout_keys(7, 1, np.arange(5)))
        outcomes = [program.run(chunk) for _ in range(3)]
        evaluated = Evaluation(network, loss, metric, samples, feed, workspace)()
        flat = network.device.to_host(network.parameters.flat)
    by_step = [np.concatenate([getattr(outcome, name) for outcome in outcomes]) for name in ("losses", "hits", "norms")]
    return [flat, *by_step, np.array(evaluated)]


def test_groups_of_classes_and_norms_of_every_step():
    expected = grouped_training("numpy")
    for hasty in (False, True):
        device = fake_gpu(hasty=hasty)
        for actual, wanted in zip(grouped_training(device), expected, strict=True):
            np.testing.assert_allclose(actual, wanted, rtol=1e-4, atol=1e-5)
        assert device.xp.nodes, "nothing was captured"
    _, losses, _, norms, _ = grouped_training(fake_gpu(precision="bf16"))
    np.testing.assert_allclose(losses, expected[1], rtol=0.1)
    np.testing.assert_allclose(norms, expected[3], rtol=0.1)
    for replayed, eager in zip(*(grouped_training(fake_gpu(eager=eager)) for eager in (False, True)), strict=True):
        np.testing.assert_array_equal(replayed, eager)
    for captured, direct in zip(grouped_training(Emulated()), expected, strict=True):
        np.testing.assert_array_equal(captured, direct)


@pytest.mark.parametrize("activation", ["relu", "gelu"])
@pytest.mark.parametrize("sizes", [(1, 8, 20, 1), (9, 1, 5, 3), (9, 8, 16, 3)], ids=str)
def test_widths_for_which_the_library_lacks_epilogues_train(activation, sizes):
    """Products of one column have no gradient epilogues; pre-activations of 8 and 16 columns need no padding."""
    rng = np.random.default_rng(3)
    x, y = rng.normal(size=(40, sizes[0])), rng.normal(size=(40, sizes[-1]))

    def losses(device):
        network = xpnet.MLP(sizes, activation, "linear", device=device, seed=1)
        return xpnet.Trainer(network, batch_size=9, epochs=2).fit(x, y).step_losses

    np.testing.assert_allclose(losses(fake_gpu()), losses("numpy"), rtol=1e-4)


def test_memory_that_cuda_refuses_is_a_memory_error():
    gpu = fake_gpu()
    with pytest.raises(MemoryError, match="cudaError 2"), gpu:
        raise gpu.xp.cuda.runtime.CUDARuntimeError(2)
    with pytest.raises(RuntimeError, match="cudaError 1"), gpu:
        raise gpu.xp.cuda.runtime.CUDARuntimeError(1)


def test_arrays_of_the_host_are_uploaded_part_by_part(monkeypatch):
    monkeypatch.setattr("xpnet.devices.cuda.arrays.PART", 100)
    gpu = fake_gpu()
    for host in (np.arange(300.0), np.arange(60, dtype=">i4").reshape(20, 3), np.float32(5), np.empty((0, 3))):
        there = gpu.asarray(host)
        assert there.dtype.isnative
        np.testing.assert_array_equal(gpu.to_host(there), host)
    assert gpu.asarray(np.arange(3), np.float32).dtype == np.float32


def test_labels_weights_and_sparse_samples_train():
    from scipy.sparse import random_array

    rng = np.random.default_rng(4)
    x = random_array((40, 300), density=0.02, rng=rng, format="csr")
    y = rng.integers(0, 2, (40, 3))

    def losses(device):
        network = xpnet.MLP((300, 5, 3), "tanh", "sigmoid", device=device)
        trainer = xpnet.Trainer(network, batch_size=7, epochs=2)
        return trainer.fit(x, y, sample_weight=np.arange(1.0, 41.0)).step_losses

    np.testing.assert_allclose(losses(fake_gpu()), losses("numpy"), rtol=1e-4)
    np.testing.assert_allclose(losses(fake_gpu(precision="bf16")), losses("numpy"), rtol=0.05)


def test_an_epoch_waits_for_the_device_once():
    x, y = classes(400)
    gpu = fake_gpu()
    network = xpnet.MLP((9, 8, 3), device=gpu)
    trainer = xpnet.Trainer(network, optimizer="sgd", batch_size=8, epochs=5, final_weights="last")
    network.task, network.classes = "classification", (0, 1, 2)
    training = trainer.prepare(Samples.of(x, y))
    before = gpu.xp.waits
    trainer.run(training)
    assert gpu.xp.waits - before == 5


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam"])
@pytest.mark.parametrize(("precision", "more"), [("fp32", 0), ("tf32", 0), ("bf16", 3 + 2 + 2)])
def test_a_step_is_a_handful_of_launches(optimizer, precision, more):
    """For L layers: L forward products, the loss, L - 1 products back, L weight gradients, the update.

    In bf16 besides: L weights and L - 1 biases are rounded, and L - 1 slopes are kernels of their own.
    """
    assert launches_of_a_step(precision, OPTIMIZERS[optimizer]) == 3 + 1 + 2 + 3 + 1 + more


@pytest.mark.parametrize(("precision", "roundings"), [("fp32", 0), ("bf16", 3)])
@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"dropout": 0.5}, 2 * (1 + 1)),
        ({"normalization": "batch"}, 2 * (2 + 2)),
        ({"normalization": "layer", "dropout": 0.5}, 2 * (2 + 3)),
        ({"max_norm": 1.0, "label_smoothing": 0.1}, 2),
    ],
    ids=str,
)
def test_regularization_takes_few_launches_more(options, more, precision, roundings):
    """Of the 10, for each of two hidden layers.

    Dropout: its own, and the slope's, which rides in no epilogue then; they do for bias and ReLU, and in bf16, beside
    the weights, a bias is rounded for them. A normalization: forward its own and ReLU's with dropout; back the slope's
    and one over the batch, or two over the layer.
    """
    biases = 2 if roundings and "normalization" not in options else 0
    slopes = 2 if roundings and "max_norm" in options else 0
    launches = launches_of_a_step(precision, OPTIMIZERS["sgd"], **options)
    assert launches == 10 + roundings + biases + slopes + more


def launches_of_a_step(precision, optimizer, *, normalization=None, **options):
    x, y = classes(400)
    gpu = fake_gpu(precision=precision)
    network = xpnet.MLP((9, 8, 7, 3), normalization=normalization, device=gpu)
    network.task, network.classes = "classification", (0, 1, 2)
    xpnet.Trainer(network, optimizer=optimizer, batch_size=8, **options).prepare(Samples.of(x, y))
    gathers, steps = 2, 400 // 8
    launches, rest = divmod(max(gpu.xp.nodes) - gathers, steps)
    assert rest == 0
    return launches


@pytest.mark.parametrize("hasty", [False, True])
@pytest.mark.parametrize("options", [{}, REGULARIZED["batch norm and dropout"]], ids=str)
def test_samples_that_do_not_fit_come_by_windows_with_the_same_bits(monkeypatch, hasty, options):
    monkeypatch.setattr(Cuda, "block_rows", 16)
    x, y = classes(300)
    weights = np.linspace(0.5, 2, 300)
    flat, history, _ = train(fake_gpu(), x, y, weights=weights, **options)
    windows = []
    monkeypatch.setattr(
        Feed, "bring", lambda feed, rows, bring=Feed.bring: windows.append(feed.window) or bring(feed, rows)
    )
    memory = SMALL + 20_000
    while not windows or max(windows) < 16:  # an evaluation of less than whole blocks adds up otherwise
        memory += 6000
        windows.clear()
        with contextlib.suppress(xpnet.OutOfMemoryError):
            streamed, history_streamed, _ = train(
                fake_gpu(memory=memory, hasty=hasty), x, y, weights=weights, **options
            )
    assert max(windows) < 150, windows
    np.testing.assert_array_equal(streamed, flat)
    np.testing.assert_array_equal(history_streamed.step_losses, history.step_losses)
    np.testing.assert_array_equal(history_streamed.column("val_loss"), history.column("val_loss"))


@pytest.mark.parametrize("name", ["sgd", "nesterov", "adam", "batch norm", "bounds", "rows by steps", "sparse"])
def test_what_goes_on_from_a_snapshot_ends_as_what_was_never_broken(name):
    whole = make(device=fake_gpu(), **SETTINGS[name])
    collected = Collect(whole)
    whole.trainer.run(whole)
    for snapshot in collected.snapshots[2::5]:
        other = make(device=fake_gpu(hasty=True), **SETTINGS[name])
        other.go_on(snapshot)
        other.trainer.run(other)
        assert_same(ended(other), ended(whole))


def test_sparse_samples_and_labels_come_by_windows_too(monkeypatch):
    from scipy.sparse import random_array

    monkeypatch.setattr(Cuda, "block_rows", 16)
    rng = np.random.default_rng(4)
    x = random_array((400, 100), density=0.1, rng=rng, format="csr")
    y = rng.integers(0, 2, (400, 3))
    results = []
    for room in (1 << 20, 75_000):
        network = xpnet.MLP((100, 5, 3), "tanh", "sigmoid", device=fake_gpu(memory=SMALL + room))
        trainer = xpnet.Trainer(network, batch_size=7, epochs=2)
        training = trainer.prepare(*(Samples.of(x, y, np.arange(1.0, 401.0)),) * 2)
        trainer.run(training)
        results.append((training.program.feed.window, trainer.history.step_losses, trainer.history.column("val_loss")))
    (whole, *expected), (window, *streamed) = results
    assert whole is None
    assert 16 <= window < 400
    for a, e in zip(streamed, expected, strict=True):
        np.testing.assert_array_equal(a, e)


def test_a_batch_that_does_not_fit_is_foreseen():
    x, y = classes(300)
    with pytest.raises(xpnet.OutOfMemoryError, match="KiB of free memory, expected more than"):
        train(fake_gpu(memory=SMALL), x, y)


def test_a_gpu_refuses_what_a_captured_stream_refuses():
    gpu = fake_gpu()
    xp = gpu.xp
    with gpu:
        a = gpu.zeros((3,), np.float32)
        runs = iter([lambda: None, lambda: xp.add(a, 1)])
        with pytest.raises(CaptureError):
            gpu.capture(lambda _: next(runs)())


def test_recording_a_run_changes_nothing_that_outlives_it():
    gpu = fake_gpu()
    with gpu:
        w = gpu.zeros((3,), np.float32)
        replay = gpu.capture(lambda _: gpu.xp.add(w, 1, out=w), 2, state=(w,))
    assert gpu.to_host(w).tolist() == [0, 0, 0]
    replay()
    assert gpu.to_host(w).tolist() == [2, 2, 2]


@pytest.mark.parametrize("hasty", [False, True])
def test_a_channel_waits_for_what_was_sent_before(hasty):
    gpu = fake_gpu(hasty=hasty)
    with gpu:
        out, sums = gpu.zeros((4,), np.float32), gpu.zeros((3,), np.float32)
    send = gpu.channel(out)
    for i in range(3):
        send(np.full(4, i + 1.0))
        with gpu:
            gpu.xp.sum(out, out=sums[i, ...])
    assert gpu.to_host(sums).tolist() == [4.0, 8.0, 12.0]


def test_every_case_of_the_references_is_covered():
    assert {name for case in CASES for name in case.names} >= set(shared_gpu().twins)


def test_the_fake_is_late():
    """Without waiting, the host must not see what a stream has not done."""
    gpu = fake_gpu()
    with gpu:
        a = gpu.zeros((2,), np.float32)
        gpu.xp.add(a, 1, out=a)
        assert a.view(np.ndarray).tolist() == [0, 0]
        assert gpu.to_host(a).tolist() == [1, 1]


DEEP = (9, 30, 20, 10, 3)


@pytest.mark.parametrize(
    ("sizes", "optimizer", "precision", "options"),
    [
        *((sizes, optimizer, "fp32", {}) for sizes in ((9, 3), (9, 200, 3), DEEP) for optimizer in ("sgd", "adam")),
        (DEEP, "adam", "fp32", {"normalization": "layer", "dropout": 0.2, "activations": "gelu"}),
        (DEEP, "sgd", "bf16", REGULARIZED["all"] | {"activations": "tanh"}),
    ],
)
def test_what_memory_foresees_is_enough(sizes, optimizer, precision, options):
    """The fake has no byte more than it was given, so the least memory that is not refused must do."""
    x, y = classes(300)
    parameters = xpnet.MLP(sizes).parameters.flat.nbytes
    memory, refused = SMALL + 4 * parameters, 0
    while True:
        try:
            gpu = fake_gpu(memory=memory, precision=precision)
            train(gpu, x, y, sizes=sizes, optimizer=OPTIMIZERS[optimizer], **options)
        except xpnet.OutOfMemoryError:
            memory, refused = int(memory * 1.1), refused + 1
        else:
            break
    assert refused > 0
