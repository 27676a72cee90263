"""Networks on disk: one safetensors file with all that a prediction from raw data needs. Nothing in it is executed."""

from __future__ import annotations

import dataclasses
import itertools
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.data import TASKS, Label
from xpnet.data.images import Shades
from xpnet.data.reading import one_line, refuse_too_large, size_on_disk
from xpnet.data.transform import InputTransform, TargetTransform
from xpnet.devices import Array, Device
from xpnet.devices import device as open_device
from xpnet.errors import DataError, XpnetError, one_of
from xpnet.files import write_whole
from xpnet.network import MLP, NORMALIZATIONS
from xpnet.tables import Encoder
from xpnet.tensors import as_safetensors

VERSION = 3
"""Of the layout below; version 1 knew no normalization, version 2 no tables, codes, images and units of targets."""

_LONGEST_HEADER = 16 * 2**20
"""Bytes of a file's description of its tensors: what it makes of memory is some ten times of that."""

_OF_UNITS: dict[str | None, str] = {None: "", "layer": "g", "batch": "gmv"}
"""What a normalized unit has beside its bias, by the normalization: gain, mean and variance."""


def save(network: MLP, path: str | os.PathLike[str]) -> Path:
    """Write the network: weights, running statistics, output, task, class names and the transform of its inputs.

    The file appears whole or not at all, and outlives a loss of power.

    Args:
        network: On any device.
        path: Of the file, by custom model.safetensors.

    Returns:
        The path.
    """
    content = serialize(network, [network.device.to_host(array) for array in network.state])
    try:
        return write_whole(path, *content)
    except OSError as error:
        raise XpnetError(f"{path}: the model cannot be written ({error.strerror}); choose another folder.") from error


def serialize(network: MLP, state: Sequence[np.ndarray]) -> list[Any]:
    """The parts of what `save` writes of the network, with this in place of its state, on the host."""
    tensors = dict(network.parameters.like(state[0]).named())
    if network.statistics is not None:
        tensors |= network.statistics.like(state[1]).named()
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
        "embeddings": network.embeddings,
        "dtype": network.dtype.name,
        "task": network.task,
        "classes": network.classes,
        "input_scale": None if isinstance(transform.scale, np.ndarray) else transform.scale,
        "target": dataclasses.asdict(network.target_transform),
        "image_shape": network.image_shape,
        "image_shades": None if network.image_shades is None else dataclasses.asdict(network.image_shades),
        "table": None if network.table is None else network.table.to_dict(),
    }
    return as_safetensors(tensors, {"xpnet": json.dumps(header)})


def load(path: str | os.PathLike[str], *, device: str | Device = "cpu") -> MLP:
    """The network that `save` wrote, on the device of your choice.

    Raises:
        DataError: The file is missing, damaged, or not a model of xpnet's.
    """
    from safetensors import SafetensorError, safe_open

    device = open_device(device)
    try:
        _refuse_large(path)
        with safe_open(os.fspath(path), framework="numpy") as file:
            _refuse_doubles(path)
            header = json.loads((file.metadata() or {}).get("xpnet", "null"), object_pairs_hook=_without_doubles)
            if not isinstance(header, dict) or type(version := header.get("version")) is not int or version < 1:
                raise DataError(f"{path}: this is no model of xpnet's; give the model.safetensors of a run's folder.")
            if version > VERSION:
                raise DataError(
                    f"{path}: this model is of the newer version {version}, expected at most {VERSION}; upgrade xpnet."
                )
            return _rebuild(header, file, device, path)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"{path}: there is no such file; give the model.safetensors of a run's folder.") from error
    except (OSError, SafetensorError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: this is no whole safetensors file ({one_line(error)}); save the model anew."
        ) from error


def _refuse_large(path: str | os.PathLike[str]) -> None:
    """Refuse, before any memory is taken, a file that is too large or whose header is."""
    with open(path, "rb") as file:
        refuse_too_large(path, size_on_disk(file) or 0)
        length = int.from_bytes(file.read(8), "little")
    if length > _LONGEST_HEADER:
        raise ValueError(f"its header claims {length} bytes, more than {_LONGEST_HEADER}")


def _refuse_doubles(path: str | os.PathLike[str]) -> None:
    """Refuse what safetensors reads, though its format forbids it: tensors of one name."""
    with open(path, "rb") as file:
        json.loads(file.read(int.from_bytes(file.read(8), "little")), object_pairs_hook=_without_doubles)


def _without_doubles(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len(found := dict(pairs)) != len(pairs):
        raise ValueError("its description gives a name twice")
    return found


def _rebuild(header: dict[str, Any], file: Any, device: Device, path: str | os.PathLike[str]) -> MLP:
    try:
        return _rebuilt(header, file, device)
    except (LookupError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise DataError(
            f"{path}: the model's description does not fit its weights ({one_line(error)}); save the model anew."
        ) from error


def _rebuilt(header: dict[str, Any], file: Any, device: Device) -> MLP:
    normalization, embeddings = header.get("normalization"), header.get("embeddings", [])
    held = {name: file.get_slice(name).get_shape() for name in file.keys()}  # noqa: SIM118 - not a mapping
    _check_shapes(header["sizes"], normalization, embeddings, held)
    network = MLP(
        header["sizes"],
        header["activations"],
        header["output"],
        normalization=normalization,
        init="zeros",
        embeddings=embeddings,
        dtype=header["dtype"],
        device=device,
    )
    for name, view in _named(network):
        network.device.upload(_tensor(file, name, network.dtype, view.shape), out=view)
    if header["task"] not in (None, *TASKS):
        raise ValueError(f"the task is {header['task']!r}")
    network.task = header["task"]
    network.classes = None if header["classes"] is None else _labels(header["classes"], network.sizes[-1])
    network.transform = _transform(header["input_scale"], file, network.inputs)
    network.target_transform = _target_transform(header.get("target"))
    network.image_shape = _image_shape(header.get("image_shape"), network.inputs)
    network.image_shades = _image_shades(header.get("image_shades"))
    network.table = _table(header.get("table"), network)
    return network


def _tensor(file: Any, name: str, dtype: np.dtype | type, shape: tuple[int, ...]) -> np.ndarray:
    """A tensor of finite numbers, of that type and shape."""
    tensor: np.ndarray = file.get_tensor(name)
    if tensor.shape != shape or tensor.dtype != dtype:
        raise ValueError(f"{name} is {tensor.dtype} {tensor.shape}")
    if not np.isfinite(tensor).all():
        raise ValueError(f"{name} holds numbers that are not finite")
    if name.startswith("v") and not (tensor >= 0).all():
        raise ValueError(f"{name} holds negative variances")
    return tensor


def _transform(factor: Any, file: Any, inputs: int) -> InputTransform:
    shape = (inputs,)
    scale = _tensor(file, "input_scale", np.float64, shape) if factor is None else float(factor)
    if isinstance(scale, float) and not math.isfinite(scale):
        raise ValueError(f"the input's scale is {scale}")
    shifted = "input_shift" in file.keys()  # noqa: SIM118 - not a mapping
    return InputTransform(scale, _tensor(file, "input_shift", np.float64, shape) if shifted else None)


def _target_transform(fields: Any) -> TargetTransform:
    if fields is None:
        return TargetTransform()
    scale, shift = float(fields["scale"]), float(fields["shift"])
    if not (math.isfinite(scale) and math.isfinite(shift) and scale > 0):
        raise ValueError(f"the targets' scale is {scale} and their shift {shift}")
    return TargetTransform(scale, shift)


def _image_shape(shape: Any, inputs: int) -> tuple[int, ...] | None:
    if shape is None:
        return None
    if not all(type(side) is int and side > 0 for side in shape) or math.prod(shape) != inputs:
        raise ValueError(f"images of shape {shape} have not {inputs} values")
    return tuple(shape)


def _image_shades(fields: Any) -> Shades | None:
    if fields is None:
        return None
    black, white, ground = (float(fields[name]) for name in ("black", "white", "ground"))
    if not (math.isfinite(white - black) and black <= ground <= white and black < white):
        raise ValueError(f"black is {black}, white {white} and the ground of images {ground}")
    return Shades(black, white, ground)


def _table(description: Any, network: MLP) -> Encoder | None:
    if description is None:
        return None
    table = Encoder.from_dict(description)
    if table.width != network.inputs:
        raise ValueError(f"the table makes {table.width} values for {network.inputs} inputs")
    if table.embeddings != network.embeddings:
        raise ValueError(f"the table embeds {table.embeddings}, the network {network.embeddings}")
    return table


def _named(network: MLP) -> Iterator[tuple[str, Array]]:
    """Every array that is learnt, with its name."""
    yield from network.parameters.named()
    if network.statistics is not None:
        yield from network.statistics.named()


def _labels(values: Any, outputs: int) -> tuple[Label, ...]:
    if not isinstance(values, list) or not all(isinstance(value, str | int) for value in values):
        raise ValueError(f"the classes are {values}")
    if len(values) not in ((2,) if outputs == 1 else (outputs,)):
        raise ValueError(f"there are {len(values)} classes for {outputs} outputs")
    return tuple(values)


def _check_shapes(
    sizes: list[int], normalization: str | None, embeddings: list[list[int]], held: dict[str, list[int]]
) -> None:
    """That the file holds just the weights that its description promises, before memory is taken for them."""
    if normalization is not None:
        one_of("normalization", normalization, NORMALIZATIONS)
    surplus = {name for name in held if re.fullmatch(r"[wbgmve][0-9]+", name)}
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes), 1):
        promised = {f"w{i}": [inputs, outputs], f"b{i}": [outputs]}
        if i < len(sizes) - 1:
            promised |= {f"{kind}{i}": [outputs] for kind in _OF_UNITS[normalization]}
        surplus -= _found(promised, held)
    surplus -= _found({f"e{i}": shape for i, shape in enumerate(embeddings, 1)}, held)
    if surplus:
        raise ValueError(f"there is no place for {min(surplus)}")


def _found(promised: dict[str, list[int]], held: dict[str, list[int]]) -> set[str]:
    """The names of what is promised, all of which is held, in these shapes."""
    for name, shape in promised.items():
        if held.get(name) != shape:
            raise ValueError(f"{name} has the shape {held.get(name)}, not {shape}")
    return set(promised)
