"""The catalog of algorithms: what each is called, which tasks it does, and what it needs of the preparation.

Modules are imported when an algorithm is used: importing all of them takes longer than fitting a small table.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from .errors import StageError
from .params import suggestion

CLASSIFICATION = "classification"
REGRESSION = "regression"


def _linear(task: str) -> Any:
    from sklearn import linear_model

    return linear_model.LogisticRegression if task == CLASSIFICATION else linear_model.LinearRegression


def _ridge(_task: str) -> Any:
    from sklearn.linear_model import Ridge

    return Ridge


def _lasso(_task: str) -> Any:
    from sklearn.linear_model import Lasso

    return Lasso


def _elastic_net(_task: str) -> Any:
    from sklearn.linear_model import ElasticNet

    return ElasticNet


def _naive_bayes(_task: str) -> Any:
    from sklearn.naive_bayes import GaussianNB

    return GaussianNB


def _neighbors(task: str) -> Any:
    from . import neighbors

    return neighbors.OrderedNeighborsClassifier if task == CLASSIFICATION else neighbors.OrderedNeighborsRegressor


def _tree(task: str) -> Any:
    from sklearn import tree

    return tree.DecisionTreeClassifier if task == CLASSIFICATION else tree.DecisionTreeRegressor


def _random_forest(task: str) -> Any:
    from sklearn import ensemble

    return ensemble.RandomForestClassifier if task == CLASSIFICATION else ensemble.RandomForestRegressor


def _extra_trees(task: str) -> Any:
    from sklearn import ensemble

    return ensemble.ExtraTreesClassifier if task == CLASSIFICATION else ensemble.ExtraTreesRegressor


def _gradient_boosting(task: str) -> Any:
    from sklearn import ensemble

    return ensemble.GradientBoostingClassifier if task == CLASSIFICATION else ensemble.GradientBoostingRegressor


def _hist_gradient_boosting(task: str) -> Any:
    from sklearn import ensemble

    return ensemble.HistGradientBoostingClassifier if task == CLASSIFICATION else ensemble.HistGradientBoostingRegressor


def _lightgbm(task: str) -> Any:
    import lightgbm

    return lightgbm.LGBMClassifier if task == CLASSIFICATION else lightgbm.LGBMRegressor


def _xgboost(task: str) -> Any:
    import xgboost

    return xgboost.XGBClassifier if task == CLASSIFICATION else xgboost.XGBRegressor


@dataclass(frozen=True)
class Algorithm:
    """One entry of the catalog."""

    load: Callable[[str], Any]
    tasks: tuple[str, ...] = (CLASSIFICATION, REGRESSION)
    # Numbers are standardized unless the parameters say otherwise.
    scaled: bool = False
    # Fits and predicts with NaN in the matrix.
    takes_missing: bool = False
    # Fits on float64: a float32 solver stops early and its coefficients are rounded.
    wide: bool = False
    takes_weights: bool = True
    stops_early: bool = False
    # Set here and by nobody else: they would change the result between runs, or what the file can carry.
    fixed: dict[str, Any] = field(default_factory=dict)
    # Refused besides the fixed ones, with the reason.
    refused: dict[str, str] = field(default_factory=dict)
    # Taken besides the names in the constructor.
    extra: tuple[str, ...] = ()


_OBJECTIVE = "the objective follows from the task and cannot be set for a classifier"
_ELSEWHERE = {
    "random_state": "write params.seed",
    "class_weight": "write params.classWeight",
    "n_jobs": "the stage uses the CPUs it is given",
    "verbose": "the stage reports by itself",
    "verbosity": "the stage reports by itself",
    "warm_start": "a stage fits once",
    "copy_X": "it does not change the model",
    "early_stopping": "write params.earlyStopping",
    "early_stopping_rounds": "write params.earlyStopping",
    "n_iter_no_change": "write params.earlyStopping",
    "callbacks": "it is code, not a value",
}

CATALOG: dict[str, Algorithm] = {
    "logistic-regression": Algorithm(
        _linear,
        tasks=(CLASSIFICATION,),
        scaled=True,
        wide=True,
        fixed={"max_iter": 1000},
    ),
    "linear-regression": Algorithm(_linear, tasks=(REGRESSION,), scaled=True, wide=True),
    "ridge": Algorithm(_ridge, tasks=(REGRESSION,), scaled=True, wide=True),
    "lasso": Algorithm(_lasso, tasks=(REGRESSION,), scaled=True, wide=True),
    "elastic-net": Algorithm(_elastic_net, tasks=(REGRESSION,), scaled=True, wide=True),
    "naive-bayes": Algorithm(_naive_bayes, tasks=(CLASSIFICATION,), scaled=True, wide=True),
    "k-neighbors": Algorithm(
        _neighbors,
        scaled=True,
        takes_weights=False,
        refused=dict.fromkeys(("algorithm", "leaf_size", "metric", "metric_params", "p"), "the distance is Euclidean and the search exact"),
    ),
    "decision-tree": Algorithm(_tree),
    "random-forest": Algorithm(_random_forest),
    "extra-trees": Algorithm(_extra_trees),
    "gradient-boosting": Algorithm(
        _gradient_boosting, stops_early=True, refused={"init": "the start is the target's mean or the classes' shares"}
    ),
    "hist-gradient-boosting": Algorithm(
        _hist_gradient_boosting,
        takes_missing=True,
        stops_early=True,
        refused={"categorical_features": "write params.preprocessing"},
    ),
    "lightgbm": Algorithm(
        _lightgbm,
        takes_missing=True,
        stops_early=True,
        fixed={"deterministic": True, "force_row_wise": True, "verbosity": -1},
        refused={"linear_tree": "the file holds constant leaves only", "categorical_feature": "write params.preprocessing"},
        extra=("max_bin", "min_data_in_bin", "path_smooth", "extra_trees", "max_delta_step", "alpha", "tweedie_variance_power"),
    ),
    "xgboost": Algorithm(
        _xgboost,
        takes_missing=True,
        stops_early=True,
        fixed={"verbosity": 0, "tree_method": "hist"},
        refused={
            "enable_categorical": "write params.preprocessing",
            "feature_types": "write params.preprocessing",
            "missing": "a missing value is NaN",
            "device": "this image runs on CPUs",
        },
        extra=("rate_drop", "skip_drop", "one_drop", "sample_type", "normalize_type", "tweedie_variance_power", "huber_slope"),
    ),
}

# `auto`: a forest is robust on small tables; on more rows it grows with them, to a model that nobody wants to load.
MOST_FOREST_ROWS = 10_000


def choose(name: str, task: str, rows: int) -> tuple[str, Algorithm]:
    """The catalog's entry for `params.algorithm` and the task."""
    if name == "auto":
        name = "random-forest" if rows <= MOST_FOREST_ROWS else "hist-gradient-boosting"
    # One word for the plain linear model of either task.
    if name == "linear":
        name = "logistic-regression" if task == CLASSIFICATION else "linear-regression"
    algorithm = CATALOG.get(name)
    if algorithm is None:
        raise StageError(f"params.algorithm {name!r} is not known: {suggestion(name, ['auto', 'linear', *CATALOG])}")
    if task not in algorithm.tasks:
        fitting = ", ".join(n for n, a in CATALOG.items() if task in a.tasks)
        raise StageError(f"params.algorithm {name!r} does not do {task}: use one of {fitting}, or set params.task")
    return name, algorithm


def build(name: str, algorithm: Algorithm, task: str, hyperparameters: dict[str, Any], seed: int, threads: int) -> Any:
    """An estimator that is not fitted yet. Unknown hyper-parameters are refused by name."""
    kind = algorithm.load(task)
    known = set(kind().get_params()) | set(algorithm.extra)
    check_hyperparameters(name, algorithm, task, hyperparameters, known)
    values = {**algorithm.fixed, **{key: _number(value) for key, value in hyperparameters.items()}}
    if "random_state" in known:
        values["random_state"] = seed
    if "n_jobs" in known and name not in ("k-neighbors", "logistic-regression", "linear-regression"):
        values["n_jobs"] = threads
    return kind(**values)


def check_hyperparameters(name: str, algorithm: Algorithm, task: str, given: dict[str, Any], known: set[str]) -> None:
    """Refuses what the estimator does not have, and what the stage decides itself."""
    refused = {**_ELSEWHERE, **algorithm.refused, **{key: "the stage sets it" for key in algorithm.fixed if key != "max_iter"}}
    if task == CLASSIFICATION and name in ("lightgbm", "xgboost"):
        refused["objective"] = _OBJECTIVE
    for key in given:
        if key in refused:
            raise StageError(f"params.hyperparameters.{key} cannot be set for {name}: {refused[key]}")
        if key not in known:
            raise StageError(f"params.hyperparameters.{key} is not known to {name}: {suggestion(key, known - refused.keys())}")


def accepts(estimator: Any, argument: str) -> bool:
    """Whether the estimator's `fit` has this argument."""
    return argument in inspect.signature(estimator.fit).parameters


def _number(value: Any) -> Any:
    # An expression's numbers are doubles: 200.0 means 200. Floating parameters take an integer just as well.
    return int(value) if isinstance(value, float) and value.is_integer() and abs(value) >= 1 and value != 1.0 else value
