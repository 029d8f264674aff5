"""A peer: a runtime of one's own for MLServer, with ONNX Runtime on the same file. `run.py` writes its settings.

As MLServer's documentation writes one: a subclass of `mlserver.MLModel` with `load` and `predict`, and its codecs.
"""

import numpy as np
import onnxruntime
from mlserver import MLModel
from mlserver.codecs import NumpyCodec, StringCodec
from mlserver.types import InferenceRequest, InferenceResponse, RequestInput
from mlserver.utils import get_model_uri


def values(tensor: RequestInput) -> np.ndarray:
    if tensor.datatype == "BYTES":
        return np.array(StringCodec.decode_input(tensor), dtype=object).reshape(tensor.shape)
    return NumpyCodec.decode_input(tensor)


class OnnxModel(MLModel):
    async def load(self) -> bool:
        options = onnxruntime.SessionOptions()
        # More threads only cost time with a model this small.
        options.intra_op_num_threads = 1
        self.session = onnxruntime.InferenceSession(await get_model_uri(self._settings), options)
        self.names = [meta.name for meta in self.session.get_outputs()]
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        found = self.session.run(None, {tensor.name: values(tensor) for tensor in payload.inputs})
        outputs = [
            StringCodec.encode_output(name, value.tolist())
            if value.dtype == object
            else NumpyCodec.encode_output(name, value)
            for name, value in zip(self.names, found, strict=True)
        ]
        return InferenceResponse(id=payload.id, model_name=self.name, model_version=self.version, outputs=outputs)
