"""Chromium without a window, driven through its own protocol by a pair of pipes: nothing else has to be installed."""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import shutil
import signal
from pathlib import Path
from types import TracebackType
from typing import Any

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
PROMISED = 20.0
"""Seconds of the page's own time that an expression may take until it becomes true."""


def find() -> str | None:
    """The program, if it is there."""
    return next((path for name in NAMES if (path := shutil.which(name))), None)


class Chromium:
    """A page in it.

    Attributes:
        complaints: What the page's scripts complained of: errors, warnings, and what nobody caught.
        requests: Addresses that were asked for, but for the page and what is within it.
    """

    def __init__(self, program: str, profile: Path) -> None:
        asked, self._out = os.pipe()
        self._in, answered = os.pipe()
        null = os.open(os.devnull, os.O_RDWR)
        options = ["--headless=new", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe", "--no-first-run"]
        options += ["--hide-scrollbars", "--disable-dev-shm-usage", f"--user-data-dir={profile}"]
        ends = [fcntl.fcntl(end, fcntl.F_DUPFD_CLOEXEC, 10) for end in (null, null, null, asked, answered)]
        moved = [(os.POSIX_SPAWN_DUP2, end, number) for number, end in enumerate(ends)]  # the protocol's are 3 and 4
        arguments = [program, *options, "about:blank"]
        self._process = os.posix_spawn(program, arguments, os.environ, file_actions=moved, setpgroup=0)
        for end in (*ends, null, asked, answered):
            os.close(end)
        self._numbers, self._rest = itertools.count(1), b""
        self._session: str | None = None
        self.complaints: list[str] = []
        self.requests: list[str] = []
        page = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.send("Target.attachToTarget", targetId=page, flatten=True)["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def __enter__(self) -> Chromium:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        os.killpg(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._out)
        os.close(self._in)

    def send(self, method: str, **parameters: Any) -> Any:
        """A command of the protocol; its result."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        if self._session is not None:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._read()
            if answer.get("id") == number:
                assert "error" not in answer, answer["error"]
                return answer["result"]
            self._note(answer)

    def open(self, path: Path, *, width: int, height: int = 900, dark: bool = False) -> None:
        """Show a file as on a screen of that size, until it is loaded."""
        self.complaints, self.requests = [], []
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])
        self.send("Page.navigate", url=path.as_uri())
        self.until("document.readyState === 'complete'")

    def evaluate(self, expression: str) -> Any:
        """The value of JavaScript, awaited if it is a promise."""
        result = self.send("Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in result, result["exceptionDetails"]
        return result["result"].get("value")

    def until(self, condition: str) -> None:
        """Wait for it to become true."""
        script = f"""new Promise((done) => {{
            const end = performance.now() + {1000 * PROMISED};
            const look = () => {{
                if (({condition}) || performance.now() > end) done({condition});
                else setTimeout(look, 10);
            }};
            look();
        }})"""
        assert self.evaluate(script), f"this did not become true: {condition}"

    def move_to(self, x: float, y: float) -> None:
        """Move the pointer there."""
        self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """Press the left button, move, let it go."""
        left = {"button": "left", "buttons": 1, "clickCount": 1}
        self.send("Input.dispatchMouseEvent", type="mousePressed", x=start[0], y=start[1], **left)
        for part in (0.3, 0.7, 1.0):
            x, y = (a + part * (b - a) for a, b in zip(start, end, strict=True))
            self.send("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y, button="left", buttons=1)
        self.send("Input.dispatchMouseEvent", type="mouseReleased", x=end[0], y=end[1], **left)

    def picture(self) -> str:
        """The whole page as a PNG, base64."""
        return str(self.send("Page.captureScreenshot", captureBeyondViewport=True)["data"])

    def _read(self) -> Any:
        while b"\0" not in self._rest:
            more = os.read(self._in, 2**20)
            assert more, "Chromium has ended"
            self._rest += more
        message, _, self._rest = self._rest.partition(b"\0")
        return json.loads(message)

    def _note(self, event: Any) -> None:
        method, said = event.get("method"), event.get("params", {})
        if method == "Runtime.consoleAPICalled" and said["type"] in ("error", "warning", "assert"):
            self.complaints.append(str([argument.get("value") for argument in said["args"]]))
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(str(said["exceptionDetails"].get("exception", said["exceptionDetails"])))
        elif method == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.complaints.append(said["entry"]["text"])
        elif method == "Network.requestWillBeSent" and not said["request"]["url"].startswith(("file:", "data:")):
            self.requests.append(said["request"]["url"])
