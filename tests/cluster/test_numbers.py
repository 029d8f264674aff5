"""The numbers of runs: each run of a pipeline has one, and no two have the same."""

from harness import ClusterTest, Refused, alone, condition, kill_operator, kubectl, resource, script, wait_for

TELLS = 'printf %s "$[[ run.number ]]" > "$MILLRACE_OUT/results/number"'


class Numbers(ClusterTest):
    def number(self, run: str) -> int:
        return self.run_of(run)["status"]["number"]

    def runs(self) -> list[dict]:
        return self.get("mlpipelinerun")["items"]

    def test_runs_of_triggers_and_of_people_are_counted_together_and_stages_read_their_number(self):
        self.pipeline({"a": script(TELLS)}, triggers={"onChange": True})
        first = wait_for("the run of the change", lambda: self.get("mlpipeline", "p").get("status", {}).get("lastRun"))
        self.succeeded(first)
        self.start("by-hand")
        status = self.succeeded("by-hand")
        self.assertEqual((self.number(first), self.number("by-hand")), (1, 2))
        self.assertEqual(str(status["stages"]["a"]["results"]["number"]), "2")
        self.assertIn("NUMBER", kubectl("get", "mlr", "-n", self.namespace, "-o", "wide"))
        of_pipeline = ("get", "mlr", "-n", self.namespace, "-o", "name", "--field-selector")
        self.assertEqual(len(kubectl(*of_pipeline, "spec.pipelineRef.name=p").split()), 2)
        self.assertEqual(kubectl(*of_pipeline, "spec.pipelineRef.name=another").strip(), "")
        # The number of a run that is gone is not given again.
        kubectl("delete", "mlr", "by-hand", "-n", self.namespace)
        self.start("next")
        self.succeeded("next")
        self.assertEqual(self.number("next"), 3)
        # Who begins again is still the same run.
        kubectl("patch", "mlr", "next", "-n", self.namespace, "--type=merge", "-p", '{"spec": {"retryFrom": {"stage": "a"}}}')
        status = self.succeeded("next")
        self.assertEqual((self.number("next"), str(status["stages"]["a"]["results"]["number"])), (3, "3"))

    def test_a_pipeline_in_place_has_no_number_to_ask_for(self):
        try:
            self.run_inline({"a": script(TELLS)})
        except Refused as refusal:
            # By the webhook, where that is switched on.
            self.assertIn("the run has no number", str(refusal))
            return
        self.failed()
        self.assertIn("the run has no number", condition(self.run_of(), "Accepted")["message"])
        self.assertEqual(condition(self.run_of(), "Accepted")["reason"], "NoRunNumber")

    @alone
    def test_no_number_is_given_twice_when_the_operator_is_killed(self):
        self.pipeline({"a": script(TELLS)}, history={"keepSucceeded": 20})
        names = [f"r{n}" for n in range(12)]
        for n, name in enumerate(names):
            self.apply(resource("MLPipelineRun", name, {"pipelineRef": {"name": "p"}}))
            if n in (3, 8):
                kill_operator()
        told = [str(self.succeeded(name, 240)["stages"]["a"]["results"]["number"]) for name in names]
        numbers = [self.number(name) for name in names]
        self.assertEqual(told, [str(number) for number in numbers])
        self.assertEqual(len(set(numbers)), len(names), numbers)
        self.assertGreaterEqual(min(numbers), 1)
