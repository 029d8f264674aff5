"""An autoscaler of the cluster: the real cluster-autoscaler, which adds simulated nodes for pods that wait and takes away what is not needed.

MILLRACE_CLUSTER_AUTOSCALER names its program, of the cluster's minor version and with the provider `kwok` in it; without that these are skipped."""

import json
import os
import subprocess
import tempfile
import time
from pathlib import Path

from harness import ROOT, ClusterTest, alone, condition, get, kubectl, resource, script, wait_for

PROGRAM = "MILLRACE_CLUSTER_AUTOSCALER"
CLUSTER = str(ROOT / "dev" / "cluster" / "cluster")
GPU = "nvidia.com/gpu"
GROUP = "millrace.test/node-group"
# It looks every two seconds, and the operator at what it says of a pod once a minute.
TOLD_SECONDS = 150
MOVED_SECONDS = 180


@alone
class ClusterAutoscaler(ClusterTest):
    only_local = "adds and removes nodes: only on a cluster that the tests made"

    def setUp(self):
        if not os.environ.get(PROGRAM):
            self.skipTest(f"there is no cluster-autoscaler: {PROGRAM} names its program")
        super().setUp()
        subprocess.run([CLUSTER, "kwok", "0"], check=True, capture_output=True)
        self.addCleanup(subprocess.run, [CLUSTER, "kwok", "0"], check=True, capture_output=True)
        self.addCleanup(kubectl, "delete", "nodes", "-l", f"{GROUP}={self.namespace}", "--wait=false")
        self.settings("kwok-provider-config", "config", self.provider())
        self.settings("kwok-provider-templates", "templates", {"apiVersion": "v1", "kind": "List", "items": [self.node()]})
        self.start_autoscaler()

    # What there is.

    def settings(self, name: str, key: str, what: dict) -> None:
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": {key: json.dumps(what)}})

    def provider(self) -> dict:
        templates = {"readNodesFrom": "configmap", "configmap": {"name": "kwok-provider-templates"}}
        # The taint of the template is enough.
        return {"apiVersion": "v1alpha1", **templates, "nodegroups": {"fromNodeLabelKey": GROUP}, "nodes": {"skipTaint": True}}

    def node(self) -> dict:
        """What the only group of nodes is made of. Nobody else's pods tolerate it."""
        amounts = {"cpu": "16", "memory": "64Gi", "pods": "110", "ephemeral-storage": "100Gi", GPU: "2"}
        labels = {GROUP: self.namespace, "kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": "template", "labels": labels, "annotations": {"cluster-autoscaler.kwok.nodegroup/max-count": "3"}},
            "spec": {"taints": [{"key": GROUP, "value": self.namespace, "effect": "NoSchedule"}]},
            "status": {"allocatable": amounts, "capacity": amounts},
        }

    def start_autoscaler(self) -> None:
        log = Path(tempfile.mkdtemp(prefix="millrace-autoscaler-")) / "log"
        kubeconfig = os.environ["KUBECONFIG"]
        fast = ["--scan-interval=2s", "--scale-down-delay-after-add=2s", "--scale-down-unneeded-time=6s", "--unremovable-node-recheck-timeout=4s"]
        own = [f"--kubeconfig={kubeconfig}", f"--namespace={self.namespace}", "--leader-elect=false", "--address=127.0.0.1:0"]
        environment = {**os.environ, "POD_NAMESPACE": self.namespace, "KWOK_PROVIDER_MODE": "local"}
        with log.open("w") as file:
            process = subprocess.Popen([os.environ[PROGRAM], "--cloud-provider=kwok", *own, *fast], env=environment, stdout=file, stderr=file)

        def stop() -> None:
            # It takes its nodes away as it ends.
            process.terminate()
            process.wait(60)

        self.addCleanup(stop)

        def works() -> bool:
            if process.poll() is not None:
                raise AssertionError(f"the autoscaler ended: {log.read_text()[-2000:]}")
            return any(c["metadata"]["name"] == "cluster-autoscaler-status" for c in self.get("configmaps")["items"])

        wait_for("the autoscaler", works, 60)

    def simulate(self) -> None:
        """From now on nodes become ready, and what runs there goes on until it is ended."""
        stages = (ROOT / "dev/cluster/kwok/pods.yaml").read_text().split("---\n")
        file = Path(tempfile.mkdtemp(prefix="millrace-kwok-")) / "pods.yaml"
        file.write_text("---\n".join(stage for stage in stages if "name: pod-succeed" not in stage))
        subprocess.run([CLUSTER, "kwok", "1", "--stages", str(file)], check=True, capture_output=True)

    def on_its_nodes(self, resource: str = GPU) -> dict:
        tolerations = [{"key": GROUP, "operator": "Equal", "value": self.namespace, "effect": "NoSchedule"}]
        return {"tolerations": tolerations, "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {resource: "1"}}}

    def serve(self, name: str) -> None:
        """A model of a bucket, which its pod fetches to the node's disk."""
        artifact = {"uri": f"s3://models/{name}", "digest": f"sha256:{1:064}", "size": 1000}
        self.apply(resource("ModelVersion", f"{name}-v1", {"model": name, "version": 1, "format": "onnx", "artifact": artifact}))
        spec = {"model": {"name": name, "version": 1}, "server": self.on_its_nodes(), "scale": {"replicas": 1}}
        self.apply(resource("ModelDeployment", name, spec))

    # What is seen.

    def nodes(self) -> list[str]:
        return [n["metadata"]["name"] for n in get("nodes", selector=f"{GROUP}={self.namespace}")["items"]]

    def ready(self, name: str) -> dict:
        return condition(self.get("modeldeployment", name), "Ready")

    def pod(self, selector: str) -> dict:
        """The only pod that stays, on its node."""

        def running() -> dict | None:
            pods = [p for p in self.get("pods", selector=selector)["items"] if "deletionTimestamp" not in p["metadata"]]
            return pods[0] if len(pods) == 1 and pods[0]["status"]["phase"] == "Running" else None

        return wait_for(f"a pod of {selector}", running, MOVED_SECONDS)

    def server(self, name: str) -> dict:
        return self.pod(f"millrace.dev/model-deployment={name}")

    def stage_pod(self) -> dict:
        return self.pod("millrace.dev/stage=train")

    def end(self, pod: dict) -> None:
        """The stage's program ends well: nobody else does that on a simulated node."""
        labels = pod["metadata"]["labels"]
        told = {"runUid": labels["millrace.dev/run-uid"], "stage": labels["millrace.dev/stage"], "attempt": int(labels["millrace.dev/attempt"])}
        report = json.dumps({"millrace": "v1", **told, "outcome": "Succeeded", "reason": "Completed", "exitCode": 0})
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        ended = {"exitCode": 0, "reason": "Completed", "finishedAt": now, "message": report}
        statuses = [
            {**s, "ready": False, "started": False, "state": {"terminated": {**ended, "startedAt": s["state"]["running"]["startedAt"]}}}
            for s in pod["status"]["containerStatuses"]
        ]
        patch = json.dumps({"status": {"phase": "Succeeded", "containerStatuses": statuses}})
        kubectl("patch", "pod", pod["metadata"]["name"], "-n", self.namespace, "--subresource=status", "--type=merge", "-p", patch)

    def test_a_node_comes_for_what_waits_and_goes_when_it_is_not_needed_but_never_under_a_stage_that_runs(self):
        self.run_inline({"train": script("sleep 3600", **self.on_its_nodes())})
        self.serve("first")
        # The node is there, and not ready yet: what is waited for is told, and why.
        waiting = self.waits_with("train", "TriggeredScaleUp", seconds=TOLD_SECONDS)
        self.assertIn(f"Insufficient {GPU}", waiting["message"])
        wait_for("the cause", lambda: f"Insufficient {GPU}" in self.ready("first").get("message", ""), TOLD_SECONDS)
        self.assertEqual(self.ready("first")["status"], "False")
        wait_for("a node", lambda: len(self.nodes()) == 1)
        self.simulate()
        train, first = self.stage_pod(), self.server("first")
        [node] = self.nodes()
        self.assertEqual({p["spec"]["nodeName"] for p in (train, first)}, {node})
        wait_for("the stage to say so", lambda: self.stage("train")["state"] == "Running")
        wait_for("Ready", lambda: self.ready("first").get("status") == "True", MOVED_SECONDS)

        self.serve("second")
        second = self.server("second")
        self.assertNotEqual(second["spec"]["nodeName"], node)
        kubectl("delete", "modeldeployment", "first", "-n", self.namespace)
        # Two nodes are half empty. The stage stays where it is, so the server moves to it.
        wait_for("one node", lambda: self.nodes() == [node], MOVED_SECONDS)
        moved = self.server("second")
        self.assertEqual(moved["spec"]["nodeName"], node)
        self.assertNotEqual(moved["metadata"]["uid"], second["metadata"]["uid"])
        wait_for("Ready again", lambda: self.ready("second").get("status") == "True", MOVED_SECONDS)
        self.assertEqual(self.stage_pod()["metadata"]["uid"], train["metadata"]["uid"])
        self.assertEqual(self.get("poddisruptionbudget", "millrace-router")["status"]["disruptionsAllowed"], 1)

        kubectl("scale", "modeldeployment/second", "-n", self.namespace, "--replicas=0")
        wait_for("no server", lambda: not self.get("pods", selector="millrace.dev/revision")["items"])
        time.sleep(20)
        self.assertEqual(self.nodes(), [node], "the stage runs")
        self.end(train)
        stage = self.succeeded()["stages"]["train"]
        self.assertEqual((stage["attempts"], stage.get("disruptions", 0)), (1, 0))
        wait_for("no node", lambda: not self.nodes(), MOVED_SECONDS)
        self.assertEqual((self.ready("second")["status"], self.ready("second")["reason"]), ("False", "ScaledToZero"))

    def test_why_no_node_comes_is_told(self):
        self.run_inline({"train": script("true", **self.on_its_nodes("millrace.test/none"))})
        waiting = self.waits_with("train", "NotTriggerScaleUp", seconds=TOLD_SECONDS)
        self.assertIn("Insufficient millrace.test/none", waiting["message"])
        self.assertEqual((waiting["reason"], self.nodes()), ("Unschedulable", []))
