"""`ingest` from a real S3 server, versitygw on this machine: credentials from a Secret, and what it says without them."""

import json
import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from harness import LOCAL, ROOT, ClusterTest, kubectl, wait_for

ACCOUNT = "millrace-reader"
# Nothing else in the cluster holds these words.
RIGHT, WRONG = "rIght-s3cret-7Q2x", "wr0ng-s3cret-9Zk4"


class S3(ClusterTest):
    def setUp(self):
        if not LOCAL:
            self.skipTest("the pods of another cluster need not reach this machine")
        super().setUp()
        self.endpoint = self.serve({"lake/penguins/a.csv": "a,b\n1,2\n", "lake/penguins/b.csv": "a,b\n3,4\n"})
        self.secret("right", RIGHT)
        self.claim()

    def serve(self, objects: dict[str, str]) -> str:
        """Starts the server over a folder with these objects, on the address by which pods reach this machine."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder)
        for key, text in objects.items():
            path = folder / "root" / key
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        (folder / "meta").mkdir()
        program = subprocess.run([ROOT / "dev" / "s3" / "server"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        host = os.environ["MILLRACE_CLUSTER_HOST"]
        with socket.socket() as free:
            free.bind((host, 0))
            address = free.getsockname()
        where = ["--port", f"{host}:{address[1]}", "--quiet"]
        store = ["posix", "--sidecar", str(folder / "meta"), str(folder / "root")]
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

    def secret(self, name: str, key: str) -> None:
        data = {"account": ACCOUNT, "key": key}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})

    def ingest(self, source: str, secret: str = "right") -> dict:
        env = {
            "AWS_ACCESS_KEY_ID": {"secret": {"name": secret, "key": "account"}},
            "AWS_SECRET_ACCESS_KEY": {"secret": {"name": secret, "key": "key"}},
        }
        s3 = {"endpoint": self.endpoint, "region": "us-east-1", "allowHttp": True}
        resources = {"requests": {"cpu": "10m", "memory": "32Mi"}}
        return {"uses": "ingest", "with": {"source": source, "s3": s3}, "overrides": {"env": env, "resources": resources}}

    def test_ingest_reads_objects_with_credentials_of_a_secret_and_says_what_is_wrong(self):
        self.secret("wrong", WRONG)
        objects = "s3://lake/penguins/"
        stages = {
            "right": self.ingest(objects),
            "wrong": self.ingest(objects, "wrong"),
            "late": self.ingest(objects + "a.csv", "late"),
            "bucket": self.ingest("s3://pond/penguins/a.csv"),
            "folder": self.ingest("s3://pond/penguins/"),
            "key": self.ingest("s3://lake/penguin.csv"),
        }
        self.run_inline(stages, store={"pvc": {"claimName": "artifacts"}})
        self.waits_with("late", 'secret "late" not found')
        self.secret("late", RIGHT)
        found = self.failed()["stages"]
        self.assertEqual(found["right"]["results"]["rows"], 2)
        self.assertEqual(found["late"]["results"]["rows"], 1)
        for stage, *words in [
            ("wrong", objects, "access is refused", "AWS_ACCESS_KEY_ID"),
            ("bucket", "s3://pond/penguins/a.csv", "correct the bucket or the key"),
            ("folder", "s3://pond/penguins/: there is no such bucket", "s3.endpoint"),
            ("key", "there is no object s3://lake/penguin.csv", "correct the bucket or the key"),
        ]:
            for word in words:
                self.assertIn(word, found[stage]["message"])
        self.no_secret_is_told(stages)

    def no_secret_is_told(self, stages: dict) -> None:
        kinds = "mlpipelineruns,controllerrevisions,jobs,pods,events,configmaps"
        told = kubectl("get", kinds, "-n", self.namespace, "-o", "json")
        told += kubectl("describe", "mlpipelineruns,pods", "-n", self.namespace)
        told += "".join(self.logs(stage) for stage in stages)
        self.assertIn(json.dumps(self.endpoint).strip('"'), told, "this is not where the stages' words are")
        for secret in (RIGHT, WRONG):
            self.assertNotIn(secret, told)
