"""`python -m xpnet.train`: train a network from the command line."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Group, Parameter
from rich.console import Console

from xpnet import folder, recipes, resuming, run
from xpnet.command import command_line, perform, tell
from xpnet.config import Config
from xpnet.devices import cost_of_determinism, why_no_cuda
from xpnet.gradcheck import TOLERANCE, Agreement
from xpnet.options import Beginning, begin, lay_over
from xpnet.reporting import console
from xpnet.task import open_device, prepare

WRONG_GRADIENT = 1
"""An exit status; `xpnet.command` has others, `xpnet.run.STATUS` those of a training that ends early."""

_START = Parameter(group=Group("Start from", sort_key=0))

app = command_line(
    "train",
    effect="Train a fully connected network. Without options: the bundled handwritten digits, in a few seconds.",
    statuses="0 done, 1 wrong gradient, 2 bad input, 3 the loss diverged, 4 out of memory, "
    "130 interrupted, 143 terminated; --resume goes on with what ended early.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    interrupted = "Interrupted; what the run had written by then is in its folder."
    return perform(app.meta, arguments, interrupted=interrupted)


@app.meta.default
def _start(
    *options: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
    recipe: Annotated[str | None, _START] = None,
    config: Annotated[Path | None, _START] = None,
    resume: Annotated[str | None, _START] = None,
) -> int:
    """Lay the command line's options over a recipe, a configuration or a run, then train.

    Args:
        recipe: Take the settings of a recipe, further options on top; "list" tells what there are.
        config: Take the settings of a run's config.toml, further options on top.
        resume: Go on with the run in this folder from its last checkpoint; "auto" for that of --out, else the newest
            of runs/NAME, and begins the run where there is none.
    """
    if recipe == "list" and config is None:
        console.print_recipes(Console(), map(recipes.read, recipes.names()))
        return 0
    beginning = begin(recipe, config)
    asked = lay_over(app, options, beginning).config
    return _train(asked) if resume is None else _resume(resume, asked, options, beginning.settings)


def _resume(resume: str, asked: Config, options: Sequence[str], settings: dict[str, Any]) -> int:
    """Go on with a run that there is, if it is not finished; options and settings are laid over its own."""
    path = folder.to_resume(resume, asked)
    if path is None:
        tell("there is no run to go on with yet; this one begins.")
        return _train(asked)
    with folder.RunFolder(path) as own:
        past = resuming.look_back(own, tell)
        own_settings = Beginning({**past.settings, **settings}, str(path / folder.CONFIG))
        config = lay_over(app, options, own_settings).config
        resuming.refuse_other_settings(config, past)
        if not past.is_finished(config):
            return _train(config, past)
    if not config.quiet:
        print(f"{path} is finished and left as it is; more --epochs would go on with it.")
    if config.json:
        print(json.dumps(past.result))
    return 0


@app.default
def _settings(settings: Config = Config()) -> Config:  # noqa: B008 - frozen, and the defaults that --help shows
    return settings


def _train(settings: Config, past: resuming.Past | None = None) -> int:
    screen = Console(quiet=settings.quiet)
    device = open_device(settings)
    screen.print(f"device {device.description}", highlight=False)
    if settings.deterministic:
        screen.print(f"  (deterministic costs {cost_of_determinism(device)})", style="dim", soft_wrap=True)
    if settings.device == "auto" and device.name == "cpu":
        screen.print(f"  ({why_no_cuda()})", style="dim", highlight=False, markup=False, soft_wrap=True)
    task = prepare(settings, device)
    if settings.gradcheck:
        return _check_gradients(screen, run.check_gradients(task), as_json=settings.json)
    watching = [console.Heading(screen, task), console.watch(screen)]
    result = run.run(task, watching, past=past, preparing=console.preparing(screen), tell=tell)
    console.print_result(screen, result)
    if settings.json:
        print(json.dumps(result.flat()))
    if result.problem:
        tell(result.problem)
    return result.status


def _check_gradients(screen: Console, agreements: list[Agreement], *, as_json: bool) -> int:
    console.print_agreement(screen, agreements)
    wrong = [agreement for agreement in agreements if not agreement.good]
    if as_json:
        print(json.dumps({"gradcheck": [dataclasses.asdict(agreement) for agreement in agreements], "good": not wrong}))
    if not wrong:
        return 0
    errors = ", ".join(f"{agreement.name} by {agreement.relative_error:.1e}" for agreement in wrong)
    tell(f"gradients are off, expected at most {TOLERANCE:.0e}: {errors}.")
    return WRONG_GRADIENT


if __name__ == "__main__":
    sys.exit(main())
