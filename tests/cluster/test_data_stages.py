"""The stock data stages that stand beside the loop: a profile of a table, and the scores of one by a model that is served."""

import csv
import io
import json

from harness import ROOT, ClusterTest, condition, kubectl, script, wait_for

EXAMPLE = ROOT / "examples" / "penguins"
STORE = {"pvc": {"claimName": "artifacts"}}
NUMBERS = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g")
TEXTS = ("island", "sex")


class DataStagesTest(ClusterTest):
    def ingest(self, name: str, text: str) -> dict:
        """A stage that brings a CSV text in."""
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {"table.csv": text}})
        volume = {"configMap": {"name": name}, "mountPath": "/data", "readOnly": True}
        return {"uses": "ingest", "with": {"source": "/data/table.csv"}, "overrides": {"volumes": {"data": volume}}}


class Profile(DataStagesTest):
    def test_a_table_is_described_and_a_later_stage_uses_the_figures(self):
        self.claim()
        self.run_inline(
            {
                "ingest": self.ingest("penguins", (EXAMPLE / "penguins.csv").read_text()),
                "profile": {"uses": "profile", "inputs": {"data": {"from": "ingest.data"}}, "with": {"correlated": 0.85}},
                "read": script(
                    'echo "$ROWS rows"; cat "$MILLRACE_INPUT_REPORT/profile.json"; test -s "$MILLRACE_INPUT_REPORT/report.html"',
                    env={"ROWS": {"value": "$[[ stages.profile.metrics.rows ]]"}},
                    inputs={"report": {"from": "profile.report"}},
                ),
            },
            store=STORE,
        )
        metrics = self.succeeded(seconds=300)["stages"]["profile"]["metrics"]
        rows = list(csv.DictReader(io.StringIO((EXAMPLE / "penguins.csv").read_text())))
        self.assertEqual((metrics["rows"], metrics["columns"]), (len(rows), len(rows[0])))
        first, report = self.logs("read").split("\n", 1)
        self.assertEqual(first, f"{len(rows)} rows")
        report = json.loads(report)
        species = next(column for column in report["described"] if column["name"] == "species")
        counts = {name: sum(row["species"] == name for row in rows) for name in ("Adelie", "Gentoo", "Chinstrap")}
        self.assertEqual({top["value"]: top["count"] for top in species["top"]}, counts)
        warned = [warning["columns"] for warning in report["warnings"] if warning["kind"] == "correlated"]
        self.assertIn(["flipper_length_mm", "body_mass_g"], warned)
        self.assertEqual(metrics["warnings"], len(report["warnings"]))


class Predict(DataStagesTest):
    def test_a_table_gets_the_labels_that_the_served_model_gives(self):
        kubectl("apply", "-n", self.namespace, "-k", str(EXAMPLE))
        first = wait_for("a run", lambda: self.get("mlpipeline", "penguins").get("status", {}).get("lastRun"))
        self.succeeded(first, 300)
        self.assertEqual(condition(self.get("modeldeployment", "penguins"), "Ready")["status"], "True")
        # What has a value in every column: a request has no word for a number that is missing.
        with (EXAMPLE / "penguins.csv").open() as file:
            rows = [row for row in csv.DictReader(file) if all(row[name] not in ("", "NA") for name in NUMBERS + TEXTS)]
        self.assertGreater(len(rows), 300)
        for row, label in zip(rows, self.served(rows), strict=True):
            row["served"] = label
        table = io.StringIO()
        writer = csv.DictWriter(table, fieldnames=["served", *NUMBERS, *TEXTS], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
        expectations = [
            {"rows": {"min": len(rows), "max": len(rows)}},
            {"column": "prediction", "notNull": True},
            {"name": "the same labels", "sql": "SELECT * FROM data WHERE prediction <> served"},
            {"columns": {"include": ["served", "probability_Adelie", "probability_Gentoo", "probability_Chinstrap"]}},
        ]
        predict = {"uses": "predict", "inputs": {"model": {"deployed": "penguins"}, "data": {"from": "ingest.data"}}, "with": {"keep": ["served"]}}
        by_parts = {**predict, "forEach": {"range": {"count": 3}}, "with": {**predict["with"], "part": "$[[ index ]]", "parts": 3}}
        compare = {"uses": "validate", "with": {"expectations": expectations}}
        self.run_inline(
            {
                "ingest": self.ingest("rows", table.getvalue()),
                "predict": predict,
                "by-parts": by_parts,
                "compare": {**compare, "inputs": {"data": {"from": "predict.data"}}},
                "compare-parts": {**compare, "inputs": {"data": {"from": "by-parts.data"}}},
            },
            "score",
            store=STORE,
        )
        stages = self.succeeded("score", 300)["stages"]
        self.assertEqual(stages["predict"]["metrics"]["rows"], len(rows))
        self.assertEqual([stages[name]["metrics"]["failed"] for name in ("compare", "compare-parts")], [0, 0])

    def served(self, rows: list[dict]) -> list[str]:
        """What the served model says of the rows."""
        shape = [len(rows), 1]
        inputs = [{"name": n, "datatype": "FP32", "shape": shape, "data": [float(row[n]) for row in rows]} for n in NUMBERS]
        inputs += [{"name": n, "datatype": "BYTES", "shape": shape, "data": [row[n] for row in rows]} for n in TEXTS]
        return self.infer("penguins", json.dumps({"inputs": inputs}).encode())["label"]
