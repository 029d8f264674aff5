"""Tree ensembles as one TreeEnsembleRegressor with double thresholds and leaves, one target a class.

Nodes are kept as arrays: a forest on many rows has tens of millions, which as Python numbers would need gigabytes.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from onnx import AttributeProto, numpy_helper

from ..errors import StageError
from .graph import Graph

Doubles = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

# Goes to the true branch if the value is at most the threshold, or below it (XGBoost).
AT_MOST = b"BRANCH_LEQ"
BELOW = b"BRANCH_LT"
LEAF = b"LEAF"

# An ONNX file is one protobuf message of at most 2 GiB; a node takes about 60 bytes.
MOST_NODES = 30_000_000


@dataclass(frozen=True)
class Tree:
    """One tree: arrays of one entry a node, the root first. What a leaf does not have may be anything."""

    leaf: npt.NDArray[np.bool_]
    feature: Any
    threshold: Any
    # Node numbers of this tree.
    true: Any
    false: Any
    # Whether a missing value goes to the true branch.
    missing_true: Any


@dataclass
class Trees:
    """The node and leaf arrays of the operator, tree after tree."""

    targets: int
    base: Doubles
    mode: bytes = AT_MOST
    count: int = 0
    nodes: int = 0
    columns: dict[str, list[Any]] = field(default_factory=dict)

    def add(self, tree: Tree, target: int, values: Any) -> None:
        """A tree whose leaves add `values[node]` to one target."""
        at = np.flatnonzero(tree.leaf)
        self._add(tree, at, np.full(at.size, target), np.asarray(values)[at])

    def add_shares(self, tree: Tree, values: Doubles) -> None:
        """A tree whose leaves add `values[node, target]` to each target."""
        values = np.where(tree.leaf[:, None], values, 0)
        # A zero adds nothing; the first target keeps a leaf from having no weight at all.
        wanted = values != 0
        wanted[:, 0] |= tree.leaf & ~wanted.any(axis=1)
        at, targets = np.nonzero(wanted)
        self._add(tree, at, targets, values[at, targets])

    def _add(self, tree: Tree, at: Integers, targets: Integers, weights: Doubles) -> None:
        size, inner = tree.leaf.size, ~tree.leaf
        self.nodes += size
        if self.nodes > MOST_NODES:
            raise StageError(
                f"the model has more than {MOST_NODES} nodes, which no ONNX file holds; bound the trees with params.hyperparameters: "
                f"max_depth, min_samples_leaf or n_estimators, or use lightgbm"
            )
        for name, values in {
            "nodes_treeids": np.full(size, self.count),
            "nodes_nodeids": np.arange(size),
            "nodes_featureids": np.where(inner, tree.feature, 0),
            "nodes_truenodeids": np.where(inner, tree.true, 0),
            "nodes_falsenodeids": np.where(inner, tree.false, 0),
            "nodes_missing_value_tracks_true": np.where(inner, tree.missing_true, 0),
            "target_treeids": np.full(at.size, self.count),
            "target_nodeids": at,
            "target_ids": targets,
        }.items():
            # int32 until it is written: half the memory.
            self.columns.setdefault(name, []).append(np.asarray(values, dtype=np.int32))
        self.columns.setdefault("thresholds", []).append(np.where(inner, tree.threshold, 0).astype(np.float64))
        self.columns.setdefault("inner", []).append(inner)
        self.columns.setdefault("weights", []).append(np.asarray(weights, dtype=np.float64))
        self.count += 1

    def emit(self, graph: Graph, matrix: str) -> str:
        """The sum over all trees and the base, float32 by the operator's definition, `[rows, targets]`."""
        settings = {"n_targets": self.targets, "aggregate_function": "SUM", "post_transform": "NONE"}
        return graph.large_node("TreeEnsembleRegressor", graph.double(matrix), settings, self._attributes())

    def _attributes(self) -> Iterator[Any]:
        """One after the other, each array given up as it is written."""

        def taken(name: str) -> Any:
            return np.concatenate(self.columns.pop(name))

        yield _tensor("nodes_values_as_tensor", taken("thresholds"))
        yield _tensor("target_weights_as_tensor", taken("weights"))
        modes = [self.mode if inner else LEAF for inner in taken("inner")]
        yield AttributeProto(name="nodes_modes", type=AttributeProto.STRINGS, strings=modes)
        if np.any(self.base != 0):
            yield _tensor("base_values_as_tensor", self.base)
        for name in list(self.columns):
            yield AttributeProto(name=name, type=AttributeProto.INTS, ints=taken(name))


def _tensor(name: str, values: Doubles) -> Any:
    tensor = numpy_helper.from_array(np.ascontiguousarray(values, dtype=np.float64), name)
    return AttributeProto(name=name, type=AttributeProto.TENSOR, t=tensor)
