"""Drift: what a served model is asked for beside what it was trained on, by its profile."""

import json
import random
import urllib.request

from harness import condition, wait_for
from models import ModelTest

ROWS = 500
# As many training rows in each bin, as train-tabular makes them.
EDGES = [3000.0, 3500.0, 4000.0, 4500.0, 5000.0]


def profile() -> dict:
    """Of a training table of 2000 rows: masses are uniform, and a tenth of the sexes is missing."""
    mass = {
        "type": "numeric",
        "count": 2000,
        "missing": 0.0,
        "importance": 0.8,
        "quantiles": {"0.5": 4000.0},
        "histogram": {"edges": EDGES, "counts": [500] * 4},
    }
    sexes = [{"value": "female", "count": 900}, {"value": "male", "count": 900}]
    sex = {"type": "categorical", "count": 1800, "missing": 0.1, "importance": 0.2, "categories": sexes, "other": 0}
    labels = [{"value": label, "count": 1000, "meanProbability": 0.5} for label in ("heavy", "light")]
    predictions = {"type": "categorical", "count": 2000, "categories": labels}
    return {"version": 1, "rows": 2000, "features": {"mass": mass, "sex": sex}, "predictions": predictions}


class Drift(ModelTest):
    def test_requests_like_the_training_rows_are_no_drift_and_shifted_ones_are_named(self):
        self.register_with_profile(1)
        self.serve(1, scale={"replicas": 2})
        self.wait_served(1)
        pods = {pod["metadata"]["uid"] for pod in self.ready("millrace.dev/revision")}
        watched = {"monitoring": {"drift": {"window": "5m", "minSamples": 400}}}
        self.serve(1, scale={"replicas": 2}, **watched)
        # Pods count from the first question on.
        wait_for("a first answer", lambda: self.drifted("Unknown", "NotEnoughSamples"))

        numbers = random.Random(7)
        self.ask([numbers.uniform(3000, 5000) for _ in range(ROWS)], numbers)
        settled = wait_for("no drift", lambda: self.drifted("False", "NoDrift"), 150)
        drift = settled["status"]["drift"]
        self.assertEqual((drift["drifted"], drift["compared"], drift["share"], drift["version"]), (0, 2, 0, 1))
        self.assertGreaterEqual(drift["samples"], 400)

        self.ask([numbers.uniform(4600, 6000) for _ in range(3 * ROWS)], numbers)
        turned = wait_for("drift", lambda: self.drifted("True", "Drifted"), 150)
        self.assertIn("mass", condition(turned, "Drifted")["message"])
        drift = turned["status"]["drift"]
        worst, other = drift["features"]
        self.assertEqual((worst["name"], worst["drifted"], other["name"], other["drifted"]), ("mass", True, "sex", False))
        self.assertGreater(worst["outOfRange"], 0.3)
        self.assertAlmostEqual(other["missing"], 0.1, delta=0.05)
        self.assertAlmostEqual(drift["share"], 0.8)
        self.assertTrue(drift["predictions"]["drifted"])
        # It is written after the status.
        wait_for("its event", lambda: any(event.startswith("Drifted: ") for event in self.events()))
        # Watching is no other revision.
        self.assertEqual(pods, {pod["metadata"]["uid"] for pod in self.ready("millrace.dev/revision")})

        # A model without a profile says so, and without monitoring nothing is said.
        self.register(2)
        self.serve(2, scale={"replicas": 1}, **watched)
        self.wait_served(2)
        wait_for("no profile", lambda: self.drifted("Unknown", "NoProfile"), 120)
        self.serve(2, scale={"replicas": 1})
        wait_for("nothing", lambda: not condition(self.get("modeldeployment", "m"), "Drifted"))
        self.assertNotIn("drift", self.get("modeldeployment", "m")["status"])

    def test_a_canary_that_is_asked_for_other_rows_than_it_was_trained_on_is_rolled_back(self):
        self.register_with_profile(1)
        self.register_with_profile(2)
        rows = {"metric": "Drift", "max": 0.5, "minSamples": 100}
        rollout = {"strategy": "Canary", "steps": [{"weight": 50, "hold": "20m"}], "analysis": {"rows": rows}}
        self.serve(1, rollout=rollout)
        self.wait_served(1)
        self.serve(2, rollout=rollout)
        # Pods count from the first question on.
        wait_for("a first answer", lambda: "0 of 100 rows" in self.analysis().get("message", ""), 120)
        numbers = random.Random(7)
        self.ask([numbers.uniform(3000, 5000) for _ in range(ROWS)], numbers)
        wait_for("a verdict", lambda: self.analysis().get("verdict") == "Passed", 90)
        self.ask([numbers.uniform(4600, 6000) for _ in range(3 * ROWS)], numbers)
        wait_for("a rollback", lambda: condition(self.get("modeldeployment", "m"), "Ready").get("reason") == "RolledBack", 90)
        deployment = self.get("modeldeployment", "m")
        said = r"rows: Drift 0\.8, more than max 0\.5: 1 of 2 features has drifted, 0\.8 of the importance \(PSI: mass"
        self.assertRegex(condition(deployment, "Ready")["message"], said)
        self.assertEqual(deployment["status"]["servedVersion"], 1)
        # Nobody asked for the promoted one's.
        self.assertNotIn("drift", deployment["status"])

    def analysis(self) -> dict:
        rollout = self.get("modeldeployment", "m")["status"].get("rollout", {})
        return next(iter(rollout.get("analysis", [])), {})

    def register_with_profile(self, version: int) -> None:
        self.register(version, {"profile.json": json.dumps(profile()).encode()})

    def drifted(self, status: str, reason: str | None = None) -> dict | None:
        deployment = self.get("modeldeployment", "m")
        found = condition(deployment, "Drifted")
        return deployment if found.get("status") == status and reason in (None, found["reason"]) else None

    def ask(self, masses: list[float], numbers: random.Random) -> None:
        """Rows with these masses, ten a request; a tenth of the sexes is missing."""
        address = self.get("service", "m")["spec"]["clusterIP"]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        for first in range(0, len(masses), 10):
            some = masses[first : first + 10]
            sexes = [numbers.choices(["female", "male", ""], [45, 45, 10])[0] for _ in some]
            inputs = [
                {"name": "mass", "datatype": "FP32", "shape": [len(some), 1], "data": some},
                {"name": "sex", "datatype": "BYTES", "shape": [len(some), 1], "data": sexes},
            ]
            body = json.dumps({"inputs": inputs}).encode()
            request = urllib.request.Request(
                f"http://{address}/v2/models/m/infer", body, {"content-type": "application/json"}
            )
            with opener.open(request, timeout=30) as response:
                self.assertEqual(response.status, 200)
