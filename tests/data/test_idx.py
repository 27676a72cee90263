import gzip
import struct

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from xpnet.data.idx import read_idx

CODES = {"u1": 0x08, "i1": 0x09, "i2": 0x0B, "i4": 0x0C, "f4": 0x0D, "f8": 0x0E}
SHARED_FOLDER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def idx_bytes(array):
    code = CODES[array.dtype.str[1:]]
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, code, array.ndim, *array.shape)
    return header + array.astype(array.dtype.newbyteorder(">")).tobytes()


@SHARED_FOLDER
@given(
    st.sampled_from(sorted(CODES)).flatmap(lambda d: hnp.arrays(d, hnp.array_shapes(max_dims=4, min_side=0))),
    st.booleans(),
)
def test_what_is_written_is_read_back(tmp_path, array, packed):
    path = tmp_path / "any-name"
    path.write_bytes(gzip.compress(idx_bytes(array), 1) if packed else idx_bytes(array))
    read = read_idx(path)
    assert read.dtype == array.dtype
    assert read.dtype.isnative
    np.testing.assert_array_equal(read, array)


@SHARED_FOLDER
@given(st.binary(max_size=64), st.sampled_from([b"", b"\0\0\x08\x01", b"\0\0\x0d\x02", b"\x1f\x8b\x08\0"]))
def test_any_bytes_are_read_or_refused(tmp_path, done_or_refused, tail, head):
    path = tmp_path / "bytes"
    path.write_bytes(head + tail)
    done_or_refused(read_idx, path)


@SHARED_FOLDER
@given(st.integers(0, 200), st.integers(0, 255))
def test_a_damaged_gzip_is_read_or_refused(tmp_path, done_or_refused, position, value):
    raw = bytearray(gzip.compress(idx_bytes(np.arange(100, dtype="u1"))))
    raw[position % len(raw)] = value
    path = tmp_path / "damaged.gz"
    path.write_bytes(raw)
    done_or_refused(read_idx, path)


@pytest.mark.parametrize(
    ("raw", "fact"),
    [
        (b"", "starts with b''"),
        (b"\x89PNG\r\n", "starts with b'\\x89PNG'"),
        (b"\0\0\x0a\x01", "two zero bytes, a type and a rank"),
        (b"\0\0\x08\x00", "two zero bytes, a type and a rank"),
        (b"\0\0\x08\x02\0\0\0\x01", "header ends after 8 of 12 bytes"),
        (b"\0\0\x08\x01\0\0\0\x05abc", "promises 5 bytes in its header but holds only 3"),
        (b"\0\0\x08\x01\0\0\0\x02abc", "promises 2 bytes in its header but holds more"),
        (b"\0\0\x0e\x02" + b"\xff" * 8, "are read: take less, or raise XPNET_MAX_BYTES"),
        (b"\0\0\x08\xff" + b"\xff" * 1020, "claims more than 2**64 bytes"),
        (b"\0\0\x08\x46" + b"\0\0\0\x01" * 70 + b"a", "cannot be read as an IDX file"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_damage_is_named(tmp_path, raw, fact, packed, refusal):
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(raw) if packed else raw)
    assert fact in refusal(read_idx, path)


def test_a_cut_gzip_is_refused(tmp_path, refusal):
    path = tmp_path / "cut.gz"
    path.write_bytes(gzip.compress(idx_bytes(np.arange(200, dtype="u1")))[:-20])
    assert "cannot be read as an IDX file" in refusal(read_idx, path)


def test_a_gzip_bomb_is_not_expanded(tmp_path, monkeypatch, refusal):
    path = tmp_path / "bomb.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x10" + bytes(50_000_000)))
    taken = []
    read = gzip.GzipFile.read

    def counting(self, size=-1):
        chunk = read(self, size)
        taken.append(len(chunk))
        return chunk

    monkeypatch.setattr(gzip.GzipFile, "read", counting)
    assert "holds more" in refusal(read_idx, path)
    assert sum(taken) == 4 + 4 + 16 + 1


def test_a_large_claim_costs_no_memory(tmp_path, refusal):
    path = tmp_path / "claim"
    path.write_bytes(b"\0\0\x08\x01\xf0\0\0\0abc")
    assert "promises 4026531840 bytes in its header but holds only 3" in refusal(read_idx, path)


def test_a_missing_file_is_named(tmp_path, refusal):
    assert "does not exist" in refusal(read_idx, tmp_path / "absent-idx1-ubyte")


def test_a_folder_is_refused(tmp_path, refusal):
    assert "cannot be read as an IDX file" in refusal(read_idx, tmp_path)
