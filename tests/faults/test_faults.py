"""The short form: each kind of fault once, on trainings of half a second."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import pytest

if sys.platform != "linux":
    pytest.skip("faults are made by means of Linux", allow_module_level=True)

from .__main__ import trial_of
from .configurations import CASES, DIVERGING, GROWING, LABELS, Case
from .harness import Ground
from .kinds import FAULTS

pytestmark = pytest.mark.xdist_group("faults")  # which share their trials

SEED = 6
AT_ONCE = 4

ALL_SORTS = [CASES[0], CASES[2], LABELS]
"""Time, steps and epochs between checkpoints and rows; dropout, batch normalization, early stopping."""


@pytest.fixture(scope="module")
def trials(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Future[None]]]:
    """Every fault is on its way when the first one is asked for."""
    folder = tmp_path_factory.mktemp("faults")
    ground = Ground(folder, [*ALL_SORTS, DIVERGING, GROWING])
    started = {}
    with ThreadPoolExecutor(AT_ONCE) as pool:
        for number, (name, fault) in enumerate(FAULTS.items()):
            case = fault.case or ALL_SORTS[number % len(ALL_SORTS)]
            started[name] = pool.submit(strike, ground, name, number, case)
        yield started
    ground.close()


def strike(ground: Ground, name: str, number: int, case: Case) -> None:
    if why := FAULTS[name].impossible(ground.folder):
        pytest.skip(why)
    trial = trial_of(ground, SEED, name, number, case)
    try:
        FAULTS[name].strike(trial)
    except AssertionError as error:
        again = f"python -m tests.faults --seed {SEED} --only {name} --number {number} --case {case.name}"
        pytest.fail(f"{error}\nagain: {again}", pytrace=False)
    finally:
        trial.give_up()


@pytest.mark.parametrize("name", FAULTS)
def test_nothing_is_lost(trials, name):
    trials[name].result()
