"""Networks that embed codes on a GPU that a processor plays, and on a real one."""

import contextlib

import numpy as np
import pytest
from gpu.fake_cupy import fake_gpu
from gpu.host_kernels import why_not
from test_embeddings import SIZES, build, fit, samples
from test_program import OPTIMIZERS

import xpnet
from xpnet.data.samples import Samples
from xpnet.data.transform import InputTransform
from xpnet.devices.cuda.device import Cuda
from xpnet.feed import Feed
from xpnet.memory import SMALL

pytestmark = pytest.mark.skipif(why_not() is not None, reason=why_not() or "")

BATCH = 32


def trained(device, x, y, **options):
    """The parameters, the losses of the steps, and what the network predicts."""
    network = build(device, normalization=options.pop("normalization", None), sizes=options.pop("sizes", SIZES))
    network.transform = InputTransform(np.array([0.5, 2, 1, 9, 9]), np.array([1, 0, 0.5, 9, 9]))
    trainer = fit(network, x, y, **options)
    return network.device.to_host(network.parameters.flat), trainer.history.step_losses, network.predict_proba(x)


@pytest.mark.parametrize(("name", "hasty"), [("sgd", False), ("adamw", True)])
def test_training_gives_what_the_cpu_gives(name, hasty):
    x, y = samples()
    options = {"optimizer": OPTIMIZERS[name], "l2": 0.01, "dropout": 0.2, "normalization": "layer"}
    expected = trained("numpy", x, y, **options)
    for there, here in zip(trained(fake_gpu(hasty=hasty), x, y, **options), expected, strict=True):
        np.testing.assert_allclose(there, here, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("sizes", [SIZES, (12, 3)], ids=str)
def test_bfloat16_is_close_to_float32(sizes):
    """Where codes stay exact."""
    x, y = samples()
    options = {"optimizer": xpnet.SGD(0.2), "sizes": sizes}
    expected, losses = (trained(device, x, y, **options)[1] for device in ("numpy", fake_gpu(precision="bf16")))
    np.testing.assert_allclose(losses, expected, rtol=0.05)
    assert not np.array_equal(losses.astype(np.float32), expected.astype(np.float32))


def test_what_a_table_learns_in_bfloat16_comes_from_the_present_weights():
    """Of weights that were rounded before the first step, the gradient would be another soon."""
    x, y = samples()
    networks = [build(device, sizes=(12, 3)) for device in ("numpy", fake_gpu(precision="bf16"))]
    for network in networks:
        before = network.device.to_host(network.parameters.flat)
        network.device.upload(before * 3, out=network.parameters.flat)
        fit(network, x, y, optimizer=xpnet.SGD(1.0), epochs=10)
    learnt = [[network.device.to_host(table) for table in network.parameters.e] for network in networks]
    for here, there in zip(*learnt, strict=True):
        np.testing.assert_allclose(there, here, atol=0.03 * np.abs(here).max())


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_replay_gives_the_bits_of_eager_launches(precision):
    x, y = samples()
    results = [trained(fake_gpu(precision=precision, eager=eager), x, y) for eager in (False, True)]
    for replayed, eager in zip(*results, strict=True):
        np.testing.assert_array_equal(replayed, eager)


def test_a_step_has_a_few_launches_more():
    """One for the numbers, one a table; back one product and two a table. The others: see test_fake_gpu."""
    x, y = samples(10 * BATCH)
    gpu = fake_gpu()
    network = build(gpu)
    network.task, network.classes = "classification", (0, 1, 2)
    xpnet.Trainer(network, optimizer="sgd", batch_size=BATCH).prepare(Samples.of(x, y.astype(np.int32)))
    gathers = 2
    assert max(gpu.xp.nodes) - gathers == 10 * (10 + 1 + 2 + 1 + 2 * 2)


def test_samples_that_do_not_fit_come_by_windows_with_the_same_bits(monkeypatch):
    monkeypatch.setattr(Cuda, "block_rows", 16)
    x, y = samples(400)
    expected = trained(fake_gpu(), x, y)
    windows = []
    monkeypatch.setattr(
        Feed, "bring", lambda feed, rows, bring=Feed.bring: windows.append(feed.window) or bring(feed, rows)
    )
    memory = SMALL
    while not windows:
        memory += 6000
        with contextlib.suppress(xpnet.OutOfMemoryError):
            streamed = trained(fake_gpu(memory=memory), x, y)
    assert max(windows) < 200, windows
    for there, here in zip(streamed[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(there, here)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("width", [1, 600])
def test_what_memory_foresees_is_enough(width, precision):
    """As in test_fake_gpu: the least memory that is not refused must do; also where codes become more than all else."""
    sizes, embeddings = (3 + width, 2), ((7, width),)
    x, y = samples()[0][:, :4], np.arange(300) % 2
    parameters = build(sizes=sizes, embeddings=embeddings).parameters.flat.nbytes
    memory, refused = SMALL + 4 * parameters, 0
    while True:
        try:
            network = build(fake_gpu(memory=memory, precision=precision), sizes, embeddings=embeddings)
            fit(network, x, y, optimizer="sgd", epochs=1)
        except xpnet.OutOfMemoryError:
            memory, refused = int(memory * 1.1), refused + 1
        else:
            break
    assert refused > 0


@pytest.mark.gpu
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_gpu_trains_the_same_and_twice_the_same_bits(precision):
    x, y = samples(5000)
    options = {"optimizer": xpnet.SGD(0.1)}
    expected = trained("numpy", x, y, **options)
    results = [trained(xpnet.device("cuda", precision=precision), x, y, **options) for _ in range(2)]
    for once, again in zip(*results, strict=True):
        np.testing.assert_array_equal(once, again)
    tolerance = 1e-3 if precision == "fp32" else 0.1
    np.testing.assert_allclose(results[0][1], expected[1], rtol=tolerance)
