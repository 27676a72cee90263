"""Pickles of strangers in CIFAR-10's place; what tests/data/test_cifar.py tries is not tried again."""

import copyreg
import pickle
import struct

import numpy as np
import pytest

from xpnet.data.cifar import read_cifar10

NAMES = {b"label_names": [b"a"] * 10}
GOOD = pickle.dumps({b"labels": [1], b"data": np.zeros((1, 3072), np.uint8)}, protocol=2)


class Reduced:
    def __init__(self, *reduced):
        self.reduced = reduced

    def __reduce__(self):
        return self.reduced


def chain():
    """A call of what another call returns."""
    return Reduced(getattr, (Reduced(__import__, ("os",)), "system"))


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value)) + value.encode()


def array_state(state: bytes) -> bytes:
    return b"\x80\x02}U\x04datacnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\0\x85U\1b\x87R" + state + b"bs."


TRICKS = {
    "a chain of calls": pickle.dumps({b"data": chain()}, protocol=2),
    "an object with items": pickle.dumps(Reduced(list, (), None, iter([1])), protocol=2),
    "an object with state": pickle.dumps(Reduced(dict, (), {"a": 1}), protocol=2),
    "copyreg": pickle.dumps(Reduced(copyreg._reconstructor, (object, object, None)), protocol=2),
    "a new object": b"\x80\x02cbuiltins\nobject\n)\x81.",
    "a new object with keywords": b"\x80\x04cbuiltins\nobject\n)}\x92.",
    "a global from the stack": b"\x80\x04" + text("os") + text("system") + b"\x93.",
    "a nested global": b"\x80\x04cnumpy\ncore.multiarray._reconstruct.__globals__\n.",
    "what a stand-in is": b"\x80\x02cnumpy\ndtype.__class__\n.",
    "what a stand-in calls": b"\x80\x02c_codecs\nencode._call\n.",
    "builtins by another name": b"\x80\x02c__builtin__\neval\n.",
    "NumPy's own loader": b"\x80\x02cnumpy\nload\nU\x01a\x85R.",
    "NumPy's objects": pickle.dumps(np.array([print], dtype=object), protocol=2),
    "NumPy's memory map": b"\x80\x02cnumpy\nmemmap\nU\x01a\x85R.",
    "NumPy's scalars": pickle.dumps(np.float64(1), protocol=2),
    "a number of EXT1": b"\x80\x02\x82\x01.",
    "a number of EXT2": b"\x80\x02\x83\x01\0.",
    "a number of EXT4": b"\x80\x02\x84\x01\0\0\0.",
    "an OBJ": b"\x80\x02(cos\nsystem\nU\x01ao.",
    "a persistent name": b"Pos.system\n.",
    "a persistent object": b"\x80\x02U\x01aQ.",
    "LONG1": b"\x80\x02\x8a\xff" + b"\x7f" * 255 + b".",
    "LONG4": b"\x80\x02\x8b" + struct.pack("<i", 10**6) + b"\x7f" * 10**6 + b".",
    "LONG4 of a negative length": b"\x80\x02\x8b" + struct.pack("<i", -1) + b".",
    "a long number in digits": b"L" + b"9" * 10**6 + b"L\n.",
    "another one": b"I" + b"9" * 10**6 + b"\n.",
    "a frame of 2**60 bytes": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"}.",
    "text of 2**60 bytes": b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b"a.",
    "a byte array of 2**60": b"\x80\x05\x96" + struct.pack("<Q", 2**60) + b"a.",
    "a buffer from outside": b"\x80\x05\x97.",
    "a flood of doublings": b"\x80\x02}" + b"2" * 10**6 + b".",
    "a flood of pops": b"\x80\x02}" + b"]0" * 10**6 + b".",
    "a flood of marks": b"\x80\x02}" + b"(" * 10**6 + b".",
    "a flood of marks taken off": b"\x80\x02}" + b"(1" * 10**6 + b".",
    "a flood of memoizing": b"\x80\x04}" + b"\x94" * 10**6 + b".",
    "pops of nothing": b"\x80\x02" + b"0" * 30 + b".",
    "the memo of what is not in it": b"\x80\x02h\x05.",
    "a memo that holds itself": b"\x80\x02]q\0h\0a.",
    "lists that double": b"\x80\x02]q\0" + b"]q\1h\0ah\0a" * 40 + b".",
    "lists in lists": b"\x80\x02" + b"](" * 10**5 + b"e" * 10**5 + b".",
    "tuples in tuples": b"\x80\x02)" + b"\x85" * 10**6 + b".",
    "sets": b"\x80\x04\x8f(K\1\x90.",
    "frozen sets": b"\x80\x04(K\1\x91.",
    "a newer protocol": b"\x80\x7f}.",
    "no end": GOOD[:-1],
    "a key that has no hash": b"\x80\x02}]K\1s.",
    "items of a function": b"\x80\x02cnumpy\ndtype\n(K\1K\2u.",
    "elements of a function": b"\x80\x02cnumpy\ndtype\n(K\1e.",
    "an array without bytes": array_state(b"(K\1K\1\x85cnumpy\ndtype\nU\2u1\x85R\x89Nt"),
    "an array of endless dimensions": array_state(b"(K\1(" + b"K\1" * 100 + b"tcnumpy\ndtype\nU\2u1\x85R\x89U\1at"),
    "an array of a shape that wraps around": array_state(
        b"(K\1" + b"J\xff\xff\xff\x7f" * 3 + b"\x87cnumpy\ndtype\nU\2u1\x85R\x89U\1at"
    ),
    "an array of its own": array_state(b"(K\1h\0\x85cnumpy\ndtype\nU\2u1\x85R\x89U\1at"),
    "empty": b".",
}


@pytest.fixture
def folder(tmp_path):
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        (tmp_path / name).write_bytes(GOOD)
    (tmp_path / "batches.meta").write_bytes(pickle.dumps(NAMES, protocol=2))
    return tmp_path


def test_the_folder_is_good_without_tricks(folder):
    assert read_cifar10(folder).x.shape == (5, 3072)


@pytest.mark.parametrize("raw", TRICKS.values(), ids=TRICKS)
@pytest.mark.parametrize("file", ["data_batch_1", "batches.meta"])
def test_a_trick_is_refused(folder, refusal, monkeypatch, file, raw):
    monkeypatch.setattr("os.system", lambda *_: pytest.fail("a command was run"))
    (folder / file).write_bytes(raw)
    assert file in refusal(read_cifar10, folder, memory=2**25)


def test_a_sparse_file_of_100_gigabytes_is_not_read_on(folder, sparse_file, refusal, monkeypatch):
    monkeypatch.setattr("xpnet.data.cifar._MAX_FILE", 2**20)
    sparse_file("data_batch_3", GOOD, 10**11)
    assert "data_batch_3 has more than 1048576 bytes" in refusal(read_cifar10, folder)
