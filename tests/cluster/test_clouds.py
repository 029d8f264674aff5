"""Artifacts in Google Cloud Storage and in Azure Blob Storage, as servers on this machine speak them: from stage to stage, and to a served model."""

import base64
import http.client

from clouds import KEY, CloudTest
from harness import kubectl, resource, script, wait_for
from models import MODEL, REQUEST


class Clouds(CloudTest):
    def test_a_model_made_of_data_in_google_cloud_storage_is_served(self):
        self.is_served(self.gcs(), "gs")

    def test_a_model_made_of_data_in_azure_is_served_and_nobody_sees_the_key(self):
        self.is_served(self.azure(), "az")
        kinds = "mlpipelineruns,modelversions,modeldeployments,controllerrevisions,jobs,deployments,pods,events"
        told = kubectl("get", kinds, "-n", self.namespace, "-o", "json") + self.logs("train")
        self.assertNotIn(KEY, told)

    def is_served(self, store: dict, scheme: str) -> None:
        model = {path.name: base64.b64encode(path.read_bytes()).decode() for path in MODEL.iterdir()}
        write = "\n".join(f"echo {text} | base64 -d > $MILLRACE_OUTPUT_MODEL/{name}" for name, text in model.items())
        stages = {
            "make": script("echo rows > $MILLRACE_OUTPUT_DATA; env", outputs={"data": {}}),
            "train": script(
                f"cat $MILLRACE_INPUT_DATA\nmkdir $MILLRACE_OUTPUT_MODEL\n{write}",
                inputs={"data": {"from": "make.data"}},
                outputs={"model": {"type": "model"}},
            ),
            "register": {"register": {"model": "m", "from": "train.model"}},
            "deploy": {"deploy": {"modelDeployment": "m", "version": "register", "wait": "Promoted"}},
            # What is served now, from the same bucket.
            "compare": script("ls $MILLRACE_INPUT_OLD", inputs={"old": {"deployed": "m"}}, needs=["deploy"]),
        }
        self.apply(resource("ModelDeployment", "m", {"model": {"name": "m"}, "scale": {"replicas": 1}}))
        self.run_inline(stages, store=store)
        found = self.succeeded(seconds=300)["stages"]
        self.assertIn("rows", self.logs("train"))
        self.assertEqual(self.logs("compare").split(), ["model.onnx", "signature.json"])
        self.assertNotIn("MILLRACE_STORE_", self.logs("make"))
        uri = found["train"]["outputs"]["model"]["uri"]
        self.assertTrue(uri.startswith(f"{scheme}://lake/teams/a/runs/r-"), uri)

        def answers():
            connection = http.client.HTTPConnection(self.get("service", "m")["spec"]["clusterIP"], timeout=15)
            connection.request("POST", "/v2/models/m/infer", REQUEST, {"content-type": "application/json"})
            return connection.getresponse().status == 200

        wait_for("an answer of the model", answers, 30)
