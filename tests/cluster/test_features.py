"""Features that a stage learns are part of the model: the served model takes raw columns, and answers as `predict` does, and as the features say."""

import csv
import json

from harness import ROOT, ClusterTest, condition, kubectl, script, wait_for

EXAMPLE = ROOT / "examples" / "features"
STORE = {"pvc": {"claimName": "artifacts"}}
NUMBERS = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm")
TEXTS = ("species", "island", "sex")


class Features(ClusterTest):
    def test_a_model_with_features_is_asked_with_raw_columns_and_answers_as_predict_does(self):
        kubectl("apply", "-n", self.namespace, "-k", str(EXAMPLE))
        first = wait_for("a run", lambda: self.get("mlpipeline", "features").get("status", {}).get("lastRun"))
        stages = self.succeeded(first, 300)["stages"]
        metrics = stages["features"]["metrics"]
        self.assertEqual(metrics["columns"], len(NUMBERS + TEXTS))
        self.assertGreater(metrics["features"], metrics["columns"])
        self.assertGreater(stages["evaluate"]["metrics"]["r2"], 0.7)
        self.assertEqual(condition(self.get("modeldeployment", "penguin-mass"), "Ready")["status"], "True")
        signature = self.get("modelversion", "penguin-mass-v1")["spec"]["signature"]
        self.assertEqual({column["name"] for column in signature["inputs"]}, set(NUMBERS + TEXTS))

        with (EXAMPLE / "penguins.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if row["body_mass_g"] != "NA" and all(row[name] != "NA" for name in NUMBERS)]
        # As nobody was in training: an island of no name, and no sex.
        for row in rows[:20]:
            row["island"], row["sex"] = "Atlantis", "NA"
        served = self.served(rows)
        # What the same rows have in a table.
        lines = "\n".join(",".join(row[name] for name in NUMBERS + TEXTS) for row in rows)
        table = ",".join(NUMBERS + TEXTS) + "\n" + lines + "\n"
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "rows"}, "data": {"table.csv": table}})
        volume = {"configMap": {"name": "rows"}, "mountPath": "/data", "readOnly": True}
        ingest = {"uses": "ingest", "with": {"source": "/data/table.csv"}, "overrides": {"volumes": {"data": volume}}}
        expectations = [{"rows": {"min": len(rows), "max": len(rows)}}, {"column": "prediction", "notNull": True}]
        self.run_inline(
            {
                "ingest": ingest,
                "predict": {
                    "uses": "predict",
                    "inputs": {"model": {"deployed": "penguin-mass"}, "data": {"from": "ingest.data"}},
                    "with": {"keep": []},
                },
                "compare": {"uses": "validate", "inputs": {"data": {"from": "predict.data"}}, "with": {"expectations": expectations}},
                "describe": {"uses": "profile", "inputs": {"data": {"from": "predict.data"}}},
                "read": script('cat "$MILLRACE_INPUT_REPORT/profile.json"', inputs={"report": {"from": "describe.report"}}),
            },
            "score",
            store=STORE,
        )
        self.succeeded("score", 300)
        described = json.loads(self.logs("read"))["described"]
        numbers = next(column for column in described if column["name"] == "prediction")["number"]
        for figure, expected in (("min", min(served)), ("max", max(served)), ("mean", sum(served) / len(served))):
            self.assertAlmostEqual(numbers[figure], expected, delta=0.01, msg=figure)

    def served(self, rows: list[dict]) -> list[float]:
        """What the served model says of the rows. A text that is missing is empty."""
        shape = [len(rows), 1]
        inputs = [{"name": n, "datatype": "FP32", "shape": shape, "data": [float(row[n]) for row in rows]} for n in NUMBERS]
        texts = {n: ["" if row[n] == "NA" else row[n] for row in rows] for n in TEXTS}
        inputs += [{"name": n, "datatype": "BYTES", "shape": shape, "data": data} for n, data in texts.items()]
        return self.infer("penguin-mass", json.dumps({"inputs": inputs}).encode())["prediction"]
