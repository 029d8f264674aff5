"""A proxy before the apiserver that counts the writes of one operator and cuts the operator off at a chosen one.

The operator under test runs as a process with a kubeconfig of ours: plain HTTP to this proxy, which holds the admin's certificate.
"""

import base64
import http.client
import json
import os
import re
import ssl
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlparse

WRITES = ("POST", "PUT", "PATCH", "DELETE")
# What a ModelDeployment writes: how often depends on when its pods and its routers are heard.
SERVING = re.compile(r"/modeldeployments/[^/]+/status$|/deployments/|/services/")
STATUS = re.compile(r"/modeldeployments/[^/]+/status$")
HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "upgrade", "host", "content-length"}


class Crash:
    """Where the operator is killed: at write number `at` (from 1), `before` it is sent on, after its `commit` but with no reply, or
    `after` the reply."""

    def __init__(self, at: int = 0, when: str = "before"):
        self.at, self.when = at, when
        self.trace: list[str] = []
        self.struck = threading.Event()


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        """An operator that was killed leaves connections that end in the middle: that is what this is for."""


class Proxy:
    """Sends everything on; kills `self.victim` as the crash says. Events and leases are not counted: losing one changes no state. Nor are the
    objects of the namespace's routers, which every scenario shares. Each of a ModelDeployment's own counts once, and its status once for each
    state of the traffic: that is what acts."""

    def __init__(self, crash: Crash):
        self.crash = crash
        self.victim: subprocess.Popen | None = None
        self.lock = threading.Lock()
        self.server, self.context = upstream()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_):
                pass

            def handle_one(self):
                proxy.forward(self)

            do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = handle_one

        self.http = Server(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.http.server_port}"

    def close(self) -> None:
        self.http.shutdown()
        self.http.server_close()

    def forward(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers.get("content-length") or 0))
        path = urlparse(request.path).path
        line = f"{request.command} {path.split('/apis/')[-1].split('/api/')[-1]}"
        counted = request.command in WRITES and not any(part in path for part in ("/events", "/leases", "/millrace-"))
        here = False
        if counted:
            line += traffic(body) if STATUS.search(path) else ""
            with self.lock:
                if not (SERVING.search(path) and line in self.crash.trace):
                    self.crash.trace.append(line)
                    here = len(self.crash.trace) == self.crash.at
        if here and self.crash.when == "before":
            return self.strike(request)
        connection = http.client.HTTPSConnection(self.server.hostname, self.server.port, context=self.context, timeout=600)
        try:
            headers = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP}
            connection.request(request.command, request.path, body or None, headers)
            answer = connection.getresponse()
            if here and self.crash.when == "commit":
                answer.read()
                return self.strike(request)
            self.reply(request, answer)
            if here:
                self.strike(request)
        except (OSError, http.client.HTTPException):
            request.close_connection = True
        finally:
            connection.close()

    def reply(self, request: BaseHTTPRequestHandler, answer: http.client.HTTPResponse) -> None:
        request.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in HOP_BY_HOP:
                request.send_header(name, value)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        while chunk := answer.read1(65536):
            request.wfile.write(f"{len(chunk):x}\r\n".encode() + chunk + b"\r\n")
            request.wfile.flush()
        request.wfile.write(b"0\r\n\r\n")
        request.wfile.flush()

    def strike(self, request: BaseHTTPRequestHandler) -> None:
        request.close_connection = True
        if self.victim is not None:
            self.victim.kill()
        self.crash.struck.set()


def traffic(body: bytes) -> str:
    """What a status of a ModelDeployment says of its traffic."""
    status = json.loads(body)["status"]
    weights = {revision["name"]: (revision["weight"], "drainingSince" in revision) for revision in status.get("revisions", [])}
    return f" {status.get('trafficGeneration')} {weights} {status.get('servedRevision')}"


def upstream():
    """The apiserver of KUBECONFIG and a TLS context with its certificates."""
    config = json.loads(subprocess.run(["kubectl", "config", "view", "--raw", "--minify", "-o", "json"], check=True, capture_output=True).stdout)
    cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
    context = ssl.create_default_context(cadata=material(cluster, "certificate-authority").decode())
    with tempfile.TemporaryDirectory() as folder:
        certificate, key = Path(folder, "crt"), Path(folder, "key")
        certificate.write_bytes(material(user, "client-certificate"))
        key.write_bytes(material(user, "client-key"))
        context.load_cert_chain(certificate, key)
    return urlparse(cluster["server"]), context


def material(part: dict, name: str) -> bytes:
    if f"{name}-data" in part:
        return base64.b64decode(part[f"{name}-data"])
    return Path(part[name]).read_bytes()


def kubeconfig(address: str) -> str:
    """A kubeconfig file that leads to the proxy."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "c", "cluster": {"server": address}}],
        "users": [{"name": "u", "user": {}}],
        "contexts": [{"name": "x", "context": {"cluster": "c", "user": "u"}}],
        "current-context": "x",
    }
    handle, path = tempfile.mkstemp(suffix=".kubeconfig")
    with os.fdopen(handle, "w") as file:
        json.dump(config, file)
    return path
