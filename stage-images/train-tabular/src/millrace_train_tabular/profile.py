"""Reference statistics of the training rows: what drift is measured against."""

from typing import Any

import numpy as np

from .algorithms import CLASSIFICATION
from .fitting import Rows
from .pipeline import Pipeline
from .table import Column, Numbers

# Bins of equal share: PSI on them is stable in the tails.
BINS = 10
QUANTILES = (0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99)
MOST_CATEGORIES = 50
# Rows on which importance is measured.
IMPORTANCE_ROWS = 1000


def profile(pipeline: Pipeline, rows: Rows, seed: int) -> dict[str, Any]:
    """The content of `profile.json`."""
    shares = importance(pipeline, rows, seed)
    features = {name: {**_column(column), "importance": shares[name]} for name, column in rows.table.columns.items()}
    return {"version": 1, "rows": rows.table.rows, "features": features, "predictions": _predictions(pipeline, rows)}


def importance(pipeline: Pipeline, rows: Rows, seed: int) -> dict[str, float]:
    """By how much the loss grows when a column is shuffled, as shares of 1."""
    generator = np.random.default_rng(seed)
    if rows.table.rows > IMPORTANCE_ROWS:
        rows = rows.take(np.sort(generator.choice(rows.table.rows, IMPORTANCE_ROWS, replace=False)))
    usual = _loss(pipeline, rows)
    grown = {}
    for name, column in rows.table.columns.items():
        shuffled = column.take(generator.permutation(rows.table.rows))
        changed = Rows(type(rows.table)({**rows.table.columns, name: shuffled}, rows.table.rows), rows.target)
        grown[name] = max(_loss(pipeline, changed) - usual, 0.0)
    total = sum(grown.values())
    return {name: round(value / total, 6) if total > 0 else 0.0 for name, value in grown.items()}


def _loss(pipeline: Pipeline, rows: Rows) -> float:
    truth = rows.target.values
    if pipeline.task == CLASSIFICATION:
        right = pipeline.probabilities(rows.table)[np.arange(len(truth)), truth]
        return float(-np.mean(np.log(np.maximum(right, 1e-7))))
    return float(np.sqrt(np.mean((pipeline.numbers(rows.table).astype(np.float64) - truth) ** 2)))


def _predictions(pipeline: Pipeline, rows: Rows) -> dict[str, Any]:
    if pipeline.task != CLASSIFICATION:
        return {"type": "numeric", **_numeric(pipeline.numbers(rows.table))}
    probabilities = pipeline.probabilities(rows.table)
    counts = np.bincount(np.argmax(probabilities, axis=1), minlength=len(pipeline.classes))
    labels = [
        {"value": name, "count": int(count), "meanProbability": float(mean)}
        for name, count, mean in zip(pipeline.classes, counts, probabilities.mean(axis=0, dtype=np.float64), strict=True)
    ]
    return {"type": "categorical", "count": rows.table.rows, "categories": labels}


def _column(column: Column) -> dict[str, Any]:
    if isinstance(column, Numbers):
        return {"type": "numeric", **_numeric(column.values)}
    counts = np.bincount(column.codes, minlength=len(column.values))
    by_value = {value: int(count) for value, count in zip(column.values, counts, strict=True) if count and value}
    present = sum(by_value.values())
    top = sorted(by_value.items(), key=lambda item: (-item[1], item[0]))[:MOST_CATEGORIES]
    return {
        "type": "categorical",
        "count": present,
        "missing": (len(column.codes) - present) / len(column.codes),
        "distinct": len(by_value),
        "categories": [{"value": value, "count": count} for value, count in top],
        "other": present - sum(count for _, count in top),
    }


def _numeric(values: Any) -> dict[str, Any]:
    present = values[~np.isnan(values)].astype(np.float64)
    # Quantiles that are values of the column, so that an edge is a float32 as the requests' numbers are.
    edges = np.unique(np.quantile(present, np.linspace(0, 1, BINS + 1), method="nearest"))
    # One value everywhere: a bin without width would lose it.
    counts = np.histogram(present, bins=edges)[0] if edges.size > 1 else np.array([present.size])
    return {
        "count": int(present.size),
        "missing": (values.size - present.size) / values.size,
        "mean": float(present.mean()),
        "std": float(present.std()),
        "min": float(present.min()),
        "max": float(present.max()),
        "quantiles": {f"{q:g}": float(v) for q, v in zip(QUANTILES, np.quantile(present, QUANTILES), strict=True)},
        "histogram": {"edges": [float(edge) for edge in edges], "counts": [int(count) for count in counts]},
    }
