"""The stage's parameters: one JSON object, checked before any data is read."""

import difflib
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from .errors import StageError

TASKS = ("auto", "classification", "regression")
NUMERIC_IMPUTE = ("auto", "none", "mean", "median", "most_frequent", "constant")
TEXT_IMPUTE = ("none", "most_frequent", "constant")
SCALES = ("auto", "none", "standard", "minmax", "robust")
ENCODINGS = ("onehot", "ordinal")


@dataclass(frozen=True)
class ColumnRule:
    """How one column is prepared. What does not apply to the column's type stays at its default."""

    impute: str = "auto"
    fill: float | str | None = None
    scale: str = "auto"
    encode: str = "onehot"
    # A category in fewer rows than this counts as unknown: below 1 a fraction, else a number of rows.
    min_frequency: float = 1
    max_categories: int | None = None


@dataclass(frozen=True)
class Preprocessing:
    """Rules by column type, and by column."""

    numeric: ColumnRule = field(default_factory=ColumnRule)
    text: ColumnRule = field(default_factory=lambda: ColumnRule(impute="none"))
    columns: dict[str, dict[str, Any]] = field(default_factory=dict)


@dataclass(frozen=True)
class CrossValidation:
    """How often the training rows are split, and what is measured on the part held back."""

    folds: int
    metric: str | None


@dataclass(frozen=True)
class Params:
    """All parameters of one run of the stage."""

    target: str
    task: str = "auto"
    algorithm: str = "auto"
    hyperparameters: dict[str, Any] = field(default_factory=dict)
    features: tuple[str, ...] | None = None
    preprocessing: Preprocessing = field(default_factory=Preprocessing)
    cross_validation: CrossValidation | None = None
    class_weight: str | dict[str, float] | None = None
    seed: int = 0
    early_stopping: int | None = None


def suggestion(name: str, known: Iterable[str]) -> str:
    """What to write instead of a name that is not known."""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.6)
    return f"did you mean {' or '.join(repr(c) for c in close)}?" if close else f"known are {', '.join(names)}"


def parse_params(text: str) -> Params:
    """Reads `--params`."""
    try:
        given = json.loads(text)
    except json.JSONDecodeError as err:
        raise StageError(f'--params is not JSON: {err}; write one object, as in {{"target": "species"}}') from err
    top = _object(given, "params", (
        "target", "task", "algorithm", "hyperparameters", "features", "preprocessing", "crossValidation", "classWeight",
        "classWeights", "seed", "earlyStopping",
    ))  # fmt: skip
    # A parameter that the pipeline leaves out may come as null.
    top = {key: value for key, value in top.items() if value is not None}
    target = top.get("target")
    if not isinstance(target, str) or not target:
        raise StageError("params.target is missing: name the column to predict, as in target: species")
    task = _choice(top.get("task", "auto"), "params.task", TASKS)
    algorithm = top.get("algorithm", "auto")
    if not isinstance(algorithm, str):
        raise StageError(f"params.algorithm is {algorithm!r}: write the name of an algorithm")
    hyperparameters = top.get("hyperparameters", {})
    if not isinstance(hyperparameters, dict):
        raise StageError(f"params.hyperparameters is {hyperparameters!r}: write an object, as in {{n_estimators: 200}}")
    return Params(
        target=target,
        task=task,
        algorithm=algorithm,
        hyperparameters=hyperparameters,
        features=_features(top.get("features"), target),
        preprocessing=_preprocessing(top.get("preprocessing", "auto")),
        cross_validation=_cross_validation(top.get("crossValidation")),
        class_weight=_class_weight(top.get("classWeight", "none"), top.get("classWeights", {})),
        seed=_integer(top.get("seed", 0), "params.seed", 0, 2**31 - 1),
        early_stopping=_early_stopping(top.get("earlyStopping")),
    )


def column_rule(preprocessing: Preprocessing, column: str, numeric: bool) -> ColumnRule:
    """The rule of one column: its own fields over those of its type."""
    base = preprocessing.numeric if numeric else preprocessing.text
    own = preprocessing.columns.get(column)
    if own is None:
        return base
    return _rule(own, f"params.preprocessing.columns.{column}", base, numeric)


def _preprocessing(given: Any) -> Preprocessing:
    if given == "auto":
        return Preprocessing()
    top = _object(given, "params.preprocessing", ("numeric", "text", "columns"))
    default = Preprocessing()
    columns = top.get("columns", {})
    if not isinstance(columns, dict):
        raise StageError("params.preprocessing.columns is no object: write column names with their rules")
    return Preprocessing(
        numeric=_rule(top.get("numeric", {}), "params.preprocessing.numeric", default.numeric, numeric=True),
        text=_rule(top.get("text", {}), "params.preprocessing.text", default.text, numeric=False),
        columns=columns,
    )


def _rule(given: Any, where: str, base: ColumnRule, numeric: bool) -> ColumnRule:
    known = ("impute", "fill", "scale") if numeric else ("impute", "fill", "encode", "minFrequency", "maxCategories")
    rule = _object(given, where, known)
    impute = _choice(rule.get("impute", base.impute), f"{where}.impute", NUMERIC_IMPUTE if numeric else TEXT_IMPUTE)
    fill = rule.get("fill", base.fill)
    if impute == "constant":
        wanted: type | tuple[type, ...] = (int, float) if numeric else str
        if not isinstance(fill, wanted) or isinstance(fill, bool):
            kind = "a number" if numeric else "a text"
            raise StageError(f"{where}.fill is {fill!r}: impute: constant needs {kind} to fill in")
    elif "fill" in rule:
        raise StageError(f"{where}.fill does nothing with impute: {impute}: write impute: constant, or leave fill out")
    least = rule.get("minFrequency", base.min_frequency)
    if isinstance(least, bool) or not isinstance(least, int | float) or least < 0:
        raise StageError(f"{where}.minFrequency is {least!r}: write a fraction below 1, or a number of rows")
    most = rule.get("maxCategories", base.max_categories)
    return ColumnRule(
        impute=impute,
        fill=fill,
        scale=_choice(rule.get("scale", base.scale), f"{where}.scale", SCALES),
        encode=_choice(rule.get("encode", base.encode), f"{where}.encode", ENCODINGS),
        min_frequency=least,
        max_categories=None if most is None else _integer(most, f"{where}.maxCategories", 1, 100_000),
    )


def _features(given: Any, target: str) -> tuple[str, ...] | None:
    if given is None or given == []:
        return None
    if not isinstance(given, list) or not all(isinstance(name, str) for name in given):
        raise StageError(f"params.features is {given!r}: write a list of column names")
    twice = sorted({name for name in given if given.count(name) > 1})
    if twice:
        raise StageError(f"params.features names {twice[0]!r} twice: name each column once")
    if target in given:
        raise StageError(f"params.features names the target {target!r}: a model must not see what it predicts; leave it out")
    return tuple(given)


def _cross_validation(given: Any) -> CrossValidation | None:
    if given is None or given == {}:
        return None
    top = _object(given, "params.crossValidation", ("folds", "metric"))
    metric = top.get("metric")
    if metric is not None and not isinstance(metric, str):
        raise StageError(f"params.crossValidation.metric is {metric!r}: write the name of a metric")
    return CrossValidation(_integer(top.get("folds", 5), "params.crossValidation.folds", 2, 100), metric)


def _class_weight(mode: Any, weights: Any) -> str | dict[str, float] | None:
    _choice(mode, "params.classWeight", ("none", "balanced"))
    if weights == {}:
        return None if mode == "none" else "balanced"
    if not isinstance(weights, dict) or not all(_positive(value) for value in weights.values()):
        raise StageError(f"params.classWeights is {weights!r}: write an object with a positive number a class")
    if mode == "balanced":
        raise StageError("params.classWeight is 'balanced' and params.classWeights is given: leave one of them out")
    return {str(name): float(value) for name, value in weights.items()}


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _early_stopping(given: Any) -> int | None:
    if given is None or given == {}:
        return None
    top = _object(given, "params.earlyStopping", ("rounds",))
    return _integer(top.get("rounds", 20), "params.earlyStopping.rounds", 1, 10_000)


def _object(given: Any, where: str, known: tuple[str, ...]) -> dict[str, Any]:
    if not isinstance(given, dict):
        raise StageError(f"{where} is {given!r}: write an object with some of {', '.join(known)}")
    for name in given:
        if name not in known:
            raise StageError(f"{where}.{name} is not known: {suggestion(name, known)}")
    return given


def _choice(given: Any, where: str, known: tuple[str, ...]) -> str:
    if not isinstance(given, str) or given not in known:
        raise StageError(f"{where} is {given!r}: write one of {', '.join(known)}")
    return given


def _integer(given: Any, where: str, least: int, most: int) -> int:
    # An expression's numbers are doubles, so 5 may arrive as 5.0.
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, int) or not least <= given <= most:
        raise StageError(f"{where} is {given!r}: write a whole number from {least} to {most}")
    return given
