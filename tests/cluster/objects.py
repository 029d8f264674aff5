"""A real S3 server, versitygw on this machine, for tests of what pods read from it and write to it."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from harness import LOCAL, ROOT, ClusterTest, wait_for

ACCOUNT = "millrace-reader"
# Nothing else in the cluster holds these words.
RIGHT, WRONG = "rIght-s3cret-7Q2x", "wr0ng-s3cret-9Zk4"


class S3Test(ClusterTest):
    """A test with an S3 server of its own."""

    def setUp(self):
        if not LOCAL:
            self.skipTest("the pods of another cluster need not reach this machine")
        super().setUp()

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
        program = subprocess.run([ROOT / "dev" / "s3" / "server"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        host = os.environ["MILLRACE_CLUSTER_HOST"]
        with socket.socket() as free:
            free.bind((host, 0))
            address = free.getsockname()
        where = ["--port", f"{host}:{address[1]}", "--quiet"]
        store = ["posix", "--sidecar", str(folder / "meta"), str(self.objects)]
        # The credentials of the server itself are not arguments: whoever lists processes would see them.
        environment = {**os.environ, "ROOT_ACCESS_KEY": ACCOUNT, "ROOT_SECRET_KEY": RIGHT}
        server = subprocess.Popen([program, *where, *store], env=environment, stdout=subprocess.DEVNULL)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)

        def listens() -> bool:
            with socket.socket() as client:
                return client.connect_ex(address) == 0

        wait_for("the S3 server", listens, 30)
        return f"http://{host}:{address[1]}"
