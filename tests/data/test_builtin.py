import os
from pathlib import Path

import numpy as np
import pytest

from xpnet.data import NAMES, Dataset, load
from xpnet.data.download import SOURCES


def counts(labels):
    return np.bincount(labels).tolist()


def real(name):
    folder = os.environ.get("XPNET_DATA")
    if not folder or not (Path(folder) / SOURCES[name].folder).is_dir():
        pytest.skip(f"{name} is not in the folder of the environment variable XPNET_DATA")
    return load(name, folder=folder, progress=False)


def idx(array):
    sizes = b"".join(size.to_bytes(4, "big") for size in array.shape)
    return bytes([0, 0, 8, array.ndim]) + sizes + array.tobytes()


@pytest.fixture
def small_mnist(tmp_path):
    folder = tmp_path / "mnist"
    folder.mkdir()
    for part in ("train", "t10k"):
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx(np.arange(32, dtype=np.uint8).reshape(2, 4, 4)))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx(np.array([3, 7], np.uint8)))
    return folder


def test_digits():
    data = load("digits")
    assert isinstance(data, Dataset)
    assert (data.x.shape, data.x_test.shape, data.x.dtype) == ((1437, 64), (360, 64), np.uint8)
    assert (data.name, data.scale, data.image_shape) == ("digits", 1 / 16, (8, 8))
    assert data.classes == tuple(range(10))
    assert counts(data.y_test) == [36, 36, 35, 37, 36, 37, 36, 36, 35, 36]
    assert data.x.max() == 16
    assert int(data.x.sum()) + int(data.x_test.sum()) == 561718


def test_xor():
    data = load("xor")
    assert (data.task, data.classes, data.x.dtype, data.y.dtype) == ("classification", (0, 1), np.float64, np.int32)
    np.testing.assert_array_equal(data.y, data.x[:, 0] != data.x[:, 1])


def test_sine():
    data = load("sine")
    assert (data.task, data.classes, data.x.shape, data.y.shape) == ("regression", None, (200, 1), (200, 1))
    assert (data.x[0, 0], data.x[-1, 0]) == (-np.pi, np.pi)
    np.testing.assert_array_equal(data.y, np.sin(data.x))


def test_a_small_set_in_the_form_of_mnist(small_mnist):
    data = load("mnist", folder=small_mnist.parent, progress=False)
    assert (data.x.shape, data.image_shape, data.scale) == ((2, 16), (4, 4), 1 / 255)
    assert data.classes == tuple(range(10))
    np.testing.assert_array_equal(data.y, [3, 7])


@pytest.mark.parametrize(
    ("file", "array", "fact"),
    [
        ("train-labels-idx1-ubyte", np.array([3, 10], np.uint8), "label 10 in row 1"),
        ("train-labels-idx1-ubyte", np.array([3], np.uint8), "y has 1 rows but there are 2 samples"),
        ("t10k-labels-idx1-ubyte", np.array([3, 7, 1], np.uint8), "y_test has 3 rows but there are 2 samples"),
        ("t10k-images-idx3-ubyte", np.ones((2, 2, 8), np.uint8), "shape (2, 8) but X of shape (4, 4)"),
    ],
)
def test_files_that_do_not_fit_are_refused(small_mnist, file, array, fact, refusal):
    (small_mnist / file).write_bytes(idx(array))
    assert fact in refusal(load, "mnist", folder=small_mnist.parent, progress=False)


def test_paths_are_taken_as_text_and_as_sequences(tmp_path):
    path = tmp_path / "mine.npz"
    np.savez(path, X=np.eye(2), y=[0, 1])
    for data in (path, str(path), [path], (str(path),)):
        assert load(data).name == "mine.npz"
    assert load(["xor"]).name == "xor"


def test_unknown_names_are_refused(tmp_path, refusal):
    message = refusal(load, "minst")
    assert "'minst' is neither a data set nor a file" in message
    assert ", ".join(NAMES) in message
    assert "0 data files were given" in refusal(load, [])
    assert "no accepted kind" in refusal(load, tmp_path)


@pytest.mark.parametrize(
    ("name", "classes", "labels", "test_labels", "first", "sums"),
    [
        (
            "mnist",
            tuple(range(10)),
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949],
            [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009],
            ([5, 0, 4, 1, 9, 2, 1, 3], [7, 2, 1, 0, 4, 1, 4, 9]),
            (1567298545, 264923200),
        ),
        (
            "fashion-mnist",
            ("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
            [6000] * 10,
            [1000] * 10,
            ([9, 0, 0, 3, 0, 2, 7, 2], [9, 2, 1, 1, 6, 1, 4, 6]),
            (3431114169, 573469082),
        ),
        (
            "cifar10",
            ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck"),
            [5000] * 10,
            [1000] * 10,
            ([6, 9, 9, 4, 1, 1, 2, 7], [3, 8, 8, 0, 6, 6, 1, 6]),
            (18540682003, 3733375634),
        ),
    ],
)
def test_real_sets(name, classes, labels, test_labels, first, sums):
    data = real(name)
    inputs, shape = (3072, (3, 32, 32)) if name == "cifar10" else (784, (28, 28))
    assert (data.name, data.task, data.classes) == (name, "classification", classes)
    assert (data.x.shape, data.x_test.shape) == ((sum(labels), inputs), (sum(test_labels), inputs))
    assert (data.x.dtype, data.y.dtype, data.scale, data.image_shape) == (np.uint8, np.int32, 1 / 255, shape)
    assert (counts(data.y), counts(data.y_test)) == (labels, test_labels)
    assert (data.y[:8].tolist(), data.y_test[:8].tolist()) == first
    assert (int(data.x.sum(dtype=np.int64)), int(data.x_test.sum(dtype=np.int64))) == sums
