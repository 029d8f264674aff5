"""What a person asks of runs: suspend, cancel, begin again, and how many run at a time."""

import json
import time

from harness import ClusterTest, Refused, condition, kubectl, resource, script, wait_for

STORE = {"pvc": {"claimName": "artifacts"}}
# Ends when it is asked to.
PATIENT = "trap 'echo asked to stop; exit 0' TERM; sleep 600 & wait"


class ControlTest(ClusterTest):
    def ask(self, name: str = "r", **spec) -> None:
        kubectl("patch", "mlpipelinerun", name, "-n", self.namespace, "--type=merge", "-p", json.dumps({"spec": spec}))

    def running(self, stage: str, run: str = "r") -> dict:
        return wait_for(f"stage {stage}", lambda: (s := self.stage(stage, run)).get("state") == "Running" and s)

    def said(self, run: str = "r") -> dict:
        return condition(self.run_of(run), "Succeeded")

    def states(self, run: str = "r") -> dict:
        return {name: stage["state"] for name, stage in self.run_of(run)["status"]["stages"].items()}


class Control(ControlTest):
    def test_a_suspended_run_begins_nothing_until_it_goes_on(self):
        self.run_inline({"a": script("sleep 12"), "b": script("true", needs=["a"])})
        self.running("a")
        self.ask(suspend=True)
        wait_for("the end of stage a", lambda: self.stage("a").get("state") == "Succeeded")
        wait_for("its reason", lambda: self.said()["reason"] == "Suspended")
        time.sleep(3)
        self.assertEqual(self.jobs(), ["r-a-1"])
        self.ask(suspend=False)
        self.succeeded()

    def test_a_run_that_is_made_suspended_waits_for_its_word(self):
        self.apply(resource("MLPipelineRun", "r", {"suspend": True, "pipeline": {"stages": {"a": script("true")}}}))
        wait_for("its reason", lambda: self.said().get("reason") == "Suspended")
        self.assertNotIn("startTime", self.run_of()["status"])
        self.ask(suspend=False)
        self.succeeded()

    def test_a_graceful_cancel_lets_programs_end_and_runs_finally(self):
        self.run_inline(
            {"a": script(PATIENT), "b": script("true", needs=["a"])},
            finally_={"tell": script("echo $S", env={"S": {"value": "$[[ run.status ]] $[[ stages.a.status ]]"}})},
        )
        self.running("a")
        self.ask(cancel="Graceful")
        status = self.failed()
        said = condition({"status": status}, "Succeeded")
        self.assertEqual((said["reason"], said["message"]), ("Canceled", "spec.cancel is Graceful: 1 stopped, 1 not begun"))
        self.assertEqual(self.states(), {"a": "Failed", "b": "Skipped", "tell": "Succeeded"})
        self.assertEqual(self.logs("tell"), "Canceled Failed\n")
        # It is written after the status.
        wait_for("its event", lambda: any(e.startswith("RunCanceled") for e in self.events()))

    def test_a_cancel_now_kills_programs_and_leaves_finally_out(self):
        deaf = script("trap '' TERM; while :; do sleep 1; done", terminationGracePeriod="10m")
        self.run_inline({"a": deaf}, finally_={"tell": script("true")})
        self.running("a")
        self.ask(cancel="Now")
        self.failed(seconds=60)
        self.assertEqual(self.states(), {"a": "Failed", "tell": "Skipped"})
        wait_for("the end of its pod", lambda: not self.get("pods")["items"])

    def test_a_cancel_cannot_be_taken_back_and_now_waits_for_no_grace_period(self):
        deaf = script("trap '' TERM; while :; do sleep 1; done", terminationGracePeriod="2m")
        self.run_inline({"a": deaf}, finally_={"tell": script("true")})
        self.running("a")
        self.ask(cancel="Graceful")
        wait_for("its reason", lambda: self.said()["reason"] == "Canceling")
        self.assertIn("until the program of stage `a` has stopped", self.said()["message"])
        with self.assertRaisesRegex(Refused, "cannot be taken back"):
            self.ask(cancel=None)
        self.ask(cancel="Now")
        self.failed(seconds=60)
        self.assertEqual(self.states(), {"a": "Failed", "tell": "Skipped"})

    def test_a_failed_run_begins_again_with_what_had_succeeded(self):
        self.claim()
        self.run_inline(
            {
                "make": script('date +%s%N > "$MILLRACE_OUTPUT_DATA"; cat "$MILLRACE_OUTPUT_DATA"', outputs={"data": {}}),
                "use": script('cat "$MILLRACE_INPUT_DATA"; test "$MILLRACE_ATTEMPT" = 2', inputs={"data": {"from": "make.data"}}),
                "last": script("true", needs=["use"]),
            },
            store=STORE,
            finally_={"tell": script("true")},
        )
        self.failed()
        self.assertEqual(self.states(), {"make": "Succeeded", "use": "Failed", "last": "Skipped", "tell": "Succeeded"})
        made = self.logs("make")
        with self.assertRaisesRegex(Refused, "failed: true, or stage: <name>"):
            self.ask(retryFrom={"failed": True, "stage": "use"})
        self.ask(retryFrom={"failed": True})
        status = self.succeeded()
        self.assertEqual(self.jobs(), ["r-last-1", "r-make-1", "r-tell-1", "r-tell-2", "r-use-1", "r-use-2"])
        self.assertEqual(self.logs("use", 2), made)
        self.assertEqual(status["stages"]["use"]["attempts"], 2)

    def test_a_stage_that_succeeded_is_really_run_again_when_it_is_named(self):
        self.claim()
        self.run_inline(
            {
                "make": script('printf $MILLRACE_ATTEMPT > "$MILLRACE_OUTPUT_DATA"', outputs={"data": {}}),
                "use": script('cat "$MILLRACE_INPUT_DATA"', inputs={"data": {"from": "make.data"}}),
            },
            store=STORE,
        )
        self.succeeded()
        self.ask(retryFrom={"stage": "made"})
        wait_for("its refusal", lambda: condition(self.run_of(), "Accepted")["reason"] == "UnknownStage")
        self.ask(retryFrom={"stage": "make"})
        wait_for("its attempt", lambda: self.stage("use").get("attempts") == 2)
        self.succeeded()
        self.assertEqual([self.logs("use", 1), self.logs("use", 2)], ["1", "2"])

    def test_a_run_that_runs_cannot_begin_again_and_one_that_was_canceled_can(self):
        self.run_inline({"a": script('test "$MILLRACE_ATTEMPT" = 2 || sleep 600')})
        self.running("a")
        with self.assertRaisesRegex(Refused, "wait for its end"):
            self.ask(retryFrom={"failed": True})
        self.ask(cancel="Now")
        self.failed()
        with self.assertRaisesRegex(Refused, "take spec.cancel out"):
            self.ask(retryFrom={"failed": True})
        self.ask(cancel=None, retryFrom={"failed": True})
        self.succeeded()


class Concurrency(ControlTest):
    def test_a_queue_runs_one_after_the_other_and_says_who_waits_for_whom(self):
        first = script('test "$WHO" != r0 || sleep 600', env={"WHO": {"value": "$[[ run.name ]]"}}, terminationGracePeriod="1s")
        self.pipeline({"a": first}, concurrency={"policy": "Queue"})
        for n in range(4):
            self.start(f"r{n}")
        wait_for("place 3", lambda: "place 3 in the queue of MLPipeline p: waits for the end of r0" in self.said("r3").get("message", ""))
        self.assertEqual(self.said("r3")["reason"], "Queued")
        self.ask("r0", cancel="Graceful")
        ends = [self.failed("r0"), *(self.succeeded(f"r{n}") for n in range(1, 4))]
        times = sorted((s["startTime"], s["completionTime"]) for s in ends)
        for (_, end), (start, _) in zip(times, times[1:]):
            self.assertLessEqual(end, start)

    def test_a_deleted_or_canceled_run_leaves_its_place(self):
        self.pipeline({"a": script("sleep 600", terminationGracePeriod="1s")}, concurrency={"policy": "Queue", "max": 2})
        for n in range(4):
            self.start(f"r{n}")
        wait_for("two that run", lambda: [self.stage("a", r).get("state") for r in ("r0", "r1")] == ["Running"] * 2)
        kubectl("delete", "mlpipelinerun", "r0", "-n", self.namespace)
        self.running("a", "r2")
        self.ask("r1", cancel="Now")
        self.running("a", "r3")
        self.ask("r3", cancel="Now")
        self.ask("r2", cancel="Now")
        self.failed("r2")

    def test_forbid_ends_a_run_that_finds_another(self):
        self.pipeline({"a": script("sleep 5")}, concurrency={"policy": "Forbid"})
        self.start("r0")
        wait_for("r0", lambda: self.stage("a", "r0"))
        self.start("r1")
        said = condition({"status": self.failed("r1")}, "Succeeded")
        self.assertEqual(said["reason"], "ConcurrencyForbidden")
        self.assertIn("r0", said["message"])
        self.succeeded("r0")

    def test_replace_cancels_the_older_run_and_begins_when_it_has_ended(self):
        stages = {"a": script('test "$WHO" != r0 || { ' + PATIENT + "; }", env={"WHO": {"value": "$[[ run.name ]]"}})}
        self.pipeline(stages, concurrency={"policy": "Replace"}, **{"finally": {"tell": script("sleep 2")}})
        self.start("r0")
        self.running("a", "r0")
        self.start("r1")
        old = self.failed("r0")
        self.assertEqual(condition({"status": old}, "Succeeded")["reason"], "Replaced")
        self.assertEqual(old["stages"]["tell"]["state"], "Succeeded")
        new = self.succeeded("r1")
        self.assertLessEqual(old["completionTime"], new["startTime"])

    def test_changes_wait_their_turn(self):
        for n in range(2):
            self.pipeline({"a": script(f"sleep 3; echo {n}")}, concurrency={"policy": "Queue"}, triggers={"onChange": True})
            wait_for("its run", lambda n=n: len(self.get("mlpipelinerun")["items"]) == n + 1)
        runs = [r["metadata"]["name"] for r in self.get("mlpipelinerun")["items"]]
        times = sorted((s["startTime"], s["completionTime"]) for s in map(self.succeeded, runs))
        self.assertLessEqual(times[0][1], times[1][0])

    def test_fifty_runs_at_once_keep_to_the_bound(self):
        self.pipeline({"a": script("sleep 600", terminationGracePeriod="1s")}, concurrency={"policy": "Queue", "max": 2})
        runs = [resource("MLPipelineRun", f"r{n:02}", {"pipelineRef": {"name": "p"}}) for n in range(50)]
        self.apply({"apiVersion": "v1", "kind": "List", "items": runs})
        wait_for("two that run", lambda: sum(self.begun()) == 2)
        wait_for("places", lambda: sum(condition(r, "Succeeded").get("reason") == "Queued" for r in self.all()) == 48)
        self.assertEqual(sum(self.begun()), 2)
        told = sorted(condition(r, "Succeeded")["message"].split(" in ")[0] for r in self.all())
        self.assertEqual(sum("more than 10 runs" in message for message in told), 38)
        kubectl("patch", "mlpipeline", "p", "-n", self.namespace, "--type=merge", "-p", '{"spec":{"concurrency":{"max":4}}}')
        wait_for("four that run", lambda: sum(self.begun()) == 4)
        for run in self.all():
            self.ask(run["metadata"]["name"], cancel="Now")
        wait_for("their end", lambda: all("completionTime" in r["status"] for r in self.all()), 120)

    def all(self) -> list[dict]:
        return self.get("mlpipelinerun")["items"]

    def begun(self) -> list[bool]:
        return ["startTime" in run.get("status", {}) for run in self.all()]
