"""New data at an address start runs: a real web server on this machine, and a claim that another run writes to."""

import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness import LOCAL, ClusterTest, condition, kubectl, script, wait_for

TOKEN = "Bearer d4ta-t0ken-5Kp8"


class Served(BaseHTTPRequestHandler):
    """Answers every request with the server's `says`: a status, and the ETag if there is one."""

    def answer(self) -> None:
        status, tag = self.server.says
        if status == 200 and self.headers.get("Authorization") != TOKEN:
            status = 401
        self.send_response(status)
        if tag:
            self.send_header("ETag", f'"{tag}"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET = answer

    def log_message(self, *_) -> None:
        pass


class DataTriggers(ClusterTest):
    def serve(self) -> ThreadingHTTPServer:
        server = ThreadingHTTPServer((os.environ["MILLRACE_CLUSTER_HOST"], 0), Served)
        server.says = (200, "v1")
        self.addCleanup(server.server_close)
        self.addCleanup(server.shutdown)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    def runs(self) -> list[dict]:
        runs = self.get("mlpipelinerun")["items"]
        return sorted((r for r in runs if "trigger" in r["spec"]), key=lambda run: run["metadata"]["creationTimestamp"])

    def versions(self) -> list[str]:
        return [run["spec"]["trigger"]["version"] for run in self.runs()]

    def lake(self) -> dict:
        return self.get("mlpipeline", "p").get("status", {}).get("triggers", {}).get("onData", {}).get("lake", {})

    def looks(self, kind: str = "pods") -> dict[str, str]:
        """What looks for data: names and uids."""
        things = [thing["metadata"] for thing in self.get(kind, selector="millrace.dev/trigger=lake")["items"]]
        return {thing["name"]: thing["uid"] for thing in things if "deletionTimestamp" not in thing}

    def ready(self) -> dict:
        return condition(self.get("mlpipeline", "p"), "TriggersReady")

    def test_each_new_version_at_a_web_server_starts_one_run_that_knows_it(self):
        if not LOCAL:
            self.skipTest("the pods of another cluster need not reach this machine")
        server = self.serve()
        host, port = server.server_address[:2]
        lake = {"uri": f"http://{host}:{port}/day.csv", "poll": "1s", "access": {"secretRef": {"name": "lake"}}}
        stages = {"a": script("echo $[[ run.dataVersion ]] by $[[ run.trigger ]]")}
        self.pipeline(stages, triggers={"onData": {"lake": lake}})
        # The Secret is not there yet: that is told, and nothing starts.
        wait_for("what the pod waits for", lambda: 'secret "lake" not found' in self.lake().get("message", ""))
        self.assertEqual((self.ready()["status"], condition(self.get("mlpipeline", "p"), "Ready")["status"]), ("False", "True"))
        secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "lake"}, "stringData": {"HTTP_AUTHORIZATION": TOKEN}}
        self.apply(secret)
        wait_for("what is there at first", lambda: self.lake().get("version") == "v1", 180)
        wait_for("that all is well", lambda: self.ready().get("status") == "True")
        self.assertEqual(self.runs(), [])

        server.says = (200, "v2")
        run = wait_for("a run", self.runs)[0]
        name = run["metadata"]["name"]
        self.assertEqual((run["spec"]["trigger"]["kind"], run["spec"]["trigger"]["version"]), ("Data", "v2"))
        self.succeeded(name)
        said = kubectl("logs", "-n", self.namespace, "-l", f"millrace.dev/run={name}", "--tail=-1")
        self.assertEqual(said.strip(), "v2 by Data")
        wait_for("its status", lambda: (self.lake().get("version"), self.lake().get("lastRun")) == ("v2", name))

        # Whoever deletes the pod or its Job costs one more look.
        for kind in ("pods", "jobs"):
            before = wait_for(f"one of {kind}", lambda kind=kind: self.looks(kind))
            for gone in before:
                kubectl("delete", kind, gone, "-n", self.namespace, "--wait=false", "--ignore-not-found")
            old = set(before.values())
            wait_for(f"another one of {kind}", lambda kind=kind, old=old: set(self.looks(kind).values()) - old)
        server.says = (200, "v3")
        wait_for("the next run", lambda: self.versions() == ["v2", "v3"])

        # A server that refuses is told, and starts nothing.
        server.says = (403, None)
        wait_for("the refusal", lambda: self.lake().get("error", {}).get("reason") == "Refused")
        self.assertIn("403 Forbidden", self.lake()["error"]["message"])
        wait_for("the condition", lambda: self.ready()["status"] == "False")
        wait_for("its event", lambda: any(e.startswith("TriggerBlocked: onData.lake: Refused") for e in self.events()))
        server.says = (200, "v4")
        wait_for("the run after it", lambda: self.versions() == ["v2", "v3", "v4"], 120)
        wait_for("the end of the error", lambda: "error" not in self.lake())

        told = kubectl("get", "mlpipelines,mlpipelineruns,jobs,pods,events", "-n", self.namespace, "-o", "json")
        self.assertNotIn(TOKEN.split()[1], told)

        # Suspended, nobody looks; what comes meanwhile is new afterwards.
        self.pipeline(stages, triggers={"onData": {"lake": {**lake, "suspend": True}}})
        wait_for("nobody that looks", lambda: not self.looks("jobs") and not self.looks())
        server.says = (200, "v5")
        self.pipeline(stages, triggers={"onData": {"lake": lake}})
        wait_for("what came meanwhile", lambda: self.versions() == ["v2", "v3", "v4", "v5"])
        kubectl("delete", "mlpipeline", "p", "-n", self.namespace)
        wait_for("nothing that is left", lambda: not self.looks("jobs") and not self.looks())

    def test_files_that_arrive_on_a_claim_start_one_run_when_they_have_settled(self):
        self.claim("inbox")
        lake = {"uri": "pvc://inbox/day/", "poll": "1s", "settle": "5s"}
        self.pipeline({"a": script("true")}, triggers={"onData": {"lake": lake}})
        wait_for("a look", lambda: self.lake().get("observedTime"), 180)
        self.assertEqual((self.lake()["found"], "version" in self.lake()), ("nothing is there yet", False))
        inbox = {"inbox": {"claim": {"name": "inbox"}, "mountPath": "/inbox"}}
        writes = "mkdir -p /inbox/day\nfor n in 1 2 3; do echo $n > /inbox/day/$n.csv; done\necho x > /inbox/day/_SUCCESS"
        self.run_inline({"write": script(writes, volumes=inbox)}, name="writer")
        self.succeeded("writer")
        run = wait_for("a run", self.runs)[0]
        wait_for("what was found", lambda: self.lake().get("found") == "3 files, 6 bytes")
        self.assertEqual(self.versions(), [self.lake()["version"]])
        self.succeeded(run["metadata"]["name"])
        # It goes on to look, and finds nothing new.
        wait_for("the next pod", lambda: self.lake()["reports"] == 2 and self.looks())
        self.assertEqual(len(self.runs()), 1)

    def test_an_address_that_nobody_can_look_at_is_told_before_anything_is_made(self):
        data = {"lake": {"uri": "pvc://inbox/../etc", "poll": "100ms"}, "sea": {"uri": "s3://sea"}}
        self.pipeline({"a": script("true")}, triggers={"onData": data})
        accepted = wait_for("a verdict", lambda: condition(self.get("mlpipeline", "p"), "Accepted"))
        self.assertEqual(accepted["status"], "False")
        for words in ("spec.triggers.onData.lake.uri", "write at least 1s", "write s3://bucket/key"):
            self.assertIn(words, accepted["message"])
        self.assertEqual(self.looks("jobs"), {})
