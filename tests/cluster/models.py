"""What tests of served models share: models on a claim, ModelDeployments of them, and load."""

import base64
import hashlib
import http.client
import json
import shutil
import threading
import time
from pathlib import Path

from harness import ROOT, SYSTEM, ClusterTest, condition, get, resource, script, wait_for
from test_operator import volume_folder, writes

MODEL = ROOT / "stage-images" / "server" / "tests" / "models" / "tabular"
REQUEST = json.dumps(
    {
        "inputs": [
            {"name": "mass", "datatype": "FP32", "shape": [2, 1], "data": [1.5, 9000]},
            {"name": "sex", "datatype": "BYTES", "shape": [2, 1], "data": ["male", "female"]},
        ]
    }
).encode()
RATE = 200
SLOW_SECONDS = 2.0


class ModelTest(ClusterTest):
    """A test with models on a claim."""

    # With pods that stay, and load.
    part = 2

    only_local = "puts models into the volume's folder: only on a cluster that the tests made"

    def setUp(self):
        super().setUp()
        self.claim()
        # Only a pod that mounts the claim makes its folder.
        self.run_inline({"touch": touch()}, store={"pvc": {"claimName": "artifacts"}})
        self.succeeded()

    def register(self, version: int, files: dict[str, bytes] | None = None) -> None:
        """A ModelVersion as a pipeline would make it, of a model that is put into the claim; `files` are its own, by name."""
        folder = volume_folder(self.namespace) / "models" / str(version)
        shutil.copytree(MODEL, folder)
        for name, content in (files or {}).items():
            (folder / name).write_bytes(content)
        for path in [folder.parent, folder, *folder.iterdir()]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        size = sum(p.stat().st_size for p in folder.iterdir())
        artifact = {"uri": f"pvc://artifacts/models/{version}", "digest": folder_digest(folder), "size": size}
        spec = {"model": "m", "version": version, "format": "onnx", "artifact": artifact}
        self.apply(resource("ModelVersion", f"m-v{version}", spec))

    def serve(self, version: int, name: str = "m", scale: dict | None = None, **spec) -> None:
        spec = {"model": {"name": "m", "version": version}, "scale": scale or {"replicas": 1}, **spec}
        self.apply(resource("ModelDeployment", name, spec))

    def wait_served(self, version: int, name: str = "m") -> None:
        def served():
            deployment = self.get("modeldeployment", name)
            ready = condition(deployment, "Ready").get("status") == "True"
            return ready and deployment["status"].get("servedVersion") == version

        wait_for(f"version {version}", served, 150, every=0.2)

    def routers(self) -> list[dict]:
        return self.ready("millrace.dev/router")

    def ready(self, selector: str) -> list[dict]:
        """Pods that are ready and stay."""
        pods = self.get("pods", selector=selector)["items"]
        return [p for p in pods if condition(p, "Ready").get("status") == "True" and "deletionTimestamp" not in p["metadata"]]

    def written(self, since: float) -> list[tuple[str, str]]:
        """What the operator wrote in this namespace since then."""
        found = [(w["verb"], w["objectRef"]) for w in writes(since, f"system:serviceaccount:{SYSTEM}:")]
        return [(verb, o["resource"]) for verb, o in found if o.get("namespace") == self.namespace]


# What is before a program with a `Handler` that answers requests, and behind it.
ANSWERS = '''
import http.server, json

class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def asked(self):
        return self.rfile.read(int(self.headers.get("content-length", 0)))

    def answer(self, body, status=200):
        body = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass
'''
SERVE = """
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 128

Server(("", 9001), Handler).serve_forever()
"""


def any_server(source: str, **settings) -> dict:
    """A server of a ModelDeployment with this `Handler` of HTTP requests, on port 9001; GET /ready says that it is ready."""
    image = get("stagetemplate", "train-tabular", SYSTEM)["spec"]["container"]["image"]
    # A word of a command is no longer than 2 KiB.
    command = ["python3", "-c", "import sys; exec(''.join(sys.argv[1:]))", ANSWERS, source, SERVE]
    container = {"image": image, "command": command, "port": 9001, "readyPath": "/ready"}
    return {"container": container, "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}, **settings}


def touch() -> dict:
    return script('echo x > "$MILLRACE_OUTPUT_X"', outputs={"x": {}})


def folder_digest(folder: Path) -> str:
    """As docs/stage-contract.md says."""
    lines = ""
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        content = path.read_bytes()
        lines += f"{hashlib.sha256(content).hexdigest()}  {len(content)}  {path.relative_to(folder)}\n"
    return "sha256:" + hashlib.sha256(lines.encode()).hexdigest()


def is_made_and_served(test: ClusterTest, store: dict, pry: str) -> dict:
    """A loop from data to a served model with its artifacts in this store, in whose first stage this script runs; what the run says of its stages."""
    model = {path.name: base64.b64encode(path.read_bytes()).decode() for path in MODEL.iterdir()}
    write = "\n".join(f"echo {text} | base64 -d > $MILLRACE_OUTPUT_MODEL/{name}" for name, text in model.items())
    stages = {
        "make": script(f"{pry}\necho rows > $MILLRACE_OUTPUT_DATA", outputs={"data": {}}),
        "train": script(
            f"cat $MILLRACE_INPUT_DATA\nmkdir $MILLRACE_OUTPUT_MODEL\n{write}",
            inputs={"data": {"from": "make.data"}},
            outputs={"model": {"type": "model"}},
        ),
        "register": {"register": {"model": "m", "from": "train.model"}},
        "deploy": {"deploy": {"modelDeployment": "m", "version": "register", "wait": "Promoted"}},
        # What is served now, from the same store.
        "compare": script("ls $MILLRACE_INPUT_OLD", inputs={"old": {"deployed": "m"}}, needs=["deploy"]),
    }
    test.apply(resource("ModelDeployment", "m", {"model": {"name": "m"}, "scale": {"replicas": 1}}))
    test.run_inline(stages, store=store)
    found = test.succeeded(seconds=300)["stages"]
    test.assertIn("rows", test.logs("train"))
    test.assertEqual(test.logs("compare").split(), ["model.onnx", "signature.json"])
    test.assertTrue(test.infer("m", REQUEST))
    return found


class Load:
    """200 requests a second: half on kept connections, half on new ones, and some whose body comes slowly."""

    def __init__(self, address: str):
        self.address = address
        self.failures: list[str] = []
        self.versions: set[str] = set()
        self.answered = 0
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        workers = 8
        pause = workers / RATE
        self.threads = [threading.Thread(target=self.worker, args=(i % 2 == 0, pause)) for i in range(workers)]
        self.threads += [threading.Thread(target=self.slow) for _ in range(3)]

    def start(self) -> None:
        self.began = time.monotonic()
        for thread in self.threads:
            thread.start()

    def stop(self) -> None:
        self.stopped.set()
        self.seconds = time.monotonic() - self.began
        for thread in self.threads:
            thread.join()

    def worker(self, keep: bool, pause: float) -> None:
        connection = None
        due = time.monotonic()
        while not self.stopped.is_set():
            due += pause
            time.sleep(max(0.0, due - time.monotonic()))
            try:
                if connection is None:
                    connection = http.client.HTTPConnection(self.address, timeout=15)
                connection.request("POST", "/v2/models/m/infer", REQUEST, {"content-type": "application/json"})
                closes = self.note(connection.getresponse())
                if not keep or closes:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                self.fail(f"{'kept' if keep else 'new'} connection: {error!r}")
                connection = None

    def slow(self) -> None:
        while not self.stopped.is_set():
            try:
                connection = http.client.HTTPConnection(self.address, timeout=15)
                connection.putrequest("POST", "/v2/models/m/infer")
                connection.putheader("content-type", "application/json")
                connection.putheader("content-length", str(len(REQUEST)))
                connection.endheaders()
                half = len(REQUEST) // 2
                connection.send(REQUEST[:half])
                time.sleep(SLOW_SECONDS)
                connection.send(REQUEST[half:])
                self.note(connection.getresponse())
                connection.close()
            except (OSError, http.client.HTTPException) as error:
                self.fail(f"slow request: {error!r}")

    def note(self, response: http.client.HTTPResponse) -> bool:
        body = response.read()
        if response.status != 200:
            self.fail(f"{response.status} {body[:200]!r}")
            return True
        answer = json.loads(body)
        with self.lock:
            self.answered += 1
            self.versions.add(answer["model_version"])
        return response.will_close

    def fail(self, text: str) -> None:
        with self.lock:
            self.failures.append(text)
