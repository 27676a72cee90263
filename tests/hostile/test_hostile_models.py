"""Models of strangers: safetensors files that lie about their tensors, or about the network that these make."""

import copy
import json
import os
from pathlib import Path

import numpy as np
import pytest

import xpnet
from xpnet.data.transform import InputTransform


@pytest.fixture
def model(tmp_path):
    """A good model's path, header and tensors' bytes; `write` writes others in their place."""
    network = xpnet.MLP((2, 3, 2))
    network.transform = InputTransform(np.array([1.0, 2]), np.array([0.5, 0]))
    network.task, network.classes = "classification", ("cat", "dog")
    return Model(xpnet.save(network, tmp_path / "m.safetensors"))


class Model:
    def __init__(self, path: Path) -> None:
        self.path, raw = path, path.read_bytes()
        length = int.from_bytes(raw[:8], "little")
        self.header, self.body = json.loads(raw[8 : 8 + length]), raw[8 + length :]

    def write(self, header, body=None) -> Path:
        text = header if isinstance(header, bytes) else json.dumps(header).encode()
        self.path.write_bytes(len(text).to_bytes(8, "little") + text + (self.body if body is None else body))
        return self.path

    def with_tensor(self, name, **facts):
        header = copy.deepcopy(self.header)
        header[name] = {**header.get(name, {}), **facts}
        return header

    def with_description(self, **facts):
        header = copy.deepcopy(self.header)
        header["__metadata__"]["xpnet"] = json.dumps({**json.loads(header["__metadata__"]["xpnet"]), **facts})
        return header

    def with_text(self, text):
        return {**self.header, "__metadata__": {"xpnet": text}}


END = 2**40
TENSORS = {
    "overlapping tensors": {"data_offsets": [0, 24]},
    "offsets out of the file": {"data_offsets": [END, END + 24]},
    "offsets that go backwards": {"data_offsets": [24, 0]},
    "negative offsets": {"data_offsets": [-24, 0]},
    "offsets of text": {"data_offsets": ["0", "24"]},
    "one offset": {"data_offsets": [0]},
    "a shape whose product overflows": {"shape": [2**63, 2**63]},
    "a shape that wraps around": {"shape": [2**32, 2**32]},
    "a negative shape": {"shape": [-2, 3]},
    "a shape beyond 64 bits": {"shape": [2**64, 3]},
    "a shape of fractions": {"shape": [2.5, 3]},
    "an endless shape": {"shape": [1] * 100_000},
    "an unknown type": {"dtype": "F7"},
    "a type of Python's": {"dtype": "object"},
    "no type": {"dtype": None},
    "another type": {"dtype": "I32"},
}


@pytest.mark.parametrize("facts", TENSORS.values(), ids=TENSORS)
def test_a_lie_about_a_tensor_is_refused(model, refusal, facts):
    assert "m.safetensors" in refusal(xpnet.load, model.write(model.with_tensor("w1", **facts)))


DESCRIPTIONS = {
    "sizes of gigabytes": {"sizes": [2, 10**9, 2]},
    "sizes whose product overflows": {"sizes": [2, 2**40, 2**40, 2]},
    "sizes of as many weights": {"sizes": [2, 2, 1, 2, 1]},
    "very many layers": {"sizes": [1] * 1_000_000},
    "an infinite scale": {"input_scale": float("inf")},
    "a scale that is no number": {"input_scale": float("nan")},
    "a scale of text": {"input_scale": [1]},
    "fewer classes than outputs": {"classes": ["cat"]},
    "more classes than outputs": {"classes": ["cat", "dog", "eel"]},
    "classes of lists": {"classes": [["cat"], ["dog"]]},
    "classes in a table": {"classes": {"0": "cat", "1": "dog"}},
    "an activation with escapes": {"activations": ["\x1b[31m"]},
    "an activation of half a character": {"activations": ["\ud800"]},
    "an activation of a megabyte": {"activations": ["a" * 2**20]},
    "a type of Python's": {"dtype": "object"},
    "a task that is none": {"task": {"classification": 1}},
    "a truth in place of a width": {"sizes": [2, True, 2]},
}


@pytest.mark.parametrize("facts", DESCRIPTIONS.values(), ids=DESCRIPTIONS)
def test_a_lie_about_the_network_is_refused(model, refusal, facts):
    message = refusal(xpnet.load, model.write(model.with_description(**facts)), memory=2**26)
    assert "the model's description does not fit its weights" in message


TEXTS = {
    "a number of 5,000 digits": '{"version": ' + "1" * 5000 + "}",
    "deep brackets": "[" * 100_000,
    "deep tables": '{"a":' * 100_000,
    "a name twice": '{"version": 1, "version": 2}',
    "a list": "[]",
    "nothing": "",
    "no JSON": "{",
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_a_description_that_is_none_is_refused(model, refusal, text):
    assert "m.safetensors" in refusal(xpnet.load, model.write(model.with_text(text)))


@pytest.mark.parametrize(
    "header",
    [
        b"",
        b"{",
        b"[" * 10**5,
        b'{"a":' * 10**5,
        b"\xff\xfe",
        b'"text"',
        b"null",
        b"{}" + b" " * 10**6,
        b'{"\\ud800": 1}',
    ],
    ids=lambda header: repr(header[:12]),
)
def test_a_header_that_is_none_is_refused(model, refusal, header):
    assert "m.safetensors" in refusal(xpnet.load, model.write(header))


def test_two_tensors_of_one_name_are_refused(model, refusal):
    text = json.dumps(model.header)
    doubled = text[:-1] + ', "w1": ' + json.dumps(model.header["w1"]) + "}"
    assert "gives a name twice" in refusal(xpnet.load, model.write(doubled.encode()))


@pytest.mark.parametrize("length", [2**24 + 1, 2**31, 2**63, 2**64 - 1])
def test_a_header_of_gigabytes_is_refused_unread(model, refusal, sparse_file, length):
    path = sparse_file("m.safetensors", length.to_bytes(8, "little"), 10**10)
    assert "m.safetensors" in refusal(xpnet.load, path)


def test_a_file_beyond_the_limit_is_refused_unread(model, refusal, sparse_file, monkeypatch):
    """100 GB of zeros would be one tensor, beside those of the model."""
    size = len(model.body)
    text = json.dumps(model.with_tensor("x", dtype="U8", shape=[10**11], data_offsets=[size, size + 10**11])).encode()
    start = len(text).to_bytes(8, "little") + text + model.body
    path = sparse_file("m.safetensors", start, len(start) + 10**11)
    monkeypatch.setenv("XPNET_MAX_BYTES", str(10**10))
    assert "at most 10000000000 are read: take less, or raise XPNET_MAX_BYTES" in refusal(xpnet.load, path)
    monkeypatch.setenv("XPNET_MAX_BYTES", str(10**12))
    assert xpnet.load(path).sizes == (2, 3, 2)  # what is no part of the network is not read


@pytest.mark.parametrize("dtype", ["BF16", "F8_E4M3", "F8_E5M2", "C64", "U64"])
def test_a_tensor_beside_the_weights_may_be_of_any_type(model, dtype):
    size, width = len(model.body), {"BF16": 2, "C64": 8, "U64": 8}.get(dtype, 1)
    header = model.with_tensor("notes", dtype=dtype, shape=[4], data_offsets=[size, size + 4 * width])
    assert xpnet.load(model.write(header, model.body + bytes(4 * width))).sizes == (2, 3, 2)


@pytest.mark.parametrize("name", ["w1", "b2", "input_scale", "input_shift"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_not_finite_are_refused(model, refusal, name, value):
    start, stop = model.header[name]["data_offsets"]
    kind = {"F32": np.float32, "F64": np.float64}[model.header[name]["dtype"]]
    body = bytearray(model.body)
    body[start:stop] = np.full((stop - start) // np.dtype(kind).itemsize, value, kind).tobytes()
    assert f"{name} holds numbers that are not finite" in refusal(xpnet.load, model.write(model.header, bytes(body)))


def test_a_scale_for_another_number_of_inputs_is_refused(model, refusal):
    size = len(model.body)
    header = model.with_tensor("input_shift", shape=[2], data_offsets=model.header["input_shift"]["data_offsets"])
    del header["input_shift"]
    start, stop = model.header["input_shift"]["data_offsets"]
    header["other"] = model.header["input_shift"]
    header["input_shift"] = {"dtype": "F64", "shape": [3], "data_offsets": [size, size + 24]}
    assert stop - start == 16
    assert "input_shift is float64 (3,)" in refusal(xpnet.load, model.write(header, model.body + bytes(24)))


@pytest.mark.parametrize("place", ["/dev/zero", "/dev/null", "."])
def test_what_is_no_file_is_refused(tmp_path, refusal, place):
    if not os.path.exists(place):
        pytest.skip(f"there is no {place} here")
    path = tmp_path / "m.safetensors"
    path.symlink_to(place)
    assert "m.safetensors" in refusal(xpnet.load, path)


def test_a_name_with_a_zero_is_refused(refusal):
    assert "embedded null" in refusal(xpnet.load, "a\0b")
