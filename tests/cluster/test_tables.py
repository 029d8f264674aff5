"""Delta tables: a source that grows is appended with how far it was read, and stages read snapshots and windows of the table."""

import base64
import sqlite3
import tempfile
from pathlib import Path

from harness import ClusterTest, kubectl, resource, wait_for

STORE = {"pvc": {"claimName": "artifacts"}}
TABLE = "pvc://lake/orders"


class Tables(ClusterTest):
    def shop(self, name: str, orders: int) -> None:
        """A database with this many orders, one on each noon from 2026-11-01 on."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "shop.db"
            database = sqlite3.connect(path)
            database.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, customer TEXT, at DATETIME)")
            rows = [(n, f"customer {n}", f"2026-11-{n:02}T12:00:00Z") for n in range(1, orders + 1)]
            database.executemany("INSERT INTO orders VALUES (?, ?, ?)", rows)
            database.commit()
            database.close()
            text = base64.b64encode(path.read_bytes()).decode()
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "binaryData": {"shop.db": text}})

    def ingest(self, shop: str) -> dict:
        volumes = {
            "data": {"configMap": {"name": shop}, "mountPath": "/data", "readOnly": True},
            "lake": {"claim": {"name": "lake"}, "mountPath": "/lake"},
        }
        sql = {"table": "orders", "watermark": {"column": "id"}}
        table = {"uri": "/lake/orders"}
        return {"uses": "ingest", "with": {"source": "sqlite:/data/shop.db", "sql": sql, "table": table}, "overrides": {"volumes": volumes}}

    def check(self, data: dict, rows: int, **stage) -> dict:
        """A stage that fails unless the table has these rows, each once."""
        expectations = [{"rows": {"min": rows, "max": rows}}, {"column": "id", "unique": True}]
        return {"uses": "validate", "inputs": {"data": data}, "with": {"expectations": expectations}, **stage}

    def start_at(self, name: str, time: str, stages: dict) -> None:
        self.apply(resource("MLPipelineRun", name, {"scheduledTime": time, "pipeline": {"stages": stages, "store": STORE}}))

    def test_rows_are_appended_once_whatever_becomes_of_pods_and_stages_read_a_window_of_them(self):
        self.claim()
        self.claim("lake")
        self.shop("first", 3)
        self.shop("second", 8)
        window = {"table": {"uri": TABLE, "timeColumn": "at"}, "window": "2d"}

        # Those of the first and the second.
        self.start_at("r1", "2026-11-03T00:00:00Z", {"ingest": self.ingest("first"), "check": self.check(window, 2, needs=["ingest"])})
        stages = self.succeeded("r1", 300)["stages"]
        self.assertEqual((stages["ingest"]["results"]["rows"], stages["ingest"]["results"]["table_version"]), (3, "0"))
        self.assertNotIn("data", stages["ingest"].get("outputs", {}))
        read = stages["check-data"]
        self.assertEqual((read["results"]["rows"], read["results"]["source_version"]), (2, "0"))
        self.assertEqual(read["results"]["window_from"], "2026-11-01T00:00:00Z")
        self.assertTrue(read["outputs"]["data"]["digest"].startswith("sha256:"))

        # The pod that appends is killed: another one goes on, and no row comes twice.
        past = {"table": {"uri": TABLE, "version": "0"}}
        now = {"table": {"uri": TABLE, "version": "$[[ stages.ingest.results.table_version ]]"}}
        self.start_at(
            "r2",
            "2026-11-09T00:00:00Z",
            {
                "ingest": self.ingest("second"),
                "window": self.check(window, 2, needs=["ingest"]),
                "before": self.check(past, 3, needs=["ingest"]),
                "all": self.check(now, 8),
            },
        )
        selector = "millrace.dev/run=r2,millrace.dev/stage=ingest"
        pod = wait_for("a pod that appends", lambda: self.get("pods", selector=selector)["items"])[0]["metadata"]["name"]
        kubectl("delete", "pod", pod, "-n", self.namespace, "--grace-period=0", "--force", "--wait=false")
        stages = self.succeeded("r2", 400)["stages"]
        self.assertEqual((stages["ingest"]["results"]["rows"], stages["ingest"]["results"]["table_version"]), (5, "1"))
        self.assertEqual(stages["window-data"]["results"]["window_until"], "2026-11-09T00:00:00Z")
        self.assertEqual((stages["before-data"]["results"]["source_version"], stages["all-data"]["results"]["source_version"]), ("0", "1"))

        # Nothing is new: nothing is appended, and the same rows are the same artifact.
        self.start_at("r3", "2026-11-09T00:00:00Z", {"ingest": self.ingest("second"), "window": self.check(window, 2, needs=["ingest"])})
        again = self.succeeded("r3", 300)["stages"]
        self.assertEqual((again["ingest"]["results"]["rows"], again["ingest"]["results"]["table_version"]), (0, "1"))
        digests = [found["window-data"]["outputs"]["data"]["digest"] for found in (stages, again)]
        self.assertEqual(digests[0], digests[1])

    def test_a_table_that_is_not_there_fails_the_stage_that_would_read_it(self):
        self.claim()
        self.claim("lake")
        self.start_at("r", "2026-11-03T00:00:00Z", {"check": self.check({"table": {"uri": "pvc://lake/nothing"}}, 1)})
        stages = self.failed("r", 200)["stages"]
        self.assertEqual((stages["check-data"]["state"], stages["check"]["state"]), ("Failed", "Skipped"))
        self.assertIn("there is no Delta table at /mnt/table/nothing", str(stages["check-data"]))
