"""Whether what was exported predicts as the network does."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xpnet.data import check_samples
from xpnet.errors import XpnetError
from xpnet.kernels.metrics import ORDER_KEEPING
from xpnet.network import MLP

if TYPE_CHECKING:
    import pandas as pd

TOLERANCE = 1e-5
"""The largest difference of probabilities; of numbers in parts of the number, or of the median one where it is less."""

_UNDECIDED = 1e-4
"""Two scores that differ by less, in parts of the largest, may come out in another order elsewhere."""


@dataclass(frozen=True)
class Samples:
    """What an export is checked on.

    Attributes:
        name: What they are called: "samples of mnist".
        x: (N, I), as `MLP.predict_proba` takes them.
        frame: Of a network with a table, the rows that x was encoded from.
    """

    name: str
    x: np.ndarray
    frame: pd.DataFrame | None = None


Predictions = tuple[np.ndarray, np.ndarray | None]
"""(N, O) what `MLP.predict_proba` gives, and what `MLP.predict` does, or None for what says no labels."""


@dataclass(frozen=True)
class Artifact:
    """A network in the form of another program.

    Attributes:
        content: Of the file.
        program: What has made its predictions in the check.
        predict: Predictions by the content alone.
        notes: What a person has to know to use it, a line each.
    """

    content: bytes
    program: str
    predict: Callable[[Samples], Predictions]
    notes: tuple[str, ...] = ()


def largest_difference(network: MLP, artifact: Artifact, samples: Samples) -> float:
    """The largest difference of predictions by the artifact from the network's.

    Raises:
        XpnetError: It is above the tolerance.
    """
    expected = network.predict_proba(samples.x)
    outputs, labels = artifact.predict(samples)
    unit = _magnitudes(expected) if network.task == "regression" else 1.0
    difference = float((np.abs(outputs.astype(np.float64) - expected) / unit).max())
    if not difference <= TOLERANCE:  # true for NaN too
        raise XpnetError(
            f"export: predictions by {artifact.program} differ by {difference:.1e} from the network's on "
            f"{samples.name}, expected at most {TOLERANCE:g}; nothing was written, choose another format."
        )
    if labels is not None and network.task != "regression" and (wrong := _wrong(network, samples, labels)):
        raise XpnetError(
            f"export: {wrong} classes by {artifact.program} are others than the network's on {samples.name}; nothing "
            "was written, choose another format."
        )
    return difference


def _magnitudes(outputs: np.ndarray) -> np.ndarray:
    """(N, O) how large each number is, or the median of its column where that is larger, so that none is almost 0."""
    sizes = np.abs(outputs.astype(np.float64))
    sizes = np.maximum(sizes, np.median(sizes, axis=0))
    return np.where(sizes > 0, sizes, 1)


def _wrong(network: MLP, samples: Samples, labels: np.ndarray) -> int:
    """How many labels are others than the network's, where its scores are not all but equal."""
    output = "linear" if network.output in ORDER_KEEPING else network.output
    scores = network.outputs(check_samples(samples.x), output)
    if network.task == "multilabel":
        margin = np.abs(scores)
    elif scores.shape[1] == 1:
        margin = np.abs(scores[:, 0])
    else:
        second, first = np.sort(scores, axis=1)[:, -2:].T
        margin = first - second
    decided = margin > _UNDECIDED * max(1.0, float(np.abs(scores).max()))
    return int((decided & (labels != network.predict(samples.x))).sum())
