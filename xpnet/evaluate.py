"""`python -m xpnet.evaluate`: how good a model is on data with targets."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

import xpnet
from xpnet.command import command_line, perform, tell
from xpnet.folder import model_file
from xpnet.inference import inputs, scoring
from xpnet.reporting.scores import print_scores

app = command_line(
    "evaluate",
    effect="Measure a model on data with targets.",
    statuses="0 done, 2 bad input, 130 interrupted.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    return perform(app, arguments)


@app.default
def _evaluate(
    model: Path,
    /,
    *,
    data: Annotated[tuple[str, ...], Parameter(consume_multiple=True, negative="", show_default=False)],
    fill_missing: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    as_json: Annotated[bool, Parameter(name="json", negative="", show_default=False)] = False,
    device: str = "auto",
    data_dir: str | None = None,
) -> None:
    """Loss, accuracy, precision and recall of each class, confusion matrix, ROC AUC and calibration error; of numbers
    RMSE, MAE and R2.

    Args:
        model: A model.safetensors, or the folder of a run.
        data: A table with the columns of training and the target (.csv, .tsv, .parquet); for other models what train
            takes: a data set by its name, an .npz, or files of samples and labels. Of several sets that for tests.
        fill_missing: Take columns that the table lacks as missing in every row.
        as_json: Print one line of JSON.
        device: auto, cpu, numpy, cuda or cuda:1.
        data_dir: Where public data sets are.
    """
    network = xpnet.load(model_file(model), device=device)
    pieces = inputs.labelled(network, data, folder=data_dir, fill_missing=fill_missing, tell=tell)
    scores = scoring.score(network, pieces)
    if as_json:
        print(json.dumps(scores.as_dict()))
    else:
        print_scores(Console(), scores)


if __name__ == "__main__":
    sys.exit(main())
