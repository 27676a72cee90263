"""A table made into samples: targets, splits, notices, and the same bits whatever the size of the pieces."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

import xpnet
from xpnet.data.splits import Split
from xpnet.tables import dataset, reading
from xpnet.tables.columns import Columns
from xpnet.tables.dataset import load
from xpnet.tables.targets import present_targets

N = 400


def frame():
    rng = np.random.default_rng(1)
    age = rng.integers(18, 80, N).astype(float)
    town = rng.choice(["Bonn", "Köln", "Ulm"], N)
    return pd.DataFrame(
        {
            "id": [f"row {i}" for i in range(N)],
            "day": pd.date_range("2020-01-01", periods=N)[::-1].strftime("%Y-%m-%d"),
            "house": rng.integers(0, 60, N),
            "age": np.where(rng.random(N) < 0.1, np.nan, age),
            "town": np.where(rng.random(N) < 0.1, "?", town),
            "same": "x",
            "income": np.where(age + 20 * (town == "Ulm") > 50, "high", "low"),
        }
    )


@pytest.fixture
def path(tmp_path):
    frame().to_csv(tmp_path / "people.csv", index=False)
    return tmp_path / "people.csv"


def loaded(path, split=None, *, seed=0, limit=None, **columns):
    asked = Columns(columns.pop("target", "income"), **columns)
    split = split if split is None else Split.of(split)
    return load([path], asked, split, seed=np.random.SeedSequence(seed), limit=limit)


def test_what_was_inferred_is_told(path):
    table = loaded(path)
    assert table.notices == [
        'target "income": 2 classes, so this is classification',
        "numbers (2): house, age",
        "categories (1): town",
        "missing values filled with the median, and told by a column of their own: age",
        "left out, free text, or names of rows: id",
        "left out, dates: day",
        "left out, one value throughout: same",
    ]
    assert table.dataset.classes == ("high", "low")
    assert table.encoder.names == ["house", "age", "town"]


def test_parts_of_a_split_keep_the_proportions_of_the_classes(path):
    table = loaded(path, "0.8/0.1/0.1")
    parts = [table.train, table.validation, table.test]
    assert [len(part) for part in parts] == [320, 40, 40]
    assert sorted(np.concatenate(parts)) == list(range(N))
    shares = [np.mean(table.dataset.y[part]) for part in parts]
    assert max(shares) - min(shares) < 0.03
    again, other = loaded(path, "0.8/0.1/0.1"), loaded(path, "0.8/0.1/0.1", seed=1)
    np.testing.assert_array_equal(again.test, table.test)
    assert not np.array_equal(other.test, table.test)


def test_by_time_the_last_rows_test(path):
    table = loaded(path, "0.5/0.25/0.25", time="day")  # the days of the file fall
    assert "day" not in table.encoder.names
    assert (table.test.max(), table.validation.min(), table.validation.max(), table.train.min()) == (99, 100, 199, 200)


def test_groups_stay_together(path):
    table = loaded(path, "0.6/0.2/0.2", group="house")
    houses = frame().house.to_numpy()
    parts = [set(houses[part]) for part in (table.train, table.validation, table.test)]
    assert "house" not in table.encoder.names
    assert all(parts)
    assert sum(map(len, parts)) == len(set.union(*parts))


def test_only_training_rows_teach_the_encoder(tmp_path):
    frame().assign(age=np.arange(N), house=np.arange(N)).to_csv(tmp_path / "t.csv", index=False)
    number = loaded(tmp_path / "t.csv", "0.5/0.5", time="age").encoder.columns[0]
    assert (number.name, number.center) == ("house", 99.5)


def test_rows_without_a_target_are_left_out(tmp_path):
    rows = frame()
    rows.loc[[3, 5], "income"] = None
    rows.to_csv(tmp_path / "t.csv", index=False)
    table = loaded(tmp_path / "t.csv", "0.8/0.2")
    assert len(table.train) + len(table.validation) == N - 2
    assert not {3, 5} & {*table.train, *table.validation}
    assert "left out: 2 rows without a target" in table.notices
    assert table.records(table.validation[:2], tested=False).index.tolist() == table.validation[:2].tolist()


def test_a_number_is_a_regression_unless_told_otherwise(path):
    table = loaded(path, target="house")
    assert table.dataset.task == "regression"
    assert (
        table.notices[0] == 'target "house": a number, so this is regression (--task classification if that is wrong)'
    )
    assert loaded(path, target="house", task="classification").dataset.task == "classification"
    with pytest.raises(xpnet.DataError, match="which is no number"):
        loaded(path, target="income", task="regression")


def test_codes_can_be_categories_and_columns_be_ignored(path):
    table = loaded(path, categorical=("house",), ignored=("age",))
    assert [(column.name, type(column).__name__) for column in table.encoder.columns] == [
        ("house", "Category"),
        ("town", "Category"),
    ]


def test_a_test_file_is_encoded_alike(path, tmp_path):
    rows = frame().head(50).assign(town="Rom")
    rows.loc[7, "income"] = None
    rows[["income", "town", "age", "house"]].to_csv(tmp_path / "test.csv", index=False)
    table = load([path, tmp_path / "test.csv"], Columns("income"), None, seed=np.random.SeedSequence(0))
    assert table.dataset.x_test.shape == (50, table.encoder.width)
    assert len(table.test) == 49
    np.testing.assert_array_equal(table.dataset.x_test[:, :3], table.dataset.x[:50, :3])
    assert not table.dataset.x_test[:, 3:].any()  # a town that was never seen


def test_neither_pieces_nor_a_file_for_the_samples_change_a_bit(path, monkeypatch):
    whole = loaded(path, "0.8/0.1/0.1")
    monkeypatch.setattr(reading, "PIECE", 3000)
    monkeypatch.setattr(dataset, "MAPPED_ABOVE", 1000)
    pieces = loaded(path, "0.8/0.1/0.1")
    assert isinstance(pieces.dataset.x, np.memmap)
    assert pieces.encoder == whole.encoder
    np.testing.assert_array_equal(pieces.dataset.x, whole.dataset.x)
    for name in ("train", "validation", "test"):
        np.testing.assert_array_equal(getattr(pieces, name), getattr(whole, name))


def test_columns_whose_first_rows_alone_are_numbers(tmp_path, monkeypatch):
    monkeypatch.setattr(dataset, "PROBED", 50)
    monkeypatch.setattr(reading, "PIECE", 3000)
    rows = frame().assign(late=[str(i) if i < 300 else f"n{i % 3}" for i in range(N)], code="007")
    rows.loc[::2, "code"] = "08"
    rows.to_csv(tmp_path / "t.csv", index=False)
    table = loaded(tmp_path / "t.csv", categorical=("code",))
    kinds = {column.name: type(column).__name__ for column in table.encoder.columns}
    assert kinds == {"house": "Number", "age": "Number", "town": "Category", "code": "Category"}
    assert table.kinds["late"] == "text"
    assert next(c for c in table.encoder.columns if c.name == "code").values == ("007", "08")
    np.testing.assert_array_equal(table.dataset.x, table.encoder(rows))


def test_a_disk_that_is_too_small_is_told_before(path, monkeypatch):
    monkeypatch.setattr(dataset, "MAPPED_ABOVE", 1000)
    monkeypatch.setattr("shutil.disk_usage", lambda folder: SimpleNamespace(free=1000))
    with pytest.raises(xpnet.DataError, match="set TMPDIR to a folder with more"):
        loaded(path)


def test_what_is_learnt_is_learnt_from_a_sample_of_very_many_rows(path, monkeypatch):
    monkeypatch.setattr(dataset, "LEARNT_FROM", 100)
    monkeypatch.setattr(dataset, "PROBED", 50)
    number = loaded(path).encoder.columns[0]
    assert number.center != loaded(path).dataset.x[:, 0].mean()
    assert abs(number.center - frame().house.mean()) < 6


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"target": "salary"}, 'target: got "salary", expected a column of people.csv: id, day'),
        ({"ignored": ("x",)}, 'ignore: got "x"'),
        ({"time": "x"}, 'time_column: got "x"'),
        ({"target": "same"}, "single class"),
        (
            {"ignored": ("house", "age", "town")},
            r"no columns to learn from \(left out, free text, or names of rows: id; left out, dates: day; ",
        ),
        ({"ignored": ("id", "day", "house", "age", "town", "same")}, "no column beside the target"),
    ],
)
def test_what_cannot_be_done_is_told(path, columns, sentence):
    with pytest.raises(xpnet.DataError, match=sentence):
        loaded(path, **columns)


@pytest.mark.parametrize("text", ["", "1", "0.5/0.6", "0.5/0.4/0.05/0.05", "a/b", "1/0", "0.5/0.5/0", "nan/0.5"])
def test_splits_that_are_none(text):
    with pytest.raises(xpnet.XpnetError, match=r"such as 0\.8/0\.1/0\.1"):
        Split.of(text)


def test_a_split_that_leaves_nothing(path):
    with pytest.raises(xpnet.DataError, match="nothing is left"):
        loaded(path, "0.999/0.001")


@pytest.mark.parametrize(
    "write",
    [
        lambda day: str(day),
        lambda day: f"{day % 28 + 1}/{day // 28 + 1}/2020",
        lambda day: f"{day % 28 + 1:02}.{day // 28 + 1:02}.2020 10:00",
    ],
    ids=["numbers", "day/month", "with hours"],
)
def test_time_is_never_sorted_as_text(tmp_path, write):
    days = np.arange(280)[::-1]
    frame().head(280).assign(day=[write(int(day)) for day in days]).to_csv(tmp_path / "t.csv", index=False)
    table = loaded(tmp_path / "t.csv", "0.5/0.5", time="day")
    np.testing.assert_array_equal(table.validation, np.arange(140))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (["1", "", "3", "4"], 'time_column: "day" has no value in 100 rows'),
        (["2020-01-01", "1.2.2020", "3", "4"], "neither numbers alone nor dates of one form"),
    ],
)
def test_times_that_have_no_order(tmp_path, values, sentence):
    frame().assign(day=values * (N // 4)).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(xpnet.DataError, match=sentence):
        loaded(tmp_path / "t.csv", "0.5/0.5", time="day")


@pytest.mark.parametrize(
    ("income", "options", "sentence"),
    [
        ("1e300", {"task": "regression"}, r"t\.csv: .* holds '1e300', expected numbers up to 1e\+30, in row 398 below"),
        ("many", {"task": "regression"}, "holds 'many', which is no number, in row 398 below the names: mend it"),
    ],
)
def test_a_target_that_is_none_is_named_with_its_row(tmp_path, monkeypatch, income, options, sentence):
    monkeypatch.setattr(reading, "PIECE", 3000)
    rows = frame().assign(income="7", id="of two\nlines")
    rows.loc[3, "income"] = None
    rows.loc[[397, 399], "income"] = income
    rows.to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(xpnet.DataError, match=sentence):
        loaded(tmp_path / "t.csv", **options)


def test_a_class_that_is_not_known_is_named_with_its_row(path, tmp_path, monkeypatch):
    monkeypatch.setattr(reading, "PIECE", 3000)
    rows = frame()
    rows.loc[[3, 397], "income"] = None, "middle"
    rows.to_csv(tmp_path / "test.csv", index=False)
    expected = r"test\.csv: .* holds 'middle', expected one of high, low, in row 398 below the names"
    with pytest.raises(xpnet.DataError, match=expected):
        load([path, tmp_path / "test.csv"], Columns("income"), None, seed=np.random.SeedSequence(0))
    pieces = reading.TableFile(tmp_path / "test.csv").pieces(["income", "id"])
    (piece,) = (piece for piece in pieces if 397 in piece.index)
    assert 0 not in piece.index
    with pytest.raises(xpnet.DataError, match="in row 398 below"):
        present_targets(piece["income"], "classification", ("high", "low"))


def test_digits_among_classes_of_text_are_no_positions():
    numbers = present_targets(pd.Series(["1", "2"]), "classification", ("1", "2", "a"))[0]
    assert numbers.tolist() == ["1", "2"]
    assert present_targets(pd.Series(["1.0", "2"]), "classification", (1, 2))[0].tolist() == [1, 2]
    assert present_targets(pd.Series(["1.5", None]), "classification", ("1.50", "2"))[0].tolist() == ["1.50"]
    assert present_targets(pd.Series([str(2**70)]), "classification")[0].tolist() == [str(2**70)]


def test_a_word_among_numbers_makes_no_classes_of_them(tmp_path):
    frame().assign(rent=["x", *np.arange(1, N)]).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(xpnet.DataError, match="holds 'x', which is no number"):
        loaded(tmp_path / "t.csv", target="rent")


@pytest.mark.parametrize(
    ("rent", "sentence"), [("1e300", "expected numbers up to 1e"), ("?", 'target "rent" has no value in any row')]
)
def test_targets_that_cannot_be_learnt(tmp_path, rent, sentence):
    frame().assign(rent=rent).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(xpnet.DataError, match=sentence):
        loaded(tmp_path / "t.csv", target="rent", task="regression")


def test_rows_labels_and_columns_that_memory_has_no_room_for_are_refused(path, tmp_path, monkeypatch):
    """Packed, all of them may be in a file of few bytes."""
    monkeypatch.setenv("XPNET_MAX_BYTES", str(64 * N))
    assert len(loaded(path).train) == N
    monkeypatch.setenv("XPNET_MAX_BYTES", str(64 * N - 1))
    with pytest.raises(xpnet.DataError, match=rf"has rows that take {64 * N} bytes but at most {64 * N - 1} are read"):
        loaded(path)
    with monkeypatch.context() as patched:
        patched.setattr(dataset, "PROBED", 50)
        patched.setattr("xpnet.tables.targets.BYTES_A_ROW", 1)
        patched.setenv("XPNET_MAX_BYTES", str(8 * N * 6 - 1))
        with pytest.raises(xpnet.DataError, match=f"has columns to learn from that take {8 * N * 6} bytes"):
            loaded(path)
    rows = frame()
    rows.loc[7, "income"] = "x" * 1000
    rows.to_csv(tmp_path / "long.csv", index=False)
    monkeypatch.setenv("XPNET_MAX_BYTES", "1000000")
    with pytest.raises(xpnet.DataError, match=r"has labels that take 1600000 bytes .*XPNET_MAX_BYTES"):
        loaded(tmp_path / "long.csv")


def test_targets_that_float32_cannot_tell_apart_are_told_of(tmp_path):
    frame().assign(rent=1e9 + np.arange(N) / N).to_csv(tmp_path / "t.csv", index=False)
    assert "add --dtype float64" in loaded(tmp_path / "t.csv", target="rent").notices[1]
    frame().assign(rent=1e5 + np.arange(N) / N * 1e4).to_csv(tmp_path / "t.csv", index=False)
    assert "float64" not in loaded(tmp_path / "t.csv", target="rent").notices[1]


def test_categories_that_mean_the_same_number_are_one(tmp_path):
    versions = np.resize(["1.10", "1.1", "2.0", "2", " 2"], N)
    frame().assign(version=versions).to_csv(tmp_path / "t.csv", index=False)
    table = loaded(tmp_path / "t.csv", categorical=("version",), ignored=("house", "age", "town"))
    assert table.encoder.columns[0].values == ("1.1", "2")
    typed = pd.DataFrame({"version": np.resize([1.1, 1.1, 2, 2, 2], N).astype(np.float32)})
    np.testing.assert_array_equal(table.encoder(typed), table.dataset.x)


def test_columns_without_a_name_are_no_features(path, tmp_path):
    whole = loaded(path)
    index = pd.Index(np.arange(N) * 3 % N)
    frame().set_index(index).to_csv(tmp_path / "indexed.csv")
    pd.read_csv(tmp_path / "indexed.csv").set_index(index).to_csv(tmp_path / "twice.csv")
    for name, count in (("indexed.csv", "1 column"), ("twice.csv", "2 columns")):
        table = loaded(tmp_path / name)
        assert table.notices == [*whole.notices, f"left out, without a name: {count}"]
        assert table.encoder == whole.encoder
        np.testing.assert_array_equal(table.dataset.x, whole.dataset.x)
    asked = loaded(tmp_path / "twice.csv", categorical=("Unnamed: 0",), one_hot=1000)
    assert "Unnamed: 0" in asked.encoder.names


def test_values_that_are_no_numbers_are_told_of(tmp_path):
    house = np.where(np.arange(N) % 40 == 7, "sold", frame().house.astype(str))
    frame().assign(house=house, town=np.resize(["1,5", "2,25", "?"], N)).to_csv(tmp_path / "t.csv", index=False)
    assert loaded(tmp_path / "t.csv").notices[-2:] == [
        "taken as missing, for they are no numbers: values of house ('sold')",
        "text, for the commas in their numbers: town; write 1234.5 in place of 1,234.5 or 1234,5",
    ]


def test_a_target_of_numbers_with_commas_is_not_taken_for_classes(tmp_path):
    frame().assign(rent=[f"{1000 + 7 * i:,}" for i in range(N)]).to_csv(tmp_path / "t.csv", index=False)
    with pytest.raises(xpnet.DataError, match=r'"rent" holds numbers with commas: write 1234\.5 in place of 1,234\.5'):
        loaded(tmp_path / "t.csv", target="rent")
    assert loaded(tmp_path / "t.csv", target="rent", task="classification").dataset.task == "classification"
    frame().assign(rent=np.resize(["1,2", "3,4", "a"], N)).to_csv(tmp_path / "t.csv", index=False)
    assert loaded(tmp_path / "t.csv", target="rent").dataset.task == "classification"


def test_a_class_of_one_row_is_told_of_and_trains(tmp_path):
    rows = frame()
    rows.loc[7, "income"] = "unknown"
    rows.to_csv(tmp_path / "t.csv", index=False)
    for seed in range(3):
        table = loaded(tmp_path / "t.csv", "0.8/0.1/0.1", seed=seed)
        assert 7 in table.train
        shares = [np.mean(table.dataset.y[part] == 0) for part in (table.train, table.validation, table.test)]
        assert max(shares) - min(shares) < 0.03
    assert "classes of a single row: 1 of 3" in table.notices


def test_names_cannot_command_a_terminal(tmp_path):
    frame().rename(columns={"house": "\x1b[31mred\n"}).to_csv(tmp_path / "t.csv", index=False)
    assert loaded(tmp_path / "t.csv").notices[1] == r'numbers (2): "\x1b[31mred\n", age'


def test_many_columns_are_not_all_listed(tmp_path):
    many = pd.DataFrame(np.random.default_rng(0).normal(size=(50, 30)), columns=[f"c{i}" for i in range(30)])
    many.assign(income=np.resize(["a", "b"], 50)).to_csv(tmp_path / "t.csv", index=False)
    assert loaded(tmp_path / "t.csv").notices[1].endswith("c18, c19 and 10 more")
