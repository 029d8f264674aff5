"""The chart on a cluster where runs are under way: upgraded, taken away, put back; and its optional webhook."""

import json
import subprocess

from harness import ROOT, SYSTEM, ClusterTest, Refused, alone, condition, get, kubectl, resource, script, wait_for


def install(*options: str) -> None:
    subprocess.run([str(ROOT / "dev" / "install"), *options], check=True, capture_output=True)


@alone
class Chart(ClusterTest):
    only_local = "takes the operator away: only on a cluster that the tests made"

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


@alone
class Webhook(ClusterTest):
    """What is wrong in itself is refused by `kubectl apply`, and nothing depends on that."""

    only_local = "installs the operator anew: only on a cluster that the tests made"

    def setUp(self):
        super().setUp()
        self.addCleanup(install)
        install("--set", "webhook.enabled=true")
        self.wrong = resource("MLPipeline", "wrong", {"stages": {"a": script("true", needs=["z"])}})
        wait_for("a refusal", lambda: self.refusal(self.wrong))

    def refusal(self, thing: dict) -> str:
        """Nothing is stored either way."""
        try:
            kubectl("create", "--dry-run=server", "-n", self.namespace, "-f", "-", stdin=json.dumps(thing))
        except Refused as refused:
            return str(refused)
        return ""

    def test_mistakes_are_refused_and_what_comes_later_is_not(self):
        refused = self.refusal(self.wrong)
        self.assertIn('admission webhook "checks.millrace.dev" denied the request', refused)
        self.assertIn("spec.stages.a.needs[0]: there is no stage `z`", refused)
        inline = resource("MLPipelineRun", "r", {"pipeline": self.wrong["spec"]})
        self.assertIn("spec.pipeline.stages.a.needs[0]: there is no stage `z`", self.refusal(inline))
        to_zero = resource("ModelDeployment", "m", {"model": {"name": "m"}, "scale": {"min": 0, "max": 1, "toZeroAfter": "1ms"}})
        self.assertIn("spec.scale.toZeroAfter", self.refusal(to_zero))
        template = {"container": {"image": "i", "command": ["$[[ nope ]]"]}}
        self.assertIn("spec.container.command[0]", self.refusal(resource("StageTemplate", "t", template)))

        # A pipeline comes before its template: a warning, and it is accepted when the template is there.
        pipeline = resource("MLPipeline", "p", {"stages": {"a": {"uses": "later"}}})
        told = self.told("apply", pipeline)
        self.assertIn("Warning: spec.stages.a.uses: no StageTemplate `later`", told)
        self.apply(resource("StageTemplate", "later", {"container": script("true")["container"]}))
        wait_for("an accepted pipeline", lambda: condition(self.get("mlpipeline", "p"), "Accepted").get("status") == "True")
        # Another replica may hear of it a moment later.
        wait_for("no warning", lambda: "Warning" not in self.told("apply", {**pipeline, "metadata": {"name": "q"}}))
        self.start("r", "p")
        self.succeeded()

    def test_with_every_replica_down_all_is_admitted_and_the_condition_refuses(self):
        # A mistake from before is left alone where it is not what changes.
        kubectl("scale", "deployment/millrace", "-n", SYSTEM, "--replicas=0")
        wait_for("the operator's pods to go", lambda: not operator_pods())
        self.assertEqual(self.told("create", self.wrong), "")
        kubectl("scale", "deployment/millrace", "-n", SYSTEM, "--replicas=2")
        wait_for("a refusal", lambda: condition(self.get("mlpipeline", "wrong"), "Accepted").get("status") == "False")
        wait_for("the webhook", lambda: self.refusal({**self.wrong, "metadata": {"name": "other"}}))
        kubectl("label", "mlpipeline", "wrong", "-n", self.namespace, "a=b")
        kubectl("delete", "mlpipeline", "wrong", "-n", self.namespace)

    def test_an_upgrade_keeps_the_certificate_and_turned_off_it_is_gone(self):
        before = get("secret", "millrace-webhook", SYSTEM)["data"]
        install("--set", "webhook.enabled=true", "--set", "stages.jobTtl=2h")
        self.assertEqual(get("secret", "millrace-webhook", SYSTEM)["data"], before)
        asked = json.loads(kubectl("get", "validatingwebhookconfiguration", "millrace", "-o", "json"))["webhooks"][0]
        self.assertEqual(asked["clientConfig"]["caBundle"], before["ca.crt"])
        install()
        self.assertEqual(kubectl("get", "validatingwebhookconfiguration", "millrace", "--ignore-not-found", "-o", "name"), "")
        self.apply(self.wrong)
        wait_for("a refusal", lambda: condition(self.get("mlpipeline", "wrong"), "Accepted").get("status") == "False")

    def told(self, verb: str, thing: dict) -> str:
        """What kubectl writes beside its answer, as it does with warnings."""
        command = ["kubectl", verb, "-n", self.namespace, "-f", "-"]
        done = subprocess.run(command, input=json.dumps(thing), check=True, capture_output=True, text=True, timeout=60)
        return done.stderr


def operator_pods() -> str:
    return kubectl("get", "pods", "-n", SYSTEM, "-l", "app.kubernetes.io/name=millrace", "-o", "name")


def helm(*arguments: str) -> None:
    subprocess.run(["helm", *arguments], check=True, capture_output=True)
