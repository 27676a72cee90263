"""Test and measure everything on a GPU, where nothing can be downloaded: scripts/gpu-check [--out DIR] [--minutes 9]

Each part is a process with its own share of the time; whatever becomes of it, the others run and DIR/report.json and
DIR/report.md are written anew after each. Exit status: 0 all passed, 1 something failed, 2 there is no GPU.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.util
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.gpu.notes import NoGpuError, Notes, dumps, write_whole
from bench.gpu.report import goals, markdown

ROOT = Path(__file__).resolve().parent.parent
PASSED, FAILED, NO_GPU = 0, 1, 2
MINUTES, ENDING = 9.0, 12.0
GRACE = 4.0
"""Seconds beyond its share after which a part is killed: it knows its share and ends in time."""

TAIL = 8000
"""Characters of a part's output that the report keeps; output.log has all."""


@dataclass(frozen=True)
class Part:
    """A part of the check.

    Attributes:
        run: module:function, called with `Notes` in a process of its own.
        seconds: Its share where there are 9 minutes; what earlier parts leave comes on top.
    """

    name: str
    run: str
    seconds: float


PARTS = (
    Part("facts", "bench.gpu.facts:run", 25),
    Part("tests", "bench.gpu.tests:run", 130),
    Part("throughput", "bench.gpu.race:run", 100),
    Part("mnist", "bench.gpu.mnist:run", 45),
    Part("ceilings", "bench.gpu.ceilings:run", 25),
    Part("kernels", "bench.gpu.kernels:run", 50),
    Part("memory", "bench.gpu.memory:run", 25),
    Part("compiled", "bench.gpu.race:run_compiled", 120),
)

VERDICTS = {PASSED: "Everything passed.", FAILED: "Something failed."}
EAGER_ONLY = "Eager only, does not count: "
"""The beginning of the report's first line, where cuBLASLt cannot be used."""


class UnwritableError(Exception):
    """The report cannot be written where it should go."""


def check(parts: Sequence[Part], out: Path, *, minutes: float = MINUTES) -> int:
    """Run the parts one after the other and keep the report; the exit status.

    Raises:
        UnwritableError: There is no place for the report.
    """
    report: dict[str, Any] = {"headline": "", "verdict": "Not yet at its end.", "minutes": minutes, "parts": {}}
    if importlib.util.find_spec("nvmath") is None:
        report["headline"] = EAGER_ONLY + "nvmath-python is missing, without which xpnet records nothing on a GPU."
    begin(out, report)
    if report["headline"]:
        print(report["headline"], flush=True)
    until = time.monotonic() + 60 * minutes - ENDING
    shares = {part.name: part.seconds * minutes / MINUTES for part in parts}
    status = PASSED
    for i, part in enumerate(parts):
        kept = sum(shares[later.name] for later in parts[i + 1 :])
        # Of a time that is too short for all, the first parts take their shares.
        limit = min(until - time.monotonic(), max(shares[part.name], until - time.monotonic() - kept))
        print(f"{part.name}: up to {limit:.0f} s", flush=True)
        record = report["parts"][part.name] = run_part(part, out, limit)
        if record["status"] == "no GPU":
            print(f"{part.name}: no GPU", flush=True)
            left = {"status": "not run", "seconds": 0.0, "why": "no GPU", "found": {}}
            report["parts"] |= {later.name: dict(left) for later in parts[i + 1 :]}
            status, report["verdict"] = NO_GPU, record["why"]
            break
        print(f"{part.name}: {record['status']} after {record['seconds']:.0f} s. {record['why']}", flush=True)
        if record["status"] != "passed":
            status = FAILED
        if record["found"].get("eager_only") and not report["headline"]:
            report["headline"] = EAGER_ONLY + record["found"]["eager_only"]
            print(report["headline"], flush=True)
        write(out, report)
    else:
        report["verdict"] = VERDICTS[status]
    write(out, report)
    print(f"{report['verdict']} {out / 'report.md'}", flush=True)
    return status


def begin(out: Path, report: dict[str, Any]) -> None:
    """The folder, with all files."""
    with _written_to(out):
        out.mkdir(parents=True, exist_ok=True)
        (out / "output.log").write_text("", encoding="utf-8")
    write(out, report)


def write(out: Path, report: dict[str, Any]) -> None:
    """Both files."""
    report["goals"] = [asdict(goal) | {"verdict": goal.verdict} for goal in goals(report["parts"])]
    with _written_to(out):
        write_whole(out / "report.json", dumps(report))
        write_whole(out / "report.md", markdown(json.loads(dumps(report))))


@contextlib.contextmanager
def _written_to(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise UnwritableError(f"--out: {out} cannot be written ({error.strerror or error})") from error


def run_part(part: Part, out: Path, seconds: float) -> dict[str, Any]:
    """One part in a process of its own, which ends with all that it started; what it found and how it ended."""
    if seconds < 1:
        return {"status": "not run", "seconds": 0.0, "why": "the time was up", "found": {}, "wrong": [], "output": ""}
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        path, log = Path(folder) / "found.json", Path(folder) / "output.log"
        command = [sys.executable, "-m", "bench.gpu_check", "--part", part.run, "--json", str(path)]
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [*command, "--seconds", f"{seconds:.1f}"],
                cwd=ROOT,
                env={**os.environ, "PYTHONPATH": _path(), "PYTHONUNBUFFERED": "1"},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            try:
                status: int | None = process.wait(seconds + GRACE)
            except subprocess.TimeoutExpired:
                status = None
            finally:
                _kill_group(process)
        output = log.read_text(encoding="utf-8", errors="replace")
        with _written_to(out), (out / "output.log").open("a", encoding="utf-8") as stream:
            stream.write(f"===== {part.name}\n{output}\n")
        findings = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    lasted = time.monotonic() - start
    how, why = _ending(status, lasted, findings, output)
    return {
        "status": how,
        "seconds": lasted,
        "why": why,
        "found": findings.get("found", {}),
        "wrong": findings.get("wrong", []),
        "output": output[-TAIL:],
    }


def _path() -> str:
    """Where Python looks: the repository first, then what the caller set."""
    return os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """The process and all that it started."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _ending(status: int | None, lasted: float, findings: dict[str, Any], output: str) -> tuple[str, str]:
    """The outcome, and why."""
    wrong = findings.get("wrong", [])
    if status is None:
        return "killed", f"it was not done after {lasted:.0f} s"
    if status == NO_GPU:
        return "no GPU", wrong[0] if wrong else "there is no GPU"
    if status == PASSED:
        return "passed", ""
    if wrong:
        more = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        return "failed", f"{wrong[0][:300]}{more}"
    last = output.strip().splitlines()[-1:] or [""]
    return "failed", f"it ended with status {status}: {last[0][:300]}"


def live(run: str, path: Path, seconds: float) -> int:
    """The life of a part's process; its exit status."""
    notes = Notes(path, seconds)
    module, _, function = run.partition(":")
    try:
        getattr(importlib.import_module(module), function)(notes)
    except NoGpuError as reason:
        notes.wrong.append(str(reason))
        notes.save()
        return NO_GPU
    except Exception as error:  # written down, whatever it is
        traceback.print_exc()
        notes.wrong.append(f"{type(error).__name__}: {error}")
    notes.save()
    return FAILED if notes.wrong else PASSED


def main(arguments: Sequence[str] | None = None) -> int:
    """The command; its exit status."""
    parser = argparse.ArgumentParser(
        prog="scripts/gpu-check", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [part.name for part in PARTS]
    parser.add_argument("--out", type=Path, default=Path("build/gpu-check"), help="folder of the report")
    parser.add_argument("--minutes", type=_minutes, default=MINUTES, help="for all of it")
    parser.add_argument("--only", nargs="+", choices=names, metavar="PART", help=f"some of {', '.join(names)}")
    for hidden in ("--part", "--json", "--seconds"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.part:
        return live(options.part, Path(options.json), float(options.seconds))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(FAILED))  # no part must outlive the command
    chosen = [part for part in PARTS if options.only is None or part.name in {"facts", *options.only}]
    try:
        return check(chosen, options.out.absolute(), minutes=options.minutes)
    except UnwritableError as error:
        parser.error(str(error))


def _minutes(text: str) -> float:
    try:
        minutes = float(text)
    except ValueError:
        minutes = math.nan
    if not 0 < minutes < math.inf:
        raise argparse.ArgumentTypeError(f"got {text}, expected a number above 0")
    return minutes


if __name__ == "__main__":
    sys.exit(main())
