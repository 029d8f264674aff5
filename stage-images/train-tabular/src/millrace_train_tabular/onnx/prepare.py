"""The preparation as nodes: the same float32 operations as `Prepared.transform`, in the same order."""

import numpy as np
import onnx
from onnx import TensorProto

from ..features import NUMBERS, TEXT, Features
from ..prepare import NumericBlock, Prepared, TextBlock
from ..table import Numbers, Table
from .graph import Graph


def emit(graph: Graph, prepared: Prepared, table: Table, features: Features | None) -> str:
    """Declares one input a raw column, in the table's order, and returns the float32 matrix."""
    for name, column in table.columns.items():
        graph.input(name, TensorProto.FLOAT if isinstance(column, Numbers) else TensorProto.STRING)
    if features:
        graph.absorb(onnx.load_from_string(features.graph))
    block = prepared.numeric
    parts = [_numeric(graph, _side_by_side(graph, block.names, features), block)] if block.names else []
    parts += [_text(graph, TEXT + text.name if features else text.name, text) for text in prepared.texts]
    return parts[0] if len(parts) == 1 else graph.node("Concat", parts, axis=1)


def _side_by_side(graph: Graph, names: tuple[str, ...], features: Features | None) -> str:
    if features is None:
        return graph.node("Concat", list(names), axis=1) if len(names) > 1 else names[0]
    columns = features.numbers()
    if list(names) == columns:
        return NUMBERS
    places = np.array([columns.index(name) for name in names], dtype=np.int64)
    return graph.node("Gather", [NUMBERS, graph.constant(places, "places")], axis=1)


def _numeric(graph: Graph, value: str, block: NumericBlock) -> str:
    if block.fills:
        missing = graph.node("IsNaN", [value])
        value = graph.node("Where", [missing, graph.constant(block.fill[None, :], "fill"), value])
    if block.scales:
        value = graph.node("Sub", [value, graph.constant(block.shift[None, :], "shift")])
        value = graph.node("Div", [value, graph.constant(block.scale[None, :], "scale")])
    return value


def _text(graph: Graph, value: str, block: TextBlock) -> str:
    index = block.index()
    code = graph.node(
        "LabelEncoder", [value], ml=True, keys_strings=list(index), values_int64s=list(index.values()), default_int64=block.unknown
    )
    if block.encode == "ordinal":
        return graph.cast(code, TensorProto.FLOAT)
    columns = graph.constant(np.arange(len(block.categories), dtype=np.int64)[None, :], "categories")
    return graph.cast(graph.node("Equal", [code, columns]), TensorProto.FLOAT)
