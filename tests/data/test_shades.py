"""Which numbers of images are black, white and ground."""

import numpy as np
import pytest

import xpnet
from xpnet.data.images import Layout, Shades, shades_of

RNG = np.random.default_rng(0)


@pytest.mark.parametrize(
    ("values", "ends"),
    [
        (RNG.integers(0, 256, 400).astype(np.uint8), (0, 255)),
        (RNG.integers(40, 90, 400).astype(np.uint8), (0, 255)),
        (RNG.integers(0, 17, 400).astype(np.uint8), (0, 16)),
        (RNG.integers(0, 2, 400).astype(np.uint8), (0, 1)),
        (RNG.integers(0, 256, 400).astype(np.float64), (0, 255)),
        (RNG.integers(0, 2**16, 400).astype(np.float64), (0, 65535)),
        (RNG.uniform(0.02, 0.9, 400), (0, 1)),
        (RNG.uniform(-1, 1, 400).astype(np.float32), (-1, 1)),
        (RNG.uniform(-0.5, 0.5, 400), (-0.5, 0.5)),
        (np.linspace(-0.5, 2.75, 400), (-0.5, 2.75)),
        (np.linspace(0, 2.75, 400), (0, 2.75)),
    ],
)
def test_ends_are_those_of_custom_or_of_the_images(values, ends):
    shades = shades_of(values.reshape(4, 100), np.arange(4), (10, 10))
    assert (shades.black, shades.white) == ends


def test_bundled_digits_have_16_steps_and_a_black_ground():
    digits = xpnet.data.load("digits")
    assert shades_of(digits.x, np.arange(len(digits.x)), digits.image_shape) == Shades(0, 16, 0)


def test_the_ground_is_what_is_at_the_edges():
    paper = np.full((5, 6, 7, 3), 240, np.uint8)
    paper[:, 2:4, 2:5] = 10
    for images in paper, paper.transpose(0, 3, 1, 2):
        assert shades_of(images.reshape(5, -1), np.arange(5), images.shape[1:]) == Shades(0, 255, 240)


def test_only_the_rows_that_are_asked_for_are_looked_at_and_of_many_images_some(monkeypatch):
    x = np.repeat(np.array([[5], [0], [1], [0], [1]], np.float32), 4, axis=1)
    assert shades_of(x, np.arange(1, 5), (2, 2)) == Shades(0, 1, 0.5)
    monkeypatch.setattr("xpnet.data.images._LOOKED_AT", 8)
    assert shades_of(x, np.arange(5), (2, 2)) == Shades(0, 5, 2.5)


def test_samples_that_are_no_images_or_of_one_shade_tell_nothing():
    assert shades_of(np.zeros((3, 4), np.uint8), np.arange(3), (2, 2)) is None
    assert shades_of(np.arange(24.0).reshape(3, 8), np.arange(3), (2, 2, 2)) is None


@pytest.mark.parametrize(
    ("shape", "layout"),
    [
        ((8, 9), Layout(8, 9)),
        ((1, 8, 9), Layout(8, 9, 1, first=True)),
        ((8, 9, 1), Layout(8, 9, 1)),
        ((3, 8, 9), Layout(8, 9, 3, first=True)),
        ((8, 9, 3), Layout(8, 9, 3)),
        ((8, 9, 4), Layout(8, 9, 4)),
        ((8, 9, 5), None),
        ((2, 8, 9, 3), None),
        ((8,), None),
    ],
)
def test_pixels_lie_as_the_shape_says(shape, layout):
    assert Layout.of(shape) == layout
