"""Servers that speak as Google Cloud Storage and as Azure Blob Storage do, on this machine: fake-gcs-server behind the writing half of the XML API,
and Azurite. Each has the bucket `lake`."""

import json
import urllib.request

from harness import ROOT, ClusterTest
from objects import free_address, program, start_server

# The account that Azurite has, with the key that everybody knows, and a right to make containers and blobs that the key has signed, until 2099.
ACCOUNT = "devstoreaccount1"
KEY = "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
SIGNED = (
    "sv=2021-12-02&ss=b&srt=sco&sp=rwdlac&se=2099-01-01T00%3A00%3A00Z"
    "&sig=tznf%2BUguWwNe%2B7oTyobyNUc7TDthIuY2m9EdDOYdBvE%3D"
)
# fake-gcs-server asks nobody who they are.
ANYBODY = {"client_email": "me@example.com", "private_key": "none", "private_key_id": "none", "disable_oauth": True}


class CloudTest(ClusterTest):
    """A test with servers of its own."""

    only_local = "the pods of another cluster need not reach this machine"

    def secret(self, name: str, data: dict[str, str]) -> None:
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})

    def gcs(self) -> dict:
        """A store of Google Cloud Storage."""
        folder = self.scratch()
        (folder / "lake").mkdir()
        (host, inner), (_, outer) = free_address(), free_address()
        where = ["-scheme", "http", "-host", host, "-port", str(inner), "-public-host", f"{host}:{inner}"]
        fake = [program("gcs/server"), *where, "-backend", "memory", "-log-level", "error", "-data", str(folder)]
        start_server(self, fake, (host, inner))
        front = [str(ROOT / "dev" / "gcs" / "xml"), host, str(outer), f"{host}:{inner}"]
        start_server(self, front, (host, outer))
        self.secret("gcs", {"GOOGLE_SERVICE_ACCOUNT_KEY": json.dumps(ANYBODY)})
        endpoint = f"http://{host}:{outer}"
        return {"gcs": {"bucket": "lake", "prefix": "teams/a", "endpoint": endpoint, "secretRef": {"name": "gcs"}}}

    def azure(self) -> dict:
        """A store of Azure Blob Storage."""
        host, port = free_address()
        where = ["--blobHost", host, "--blobPort", str(port), "--location", str(self.scratch())]
        quiet = ["--silent", "--skipApiVersionCheck", "--disableTelemetry"]
        start_server(self, ["node", program("azure/server"), *where, *quiet], (host, port))
        endpoint = f"http://{host}:{port}/{ACCOUNT}"
        made = urllib.request.Request(f"{endpoint}/lake?restype=container&{SIGNED}", method="PUT", headers={"Content-Length": "0"})
        with urllib.request.urlopen(made, timeout=30) as answer:
            self.assertEqual(answer.status, 201)
        self.secret("azure", {"AZURE_STORAGE_ACCOUNT_KEY": KEY})
        store = {"account": ACCOUNT, "container": "lake", "prefix": "teams/a", "endpoint": endpoint}
        return {"azure": {**store, "secretRef": {"name": "azure"}}}


def put_blob(endpoint: str, name: str, content: bytes) -> None:
    """Into Azurite."""
    headers = {"x-ms-blob-type": "BlockBlob", "Content-Length": str(len(content))}
    made = urllib.request.Request(f"{endpoint}/{name}?{SIGNED}", content, headers, method="PUT")
    with urllib.request.urlopen(made, timeout=30) as answer:
        assert answer.status == 201, answer.status
