"""Models that no ModelVersion has: served by the address where they lie, in a bucket, on a web server or on a claim."""

import hashlib
import json
import os
import shutil
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from certificates import Certificate
from harness import LOCAL, ClusterTest, condition, kubectl, resource, script, wait_for
from models import MODEL, REQUEST, ModelTest, folder_digest
from objects import ACCOUNT, RIGHT, S3Test
from test_operator import volume_folder

CANARY = {"strategy": "Canary", "steps": [{"weight": 50, "pause": True}]}


class Served:
    """What both kinds of store are asked."""

    def wait_served(self, digest: str, name: str = "m") -> dict:
        def served():
            found = self.get("modeldeployment", name)
            seen = found.get("status", {}).get("observedGeneration") == found["metadata"]["generation"]
            ready = condition(found, "Ready").get("status") == "True"
            return found if seen and ready and found["status"].get("servedDigest") == digest else None

        return wait_for(f"the model {digest}", served, 150)

    def message(self, name: str = "m") -> str:
        return condition(self.get("modeldeployment", name), "Ready").get("message", "")


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


class InABucket(Served, S3Test):
    def setUp(self):
        super().setUp()
        self.endpoint = self.serve({"lake/readme": "a bucket"})
        keys = {"AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": RIGHT}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": keys})

    def put(self, name: str) -> str:
        """A model in the bucket, each with other bytes. Its digest."""
        folder = self.objects / "lake" / "models" / name
        shutil.copytree(MODEL, folder)
        (folder / "note.txt").write_text(f"{name}\n")
        return folder_digest(folder)

    def model(self, name: str, digest: str, **more) -> dict:
        access = {"endpoint": self.endpoint, "secretRef": {"name": "keys"}}
        return {"uri": f"s3://lake/models/{name}", "format": "onnx", "digest": digest, "access": access, **more}

    def deploy(self, model: dict, **spec) -> None:
        self.apply(resource("ModelDeployment", "m", {"model": model, "scale": {"replicas": 1}, **spec}))

    def test_it_is_served_and_another_digest_takes_over_in_steps(self):
        first, second = self.put("a"), self.put("b")
        self.deploy(self.model("a", first))
        found = self.wait_served(first)
        self.assertEqual(self.get("modelversions")["items"], [])
        self.assertNotIn("servedVersion", found["status"])
        self.assertEqual(found["status"]["revisions"][0]["artifact"], {"uri": "s3://lake/models/a", "digest": first})
        answer = self.answer("m", REQUEST)
        self.assertEqual((answer["model_name"], answer["model_version"]), ("m", short(first)))

        self.deploy(self.model("b", second), rollout=CANARY)
        wait_for("a step that waits for a person", lambda: condition(self.get("modeldeployment", "m"), "Ready").get("reason") == "RolloutPaused", 120)
        self.assertIn(f"version {short(second)} has 50 % of the requests", self.message())
        seen = {self.answer("m", REQUEST)["model_version"] for _ in range(60)}
        self.assertEqual(seen, {short(first), short(second)})
        revision = self.get("modeldeployment", "m")["status"]["rollout"]["revision"]
        self.deploy(self.model("b", second), rollout=CANARY, control={"revision": revision, "action": "Promote"})
        history = self.wait_served(second)["status"]["history"]
        self.assertEqual([record["artifact"]["digest"] for record in history], [second, first])

    def test_what_lies_there_and_is_something_else_is_not_served_and_both_digests_are_told(self):
        first, other = self.put("a"), self.put("b")
        self.deploy(self.model("a", first))
        self.wait_served(first)
        self.deploy(self.model("b", first))

        def told():
            message = self.message()
            return message if f"has the digest {other}, and not {first}" in message else None

        wait_for("what is there instead", told, 120)
        self.assertEqual(self.answer("m", REQUEST)["model_version"], short(first))
        self.deploy(self.model("b", other))
        self.wait_served(other)

    def test_a_cache_keeps_it_for_pods_that_come_later(self):
        self.claim("models")
        digest = self.put("a")
        self.deploy(self.model("a", digest, cache={"claim": "models", "maxSize": "100Mi"}))
        found = self.wait_served(digest)
        self.assertEqual(found["status"]["revisions"][0]["cached"], {"claim": "models", "digest": digest})
        # Nothing is left to fetch.
        shutil.rmtree(self.objects / "lake" / "models")
        kubectl("scale", "modeldeployment", "m", "-n", self.namespace, "--replicas=2")
        wait_for("two pods", lambda: self.wait_served(digest)["status"]["revisions"][0]["readyReplicas"] == 2, 120)
        pods = self.get("pods", selector="millrace.dev/revision")["items"]
        logs = [kubectl("logs", "-n", self.namespace, pod["metadata"]["name"], "-c", "agent") for pod in pods]
        self.assertTrue(any('is in the claim "models"' in log for log in logs), logs)

    def test_a_pipeline_neither_deploys_to_it_nor_takes_it_for_a_registered_one(self):
        digest = self.put("a")
        self.deploy(self.model("a", digest))
        self.wait_served(digest)
        stages = {
            "read": script("true", inputs={"champion": {"deployed": "m", "optional": True}}),
            "score": script("echo '{\"accuracy\": 0.9}' > $MILLRACE_OUT/metrics.json"),
            "tell": {"report": {"modelDeployment": "m", "metrics": "score"}},
        }
        stages["read"]["onFailure"] = "FailAtEnd"
        self.claim()
        self.run_inline(stages, store={"pvc": {"claimName": "artifacts"}})
        found = self.failed()["stages"]
        self.assertEqual((found["read"]["reason"], found["tell"]["reason"]), ("NotRegistered", "WrongModel"))
        self.assertIn("write uri: s3://lake/models/a instead of deployed", found["read"]["message"])


class Files(BaseHTTPRequestHandler):
    """Gives the server's files to who has its token."""

    def do_GET(self) -> None:
        known = self.headers.get("Authorization") == self.server.token
        body = self.server.files.get(self.path) if known else b""
        self.send_response(401 if not known else 404 if body is None else 200)
        self.send_header("Content-Length", str(len(body or b"")))
        self.end_headers()
        self.wfile.write(body or b"")

    def log_message(self, *_) -> None:
        pass


class OnAWebServer(Served, ClusterTest):
    TOKEN = "Bearer m0del-t0ken-7Qx2"

    def setUp(self):
        if not LOCAL:
            self.skipTest("the pods of another cluster need not reach this machine")
        super().setUp()
        host = os.environ["MILLRACE_CLUSTER_HOST"]
        certificate = Certificate(f"IP:{host}")
        self.server = ThreadingHTTPServer((host, 0), Files)
        self.server.token, self.server.files = self.TOKEN, {}
        self.server.socket = certificate.server().wrap_socket(self.server.socket, server_side=True)
        self.addCleanup(self.server.server_close)
        self.addCleanup(self.server.shutdown)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.address = f"https://{host}:{self.server.server_address[1]}"
        keys = {"HTTP_AUTHORIZATION": self.TOKEN, "ca.crt": certificate.text}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": keys})

    def put(self, name: str) -> str:
        """The file of a model. Its digest."""
        body = (MODEL / "model.onnx").read_bytes()
        self.server.files[f"/{name}"] = body
        return f"sha256:{hashlib.sha256(body).hexdigest()}"

    def deploy(self, name: str, digest: str, **more) -> None:
        model = {"uri": f"{self.address}/{name}", "format": "onnx", "digest": digest, "access": {"secretRef": {"name": "keys"}}, **more}
        self.apply(resource("ModelDeployment", "m", {"model": model, "scale": {"replicas": 1}}))

    def test_a_file_is_served_by_its_own_digest_and_a_cache_keeps_it(self):
        digest = self.put("penguins-3.onnx")
        self.deploy("penguins-3.onnx", digest)
        found = self.wait_served(digest)
        self.assertEqual(found["status"]["revisions"][0]["artifact"], {"uri": f"{self.address}/penguins-3.onnx", "digest": digest})
        self.assertEqual(self.answer("m", REQUEST)["model_version"], short(digest))
        self.claim("models")
        self.deploy("penguins-3.onnx", digest, cache={"claim": "models"})
        kept = {"claim": "models", "digest": digest}
        wait_for("the cache", lambda: self.wait_served(digest)["status"]["revisions"][0].get("cached") == kept, 120)
        # Nothing is left to fetch.
        self.server.files.clear()
        kubectl("scale", "modeldeployment", "m", "-n", self.namespace, "--replicas=2")
        wait_for("two pods", lambda: self.wait_served(digest)["status"]["revisions"][0]["readyReplicas"] == 2, 120)
        pods = self.get("pods", selector="millrace.dev/revision")["items"]
        logs = [kubectl("logs", "-n", self.namespace, pod["metadata"]["name"], "-c", "agent") for pod in pods]
        self.assertFalse(any(self.TOKEN in log for log in logs), logs)

    def test_what_is_wrong_with_the_address_or_the_file_is_told(self):
        digest = self.put("a.onnx")
        for name, says in [
            ("b.onnx", "404 Not Found; nothing is there: correct the address"),
            ("models.tar.gz", "models.tar.gz is an archive, and nothing unpacks it"),
            ("a.onnx?key=hush", "an address of a model has no ? and no #"),
        ]:
            self.deploy(name, digest)
            wait_for(says, lambda says=says: says in self.message(), 120)
        self.deploy("a.onnx", digest.replace(digest[-4:], "0000"))
        wait_for("both digests", lambda: "has the digest sha256:" in self.message() and "0000" in self.message(), 120)
        self.deploy("a.onnx", digest)
        self.wait_served(digest)


class OnAClaim(Served, ModelTest):
    def test_it_is_mounted_and_a_registered_version_takes_over_from_it(self):
        folder = volume_folder(self.namespace) / "by-hand"
        shutil.copytree(MODEL, folder)
        for path in [folder, *folder.iterdir()]:
            path.chmod(0o755 if path.is_dir() else 0o644)
        digest = folder_digest(folder)
        model = {"uri": "pvc://artifacts/by-hand", "format": "onnx", "digest": digest}
        self.apply(resource("ModelDeployment", "m", {"model": model, "scale": {"replicas": 1}}))
        self.wait_served(digest)
        self.assertEqual(self.answer("m", REQUEST)["model_version"], short(digest))
        self.register(1)
        null = {"uri": None, "format": None, "digest": None}
        spec = {"model": {**null, "name": "m", "version": 1}}
        kubectl("patch", "modeldeployment", "m", "-n", self.namespace, "--type=merge", "-p", json.dumps({"spec": spec}))
        wait_for("version 1", lambda: self.get("modeldeployment", "m")["status"].get("servedVersion") == 1, 120)
        self.assertNotIn("servedDigest", self.get("modeldeployment", "m")["status"])
        self.assertEqual(self.answer("m", REQUEST)["model_version"], "1")
