"""Runs the written file in ONNX Runtime and compares it with the pipeline it was written from."""

from typing import Any

import numpy as np

from .algorithms import CLASSIFICATION
from .errors import StageError
from .pipeline import Pipeline
from .table import Numbers, Table

# Of the training rows, compared after every fit.
SAMPLE = 10_000
# Of probabilities absolute, of numbers relative to their size.
TOLERANCE = 1e-5


def feeds(table: Table) -> dict[str, Any]:
    """A table as the inputs of its model."""
    found: dict[str, Any] = {}
    for name, column in table.columns.items():
        if isinstance(column, Numbers):
            found[name] = column.values[:, None]
        else:
            found[name] = np.array(column.values, dtype=object)[column.codes][:, None]
    return found


def session(model: bytes, threads: int = 1) -> Any:
    """The model in ONNX Runtime."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def check(pipeline: Pipeline, model: bytes, table: Table, seed: int, threads: int) -> float:
    """Compares on at most `SAMPLE` rows; returns the largest difference."""
    if table.rows > SAMPLE:
        table = table.take(np.sort(np.random.default_rng(seed).choice(table.rows, SAMPLE, replace=False)))
    given = session(model, threads).run(None, feeds(table))
    if pipeline.task == CLASSIFICATION:
        expected = pipeline.probabilities(table)
        difference = np.max(np.abs(given[1] - expected), axis=1, initial=0.0)
        names = np.array(pipeline.classes, dtype=given[0].dtype)
        wrong = np.flatnonzero(~(difference <= TOLERANCE) | (given[0] != names[pipeline.labels(table)]))
    else:
        expected = pipeline.numbers(table)
        difference = np.abs(given[0][:, 0] - expected) / np.maximum(np.abs(expected), 1.0)
        wrong = np.flatnonzero(~(difference <= TOLERANCE))
    if wrong.size:
        row = int(wrong[0])
        raise StageError(
            f"model.onnx answers differently from the fitted {pipeline.algorithm} in {wrong.size} of {table.rows} training rows "
            f"(row {row}: {given[-1][row].tolist()} instead of {np.atleast_1d(expected[row]).tolist()}); use another algorithm, and "
            f"report this with params.hyperparameters"
        )
    return float(difference.max(initial=0.0))
