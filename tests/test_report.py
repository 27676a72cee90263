"""report.html: what it says of a run, of every kind of data, and that it asks for nothing from outside."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser

import numpy as np
import pytest
import scipy.sparse

import xpnet
from xpnet import run
from xpnet.callbacks import Callback
from xpnet.config import Config
from xpnet.data.samples import Samples
from xpnet.reporting.confusion import most_confused
from xpnet.reporting.report import classes, importance, pictures, timing
from xpnet.reporting.report.examined import examine
from xpnet.reporting.report.mistakes import mistakes_of
from xpnet.task import Task, prepare

MOST_BYTES = 2_500_000
RNG = np.random.default_rng(0)
X = RNG.normal(size=(240, 5))
Y = (X[:, 0] > 0).astype(int)


class Page(HTMLParser):
    """What a reader sees, and what the page asks for.

    Attributes:
        text: Outside scripts and styles, with single spaces.
        headings: Of the cards.
        addresses: Of src, href, action and their like.
        pictures: Of those the ones of pictures.
        tags: All that were opened.
    """

    def __init__(self, content: str) -> None:
        super().__init__()
        self.headings: list[str] = []
        self.addresses: list[str] = []
        self.pictures: list[str] = []
        self.tags: list[str] = []
        self._texts: list[str] = []
        self._within: list[str] = []
        self.feed(content)
        self.text = " ".join(" ".join(self._texts).split())

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag in ("script", "style", "h3"):
            self._within.append(tag)
        for name, value in attributes:
            if name in ("src", "href", "action", "data", "srcset", "poster"):
                self.addresses.append(value)
                self.pictures += [value] * (tag == "img")

    def handle_endtag(self, tag):
        if self._within and self._within[-1] == tag:
            self._within.pop()

    def handle_data(self, data):
        if self._within == ["h3"]:
            self.headings.append(data)
        if not {"script", "style"} & set(self._within):
            self._texts.append(data)


@pytest.fixture
def report(tmp_path, monkeypatch):
    """Train with these settings, on these arrays if there are any; the page, after what must hold of every one.

    Unless they are to be drawn, plots are made but not written, which takes most of the time.
    """

    def make(arrays=None, *, drawn=False, callbacks=(), **settings) -> Page:
        if not drawn:
            written = {"drawing": "drawing", "library": ""}
            monkeypatch.setattr(
                "xpnet.reporting.report.page.embed", lambda figures: {"plots": dict.fromkeys(figures, ""), **written}
            )
        if arrays is not None:
            np.savez(tmp_path / "data.npz", **arrays)
            settings["data"] = (str(tmp_path / "data.npz"),)
        usual = {"epochs": 2, "hidden": (8,), "out": str(tmp_path / "run"), "plot": False, "quiet": True}
        told: list[str] = []
        task = prepare(Config(**{**usual, **settings}), xpnet.device("cpu"))
        run.run(task, callbacks, tell=told.append)
        assert [sentence for sentence in told if "report" in sentence] == []
        content = (tmp_path / "run" / "report.html").read_bytes()
        assert len(content) < MOST_BYTES
        page = Page(content.decode())
        assert all(address.startswith("data:") for address in page.addresses)
        assert not {"link", "iframe", "object", "base"} & set(page.tags)
        return page

    return make


def examined(arrays, tmp_path, **settings) -> Task:
    np.savez(tmp_path / "data.npz", **arrays)
    config = Config(data=(str(tmp_path / "data.npz"),), hidden=(8,), quiet=True, **settings)
    task = prepare(config, xpnet.device("cpu"))
    task.trainer.train(task.train, task.validation)
    return task


ALWAYS = ["Loss", "Learning rate", "Samples a second", "Results", "Time of a training step", "Settings", "Network"]
OF_CLASSES = ["Accuracy", "Precision and recall", "Calibration", "Balance", "Most confident mistakes"]


def test_of_images_there_are_pictures_of_mistakes_and_weights(report):
    page = report(epochs=3, val_size=0.2, drawn=True)
    assert {*ALWAYS, *OF_CLASSES, "Confusion", "Weights of the first layer"} <= set(page.headings)
    assert "Permutation importance" not in page.headings
    assert len(page.pictures) == 8 + 24  # units, and the most mistakes that are shown
    assert all(picture.startswith("data:image/png;base64,") for picture in page.pictures)
    assert "Of 360 samples of the test set" in page.text


def test_it_says_what_was_trained_and_how_to_do_it_again(report, tmp_path):
    page = report(lr=0.02, seed=7)
    assert f"python -m xpnet.train --config {tmp_path / 'run' / 'config.toml'}" in page.text
    for said in ("lr 0.02", "seed 7", "digits", "1,293", f"xpnet {xpnet.__version__}", f"NumPy {np.__version__}"):
        assert said in page.text
    chosen = page.text.partition("Settings")[2].partition("All settings")[0]
    assert "lr 0.02" in chosen
    assert "momentum" not in chosen


def test_of_columns_there_are_rows_and_importances(report):
    page = report({"X": X, "y": np.where(RNG.random(240) < 0.1, 1 - Y, Y)}, epochs=20, lr=0.02)
    assert {*ALWAYS, *OF_CLASSES, "Confusion", "Permutation importance"} <= set(page.headings)
    assert page.pictures == []
    importances = page.text.partition("Permutation importance")[2]
    assert importances.split()[0] == "x1"  # alone decides the class


def test_of_numbers_there_are_errors(report):
    y = np.stack([X[:, 0], X[:, 1] ** 2], axis=1) * 1e4
    page = report({"X": X, "y": y}, drawn=True)
    assert {*ALWAYS, "RMSE", "Predicted over true", "Residuals", "Largest errors"} <= set(page.headings)
    assert not {*OF_CLASSES, "Confusion"} & set(page.headings)


def test_of_labels_there_is_no_confusion(report):
    page = report({"X": X, "y": (X[:, :3] > 0).astype(int)})
    assert set(OF_CLASSES) <= set(page.headings)
    assert "Confusion" not in page.headings
    assert "not " in page.text.partition("Most confident mistakes")[2]


def test_of_many_classes_the_most_confused_pairs_are_listed(report):
    y = np.arange(240) % 24
    page = report({"X": X, "y": y}, epochs=1)
    assert "Most confused" in page.headings
    assert "Confusion" not in page.headings


def test_pairs_that_are_never_confused_are_not_listed():
    matrix = np.diag([3, 4, 5]) + np.array([[0, 1, 0], [0, 0, 0], [5, 0, 0]])
    pairs = [(pair.true, pair.predicted, pair.count, pair.share) for pair in most_confused(matrix, ["a", "b", "c"])]
    assert pairs == [("c", "a", 5, 0.5), ("a", "b", 1, 0.25)]


def test_text_from_data_stays_text(report, tmp_path):
    evil = "</script><script>document.title='no'</script>"
    names = np.array([evil, "$$x^2$$", "<b>&amp;\"'"])[np.arange(240) % 3]
    page = report({"X": X, "y": names}, drawn=True)
    content = (tmp_path / "run" / "report.html").read_text(encoding="utf-8")
    assert evil in page.text
    assert "<b>&amp;\"'" in page.text
    assert evil not in content
    assert html.escape(evil) in content


def test_a_perfect_network_has_no_mistakes(report):
    page = report({"X": np.sign(X), "y": (X[:, 0] > 0).astype(int)}, epochs=100, lr=0.05)
    assert "Most confident mistakes" not in page.headings
    assert "100.00 %" in page.text


def test_a_class_that_is_never_said_has_no_precision(report):
    page = report({"X": X * 0, "y": (np.arange(240) % 8 == 0).astype(int)}, lr=0.05, epochs=10)
    table = page.text.partition("Precision and recall")[2].partition("Calibration")[0]
    assert " 1 \N{EN DASH} 0.0 % " in table


def test_outputs_that_are_no_probabilities_have_no_calibration(report):
    page = report({"X": X, "y": Y}, loss="mse")
    assert "Calibration" not in page.headings
    assert "output " in page.text.partition("Most confident mistakes")[2]


def test_wide_sparse_data(report, tmp_path):
    sparse = scipy.sparse.random(200, 30_000, density=0.001, format="csr", rng=0)
    scipy.sparse.save_npz(tmp_path / "x.npz", sparse)
    np.save(tmp_path / "y.npy", np.arange(200) % 2)
    page = report(data=(str(tmp_path / "x.npz"), str(tmp_path / "y.npy")))
    assert "30,000" in page.text
    assert "Permutation importance" not in page.headings


@pytest.mark.parametrize("tested", [False, True])
def test_of_a_table_there_are_its_rows(report, tmp_path, tested):
    pytest.importorskip("pandas", reason="tables need pandas")
    rng = np.random.default_rng(1)
    lines = ["age,town,rich"]
    for i in range(300):
        age = 20 + i / 10
        rich = (age > 35) != (rng.random() < 0.1)
        lines.append(f"{'' if i == 7 else age},{('Rome', 'Oslo', '<i>Bonn')[i % 3]},{'yes' if rich else 'no'}")
    files = [tmp_path / "people.csv", tmp_path / "others.csv"][: 1 + tested]
    for file in files:
        file.write_text("\n".join([lines[0], *lines[1:][:: -1 if file.name == "others.csv" else 1]]) + "\n")
    page = report(data=tuple(map(str, files)), target="rich", epochs=20)
    assert {"Most confident mistakes", "Permutation importance", "Balance"} <= set(page.headings)
    assert page.text.partition("Permutation importance")[2].split()[0] == "age"
    shown = re.findall(r"(?:no → yes|yes → no) [\d.]+ %, row ([\d,]+) age (\S+) town (\S+)", page.text)
    assert len(shown) >= 3
    for row, age, town in shown:  # counted from 1, below the names
        assert files[-1].read_text().splitlines()[int(row)].split(",")[:2] == [age, town]


def test_without_validation_and_test_the_training_set_is_looked_at(report):
    page = report({"X": X, "y": Y}, val_size=0)
    assert "Of 240 samples of the training set" in page.text
    assert "training validation" not in page.text


class Ends(Callback):
    """Ends a training before it has a row."""

    def on_chunk(self, trainer):
        raise xpnet.errors.DivergenceError("It is over.")


def test_a_training_that_has_no_rows(report):
    page = report({"X": X, "y": Y}, callbacks=[Ends()], drawn=True)
    assert "Nothing was trained to its first row" in page.text
    assert "Confusion" in page.headings


def test_numbers_beyond_all_bounds(report):
    page = report({"X": X, "y": X[:, 0] * 1e25}, loss="mae", drawn=True)
    assert "inf" in page.text
    assert "Predicted over true" in page.headings


def test_a_validation_that_is_seldom(report):
    assert "Loss" in report({"X": X, "y": Y}, epochs=5, eval_every="3").headings


def test_no_report(tmp_path):
    config = Config(epochs=1, report=False, plot=False, quiet=True, out=str(tmp_path / "run"))
    run.run(prepare(config, xpnet.device("cpu")))
    assert not (tmp_path / "run" / "report.html").exists()


def test_an_interrupted_run_leaves_it_to_the_one_that_goes_on(tmp_path):
    class Interrupts(Callback):
        def on_row(self, trainer, row):
            trainer.stop("interrupted")

    config = Config(epochs=5, plot=False, quiet=True, out=str(tmp_path / "run"))
    run.run(prepare(config, xpnet.device("cpu")), [Interrupts()])
    assert not (tmp_path / "run" / "report.html").exists()


def test_a_report_that_fails_is_told_and_harms_nothing(tmp_path, monkeypatch):
    def fail(task):
        raise ZeroDivisionError("by\nnothing")

    monkeypatch.setattr("xpnet.reporting.report.page.timing_of", fail)
    told = []
    config = Config(epochs=1, plot=False, quiet=True, out=str(tmp_path / "run"))
    result = run.run(prepare(config, xpnet.device("cpu")), tell=told.append)
    assert result.status == 0
    assert (tmp_path / "run" / "result.json").exists()
    assert not list((tmp_path / "run").glob("*report*"))
    assert re.fullmatch(r".*report.html: the report could not be made \(ZeroDivisionError: by nothing\); .*\.", told[0])


# What is found out


def test_a_report_changes_nothing_of_the_task(tmp_path):
    task = examined({"X": X, "y": Y}, tmp_path, normalization="batch", dropout=(0.2,))
    before = [array.copy() for array in task.network.state]
    history, step = task.trainer.history, task.trainer.step
    found = timing.timing_of(task)
    assert list(found.parts) != []
    assert [part.name for part in found.parts] == ["gather", "forward", "loss and metric", "backward", "update"]
    assert all(part.microseconds > 0 for part in found.parts)
    assert sum(part.share for part in found.parts) == pytest.approx(1)
    for array, same in zip(task.network.state, before, strict=True):
        np.testing.assert_array_equal(array, same)
    assert (task.trainer.history, task.trainer.step) == (history, step)


def test_no_more_than_so_many_samples_are_looked_at(tmp_path, monkeypatch):
    monkeypatch.setattr("xpnet.reporting.report.examined.MOST", 10)
    seen = examine(examined({"X": X, "y": Y, "X_test": X, "y_test": Y}, tmp_path, epochs=1))
    assert len(seen) == 10
    assert (seen.rows[0], seen.rows[-1]) == (0, 239)
    assert seen.caption == "10 of the 240 samples of the test set, evenly spread"


def test_mistakes_are_the_most_confident_ones(tmp_path):
    task = examined({"X": X, "y": np.where(np.arange(240) % 10 == 0, 1 - Y, Y)}, tmp_path, epochs=20, val_size=0)
    seen = examine(task)
    found = mistakes_of(seen, None)
    assert len(found) == 12
    sure = [seen.outputs[mistake.row].max() for mistake in found]
    assert sure == sorted(sure, reverse=True)
    wrong = seen.predicted != seen.y
    assert wrong[[mistake.row for mistake in found]].all()
    assert sure[0] == seen.outputs[wrong].max()
    row = found[0].row
    assert (found[0].true, found[0].said) == (str(seen.y[row]), str(1 - seen.y[row]))
    assert found[0].values[0] == ("x1", f"{X[row, 0]:.4g}")


def test_columns_that_decide_are_more_important(tmp_path):
    task = examined({"X": X, "y": X[:, 1] * 3 + X[:, 3]}, tmp_path, epochs=60, lr=0.02)
    found = importance.importances(examine(task))
    assert [column.name for column in found.columns[:2]] == ["x2", "x4"]
    assert found.columns[-1].mean < 0.1 * found.columns[0].mean


def test_calibration_is_of_the_second_of_two_classes(tmp_path):
    seen = examine(examined({"X": X, "y": Y}, tmp_path, val_size=0))
    found = classes.calibration(seen)
    assert found.of == "class 1"
    assert found.counts.sum() == 240
    chance = seen.outputs[:, 1]
    first = (chance > 0) & (chance <= np.ceil(10 * chance.min()) / 10)
    assert found.right[0] == pytest.approx(Y[first].mean())
    assert found.confidence[0] == pytest.approx(chance[first].mean(), rel=1e-5)


@pytest.mark.parametrize(
    ("shape", "seen_as"),
    [
        ((4, 6), (4, 6)),
        ((1, 4, 6), (4, 6)),
        ((4, 6, 1), (4, 6)),
        ((3, 4, 2), (3, 4, 2)),
        ((4, 2, 3), (4, 2, 3)),
        ((2, 3, 4), None),
        ((24,), None),
        ((5, 5), None),
    ],
)
def test_which_samples_are_pictures(shape, seen_as):
    network = xpnet.MLP([24, 2])
    network.image_shape = shape
    assert pictures.picture_shape(network) == seen_as


def test_pictures_have_the_samples_values():
    import base64
    import io

    from PIL import Image

    x = np.arange(24).reshape(2, 12)
    (_, address) = pictures.of_samples(x, (3, 2, 2), low=0, high=23)
    image = np.asarray(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))
    np.testing.assert_array_equal(image, np.round(x[1].reshape(3, 2, 2).transpose(1, 2, 0) * 255 / 23))


def test_samples_with_weights_can_be_timed(tmp_path):
    task = examined({"X": X, "y": Y}, tmp_path, epochs=1)
    samples = Samples.of(X, Y.astype(np.int32), np.ones(240))
    assert timing.timing_of(Task(**{**vars(task), "train": samples})) is not None
