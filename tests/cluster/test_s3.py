"""`ingest` from a real S3 server, versitygw on this machine: credentials from a Secret, and what it says without them."""

import json

from harness import kubectl
from objects import ACCOUNT, RIGHT, WRONG, S3Test


class S3(S3Test):
    def setUp(self):
        super().setUp()
        self.endpoint = self.serve({"lake/penguins/a.csv": "a,b\n1,2\n", "lake/penguins/b.csv": "a,b\n3,4\n"})
        self.secret("right", RIGHT)
        self.claim()

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
        found = self.failed(seconds=240)["stages"]
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
