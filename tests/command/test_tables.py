"""From a table to a model, its measures and its predictions, by the commands."""

import io
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import mean_absolute_error, precision_recall_fscore_support, r2_score, roc_auc_score

import xpnet
from xpnet import evaluate, predict

N = 300


def people(rows=N, seed=0):
    rng = np.random.default_rng(seed)
    age, town = rng.integers(18, 80, rows).astype(float), rng.choice(["Bonn", "Köln", "Ulm"], rows)
    income = np.where(age + 20 * (town == "Ulm") > 50, "high", "low")
    age[::17] = np.nan
    return pd.DataFrame({"id": np.arange(rows) * 7, "age": age, "town": town, "rent": 9 * age + 1e4, "income": income})


@pytest.fixture
def csv(empty_folder):
    people().to_csv("people.csv", index=False)
    people(100, seed=1).to_csv("others.csv", index=False)
    return "people.csv"


QUICK = ("--ignore", "id", "rent", "--lr", 0.01, "--no-plot", "--no-report")


@pytest.fixture
def model(csv, quiet_json):
    return quiet_json("--data", csv, "--target", "income", *QUICK).folder


def test_what_was_inferred_is_printed(csv, command):
    ended = command("--data", csv, "--target", "income", *QUICK, "--split", "0.8/0.1/0.1", "--epochs", 1)
    assert ended.status == 0
    for line in ('target "income": 2 classes', "numbers (1): age", "categories (1): town", "240 training, 30 valid"):
        assert line in ended.out


def test_a_run_on_a_table_is_repeated_by_its_configuration(csv, quiet_json):
    first = quiet_json("--data", csv, "--target", "income", *QUICK, "--split", "0.8/0.1/0.1")
    again = quiet_json("--config", first.folder / "config.toml")
    assert (first.folder / "model.safetensors").read_bytes() == (again.folder / "model.safetensors").read_bytes()
    assert first.settings["target"] == "income"


def test_a_run_on_a_table_is_gone_on_with(csv, quiet_json, command):
    options = ("--data", csv, "--target", "income", *QUICK)
    whole = quiet_json(*options, "--epochs", 20, "--out", "whole")
    quiet_json(*options, "--epochs", 10, "--out", "part")
    longer = command("--resume", "part", "--epochs", 20, "--quiet", "--json")
    assert longer.status == 0, longer.err
    assert longer.result["val_loss"] == whole.result["val_loss"] > 0


def test_targets_of_a_regression_keep_their_unit(csv, quiet_json, use):
    ended = quiet_json("--data", csv, "others.csv", "--target", "rent", "--ignore", "id", "income", *QUICK[3:])
    status, out, _ = use(evaluate, ended.folder, "--data", "others.csv", "--json")
    scores = json.loads(out)
    assert (status, scores["task"]) == (0, "regression")
    assert scores["rmse"] ** 2 == pytest.approx(ended.result["test_mse"], rel=1e-4)
    others = people(100, seed=1)
    predicted = xpnet.load(ended.folder / "model.safetensors").predict(others)
    kept = others.rent.notna()
    assert np.sqrt(np.mean((predicted - others.rent)[kept] ** 2)) == pytest.approx(scores["rmse"], rel=1e-6)
    assert scores["mae"] == pytest.approx(mean_absolute_error(others.rent[kept], predicted[kept]), rel=1e-6)
    assert scores["r2"] > 0.5
    assert scores["r2"] == pytest.approx(r2_score(others.rent[kept], predicted[kept]), rel=1e-6)
    assert 1e4 < predicted.mean() < 1.1e4


def test_measures_are_those_of_scikit_learn(model, use):
    status, out, err = use(evaluate, model, "--data", "others.csv", "--json")
    assert (status, err) == (0, "xpnet: others.csv: columns that the model does not use: id, rent\n")
    scores, others = json.loads(out), people(100, seed=1)
    network = xpnet.load(model / "model.safetensors")
    p = network.predict_proba(others)
    assert scores["samples"] == 100
    assert scores["accuracy"] == np.mean(network.predict(others) == others.income) > 0.8
    assert scores["auc"] == pytest.approx(roc_auc_score(others.income == "low", p[:, 1]))
    assert np.sum(scores["confusion"]) == 100
    assert np.trace(scores["confusion"]) == 100 * scores["accuracy"]
    truth = (others.income == "low").to_numpy().astype(int)
    assert scores["loss"] == pytest.approx(-np.log(p[np.arange(100), truth]).mean(), rel=1e-5)
    assert [row["class"] for row in scores["classes"]] == ["high", "low"]
    measured = precision_recall_fscore_support(others.income, network.predict(others), labels=["high", "low"])
    for name, values in zip(("precision", "recall", "f1", "samples"), measured, strict=True):
        assert [row[name] for row in scores["classes"]] == pytest.approx(values), name
    sure, right = p.max(axis=1), p.argmax(axis=1) == truth
    bins = [np.ceil(15 * sure) == number for number in range(1, 16)]
    gaps = [abs(sure[inside].mean() - right[inside].mean()) * inside.mean() for inside in bins if inside.any()]
    assert sum(gaps) > 0.001
    assert scores["calibration_error"] == pytest.approx(sum(gaps), rel=1e-5)
    status, out, _ = use(evaluate, model, "--data", "others.csv")
    assert status == 0
    for word in ("calibration error", "precision", "true \\ predicted"):
        assert word in out


@pytest.mark.parametrize("out", ["p.csv", "p.tsv", "p.parquet", "p.npz", "-", "P.CSV", "P.TSV", "P.PARQUET", "P.NPZ"])
def test_predictions_are_written_in_pieces(model, use, monkeypatch, out):
    monkeypatch.setattr("xpnet.tables.reading.PIECE", 700)
    status, printed, _ = use(predict, model, "--data", "others.csv", "--out", out, "--keep", "id", "town")
    assert status == 0
    others = people(100, seed=1)
    expected = xpnet.load(model / "model.safetensors").predict_proba(others)
    kind = out.lower()
    if kind == "p.npz":
        with np.load(out) as file:
            assert file["classes"].tolist() == ["high", "low"]
            assert file["town"].tolist() == others.town.tolist()
            np.testing.assert_allclose(file["probabilities"], expected, rtol=1e-5)
            assert file["prediction"].tolist() == [["high", "low"][i] for i in expected.argmax(axis=1)]
        return
    if out == "-":
        with open("piped.csv", "w", encoding="utf-8") as file:
            file.write(printed)
        out = "piped.csv"
    else:
        assert printed == f"100 predictions: {out}\n"
    frame = pd.read_parquet(out) if "parquet" in kind else pd.read_csv(out, sep="\t" if "tsv" in kind else ",")
    assert list(frame.columns) == ["id", "town", "prediction", "probability high", "probability low"]
    assert frame.id.astype(int).tolist() == others.id.tolist()
    np.testing.assert_allclose(frame[["probability high", "probability low"]], expected, rtol=1e-5)
    assert frame.prediction.tolist() == [["high", "low"][i] for i in expected.argmax(axis=1)]


@pytest.mark.parametrize("kind", ["csv", "csv.gz", "parquet"])
def test_predictions_of_what_is_piped_in(model, use, monkeypatch, kind):
    others = people(100, seed=1)
    write = others.to_parquet if kind == "parquet" else others.to_csv
    write(f"piped.{kind}", index=False)
    with open(f"piped.{kind}", "rb") as stream, monkeypatch.context() as patched:
        patched.setattr("sys.stdin", type("Stdin", (), {"buffer": stream}))
        status, out, _ = use(predict, model, "--data", "-", "--out", "-", "--keep", "id")
    assert status == 0
    assert [line.split(",")[0] for line in out.splitlines()] == ["id", *map(str, others.id)]


@pytest.mark.parametrize(
    ("stdin", "sentence"),
    [
        (None, "standard input is closed"),
        (type("Stdin", (), {"buffer": io.BytesIO()}), "cannot be read as a table"),
        (type("Stdin", (), {"buffer": io.BytesIO(b"PAR1 and no more")}), "cannot be read as a table"),
    ],
)
def test_what_cannot_be_piped_in(model, use, monkeypatch, stdin, sentence):
    with monkeypatch.context() as patched:
        patched.setattr("sys.stdin", stdin)
        status, out, err = use(predict, model, "--data", "-", "--out", "p.csv")
    assert (status, out, len(err.splitlines())) == (2, "", 1)
    assert sentence in err
    assert not Path("p.csv").exists()


def test_the_order_of_columns_is_free_and_missing_ones_are_named(model, use):
    others = people(100, seed=1)
    others[["town", "age"]].to_csv("turned.csv", index=False)
    others[["town"]].to_csv("lacking.csv", index=False)
    assert use(predict, model, "--data", "turned.csv", "--out", "turned.npz")[0] == 0
    assert use(predict, model, "--data", "others.csv", "--out", "straight.npz")[0] == 0
    with np.load("turned.npz") as turned, np.load("straight.npz") as straight:
        np.testing.assert_array_equal(turned["probabilities"], straight["probabilities"])
    status, _, err = use(predict, model, "--data", "lacking.csv", "--out", "lacking.npz")
    assert status == 2
    assert "lacks 1 of the 2 columns that the model was trained on: age; give them, or add --fill-missing" in err
    status, _, err = use(predict, model, "--data", "lacking.csv", "--out", "lacking.npz", "--fill-missing")
    assert (status, err) == (0, "xpnet: lacking.csv: age taken as missing in every row\n")


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (
            ["--data", "people.csv"],
            "target: got none for people.csv, expected --target with one",
        ),
        (["--data", "people.csv", "--target", "wage"], 'target: got "wage", expected a column of people.csv'),
        (["--data", "digits", "--target", "wage"], "target: got it with digits, expected it with a table"),
        (["--data", "people.csv", "--target", "income", "--standardize"], "expected --numbers"),
        (["--data", "people.csv", "--target", "income", "--split", "80/20"], 'split: got "80/20"'),
        (["--data", "no.csv", "--target", "income"], "no.csv does not exist"),
        (["--data", "people.csv", "--target", "income", "--time-column", "age", "--group-column", "id"], "one of them"),
        (["--data", "people.csv", "others.csv", "people.csv", "--target", "income"], "got 3 tables"),
        (["--data", "people.csv", "others.csv", "--target", "income", "--split", ".8/.1/.1"], "beside a test file"),
        (["--data", "people.csv", "--target", "income", "--standardize-target"], "standardize_target: got it for"),
        (
            ["--data", "people.csv", "--target", "income", "--train-size", "-5"],
            "train_size: got -5, expected 1 to 300 rows",
        ),
        (["--data", "people.csv", "--target", "income", "--val-size", "nan"], "val_size: got nan, expected a part"),
        (["--data", "people.csv", "--target", "income", "--one-hot", "-1"], "one_hot: got -1"),
        (["--data", "people.csv", "--target", "income", "--embedding", "0"], "embedding: got 0"),
        (
            ["--data", "people.csv", "--target", "income", "--time-column", "id", "--group-column", "town"],
            "group_column: got it beside",
        ),
    ],
)
def test_what_train_cannot_do_with_a_table(csv, command, empty_folder, options, sentence):
    ended = command(*options)
    assert ended.status == 2
    assert sentence in ended.err
    assert len(ended.err.splitlines()) == 1
    assert not (empty_folder / "runs").exists()


@pytest.mark.parametrize(
    ("data", "out", "sentence"),
    [
        ("others.csv", "there.csv", "there.csv is there already"),
        ("others.csv", "p.xlsx", 'got "p.xlsx", expected a name that ends in .csv, .tsv, .parquet, .npz'),
        ("others.csv", "no/p.csv", "cannot be written"),
        ("digits", "p.csv", "expected one .csv, .tsv or .parquet"),
        ("empty.csv", "p.csv", "cannot be read as a table"),
        ("ragged.csv", "p.csv", "cannot be read as a table"),
        ("names.csv", "p.csv", "names.csv has no rows"),
        ("names.csv", "p.parquet", "names.csv has no rows"),
        ("others.csv", "p" * 300 + ".csv", "cannot be written (File name too long)"),
    ],
)
def test_what_cannot_be_predicted_leaves_nothing(model, use, empty_folder, data, out, sentence):
    (empty_folder / "there.csv").write_text("mine")
    (empty_folder / "empty.csv").write_text("")
    (empty_folder / "ragged.csv").write_text("age,town\n1,Ulm\n1,2,3\n")
    (empty_folder / "names.csv").write_text("age,town\n")
    before = {path.name for path in empty_folder.iterdir()}
    status, printed, err = use(predict, model, "--data", data, "--out", out)
    assert (status, printed) == (2, "")
    assert sentence in err
    assert {path.name for path in empty_folder.iterdir()} == before
    assert (empty_folder / "there.csv").read_text() == "mine"


@pytest.mark.parametrize("out", ["p.csv", "p.parquet", "p.npz"])
def test_a_column_that_is_kept_hides_no_prediction(model, use, empty_folder, out):
    people(20).rename(columns={"id": "prediction"}).to_csv("new.csv", index=False)
    status, _, err = use(predict, model, "--data", "new.csv", "--out", out, "--keep", "prediction")
    assert status == 2
    assert 'keep: got "prediction", as which predictions are written' in err
    assert not (empty_folder / out).exists()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_predictions_that_standard_output_has_no_room_for(model, use, monkeypatch):
    with open("/dev/full", "w", encoding="utf-8") as full, monkeypatch.context() as patched:
        patched.setattr("sys.stdout", full)
        status, _, err = use(predict, model, "--data", "others.csv", "--out", "-")
    assert status == 2
    assert "standard output cannot be written (No space left on device)" in err


def test_what_is_missing_in_a_kept_column_stays_missing(model, use):
    people(20).assign(id=pd.array([None, *range(1, 20)], "Int64")).to_parquet("new.parquet")
    for out in ("p.csv", "p.parquet", "p.npz"):
        assert use(predict, model, "--data", "new.parquet", "--out", out, "--keep", "id", "age")[0] == 0
    assert pd.read_csv("p.csv", dtype=str).id.fillna("").tolist() == ["", *map(str, range(1, 20))]
    frame = pd.read_parquet("p.parquet")
    assert frame.id.astype("Int64").fillna(0).tolist() == list(range(20))
    assert frame.age.isna().tolist() == people(20).age.isna().tolist()
    with np.load("p.npz") as file:
        assert file["id"].tolist() == ["", *map(str, range(1, 20))]


def test_targets_of_another_width_are_told(quiet_json, use):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(40, 3))
    for y in (x > 0).astype(int), x:
        np.savez("three.npz", X=x, y=y)
        np.savez("two.npz", X=x, y=y[:, :2])
        folder = quiet_json("--data", "three.npz", "--epochs", 1, "--no-plot", "--overwrite", "--out", "wide").folder
        status, _, err = use(evaluate, folder, "--data", "two.npz")
        assert status == 2
        assert "two.npz has 2 targets a sample, the model 3" in err


@pytest.mark.parametrize("command_", [evaluate, predict], ids=["evaluate", "predict"])
def test_a_model_that_is_none(csv, use, empty_folder, command_):
    out = ["--out", "p.csv"] if command_ is predict else []
    for name, sentence in (("people.csv", "no whole safetensors file"), ("no.st", "no such file"), (".", "no model.s")):
        status, _, err = use(command_, name, "--data", "others.csv", *out)
        assert status == 2
        assert sentence in err
    assert not (empty_folder / "p.csv").exists()


def test_the_target_has_to_be_there_to_measure(model, use):
    people(20).drop(columns="income").to_csv("new.csv", index=False)
    status, _, err = use(evaluate, model, "--data", "new.csv")
    assert status == 2
    assert 'new.csv lacks the target "income"' in err
    people(20).assign(income="middle").to_csv("new.csv", index=False)
    status, _, err = use(evaluate, model, "--data", "new.csv")
    assert status == 2
    assert "holds 'middle', expected one of high, low, in row 1 below the names: mend it" in err


def test_neither_capitals_nor_an_index_of_pandas_make_another_model(csv, quiet_json, use):
    options = ("--target", "income", *QUICK, "--epochs", 2)
    plain = quiet_json("--data", csv, *options, "--out", "plain").folder
    people().set_index(pd.Index(np.arange(N)[::-1])).to_csv("PEOPLE.CSV")
    people(100, seed=1).set_index(pd.Index(np.arange(100)[::-1])).to_csv("OTHERS.TSV", sep="\t")
    indexed = quiet_json("--data", "PEOPLE.CSV", *options, "--out", "indexed").folder
    expected = use(predict, plain, "--data", "others.csv", "--out", "-")[1]
    for folder, data in ((plain, "OTHERS.TSV"), (indexed, "others.csv"), (indexed, "OTHERS.TSV")):
        status, out, _ = use(predict, folder, "--data", data, "--out", "-")
        assert (status, out) == (0, expected)


def test_people_of_adult(data_folder, quiet_json, use):
    """Two epochs of the recipe are enough to see that all its parts are there."""
    folder = data_folder / "tabular"
    if not (folder / "adult.data").exists():
        pytest.skip("Adult is not there; put adult.data and adult.test into tabular/ of the folder XPNET_DATA names")
    names = (
        "age,workclass,fnlwgt,education,education-num,marital-status,occupation,relationship,race,sex,"
        "capital-gain,capital-loss,hours-per-week,native-country,income\n"
    )
    with open("adult.csv", "w", encoding="utf-8") as file:
        file.write(names + (folder / "adult.data").read_text())
    with open("adult-test.csv", "w", encoding="utf-8") as file:
        file.write(names + (folder / "adult.test").read_text().split("\n", 1)[1].replace("K.", "K"))
    options = ("--recipe", "table", "--data", "adult.csv", "adult-test.csv", "--target", "income")
    ended = quiet_json(*options, "--epochs", 2, "--no-plot", "--no-report")
    assert ended.result["test_accuracy"] > 0.85
    scores = json.loads(use(evaluate, ended.folder, "--data", "adult-test.csv", "--json")[1])
    assert scores["accuracy"] == pytest.approx(ended.result["test_accuracy"], abs=1e-9)
    assert scores["auc"] > 0.9


def test_labels_and_several_classes_are_measured_each_against_the_rest(quiet_json, use):
    rng = np.random.default_rng(0)
    x = rng.normal(size=(200, 4))
    for y in (x[:, :3].argmax(axis=1), (x[:, :3] > 0.5).astype(int)):
        np.savez("own.npz", X=x, y=y)
        folder = quiet_json("--data", "own.npz", "--epochs", 2, "--no-plot", "--overwrite", "--out", "own").folder
        p = xpnet.load(folder / "model.safetensors").predict_proba(x)
        scores = json.loads(use(evaluate, folder, "--data", "own.npz", "--json")[1])
        truth = y if y.ndim == 2 else np.eye(3)[y]
        areas = [roc_auc_score(truth[:, i], p[:, i]) for i in range(3)]
        assert scores["auc"] == pytest.approx(np.mean(areas))
        said = p > 0.5 if y.ndim == 2 else p == p.max(axis=1, keepdims=True)
        recalls = [said[truth[:, i] == 1, i].mean() for i in range(3)]
        assert [row["recall"] for row in scores["classes"]] == pytest.approx(recalls)
