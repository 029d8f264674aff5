"""The target: which task it asks for, and its values as the estimator gets them."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from .algorithms import CLASSIFICATION, REGRESSION
from .errors import StageError
from .table import Floats, Ints, is_numeric, is_text, numbers

# A whole-number target with at most this many values is taken for classes when the task is `auto`.
MOST_AUTOMATIC_CLASSES = 20
# More classes than this is a regression or an identifier, and a model with that many outputs serves nobody.
MOST_CLASSES = 1000


@dataclass(frozen=True)
class Target:
    """The values to predict: positions in `classes`, or float32 numbers if there are none."""

    classes: tuple[str | int, ...]
    values: Ints | Floats


def task_of(values: Any, asked: str) -> str:
    """Chooses for `auto`: text, booleans and few whole numbers are classes."""
    if asked != "auto":
        return asked
    if not is_numeric(values.type) or pa.types.is_boolean(values.type):
        return CLASSIFICATION
    if pa.types.is_integer(values.type) and pc.count_distinct(values).as_py() <= MOST_AUTOMATIC_CLASSES:
        return CLASSIFICATION
    return REGRESSION


def read(values: Any, name: str, task: str, role: str, classes: tuple[str | int, ...] = ()) -> Target:
    """Reads the target's column. For validation rows `classes` are those of training."""
    rows = len(values)
    missing = values.null_count
    if pa.types.is_floating(values.type):
        missing += pc.sum(pc.is_nan(values)).as_py() or 0
    if missing:
        raise StageError(
            f"input {role}: the target {name!r} is missing in {missing} of {rows} rows; filter them before: "
            f'SELECT * FROM data WHERE "{name}" IS NOT NULL'
        )
    if task == REGRESSION:
        if not is_numeric(values.type):
            example = values[0].as_py() if rows else None
            raise StageError(
                f"input {role}: the target {name!r} is of type {values.type} (the first is {example!r}), and a regression needs "
                f"numbers; cast it in the stage before, or set task: classification"
            )
        return Target((), numbers(values, name, role))
    raw = _labels(values, name, role)
    if not classes:
        classes = _classes(raw, name, role)
    position = {label: index for index, label in enumerate(classes)}
    strangers = sorted({str(label) for label in raw if label not in position})
    if strangers:
        raise StageError(
            f"input {role}: the target {name!r} has the class {strangers[0]!r}, which training has not; "
            f"split the data stratified by {name!r}"
        )
    return Target(classes, np.array([position[label] for label in raw], dtype=np.int64))


def _classes(raw: list[str | int], name: str, role: str) -> tuple[str | int, ...]:
    counts = Counter(raw)
    classes = tuple(sorted(counts))
    if len(classes) == 1:
        raise StageError(
            f"input {role}: the target {name!r} has one class only, {classes[0]!r}, in all {len(raw)} rows; a classifier needs two: "
            f"look at what the stages before filter out"
        )
    if len(classes) > MOST_CLASSES:
        raise StageError(
            f"input {role}: the target {name!r} has {len(classes)} classes in {len(raw)} rows, and {MOST_CLASSES} is the most; "
            f"set task: regression, or group the classes before"
        )
    return classes


def _labels(values: Any, name: str, role: str) -> list[str | int]:
    if is_text(values.type):
        return [str(v) for v in values.to_pylist()]
    if pa.types.is_integer(values.type) or pa.types.is_boolean(values.type):
        return [int(v) for v in values.to_pylist()]
    if is_numeric(values.type):
        raw = [float(v) for v in values.to_pylist()]
        broken = next((v for v in raw if not v.is_integer()), None)
        if broken is None:
            return [int(v) for v in raw]
        raise StageError(
            f"input {role}: the target {name!r} has the number {broken}, which is no class; set task: regression, or cast it to text before"
        )
    raise StageError(f"input {role}: the target {name!r} is of type {values.type}; make text or whole numbers of it in the stage before")
