"""The stage from its inputs to its outputs."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from . import algorithms, features, parity, prepare, target
from .algorithms import CLASSIFICATION
from .errors import StageError, warn
from .features import Features
from .fitting import Rows, fit
from .onnx.convert import convert
from .params import Params, suggestion
from .profile import profile
from .scores import cross_validate, score
from .signature import signature
from .table import Numbers, Table, is_numeric, read_features, read_parquet

LEAST_ROWS = 10
# In bytes. Measured with a forest of 72 MB: ONNX Runtime took 800 MB to load it.
LARGE_MODEL = 32 << 20


@dataclass(frozen=True)
class Paths:
    """Where the stage reads and writes."""

    train: Path
    validation: Path | None
    model: Path
    out: Path
    features: Path | None = None


def run(params: Params, paths: Paths, threads: int) -> dict[str, Any]:
    """Trains, writes the model and the facts, and returns the facts."""
    raw = read_parquet(paths.train, "train")
    if params.target not in raw.column_names:
        raise StageError(f"input train: there is no target column {params.target!r}: {suggestion(params.target, raw.column_names)}")
    if raw.num_rows < LEAST_ROWS:
        raise StageError(f"input train: {raw.num_rows} rows are too few to train on; {LEAST_ROWS} is the least")
    task = target.task_of(raw.column(params.target), params.task)
    name, _ = algorithms.choose(params.algorithm, task, raw.num_rows)
    made = features.load(paths.features) if paths.features else None
    if made:
        features.check(made, params, raw)
    columns = list(made.inputs) if made else _features(params, raw.column_names)
    _check_names(columns, task)
    prepare.check_columns(params.preprocessing, list(made.outputs) if made else columns)
    answers = target.read(raw.column(params.target), params.target, task, "train")
    table = read_features(raw, columns, "train")
    if made:
        made, table = _of_use(made, table)
    else:
        table = prepare.drop_useless(table)
    train = Rows(table, answers)
    validation = _validation(paths.validation, params, task, train, raw) if paths.validation else None
    del raw

    metrics: dict[str, float] = {}
    results: dict[str, Any] = {"rows": train.table.rows, "features": len(train.table.columns), "algorithm": name}
    if params.cross_validation is not None:
        metric, found = cross_validate(name, task, params, params.cross_validation, train, threads, made)
        mean = sum(found) / len(found)
        metrics["cv_mean"] = mean
        metrics["cv_std"] = math.sqrt(sum((value - mean) ** 2 for value in found) / len(found))
        results["cv_metric"] = metric
    pipeline = fit(name, task, params, train, validation, threads, made)
    metrics |= {f"train_{key}": value for key, value in score(pipeline, train).items()}
    if validation is not None:
        metrics |= {f"validation_{key}": value for key, value in score(pipeline, validation).items()}

    model = convert(pipeline)
    if len(model) > LARGE_MODEL:
        warn(
            f"the model has {len(model) >> 20} MiB, and ONNX Runtime takes ten times that to load it; bound the trees with "
            f"params.hyperparameters (max_depth, min_samples_leaf), or use lightgbm"
        )
    parity.check(pipeline, model, train.table, params.seed, threads)
    paths.model.mkdir(parents=True, exist_ok=True)
    (paths.model / "model.onnx").write_bytes(model)
    _write(paths.model / "signature.json", signature(pipeline))
    _write(paths.model / "profile.json", profile(pipeline, train, params.seed))
    _write(paths.out / "metrics.json", metrics)
    (paths.out / "results").mkdir(parents=True, exist_ok=True)
    for key, value in results.items():
        (paths.out / "results" / key).write_text(str(value))
    return {**results, **metrics}


def _of_use(made: Features, raw: Table) -> tuple[Features, Table]:
    """The features that tell something. A raw column without any value is filled as a served one is, and has no profile."""
    for name, column in raw.columns.items():
        gone = bool(np.all(np.isnan(column.values))) if isinstance(column, Numbers) else set(column.values) <= {""}
        if gone:
            raise StageError(
                f"input train: column {name!r} has no value in any row, and the features are made of it; give the rows that the stage "
                f"features was fitted on"
            )
    return made.choose(prepare.drop_useless(made.apply(raw)).columns), raw


def _features(params: Params, columns: list[str]) -> list[str]:
    if params.features is None:
        found = [column for column in columns if column != params.target]
        if not found:
            raise StageError(f"input train: there is no column besides the target {params.target!r}; give it features")
        return found
    for feature in params.features:
        if feature not in columns:
            raise StageError(f"params.features: input train has no column {feature!r}: {suggestion(feature, columns)}")
    return list(params.features)


def _check_names(features: list[str], task: str) -> None:
    for name in ("label", "probabilities") if task == CLASSIFICATION else ("prediction",):
        if name in features:
            raise StageError(
                f"input train: column {name!r} has the name of the model's output; rename it in the stage before, or leave it out with "
                f"params.features"
            )


def _validation(path: Path, params: Params, task: str, train: Rows, raw_train: Any) -> Rows:
    raw = read_parquet(path, "validation")
    for name in [*train.table.columns, params.target]:
        if name not in raw.column_names:
            raise StageError(f"input validation: there is no column {name!r}, which train has; split one table into both")
        here, there = raw.column(name).type, raw_train.column(name).type
        if is_numeric(here) != is_numeric(there):
            raise StageError(f"input validation: column {name!r} is of type {here}, but in train of {there}; split one table into both")
    if raw.num_rows == 0:
        raise StageError("input validation: it has no rows; give it some, or leave the input out")
    answers = target.read(raw.column(params.target), params.target, task, "validation", train.target.classes)
    return Rows(read_features(raw, list(train.table.columns), "validation"), answers)


def _write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # A NaN would be no JSON; the error is better here than at a reader.
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n")
