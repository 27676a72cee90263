"""Well-known small training systems as TOML files; `python -m xpnet.train --recipe list` tells of them."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from xpnet.errors import one_of

_FOLDER = resources.files(__name__)


@dataclass(frozen=True)
class Recipe:
    """A named collection of settings.

    Attributes:
        name: Of the file.
        expect: What it reaches.
        settings: By the names of `Config`.
    """

    name: str
    expect: str
    settings: dict[str, Any]

    @property
    def data(self) -> str:
        """What it is trained on."""
        return str(self.settings.get("data", "a table of yours"))

    @property
    def network(self) -> str:
        """Hidden layers and activation, in short."""
        return f"{'-'.join(map(str, self.settings['hidden']))} {self.settings['activation']}"


def names() -> list[str]:
    """The recipes there are."""
    return sorted(Path(file.name).stem for file in _FOLDER.iterdir() if file.name.endswith(".toml"))


def read(name: str) -> Recipe:
    """The recipe of that name.

    Raises:
        XpnetError: There is none; the message names those that there are.
    """
    one_of("recipe", name, [*names(), "list"])
    document = tomllib.loads(_FOLDER.joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    return Recipe(name, document["expect"], document["settings"])
