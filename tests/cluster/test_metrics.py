"""What pods and rollouts follow beside the routers' own counts: answers of Prometheus, latency, and the processor.

Prometheus is a small server of these tests that speaks its HTTP API: its answers have to come when a test wants them. There is no metrics server in the
tests' cluster, so of `metric: CPU` the object, its owner and its words are shown, and no pods that follow it.
"""

import http.server
import json
import os
import threading
import urllib.parse

from harness import Refused, condition, kubectl, wait_for
from models import ModelTest
from test_scale import Holds


class Prometheus:
    """Answers every query with what `value` makes of it: a number, None for no sample, or an error of this text."""

    def __init__(self, value):
        self.value = value
        self.queries: list[str] = []
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                url = urllib.parse.urlsplit(self.path)
                query = urllib.parse.parse_qs(url.query).get("query", [""])[0]
                outer.queries.append(query)
                value = outer.value(query) if url.path == "/api/v1/query" else "not here"
                if isinstance(value, str):
                    return self.answer(503, {"status": "error", "errorType": "unavailable", "error": value})
                result = [] if value is None else [{"metric": {}, "value": [1435781451.781, str(value)]}]
                self.answer(200, {"status": "success", "data": {"resultType": "vector", "result": result}})

            def answer(self, code: int, body: dict) -> None:
                text = json.dumps(body).encode()
                self.send_response(code)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(text)))
                self.end_headers()
                self.wfile.write(text)

            def log_message(self, *_):
                pass

        # The address by which pods reach this machine.
        self.server = http.server.ThreadingHTTPServer((os.environ["MILLRACE_CLUSTER_HOST"], 0), Handler)
        host, port = self.server.server_address[:2]
        self.address = f"http://{host}:{port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Metrics(ModelTest):
    def prometheus(self, value) -> Prometheus:
        server = Prometheus(value)
        self.addCleanup(server.stop)
        return server

    def model(self) -> dict:
        return self.get("modeldeployment", "m")

    def wanted(self) -> int:
        return self.get("deployment", self.model()["status"]["stableRevision"])["spec"]["replicas"]

    def scaled(self, to: int, seconds: float = 120) -> None:
        try:
            wait_for(f"{to} replicas", lambda: self.wanted() == to, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.model()['status'], indent=1)}\n{self.events()}") from None

    def reason(self, kind: str) -> tuple[str, str]:
        found = condition(self.model(), kind)
        return found.get("status", ""), found.get("reason", "")

    def until(self, kind: str, status: str, reason: str, seconds: float = 120) -> str:
        """The message of the condition once it is so."""
        try:
            wait_for(f"{kind}={status} {reason}", lambda: self.reason(kind) == (status, reason), seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.model()['status'], indent=1)}\n{self.events()}") from None
        return condition(self.model(), kind)["message"]

    def first(self, **spec) -> None:
        self.register(1)
        self.serve(1, **spec)
        self.wait_served(1)

    def test_pods_follow_a_small_server_with_prometheus_api_and_stay_without_its_answer(self):
        said: dict = {"value": 0}
        prometheus = self.prometheus(lambda _: said["value"])
        asked = {"address": prometheus.address, "query": 'queue{of="$[[ deployment.name ]]", in="$[[ deployment.namespace ]]"}'}
        self.first(scale={"min": 0, "max": 3, "metric": "Prometheus", "target": 10, "toZeroAfter": "5s", "prometheus": asked})
        self.scaled(0)
        self.assertEqual(set(prometheus.queries), {f'queue{{of="m", in="{self.namespace}"}}'})
        said["value"] = 25
        self.scaled(3)
        self.assertEqual(self.until("ScalingActive", "True", "Prometheus"), "Prometheus 25.0 now, target 10: 3 pods")
        said["value"] = "out of order"
        told = self.until("ScalingActive", "False", "QueryFailed")
        self.assertIn("Prometheus answers 503: out of order", told)
        self.assertEqual(self.wanted(), 3)
        said["value"] = 0
        self.until("ScalingActive", "True", "Prometheus")
        self.scaled(0, 180)

    def rollout(self, prometheus: Prometheus, hold: str, **limit) -> dict:
        asked = {"address": prometheus.address, "query": 'cost{revision="$[[ revision ]]"}'}
        analysis = {"cost": {"prometheus": asked, **limit}}
        return {"strategy": "Canary", "steps": [{"weight": 20, "hold": hold}], "analysis": analysis}

    def test_a_canary_follows_what_a_small_server_with_prometheus_api_says_of_it(self):
        said: dict = {"new": 5}

        def value(query: str):
            old = self.old and f'"{self.old}"' in query
            return 1 if old else said["new"]

        self.old = ""
        prometheus = self.prometheus(value)
        self.register(2)
        self.first(rollout=self.rollout(prometheus, "10m", max=2))
        self.old = self.model()["status"]["servedRevision"]
        self.serve(2, rollout=self.rollout(prometheus, "10m", max=2))
        told = self.until("Ready", "False", "RolledBack")
        self.assertIn("cost: Prometheus says 5, more than max 2", told)
        status = self.model()["status"]["rollout"]
        self.assertEqual((status["rejected"]["reason"], status["analysis"][0]["verdict"]), ("AnalysisFailed", "Failed"))
        # It goes back, and comes again beside the promoted one, which is asked the same.
        said["new"] = 1.1
        ratio = self.rollout(prometheus, "15s", maxRatioToStable=1.2)
        self.serve(1, rollout=ratio)
        self.until("Ready", "True", "Serving")
        self.serve(2, rollout=ratio)
        wait_for("the canary's end", lambda: self.model()["status"].get("servedVersion") == 2, 180)
        self.wait_served(2)
        self.assertEqual([record["outcome"] for record in self.model()["status"]["history"]][0], "Promoted")
        self.assertIn(f'cost{{revision="{self.old}"}}', prometheus.queries)

    def test_answers_over_the_limit_are_let_pass_as_often_as_failure_limit_says(self):
        said: dict = {"value": 5}
        prometheus = self.prometheus(lambda _: said["value"])
        rollout = self.rollout(prometheus, "10m", max=2, failureLimit=2)
        self.register(2)
        self.first(rollout=rollout)
        self.serve(2, rollout=rollout)

        def analysis() -> dict:
            return next(iter(self.model()["status"].get("rollout", {}).get("analysis", [])), {})

        first = wait_for("the first", lambda: (seen := analysis()).get("failures") == 1 and seen)
        self.assertEqual(first["verdict"], "Passed")
        self.assertIn("Prometheus says 5, more than max 2; such answers in this step: 1, failureLimit: 2", first["message"])
        said["value"] = 1
        wait_for("one that holds", lambda: analysis().get("value") == 1)
        self.assertEqual(self.reason("Ready"), ("False", "RollingOut"))
        said["value"] = 5
        told = self.until("Ready", "False", "RolledBack")
        self.assertIn("such answers in this step: 3, failureLimit: 2", told)
        self.assertEqual(self.model()["status"]["rollout"]["analysis"][0]["failures"], 3)

    def test_a_small_server_with_prometheus_api_that_answers_nothing_five_times_ends_a_rollout(self):
        prometheus = self.prometheus(lambda _: "no")
        self.register(2)
        self.first(rollout=self.rollout(prometheus, "10m", max=2))
        self.serve(2, rollout=self.rollout(prometheus, "10m", max=2))
        told = self.until("Ready", "False", "RolledBack", 240)
        self.assertIn("cost: Prometheus gave no figure 5 times in a row: Prometheus answers 503: no", told)
        self.assertEqual(self.model()["status"]["rollout"]["rejected"]["reason"], "AnalysisError")

    def test_requests_that_take_too_long_bring_pods_but_not_more_than_there_are_requests(self):
        self.first(scale={"min": 1, "max": 8, "metric": "Latency", "percentile": "P90", "target": 1000})
        holds = Holds(self.get("service", "m")["spec"]["clusterIP"])
        try:
            # Each takes five seconds, however many pods there are.
            holds.hold(3)
            # On a busy machine one that ends and the next one of the same caller may be counted together. The figure alone asks for eight.
            wanted = wait_for("a pod for each", lambda: self.wanted() if self.wanted() >= 3 else None, 180)
            told = self.until("ScalingActive", "True", "Latency")
            self.assertRegex(told, r"^LatencyP90 [0-9]+ ms over 10 s, target 1000: [34] pods")
            wait_for("these pods", lambda: len(self.ready("millrace.dev/revision")) >= wanted)
        finally:
            holds.stop()
        self.assertEqual(holds.failures, [])

    def test_an_autoscaler_of_the_processor_is_made_put_right_and_taken_away_and_says_that_there_is_no_metrics_server(self):
        server = {"resources": {"requests": {"cpu": "20m", "memory": "32Mi"}}}
        self.first(server=server, scale={"min": 1, "max": 3, "metric": "CPU", "target": 70})
        made = self.get("hpa", "m")
        owner = made["metadata"]["ownerReferences"][0]
        self.assertEqual((owner["kind"], owner["name"], owner["uid"]), ("ModelDeployment", "m", self.model()["metadata"]["uid"]))
        spec = made["spec"]
        target = {"apiVersion": "apps/v1", "kind": "Deployment", "name": self.model()["status"]["servedRevision"]}
        self.assertEqual((spec["scaleTargetRef"], spec["minReplicas"], spec["maxReplicas"]), (target, 1, 3))
        self.assertEqual(spec["metrics"][0]["containerResource"]["target"]["averageUtilization"], 70)
        told = self.until("ScalingActive", "False", "AutoscalerFailed")
        self.assertRegex(told, r"^the HorizontalPodAutoscaler says FailedGet\w*Metric: ")
        self.assertEqual(self.reason("Ready"), ("True", "Serving"))
        kubectl("patch", "hpa", "m", "-n", self.namespace, "--type=merge", "-p", '{"spec": {"maxReplicas": 9}}')
        wait_for("it is put right", lambda: self.get("hpa", "m")["spec"]["maxReplicas"] == 3)
        # What another autoscaler would do: its number stays.
        kubectl("scale", f"deployment/{target['name']}", "-n", self.namespace, "--replicas=2")
        wait_for("two pods", lambda: self.model()["status"]["replicas"] == 2)
        self.serve(1, server=server, scale={"min": 1, "max": 3, "target": 100})
        self.until("ScalingActive", "True", "Concurrency")
        wait_for("no autoscaler", lambda: not self.get("hpa")["items"])

    def test_what_cannot_be_asked_is_refused_with_what_to_write(self):
        self.register(1)
        asked = {"address": "http://user:word@prometheus", "query": "up"}
        with self.assertRaises(Refused) as refused:
            self.serve(1, scale={"max": 2, "target": 1, "metric": "Prometheus", "prometheus": asked})
        self.assertIn("neither user nor password", str(refused.exception))
        asked = {"address": "http://prometheus", "query": "up{a=\"$[[ revison ]]\"}"}
        self.serve(1, scale={"max": 2, "target": 1, "metric": "Prometheus", "prometheus": asked})
        told = self.until("Accepted", "False", "InvalidExpression")
        self.assertIn("spec.scale.prometheus.query", told)
        self.serve(1, scale={"max": 2, "target": 50, "metric": "CPU"})
        told = self.until("Accepted", "False", "RequestMissing")
        self.assertIn("spec.server.resources.requests.cpu", told)
        self.assertEqual((self.get("hpa")["items"], self.get("deployments", selector="millrace.dev/revision")["items"]), ([], []))
