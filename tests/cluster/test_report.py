"""Live metrics: a run's `report` stage brings them when labels have come, and a rollout and a trigger follow them."""

import json

from harness import ROOT, Refused, condition, kubectl, resource, script, wait_for
from models import ModelTest

EXAMPLE = ROOT / "examples" / "labels" / "pipeline.yaml"


def labels(accuracy: float, version: int, rows: int = 1000) -> dict:
    """A stage that found this, and one that reports it."""
    found = json.dumps({"accuracy": accuracy, "version": version, "rows": rows})
    return {
        "score": script(f"echo '{found}' > $MILLRACE_OUT/metrics.json"),
        "tell": {"report": {"modelDeployment": "m", "metrics": "score", "version": "version", "samples": "rows"}},
    }


class Report(ModelTest):
    def live(self) -> dict[int, dict]:
        found = self.get("modeldeployment", "m").get("status", {}).get("live", [])
        return {live["version"]: live for live in found}

    def report(self, name: str, accuracy: float, version: int, rows: int = 1000) -> None:
        self.run_inline(labels(accuracy, version, rows), name=name)
        self.succeeded(name)

    def canary(self, **limit) -> dict:
        analysis = {"truth": {"live": "accuracy", **limit}}
        return {"strategy": "Canary", "steps": [{"weight": 20, "hold": "10s"}], "analysis": analysis}

    def first(self, **spec) -> None:
        self.register(1)
        self.register(2)
        self.serve(1, **spec)
        self.wait_served(1)

    def in_step(self) -> None:
        def begun():
            return self.get("modeldeployment", "m")["status"].get("rollout", {}).get("stepStartTime")

        wait_for("the step is in force", begun)

    def verdict(self) -> tuple[str, str]:
        [analysis] = self.get("modeldeployment", "m")["status"]["rollout"].get("analysis") or [{}]
        return analysis.get("verdict", ""), analysis.get("message", "")

    def test_what_was_measured_is_in_the_status_and_kept_for_each_version(self):
        self.first()
        self.report("a", 0.91, 1)
        live = self.live()[1]
        self.assertEqual((live["metrics"], live["samples"], live["run"], live["stage"]), ({"accuracy": 0.91}, 1000, "a", "tell"))
        self.serve(2)
        self.wait_served(2)
        self.report("b", 0.95, 2)
        self.report("c", 0.5, 1)
        self.assertEqual({v: live["metrics"]["accuracy"] for v, live in self.live().items()}, {1: 0.5, 2: 0.95})
        # Without a version they are the promoted one's.
        stages = {
            "score": script("echo '{\"accuracy\": 0.8}' > $MILLRACE_OUT/metrics.json"),
            "tell": {"report": {"modelDeployment": "m", "metrics": "score"}},
        }
        self.run_inline(stages, name="d")
        self.succeeded("d")
        self.assertEqual(self.live()[2]["metrics"], {"accuracy": 0.8})
        self.assertNotIn("samples", self.live()[2])

    def test_a_canary_waits_for_a_report_of_its_own_and_goes_by_it(self):
        rollout = self.canary(min=0.8, minSamples=500)
        self.first(rollout=rollout)
        # Of this version, before its step.
        self.report("early", 0.1, 2)
        self.serve(2, rollout=rollout)
        self.in_step()
        self.report("other", 0.1, 1)
        self.report("few", 0.1, 2, rows=499)
        wait_for("too few", lambda: self.verdict() == ("Inconclusive", "499 of 500 requests"))
        self.report("good", 0.9, 2)
        self.wait_served(2)
        wait_for("it is promoted", lambda: "rollout" not in self.get("modeldeployment", "m")["status"])

    def test_a_canary_that_is_wrong_too_often_is_rolled_back(self):
        rollout = self.canary(min=0.8)
        self.first(rollout=rollout)
        self.serve(2, rollout=rollout)
        self.in_step()
        self.report("bad", 0.6, 2)
        back = wait_for("it is rolled back", self.rolled_back)
        self.assertIn("truth: live accuracy is 0.6, less than min 0.8", condition(back, "Ready")["message"])
        self.assertEqual(back["status"]["servedVersion"], 1)

    def rolled_back(self) -> dict | None:
        deployment = self.get("modeldeployment", "m")
        return deployment if condition(deployment, "Ready").get("reason") == "RolledBack" else None

    def test_a_bad_report_of_the_promoted_version_starts_a_run(self):
        self.first()
        degraded = {"modelDeployment": "m", "when": "live.accuracy < 0.75", "minSamples": 100}
        retrain = {"again": script("echo again")}
        self.pipeline(retrain, name="retrain", triggers={"onModel": {"degraded": degraded}})
        wait_for("it is ready", lambda: condition(self.get("mlpipeline", "retrain"), "Ready").get("status") == "True")
        self.report("good", 0.9, 1)
        self.report("other", 0.1, 2)
        self.report("few", 0.1, 1, rows=99)
        self.report("bad", 0.7, 1)
        [run] = wait_for("a run", self.started)
        # None of those before: what they could have started would have been made before this one was told.
        self.assertGreaterEqual(run["metadata"]["creationTimestamp"], self.stage("tell", "bad")["startTime"])
        self.assertEqual((run["spec"]["trigger"]["kind"], run["spec"]["trigger"]["name"]), ("Model", "degraded"))

    def started(self) -> list[dict]:
        runs = self.get("mlpipelinerun")["items"]
        return [run for run in runs if run["spec"].get("pipelineRef", {}).get("name") == "retrain"]

    def test_what_cannot_be_reported_is_refused_or_fails_with_its_cause(self):
        self.first()
        stages = labels(0.9, 1)
        stages["tell"]["report"]["metrics"] = "scores"
        self.pipeline(stages, name="wrong")
        wait_for("it is refused", lambda: condition(self.get("mlpipeline", "wrong"), "Accepted").get("status") == "False")
        self.assertIn("spec.stages.tell.report.metrics", condition(self.get("mlpipeline", "wrong"), "Accepted")["message"])
        stages = labels(0.9, 1)
        stages["tell"]["report"]["samples"] = "version"
        with self.assertRaises(Refused) as refused:
            self.apply(resource("MLPipeline", "twice", {"stages": stages}))
        self.assertIn("two metrics", str(refused.exception))
        stages = labels(0.9, 1)
        stages["tell"]["report"]["samples"] = "n"
        self.run_inline(stages, name="absent")
        self.failed("absent")
        told = self.stage("tell", "absent")
        self.assertEqual((told["reason"], self.live()), ("MetricAbsent", {}))
        self.assertIn("has no metric `n`", told["message"])

    def test_the_example_reports_to_a_model_deployment(self):
        self.register(1)
        self.serve(1, name="penguins")
        self.wait_served(1, "penguins")
        kubectl("apply", "-n", self.namespace, "-f", "-", stdin=EXAMPLE.read_text())
        wait_for("it is ready", lambda: condition(self.get("mlpipeline", "labels"), "Ready").get("status") == "True")
        self.start("l", pipeline="labels")
        self.succeeded("l")
        [live] = self.get("modeldeployment", "penguins")["status"]["live"]
        self.assertEqual((live["version"], live["samples"], live["metrics"]), (1, 4, {"accuracy": 0.75}))
