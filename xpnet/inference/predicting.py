"""From samples to what a model says of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from xpnet.inference.inputs import Piece
from xpnet.inference.outputs import Predicted
from xpnet.network import MLP


def predict(network: MLP, pieces: Iterable[Piece]) -> Iterator[Predicted]:
    """What the network says of each piece."""
    for piece in pieces:
        probabilities = None if network.task == "regression" else network.predict_proba(piece.x)
        prediction = network.predict(piece.x)
        classes = network.classes
        if probabilities is not None and classes is None:
            classes = tuple(range(probabilities.shape[1]))
        yield Predicted(np.asarray(prediction), probabilities, classes, piece.kept)
