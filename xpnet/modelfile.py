"""Networks on disk: one safetensors file with all that a prediction from raw data needs. Nothing in it is executed."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.data import TASKS, Label
from xpnet.data.transform import InputTransform
from xpnet.devices import Array, Device
from xpnet.devices import device as open_device
from xpnet.errors import DataError, XpnetError, one_of
from xpnet.network import MLP, NORMALIZATIONS

VERSION = 2
"""Of the layout below; files of version 1 know no normalization."""


def save(network: MLP, path: str | os.PathLike[str]) -> Path:
    """Write the network: weights, running statistics, output, task, class names and the transform of its inputs.

    The file appears whole or not at all: it is written under another name first.

    Args:
        network: On any device.
        path: Of the file, by custom model.safetensors.

    Returns:
        The path.
    """
    from safetensors.numpy import save as serialize

    path = Path(path)
    tensors = {name: network.device.to_host(view) for name, view in _named(network)}
    transform = network.transform
    if transform.shift is not None:
        tensors["input_shift"] = np.asarray(transform.shift, dtype=np.float64)
    if isinstance(transform.scale, np.ndarray):
        tensors["input_scale"] = np.asarray(transform.scale, dtype=np.float64)
    header = {
        "version": VERSION,
        "sizes": network.sizes,
        "activations": network.activations,
        "output": network.output,
        "normalization": network.normalization,
        "dtype": network.dtype.name,
        "task": network.task,
        "classes": network.classes,
        "input_scale": None if isinstance(transform.scale, np.ndarray) else transform.scale,
    }
    partial = path.with_name(path.name + ".part")
    try:
        partial.write_bytes(serialize(tensors, metadata={"xpnet": json.dumps(header)}))
        partial.replace(path)
    except OSError as error:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise XpnetError(f"{path}: the model cannot be written ({error.strerror}); choose another folder.") from error
    return path


def load(path: str | os.PathLike[str], *, device: str | Device = "cpu") -> MLP:
    """The network that `save` wrote, on the device of your choice.

    Raises:
        DataError: The file is missing, damaged, or not a model of xpnet's.
    """
    from safetensors import SafetensorError, safe_open

    device = open_device(device)
    try:
        with safe_open(os.fspath(path), framework="numpy") as file:
            header = json.loads((file.metadata() or {}).get("xpnet", "null"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; give the model.safetensors of a run's folder.") from error
    except (OSError, SafetensorError, json.JSONDecodeError, RecursionError) as error:
        raise DataError(f"{path}: this is no whole safetensors file ({error}); save the model anew.") from error
    if not isinstance(header, dict) or header.get("version") not in range(1, VERSION + 1):
        raise DataError(f"{path}: this is no model of xpnet's versions 1 to {VERSION}; it lacks its description.")
    try:
        return _rebuild(header, tensors, device)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise DataError(f"{path}: the model's description does not fit its weights ({error}).") from error


def _rebuild(header: dict[str, Any], tensors: dict[str, np.ndarray], device: Device) -> MLP:
    normalization = header.get("normalization")
    _check_sizes(header["sizes"], normalization, tensors)
    network = MLP(
        header["sizes"],
        header["activations"],
        header["output"],
        normalization=normalization,
        init="zeros",
        dtype=header["dtype"],
        device=device,
    )
    for name, view in _named(network):
        if tensors[name].shape != view.shape or tensors[name].dtype != network.dtype:
            raise ValueError(f"{name} is {tensors[name].dtype} {tensors[name].shape}")
        if name.startswith("v") and not (tensors[name] >= 0).all():
            raise ValueError(f"{name} holds negative variances")
        network.device.upload(tensors[name], out=view)
    if header["task"] not in (None, *TASKS):
        raise ValueError(f"the task is {header['task']!r}")
    network.task = header["task"]
    network.classes = None if header["classes"] is None else _labels(header["classes"])
    scale = tensors["input_scale"] if header["input_scale"] is None else float(header["input_scale"])
    network.transform = InputTransform(scale, tensors.get("input_shift"))
    return network


def _named(network: MLP) -> Iterator[tuple[str, Array]]:
    """Every array that is learnt, with its name."""
    yield from network.parameters.named()
    if network.statistics is not None:
        yield from network.statistics.named()


def _labels(values: list[Any]) -> tuple[Label, ...]:
    if not all(isinstance(value, str | int) for value in values):
        raise ValueError(f"the classes are {values}")
    return tuple(values)


def _check_sizes(sizes: list[int], normalization: str | None, tensors: dict[str, np.ndarray]) -> None:
    """That the file holds as many weights as its header promises, before memory is taken for them."""
    if normalization is not None:
        one_of("normalization", normalization, NORMALIZATIONS)
    of_a_unit = {None: 0, "layer": 1, "batch": 3}[normalization]  # gain, mean and variance
    promised = sum(i * o + o for i, o in itertools.pairwise(sizes)) + of_a_unit * sum(sizes[1:-1])
    held = sum(tensor.size for name, tensor in tensors.items() if name.startswith(tuple("wbgmv")))
    if promised != held:
        raise ValueError(f"{held} weights for sizes {sizes}")
