"""The whole loop on the penguins: from one apply to a served model, a second version, and a model that is rejected."""

import json

from harness import ROOT, ClusterTest, condition, kubectl, resource, script, wait_for

EXAMPLE = ROOT / "examples" / "penguins"

TRAIN = """
mkdir -p "$MILLRACE_OUTPUT_MODEL"
printf onnx > "$MILLRACE_OUTPUT_MODEL/model.onnx"
printf '{"task":"classification","inputs":[],"outputs":[]}' > "$MILLRACE_OUTPUT_MODEL/signature.json"
"""


class Loop(ClusterTest):
    def test_one_apply_trains_registers_and_serves_and_a_worse_model_is_rejected(self):
        kubectl("apply", "-n", self.namespace, "-k", str(EXAMPLE))
        first = wait_for("a run", lambda: self.get("mlpipeline", "penguins").get("status", {}).get("lastRun"))
        status = self.succeeded(first, 300)
        self.assertGreater(status["stages"]["evaluate"]["metrics"]["f1"], 0.9)
        self.assertEqual(self.served(), 1)
        self.assertEqual(self.labels(), ["Adelie", "Gentoo", "Chinstrap"])

        version = self.get("modelversion", "penguins-v1")["spec"]
        self.assertEqual(version["lineage"]["run"], first)
        self.assertIn("train", version["lineage"]["images"])
        self.assertTrue(any(d["name"] == "ingest.data" for d in version["lineage"]["datasets"]))
        self.assertGreater(version["metrics"]["f1"], 0.9)

        # Applying again keeps what was promoted, and starts nothing.
        kubectl("apply", "-n", self.namespace, "-k", str(EXAMPLE))
        self.assertEqual(self.get("modeldeployment", "penguins")["spec"]["model"]["version"], 1)
        self.assertEqual(len(self.get("mlpipelinerun")["items"]), 1)

        # A second run meets the champion on the same rows.
        self.start("again", "penguins", params={"algorithm": "decision-tree", "min-f1": 0})
        again = self.finished("again", 300)
        self.assertIn("f1", again["stages"]["evaluate"]["champion"])

        # A gate that nothing passes rejects: the run succeeds, nothing is registered.
        before = len(self.get("modelversion")["items"])
        self.start("strict", "penguins", params={"min-f1": 1, "test-fraction": 0.5, "algorithm": "decision-tree"})
        strict = self.succeeded("strict", 300)
        self.assertEqual(condition({"status": strict}, "Promoted")["reason"], "GateRejected")
        self.assertEqual(strict["stages"]["deploy"]["state"], "Skipped")
        self.assertEqual(len(self.get("modelversion")["items"]), before)

    def served(self) -> int:
        deployment = self.get("modeldeployment", "penguins")
        self.assertEqual(condition(deployment, "Ready")["status"], "True")
        return deployment["status"]["servedVersion"]

    def labels(self) -> list[str]:
        return self.infer("penguins", (EXAMPLE / "request.json").read_bytes())["label"]


class DeployConflicts(ClusterTest):
    def test_a_deployment_without_a_version_waits_for_the_first(self):
        self.apply(resource("ModelDeployment", "m", {"model": {"name": "m"}}))
        ready = wait_for("a condition", lambda: condition(self.get("modeldeployment", "m"), "Ready"))
        self.assertEqual((ready["status"], ready["reason"]), ("False", "WaitingForFirstVersion"))
        names = [deployment["metadata"]["name"] for deployment in self.get("deployments")["items"]]
        self.assertIn(names, ([], ["millrace-router"]), "a server without a version")

    def test_a_version_that_does_not_exist_is_named(self):
        self.apply(resource("ModelDeployment", "m", {"model": {"name": "m", "version": 9}}))
        wait_for("the reason", lambda: condition(self.get("modeldeployment", "m"), "Ready").get("reason") == "VersionNotFound")

    def test_a_version_that_somebody_else_owns_is_not_taken_and_the_owner_is_named(self):
        self.claim()
        train = script(TRAIN, outputs={"model": {"type": "model"}})
        stages = {"train": train, "register": {"register": {"model": "m", "from": "train.model"}}}
        store = {"pvc": {"claimName": "artifacts"}}
        self.run_inline(stages, "first", store=store)
        self.succeeded("first")
        self.own("gitops", {"name": "m", "version": 1})
        stages["deploy"] = {"deploy": {"modelDeployment": "m", "version": "register", "wait": "Accepted"}}
        self.run_inline(stages, "second", store=store)
        stage = self.failed("second")["stages"]["deploy"]
        self.assertEqual(stage["reason"], "FieldOwned")
        self.assertIn("gitops", stage["message"])
        self.assertEqual(self.get("modeldeployment", "m")["spec"]["model"]["version"], 1)
        # The owner leaves the field out, and the next run sets it.
        self.own("gitops", {"name": "m"})
        self.run_inline(stages, "third", store=store)
        self.succeeded("third")
        self.assertEqual(self.get("modeldeployment", "m")["spec"]["model"]["version"], 3)

    def test_older_versions_go_but_those_that_are_served_or_read_stay(self):
        self.claim()
        train = script(TRAIN, outputs={"model": {"type": "model"}})
        keep = {"last": 2, "deployed": True}
        stages = {"train": train, "register": {"register": {"model": "m", "from": "train.model", "keep": keep}}}
        store = {"pvc": {"claimName": "artifacts"}}
        # To be served, and read by its number.
        self.apply(resource("ModelDeployment", "m", {"model": {"name": "m", "version": 1}}))
        read = script("true", inputs={"m": {"model": {"name": "m", "version": 3}}})
        self.pipeline({"read": read}, store=store)
        for number in range(1, 7):
            self.run_inline(stages, f"r{number}", store=store)
            self.succeeded(f"r{number}")
        names = sorted(version["metadata"]["name"] for version in self.get("modelversion")["items"])
        self.assertEqual(names, ["m-v1", "m-v3", "m-v5", "m-v6"])
        self.assertIn("older versions are deleted: m-v4", self.stage("register", "r6")["message"])
        self.assertNotIn("message", self.stage("register", "r2"))
        self.assertEqual(self.stage("register", "r6")["modelVersion"], "m-v6")
        self.assertTrue(any(event.startswith("VersionsDeleted: stage register") and "m-v2" in event for event in self.events()))

    def own(self, manager: str, model: dict) -> None:
        deployment = json.dumps(resource("ModelDeployment", "m", {"model": model}))
        kubectl("apply", "--server-side", f"--field-manager={manager}", "-n", self.namespace, "-f", "-", stdin=deployment)
