"""Linear models, Gaussian naive Bayes and nearest neighbours."""

from typing import Any

import numpy as np
from onnx import TensorProto

from .graph import Graph


def linear(graph: Graph, matrix: str, estimator: Any) -> str:
    """`X W + b` in double, `[rows, targets]`."""
    weights = np.atleast_2d(np.asarray(estimator.coef_, dtype=np.float64)).T
    offset = np.atleast_1d(np.asarray(estimator.intercept_, dtype=np.float64))[None, :]
    product = graph.node("MatMul", [graph.double(matrix), graph.constant(weights, "weights")])
    return graph.node("Add", [product, graph.constant(offset, "offset")])


def naive_bayes(graph: Graph, matrix: str, estimator: Any) -> str:
    """The joint log likelihood of each class; its softmax are the probabilities."""
    mean, variance = estimator.theta_, estimator.var_
    constant = np.log(estimator.class_prior_) - 0.5 * np.sum(np.log(2.0 * np.pi * variance), axis=1)
    rows = graph.node("Unsqueeze", [graph.double(matrix), graph.constant(np.array([1], dtype=np.int64), "axis")])
    difference = graph.node("Sub", [rows, graph.constant(mean[None], "mean")])
    squared = graph.node("Div", [graph.node("Mul", [difference, difference]), graph.constant(2.0 * variance[None], "variance")])
    distance = graph.node("ReduceSum", [squared, graph.constant(np.array([2], dtype=np.int64), "axis")], keepdims=0)
    return graph.node("Sub", [graph.constant(constant[None, :], "prior"), distance])


def neighbors(graph: Graph, matrix: str, estimator: Any, answers: Any) -> str:
    """Mean of the nearest rows' `answers` (one-hot classes, or the target), by `squared_distances`' own operations."""
    fitted = estimator.rows
    columns = _split(graph, matrix, fitted.shape[1])
    total = ""
    for feature, column in enumerate(columns):
        difference = graph.node("Sub", [column, graph.constant(fitted[None, :, feature], "rows")])
        square = graph.node("Mul", [difference, difference])
        total = graph.node("Add", [total, square]) if total else square
    count = graph.constant(np.array([estimator.n_neighbors], dtype=np.int64), "k")
    nearest, indices = graph.name("nearest"), graph.name("indices")
    graph.several("TopK", [total, count], [nearest, indices], axis=1, largest=0, sorted=1)
    found = graph.node("Gather", [graph.constant(np.asarray(answers, dtype=np.float64), "answers"), indices], axis=0)
    weights = _weights(graph, nearest, estimator.weights)
    axis = graph.constant(np.array([1], dtype=np.int64), "axis")
    wide = graph.node("Unsqueeze", [weights, graph.constant(np.array([2], dtype=np.int64), "axis")])
    summed = graph.node("ReduceSum", [graph.node("Mul", [found, wide]), axis], keepdims=0)
    return graph.node("Div", [summed, graph.node("ReduceSum", [weights, axis], keepdims=1)])


def _weights(graph: Graph, squared: str, how: str) -> str:
    if how == "uniform":
        zero = graph.node("Mul", [squared, graph.constant(np.float32(0), "zero")])
        return graph.double(graph.node("Add", [zero, graph.constant(np.float32(1), "one")]))
    # A row at distance 0 outweighs all others, as in scikit-learn.
    distance = graph.node("Sqrt", [squared])
    same = graph.cast(graph.node("Equal", [distance, graph.constant(np.float32(0), "zero")]), TensorProto.DOUBLE)
    any_same = graph.node("ReduceSum", [same, graph.constant(np.array([1], dtype=np.int64), "axis")], keepdims=1)
    inverse = graph.node("Div", [graph.constant(np.float64(1), "one"), graph.double(distance)])
    return graph.node("Where", [graph.cast(any_same, TensorProto.BOOL), same, inverse])


def _split(graph: Graph, matrix: str, width: int) -> list[str]:
    if width == 1:
        return [matrix]
    names = [graph.name("column") for _ in range(width)]
    graph.several("Split", [matrix, graph.constant(np.ones(width, dtype=np.int64), "widths")], names, axis=1)
    return names
