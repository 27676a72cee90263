"""Data sets, by name or from files, as checked arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from xpnet.data import bundled
from xpnet.data.arrays import ACCEPTED, read_arrays
from xpnet.data.checks import TASKS, Label, Targets, check_samples, check_weights, encode_targets
from xpnet.data.cifar import read_cifar10
from xpnet.data.dataset import Dataset
from xpnet.data.download import locate
from xpnet.data.idx import read_idx_set
from xpnet.data.transform import InputTransform, TargetTransform
from xpnet.errors import DataError

__all__ = [
    "NAMES",
    "TASKS",
    "Dataset",
    "InputTransform",
    "Label",
    "TargetTransform",
    "Targets",
    "check_samples",
    "check_weights",
    "encode_targets",
    "load",
]

_FASHION_CLASSES = (
    *("T-shirt/top", "Trouser", "Pullover", "Dress", "Coat"),
    *("Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot"),
)
_BUNDLED: dict[str, Callable[[], Dataset]] = {"digits": bundled.digits, "xor": bundled.xor, "sine": bundled.sine}
_PUBLIC: dict[str, Callable[[Path], Dataset]] = {
    "mnist": lambda folder: read_idx_set(folder, "mnist"),
    "fashion-mnist": lambda folder: read_idx_set(folder, "fashion-mnist", _FASHION_CLASSES),
    "cifar10": read_cifar10,
}

NAMES = ("digits", "mnist", "fashion-mnist", "cifar10", "xor", "sine")


def load(
    data: str | Path | Sequence[str | Path], *, folder: str | Path | None = None, progress: bool = True
) -> Dataset:
    """Returns a data set by its name, or from files.

    Args:
        data: One of ``NAMES``, or one, two or four paths as ``read_arrays`` takes them.
        folder: Where public data sets lie and are downloaded to; by default the folder in the environment variable
            XPNET_DATA, else the user's cache.
        progress: Whether to show a progress bar while downloading.

    Raises:
        DataError: The name is unknown, or the data cannot be had or used.
    """
    paths = [data] if isinstance(data, str | Path) else list(data)
    if len(paths) != 1:
        return read_arrays(paths)
    name = str(paths[0])
    if name in _BUNDLED:
        return _BUNDLED[name]()
    if name in _PUBLIC:
        return _PUBLIC[name](locate(name, folder, progress=progress))
    if not Path(name).exists():
        raise DataError(
            f"{name!r} is neither a data set nor a file: name one of {', '.join(NAMES)}, or give {ACCEPTED}"
        )
    return read_arrays(paths)
