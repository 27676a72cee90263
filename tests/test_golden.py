"""Ten steps of a small network against numbers from an independent program, tests/golden/make_golden.py."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.data.samples import Samples
from xpnet.dropout import dropout_keys
from xpnet.feed import Feed
from xpnet.losses import Loss, Metric
from xpnet.program import Chunk, Program
from xpnet.workspace import Workspace

GOLDEN = Path(__file__).parent / "golden"
sys.path.insert(0, str(GOLDEN))
import make_golden as golden  # noqa: E402 - a script beside its numbers, found by the line above

EXPECTED = json.loads((GOLDEN / "golden.json").read_text())
X = np.array(golden.matrix(golden.ROWS, golden.SIZES[0], 0.1))
LABELS = np.array([i * i % golden.SIZES[-1] for i in range(golden.ROWS)], dtype=np.int32)


def golden_network(**options) -> xpnet.MLP:
    network = xpnet.MLP(golden.SIZES, "tanh", dtype="float64", **options)
    for depth, (w, b) in enumerate(zip(network.parameters.w, network.parameters.b, strict=True)):
        w[...] = golden.matrix(*w.shape, 1.0 + depth)
        b[...] = golden.wave(len(b), 2.0 + depth)
    for depth, gain in enumerate(network.parameters.gains):
        gain[...] = 1 + 0.1 * np.array(golden.wave(len(gain), 3.0 + depth))
    network.task, network.classes = "classification", ("0", "1", "2")
    return network


@pytest.fixture
def network() -> xpnet.MLP:
    return golden_network()


def test_ten_losses_and_the_parameters_after_them(network):
    trainer = xpnet.Trainer(network, optimizer=xpnet.SGD(golden.LR), l2=golden.L2, batch_size="all", epochs=10)
    history = trainer.train(Samples.of(X, LABELS))
    assert history.initial_loss == pytest.approx(EXPECTED["losses"][0], rel=1e-13)
    after_each_step = [row.train_loss for row in history.rows]  # data loss before the step, penalty after it
    penalties = trainer.penalty()
    np.testing.assert_allclose(history.step_losses[-1] + penalties, after_each_step[-1], rtol=1e-13)
    for w, b, expected_w, expected_b in zip(
        network.parameters.w, network.parameters.b, *EXPECTED["last_parameters"].values(), strict=True
    ):
        np.testing.assert_allclose(w, expected_w, rtol=1e-11, atol=1e-14)
        np.testing.assert_allclose(b, expected_b, rtol=1e-11, atol=1e-14)


def test_every_gradient_of_the_first_step(network):
    loss, metric = Loss.for_output("softmax"), Metric.for_task("classification", "softmax")
    samples = Samples.of(X, LABELS)
    feed = Feed(samples, network, loss, metric)
    update = xpnet.SGD(0.1, momentum=0.5).bind(network.parameters, decays=False, clip_norm=None)
    before = [w.copy() for w in network.parameters.w]
    workspace = Workspace(network, feed, golden.ROWS)
    program = Program(network, loss, metric, update, feed, workspace, batch=golden.ROWS, chunk=1)
    summed = program.run(Chunk(samples.rows, update.table(np.zeros(1), np.ones(1), np.zeros(1)))).losses
    penalty = 0.5 * golden.L2 * sum((w**2).sum() for w in before)
    assert summed[0] / golden.ROWS + penalty == pytest.approx(EXPECTED["losses"][0], rel=1e-13)
    for w, dw, expected in zip(before, update.grads.w, EXPECTED["first_gradients"]["dw"], strict=True):
        np.testing.assert_allclose(dw + golden.L2 * w, expected, rtol=1e-11, atol=1e-14)
    for db, expected in zip(update.grads.b, EXPECTED["first_gradients"]["db"], strict=True):
        np.testing.assert_allclose(db, expected, rtol=1e-11, atol=1e-14)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("kind", ["batch", "layer"])
def test_ten_steps_with_normalization_dropout_and_smoothed_labels(kind, device):
    network, expected = golden_network(normalization=kind, device=device), EXPECTED["normalization"][kind]
    loss, metric = Loss.for_output("softmax", smoothing=golden.SMOOTHING), Metric("accuracy", "softmax")
    samples, steps = Samples.of(X, LABELS), np.arange(10)
    feed = Feed(samples, network, loss, metric)
    update = xpnet.SGD(golden.LR).bind(network.parameters, decays=True, clip_norm=None)
    workspace = Workspace(network, feed, golden.ROWS, dropout=golden.RATES)
    program = Program(network, loss, metric, update, feed, workspace, batch=golden.ROWS, chunk=10, norms=True)
    table = update.table(steps, np.full(10, golden.LR), np.full(10, golden.L2))
    keys = dropout_keys(golden.SEED, len(golden.RATES), steps)
    outcome = program.run(Chunk(np.resize(samples.rows, 10 * golden.ROWS), table, keys))

    losses = outcome.losses / golden.ROWS + 0.5 * golden.L2 * outcome.norms
    np.testing.assert_allclose(losses, expected["losses"], rtol=1e-12)
    p = network.parameters
    for views, values in zip((p.w, p.b, p.gains), expected["last_parameters"].values(), strict=True):
        for view, value in zip(views, values, strict=True):
            np.testing.assert_allclose(view, value, rtol=1e-10, atol=1e-13)
    if network.statistics is not None:
        for i, value in enumerate(map(np.array, expected["running"])):
            np.testing.assert_allclose(network.statistics.mean[i], value[:, 0], rtol=1e-11)
            np.testing.assert_allclose(network.statistics.variance[i], value[:, 1], rtol=1e-11)
