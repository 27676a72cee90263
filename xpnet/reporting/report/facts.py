"""What was trained on what, where, and how to do it again."""

from __future__ import annotations

import platform
import shlex
from dataclasses import dataclass
from importlib import metadata
from typing import TYPE_CHECKING, Any

import xpnet
from xpnet.config import Config, settings_of
from xpnet.reporting.report.examined import sets_of

if TYPE_CHECKING:
    from xpnet.run import Result
    from xpnet.task import Task

_LIBRARIES = {"NumPy": "numpy", "SciPy": "scipy", "scikit-learn": "scikit-learn", "Numba": "numba"}
_CUPY = {"CuPy": "cupy-cuda12x", "CuPy (CUDA 13)": "cupy-cuda13x"}

_ELSEWHERE = frozenset({"data", "data_dir", "device", "name", "plot", "report", "tensorboard"})
"""Settings that are told of in other words, or say nothing of the training."""

Pairs = list[tuple[str, str]]
"""Names and what is said of them."""


@dataclass(frozen=True)
class Facts:
    """What stands in the report's words.

    Attributes:
        chosen: Settings that are not as by custom.
        settings: All of them.
        layers: A table of the network, the heading first.
        data, machine: What was trained on, and where.
        command: Repeats the run.
    """

    chosen: Pairs
    settings: Pairs
    layers: list[list[str]]
    data: Pairs
    machine: Pairs
    command: str


def facts_of(task: Task, result: Result) -> Facts:
    """All that was known when the training began."""
    return Facts(
        chosen=_chosen(task.config),
        settings=[(name, _shown(value)) for name, value in settings_of(task.config).items()],
        layers=[_cells(line) for line in task.network.summary().splitlines()],
        data=_data(task),
        machine=_machine(task, result.device),
        command=f"python -m xpnet.train --config {shlex.quote(str(result.config))}",
    )


def _chosen(config: Config) -> Pairs:
    usual, given = settings_of(Config()), settings_of(config)
    return [
        (name, _shown(value)) for name, value in given.items() if name not in _ELSEWHERE and value != usual.get(name)
    ]


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " ".join(map(str, value)) or "none"
    return {True: "yes", False: "no"}.get(value, str(value)) if isinstance(value, bool) else str(value)


def _cells(line: str) -> list[str]:
    """Of a line of a network's summary, whose columns are two spaces or more apart."""
    first, *cells = [cell.strip() for cell in line.split("  ") if cell.strip()]
    return cells if len(cells) == 4 else [first, "", *cells]  # the sums


def _data(task: Task) -> Pairs:
    network, sets = task.network, sets_of(task)
    shape = network.image_shape
    inputs = f"{task.train.x.shape[1]:,}" + (f" ({' x '.join(map(str, shape))})" if shape else "")
    told = [("data", ", ".join(task.config.data))]
    told += [(f"{name} samples", f"{len(samples):,}") for name, samples in sets.items()]
    told += [("values in a sample", inputs), ("task", network.task or "")]
    if network.classes is not None:
        told.append(("labels" if network.task == "multilabel" else "classes", f"{len(network.classes):,}"))
    return [*told, ("digest", " ".join(digest[:16] for digest in task.digest.split()))]


def _machine(task: Task, device: str) -> Pairs:
    threads = task.network.device.threads
    told = [("device", task.network.device.description), ("precision", f"{task.network.dtype}")]
    if threads is not None:
        told.append(("threads", str(threads)))
    told += [("system", platform.platform()), ("xpnet", xpnet.__version__), ("Python", platform.python_version())]
    libraries = _LIBRARIES | (_CUPY if device.startswith("cuda") else {})
    return told + [(name, version) for name, package in libraries.items() if (version := _version(package))]


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
