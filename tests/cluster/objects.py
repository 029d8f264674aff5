"""A real S3 server, versitygw on this machine, for tests of what pods read from it and write to it."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from harness import ROOT, ClusterTest, wait_for

ACCOUNT = "millrace-reader"
# Nothing else in the cluster holds these words.
RIGHT, WRONG = "rIght-s3cret-7Q2x", "wr0ng-s3cret-9Zk4"


def program(path: str) -> str:
    """The program that a script of dev prints."""
    return subprocess.run([ROOT / "dev" / path], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def free_address() -> tuple[str, int]:
    """One by which pods reach this machine."""
    host = os.environ["MILLRACE_CLUSTER_HOST"]
    with socket.socket() as free:
        free.bind((host, 0))
        return free.getsockname()


def start_server(test: ClusterTest, command: list[str], address: tuple[str, int], environment: dict | None = None) -> None:
    """Starts a server that listens there, and ends it with the test."""
    server = subprocess.Popen(command, env={**os.environ, **(environment or {})}, stdout=subprocess.DEVNULL)
    test.addCleanup(server.wait)
    test.addCleanup(server.kill)

    def listens() -> bool:
        with socket.socket() as client:
            return client.connect_ex(address) == 0

    wait_for(f"the server at {address}", listens, 30)


class S3Test(ClusterTest):
    """A test with an S3 server of its own."""

    only_local = "the pods of another cluster need not reach this machine"

    def serve(self, objects: dict[str, str]) -> str:
        """Starts the server over a folder with these objects, on the address by which pods reach this machine."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        self.objects = folder / "root"
        for key, text in objects.items():
            path = self.objects / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (folder / "meta").mkdir()
        host, port = free_address()
        where = ["--port", f"{host}:{port}", "--quiet"]
        store = ["posix", "--sidecar", str(folder / "meta"), str(self.objects)]
        # The credentials of the server itself are not arguments: whoever lists processes would see them.
        keys = {"ROOT_ACCESS_KEY": ACCOUNT, "ROOT_SECRET_KEY": RIGHT}
        start_server(self, [program("s3/server"), *where, *store], (host, port), keys)
        return f"http://{host}:{port}"
