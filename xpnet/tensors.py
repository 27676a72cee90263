"""Arrays as the bytes of a safetensors file, without a copy of them.

The library's own writer takes twice the arrays' memory and, where there is too little, ends the process by a panic.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

import numpy as np

_CODES = {"float64": "F64", "float32": "F32", "int64": "I64", "uint8": "U8"}


def as_safetensors(tensors: Mapping[str, np.ndarray], metadata: Mapping[str, str]) -> list[Any]:
    """The parts of the file: the length of its header, its header, and every tensor's memory, one after the other.

    Args:
        tensors: Of float64, float32, int64 or uint8, C-contiguous; larger numbers come first, for their alignment.
        metadata: Text by name.

    References:
        The format: https://huggingface.co/docs/safetensors, "Format".
    """
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    ordered = sorted(tensors.items(), key=lambda item: (-item[1].itemsize, item[0]))
    end = 0
    for name, array in ordered:
        start, end = end, end + array.nbytes
        header[name] = {"dtype": _CODES[array.dtype.name], "shape": array.shape, "data_offsets": (start, end)}
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return [struct.pack("<Q", len(text)), text, *(array.reshape(-1).view(np.uint8).data for _, array in ordered)]
