"""Every test that needs a GPU, by pytest, its outcome written down as it comes."""

from __future__ import annotations

import importlib.util
import os
import time
from pathlib import Path
from typing import Any

from bench.gpu.notes import Notes

ROOT = Path(__file__).resolve().parents[2]
WORKERS = 8
"""Processes, where pytest-xdist is there: most of the time goes into compiling."""

FIRST = "test_on_a_gpu.py"
ENDING = 8.0
"""Seconds for the end."""


def run(notes: Notes) -> None:
    """Run them, the decisive file first."""
    import pytest

    os.chdir(ROOT)
    outcomes = Outcomes(notes)
    options = [
        "-m",
        "gpu",
        "-q",
        "-o",
        "filterwarnings=default",
        "-o",
        "faulthandler_timeout=60",
        "-p",
        "no:cacheprovider",
    ]
    options += ["--continue-on-collection-errors", "--tb=short", "--color=no"]
    if importlib.util.find_spec("xdist"):
        options += ["-n", str(WORKERS)]
    status = int(pytest.main([*options, *map(str, files())], plugins=[outcomes]))
    outcomes.write()
    found = notes.found
    if status != 0 and not found["failures"]:
        notes.wrong.append(f"pytest ended with status {status}")
    if found["passed"] == 0:
        notes.wrong.append("no test passed" + (f": {found['skipped'][0]}" if found["skipped"] else ""))
    notes.wrong += [f"{failure['test']}: {failure['message']}" for failure in found["failures"]]


def files() -> list[Path]:
    """Those that have such tests."""
    having = [
        path for path in sorted(ROOT.glob("tests/**/test_*.py")) if "mark.gpu" in path.read_text(encoding="utf-8")
    ]
    return sorted((path for path in having if path.name != "test_gpu_check.py"), key=lambda path: path.name != FIRST)


class Outcomes:
    """A plugin of pytest's that writes down what becomes of each test."""

    def __init__(self, notes: Notes) -> None:
        self._notes, self._saved, self._session = notes, time.monotonic(), None
        self._seconds: list[tuple[float, str]] = []
        notes.found.update({"passed": 0, "failures": [], "skipped": [], "slowest": []})

    def pytest_sessionstart(self, session: Any) -> None:
        self._session = session

    def pytest_collectreport(self, report: Any) -> None:
        if report.failed:
            self._failed(report)

    def pytest_runtest_logreport(self, report: Any) -> None:
        found = self._notes.found
        if report.failed:
            self._failed(report)
        elif report.skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
            found["skipped"].append(f"{report.nodeid}: {reason}")
        elif report.when == "call":
            found["passed"] += 1
        if report.when == "call":
            self._seconds.append((round(report.duration, 2), report.nodeid))
        if time.monotonic() - self._saved > 1:
            self.write()
        if self._session is not None and self._notes.left() < ENDING and not self._session.shouldstop:
            self._session.shouldstop = "the time is up"
            self._notes.wrong.append("the time was up before the last test")

    def write(self) -> None:
        """To the file."""
        self._notes.found["slowest"] = sorted(self._seconds, reverse=True)[:15]
        self._notes.save()
        self._saved = time.monotonic()

    def _failed(self, report: Any) -> None:
        text = str(report.longrepr)
        lines = [line for line in text.splitlines() if line.startswith("E ")] or text.strip().splitlines()[-1:] or [""]
        message = lines[0].removeprefix("E").strip()[:300]
        self._notes.found["failures"].append({"test": report.nodeid, "message": message, "text": text[-4000:]})
        self.write()
