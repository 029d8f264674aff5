"""LightGBM's and XGBoost's trees, read from their own JSON dumps."""

import json
from typing import Any

import numpy as np

from ..errors import StageError
from .graph import Graph
from .trees import AT_MOST, BELOW, Trees

# What a sum of leaves becomes, by the objective.
LIGHTGBM_LINKS = {
    "regression": "identity",
    "regression_l1": "identity",
    "huber": "identity",
    "fair": "identity",
    "quantile": "identity",
    "mape": "identity",
    "poisson": "exp",
    "gamma": "exp",
    "tweedie": "exp",
    "binary": "sigmoid",
    "multiclass": "softmax",
}
XGBOOST_LINKS = {
    "reg:squarederror": "identity",
    "reg:absoluteerror": "identity",
    "reg:pseudohubererror": "identity",
    "reg:quantileerror": "identity",
    "count:poisson": "exp",
    "reg:gamma": "exp",
    "reg:tweedie": "exp",
    "binary:logistic": "sigmoid",
    "multi:softprob": "softmax",
}


def lightgbm(graph: Graph, matrix: str, estimator: Any) -> tuple[str, str]:
    """The sum of leaves, and the link that makes the answer of it."""
    dump = estimator.booster_.dump_model(num_iteration=estimator.best_iteration_ or -1)
    link = _link(dump["objective"].split()[0], LIGHTGBM_LINKS, "lightgbm")
    if dump.get("average_output"):
        raise StageError("params.hyperparameters.boosting_type 'rf' cannot be exported: use random-forest")
    targets = dump["num_tree_per_iteration"]
    out = Trees(targets, np.zeros(targets))
    for number, info in enumerate(dump["tree_info"]):
        target = number % targets
        # A stack, not recursion: a leaf-wise tree may be deeper than Python's stack.
        waiting = [(info["tree_structure"], 0)]
        free = 1
        while waiting:
            here, node = waiting.pop()
            if "leaf_value" in here:
                out.leaf(number, node, {target: float(here["leaf_value"])})
                continue
            threshold = float(here["threshold"])
            # Without missing values in training LightGBM takes NaN as 0.
            missing = threshold >= 0.0 if here["missing_type"] == "None" else bool(here["default_left"])
            out.branch(number, node, AT_MOST, int(here["split_feature"]), threshold, free, free + 1, missing)
            waiting += [(here["left_child"], free), (here["right_child"], free + 1)]
            free += 2
    return graph.double(out.emit(graph, matrix)), link


def xgboost(graph: Graph, matrix: str, estimator: Any) -> tuple[str, str]:
    """The sum of leaves, and the link that makes the answer of it."""
    booster = estimator.get_booster()
    best = getattr(estimator, "best_iteration", None) if estimator.early_stopping_rounds else None
    if best is not None:
        booster = booster[: best + 1]
    learner = json.loads(bytes(booster.save_raw("json")))["learner"]
    link = _link(learner["objective"]["name"], XGBOOST_LINKS, "xgboost")
    boosting = learner["gradient_booster"]
    if boosting["name"] not in ("gbtree", "dart"):
        raise StageError(f"params.hyperparameters.booster {boosting['name']!r} cannot be exported: use gbtree or dart")
    weights = boosting.get("weight_drop")
    model = boosting["gbtree"]["model"] if weights is not None else boosting["model"]
    targets = max(int(learner["learner_model_param"]["num_class"]), 1)
    out = Trees(targets, _start(learner["learner_model_param"]["base_score"], link, targets))
    for number, (tree, target) in enumerate(zip(model["trees"], model["tree_info"], strict=True)):
        weight = 1.0 if weights is None else float(weights[number])
        for node, left in enumerate(tree["left_children"]):
            # The file writes float32 in few digits: only as float32 it is the same number again.
            value = float(np.float32(tree["split_conditions"][node]))
            if left < 0:
                out.leaf(number, node, {target: weight * value})
                continue
            feature, right = tree["split_indices"][node], tree["right_children"][node]
            out.branch(number, node, BELOW, feature, value, left, right, bool(tree["default_left"][node]))
    return graph.double(out.emit(graph, matrix)), link


def _start(text: str, link: str, targets: int) -> Any:
    values = np.asarray(json.loads(text), dtype=np.float64).ravel()
    start = values if values.size == targets else np.full(targets, values[0])
    if link == "sigmoid":
        return np.log(start / (1 - start))
    return np.log(start) if link == "exp" else start


def _link(objective: str, links: dict[str, str], name: str) -> str:
    link = links.get(objective)
    if link is None:
        raise StageError(f"params.hyperparameters.objective {objective!r} of {name} cannot be exported: use one of {', '.join(links)}")
    return link
