"""Trains one model on a table and writes it as one ONNX file that takes the raw columns."""

__version__ = "0.1.0"
