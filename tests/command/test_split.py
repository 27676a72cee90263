"""--split on data that are no tables."""

import numpy as np
import pytest


@pytest.fixture
def npz(blobs, empty_folder):
    x, y = blobs
    np.savez("blobs.npz", X=x, y=y)
    np.savez("both.npz", X=x, y=y, X_test=x[:6], y_test=y[:6])
    return "blobs.npz"


def test_three_parts_make_a_test_set(npz, command):
    ended = command("--data", npz, "--split", "0.6/0.2/0.2", "--epochs", 1, "--no-plot", "--no-report")
    assert ended.status == 0
    assert "36 training, 12 validation, 12 test samples" in ended.out


def test_two_parts_leave_the_test_set_that_there_is(npz, command):
    ended = command("--data", "both.npz", "--split", "0.8/0.2", "--epochs", 1, "--no-plot", "--no-report")
    assert ended.status == 0
    assert "48 training, 12 validation, 6 test samples" in ended.out


@pytest.mark.parametrize(
    ("data", "split", "sentence"),
    [
        ("both.npz", "0.6/0.2/0.2", "both.npz has a test set, expected two parts; leave out the third."),
        ("blobs.npz", "0.6/0.2/0.3", "that are 1 in all"),
        ("blobs.npz", "0.995/0.005", "nothing is left for the validation"),
    ],
)
def test_splits_that_cannot_be(npz, command, data, split, sentence):
    ended = command("--data", data, "--split", split)
    assert ended.status == 2
    assert sentence in ended.err
