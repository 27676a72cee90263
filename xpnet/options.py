"""Options of a command line, laid over the settings of a recipe or of a configuration."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cyclopts import App, ArgumentCollection
from cyclopts.config import Dict

from xpnet import recipes
from xpnet.config import Config
from xpnet.errors import XpnetError
from xpnet.settings import read_settings


@dataclass(frozen=True)
class Beginning:
    """What options are laid over.

    Attributes:
        settings: By the names of `Config`.
        source: What they are called in messages.
    """

    settings: dict[str, Any]
    source: str


@dataclass(frozen=True)
class Asked:
    """What a command line asks for.

    Attributes:
        config: All settings.
        by_hand: The names of those that are options of the command line itself.
    """

    config: Config
    by_hand: frozenset[str]


def begin(recipe: str | None, config: Path | None) -> Beginning:
    """The settings of a recipe, or of a configuration, or none."""
    if recipe is not None and config is not None:
        raise XpnetError("recipe: got a recipe and a configuration, expected one of them; leave out the other.")
    settings: dict[str, Any] = {}
    if recipe is not None:
        settings = {"name": recipe, **recipes.read(recipe).settings}
    elif config is not None:
        settings = read_settings(config)
    if settings.keys() & {"recipe", "config", "resume"}:
        raise XpnetError(f"{config}: a configuration cannot start from a recipe or another one; leave that line out.")
    return Beginning(settings, str(config or f"recipe {recipe}"))


def lay_over(app: App, options: Sequence[str], beginning: Beginning) -> Asked:
    """The options laid over the settings; epochs over steps.

    Args:
        app: Takes a `Config` and returns it.
        options: Of the command line.
        beginning: What they are laid over.
    """
    by_hand: set[str] = set()

    def add_settings(app: App, commands: tuple[str, ...], arguments: ArgumentCollection) -> None:
        by_hand.update(argument.keys[0] for argument in arguments if argument.tokens)
        replaced = {"steps"} if "epochs" in by_hand else set()
        settings = {name: value for name, value in beginning.settings.items() if name not in replaced}
        Dict(settings, source=beginning.source)(app, commands, arguments)

    app.config = (add_settings,)
    try:
        config: Config = app(options, exit_on_error=False, print_error=False)
    finally:
        app.config = ()
    return Asked(config, frozenset(by_hand))
