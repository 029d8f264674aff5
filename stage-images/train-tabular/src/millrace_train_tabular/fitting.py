"""Fits one pipeline: preparation, weights, early stopping."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from . import algorithms, prepare
from .algorithms import CLASSIFICATION
from .errors import StageError
from .features import Features
from .params import Params, suggestion
from .pipeline import Pipeline
from .table import Table
from .target import Target

# Of the rows, held back for early stopping when there is no input `validation`.
HELD_BACK = 0.1
# The neighbours are the model: more rows make a slow server and a large file.
MOST_NEIGHBORS_ROWS = 20_000
MOST_NEIGHBORS_COLUMNS = 200


@dataclass(frozen=True)
class Rows:
    """Features and target of the same rows."""

    table: Table
    target: Target

    def take(self, rows: npt.NDArray[np.int64]) -> "Rows":
        return Rows(self.table.take(rows), Target(self.target.classes, self.target.values[rows]))


def fit(
    name: str, task: str, params: Params, train: Rows, validation: Rows | None, threads: int, features: Features | None = None
) -> Pipeline:
    """Fits on `train`; `validation` serves early stopping only."""
    algorithm = algorithms.CATALOG[name]
    estimator = algorithms.build(name, algorithm, task, params.hyperparameters, params.seed, threads)
    table = features.apply(train.table) if features else train.table
    prepared = prepare.fit(table, params.preprocessing, scaled=algorithm.scaled, takes_missing=algorithm.takes_missing, algorithm=name)
    pipeline = Pipeline(task, name, prepared, estimator, train.target.classes, train.table, features)
    _check_size(name, pipeline, train)
    arguments: dict[str, Any] = {}
    weights = sample_weights(params.class_weight, train.target)
    if weights is not None:
        if not algorithm.takes_weights:
            raise StageError(f"params.classWeight does nothing with {name}: leave it out, or use another algorithm")
        arguments["sample_weight"] = weights
    matrix, values = pipeline.prepare(table), train.target.values
    if params.early_stopping is not None:
        if not algorithm.stops_early:
            able = ", ".join(n for n, a in algorithms.CATALOG.items() if a.stops_early)
            raise StageError(f"params.earlyStopping does nothing with {name}: leave it out, or use one of {able}")
        matrix, values, arguments = _early(name, pipeline, params, train, validation, matrix, arguments)
    try:
        estimator.fit(matrix, values, **arguments)
    except (ValueError, TypeError) as err:
        raise StageError(f"{name} cannot be fitted: {' '.join(str(err).split())}; check params.hyperparameters") from err
    except Exception as err:
        # LightGBM's and XGBoost's own errors, which have no common base but these modules.
        if type(err).__module__.split(".")[0] not in ("lightgbm", "xgboost"):
            raise
        raise StageError(f"{name} cannot be fitted: {str(err).strip().splitlines()[-1]}; check params.hyperparameters") from err
    return pipeline


def sample_weights(wanted: str | dict[str, float] | None, target: Target) -> npt.NDArray[np.float64] | None:
    """One weight a row: `balanced` is rows / (classes * rows of the class), as in scikit-learn."""
    if wanted is None:
        return None
    if not target.classes:
        raise StageError("params.classWeight does nothing in a regression: leave it out")
    if wanted == "balanced":
        counts = np.bincount(target.values, minlength=len(target.classes))
        by_class = len(target.values) / (len(target.classes) * np.maximum(counts, 1))
    else:
        assert isinstance(wanted, dict)
        names = [str(label) for label in target.classes]
        for label in wanted:
            if label not in names:
                raise StageError(f"params.classWeights.{label} is no class of the target: {suggestion(label, names)}")
        by_class = np.array([wanted.get(label, 1.0) for label in names])
    return np.asarray(by_class[target.values], dtype=np.float64)


def _early(
    name: str, pipeline: Pipeline, params: Params, train: Rows, validation: Rows | None, matrix: Any, arguments: dict[str, Any]
) -> tuple[Any, Any, dict[str, Any]]:
    """Sets the estimator up to stop when a score on rows it does not fit stays the same for some rounds."""
    estimator, rounds, values = pipeline.estimator, params.early_stopping, train.target.values
    if name in ("gradient-boosting", "hist-gradient-boosting"):
        estimator.set_params(n_iter_no_change=rounds, validation_fraction=HELD_BACK)
        if name == "hist-gradient-boosting":
            estimator.set_params(early_stopping=True)
            if validation is not None:
                arguments = {**arguments, "X_val": pipeline.matrix(validation.table), "y_val": validation.target.values}
        return matrix, values, arguments
    if validation is None:
        from sklearn.model_selection import train_test_split

        stratify = values if pipeline.task == CLASSIFICATION else None
        try:
            kept, held = train_test_split(np.arange(len(values)), test_size=HELD_BACK, random_state=params.seed, stratify=stratify)
        except ValueError as err:
            raise StageError(f"input train: too few rows to hold some back for earlyStopping ({err}); give the input validation") from err
        held_matrix, held_values = matrix[held], values[held]
        matrix, values = matrix[kept], values[kept]
        arguments = {key: value[kept] for key, value in arguments.items()}
    else:
        held_matrix, held_values = pipeline.matrix(validation.table), validation.target.values
    arguments = {**arguments, "eval_set": [(held_matrix, held_values)]}
    if name == "lightgbm":
        import lightgbm

        arguments["callbacks"] = [lightgbm.early_stopping(rounds, verbose=False)]
    else:
        estimator.set_params(early_stopping_rounds=rounds)
        arguments["verbose"] = False
    return matrix, values, arguments


def _check_size(name: str, pipeline: Pipeline, train: Rows) -> None:
    rows, columns = train.table.rows, pipeline.prepared.width
    if name == "k-neighbors":
        if rows > MOST_NEIGHBORS_ROWS or columns > MOST_NEIGHBORS_COLUMNS:
            raise StageError(
                f"input train: k-neighbors keeps every row in the model, and {rows} rows of {columns} columns are too many (at most "
                f"{MOST_NEIGHBORS_ROWS} of {MOST_NEIGHBORS_COLUMNS}); use random-forest or lightgbm"
            )
        if pipeline.estimator.n_neighbors > rows:
            raise StageError(f"params.hyperparameters.n_neighbors is {pipeline.estimator.n_neighbors}, but train has {rows} rows; lower it")
