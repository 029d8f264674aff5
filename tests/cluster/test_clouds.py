"""Artifacts in Google Cloud Storage and in Azure Blob Storage, as servers on this machine speak them: from stage to stage, and to a served model."""

from clouds import KEY, CloudTest, put_blob
from harness import kubectl, wait_for
from models import is_made_and_served


class Clouds(CloudTest):
    def test_a_model_made_of_data_in_google_cloud_storage_is_served(self):
        self.is_served(self.gcs(), "gs")

    def test_a_model_made_of_data_in_azure_is_served_and_nobody_sees_the_key(self):
        self.is_served(self.azure(), "az")
        kinds = "mlpipelineruns,modelversions,modeldeployments,controllerrevisions,jobs,deployments,pods,events"
        told = kubectl("get", kinds, "-n", self.namespace, "-o", "json") + self.logs("train")
        self.assertNotIn(KEY, told)

    def test_new_data_in_azure_start_a_run_that_appends_them_to_a_table_in_google_cloud_storage(self):
        azure, gcs = self.azure()["azure"], self.gcs()["gcs"]
        reached = {"account": azure["account"], "endpoint": azure["endpoint"]}
        key = lambda cloud, name: {name: {"secret": {"name": cloud, "key": name}}}  # noqa: E731
        env = {**key("azure", "AZURE_STORAGE_ACCOUNT_KEY"), **key("gcs", "GOOGLE_SERVICE_ACCOUNT_KEY")}
        append = {
            "uses": "ingest",
            "with": {"source": "az://lake/in/day.csv", "azure": reached, "table": {"uri": "gs://lake/rows", "gcs": {"endpoint": gcs["endpoint"]}}},
            "overrides": {"env": env},
        }
        rows = {"uri": "gs://lake/rows", "access": {"endpoint": gcs["endpoint"], "secretRef": {"name": "gcs"}}}
        count = {"uses": "validate", "inputs": {"data": {"table": rows}}, "with": {"expectations": [{"rows": {"min": 1}}]}, "needs": ["append"]}
        lake = {"uri": "az://lake/in/", "poll": "1s", "access": {**reached, "secretRef": {"name": "azure"}}}
        self.claim()
        self.pipeline({"append": append, "count": count}, triggers={"onData": {"lake": lake}}, store={"pvc": {"claimName": "artifacts"}})
        seen = lambda: self.get("mlpipeline", "p").get("status", {}).get("triggers", {}).get("onData", {}).get("lake", {})  # noqa: E731
        wait_for("a look", lambda: seen().get("found") == "nothing is there yet", 180)
        for day, total in ((b"a,b\n1,2\n", 1), (b"a,b\n3,4\n5,6\n", 3)):
            known = seen().get("lastRun")
            put_blob(azure["endpoint"], "lake/in/day.csv", day)
            run = wait_for("a run", lambda known=known: (last := seen().get("lastRun")) not in (None, known) and last)
            stages = self.succeeded(run, 300)["stages"]
            self.assertEqual(stages["append"]["results"]["source_version"], self.run_of(run)["spec"]["trigger"]["version"])
            self.assertEqual(stages["count-data"]["results"]["rows"], total)

    def is_served(self, store: dict, scheme: str) -> None:
        found = is_made_and_served(self, store, "env")
        self.assertNotIn("MILLRACE_STORE_", self.logs("make"))
        uri = found["train"]["outputs"]["model"]["uri"]
        self.assertTrue(uri.startswith(f"{scheme}://lake/teams/a/runs/r-"), uri)
