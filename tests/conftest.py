"""Which tests run, and what several of them need."""

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from xpnet.devices import why_no_cuda

LEFT_OUT = pytest.StashKey[list[str]]()
_why_no_cuda = functools.cache(why_no_cuda)


def pytest_configure() -> None:
    """Heed the signals that a shell's "&" and nohup make their commands ignore: tests send them to what they start."""
    for name, handler in (("SIGINT", signal.default_int_handler), ("SIGHUP", signal.SIG_DFL)):
        number = getattr(signal, name, None)
        if number is not None and signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, handler)


@pytest.hookimpl(trylast=True)  # after pytest's own -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip gpu tests where there is no GPU; leave slow ones out, unless -m was given or their node id was."""
    for item in items:
        if item.get_closest_marker("gpu") and (reason := _why_no_cuda()):
            item.add_marker(pytest.mark.skip(reason=reason))

    left_out = [item for item in items if item.get_closest_marker("slow") and not _asked_for(item)]
    config.stash[LEFT_OUT] = [item.nodeid for item in left_out]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in left_out]


def _asked_for(item: pytest.Item) -> bool:
    if item.config.option.markexpr:
        return True
    name = item.nodeid.partition("::")[2]
    asked = (argument.partition("::") for argument in item.config.args)
    start = item.config.invocation_params.dir
    return any(test and name.startswith(test) and (start / file).resolve() == item.path for file, _, test in asked)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Name the slow tests that were left out, and the command that runs them."""
    if left_out := config.stash.get(LEFT_OUT, []):
        terminalreporter.section("slow tests left out; to run them: scripts/test -m slow")
        for name in left_out:
            terminalreporter.line(name)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Where tests run side by side, what the workers left out is told by the process that they work for."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = session.config.stash.get(LEFT_OUT, [])


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any, error: object) -> None:
    """All workers leave out the same."""
    node.config.stash[LEFT_OUT] = node.workeroutput["left_out"] if error is None else []


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of the real data sets."""
    folder = os.environ.get("XPNET_DATA")
    if not folder:
        pytest.skip("XPNET_DATA is not set; it names the folder of mnist/, fashion-mnist/ and cifar-10-batches-py/")
    return Path(folder).absolute()


@pytest.fixture
def train(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run `python -m xpnet.train` with these options in an empty folder, without a report."""

    def run(
        *options: object, env: dict[str, str] | None = None, timeout: float | None = None
    ) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "xpnet.train", "--no-report", *map(str, options)]
        environment = os.environ | (env or {})
        return subprocess.run(command, cwd=tmp_path, env=environment, timeout=timeout, capture_output=True, text=True)

    return run
