"""All that a training is between two of its steps: arrays and facts, and a file that tells whether it is whole."""

from __future__ import annotations

import hashlib
import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.errors import DataError, XpnetError
from xpnet.files import write_whole
from xpnet.tensors import as_safetensors

VERSION = 1
"""Of the file's layout and of what a training puts into it."""

_NAME, _NO_SUM = "xpnet", "0" * 64
_SUM = f'"sha256":"{_NO_SUM}"'.encode()  # nowhere else in a header: within text its quotation marks are escaped


@dataclass(frozen=True, eq=False)
class Snapshot:
    """A training that can be gone on with.

    Attributes:
        arrays: On the host, by name.
        facts: What JSON can hold.
    """

    arrays: dict[str, np.ndarray]
    facts: dict[str, Any]

    def part(self, prefix: str) -> dict[str, np.ndarray]:
        """The arrays whose names begin so, by the rest of their names."""
        return {name.removeprefix(prefix): array for name, array in self.arrays.items() if name.startswith(prefix)}


def write(path: Path, snapshot: Snapshot) -> Path:
    """path <- the snapshot: a safetensors file with a checksum of itself; it appears whole or not at all.

    Raises:
        OSError: It cannot be written; what was there before still is.
    """
    facts = json.dumps({"version": VERSION, **snapshot.facts})
    length, header, *tensors = as_safetensors(snapshot.arrays, {_NAME: facts, "sha256": _NO_SUM})
    summed = hashlib.sha256()
    for part in (length, header, *tensors):
        summed.update(part)
    signed = header.replace(_SUM, _SUM.replace(_NO_SUM.encode(), summed.hexdigest().encode()))
    return write_whole(path, length, signed, *tensors)


def read(path: Path) -> Snapshot:
    """The snapshot that `write` wrote, every bit of it.

    Raises:
        DataError: The file is damaged.
        XpnetError: It cannot be read, or is of another version.
    """
    from safetensors import SafetensorError
    from safetensors.numpy import load

    try:
        content = path.read_bytes()
        metadata = _verified_metadata(content)
        facts = json.loads(metadata[_NAME])
        arrays = load(content)
    except OSError as error:
        raise XpnetError(f"{path}: this checkpoint cannot be read ({error.strerror}); mend that first.") from error
    except (SafetensorError, LookupError, TypeError, ValueError, RecursionError, struct.error) as error:
        raise DataError(f"{path}: this is no whole checkpoint ({' '.join(str(error).split()):.200}).") from error
    if not isinstance(facts, dict) or facts.get("version") != VERSION:
        raise XpnetError(f"{path}: this is no checkpoint of version {VERSION}; go on with the xpnet that wrote it.")
    return Snapshot(arrays, facts)


def _verified_metadata(content: bytes) -> dict[str, str]:
    """The metadata of a safetensors file, if its checksum is that of the file with a checksum of zeros."""
    (length,) = struct.unpack_from("<Q", content)
    header = content[8 : 8 + length]
    if len(header) != length:
        raise ValueError("it ends within its header")
    metadata: dict[str, str] = json.loads(header)["__metadata__"]
    told = metadata["sha256"]
    start = header.index(f'"sha256":"{told}"'.encode()) + 8 + len(_SUM) - 1 - len(_NO_SUM)
    summed = hashlib.sha256(content[:start])
    summed.update(_NO_SUM.encode())
    summed.update(memoryview(content)[start + len(_NO_SUM) :])
    if summed.hexdigest() != told:
        raise ValueError("its checksum is not that of what it holds")
    return metadata
