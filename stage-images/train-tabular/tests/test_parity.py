"""The written file answers as the fitted pipeline does, for every algorithm, on rows it was fitted on and on strange ones."""

from typing import Any

import numpy as np
import pytest

from generated import strange, table
from millrace_train_tabular import prepare, target
from millrace_train_tabular.algorithms import CATALOG, CLASSIFICATION, REGRESSION
from millrace_train_tabular.fitting import Rows, fit
from millrace_train_tabular.onnx.convert import convert
from millrace_train_tabular.params import ColumnRule, Params, Preprocessing
from millrace_train_tabular.parity import TOLERANCE, feeds, session
from millrace_train_tabular.pipeline import Pipeline
from millrace_train_tabular.table import read_features

FEATURES = ["steps", "wide", "tiny", "ulps", "whole", "flag", "city"]
# Fewer members than by default: the conversion is the same, and the tests are quick.
SMALLER: dict[str, dict[str, Any]] = {
    "random-forest": {"n_estimators": 30},
    "extra-trees": {"n_estimators": 30},
    "gradient-boosting": {"n_estimators": 30},
    "hist-gradient-boosting": {"max_iter": 30},
    "lightgbm": {"n_estimators": 30},
    "xgboost": {"n_estimators": 30},
}
# Enough to fit well; every comparison below is on 10,000 rows and more.
FITTED_ROWS = 2000


def fitted(algorithm: str, task: str, classes: int = 3, missing: bool = True, **params: Any) -> Pipeline:
    drawn = table(FITTED_ROWS, seed=1, classes=classes, missing=missing)
    name = "kind" if task == CLASSIFICATION else "size"
    answers = target.read(drawn.column(name), name, task, "train")
    rows = Rows(read_features(drawn, FEATURES, "train"), answers)
    settings = {"hyperparameters": SMALLER.get(algorithm, {}), **params}
    return fit(algorithm, task, Params(target=name, **settings), rows, None, threads=1)


def compare(pipeline: Pipeline, model: bytes, rows: Any) -> None:
    """The bound is the issue's: the same labels, probabilities within 1e-5. Labels are scikit-learn's own `predict`."""
    features = read_features(rows, FEATURES, "test")
    answers = session(model).run(None, feeds(features))
    matrix = pipeline.matrix(features)
    if pipeline.task == CLASSIFICATION:
        probabilities = np.asarray(pipeline.estimator.predict_proba(matrix))
        assert np.max(np.abs(answers[1] - probabilities)) <= TOLERANCE
        own = np.asarray(pipeline.classes)[np.asarray(pipeline.estimator.predict(matrix), dtype=int)]
        # Where two classes are as likely but for the last bits of a double, either is right.
        top = np.sort(probabilities, axis=1)
        decided = top[:, -1] - top[:, -2] > 1e-6
        assert decided.mean() > 0.8
        assert np.array_equal(answers[0][decided], own[decided])
        assert np.array_equal(answers[0], np.asarray(pipeline.classes)[pipeline.labels(features)])
        return
    expected = np.asarray(pipeline.estimator.predict(matrix), dtype=np.float64).ravel()
    assert np.max(np.abs(answers[0][:, 0] - expected) / np.maximum(np.abs(expected), 1)) <= TOLERANCE


CASES = [(name, task) for name, algorithm in CATALOG.items() for task in algorithm.tasks]


@pytest.mark.parametrize(("algorithm", "task"), CASES)
def test_the_file_answers_as_the_pipeline_on_new_and_strange_rows(algorithm: str, task: str) -> None:
    pipeline = fitted(algorithm, task)
    model = convert(pipeline)
    compare(pipeline, model, table(10_000, seed=2))
    compare(pipeline, model, strange(2_000, seed=3))


@pytest.mark.parametrize("algorithm", [name for name, task in CASES if task == CLASSIFICATION])
def test_two_classes_are_answered_alike(algorithm: str) -> None:
    pipeline = fitted(algorithm, CLASSIFICATION, classes=2)
    compare(pipeline, convert(pipeline), strange(10_000, seed=4))


@pytest.mark.parametrize("algorithm", ["hist-gradient-boosting", "lightgbm", "xgboost"])
def test_a_value_missing_for_the_first_time_when_served_takes_the_same_branch(algorithm: str) -> None:
    pipeline = fitted(algorithm, CLASSIFICATION, missing=False)
    compare(pipeline, convert(pipeline), strange(10_000, seed=5))


@pytest.mark.parametrize(
    ("algorithm", "task", "hyperparameters"),
    [
        ("lightgbm", REGRESSION, {"n_estimators": 20, "objective": "poisson"}),
        ("lightgbm", REGRESSION, {"n_estimators": 20, "objective": "quantile", "alpha": 0.9}),
        ("lightgbm", CLASSIFICATION, {"n_estimators": 20, "boosting_type": "dart"}),
        ("xgboost", REGRESSION, {"n_estimators": 20, "objective": "reg:gamma"}),
        ("xgboost", CLASSIFICATION, {"n_estimators": 20, "booster": "dart", "rate_drop": 0.3}),
        ("xgboost", CLASSIFICATION, {"n_estimators": 10, "num_parallel_tree": 3, "subsample": 0.5}),
        ("hist-gradient-boosting", REGRESSION, {"max_iter": 20, "loss": "poisson"}),
        ("gradient-boosting", REGRESSION, {"n_estimators": 20, "loss": "huber"}),
        ("k-neighbors", CLASSIFICATION, {"n_neighbors": 7, "weights": "distance"}),
        ("k-neighbors", REGRESSION, {"n_neighbors": 3, "weights": "distance"}),
        ("decision-tree", CLASSIFICATION, {"max_depth": 1}),
        ("random-forest", CLASSIFICATION, {"n_estimators": 10, "max_leaf_nodes": 4}),
    ],
)
def test_a_hyperparameter_that_changes_the_formula_is_followed(algorithm: str, task: str, hyperparameters: dict[str, Any]) -> None:
    pipeline = fitted(algorithm, task, hyperparameters=hyperparameters)
    compare(pipeline, convert(pipeline), strange(10_000, seed=6))


@pytest.mark.parametrize("algorithm", ["gradient-boosting"])
def test_the_exponential_loss_of_two_classes_is_followed(algorithm: str) -> None:
    pipeline = fitted(algorithm, CLASSIFICATION, classes=2, hyperparameters={"n_estimators": 20, "loss": "exponential"})
    compare(pipeline, convert(pipeline), strange(10_000, seed=7))


@pytest.mark.parametrize(
    "rules",
    [
        Preprocessing(numeric=ColumnRule(impute="mean", scale="minmax"), text=ColumnRule(impute="most_frequent", encode="ordinal")),
        Preprocessing(
            numeric=ColumnRule(impute="most_frequent", scale="robust"), text=ColumnRule(impute="constant", fill="Bonn", min_frequency=0.1)
        ),
        Preprocessing(
            numeric=ColumnRule(impute="constant", fill=-1, scale="none"),
            text=ColumnRule(impute="none", max_categories=2),
            columns={"wide": {"impute": "median", "scale": "standard"}},
        ),
    ],
)
@pytest.mark.parametrize("algorithm", ["logistic-regression", "extra-trees", "lightgbm"])
def test_preparation_by_hand_is_in_the_file(rules: Preprocessing, algorithm: str) -> None:
    pipeline = fitted(algorithm, CLASSIFICATION, preprocessing=rules)
    compare(pipeline, convert(pipeline), strange(10_000, seed=8))


@pytest.mark.parametrize("algorithm", ["lightgbm", "xgboost", "hist-gradient-boosting", "gradient-boosting"])
def test_the_file_ends_where_early_stopping_did(algorithm: str) -> None:
    many = {"max_iter": 500} if algorithm == "hist-gradient-boosting" else {"n_estimators": 500}
    pipeline = fitted(algorithm, CLASSIFICATION, hyperparameters=many, early_stopping=3)
    model = convert(pipeline)
    compare(pipeline, model, strange(10_000, seed=9))
    assert len(model) < 1_500_000


def test_a_table_of_text_only_needs_no_numbers() -> None:
    drawn = table(500, seed=1)
    answers = target.read(drawn.column("kind"), "kind", CLASSIFICATION, "train")
    rows = Rows(prepare.drop_useless(read_features(drawn, ["city"], "train")), answers)
    pipeline = fit("logistic-regression", CLASSIFICATION, Params(target="kind"), rows, None, threads=1)
    given = session(convert(pipeline)).run(None, feeds(rows.table))
    assert np.max(np.abs(given[1] - pipeline.probabilities(rows.table))) <= TOLERANCE
