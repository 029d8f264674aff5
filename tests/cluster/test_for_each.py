"""`forEach`: one Indexed Job for all items, what they made collected, and what becomes of items that fail."""

import json
import subprocess

from harness import DEBIAN, ROOT, ClusterTest, condition, kubectl, resource, script, wait_for

STORE = {"pvc": {"claimName": "artifacts"}}


class ForEach(ClusterTest):
    def over(self, text: str, **each) -> dict:
        """A stage that runs a script for each item."""
        fields = {name: each.pop(name) for name in ("outputs", "retry", "env", "args", "image") if name in each}
        return {**script(text, **fields), "forEach": each}

    def lines(self, stage: str) -> list[dict]:
        return [json.loads(line) for line in self.logs(stage).splitlines()]

    def items(self, stage: str = "fan") -> dict:
        return {k: v for k, v in self.stage(stage).get("items", {}).items() if k in ("total", "succeeded", "failed")}

    def test_the_example_runs_each_line_of_a_file_and_joins_what_they_made(self):
        kubectl("apply", "-n", self.namespace, "-f", str(ROOT / "examples" / "fan-out" / "pipeline.yaml"))
        run = wait_for("a run", lambda: self.get("mlpipeline", "fan-out").get("status", {}).get("lastRun"))
        status = self.succeeded(run, 240)
        self.assertEqual(status["progress"], "3/3")
        fan = status["stages"]["estimate"]
        self.assertEqual((fan["items"]["total"], fan["items"]["succeeded"]), (6, 6))
        jobs = {job["metadata"]["labels"]["millrace.dev/stage"]: job for job in self.get("jobs")["items"] if job["spec"].get("completionMode") == "Indexed"}
        self.assertEqual(list(jobs), ["estimate"])
        self.assertEqual((jobs["estimate"]["spec"]["completions"], jobs["estimate"]["spec"]["parallelism"]), (6, 3))
        told = self.logs("tell").splitlines()
        self.assertEqual(told[-1], "6 estimates of 21000 points")
        found = [json.loads(line) for line in told[:-1]]
        self.assertEqual([line["item"] for line in found], [{"seed": n, "points": n * 1000} for n in range(1, 7)])
        for line in found:
            self.assertLess(abs(line["metrics"]["pi"] - 3.1416), 0.3, line)
        # Again with no item at all.
        kubectl("patch", "mlpipeline", "fan-out", "-n", self.namespace, "--type=merge", "-p", '{"spec":{"params":{"settings":{"type":"integer","default":0}}}}')
        last = wait_for("another run", lambda: (name := self.get("mlpipeline", "fan-out")["status"].get("lastRun")) != run and name)
        self.succeeded(last, 240)
        selector = f"millrace.dev/run={last},millrace.dev/stage=tell"
        self.assertEqual(kubectl("logs", "-n", self.namespace, "-l", selector, "-c", "main").splitlines()[-1], "0 estimates of 0 points")

    def test_a_list_of_parameters_runs_a_template_for_each_and_needs_no_store(self):
        template = {
            "params": {"region": {"type": "string"}, "n": {"type": "integer"}},
            "container": {
                "image": DEBIAN,
                "command": ["sh", "-c", 'echo "$0 $1 $REGION $MILLRACE_ITEM_INDEX"', "$[[ params.region ]]", "$[[ params.n ]]"],
                "env": {"REGION": {"value": "<$[[ params.region ]]>"}},
            },
        }
        self.apply(resource("StageTemplate", "say", template))
        regions = ["north east", "$(id) $[[ params.secret ]] 'x'"]
        pipeline = {
            "params": {"regions": {"type": "array"}},
            "stages": {"fan": {"uses": "say", "forEach": {"items": "$[[ params.regions ]]"}, "with": {"region": "$[[ item ]]", "n": "$[[ index + 1 ]]"}}},
        }
        self.apply(resource("MLPipelineRun", "r", {"params": {"regions": regions}, "pipeline": pipeline}))
        self.succeeded()
        self.assertEqual(self.jobs(), ["r-fan-1"])
        said = sorted(self.logs("fan").splitlines())
        self.assertEqual(said, sorted(f"{region} {i + 1} <{region}> {i}" for i, region in enumerate(regions)))
        self.assertEqual(len(self.get("configmap", selector="millrace.dev/stage=fan")["items"]), 1)

    def test_items_are_tried_again_alone_and_a_run_begins_again_where_they_failed(self):
        self.claim()
        # Item 1 fails once in its Job, item 2 until the stage is begun again.
        text = """
        echo "$MILLRACE_ATTEMPT" >> "$MILLRACE_OUTPUT_PART"
        [ "$MILLRACE_ITEM" != 1 ] || [ "$MILLRACE_ATTEMPT" -gt 1 ] || { echo 'ValueError: not yet'; exit 3; }
        [ "$MILLRACE_ITEM" != 2 ] || [ "$FIRST" != fan-1 ] || { echo 'ValueError: never'; exit 4; }
        """.replace("$FIRST", "$(hostname | sed 's/.*-\\(fan-[0-9]*\\)-.*/\\1/')")
        fan = self.over(text, range={"count": 3}, failFast=False, retry={"limit": 1}, outputs={"part": {}})
        join = script('cd "$MILLRACE_INPUT_PARTS"; for i in *; do echo "$i:" $(cat $i); done; cat "$MILLRACE_INPUT_ALL"', inputs={"parts": {"from": "fan.part"}, "all": {"from": "fan.items"}})
        self.run_inline({"fan": fan, "join": join}, store=STORE)
        status = self.failed(seconds=240)
        failed = status["stages"]["fan"]
        self.assertEqual((failed["reason"], failed["exitCode"]), ("ItemFailed", 4), failed)
        self.assertIn("item 2: Error: ValueError: never", failed["message"])
        self.assertEqual(self.items(), {"total": 3, "succeeded": 2, "failed": 1})
        self.assertIn("item 2: Error", condition({"status": status}, "Succeeded")["message"])
        began = len(self.logs("fan", 1))
        patch = {"spec": {"retryFrom": {"failed": True}}}
        kubectl("patch", "mlpipelinerun", "r", "-n", self.namespace, "--type=merge", "-p", json.dumps(patch))
        self.succeeded(seconds=240)
        told = self.logs("join").splitlines()
        # Item 0 and 1 are what the first Job made of them.
        self.assertEqual(told[:3], ["0: 1", "1: 2", "2: 3"], told)
        self.assertEqual([json.loads(line)["index"] for line in told[3:]], [0, 1, 2])
        self.assertGreater(began, 0)

    def test_a_failure_that_the_rule_does_not_name_is_not_tried_again(self):
        # The first is worth another attempt, the second is not, and the third has no memory left, which ends the agent too.
        text = """
        echo "item $MILLRACE_ITEM attempt $MILLRACE_ATTEMPT"
        [ "$MILLRACE_ITEM" != 0 ] || [ "$MILLRACE_ATTEMPT" -gt 1 ] || exit 3
        [ "$MILLRACE_ITEM" != 1 ] || exit 4
        [ "$MILLRACE_ITEM" != 2 ] || head -c 300M /dev/zero | tail
        """
        fan = self.over(text, range={"count": 3}, failFast=False, retry={"limit": 3, "when": "exitCode != 4 && reason != 'OOMKilled'"})
        fan["container"]["resources"] = {"limits": {"memory": "64Mi"}}
        self.claim()
        self.run_inline({"fan": fan}, store=STORE)
        failed = self.failed(seconds=240)["stages"]["fan"]
        self.assertEqual(self.items(), {"total": 3, "succeeded": 1, "failed": 2})
        self.assertIn("item 1: Error: item 1 attempt 1; no other attempt: retry.when is false (exitCode 4, reason Error, attempt 1)", failed["message"])
        self.assertIn("item 2: OOMKilled", failed["message"])
        pods = self.get("pods", selector="millrace.dev/stage=fan")["items"]
        tried = sorted(pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"] for pod in pods)
        self.assertEqual(tried, ["0", "0", "1", "2"], "the first alone was tried again")

    def test_the_first_item_that_fails_stops_the_others_and_a_deleted_job_is_made_again(self):
        self.claim()
        self.run_inline({"fan": self.over('[ "$MILLRACE_ITEM" = b ] || sleep 600; exit 7', items=["a", "b", "c"]), "after": script("true", needs=["fan"])})
        status = self.failed(seconds=180)
        self.assertEqual(status["stages"]["after"]["state"], "Skipped")
        self.assertIn("item 1: Error", status["stages"]["fan"]["message"])
        wait_for("pods that are gone", lambda: not [p for p in self.get("pods")["items"] if p["status"]["phase"] == "Running"])
        # The other one runs until its Job is deleted: the counts are seconds behind the pods.
        text = 'echo x > "$MILLRACE_OUTPUT_PART"; [ "$MILLRACE_ITEM_INDEX" = 0 ] || [ "$MILLRACE_ATTEMPT" -gt 1 ] || sleep 600'
        self.run_inline({"fan": self.over(text, items=["a", "b"], outputs={"part": {}})}, name="again", store=STORE)
        wait_for("one that is done", lambda: self.stage("fan", "again").get("items", {}).get("succeeded") == 1)
        kubectl("delete", "job", "again-fan-1", "-n", self.namespace, "--wait=false")
        status = self.succeeded("again", 180)
        fan = status["stages"]["fan"]
        self.assertEqual((fan["attempts"], fan["disruptions"], fan["items"]["succeeded"]), (3, 1, 2), fan)

    def test_while_items_run_the_status_tells_how_far_they_are_and_cancel_stops_them(self):
        self.run_inline({"fan": self.over('[ "$MILLRACE_ITEM_INDEX" -lt 2 ] || sleep 600', range={"count": 5}, parallelism=4)})
        told = self.waits_with("fan", "2 of 5 items are done, 3 run", seconds=120)
        self.assertEqual(told["state"], "Running")
        self.assertIn("2 of 5 items", condition(self.run_of(), "Succeeded")["message"])
        kubectl("patch", "mlpipelinerun", "r", "-n", self.namespace, "--type=merge", "-p", '{"spec":{"cancel":"Now"}}')
        status = self.failed()
        self.assertEqual(condition({"status": status}, "Succeeded")["reason"], "Canceled")
        wait_for("no pod", lambda: not [p for p in self.get("pods")["items"] if p["status"]["phase"] == "Running"])

    def test_what_nobody_can_run_or_run_over_says_why(self):
        self.run_inline({"fan": self.over("true", items=["a"], image="nowhere.invalid/nothing:1")})
        self.waits_with("fan", "nowhere.invalid", seconds=120)
        self.claim()
        lister = script('printf "1\\nnorth\\n" > "$MILLRACE_OUTPUT_LIST"', outputs={"list": {}})
        self.run_inline({"list": lister, "fan": self.over("true", **{"from": "list.list"})}, name="words", store=STORE)
        status = self.failed("words")
        self.assertEqual(status["stages"]["list"]["reason"], "OutputMissing")
        self.assertIn("line 2", status["stages"]["list"]["message"])
        for each, words in (({"items": "a"}, "write a list"), ({"range": {"count": 10001}}, "from 0 to 10000"), ({}, "exactly one of items, range and from")):
            self.pipeline({"fan": self.over("true", **each)})
            refused = lambda words=words: words in condition(self.get("mlpipeline", "p"), "Accepted").get("message", "") and condition(self.get("mlpipeline", "p"), "Accepted")
            found = wait_for(f"'{words}'", refused)
            self.assertIn("spec.stages.fan.forEach", found["message"])
        done = subprocess.run(
            ["kubectl", "apply", "-n", self.namespace, "-f", "-"],
            input=json.dumps(resource("MLPipeline", "q", {"stages": {"fan": self.over("true", items=[1], parallelism=0)}})),
            capture_output=True,
            text=True,
        )
        self.assertIn("parallelism", done.stderr)
