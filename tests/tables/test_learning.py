"""What is learnt from the columns of a table: their kinds, and the encoder."""

from statistics import NormalDist

import numpy as np
import pandas as pd
import pytest
from sklearn.preprocessing import QuantileTransformer, RobustScaler, StandardScaler

from xpnet.tables.encoder import Category, Number
from xpnet.tables.kinds import kind_of, task_of
from xpnet.tables.learning import BINS, learn

N = 200


def repeated(*values):
    return pd.Series([values[i % len(values)] for i in range(N)])


@pytest.mark.parametrize(
    ("series", "kind"),
    [
        (pd.Series(np.arange(N) / 7), "number"),
        (pd.Series(np.arange(N)).astype(str), "number"),
        (repeated("1", "2.5", "?", "1e3"), "number"),
        (pd.Series([*map(str, range(N - 4)), *["unknown"] * 4]), "number"),
        (pd.Series([*map(str, range(N - 20)), *["unknown"] * 20]), "text"),
        (repeated("red", "green", None), "category"),
        (repeated("yes", None), "category"),
        (repeated(True, False), "category"),
        (repeated("only"), "constant"),
        (repeated(3.5), "constant"),
        (repeated(None, "?", ""), "constant"),
        (repeated("2024-01-31", "2023-12-01T10:00:00"), "date"),
        (repeated("01/31/2024", "12/01/2023"), "date"),
        (pd.Series(pd.date_range("2020", periods=N)), "date"),
        (pd.Series([f"id-{i}" for i in range(N)]), "text"),
        (pd.Series([f"the quick brown fox jumps over the lazy dog {i % 40}" for i in range(N)]), "text"),
        (pd.Series([f"zip{i % 90}" for i in range(N)]), "category"),
    ],
)
def test_kinds_are_told_from_values(series, kind):
    assert kind_of(series) == kind
    assert kind_of(series.astype("category")) == kind


@pytest.mark.parametrize(
    ("series", "task"),
    [
        (repeated("yes", "no", None), "classification"),
        (repeated(0, 1), "classification"),
        (repeated("1", "2", "3"), "classification"),
        (repeated(1.0, 2.0), "classification"),
        (repeated(0.5, 1.0), "regression"),
        (pd.Series(np.arange(N)), "regression"),
        (pd.Series(np.arange(N)).astype(str), "regression"),
        (repeated(True, False), "classification"),
    ],
)
def test_the_task_is_told_from_the_target(series, task):
    assert task_of(series) == task


@pytest.fixture
def frame():
    rng = np.random.default_rng(3)
    holes = rng.normal(5, 2, N)
    holes[::10] = np.nan
    often = np.where(rng.random(N) < 0.5, 0.0, rng.exponential(1000, N))
    town = rng.choice(["Bonn", "Köln", "Ulm"], N)
    return pd.DataFrame({"holes": holes, "often": often, "town": town, "zip": [f"{i % 90}" for i in range(N)]})


KINDS = {"holes": "number", "often": "number", "town": "category", "zip": "category"}


def test_numbers_are_standardized_as_by_scikit_learn(frame):
    encoder = learn(frame, KINDS, target="y")
    full = frame[["holes"]].fillna(frame.holes.median()).to_numpy()
    np.testing.assert_allclose(encoder(frame)[:, 0], StandardScaler().fit_transform(full)[:, 0], atol=1e-6)
    assert encoder.columns[0].indicator
    assert not encoder.columns[1].indicator
    np.testing.assert_array_equal(encoder(frame)[:, 1], frame.holes.isna())


def test_numbers_are_mapped_by_rank_as_by_scikit_learn(frame):
    encoder = learn(frame, {"often": "number", "holes": "number"}, target="y", scaling="quantile")
    full = frame[["holes"]].fillna(frame.holes.median()).to_numpy()
    reference = QuantileTransformer(n_quantiles=N, output_distribution="normal").fit(full)
    at_knots = np.unique(full)[1:-1]
    expected = reference.transform(at_knots[:, None])[:, 0]
    np.testing.assert_allclose(encoder.columns[1].encode(at_knots)[:, 0], expected, atol=1e-6)
    between = np.linspace(*np.quantile(full, [0.1, 0.9]), 57)
    expected = reference.transform(between[:, None])[:, 0]
    np.testing.assert_allclose(encoder.columns[1].encode(between)[:, 0], expected, atol=0.01)
    ends = encoder.columns[1].encode(np.array([-1e9, 1e9]))[:, 0]
    np.testing.assert_allclose(ends, [-NormalDist().inv_cdf(1 - 0.5 / N), NormalDist().inv_cdf(1 - 0.5 / N)])


def test_bins_give_each_about_the_same_sum_of_roots_of_counts(frame):
    values = np.concatenate([np.zeros(5000), np.random.default_rng(0).normal(size=5000)])
    number = learn(pd.DataFrame({"v": values}), {"v": "number"}, target="y", scaling="bins").columns[0]
    assert isinstance(number, Number)
    edges = np.array(number.edges)
    assert len(edges) in (BINS, BINS + 1)  # two that coincide at the value that is there 5,000 times
    assert (edges[0], edges[-1]) == (values.min(), values.max())
    different, counts = np.unique(values, return_counts=True)
    sums, _ = np.histogram(different, edges, weights=np.sqrt(counts))
    usual = np.sqrt(counts).sum() / BINS
    tied = np.searchsorted(edges, 0.0, side="right") - 1
    assert np.abs(np.delete(sums, [tied - 1, tied]) - usual).max() <= 2
    scaler = RobustScaler().fit(values[:, None])
    assert (number.center, number.scale) == (scaler.center_[0], 1 / scaler.scale_[0])


def test_few_different_values_are_their_own_edges():
    number = learn(repeated(1, 2, 5).to_frame("v"), {"v": "number"}, target="y", scaling="bins").columns[0]
    assert number.edges == (1, 2, 5)


@pytest.mark.parametrize("scaling", ["standard", "quantile", "bins"])
def test_a_column_of_one_number_and_holes_is_harmless(scaling):
    frame = repeated(7.0, None).to_frame("v").astype(float)
    encoded = learn(frame, {"v": "number"}, target="y", scaling=scaling)(frame)
    assert np.isfinite(encoded).all()
    np.testing.assert_array_equal(encoded[:, -1], frame.v.isna())


@pytest.mark.parametrize("scaling", ["standard", "quantile", "bins"])
@pytest.mark.parametrize("values", [(0.0, 5e-324), (0.0, 0.0, 0.0, 0.0, 5e-324), (1e300, -1e300), (0.0, -0.0)])
def test_the_smallest_and_largest_numbers_are_harmless(scaling, values):
    frame = repeated(*values).to_frame("v")
    encoder = learn(frame, {"v": "number"}, target="y", scaling=scaling)
    assert np.isfinite(encoder(frame)).all()
    assert encoder.from_dict(encoder.to_dict()) == encoder


def test_categories_of_many_values_are_embedded_behind_all_others(frame):
    encoder = learn(frame, KINDS, target="y", one_hot=10, embedding=4)
    assert [column.name for column in encoder.columns] == ["holes", "often", "town", "zip"]
    assert encoder.embeddings == ((91, 4),)
    encoder = learn(frame, {"zip": "category", "town": "category"}, target="y", one_hot=10, embedding=4)
    assert [column.name for column in encoder.columns] == ["town", "zip"]
    assert learn(frame, KINDS, target="y", one_hot=90).embeddings == ()
    assert encoder.columns[0] == Category("town", ("Bonn", "Köln", "Ulm"))
