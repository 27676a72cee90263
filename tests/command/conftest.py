"""The command in this process, in an empty folder, and the data that it is run on."""

import csv
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from xpnet.settings import read_settings
from xpnet.train import main

FOLDERS = {"mnist": "mnist", "fashion-mnist": "fashion-mnist", "cifar10": "cifar-10-batches-py"}


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    status: int
    out: str
    err: str

    @property
    def result(self) -> dict[str, Any]:
        """The line of --json, the last one."""
        return json.loads(self.out.splitlines()[-1])

    @property
    def folder(self) -> Path:
        """The run's folder, as --json names it."""
        return Path(self.result["out"])

    @property
    def rows(self) -> list[dict[str, str]]:
        """The lines of history.csv."""
        return read_rows(self.folder)

    @property
    def settings(self) -> dict[str, Any]:
        """What config.toml holds."""
        return read_settings(self.folder / "config.toml")


def read_rows(folder: Path) -> list[dict[str, str]]:
    with open(folder / "history.csv", encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture
def rows_of() -> Callable[[Path], list[dict[str, str]]]:
    """The lines of history.csv in a folder."""
    return read_rows


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder of every test here; what people set to have colours in a pipe is not set."""
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ended]:
    """Run `python -m xpnet.train` with these options, but in this process, and without a report unless it is asked for.

    One takes longer than most of these trainings.
    """

    def run(*options: object) -> Ended:
        capsys.readouterr()
        told = {"--report", "--no-report"} & set(options)
        status = main([str(option) for option in (*(() if told else ("--no-report",)), *options)])
        return Ended(status, *capsys.readouterr())

    return run


@pytest.fixture
def use(capsys: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Run another command in this process: its status, output and errors."""

    def run(command: Any, *arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = command.main([str(argument) for argument in arguments])
        return status, *capsys.readouterr()

    return run


@pytest.fixture
def quiet_json(command: Callable[..., Ended]) -> Callable[..., Ended]:
    """Run the command with --json --quiet; it must end well."""

    def run(*options: object) -> Ended:
        ended = command(*options, "--json", "--quiet")
        assert (ended.status, ended.err) == (0, "")
        return ended

    return run


@pytest.fixture
def real(request: pytest.FixtureRequest) -> Callable[[str], list[str]]:
    """The options that name a real data set, or a skip that names it."""

    def options(name: str) -> list[str]:
        folder = request.getfixturevalue("data_folder")
        if not (folder / FOLDERS[name]).is_dir():
            pytest.skip(f"{name} is not there; put it into {FOLDERS[name]}/ of the folder that XPNET_DATA names")
        return ["--data-dir", str(folder)]

    return options


@pytest.fixture
def blobs() -> tuple[np.ndarray, np.ndarray]:
    """60 samples around three points of the plane, and which of the points."""
    rng = np.random.default_rng(0)
    y = np.arange(60) % 3
    return rng.normal(0, 0.3, (60, 2)) + np.array([[0, 0], [2, 0], [0, 2]])[y], y
