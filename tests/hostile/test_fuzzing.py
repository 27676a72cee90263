"""Every reader on 2,000 changed files, and the fuzzer itself on readers that have the faults it looks for."""

import dataclasses
import signal
import time

import numpy as np
import pytest

from xpnet.errors import DataError

from . import fuzzing
from .readers import Reader, all_readers

if not hasattr(signal, "setitimer"):
    pytest.skip("there is no timer here that ends an input", allow_module_level=True)

SEED = 1
READERS = all_readers(thorough=False)


@pytest.mark.parametrize("name", READERS)
def test_only_our_own_errors_come_out(name, tmp_path):
    tally = fuzzing.fuzz(READERS[name], 2000, SEED, tmp_path)
    assert tally.failures == [], f"seed {SEED}"
    assert tally.inputs == 2000
    assert tally.verdicts["read"] > 10  # else the changes destroy all that could be looked into
    assert tally.verdicts["refused"] > 10
    assert tally.kept > len(READERS[name].seeds())  # new lines were reached


def test_the_same_seed_tries_the_same_inputs(tmp_path):
    tried = [[], [], []]
    for place, seed in enumerate((3, 3, 4)):
        folder = tmp_path / str(place)
        folder.mkdir()
        npz = READERS["npz"]

        def read(path, inputs=tried[place], npz=npz):
            inputs.append(path.read_bytes())
            return npz.read(path)

        fuzzing.fuzz(dataclasses.replace(npz, read=read), 200, seed, folder)
    assert tried[0] == tried[1] != tried[2]


def too_slow(path):
    try:
        while path.stat().st_size:
            time.sleep(0.01)
    except Exception:  # a reader may catch what it will
        pass


def too_large(path):
    try:
        np.ones(2**28)
    except MemoryError as error:
        raise DataError("it cannot be read") from error


def two_lines(path):
    error = DataError("one")
    error.args = ("one\ntwo",)
    raise error


def wrong_error(path):
    raise KeyError("x")


@pytest.mark.parametrize(
    ("fault", "verdict"),
    [
        (too_slow, "over the time limit"),
        (too_large, "over the memory limit"),
        (two_lines, "no sentence"),
        (wrong_error, "another error: KeyError"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_fault_of_a_reader_is_found_and_its_input_kept(tmp_path, monkeypatch, fault, verdict):
    monkeypatch.setattr(fuzzing, "SECONDS", 0.2)
    calls = []

    def read(path):
        calls.append(path.read_bytes())
        if len(calls) > 2 and path.read_bytes() != b"good":  # not when it is warmed up
            fault(path)

    reader = Reader("faulty", ("tests/",), lambda: [b"good"], (), read, lambda raw: "input")
    tally = fuzzing.fuzz(reader, 5, SEED, tmp_path)
    assert tally.failures
    assert all(verdict in failure for failure in tally.failures)
    assert len(list((tmp_path / "failures").iterdir())) == len(tally.failures)


def test_what_reaches_new_lines_is_kept(tmp_path):
    """A byte that opens a door is found by chance once, and then stands in many inputs."""
    names = {"opened": 0}
    code = "def read(raw):\n  global opened\n  if raw[:1] == b'Q':\n    opened += 1\n"
    exec(compile(code, f"{fuzzing.ROOT}/door.py", "exec"), names)
    reader = Reader(
        "door", ("door.py",), lambda: [b"PRU"], (), lambda p: names["read"](p.read_bytes()), lambda raw: "i"
    )
    fuzzing.fuzz(reader, 2000, SEED, tmp_path)
    watched, names["opened"] = names["opened"], 0
    fuzzing.fuzz(dataclasses.replace(reader, code=("nothing.py",)), 2000, SEED, tmp_path)
    assert 0 < 5 * names["opened"] < watched
