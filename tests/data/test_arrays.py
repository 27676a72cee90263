import gzip
import io
import struct
import zipfile

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import sparse

from xpnet.data.arrays import read_arrays

X = np.arange(12, dtype=np.float32).reshape(4, 3)
Y = np.array([0, 1, 1, 0])
SHARED_FOLDER = settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def saved(path, array):
    np.save(path, array)
    return path


def npy_claiming(shape, descr="<f8", body=b""):
    header = str({"descr": descr, "fortran_order": False, "shape": shape}).encode()
    header += b" " * (-(10 + len(header) + 1) % 64) + b"\n"
    return b"\x93NUMPY\x01\0" + struct.pack("<H", len(header)) + header + body


def zip_of(path, members):
    with zipfile.ZipFile(path, "w") as archive:
        for name, raw in members.items():
            archive.writestr(name, raw)
    return path


@pytest.mark.parametrize("names", [("X", "y", "X_test", "y_test"), ("x", "y", "x_test", "y_test")])
def test_one_npz_holds_all(tmp_path, names):
    path = tmp_path / "mine.npz"
    np.savez_compressed(path, **dict(zip(names, (X, Y, X[:2], Y[:2]), strict=True)), extra=np.ones(2))
    data = read_arrays([path])
    assert (data.name, data.task, data.classes, data.scale) == ("mine.npz", "classification", (0, 1), 1.0)
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.y, Y)
    np.testing.assert_array_equal(data.x_test, X[:2])
    np.testing.assert_array_equal(data.y_test, Y[:2])


def test_an_npz_without_a_test_set(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, X=np.arange(16, dtype="u1").reshape(4, 2, 2), y=np.array([0.5, 1, 2, 3]))
    data = read_arrays([str(path)])
    assert (data.task, data.x_test, data.y_test, data.scale) == ("regression", None, None, 1 / 255)
    assert data.image_shape == (2, 2)
    assert data.x.shape == (4, 4)


def test_two_and_four_files(tmp_path):
    idx = tmp_path / "labels-idx1-ubyte.gz"
    idx.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x04" + Y.astype("u1").tobytes()))
    samples = saved(tmp_path / "x.npy", np.asfortranarray(X.astype(">f4")))
    data = read_arrays([samples, idx])
    assert data.x.flags.c_contiguous
    assert data.x.dtype == np.float32
    np.testing.assert_array_equal(data.x, X)
    np.testing.assert_array_equal(data.y, Y)
    assert data.x_test is None
    tested = read_arrays([samples, idx, saved(tmp_path / "xt.npy", X[:1]), saved(tmp_path / "yt.npy", Y[1:2])])
    np.testing.assert_array_equal(tested.y_test, [1])


def test_sparse_samples(tmp_path):
    path = tmp_path / "x.npz"
    sparse.save_npz(path, sparse.csr_array(X))
    data = read_arrays([path, saved(tmp_path / "y.npy", np.array(["b", "a", "a", "b"]))])
    assert data.classes == ("a", "b")
    np.testing.assert_array_equal(data.x.toarray(), X)


@pytest.mark.parametrize(
    ("arrays", "fact"),
    [
        ({"data": np.ones(5)}, "cannot be read as an .npz file of a CSR matrix"),
        ({"indices": np.array([0, 9])}, "cannot be read as an .npz file of a CSR matrix"),
        ({"indices": np.array([0, -1])}, "cannot be read as an .npz file of a CSR matrix"),
        ({"indptr": np.array([0, 2, 1])}, "cannot be read as an .npz file of a CSR matrix"),
        ({"shape": np.array([10**12, 2])}, "cannot be read as an .npz file of a CSR matrix"),
        ({"format": np.array("csc")}, "format 'csc': convert it with .tocsr()"),
        ({"format": None, "indptr": None}, "lacks format, indptr"),
    ],
)
def test_bad_sparse_matrices_are_refused(tmp_path, arrays, fact, refusal):
    good = {"format": np.array("csr"), "shape": np.array([2, 2]), "data": np.ones(2)}
    good |= {"indices": np.array([0, 1]), "indptr": np.array([0, 1, 2])}
    path = tmp_path / "x.npz"
    np.savez(path, **{name: array for name, array in (good | arrays).items() if array is not None})
    assert fact in refusal(read_arrays, [path, saved(tmp_path / "y.npy", Y[:2])])


@pytest.mark.parametrize("count", [0, 3, 5])
def test_other_counts_are_refused(tmp_path, count, refusal):
    message = refusal(read_arrays, [tmp_path / "x.npy"] * count)
    assert f"{count} data files" in message
    assert "two or four files" in message


def test_other_kinds_are_refused(tmp_path, refusal):
    for paths in (["table.csv"], ["x.csv", "y.csv"], ["x.npy"]):
        message = refusal(read_arrays, [tmp_path / path for path in paths])
        assert paths[0] in message or "does not exist" in message
    assert "no accepted kind: give one .npz file" in refusal(read_arrays, [tmp_path / "table.csv"])


@pytest.mark.parametrize("names", [["a.npz"], ["a.npy", "b.npy"], ["a.npz", "b.npy"], ["a-idx3-ubyte", "b.npy"]])
def test_missing_files_are_named(tmp_path, names, refusal):
    message = refusal(read_arrays, [tmp_path / name for name in names])
    assert f"{names[0]} does not exist" in message


def test_lacking_members_are_named(tmp_path, refusal):
    path = tmp_path / "mine.npz"
    np.savez(path, X=X, labels=Y)
    assert "holds labels, x: save it with X and y" in refusal(read_arrays, [path])
    np.savez(path, X=X, y=Y, X_test=X)
    assert "holds x, x_test, y" in refusal(read_arrays, [path])


def test_objects_are_never_unpickled(tmp_path, refusal):
    class Trap:
        def __reduce__(self):
            return pytest.fail, ("a pickle was run",)

    objects = np.array([Trap()] * 4, dtype=object)
    path = tmp_path / "mine.npz"
    np.savez(path, X=X, y=objects)
    assert "type object" in refusal(read_arrays, [path])
    assert "type object" in refusal(read_arrays, [saved(tmp_path / "x.npy", objects), path])


@pytest.mark.parametrize(
    "raw",
    [
        npy_claiming((10**12,)),
        npy_claiming((2,), body=bytes(15)),
        npy_claiming((2,), body=bytes(17)),
        npy_claiming((-1, -2), body=bytes(16)),
        npy_claiming((10**12,), descr="<U0"),
        npy_claiming((1,), descr=[("a", "<f8")], body=bytes(8)),
        npy_claiming((1,), descr="nonsense"),
        b"\x93NUMPY\x03\0" + bytes(20),
        b"\x93NUMPY\x01\0\xff\xff",
        b"",
        b"not an array",
    ],
)
def test_damaged_arrays_are_refused(tmp_path, raw, refusal):
    path = tmp_path / "x.npy"
    path.write_bytes(raw)
    assert "x.npy cannot be read as an .npy file" in refusal(read_arrays, [path, path])
    packed = zip_of(tmp_path / "mine.npz", {"X.npy": raw, "y.npy": raw})
    assert "mine.npz cannot be read as an .npz file" in refusal(read_arrays, [packed])


def test_a_member_over_the_limit_is_refused_unread(tmp_path, monkeypatch, refusal):
    monkeypatch.setenv("XPNET_MAX_BYTES", "40")
    path = tmp_path / "mine.npz"
    np.savez(path, X=X, y=Y)
    assert "bytes but at most 40 are read: take less, or raise XPNET_MAX_BYTES" in refusal(read_arrays, [path])


def good_npz():
    stream = io.BytesIO()
    np.savez_compressed(stream, X=X, y=Y)
    return stream.getvalue()


@SHARED_FOLDER
@given(st.binary(max_size=100), st.integers(0, 10_000), st.booleans())
def test_any_bytes_are_read_or_refused(tmp_path, done_or_refused, noise, position, keep_rest):
    raw = good_npz()
    position %= len(raw)
    rest = raw[position + len(noise) :] if keep_rest else b""
    for name in ("fuzzed.npz", "fuzzed.npy"):
        (tmp_path / name).write_bytes(raw[:position] + noise + rest)
    for paths in (["fuzzed.npz"], ["fuzzed.npy", "fuzzed.npz"], ["fuzzed.npz", "fuzzed.npy"]):
        done_or_refused(read_arrays, [tmp_path / path for path in paths])


@SHARED_FOLDER
@given(st.binary(max_size=60), st.integers(6, 200))
def test_any_npy_is_read_or_refused(tmp_path, done_or_refused, noise, position):
    raw = npy_claiming((2, 2), body=bytes(32))
    path = tmp_path / "fuzzed.npy"
    path.write_bytes(raw[:position] + noise + raw[position + len(noise) :])
    done_or_refused(read_arrays, [path, path])
