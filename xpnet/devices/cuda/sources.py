"""The CUDA sources, and kernels compiled out of them when they are first asked for."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "kernels"
OPTIONS = ("-std=c++17",)
INCLUDE = re.compile(r'^#include "(.+)"$', re.MULTILINE)


@cache
def text(file: str) -> str:
    """A source with its includes in place of the lines that ask for them: it compiles without a path."""
    return INCLUDE.sub(lambda match: text(match[1]), (FOLDER / file).read_text(encoding="utf-8"))


class Sources:
    """Kernels by source and C++ expression, such as `("norm.cu", "squared_norm<float>")`, compiled once."""

    def __init__(self, cupy: Any) -> None:
        self._cupy = cupy
        self._kernels: dict[tuple[str, str], Any] = {}

    def kernel(self, file: str, expression: str) -> Any:
        """A callable (grid, block, args, shared_mem=0) like `cupy.RawKernel`."""
        if (file, expression) not in self._kernels:
            module = self._cupy.RawModule(code=text(file), options=OPTIONS, name_expressions=(expression,))
            self._kernels[file, expression] = module.get_function(expression)
        return self._kernels[file, expression]
