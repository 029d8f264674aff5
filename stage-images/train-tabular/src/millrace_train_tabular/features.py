"""The input `features`: what the stage of that name has learned, as a graph from raw columns to features.

The graph is run as it is, here and in the model's file, where its nodes come before the model's: what is fitted on is what is served on.
"""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from .errors import StageError
from .params import Params, suggestion
from .table import Numbers, Table, Texts, is_numeric, is_text

# Of the artifact's form.
VERSION = 1
# The names of the graph's outputs.
NUMBERS = "features/numbers"
TEXT = "features/text/"
# At once through the graph.
ROWS = 65_536


@dataclass(frozen=True)
class Features:
    """A fitted graph: raw columns in, features out. Names with whether they are numbers; others are texts."""

    graph: bytes
    inputs: dict[str, bool]
    outputs: dict[str, bool]
    # Windows over time among the inputs: a request has to bring them.
    windows: tuple[str, ...]
    target: str | None
    # The outputs that the model gets.
    chosen: tuple[str, ...]

    @cached_property
    def _session(self) -> Any:
        from .parity import session

        return session(self.graph)

    def numbers(self) -> list[str]:
        """The columns of the graph's matrix."""
        return [name for name, numeric in self.outputs.items() if numeric]

    def choose(self, names: Iterable[str]) -> "Features":
        """Only these features go to the model."""
        return replace(self, chosen=tuple(names))

    def apply(self, raw: Table) -> Table:
        """The features of raw rows."""
        from .parity import feeds

        numbers, texts = self.numbers(), [name for name, numeric in self.outputs.items() if not numeric]
        wanted = ([NUMBERS] if numbers else []) + [TEXT + name for name in texts]
        parts: list[list[Any]] = [[] for _ in wanted]
        for start in range(0, raw.rows, ROWS):
            rows = np.arange(start, min(start + ROWS, raw.rows))
            for part, value in zip(parts, self._session.run(wanted, feeds(raw.take(rows))), strict=True):
                part.append(value)
        found = {name: np.concatenate(part) for name, part in zip(wanted, parts, strict=True) if part}
        columns: dict[str, Numbers | Texts] = {}
        for name in self.chosen:
            if not self.outputs[name]:
                values, codes = np.unique(found[TEXT + name].ravel().astype(str), return_inverse=True)
                columns[name] = Texts(codes.astype(np.int64), tuple(str(value) for value in values))
            else:
                columns[name] = Numbers(np.ascontiguousarray(found[NUMBERS][:, numbers.index(name)]))
        return Table(columns, raw.rows)


def load(folder: Path) -> Features:
    """Reads the artifact."""
    state, graph = folder / "features.json", folder / "features.onnx"
    for file in (state, graph):
        if not file.is_file():
            raise StageError(f"input features: there is no {file.name} at {folder}; give the output `features` of the stage features")
    try:
        given = json.loads(state.read_text())
        if given["version"] != VERSION:
            raise StageError(
                f"input features: {state.name} has the version {given['version']}, and this stage knows {VERSION}; use images of one "
                f"release"
            )
        outputs = {column["name"]: column["datatype"] == "FP32" for column in given["outputs"]}
        return Features(
            graph=graph.read_bytes(),
            inputs={column["name"]: column["datatype"] == "FP32" for column in given["inputs"]},
            outputs=outputs,
            windows=tuple(window["name"] for window in given["windows"]),
            target=given.get("target"),
            chosen=tuple(outputs),
        )
    except (json.JSONDecodeError, UnicodeDecodeError, KeyError, TypeError) as err:
        raise StageError(f"input features: {state} is not as the stage features writes it ({err!r}); run that stage again") from err


def check(features: Features, params: Params, raw: Any) -> None:
    """Refuses what does not go together: parameters, the target, and the columns of the training rows."""
    if params.features is not None:
        raise StageError("params.features does nothing with the input features: choose there, with the steps drop and select")
    if params.target in features.inputs:
        raise StageError(
            f"input features: it makes features of the target {params.target!r}: a model must not see what it predicts; write "
            f"target: {params.target} in the stage features"
        )
    if features.target not in (None, params.target):
        raise StageError(
            f"input features: it was fitted with the target {features.target!r}, and params.target is {params.target!r}; write the same "
            f"in both"
        )
    for name, numeric in features.inputs.items():
        if name not in raw.column_names:
            raise StageError(_missing(features, name, raw.column_names))
        kind = raw.column(name).type
        if not (is_numeric(kind) if numeric else is_text(kind)):
            wanted = "numbers" if numeric else "text"
            raise StageError(f"input train: column {name!r} is of type {kind}, and the features are made of {wanted} there")


def _missing(features: Features, name: str, known: list[str]) -> str:
    if name in features.windows:
        return (
            f"input train: there is no column {name!r}, a window that the stage features makes of several rows; give its output train "
            f"with write: raw, which has the raw columns and the windows"
        )
    if set(features.outputs) - set(features.inputs) <= set(known) and set(features.outputs) != set(features.inputs):
        return (
            f"input train: there is no column {name!r}, but the features that are made of it: with the input features, train is the table "
            f"before the stage features, with the raw columns that the served model takes"
        )
    return f"input train: there is no column {name!r}, which the features are made of: {suggestion(name, known)}"
