"""Claims that one node may mount at a time: every pod of theirs is on it, an impossible graph is refused, and who waits says for what."""

import json
import tempfile
import uuid
from pathlib import Path

from harness import ClusterTest, condition, first_node, kubectl, resource, script, wait_for
from test_cli import CommandLine

STORE = {"pvc": {"claimName": "artifacts"}}
LABEL = "claim.millrace.dev/artifacts"
# Of a stage that runs until the test lets it go.
HELD = "until [ -e /tmp/go ]; do sleep 0.2; done"


def prefer(node: str) -> dict:
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": term}]}}


def on(pool: str, **fields) -> dict:
    return script("true", nodeSelector={"millrace.test/pool": pool}, **fields)


def offer(node: str, name: str, amount: str | None) -> None:
    patch = {"status": {"capacity": {name: amount}, "allocatable": {name: amount}}}
    kubectl("patch", "node", node, "--subresource=status", "--type=merge", "-p", json.dumps(patch))


class ClaimTest(ClusterTest):
    def claimed(self, mode: str = "ReadWriteOnce", **spec) -> None:
        wanted = {"accessModes": [mode], "resources": {"requests": {"storage": "1Gi"}}, **spec}
        self.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "artifacts"}, "spec": wanted})


class OneNode(CommandLine, ClaimTest):
    only_local = "adds a node: only to a cluster that the tests made"

    def setUp(self):
        super().setUp()
        self.far = self.second_node()

    def let_go(self, stage: str) -> None:
        [pod] = self.get("pods", selector=f"millrace.dev/stage={stage}")["items"]
        kubectl("exec", "-n", self.namespace, pod["metadata"]["name"], "--", "touch", "/tmp/go")

    def states(self, *stages: str) -> set[str]:
        return {self.stage(stage).get("state") for stage in stages}

    def test_pods_that_prefer_other_nodes_are_all_where_their_claim_is_in_use(self):
        self.claimed()
        here, there = prefer(first_node()), prefer(self.far)
        self.run_inline(
            {
                "make": script('echo hello > "$MILLRACE_OUTPUT_DATA"', outputs={"data": {}}, affinity=there),
                # It has the claim until the others have ended.
                "beside": script(HELD, affinity=here),
                "take": script('cat "$MILLRACE_INPUT_IN"', inputs={"in": {"from": "make.data"}}, affinity=here),
                "fan": {
                    **script('echo 1 > "$MILLRACE_OUTPUT_PART"; sleep 1', outputs={"part": {}}, affinity=there),
                    "forEach": {"range": {"count": 3}},
                },
            },
            store=STORE,
        )
        # A pod that reads for a person goes there too.
        wait_for("the first output", lambda: (self.states("make"), self.states("beside")) == ({"Succeeded"}, {"Running"}))
        with tempfile.TemporaryDirectory() as folder:
            self.millrace("cp", "r/make.data", str(Path(folder, "data")))
            self.assertEqual(Path(folder, "data").read_text(), "hello\n")
        wait_for("the others", lambda: self.states("take", "fan") == {"Succeeded"}, 180)
        self.let_go("beside")
        self.succeeded()
        # make, beside, take, three items, and what collects them.
        nodes = [pod["spec"].get("nodeName") for pod in self.get("pods", selector=LABEL)["items"]]
        self.assertEqual((len(nodes), len(set(nodes))), (7, 1), nodes)
        readers = [event for event in self.events() if event.startswith("Scheduled: ") and "/millrace-cp-" in event]
        self.assertEqual([event.endswith(f" to {nodes[0]}") for event in readers], [True], readers)

    def test_pods_of_a_claim_that_all_nodes_may_mount_are_where_they_like(self):
        self.claim()
        # At once, and on nodes that exclude each other.
        named = {"a": first_node(), "b": self.far}
        self.run_inline({stage: script("sleep 5", nodeSelector={"kubernetes.io/hostname": node}) for stage, node in named.items()}, store=STORE)
        self.succeeded()
        nodes = {pod["metadata"]["labels"]["millrace.dev/stage"]: pod["spec"]["nodeName"] for pod in self.get("pods")["items"]}
        self.assertEqual(nodes, named)

    def test_a_stage_without_room_beside_its_claim_says_so_and_goes_on_when_there_is_some(self):
        self.claimed()
        slot = f"millrace.test/slot-{uuid.uuid4().hex[:8]}"
        for node in (first_node(), self.far):
            offer(node, slot, "1")
        self.addCleanup(offer, first_node(), slot, None)
        settings = {"resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {slot: "1"}}}
        self.run_inline({"hold": script(HELD, **settings)}, "first", store=STORE)
        wait_for("the first run", lambda: self.stage("hold", "first").get("state") == "Running")
        # The other node has room, and may not mount the claim.
        self.run_inline({"near": script("true", **settings)}, "second", store=STORE)
        waiting = self.waits_with("near", "the claim `artifacts` is in use on one node", run="second")
        self.assertEqual((waiting["state"], waiting["reason"]), ("Pending", "Unschedulable"))
        self.assertIn("didn't match pod affinity rules", waiting["message"], "the scheduler's own words follow")
        self.let_go("hold")
        self.succeeded("first")
        self.succeeded("second")


class Impossible(ClaimTest):
    def verdict(self) -> dict | None:
        pipeline = self.get("mlpipeline", "p")
        current = pipeline.get("status", {}).get("observedGeneration") == pipeline["metadata"]["generation"]
        return condition(pipeline, "Accepted") if current else None

    def test_stages_at_once_on_nodes_that_exclude_each_other_are_refused_until_one_needs_the_other(self):
        self.claimed()
        spec = {"store": STORE, "stages": {"prepare": on("cpu"), "train": on("gpu")}}
        self.apply(resource("MLPipeline", "p", {"triggers": {"onChange": True}, **spec}))
        accepted = wait_for("a verdict", self.verdict, 20)
        self.assertEqual((accepted["status"], accepted["reason"]), ("False", "ClaimNotShared"), accepted)
        words = ("spec.stages.train.container.nodeSelector", "`artifacts`", "ReadWriteOnce", "pool=cpu", "pool=gpu", "needs: [prepare]")
        for word in words:
            self.assertIn(word, accepted["message"])
        self.assertEqual((self.get("mlpipelinerun")["items"], self.jobs()), ([], []))
        # A run of its own is refused in the same words, for good.
        self.run_inline(spec["stages"], store=STORE)
        status = self.failed()
        refused = condition({"status": status}, "Accepted")
        self.assertEqual((refused["status"], refused["reason"], refused["message"]), ("False", "ClaimNotShared", accepted["message"]))
        self.assertEqual(self.jobs(), [])
        # One after the other they may be on different nodes.
        spec["stages"]["train"] = on("gpu", needs=["prepare"])
        self.apply(resource("MLPipeline", "p", spec))
        accepted = wait_for("another verdict", lambda: (said := self.verdict()) and said["status"] == "True" and said, 20)
        self.assertEqual(accepted.get("message", ""), "")

    def test_pods_of_a_claim_of_one_pod_run_one_after_the_other(self):
        self.claimed("ReadWriteOncePod")
        settings = {"volumes": {"one": {"claim": {"name": "artifacts"}, "mountPath": "/one"}}}
        self.run_inline({name: script("sleep 3", **settings) for name in ("a", "b")})
        self.succeeded()
        ended = [pod["status"]["containerStatuses"][0]["state"]["terminated"] for pod in self.get("pods", selector="millrace.dev/stage")["items"]]
        (_, first_end), (second_begin, _) = sorted((end["startedAt"], end["finishedAt"]) for end in ended)
        self.assertLessEqual(first_end, second_begin)
