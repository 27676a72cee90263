"""report.html: what a run was, what came of it, and what the network does well and badly, in one file to look at."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from xpnet.files import write_whole
from xpnet.reporting.report.page import render

if TYPE_CHECKING:
    from xpnet.run import Result
    from xpnet.task import Task

__all__ = ["write"]


def write(task: Task, result: Result, path: Path) -> Path:
    """path <- the report of a run; needs no network to be read, and changes nothing of the task."""
    with np.errstate(all="ignore"):  # what is infinite is written as that
        return write_whole(path, render(task, result).encode())
