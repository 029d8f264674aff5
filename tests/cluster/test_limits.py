"""What a ModelDeployment says of waiting and answering: requests at a time at a pod, the queue before it, times, and how long a body may be."""

import http.client
import json
import time
from concurrent.futures import Future, ThreadPoolExecutor

from harness import condition, kubectl, wait_for
from models import REQUEST, ModelTest, any_server

# It works for as long as the path says, in seconds, and counts the requests that it has at a time. `/most` says how many those were at most.
SERVER = """
import threading, time

lock, now, most = threading.Lock(), 0, 0

class Handler(Answers):
    def do_GET(self):
        global now, most
        if self.path == "/ready":
            return self.answer({})
        if self.path == "/most":
            return self.answer({"most": most})
        with lock:
            now += 1
            most = max(most, now)
        time.sleep(float(self.path.removeprefix("/slow/")))
        with lock:
            now -= 1
        self.answer({})

    def do_POST(self):
        self.answer({"bytes": len(self.asked())})
"""
AT_ONCE = 12


class Limits(ModelTest):
    def setUp(self):
        super().setUp()
        self.register(1)

    def set(self, server: dict | None = None, **spec) -> None:
        """Version 1 is served by the server above, with these settings beside."""
        self.serve(1, server=any_server(SERVER, **(server or {})), **spec)

    def model(self) -> dict:
        return self.get("modeldeployment", "m")

    def served(self) -> None:
        self.wait_served(1)
        wait_for("two routers", lambda: len(self.routers()) == 2)
        wait_for("both of them behind the Service", lambda: len(self.behind()) == 2)
        self.address = self.get("service", "m")["spec"]["clusterIP"]
        # The routers learn of each other by the Service's EndpointSlice.
        time.sleep(2)

    def behind(self) -> dict[str, dict]:
        """The addresses that the model's Service leads to."""
        slices = self.get("endpointslices", selector="kubernetes.io/service-name=m")["items"]
        return {e["addresses"][0]: e for s in slices for e in s.get("endpoints") or [] if e["conditions"].get("ready")}

    def routed(self, right) -> None:
        """The routes say so, and every router has had the time to read them."""

        def said() -> bool:
            return right(json.loads(self.get("configmap", "millrace-routes")["data"]["routes.json"])["models"][0])

        wait_for("the routes", said)
        time.sleep(3)

    def send(self, method: str, path: str, body: bytes | None = None) -> http.client.HTTPResponse:
        """On a connection of its own, so that both routers are asked. Its body is `text`."""
        connection = http.client.HTTPConnection(self.address, timeout=90)
        try:
            connection.request(method, path, body, {"content-type": "application/json"} if body else {})
            answer = connection.getresponse()
            answer.text = answer.read().decode()
        finally:
            connection.close()
        return answer

    def announce(self, length: int) -> http.client.HTTPResponse:
        """A body of this length is said to come, and only its beginning does. Who is to wait for it would wait for ever."""
        connection = http.client.HTTPConnection(self.address, timeout=20)
        try:
            connection.putrequest("POST", "/v2/models/m/infer")
            connection.putheader("content-type", "application/json")
            connection.putheader("content-length", str(length))
            connection.endheaders(REQUEST[:16])
            answer = connection.getresponse()
            answer.text = answer.read().decode()
        finally:
            connection.close()
        return answer

    def many(self, threads: ThreadPoolExecutor, count: int, path: str) -> list[Future]:
        return [threads.submit(self.send, "GET", path) for _ in range(count)]

    def test_a_pod_has_so_many_requests_at_a_time_whichever_router_they_come_by_and_the_others_wait(self):
        self.set({"concurrency": 1})
        self.served()
        revision = self.model()["status"]["servedRevision"]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            began = time.monotonic()
            answers = [asked.result() for asked in self.many(threads, AT_ONCE, "/slow/0.5")]
            took = time.monotonic() - began
        self.assertEqual([answer.status for answer in answers], [200] * AT_ONCE)
        self.assertGreater(took, AT_ONCE * 0.5, "one after the other")
        self.assertEqual(json.loads(self.send("GET", "/most").text), {"most": 1})

        # More of them at a time: for the routers alone, and at once.
        self.set({"concurrency": 4})
        self.routed(lambda model: [r.get("concurrency") for r in model["revisions"]] == [4])
        with ThreadPoolExecutor(AT_ONCE) as threads:
            answers = [asked.result() for asked in self.many(threads, AT_ONCE, "/slow/1")]
        self.assertEqual([answer.status for answer in answers], [200] * AT_ONCE)
        self.assertEqual(json.loads(self.send("GET", "/most").text), {"most": 4})
        self.assertEqual(self.model()["status"]["servedRevision"], revision)
        self.assertEqual(len(self.get("deployments", selector="millrace.dev/revision")["items"]), 1)

    def test_a_full_queue_is_answered_503_and_who_waits_too_long_504(self):
        self.set({"concurrency": 1}, routing={"queue": {"max": 2, "timeout": "15s"}})
        self.served()
        with ThreadPoolExecutor(AT_ONCE) as threads:
            first = self.many(threads, 1, "/slow/30")
            wait_for("one at the pod", lambda: self.in_flight() == (1, 0), 10, 0.1)
            waiting = self.many(threads, 2, "/slow/0")
            wait_for("two that wait", lambda: self.in_flight()[1] == 2, 10, 0.1)
            for _ in range(4):
                full = self.send("GET", "/slow/0")
                self.assertEqual((full.status, full.getheader("retry-after")), (503, "1"), full.text)
                self.assertIn("too many requests wait for this model", full.text)
            for late in (asked.result() for asked in waiting):
                self.assertEqual(late.status, 504, late.text)
                self.assertIn("no pod of this model was free in time", late.text)
            self.assertEqual(first[0].result().status, 200)
        self.assertEqual(self.send("GET", "/slow/0").status, 200)

    def in_flight(self) -> tuple[int, int]:
        """Requests at both routers that are at the pod, and those that wait."""
        revision = self.model()["status"]["servedRevision"]
        all_of_them = waiting = 0
        for router in self.routers():
            name = router["metadata"]["name"]
            path = f"/api/v1/namespaces/{self.namespace}/pods/{name}:9090/proxy/stats"
            stats = json.loads(kubectl("get", "--raw", path))["models"]["m"]["revisions"][revision]
            all_of_them += stats["inFlight"]
            waiting += stats["queued"]
        return all_of_them - waiting, waiting

    def test_an_answer_that_takes_too_long_is_given_up_and_a_longer_time_is_another_revision(self):
        self.set({"timeout": "2s"})
        self.served()
        revision = self.model()["status"]["servedRevision"]
        self.assertEqual(self.send("GET", "/slow/0").status, 200)
        late = self.send("GET", "/slow/20")
        self.assertEqual(late.status, 504, late.text)
        self.assertIn("did not begin to answer in time", late.text)
        # The routers keep it: no pod is made anew.
        self.set({"timeout": "25s"})
        self.routed(lambda model: model["limits"].get("answerMs") == 25_000)
        self.assertEqual(self.send("GET", "/slow/4").status, 200)
        self.assertEqual(self.model()["status"]["servedRevision"], revision)
        # A pod that ends must have as much time: that is in the pod.
        self.set({"timeout": "2m"})
        wait_for("another revision", lambda: self.model()["status"]["servedRevision"] != revision)
        self.served()
        template = self.get("deployment", self.model()["status"]["servedRevision"])["spec"]["template"]
        self.assertEqual(template["spec"]["terminationGracePeriodSeconds"], 150)

    def test_a_long_body_passes_millraces_own_server_where_it_may(self):
        # Some 9.6 MB, as 16 images have them.
        rows = 16 * 3 * 224 * 224 // 16
        inputs = [
            {"name": "mass", "datatype": "FP32", "shape": [rows, 1], "data": [1.25] * rows},
            {"name": "sex", "datatype": "BYTES", "shape": [rows, 1], "data": ["male"] * rows},
        ]
        body = json.dumps({"inputs": inputs}).encode().ljust(9_633_792)
        self.serve(1)
        self.served()
        refused = self.announce(len(body))
        self.assertEqual(refused.status, 413, refused.text)
        self.assertIn("security.maxBodyBytes of a ModelDeployment", refused.text)
        server = {"timeout": "90s", "threads": 2, "batching": {"maxDelay": "1ms"}}
        self.serve(1, server=server, security={"maxBodyBytes": 16 << 20})
        revision = self.model()["status"]["servedRevision"]
        wait_for("another revision", lambda: self.model()["status"]["servedRevision"] != revision)
        self.served()
        answer = self.send("POST", "/v2/models/m/infer", body)
        self.assertEqual(answer.status, 200, answer.text[:500])
        self.assertEqual(json.loads(answer.text)["outputs"][0]["shape"][0], rows)
        # Past that the router refuses, before a byte comes to a pod.
        refused = self.announce((16 << 20) + 1)
        self.assertEqual(refused.status, 413)
        self.assertIn("longer than this model takes", refused.text)

    def test_a_server_that_does_not_start_in_its_time_is_told_of_and_begins_anew(self):
        self.serve(1, server=any_server("import time; time.sleep(3600)", startupTimeout="20s", terminationGracePeriod="2s"))
        ready = {}

        def told() -> bool:
            ready.update(condition(self.model(), "Ready"))
            return "does not say that it can serve: kubectl logs" in ready.get("message", "")

        wait_for("the words on a server that starts", told, 60, 0.2)
        self.assertEqual(ready["status"], "False")

        def restarted() -> bool:
            pods = self.get("pods", selector="millrace.dev/revision")["items"]
            return any(s["restartCount"] > 0 for p in pods for s in p["status"].get("containerStatuses", []))

        wait_for("a container that was restarted", restarted, 60)

    def test_what_does_not_fit_together_is_refused_with_what_to_write(self):
        self.set({"timeout": "2m", "terminationGracePeriod": "1m"})

        def told() -> bool:
            accepted = condition(self.model(), "Accepted")
            return accepted.get("status") == "False" and "write 125s or more, or leave it out" in accepted["message"]

        wait_for("the refusal", told)
