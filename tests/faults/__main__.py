"""`python -m tests.faults`: the long form; how many faults were tried, and what was lost."""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from .configurations import DIVERGING, GROWING, Case, cases
from .harness import FileDamagedError, Ground, RunLostError, Trial
from .kinds import FAULTS, Fault


@dataclass
class Campaign:
    """All trials, drawn from one seed.

    Attributes:
        ground: Where.
        seed: Of every moment and place.
        kills: So many, in all trials of the fault "kill".
        lost, damaged: Trials in which a run was lost, or a file damaged.
        failed: Trials that could not be made.
    """

    ground: Ground
    seed: int
    kills: int
    lost: int = 0
    damaged: int = 0
    failed: int = 0
    tried: Counter[str] = field(default_factory=Counter)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def try_out(self, name: str, number: int, case: Case) -> None:
        """One trial, unless there were kills enough; what it leaves is removed if nothing was lost."""
        if name == "kill" and self.ground.tally["kills"] >= self.kills:
            return
        trial = None
        try:
            trial = trial_of(self.ground, self.seed, name, number, case)
            FAULTS[name].strike(trial)
            shutil.rmtree(trial.place)
        except RunLostError as error:
            self._tell("RUN LOST", error)
            self.lost += 1
        except FileDamagedError as error:
            self._tell("FILE DAMAGED", error)
            self.damaged += 1
        except Exception as error:  # the other trials go on
            self._tell(f"NOT TRIED ({type(error).__name__})", error)
            self.failed += 1
        finally:
            if trial is not None:
                trial.give_up()
        with self._lock:
            self.tried[name] += 1

    def _tell(self, what: str, error: Exception) -> None:
        with self._lock:
            print(f"{what}: {error}", flush=True)


def trial_of(ground: Ground, seed: int, name: str, number: int, case: Case) -> Trial:
    """The trial of that number: the same moments and places for the same seed."""
    ground.reference(case)  # not while the first run is on its way
    return Trial(ground, case, random.Random(f"{seed} {name} {number}"), f"{name}-{number}-{case.name}")


def plan(fault: Fault, trained: list[Case], numbers: range) -> Iterator[tuple[int, Case]]:
    """Trials of one fault: their numbers and what is trained."""
    trained = [fault.case] if fault.case else list(filter(fault.suits, trained))
    for number in numbers:
        yield number, trained[number % len(trained)]


def main() -> int:
    """Try all of it; the exit status."""
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=200, help="SIGKILLs at random moments")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6), help="by custom a new one")
    parser.add_argument("--only", nargs="+", choices=FAULTS, metavar="NAME", help=", ".join(FAULTS))
    parser.add_argument("--trials", type=int, help="of each fault; by custom as many as the table says")
    parser.add_argument("--number", type=int, help="only the trial of this number, again")
    parser.add_argument("--case", help="train only what has this in its name")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, help="an empty one for the runs; what fails is left there")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix="xpnet-faults-"))
    folder.mkdir(parents=True, exist_ok=True)
    trained = [case for case in cases() if not options.case or options.case in case.name]
    print(f"seed {options.seed}; runs are in {folder}", flush=True)
    ground = Ground(folder, [*trained, DIVERGING, GROWING])
    campaign = Campaign(ground, options.seed, options.kills)
    start = time.monotonic()
    for name in options.only or FAULTS:
        fault = FAULTS[name]
        if why := fault.impossible(folder):
            print(f"{name}: left out, {why}", flush=True)
            continue
        count = options.trials or (options.kills if name == "kill" else fault.trials)
        numbers = range(count) if options.number is None else range(options.number, options.number + 1)
        with ThreadPoolExecutor(options.jobs) as pool:
            for done in [pool.submit(campaign.try_out, name, *trial) for trial in plan(fault, trained, numbers)]:
                done.result()
        print(f"{time.monotonic() - start:6.0f} s  {name}: {campaign.tried[name]} trainings", flush=True)
    ground.close()
    print(summary(campaign, len(trained)))
    bad = campaign.lost + campaign.damaged + campaign.failed
    if not bad and not options.folder:
        shutil.rmtree(folder)
    return 1 if bad else 0


def summary(campaign: Campaign, trained: int) -> str:
    """How many of what, and what was lost, in a line."""
    counts = {**campaign.ground.tally, **{name: n for name, n in campaign.tried.items() if name != "kill"}}
    faults = ", ".join(f"{count} {name}" for name, count in counts.items())
    return (
        f"faults: over {trained} configurations {faults}; "
        f"slowest end after a signal {campaign.ground.slowest_exit:.2f} s, "
        f"seed {campaign.seed}: runs lost: {campaign.lost}, files damaged: {campaign.damaged}"
        + (f", not tried: {campaign.failed}" if campaign.failed else "")
    )


if __name__ == "__main__":
    sys.exit(main())
