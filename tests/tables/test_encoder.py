"""What becomes of the columns of a table: formulas, missing and unseen values, and descriptions that lie."""

import json
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import xpnet
from xpnet.tables import Category, Encoder, Number
from xpnet.tables.encoder import as_codes, as_numbers, as_text

ENCODER = Encoder(
    (
        Number("age", fill=30.0, indicator=True, center=30.0, scale=0.1, bend=True, edges=(0.0, 20.0, 40.0)),
        Number("rank", knots=(0.0, 1.0, 3.0), heights=(-2.0, 0.0, 2.0)),
        Category("town", ("Bonn", "Köln", "Ulm")),
        Category("sex", ("f", "m")),
        Category("street", ("A", "B"), embedding=3),
    ),
    "income",
)


def test_a_row_becomes_what_the_formulas_say():
    frame = pd.DataFrame({"age": [50.0], "rank": [2.0], "town": ["Ulm"], "sex": ["m"], "street": ["B"]})
    bent = 2 / np.sqrt(1 + (2 / 3) ** 2)
    np.testing.assert_allclose(ENCODER(frame), [[bent, 1, 1, 0, 1, 0, 0, 1, -1, 2]], rtol=1e-6)
    assert ENCODER.parts() == [
        *("age", "age 0 to 20", "age 20 to 40", "age is missing", "rank"),
        *("town = Bonn", "town = Köln", "town = Ulm", "sex", "street"),
    ]
    assert (ENCODER.width, ENCODER.embeddings) == (10, ((3, 3),))


def test_what_is_missing_or_unseen_is_told_and_never_guessed():
    frame = pd.DataFrame(
        {"age": ["?", "x", "10"], "rank": [np.nan, -5, 9], "town": [None, "Rom", "Bonn "], "sex": ["", "d", "f"]}
    ).assign(street=["?", "C", "A"])
    expected = [
        [0, 1, 0.5, 1, -2, 0, 0, 0, 0, 0],  # the fill of rank is 0
        [0, 1, 0.5, 1, -2, 0, 0, 0, 0, 0],
        [-2 / np.sqrt(1 + (2 / 3) ** 2), 0.5, 0, 0, 2, 1, 0, 0, 1, 1],
    ]
    np.testing.assert_allclose(ENCODER(frame), expected, rtol=1e-6)


def test_columns_are_found_by_their_names():
    frame = pd.DataFrame({"age": [50.0], "rank": [2.0], "town": ["Ulm"], "sex": ["m"], "street": ["B"]})
    np.testing.assert_array_equal(ENCODER(frame[frame.columns[::-1]].assign(more=1)), ENCODER(frame))
    with pytest.raises(xpnet.DataError, match=r'lacks the columns "age", "sex"'):
        ENCODER(frame.drop(columns=["age", "sex"]))


NUMBERED = Encoder((Number("0"), Category("1", ("a", "b"))), "y")


@pytest.mark.parametrize(
    "names",
    [
        [0, 1, 2],
        pd.Index([0, 1, None], dtype=object),
        pd.CategoricalIndex(["0", "1", "2"]),
        pd.MultiIndex.from_tuples([("0", ""), ("1", ""), ("2", "x")]),
        pd.MultiIndex.from_arrays([[0, 1, 2]]),
        ["0", "1", "1.0"],
    ],
    ids=str,
)
def test_names_of_columns_are_taken_as_a_file_would_have_them(names):
    frame = pd.DataFrame([[2.0, "b", 1], [3.0, "a", 2]], index=["x", "x"])
    np.testing.assert_array_equal(NUMBERED(frame.set_axis(names, axis=1)), [[2, -1], [3, 1]])


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        (["0", "1", "1"], 'the table has the column "1" more than once: give each a name of its own'),
        (["0", "1", 0], 'the column "0" more than once'),
        (pd.MultiIndex.from_product([["0"], ["a", "b", "c"]]), 'lacks the columns "0", "1"'),
        (pd.to_datetime(["2020", "2021", "2022"]), 'lacks the columns "0", "1"'),
    ],
    ids=str,
)
def test_names_that_no_column_is_found_by(names, sentence):
    frame = pd.DataFrame([[2.0, "b", 1]])
    with pytest.raises(xpnet.DataError, match=sentence):
        NUMBERED(frame.set_axis(names, axis=1))


def test_columns_that_are_not_used_may_be_there_twice():
    frame = pd.DataFrame([[2.0, "b", 1, 1]], columns=["0", "1", "x", "x"])
    np.testing.assert_array_equal(NUMBERED(frame), [[2, -1]])


def test_frames_of_others_are_converted():
    table = pa.table({"1": ["b", None], "0": [2.0, None]})
    np.testing.assert_array_equal(NUMBERED(table), [[2, -1], [0, 0]])
    with pytest.raises(xpnet.DataError, match="is a SimpleNamespace, expected a frame of pandas"):
        NUMBERED(SimpleNamespace(columns=["0", "1"]))


@pytest.mark.parametrize("values", [[10**400, 1], [1j, 2j], [[1], {}], [b"x", None], [type, "x"]], ids=range(5))
def test_values_that_are_no_numbers_are_missing(values):
    for series in (pd.Series(values), pd.Series(values, dtype=object)):
        assert np.isnan(as_numbers(series)[0])


@pytest.mark.parametrize(
    "series",
    [
        pd.Series(["1", " 2", None, "3.0", "1"]),
        pd.Series(["1", " 2", None, "3.0", "1"], dtype="category"),
        pd.Series(["1", " 2", None, "3.0", "1"], dtype="string"),
        pd.Series([1, 2, None, 3, 1], dtype="Int64"),
        pd.Series([1, 2, np.nan, 3, 1]),
        pd.Series([1, 2, None, 3, 1], dtype="category"),
    ],
    ids=lambda series: str(series.dtype),
)
def test_values_mean_the_same_however_they_are_stored(series):
    np.testing.assert_array_equal(as_numbers(series), [1, 2, np.nan, 3, 1])
    expected = ["1", "2", None, "3", "1"]
    assert as_text(series).tolist() == expected
    np.testing.assert_array_equal(as_codes(series, ["2", "1"]), [1, 0, -1, -1, 1])


def test_truth_is_text():
    assert as_text(pd.Series([True, False, None], dtype="boolean")).tolist() == ["true", "false", None]
    assert as_text(pd.Series([True, False])).tolist() == ["true", "false"]


def test_numbers_beyond_float32_stay_finite():
    frame = pd.DataFrame({"v": [1e300, -1e300, 1e-300]})
    for number in (Number("v"), Number("v", scale=1e8, bend=True), Number("v", edges=(0.0, 1.0))):
        assert np.isfinite(Encoder((number,), "y")(frame)).all()


def test_numbers_far_beyond_those_of_training_become_no_large_ones():
    values = np.array([1e30, -1e300, 7.0, 5.0])
    np.testing.assert_array_equal(Number("v", center=5.0, scale=0.5).encode(values)[:, 0], [10, -10, 1, 0])
    bent = Number("v", center=5.0, scale=1e300, bend=True).encode(values)[:, 0]
    np.testing.assert_allclose(bent, [3, -3, 3, 0])


def test_a_description_survives_json():
    assert Encoder.from_dict(json.loads(json.dumps(ENCODER.to_dict()))) == ENCODER


def broken(change):
    description = json.loads(json.dumps(ENCODER.to_dict()))
    change(description)
    return description


@pytest.mark.parametrize(
    "description",
    [
        None,
        [],
        {},
        {"target": "y", "columns": []},
        {"target": 1, "columns": ENCODER.to_dict()["columns"]},
        broken(lambda d: d["columns"].reverse()),
        broken(lambda d: d["columns"].append(d["columns"][-1])),
        broken(lambda d: d["columns"][0].update(kind="eval")),
        broken(lambda d: d["columns"][0].update(name=["age"])),
        broken(lambda d: d["columns"][0].update(code="import os")),
        broken(lambda d: d["columns"][0].update(scale=float("nan"))),
        broken(lambda d: d["columns"][0].update(scale="1")),
        broken(lambda d: d["columns"][0].update(bend=1)),
        broken(lambda d: d["columns"][0].update(edges=[2.0, 1.0])),
        broken(lambda d: d["columns"][0].update(edges=[1.0])),
        broken(lambda d: d["columns"][1].update(knots=[0.0])),
        broken(lambda d: d["columns"][2].update(values=[])),
        broken(lambda d: d["columns"][2].update(values=["a", "a"])),
        broken(lambda d: d["columns"][2].update(values=["a", 1])),
        broken(lambda d: d["columns"][4].update(embedding=True)),
        broken(lambda d: d["columns"][4].update(embedding=-1)),
    ],
    ids=str,
)
def test_a_description_that_is_none_is_refused(description):
    with pytest.raises((ValueError, TypeError, LookupError, AttributeError)):  # what modelfile makes a sentence of
        Encoder.from_dict(description)


def test_truth_and_whole_numbers_are_the_same_in_text():
    assert as_text(pd.Series(["True", "FALSE", "true", " false "])).tolist() == ["true", "false", "true", "false"]
    assert as_text(pd.Series(["1.0", "-2.00", "007", "1.5", "v1.0"])).tolist() == ["1", "-2", "007", "1.5", "v1.0"]
    written = pd.Series([True, False, True]), pd.Series(["True", "False", "True"])
    for series in written:
        assert as_codes(series, ["false", "true"]).tolist() == [1, 0, 1]


def test_numbers_with_a_fraction_are_the_same_however_they_are_written():
    written = ["1.10", " 1.1", "1.100", ".50", "-0.0", "-0", "-0.250", "10.0", "12345678901234567890.10"]
    assert as_text(pd.Series(written)).tolist() == [
        *("1.1", "1.1", "1.1", "0.5", "0", "0", "-0.25", "10", "12345678901234567890.1")
    ]
    codes = ["007", "01.10", "1e5", "+1.10", "1.", ".", "-", "1.1.0", "12345678901234567890", "\u0661.\u0661"]
    assert as_text(pd.Series(codes)).tolist() == codes


@pytest.mark.parametrize("dtype", [float, "float32", "Float32", "category", object])
def test_numbers_of_any_type_are_the_category_of_their_text(dtype):
    series = pd.Series([1.1, 2.0, None, 0.25], dtype=dtype)
    assert as_text(series).tolist() == ["1.1", "2", None, "0.25"]
    assert as_codes(series, ["0.25", "1.1"]).tolist() == [1, -1, -1, 0]


def test_values_that_an_older_model_spells_otherwise_are_found():
    assert as_codes(pd.Series(["1.10", "1.1", "2.50", "?"]), ["?", "1.1", "1.10", "2.50"]).tolist() == [1, 1, 3, -1]
