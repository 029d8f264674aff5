"""Writes a graph of ResNet-50's size and shape with random weights: resnet_model.py MODEL-DIR

25.5 million weights, 4.1 billion multiplications an image: the layers of "Deep Residual Learning for Image Recognition" with the
stride in the 3 × 3 convolution, as most use it. Batch normalization is in the weights, where ONNX Runtime puts it anyway.
Needs onnx and numpy: the environment of the stage `train-tabular` has both.
"""

import sys
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper, save

# Blocks of a stage, and the channels inside of them; a stage ends with four times as many.
STAGES = [(3, 64), (4, 128), (6, 256), (3, 512)]
CLASSES = 1000


class Graph:
    def __init__(self) -> None:
        self.nodes, self.weights = [], []
        self.random = np.random.default_rng(0)

    def add(self, operator: str, inputs: list[str], **attributes) -> str:
        name = f"{operator.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [name], **attributes))
        return name

    def weight(self, shape: tuple[int, ...], scale: float) -> str:
        name = f"w{len(self.weights)}"
        values = self.random.normal(0, scale, shape).astype(np.float32)
        self.weights.append(numpy_helper.from_array(values, name))
        return name

    def conv(self, x: str, channels: tuple[int, int], size: int, stride: int = 1) -> str:
        into, out = channels
        # Values keep their size through the layers.
        weights = [self.weight((out, into, size, size), (1 / (into * size * size)) ** 0.5), self.weight((out,), 0.01)]
        return self.add("Conv", [x, *weights], kernel_shape=[size] * 2, strides=[stride] * 2, pads=[size // 2] * 4)

    def relu(self, x: str) -> str:
        return self.add("Relu", [x])

    def block(self, x: str, into: int, inner: int, stride: int) -> str:
        out = 4 * inner
        y = self.relu(self.conv(x, (into, inner), 1))
        y = self.relu(self.conv(y, (inner, inner), 3, stride))
        y = self.conv(y, (inner, out), 1)
        if into != out or stride != 1:
            x = self.conv(x, (into, out), 1, stride)
        return self.relu(self.add("Add", [x, y]))


def main(folder: str) -> None:
    graph = Graph()
    x = graph.relu(graph.conv("image", (3, 64), 7, 2))
    x = graph.add("MaxPool", [x], kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    channels = 64
    for stage, (blocks, inner) in enumerate(STAGES):
        for block in range(blocks):
            x = graph.block(x, channels, inner, 2 if stage > 0 and block == 0 else 1)
            channels = 4 * inner
    x = graph.add("Flatten", [graph.add("GlobalAveragePool", [x])])
    weights = [graph.weight((CLASSES, channels), channels**-0.5), graph.weight((CLASSES,), 0.01)]
    x = graph.add("Gemm", [x, *weights], transB=1)
    ends = [
        helper.make_tensor_value_info("image", TensorProto.FLOAT, ["rows", 3, 224, 224]),
        helper.make_tensor_value_info(x, TensorProto.FLOAT, ["rows", CLASSES]),
    ]
    made = helper.make_graph(graph.nodes, "resnet50", ends[:1], ends[1:], graph.weights)
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    checker.check_model(model)
    Path(folder).mkdir(parents=True, exist_ok=True)
    save(model, Path(folder) / "model.onnx")
    print(f"{sum(w.dims and int(np.prod(w.dims)) for w in graph.weights) / 1e6:.1f} million weights")


if __name__ == "__main__":
    main(*sys.argv[1:])
