"""A step and an epoch of 784-300-100-10, and predictions."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from bench.conftest import BATCHES, SIZES, prepared, samples
from xpnet.data.transform import InputTransform
from xpnet.dropout import dropout_keys
from xpnet.program import Chunk


@pytest.mark.parametrize("batch", BATCHES)
@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_step(device, batch, measure):
    run_chunk(prepared(device, batch), batch, measure)


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_step_of_another_optimizer(optimizer, measure):
    run_chunk(prepared("cpu", 200, optimizer), 200, measure)


REGULARIZED = {
    "dropout": {"dropout": 0.5},
    "batch-norm": {"normalization": "batch"},
    "layer-norm": {"normalization": "layer"},
    "max-norm": {"max_norm": 3.0},
}


@pytest.mark.parametrize("name", REGULARIZED)
def test_step_of_a_regularized_network(name, measure):
    options = dict(REGULARIZED[name])
    network = xpnet.MLP(SIZES, normalization=options.pop("normalization", None))
    network.transform = InputTransform(1 / 255)
    network.task, network.classes = "classification", tuple(range(SIZES[-1]))
    trainer = xpnet.Trainer(network, optimizer=xpnet.SGD(0.01), batch_size=200, **options)
    run_chunk(trainer.prepare(samples(8192)), 200, measure)


def run_chunk(training, batch, measure):
    """One step by the program, with its upload and its read-out."""
    order = training.samples.rows[:batch]
    layers = len(training.trainer.dropout)
    keys = dropout_keys(0, layers, np.zeros(1, dtype=int)) if training.program.workspace.drops else None
    chunk = Chunk(order, training.update.table(np.zeros(1), np.full(1, 1e-4), np.zeros(1)), keys)
    measure(lambda: training.program.run(chunk), batch)


def test_epoch(measure):
    """Through the trainer, shuffle and history and all."""

    def epoch():
        network = xpnet.MLP(SIZES)
        network.transform = InputTransform(1 / 255)
        network.task, network.classes = "classification", tuple(range(10))
        xpnet.Trainer(network, optimizer="sgd", batch_size=200, epochs=1).train(samples(8192))

    measure(epoch, 200)


def test_predictions(measure):
    network = xpnet.MLP(SIZES)
    x = samples(8192).x
    measure(lambda: network.predict_proba(x), 1024)
