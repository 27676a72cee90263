"""`python -m xpnet.predict`: what a model says of new data."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

import xpnet
from xpnet.command import command_line, perform, tell
from xpnet.errors import XpnetError
from xpnet.folder import model_file
from xpnet.inference import inputs, predicting
from xpnet.inference.outputs import STANDARD, open_writer
from xpnet.network import MLP
from xpnet.signals import calling

_STARTS = {b"PAR1": ".parquet", b"\x1f\x8b": ".csv.gz"}
"""How files begin that are no plain CSV, and the endings that they should have."""

TERMINATED = 143
"""Exit status after SIGTERM."""

_LIST = Parameter(consume_multiple=True, negative="", show_default=False)

app = command_line(
    "predict",
    effect="Write what a model says of new data: classes with their probabilities, or numbers.",
    statuses="0 done, 2 bad input, 130 interrupted, 143 terminated: no file is left then.",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; its exit status."""
    return perform(app, _joined(sys.argv[1:] if arguments is None else arguments))


def _joined(arguments: Sequence[str]) -> list[str]:
    """`--out -` as `--out=-`: the parser takes a lone hyphen for an option."""
    joined: list[str] = []
    for argument in arguments:
        if argument == STANDARD and joined and joined[-1].startswith("--"):
            joined[-1] += "=-"
        else:
            joined.append(argument)
    return joined


@app.default
def _predict(
    model: Path,
    /,
    *,
    data: Annotated[tuple[str, ...], _LIST],
    out: str,
    keep: Annotated[tuple[str, ...], _LIST] = (),
    fill_missing: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    overwrite: Annotated[bool, Parameter(negative="", show_default=False)] = False,
    device: str = "auto",
    data_dir: str | None = None,
) -> None:
    """Predict, some rows at a time, in constant memory.

    Args:
        model: A model.safetensors, or the folder of a run.
        data: A table with the columns of training (.csv, .tsv, .parquet, or - for one from standard input: CSV, which
            may be compressed by gzip, or Parquet); for other models a file of samples (.npy, .npz, IDX), images (.png,
            .jpg), or a data set by its name.
        out: Where to: .csv, .tsv, .parquet or .npz, or - for CSV to standard output.
        keep: Columns of the table to write beside the predictions, as they are: an id, for instance.
        fill_missing: Take columns that the table lacks as missing in every row.
        overwrite: Replace --out if it is there.
        device: auto, cpu, numpy, cuda or cuda:1.
        data_dir: Where public data sets are.
    """
    _refuse_source(out, data)
    network = xpnet.load(model_file(model), device=device)
    screen = Console(stderr=True, quiet=out == STANDARD or not sys.stderr.isatty())
    with (
        calling(_end, "SIGTERM"),
        _named(data, network) as paths,
        open_writer(out, overwrite=overwrite) as writer,
        screen.status("") as status,
    ):
        rows = 0
        pieces = inputs.unlabelled(network, paths, folder=data_dir, keep=keep, fill_missing=fill_missing, tell=tell)
        for predicted in predicting.predict(network, pieces):
            writer.write(predicted)
            rows += len(predicted.prediction)
            status.update(f"{rows:,} rows")
    if out != STANDARD:
        print(f"{rows:,} predictions: {out}")


def _refuse_source(out: str, data: Sequence[str]) -> None:
    if os.path.exists(out) and any(os.path.exists(path) and os.path.samefile(path, out) for path in data):
        raise XpnetError(f"out: got {out}, from which --data is read; choose another name.")


def _end() -> None:
    """End in the way of Python, so that no file is left that is half written."""
    sys.exit(TERMINATED)


@contextlib.contextmanager
def _named(paths: Sequence[str], network: MLP) -> Iterator[Sequence[str]]:
    """The paths; a table that comes from standard input lies in a temporary file meanwhile, which says its kind."""
    if list(paths) != [STANDARD]:
        yield paths
        return
    if network.table is None:
        raise XpnetError("data: got - for a model that was not trained on a table, expected a file: write one.")
    with tempfile.TemporaryDirectory(prefix="xpnet-") as folder:
        yield [str(_from_standard_input(Path(folder)))]


def _from_standard_input(folder: Path) -> Path:
    if sys.stdin is None:
        raise XpnetError("data: got -, but standard input is closed; pipe a table into it, or name a file.")
    try:
        start = sys.stdin.buffer.read(max(map(len, _STARTS)))
        suffix = next((suffix for known, suffix in _STARTS.items() if start.startswith(known)), ".csv")
        path = folder / f"standard input{suffix}"
        with path.open("wb") as file:
            file.write(start)
            shutil.copyfileobj(sys.stdin.buffer, file)
    except OSError as error:
        raise XpnetError(f"data: standard input cannot be kept ({error.strerror or error}); name a file.") from error
    return path


if __name__ == "__main__":
    sys.exit(main())
