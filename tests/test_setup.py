"""Importing, packaging and installing."""

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import xpnet
from xpnet.devices import why_no_cuda

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = [
    "scripts/environment.sh",
    "scripts/train",
    "scripts/xpnet",
    "scripts/test",
    "scripts/bench-check",
    "scripts/gpu-check",
    ".ci/run",
]

posix = pytest.mark.skipif(os.name != "posix", reason="the scripts are written for bash")


def run(*command: object, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(part) for part in command], capture_output=True, text=True, **options)


def python(code: str) -> str:
    """What a new interpreter prints when it runs `code`."""
    process = run(sys.executable, "-c", code)
    assert process.returncode == 0, process.stderr
    return process.stdout


# Importing


HEAVY = {"cupy", "cyclopts", "matplotlib", "numba", "nvmath", "pooch", "rich", "scipy", "sklearn"}
ESTIMATORS = {"MLPClassifier", "MLPRegressor", "from_sklearn"}


def test_import_loads_nothing_heavy():
    """This, and not a time that differs from machine to machine, keeps `import xpnet` quick."""
    assert not HEAVY.intersection(python("import sys, xpnet; print(*sys.modules)").split())


def test_every_public_name_exists_and_loads_nothing_heavy():
    names = set(xpnet.__all__) - ESTIMATORS
    loaded = python(f"import sys, xpnet; [getattr(xpnet, name) for name in {names}]; print(*sys.modules)").split()
    assert HEAVY.intersection(loaded) <= {"cyclopts"}  # with which Config is declared


def test_estimators_load_little_beside_scikit_learn():
    theirs = python("import sys; from sklearn.neural_network import MLPClassifier; print(*sys.modules)").split()
    ours = python("import sys; from xpnet import MLPClassifier; print(*sys.modules)").split()
    assert {name.partition(".")[0] for name in set(ours) - set(theirs)} <= {"xpnet", *sys.stdlib_module_names}


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="CuPy is not installed")
@pytest.mark.skipif(why_no_cuda() is None, reason="a GPU works here")
def test_cupy_without_a_gpu_changes_nothing():
    """Installed or even imported, it is not taken, and what NumPy's arrays get is NumPy's."""
    loaded = python("""
import sys
import cupy, numpy, xpnet
assert xpnet.device("auto").name == "cpu"
assert isinstance(xpnet.kernels.relu_forward(numpy.ones(3)), numpy.ndarray)
network = xpnet.MLP((2, 3, 2), device="auto")
xpnet.Trainer(network, epochs=1).fit(numpy.eye(2), numpy.arange(2))
print(*sys.modules)
""").split()
    assert "nvmath" not in loaded
    assert "xpnet.devices.cuda.device" not in loaded


def test_every_module_imports_where_posix_modules_and_cupy_are_missing():
    modules = python("""
import importlib, pkgutil, sys

MISSING = {"cupy", "fcntl", "grp", "pwd", "resource", "termios"}

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in MISSING:
            raise ImportError(f"{name} is not there")

for name in MISSING & set(sys.modules):
    del sys.modules[name]
sys.meta_path.insert(0, Missing())

import xpnet

for module in pkgutil.walk_packages(xpnet.__path__, "xpnet."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
        print(module.name)
""").split()
    assert {"xpnet.train", "xpnet.devices.cuda", "xpnet.kernels"} <= set(modules)


# Packaging


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    reached = run(sys.executable, "-m", "pip", "download", "--no-deps", "--dest", folder / "reached", "hatchling")
    if reached.returncode:
        pytest.skip(f"no package can be fetched here: {reached.stderr.strip().splitlines()[-1]}")
    built = run(sys.executable, "-m", "build", "--wheel", "--outdir", folder, ROOT)
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_wheel_is_pure_and_holds_recipes_and_cuda_sources_but_no_tests(wheel):
    assert wheel.name.endswith("-py3-none-any.whl")
    names = zipfile.ZipFile(wheel).namelist()
    for pattern in ("xpnet/recipes/*.toml", "xpnet/devices/cuda/kernels/*.cu*"):
        files = {path.relative_to(ROOT).as_posix() for path in ROOT.glob(pattern)}
        assert files
        assert files <= set(names)
    assert {name.split("/")[0].split("-")[0] for name in names} == {"xpnet"}


def test_wheel_trains_in_an_empty_environment(wheel, tmp_path):
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    clean = environment / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    empty = tmp_path / "empty"
    empty.mkdir()
    outside = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "XPNET_DATA"}}

    installed = run(clean, "-m", "pip", "install", wheel, cwd=empty, env=outside)
    assert installed.returncode == 0, installed.stdout + installed.stderr
    checked = run(clean, "-m", "pip", "check", cwd=empty, env=outside)
    assert checked.returncode == 0, checked.stdout

    trained = run(clean, "-m", "xpnet.train", "--epochs", 2, "--quiet", "--json", cwd=empty, env=outside)
    assert trained.returncode == 0, trained.stderr
    assert json.loads(trained.stdout.splitlines()[-1])["test_accuracy"] > 0.5
    assert (empty / "runs" / "digits" / "report.html").exists()  # its template came along


# The scripts, in a copy of the repository whose Python is a shell script that writes down how it is called

STAND_IN = r"""#!/bin/sh
echo "$*" >>"$CALLS"
case "$*" in
  *"-m venv"*) mkdir -p "$4/bin" && cp "$0" "$4/bin/python" && echo "version = $VERSION" >"$4/pyvenv.cfg" ;;
  *libcuda*) [ -n "${CUDA:-}" ] && echo "$CUDA" ;;
  *"-m pip install"*"${UNAVAILABLE:-no such package}"*) echo "no matching distribution" && exit 1 ;;
  *"-m pip install"*) sleep "${INSTALLING:-0}" ;;
  *version_info\[:3\]*) echo "$VERSION" ;;
  *ensurepip*) exit "${NO_VENV:-0}" ;;
  *xpnet.train*) pwd && printf '%s\n' "$@" && exit 7 ;;
esac
"""


class Repository:
    """A copy of the scripts with a stand-in for Python."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a repository"
        self.python, self.calls = folder / "python", folder / "calls"
        self.python.write_text(STAND_IN)
        self.python.chmod(0o755)
        shutil.copytree(ROOT / "scripts", self.root / "scripts")
        shutil.copy(ROOT / "pyproject.toml", self.root)

    def command(self, *command: str, **variables: str) -> tuple[list[str], dict[str, str]]:
        stand_in = {"PYTHON": str(self.python), "CALLS": str(self.calls), "VERSION": "3.12.1"}
        return ["bash", str(self.root / command[0]), *command[1:]], os.environ | stand_in | variables

    def run(self, *command: str, cwd: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        self.calls.write_text("")
        arguments, env = self.command(*command, **variables)
        return run(*arguments, cwd=cwd or self.root, env=env)

    @property
    def installed(self) -> list[str]:
        """What pip was asked for since the last `run` began."""
        return [call.split()[-1] for call in self.calls.read_text().splitlines() if "-m pip install" in call]


@pytest.fixture
def repository(tmp_path) -> Repository:
    return Repository(tmp_path)


@posix
@pytest.mark.parametrize("script", SCRIPTS)
def test_script_parses(script):
    assert run("bash", "-n", ROOT / script).returncode == 0
    assert script.endswith(".sh") or os.access(ROOT / script, os.X_OK)


@posix
def test_train_installs_once_and_passes_options_folder_and_exit_code_on(repository, tmp_path):
    first = repository.run("scripts/train", "--name", "two words", cwd=tmp_path)
    assert repository.installed == ["."]
    assert first.stdout.splitlines() == [str(tmp_path), "-P", "-m", "xpnet.train", "--name", "two words"]
    assert first.returncode == 7
    assert len(first.stderr.splitlines()) == 1

    second = repository.run("scripts/train", cwd=tmp_path)
    assert len(repository.calls.read_text().splitlines()) == 1  # Python starts once: to train
    assert (second.returncode, second.stderr) == (7, "")


TEST_EXTRAS = "test,bench" if Path("/proc/driver/nvidia/version").exists() else "test,bench,cuda-sources"


@posix
def test_train_and_test_share_an_environment(repository):
    repository.run("scripts/train")
    repository.run("scripts/test", "tests/data", "-k", "idx")
    assert repository.installed == [f".[{TEST_EXTRAS}]"]
    assert repository.calls.read_text().splitlines()[-1] == "-m pytest tests/data -k idx"
    for command in ["scripts/train", "scripts/test"]:
        repository.run(command)
        assert not repository.installed


@posix
def test_an_added_extra_keeps_the_others(repository):
    repository.run("scripts/test")
    (repository.root / "scripts/search").write_text('source "$(dirname "$0")/environment.sh"\nprepare tune\n')
    repository.run("scripts/search")
    assert repository.installed == [f".[{TEST_EXTRAS},tune]"]
    repository.run("scripts/test")
    assert not repository.installed


@posix
def test_test_stops_at_the_first_failure(repository):
    repository.run("scripts/train")
    stand_in = repository.root / ".venv/bin/python"
    stand_in.write_text(STAND_IN.replace("case", '[ "$2" != mypy ] || exit 3\ncase', 1))
    assert repository.run("scripts/test").returncode == 3
    assert "pytest" not in repository.calls.read_text().splitlines()[-1]


@posix
def test_a_changed_project_a_lost_python_and_a_failed_installation_are_installed_again(repository):
    repository.run("scripts/train")
    with (repository.root / "pyproject.toml").open("a") as project:
        project.write("# changed\n")

    failed = repository.run("scripts/train", UNAVAILABLE="--editable")
    assert failed.returncode == 1
    assert "no matching distribution" in failed.stderr
    repository.run("scripts/train")
    assert repository.installed == ["."]

    repository.run("scripts/test", UNAVAILABLE="--editable")
    repository.run("scripts/train")
    assert repository.installed == ["."]

    (repository.root / ".venv/bin/python").unlink()
    assert repository.run("scripts/train").returncode == 7
    assert repository.installed == ["."]


@posix
@pytest.mark.skipif(
    not shutil.which("flock"), reason="needs flock, without which two starts do not wait for each other"
)
def test_of_two_starts_at_once_one_installs(repository):
    arguments, env = repository.command("scripts/train", INSTALLING="0.5")
    starts = [
        subprocess.Popen(arguments, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)
    ]
    assert [start.wait() for start in starts] == [7, 7]
    assert repository.installed == ["."]


@posix
@pytest.mark.parametrize(
    ("version", "extras"),
    [("", []), ("11080", []), ("12040", [".[cuda12]"]), ("13000", [".[cuda13]"])],
)
def test_the_cuda_extra_follows_the_driver(repository, version, extras):
    started = repository.run("scripts/train", CUDA=version)
    assert repository.installed == [".", *extras]
    assert ("only CUDA 11" in started.stderr) == (version == "11080")


@posix
def test_a_cuda_extra_that_cannot_be_installed_is_tried_once(repository):
    started = repository.run("scripts/train", CUDA="12040", UNAVAILABLE="cuda12")
    assert started.returncode == 7
    assert "so the CPU is used" in started.stderr
    repository.run("scripts/train", CUDA="12040")
    assert not repository.installed


@posix
@pytest.mark.parametrize(
    ("variables", "words"),
    [
        ({"VERSION": "3.9.18"}, ["3.9.18", "3.11 or newer", "PYTHON=/path/to/python3"]),
        ({"PYTHON": "/no/python"}, ["/no/python", "3.11 or newer", "PYTHON=/path/to/python3"]),
        ({"NO_VENV": "1"}, ["no venv module", "python3-venv", "PYTHON=/path/to/python3"]),
    ],
    ids=["old", "none", "without venv"],
)
def test_a_python_that_cannot_be_used_is_named(repository, variables, words):
    refused = repository.run("scripts/train", **variables)
    assert refused.returncode == 2
    assert refused.stdout == ""
    (sentence,) = refused.stderr.splitlines()
    assert all(word in sentence for word in words), sentence
    assert not (repository.root / ".venv").exists()
