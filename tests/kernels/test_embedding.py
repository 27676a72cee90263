"""Rows of tables in the place of codes: what they are, their gradient, and the order of its sums."""

import numpy as np
import pytest

import xpnet
from xpnet import kernels
from xpnet.gradcheck import max_relative_error, numerical_gradient
from xpnet.kernels import embedding

CODES = np.array([2, 0, 2, 1, 0, 2])
"""For tables of five rows, two of which nobody means."""


def cpu(threads: int) -> xpnet.Device:
    device = xpnet.device("cpu")
    device.threads = threads
    return device


@pytest.mark.parametrize("codes", [CODES, CODES.astype(np.float32), CODES.astype(np.uint8)], ids=lambda c: str(c.dtype))
def test_codes_become_the_rows_of_their_number(codes):
    table = np.arange(15.0).reshape(5, 3)
    np.testing.assert_array_equal(kernels.embedding_forward(table, codes), table[CODES])
    out = np.full((6, 3), np.nan)
    assert kernels.embedding_forward(table, codes, out=out) is out
    np.testing.assert_array_equal(out, table[CODES])


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_codes_beyond_a_table_mean_its_nearest_row(device, dtype):
    k = kernels.on(xpnet.device(device))
    codes = np.array([-1, -np.inf, 5, 1e30, np.inf, np.nan, 3.75, -0.25, 4], dtype)
    table, dy, rows = np.arange(5, dtype=dtype)[:, None], np.ones((9, 1), dtype), [0, 0, 4, 4, 4, 0, 3, 0, 4]
    out, dtable = np.full((9, 1), np.nan, dtype), np.full((5, 1), np.nan, dtype)
    k.embedding_forward(codes, table, out=out)
    assert out[:, 0].tolist() == rows
    k.embedding_backward(codes, dy, out=dtable)
    assert dtable[:, 0].tolist() == [rows.count(row) for row in range(5)]


@pytest.mark.parametrize("width", [1, 4])
def test_the_gradient_of_a_table_is_the_slope(width):
    rng = np.random.default_rng(0)
    table, dy = rng.normal(size=(5, width)), rng.normal(size=(6, width))
    numerical = numerical_gradient(lambda table: kernels.embedding_forward(table, CODES), table, upstream=dy)
    dtable = kernels.embedding_backward(dy, table, CODES)
    assert max_relative_error(dtable, numerical) < 1e-7
    assert not dtable[3:].any()


def test_a_gradient_is_the_same_made_for_few_rows_of_the_table_at_a_time(monkeypatch):
    rng = np.random.default_rng(0)
    codes, dy = rng.integers(0, 50, 30), rng.normal(size=(30, 3))
    expected = np.zeros((50, 3))
    np.add.at(expected, codes, dy)
    for ones in (1, 100, 30 * 50):
        monkeypatch.setattr(embedding, "ONES", ones)
        np.testing.assert_allclose(kernels.embedding_backward(dy, np.zeros((50, 3)), codes), expected, rtol=1e-14)


def test_sums_are_in_the_order_of_the_batch_by_however_many_threads():
    """Of numbers whose sum depends on the order."""
    rng = np.random.default_rng(0)
    codes = rng.integers(0, 40, 20_000).astype(np.float32)
    dy = (rng.normal(size=(20_000, 6)) * 10.0 ** rng.integers(-4, 5, (20_000, 1))).astype(np.float32)
    expected = np.zeros((40, 6), np.float32)
    for code, row in zip(codes.astype(int), dy, strict=True):
        expected[code] += row
    for threads in (1, 2, 3):
        k = kernels.on(cpu(threads))
        assert k.device.parts(numbers=dy.size) == threads
        out = np.full((40, 6), np.nan, np.float32)
        k.embedding_backward(codes, dy, out=out)
        np.testing.assert_array_equal(out, expected)


def test_what_is_of_several_kinds_goes_to_the_reference():
    rng = np.random.default_rng(0)
    codes, table, dy = rng.integers(0, 5, 20), rng.normal(size=(5, 3)), rng.normal(size=(20, 3)).astype(np.float32)
    results = []
    for name in ("numpy", "cpu"):
        k = kernels.on(xpnet.device(name))
        out, copied, dtable = np.full((20, 3), np.nan), np.full((20, 2), np.nan), np.full((5, 3), np.nan, np.float32)
        k.embedding_forward(codes, table, out=out)
        k.copy_columns(dy, out=copied)
        k.embedding_backward(codes, dy[:, ::-1], out=dtable)
        results.append((out, copied, dtable))
    for expected, actual in zip(*results, strict=True):
        np.testing.assert_allclose(actual, expected, rtol=1e-6)
