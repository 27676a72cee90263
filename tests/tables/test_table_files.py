"""Files of columns: every kind is read alike, in pieces, and damage is told in a sentence."""

import gzip

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import xpnet
from xpnet.tables import reading
from xpnet.tables.encoder import as_numbers, as_text
from xpnet.tables.reading import TableFile, is_table

FRAME = pd.DataFrame({"n": [1.5, 2.0, np.nan, 4.0], "c": ["a", 'b, "c"', None, "ü\nz"]})


def written(folder, name):
    path = folder / name
    if name.lower().endswith(".parquet"):
        FRAME.to_parquet(path)
    else:
        separator = {"semicolons": ";", "tabs": "\t", "bars": "|"}.get(name.split(".")[0], ",")
        text = FRAME.to_csv(index=False, sep=separator, encoding="utf-8")
        content = (b"\xef\xbb\xbf" if name.startswith("marked") else b"") + text.encode()
        path.write_bytes(gzip.compress(content) if name.lower().endswith(".gz") else content)
    return path


@pytest.mark.parametrize(
    "name",
    [
        *("t.csv", "semicolons.csv", "bars.csv", "tabs.tsv", "t.csv.gz", "marked.csv", "t.parquet"),
        *("T.CSV", "tabs.TSV", "T.CSV.GZ", "t.csv.GZ", "T.PARQUET"),
    ],
)
def test_all_kinds_say_the_same(tmp_path, name):
    path = written(tmp_path, name)
    assert is_table(path)
    file = TableFile(path)
    assert file.names == ["n", "c"]
    (piece,) = file.pieces()
    np.testing.assert_array_equal(as_numbers(piece["n"]), FRAME.n)
    assert as_text(piece["c"]).tolist() == FRAME.c.astype(object).where(FRAME.c.notna(), None).tolist()
    (piece,) = file.pieces(["c"])
    assert list(piece.columns) == ["c"]


@pytest.mark.parametrize("name", ["many.csv", "many.parquet"])
def test_files_are_read_in_pieces(tmp_path, monkeypatch, name):
    monkeypatch.setattr(reading, "PIECE", 1000)
    monkeypatch.setattr(reading, "PIECE_ROWS", 50)
    frame = pd.DataFrame({"n": np.arange(1000), "c": [f"c{i % 300}" for i in range(1000)]})
    if name.endswith("csv"):
        frame.to_csv(tmp_path / name, index=False)
    else:
        frame.to_parquet(tmp_path / name)
    file = TableFile(tmp_path / name)
    pieces = list(file.pieces())
    assert len(pieces) > 5
    np.testing.assert_array_equal(np.concatenate([as_numbers(piece["n"]) for piece in pieces]), frame.n)
    assert [value for piece in pieces for value in as_text(piece["c"])] == frame.c.tolist()
    rows = file.rows([999, 3, 500], ["c"])
    assert (rows.index.tolist(), rows.c.tolist()) == ([3, 500, 999], ["c3", "c200", "c99"])


def test_lists_are_left_out(tmp_path):
    pd.DataFrame({"n": [1], "l": [[1, 2]]}).to_parquet(tmp_path / "t.parquet")
    file = TableFile(tmp_path / "t.parquet")
    assert (file.names, file.nested) == (["n"], ["l"])


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("t.csv", b"", "cannot be read as a table"),
        ("t.csv", b"a,b\n1,2\n1,2,3\n", "Expected 2 columns"),
        ("t.csv", b"a,a\n1,2\n", 'two columns "a"'),
        ("t.csv", b"a,b\n1,\xff\xfe\n", "UTF8"),
        ("t.csv", "a,b\n1,Köln\n".encode("latin-1"), "no text in UTF-8 .* save it as such"),
        ("t.csv", "Größe,b\n1,Köln\n".encode("latin-1"), "no text in UTF-8 .* save it as such"),
        ("t.csv", b",\n1,2\n", "has no columns with a name"),
        ("t.csv.gz", b"no gzip", "cannot be read as a table"),
        ("t.parquet", b"PAR1 no parquet", "cannot be read as a table"),
        ("t.parquet", b"", "cannot be read as a table"),
    ],
)
def test_damage_is_told_in_a_sentence(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(xpnet.DataError, match=sentence):
        list(TableFile(tmp_path / name).pieces())


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(xpnet.DataError, match="does not exist"):
        TableFile(tmp_path / "no.csv")


def test_a_row_group_larger_than_memory_is_refused(tmp_path, monkeypatch):
    path = written(tmp_path, "t.parquet")
    monkeypatch.setenv("XPNET_MAX_BYTES", "10")
    with pytest.raises(xpnet.DataError, match="XPNET_MAX_BYTES"):
        TableFile(path)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string()])
def test_text_that_parquet_holds_once_is_in_memory_once(tmp_path, kind):
    """Else a file of few bytes takes half a gigabyte."""
    text = pa.DictionaryArray.from_arrays(np.zeros(50_000, np.int32), pa.array(["a" * 10_000], kind))
    parquet.write_table(pa.table({"a.b": text, "n": np.arange(50_000)}), tmp_path / "t.parquet", store_schema=False)
    before = pa.total_allocated_bytes()
    for piece in TableFile(tmp_path / "t.parquet").pieces():
        assert piece["a.b"].dtype == "category"
        assert pa.total_allocated_bytes() - before < 10_000_000
        assert as_text(piece["a.b"]).unique().tolist() == ["a" * 10_000]


def test_of_many_columns_few_rows_are_in_memory_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE_CELLS", 1000)
    pd.DataFrame(np.ones((300, 20))).add_prefix("c").to_parquet(tmp_path / "t.parquet")
    file = TableFile(tmp_path / "t.parquet")
    assert [len(piece) for piece in file.pieces()] == [50] * 6
    assert [len(piece) for piece in file.pieces(["c3", "c7"])] == [300]


@pytest.mark.parametrize(
    "content", [b'"a,b,c";d\n1;2\n', b"\n\r\na;d\n1;2\n", b"\xef\xbb\xbf\na;d\n1;2\n", b"a;d\r1;2\r"]
)
def test_the_delimiter_is_found_beside_quotes_blank_lines_and_lone_returns(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    (piece,) = TableFile(tmp_path / "t.csv").pieces()
    assert piece.iloc[0].tolist() == ["1", "2"]


def test_utf_16_is_told(tmp_path):
    (tmp_path / "t.csv").write_bytes("a,b\n1,2\n".encode("utf-16"))
    with pytest.raises(xpnet.DataError, match="no text in UTF-8"):
        TableFile(tmp_path / "t.csv")


def test_long_whole_numbers_keep_their_digits_beside_missing_ones(tmp_path):
    pd.DataFrame({"id": pd.array([2**62 + 1, None], "Int64")}).to_parquet(tmp_path / "t.parquet")
    file = TableFile(tmp_path / "t.parquet")
    (piece,) = file.pieces()
    assert as_text(piece["id"]).tolist() == [str(2**62 + 1), None]
    np.testing.assert_array_equal(as_numbers(piece["id"]), [2.0**62, np.nan])
    assert file.rows([0, 1])["id"].isna().tolist() == [False, True]


def test_bytes_of_every_kind_are_left_out(tmp_path):
    kinds = {"short": pa.binary(), "long": pa.large_binary(), "fixed": pa.binary(1)}
    columns = {name: pa.array([b"a"], kind) for name, kind in kinds.items()}
    parquet.write_table(pa.table({"n": [1], **columns}), tmp_path / "t.parquet")
    assert TableFile(tmp_path / "t.parquet").nested == list(kinds)


def test_blanks_in_names_are_shown():
    assert reading.quoted(["x", " c", ""]) == 'x, " c", ""'
    assert reading.quoted(list("abc"), most=2) == "a, b and 1 more"


@pytest.mark.parametrize("content", [b",n,\n0,1,2\n1,3,4\n", b'"",n, \n0,1,2\n1,3,4\n'])
def test_columns_without_a_name_are_left_out(tmp_path, content):
    (tmp_path / "t.csv").write_bytes(content)
    file = TableFile(tmp_path / "t.csv")
    assert (file.names, file.nameless) == (["n"], 2)
    assert pd.concat(file.pieces()).n.tolist() == ["1", "3"]


def test_an_index_of_pandas_is_a_column_if_it_has_a_name(tmp_path):
    frame = pd.DataFrame({"n": [5, 6, 7]}, index=[3, 1, 2])
    frame.to_parquet(tmp_path / "t.parquet")
    file = TableFile(tmp_path / "t.parquet")
    assert (file.names, file.nameless, file.rows([1]).to_dict("index")) == (["n"], 1, {1: {"n": 6}})
    frame.rename_axis("id").to_parquet(tmp_path / "t.parquet")
    file = TableFile(tmp_path / "t.parquet")
    assert (file.names, file.rows([1]).to_dict("index")) == (["n", "id"], {1: {"n": 6, "id": 1}})


def test_decimal_commas_beside_semicolons_are_read(tmp_path):
    (tmp_path / "t.csv").write_text("n;c\n1,5;a\n-1.234,50;b,c\n2;1,2,3\n1.5;x\n;1.23,4\n")
    file = TableFile(tmp_path / "t.csv")
    (piece,) = file.pieces(numbers=["n"])
    np.testing.assert_array_equal(as_numbers(piece["n"]), [1.5, -1234.5, 2, 1.5, np.nan])
    assert as_text(piece["c"]).tolist() == ["a", "b,c", "1,2,3", "x", "1.23,4"]
    (tmp_path / "t.csv").write_text('n,c\n"1,500",a\n')
    assert TableFile(tmp_path / "t.csv").rows([0])["n"].tolist() == ["1,500"]  # which may be as many thousands
