"""Scaling: to zero and back, with the load, by hand, and by somebody else's autoscaler."""

import http.client
import json
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from harness import Refused, advertise, condition, kubectl, wait_for
from models import RATE, REQUEST, Load, ModelTest

# Of one cold start on a busy machine.
START_SECONDS = 90
CYCLES = 5
AT_ONCE = 10


class Scaling(ModelTest):
    def serve_scaled(self, scale: dict, **spec) -> None:
        """Version 1 with this in `spec.scale`."""
        self.register(1)
        self.serve(1, scale=scale, **spec)
        self.wait_served(1)
        self.address = self.get("service", "m")["spec"]["clusterIP"]

    def model(self) -> dict:
        return self.get("modeldeployment", "m")

    def revision(self) -> str:
        return self.model()["status"]["servedRevision"]

    def wanted(self) -> int:
        """What the Deployment has in `spec.replicas`."""
        return self.get("deployment", self.revision())["spec"]["replicas"]

    def scaled(self, to: int, seconds: float = 90, every: float = 0.5) -> None:
        wait_for(f"{to} replicas", lambda: self.wanted() == to, seconds, every)

    def ask(self) -> tuple[int, str]:
        """One request on a connection of its own: status and `Server-Timing`, or what went wrong."""
        try:
            connection = http.client.HTTPConnection(self.address, timeout=START_SECONDS)
            connection.request("POST", "/v2/models/m/infer", REQUEST, {"content-type": "application/json"})
            answer = connection.getresponse()
            answer.read()
            connection.close()
            return answer.status, answer.getheader("server-timing", "")
        except (OSError, http.client.HTTPException) as error:
            return 0, repr(error)

    def reason(self, kind: str = "Ready") -> tuple[str, str]:
        found = condition(self.model(), kind)
        return found.get("status", ""), found.get("reason", "")

    def told(self, reason: str, words: str) -> None:
        wait_for(f"{reason} with {words}", lambda: any(e.startswith(reason) and words in e for e in self.events()))

    def test_at_zero_it_is_ready_and_the_first_request_starts_a_pod(self):
        self.serve_scaled({"min": 0, "toZeroAfter": "5s"})
        wait_for("zero", lambda: self.reason() == ("True", "AtZero"))
        self.assertEqual(self.wanted(), 0)
        wait_for("no pod", lambda: not self.get("pods", selector="millrace.dev/revision")["items"])
        wait_for("no pod in the status", lambda: self.model()["status"].get("replicas") == 0)
        self.assertEqual(self.model()["status"]["desiredReplicas"], 0)
        self.assertEqual(condition(self.model(), "ScalingActive")["message"], "no request for 5s: 0 pods")
        self.told("Scaled", "from 1 to 0")
        code, timing = self.ask()
        self.assertEqual(code, 200, timing)
        for span in ("queue", "scale", "schedule", "load"):
            self.assertIn(span, timing)
        wait_for("ready with a pod", lambda: self.reason() == ("True", "Serving"))
        self.told("Scaled", "from 0 to 1: a request came at zero")
        self.assertFalse([e for e in self.events() if e.startswith("ReplicasChanged")], self.events())

    def test_where_replicas_is_0_it_is_not_ready_and_routers_wait_for_the_slowest_request(self):
        self.serve_scaled({"replicas": 1}, routing={"queue": {"timeout": "2s"}})

        def drain() -> tuple[str, int]:
            pod = self.get("deployment", "millrace-router")["spec"]["template"]["spec"]
            (seconds,) = [a for a in pod["containers"][0]["args"] if a.startswith("--drain-seconds=")]
            return seconds, pod["terminationGracePeriodSeconds"]

        self.assertEqual(drain(), ("--drain-seconds=300", 320))
        kubectl("scale", "modeldeployment/m", "-n", self.namespace, "--replicas=0")
        wait_for("that nobody is answered", lambda: self.reason() == ("False", "ScaledToZero"))
        self.assertEqual((self.reason("Reconciling")[0], self.reason("Stalled")[0]), ("False", "False"))
        wait_for("no pod", lambda: not self.get("pods", selector="millrace.dev/revision")["items"])
        self.assertEqual(self.ask()[0], 504)
        # The longest wait of the namespace is above five minutes now.
        patch = json.dumps({"spec": {"routing": {"queue": {"timeout": "10m"}}}})
        kubectl("patch", "modeldeployment", "m", "-n", self.namespace, "--type=merge", "-p", patch)
        wait_for("a longer end of routers", lambda: drain() == ("--drain-seconds=900", 920))
        kubectl("scale", "modeldeployment/m", "-n", self.namespace, "--replicas=1")
        wait_for("Ready", lambda: self.reason() == ("True", "Serving"), START_SECONDS)
        wait_for("new routers", lambda: self.ask()[0] == 200, START_SECONDS)

    def test_requests_while_it_goes_to_zero_and_comes_back_are_all_answered(self):
        self.serve_scaled({"min": 0, "max": 2, "target": 4, "toZeroAfter": "5s"})
        lost = []
        for _ in range(CYCLES):
            self.scaled(0, every=0.05)
            # The pod that goes is still there.
            with ThreadPoolExecutor(AT_ONCE) as threads:
                answers = list(threads.map(lambda i: (time.sleep(i * 0.05), self.ask())[1], range(AT_ONCE)))
            lost += [answer for answer in answers if answer[0] != 200]
        self.assertEqual(lost, [])

    def test_pods_follow_the_load_up_and_later_down(self):
        self.serve_scaled({"min": 1, "max": 4, "target": 2})
        holds = Holds(self.address)
        try:
            holds.hold(5)
            self.scaled(3)
            told = condition(self.model(), "ScalingActive")
            self.assertEqual((told["status"], told["reason"]), ("True", "Concurrency"))
            self.assertRegex(told["message"], r"^Concurrency [0-9.]+ over [0-9]+ s, target 2: 3 pods$")
            holds.hold(20)
            self.scaled(4)
            wait_for("four pods", lambda: len(self.ready("millrace.dev/revision")) == 4)
            wait_for("ready", lambda: self.reason() == ("True", "Serving"))
        finally:
            holds.stop()
        self.assertEqual(holds.failures, [])
        lost = []

        def one_pod() -> bool:
            lost.extend(answer for answer in (self.ask() for _ in range(10)) if answer[0] != 200)
            return self.wanted() == 1 and len(self.get("pods", selector="millrace.dev/revision")["items"]) == 1

        wait_for("one pod", one_pod, 240)
        self.assertEqual(lost, [], "of a caller while pods went")
        self.told("Scaled", "at most in 60 s")

    def test_pods_follow_the_rate_of_requests(self):
        self.serve_scaled({"max": 2, "metric": "RequestRate", "target": RATE / 2.5})
        load = Load(self.address)
        load.start()
        try:
            self.scaled(2)
            self.assertEqual(self.reason("ScalingActive"), ("True", "RequestRate"))
            wait_for("two pods", lambda: len(self.ready("millrace.dev/revision")) == 2)
        finally:
            load.stop()
        self.assertEqual(load.failures, [])

    def test_a_version_that_comes_at_zero_answers_before_it_is_served(self):
        self.serve_scaled({"min": 0, "toZeroAfter": "5s"})
        old = self.revision()
        self.scaled(0)
        self.register(2)
        self.serve(2, scale={"min": 0, "toZeroAfter": "5s"})
        self.wait_served(2)
        self.assertNotEqual(self.revision(), old)
        self.told("VersionServed", "version 2")
        self.scaled(0)
        self.assertEqual(self.ask()[0], 200)

    def test_replicas_pins_the_number_and_what_is_set_at_the_deployment_is_put_back(self):
        self.serve_scaled({"min": 1, "max": 3, "target": 100})
        kubectl("scale", "modeldeployment/m", "-n", self.namespace, "--replicas=2")
        self.scaled(2)
        wait_for("the pin", lambda: self.reason("ScalingActive") == ("False", "Pinned"))
        kubectl("scale", f"deployment/{self.revision()}", "-n", self.namespace, "--replicas=5")
        self.scaled(2)
        self.told("ReplicasChanged", "to 5: it is put back to 2")
        kubectl("patch", "modeldeployment", "m", "-n", self.namespace, "--type=json", "-p", '[{"op":"remove","path":"/spec/scale/replicas"}]')
        wait_for("Millrace's own", lambda: self.reason("ScalingActive") == ("True", "Concurrency"))
        kubectl("scale", f"deployment/{self.revision()}", "-n", self.namespace, "--replicas=0")
        wait_for("pods again", lambda: self.wanted() >= 1)
        self.assertEqual(self.ask()[0], 200)

    def test_an_hpa_sets_the_number_where_the_metric_is_external(self):
        self.serve_scaled({"metric": "External", "replicas": 1})
        ours = self.model()["spec"]["scale"]
        target = {"apiVersion": "millrace.dev/v1alpha1", "kind": "ModelDeployment", "name": "m"}
        spec = {"scaleTargetRef": target, "minReplicas": 3, "maxReplicas": 4}
        self.apply({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": "m"}, "spec": spec})
        # Below its bounds it needs no metric.
        self.scaled(3)
        wait_for("what the HPA reads", lambda: self.get("hpa", "m")["status"].get("currentReplicas") == 3)
        self.assertEqual(self.model()["spec"]["scale"], {**ours, "replicas": 3})
        self.assertEqual(self.reason("ScalingActive"), ("False", "External"))
        kubectl("delete", "hpa", "-n", self.namespace, "m")
        # As KEDA does when there is nothing to do.
        patch = json.dumps({"spec": {"scale": {"replicas": 0, "toZeroAfter": "5s"}}})
        kubectl("patch", "modeldeployment", "m", "-n", self.namespace, "--type=merge", "-p", patch)
        self.scaled(0)
        self.assertEqual(self.ask()[0], 200)
        self.assertEqual(self.model()["spec"]["scale"]["replicas"], 0)

    def test_pods_that_wait_for_a_node_say_so_and_the_others_serve(self):
        advertise("example.com/gpu", "1")
        self.addCleanup(advertise, "example.com/gpu", None)
        server = {"resources": {"limits": {"example.com/gpu": "1"}}}
        self.serve_scaled({"min": 1, "max": 2, "target": 2}, server=server)
        holds = Holds(self.address)
        try:
            holds.hold(4)
            self.scaled(2)

            def told():
                ready = condition(self.model(), "Ready")
                return ready["status"] == "True" and ready["reason"] == "Scaling" and "Insufficient example.com/gpu" in ready["message"]

            wait_for("the scheduler's words", told)
        finally:
            holds.stop()
        self.assertEqual(holds.failures, [])

    def test_routers_may_scale_and_nothing_else_of_deployments(self):
        self.serve_scaled({"min": 0})

        def may(verb: str, what: str) -> bool:
            who = f"system:serviceaccount:{self.namespace}:millrace-router"
            asked = ["auth", "can-i", verb, *what.split(), "-n", self.namespace, f"--as={who}"]
            return kubectl(*asked, check=False).strip() == "yes"

        scale = "deployments.apps --subresource=scale"
        self.assertEqual([verb for verb in ("get", "update", "patch", "create") if may(verb, scale)], ["get", "update"])
        for verb in ("get", "list", "update", "patch", "create", "delete"):
            for what in ("deployments.apps", "pods", "secrets", "modeldeployments.millrace.dev"):
                self.assertFalse(may(verb, what), f"{verb} {what}")

    def test_one_that_follows_no_load_costs_no_write(self):
        self.serve_scaled({"min": 1, "max": 4, "target": 2})
        wait_for("two routers", lambda: len(self.routers()) == 2)
        time.sleep(6)
        quiet = time.time()
        time.sleep(30)
        self.assertEqual(self.written(quiet), [])

    def test_what_does_not_fit_together_is_refused_with_what_to_write(self):
        for scale, words in [
            ({"min": 3, "max": 2, "target": 1}, "min must not be above max"),
            ({"max": 3}, "max needs target"),
            ({"target": 3}, "target needs max"),
            ({"metric": "RequestRate"}, "metric needs max and target"),
            ({"metric": "External", "max": 2, "target": 1}, "not for metric: External"),
            ({"toZeroAfter": "5m"}, "toZeroAfter needs min: 0"),
            ({"min": 0, "max": 2, "target": 0}, "target must be 0.01 or more"),
        ]:
            with self.assertRaises(Refused, msg=scale) as refused:
                self.serve(1, scale=scale)
            self.assertIn(words, str(refused.exception))


class Holds:
    """So many requests in flight all the time: their bodies come slowly."""

    def __init__(self, address: str):
        self.address = address
        self.failures: list[str] = []
        self.stopped = threading.Event()
        self.threads: list[threading.Thread] = []

    def hold(self, count: int) -> None:
        for _ in range(count - len(self.threads)):
            self.threads.append(threading.Thread(target=self.worker))
            self.threads[-1].start()

    def worker(self) -> None:
        while not self.stopped.is_set():
            try:
                connection = http.client.HTTPConnection(self.address, timeout=START_SECONDS)
                connection.putrequest("POST", "/v2/models/m/infer")
                connection.putheader("content-type", "application/json")
                connection.putheader("content-length", str(len(REQUEST)))
                connection.endheaders()
                connection.send(REQUEST[:-1])
                self.stopped.wait(5)
                connection.send(REQUEST[-1:])
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    self.failures.append(f"{answer.status} {body[:200]!r}")
                connection.close()
            except (OSError, http.client.HTTPException) as error:
                self.failures.append(repr(error))

    def stop(self) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()
