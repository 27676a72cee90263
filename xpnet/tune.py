"""`python -m xpnet.tune`: search for settings that do best on the validation set."""

from __future__ import annotations

import contextlib
import json
import math
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Annotated

from cyclopts import Group, Parameter
from rich.console import Console

from xpnet import recipes
from xpnet.checkpoint import Every
from xpnet.command import INTERRUPTED, command_line, perform, tell
from xpnet.config import UNUSED_IN_SEARCH, Config, SearchConfig
from xpnet.errors import XpnetError
from xpnet.options import begin, lay_over
from xpnet.reporting import console
from xpnet.reporting import search as printing
from xpnet.tuning import Search, run

_SEARCH = Parameter(group=Group("Search", sort_key=0))

app = command_line(
    "tune",
    effect="Search for settings by Optuna: hidden layers, activation, learning rate and more, but for those that are "
    "given here. The same command again goes on with what was broken off.",
    statuses="0 done or out of time, 2 bad input, 130 interrupted.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    return perform(app.meta, arguments)


@app.meta.default
def _start(
    *options: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    trials: Annotated[int, _SEARCH] = 50,
    timeout: Annotated[str | None, _SEARCH] = None,
    jobs: Annotated[int, _SEARCH] = 1,
    study: Annotated[Path | None, _SEARCH] = None,
    metric: Annotated[str | None, _SEARCH] = None,
    recipe: Annotated[str | None, _SEARCH] = None,
    config: Annotated[Path | None, _SEARCH] = None,
) -> int:
    """Lay the command line's options over a recipe or a configuration, then search.

    Args:
        trials: So many in all, those of earlier calls included.
        timeout: Stop after this time: 30s, 10m, 2h.
        jobs: Processes that train side by side, each with its part of the processors.
        study: The database file that remembers the search (SQLite); by custom runs/tune-NAME.db.
        metric: What is searched for: val_accuracy, val_mse or val_loss; by custom what the training monitors.
        recipe: Start from the settings of a recipe; "list" tells what there are.
        config: Start from the settings of a run's config.toml.
    """
    if recipe == "list" and config is None:
        console.print_recipes(Console(), map(recipes.read, recipes.names()))
        return 0
    beginning = begin(recipe, config)
    asked = lay_over(app, options, beginning)
    for name in sorted(asked.by_hand & UNUSED_IN_SEARCH):
        raise XpnetError(f"{name}: got it for a search, whose trainings leave nothing behind; leave it out.")
    settings = Config(**vars(asked.config))
    given = beginning.settings.keys()
    search = Search.of(settings, by_hand=asked.by_hand, given=given, study=study, metric=metric)
    screen = Console(quiet=settings.quiet)
    outcome = run(
        search,
        count=trials,
        jobs=jobs,
        seconds=math.inf if timeout is None else _seconds(timeout),
        out=None if settings.out is None else Path(settings.out),
        on_start=partial(printing.print_heading, screen),
        on_trial=partial(printing.print_trial, screen),
    )
    printing.print_outcome(screen, outcome)
    if settings.json:
        print(json.dumps(outcome.flat()))
    if outcome.finished < trials:
        tell(
            f"{outcome.stopped.capitalize()} after {outcome.finished} of {trials} trials, which are kept; the same "
            "command goes on."
        )
    return INTERRUPTED if outcome.stopped == "interrupted" else 0


@app.default
def _settings(settings: SearchConfig = SearchConfig()) -> SearchConfig:  # noqa: B008 - frozen, and the defaults that --help shows
    return settings


def _seconds(timeout: str) -> float:
    with contextlib.suppress(XpnetError):
        if seconds := Every.of(timeout).seconds:
            return seconds
    raise XpnetError(f'timeout: got "{timeout}", expected a time: 30s, 10m or 2h.')


if __name__ == "__main__":
    sys.exit(main())
