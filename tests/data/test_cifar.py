import io
import os
import pickle
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xpnet.data.cifar import read_cifar10

ROWS = 3
NAMES = [f"name{i}".encode() for i in range(10)]
FILES = [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"]
SHARED_FOLDER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def pixels(batch):
    return np.random.default_rng(batch).integers(0, 256, (ROWS, 3072), dtype=np.uint8)


def batch_record(batch=0, **changed):
    record = {"batch_label": b"a batch", "labels": [batch, 9, 0], "data": pixels(batch)} | changed
    return {key.encode(): value for key, value in record.items()}


@pytest.fixture
def pickled(tmp_path):
    for number, file in enumerate(FILES):
        (tmp_path / file).write_bytes(pickle.dumps(batch_record(number), protocol=2))
    (tmp_path / "batches.meta").write_bytes(pickle.dumps({b"label_names": NAMES}, protocol=2))
    return tmp_path


@pytest.fixture
def binary(tmp_path):
    for number, file in enumerate(FILES):
        rows = np.hstack([np.array([[number], [9], [0]], np.uint8), pixels(number)])
        (tmp_path / f"{file}.bin").write_bytes(rows.tobytes())
    (tmp_path / "batches.meta.txt").write_bytes(b"\n".join(NAMES) + b"\n\n")
    return tmp_path


@pytest.mark.parametrize("version", ["pickled", "binary"])
def test_both_versions_are_read(version, request):
    data = read_cifar10(request.getfixturevalue(version))
    np.testing.assert_array_equal(data.x, np.concatenate([pixels(i) for i in range(5)]))
    np.testing.assert_array_equal(data.y, [0, 9, 0, 1, 9, 0, 2, 9, 0, 3, 9, 0, 4, 9, 0])
    np.testing.assert_array_equal(data.x_test, pixels(5))
    np.testing.assert_array_equal(data.y_test, [5, 9, 0])
    assert (data.x.dtype, data.y.dtype, data.x.flags.c_contiguous) == (np.uint8, np.int32, True)
    assert (data.name, data.task, data.scale, data.image_shape) == ("cifar10", "classification", 1 / 255, (3, 32, 32))
    assert data.classes == tuple(name.decode() for name in NAMES)


def test_an_array_in_fortran_order_is_read(pickled):
    (pickled / "test_batch").write_bytes(pickle.dumps(batch_record(5, data=np.asfortranarray(pixels(5))), protocol=2))
    np.testing.assert_array_equal(read_cifar10(pickled).x_test, pixels(5))


class Calls:
    """Pickles as a call."""

    def __init__(self, function, *args):
        self.reduced = function, args

    def __reduce__(self):
        return self.reduced


class Persistent(pickle.Pickler):
    def persistent_id(self, value):
        return "id" if isinstance(value, bytes) else None


def persistent_pickle():
    stream = io.BytesIO()
    Persistent(stream, protocol=2).dump(batch_record())
    return stream.getvalue()


def global_call(module, name):
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"U\x01a\x85R."


def state_set_on(module, name):
    return b"\x80\x02c" + f"{module}\n{name}\n".encode() + b"}U\x01aU\x01bsb."


def array_of(shape, dtype, raw):
    """Returns the opcodes of an array whose state is what a writer of hostile files wishes."""
    array = b"cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
    return b"\x80\x02}U\x04data" + array + b"(K\x01" + shape + dtype + b"\x89" + raw + b"tbs."


BYTES = b"cnumpy\ndtype\nU\x02u1K\x00K\x01\x87R"
NESTED_TUPLES = b"\x80\x02}" + b"K\x01" + b"\x85" * 100_000 + b"K\x01s."
WIDE_TUPLES = b"\x80\x02}" + b"K\x01q\x00" + b"h\x00h\x00\x86q\x00" * 64 + b"K\x01s."


@pytest.mark.parametrize(
    ("raw", "fact"),
    [
        (pickle.dumps(Calls(os.system, "exit 1"), protocol=2), f"asks for {os.system.__module__}.system"),
        (pickle.dumps({b"data": [Calls(eval, "1")]}, protocol=2), "asks for __builtin__.eval"),
        (pickle.dumps(Calls(os.system, "exit 1"), protocol=4), "than CIFAR-10 needs"),
        (pickle.dumps(batch_record(data=pixels(0)), protocol=5), "than CIFAR-10 needs"),
        (global_call("numpy", "core.multiarray.os.system"), "asks for numpy.core.multiarray.os.system"),
        (global_call("numpy.core", "multiarray"), "asks for numpy.core.multiarray"),
        (global_call("builtins", "bytearray"), "asks for builtins.bytearray"),
        (global_call("numpy", "ndarray"), "calls numpy.ndarray itself"),
        (global_call("numpy", "dtype"), "array of type b'a'"),
        (global_call("_codecs", "encode"), "cannot be read as a CIFAR-10 pickle"),
        (state_set_on("_codecs", "encode"), "sets the state of a function"),
        (b"\x80\x02ios\nsystem\n(U\x01ao.", "INST"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02Pid\n.", "PERSID"),
        (persistent_pickle(), "BINPERSID"),
        (pickle.dumps(batch_record(data=np.array([[None]])), protocol=2), "array of type"),
        (pickle.dumps(batch_record(data=np.ones((ROWS, 3072))), protocol=2), "array of type"),
        (pickle.dumps(batch_record(data=np.zeros(3, "u1,u1")), protocol=2), "array of type"),
        (pickle.dumps(batch_record(data=b"bytes"), protocol=2), "no array of bytes under 'data'"),
        (pickle.dumps(batch_record(data=pixels(0)[:, :3000]), protocol=2), "shape (3, 3000), not (rows, 3072)"),
        (pickle.dumps(batch_record(data=pixels(0)[0], labels=[]), protocol=2), "shape (3072,)"),
        (pickle.dumps(batch_record(labels=[1, 2]), protocol=2), "3 images but 2 labels"),
        (pickle.dumps(batch_record(labels=None), protocol=2), "3 images but no labels"),
        (pickle.dumps(batch_record(labels=[1, 10, 2]), protocol=2), "label 10 in row 1, not one of 0 to 9"),
        (pickle.dumps(batch_record(labels=[1, 2, -1]), protocol=2), "label -1 in row 2"),
        (pickle.dumps(batch_record(labels=[1, 2, True]), protocol=2), "label True in row 2"),
        (pickle.dumps([1, 2], protocol=2), "holds a list, not the dict"),
        (pickle.dumps(batch_record(), protocol=2)[:-100], "cannot be read as a CIFAR-10 pickle"),
        (b"", "cannot be read as a CIFAR-10 pickle"),
        (array_of(b"K\x02K\x02\x86", BYTES, b"U\x03abc"), "cannot be read as a CIFAR-10 pickle"),
        (
            array_of(b"J\xff\xff\xff\x7fJ\xff\xff\xff\x7f\x86", BYTES, b"U\x03abc"),
            "cannot be read as a CIFAR-10 pickle",
        ),
        (array_of(b"K\x01\x85", BYTES, b"](Nu"), "cannot be read as a CIFAR-10 pickle"),
        (array_of(b"K\x01\x85", b"U\x02u1", b"U\x01a"), "array of another type than bytes"),
        (array_of(b"K\x01\x85", b"cnumpy\ndtype\nU\x0bV1000000000\x85R", b"U\x01a"), "array of type b'V1000000000'"),
        (b"\x80\x02}r\xff\xff\xff\x7f.", "memo of 2147483647 slots"),
        (b"\x80\x02}T\xff\xff\xff\x7fabc.", "cannot be read as a CIFAR-10 pickle"),
        (b"\x80\x04}\x8e\xff\xff\xff\xff\xff\xff\xff\x0fabc.", "cannot be read as a CIFAR-10 pickle"),
        (b"\x80\x02" + b"]" * 100_000 + b".", "more EMPTY_LIST than CIFAR-10 needs"),
        (NESTED_TUPLES, "more TUPLE1 than CIFAR-10 needs"),
        (WIDE_TUPLES, "more BINGET than CIFAR-10 needs"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_hostile_and_damaged_pickles_are_refused(pickled, raw, fact, refusal):
    (pickled / "data_batch_2").write_bytes(raw)
    message = refusal(read_cifar10, pickled)
    assert "data_batch_2" in message
    assert fact in message


@pytest.mark.parametrize("names", [NAMES[:9], None, [1] * 10])
def test_wrong_class_names_are_refused(pickled, names, refusal):
    (pickled / "batches.meta").write_bytes(pickle.dumps({b"label_names": names}, protocol=2))
    assert "batches.meta does not hold 10 class names" in refusal(read_cifar10, pickled)


def test_a_wrong_binary_size_is_refused(binary, refusal):
    (binary / "data_batch_4.bin").write_bytes(bytes(3073 + 5))
    assert "data_batch_4.bin has 3078 bytes, no multiple of 3073" in refusal(read_cifar10, binary)


def test_a_wrong_binary_label_is_refused(binary, refusal):
    (binary / "data_batch_4.bin").write_bytes(struct.pack("B", 200) + bytes(3072))
    assert "data_batch_4.bin holds the label 200 in row 0" in refusal(read_cifar10, binary)


@pytest.mark.parametrize("file", ["batches.meta", "data_batch_5", "test_batch"])
def test_a_missing_file_is_named(pickled, file, refusal):
    (pickled / file).unlink()
    assert f"{file} does not exist" in refusal(read_cifar10, pickled)


def test_a_file_of_absurd_size_is_not_read_on(pickled, monkeypatch, refusal):
    monkeypatch.setattr("xpnet.data.cifar._MAX_FILE", 5000)
    assert "more than 5000 bytes" in refusal(read_cifar10, pickled)


@SHARED_FOLDER
@given(st.integers(0, 10_000), st.binary(max_size=12))
def test_any_changed_pickle_is_read_or_refused(pickled, done_or_refused, position, noise):
    raw = pickle.dumps(batch_record(), protocol=2)
    start = raw.index(b"labels") if position % 2 else 0  # the pixels fill most of the file
    position = start + position % 300
    (pickled / "data_batch_1").write_bytes(raw[:position] + noise + raw[position + len(noise) :])
    done_or_refused(read_cifar10, pickled)


@SHARED_FOLDER
@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(pickled, refusal, raw):
    (pickled / "data_batch_2").write_bytes(b"\x80\x02" + raw)
    assert "data_batch_2" in refusal(read_cifar10, pickled)
