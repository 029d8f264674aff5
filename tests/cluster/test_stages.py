"""Stages as Jobs: what a program sees, what it hands on, what is kept."""

import json

from harness import DEBIAN, ClusterTest, advertise, condition, kubectl, resource, script, wait_for


class Stages(ClusterTest):
    def test_results_and_metrics_reach_later_stages(self):
        self.run_inline(
            {
                "measure": script('printf 7 > $MILLRACE_OUT/results/count; echo \'{"f1": 0.5}\' > $MILLRACE_OUT/metrics.json'),
                "use": script(
                    'echo "got $COUNT and $F1"',
                    env={
                        "COUNT": {"value": "$[[ stages.measure.results.count ]]"},
                        "F1": {"value": "$[[ stages.measure.metrics.f1 ]]"},
                    },
                ),
            }
        )
        status = self.succeeded()
        self.assertEqual(status["stages"]["measure"]["results"], {"count": 7})
        self.assertEqual(status["stages"]["measure"]["metrics"], {"f1": 0.5})
        self.assertEqual(self.logs("use"), "got 7 and 0.5\n")
        self.assertEqual(status["progress"], "2/2")

    def test_an_output_is_the_next_stages_input_and_is_not_copied(self):
        self.claim()
        self.run_inline(
            {
                "make": script('echo hello > "$MILLRACE_OUTPUT_DATA"; stat -c %i "$MILLRACE_OUTPUT_DATA"', outputs={"data": {}}),
                "take": script('cat "$MILLRACE_INPUT_IN"; stat -c %i "$MILLRACE_INPUT_IN"', inputs={"in": {"from": "make.data"}}),
            },
            store={"pvc": {"claimName": "artifacts"}},
        )
        status = self.succeeded()
        inode = self.logs("make").strip()
        self.assertEqual(self.logs("take"), f"hello\n{inode}\n")
        digest = "sha256:5891b5b522d5df086d0ff0b110fbd9d21bb4fc7163af34d08286a2e846f6be03"
        self.assertEqual(status["stages"]["make"]["outputs"]["data"]["digest"], digest)

    def test_an_input_cannot_be_written(self):
        self.claim()
        self.run_inline(
            {
                "make": script('echo hello > "$MILLRACE_OUTPUT_DATA"', outputs={"data": {}}),
                "break": script('echo x > "$MILLRACE_INPUT_IN"', inputs={"in": {"from": "make.data"}}),
            },
            store={"pvc": {"claimName": "artifacts"}},
        )
        status = self.failed()
        self.assertIn("Read-only file system", status["stages"]["break"]["message"])

    def test_logs_are_what_the_program_printed_in_order(self):
        self.run_inline({"talk": script("for i in $(seq 200); do echo out $i; echo err $i >&2; done")})
        self.succeeded()
        wanted = "".join(f"out {i}\nerr {i}\n" for i in range(1, 201))
        self.assertEqual(self.logs("talk"), wanted)

    def test_a_rendered_value_never_expands_again(self):
        container = {
            "image": DEBIAN,
            "command": ["echo"],
            "args": ["$[[ params.text ]]", "$(HOME)"],
            "resources": {"requests": {"cpu": "10m"}},
        }
        pipeline = {"params": {"text": {"type": "string"}}, "stages": {"echo": {"container": container}}}
        text = "$[[ run.name ]] $(HOME) `id` $$"
        self.apply(resource("MLPipelineRun", "r", {"params": {"text": text}, "pipeline": pipeline}))
        self.succeeded()
        self.assertEqual(self.logs("echo"), "$[[ run.name ]] $(HOME) `id` $$ $(HOME)\n")

    def test_stages_without_a_bond_run_at_the_same_time(self):
        self.run_inline({name: script("sleep 4; date +%s") for name in ("a", "b", "c")})
        stages = self.succeeded()["stages"]
        latest_start = max(stage["startTime"] for stage in stages.values())
        first_end = min(stage["completionTime"] for stage in stages.values())
        self.assertLess(latest_start, first_end)

    def test_pod_settings_reach_the_pod(self):
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "key"}, "stringData": {"token": "s3cret"}})
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "conf"}, "data": {"a.txt": "from a file"}})
        self.run_inline(
            {
                "show": script(
                    'test "$TOKEN" = s3cret; cat /conf/a.txt; id -u; df -k /dev/shm | tail -1 | awk \'{print $2}\'',
                    env={"TOKEN": {"secret": {"name": "key", "key": "token"}}},
                    volumes={"conf": {"configMap": {"name": "conf"}, "mountPath": "/conf", "readOnly": True}},
                    sharedMemory="8Mi",
                    runAsUser=1234,
                    nodeSelector={"kubernetes.io/os": "linux"},
                    terminationGracePeriod="5s",
                )
            }
        )
        self.succeeded()
        self.assertEqual(self.logs("show").splitlines(), ["from a file1234", "8192"])
        pod = self.get("pods", selector="millrace.dev/stage=show")["items"][0]["spec"]
        # The program's 5 s, and 15 s for the agent to hash and report.
        self.assertEqual(pod["terminationGracePeriodSeconds"], 20)
        self.assertEqual(pod["nodeSelector"], {"kubernetes.io/os": "linux"})
        self.assertNotIn("s3cret", json.dumps(self.run_of()["status"]) + "".join(self.events()))

    def test_a_stage_with_a_gpu_waits_with_the_schedulers_words_and_runs_when_there_is_one(self):
        gpu = "nvidia.com/gpu"
        self.run_inline({"train": script("echo trained", resources={"limits": {gpu: "1"}})})
        self.waits_with("train", f"Insufficient {gpu}")
        wait_for(
            "the scheduler's own words, and when the wait ends",
            lambda: self.stage("train")["message"].startswith(f"{self.scheduler_says('train')} (gives up at "),
        )
        # Also where a person looks first.
        described = " ".join(kubectl("describe", "mlpipelinerun", "-n", self.namespace, "r").split())
        self.assertIn(f"Insufficient {gpu}", described)
        self.assertIn("train is pending (Unschedulable: ", described)
        advertise(gpu, "1")
        self.addCleanup(advertise, gpu, None)
        self.succeeded()

    def scheduler_says(self, stage: str) -> str:
        pod = self.get("pods", selector=f"millrace.dev/stage={stage}")["items"][0]
        return condition(pod, "PodScheduled")["message"]

    def test_an_edit_does_not_change_a_run_that_has_started(self):
        self.pipeline({"a": script("sleep 3"), "b": script("echo before", needs=["a"])})
        self.start()
        wait_for("stage a", lambda: self.stage("a").get("state") == "Running")
        self.pipeline({"a": script("sleep 3"), "b": script("echo after", needs=["a"])})
        self.succeeded()
        self.assertEqual(self.logs("b"), "before\n")

    def test_a_changed_pipeline_starts_one_run(self):
        self.pipeline({"a": script("true")}, triggers={"onChange": True})
        first = wait_for("a run", lambda: self.get("mlpipeline", "p")["status"].get("lastRun"))
        self.succeeded(first)
        self.pipeline({"a": script("true; true")}, triggers={"onChange": True})
        second = wait_for("another run", lambda: (r := self.get("mlpipeline", "p")["status"].get("lastRun")) != first and r)
        self.succeeded(second)
        self.pipeline({"a": script("true; true")}, triggers={"onChange": True}, history={"keepSucceeded": 1})
        wait_for("one kept run", lambda: [r["metadata"]["name"] for r in self.get("mlpipelinerun")["items"]] == [second])

    def test_a_finished_run_goes_after_its_ttl(self):
        self.run_inline({"a": script("true")})
        self.succeeded()
        self.assertEqual(condition(self.run_of(), "Ready")["status"], "True")
        self.pipeline({"a": script("true")})
        self.start("short", ttl="1s")
        wait_for("end of the run's life", lambda: "short" not in [r["metadata"]["name"] for r in self.get("mlpipelinerun")["items"]])

