"""The recipe `table` on real tables, beside scikit-learn: python -m bench.tables [--seeds 5] [NAME ...]

The table of results goes to bench/results/tables.md. The data must lie in tabular/ of the folder that XPNET_DATA names:
adult.data and adult.test of UCI's Adult, and California housing as a CSV file.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.compose import make_column_selector, make_column_transformer
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.impute import SimpleImputer
from sklearn.metrics import accuracy_score, roc_auc_score, root_mean_squared_error
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier, MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from bench.recipes import machine

RESULTS = Path(__file__).parent / "results" / "tables.md"

ADULT = (
    *("age", "workclass", "fnlwgt", "education", "education-num", "marital-status", "occupation", "relationship"),
    *("race", "sex", "capital-gain", "capital-loss", "hours-per-week", "native-country", "income"),
)


def adult(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """The official training and test files, and the target."""
    options: dict[str, Any] = {"names": ADULT, "skipinitialspace": True, "na_values": "?"}
    train = pd.read_csv(folder / "adult.data", **options)
    test = pd.read_csv(folder / "adult.test", skiprows=1, **options)
    return train, test.assign(income=test.income.str.rstrip(".")), "income"


def california(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame, str]:
    """80 % and 20 %, split by seed 0; the target in 100,000 dollars."""
    frame = pd.read_csv(folder / "california_housing.csv")
    frame["median_house_value"] /= 1e5
    train, test = train_test_split(frame, test_size=0.2, random_state=0)
    return train, test, "median_house_value"


TABLES: dict[str, Callable[[Path], tuple[pd.DataFrame, pd.DataFrame, str]]] = {"adult": adult, "california": california}


def by_xpnet(train: pd.DataFrame, test: pd.DataFrame, target: str, seed: int) -> list[float]:
    """By the commands that the README gives; the measures, and the seconds of training."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train.to_csv(folder / "train.csv", index=False)
        test.to_csv(folder / "test.csv", index=False)
        table = ["--data", "train.csv", "--target", target, "--recipe", "table", "--seed", str(seed), "--out", "run"]
        result = json.loads(_command(folder, "train", *table, "--quiet", "--json", "--no-plot", "--no-report"))
        scores = json.loads(_command(folder, "evaluate", "run", "--data", "test.csv", "--json"))
    measures = [scores["accuracy"], scores["auc"]] if "auc" in scores else [scores["rmse"]]
    return [*measures, result["seconds"]]


def _command(folder: Path, name: str, *arguments: str) -> str:
    command = [sys.executable, "-m", f"xpnet.{name}", *arguments]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout.splitlines()[-1]


def by_scikit_learn(
    model: BaseEstimator, train: pd.DataFrame, test: pd.DataFrame, target: str, seed: int
) -> list[float]:
    """The same of an estimator behind the usual preprocessing."""
    numbers = make_column_selector(dtype_include=np.number)
    text = make_column_selector(dtype_exclude=np.number)
    encoder = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median", add_indicator=True), StandardScaler()), numbers),
        (OneHotEncoder(handle_unknown="ignore", sparse_output=False), text),
    )
    pipeline = make_pipeline(encoder, model.set_params(random_state=seed))
    start = time.perf_counter()
    pipeline.fit(train.drop(columns=target), train[target])
    seconds = time.perf_counter() - start
    inputs, truth = test.drop(columns=target), test[target]
    if hasattr(model, "predict_proba"):
        scores = pipeline.predict_proba(inputs)[:, 1]
        return [accuracy_score(truth, pipeline.predict(inputs)), roc_auc_score(truth, scores), seconds]
    return [root_mean_squared_error(truth, pipeline.predict(inputs)), seconds]


def models(train: pd.DataFrame, test: pd.DataFrame, target: str) -> dict[str, Callable[[int], list[float]]]:
    """What is measured, each of a seed."""
    if train[target].dtype.kind in "fi":
        network, boosting = MLPRegressor(early_stopping=True), HistGradientBoostingRegressor()
    else:
        network, boosting = MLPClassifier(early_stopping=True), HistGradientBoostingClassifier()
    return {
        "xpnet, `--recipe table`": lambda seed: by_xpnet(train, test, target, seed),
        "scikit-learn's MLP": lambda seed: by_scikit_learn(network, train, test, target, seed),
        "scikit-learn's histogram gradient boosting": lambda seed: by_scikit_learn(boosting, train, test, target, seed),
    }


def main() -> None:
    """Measure them one after the other."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", default=list(TABLES))
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    lines = ["| table | model | measures, mean and deviation over seeds | seconds |", "|---|---|---|---|"]
    for name in options.names:
        train, test, target = TABLES[name](Path(os.environ["XPNET_DATA"]) / "tabular")
        words = ("RMSE",) if train[target].dtype.kind in "fi" else ("accuracy", "AUC")
        for model, measure in models(train, test, target).items():
            results = np.array([measure(seed) for seed in range(options.seeds)])
            means, deviations = results.mean(axis=0), results.std(axis=0)
            told = [f"{w} {m:.4f} ± {d:.4f}" for w, m, d in zip(words, means, deviations, strict=False)]
            lines.append(f"| {name} | {model} | {', '.join(told)} | {np.median(results[:, -1]):.1f} |")
            print(lines[-1], flush=True)
            print("   ", results[:, :-1].round(4).tolist(), flush=True)
    lines += ["", f"{machine()}; {options.seeds} seeds; seconds of training are medians."]
    RESULTS.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
