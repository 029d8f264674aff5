"""The payload log: requests and answers at a sink, which is a small HTTP server of these tests."""

import http.client
import http.server
import json
import os
import threading
import time
import urllib.request

from harness import Refused, condition, wait_for
from models import REQUEST, ModelTest


class Sink:
    """Takes CloudEvents, and answers what `status` says."""

    def __init__(self):
        self.status = 202
        self.posts: list[tuple[str, list[dict]]] = []
        self.lock = threading.Lock()
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with outer.lock:
                    status = outer.status
                    if status < 300:
                        outer.posts.append((self.headers["content-type"], body if isinstance(body, list) else [body]))
                self.send_response(status)
                self.send_header("content-length", "0")
                self.end_headers()

            def log_message(self, *_):
                pass

        # The address by which pods reach this machine.
        self.server = http.server.ThreadingHTTPServer((os.environ["MILLRACE_CLUSTER_HOST"], 0), Handler)
        self.server.daemon_threads = True
        host, port = self.server.server_address[:2]
        self.address = f"http://{host}:{port}/events"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def events(self) -> list[dict]:
        with self.lock:
            return [event for _, events in self.posts for event in events]

    def kinds(self) -> set[str]:
        with self.lock:
            return {kind for kind, _ in self.posts}

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class PayloadLog(ModelTest):
    def setUp(self):
        super().setUp()
        self.sink = Sink()
        self.addCleanup(self.sink.stop)

    def log(self, **log) -> dict:
        sink = {"address": self.sink.address, **log.pop("sink", {})}
        return {"monitoring": {"log": {"sampling": 1, "sink": sink, **log}}}

    def ask(self, times: int = 1, **headers: str) -> None:
        address = self.get("service", "m")["spec"]["clusterIP"]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        names = {"content-type": "application/json", **{name.replace("_", "-"): value for name, value in headers.items()}}
        for _ in range(times):
            request = urllib.request.Request(f"http://{address}/v2/models/m/infer?key=s3cret", REQUEST, names)
            with opener.open(request, timeout=30) as response:
                self.assertEqual(response.status, 200)

    def logged(self, status: str, reason: str, seconds: float = 120) -> dict:
        def turned():
            deployment = self.get("modeldeployment", "m")
            found = condition(deployment, "PayloadLogged")
            return deployment if (found.get("status"), found.get("reason")) == (status, reason) else None

        return wait_for(f"PayloadLogged={status} {reason}", turned, seconds)

    def begun(self) -> None:
        """Whichever router is asked logs it: one that says so is not yet both."""
        self.logged("True", "Delivering")

        def both():
            found = self.counted("delivered")
            return len(found) == 2 and None not in found

        wait_for("both routers have the log in their routes", both)

    def first(self, **spec) -> None:
        self.register(1)
        self.serve(1, **spec)
        self.wait_served(1)

    def test_a_request_and_its_answer_come_to_the_sink_without_anything_secret(self):
        self.first(**self.log())
        self.begun()
        self.ask(authorization="Bearer s3cret", cookie="a=s3cret", x_api_key="s3cret", x_request_id="mine-1")
        wait_for("two events", lambda: len(self.sink.events()) == 2, 30)
        asked, answer = sorted(self.sink.events(), key=lambda event: event["type"])
        self.assertNotIn("s3cret", json.dumps([asked, answer]))
        self.assertEqual(
            (asked["type"], answer["type"]), ("dev.millrace.inference.request", "dev.millrace.inference.response")
        )
        revision = self.get("modeldeployment", "m")["status"]["servedRevision"]
        for event in (asked, answer):
            said = {
                "specversion": "1.0",
                "source": f"/namespaces/{self.namespace}/modeldeployments/m",
                "subject": "/v2/models/m/infer",
                "requestid": asked["requestid"],
                "callerid": "mine-1",
                "model": "m",
                "modelversion": 1,
                "revision": revision,
                "datacontenttype": "application/json",
            }
            self.assertEqual({name: event.get(name) for name in said}, said)
        self.assertNotEqual(asked["id"], answer["id"])
        self.assertEqual(asked["data"], json.loads(REQUEST))
        self.assertEqual((answer["statuscode"], answer["data"]["model_name"]), (200, "m"))
        self.assertEqual(self.sink.kinds(), {"application/cloudevents+json"})

    def test_it_changes_without_another_pod_and_says_of_what_version_answers_are(self):
        self.register(2)
        self.first()
        pods = {pod["metadata"]["uid"] for pod in self.ready("millrace.dev/revision")}
        self.assertFalse(condition(self.get("modeldeployment", "m"), "PayloadLogged"))
        self.ask(3)
        self.serve(1, **self.log(sink={"mode": "Batched"}, maxBodyBytes=16))
        self.begun()
        self.ask(5)
        wait_for("ten events", lambda: len(self.sink.events()) == 10, 30)
        self.assertEqual(self.sink.kinds(), {"application/cloudevents-batch+json"})
        asked = next(event for event in self.sink.events() if event["type"].endswith("request"))
        self.assertEqual((asked["dataomitted"], asked["datalength"]), ("TooLong", len(REQUEST)))
        self.assertNotIn("data", asked)
        self.assertEqual(pods, {pod["metadata"]["uid"] for pod in self.ready("millrace.dev/revision")})
        self.serve(2, **self.log())
        self.wait_served(2)
        self.ask()
        wait_for("an answer of version 2", lambda: any(event.get("modelversion") == 2 for event in self.sink.events()), 30)
        self.serve(2)
        wait_for("nothing is said any more", lambda: not condition(self.get("modeldeployment", "m"), "PayloadLogged"))
        self.assertNotIn("log", self.get("modeldeployment", "m")["status"])

    def test_a_sink_that_refuses_slows_nobody_and_is_told_of_with_what_was_lost(self):
        self.first(**self.log())
        self.begun()
        self.sink.status = 403
        # The condition turns 15 seconds after it was written at the earliest.
        began = time.monotonic()
        self.ask(20)
        self.assertLess(time.monotonic() - began, 20)
        told = self.logged("False", "SinkFailed")
        self.assertIn(f"{self.sink.address}: the sink answers 403", condition(told, "PayloadLogged")["message"])
        self.assertEqual(condition(told, "Ready")["status"], "True")
        self.assertGreaterEqual(told["status"]["log"]["failed"], 1)
        wait_for("an event", lambda: any(event.startswith("SinkFailed: events are lost") for event in self.events()), 30)
        self.sink.status = 202
        # Each router has to have delivered something, and it turns back a minute later at the earliest.
        self.ask(40)
        self.logged("True", "Delivering", 180)
        self.assertEqual(self.lost("failed"), self.get("modeldeployment", "m")["status"]["log"]["failed"])

    def lost(self, result: str) -> int:
        """What the routers' metrics say of all of them."""
        return sum(count or 0 for count in self.counted(result))

    def counted(self, result: str) -> list[int | None]:
        """What each router's metrics say; None of one whose routes have no log of the model."""
        series = f'millrace_router_log_events_total{{model="m",result="{result}"}} '
        found = []
        for pod in self.routers():
            connection = http.client.HTTPConnection(pod["status"]["podIP"], 9090, timeout=10)
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            connection.close()
            counts = [int(line.removeprefix(series)) for line in text.splitlines() if line.startswith(series)]
            found.append(counts[0] if counts else None)
        return found

    def test_what_cannot_be_a_sink_is_refused_with_what_to_write(self):
        self.register(1)
        for sink, words in [
            ({"address": "http://user:word@sink"}, "neither user nor password"),
            ({"address": "https://sink"}, "https needs caConfigMap"),
            ({"address": "http://sink", "tokenSecret": {"name": "t", "key": "k"}}, "tokenSecret needs"),
        ]:
            with self.assertRaises(Refused) as refused:
                self.serve(1, **self.log(sink=sink))
            self.assertIn(words, str(refused.exception))
        self.serve(1, **self.log(sink={"address": "http://sink:70000"}))
        wait_for("it is refused", lambda: condition(self.get("modeldeployment", "m"), "Accepted").get("status") == "False")
        self.assertIn("spec.monitoring.log.sink.address", condition(self.get("modeldeployment", "m"), "Accepted")["message"])
