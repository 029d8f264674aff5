"""Writes a fitted pipeline as one ONNX graph, operation for operation.

skl2onnx and onnxmltools narrow double thresholds to float32, so that rows on a threshold fall on its other side, and sum
leaves in float32. Here thresholds and leaves stay double, and each estimator is one small module.
"""
