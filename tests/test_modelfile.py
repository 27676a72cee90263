"""Networks on disk."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file, save_file

import xpnet
from xpnet.data.transform import InputTransform


@pytest.fixture
def network() -> xpnet.MLP:
    network = xpnet.MLP((4, 6, 3), ["elu"], seed=2)
    network.transform = InputTransform(np.array([1.0, 2, 3, 4]), np.array([0.5, 0, -1, 2]))
    network.task, network.classes = "classification", ("cat", "dog", "eel")
    return network


@pytest.mark.parametrize("transform", [InputTransform(), InputTransform(1 / 255, np.arange(4.0)), None])
def test_a_loaded_network_predicts_the_same_from_raw_samples(network, tmp_path, transform):
    network.transform = transform or network.transform
    x = np.random.default_rng(0).normal(size=(20, 4))
    other = xpnet.load(xpnet.save(network, tmp_path / "model.safetensors"))
    np.testing.assert_array_equal(other.predict_proba(x), network.predict_proba(x))
    assert other.predict(x).tolist() == network.predict(x).tolist()
    assert (other.task, other.classes, other.activations) == (network.task, network.classes, network.activations)
    assert [path.name for path in tmp_path.iterdir()] == ["model.safetensors"]


def change(path, header=None, tensors=None):
    """The same file with other facts."""
    from safetensors import safe_open

    with safe_open(path, framework="numpy") as file:
        old = json.loads(file.metadata()["xpnet"])
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
    ],
    ids=str,
)
def test_a_header_that_does_not_fit_is_refused(network, tmp_path, header):
    path = xpnet.save(network, tmp_path / "m.safetensors")
    change(path, header)
    with pytest.raises(xpnet.DataError) as refusal:
        xpnet.load(path)
    assert "\n" not in str(refusal.value)


def test_a_missing_a_foreign_and_a_damaged_file_are_refused(network, tmp_path):
    with pytest.raises(xpnet.DataError, match="no such file"):
        xpnet.load(tmp_path / "nothing")
    foreign = tmp_path / "foreign.safetensors"
    save_file({"w1": np.zeros(3)}, foreign)
    with pytest.raises(xpnet.DataError, match="no model of xpnet"):
        xpnet.load(foreign)
    path = xpnet.save(network, tmp_path / "m.safetensors")
    path.write_bytes(path.read_bytes()[:-10])
    with pytest.raises(xpnet.DataError, match="no whole safetensors"):
        xpnet.load(path)


@settings(max_examples=200, deadline=None)
@given(place=st.integers(0, 10**6), value=st.integers(0, 255))
def test_a_changed_byte_loads_or_is_refused(tmp_path_factory, place, value):
    folder = tmp_path_factory.mktemp("bytes")
    path = xpnet.save(xpnet.MLP((2, 2)), folder / "m.safetensors")
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
