"""The payload log: requests and answers at a sink, which is a small HTTP server of these tests, and in a table in an S3 server."""

import http.client
import http.server
import json
import os
import threading
import time
import urllib.request

from harness import Refused, condition, kubectl, resource, wait_for
from models import REQUEST, ModelTest
from objects import ACCOUNT, RIGHT, S3Test


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


class Logged(ModelTest):
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
        wait_for("both routers have the log in their routes", self.both_count)

    def both_count(self) -> bool:
        found = self.counted("delivered")
        return len(found) == 2 and None not in found

    def sum(self, result: str) -> int:
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

    def first(self, **spec) -> None:
        self.register(1)
        self.serve(1, **spec)
        self.wait_served(1)


class PayloadLog(Logged):
    def setUp(self):
        super().setUp()
        self.sink = Sink()
        self.addCleanup(self.sink.stop)

    def log(self, **log) -> dict:
        sink = {"address": self.sink.address, **log.pop("sink", {})}
        return {"monitoring": {"log": {"sampling": 1, "sink": sink, **log}}}

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
        self.assertEqual(self.sum("failed"), self.get("modeldeployment", "m")["status"]["log"]["failed"])

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


class PayloadTable(Logged, S3Test):
    def setUp(self):
        super().setUp()
        self.endpoint = S3Test.serve(self, {"other/readme": "a bucket"})
        self.secret(RIGHT)

    def secret(self, key: str) -> None:
        data = {"AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": key}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": data})

    def log(self, **table) -> dict:
        access = {"endpoint": self.endpoint, "region": "us-east-1", "secretRef": {"name": "keys"}}
        table = {"uri": "s3://lake/requests", "access": access, "interval": "5s", **table}
        return {"monitoring": {"log": {"sampling": 1, "table": table}}}

    def writer(self) -> dict:
        return self.get("deployments", selector="millrace.dev/payload-log=m")["items"]

    def test_requests_and_answers_become_rows_that_a_pipeline_reads(self):
        self.first(**self.log())
        # The bucket is not there: that is told in the words of whoever tried, and nobody waits for it.
        wait_for("the pod that writes the table", lambda: self.writer() and self.writer()[0]["status"].get("readyReplicas") == 1)
        wait_for("both routers have the log in their routes", self.both_count)
        self.ask(2)
        told = self.logged("False", "SinkFailed")
        self.assertIn("s3://lake/requests", condition(told, "PayloadLogged")["message"])
        self.assertEqual(condition(told, "Ready")["status"], "True")

        (self.objects / "lake").mkdir()
        before = self.sum("delivered")

        def taken() -> bool:
            self.ask()
            return self.sum("delivered") > before

        wait_for("an event that is taken", taken, 120)
        self.ask(20)
        delivered = wait_for("all are taken", lambda: self.settled("delivered"), 60)
        self.claim()
        requests = {"table": {"uri": "s3://lake/requests", "timeColumn": "time", "access": self.log()["monitoring"]["log"]["table"]["access"]}, "window": "1h"}
        expectations = [
            # An event whose answer came late was sent again.
            {"rows": {"min": delivered}},
            {"column": "modeldeployment", "allowed": ["m"]},
            # Of a request there is none.
            {"column": "statuscode", "maxNullFraction": 0.5},
        ]

        def read() -> bool:
            name = f"r-{time.monotonic_ns()}"
            stages = {"check": {"uses": "validate", "inputs": {"data": requests}, "with": {"expectations": expectations}}}
            self.apply(resource("MLPipelineRun", name, {"pipeline": {"stages": stages, "store": {"pvc": {"claimName": "artifacts"}}}}))
            return condition({"status": self.finished(name, 200)}, "Succeeded")["status"] == "True"

        # Rows wait for an interval.
        wait_for("every event that was taken is a row, once", read, 240)
        told = kubectl("get", "modeldeployments,deployments,pods,configmaps,events", "-n", self.namespace, "-o", "json")
        self.assertNotIn(RIGHT, told)

        self.serve(1)
        what = "deployments,services"
        wait_for("what wrote the table is gone", lambda: self.get(what, selector="millrace.dev/payload-log=m")["items"] == [])
        self.ask()

    def settled(self, result: str) -> int:
        """A count that has not changed for a while."""
        before = self.sum(result)
        time.sleep(3)
        return before if before == self.sum(result) else 0

    def test_what_cannot_be_a_table_is_refused_with_what_to_write(self):
        self.register(1)
        both = self.log()
        both["monitoring"]["log"]["sink"] = {"address": "http://sink"}
        neither = {"monitoring": {"log": {"sampling": 1}}}
        claim = self.log(uri="pvc://lake/x")
        for spec, words in [(both, "exactly one of sink and table"), (neither, "exactly one of sink and table"), (claim, "a claim needs no access")]:
            with self.assertRaises(Refused) as refused:
                self.serve(1, **spec)
            self.assertIn(words, str(refused.exception))
        self.serve(1, **self.log(interval="1s"))
        wait_for("it is refused", lambda: condition(self.get("modeldeployment", "m"), "Accepted").get("status") == "False")
        self.assertIn("spec.monitoring.log.table.interval", condition(self.get("modeldeployment", "m"), "Accepted")["message"])
        self.assertEqual(self.writer(), [])
