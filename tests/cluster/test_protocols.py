"""What callers speak, by the model's Service through the routers: gRPC, server-sent events, websockets, sticky keys; and a port-forward."""

import base64
import hashlib
import http.client
import json
import socket
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from harness import condition, wait_for
from models import REQUEST, ModelTest, any_server

# A server that tells events one by one, and answers what a websocket says.
SERVER = """
import base64, hashlib, os, time

class Handler(Answers):
    def do_GET(self):
        if self.path == "/events":
            return self.events()
        if self.path == "/echo":
            return self.echo()
        self.answer({})

    def do_POST(self):
        self.asked()
        self.answer({"who": os.environ["WHO"]})

    def events(self):
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        for n in range(3):
            event = f"data: {n}\\n\\n".encode()
            self.wfile.write(f"{len(event):x}\\r\\n".encode() + event + b"\\r\\n")
            self.wfile.flush()
            time.sleep(2)
        self.wfile.write(b"0\\r\\n\\r\\n")

    def echo(self):
        key = self.headers["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("upgrade", "websocket")
        self.send_header("connection", "Upgrade")
        self.send_header("sec-websocket-accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        while head := self.rfile.read(2):
            mask = self.rfile.read(4)
            text = bytes(b ^ mask[i % 4] for i, b in enumerate(self.rfile.read(head[1] & 127)))
            self.wfile.write(bytes([129, len(text)]) + text)
            self.wfile.flush()
        self.close_connection = True
"""
# Of the Open Inference Protocol over gRPC: field numbers of the messages.
NAME, VERSION, INPUTS, RAW_INPUTS = 1, 2, 5, 7
INPUT_NAME, DATATYPE, SHAPE = 1, 2, 3


class Protocols(ModelTest):
    def serve_any(self, who: str, **spec) -> None:
        self.serve(1, server=any_server(SERVER, env={"WHO": {"value": who}}), **spec)

    def address(self) -> str:
        return self.get("service", "m")["spec"]["clusterIP"]

    def test_events_come_one_by_one_and_a_websocket_is_answered(self):
        self.register(1)
        self.serve_any("a")
        self.wait_served(1)
        connection = http.client.HTTPConnection(self.address(), timeout=30)
        connection.request("GET", "/events")
        answer = connection.getresponse()
        came = []
        while line := answer.readline():
            if line.strip():
                came.append((line.strip(), time.monotonic()))
        self.assertEqual([line for line, _ in came], [b"data: 0", b"data: 1", b"data: 2"])
        self.assertGreater(came[2][1] - came[0][1], 2.5, "they came together")
        with socket.create_connection((self.address(), 80), timeout=30) as web:
            key = base64.b64encode(bytes(16)).decode()
            head = ["GET /echo HTTP/1.1", "host: m", "connection: Upgrade", "upgrade: websocket", "sec-websocket-version: 13"]
            web.sendall("\r\n".join([*head, f"sec-websocket-key: {key}", "", ""]).encode())
            said = web.makefile("rb")
            self.assertIn(b"101", said.readline())
            headers = {line.split(b":")[0].lower(): line.split(b":", 1)[1].strip() for line in iter(said.readline, b"\r\n")}
            accepted = hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()
            self.assertEqual(headers[b"sec-websocket-accept"], base64.b64encode(accepted))
            for text in (b"one", b"two"):
                web.sendall(bytes([129, 128 | len(text)]) + bytes(4) + text)
                self.assertEqual(said.read(2 + len(text)), bytes([129, len(text)]) + text)

    def test_grpc_is_served_by_the_same_address(self):
        self.register(1)
        self.serve(1)
        self.wait_served(1)
        status, answer = self.call("ModelReady", field(NAME, b"m"))
        self.assertEqual((status, answer), ("0", b"\x08\x01"))
        tensors = (("mass", b"FP32", struct.pack("<2f", 1.5, 9000)), ("sex", b"BYTES", texts("male", "female")))
        inputs = [field(INPUT_NAME, name.encode()) + field(DATATYPE, kind) + field(SHAPE, bytes([2, 1])) for name, kind, _ in tensors]
        request = field(NAME, b"m") + b"".join(field(INPUTS, one) for one in inputs) + b"".join(field(RAW_INPUTS, raw) for *_, raw in tensors)
        status, answer = self.call("ModelInfer", request)
        self.assertEqual(status, "0", answer)
        self.assertTrue(answer.startswith(field(NAME, b"m") + field(VERSION, b"1")), answer)
        status, answer = self.call("ModelInfer", field(NAME, b"m"))
        self.assertEqual((status, answer), ("3", b""), "INVALID_ARGUMENT")

    def test_a_prediction_a_description_and_an_explanation_come_by_the_same_address(self):
        self.register(1)
        self.serve(1)
        self.wait_served(1)
        document = self.asked("GET", "/v2/models/m/openapi.json")
        self.assertTrue(document["openapi"].startswith("3.1"))
        for path in ("/v2/models/m/infer", "/v1/models/m:predict"):
            self.assertIn("post", document["paths"][path])
        rows = [{"mass": 1.5, "sex": "male"}, {"mass": 9000, "sex": "female"}]
        predicted = self.asked("POST", "/v1/models/m:predict", {"instances": rows})["predictions"]
        inferred = self.infer("m", REQUEST)
        self.assertEqual([row["label"] for row in predicted], inferred["label"])
        explained = self.asked("POST", "/v2/models/m/explain", json.loads(REQUEST))["outputs"]
        said = {output["name"]: output["data"] for output in explained}
        self.assertEqual(said["features"], ["mass", "sex"])
        for row in range(2):
            parts = said["attributions"][2 * row : 2 * row + 2]
            self.assertAlmostEqual(sum(parts) + said["base"][row], said["value"][row], places=4)

    def asked(self, method: str, path: str, body: dict | None = None) -> dict:
        connection = http.client.HTTPConnection(self.address(), timeout=30)
        connection.request(method, path, json.dumps(body) if body else None, {"content-type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        self.assertEqual(answer.status, 200, text)
        return json.loads(text)

    def call(self, method: str, message: bytes) -> tuple[str, bytes]:
        """`grpc-status` and the answer's message."""
        with tempfile.TemporaryDirectory() as folder:
            head, body = Path(folder) / "head", Path(folder) / "body"
            url = f"http://{self.address()}/inference.GRPCInferenceService/{method}"
            headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
            command = ["curl", "-sS", "--noproxy", "*", "--http2-prior-knowledge", "-D", str(head), "-o", str(body), *headers]
            framed = b"\0" + struct.pack(">I", len(message)) + message
            subprocess.run([*command, "--data-binary", "@-", url], input=framed, check=True, timeout=60)
            found = dict(line.lower().split(": ", 1) for line in head.read_text().splitlines() if ": " in line)
            answer = body.read_bytes() if body.exists() else b""
            return found["grpc-status"].strip(), answer[5:]

    def test_a_caller_with_a_sticky_key_stays_with_its_revision(self):
        self.register(1)
        halves = {"strategy": "Canary", "steps": [{"weight": 50, "pause": True}]}
        routing = {"sticky": {"header": "x-user"}}
        self.serve_any("old", rollout=halves, routing=routing)
        self.wait_served(1)
        self.serve_any("new", rollout=halves, routing=routing)
        paused = lambda: condition(self.get("modeldeployment", "m"), "Ready").get("reason") == "RolloutPaused"  # noqa: E731
        wait_for("the step", paused, 90)
        connection = http.client.HTTPConnection(self.address(), timeout=30)
        served: dict[str, set[str]] = {}
        for _ in range(5):
            for user in range(40):
                connection.request("POST", "/v2/models/m/infer", REQUEST, {"x-user": f"user-{user}"})
                served.setdefault(f"user-{user}", set()).add(json.loads(connection.getresponse().read())["who"])
        self.assertEqual({len(who) for who in served.values()}, {1}, served)
        share = sum(who == {"new"} for who in served.values())
        self.assertTrue(8 <= share <= 32, share)

    def test_a_port_forward_to_the_service_is_answered(self):
        self.register(1)
        self.serve(1)
        self.wait_served(1)
        command = ["kubectl", "port-forward", "-n", self.namespace, "service/m", ":80"]
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as forward:
            try:
                port = int(forward.stdout.readline().split("->")[0].rsplit(":", 1)[1])
                connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
                connection.request("POST", "/v2/models/m/infer", REQUEST, {"content-type": "application/json"})
                answer = connection.getresponse()
                self.assertEqual((answer.status, json.loads(answer.read())["model_version"]), (200, "1"))
            finally:
                forward.terminate()


def field(number: int, value: bytes) -> bytes:
    """A field with a length, as protobuf has it; these are all shorter than 128 bytes."""
    return bytes([number << 3 | 2, len(value)]) + value


def texts(*all_: str) -> bytes:
    return b"".join(struct.pack("<I", len(text)) + text.encode() for text in all_)
