"""Runs of the command that start at once: a process that has imported everything forks for each of them.

What a forked run does is `python -m xpnet.train`, from the first line of that module to the last; a signal or a limit
strikes it as it would strike any process. It differs in that imports and compiled kernels are there already, and that
the interpreter is not taken apart in the end, which saves three seconds a run. A fresh run has nothing of that: it is
forked and then executes Python anew.

The file is both sides: the module that tests import, and the program that serves them.
"""

from __future__ import annotations

import atexit
import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

MESSAGE = 2**18
"""Bytes of a request at the most."""

STANDARD = (0, 1, 2)


class Run:
    """One run of the command.

    Attributes:
        pid: Of its process.
        began, ended: When, by `time.monotonic`.
        wrote: The files of its stdout and stderr, where there are any.
    """

    def __init__(self, pid: int, ending: int, began: float) -> None:
        self.pid, self.began, self.ended = pid, began, began
        self.wrote: tuple[Path, ...] = ()
        self._ending, self._status = ending, None

    def strike(self, number: int) -> None:
        """Send a signal, if it still runs."""
        with contextlib.suppress(ProcessLookupError):
            if self.wait(0) is None:
                os.kill(self.pid, number)

    def stop(self) -> None:
        """Let it stand still until SIGCONT; returns when all its threads do, which may be busy with the disk before."""
        self.strike(signal.SIGSTOP)
        with contextlib.suppress(OSError):  # it has ended
            while self.wait(0.001) is None:
                states = [
                    task.read_text().rpartition(")")[2][1] for task in Path(f"/proc/{self.pid}/task").glob("*/stat")
                ]
                if set(states) <= {"T"}:
                    return

    def wait(self, seconds: float) -> int | None:
        """Its exit status, that of a signal being negative; None if it still runs after so many seconds."""
        if self._status is None:
            poll = select.poll()
            poll.register(self._ending, select.POLLIN)
            if not poll.poll(max(0.0, seconds) * 1000):
                return None
            told = os.read(self._ending, 64)
            os.close(self._ending)
            if not told:
                raise RuntimeError("the process that forks runs has ended; look at what it wrote to stderr")
            self._status, self.ended = json.loads(told)
        return self._status


class Forks:
    """The process that forks runs; close it in the end.

    Args:
        folder: An empty one, for what it does to get warm.
        warm: Options of trainings after which imports and kernels are there.
    """

    def __init__(self, folder: Path, warm: Sequence[Sequence[str]]) -> None:
        folder.mkdir(parents=True)
        self._channel, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._channel.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, MESSAGE)
        self._lock = threading.Lock()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), str(folder), json.dumps(list(map(list, warm)))],
                env=environment(threads=1),  # a BLAS of more would have threads when it forks
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,  # Ctrl-C in a terminal is for the harness alone
            )
        if not self._channel.recv(MESSAGE):
            raise RuntimeError("the process that forks runs did not get warm; look at what it wrote to stderr")

    def start(
        self,
        arguments: Sequence[str],
        *,
        streams: Sequence[int],
        threads: int = 1,
        fresh: bool = False,
        closed: Sequence[int] = (),
        memory: int | None = None,
        file_size: int | None = None,
    ) -> Run:
        """Start `python -m xpnet.train`.

        Args:
            arguments: Of the command.
            streams: Open files that become its stdin, stdout and stderr.
            threads: That the BLAS may have; more than one in a fresh run only.
            fresh: Execute Python anew.
            closed: Which of stdin, stdout and stderr are closed, in a fresh run only.
            memory: Bytes of address space that it may take beyond those that it begins with.
            file_size: Bytes that a file may have.
        """
        assert fresh or (threads == 1 and not closed)
        request = {
            "arguments": list(arguments),
            "environment": environment(threads=threads),
            "fresh": fresh,
            "closed": list(closed),
            "memory": memory,
            "file_size": file_size,
        }
        ours, theirs = os.pipe()
        try:
            with self._lock:
                began = time.monotonic()
                socket.send_fds(self._channel, [json.dumps(request).encode()], [*streams, theirs])
                pid = self._channel.recv(MESSAGE)
        finally:
            os.close(theirs)
        if not pid:
            raise RuntimeError("the process that forks runs has ended; look at what it wrote to stderr")
        return Run(int(pid), ours, began)

    def close(self) -> None:
        """End the process; runs that still go on do so."""
        self._channel.close()
        self._process.wait()


def environment(*, threads: int) -> dict[str, str]:
    """The present one, with that many threads for the BLAS; a process that is aborted shows where it is."""
    names = ("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS")
    arrow = {"JE_ARROW_MALLOC_CONF": "background_thread:false"}  # pandas brings it, and a fork would take its thread
    told = {"PYTHONFAULTHANDLER": "1", "RUST_BACKTRACE": "0"}
    return {**os.environ, **dict.fromkeys(names, str(threads)), **arrow, **told}


def _warm_up(folder: str, trainings: Sequence[Sequence[str]]) -> None:
    from xpnet.train import main

    for number, options in enumerate(trainings):
        out = f"{folder}/{number}"
        status = main([*options, "--out", out, "--quiet"]) or main(["--resume", out, "--quiet"])
        if status:
            sys.exit(f"warming up ended with status {status}: {' '.join(options)}")


def _serve(channel: socket.socket) -> None:
    """Fork for each request; returns in the run that was forked."""
    running: dict[int, tuple[int, int]] = {}  # by the descriptor of the process: its id, and where its status goes
    poll = select.poll()
    poll.register(channel, select.POLLIN)
    while True:
        for ready, _ in poll.poll():
            if ready in running:
                pid, ending = running.pop(ready)
                poll.unregister(ready)
                status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
                with contextlib.suppress(BrokenPipeError):
                    os.write(ending, json.dumps([status, time.monotonic()]).encode())
                os.close(ready)
                os.close(ending)
                continue
            message, files, _, _ = socket.recv_fds(channel, MESSAGE, len(STANDARD) + 1)
            if not message:
                sys.exit(0)
            if (threads := len(os.listdir("/proc/self/task"))) != 1:
                sys.exit(f"the process that forks runs has {threads} threads, of which a fork would take one along")
            *streams, ending = files
            pid = os.fork()
            if pid == 0:
                for file in (channel.detach(), ending, *running, *(ending for _, ending in running.values())):
                    os.close(file)
                _become(json.loads(message), streams)
                return
            for file in streams:
                os.close(file)
            process = os.pidfd_open(pid)
            running[process] = pid, ending
            poll.register(process, select.POLLIN)
            channel.send(str(pid).encode())


def _become(request: dict[str, Any], streams: Sequence[int]) -> None:
    """Make this process the one of a run."""
    for file, number in zip(streams, STANDARD, strict=True):
        os.dup2(file, number)
        os.close(file)
    for number in request["closed"]:
        os.close(number)
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background processes ignore it,
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # and those of nohup this one
    if request["memory"] is not None:
        with open("/proc/self/statm") as file:
            taken = int(file.read().split()[0]) * resource.getpagesize()
        _limit(resource.RLIMIT_AS, taken + request["memory"])
    if request["file_size"] is not None:
        _limit(resource.RLIMIT_FSIZE, request["file_size"])
    _limit(resource.RLIMIT_CORE, 0)
    if request["fresh"]:
        command = [sys.executable, "-m", "xpnet.train", *request["arguments"]]
        os.execve(sys.executable, command, request["environment"])
    sys.argv = ["xpnet.train", *request["arguments"]]


def _limit(what: int, value: int) -> None:
    resource.setrlimit(what, (value, value))


if __name__ == "__main__":
    import runpy

    served = socket.socket(fileno=int(sys.argv[1]))
    _warm_up(sys.argv[2], json.loads(sys.argv[3]))
    served.send(b"warm")
    _serve(served)
    sys.modules.pop("xpnet.train")  # which is now run as a program
    status: Any = 0
    try:
        runpy.run_module("xpnet.train", run_name="__main__", alter_sys=True)
    except SystemExit as end:
        status = end.code
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    os._exit(status if isinstance(status, int) else 1)
