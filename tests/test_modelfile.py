"""Networks on disk."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import xpnet
from xpnet.data import TargetTransform
from xpnet.data.images import Shades
from xpnet.data.transform import InputTransform
from xpnet.tables import Category, Encoder, Number


@pytest.fixture
def network() -> xpnet.MLP:
    network = xpnet.MLP((4, 6, 3), ["elu"], seed=2)
    network.transform = InputTransform(np.array([1.0, 2, 3, 4]), np.array([0.5, 0, -1, 2]))
    network.task, network.classes = "classification", ("cat", "dog", "eel")
    return network


@pytest.fixture(params=["batch", "layer"])
def normalized(request) -> xpnet.MLP:
    network = xpnet.MLP((4, 6, 5, 3), normalization=request.param, seed=2)
    x, y = np.random.default_rng(1).normal(size=(30, 4)), np.arange(30) % 3
    xpnet.Trainer(network, dropout=0.2, epochs=2).fit(x, y)
    return network


def test_a_loaded_network_normalizes_as_the_saved_one(normalized, tmp_path):
    x = np.random.default_rng(0).normal(size=(20, 4))
    path = xpnet.save(normalized, tmp_path / "model.safetensors")
    other = xpnet.load(path)
    assert other.normalization == normalized.normalization
    np.testing.assert_array_equal(other.predict_proba(x), normalized.predict_proba(x))
    for now, then in zip(other.state, normalized.state, strict=True):
        np.testing.assert_array_equal(now, then)
    names = {"w1", "b1", "w2", "b2", "w3", "b3", "g1", "g2"}
    assert set(load_file(path)) == names | ({"m1", "v1", "m2", "v2"} if other.statistics else set())


def test_a_file_of_version_1_is_read(network, tmp_path):
    path = xpnet.save(network, tmp_path / "m.safetensors")
    change(path, {"version": 1}, without="normalization")
    other = xpnet.load(path)
    assert other.normalization is None
    np.testing.assert_array_equal(other.parameters.flat, network.parameters.flat)


def test_a_network_that_counts_is_read(tmp_path):
    network = xpnet.MLP((2, 3, 1), output="exp")
    network.task = "regression"
    other = xpnet.load(xpnet.save(network, tmp_path / "m.safetensors"))
    np.testing.assert_array_equal(other.predict([[1.0, 2.0]]), network.predict([[1.0, 2.0]]))


@pytest.mark.parametrize("transform", [InputTransform(), InputTransform(1 / 255, np.arange(4.0)), None])
def test_a_loaded_network_predicts_the_same_from_raw_samples(network, tmp_path, transform):
    network.transform = transform or network.transform
    x = np.random.default_rng(0).normal(size=(20, 4))
    other = xpnet.load(xpnet.save(network, tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(other.predict_proba(x), network.predict_proba(x))
    assert other.predict(x).tolist() == network.predict(x).tolist()
    assert (other.task, other.classes, other.activations) == (network.task, network.classes, network.activations)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def change(path, header=None, tensors=None, *, without=None):
    """The same file with other facts."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        old = json.loads(file.metadata()["xpnet"])
    old.pop(without, None)
    save_file({**load_file(path), **(tensors or {})}, path, metadata={"xpnet": json.dumps({**old, **(header or {})})})


@pytest.mark.parametrize(
    "header",
    [
        {"version": 99},
        {"sizes": [4, 7, 3]},
        {"sizes": [4, 10**9, 3]},
        {"sizes": [4, -6, 3]},
        {"sizes": "4-6-3"},
        {"sizes": None},
        {"activations": ["exec"]},
        {"output": "__import__"},
        {"dtype": "object"},
        {"dtype": "float64"},
        {"input_scale": "big"},
        {"classes": 3},
        {"task": ["x"]},
        {"input_scale": 10**400},
        {"version": None},
        {"version": 0},
        {"normalization": "batch"},
        {"normalization": "layer"},
        {"normalization": "group"},
        {"normalization": ["batch"]},
        {"normalization": ""},
    ],
    ids=lambda header: str(header)[:40],
)
def test_a_header_that_does_not_fit_is_refused(network, tmp_path, header):
    path = xpnet.save(network, tmp_path / "m.safetensors")
    change(path, header)
    with pytest.raises(xpnet.DataError) as refusal:
        xpnet.load(path)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("header", "tensors"),
    [
        ({"normalization": None}, {}),
        ({"normalization": "layer"}, {}),
        ({}, {"g1": np.zeros(7, np.float32)}),
        ({}, {"g1": np.zeros(6)}),
        ({}, {"g1": np.zeros(5, np.float32), "g2": np.zeros(6, np.float32)}),
        ({}, {"m1": np.zeros((6, 1), np.float32)}),
        ({}, {"v1": -np.ones(6, np.float32)}),
        ({}, {"v1": np.full(6, np.nan, np.float32)}),
    ],
    ids=lambda change: str(change).replace("\n", "")[:50],
)
def test_statistics_that_do_not_fit_are_refused(tmp_path, header, tensors):
    path = xpnet.save(xpnet.MLP((4, 6, 5, 3), normalization="batch"), tmp_path / "m.safetensors")
    change(path, header, tensors)
    with pytest.raises(xpnet.DataError) as refusal:
        xpnet.load(path)
    assert "\n" not in str(refusal.value)


def test_a_file_of_version_2_is_read(network, tmp_path):
    path = xpnet.save(network, tmp_path / "m.safetensors")
    header = {"version": 2, "target": None, "image_shape": None, "table": None}
    change(path, header)
    loaded = xpnet.load(path)
    np.testing.assert_array_equal(loaded.parameters.flat, network.parameters.flat)
    assert (loaded.table, loaded.image_shape, loaded.target_transform) == (None, None, TargetTransform())


def test_what_makes_samples_and_targets_comes_along(tmp_path):
    network = xpnet.MLP((5, 4, 1), output="linear", embeddings=((3, 2),))
    network.task, network.target_transform = "regression", TargetTransform(250.0, -3.0)
    columns = (Number("n", indicator=True, edges=(0.0, 1.0)), Category("e", ("x", "y"), embedding=2))
    network.table = Encoder(columns, "t")
    loaded = xpnet.load(xpnet.save(network, tmp_path / "m.safetensors"))
    assert (loaded.table, loaded.target_transform) == (network.table, network.target_transform)
    frame = pd.DataFrame({"e": ["y", "?"], "n": [0.5, None], "t": [1, 2]})
    np.testing.assert_array_equal(loaded.predict(frame), network.predict(frame))
    outputs = network.outputs(network.table(frame))[:, 0]
    np.testing.assert_allclose(network.predict(frame), 250 * outputs - 3, rtol=1e-6)
    pictures = xpnet.MLP((12, 3))
    pictures.image_shape = (2, 2, 3)
    pictures.image_shades = Shades(-0.5, 0.5, 0.25)
    loaded = xpnet.load(xpnet.save(pictures, tmp_path / "p.safetensors"))
    assert (loaded.image_shape, loaded.image_shades) == ((2, 2, 3), Shades(-0.5, 0.5, 0.25))
    change(tmp_path / "p.safetensors", without="image_shades")
    assert xpnet.load(tmp_path / "p.safetensors").image_shades is None


@pytest.mark.parametrize(
    "lie",
    [
        {"target": {"scale": 0, "shift": 0}},
        {"target": {"scale": 1}},
        {"target": [1, 2]},
        {"target": {"scale": 1e999, "shift": 0}},
        {"image_shape": [3, 3]},
        {"image_shape": [-1, -4]},
        {"image_shape": "44"},
        {"image_shades": [0, 255, 0]},
        {"image_shades": {"black": 0, "white": 255}},
        {"image_shades": {"black": 0, "white": 0, "ground": 0}},
        {"image_shades": {"black": 0, "white": 255, "ground": 256}},
        {"image_shades": {"black": -1e308, "white": 1e308, "ground": 0}},
        {"image_shades": {"black": None, "white": 255, "ground": 0}},
        {"table": {}},
        {"table": {"target": "t", "columns": [{"kind": "number", "name": "n"}]}},
    ],
    ids=str,
)
def test_lies_about_samples_and_targets_are_refused(network, tmp_path, lie):
    path = xpnet.save(network, tmp_path / "m.safetensors")
    change(path, lie)
    with pytest.raises(xpnet.DataError, match=r"does not fit its weights|no whole safetensors"):
        xpnet.load(path)


def test_something_beside_the_weights_is_left_alone(network, tmp_path):
    path = xpnet.save(network, tmp_path / "m.safetensors")
    change(path, tensors={"": np.zeros(0, np.float32), "notes": np.zeros(6, np.float32)})
    np.testing.assert_array_equal(xpnet.load(path).parameters.flat, network.parameters.flat)


def test_a_missing_a_foreign_and_a_damaged_file_are_refused(network, tmp_path):
    with pytest.raises(xpnet.DataError, match="no such file"):
        xpnet.load(tmp_path / "nothing")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"w1": np.zeros(3)}, foreign)
    with pytest.raises(xpnet.DataError, match="no model of xpnet"):
        xpnet.load(foreign)
    path = xpnet.save(network, tmp_path / "m.safetensors")
    change(path, {"version": 99})
    with pytest.raises(xpnet.DataError, match="of the newer version 99, expected at most 3; upgrade xpnet"):
        xpnet.load(path)
    path = xpnet.save(network, tmp_path / "m.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(xpnet.DataError, match="no whole safetensors"):
        xpnet.load(path)


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 10**6), value=st.integers(0, 255), normalization=st.sampled_from([None, "batch"]))
def test_a_changed_byte_loads_or_is_refused(tmp_path_factory, place, value, normalization):
    folder = tmp_path_factory.mktemp("bytes")
    path = xpnet.save(xpnet.MLP((2, 1, 2), normalization=normalization), folder / "m.safetensors")
    content = bytearray(path.read_bytes())
    content[place % len(content)] = value
    path.write_bytes(content)
    try:
        xpnet.load(path)
    except xpnet.DataError as error:
        assert "\n" not in str(error)  # noqa: PT017 - loading may succeed too


def test_a_folder_that_cannot_be_written_is_told(network, tmp_path):
    with pytest.raises(xpnet.XpnetError, match="cannot be written"):
        xpnet.save(network, tmp_path / "nowhere" / "m.safetensors")
