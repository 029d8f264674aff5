"""The whole pipeline as one model: preparation, estimator, link, outputs with fixed names, signature in the metadata."""

import json
from typing import Any

import numpy as np
from onnx import TensorProto, helper

from ..algorithms import CLASSIFICATION
from ..pipeline import Pipeline
from ..signature import METADATA_KEY, signature
from . import boosters, others, prepare, sklearn_trees
from .graph import Graph

AVERAGED = ("decision-tree", "random-forest", "extra-trees")


def convert(pipeline: Pipeline) -> bytes:
    """The bytes of `model.onnx`: the same pipeline gives the same bytes."""
    graph = Graph()
    matrix = prepare.emit(graph, pipeline.prepared, pipeline.shape, pipeline.features)
    value, link = _estimator(graph, matrix, pipeline)
    value = _linked(graph, value, link)
    metadata = {METADATA_KEY: json.dumps(signature(pipeline))}
    outputs = _classes(graph, value, pipeline) if pipeline.task == CLASSIFICATION else _number(graph, value)
    return bytes(graph.model(outputs, metadata).SerializeToString(deterministic=True))


def _estimator(graph: Graph, matrix: str, pipeline: Pipeline) -> tuple[str, str]:
    """What the estimator computes, and the link from that to the answer."""
    estimator, algorithm, classes = pipeline.estimator, pipeline.algorithm, len(pipeline.classes)
    multiclass = "softmax" if classes > 2 else "sigmoid"
    score_link = multiclass if classes else "identity"
    if algorithm in AVERAGED:
        return sklearn_trees.averaged(graph, matrix, estimator, classes), "identity"
    if algorithm == "k-neighbors":
        answers = np.eye(classes)[estimator._y] if classes else estimator._y[:, None]
        return others.neighbors(graph, matrix, estimator, answers), "identity"
    if algorithm == "naive-bayes":
        return others.naive_bayes(graph, matrix, estimator), "softmax"
    if algorithm == "lightgbm":
        return boosters.lightgbm(graph, matrix, estimator)
    if algorithm == "xgboost":
        return boosters.xgboost(graph, matrix, estimator)
    if algorithm == "gradient-boosting":
        value = sklearn_trees.boosted(graph, matrix, estimator, pipeline.prepared.width)
        if classes and estimator.loss == "exponential":
            value = graph.node("Mul", [value, graph.constant(np.float64(2), "two")])
        return value, score_link
    if algorithm == "hist-gradient-boosting":
        positive = not classes and estimator.loss in ("poisson", "gamma")
        return sklearn_trees.histogram(graph, matrix, estimator), "exp" if positive else score_link
    return others.linear(graph, matrix, estimator), score_link


def _linked(graph: Graph, value: str, link: str) -> str:
    if link == "exp":
        return graph.node("Exp", [value])
    if link == "softmax":
        return graph.node("Softmax", [value], axis=1)
    if link == "sigmoid":
        second = graph.node("Sigmoid", [value])
        first = graph.node("Sigmoid", [graph.node("Neg", [value])])
        return graph.node("Concat", [first, second], axis=1)
    return value


def _classes(graph: Graph, value: str, pipeline: Pipeline) -> list[Any]:
    graph.cast(value, TensorProto.FLOAT, "probabilities")
    best = graph.node("ArgMax", ["probabilities"], axis=1, keepdims=0)
    whole = all(isinstance(name, int) for name in pipeline.classes)
    names = np.array(pipeline.classes, dtype=np.int64 if whole else object)
    graph.node("Gather", [graph.constant(names, "classes"), best], "label", axis=0)
    return [
        helper.make_tensor_value_info("label", TensorProto.INT64 if whole else TensorProto.STRING, ["batch"]),
        helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["batch", len(pipeline.classes)]),
    ]


def _number(graph: Graph, value: str) -> list[Any]:
    graph.cast(value, TensorProto.FLOAT, "prediction")
    return [helper.make_tensor_value_info("prediction", TensorProto.FLOAT, ["batch", 1])]
