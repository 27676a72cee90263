"""Schedules, against their formulas and their shapes."""

from __future__ import annotations

import numpy as np
import pytest

import xpnet
from xpnet.schedules import (
    Constant,
    Cosine,
    Exponential,
    InverseScaling,
    OneCycle,
    Span,
    StepDecay,
    WarmUp,
)

SPAN = Span(per_epoch=10, total=100)
STEPS = np.arange(100)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (Constant(), {0: 1, 99: 1}),
        (StepDecay(0.5, every=3), {0: 1, 29: 1, 30: 0.5, 60: 0.25, 99: 0.125}),
        (Exponential(0.95), {0: 1, 9: 1, 10: 0.95, 99: 0.95**9}),
        (InverseScaling(0.5), {0: 1, 3: 0.5, 99: 0.1}),
        (Cosine(), {0: 1, 50: 0.5, 25: (1 + np.cos(np.pi / 4)) / 2}),
        (OneCycle(0.3), {0: 1 / 25, 29: 1, 99: 1 / 250_000}),
        (WarmUp(2), {0: 1 / 20, 9: 0.5, 19: 1, 50: 1}),
        (WarmUp(2, Exponential(0.5)), {0: 1 / 20, 10: 0.5 * 11 / 20, 20: 0.25}),
    ],
    ids=lambda value: type(value).__name__,
)
def test_the_factor_at_some_steps(schedule, expected):
    factors = schedule(STEPS, SPAN)
    assert factors.dtype == np.float64
    for step, factor in expected.items():
        assert factors[step] == pytest.approx(factor)
    assert (factors > 0).all()


@pytest.mark.parametrize("schedule", [Constant(), Cosine(), OneCycle(), WarmUp(1, Cosine()), StepDecay()])
@pytest.mark.parametrize("total", [1, 2, 3])
def test_short_trainings_have_finite_factors(schedule, total):
    factors = schedule(np.arange(total), Span(1, total))
    assert np.isfinite(factors).all()
    assert (factors >= 0).all()


def test_factors_do_not_depend_on_the_chunk_that_asks():
    for schedule in (Cosine(), OneCycle(), Exponential(), InverseScaling(), WarmUp(3, StepDecay())):
        whole = schedule(STEPS, SPAN)
        parts = np.concatenate([schedule(part, SPAN) for part in np.split(STEPS, [7, 30, 31])])
        np.testing.assert_array_equal(whole, parts)


def test_the_history_shows_the_learning_rate():
    x, y = np.random.default_rng(0).normal(size=(20, 2)), np.arange(20) % 2
    trainer = xpnet.Trainer(
        xpnet.MLP((2, 2)), optimizer=xpnet.SGD(0.4), schedule=Exponential(0.5), epochs=3, batch_size=10
    )
    assert trainer.fit(x, y).column("lr").tolist() == pytest.approx([0.4, 0.2, 0.1])


@pytest.mark.parametrize(
    "make",
    [
        lambda: StepDecay(0),
        lambda: StepDecay(0.5, every=0),
        lambda: Exponential(-1),
        lambda: InverseScaling(0),
        lambda: OneCycle(1),
        lambda: WarmUp(-1),
        lambda: xpnet.SGD(lr=0),
        lambda: xpnet.SGD(momentum=1),
        lambda: xpnet.Adam(beta1=-0.1),
        lambda: xpnet.Adam(eps=float("nan")),
        lambda: xpnet.RMSProp(lr=float("inf")),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(xpnet.XpnetError, match="got"):
        make()
