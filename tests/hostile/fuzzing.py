"""Fuzzes every reader: `python -m tests.hostile.fuzzing --inputs 100000`.

An input is a good file with a few changes; one that reaches code of ours that none has reached before is kept and
changed further. It must be read, or refused by one printable line of an XpnetError; within limits of time and memory.
"""

import argparse
import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

from cyclopts import CycloptsError

from xpnet.errors import XpnetError, printable

from . import mutations
from .readers import Reader, all_readers

ROOT = str(Path(__file__).resolve().parents[2])
SECONDS = 5.0
"""For an input."""
MEMORY = 2**29
"""Bytes of address space that an input may add."""
LONGEST_MESSAGE = 2000
FROM_GOOD, SPLICED, STRUCTURED = 0.7, 0.05, 0.8
"""Parts of the inputs that come of one that could be read, or of a splice; and of the changes that know the format."""


class TooSlow(BaseException):
    """The time for an input is over; no reader catches it."""


@dataclass
class Tally:
    """What came of the inputs of a reader."""

    reader: str
    inputs: int = 0
    kept: int = 0
    read: int = 0
    failures: list[str] = field(default_factory=list)
    verdicts: Counter[str] = field(default_factory=Counter)


class Coverage:
    """Lines of ours, each with the one before it in its function, that have been reached."""

    def __init__(self, files: tuple[str, ...]) -> None:
        self._files = tuple(os.path.join(ROOT, file) for file in files)
        self._ours: dict[str, bool] = {}
        self._reached: set[tuple[Any, ...]] = set()

    @contextlib.contextmanager
    def watching(self, news: list[bool]) -> Iterator[None]:
        """Adds to the list if something new is reached."""
        before = sys.gettrace()

        def enter(frame: FrameType, event: str, argument: Any) -> Any:
            code = frame.f_code
            ours = self._ours.get(code.co_filename)
            if ours is None:
                ours = self._ours[code.co_filename] = code.co_filename.startswith(self._files)
            if not ours:
                return None
            last = 0

            def step(frame: FrameType, event: str, argument: Any) -> Any:
                nonlocal last
                edge = code, last, frame.f_lineno, event == "exception"
                last = frame.f_lineno
                if edge not in self._reached:
                    self._reached.add(edge)
                    news.append(True)
                return step

            return step

        sys.settrace(enter)
        try:
            yield
        finally:
            sys.settrace(before)


def fuzz(reader: Reader, inputs: int, seed: int, folder: Path, *, progress: bool = False) -> Tally:
    """Tries so many inputs, the same ones for the same seed; those that fail are left in the folder `failures`."""
    tally, rng = Tally(reader.name), Random(f"{reader.name} {seed}")
    corpus, coverage = reader.seeds(), Coverage(reader.code)
    reader.prepare(folder)
    beside = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
    seeds, good = len(corpus), list(corpus)
    for raw in corpus:  # what is compiled or imported at first counts for none of them
        path = folder / reader.file(raw)
        path.write_bytes(raw)
        reader.follow(reader.read(path))
    with limited_memory(), interrupted_by_time():
        for number in range(inputs):
            raw = corpus[number] if number < seeds else mutated(rng, reader, good, corpus)
            path = folder / reader.file(raw)
            path.write_bytes(raw)
            verdict, news = judge(reader, path, coverage)
            tally.inputs += 1
            tally.verdicts[verdict.partition(":")[0]] += 1
            if verdict not in ("read", "refused"):
                tally.failures.append(f"{keep(folder, reader, number, path)}: {verdict}")
            elif news and number >= seeds:
                corpus.append(raw)
                if verdict == "read":
                    good.append(raw)
            if path.name in beside:
                path.write_bytes(beside[path.name])
            if progress and (number + 1) % 10_000 == 0:
                print(
                    f"{reader.name}: {number + 1:,} inputs, {len(corpus)} kept, {len(tally.failures)} failures",
                    flush=True,
                )
    tally.kept = len(corpus)
    return tally


def mutated(rng: Random, reader: Reader, good: list[bytes], corpus: list[bytes]) -> bytes:
    """An input out of one or two that were kept, more often of those that could be read."""
    raw = rng.choice(good if rng.random() < FROM_GOOD else corpus)
    if rng.random() < SPLICED:
        raw = mutations.splice(rng, raw, rng.choice(corpus))
    for _ in range(rng.choice((1, 1, 1, 1, 2, 4))):
        structured = reader.steps and rng.random() < STRUCTURED
        step = rng.choice(reader.steps) if structured else mutations.damaged
        raw = step(rng, raw or b"\0")[: mutations.LONGEST]
    return raw


def judge(reader: Reader, path: Path, coverage: Coverage) -> tuple[str, bool]:
    """ "read" or "refused", or what is wrong with how it went; and whether something new was reached."""
    news: list[bool] = []
    verdict = "read"
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of NumPy's, on headers that Python 2 wrote
            with coverage.watching(news):
                result = reader.read(path)
            reader.follow(result)
    except (XpnetError, CycloptsError) as error:
        verdict = judge_refusal(error)
    except TooSlow:
        verdict = f"over the time limit: more than {SECONDS:g} s"
    except MemoryError:
        verdict = f"over the memory limit: {last_line()}"
    except BaseException as error:
        verdict = f"another error: {type(error).__name__}, {printable(str(error))[:200]}; {last_line()}"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    return verdict, bool(news)


def judge_refusal(error: BaseException) -> str:
    """ "refused", or what is wrong with the sentence or its cause."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) and not parsed_too_deep(cause):
            return f"over the memory limit: {printable(str(cause))[:200]}"
        cause = cause.__cause__ or cause.__context__
    message = str(error)
    if isinstance(error, CycloptsError):
        message = printable(" ".join(message.split()))  # as the command prints it
    if not message.strip() or not message.isprintable() or len(message) > LONGEST_MESSAGE:
        return f"no sentence: {printable(message)[:200]!r} of {len(message)} characters"
    return "refused"


def parsed_too_deep(error: BaseException) -> bool:
    """Whether it is Python's parser that says so of brackets in brackets, which takes no memory."""
    return any(frame.f_code.co_filename.endswith("ast.py") for frame, _ in traceback.walk_tb(error.__traceback__))


def last_line() -> str:
    """Where the error that is being handled came from."""
    frame = traceback.extract_tb(sys.exc_info()[2])[-1]
    return f"{Path(frame.filename).name}, line {frame.lineno}"


def keep(folder: Path, reader: Reader, number: int, path: Path) -> Path:
    """Copy of an input that failed."""
    kept = folder / "failures" / f"{reader.name}-{number}-{path.name}"
    kept.parent.mkdir(exist_ok=True)
    shutil.copyfile(path, kept)
    return kept


@contextlib.contextmanager
def interrupted_by_time() -> Iterator[None]:
    """Let the timer raise TooSlow."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise TooSlow

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGALRM, before)


@contextlib.contextmanager
def limited_memory() -> Iterator[None]:
    """Let allocations fail beyond what is in use and MEMORY; where the system can tell (Linux)."""
    try:
        in_use = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        yield
        return
    import resource

    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (in_use + MEMORY, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def work(name: str, inputs: int, seed: int, folder: str) -> Tally:
    """One reader, in a process of its own."""
    place = Path(folder) / name
    place.mkdir()
    return fuzz(all_readers(thorough=True)[name], inputs, seed, place, progress=True)


def apart(name: str, inputs: int, seed: int, folder: Path) -> Tally:
    """One reader, in a process of its own: if that crashes, it is a failure, with the input that it was at."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            tally = pool.submit(work, name, inputs, seed, str(folder)).result()
        except BrokenProcessPool:
            tally = Tally(name, failures=[f"{folder / name}: crash: the process died; its last input is there"])
    print(f"{name}: {tally.inputs:,} inputs, {dict(tally.verdicts)}, {tally.kept} kept", flush=True)
    return tally


def main() -> int:
    """Run the command; 1 if an input failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.hostile.fuzzing", description=__doc__)
    parser.add_argument("--inputs", type=int, default=2000, help="for each reader")
    parser.add_argument("--reader", action="append", choices=list(all_readers(thorough=True)), help="by custom all")
    parser.add_argument("--seed", type=int, help="by custom a new one")
    parser.add_argument("--jobs", type=int, default=2, help="readers at a time")
    options = parser.parse_args()
    seed = int(time.time()) if options.seed is None else options.seed
    names = options.reader or list(all_readers(thorough=True))
    print(f"fuzzing with seed {seed}", flush=True)
    names.sort(key=lambda name: name != "toml")  # which takes the longest
    in_memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    folder = Path(tempfile.mkdtemp(prefix="xpnet-fuzzing-", dir=in_memory))
    with ThreadPoolExecutor(options.jobs) as threads:
        tallies = list(threads.map(lambda name: apart(name, options.inputs, seed, folder), names))
    failures = [failure for tally in tallies for failure in tally.failures]
    for failure in failures:
        print(failure)
    slow, large = (sum(f": over the {what} limit" in failure for failure in failures) for what in ("time", "memory"))
    if not failures:
        shutil.rmtree(folder)
    print(
        f"fuzzing: {len(tallies)} readers, {sum(tally.inputs for tally in tallies):,} inputs, seed {seed}: "
        f"{len(failures) - slow - large} failures, {slow} over the time limit, {large} over the memory limit"
    )
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
