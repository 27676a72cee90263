"""`python -m xpnet.compare`: runs side by side, as a table and a plot."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from xpnet import comparison
from xpnet.command import command_line, perform, tell
from xpnet.errors import XpnetError
from xpnet.files import write_whole
from xpnet.folder import RUNS
from xpnet.reporting import side_by_side

_FLAG = Parameter(negative="", show_default=False)

PLOTS = {".html": lambda compared: side_by_side.page(compared).encode(), ".png": side_by_side.picture}

app = command_line(
    "compare",
    effect="Runs side by side: the settings in which they differ, what came of each, and how fast it was.",
    statuses="0 done, 2 bad input, 130 interrupted.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    return perform(app, arguments)


@app.default
def _compare(
    *runs: str,
    sort: str | None = None,
    out: Path | None = None,
    overwrite: Annotated[bool, _FLAG] = False,
    json_: Annotated[bool, Parameter(name="--json"), _FLAG] = False,
) -> None:
    """Print a table, and draw the curves of all runs into a file.

    Args:
        runs: Folders of runs; by custom all in runs.
        sort: By val_accuracy, test_loss, seconds, ...; by custom the metric on the validation set, where there is one.
        out: Draw the curves: compare.html, to look at in a browser, or compare.png.
        overwrite: Write --out even if it is there already.
        json_: Print one line of JSON in place of the table.
    """
    if out is not None:
        _check(out, overwrite=overwrite)
    compared = comparison.compare(runs or (RUNS,), sort=sort, tell=tell)
    if out is not None:
        try:
            write_whole(out, PLOTS[out.suffix.lower()](compared))
        except OSError as error:
            raise XpnetError(f"out: {out} cannot be written ({error.strerror}); name another file.") from error
    if json_:
        print(json.dumps({"sorted_by": compared.sorted_by, "runs": compared.flat()}))
        return
    screen = Console()
    is_narrow = screen.is_terminal or "COLUMNS" in os.environ
    side_by_side.print_comparison(screen, compared, width=screen.width if is_narrow else None)
    if out is not None:
        screen.print(f"\n{out}", soft_wrap=True, highlight=False, markup=False)


def _check(out: Path, *, overwrite: bool) -> None:
    if out.suffix.lower() not in PLOTS:
        raise XpnetError(f"out: got {out}, expected a name that ends in {' or '.join(PLOTS)}; choose one of them.")
    if out.exists() and not overwrite:
        raise XpnetError(f"out: {out} is there already; choose another file, or add --overwrite.")
    if not out.parent.is_dir():
        raise XpnetError(f"out: there is no folder {out.parent}; make it, or name a file in another one.")


if __name__ == "__main__":
    sys.exit(main())
