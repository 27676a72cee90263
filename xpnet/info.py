"""`python -m xpnet.info`: the devices of this machine, what is fast on each, and why one cannot be used."""

from __future__ import annotations

import platform
import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

import xpnet
from xpnet.command import command_line, perform
from xpnet.devices import Device, device, facts, names
from xpnet.errors import DeviceError

app = command_line(
    "info",
    effect="Print the devices of this machine, what is fast on each, and why one cannot be used.",
    statuses="0 done, 2 bad input, 130 interrupted.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    return perform(app, arguments)


@app.default
def _info() -> None:
    screen = Console(highlight=False)
    screen.print(f"xpnet {xpnet.__version__}, Python {platform.python_version()}, {platform.platform()}")
    for name in names():
        table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
        table.add_column(style="bold", no_wrap=True)
        table.add_column(overflow="fold")
        try:
            opened = device(name)
            words, fast = opened.description, _what_is_fast(opened)
        except DeviceError as error:
            words, fast = f"cannot be used: {error}", ""
        table.add_row(name, Text(words))
        for fact, value in facts(name).items():
            table.add_row("", Text(f"{fact}: {value}"))
        if fast:
            table.add_row("", Text(fast))
        screen.print(table)


def _what_is_fast(device: Device) -> str:
    twins, chains = sorted(device.twins), sorted(device.chains - set(device.twins))
    lines = [f"twins: {', '.join(twins) or 'none, every kernel is its reference'}"]
    if chains:
        lines.append(f"references fused into one kernel each: {', '.join(chains)}")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
