"""Artifacts in Google Cloud Storage and in Azure Blob Storage, as servers on this machine speak them: from stage to stage, and to a served model."""

from clouds import KEY, CloudTest
from harness import kubectl
from models import is_made_and_served


class Clouds(CloudTest):
    def test_a_model_made_of_data_in_google_cloud_storage_is_served(self):
        self.is_served(self.gcs(), "gs")

    def test_a_model_made_of_data_in_azure_is_served_and_nobody_sees_the_key(self):
        self.is_served(self.azure(), "az")
        kinds = "mlpipelineruns,modelversions,modeldeployments,controllerrevisions,jobs,deployments,pods,events"
        told = kubectl("get", kinds, "-n", self.namespace, "-o", "json") + self.logs("train")
        self.assertNotIn(KEY, told)

    def is_served(self, store: dict, scheme: str) -> None:
        found = is_made_and_served(self, store, "env")
        self.assertNotIn("MILLRACE_STORE_", self.logs("make"))
        uri = found["train"]["outputs"]["model"]["uri"]
        self.assertTrue(uri.startswith(f"{scheme}://lake/teams/a/runs/r-"), uri)
