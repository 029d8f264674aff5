"""What starts runs by itself: times, ranges of times."""

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
        run = wait_for("a run", self.runs, 70)[0]
        for_time = datetime.fromisoformat(run["spec"]["scheduledTime"])
        self.assertEqual((for_time.second, run["spec"]["trigger"]["name"]), (0, "often"))
        self.assertLess(for_time - began, timedelta(seconds=61))
        made = datetime.fromisoformat(run["metadata"]["creationTimestamp"])
        self.assertLess(made - for_time, timedelta(seconds=5))
        name = run["metadata"]["name"]
        self.succeeded(name)
        said = kubectl("logs", "-n", self.namespace, "-l", f"millrace.dev/run={name}", "--tail=-1")
        self.assertEqual(said.strip(), f"clock at {written(for_time)} by Schedule")
        status = wait_for("its status", lambda: self.triggers()["schedules"]["often"].get("lastRun") and self.triggers())
        self.assertEqual(status["schedules"]["often"]["lastTime"], written(for_time))
        self.assertEqual(status["schedules"]["often"]["nextTime"], written(for_time + timedelta(minutes=1)))
        self.assertIn(f"RunStarted: schedule often: MLPipelineRun {name} for {written(for_time)}", self.events())

    def test_a_backfill_makes_its_runs_in_order_though_the_first_ones_are_deleted(self):
        to = datetime.now(timezone.utc).replace(hour=0, minute=0, second=0, microsecond=0)
        days = [to - timedelta(days=n) for n in (3, 2, 1)]
        backfill = {"schedule": "daily", "from": written(days[0]), "to": written(to)}
        self.pipeline(
            {"a": script("echo $[[ run.scheduledTime ]]")},
            triggers={"schedules": {"daily": {"cron": "@daily", "suspend": True}}, "backfills": {"past": backfill}},
            history={"keepSucceeded": 1},
        )
        done = wait_for("its end", lambda: self.triggers().get("backfills", {}).get("past", {}).get("completionTime"), 120)
        self.assertTrue(done)
        past = self.triggers()["backfills"]["past"]
        self.assertEqual((past["runs"], past["lastTime"]), (3, written(days[2])))
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
