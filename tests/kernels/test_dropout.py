"""Dropout: masks from a key, the same everywhere, with the frequencies that they should have."""

import numpy as np
import pytest

import xpnet
from xpnet import kernels
from xpnet.dropout import dropout_keys
from xpnet.kernels import ACTIVATIONS


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


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("shape", [(1, 1), (1, 1000), (500, 300)], ids=str)
def test_both_cpu_devices_have_the_same_words(shape, threads):
    compiled = xpnet.device("cpu")
    compiled.threads = threads
    for key in (0, 9, 2**32 - 1):
        np.testing.assert_array_equal(bits(key, shape), bits(key, shape, device=compiled))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("slope_dtype", ["bool", "as y"])
@pytest.mark.parametrize("rate", [0.0, 0.3, 0.999])
def test_both_cpu_devices_drop_the_same(rate, slope_dtype, dtype):
    rng, results = np.random.default_rng(0), []
    y, slope = rng.normal(size=(500, 300)).astype(dtype), rng.normal(size=(500, 300)).astype(dtype)
    slope = slope > 0 if slope_dtype == "bool" else slope
    for device in ("numpy", "cpu"):
        k, out, slope_by = kernels.on(xpnet.device(device)), np.full_like(y, np.nan), slope.copy()
        k.dropout(y, key=np.array(5, np.uint32), rate=rate, out=out, slope=slope_by)
        results.append((out, slope_by))
    for actual, expected in zip(*results, strict=True):
        np.testing.assert_array_equal(actual, expected)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
def test_the_slope_loses_dropped_units_and_keeps_its_size(device):
    """The backward product brings the factor, for a slope may be a bool."""
    k, y, out, slope = kernels.on(xpnet.device(device)), np.ones((50, 60)), np.empty((50, 60)), np.full((50, 60), 3.0)
    k.dropout(y, key=np.array(5, np.uint32), rate=0.75, out=out, slope=slope)
    assert set(np.unique(out)) == {0.0, 4.0}
    np.testing.assert_array_equal(slope, 3 * (out > 0))


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_a_dropped_layer_is_the_textbook_s_with_a_mask(activation, device):
    rng, rate, key = np.random.default_rng(1), 0.4, 77
    x, w, b = rng.normal(size=(30, 9)), rng.normal(size=(9, 20)), rng.normal(size=20)
    dz, above = rng.normal(size=(30, 5)), rng.normal(size=(20, 5))
    k, y, out, db = kernels.on(xpnet.device(device)), *(np.full(shape, np.nan) for shape in ((30, 20), (30, 20), 20))
    options = {"activation": activation, "rate": rate}
    aux = k.hidden_aux(y, below=9, above=5, **options)
    k.hidden_forward(x, w, b, key=np.array(key, np.uint32), out=y, aux=aux, **options)
    k.hidden_backward(dz, above, aux=aux, out=out, db=db, **options)

    whole = getattr(kernels, f"affine_{activation}_forward")(x, w, b)
    np.testing.assert_allclose(y, kernels.dropout_forward(whole, key=key, rate=rate), rtol=1e-10, atol=1e-12)
    dy = kernels.dropout_backward(dz @ above.T, whole, key=key, rate=rate)
    expected = getattr(kernels, f"{activation}_backward")(dy, x @ w + b)
    np.testing.assert_allclose(out, expected, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(db, expected.sum(axis=0), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("device", ["numpy", "cpu"])
@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_without_room_for_the_backward_pass_nothing_is_dropped(activation, device):
    rng, y = np.random.default_rng(2), np.full((6, 4), np.nan)
    x, w, b = rng.normal(size=(6, 3)), rng.normal(size=(3, 4)), rng.normal(size=4)
    key = np.array(1, np.uint32)
    kernels.on(xpnet.device(device)).hidden_forward(x, w, b, activation=activation, rate=0.9, key=key, out=y)
    np.testing.assert_allclose(y, getattr(kernels, f"affine_{activation}_forward")(x, w, b), rtol=1e-12)


def test_a_key_is_read_anew_at_every_replay():
    device = xpnet.device("cpu")
    k, key, out = kernels.on(device), device.asarray(np.array(1, np.uint32)), device.empty((6, 5), np.uint32)
    replay = device.capture(lambda _: k.random_bits(key=key, out=out))
    for value in (1, 2):
        key[...] = value
        replay()
        np.testing.assert_array_equal(out, bits(value, (6, 5)))


def splitmix64(state):
    """The word that follows this state, in Python's whole numbers."""
    x = state * 0x9E3779B97F4A7C15 % 2**64
    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    x = (x ^ x >> 27) * 0x94D049BB133111EB % 2**64
    return x ^ x >> 31


def test_keys_are_halves_of_words_by_seed_layer_and_step():
    # The first words of the generator's author for the seed 0.
    assert [splitmix64(i) for i in (1, 2, 3)] == [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    seed, steps = 2**63 - 5, np.array([0, 1, 1000])
    expected = [
        [splitmix64((splitmix64((seed + layer) % 2**64) + step) % 2**64) >> 32 for step in steps.tolist()]
        for layer in (1, 2)
    ]
    keys = dropout_keys(seed, 2, steps)
    assert keys.dtype == np.uint32
    assert keys.tolist() == expected


def test_keys_of_a_chunk_are_those_of_its_steps():
    whole = dropout_keys(3, 2, np.arange(100))
    np.testing.assert_array_equal(dropout_keys(3, 2, np.arange(40, 60)), whole[:, 40:60])
    assert len(np.unique(whole)) == whole.size, "no two layers or steps drop the same units"
    assert not np.intersect1d(whole, dropout_keys(4000, 2, np.arange(100))).size
