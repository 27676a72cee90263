"""Which samples train, validate and test: proportions of the classes, and classes too small to have any."""

import numpy as np
import pytest

from xpnet.data.samples import Samples
from xpnet.data.splits import Split, split_rows


def parts_of(y, text, seed=0):
    y = np.asarray(y, np.int32)
    parts = split_rows(Split.of(text), y=y, rng=np.random.default_rng(seed), rows=np.arange(len(y)))
    assert sorted(np.concatenate(parts)) == list(range(len(y)))
    return [np.bincount(y[part], minlength=y.max() + 1).tolist() for part in parts]


@pytest.mark.parametrize("seed", range(5))
def test_a_class_of_one_row_trains_and_the_others_keep_their_proportions(seed):
    y = np.repeat([0, 1, 2], [1, 300, 100])
    assert parts_of(y, "0.8/0.2", seed) == [[1, 240, 80], [0, 60, 20], [0, 0, 0]]
    assert parts_of(y, "0.8/0.1/0.1", seed) == [[1, 240, 80], [0, 30, 10], [0, 30, 10]]
    samples = Samples.of(np.zeros((401, 1)), y.astype(np.int32))
    for size, share in ((0.2, 20), (100, 25)):
        rest, drawn = samples.split(size, rng=np.random.default_rng(seed))
        assert np.bincount(y[drawn.rows], minlength=3).tolist() == [0, 3 * share, share]
        assert len(rest) + len(drawn) == 401


def test_a_class_of_fewer_rows_than_parts_trains():
    y = np.repeat([0, 1, 2], [2, 300, 100])
    assert parts_of(y, "0.8/0.1/0.1") == [[2, 240, 80], [0, 30, 10], [0, 30, 10]]
    assert sum(part[0] for part in parts_of(y, "0.8/0.2")) == 2


def test_many_small_classes_leave_the_large_ones_their_proportions():
    y = np.concatenate([np.repeat([0, 1], [300, 100]), 2 + np.arange(120) // 3])
    train, drawn, _ = parts_of(y, "0.95/0.05")  # 26 rows for 42 classes
    assert (drawn[:2], sum(drawn[2:])) == ([15, 5], 6)
    assert sum(train) == 494


def test_classes_that_are_almost_all_of_one_row_are_drawn_without_regard_to_them():
    train, drawn, _ = parts_of(np.arange(50), "0.8/0.2")
    assert (sum(train), sum(drawn)) == (40, 10)
    for y in ([*range(8), 8, 8, 8], [*range(5), *[5] * 6]):
        train, drawn, test = parts_of(y, "0.8/0.1/0.1")
        assert (sum(train), sum(drawn), sum(test)) == (9, 1, 1)


def test_draws_are_those_of_scikit_learn():
    from sklearn.model_selection import train_test_split

    y, rng = np.arange(100) % 3, np.random.default_rng(4)
    expected = train_test_split(np.arange(100), test_size=20, stratify=y, random_state=int(rng.integers(2**31)))
    samples = Samples.of(np.zeros((100, 1)), y.astype(np.int32))
    for part, rows in zip(samples.split(20, rng=np.random.default_rng(4)), expected, strict=True):
        assert part.rows.tolist() == sorted(rows)
