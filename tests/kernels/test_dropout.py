"""Dropout: masks from a key, the same everywhere, with the frequencies that they should have."""

import numpy as np
import pytest

import xpnet
from xpnet import kernels


def bits(key, shape=(500, 300), device="numpy"):
    device = xpnet.device(device)
    out = device.empty(shape, np.uint32)
    kernels.on(device).random_bits(key=np.array(key, np.uint32), out=out)
    return out


def lowbias32(x):
    """In Python's whole numbers."""
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ x >> shift) * factor % 2**32
    return x ^ x >> 16


def test_bits_are_hashes_of_key_row_and_column():
    expected = [[lowbias32((lowbias32((0xFFFFFFFE + i) % 2**32) + j) % 2**32) for j in range(3)] for i in range(4)]
    assert bits(0xFFFFFFFE, (4, 3)).tolist() == expected


@pytest.mark.parametrize("key", [0, 1, 2**31])
def test_every_bit_is_set_half_of_the_time_in_rows_and_columns(key):
    words = bits(key)
    for place in range(32):
        ones = (words >> place & 1).astype(float)
        assert abs(ones.mean() - 0.5) < 6 * 0.5 / np.sqrt(ones.size)
        for axis, n in ((0, 500), (1, 300)):
            assert np.abs(ones.mean(axis=axis) - 0.5).max() < 6 * 0.5 / np.sqrt(n)


def test_neighbouring_keys_rows_and_columns_have_nothing_in_common():
    a, b = (bits(key) > 2**31 for key in (7, 8))
    for first, second in ((a, b), (a[1:], a[:-1]), (a[:, 1:], a[:, :-1])):
        assert abs((first == second).mean() - 0.5) < 6 * 0.5 / np.sqrt(first.size)


def test_rows_of_a_part_are_the_rows_of_the_whole():
    np.testing.assert_array_equal(bits(5)[:20], bits(5, (20, 300)))


@pytest.mark.parametrize("rate", [0.0, 0.1, 0.5, 0.9])
def test_dropout_keeps_the_mean(rate):
    y = np.ones((400, 250))
    dropped = kernels.dropout_forward(y, key=3, rate=rate)
    assert set(np.unique(dropped)) <= {0.0, 1 / (1 - rate)}
    assert dropped.mean() == pytest.approx(1, abs=6 * np.sqrt(rate / (1 - rate) / y.size) + 1e-12)
    np.testing.assert_array_equal(kernels.dropout_backward(y, y, key=3, rate=rate), dropped)
    assert (rate == 0) == np.array_equal(kernels.dropout_forward(y, key=4, rate=rate), dropped)


def test_both_cpu_devices_drop_the_same():
    np.testing.assert_array_equal(bits(9), bits(9, device="cpu"))


def test_a_key_is_read_anew_at_every_replay():
    device = xpnet.device("cpu")
    k, key, out = kernels.on(device), device.asarray(np.array(1, np.uint32)), device.empty((6, 5), np.uint32)
    replay = device.capture(lambda _: k.random_bits(key=key, out=out))
    for value in (1, 2):
        key[...] = value
        replay()
        np.testing.assert_array_equal(out, bits(value, (6, 5)))
