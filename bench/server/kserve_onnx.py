"""The peer: KServe's Python SDK with ONNX Runtime on the same file: kserve_onnx.py MODEL-DIR PORT WORKERS GRPC-PORT

0 for GRPC-PORT is none. As KServe's own documentation writes a custom predictor: a subclass of `kserve.Model` with `load` and `predict`.
"""

import logging
import sys
from functools import cached_property

import numpy as np
import onnxruntime
from kserve import InferInput, InferOutput, InferRequest, InferResponse, Model, ModelServer

DATATYPES = {"tensor(string)": "BYTES", "tensor(float)": "FP32", "tensor(int64)": "INT64"}


def values_of(tensor: InferInput) -> np.ndarray:
    values = tensor.as_numpy()
    # By gRPC texts are bytes, which ONNX Runtime takes for texts of another kind.
    if tensor.datatype == "BYTES" and isinstance(values.flat[0], bytes):
        return np.array([value.decode() for value in values.flat], dtype=object).reshape(values.shape)
    return values


class OnnxModel(Model):
    def __init__(self, name: str, folder: str) -> None:
        super().__init__(name)
        self.folder = folder
        self.load()

    def load(self) -> bool:
        self.ready = True
        return self.ready

    @cached_property
    def session(self) -> onnxruntime.InferenceSession:
        """Made at the first request: with several workers the model is pickled into each, and a session cannot be."""
        # A line for each request would cost the peer time.
        for name in ("uvicorn.access", "kserve.trace"):
            logging.getLogger(name).setLevel(logging.WARNING)
        options = onnxruntime.SessionOptions()
        # More threads only cost time with a model this small.
        options.intra_op_num_threads = 1
        return onnxruntime.InferenceSession(f"{self.folder}/model.onnx", options)

    def predict(self, payload: InferRequest, headers: dict | None = None) -> InferResponse:
        values = self.session.run(None, {tensor.name: values_of(tensor) for tensor in payload.inputs})
        outputs = []
        for meta, value in zip(self.session.get_outputs(), values, strict=True):
            output = InferOutput(meta.name, list(value.shape), DATATYPES[meta.type])
            output.set_data_from_numpy(value, binary_data=False)
            outputs.append(output)
        return InferResponse(response_id=payload.id, model_name=self.name, infer_outputs=outputs)


if __name__ == "__main__":
    folder, port, workers, grpc_port = sys.argv[1:]
    model = OnnxModel("penguins", folder)
    server = ModelServer(
        http_port=int(port),
        workers=int(workers),
        grpc_port=int(grpc_port),
        enable_grpc=grpc_port != "0",
        enable_latency_logging=False,
    )
    server.start([model])
