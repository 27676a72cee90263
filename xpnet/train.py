"""`python -m xpnet.train`: train a network from the command line."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, CycloptsError, Group, Parameter
from cyclopts.config import Dict
from rich.console import Console

from xpnet import recipes, run
from xpnet.config import Config, read_settings
from xpnet.devices import device as open_device
from xpnet.devices import why_no_cuda
from xpnet.errors import OutOfMemoryError, XpnetError
from xpnet.gradcheck import TOLERANCE, Agreement
from xpnet.reporting import console

WRONG_GRADIENT, BAD_INPUT = 1, 2
"""Exit statuses; `xpnet.run` has those of a training that ends early."""

_START = Parameter(group=Group("Start from", sort_key=0))

app = App(
    name="python -m xpnet.train",
    help="Train a fully connected network. Without options: the bundled handwritten digits, in a few seconds.",
    help_epilogue="Exit status: 0 done, 1 wrong gradient, 2 bad input, 3 the loss diverged, 4 out of memory, "
    "130 interrupted.",
    version_flags=[],
    result_action="return_value",
    suppress_keyboard_interrupt=False,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    try:
        return int(app.meta(arguments, exit_on_error=False, print_error=False) or 0)
    except OutOfMemoryError as error:
        print("xpnet:", error, file=sys.stderr)
        return run.OUT_OF_MEMORY
    except (CycloptsError, XpnetError) as error:
        print("xpnet:", " ".join(str(error).split()), file=sys.stderr)
        return BAD_INPUT
    except KeyboardInterrupt:
        print("xpnet: Interrupted; what the run had written by then is in its folder.", file=sys.stderr)
        return run.INTERRUPTED
    except MemoryError:
        print("xpnet: This does not fit into memory; take smaller layers, batches or data.", file=sys.stderr)
        return run.OUT_OF_MEMORY


@app.meta.default
def _start(
    *options: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    recipe: Annotated[str | None, _START] = None,
    config: Annotated[Path | None, _START] = None,
) -> int:
    """Lay the command line's options over a recipe or a configuration, then train.

    Args:
        recipe: Take the settings of a recipe, further options on top; "list" tells what there are.
        config: Take the settings of a run's config.toml, further options on top.
    """
    if recipe is not None and config is not None:
        raise XpnetError("recipe: got a recipe and a configuration, expected one of them; leave out the other.")
    if recipe == "list":
        console.print_recipes(Console(), map(recipes.read, recipes.names()))
        return 0
    settings: dict[str, Any] = {}
    if recipe is not None:
        settings = {"name": recipe, **recipes.read(recipe).settings}
    elif config is not None:
        settings = read_settings(config)
    if settings.keys() & {"recipe", "config"}:
        raise XpnetError(f"{config}: a configuration cannot start from a recipe or another one; leave that line out.")
    if any(option.partition("=")[0] == "--epochs" for option in options):
        settings.pop("steps", None)
    app.config = (Dict(settings, source=str(config or f"recipe {recipe}")),)
    try:
        return int(app(options, exit_on_error=False, print_error=False))
    finally:
        app.config = ()


@app.default
def _train(settings: Config = Config()) -> int:  # noqa: B008 - frozen, and the defaults that --help shows
    screen = Console(quiet=settings.quiet)
    device = open_device(
        settings.device, precision=settings.precision, eager=settings.eager, autotune=settings.autotune
    )
    screen.print(f"device {device.description}", highlight=False)
    if settings.device == "auto" and device.name == "cpu":
        screen.print(f"  ({why_no_cuda()})", style="dim", highlight=False, markup=False, soft_wrap=True)
    task = run.prepare(settings, device)
    if settings.gradcheck:
        return _check_gradients(screen, run.check_gradients(task), as_json=settings.json)
    watching = [console.Heading(screen, task), console.watch(screen)]
    result = run.run(task, watching, preparing=console.preparing(screen))
    console.print_result(screen, result)
    if settings.json:
        print(json.dumps(result.flat()))
    if result.problem:
        print("xpnet:", result.problem, file=sys.stderr)
    return result.status


def _check_gradients(screen: Console, agreements: list[Agreement], *, as_json: bool) -> int:
    console.print_agreement(screen, agreements)
    wrong = [agreement for agreement in agreements if not agreement.good]
    if as_json:
        print(json.dumps({"gradcheck": [dataclasses.asdict(agreement) for agreement in agreements], "good": not wrong}))
    if not wrong:
        return 0
    errors = ", ".join(f"{agreement.name} by {agreement.relative_error:.1e}" for agreement in wrong)
    print(f"xpnet: gradients are off, expected at most {TOLERANCE:.0e}: {errors}.", file=sys.stderr)
    return WRONG_GRADIENT


if __name__ == "__main__":
    sys.exit(main())
