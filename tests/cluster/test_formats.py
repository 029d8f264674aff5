"""A model of another format than ONNX: from a stage that writes it to a server of its own that reads it."""

import json

from harness import condition, resource, script, wait_for
from models import ModelTest, any_server

# A model that multiplies.
TRAIN = 'mkdir -p "$MILLRACE_OUTPUT_MODEL"; printf \'{"factor": %s}\' "$FACTOR" > "$MILLRACE_OUTPUT_MODEL/weights.json"'
SERVER = """
factor = json.load(open("/mnt/models/weights.json"))["factor"]

class Handler(Answers):
    def do_GET(self):
        self.answer({})

    def do_POST(self):
        asked = json.loads(self.asked())
        self.answer({"product": factor * asked["x"]})
"""


class Formats(ModelTest):
    def stages(self, factor: int, **output) -> dict:
        train = script(TRAIN, env={"FACTOR": {"value": str(factor)}}, outputs={"model": {"type": "model", **output}})
        return {
            "train": train,
            "register": {"register": {"model": "m", "from": "train.model"}},
            "deploy": {"deploy": {"modelDeployment": "m", "version": "register", "timeout": "90s"}},
        }

    def train(self, run: str, factor: int, **output) -> None:
        self.run_inline(self.stages(factor, **output), run, store={"pvc": {"claimName": "artifacts"}})

    def product(self) -> float:
        return self.answer("m", json.dumps({"x": 3}).encode())["product"]

    def test_it_is_registered_with_its_format_and_served_by_a_server_of_its_own(self):
        self.apply(resource("ModelDeployment", "m", {"model": {"name": "m"}, "server": any_server(SERVER), "scale": {"replicas": 1}}))
        self.train("first", 2, format="factor")
        self.succeeded("first", 180)
        version = self.get("modelversion", "m-v1")["spec"]
        self.assertEqual(version["format"], "factor")
        self.assertNotIn("signature", version)
        self.wait_served(1)
        self.assertEqual(self.product(), 6)
        # Another version of it rolls out as any other.
        self.train("second", 5, format="factor")
        self.succeeded("second", 180)
        self.wait_served(2)
        self.assertEqual(self.product(), 15)

    def test_without_a_server_of_its_own_it_is_not_served_and_without_a_format_it_is_no_model(self):
        self.apply(resource("ModelDeployment", "m", {"model": {"name": "m"}}))
        self.train("first", 2, format="factor")
        wait_for("the reason", lambda: condition(self.get("modeldeployment", "m"), "Accepted").get("reason") == "UnsupportedFormat")
        self.assertIn("server.container", condition(self.get("modeldeployment", "m"), "Accepted")["message"])
        self.failed("first", 180)
        self.train("second", 2)
        stage = self.failed("second")["stages"]["train"]
        self.assertEqual(stage["reason"], "OutputMissing")
        self.assertIn("has no model.onnx", stage["message"])
        self.assertIn("write its `format`", stage["message"])
