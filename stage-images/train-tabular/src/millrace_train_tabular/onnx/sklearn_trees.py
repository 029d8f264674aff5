"""scikit-learn's trees: single, averaged (forests), summed (gradient boosting, by either of its two implementations)."""

from typing import Any

import numpy as np

from .graph import Graph
from .trees import AT_MOST, Trees


def averaged(graph: Graph, matrix: str, estimator: Any, classes: int) -> str:
    """A tree or forest: leaves hold the classes' shares or a mean; the sum is divided by the number of trees."""
    members = getattr(estimator, "estimators_", None)
    trees = [estimator.tree_] if members is None else [member.tree_ for member in members]
    targets = max(classes, 1)
    out = Trees(targets, np.zeros(targets))
    for number, tree in enumerate(trees):
        for node, left in enumerate(tree.children_left):
            if left >= 0:
                _split(out, number, node, tree)
                continue
            values = tree.value[node, 0]
            # A zero adds nothing; the first target keeps a leaf from having no weight at all.
            out.leaf(number, node, {t: float(v) for t, v in enumerate(values) if v != 0} or {0: 0.0})
    total = graph.double(out.emit(graph, matrix))
    return graph.node("Div", [total, graph.constant(np.float64(len(trees)), "trees")])


def boosted(graph: Graph, matrix: str, estimator: Any, width: int) -> str:
    """GradientBoosting: the start plus the learning rate times each tree's leaf; `width` is that of the matrix."""
    stages = estimator.estimators_
    # The start depends on no feature: init is the target's mean, quantile or the classes' shares.
    start = np.asarray(estimator._raw_predict_init(np.zeros((1, width), dtype=np.float32)), dtype=np.float64)[0]
    out = Trees(stages.shape[1], start)
    for number, (stage, target) in enumerate(np.ndindex(stages.shape)):
        tree = stages[stage, target].tree_
        for node, left in enumerate(tree.children_left):
            if left >= 0:
                _split(out, number, node, tree)
            else:
                out.leaf(number, node, {target: float(estimator.learning_rate * tree.value[node, 0, 0])})
    return graph.double(out.emit(graph, matrix))


def histogram(graph: Graph, matrix: str, estimator: Any) -> str:
    """HistGradientBoosting: its predictors are arrays of nodes, the learning rate already in the leaves."""
    iterations = estimator._predictors
    start = np.asarray(estimator._baseline_prediction, dtype=np.float64).ravel()
    out = Trees(len(iterations[0]) if iterations else start.size, start)
    number = 0
    for iteration in iterations:
        for target, predictor in enumerate(iteration):
            for node, row in enumerate(predictor.nodes):
                if row["is_leaf"]:
                    out.leaf(number, node, {target: float(row["value"])})
                else:
                    feature, threshold = int(row["feature_idx"]), float(row["num_threshold"])
                    missing = bool(row["missing_go_to_left"])
                    out.branch(number, node, AT_MOST, feature, threshold, int(row["left"]), int(row["right"]), missing)
            number += 1
    return graph.double(out.emit(graph, matrix))


def _split(out: Trees, number: int, node: int, tree: Any) -> None:
    left, right = int(tree.children_left[node]), int(tree.children_right[node])
    out.branch(number, node, AT_MOST, int(tree.feature[node]), float(tree.threshold[node]), left, right, missing_true=False)
