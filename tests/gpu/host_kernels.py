"""CUDA sources compiled by g++ through cuda_on_cpu.h, their kernels run on NumPy arrays.

A wrong argument, which a GPU would read as something else, is an error here, and so is a barrier that not all threads
of a block reach.
"""

from __future__ import annotations

import atexit
import ctypes
import hashlib
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from xpnet.devices import Plain

HEADER = Path(__file__).with_name("cuda_on_cpu.h")
# Without fortification, which takes a jump to another stack for a mistake; and no library may share what another has.
FLAGS = (
    *("-std=c++20", "-O1", "-fPIC", "-shared", "-ffp-contract=off", "-Wno-unknown-pragmas"),
    *("-U_FORTIFY_SOURCE", "-fno-gnu-unique", "-fvisibility=hidden"),
)
SEED = 1

FOLDER = Path(tempfile.mkdtemp(prefix="kernels"))
atexit.register(shutil.rmtree, FOLDER, ignore_errors=True)


def why_not() -> str | None:
    """What is missing for kernels to run here, or None."""
    if sys.platform != "linux":
        return "kernels run on a CPU under Linux alone"
    return None if shutil.which("g++") else "g++ is not installed"


class Parameter(ctypes.Structure):
    """What a kernel takes in one place; see cuda_on_cpu.h."""

    _fields_ = (
        ("kind", ctypes.c_char),
        ("points_to", ctypes.c_char),
        ("size", ctypes.c_int32),
        ("size_of_what_it_points_to", ctypes.c_int32),
    )

    def __str__(self) -> str:
        kind, to = self.kind.decode(), self.points_to.decode()
        return f"{kind}{self.size}" if kind != "p" else f"pointer to {to}{self.size_of_what_it_points_to}"

    def takes(self, argument: Any) -> bool:
        """Whether an array, or a number of NumPy's, is what the kernel expects here."""
        kind = "i" if argument.dtype.kind in "iub" else argument.dtype.kind
        if self.kind == b"p" and isinstance(argument, np.ndarray):
            one = (kind, argument.dtype.itemsize) == (self.points_to.decode(), self.size_of_what_it_points_to)
            return one or self.points_to == b"s"
        if self.kind == b"p":
            return isinstance(argument, np.intp) and argument == 0
        return not isinstance(argument, np.ndarray) and (kind, argument.dtype.itemsize) == (
            self.kind.decode(),
            self.size,
        )


class HostKernel:
    """A kernel: called as `cupy.RawKernel` is; blocks run in the order that `seed` draws."""

    def __init__(self, library: ctypes.CDLL, number: int, expression: str) -> None:
        self.expression, self.seed = expression, SEED
        describe, self._launch = (getattr(library, f"{what}_{number}") for what in ("describe", "launch"))
        self.parameters = (Parameter * describe(None))()
        describe(self.parameters)
        self._launch.restype = ctypes.c_char_p

    def __call__(
        self, grid: tuple[int, ...], block: tuple[int, ...], args: tuple[Any, ...], shared_mem: int = 0
    ) -> None:
        if len(args) != len(self.parameters):
            raise TypeError(f"{self.expression} takes {len(self.parameters)} arguments, got {len(args)}")
        for i, (parameter, argument) in enumerate(zip(self.parameters, args, strict=True)):
            if not isinstance(argument, np.ndarray | np.generic):
                raise TypeError(f"{self.expression}, argument {i}: {argument!r} is neither an array nor a NumPy scalar")
            if not parameter.takes(argument):
                got = f"{type(argument).__name__} of {argument.dtype}"
                raise TypeError(f"{self.expression}, argument {i}: {parameter} is expected, got {got}")
        values = [np.array(a.ctypes.data, np.intp) if isinstance(a, np.ndarray) else np.array(a) for a in args]
        addresses = (ctypes.c_void_p * len(values))(*(value.ctypes.data for value in values))
        grid, block = ((*shape, 1, 1)[:3] for shape in (grid, block))
        error = self._launch(
            (ctypes.c_uint * 3)(*grid),
            (ctypes.c_uint * 3)(*block),
            addresses,
            ctypes.c_size_t(shared_mem),
            ctypes.c_uint64(self.seed),
        )
        if error:
            raise RuntimeError(f"{self.expression}: {error.decode()}")


class HostModule:
    """The kernels of a source, for the uses that this project makes of `cupy.RawModule`."""

    def __init__(self, code: str, name_expressions: tuple[str, ...], folder: Path | None = None) -> None:
        exports = "".join(f"EXPORT_KERNEL({i}, {expression})\n" for i, expression in enumerate(name_expressions))
        library = _library(f'#include "{HEADER.name}"\n{code}\n{exports}', folder)
        self._kernels = {name: HostKernel(library, i, name) for i, name in enumerate(name_expressions)}

    def get_function(self, expression: str) -> HostKernel:
        """The kernel of that expression."""
        return self._kernels[expression]


@cache
def _library(code: str, folder: Path | None) -> ctypes.CDLL:
    """The code compiled, or found in the folder under its content's name."""
    name = hashlib.sha256("\0".join([code, HEADER.read_text(), *FLAGS]).encode()).hexdigest()[:24]
    folder = FOLDER if folder is None else folder
    built = folder / f"{name}.so"
    if not built.exists():
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder) as work:
            source, result = Path(work, "kernels.cpp"), Path(work, "kernels.so")
            source.write_text(code)
            _compile("-I", _precompiled(), "-I", HEADER.parent, "-o", result, source)
            result.replace(built)
    return ctypes.CDLL(str(built))


@cache
def _precompiled() -> Path:
    """A folder where g++ finds the header as it is once read, which it is half the work to read."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as work:
        result = Path(work, "header")
        _compile("-x", "c++-header", "-o", result, HEADER)
        result.replace(FOLDER / f"{HEADER.name}.gch")
    return FOLDER


def _compile(*options: str | Path) -> None:
    done = subprocess.run(["g++", *FLAGS, *options], capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"g++ refuses the kernels:\n{done.stderr}")


class Asked(Plain):
    """Notes the kernels that twins ask for, by source, and runs none."""

    def __init__(self, twins: dict[str, Callable[..., Any]]) -> None:
        super().__init__("asked", twins)
        self.expressions: dict[str, set[str]] = {}

    def kernel(self, file: str, expression: str) -> Callable[..., None]:
        self.expressions.setdefault(file, set()).add(expression)
        return lambda grid, block, args, shared_mem=0: None


def compiled(texts: dict[str, str], expressions: dict[str, set[str]], together: int = 16) -> dict[str, HostKernel]:
    """The kernels of these expressions, many at a time: most of what g++ needs for one it needs once."""
    parts = []
    for file, names in expressions.items():
        ordered = sorted(names)
        parts += [(texts[file], tuple(ordered[i : i + together])) for i in range(0, len(ordered), together)]
    with ThreadPoolExecutor(2) as pool:
        modules = pool.map(lambda part: HostModule(*part), parts)
        return {
            name: module.get_function(name) for (_, names), module in zip(parts, modules, strict=True) for name in names
        }
