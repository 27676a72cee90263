"""Gathering batches out of dense and sparse samples."""

from typing import Any

import numpy as np
import pytest
import scipy.sparse as sp

from xpnet import kernels
from xpnet.data.sources import DenseSource, SparseSource, open_source
from xpnet.data.transform import InputTransform
from xpnet.devices import Plain

FLOATS = ("float32", "float64")
INDICES = {"in order": [0, 1, 2, 3, 4], "backwards": [4, 3, 1], "repeated": [2, 2, 0, 2, 4, 4], "one": [3]}
TRANSFORMS: dict[str, InputTransform] = {
    "as they are": InputTransform(),
    "scaled": InputTransform(1 / 255),
    "shifted": InputTransform(1.0, np.linspace(-1, 2, 7)),
    "scaled and shifted": InputTransform(1 / 255, np.linspace(-1, 2, 7)),
    "scaled and shifted by columns": InputTransform(np.linspace(0.1, 3, 7), np.linspace(-1, 2, 7)),
}

each_dtype = pytest.mark.parametrize("dtype", FLOATS)
each_index = pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
each_transform = pytest.mark.parametrize("transform", TRANSFORMS.values(), ids=TRANSFORMS)


def expected(x: Any, index: list[int], transform: InputTransform) -> np.ndarray:
    """Row by row, in float64."""
    shift = 0 if transform.shift is None else transform.shift
    return np.array([np.asarray(x[i], np.float64) * transform.scale - shift for i in index])


def gathered(source: Any, index: list[int], columns: int, dtype: str) -> np.ndarray:
    out = np.full((len(index), columns), np.nan, dtype)
    source.gather(kernels.on(Plain()), np.array(index, np.int64), out=out)
    return out


def tolerance(dtype: str) -> dict[str, float]:
    return {"rtol": 1e-6, "atol": 1e-4} if dtype == "float32" else {"rtol": 1e-14, "atol": 1e-12}


DENSE = {
    "uint8": lambda rng: rng.integers(0, 256, (5, 7), dtype=np.uint8),
    "int16": lambda rng: rng.integers(-3000, 3000, (5, 7), dtype=np.int16),
    "float32": lambda rng: rng.normal(0, 50, (5, 7)).astype(np.float32),
    "float64": lambda rng: rng.normal(0, 50, (5, 7)),
}


@each_transform
@each_index
@each_dtype
@pytest.mark.parametrize("raw", DENSE)
def test_dense_samples_are_gathered_scaled_and_shifted(raw, dtype, index, transform):
    x = DENSE[raw](np.random.default_rng(0))
    before, source = x.copy(), open_source(Plain(), x, transform, dtype)
    assert isinstance(source, DenseSource)
    out = gathered(source, index, 7, dtype)
    np.testing.assert_allclose(out, expected(x, index, transform), **tolerance(dtype))
    np.testing.assert_array_equal(x, before)


def test_bytes_stay_bytes_on_the_device():
    x = np.zeros((5, 7), np.uint8)
    assert np.shares_memory(open_source(Plain(), x, InputTransform(), "float32").samples, x)


def test_bytes_are_computed_in_the_network_s_precision():
    x = np.arange(256, dtype=np.uint8)[:, None]
    for dtype in FLOATS:
        scale = np.dtype(dtype).type(1 / 255)
        out = gathered(open_source(Plain(), x, InputTransform(1 / 255), dtype), list(range(256)), 1, dtype)
        np.testing.assert_array_equal(out[:, 0], np.arange(256, dtype=dtype) * scale)


@pytest.mark.parametrize("index", INDICES.values(), ids=INDICES)
@pytest.mark.parametrize(
    ("source_dtype", "out_dtype"), [("int32", "int32"), ("uint8", "int32"), ("float32", "float32")]
)
def test_labels_are_gathered_by_number(index, source_dtype, out_dtype):
    labels = np.array([3, 1, 4, 1, 5], source_dtype)
    out = np.full(len(index), 77, out_dtype)
    kernels.on(Plain()).gather(labels, np.array(index), out=out)
    assert out.tolist() == [[3, 1, 4, 1, 5][i] for i in index]


def test_the_buffers_serve_batches_of_other_sizes():
    k, x = kernels.on(Plain()), np.arange(10, dtype=np.uint8).reshape(5, 2)
    for index in ([0, 1, 2, 3], [4], [3, 3, 3, 3, 3, 2]):
        out = np.full((len(index), 2), np.nan)
        k.gather(x, np.array(index), scale=0.5, out=out)
        np.testing.assert_array_equal(out, x[index] * 0.5)


# Sparse

COLUMNS = 40


def sparse_matrix(kind: str) -> sp.csr_matrix:
    """(5, 40): rows of 0 to 3 entries, some of them in the first and the last column."""
    dense = np.zeros((5, COLUMNS))
    dense[0, [0, 17, 39]] = [200, 3, 7]
    dense[2, [39]] = [9]
    dense[3, [5, 6]] = [1, 255]
    dense[4, [0]] = [4]
    if kind == "without entries":
        dense[:] = 0
    matrix = sp.csr_matrix(dense.astype(np.uint8) if kind == "bytes" else dense)
    if kind == "with stored zeros":
        matrix.data[1] = 0
    return matrix


SPARSE = ("floats", "bytes", "without entries", "with stored zeros")
WIDE_TRANSFORMS = {
    "as they are": InputTransform(),
    "scaled": InputTransform(0.5),
    "shifted": InputTransform(1.0, np.linspace(-1, 2, COLUMNS)),
    "scaled and shifted by columns": InputTransform(np.linspace(0.1, 3, COLUMNS), np.linspace(-1, 2, COLUMNS)),
}


@pytest.mark.parametrize("transform", WIDE_TRANSFORMS.values(), ids=WIDE_TRANSFORMS)
@each_index
@each_dtype
@pytest.mark.parametrize("kind", SPARSE)
def test_sparse_samples_become_their_dense_rows(kind, dtype, index, transform):
    x = sparse_matrix(kind)
    source = open_source(Plain(), x, transform, dtype)
    assert isinstance(source, SparseSource)
    out = gathered(source, index, COLUMNS, dtype)
    np.testing.assert_allclose(out, expected(x.toarray(), index, transform), **tolerance(dtype))


@each_dtype
def test_unsorted_entries_find_their_columns(dtype):
    x = sp.csr_matrix((np.array([1.0, 2.0, 3.0]), np.array([30, 2, 11]), np.array([0, 2, 2, 3])), shape=(3, COLUMNS))
    source = open_source(Plain(), x, InputTransform(), dtype)
    assert isinstance(source, SparseSource)
    np.testing.assert_array_equal(gathered(source, [2, 0, 1], COLUMNS, dtype), x.toarray()[[2, 0, 1]])


@each_dtype
@pytest.mark.parametrize(
    ("columns", "entries", "raw", "expected_source"),
    [
        (400, 3, "float64", SparseSource),
        (4, 3, "float64", DenseSource),
        (40, 40, "float64", DenseSource),
        (400, 80, "uint8", DenseSource),  # a row of bytes takes less than its entries would
        (400, 80, "float64", SparseSource),
    ],
)
def test_samples_are_kept_in_the_form_that_takes_less_memory(columns, entries, raw, expected_source, dtype):
    rng = np.random.default_rng(1)
    dense = np.zeros((6, columns), raw)
    for row in dense[1:]:
        row[rng.permutation(columns)[:entries]] = rng.integers(1, 200, entries)
    source = open_source(Plain(), sp.csr_matrix(dense), InputTransform(0.5), dtype)
    assert isinstance(source, expected_source)
    np.testing.assert_allclose(gathered(source, [5, 0, 0, 2], columns, dtype), dense[[5, 0, 0, 2]] * 0.5, rtol=1e-6)


def test_rows_may_repeat_an_entry_and_batches_may_shrink():
    k = kernels.on(Plain())
    columns, values = np.array([[4, 1], [2, 2], [0, 4]]), np.array([[1.0, 2.0], [3.0, 3.0], [4.0, 5.0]])
    dense = np.array([[0, 2, 0, 0, 1], [0, 0, 3, 0, 0], [4, 0, 0, 0, 5]])
    for index in ([0, 1, 2, 1], [2], [1, 0]):
        out = np.full((len(index), 5), np.nan)
        k.gather_sparse(columns, values, np.array(index), out=out)
        np.testing.assert_array_equal(out, dense[index])
