"""What the model takes and gives, in the data types of the Open Inference Protocol."""

from typing import Any

from .algorithms import CLASSIFICATION
from .pipeline import Pipeline
from .table import Numbers

METADATA_KEY = "millrace.signature"


def signature(pipeline: Pipeline) -> dict[str, Any]:
    """The content of `signature.json`."""
    inputs = [
        {"name": name, "datatype": "FP32" if isinstance(column, Numbers) else "BYTES", "shape": [-1, 1]}
        for name, column in pipeline.shape.columns.items()
    ]
    outputs: list[dict[str, Any]] = [{"name": "prediction", "datatype": "FP32", "shape": [-1, 1]}]
    if pipeline.task == CLASSIFICATION:
        classes = list(pipeline.classes)
        kind = "INT64" if all(isinstance(name, int) for name in classes) else "BYTES"
        outputs = [
            {"name": "label", "datatype": kind, "shape": [-1], "classes": classes},
            {"name": "probabilities", "datatype": "FP32", "shape": [-1, len(classes)], "classes": classes},
        ]
    return {"task": pipeline.task, "inputs": inputs, "outputs": outputs}
