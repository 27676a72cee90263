"""How much worse the network becomes where it cannot tell which sample a column's values belong to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from xpnet.reporting.report.examined import decided
from xpnet.reporting.report.values import dense, groups_of, readable

if TYPE_CHECKING:
    from xpnet.reporting.report.examined import Examined

MOST_COLUMNS = 40
"""Of samples that are no table: more of them have no names to look at."""

MOST_SHOWN = 25
"""Columns, the most important ones."""

ROWS, LEAST_ROWS = 2_000, 200
"""Samples that are looked at."""

REPEATS = 3

WORK = 2**34
"""Multiply-adds that it may cost, a second's or so: for larger networks and more columns, fewer samples are taken."""


@dataclass(frozen=True)
class Importance:
    """What shuffling a column costs: the mean over the shuffles, and their standard deviation."""

    name: str
    mean: float
    deviation: float


@dataclass(frozen=True)
class Importances:
    """Of all columns.

    Attributes:
        effect: What becomes worse, in words.
        of_numbers: Whether that is of numbers, not of an accuracy.
        rows: Samples that were looked at.
        repeats: Shuffles of each column.
        columns: The most important first.
        left_out: How many others there are.
    """

    effect: str
    of_numbers: bool
    rows: int
    repeats: int
    columns: list[Importance]
    left_out: int

    @property
    def largest(self) -> float:
        """What the most important column costs; 1 where none costs anything."""
        return self.columns[0].mean if self.columns[0].mean > 0 else 1.0

    def shown(self, value: float) -> str:
        """A number as the page has it."""
        return readable(value) if self.of_numbers else f"{100 * value:.2f} %"


def importances(seen: Examined) -> Importances | None:
    """By shuffling one column after the other; None where samples have too many columns that are no table's,
    or the errors are beyond all numbers.

    References:
        Breiman 2001, "Random Forests", section 10.
    """
    network = seen.network
    if network.table is None and network.inputs > MOST_COLUMNS:
        return None
    groups = groups_of(network)
    products = REPEATS * len(groups) * sum(w.size for w in network.parameters.w)
    few = seen.first(max(LEAST_ROWS, min(ROWS, WORK // products)))
    costs = _costs(few, list(groups.values()))
    if not np.isfinite(costs).all():
        return None
    means, deviations = costs.mean(axis=1), costs.std(axis=1)
    order = np.argsort(-means, kind="stable")
    names = list(groups)
    numbers = network.task == "regression"
    return Importances(
        effect="By how much the root mean squared error rises" if numbers else "How much accuracy is lost",
        of_numbers=numbers,
        rows=len(few),
        repeats=REPEATS,
        columns=[Importance(names[i], float(means[i]), float(deviations[i])) for i in order[:MOST_SHOWN]],
        left_out=max(len(names) - MOST_SHOWN, 0),
    )


def _costs(seen: Examined, groups: list[slice]) -> np.ndarray:
    """(G, REPEATS) what each shuffle of a group of columns costs."""
    x, rng, best = dense(seen.x), np.random.default_rng(0), _score(seen, seen.outputs)

    def cost(columns: slice) -> float:
        return best - _score(seen, seen.network.predict_proba(_shuffled(x, columns, rng)))

    return np.array([[cost(columns) for _ in range(REPEATS)] for columns in groups])


def _score(seen: Examined, outputs: np.ndarray) -> float:
    """The accuracy of outputs, of labels over all of them, or minus the root mean squared error."""
    if seen.network.task == "regression":
        return -float(np.sqrt(np.square(outputs - seen.y).mean()))
    return float((decided(seen.network, outputs) == seen.y).mean())


def _shuffled(x: np.ndarray, columns: slice, rng: np.random.Generator) -> np.ndarray:
    """A copy in which these columns come, together, from another row."""
    mixed = x.copy()
    mixed[:, columns] = x[rng.permutation(len(x)), columns]
    return mixed
