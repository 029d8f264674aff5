"""Bare ONNX Runtime, in a loop: bare.py MODEL-DIR BATCH THREADS SPIN

Reads a number of seconds from each line of its input, runs batches for so long, and prints how many images that were and the seconds. `SPIN` is what ONNX Runtime's own
threads do while they wait for work: 1 as by default, or 0.
"""

import sys
import time

import numpy as np
import onnxruntime


def main(folder: str, batch: str, threads: str, spin: str) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(threads)
    options.add_session_config_entry("session.intra_op.allow_spinning", spin)
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx", options, providers=["CPUExecutionProvider"])
    images = np.random.default_rng(1).random((int(batch), 3, 224, 224), dtype=np.float32)
    for _ in range(3):
        session.run(None, {"image": images})
    print("ready", flush=True)
    for line in sys.stdin:
        begun, runs = time.monotonic(), 0
        while time.monotonic() - begun < float(line):
            session.run(None, {"image": images})
            runs += 1
        print(runs * len(images), time.monotonic() - begun, flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
