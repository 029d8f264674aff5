"""Artifacts in an S3 server instead of on a claim: a loop from data to a served model, damage, refusals, items, and who sees credentials."""

import base64
import json

from harness import condition, kubectl, resource, script, wait_for
from models import MODEL, is_made_and_served
from objects import ACCOUNT, RIGHT, WRONG, S3Test

# What a program of the stage's user may try, where the agent is process 1.
PRY = """
env
cat /proc/1/environ || echo "environ is refused"
head -c 1 /proc/1/mem || echo "mem is refused"
ls -l /proc/1/fd || echo "fd is refused"
"""


class Stores(S3Test):
    def setUp(self):
        super().setUp()
        self.endpoint = self.serve({"lake/readme": "a bucket"})
        self.secret("keys", RIGHT)

    def secret(self, name: str, key: str) -> None:
        data = {"AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": key}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "stringData": data})

    def store(self, secret: str = "keys", bucket: str = "lake") -> dict:
        return {"s3": {"bucket": bucket, "prefix": "teams/a", "endpoint": self.endpoint, "secretRef": {"name": secret}}}

    def object(self, uri: str):
        """Where an object, or a folder of them, lies on this machine."""
        return self.objects / uri.removeprefix("s3://")

    def test_a_model_made_of_data_in_a_bucket_is_served_and_nobody_sees_the_credentials(self):
        found = is_made_and_served(self, self.store(), PRY)
        output = found["train"]["outputs"]["model"]
        self.assertTrue(output["uri"].startswith("s3://lake/teams/a/runs/r-"), output)
        self.assertTrue((self.object(output["uri"]) / "model.onnx").is_file())
        artifact = self.get("modelversion", found["register"]["modelVersion"])["spec"]["artifact"]
        self.assertEqual((artifact["uri"], artifact["digest"]), (output["uri"], output["digest"]))
        self.assertEqual(artifact["access"], {"endpoint": self.endpoint, "secretRef": {"name": "keys"}})

        told = self.logs("make")
        for word in ("environ is refused", "mem is refused", "fd is refused"):
            self.assertIn(word, told)
        kinds = "mlpipelineruns,modelversions,modeldeployments,controllerrevisions,jobs,deployments,pods,events"
        told += kubectl("get", kinds, "-n", self.namespace, "-o", "json") + self.logs("train")
        self.assertNotIn(RIGHT, told)
        self.assertNotIn(base64.b64encode(RIGHT.encode()).decode(), told)

    def test_a_model_that_was_damaged_in_its_bucket_is_not_served(self):
        folder = self.objects / "lake" / "models" / "1"
        folder.mkdir(parents=True)
        for path in MODEL.iterdir():
            (folder / path.name).write_bytes(path.read_bytes())
        size = sum(path.stat().st_size for path in folder.iterdir())
        access = {"endpoint": self.endpoint, "secretRef": {"name": "keys"}}
        artifact = {"uri": "s3://lake/models/1", "digest": f"sha256:{'0' * 64}", "size": size, "access": access}
        self.apply(resource("ModelVersion", "m-v1", {"model": "m", "version": 1, "format": "onnx", "artifact": artifact}))
        self.apply(resource("ModelDeployment", "m", {"model": {"name": "m", "version": 1}, "scale": {"replicas": 1}}))

        def told():
            message = condition(self.get("modeldeployment", "m"), "Ready").get("message", "")
            return message if "has the digest" in message else None

        self.assertIn("s3://lake/models/1", wait_for("why it is not served", told, 120))

    def test_an_input_that_was_damaged_in_its_bucket_is_made_again(self):
        stages = {
            "make": script("echo rows > $MILLRACE_OUTPUT_DATA", outputs={"data": {}}),
            # Time to damage the object: the second attempt reads it again.
            "read": script('[ "$MILLRACE_ATTEMPT" != 1 ] && grep -x rows "$MILLRACE_INPUT_DATA"', inputs={"data": {"from": "make.data"}}, retry={"limit": 1, "backoff": {"initial": "20s"}}),
        }
        self.run_inline(stages, store=self.store())
        wait_for("the end of the first attempt", lambda: self.stage("read").get("state") == "BackingOff", 120)
        uri = self.stage("make")["outputs"]["data"]["uri"]
        self.object(uri).write_text("rowz\n")
        status = self.succeeded(seconds=240)
        self.assertEqual((status["stages"]["make"]["remade"], status["stages"]["read"]["failures"]), (1, 1))
        told = [e for e in self.events() if "InputLost" in e]
        self.assertTrue(any(uri in e for e in told), self.events())

    def test_a_store_that_refuses_says_why_before_a_program_runs(self):
        self.secret("wrong", WRONG)
        make = script("echo ran; echo rows > $MILLRACE_OUTPUT_DATA", outputs={"data": {}}, retry={"limit": 0})
        self.run_inline({"make": make}, name="wrong", store=self.store("wrong"))
        self.run_inline({"make": make}, name="bucket", store=self.store(bucket="pond"))
        self.run_inline({"make": make}, name="late", store=self.store("late"))
        for run, *words in [("wrong", "valid credentials"), ("bucket", "NoSuchBucket", "s3://pond/teams/a/runs/")]:
            stage = self.failed(run)["stages"]["make"]
            self.assertEqual(stage["reason"], "StoreNotWritable", stage)
            for word in words:
                self.assertIn(word, stage["message"])
        # A Secret that comes later is waited for.
        self.waits_with("make", 'secret "late" not found', run="late")
        self.secret("late", RIGHT)
        self.succeeded("late")
        told = kubectl("get", "mlpipelineruns,events,pods", "-n", self.namespace, "-o", "json")
        self.assertNotIn(WRONG, told)

    def test_a_store_that_does_not_answer_is_told_and_tried_again(self):
        store = self.store()
        # Nobody listens there.
        store["s3"]["endpoint"] = self.endpoint.rsplit(":", 1)[0] + ":9"
        self.run_inline({"make": script("echo rows > $MILLRACE_OUTPUT_DATA", outputs={"data": {}})}, store=store)
        seen = self.waits_with("make", "StoreUnreachable", seconds=240)
        self.assertIn("look at the store's endpoint", seen["message"])
        self.assertEqual((seen.get("failures", 0), seen["disruptions"] > 0), (0, True), seen)

    def test_items_over_a_file_in_a_bucket_are_put_together_there(self):
        each = {"forEach": {"from": "list.items"}}
        stages = {
            "list": script("printf '\"a\"\\n\"b\"\\n\"c\"\\n' > $MILLRACE_OUTPUT_ITEMS", outputs={"items": {}}),
            "fan": script('printf "<$MILLRACE_ITEM>" > $MILLRACE_OUTPUT_PART', outputs={"part": {}}) | each,
            "join": script(
                "cat $MILLRACE_INPUT_PARTS/0 $MILLRACE_INPUT_PARTS/1 $MILLRACE_INPUT_PARTS/2; wc -l < $MILLRACE_INPUT_TABLE",
                inputs={"parts": {"from": "fan.part"}, "table": {"from": "fan.items"}},
            ),
        }
        self.run_inline(stages, store=self.store())
        found = self.succeeded(seconds=240)["stages"]
        self.assertEqual(self.logs("join").split(), ["<a><b><c>3"], json.dumps(found["fan"]))
