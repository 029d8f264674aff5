"""What starts runs by itself: times, ranges of times, the success of another pipeline."""

import time
from datetime import datetime, timedelta, timezone

from harness import ClusterTest, condition, kubectl, script, wait_for


def written(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


class Triggers(ClusterTest):
    def runs(self) -> list[dict]:
        return self.get("mlpipelinerun")["items"]

    def triggers(self) -> dict:
        return self.get("mlpipeline", "p").get("status", {}).get("triggers", {})

    def test_a_schedule_starts_a_run_each_minute_that_knows_its_time(self):
        schedule = {"cron": "* * * * *", "params": {"who": "clock"}}
        self.pipeline(
            {"a": script("echo $[[ params.who ]] at $[[ run.scheduledTime ]] by $[[ run.trigger ]]")},
            params={"who": {"type": "string", "default": "nobody"}},
            triggers={"schedules": {"often": schedule}},
        )
        began = datetime.now(timezone.utc)
        run = wait_for("a run", self.runs, 90)[0]
        for_time = datetime.fromisoformat(run["spec"]["scheduledTime"])
        self.assertEqual((for_time.second, run["spec"]["trigger"]["name"]), (0, "often"))
        self.assertLess(for_time - began, timedelta(seconds=61))
        made = datetime.fromisoformat(run["metadata"]["creationTimestamp"])
        self.assertLess(made - for_time, timedelta(seconds=5))
        name = run["metadata"]["name"]
        # Before the run of the next minute comes: this one may not have ended by then.
        status = wait_for("its status", lambda: (seen := self.triggers())["schedules"]["often"].get("lastRun") and seen)
        self.assertEqual(status["schedules"]["often"]["lastTime"], written(for_time))
        self.assertEqual(status["schedules"]["often"]["nextTime"], written(for_time + timedelta(minutes=1)))
        self.succeeded(name)
        said = kubectl("logs", "-n", self.namespace, "-l", f"millrace.dev/run={name}", "--tail=-1")
        self.assertEqual(said.strip(), f"clock at {written(for_time)} by Schedule")
        wait_for("an event", lambda: f"RunStarted: schedule often: MLPipelineRun {name} for {written(for_time)}" in self.events(), 30)

    def test_a_backfill_makes_its_runs_in_order_though_the_first_ones_are_deleted(self):
        to = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        days = [to - timedelta(days=n) for n in (3, 2, 1)]
        backfill = {"schedule": "daily", "from": written(days[0]), "to": written(to)}
        self.pipeline(
            {"a": script("echo $[[ run.scheduledTime ]]")},
            triggers={"schedules": {"daily": {"cron": "@daily", "suspend": True}}, "backfills": {"past": backfill}},
            history={"keepSucceeded": 1},
        )
        done = wait_for("its end", lambda: self.triggers().get("backfills", {}).get("past", {}).get("completionTime"), 240)
        self.assertTrue(done)
        past = self.triggers()["backfills"]["past"]
        self.assertEqual((past["runs"], past["succeeded"], past["failed"], past["lastTime"]), (3, 3, 0, written(days[2])))
        wait_for("an event", lambda: "BackfillCompleted: backfill past: 3 runs have ended: 3 succeeded, 0 did not" in self.events(), 30)
        wait_for("the last run alone", lambda: [r["spec"]["scheduledTime"] for r in self.runs()] == [written(days[2])])
        self.assertNotIn("schedules", self.triggers())
        time.sleep(3)
        self.assertEqual(len(self.runs()), 1)

    def test_what_never_comes_is_told_and_starts_nothing(self):
        schedules = {"never": {"cron": "0 0 30 2 *"}, "where": {"cron": "@daily", "timeZone": "Europe/Berln"}}
        self.pipeline({"a": script("true")}, triggers={"onChange": True, "schedules": schedules})
        accepted = wait_for("a verdict", lambda: condition(self.get("mlpipeline", "p"), "Accepted"))
        self.assertEqual(accepted["status"], "False")
        for words in ("spec.triggers.schedules.never.cron", "never comes", "did you mean `Europe/Berlin`?"):
            self.assertIn(words, accepted["message"])
        self.assertEqual(self.runs(), [])

    def test_each_run_of_another_pipeline_that_succeeds_starts_one_though_its_history_keeps_none(self):
        follows = {"upstream": {"pipeline": "clean", "params": {"who": "clean"}}}
        self.pipeline(
            {"a": script("echo $[[ run.upstream ]] of $[[ params.who ]] at $[[ run.scheduledTime ]] by $[[ run.trigger ]]")},
            params={"who": {"type": "string", "default": "nobody"}},
            triggers={"onPipeline": follows},
        )
        message = wait_for("what is missing", lambda: self.triggers().get("onPipeline", {}).get("upstream", {}).get("message"))
        self.assertIn("there is no MLPipeline clean", message)
        self.assertEqual(condition(self.get("mlpipeline", "p"), "TriggersReady")["status"], "False")
        self.pipeline({"a": script("$[[ params.do ]]")}, name="clean", params={"do": {"type": "string"}}, history={"keepSucceeded": 0})
        wait_for("that it is there", lambda: condition(self.get("mlpipeline", "p"), "TriggersReady")["status"] == "True")
        self.start("bad", "clean", params={"do": "false"})
        self.start("one", "clean", params={"do": "true"}, scheduledTime="2026-01-01T00:00:00Z")
        self.start("two", "clean", params={"do": "true"})

        def started() -> dict:
            runs = [run for run in self.runs() if run["spec"].get("trigger", {}).get("kind") == "Pipeline"]
            return {run["spec"]["trigger"]["run"]: run["metadata"]["name"] for run in runs}

        wait_for("both runs", lambda: sorted(started()) == ["one", "two"], 150)
        self.failed("bad")
        wait_for("that history has its way", lambda: not {"one", "two"} & {run["metadata"]["name"] for run in self.runs()})
        name = started()["one"]
        self.succeeded(name)
        said = kubectl("logs", "-n", self.namespace, "-l", f"millrace.dev/run={name}", "--tail=-1")
        self.assertEqual(said.strip(), "one of clean at 2026-01-01T00:00:00Z by Pipeline")
        wait_for("its status", lambda: self.triggers()["onPipeline"]["upstream"]["runs"] == 2)
        event = f"RunStarted: onPipeline upstream: MLPipelineRun {name} because MLPipelineRun one succeeded"
        wait_for("an event", lambda: event in self.events(), 30)
        self.assertEqual(sorted(started()), ["one", "two"])

    def test_pipelines_that_would_start_each_other_for_ever_are_refused_until_one_lets_go(self):
        def follow(name: str, pipeline: str, **more) -> None:
            self.pipeline({"a": script("true")}, name=name, triggers={"onPipeline": {"other": {"pipeline": pipeline, **more}}})

        def accepted(name: str) -> dict:
            return condition(self.get("mlpipeline", name), "Accepted")

        follow("p", "q")
        wait_for("its acceptance", lambda: accepted("p").get("status") == "True")
        follow("q", "p")
        for name in ("p", "q"):
            wait_for("its refusal", lambda name=name: accepted(name).get("reason") == "TriggerCircle")
        self.assertIn("they would start each other for ever", accepted("p")["message"])
        follow("q", "p", suspend=True)
        for name in ("p", "q"):
            wait_for("its acceptance", lambda name=name: accepted(name)["status"] == "True")
