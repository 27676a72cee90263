"""Pages that stand alone: what they are made from, and the plots in them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from jinja2 import Template

COLOURS = ("#4c8bd0", "#e8695a", "#3fa66b", "#b07cc6", "#c99a2e", "#4fb3bf", "#d56ca5", "#8a9a5b", "#9c755f", "#7f7f9f")
"""Of what is drawn into one plot, on light and on dark."""

GREY = "#808080"
"""Of axes and grids, on both."""


@functools.cache
def template(package: str, name: str, **filters: Callable[[Any], str]) -> Template:
    """A template of a package; what it is given is escaped, and must all be there."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(filters)
    return environment.get_template(name)


def embed(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Where each plot is to be, what draws them, and the library that this needs: markup, not to be escaped."""
    from bokeh.document import Document
    from bokeh.embed import components
    from bokeh.resources import Resources
    from markupsafe import Markup

    if not figures:
        return {"plots": {}, "drawing": "", "library": ""}
    document = Document()
    with document.models.freeze():  # else all models are looked through for each of the plots
        for figure in figures.values():
            document.add_root(figure)
    drawing, places = components(dict(figures))
    library = Resources(mode="inline", components=["bokeh"]).render_js()
    return {
        "plots": {name: Markup(place) for name, place in places.items()},
        "drawing": Markup(drawing),
        "library": Markup(library),
    }


def spread(size: int, most: int) -> np.ndarray:
    """Up to so many places from 0 to size - 1, evenly spread."""
    return np.linspace(0, size - 1, min(size, most)).astype(np.int64)
