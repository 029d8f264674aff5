"""What runs and what does not: `when`, `onFailure`, skipped producers, `finally`."""

from harness import ClusterTest, condition, resource, script

STORE = {"pvc": {"claimName": "artifacts"}}


class Flow(ClusterTest):
    def states(self, status: dict) -> dict:
        return {name: stage["state"] for name, stage in status["stages"].items()}

    def test_when_decides_by_params_results_and_metrics_and_skips_who_uses_the_stage(self):
        self.claim()
        measure = 'echo \'{"f1": 0.95}\' > $MILLRACE_OUT/metrics.json; printf yes > $MILLRACE_OUT/results/go'
        self.apply(
            resource(
                "MLPipelineRun",
                "r",
                {
                    "params": {"good": 0.9},
                    "pipeline": {
                        "params": {"good": {"type": "number"}},
                        "store": STORE,
                        "stages": {
                            "measure": script(measure),
                            "tune": script("true", outputs={"model": {}}, when="stages.measure.metrics.f1 < params.good"),
                            "use": script("true", inputs={"best": {"from": "tune.model"}}),
                            "read": script("echo $GO", env={"GO": {"value": "$[[ stages.tune.outputs.model.uri ]]"}}),
                            "after": script("true", needs=["tune"]),
                            "go": script("true", when="stages.measure.results.go == 'yes' && run.name == 'r'"),
                        },
                    },
                },
            )
        )
        status = self.succeeded()
        states = {"measure": "Succeeded", "tune": "Skipped", "use": "Skipped", "read": "Skipped", "after": "Succeeded", "go": "Succeeded"}
        self.assertEqual(self.states(status), states)
        stages = status["stages"]
        self.assertEqual([stages[s]["reason"] for s in ("tune", "use", "read")], ["WhenFalse", "UpstreamSkipped", "UpstreamSkipped"])
        self.assertIn("stages.measure.metrics.f1 < params.good", stages["tune"]["message"])
        self.assertIn("f1 = 0.95", stages["tune"]["message"])
        self.assertEqual(status["progress"], "3/6, 3 skipped")
        self.assertEqual(self.jobs(), ["r-after-1", "r-go-1", "r-measure-1"])

    def test_the_branch_that_was_taken_is_what_the_join_reads(self):
        self.claim()
        join = {"model": {"from": "large.model", "default": {"from": "small.model"}}, "more": {"from": "large.model", "optional": True}}
        self.run_inline(
            {
                "large": script("echo large > $MILLRACE_OUTPUT_MODEL", outputs={"model": {}}, when="1 > 2"),
                "small": script("echo small > $MILLRACE_OUTPUT_MODEL", outputs={"model": {}}, when="1 < 2"),
                "join": script('cat "$MILLRACE_INPUT_MODEL"; echo "${MILLRACE_INPUT_MORE-none}"', inputs=join),
            },
            store=STORE,
        )
        self.succeeded()
        self.assertEqual(self.logs("join"), "small\nnone\n")

    def test_a_stage_that_may_fail_does_not_stop_the_run_and_one_that_asks_learns_of_it(self):
        self.run_inline(
            {
                "lint": script("echo 3 faults; exit 3", onFailure="Continue"),
                "train": script("true", needs=["lint"]),
                "mend": script("true", when="stages.lint.status == 'Failed'"),
            }
        )
        status = self.succeeded()
        self.assertEqual(self.states(status), {"lint": "Failed", "train": "Succeeded", "mend": "Succeeded"})
        self.assertIn("1 failed with onFailure: Continue (`lint`)", condition({"status": status}, "Succeeded")["message"])

    def test_with_fail_at_end_the_other_branches_run_and_the_run_fails(self):
        self.run_inline(
            {
                "bad": script("sleep 1; exit 4"),
                "needs-bad": script("true", needs=["bad"]),
                "good": script("sleep 3"),
                "after-good": script("true", needs=["good"]),
                "worse": script("exit 5", needs=["after-good"]),
            },
            defaults={"onFailure": "FailAtEnd"},
        )
        status = self.failed()
        states = {"bad": "Failed", "needs-bad": "Skipped", "good": "Succeeded", "after-good": "Succeeded", "worse": "Failed"}
        self.assertEqual(self.states(status), states)
        said = condition({"status": status}, "Succeeded")
        self.assertEqual(said["reason"], "StageFailed")
        self.assertTrue(said["message"].startswith("stage `bad` failed") and said["message"].endswith("; failed too: `worse`"), said["message"])

    def test_a_result_of_a_skipped_stage_has_a_value_instead_where_the_expression_asks_for_the_status(self):
        text = "$[[ stages.measure.status == 'Succeeded' ? stages.measure.results.size : 'unknown' ]]"
        self.run_inline(
            {
                "measure": script("printf 7 > $MILLRACE_OUT/results/size", when="1 > 2"),
                "tell": script('echo "$SIZE"', env={"SIZE": {"value": text}}),
            }
        )
        self.assertEqual(self.states(self.succeeded()), {"measure": "Skipped", "tell": "Succeeded"})
        self.assertEqual(self.logs("tell"), "unknown\n")

    def test_finally_runs_after_a_failure_and_knows_of_it(self):
        text = "$[[ run.status ]] $[[ stages.work.status ]] $[[ stages.more.status ]] $[[ run.reason ]], $[[ run.message ]]"
        self.run_inline(
            {"work": script("exit 1"), "more": script("true", needs=["work"])},
            finally_={
                "tell": script('echo "$SAID"', env={"SAID": {"value": text}}),
                "alarm": script("true", when="run.status == 'Failed'", needs=["tell"]),
                "praise": script("true", when="run.status == 'Succeeded'"),
            },
        )
        status = self.failed()
        self.assertEqual(condition({"status": status}, "Succeeded")["reason"], "StageFailed")
        said = self.logs("tell")
        self.assertTrue(said.startswith("Failed Failed Skipped StageFailed, stage `work` failed: "), said)
        self.assertIn("exit status 1", said)
        states = {"work": "Failed", "more": "Skipped", "tell": "Succeeded", "alarm": "Succeeded", "praise": "Skipped"}
        self.assertEqual(self.states(status), states)
        ends = status["stages"]
        self.assertLessEqual(ends["work"]["completionTime"], ends["tell"]["startTime"])

    def test_finally_runs_after_the_runs_timeout_and_when_the_programs_have_ended(self):
        work = script("trap 'sleep 3; exit 0' TERM; sleep 600 & wait", terminationGracePeriod="20s")
        # Longer than its pod takes to start.
        self.run_inline({"work": work}, finally_={"clean": script("true")}, timeout="30s")
        status = self.failed()
        self.assertEqual(condition({"status": status}, "Succeeded")["reason"], "RunTimeout")
        self.assertEqual(self.states(status), {"work": "Failed", "clean": "Succeeded"})
        # The program had its grace period, and what cleans up after it came when it was over.
        self.assertLess(status["stages"]["work"]["completionTime"], status["stages"]["clean"]["startTime"])

    def test_what_fails_in_finally_fails_the_run_with_a_reason_of_its_own(self):
        self.run_inline({"work": script("true")}, finally_={"clean": script("echo no; exit 1")})
        said = condition({"status": self.failed()}, "Succeeded")
        self.assertEqual(said["reason"], "FinallyFailed")
        self.assertIn("stage `clean` failed", said["message"])

    def test_a_pipeline_that_cannot_be_meant_is_refused_with_what_to_write_instead(self):
        refusals = [
            ({"a": script("true", when="params.x > 1")}, {}, "spec.stages.a.when"),
            ({"a": script("true", when="1 + 1")}, {}, "spec.stages.a.when"),
            ({"a": script("true", needs=["b"])}, {"b": script("true")}, "spec.stages.a.needs[0]"),
            ({"a": script("true")}, {"b": script("true", needs=["a"])}, "stages.a.status == 'Succeeded'"),
        ]
        for n, (stages, finally_, words) in enumerate(refusals):
            self.run_inline(stages, f"r{n}", finally_=finally_)
            said = condition({"status": self.failed(f"r{n}")}, "Accepted")
            self.assertEqual(said["status"], "False")
            self.assertIn(words, said["message"])
        self.assertEqual(self.jobs(), [])
