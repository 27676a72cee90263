import decimal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from xpnet.data import check_samples, encode_targets
from xpnet.data.dataset import checked_dataset

KEPT = [("u1", "u1"), ("f4", "f4"), ("f8", "f8"), ("i8", "f8"), ("i1", "f8"), ("?", "f8")]


@pytest.mark.parametrize(("given_dtype", "dtype"), [*KEPT, ("f2", "f8"), (">f4", "f4")])
def test_samples_keep_bytes_and_floats(given_dtype, dtype):
    checked = check_samples(np.eye(3, dtype=given_dtype))
    assert checked.dtype == np.dtype(dtype)
    assert checked.dtype.isnative
    np.testing.assert_array_equal(checked, np.eye(3))


@pytest.mark.parametrize(("given_dtype", "dtype"), KEPT)
def test_sparse_samples_keep_bytes_and_floats(given_dtype, dtype):
    checked = check_samples(sparse.coo_array(np.eye(3, dtype=given_dtype)))
    assert checked.dtype == np.dtype(dtype)
    np.testing.assert_array_equal(checked.toarray(), np.eye(3))


def test_samples_are_flattened_in_c_order():
    images = np.arange(24, dtype="u1").reshape(4, 3, 2).transpose(2, 1, 0)
    checked = check_samples(images)
    assert checked.shape == (2, 12)
    assert checked.flags.c_contiguous
    np.testing.assert_array_equal(checked[1], images[1].ravel())


def test_good_samples_are_not_copied():
    x = np.ones((3, 2), np.float32)
    assert np.shares_memory(check_samples(x), x)


@pytest.mark.parametrize("x", [[[1, 2], [3, 4]], np.array([[1, 2.0], [3, 4]], dtype=object), np.matrix("1 2; 3 4")])
def test_numbers_of_any_wrapping_are_taken(x):
    np.testing.assert_array_equal(check_samples(x), [[1.0, 2.0], [3.0, 4.0]])


@pytest.mark.parametrize(
    ("x", "fact"),
    [
        ([[1, 2], [3, np.nan]], "nan in row 1, column 1"),
        (np.array([[[1.0, 2.0]], [[-np.inf, np.nan]]]), "-inf in row 1, column 0"),
        ([[1, "a"], [2, 3]], "text where numbers are expected ('a' in row 0, column 1)"),
        (np.array([["1.5", "2"]]), "text where numbers are expected ('1.5' in row 0, column 0)"),
        (np.array([[1.5], ["red"]], dtype=object), "text where numbers are expected ('red' in row 1, column 0)"),
        (np.array([[1.5], [None]], dtype=object), "None of type NoneType in row 1, column 0"),
        (np.array([[decimal.Decimal(1)]]), "Decimal"),
        ([[1, 2], [3]], "rows of one length"),
        ([], "empty"),
        (np.empty((0, 3)), "empty with shape (0, 3)"),
        (np.empty((3, 0)), "empty with shape (3, 0)"),
        (5.0, "single float"),
        (None, "single NoneType"),
        ([[1j]], "complex128"),
        (np.array([["2020-01-01"]], dtype="M8[D]"), "datetime64"),
        (sparse.csr_array((3, 0)), "empty with shape (3, 0)"),
        (sparse.coo_array(np.array([1.0, 2.0])), "sparse with shape (2,)"),
        (sparse.csr_array([[0, 1.0], [0, np.nan]]), "nan in row 1, column 1"),
        (sparse.csr_array([[1j]]), "complex128"),
    ],
)
def test_bad_samples_are_refused(x, fact, refusal):
    assert fact in refusal(check_samples, x)


def test_the_name_of_the_samples_is_used(refusal):
    assert refusal(check_samples, [[np.inf]], what="X_test").startswith("X_test holds inf")


def test_sparse_samples_become_canonical_and_leave_the_callers_alone():
    mine = sparse.csr_array((np.array([1.0, 2.0, 4.0]), np.array([2, 0, 2]), np.array([0, 3])), shape=(1, 3))
    checked = check_samples(mine)
    assert checked.has_canonical_format
    np.testing.assert_array_equal(checked.toarray(), [[2.0, 0.0, 5.0]])
    np.testing.assert_array_equal(mine.indices, [2, 0, 2])


@pytest.mark.parametrize(
    ("y", "encoded", "classes"),
    [
        ([3, 1, 3], [1, 0, 1], (1, 3)),
        (np.array([[7], [-2]]), [1, 0], (-2, 7)),
        (np.array([10, 9, 10], "u1"), [1, 0, 1], (9, 10)),
        ([True, False], [1, 0], (False, True)),
        (["b", "a", "b"], [1, 0, 1], ("a", "b")),
        (np.array([b"b", b"a"]), [1, 0], ("a", "b")),
        (np.array(["b", "a"], dtype=object), [1, 0], ("a", "b")),
        (np.array([2, 1], dtype=object), [1, 0], (1, 2)),
    ],
)
def test_labels_become_indices_of_sorted_classes(y, encoded, classes):
    targets = encode_targets(y, rows=len(y))
    assert targets.task == "classification"
    assert targets.classes == classes
    assert targets.y.dtype == np.int32
    np.testing.assert_array_equal(targets.y, encoded)


def test_zeros_and_ones_in_columns_are_multilabel():
    targets = encode_targets([[True, False, True], [False, False, True]], rows=2)
    assert (targets.task, targets.classes, targets.y.dtype) == ("multilabel", (0, 1, 2), np.uint8)
    np.testing.assert_array_equal(targets.y, [[1, 0, 1], [0, 0, 1]])


@pytest.mark.parametrize("y", [[1.0, 2.0], np.array([[1], [2]], "f4"), np.array([1.0, 2], dtype=object)])
def test_floats_are_regression(y):
    targets = encode_targets(y, rows=2)
    assert (targets.task, targets.classes, targets.y.dtype) == ("regression", None, np.float64)
    np.testing.assert_array_equal(targets.y, [[1.0], [2.0]])


def test_labels_are_encoded_by_the_classes_of_training():
    np.testing.assert_array_equal(encode_targets([5, 5], rows=2, classes=(1, 5, 7)).y, [1, 1])
    np.testing.assert_array_equal(encode_targets(["b", "a"], rows=2, classes=("a", "b")).y, [1, 0])


def test_whole_numbers_are_positions_among_classes_with_names():
    targets = encode_targets(np.array([2, 0], "u1"), rows=2, classes=("cat", "dog", "eel"))
    assert (targets.y.tolist(), targets.classes) == ([2, 0], ("cat", "dog", "eel"))


@pytest.mark.parametrize(
    ("y", "keywords", "fact"),
    [
        ([0, 1], {"rows": 3}, "y has 2 rows but there are 3 samples"),
        ([], {"rows": 0}, "empty"),
        (np.empty((2, 0)), {"rows": 2}, "empty with shape (2, 0)"),
        ([4, 4], {"rows": 2}, "single class 4"),
        ([0, 1, 9], {"rows": 3, "classes": (0, 1)}, "label 9 in row 2, out of the known range: use only 0, 1"),
        ([0, 99], {"rows": 2, "classes": range(50)}, "8, 9, ... or 49"),
        ([[0, 1], [2, 0]], {"rows": 2}, "shape (2, 2) that holds other values than 0 and 1"),
        ([["a", "b"]], {"rows": 1}, "other values than 0 and 1"),
        (np.zeros((2, 2, 2), int), {"rows": 2}, "shape (2, 2, 2)"),
        (np.zeros((2, 2, 2)), {"rows": 2}, "shape (2, 2, 2)"),
        ([[0, 1]], {"rows": 1, "classes": (0, 1, 2)}, "2 columns where the 3 classes"),
        ([1.0, np.nan], {"rows": 2}, "nan in row 1, column 0"),
        ([[1.0, np.inf]], {"rows": 1}, "inf in row 0, column 1"),
        ([0.5, 1.5], {"rows": 2, "classes": ("0", "1")}, "floats where labels of 2 classes are expected"),
        (["a", None], {"rows": 2}, "None of type NoneType in row 1"),
        ([1, "a"], {"rows": 2}, "'a' in row 1"),
        (sparse.csr_array([[1]]), {"rows": 1}, "sparse"),
        ([1j, 2], {"rows": 2}, "complex128"),
        ([[1], [2, 3]], {"rows": 2}, "rows of one length"),
        (3, {"rows": 1}, "single int"),
        (["line\nbreak", "b"], {"rows": 2, "classes": ("b",)}, r"'line\nbreak'"),
        (np.array([b"\xff", b"a"]), {"rows": 2}, "no table"),
    ],
)
def test_bad_targets_are_refused(y, keywords, fact, refusal):
    assert fact in refusal(encode_targets, y, **keywords)


@settings(deadline=None)
@given(st.lists(st.integers(-(2**40), 2**40) | st.booleans(), min_size=1, max_size=30))
def test_encoding_loses_no_label(refusal, labels):
    values = np.array(labels)
    if len(set(values.tolist())) == 1:
        assert "single class" in refusal(encode_targets, values, rows=len(values))
        return
    targets = encode_targets(values, rows=len(values))
    assert [targets.classes[i] for i in targets.y] == values.tolist()


@pytest.mark.parametrize(
    ("test", "fact"),
    [
        ((np.ones((2, 3)), [0, 1]), "X_test holds samples of shape (3,) but X of shape (2,)"),
        ((np.ones((2, 2)), [0, 2]), "y_test holds the label 2 in row 1"),
        ((np.ones((2, 2)), [[0, 1], [1, 0]]), "y_test is multilabel"),
        ((np.ones((2, 2)), [0.0, 1.0]), "y_test holds floats"),
        ((np.ones((2, 2)), [0]), "y_test has 1 rows"),
        ((np.full((2, 2), np.nan), [0, 1]), "X_test holds nan"),
    ],
)
def test_a_test_set_must_fit(test, fact, refusal):
    assert fact in refusal(checked_dataset, "mine", (np.eye(2), [0, 1]), test)
