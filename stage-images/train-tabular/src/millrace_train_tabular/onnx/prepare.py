"""The preparation as nodes: the same float32 operations as `Prepared.transform`, in the same order."""

import numpy as np
from onnx import TensorProto

from ..prepare import NumericBlock, Prepared, TextBlock
from ..table import Numbers, Table
from .graph import Graph


def emit(graph: Graph, prepared: Prepared, table: Table) -> str:
    """Declares one input a feature, in the table's order, and returns the float32 matrix."""
    for name, column in table.columns.items():
        graph.input(name, TensorProto.FLOAT if isinstance(column, Numbers) else TensorProto.STRING)
    parts = [_numeric(graph, prepared.numeric)] if prepared.numeric.names else []
    parts += [_text(graph, text) for text in prepared.texts]
    return parts[0] if len(parts) == 1 else graph.node("Concat", parts, axis=1)


def _numeric(graph: Graph, block: NumericBlock) -> str:
    value = graph.node("Concat", list(block.names), axis=1) if len(block.names) > 1 else block.names[0]
    if block.fills:
        missing = graph.node("IsNaN", [value])
        value = graph.node("Where", [missing, graph.constant(block.fill[None, :], "fill"), value])
    if block.scales:
        value = graph.node("Sub", [value, graph.constant(block.shift[None, :], "shift")])
        value = graph.node("Div", [value, graph.constant(block.scale[None, :], "scale")])
    return value


def _text(graph: Graph, block: TextBlock) -> str:
    index = block.index()
    code = graph.node(
        "LabelEncoder", [block.name], ml=True, keys_strings=list(index), values_int64s=list(index.values()), default_int64=block.unknown
    )
    if block.encode == "ordinal":
        return graph.cast(code, TensorProto.FLOAT)
    columns = graph.constant(np.arange(len(block.categories), dtype=np.int64)[None, :], "categories")
    return graph.cast(graph.node("Equal", [code, columns]), TensorProto.FLOAT)
