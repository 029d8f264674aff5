"""What a person gets wrong ends with one line that names the column, what was found and what to do; nothing is written."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from generated import table
from millrace_train_tabular.__main__ import main
from stagecase import Stage

ROWS = 60


def with_column(name: str, values: Any) -> pa.Table:
    drawn = table(ROWS, seed=1)
    return (
        drawn.drop_columns([name]).append_column(name, pa.array(values))
        if name in drawn.column_names
        else drawn.append_column(name, pa.array(values))
    )


def plain() -> pa.Table:
    return table(ROWS, seed=1)


CASES: dict[str, tuple[Callable[[], pa.Table], dict[str, Any], list[str]]] = {
    "the target is not there": (plain, {"target": "kinds"}, ["no target column 'kinds'", "did you mean 'kind'"]),
    "the target has missing values": (
        lambda: with_column("kind", [None, None, *["a", "b"] * 29]),
        {},
        ["'kind' is missing in 2 of 60 rows", "IS NOT NULL"],
    ),
    "a numeric target has NaN": (
        lambda: with_column("size", [float("nan"), *np.arange(59.0)]),
        {"target": "size"},
        ["'size' is missing in 1 of 60 rows"],
    ),
    "the target has one class": (lambda: with_column("kind", ["a"] * ROWS), {}, ["one class only, 'a'", "needs two"]),
    "a regression on text": (plain, {"task": "regression"}, ["'kind' is of type string", "needs numbers"]),
    "a classification on fractions": (plain, {"target": "size", "task": "classification"}, ["no class", "task: regression"]),
    "a target of lists": (lambda: with_column("kind", [[1]] * ROWS), {}, ["'kind' is of type list"]),
    "a feature that is not there": (plain, {"features": ["wide", "citi"]}, ["no column 'citi'", "did you mean 'city'"]),
    "the target among the features": (plain, {"features": ["wide", "kind"]}, ["names the target 'kind'"]),
    "a feature named twice": (plain, {"features": ["wide", "wide"]}, ["names 'wide' twice"]),
    "a feature with an output's name": (
        lambda: with_column("label", [1, 2] * 30),
        {},
        ["'label' has the name of the model's output", "rename"],
    ),
    "a column of dates": (
        lambda: with_column("born", np.array(["2020-01-01"] * ROWS, dtype="datetime64[s]")),
        {},
        ["'born' is of type timestamp", "leave it out"],
    ),
    "an infinite value": (lambda: with_column("wide", [float("inf")] + [1.0] * 59), {}, ["'wide' has 1 infinite", "row 0", "NULL"]),
    "a number beyond float32": (lambda: with_column("wide", [1e300] + [1.0] * 59), {}, ["'wide' has 1 infinite"]),
    "free text": (lambda: with_column("name", [f"name {i}" for i in range(ROWS)]), {}, ["'name' has 60 different texts", "maxCategories"]),
    "no useful column": (lambda: with_column("wide", [1.0] * ROWS), {"features": ["wide"]}, ["no feature is left"]),
    "too few rows": (lambda: table(9, seed=1), {}, ["9 rows are too few", "10 is the least"]),
    "too few rows of a class for the folds": (
        lambda: with_column("kind", ["rare"] * 3 + ["a"] * 57),
        {"crossValidation": {"folds": 5}},
        ["'rare' has 3 rows", "5 folds", "3 or less"],
    ),
    "an unknown algorithm": (plain, {"algorithm": "randomforest"}, ["'randomforest'", "did you mean 'random-forest'"]),
    "an algorithm of the other task": (plain, {"algorithm": "ridge"}, ["'ridge' does not do classification", "lightgbm"]),
    "an unknown hyperparameter": (
        plain,
        {"algorithm": "random-forest", "hyperparameters": {"n_estimator": 3}},
        ["n_estimator is not known to random-forest", "did you mean 'n_estimators'"],
    ),
    "a hyperparameter the stage sets": (
        plain,
        {"algorithm": "random-forest", "hyperparameters": {"random_state": 3}},
        ["random_state cannot be set", "params.seed"],
    ),
    "a value that scikit-learn refuses": (
        plain,
        {"algorithm": "random-forest", "hyperparameters": {"n_estimators": -1}},
        ["random-forest cannot be fitted", "'n_estimators'", "-1"],
    ),
    "a value that LightGBM refuses": (
        plain,
        {"algorithm": "lightgbm", "hyperparameters": {"num_leaves": 1}},
        ["lightgbm cannot be fitted", "num_leaves"],
    ),
    "a value that XGBoost refuses": (
        plain,
        {"algorithm": "xgboost", "hyperparameters": {"max_depth": "deep"}},
        ["xgboost cannot be fitted", "max_depth"],
    ),
    "a booster without trees": (
        plain,
        {"algorithm": "xgboost", "hyperparameters": {"booster": "gblinear"}},
        ["booster 'gblinear' cannot be exported", "gbtree"],
    ),
    "no imputing where it is needed": (
        plain,
        {"algorithm": "linear", "preprocessing": {"numeric": {"impute": "none"}}},
        ["'steps' has", "missing values and impute: none", "median"],
    ),
    "a rule for a column that is no feature": (
        plain,
        {"features": ["city"], "preprocessing": {"columns": {"wide": {"scale": "none"}}}},
        ["columns.wide is not among the features"],
    ),
    "an unknown rule": (plain, {"preprocessing": {"numeric": {"inpute": "mean"}}}, ["numeric.inpute is not known", "'impute'"]),
    "an unknown way to scale": (plain, {"preprocessing": {"numeric": {"scale": "log"}}}, ["'log'", "standard, minmax, robust"]),
    "a rule for text on a number": (plain, {"preprocessing": {"columns": {"wide": {"encode": "onehot"}}}}, ["wide.encode is not known"]),
    "constant imputing without a value": (plain, {"preprocessing": {"text": {"impute": "constant"}}}, ["fill is None", "a text"]),
    "a class weight for no class": (plain, {"classWeights": {"kind-9": 2}}, ["kind-9 is no class", "did you mean"]),
    "class weights in a regression": (plain, {"target": "size", "classWeight": "balanced"}, ["does nothing in a regression"]),
    "class weights for neighbours": (plain, {"algorithm": "k-neighbors", "classWeight": "balanced"}, ["does nothing with k-neighbors"]),
    "early stopping of a forest": (
        plain,
        {"algorithm": "random-forest", "earlyStopping": {"rounds": 3}},
        ["does nothing with random-forest", "lightgbm"],
    ),
    "more neighbours than rows": (
        plain,
        {"algorithm": "k-neighbors", "hyperparameters": {"n_neighbors": 61}},
        ["n_neighbors is 61", "60 rows"],
    ),
    "an unknown metric": (plain, {"crossValidation": {"metric": "acuracy"}}, ["'acuracy' is not known", "did you mean"]),
    "a parameter that does not exist": (plain, {"algoritm": "ridge"}, ["params.algoritm is not known", "'algorithm'"]),
    "a seed that is no number": (plain, {"seed": "x"}, ["params.seed is 'x'", "whole number"]),
}


@pytest.mark.parametrize("case", CASES)
def test_it_is_refused_with_the_remedy_when(case: str, stage: Stage) -> None:
    make, params, wanted = CASES[case]
    line = stage.fails(make(), **params)
    for part in wanted:
        assert part in line


def test_validation_rows_with_another_class_are_refused(stage: Stage) -> None:
    line = stage.fails(plain(), with_column("kind", ["new"] * ROWS))
    assert "class 'new', which training has not" in line


def test_validation_rows_without_a_feature_are_refused(stage: Stage) -> None:
    line = stage.fails(plain(), plain().drop_columns(["city"]))
    assert "input validation: there is no column 'city'" in line


def test_validation_rows_of_another_type_are_refused(stage: Stage) -> None:
    line = stage.fails(plain(), with_column("wide", ["text"] * ROWS))
    assert "input validation: column 'wide' is of type string" in line


def test_constant_and_empty_columns_are_left_out_with_a_warning(stage: Stage) -> None:
    drawn = plain().append_column("same", pa.array([7] * ROWS)).append_column("void", pa.array([None] * ROWS, pa.string()))
    drawn = drawn.append_column("nothing", pa.nulls(ROWS)).append_column("blank", pa.array([None] * ROWS, pa.float64()))
    printed = stage.succeeds(drawn, algorithm="decision-tree")
    names = [given["name"] for given in stage.json("model/signature.json")["inputs"]]
    assert not {"same", "void", "nothing", "blank"} & set(names)
    for name in ("same", "void", "nothing", "blank"):
        assert f"warning: column '{name}' is left out" in printed


@pytest.mark.parametrize("content", [b"", b"species,island\n", b"PAR1" + b"\0" * 100 + b"PAR1"])
def test_a_file_that_is_no_parquet_is_refused(
    content: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "data").write_bytes(content)
    monkeypatch.setenv("MILLRACE_INPUT_TRAIN", str(tmp_path / "data"))
    monkeypatch.setenv("MILLRACE_OUTPUT_MODEL", str(tmp_path / "model"))
    monkeypatch.setenv("MILLRACE_OUT", str(tmp_path / "out"))
    monkeypatch.delenv("MILLRACE_INPUT_VALIDATION", raising=False)
    assert main(["--params", '{"target": "kind"}']) == 1
    assert "error: input train: data cannot be read as Parquet" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["", "{", "[]", '"target"', "{}", '{"target": 3}'])
def test_parameters_that_are_no_object_with_a_target_are_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--params", text]) == 1
    assert capsys.readouterr().err.startswith("error: ")
