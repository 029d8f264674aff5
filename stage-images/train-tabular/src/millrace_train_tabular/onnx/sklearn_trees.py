"""scikit-learn's trees: single, averaged (forests), summed (gradient boosting, by either of its two implementations)."""

from typing import Any

import numpy as np

from .graph import Graph
from .trees import Tree, Trees


def averaged(graph: Graph, matrix: str, estimator: Any, classes: int) -> str:
    """A tree or forest: leaves hold the classes' shares or a mean; the sum is divided by the number of trees."""
    members = getattr(estimator, "estimators_", None)
    trees = [estimator.tree_] if members is None else [member.tree_ for member in members]
    targets = max(classes, 1)
    out = Trees(targets, np.zeros(targets))
    for tree in trees:
        out.add_shares(_tree(tree), tree.value[:, 0, :])
    total = graph.double(out.emit(graph, matrix))
    return graph.node("Div", [total, graph.constant(np.float64(len(trees)), "trees")])


def boosted(graph: Graph, matrix: str, estimator: Any, width: int) -> str:
    """GradientBoosting: the start plus the learning rate times each tree's leaf; `width` is that of the matrix."""
    stages = estimator.estimators_
    # The start depends on no feature: init is the target's mean, quantile or the classes' shares.
    start = np.asarray(estimator._raw_predict_init(np.zeros((1, width), dtype=np.float32)), dtype=np.float64)[0]
    out = Trees(stages.shape[1], start)
    for stage, target in np.ndindex(stages.shape):
        tree = stages[stage, target].tree_
        out.add(_tree(tree), target, estimator.learning_rate * tree.value[:, 0, 0])
    return graph.double(out.emit(graph, matrix))


def histogram(graph: Graph, matrix: str, estimator: Any) -> str:
    """HistGradientBoosting: its predictors are arrays of nodes, the learning rate already in the leaves."""
    iterations = estimator._predictors
    start = np.asarray(estimator._baseline_prediction, dtype=np.float64).ravel()
    out = Trees(start.size, start)
    for iteration in iterations:
        for target, predictor in enumerate(iteration):
            nodes = predictor.nodes
            tree = Tree(
                leaf=nodes["is_leaf"].astype(bool),
                feature=nodes["feature_idx"],
                threshold=nodes["num_threshold"],
                true=nodes["left"],
                false=nodes["right"],
                missing_true=nodes["missing_go_to_left"],
            )
            out.add(tree, target, nodes["value"])
    return graph.double(out.emit(graph, matrix))


def _tree(tree: Any) -> Tree:
    return Tree(
        leaf=tree.children_left < 0,
        feature=tree.feature,
        threshold=tree.threshold,
        true=tree.children_left,
        false=tree.children_right,
        # The preparation has filled them all.
        missing_true=False,
    )
