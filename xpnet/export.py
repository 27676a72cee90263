"""`python -m xpnet.export`: a model in the form of another program."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from xpnet import exporters
from xpnet.command import command_line, perform
from xpnet.folder import model_file

app = command_line(
    "export",
    effect="Write a model in the form of another program, once that has been seen to predict the same.",
    statuses="0 done, 2 bad input, 130 interrupted.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    return perform(app, arguments)


@app.default
def _export(
    model: Path,
    /,
    *,
    to: Literal["onnx", "sklearn", "torch-safetensors", "numpy"],
    out: Path | None = None,
    overwrite: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    data: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)] = (),
) -> None:
    """Export a model.

    Args:
        model: A model.safetensors, or the folder of a run.
        to: onnx (with what is done to raw samples and to a table's columns), sklearn (scikit-learn's own estimator,
            written by skops), torch-safetensors (what torch.nn.Sequential loads), or numpy (one file of Python).
        out: The file to write; by custom beside the model, with .onnx, .skops, .torch.safetensors or .py for the last
            suffix of its name.
        overwrite: Replace the file if it is there.
        data: What to check the export on: data as xpnet.train takes it; by custom that of the run that the model lies
            in, or random samples where that cannot be had.
    """
    exported = exporters.export(model_file(model), to, out=out, overwrite=overwrite, data=data)
    print(f"{exported.path}: {exported.check}")
    for note in exported.notes:
        print(note)


if __name__ == "__main__":
    sys.exit(main())
