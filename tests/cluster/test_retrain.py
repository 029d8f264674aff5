"""The loop by itself: penguins of another island are asked for, and the model that knows them is trained, judged and promoted."""

import csv
import io
import itertools
import json
import threading
import urllib.request

from harness import ROOT, ClusterTest, condition, kubectl, wait_for

EXAMPLE = ROOT / "examples" / "penguins"
NUMBERS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
WORDS = ["island", "sex"]
ROWS = 20


def written(rows: list[dict]) -> str:
    file = io.StringIO()
    table = csv.DictWriter(file, rows[0].keys())
    table.writeheader()
    table.writerows(rows)
    return file.getvalue()


def documents(text: str):
    """JSON documents, one after the other."""
    while text := text.strip():
        document, end = json.JSONDecoder().raw_decode(text)
        yield document
        text = text[end:]


class Callers(threading.Thread):
    """Asks the model about rows, over and over, and notes what failed."""

    def __init__(self, address: str, rows: list[dict]):
        super().__init__()
        self.address, self.stopped, self.failed, self.versions = address, threading.Event(), [], set()
        self.about(rows)

    def about(self, rows: list[dict]) -> None:
        whole = [row for row in rows if all(row[name] not in ("", "NA") for name in NUMBERS)]
        self.rows = itertools.cycle(whole)

    def __enter__(self) -> "Callers":
        self.start()
        return self

    def __exit__(self, *_) -> None:
        self.stopped.set()
        self.join()

    def run(self) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        while not self.stopped.wait(0.05):
            rows = list(itertools.islice(self.rows, ROWS))
            inputs = [{"name": n, "datatype": "FP32", "shape": [ROWS, 1], "data": [float(r[n]) for r in rows]} for n in NUMBERS]
            words = [["" if r[n] == "NA" else r[n] for r in rows] for n in WORDS]
            inputs += [{"name": n, "datatype": "BYTES", "shape": [ROWS, 1], "data": d} for n, d in zip(WORDS, words, strict=True)]
            url, body = f"http://{self.address}/v2/models/penguins/infer", json.dumps({"inputs": inputs}).encode()
            request = urllib.request.Request(url, body, {"content-type": "application/json"})
            try:
                with opener.open(request, timeout=30) as response:
                    self.versions.add(json.load(response)["model_version"])
            except OSError as error:
                self.failed.append(repr(error))


class Retrain(ClusterTest):
    # With a model, and the longest of all: it begins with the heavy ones.
    part = 2

    def test_drift_starts_a_run_whose_model_passes_the_gate_and_the_canary_and_is_promoted(self):
        rows = list(csv.DictReader((EXAMPLE / "penguins.csv").open()))
        known, new = ([r for r in rows if (r["island"] == "Biscoe") == is_new] for is_new in (False, True))
        self.example(known)
        first = wait_for("a run", lambda: self.get("mlpipeline", "penguins").get("status", {}).get("lastRun"))
        self.succeeded(first, 300)
        address = self.get("service", "penguins")["spec"]["clusterIP"]
        with Callers(address, known) as callers:
            wait_for("no drift", lambda: self.drifted("False"), 150)
            self.assertEqual(len(self.get("mlpipelinerun")["items"]), 1)

            # A season on another island: its rows are asked for, and labelled ones have come.
            self.table(rows)
            callers.about(new)
            turned = wait_for("drift", lambda: self.drifted("True"), 180)
            self.assertIn("body_mass_g", condition(turned, "Drifted")["message"])
            second = wait_for("a second run", lambda: [r for r in self.get("mlpipelinerun")["items"] if r["metadata"]["name"] != first])
            # From here on the season has both.
            callers.about(rows)
            self.assertEqual(len(second), 1)
            trigger = second[0]["spec"]["trigger"]
            self.assertEqual((trigger["kind"], trigger["name"]), ("Model", "degraded"))
            name = second[0]["metadata"]["name"]
            status = self.succeeded(name, 300)
            judged = status["stages"]["evaluate"]
            self.assertGreater(judged["metrics"]["f1"], judged["champion"]["f1"] + 0.1)

            served = self.get("modeldeployment", "penguins")
            self.assertEqual((condition(served, "Ready")["status"], served["status"]["servedVersion"]), ("True", 2))
            promoted = served["status"]["history"][0]
            self.assertEqual((promoted["outcome"], promoted["version"]), ("Promoted", 2))
            # What it was trained on is what it is asked for.
            well = wait_for("no drift of the new one", lambda: self.drifted("False", 2), 240)
            self.assertEqual(well["status"]["drift"]["drifted"], 0)
        self.assertEqual((callers.failed, callers.versions), ([], {"1", "2"}))
        self.assertEqual(len(self.get("mlpipelinerun")["items"]), 2)

        def degraded() -> dict:
            return self.get("mlpipeline", "penguins")["status"]["triggers"]["onModel"]["degraded"]

        # The pipeline looks after the model has told.
        wait_for("that nothing holds any more", lambda: "holdsSince" not in degraded())
        self.assertEqual((degraded()["runs"], degraded()["lastRun"]), (1, name))

    def example(self, rows: list[dict]) -> None:
        """The example, with these rows, a canary, and what starts another run."""
        for thing in documents(kubectl("create", "--dry-run=client", "-n", self.namespace, "-o", "json", "-k", str(EXAMPLE))):
            spec = thing.get("spec", {})
            if thing["kind"] == "MLPipeline":
                watched = {"modelDeployment": "penguins", "when": "drift.share > 0.1", "for": "2s", "cooldown": "1h"}
                spec["triggers"] = {"onChange": True, "onModel": {"degraded": watched}}
            if thing["kind"] == "ModelDeployment":
                errors = {"metric": "ErrorRate", "max": 0.05, "minSamples": 20}
                spec["rollout"] = {"strategy": "Canary", "steps": [{"weight": 50, "hold": "3s"}], "analysis": {"errors": errors}}
                spec["monitoring"] = {"drift": {"window": "5m", "minSamples": 300}}
            if thing["kind"] == "ConfigMap":
                thing["data"] = {"penguins.csv": written(rows)}
            self.apply(thing)

    def table(self, rows: list[dict]) -> None:
        data = {"penguins.csv": written(rows)}
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "penguins-data"}, "data": data})

    def drifted(self, status: str, version: int | None = None) -> dict | None:
        deployment = self.get("modeldeployment", "penguins")
        right = version in (None, deployment["status"].get("drift", {}).get("version"))
        return deployment if right and condition(deployment, "Drifted").get("status") == status else None
