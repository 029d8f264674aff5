"""Scores of a fitted pipeline, and cross-validation."""

from typing import Any

import numpy as np

from .algorithms import CLASSIFICATION
from .errors import StageError
from .features import Features
from .fitting import Rows, fit
from .params import CrossValidation, Params, suggestion
from .pipeline import Pipeline


def score(pipeline: Pipeline, rows: Rows) -> dict[str, float]:
    """All metrics of the task on these rows; what is not defined on them is left out."""
    if pipeline.task == CLASSIFICATION:
        found = _classification(rows.target.values, pipeline.probabilities(rows.table).astype(np.float64))
    else:
        found = _regression(rows.target.values.astype(np.float64), pipeline.numbers(rows.table).astype(np.float64))
    return {name: float(value) for name, value in found.items() if np.isfinite(value)}


def cross_validate(
    name: str, task: str, params: Params, how: CrossValidation, train: Rows, threads: int, features: Features | None = None
) -> tuple[str, list[float]]:
    """Fits on all folds but one and scores that one, in turn; the preparation is fitted anew each time, `features` are as they are."""
    from sklearn.model_selection import KFold, StratifiedKFold

    rows, folds = train.table.rows, how.folds
    metric = how.metric or ("accuracy" if task == CLASSIFICATION else "rmse")
    known = CLASSIFICATION_METRICS if task == CLASSIFICATION else REGRESSION_METRICS
    if metric not in known:
        raise StageError(f"params.crossValidation.metric {metric!r} is not known for {task}: {suggestion(metric, known)}")
    if task == CLASSIFICATION:
        counts = np.bincount(train.target.values)
        rarest = int(np.argmin(counts))
        if counts[rarest] < folds:
            raise StageError(
                f"input train: class {train.target.classes[rarest]!r} has {counts[rarest]} rows, too few for {folds} folds; "
                f"set crossValidation.folds to {max(int(counts[rarest]), 2)} or less, or give more rows"
            )
    elif rows < 2 * folds:
        raise StageError(
            f"input train: {rows} rows are too few for {folds} folds; set crossValidation.folds to {max(rows // 2, 2)} or less"
        )
    splitter = (StratifiedKFold if task == CLASSIFICATION else KFold)(folds, shuffle=True, random_state=params.seed)
    found = []
    for kept, held in splitter.split(np.zeros(rows), train.target.values):
        part = train.take(held)
        fitted = fit(name, task, params, train.take(kept), part if params.early_stopping else None, threads, features)
        values = score(fitted, part)
        if metric not in values:
            raise StageError(f"params.crossValidation.metric {metric!r} is not defined on a fold of {len(held)} rows; use fewer folds")
        found.append(values[metric])
    return metric, found


def _classification(truth: Any, probabilities: Any) -> dict[str, float]:
    from sklearn import metrics

    classes = probabilities.shape[1]
    labels = np.argmax(probabilities, axis=1)
    # float32 rows sum to 1 but for the last bits, which the loss would warn about.
    shares = probabilities / probabilities.sum(axis=1, keepdims=True)
    found = {
        "accuracy": metrics.accuracy_score(truth, labels),
        "balanced_accuracy": metrics.recall_score(truth, labels, average="macro", zero_division=0, labels=np.unique(truth)),
        "f1_macro": metrics.f1_score(truth, labels, average="macro", zero_division=0, labels=np.arange(classes)),
        "f1_weighted": metrics.f1_score(truth, labels, average="weighted", zero_division=0),
        "log_loss": metrics.log_loss(truth, shares, labels=np.arange(classes)),
    }
    if np.unique(truth).size == classes:
        found["roc_auc"] = (
            metrics.roc_auc_score(truth, shares[:, 1]) if classes == 2 else metrics.roc_auc_score(truth, shares, multi_class="ovr")
        )
    return found


def _regression(truth: Any, predicted: Any) -> dict[str, float]:
    error = predicted - truth
    spread = np.sum((truth - truth.mean()) ** 2)
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "mae": float(np.mean(np.abs(error))),
        "r2": 1 - float(np.sum(error**2) / spread) if spread > 0 else float("nan"),
    }


CLASSIFICATION_METRICS = ("accuracy", "balanced_accuracy", "f1_macro", "f1_weighted", "log_loss", "roc_auc")
REGRESSION_METRICS = ("rmse", "mae", "r2")
