"""The chart on a cluster where runs are under way: upgraded, taken away, put back."""

import subprocess

from harness import LOCAL, ROOT, SYSTEM, ClusterTest, kubectl, script, wait_for


def install(*options: str) -> None:
    subprocess.run([str(ROOT / "dev" / "install"), *options], check=True, capture_output=True)


class Chart(ClusterTest):
    alone = True

    def setUp(self):
        if not LOCAL:
            self.skipTest("takes the operator away: only on a cluster that the tests made")
        super().setUp()

    def start_two_stages(self) -> None:
        self.run_inline({"a": script("sleep 8"), "b": script("true", needs=["a"])})
        wait_for("stage a", lambda: self.stage("a").get("state") == "Running")

    def went_on(self) -> None:
        status = self.succeeded()
        self.assertEqual([s["attempts"] for s in status["stages"].values()], [1, 1])
        self.assertEqual(self.jobs(), ["r-a-1", "r-b-1"])

    def test_an_upgrade_in_mid_run_changes_nothing_for_the_run(self):
        self.start_two_stages()
        self.addCleanup(install)
        install("--set", "stages.jobTtl=2h")
        self.went_on()

    def test_after_an_uninstall_objects_stay_and_an_install_goes_on_with_them(self):
        self.start_two_stages()
        self.addCleanup(install)
        helm("uninstall", "millrace", "--namespace", SYSTEM, "--wait")
        # Helm waits for the Deployment to go, not for its pods, which still hand over their lease.
        wait_for("the operator's pods to go", lambda: not operator_pods())
        self.assertEqual(self.run_of()["metadata"]["name"], "r")
        install()
        self.went_on()


def operator_pods() -> str:
    return kubectl("get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=millrace", "-o", "name")


def helm(*arguments: str) -> None:
    subprocess.run(["helm", *arguments], check=True, capture_output=True)
