"""Serving: swaps of the version under load, the routers in between, and what a bad model says."""

import http.client
import json
import time

from harness import DEBIAN, SYSTEM, Refused, alone, change_node, condition, get, kill_operator, kubectl, wait_for
from models import MODEL, RATE, REQUEST, SLOW_SECONDS, Load, ModelTest
from test_operator import prefer_node, writes

SWAPS = 20


class Serving(ModelTest):
    def swap_under_load(self, swaps: int, before=lambda: None, after=lambda: None) -> "Load":
        """Serves two versions in turns while requests come in; none of them may fail."""
        for version in (1, 2):
            self.register(version)
        self.serve(1)
        self.wait_served(1)
        load = Load(self.get("service", "m")["spec"]["clusterIP"])
        load.start()
        try:
            for swap in range(swaps):
                before()
                self.serve(2 - swap % 2)
                self.wait_served(2 - swap % 2)
                after()
        finally:
            load.stop()
        self.assertEqual(load.failures, [])
        self.assertEqual(load.versions, {"1", "2"})
        return load

    @alone
    def test_twenty_swaps_under_load_fail_no_request(self):
        load = self.swap_under_load(SWAPS, after=lambda: time.sleep(SLOW_SECONDS))
        self.assertGreater(load.answered, RATE * load.seconds * 0.7, "the load was not what it should be")

    def test_swaps_fail_no_request_while_a_router_goes_and_another_comes(self):
        def delete_a_router():
            kubectl("delete", "pod", "-n", self.namespace, self.routers()[0]["metadata"]["name"], "--wait=false")

        def two_routers():
            wait_for("two routers", lambda: len(self.routers()) == 2)

        self.swap_under_load(4, before=delete_a_router, after=two_routers)

    @alone
    def test_with_the_operator_away_a_router_and_the_only_server_go_and_no_request_fails(self):
        self.register(1)
        self.serve(1)
        self.wait_served(1)
        wait_for("two routers", lambda: len(self.routers()) == 2)
        self.addCleanup(kubectl, "rollout", "status", "-n", SYSTEM, "deployment/millrace", "--timeout=60s")
        self.addCleanup(kubectl, "scale", "deployment", "-n", SYSTEM, "millrace", "--replicas=2")
        kubectl("scale", "deployment", "-n", SYSTEM, "millrace", "--replicas=0")
        wait_for("an operator that is away", lambda: not get("pods", "", SYSTEM, "app.kubernetes.io/name=millrace")["items"])
        load = Load(self.get("service", "m")["spec"]["clusterIP"])
        load.start()
        try:
            for selector in ("millrace.dev/router", "millrace.dev/revision"):
                pods = self.get("pods", selector=selector)["items"]
                gone = pods[0]["metadata"]["name"]
                kubectl("delete", "pod", "-n", self.namespace, gone, "--wait=false")

                def replaced(selector: str = selector, gone: str = gone, count: int = len(pods)) -> bool:
                    names = [p["metadata"]["name"] for p in self.ready(selector)]
                    return gone not in names and len(names) == count

                wait_for(f"another pod of {selector}", replaced)
                time.sleep(SLOW_SECONDS)
        finally:
            load.stop()
        self.assertEqual(load.failures, [])

    @alone
    def test_a_kill_without_notice_costs_only_what_was_in_hand_and_a_second_try_is_answered(self):
        self.register(1)
        self.serve(1, scale={"replicas": 2})
        self.wait_served(1)
        wait_for("two routers", lambda: len(self.routers()) == 2)
        for selector in ("millrace.dev/revision", "millrace.dev/router"):
            wait_for("two servers", lambda: len(self.ready("millrace.dev/revision")) == 2)
            load = Load(self.get("service", "m")["spec"]["clusterIP"])
            load.start()
            try:
                time.sleep(SLOW_SECONDS)
                killed = self.ready(selector)[0]["metadata"]["name"]
                kubectl("delete", "pod", "-n", self.namespace, killed, "--force", "--grace-period=0")
                time.sleep(2 * SLOW_SECONDS)
                during = len(load.failures)
                wait_for(f"two pods of {selector}", lambda selector=selector: len(self.ready(selector)) == 2)
                time.sleep(SLOW_SECONDS)
            finally:
                load.stop()
            self.assertEqual(len(load.failures), during, f"{selector}: more than at once, {load.failures}")
            self.assertLessEqual(during, len(load.threads), f"{selector}: more than one of each caller, {load.failures}")
            self.assertGreater(load.answered, RATE * load.seconds * 0.5)

    @alone
    def test_a_node_is_drained_of_a_router_and_the_only_server_and_no_request_fails(self):
        change_node("add", "drained")
        self.addCleanup(change_node, "remove", "drained")
        self.register(1)
        self.serve(1, server={"affinity": prefer_node("drained")})
        self.wait_served(1)
        wait_for("two routers", lambda: len(self.routers()) == 2)

        def there() -> list[str]:
            pods = self.get("pods", selector="millrace.dev/router")["items"] + self.get("pods", selector="millrace.dev/revision")["items"]
            return [p["metadata"]["name"] for p in pods if p["spec"].get("nodeName") == "drained"]

        self.assertEqual(len(there()), 2, "a router and the server")
        load = Load(self.get("service", "m")["spec"]["clusterIP"])
        load.start()
        try:
            time.sleep(SLOW_SECONDS)
            kubectl("drain", "drained", "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--timeout=180s")
            wait_for("all elsewhere", lambda: not there() and len(self.routers()) == 2 and len(self.ready("millrace.dev/revision")) == 1)
            time.sleep(SLOW_SECONDS)
        finally:
            load.stop()
        self.assertEqual(load.failures, [])

    def evict(self, pod: str) -> None:
        eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": pod, "namespace": self.namespace}}
        path = f"/api/v1/namespaces/{self.namespace}/pods/{pod}/eviction"
        kubectl("create", "--raw", path, "-f", "-", stdin=json.dumps(eviction))

    def may_go(self) -> bool:
        """One pod of the model may be evicted."""
        budget = self.get("poddisruptionbudget", "m")
        seen = budget.get("status", {}).get("observedGeneration") == budget["metadata"]["generation"]
        return seen and budget["status"]["disruptionsAllowed"] == 1

    @alone
    def test_pods_of_a_model_are_evicted_one_after_the_other_and_no_request_fails(self):
        self.register(1)
        self.serve(1, scale={"replicas": 2})
        self.wait_served(1)
        wait_for("a budget for one pod", self.may_go)
        first, second = (pod["metadata"]["name"] for pod in self.ready("millrace.dev/revision"))
        load = Load(self.get("service", "m")["spec"]["clusterIP"])
        load.start()
        try:
            time.sleep(SLOW_SECONDS)
            self.evict(first)
            with self.assertRaisesRegex(Refused, "disruption budget"):
                self.evict(second)
            wait_for("another in its place", self.may_go)
            self.assertEqual(len(self.ready("millrace.dev/revision")), 2)
            self.evict(second)
            gone = {first, second}
            wait_for("two others", lambda: len([p for p in self.ready("millrace.dev/revision") if p["metadata"]["name"] not in gone]) == 2)
            time.sleep(SLOW_SECONDS)
        finally:
            load.stop()
        self.assertEqual(load.failures, [])

    def test_the_budget_of_a_model_is_kept_and_one_of_that_name_that_is_not_its_own_is_left_alone(self):
        self.register(1)
        spec = {"minAvailable": 1, "selector": {"matchLabels": {"app": "other"}}}
        self.apply({"apiVersion": "policy/v1", "kind": "PodDisruptionBudget", "metadata": {"name": "m"}, "spec": spec})
        self.serve(1)
        self.wait_served(1)
        wait_for("the name that is taken", lambda: "PodDisruptionBudget m" in condition(self.get("modeldeployment", "m"), "Ready")["message"])
        self.assertEqual(self.get("poddisruptionbudget", "m")["spec"]["minAvailable"], 1)
        kubectl("delete", "poddisruptionbudget", "-n", self.namespace, "m")
        wait_for("a budget for its one pod", self.may_go)
        right = self.get("poddisruptionbudget", "m")["spec"]
        self.assertEqual((right["maxUnavailable"], right["unhealthyPodEvictionPolicy"]), (1, "AlwaysAllow"))
        kubectl("patch", "poddisruptionbudget", "-n", self.namespace, "m", "--type=merge", "-p", '{"spec": {"maxUnavailable": 0}}')
        wait_for("the budget as it was", lambda: self.get("poddisruptionbudget", "m")["spec"] == right)
        kubectl("delete", "poddisruptionbudget", "-n", self.namespace, "m")
        wait_for("the budget once more", lambda: self.get("poddisruptionbudget", "m")["spec"] == right and self.may_go())
        self.evict(self.ready("millrace.dev/revision")[0]["metadata"]["name"])

    def answers(self, version: int, name: str, seconds: float) -> None:
        """The model of that name answers every request with this version."""
        self.wait_served(version, name)
        load = Load(self.get("service", name)["spec"]["clusterIP"])
        load.start()
        time.sleep(seconds)
        load.stop()
        self.assertEqual((load.failures, load.versions), ([], {str(version)}))

    def test_two_models_of_a_namespace_have_ports_of_their_own_and_the_last_one_leaves_nothing(self):
        for version, name in ((1, "m"), (2, "other")):
            self.register(version)
            self.serve(version, name)
        for version, name in ((1, "m"), (2, "other")):
            self.answers(version, name, seconds=2)
        ports = {self.get("service", name)["spec"]["ports"][0]["targetPort"] for name in ("m", "other")}
        self.assertEqual(len(ports), 2, ports)
        kubectl("delete", "modeldeployment", "-n", self.namespace, "other")
        wait_for("one model in the routes", lambda: [m["name"] for m in self.routes()["models"]] == ["m"])
        self.wait_served(1)
        wait_for("two routers", lambda: len(self.routers()) == 2)
        kubectl("delete", "modeldeployment", "-n", self.namespace, "m")
        kinds = "deployments,services,poddisruptionbudgets,networkpolicies,serviceaccounts,rolebindings,configmaps,pods"

        def left():
            items = self.get(kinds)["items"]
            names = [f"{o['kind']} {o['metadata']['name']}" for o in items if "millrace.dev/run" not in o["metadata"].get("labels", {})]
            return sorted(names) == ["ConfigMap kube-root-ca.crt", "ServiceAccount default"]

        wait_for("nothing left", left, 180)

    def routes(self) -> dict:
        return json.loads(self.get("configmap", "millrace-routes")["data"]["routes.json"])

    def test_what_is_served_costs_no_write(self):
        self.register(1)
        self.serve(1)
        self.wait_served(1)
        # The last of what belongs to the start: conditions, the second router.
        wait_for("two routers", lambda: len(self.routers()) == 2)
        time.sleep(6)
        quiet = time.time()
        time.sleep(30)
        self.assertEqual(self.written(quiet), [])
        self.assertEqual(writes(quiet, f"system:serviceaccount:{self.namespace}:"), [], "of the routers")

    def test_without_routers_it_is_not_ready_and_says_why(self):
        self.register(1)
        self.serve(1)
        self.wait_served(1)
        quota = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "few"}, "spec": {"hard": {"pods": "1"}}}
        self.apply(quota)
        wait_for("the quota in force", lambda: self.get("resourcequota", "few").get("status", {}).get("hard"))
        kubectl("delete", "pod", "-n", self.namespace, "-l", "millrace.dev/router", "--wait=false")

        def told():
            ready = condition(self.get("modeldeployment", "m"), "Ready")
            return ready["status"] == "False" and "no router is ready" in ready["message"] and "quota" in ready["message"]

        wait_for("the words of the quota", told)
        kubectl("delete", "resourcequota", "-n", self.namespace, "few")
        # Who makes pods has been refused for a while, and tries again at growing intervals.
        wait_for("a router", self.routers, 180)
        self.wait_served(1)

    def test_what_has_a_name_of_the_routers_and_is_not_theirs_is_left_alone(self):
        self.register(1)
        foreign = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "millrace-router"}}
        self.apply(foreign)
        self.serve(1)

        def told():
            ready = condition(self.get("modeldeployment", "m"), "Ready")
            return ready.get("reason") == "NameTaken" and "ServiceAccount millrace-router" in ready["message"]

        wait_for("the name that is taken", told)
        self.assertNotIn("ownerReferences", self.get("serviceaccount", "millrace-router")["metadata"])
        self.assertNotIn("millrace-router", [d["metadata"]["name"] for d in self.get("deployments")["items"]])
        kubectl("delete", "serviceaccount", "-n", self.namespace, "millrace-router")
        self.wait_served(1)

    def test_what_is_no_model_is_never_served_and_says_why(self):
        self.register(1)
        self.serve(1)
        self.wait_served(1)
        whole = (MODEL / "model.onnx").read_bytes()
        for version, content in enumerate([whole[:100], b"", b"<html>not found</html>" * 10], 2):
            self.register(version, {"model.onnx": content})
            self.serve(version)

            def told(version: int = version) -> int:
                deployment = self.get("modeldeployment", "m")
                ready = condition(deployment, "Ready")
                message = ready.get("message", "")
                right = ready.get("status") == "False" and f"version {version}" in message and "model.onnx" in message
                return right and deployment["status"]["servedVersion"]

            self.assertEqual(wait_for(f"the server's words on version {version}", told, 90), 1)
        self.serve(1)
        self.wait_served(1)

    @alone
    def test_what_somebody_changes_is_put_right_once_and_the_model_answers(self):
        self.register(1)
        self.serve(1)
        self.wait_served(1)
        right = self.get("service", "m")["spec"]
        foreign = [
            {
                "ports": [{**right["ports"][0], "targetPort": 9}, {"name": "other", "port": 81, "targetPort": 9}],
                "sessionAffinity": "ClientIP",
                "externalIPs": ["203.0.113.9"],
                "publishNotReadyAddresses": True,
                "internalTrafficPolicy": "Local",
            },
            {"type": "LoadBalancer", "loadBalancerSourceRanges": ["203.0.113.0/24"]},
        ]
        for spec in foreign:
            kubectl("patch", "service", "-n", self.namespace, "m", "--type=merge", "-p", json.dumps({"spec": spec}))
            wait_for(f"the Service after {spec}", lambda: self.get("service", "m")["spec"] == right)
        self.assertTrue(any(event.startswith("ServiceChanged") for event in self.events()), self.events())
        revision = self.get("modeldeployment", "m")["status"]["servedRevision"]
        server = self.get("deployment", revision)["spec"]
        main = {"name": "main", "image": DEBIAN, "command": ["sleep", "9"], "env": [{"name": "A", "value": "b"}]}
        restricted = server["template"]["spec"]["containers"][0]["securityContext"]
        other = {"name": "other", "image": DEBIAN, "command": ["sleep", "9"], "securityContext": restricted}
        spec = {"paused": True, "template": {"spec": {"containers": [main, other]}}}
        kubectl("patch", "deployment", "-n", self.namespace, revision, "-p", json.dumps({"spec": spec}))

        def well():
            deployment = self.get("deployment", revision)
            looked = deployment["status"].get("observedGeneration") == deployment["metadata"]["generation"]
            ready = condition(self.get("modeldeployment", "m"), "Ready").get("status") == "True"
            return deployment["spec"] == server and looked and ready

        wait_for("the Deployment as it was", well)
        connection = http.client.HTTPConnection(right["clusterIP"], timeout=15)
        connection.request("POST", "/v2/models/m/infer", REQUEST, {"content-type": "application/json"})
        self.assertEqual(connection.getresponse().status, 200)
        # An operator that begins does not know what was applied: it puts each object once, and then there is quiet.
        began = time.time()
        kill_operator()
        wait_for("a write", lambda: self.written(began))
        time.sleep(60)
        routers = ["networkpolicies", "networkpolicies", "networkpolicies", "poddisruptionbudgets", "rolebindings", "serviceaccounts"]
        puts = ["deployments", "deployments", "poddisruptionbudgets", "services", "services"]
        expected = [*[("patch", kind) for kind in routers], *[("update", kind) for kind in puts]]
        self.assertEqual(sorted(self.written(began)), expected)

    def test_what_somebody_changes_of_the_routers_is_put_right_and_told_and_ports_stay(self):
        # Made in another order than that of their names: ports that were given anew would change hands.
        for version, name in ((1, "z"), (2, "a")):
            self.register(version)
            self.serve(version, name)
        for version, name in ((1, "z"), (2, "a")):
            self.wait_served(version, name)
        wait_for("two routers", lambda: len(self.routers()) == 2)
        kinds = ["deployment", "serviceaccount", "rolebinding", "poddisruptionbudget", "networkpolicy"]
        names = [*[(kind, "millrace-router") for kind in kinds], *[("networkpolicy", name) for name in ("millrace-servers", "millrace-fetch")]]

        def parts() -> dict:
            """What Millrace says of each."""
            found = {(kind, name): self.get(kind, name) for kind, name in names}
            said = {key: {k: v for k, v in o.items() if k not in ("metadata", "status")} for key, o in found.items()}
            return {key: (said[key], found[key]["metadata"]["labels"]) for key in found}

        right, routes = parts(), self.routes()

        def is_right() -> bool:
            try:
                return (parts(), self.routes()) == (right, routes)
            except Refused:
                return False

        add = {"name": "other", "image": DEBIAN, "command": ["sleep", "9"]}
        added = {"spec": {"replicas": 1, "paused": True, "template": {"spec": {"containers": [add]}}}}
        kubectl("patch", "deployment", "-n", self.namespace, "millrace-router", "-p", json.dumps(added))
        wait_for("the routers as they were", is_right)
        open_to_all = json.dumps({"spec": {"ingress": [{}]}})
        kubectl("patch", "networkpolicy", "-n", self.namespace, "millrace-servers", "--type=merge", "-p", open_to_all)
        wait_for("the policy as it was", is_right)

        def told() -> list[str]:
            return [event for event in self.events() if event.startswith("RouterChanged")]

        wait_for("an event for each", lambda: len(told()) >= 2, 30)
        self.assertEqual(len(told()), 2, told())
        for kind, name in names[1:]:
            kubectl("delete", kind, "-n", self.namespace, name)
        kubectl("label", "deployment", "-n", self.namespace, "millrace-router", "millrace.dev/router-")
        wait_for("everything of the routers", is_right)
        for change in (["delete"], ["patch", "--type=merge", "-p", json.dumps({"data": {"routes.json": "{}"}})]):
            kubectl(change[0], "configmap", "-n", self.namespace, "millrace-routes", *change[1:])
            wait_for(f"the routes after {change[0]}", is_right)
        for version, name in ((1, "z"), (2, "a")):
            self.answers(version, name, seconds=1)

    def test_a_server_with_a_gpu_is_the_one_for_cuda_and_waits_with_the_schedulers_words(self):
        # A slice of one, which no other test offers: no node has any, so the image is not pulled.
        gpu = "nvidia.com/mig-1g.5gb"
        self.register(1)
        self.serve(1, server={"resources": {"limits": {gpu: "1"}}})

        def told() -> bool:
            return f"Insufficient {gpu}" in condition(self.get("modeldeployment", "m"), "Ready").get("message", "")

        wait_for("the scheduler's words", told)
        main = self.get("pods", selector="millrace.dev/revision")["items"][0]["spec"]["containers"][0]
        self.assertIn("/server-cuda:", main["image"])
        self.assertIn("--device=gpu", main["args"])

    def test_scale_is_a_subresource(self):
        self.register(1)
        self.serve(1)
        self.wait_served(1)
        kubectl("scale", "modeldeployment", "-n", self.namespace, "m", "--replicas=2")
        wait_for("two pods", lambda: self.get("modeldeployment", "m")["status"]["replicas"] == 2)
        pods = self.get("pods", selector=self.get("modeldeployment", "m")["status"]["selector"])["items"]
        self.assertEqual(len(pods), 2)
