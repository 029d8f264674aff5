"""Stages that run another pipeline: what people see of both runs, and how the one follows the other."""

import json

from harness import ROOT, SYSTEM, alone, condition, kill_operator, kubectl, resource, script, wait_for
from test_cli import CommandLine
from test_control import PATIENT, ControlTest
from test_operator import volume_folder

EXAMPLE = str(ROOT / "examples" / "nested" / "pipeline.yaml")


STORE = {"pvc": {"claimName": "artifacts"}}
REGIONS = [{"name": "north", "n": 1}, {"name": "south", "n": 2}, {"name": "west", "n": 3}]
# What an item is: it takes a moment, and says who it was.
REPORTS = 'sleep 4; echo "{\\"n\\": $N}" > "$MILLRACE_OUT/metrics.json"; printf %s "$NAME" > "$MILLRACE_OUT/results/name"'


# What a stage finds that reads what the items' runs made.
MADE = ["0:north", "1:south", "0/deep/name:north", "1/deep/name:south"]


class NestedTest(CommandLine, ControlTest):
    def nested(self, **more) -> dict:
        return {"pipeline": {"name": "inner", **more}}

    def inner(self, *, stages: dict | None = None, **spec) -> None:
        self.pipeline(stages or {"a": script("true")}, name="inner", **spec)

    def reason(self, run: str) -> str:
        return condition(self.run_of(run), "Succeeded").get("reason", "")

    def regions(self, first: str = "true") -> None:
        """The pipeline that is run for each region; `first` comes before it says anything."""
        env = {"N": {"value": "$[[ params.n ]]"}, "NAME": {"value": "$[[ params.name ]]"}}
        params = {"n": {"type": "integer"}, "name": {"type": "string"}}
        self.inner(stages={"fit": script(f"{first}\n{REPORTS}", env=env)}, params=params)

    def each(self, **each) -> dict:
        pipeline = {"name": "inner", "params": {"n": "$[[ item.n ]]", "name": "$[[ item.name ]]-$[[ index ]]"}, "results": "fit"}
        return {"forEach": {"items": REGIONS, "parallelism": 2, **each}, "pipeline": pipeline}

    def makers(self, store: dict = STORE) -> dict:
        """Stages: one that runs a pipeline for each region and keeps what they make, and one that reads that."""
        makes = {"env": {"NAME": {"value": "$[[ params.name ]]"}}, "outputs": {"data": {}}}
        one = script('printf "%s\\n" "$NAME" > "$MILLRACE_OUTPUT_DATA"', **makes)
        deep = script('mkdir -p "$MILLRACE_OUTPUT_DATA/deep"; printf "%s\\n" "$NAME" > "$MILLRACE_OUTPUT_DATA/deep/name"', **makes)
        self.inner(stages={"fit": one, "deep": deep}, params={"name": {"type": "string"}}, store=store)
        outputs = {"data": {"from": "fit.data"}, "folder": {"from": "deep.data"}}
        each = {"forEach": {"items": REGIONS[:2]}, "pipeline": {"name": "inner", "params": {"name": "$[[ item.name ]]"}, "outputs": outputs}}
        reads = 'cd "$MILLRACE_INPUT_DATA"; grep . 0 1; cd "$MILLRACE_INPUT_FOLDER"; grep -r . | sort'
        tell = script(reads, inputs={"data": {"from": "each.data"}, "folder": {"from": "each.folder"}})
        return {"each": each, "tell": tell}

    def children(self, run: str = "r", stage: str = "each") -> dict[str, dict]:
        found = self.get("mlpipelinerun", selector=f"millrace.dev/run={run},millrace.dev/stage={stage}")["items"]
        return {child["metadata"]["name"]: child for child in found}

    def open(self) -> int:
        return len([child for child in self.children().values() if "completionTime" not in child.get("status", {})])


class Nested(NestedTest):
    def test_the_example_runs_one_pipeline_in_another_and_goes_with_its_run(self):
        kubectl("apply", "-n", self.namespace, "-f", EXAMPLE)
        run = wait_for("a run", lambda: self.get("mlpipeline", "nested").get("status", {}).get("lastRun"))
        stage = self.succeeded(run)["stages"]["clean"]
        self.assertEqual(stage["metrics"], {"rows": 3})
        self.assertEqual(stage["run"]["name"], f"{run}-clean-1")
        inner = self.run_of(f"{run}-clean-1")
        self.assertEqual(stage["run"]["uid"], inner["metadata"]["uid"])
        self.assertEqual(stage["outputs"]["data"]["digest"], inner["status"]["stages"]["multiples"]["outputs"]["data"]["digest"])
        self.assertEqual(self.logs("sum"), "3 rows, their sum is 12\n")
        self.assertIn("clean", self.millrace("tree", run).out)
        self.assertEqual(self.millrace("logs", run, "clean").out, self.millrace("logs", f"{run}-clean-1").out)
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

    def test_each_item_is_a_run_and_those_that_succeeded_are_kept(self):
        self.claim()
        self.regions(first='[ "$N" != 2 ] || { echo broken; exit 3; }')
        tell = script('cat "$MILLRACE_INPUT_ALL"', inputs={"all": {"from": "each.items"}})
        self.run_inline({"each": self.each(failFast=False), "tell": tell}, store=STORE)
        most = []
        wait_for("its end", lambda: most.append(self.open()) or "completionTime" in self.run_of().get("status", {}), seconds=240)
        self.assertLessEqual(max(most), 2, most)
        self.assertEqual(max(most), 2, most)
        each = self.failed()["stages"]["each"]
        self.assertEqual((each["state"], each["reason"]), ("Failed", "ItemFailed"))
        self.assertRegex(each["message"], "^item 1: StageFailed: run r-each-1-1: stage `fit` failed: Error")
        self.assertEqual({k: v for k, v in each["items"].items() if k != "time"}, {"total": 3, "succeeded": 2, "failed": 1, "begun": 3})
        before = {name: child["metadata"]["uid"] for name, child in self.children().items()}
        self.assertEqual(sorted(before), ["r-each-1-0", "r-each-1-1", "r-each-1-2"])
        of_item = self.millrace("logs", "r", "each", "--item", "1")
        self.assertEqual((of_item.out, "r-each-1-1" in of_item.errors), ("fit | broken\n", True), of_item)
        self.regions()
        self.ask(retryFrom={"failed": True})
        self.succeeded(seconds=240)
        after = {name: child["metadata"]["uid"] for name, child in self.children().items()}
        self.assertEqual(sorted(set(after) - set(before)), ["r-each-2-1"])
        self.assertEqual({name: after[name] for name in before}, before)
        lines = [json.loads(line) for line in self.logs("tell").splitlines()]
        runs = ["r-each-1-0", "r-each-2-1", "r-each-1-2"]
        wanted = [
            {"index": i, "item": region, "run": runs[i], "metrics": {"n": region["n"]}, "results": {"name": f"{region['name']}-{i}"}}
            for i, region in enumerate(REGIONS)
        ]
        self.assertEqual(lines, wanted)
        kubectl("delete", "mlr", "r", "-n", self.namespace)
        wait_for("the end of the items' runs", lambda: not self.get("mlpipelinerun")["items"])

    def test_what_the_runs_of_items_made_is_one_folder_without_a_copy(self):
        self.claim()
        self.run_inline(self.makers(), store=STORE)
        self.succeeded(seconds=240)
        self.assertEqual(self.logs("tell").splitlines(), MADE)
        folder = volume_folder(self.namespace)
        [kept] = folder.glob("runs/*/each/attempts/*/outputs/data/0")
        [made] = folder.glob("runs/r-each-1-0-*/fit/attempts/1/outputs/data")
        self.assertEqual(kept.stat().st_ino, made.stat().st_ino)
        # It stays when the runs that made it go.
        kubectl("delete", "mlr", "-n", self.namespace, "-l", "millrace.dev/stage=each")
        self.ask(retryFrom={"stage": "tell"})
        wait_for("its second end", lambda: self.stage("tell").get("attempts") == 2 and self.succeeded())
        self.assertEqual(self.logs("tell", 2).splitlines(), MADE)

    def test_the_first_item_that_fails_ends_the_others_and_a_cancel_ends_all(self):
        self.regions(first=f'[ "$N" != 1 ] || exit 3\n{PATIENT}')
        self.run_inline({"each": self.each()})
        status = self.failed(seconds=240)
        self.assertEqual((status["stages"]["each"]["reason"], status["stages"]["each"]["items"]["failed"]), ("ItemFailed", 1))
        self.assertEqual({name: self.reason(name) for name in self.children()}, {"r-each-1-0": "StageFailed", "r-each-1-1": "Canceled"})
        self.regions(first=PATIENT)
        self.run_inline({"each": self.each()}, name="other")
        wait_for("two that run", lambda: self.stage("each", "other").get("items", {}).get("running") == 2)
        self.assertIn("0 of 3 items are done, 2 run", self.millrace("tree", "other").out)
        self.ask("other", cancel="Graceful")
        self.failed("other")
        self.assertEqual({self.reason(name) for name in self.children("other")}, {"Canceled"})
        self.assertEqual(len(self.children("other")), 2)

    def test_what_items_that_are_runs_cannot_do_is_refused_with_what_to_write(self):
        over = {**self.each(), "forEach": {"range": {"count": 1001}}}
        self.apply(resource("MLPipeline", "p", {"stages": {"each": over}}))
        said = wait_for("its verdict", lambda: (c := condition(self.get("mlpipeline", "p"), "Accepted")).get("status") == "False" and c)
        self.assertIn("spec.stages.each.forEach.range.count: 1001 is no number of items: write a whole number from 0 to 1000", said["message"])


@alone
class KilledOperator(NestedTest):
    only_local = "kills the operator: only on a cluster that the tests made"

    def test_it_makes_no_second_run_of_an_item(self):
        self.regions()
        self.run_inline({"each": {**self.each(), "forEach": {"items": REGIONS * 3, "parallelism": 3}}})
        for begun in (1, 4, 7):
            wait_for(f"{begun} runs", lambda begun=begun: len(self.children()) >= begun, seconds=180)
            kill_operator()
            kubectl("rollout", "status", "deployment/millrace", "-n", SYSTEM, "--timeout=120s")
        self.succeeded(seconds=300)
        self.assertEqual(sorted(self.children()), [f"r-each-1-{i}" for i in range(9)])
        jobs = [job["metadata"]["name"] for job in self.get("jobs")["items"]]
        self.assertEqual(len(jobs), 9, jobs)
