"""Arrays of strangers: .npy, .npz and IDX that lie about their sizes, or hold what no array of numbers is."""

import gzip
import io
import os
import struct
import warnings
import zipfile
from pathlib import Path

import numpy as np
import pytest

from xpnet.data.arrays import read_arrays
from xpnet.data.idx import read_idx

Y = np.array([0, 1])
RANK_255 = b"\0\0\x08\xff" + b"\xff\xff\xff\xff" * 255


def npy(header: str | bytes, body: bytes = b"", *, version: int = 1, claim: int | None = None) -> bytes:
    header = header.encode() if isinstance(header, str) else header
    length = struct.pack("<H" if version == 1 else "<I", len(header) if claim is None else claim)
    return b"\x93NUMPY" + bytes([version, 0]) + length + header + body


def described(descr: str = "'<f8'", shape: str = "(2,)") -> str:
    return f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n"


def saved(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def zipped(members: list[tuple[str | zipfile.ZipInfo, bytes]], packing: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", packing) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # names that occur twice
        for name, content in members:
            archive.writestr(name, content)
    return stream.getvalue()


@pytest.fixture
def with_labels(tmp_path):
    """Writes x.npy with this content beside labels."""

    def write(content: bytes, name: str = "x.npy") -> list[Path]:
        (tmp_path / name).write_bytes(content)
        np.save(tmp_path / "y.npy", Y)
        return [tmp_path / name, tmp_path / "y.npy"]

    return write


@pytest.fixture
def archive(tmp_path):
    def write(content: bytes) -> list[Path]:
        (tmp_path / "d.npz").write_bytes(content)
        return [tmp_path / "d.npz"]

    return write


# .npy

HEADERS = {
    "objects": (npy(described("'|O'"), bytes(16)), "values of type object"),
    "objects in a structure": (npy(described("[('a', '|O')]"), bytes(16)), "not numbers or text"),
    "a call in place of a description": (npy("__import__('os').system('exit 1')"), "malformed node"),
    "a call inside": (npy(described(shape="(int('2'),)"), bytes(16)), "malformed node"),
    "an expression": (npy(described(shape="(10**9,)"), bytes(16)), "malformed node"),
    "a comprehension": (npy(described(shape="[0 for _ in range(9**9)]"), bytes(16)), "malformed node"),
    "no description": (npy("[1, 2]"), "not a dictionary"),
    "a long header": (npy(described() + " " * 20_000, bytes(16)), "more than 10000"),
    "a header of 4 GiB": (npy(described(), bytes(16), version=2, claim=2**32 - 1), "more than 10000"),
    "deep brackets": (npy(described(shape="(" * 4000 + ")" * 4000), bytes(16)), "x.npy"),
    "deep signs": (npy(described(shape="(" + "-" * 8000 + "1,)"), bytes(16)), "x.npy"),
    "a number of 5,000 digits": (npy(described(shape=f"({'9' * 5000},)"), bytes(16)), "x.npy"),
    "a product over 2**64": (npy(described(shape=f"({2**32}, {2**32 + 1})"), bytes(16)), "holds 16 bytes"),
    "a product that wraps around to what is there": (npy(described(shape=f"({2**63}, 4)"), bytes(0)), "0 bytes"),
    "negative sizes": (npy(described(shape="(-1, -2)"), bytes(16)), "x.npy"),
    "a false size": (npy(described(shape="(True, 2)"), bytes(16)), "x.npy"),
    "endless text": (npy(described("'<U500000000'"), bytes(16)), "holds 16 bytes"),
    "text of no characters": (npy(described("'<U1'"), b"\xff\xff\xff\xff" * 2), "characters that there are not"),
    "65 dimensions": (npy(described(shape="(" + "1," * 64 + "2)"), bytes(16)), "x.npy"),
    "terminal's escapes": (npy(described("'\x1b[31m'"), bytes(16)), "x.npy"),
}


@pytest.mark.parametrize(("content", "fact"), HEADERS.values(), ids=HEADERS)
def test_a_hostile_array_is_refused(with_labels, refusal, content, fact):
    message = refusal(read_arrays, with_labels(content))
    assert "x.npy" in message
    assert fact in message


def test_a_header_of_gigabytes_inside_an_archive_is_not_unpacked(archive, refusal):
    """NumPy reads the whole header before it looks at its length."""
    member = npy(b" " * 50_000_000, version=2)
    message = refusal(read_arrays, archive(zipped([("X.npy", member), ("y.npy", saved(Y))])))
    assert "its header claims 50000000 bytes" in message


def test_text_of_no_characters_is_refused_as_labels(archive, refusal):
    labels = npy(described("'<U1'"), struct.pack("<2I", 97, 0x110000))
    message = refusal(read_arrays, archive(zipped([("X.npy", saved(np.ones((2, 2)))), ("y.npy", labels)])))
    assert "characters that there are not" in message


@pytest.mark.parametrize("value", ["\x1b[31mred", "\x07", "\u202egnp", "\ud800", "a" * 100_000])
def test_labels_cannot_speak_to_the_terminal(archive, refusal, value):
    arrays = {
        "X": np.ones((4, 1)),
        "y": np.array(["a", value] * 2),
        "X_test": np.ones((1, 1)),
        "y_test": np.array(["b"]),
    }
    content = zipped([(f"{name}.npy", saved(array)) for name, array in arrays.items()])
    assert "y_test holds the label 'b'" in refusal(read_arrays, archive(content))
    content = zipped([("X.npy", saved(np.ones((2, 1)))), ("y.npy", saved(np.array([value] * 2)))])
    assert "the single class" in refusal(read_arrays, archive(content))


def test_a_longer_float_than_there_is_memory_for_is_refused_as_not_finite(with_labels, refusal):
    if np.dtype(np.longdouble).itemsize == 8:
        pytest.skip("long doubles are doubles here")
    wide = np.full((2, 1), np.longdouble("1e400"))
    assert "X holds inf in row 0" in refusal(read_arrays, with_labels(saved(wide)))


def test_nothing_of_very_long_texts_is_refused_at_once(with_labels, refusal, monkeypatch):
    """NumPy takes time to convert no text at all, by its length."""
    monkeypatch.setattr("xpnet.data.arrays.read_at_most", lambda *_: pytest.fail("it went on to make an array of text"))
    path = with_labels(npy(described("'|S16777216'", "(0, 32768)")))[0]
    assert "X is empty with shape (0, 32768)" in refusal(read_arrays, [path, path])


@pytest.mark.parametrize(
    "pointers", [[0, 1, -5], [0, 2, -(2**31)], [0, 1, 3], [1, 1, 2], [0, 2, 1], [0, 3, 2], [0, 0, 0]]
)
def test_row_pointers_that_lead_out_of_the_matrix_are_refused(with_labels, refusal, pointers):
    """SciPy leaves them unchecked if the last is negative, and reads what lies beyond its arrays."""
    arrays = {"data": np.ones(2), "indices": np.array([0, 1]), "indptr": np.array(pointers), "shape": np.array([2, 2])}
    members = [(f"{name}.npy", saved(array)) for name, array in {**arrays, "format": np.array(b"csr")}.items()]
    assert "x.npz" in refusal(read_arrays, with_labels(zipped(members), "x.npz"))


# .npz

X_MEMBER, Y_MEMBER = ("X.npy", saved(np.ones((2, 2)))), ("y.npy", saved(Y))


def encrypted() -> bytes:
    raw = bytearray(zipped([X_MEMBER, Y_MEMBER]))
    for magic, flags in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
        place = raw.index(magic)
        raw[place + flags] |= 1
    return bytes(raw)


def changed_directory(offset: int, form: str, *values: int) -> bytes:
    """An archive in whose directory the first member says something else."""
    raw = bytearray(zipped([X_MEMBER, Y_MEMBER], zipfile.ZIP_STORED))
    struct.pack_into(form, raw, raw.index(b"PK\1\2") + offset, *values)
    return bytes(raw)


def zip64_of(size: int) -> bytes:
    raw = zipped([Y_MEMBER])
    info = zipfile.ZipInfo("X.npy")
    info.compress_type = zipfile.ZIP_DEFLATED
    raw = bytearray(zipped([(info, saved(np.ones((2, 2)))), Y_MEMBER]))
    place = raw.index(b"PK\1\2")
    struct.pack_into("<I", raw, place + 24, 0xFFFFFFFF)
    name_end = place + 46 + len("X.npy")
    extra = struct.pack("<HHQ", 1, 8, size)
    struct.pack_into("<H", raw, place + 30, len(extra))
    raw[name_end:name_end] = extra
    end = raw.index(b"PK\5\6")
    struct.pack_into("<I", raw, end + 12, struct.unpack_from("<I", raw, end + 12)[0] + len(extra))
    return bytes(raw)


def linked() -> zipfile.ZipInfo:
    info = zipfile.ZipInfo("X.npy")
    info.external_attr = 0o120777 << 16
    return info


ARCHIVES = {
    "encrypted": (encrypted(), "encrypted"),
    "two of one name": (zipped([X_MEMBER, X_MEMBER, Y_MEMBER]), "it holds 'x' twice"),
    "two that differ in case": (zipped([X_MEMBER, ("x.npy", X_MEMBER[1]), Y_MEMBER]), "it holds 'x' twice"),
    "a name that climbs": (zipped([("../X.npy", X_MEMBER[1]), Y_MEMBER]), "holds ../x, y: save it with X and y"),
    "an absolute name": (zipped([("/X.npy", X_MEMBER[1]), Y_MEMBER]), "holds /x, y: save it with X and y"),
    "a name of escapes": (zipped([("\x1b[31m\n", b""), Y_MEMBER]), "holds \\x1b[31m\\n, y"),
    "a symbolic link": (zipped([(linked(), b"/etc/passwd"), Y_MEMBER]), "magic string"),
    "an archive in an archive": (zipped([("X.npy", zipped([X_MEMBER])), Y_MEMBER]), "magic string"),
    "another way of packing": (zipped([X_MEMBER, Y_MEMBER], zipfile.ZIP_LZMA), "packed by method 14"),
    "one more": (zipped([X_MEMBER, Y_MEMBER], zipfile.ZIP_BZIP2), "packed by method 12"),
    "an unknown way": (changed_directory(10, "<H", 99), "packed by method 99"),
    "more than the file has": (changed_directory(20, "<II", 2**31, 2**31), "its packed bytes hold at most"),
    "more than can be packed": (changed_directory(24, "<I", 2**20), "its packed bytes hold at most"),
    "a member beyond the end": (changed_directory(42, "<I", 2**31 - 1), "cannot be read as an .npz file"),
    "members that overlap": (changed_directory(42, "<I", 40), "cannot be read as an .npz file"),
    "2**62 bytes in 64 bits": (zip64_of(2**62), "at most"),
    "a directory of gigabytes": (
        zipped([X_MEMBER])[:-22] + struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 1, 1, 2**31, 0, 0),
        "cannot be read as an .npz file",
    ),
    "pickled objects": (zipped([("X.npy", saved(np.array([print] * 2))), Y_MEMBER]), "values of type object"),
    "a pickle": (zipped([("X.npy", b"cos\nsystem\n(S'exit 1'\ntR."), Y_MEMBER]), "magic string"),
}


@pytest.mark.parametrize(("content", "fact"), ARCHIVES.values(), ids=ARCHIVES)
def test_a_hostile_archive_is_refused(archive, refusal, content, fact):
    message = refusal(read_arrays, archive(content))
    assert "d.npz" in message
    assert fact in message


def test_a_zip_bomb_is_refused_before_it_is_unpacked(archive, refusal, monkeypatch):
    bomb = npy(described("'|u1'", "(30000000, 1)"), bytes(30_000_000))
    content = zipped([("X.npy", bomb), ("y.npy", bomb)])
    assert len(content) < 100_000
    monkeypatch.setenv("XPNET_MAX_BYTES", "50000000")  # enough for one of the two
    message = refusal(read_arrays, archive(content))
    assert message.endswith("but at most 50000000 are read: take less, or raise XPNET_MAX_BYTES")


def test_a_bomb_of_what_is_converted_is_refused_before_it_is_unpacked(archive, refusal, monkeypatch):
    monkeypatch.setenv("XPNET_MAX_BYTES", "100000000")
    bomb = npy(described("'|i1'", "(30000000, 1)"), bytes(30_000_000))  # 240 MB of float64
    message = refusal(read_arrays, archive(zipped([("X.npy", bomb), Y_MEMBER])))
    assert "becomes 240000000 bytes" in message


def test_an_archive_of_very_many_members_is_refused(archive, refusal):
    raw = zipped([X_MEMBER, Y_MEMBER], zipfile.ZIP_STORED)
    first, end = raw.index(b"PK\1\2"), raw.index(b"PK\5\6")
    entry = raw[first : first + 46 + len("X.npy")]
    directory = entry * 100_000
    ending = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 2, 2, len(directory), first, 0)
    assert end > first
    assert "its directory claims 5100000 bytes" in refusal(read_arrays, archive(raw[:first] + directory + ending))


def test_an_allowed_archive_is_read_under_the_same_limit(archive, monkeypatch):
    monkeypatch.setenv("XPNET_MAX_BYTES", "1000")
    assert read_arrays(archive(zipped([X_MEMBER, Y_MEMBER]))).x.shape == (2, 2)


# IDX


@pytest.mark.parametrize(
    ("content", "fact"),
    [
        (RANK_255, "claims more than 2**64 bytes"),
        (b"\0\0\x0e\x02" + b"\xff" * 8 + bytes(100), "XPNET_MAX_BYTES"),
        (b"\0\0\x08\x04" + struct.pack(">4I", *[2**16] * 4), "claims more than 2**64 bytes"),  # wraps around to 0
        (b"\0\0\x08\x01" + struct.pack(">I", 2**31) + bytes(100), "holds only 100"),
        (b"\0\0\x08\x02" + struct.pack(">2I", 2**31, 0) + b"a", "holds more"),
    ],
)
def test_a_hostile_idx_is_refused(tmp_path, refusal, content, fact):
    path = tmp_path / "x-idx"
    path.write_bytes(content)
    assert fact in refusal(read_idx, path)
    path.write_bytes(gzip.compress(content))
    assert fact.replace("only 100", "at most") in refusal(read_idx, path)


def test_what_a_gzip_cannot_hold_is_refused_unread(tmp_path, refusal, monkeypatch):
    path = tmp_path / "x-idx.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 100_000) + bytes(60)))
    size = path.stat().st_size
    monkeypatch.setattr("xpnet.data.idx.read_at_most", lambda *_: pytest.fail("it was read"))
    assert f"promises 100000 bytes in its header but holds at most {1032 * size - 8}" in refusal(read_idx, path)


def test_a_gzip_bomb_of_many_members_is_read_as_far_as_it_claims(tmp_path, refusal):
    member = gzip.compress(bytes(20_000_000), mtime=0)
    path = tmp_path / "x-idx.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 16)) + member * 50)  # a gigabyte
    assert "promises 16 bytes in its header but holds more" in refusal(read_idx, path)


def test_a_bomb_within_the_claim_is_bounded_by_the_limit(tmp_path, refusal, monkeypatch):
    path = tmp_path / "x-idx.gz"
    path.write_bytes(gzip.compress(b"\0\0\x08\x01" + struct.pack(">I", 30_000_000) + bytes(30_000_000)))
    monkeypatch.setenv("XPNET_MAX_BYTES", "29999999")
    message = refusal(read_idx, path)
    assert "claims 30000000 bytes but at most 29999999 are read: take less, or raise XPNET_MAX_BYTES" in message
    monkeypatch.setenv("XPNET_MAX_BYTES", "30000000")
    assert read_idx(path).shape == (30_000_000,)


# The limit, and files that are none


@pytest.mark.parametrize("text", ["lots", "1.5", "-1", "0", "1e9", "9" * 5000, "\x1b"])
def test_a_limit_that_is_no_number_is_told(archive, refusal, monkeypatch, text):
    monkeypatch.setenv("XPNET_MAX_BYTES", text)
    message = refusal(read_arrays, archive(zipped([X_MEMBER, Y_MEMBER])))
    assert message.startswith("XPNET_MAX_BYTES: got")
    assert "expected a whole number of bytes" in message


def test_the_limit_is_by_custom_half_of_the_memory(monkeypatch):
    from xpnet.data.reading import max_bytes

    monkeypatch.delenv("XPNET_MAX_BYTES", raising=False)
    monkeypatch.setattr(os, "sysconf", {"SC_PAGE_SIZE": 4096, "SC_PHYS_PAGES": 1000}.__getitem__, raising=False)
    assert max_bytes() == 2048 * 1000
    monkeypatch.delattr(os, "sysconf")
    assert max_bytes() == 8 * 2**30


def test_a_sparse_file_of_100_gigabytes_is_refused_unread(sparse_file, with_labels, refusal, monkeypatch):
    monkeypatch.setenv("XPNET_MAX_BYTES", str(10**9))
    labels = with_labels(b"")[1]
    for start in (npy(described("'<f8'", "(10, 3)")), npy(described("'<i8'", f"({10**10},)"))):
        length = 10**11 if b"10, 3" in start else len(start) + 8 * 10**10
        assert "x.npy" in refusal(read_arrays, [sparse_file("x.npy", start, length), labels])
    idx = b"\0\0\x08\x02" + struct.pack(">2I", 10**6, 10**5)
    assert "XPNET_MAX_BYTES" in refusal(read_idx, sparse_file("x-idx", idx, len(idx) + 10**11))
    assert "d.npz" in refusal(read_arrays, [sparse_file("d.npz", b"PK\3\4", 10**11)])


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x-idx"])
@pytest.mark.parametrize("place", ["/dev/zero", "/dev/null", "/proc/self/mem", "."])
def test_what_is_no_file_is_refused(tmp_path, with_labels, refusal, name, place):
    if not os.path.exists(place):
        pytest.skip(f"there is no {place} here")
    labels = with_labels(b"")[1]
    path = tmp_path / f"special-{name}"
    path.symlink_to(place)
    assert path.name in refusal(read_arrays, [path, labels], memory=2**25)


@pytest.mark.parametrize("name", ["x.npy", "x.npz", "x-idx"])
def test_a_file_that_may_not_be_read_is_refused(with_labels, refusal, monkeypatch, name):
    paths = with_labels(b"", name)

    def forbid(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "open", forbid)  # who runs the tests may be allowed to read everything
    monkeypatch.setattr(io, "FileIO", forbid)
    monkeypatch.setattr("xpnet.data.arrays.io.FileIO", forbid)
    assert "Permission denied" in refusal(read_arrays, paths)
