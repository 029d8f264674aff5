"""Collects the nodes and constants of one ONNX graph. Names are counted, so the same model has the same bytes."""

from collections.abc import Iterable
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto, helper, numpy_helper

# Old enough for every runtime since 2022 (ONNX Runtime 1.12), new enough for all that is used here. All that is used means the same in 20,
# which words counted by the stage features need.
OPSET = 17
ML_OPSET = 3
IR_VERSION = 8


class Graph:
    """A graph in the making."""

    def __init__(self) -> None:
        # Filled in place: helper.make_model copies a graph twice, and a forest is large.
        self._model = ModelProto(ir_version=IR_VERSION, producer_name="millrace-train-tabular")
        self._graph = self._model.graph
        self._graph.name = "millrace"
        self._count = 0
        self._opset = OPSET

    def name(self, stem: str) -> str:
        self._count += 1
        # Apart from the columns, whose names are the inputs'.
        return f"millrace/{stem}_{self._count}"

    def constant(self, values: Any, stem: str = "constant") -> str:
        """A constant tensor with the dtype of the numpy array; object arrays are texts."""
        name = self.name(stem)
        array = np.asarray(values)
        if array.dtype.kind in "OU":
            texts = [str(v).encode() for v in array.ravel()]
            tensor = helper.make_tensor(name, TensorProto.STRING, array.shape, texts)
        else:
            tensor = numpy_helper.from_array(np.ascontiguousarray(array), name)
        self._graph.initializer.append(tensor)
        return name

    def node(self, operator: str, inputs: list[str], output: str | None = None, *, ml: bool = False, **attributes: Any) -> str:
        """A node with one output; returns that output's name."""
        produced = output or self.name(operator.lower())
        self._add(operator, inputs, [produced], attributes, "ai.onnx.ml" if ml else "")
        return produced

    def large_node(self, operator: str, value: str, attributes: dict[str, Any], large: Iterable[Any]) -> str:
        """A node of `ai.onnx.ml` whose `large` attributes are given as messages, taken one by one."""
        produced = self.name(operator.lower())
        node = self._add(operator, [value], [produced], attributes, "ai.onnx.ml")
        for attribute in large:
            node.attribute.append(attribute)
        return produced

    def _add(self, operator: str, inputs: list[str], outputs: list[str], attributes: dict[str, Any], domain: str = "") -> Any:
        self._graph.node.append(helper.make_node(operator, inputs, outputs, name=self.name("node"), domain=domain, **attributes))
        return self._graph.node[-1]

    def several(self, operator: str, inputs: list[str], outputs: list[str], **attributes: Any) -> None:
        """A node with several outputs, named by the caller."""
        self._add(operator, inputs, outputs, attributes)

    def cast(self, value: str, to: int, output: str | None = None) -> str:
        return self.node("Cast", [value], output, to=to)

    def double(self, value: str) -> str:
        return self.cast(value, TensorProto.DOUBLE)

    def input(self, name: str, kind: int) -> str:
        """A raw column: one value a row."""
        self._graph.input.append(helper.make_tensor_value_info(name, kind, ["batch", 1]))
        return name

    def absorb(self, other: ModelProto) -> None:
        """Takes the nodes of a graph over, whose inputs are declared here. Its names are its own: they begin with `features/`."""
        self._graph.node.extend(other.graph.node)
        self._graph.initializer.extend(other.graph.initializer)
        self._opset = max(self._opset, *(entry.version for entry in other.opset_import if entry.domain == ""))

    def model(self, outputs: list[Any], metadata: dict[str, str]) -> Any:
        """The finished model."""
        self._graph.output.extend(outputs)
        self._model.opset_import.extend([helper.make_opsetid("", self._opset), helper.make_opsetid("ai.onnx.ml", ML_OPSET)])
        helper.set_model_props(self._model, metadata)
        return self._model
