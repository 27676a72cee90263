"""Runs side by side: what is shown of them, in which order, and what of damaged ones."""

import json
import shutil
from pathlib import Path

import pytest
from matplotlib.image import imread

from xpnet.compare import main


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Four runs of digits that differ in hidden layers, learning rate and epochs; the best is the second."""
    from xpnet.train import main as train

    folder = tmp_path_factory.mktemp("trained")
    options = {
        "small": ["--hidden", "4", "--epochs", "2"],
        "good": ["--hidden", "40", "--epochs", "4", "--lr", "0.01"],
        "bare": ["--no-hidden", "--epochs", "3"],
        "untested": ["--hidden", "4", "--epochs", "1", "--val-size", "0"],
    }
    for name, own in options.items():
        common = ["--data", "digits", "--train-size", "400", "--quiet", "--no-plot", "--no-report"]
        assert train([*common, *own, "--out", str(folder / name)]) == 0
    return folder


@pytest.fixture
def runs(trained, empty_folder):
    """Copies of them, in runs."""
    for name in ("small", "good", "bare"):
        shutil.copytree(trained / name, empty_folder / "runs" / name)
    return empty_folder / "runs"


@pytest.fixture
def compare(capsys):
    """Run the command; its status, output and errors."""

    def run(*arguments):
        capsys.readouterr()
        status = main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def compared(compare):
    """What --json tells, of runs that there is nothing to complain of."""

    def run(*arguments):
        status, out, err = compare(*arguments, "--json")
        assert (status, err) == (0, "")
        return json.loads(out)

    return run


def values_of(out, name):
    """The cells below a title, of a table in which that column has one word in each row."""
    title, *rows = out.splitlines()
    end = title.index(name) + len(name)
    return [row[:end].split()[-1] for row in rows[: rows.index("") if "" in rows else None]]


def test_table_has_the_best_run_first_and_the_settings_that_differ_only(runs, compare):
    status, out, err = compare(*runs.iterdir())
    assert (status, err) == (0, "")
    head, *rows = out.splitlines()
    names = ["run", "hidden", "lr", "epochs", "val_accuracy", "test_accuracy", "val_loss", "test_loss", "train_loss"]
    assert head.split() == [*names, "epochs", "done", "seconds", "samples/s", "ended"]
    assert rows[0].split()[:4] == ["good", "40", "0.01", "4"]
    assert {row.split()[0] for row in rows} == {"good", "small", "bare"}
    accuracies = values_of(out, "val_accuracy")
    assert accuracies == sorted(accuracies, reverse=True)
    result = json.loads((runs / "good/result.json").read_text())
    assert accuracies[0] == f"{result['val_accuracy']:.4f}"


@pytest.mark.parametrize(
    ("sort", "falls"),
    [("val_accuracy", True), ("test_accuracy", True), ("val_loss", False), ("train_loss", False), ("seconds", False)],
)
def test_sorted_by_a_number_the_better_first(runs, compared, sort, falls):
    rows = compared("--sort", sort)["runs"]
    values = [row[sort] for row in rows]
    assert values == sorted(values, reverse=falls)
    assert len(rows) == 3


def test_json_has_the_numbers_of_the_results(runs, compared):
    told = compared(runs / "good", runs / "small")
    assert told["sorted_by"] == "val_accuracy"
    for row in told["runs"]:
        result = json.loads((runs / row["run"] / "result.json").read_text())
        for name in ("val_accuracy", "test_accuracy", "train_loss", "epochs", "seconds", "samples_per_second"):
            assert row[name] == result[name]
        assert row["ended"] == "done"
    assert told["runs"][0]["settings"] == {"hidden": [40], "lr": 0.01, "epochs": 4}
    assert told["runs"][1]["settings"] == {"hidden": [4], "lr": None, "epochs": 2}


def test_without_validation_the_test_metric_counts(trained, runs, compared):
    shutil.copytree(trained / "untested", runs / "untested")
    assert compared(runs / "untested")["sorted_by"] == "test_accuracy"
    assert compared("runs")["runs"][-1]["run"] == "untested"  # without the metric of the others it is last


def test_folders_are_found_by_a_pattern_and_in_a_folder_and_are_taken_once(runs, compared):
    for arguments in ([], ["runs"], ["runs/*"], ["runs/good", "runs/[sb]*", "runs"]):
        assert sorted(row["run"] for row in compared(*arguments)["runs"]) == ["bare", "good", "small"]


def test_runs_of_one_name_are_told_apart(runs, compared):
    shutil.copytree(runs / "good", "others/good")
    names = {row["run"] for row in compared("runs", "others")["runs"]}
    assert names == {"runs/good", "others/good", "small", "bare"}


def test_files_beside_runs_are_left_out_with_a_sentence(runs, compare):
    (runs / "tune-digits.db").write_bytes(b"")
    status, out, err = compare("runs/*")
    assert status == 0
    assert err == "xpnet: left out, being no folders of runs: runs/tune-digits.db.\n"
    assert len(out.splitlines()) == 4


def test_unfinished_run_is_shown_with_the_best_of_its_history(runs, compare):
    (runs / "good/result.json").unlink()
    history = (runs / "good/history.csv").read_text()
    (runs / "good/history.csv").write_text(history[:-30])  # its last line is being written
    status, out, err = compare("runs", "--json")
    assert status == 0
    assert err == "xpnet: runs/good is unfinished: its figures are the best and the last of its history so far.\n"
    row = next(row for row in json.loads(out)["runs"] if row["run"] == "good")
    lines = [line.split(",") for line in history.splitlines()]
    at = lines[0].index("val_accuracy")
    assert row["val_accuracy"] == max(float(line[at]) for line in lines[1:-1])
    assert (row["epochs"], row["ended"], row["test_accuracy"]) == (3.0, "unfinished", None)


BAD = {
    "config.toml": [b"[", b"\xff\xfe", b"[settings]\nlr = {a = 1}\n", b""],
    "result.json": [b"", b"[1]", b'{"val_accuracy": "x"', b"[" * 100_000, b"\xff"],
    "history.csv": [b"", b"\0\0", b"epoch,epoch\n1,2\n", b"a,b\n1,2\n"],
}


@pytest.mark.parametrize(("file", "content"), [(file, content) for file, all_ in BAD.items() for content in all_])
def test_damaged_file_costs_a_sentence_and_what_was_in_it(runs, compare, file, content):
    (runs / "good" / file).write_bytes(content)
    status, out, err = compare()
    assert status == 0
    assert err.count("\n") == 1
    assert f"good/{file}" in err
    assert sorted(line.split()[0] for line in out.split("\n\n")[0].splitlines()[1:]) == ["bare", "good", "small"]


def test_strange_numbers_and_lines_are_left_out(runs, compare):
    result = {
        "val_accuracy": float("nan"),
        "val_loss": 10**400,
        "test_accuracy": True,
        "stopped": "\x1b[31m" + "x" * 99,
    }
    (runs / "good/result.json").write_text(json.dumps(result))
    with open(runs / "good/history.csv", "a", encoding="utf-8") as file:
        file.write("1,2\nnan,,,,,,,,\n")
    status, out, err = compare("runs", "--json", "--out", "c.png")
    assert status == 0
    assert err == "xpnet: runs/good/history.csv: 2 of its lines are damaged and left out.\n"
    row = next(row for row in json.loads(out)["runs"] if row["run"] == "good")
    assert row["ended"] == r"\x1b[31m" + "x" * 55
    assert row["test_accuracy"] is None


@pytest.mark.parametrize("width", [20, 60, 100])
def test_narrow_terminal_drops_columns_and_says_which(runs, compare, monkeypatch, width):
    monkeypatch.setenv("COLUMNS", str(width))
    _, out, _ = compare()
    table, notice = out.split("\n\n")
    assert max(map(len, out.splitlines())) <= width
    assert [row.split()[0] for row in table.splitlines()][:2] == ["run", "good"]
    shown, left_out = table.split("\n")[0].split(), notice.replace("\n", " ")
    assert "val_accuracy" in shown
    for name in ("hidden", "test_accuracy", "train_loss", "samples/s", "ended"):
        assert (name in shown) != (name in left_out)


def test_page_is_whole_and_holds_all_runs(runs, compare):
    (runs / "small").rename(runs / "<script>alert(1)</script>".replace("/", "_"))
    status, out, _ = compare("--out", "compare.html")
    page = Path("compare.html").read_text(encoding="utf-8")
    assert status == 0
    assert out.endswith("\ncompare.html\n")
    assert len(page) < 2_500_000
    assert "<script>alert(1)" not in page
    assert "&lt;script&gt;alert(1)" in page
    for address in ('src="http', "src='http", 'href="http', "url(http", "@import"):
        assert (
            address not in page.rpartition("</head>")[2]
        )  # Bokeh's own code has more, which text without TeX never reaches
    for text in ("good", "bare", "seconds of training", '"click_policy":"hide"', "HoverTool", "val_loss"):
        assert text in page


def test_picture_is_one_and_is_replaced_if_that_is_asked_for(runs, compare):
    Path("compare.png").write_text("mine")
    assert compare("--out", "compare.png", "--overwrite")[0] == 0
    assert imread("compare.png").ndim == 3


def test_regression_beside_classes(runs, compared):
    from xpnet.train import main as train

    common = ["--data", "sine", "--epochs", "2", "--quiet", "--no-plot", "--no-report"]
    assert train(common) == 0
    assert train([*common, "--lr", "0.1"]) == 0
    assert compared("runs/sine", "runs/sine-2")["sorted_by"] == "val_mse"
    assert compared("runs/sine", "runs/good")["sorted_by"] == "val_accuracy"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "nowhere|runs/*"),
        (["empty"], "empty|runs/*"),
        (["runs", "--sort", "beauty"], "sort|beauty|val_accuracy"),
        (["runs", "--out", "c.pdf"], "c.pdf|.html|.png"),
        (["runs", "--out", "there.html"], "there.html|--overwrite"),
        (["runs", "--out", "nowhere/c.html"], "no folder nowhere"),
        (["others/hopeless"], "come to any result"),
    ],
)
def test_what_cannot_be_done_is_refused(runs, compare, arguments, words):
    (runs / "../empty").mkdir()
    (runs / "../others/hopeless/checkpoints").mkdir(parents=True)
    (runs / "../there.html").write_text("mine")
    status, out, err = compare(*arguments)
    assert (status, out) == (2, "")
    *files, last = err.splitlines()
    assert bool(files) == (arguments == ["others/hopeless"])  # what its files lack is told first
    for word in words.split("|"):
        assert word in last
    assert Path("there.html").read_text() == "mine"
