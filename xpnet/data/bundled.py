"""Data sets that need no file: scikit-learn's digits, and two made by formula."""

from __future__ import annotations

import numpy as np

from xpnet.data.dataset import Dataset, checked_dataset

_TEST_ROWS = 360


def digits() -> Dataset:
    """Returns scikit-learn's 1,797 scanned digits of 8x8 pixels from 0 to 16, with 360 of them held out as test set."""
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    bunch = load_digits()
    images = bunch.images.astype(np.uint8)
    x, x_test, y, y_test = train_test_split(
        images, bunch.target, test_size=_TEST_ROWS, stratify=bunch.target, random_state=0
    )
    return checked_dataset("digits", (x, y), (x_test, y_test), scale=1 / 16)


def xor() -> Dataset:
    """Returns the four points of exclusive or."""
    return checked_dataset("xor", (np.array([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]]), np.array([0, 1, 1, 0])))


def sine() -> Dataset:
    """Returns 200 points of one period of the sine, for regression."""
    x = np.linspace(-np.pi, np.pi, 200)
    return checked_dataset("sine", (x[:, np.newaxis], np.sin(x)))
