"""An encoder learnt from rows of a table, by scikit-learn's parts."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from xpnet.tables.encoder import LARGEST, Category, Encoder, Number, as_numbers, counted

if TYPE_CHECKING:
    import pandas as pd

    from xpnet.tables.kinds import Kind

Scaling = Literal["standard", "quantile", "bins"]

BINS = 128
"""At most so many for a column of numbers."""

QUANTILES = 1000
"""The same, of which a map onto the normal distribution is made."""


def learn(
    frame: pd.DataFrame,
    kinds: Mapping[str, Kind],
    *,
    target: str,
    scaling: Scaling = "standard",
    one_hot: int = 64,
    embedding: int = 8,
) -> Encoder:
    """The encoder of columns that are numbers or categories.

    Args:
        frame: The rows to learn from.
        kinds: Of the columns, in their order; other kinds than those two are left out.
        target: The column that is predicted.
        scaling: Of numbers: "standard" (mean 0, deviation 1, held within 10), "quantile" (onto the normal distribution
            by rank), or "bins" (by median and quartiles, bent, and how far it has come through each of up to 128).
        one_hot: Categories of up to so many values become a column each; those of more are embedded.
        embedding: Numbers that each of these is embedded in.
    """
    columns: list[Number | Category] = []
    for name, kind in kinds.items():
        if kind == "number":
            columns.append(_number(name, as_numbers(frame[name]), scaling))
        elif kind == "category":
            columns.append(_category(name, frame[name], one_hot, embedding))
    columns.sort(key=lambda column: isinstance(column, Category) and column.embedding > 0)
    return Encoder(tuple(columns), target)


def _number(name: str, values: np.ndarray, scaling: Scaling) -> Number:
    from sklearn.impute import SimpleImputer

    values = np.clip(values, -LARGEST, LARGEST)[:, None]
    imputer = SimpleImputer(strategy="median").fit(values)
    full = imputer.transform(values)
    learnt = {"standard": _standard, "quantile": _quantile, "bins": _bins}[scaling](full)
    return Number(name, fill=float(imputer.statistics_[0]), indicator=bool(np.isnan(values).any()), **learnt)


def _standard(values: np.ndarray) -> dict[str, Any]:
    from sklearn.preprocessing import StandardScaler

    scaler = StandardScaler().fit(values)
    return {"center": float(scaler.mean_[0]), "scale": _inverse(scaler.scale_[0])}


def _inverse(spread: float) -> float:
    """1 / spread, held below what would be infinite for the smallest numbers that there are."""
    return 1 / max(float(spread), 1 / LARGEST)


def _quantile(values: np.ndarray) -> dict[str, Any]:
    """Knots at the quantiles, each at the height of its normal score, the ends as if half a value were beyond them."""
    from scipy.special import ndtri
    from sklearn.preprocessing import QuantileTransformer

    count = min(QUANTILES, len(values))
    transformer = QuantileTransformer(n_quantiles=count, output_distribution="normal", subsample=None).fit(values)
    knots = np.unique(transformer.quantiles_[:, 0])
    if len(knots) == 1:
        return {"center": float(knots[0])}
    most = float(ndtri(1 - 0.5 / count))
    heights = np.clip(transformer.transform(knots[:, None])[:, 0], -most, most)
    return {"knots": tuple(knots.tolist()), "heights": tuple(heights.tolist())}


def _bins(values: np.ndarray) -> dict[str, Any]:
    """Median and quartiles; edges between which the square roots of the counts of equal values sum to about the same.

    By counts alone a value that half of the rows have would leave the others half of the bins; by different values
    alone, one that few rows have would get as many bins as one of many.
    """
    from sklearn.preprocessing import KBinsDiscretizer, RobustScaler

    scaler = RobustScaler().fit(values)
    low, high = float(values.min()), float(values.max())
    quartiles = np.subtract(*np.percentile(values, [75, 25]))
    scale = _inverse(scaler.scale_[0] if quartiles else (high - low) / 2) if high > low else 1.0
    different, counts = np.unique(values, return_counts=True)
    edges = different
    if len(different) > BINS + 1:
        discretizer = KBinsDiscretizer(
            BINS, encode="ordinal", strategy="quantile", quantile_method="inverted_cdf", subsample=None
        )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Bins whose width")  # a value that fills several bins is one edge
            edges = discretizer.fit(different[:, None], sample_weight=np.sqrt(counts)).bin_edges_[0]
    edges = edges[np.append(True, np.diff(edges) > 0)]
    return {
        "center": float(scaler.center_[0]),
        "scale": scale,
        "bend": True,
        "edges": tuple(edges.tolist()) if len(edges) > 1 else (),
    }


def _category(name: str, series: pd.Series, one_hot: int, embedding: int) -> Category:
    values = sorted(counted(series).index)
    return Category(name, tuple(values), embedding if len(values) > one_hot else 0)
