"""A small client of the cluster's own apiserver, so that the scripts need not start kubectl for each question.

Talks to nothing but the apiserver whose certificates it is given.
"""

import http.client
import json
import ssl
import threading
from collections.abc import Iterator

from .certificates import AUTHORITY
from .identity import Cluster

MERGE = "application/merge-patch+json"


class ApiError(Exception):
    """An answer that is not a success; `status` is its HTTP code."""

    def __init__(self, status: int, message: str):
        super().__init__(f"{status}: {message}")
        self.status = status


class Api:
    def __init__(self, cluster: Cluster, user: str = "local-cluster"):
        self._address = cluster.address
        folder = cluster.certificates
        self._context = ssl.create_default_context(cafile=str(folder / f"{AUTHORITY}.crt"))
        self._context.load_cert_chain(str(folder / f"{user}.crt"), str(folder / f"{user}.key"))
        self._kept = threading.local()

    def _connect(self, timeout: float) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(self._address, 6443, context=self._context, timeout=timeout)

    def request(self, method: str, path: str, body=None, content_type: str = "application/json", timeout: float = 30):
        """One call; the answer parsed. Raises `ApiError`, or `OSError` when nothing answers.

        Calls of a thread share a connection, as a thousand handshakes would take minutes.
        """
        kept = getattr(self._kept, "connection", None)
        self._kept.connection = None
        connection = kept or self._connect(timeout)
        data = None if body is None else json.dumps(body)
        headers = {"Content-Type": content_type, "Accept": "application/json"}
        try:
            connection.request(method, path, data, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            if kept is None:
                raise OSError(f"no answer from {self._address}: {error}") from error
            # The apiserver may have been restarted since; every call that is made here may be repeated.
            return self.request(method, path, body, content_type, timeout)
        self._kept.connection = connection
        if answer.status >= 300:
            raise ApiError(answer.status, text.decode(errors="replace"))
        return json.loads(text) if text.startswith(b"{") else text.decode()

    def get(self, path: str):
        return self.request("GET", path)

    def create(self, path: str, body: dict) -> None:
        """Creates; that it is there already is a success."""
        try:
            self.request("POST", path, body)
        except ApiError as error:
            if error.status != 409:
                raise

    def patch(self, path: str, body: dict) -> None:
        self.request("PATCH", path, body, MERGE)

    def delete(self, path: str) -> None:
        """Deletes; that it is gone already is a success."""
        try:
            self.request("DELETE", path)
        except ApiError as error:
            if error.status != 404:
                raise

    def watch(self, path: str) -> Iterator[dict]:
        """Every object that is there, then every change, until the apiserver ends the watch."""
        connection = self._connect(timeout=330)
        connection.request("GET", f"{path}?watch=1&timeoutSeconds=300", headers={"Accept": "application/json"})
        answer = connection.getresponse()
        if answer.status >= 300:
            raise ApiError(answer.status, answer.read().decode(errors="replace"))
        for line in answer:
            event = json.loads(line)
            if event["type"] == "ERROR":
                raise ApiError(event["object"].get("code", 500), event["object"].get("message", ""))
            yield event

    def healthy(self) -> bool:
        try:
            return self.request("GET", "/readyz", timeout=2) == "ok"
        except (OSError, ApiError):
            return False
