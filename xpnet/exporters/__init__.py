"""A network for other programs: ONNX, scikit-learn, PyTorch, and a file of NumPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from xpnet.errors import XpnetError, one_of
from xpnet.exporters import numpy, onnx, samples, sklearn, torch
from xpnet.exporters.checking import Artifact, largest_difference
from xpnet.files import write_whole
from xpnet.modelfile import load
from xpnet.network import MLP


@dataclass(frozen=True)
class Format:
    """What a network can be exported to.

    Attributes:
        make: From the network.
        suffix: Of the file, in place of the model's.
    """

    make: Callable[[MLP], Artifact]
    suffix: str


FORMATS = {
    "onnx": Format(onnx.make, ".onnx"),
    "sklearn": Format(sklearn.make, ".skops"),
    "torch-safetensors": Format(torch.make, ".torch.safetensors"),
    "numpy": Format(numpy.make, ".py"),
}


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: Of the file.
        check: How it was checked, in a sentence.
        notes: What a person has to know to use it, a line each.
    """

    path: Path
    check: str
    notes: tuple[str, ...]


def export(
    model: Path, to: str, *, out: Path | None = None, overwrite: bool = False, data: Sequence[str] = ()
) -> Exported:
    """Write a model in the form of another program, once that has been seen to predict the same.

    Args:
        model: A file of `xpnet.save`.
        to: One of `FORMATS`.
        out: The file to write; by custom the model's name with the format's suffix, beside it.
        overwrite: Whether that may be there already.
        data: What to check on, as `samples.find` takes it.

    Raises:
        XpnetError: The model or the data cannot be read, the network cannot be told in that form or comes out another,
            or the file cannot be written.
    """
    form = FORMATS[one_of("to", to, FORMATS)]
    path = model.with_suffix(form.suffix) if out is None else out
    if path.exists() and not overwrite:
        raise XpnetError(f"out: {path} exists already; give --overwrite, or another name by --out.")
    if path.exists() and model.exists() and path.samefile(model):
        raise XpnetError(f"out: {path} is the model itself; give another name.")
    network = load(model)
    artifact = form.make(network)
    found = samples.find(network, model, data)
    difference = largest_difference(network, artifact, found)
    try:
        write_whole(path, artifact.content)
    except OSError as error:
        raise XpnetError(f"out: {path} cannot be written ({error.strerror}); choose another folder.") from error
    unit = " of the prediction" if network.task == "regression" else ""
    check = f"checked by {artifact.program} on {len(found.x):,} {found.name}: largest difference {difference:.0e}{unit}"
    return Exported(path, check, artifact.notes)
