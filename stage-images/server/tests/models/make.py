"""Makes the small ONNX models that the tests serve. Run it again after a change: python3 make.py

Needs onnx 1.19.1. The graphs are written by hand, so that each answer is known from its request.
"""

import json
from pathlib import Path

import numpy as np
from onnx import TensorProto, checker, helper, save

HERE = Path(__file__).parent
NUMBERS = {
    "BOOL": TensorProto.BOOL,
    "UINT8": TensorProto.UINT8,
    "UINT16": TensorProto.UINT16,
    "UINT32": TensorProto.UINT32,
    "UINT64": TensorProto.UINT64,
    "INT8": TensorProto.INT8,
    "INT16": TensorProto.INT16,
    "INT32": TensorProto.INT32,
    "INT64": TensorProto.INT64,
    "FP16": TensorProto.FLOAT16,
    "FP32": TensorProto.FLOAT,
    "FP64": TensorProto.DOUBLE,
    "BYTES": TensorProto.STRING,
}
OPSETS = [helper.make_opsetid("", 17), helper.make_opsetid("ai.onnx.ml", 3)]


def tensor(name, kind, shape):
    return helper.make_tensor_value_info(name, kind, shape)


def write(folder, nodes, inputs, outputs, constants=()):
    graph = helper.make_graph(nodes, folder, inputs, outputs, list(constants))
    model = helper.make_model(graph, opset_imports=OPSETS, ir_version=8, producer_name="millrace-tests")
    checker.check_model(model)
    (HERE / folder).mkdir(exist_ok=True)
    save(model, HERE / folder / "model.onnx")


def every_type():
    """One input and one output of each datatype; each output is its input."""
    nodes = [helper.make_node("Identity", [f"in_{name}"], [f"out_{name}"]) for name in NUMBERS]
    inputs = [tensor(f"in_{name}", kind, ["rows", 2]) for name, kind in NUMBERS.items()]
    outputs = [tensor(f"out_{name}", kind, ["rows", 2]) for name, kind in NUMBERS.items()]
    write("every-type", nodes, inputs, outputs)


def tabular():
    """A classifier as docs/stage-contract.md says: one input a raw column, label and probabilities.

    The label is "heavy" if mass > 4000, or if the mass is missing and the sex is "male".
    """
    nodes = [
        helper.make_node(
            "LabelEncoder",
            ["sex"],
            ["is_male"],
            domain="ai.onnx.ml",
            keys_strings=["male"],
            values_floats=[1.0],
            default_float=0.0,
        ),
        helper.make_node("IsNaN", ["mass"], ["missing"]),
        helper.make_node("Sub", ["mass", "limit"], ["over"]),
        helper.make_node("Sub", ["is_male", "half"], ["by_sex"]),
        helper.make_node("Where", ["missing", "by_sex", "over"], ["score"]),
        helper.make_node("Sigmoid", ["score"], ["heavy"]),
        helper.make_node("Sub", ["one", "heavy"], ["light"]),
        helper.make_node("Concat", ["heavy", "light"], ["probabilities"], axis=1),
        helper.make_node("ArgMax", ["probabilities"], ["index"], axis=1, keepdims=0),
        helper.make_node(
            "LabelEncoder",
            ["index"],
            ["label"],
            domain="ai.onnx.ml",
            keys_int64s=[0, 1],
            values_strings=["heavy", "light"],
        ),
    ]
    constants = [
        helper.make_tensor("limit", TensorProto.FLOAT, [1], [4000.0]),
        helper.make_tensor("half", TensorProto.FLOAT, [1], [0.5]),
        helper.make_tensor("one", TensorProto.FLOAT, [1], [1.0]),
    ]
    inputs = [tensor("mass", TensorProto.FLOAT, [None, 1]), tensor("sex", TensorProto.STRING, [None, 1])]
    outputs = [tensor("label", TensorProto.STRING, [None]), tensor("probabilities", TensorProto.FLOAT, [None, 2])]
    write("tabular", nodes, inputs, outputs, constants)


def fixed():
    """Takes exactly two rows of three; gives their sums."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [1])
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["sum"], keepdims=0)]
    write("fixed", nodes, [tensor("x", TensorProto.FLOAT, [2, 3])], [tensor("sum", TensorProto.FLOAT, [2])], [axes])


def lookup():
    """Gives the value at each index 0..3; another index is an error of ONNX Runtime, not of the signature."""
    values = helper.make_tensor("values", TensorProto.FLOAT, [4], [0.5, 1.5, 2.5, 3.5])
    nodes = [helper.make_node("Gather", ["values", "index"], ["value"], axis=0)]
    index, value = tensor("index", TensorProto.INT64, [None]), tensor("value", TensorProto.FLOAT, [None])
    write("lookup", nodes, [index], [value], [values])


def total():
    """Sums all rows into one: an output that cannot be split by row, though its first dimension is open."""
    axes = helper.make_tensor("axes", TensorProto.INT64, [1], [0])
    nodes = [helper.make_node("ReduceSum", ["x", "axes"], ["total"], keepdims=1)]
    write(
        "total",
        nodes,
        [tensor("x", TensorProto.FLOAT, [None, 1])],
        [tensor("total", TensorProto.FLOAT, [None, 1])],
        [axes],
    )


def heavy():
    """Six products with a 1024 x 1024 matrix: a thousand rows take long enough to be still running at a drain."""
    size, layers = 1024, 6
    identity = np.zeros((size, size), dtype=np.float32)
    weights = helper.make_node("EyeLike", ["shape_of"], ["weights"], dtype=TensorProto.FLOAT)
    nodes = [
        helper.make_node(
            "ConstantOfShape", ["size"], ["shape_of"], value=helper.make_tensor("zero", TensorProto.FLOAT, [1], [0.0])
        ),
        weights,
        helper.make_node("Expand", ["x", "wide"], ["h0"]),
        *[helper.make_node("MatMul", [f"h{layer}", "weights"], [f"h{layer + 1}"]) for layer in range(layers)],
        helper.make_node("ReduceMax", [f"h{layers}"], ["y"], axes=[1], keepdims=1),
    ]
    constants = [
        helper.make_tensor("size", TensorProto.INT64, [2], identity.shape),
        helper.make_tensor("wide", TensorProto.INT64, [2], [1, size]),
    ]
    write(
        "heavy",
        nodes,
        [tensor("x", TensorProto.FLOAT, [None, 1])],
        [tensor("y", TensorProto.FLOAT, [None, 1])],
        constants,
    )


def profile(folder, medians):
    """What a training stage writes next to a model, as far as explanations read it."""
    features = {name: {"type": "numeric", "quantiles": {"0.5": median}} for name, median in medians.items()}
    (HERE / folder / "profile.json").write_text(json.dumps({"version": 1, "features": features}) + "\n")


def product():
    """a * b + 2 c: what two features make together, and what one makes alone."""
    nodes = [
        helper.make_node("Mul", ["a", "b"], ["ab"]),
        helper.make_node("Mul", ["c", "two"], ["cc"]),
        helper.make_node("Add", ["ab", "cc"], ["y"]),
    ]
    two = helper.make_tensor("two", TensorProto.FLOAT, [1], [2.0])
    inputs = [tensor(name, TensorProto.FLOAT, [None, 1]) for name in "abc"]
    write("product", nodes, inputs, [tensor("y", TensorProto.FLOAT, [None, 1])], [two])
    profile("product", {"a": 1.0, "b": 2.0, "c": 0.5})


def wide():
    """The sum of (i + 1) x[i] over twelve columns of one input."""
    columns = 12
    weights = helper.make_tensor("weights", TensorProto.FLOAT, [columns, 1], [float(i + 1) for i in range(columns)])
    nodes = [helper.make_node("MatMul", ["x", "weights"], ["y"])]
    x, y = tensor("x", TensorProto.FLOAT, [None, columns]), tensor("y", TensorProto.FLOAT, [None, 1])
    write("wide", nodes, [x], [y], [weights])
    profile("wide", {f"x[{i}]": 1.0 for i in range(columns)})


def map_output():
    """What scikit-learn's converter makes without zipmap=False: an output that is no tensor."""
    nodes = [helper.make_node("ZipMap", ["x"], ["scores"], domain="ai.onnx.ml", classlabels_strings=["a", "b"])]
    scores = helper.make_value_info(
        "scores",
        helper.make_sequence_type_proto(
            helper.make_map_type_proto(TensorProto.STRING, helper.make_tensor_type_proto(TensorProto.FLOAT, None))
        ),
    )
    write("map-output", nodes, [tensor("x", TensorProto.FLOAT, [None, 2])], [scores])


def probe():
    """Doubles its input: what the server runs to see whether there is a GPU. It is in the program."""
    ends = [tensor(name, TensorProto.INT32, [2]) for name in ("x", "y")]
    write("probe", [helper.make_node("Add", ["x", "x"], ["y"])], ends[:1], ends[1:])


for make in (every_type, tabular, fixed, lookup, total, heavy, product, wide, map_output, probe):
    make()
