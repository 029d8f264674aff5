"""Locks that all runs of a namespace share, and priorities of those that wait."""

import json

from harness import ClusterTest, condition, kubectl, script, wait_for

# Runs until its run is canceled.
HOLDS = "echo holds; trap 'exit 0' TERM; while :; do sleep 0.2; done"


def locked(text: str, locks: dict, **settings) -> dict:
    return {**script(text, terminationGracePeriod="1s", **settings), "locks": locks}


class Locks(ClusterTest):
    def runs(self, stage: str, run: str) -> None:
        wait_for(f"stage {stage} of run {run}", lambda: self.stage(stage, run).get("state") == "Running")

    def patch(self, run: str, **spec) -> None:
        kubectl("patch", "mlr", run, "-n", self.namespace, "--type", "merge", "-p", json.dumps({"spec": spec}))

    def ends(self, run: str) -> None:
        """Lets a run go that only holds."""
        self.patch(run, cancel="Graceful")
        self.finished(run)

    def test_a_mutex_lets_one_stage_run_and_the_other_says_who_holds_it(self):
        self.run_inline({"load": locked(HOLDS, {"warehouse": {}})}, name="first")
        self.runs("load", "first")
        self.run_inline({"load": locked("true", {"warehouse": {}, "gpu": {}})}, name="second")
        waits = self.waits_with("load", "WaitingForLock", "second")
        self.assertEqual(waits["state"], "Pending")
        self.assertIn("`warehouse` (1 at a time), held by run first, stage load", waits["message"])
        self.assertFalse([job for job in self.jobs() if job.startswith("second")], "one that waits has no pod")
        # It holds no other one meanwhile, and nobody passes it.
        self.run_inline({"load": locked("true", {"gpu": {}})}, name="third")
        self.assertIn("1 waits before it", self.waits_with("load", "WaitingForLock", "third")["message"])
        self.ends("first")
        self.succeeded("second")
        self.succeeded("third")

    def test_a_run_that_is_deleted_lets_go(self):
        self.run_inline({"load": locked(HOLDS, {"warehouse": {}})}, name="first")
        self.runs("load", "first")
        self.run_inline({"load": locked("true", {"warehouse": {}})}, name="second")
        self.waits_with("load", "WaitingForLock", "second")
        kubectl("delete", "mlr", "first", "-n", self.namespace, "--wait=false")
        self.succeeded("second")

    def test_a_semaphore_is_held_by_as_many_as_it_says(self):
        for name in ("a", "b", "c"):
            self.run_inline({"load": locked(HOLDS, {"warehouse": {"max": 2}})}, name=name)

        def states():
            found = {name: self.stage("load", name) for name in ("a", "b", "c")}
            running = sorted(name for name, stage in found.items() if stage.get("state") == "Running")
            waiting = [name for name, stage in found.items() if stage.get("reason") == "WaitingForLock"]
            return (running, waiting) if len(running) == 2 and len(waiting) == 1 else None

        running, (waiting,) = wait_for("two that run and one that waits", states)
        self.ends(running[0])
        self.runs("load", waiting)
        self.assertEqual(self.stage("load", running[1])["state"], "Running")
        self.ends(running[1])
        self.ends(waiting)

    def test_of_those_that_wait_the_higher_priority_goes_first(self):
        self.run_inline({"load": locked(HOLDS, {"warehouse": {}})}, name="first")
        self.runs("load", "first")
        for name, priority in (("low", -1), ("usual", None), ("high", 5)):
            self.apply(
                {
                    "apiVersion": "millrace.dev/v1alpha1",
                    "kind": "MLPipelineRun",
                    "metadata": {"name": name},
                    "spec": {"pipeline": {"stages": {"load": locked("true", {"warehouse": {}})}}, **({"priority": priority} if priority else {})},
                }
            )
            self.waits_with("load", "WaitingForLock", name)
        self.waits_with("load", "2 wait before it", "low")
        self.patch("low", priority=9)
        wait_for("the first place", lambda: "before it" not in self.stage("load", "low")["message"])
        self.ends("first")
        held = {name: self.succeeded(name)["stages"]["load"] for name in ("low", "high", "usual")}
        order = [(stage["locks"]["holdTime"], stage["completionTime"]) for stage in held.values()]
        for (_, ended), (begun, _) in zip(order, order[1:]):
            self.assertLessEqual(ended, begun, "as the priorities say, and one after the other")

    def test_a_lock_of_a_whole_run_keeps_another_from_beginning(self):
        self.pipeline({"load": script("true")}, locks={"warehouse": {}})
        self.run_inline({"load": locked(HOLDS, {"warehouse": {}})}, name="first")
        self.runs("load", "first")
        self.start("r")
        wait_for("the run waits", lambda: condition(self.run_of(), "Succeeded").get("reason") == "WaitingForLock")
        status = self.run_of()["status"]
        self.assertIn("held by run first, stage load", condition({"status": status}, "Succeeded")["message"])
        self.assertNotIn("startTime", status)
        self.ends("first")
        self.succeeded("r")

    def test_locks_that_could_wait_for_each_other_are_refused(self):
        self.run_inline({"load": locked("true", {"gpu": {}})}, locks={"warehouse": {}})
        accepted = condition({"status": self.failed()}, "Accepted")
        self.assertEqual(accepted["status"], "False")
        self.assertIn("spec.stages.load.locks", accepted["message"])


class Priorities(ClusterTest):
    def test_in_a_queue_the_higher_priority_begins_first(self):
        stages = {"work": script(HOLDS, terminationGracePeriod="1s")}
        self.pipeline(stages, concurrency={"policy": "Queue", "max": 1, "priority": 1})
        self.start("first")
        wait_for("the first", lambda: self.stage("work", "first").get("state") == "Running")

        def place(run: str, number: int):
            message = condition(self.run_of(run), "Succeeded").get("message", "")
            return f"place {number} in the queue" in message

        self.start("usual")
        wait_for("a place", lambda: place("usual", 1))
        self.start("urgent", priority=5)
        wait_for("the place before", lambda: place("urgent", 1) and place("usual", 2))
        kubectl("patch", "mlr", "first", "-n", self.namespace, "--type", "merge", "-p", '{"spec":{"cancel":"Graceful"}}')
        wait_for("the urgent one", lambda: self.stage("work", "urgent").get("state") == "Running")
        self.assertTrue(place("usual", 1) or place("usual", 2))
