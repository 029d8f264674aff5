"""Stages that run another pipeline: what people see of both runs, and how the one follows the other."""

import json

from harness import ROOT, condition, kubectl, resource, script, wait_for
from test_cli import CommandLine
from test_control import PATIENT, ControlTest

EXAMPLE = str(ROOT / "examples" / "nested" / "pipeline.yaml")


class Nested(CommandLine, ControlTest):
    def nested(self, **more) -> dict:
        return {"pipeline": {"name": "inner", **more}}

    def inner(self, *, stages: dict | None = None, **spec) -> None:
        self.pipeline(stages or {"a": script("true")}, name="inner", **spec)

    def reason(self, run: str) -> str:
        return condition(self.run_of(run), "Succeeded").get("reason", "")

    def test_the_example_runs_one_pipeline_in_another_and_goes_with_its_run(self):
        kubectl("apply", "-n", self.namespace, "-f", EXAMPLE)
        run = wait_for("a run", lambda: self.get("mlpipeline", "nested").get("status", {}).get("lastRun"))
        stage = self.succeeded(run)["stages"]["clean"]
        self.assertEqual(stage["metrics"], {"rows": 3})
        self.assertEqual(stage["run"]["name"], f"{run}-clean-1")
        inner = self.run_of(f"{run}-clean-1")
        self.assertEqual(stage["run"]["uid"], inner["metadata"]["uid"])
        self.assertEqual(stage["outputs"]["data"]["digest"], inner["status"]["stages"]["drop-odd"]["outputs"]["data"]["digest"])
        self.assertEqual(self.logs("sum"), "3 rows, their sum is 12\n")
        self.assertIn("clean", self.millrace("tree", run).out)
        kubectl("delete", "mlr", run, "-n", self.namespace)
        wait_for("the end of the inner run", lambda: not self.get("mlpipelinerun")["items"])

    def test_a_failure_in_there_is_a_failure_out_here_and_is_tried_again_as_another_run(self):
        self.inner(stages={"a": script("echo broken; exit 3")})
        self.run_inline({"make": self.nested(), "use": script("true", needs=["make"])})
        status = self.failed()
        make = status["stages"]["make"]
        self.assertEqual((make["state"], make["reason"]), ("Failed", "StageFailed"))
        self.assertRegex(make["message"], "run r-make-1: stage `a` failed: Error")
        self.assertEqual(status["stages"]["use"]["state"], "Skipped")
        self.inner()
        self.ask(retryFrom={"failed": True})
        self.succeeded()
        self.assertEqual(self.stage("make")["run"]["name"], "r-make-2")

    def test_what_waits_in_there_is_told_out_here(self):
        self.run_inline({"make": self.nested(params={"n": 7})})
        waits = wait_for("its cause", lambda: (s := self.stage("make")).get("reason") == "PipelineNotFound" and s)
        self.assertEqual(waits["state"], "Pending")
        self.assertIn("run r-make-1: ", waits["message"])
        self.inner(params={"n": {"type": "integer"}})
        self.succeeded()
        self.run_inline({"make": self.nested(params={"n": "x"})}, name="wrong")
        self.failed("wrong")
        make = self.stage("make", "wrong")
        self.assertEqual(make["reason"], "WrongType")
        self.assertIn("spec.params.n", make["message"])

    def test_a_cancel_reaches_the_run_in_there_and_waits_for_its_end(self):
        self.inner(stages={"a": script(PATIENT)}, **{"finally": {"tell": script("echo $S", env={"S": {"value": "$[[ run.trigger ]] $[[ run.status ]]"}})}})
        self.run_inline({"make": self.nested()})
        self.running("a", "r-make-1")
        self.ask(cancel="Graceful")
        self.failed()
        self.assertEqual((self.reason("r"), self.reason("r-make-1")), ("Canceled", "Canceled"))
        self.assertEqual(self.logs("tell"), "Run Canceled\n")
        inner, outer = (self.run_of(name)["status"]["completionTime"] for name in ("r-make-1", "r"))
        self.assertLessEqual(inner, outer)

    def test_a_stage_that_takes_too_long_ends_its_run(self):
        self.inner(stages={"a": script(PATIENT)})
        self.run_inline({"make": self.nested(timeout="20s")})
        self.failed()
        self.assertEqual(self.stage("make")["reason"], "Timeout")
        self.assertEqual(self.reason("r-make-1"), "Canceled")

    def test_a_circle_is_shown_and_makes_no_more_runs(self):
        self.pipeline({"again": {"pipeline": {"name": "other"}}}, name="inner")
        self.pipeline({"again": {"pipeline": {"name": "inner"}}}, name="other")
        self.start(pipeline="inner")
        self.failed()
        self.assertEqual(self.stage("again")["reason"], "StageFailed")
        self.assertIn("the pipelines run each other: inner -> other -> inner", json.dumps(self.run_of()["status"]))
        self.assertEqual(len(self.get("mlpipelinerun")["items"]), 2)

    def test_a_wrong_stage_is_refused_with_its_field(self):
        wrong = {"name": "inner", "outputs": {"data": {"from": "nowhere"}}, "params": {"n": "$[[ params.absent ]]"}}
        self.apply(resource("MLPipeline", "p", {"stages": {"make": {"pipeline": wrong}}}))
        said = wait_for("its verdict", lambda: (c := condition(self.get("mlpipeline", "p"), "Accepted")).get("status") == "False" and c)
        self.assertIn("spec.stages.make.pipeline.outputs.data.from: `nowhere` is no output", said["message"])
        self.assertIn("spec.stages.make.pipeline.params.n", said["message"])

    def test_history_does_not_take_a_nested_run_from_under_its_stage(self):
        self.inner(history={"keepSucceeded": 0})
        self.run_inline({"make": self.nested(), "wait": script(PATIENT, needs=["make"])})
        self.running("wait")
        self.start("by-hand", pipeline="inner")
        wait_for("the end of the one by hand", lambda: not [r for r in self.get("mlpipelinerun")["items"] if r["metadata"]["name"] == "by-hand"])
        self.assertEqual(self.reason("r-make-1"), "Succeeded")
        self.ask(cancel="Now")
        self.failed()
