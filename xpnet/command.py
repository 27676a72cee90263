"""What all commands share: how their lines are read, how one is performed, and how its errors are told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Any

from cyclopts import App, CycloptsError

from xpnet.errors import OutOfMemoryError, XpnetError, printable
from xpnet.reporting.streams import steady
from xpnet.signals import noted

BAD_INPUT, OUT_OF_MEMORY, INTERRUPTED = 2, 4, 130
"""Exit statuses."""


def command_line(name: str, *, effect: str, statuses: str) -> App:
    """The app of `python -m xpnet.NAME`, for `perform`, which tells of its errors and of Ctrl-C.

    Args:
        name: Of the command.
        effect: What it does, at the head of --help.
        statuses: What its exit status says, at the end.
    """
    app = App(
        name=f"python -m xpnet.{name}",
        help=effect,
        help_epilogue=f"Exit status: {statuses}",
        version_flags=[],
        suppress_keyboard_interrupt=False,
        result_action="return_value",
    )
    app.meta.suppress_keyboard_interrupt = False  # it does not take this over from the app
    return app


def perform(app: Callable[..., Any], arguments: Sequence[str] | None, *, interrupted: str = "Interrupted.") -> int:
    """Run a command line's app; the exit status, with each error that a user can cause told in one sentence.

    Args:
        app: Of Cyclopts; what it returns is the status, None for 0.
        arguments: None for those of the process.
        interrupted: What to say at Ctrl-C.
    """
    try:
        with steady(), noted() as interrupts:
            return _perform(app, arguments, interrupted, interrupts)
    except KeyboardInterrupt:  # a further one, while the end was told
        return INTERRUPTED


def _perform(app: Callable[..., Any], arguments: Sequence[str] | None, interrupted: str, interrupts: list[int]) -> int:
    try:
        return int(app(arguments, exit_on_error=False, print_error=False) or 0)
    except OutOfMemoryError as error:
        tell(str(error))
        return OUT_OF_MEMORY
    except (CycloptsError, XpnetError) as error:
        tell(" ".join(str(error).split()))
        return BAD_INPUT
    except KeyboardInterrupt:
        tell(interrupted)
        return INTERRUPTED
    except ImportError:
        if not interrupts:
            raise
        tell(interrupted)
        return INTERRUPTED
    except MemoryError:
        tell("This does not fit into memory; take smaller layers, batches or data.")
        return OUT_OF_MEMORY


def tell(sentence: str) -> None:
    """The sentence on standard error; names in it, which may come from a file, cannot command the terminal."""
    print("xpnet:", printable(sentence), file=sys.stderr)
