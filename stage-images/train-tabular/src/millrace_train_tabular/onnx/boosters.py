"""LightGBM's and XGBoost's trees, read from their own JSON dumps."""

import json
from typing import Any

import numpy as np

from ..errors import StageError
from .graph import Graph
from .trees import BELOW, Tree, Trees

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
        tree, values = _lightgbm_tree(info["tree_structure"])
        out.add(tree, number % targets, values)
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
    out = Trees(targets, _start(learner["learner_model_param"]["base_score"], link, targets), mode=BELOW)
    for number, (tree, target) in enumerate(zip(model["trees"], model["tree_info"], strict=True)):
        # The file writes float32 in few digits: only as float32 it is the same number again.
        values = np.asarray(tree["split_conditions"], dtype=np.float32).astype(np.float64)
        left = np.asarray(tree["left_children"])
        shape = Tree(
            leaf=left < 0,
            feature=np.asarray(tree["split_indices"]),
            threshold=values,
            true=left,
            false=np.asarray(tree["right_children"]),
            missing_true=np.asarray(tree["default_left"]),
        )
        out.add(shape, target, values if weights is None else values * float(weights[number]))
    return graph.double(out.emit(graph, matrix)), link


def _lightgbm_tree(root: dict[str, Any]) -> tuple[Tree, Any]:
    """The nodes numbered as they are met, and the leaves' values."""
    # A list that grows while it is read, not recursion: a leaf-wise tree may be deeper than Python's stack.
    nodes = [root]
    children = []
    for node in nodes:
        inner = "leaf_value" not in node
        children.append((len(nodes), len(nodes) + 1) if inner else (0, 0))
        if inner:
            nodes += [node["left_child"], node["right_child"]]
    true, false = np.array(children).T
    threshold = np.array([float(node.get("threshold", 0)) for node in nodes])
    # Without missing values in training LightGBM takes NaN as 0.
    as_zero = np.array([node.get("missing_type") == "None" for node in nodes])
    default_left = np.array([bool(node.get("default_left")) for node in nodes])
    tree = Tree(
        leaf=np.array(["leaf_value" in node for node in nodes]),
        feature=np.array([node.get("split_feature", 0) for node in nodes]),
        threshold=threshold,
        true=true,
        false=false,
        missing_true=np.where(as_zero, threshold >= 0, default_left),
    )
    return tree, np.array([float(node.get("leaf_value", 0)) for node in nodes])


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
