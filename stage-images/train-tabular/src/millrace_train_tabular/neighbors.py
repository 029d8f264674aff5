"""Nearest neighbours with distances and ties that ONNX Runtime repeats bit by bit.

scikit-learn breaks ties between equally distant rows as its tree happens to be laid out. Here the distance is a sum over
the features in their order, in float32, and of equally distant rows the earlier one counts: what ONNX's TopK promises.
"""

from typing import Any

import numpy as np
from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

from .table import Floats

# Rows of queries that are compared at once: bounds the memory to this times the training rows.
CHUNK = 256


def squared_distances(queries: Floats, fitted: Floats) -> Floats:
    """The squared Euclidean distance of each query to each fitted row."""
    total = np.zeros((len(queries), len(fitted)), dtype=np.float32)
    for feature in range(fitted.shape[1]):
        difference = queries[:, feature, None] - fitted[None, :, feature]
        np.multiply(difference, difference, out=difference)
        np.add(total, difference, out=total)
    return total


def nearest(squared: Floats, count: int) -> Any:
    """The positions of the `count` smallest of each row, in order; of equal ones the earlier first."""
    # A float32 that is not negative sorts as its bits do: with the position below them every key is different.
    keys = squared.view(np.uint32).astype(np.int64) << 32
    keys |= np.arange(squared.shape[1], dtype=np.int64)
    if count < squared.shape[1]:
        keys = np.partition(keys, count - 1, axis=1)[:, :count]
    keys.sort(axis=1)
    return keys & 0xFFFFFFFF


class _Ordered:
    """Overrides the search only: voting and averaging stay scikit-learn's."""

    # Read by the converter.
    rows: Floats

    def fit(self, matrix: Floats, target: Any) -> Any:
        self.rows = np.ascontiguousarray(matrix, dtype=np.float32)
        # Any other search than "brute" asks kneighbors() below for every prediction.
        self.algorithm = "kd_tree"
        return super().fit(matrix, target)  # type: ignore[misc]

    def kneighbors(self, X: Any = None, n_neighbors: int | None = None, return_distance: bool = True) -> Any:  # noqa: N803
        count: int = n_neighbors or self.n_neighbors  # type: ignore[attr-defined]
        queries = self.rows if X is None else np.asarray(X, dtype=np.float32)
        distances, indices = [], []
        for start in range(0, len(queries), CHUNK):
            squared = squared_distances(queries[start : start + CHUNK], self.rows)
            positions = nearest(squared, count)
            indices.append(positions)
            # Weights are computed from these in double, here and there.
            distances.append(np.sqrt(np.take_along_axis(squared, positions, axis=1)).astype(np.float64))
        found = np.concatenate(indices)
        return (np.concatenate(distances), found) if return_distance else found


class OrderedNeighborsClassifier(_Ordered, KNeighborsClassifier):  # type: ignore[misc]
    """`KNeighborsClassifier` with a defined order of ties."""


class OrderedNeighborsRegressor(_Ordered, KNeighborsRegressor):  # type: ignore[misc]
    """`KNeighborsRegressor` with a defined order of ties."""
