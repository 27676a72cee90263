"""Tables as a careless person has them, and a model of another one."""

import datetime
import decimal
import json
import os
import signal
import threading
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from pyarrow import parquet

import xpnet
from xpnet import evaluate, predict
from xpnet.inference import predicting
from xpnet.tables import Category, Encoder, Number


@pytest.fixture
def model(empty_folder):
    """The path of a model, untrained, that predicts from a number, a town and a code; "high" for numbers above 40."""
    columns = (
        Number("age", fill=40, center=40, indicator=True),
        Category("town", ("Bonn", "Köln", "Ulm")),
        Category("code", ("1", "2", "7"), embedding=2),
    )
    network = xpnet.MLP((7, 2), init="zeros", embeddings=((4, 2),))
    network.parameters.w[0][0, 1] = 1
    network.task, network.classes, network.table = "classification", ("low", "high"), Encoder(columns, "income")
    return xpnet.save(network, "model.safetensors")


def write(text, name="new.csv"):
    with open(name, "w", encoding="utf-8") as file:
        file.write(text)
    return name


# Cells of which nothing can be made

ODD = "age,town,code,income\n12,Ulm,1,low\nunknown,Wien,9,low\n?,Linz,,high\ninf,,7.0,high\n50,Bonn,2,high\n"
TOLD = (
    "xpnet: new.csv: cells that are no numbers, taken as missing: age 2 ('unknown')\n"
    "xpnet: new.csv: values that training never saw, taken as unknown: town 2 ('Wien'), code 1 ('9')\n"
)


@pytest.mark.parametrize("piece", [2**22, 40])
def test_cells_that_mean_nothing_are_counted_and_told_once(model, use, monkeypatch, piece):
    monkeypatch.setattr("xpnet.tables.reading.PIECE", piece)
    data = write(ODD)
    for command, options in (predict, ("--out", "-")), (evaluate, ("--json",)):
        status, out, err = use(command, model, "--data", data, *options)
        assert status == 0
        assert err.removeprefix("xpnet: new.csv: columns that the model does not use: income\n") == TOLD
    assert json.loads(out)["samples"] == 5


def test_cells_of_parquet_are_counted_too(model, use):
    frame = pd.DataFrame({"age": ["12", "old", None], "town": ["Ulm", None, "Wien"], "code": [1, 2, 3]})
    frame.to_parquet("new.parquet")
    status, _, err = use(predict, model, "--data", "new.parquet", "--out", "-")
    assert (status, len(err.splitlines())) == (0, 2)
    for cells in ("age 1 ('old')", "town 1 ('Wien'), code 1 ('3')"):
        assert cells in err


def test_rows_without_a_target_are_not_looked_at(model, use):
    data = write("age,town,code,income\n12,Ulm,1,low\nunknown,Wien,9,\n50,Bonn,2,high\n")
    status, _, err = use(evaluate, model, "--data", data, "--json")
    assert (status, err) == (0, "xpnet: new.csv: 1 rows without a target were left out\n")


def test_what_a_cell_holds_cannot_command_a_terminal(model, use):
    data = write('age,town,code\n12,"U\x1b[31m\nlm",1\n')
    status, _, err = use(predict, model, "--data", data, "--out", "p.csv")
    assert (status, len(err.splitlines()), "\x1b" in err) == (0, 1, False)


def test_many_columns_do_not_make_a_long_sentence(use, empty_folder):
    network = xpnet.MLP((12, 1), output="linear")
    network.task = "regression"
    network.table = Encoder(tuple(Number(f"n{i}") for i in range(12)), "t")
    names = ",".join(f"n{i}" for i in range(12))
    data = write(f"{names}\n{','.join('1' * 12)}\n{','.join('x' * 12)}\n")
    status, _, err = use(predict, xpnet.save(network, "model.safetensors"), "--data", data, "--out", "p.csv")
    assert status == 0
    assert err.endswith("n8 1 ('x'), n9 1 ('x') and 2 more columns\n")


@pytest.mark.parametrize("command", [predict, evaluate], ids=["predict", "evaluate"])
@pytest.mark.parametrize("piece", [2**22, 40])
def test_a_column_without_a_number_is_refused_before_anything_is_written(model, use, monkeypatch, command, piece):
    monkeypatch.setattr("xpnet.tables.reading.PIECE", piece)
    monkeypatch.setattr("xpnet.inference.unread.ENOUGH", 2)
    rows = ['"1,5",Ulm,1,low', ",Bonn,2,high", '"2,7",Bonn,2,high']
    data = write("\n".join(["age,town,code,income", *rows, ""]))
    options = ("--out", "-") if command is predict else ()
    status, out, err = use(command, model, "--data", data, *options)
    assert status == 2
    assert "new.csv: no value of age can be read as a number ('1,5', for instance): write numbers with a" in err
    assert piece == 40 or not out


def test_a_number_after_many_cells_that_are_none_is_enough(model, use, monkeypatch):
    monkeypatch.setattr("xpnet.tables.reading.PIECE", 40)
    data = write("age,town,code\n" + "x,Bonn,1\n" * 9 + "3,Bonn,1\n")
    status, _, err = use(predict, model, "--data", data, "--out", "p.csv")
    assert (status, "taken as missing: age 9 ('x')" in err) == (0, True)


def test_a_column_that_is_missing_throughout_is_none_to_refuse(model, use):
    data = write("age,town,code\n,Bonn,1\n?,Bonn,1\n")
    assert use(predict, model, "--data", data, "--out", "p.csv") == (0, "2 predictions: p.csv\n", "")


# Columns that are not there


def test_a_model_is_measured_without_a_column(model, use):
    data = write("town,code,income\nUlm,1,low\nBonn,2,high\n")
    status, out, err = use(evaluate, model, "--data", data, "--json")
    assert (status, out) == (2, "")
    assert "lacks 1 of the 3 columns that the model was trained on: age; give them, or add --fill-missing" in err
    status, out, err = use(evaluate, model, "--data", data, "--json", "--fill-missing")
    assert (status, err) == (0, "xpnet: new.csv: age taken as missing in every row\n")
    filled = pd.read_csv(data).assign(age=np.nan)
    assert json.loads(out)["accuracy"] == np.mean(xpnet.load(model).predict(filled) == filled.income)
    status, _, err = use(evaluate, model, "--data", write("town,code\nUlm,1\n"), "--fill-missing")
    assert (status, 'lacks the target "income"' in err) == (2, True)


@pytest.mark.parametrize("names", ["Age,TOWN,code", '" age",town ,code'])
def test_names_that_are_nearly_right_are_shown(model, use, names):
    status, _, err = use(predict, model, "--data", write(f"{names}\n1,Ulm,1\n"), "--out", "p.csv")
    assert status == 2
    shown = "Age, TOWN" if "TOWN" in names else '" age", "town "'
    assert f"trained on: age, town (it has {shown}); give them" in err


# Where to


GOOD = "id,age,town,code\n" + "1,30,Ulm,1\n" * 20


@pytest.mark.parametrize("options", [(), ("--overwrite",)])
def test_the_table_is_not_written_over(model, use, options):
    data = write(GOOD)
    status, _, err = use(predict, model, "--data", data, "--out", f"./{data}", *options)
    assert (status, err) == (2, "xpnet: out: got ./new.csv, from which --data is read; choose another name.\n")
    assert Path(data).read_text() == GOOD


def test_standard_output_is_utf_8_whatever_the_locale(model, use, monkeypatch):
    data = write("age,town,code\n1,Köln,1\n")
    with open("out.csv", "w", encoding="ascii") as stream, monkeypatch.context() as patched:
        patched.setattr("sys.stdout", stream)
        assert use(predict, model, "--data", data, "--out", "-", "--keep", "town")[0] == 0
    assert Path("out.csv").read_text(encoding="utf-8").splitlines()[1].startswith("Köln,")


@pytest.mark.skipif(os.name != "posix", reason="a pipe without a reader is told otherwise elsewhere")
def test_who_reads_no_more_is_not_written_for(model, use, monkeypatch):
    monkeypatch.setattr("xpnet.tables.reading.PIECE", 40)
    watch = Counter()
    monkeypatch.setattr("xpnet.inference.unread.Unread.watch", lambda *_: watch.update(["column"]))
    reader, writer = os.pipe()
    os.close(reader)
    with open(writer, "w", encoding="utf-8") as stream, monkeypatch.context() as patched:
        patched.setattr("sys.stdout", stream)
        assert use(predict, model, "--data", write(GOOD), "--out", "-") == (
            0,
            "",
            "xpnet: new.csv: columns that the model does not use: id\n",
        )
    assert watch["column"] == 3  # of one piece


@pytest.mark.skipif(os.name != "posix", reason="Ctrl-C is sent by POSIX's kill")
@pytest.mark.parametrize(("name", "expected"), [("SIGINT", 130), ("SIGTERM", 143)])
@pytest.mark.parametrize("out", ["p.csv", "p.parquet", "p.npz"])
def test_nothing_is_left_by_who_is_ended(model, use, monkeypatch, empty_folder, name, expected, out):
    assert threading.current_thread() is threading.main_thread()  # else the signal would end pytest
    data = write(GOOD)
    before = set(os.listdir(empty_folder))

    def ended(*arguments):
        yield from predicting.predict(*arguments)
        os.kill(os.getpid(), getattr(signal, name))

    monkeypatch.setattr("xpnet.predict.predicting", SimpleNamespace(predict=ended))
    try:
        status, printed, err = use(predict, model, "--data", data, "--out", out)
        assert (printed, err.splitlines()[-1]) == ("", "xpnet: Interrupted.")
    except SystemExit as end:
        status = end.code
    assert status == expected
    assert set(os.listdir(empty_folder)) == before


@pytest.mark.parametrize(("out", "library"), [("p.csv", "pandas"), ("p.parquet", "pyarrow"), ("-", "pandas")])
def test_what_is_not_installed_is_told(model, use, monkeypatch, out, library):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    status, _, err = use(predict, model, "--data", write(GOOD), "--out", out)
    assert (status, f"needs {library}, which is not installed; pip install 'xpnet[tables]', or take .npz" in err) == (
        2,
        True,
    )


# Columns that are kept


@pytest.fixture
def typed(model):
    """The model, and a table of all types that a column can have, of which the first rows are missing."""
    moment = datetime.datetime(2020, 2, 3, 4, 5, 6)
    columns = {
        "byte": pa.array([None, 2, 3, 4], pa.int8()),
        "id": pa.array([None, 2**53 + 1, 3, 4], pa.int64()),
        "whole": pa.array([7, 8, 9, 10], pa.uint32()),
        "yes": pa.array([None, True, False, True]),
        "share": pa.array([None, 0.1, 2.0, 3.0], pa.float32()),
        "day": pa.array([None, *[moment.date()] * 3]),
        "time": pa.array([None, *[moment] * 3], pa.timestamp("us")),
        "midnight": pa.array([None, *[moment.replace(hour=0, minute=0, second=0)] * 3], pa.timestamp("us")),
        "zoned": pa.array([None, *[moment] * 3], pa.timestamp("ms", "UTC")),
        "price": pa.array([None, decimal.Decimal("1.50"), decimal.Decimal("100.25"), None], pa.decimal128(9, 2)),
        "text": pa.array([None, "007", "a,b", "NA"]),
        "kind": pa.array([None, "x", "y", "x"]).dictionary_encode(),
    }
    known = {"age": pa.array([30.0, 50, 30, 50]), "town": pa.array(["Ulm"] * 4), "code": pa.array([1, 2, 1, 2])}
    parquet.write_table(pa.table({**columns, **known}), "typed.parquet")
    return model, columns


def test_kept_columns_of_parquet_stay_as_they_are(typed, use, monkeypatch):
    monkeypatch.setattr("xpnet.tables.reading.PIECE_ROWS", 1)
    model, columns = typed
    keep = ("--keep", *columns, "age", "code")
    assert use(predict, model, "--data", "typed.parquet", "--out", "p.parquet", *keep)[0] == 0
    written = parquet.read_table("p.parquet")
    for name, values in columns.items():
        expected = values.dictionary_decode() if name == "kind" else values
        assert written[name].combine_chunks().equals(expected), name
    assert written.schema.field("age").type == pa.float64()
    assert written.schema.field("code").type == pa.int64()


def test_kept_columns_of_parquet_as_text_and_as_arrays(typed, use, monkeypatch):
    monkeypatch.setattr("xpnet.tables.reading.PIECE_ROWS", 1)
    model, columns = typed
    assert use(predict, model, "--data", "typed.parquet", "--out", "p.csv", "--keep", *columns)[0] == 0
    rows = Path("p.csv").read_text(encoding="utf-8").splitlines()
    assert rows[1].startswith(",,7,,,,,,,,,,")
    assert rows[3].startswith(
        '3,3,9,False,2.0,2020-02-03,2020-02-03 04:05:06,2020-02-03 00:00:00,2020-02-03 04:05:06+00:00,100.25,"a,b",y,'
    )
    assert use(predict, model, "--data", "typed.parquet", "--out", "p.npz", "--keep", *columns)[0] == 0
    with np.load("p.npz") as file:
        assert file["whole"].tolist() == [7, 8, 9, 10]
        assert file["id"].tolist() == ["", str(2**53 + 1), "3", "4"]
        assert file["day"].dtype.kind == file["time"].dtype.kind == "M"
        np.testing.assert_array_equal(file["share"], np.array([np.nan, 0.1, 2, 3], np.float32))
        assert file["text"].tolist() == ["", "007", "a,b", "NA"]


@pytest.mark.parametrize("out", ["p.csv", "p.parquet", "p.npz"])
def test_kept_columns_of_csv_are_written_as_they_were(model, use, out):
    data = write('id,age,town,code,date,"a,b"\n007,1,Ulm,1,2020-1-3,"x,""y"""\n1e3,2.50,Bonn,1.0,1.2.2020, z\n')
    assert use(predict, model, "--data", data, "--out", out, "--keep", "id", "age", "date", "a,b")[0] == 0
    if out == "p.npz":
        with np.load(out) as file:
            kept = {name: file[name].tolist() for name in ("id", "age", "date", "a,b")}
    else:
        frame = pd.read_parquet(out) if out == "p.parquet" else pd.read_csv(out, dtype=str)
        kept = {name: frame[name].tolist() for name in frame.columns[:4]}
    assert kept == {
        "id": ["007", "1e3"],
        "age": ["1", "2.50"],
        "date": ["2020-1-3", "1.2.2020"],
        "a,b": ['x,"y"', " z"],
    }
