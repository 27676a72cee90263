"""`xpnet`, or `python -m xpnet`: every command under one name; `xpnet train` is `python -m xpnet.train`."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module

from xpnet.command import BAD_INPUT, tell

COMMANDS = {
    "train": "train a network, and leave a folder with its model and a report",
    "evaluate": "measure a model on data: loss, accuracy, confusion matrix, ...",
    "predict": "what a model says of new data, as a file",
    "compare": "runs side by side, as a table and a plot",
    "tune": "search for settings, with pruning, resumable and in parallel",
    "export": "give a model to another program: onnx, numpy, sklearn, torch-safetensors",
    "info": "the devices of this machine, and what is fast on each",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command that the first argument names; its exit status."""
    name, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help"):
        print("Usage: xpnet COMMAND ...\n")
        for command, effect in COMMANDS.items():
            print(f"  {command:<10} {effect}")
        print("\nxpnet COMMAND --help tells more of one.")
        return 0
    if name not in COMMANDS:
        tell(f'command: got "{name}", expected one of {", ".join(COMMANDS)}.')
        return BAD_INPUT
    return int(import_module(f"xpnet.{name}").main(rest))


if __name__ == "__main__":
    sys.exit(main())
