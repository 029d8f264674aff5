"""What the benchmark asks, as JSON and as messages of gRPC, and the outputs of either answer. Standard library only.

The few fields that are needed are written by hand, after `stage-images/server/proto/inference.proto`.
"""

import csv
import json
import struct
from collections.abc import Iterator
from pathlib import Path

TEXT = ["island", "sex"]
NUMBERS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]


def rows(source: Path) -> list[dict]:
    """One request a penguin. Penguins with a missing number are left out: the peers have no word for it."""
    found = []
    for row in csv.DictReader(source.open()):
        if any(row[name] in ("", "NA") for name in [*NUMBERS, *TEXT]):
            continue
        inputs = [{"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [row[name]]} for name in TEXT]
        inputs += [{"name": name, "shape": [1, 1], "datatype": "FP32", "data": [float(row[name])]} for name in NUMBERS]
        # KServe's SDK answers 500 without an id.
        found.append({"id": str(len(found)), "inputs": inputs})
    return found


def bodies(source: Path) -> list[str]:
    return [json.dumps(row) for row in rows(source)]


def outputs(body: bytes) -> dict[str, list]:
    """The values of an answer in JSON, by output."""
    return {output["name"]: output["data"] for output in json.loads(body)["outputs"]}


def message(model: str, row: dict) -> bytes:
    """The row as a ModelInferRequest with typed contents, in the frame of gRPC."""
    inputs = b"".join(_bytes(5, _input(tensor)) for tensor in row["inputs"])
    request = _bytes(1, model.encode()) + _bytes(3, row["id"].encode()) + inputs
    return b"\0" + struct.pack(">I", len(request)) + request


def message_outputs(framed: bytes) -> dict[str, list]:
    """The values of a ModelInferResponse with typed contents, by output."""
    if len(framed) < 5 or struct.unpack(">I", framed[1:5])[0] != len(framed) - 5:
        raise ValueError(f"no message: {framed[:200]!r}")
    found = {}
    for number, value in _fields(framed[5:]):
        if number == 5:
            fields = list(_fields(value))
            name = next(part for n, part in fields if n == 1).decode()
            found[name] = [v for n, contents in fields if n == 5 for v in _contents(contents)]
    return found


def _input(tensor: dict) -> bytes:
    name, datatype, data = tensor["name"].encode(), tensor["datatype"], tensor["data"]
    shape = b"".join(_varint(size) for size in tensor["shape"])
    if datatype == "BYTES":
        contents = b"".join(_bytes(8, text.encode()) for text in data)
    else:
        contents = _bytes(6, struct.pack(f"<{len(data)}f", *data))
    return _bytes(1, name) + _bytes(2, datatype.encode()) + _bytes(3, shape) + _bytes(5, contents)


def _contents(message: bytes) -> Iterator[float | str]:
    for number, value in _fields(message):
        match number:
            case 6:
                yield from struct.unpack(f"<{len(value) // 4}f", value)
            case 7:
                yield from struct.unpack(f"<{len(value) // 8}d", value)
            case 8:
                yield value.decode()
            case _:
                raise ValueError(f"contents of another kind: field {number}")


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0
    while at < len(message):
        key, at = _read_varint(message, at)
        value, at = _read_varint(message, at)
        if key & 7 == 2:
            value, at = message[at : at + value], at + value
        elif key & 7 != 0:
            raise ValueError(f"a field of another kind: {key & 7}")
        yield key >> 3, value


def _bytes(number: int, value: bytes) -> bytes:
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value, at
