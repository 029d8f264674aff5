"""What the infrastructure does to a running stage: tried again, and not counted against `retry.limit`."""

import json
import uuid

from harness import SYSTEM, ClusterTest, advertise, first_node, kubectl, script, wait_for

# The first attempt is there to be interrupted.
FIRST_HANGS = 'test "$MILLRACE_ATTEMPT" -gt 1 || sleep 120'


class Disruptions(ClusterTest):
    def pod(self, attempt: int = 1) -> str:
        """The pod of this attempt of the stage `work`, once its program runs."""

        def running() -> str | None:
            stage = self.stage("work")
            if stage.get("attempts") != attempt or stage.get("state") != "Running":
                return None
            pods = self.get("pods", selector=f"millrace.dev/stage=work,millrace.dev/attempt={attempt}")["items"]
            return pods[0]["metadata"]["name"] if pods else None

        return wait_for(f"the program of attempt {attempt}", running, every=0.2)

    def went_on(self, reason: str) -> None:
        work = self.succeeded()["stages"]["work"]
        self.assertEqual((work["attempts"], work.get("failures", 0), work["disruptions"]), (2, 0, 1))
        told = [e for e in self.events() if e.startswith("StageInterrupted") and reason in e]
        self.assertTrue(told, self.events())

    def test_an_eviction_through_the_api_is_told_and_not_counted(self):
        self.run_inline({"work": script(FIRST_HANGS, terminationGracePeriod="1s")})
        name = self.pod()
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": name, "namespace": self.namespace}}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{name}/eviction"
        kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))
        self.went_on("EvictionByEvictionAPI")

    def test_a_preemption_is_told_and_the_stage_goes_on_when_there_is_room(self):
        mark = uuid.uuid4().hex[:8]
        slot = f"millrace.test/slot-{mark}"
        advertise(slot, "1")
        self.addCleanup(advertise, slot, None)
        for name, value in (("low", 1000), ("high", 2000)):
            self.apply(
                {"apiVersion": "scheduling.k8s.io/v1", "kind": "PriorityClass", "metadata": {"name": f"{name}-{mark}"}, "value": value}, ""
            )
            self.addCleanup(kubectl, "delete", "priorityclass", f"{name}-{mark}")
        settings = {"resources": {"limits": {slot: "1"}}, "terminationGracePeriod": "1s"}
        self.run_inline({"work": script(FIRST_HANGS, priorityClassName=f"low-{mark}", **settings)})
        self.pod()
        self.run_inline({"urgent": script("sleep 2", priorityClassName=f"high-{mark}", **settings)}, "urgent")
        self.succeeded("urgent")
        self.went_on("PreemptionByScheduler")

    def test_a_pod_that_its_node_refuses_is_told_and_not_counted_and_goes_on_when_the_node_takes_it(self):
        # A pod with a node's name meets no scheduler: the kubelet itself refuses it.
        name = f"t-{uuid.uuid4().hex[:8]}"
        self.addCleanup(kubectl, "delete", "podtemplate", "-n", SYSTEM, name)
        self.node_template(name, {"millrace.test/none": name})
        self.run_inline({"work": script("true", podTemplate=name)})
        waiting = self.waits_with("work", "NodeAffinity")
        self.assertGreaterEqual(waiting["disruptions"], 1)
        self.node_template(name, {})
        work = self.succeeded()["stages"]["work"]
        self.assertEqual((work["state"], work.get("failures", 0)), ("Succeeded", 0))

    def node_template(self, name: str, selector: dict[str, str]) -> None:
        spec = {"nodeName": first_node(), "nodeSelector": selector, "containers": [{"name": "main", "image": "main"}]}
        self.apply({"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": name}, "template": {"spec": spec}}, SYSTEM)
