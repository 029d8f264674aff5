"""The cache of models on a claim: pods that need no bucket, damage, a model that does not fit, and what goes."""

import os
import shutil
import subprocess
import time
from pathlib import Path

from harness import ROOT, condition, get, kubectl, resource, wait_for
from models import MODEL, REQUEST, folder_digest
from objects import ACCOUNT, RIGHT, S3Test

REVISION = "millrace.dev/revision"


class ModelCache(S3Test):
    def setUp(self):
        super().setUp()
        self.endpoint = self.serve({"lake/readme": "a bucket"})
        keys = {"AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": RIGHT}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": keys})

    def register(self, version: int) -> tuple[str, int]:
        """A version in the bucket, each with other bytes. Its name in the cache, and its bytes."""
        folder = self.objects / "lake" / "models" / str(version)
        shutil.copytree(MODEL, folder)
        (folder / "note.txt").write_text(f"version {version}\n")
        digest, size = folder_digest(folder), sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        access = {"endpoint": self.endpoint, "secretRef": {"name": "keys"}}
        artifact = {"uri": f"s3://lake/models/{version}", "digest": digest, "size": size, "access": access}
        self.apply(resource("ModelVersion", f"m-v{version}", {"model": "m", "version": version, "format": "onnx", "artifact": artifact}))
        return digest.removeprefix("sha256:"), size

    def deploy(self, version: int, scale: dict | None = None, **cache) -> None:
        model = {"name": "m", "version": version, "cache": {"claim": "models", **cache}}
        self.apply(resource("ModelDeployment", "m", {"model": model, "scale": scale or {"replicas": 1}}))

    def wait_served(self, version: int) -> None:
        def served():
            deployment = self.get("modeldeployment", "m")
            ready = condition(deployment, "Ready").get("status") == "True"
            # Of this spec, not of the one before.
            seen = deployment.get("status", {}).get("observedGeneration") == deployment["metadata"]["generation"]
            return ready and seen and deployment["status"].get("servedVersion") == version and len(deployment["status"]["revisions"]) == 1

        wait_for(f"version {version} alone", served, 150)

    def answers(self) -> None:
        self.assertTrue(self.infer("m", REQUEST))

    def message(self) -> str:
        return condition(self.get("modeldeployment", "m"), "Ready").get("message", "")

    def pods(self) -> list[str]:
        """Those that stay."""
        pods = self.get("pods", selector=REVISION)["items"]
        return sorted(pod["metadata"]["name"] for pod in pods if "deletionTimestamp" not in pod["metadata"])

    def told(self, pod: str) -> str:
        return kubectl("logs", "-n", self.namespace, pod, "-c", "agent")

    def replace_pods(self) -> list[str]:
        """Deletes the servers' pods, and returns those that come when they are ready."""
        before = self.pods()
        kubectl("delete", "pods", "-n", self.namespace, *before)

        def ready():
            pods = [get("pod", name, self.namespace) for name in self.pods() if name not in before]
            names = [pod["metadata"]["name"] for pod in pods if condition(pod, "Ready").get("status") == "True"]
            return names if len(names) == len(before) else None

        return wait_for("pods in their place", ready, 120)

    def cache(self) -> Path:
        """The cache's folder on this machine."""
        name = get("persistentvolumeclaim", "models", self.namespace)["spec"]["volumeName"]
        cluster = str(ROOT / "dev" / "cluster" / "cluster")
        shown = subprocess.run([cluster, "volume", "--path", name], check=True, capture_output=True, text=True)
        return Path(shown.stdout.strip()) / "millrace-models"

    def kept(self) -> set[str]:
        return {path.name for path in (self.cache() / "models").iterdir()}

    def test_a_model_is_fetched_once_and_later_pods_need_no_bucket(self):
        self.claim("models")
        name, _ = self.register(1)
        self.deploy(1, {"replicas": 2})
        self.wait_served(1)
        self.answers()
        told = [self.told(pod) for pod in self.pods()]
        self.assertEqual(len(told), 2)
        self.assertEqual(sum("is fetched into the claim" in text for text in told), 1, told)
        self.assertEqual(self.kept(), {name})
        revision = self.get("modeldeployment", "m")["status"]["revisions"][0]
        self.assertEqual(revision["cached"], {"claim": "models", "digest": f"sha256:{name}"})
        # The server sees its model, and cannot write to it.
        pod = get("pod", self.pods()[0], self.namespace)["spec"]
        mounts = {mount["mountPath"]: mount for mount in pod["containers"][0]["volumeMounts"]}
        self.assertTrue(mounts["/mnt/models"]["readOnly"])
        self.assertEqual(mounts["/mnt/models"]["subPath"], f"millrace-models/models/{name}")
        self.assertNotIn("/millrace/models", mounts)
        # Nothing is left to fetch.
        shutil.rmtree(self.objects / "lake" / "models")
        for pod in self.replace_pods():
            self.assertIn('is in the claim "models"', self.told(pod))
        self.wait_served(1)
        self.answers()

    def test_a_start_from_zero_takes_the_model_from_the_claim(self):
        self.claim("models")
        self.register(1)
        self.deploy(1, {"min": 0, "toZeroAfter": "5s"})
        wait_for("zero", lambda: condition(self.get("modeldeployment", "m"), "Ready").get("reason") == "AtZero" and not self.pods(), 150)
        # The pod that comes stays until it was asked.
        self.deploy(1, {"min": 0, "toZeroAfter": "10m"})
        shutil.rmtree(self.objects / "lake" / "models")

        def answered() -> dict | None:
            try:
                return self.infer("m", REQUEST)
            except TimeoutError:
                # On a busy machine a pod takes longer to start than who asks waits.
                return None

        wait_for("an answer of the pod that comes", answered, 150)
        self.assertIn('is in the claim "models"', self.told(self.pods()[0]))

    def test_a_model_that_was_damaged_on_the_claim_is_fetched_anew(self):
        self.claim("models")
        name, _ = self.register(1)
        self.deploy(1)
        self.wait_served(1)
        model = self.cache() / "models" / name / "model.onnx"
        good = model.read_bytes()
        bad = bytearray(good)
        bad[len(bad) // 2] ^= 0xFF
        model.chmod(0o644)
        model.write_bytes(bytes(bad))
        (pod,) = self.replace_pods()
        self.assertIn("it is fetched anew", self.told(pod))
        self.assertEqual(model.read_bytes(), good)
        self.wait_served(1)
        self.answers()

    def test_what_is_served_stays_where_another_model_does_not_fit_and_what_is_not_goes(self):
        self.claim("models")
        (first, size), (second, _), (third, _) = (self.register(version) for version in (1, 2, 3))
        self.deploy(1, maxSize=size * 3 // 2)
        self.wait_served(1)
        self.deploy(2, maxSize=size * 3 // 2)
        told = wait_for("why it does not come", lambda: self.message() if "has no room" in self.message() else None, 120)
        self.assertIn("raise maxSize", told)
        self.assertEqual(self.kept(), {first})
        self.answers()
        self.deploy(2, maxSize=size * 5 // 2)
        self.wait_served(2)
        self.assertEqual(self.kept(), {first, second})
        # No revision serves the first any more, and nobody has asked for it in an hour.
        hour = time.time() - 3600
        for name in (first, second):
            os.utime(self.cache() / "used" / name, (hour, hour))
        self.deploy(3, maxSize=size * 5 // 2)
        self.wait_served(3)
        self.assertEqual(self.kept(), {second, third})
        self.answers()

    def test_a_claim_that_is_not_there_is_told_by_its_name_and_waited_for(self):
        self.register(1)
        self.deploy(1)
        wait_for("the claim's name", lambda: 'persistentvolumeclaim "models" not found' in self.message(), 60)
        self.claim("models")
        self.wait_served(1)
        self.answers()
