"""Tree ensembles as one TreeEnsembleRegressor with double thresholds and leaves, one target a class."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from .graph import Graph

LEAF = "LEAF"
# Goes to the true branch if the value is at most the threshold, or below it (XGBoost).
AT_MOST = "BRANCH_LEQ"
BELOW = "BRANCH_LT"


@dataclass
class Trees:
    """The node and leaf lists of the operator."""

    targets: int
    base: npt.NDArray[np.float64]
    tree: list[int] = field(default_factory=list)
    node: list[int] = field(default_factory=list)
    feature: list[int] = field(default_factory=list)
    mode: list[str] = field(default_factory=list)
    threshold: list[float] = field(default_factory=list)
    true: list[int] = field(default_factory=list)
    false: list[int] = field(default_factory=list)
    missing_true: list[int] = field(default_factory=list)
    leaf_tree: list[int] = field(default_factory=list)
    leaf_node: list[int] = field(default_factory=list)
    leaf_target: list[int] = field(default_factory=list)
    leaf_weight: list[float] = field(default_factory=list)

    def branch(self, tree: int, node: int, mode: str, feature: int, threshold: float, true: int, false: int, missing_true: bool) -> None:
        """A node that sends a row to `true` or `false`, which are node numbers of the same tree."""
        self._node(tree, node, mode, feature, threshold, true, false, int(missing_true))

    def leaf(self, tree: int, node: int, weights: dict[int, float]) -> None:
        """A node that adds its weights to its targets."""
        self._node(tree, node, LEAF, 0, 0.0, 0, 0, 0)
        for target, weight in weights.items():
            self.leaf_tree.append(tree)
            self.leaf_node.append(node)
            self.leaf_target.append(target)
            self.leaf_weight.append(weight)

    def _node(self, tree: int, node: int, mode: str, feature: int, threshold: float, true: int, false: int, missing_true: int) -> None:
        self.tree.append(tree)
        self.node.append(node)
        self.mode.append(mode)
        self.feature.append(feature)
        self.threshold.append(threshold)
        self.true.append(true)
        self.false.append(false)
        self.missing_true.append(missing_true)

    def emit(self, graph: Graph, matrix: str) -> str:
        """The sum over all trees and the base, float32 by the operator's definition, `[rows, targets]`."""
        from onnx import numpy_helper

        def doubles(values: list[float] | npt.NDArray[np.float64], name: str) -> object:
            return numpy_helper.from_array(np.asarray(values, dtype=np.float64), name)

        attributes: dict[str, Any] = {
            "n_targets": self.targets,
            "aggregate_function": "SUM",
            "post_transform": "NONE",
            "nodes_treeids": self.tree,
            "nodes_nodeids": self.node,
            "nodes_featureids": self.feature,
            "nodes_modes": self.mode,
            "nodes_values_as_tensor": doubles(self.threshold, "thresholds"),
            "nodes_truenodeids": self.true,
            "nodes_falsenodeids": self.false,
            "nodes_missing_value_tracks_true": self.missing_true,
            "target_treeids": self.leaf_tree,
            "target_nodeids": self.leaf_node,
            "target_ids": self.leaf_target,
            "target_weights_as_tensor": doubles(self.leaf_weight, "leaves"),
        }
        if np.any(self.base != 0):
            attributes["base_values_as_tensor"] = doubles(self.base, "base")
        return graph.node("TreeEnsembleRegressor", [graph.double(matrix)], ml=True, **attributes)
