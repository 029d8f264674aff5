"""Rollouts: shares, analyses and verdicts, with requests coming in all the while."""

import http.client
import json
import struct
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from harness import alone, condition, kill_operator, kubectl, resource, script, wait_for
from models import REQUEST, Load, ModelTest, any_server

# A model that no server reads.
TRAIN = """
mkdir -p "$MILLRACE_OUTPUT_MODEL"
printf onnx > "$MILLRACE_OUTPUT_MODEL/model.onnx"
printf '{"task":"classification","inputs":[],"outputs":[]}' > "$MILLRACE_OUTPUT_MODEL/signature.json"
"""
CALLERS = 8
PAUSE = 0.02
# Any server: it answers as the Open Inference Protocol has it, with errors and pauses as it is told. Who asks says what came of it.
SERVER = """
import os, random, time

class Handler(Answers):
    def do_GET(self):
        self.answer({"files": sorted(os.listdir("/mnt/models"))}, 200 if self.path == "/ready" else 404)

    def do_POST(self):
        self.asked()
        time.sleep(float(os.environ.get("SLOW", 0)))
        failed = random.random() < float(os.environ.get("FAIL", 0))
        outputs = [{"name": "p", "datatype": "FP32", "shape": [1], "data": [float(os.environ.get("DATA", 1))]}]
        self.answer({"who": os.environ["WHO"], "outputs": outputs}, 500 if failed else 200)
"""


def infer_by_grpc(address: str) -> tuple[str, bytes]:
    """What REQUEST asks, as a message; the status and what comes back."""

    def field(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    def tensor(name: bytes, datatype: bytes, contents: bytes) -> bytes:
        return field(5, field(1, name) + field(2, datatype) + field(3, bytes([2, 1])) + field(5, contents))

    masses, sexes = field(6, struct.pack("<2f", 1.5, 9000)), field(8, b"male") + field(8, b"female")
    message = field(1, b"m") + tensor(b"mass", b"FP32", masses) + tensor(b"sex", b"BYTES", sexes)
    url = f"http://{address}/inference.GRPCInferenceService/ModelInfer"
    headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
    with tempfile.TemporaryDirectory() as scratch:
        head, body = Path(scratch) / "head", Path(scratch) / "body"
        arguments = ["curl", "-sS", "--noproxy", "*", "--http2-prior-knowledge", "--data-binary", "@-", "-D", head, "-o", body, *headers, url]
        subprocess.run(arguments, check=True, input=b"\0" + struct.pack(">I", len(message)) + message, timeout=30)
        found = dict(line.lower().split(": ", 1) for line in head.read_text().splitlines() if ": " in line)
        return found.get("grpc-status", ""), body.read_bytes()


class Callers:
    """Some 300 requests a second on kept connections; notes who answered, and what."""

    def __init__(self, address: str, headers: dict | None = None):
        self.address, self.headers = address, {"content-type": "application/json", **(headers or {})}
        # When, the status, who, and how long it took.
        self.answers: list[tuple[float, int, str, float]] = []
        self.broken: list[str] = []
        self.stopped = threading.Event()
        self.threads = [threading.Thread(target=self.call) for _ in range(CALLERS)]

    def __enter__(self) -> "Callers":
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join()

    def call(self) -> None:
        # Where a pod has to start first, the answer waits for it.
        connection = http.client.HTTPConnection(self.address, timeout=90)
        while not self.stopped.is_set():
            began = time.time()
            try:
                connection.request("POST", "/v2/models/m/infer", REQUEST, self.headers)
                answer = connection.getresponse()
                body = json.loads(answer.read())
                now = time.time()
                self.answers.append((now, answer.status, body.get("who", body.get("error", "?")), now - began))
            except (OSError, http.client.HTTPException) as error:
                self.broken.append(repr(error))
                connection.close()
            time.sleep(PAUSE)

    def of(self, who: str, since: float = 0) -> list[int]:
        return [status for at, status, name, _ in list(self.answers) if name == who and at >= since]


class Rollouts(ModelTest):
    def serve_any(self, who: str, rollout: dict, routing: dict | None = None, **env) -> None:
        """A revision of the server above that calls itself so."""
        self.serve(1, server=self.server(WHO=who, **env), rollout=rollout, **({"routing": routing} if routing else {}))

    def server(self, **env) -> dict:
        env = {name: {"value": str(value)} for name, value in env.items()}
        return any_server(SERVER, env=env, terminationGracePeriod="10s")

    def deploying(self, rollout: dict) -> None:
        """Versions come as pipelines set them."""
        spec = {"model": {"name": "m"}, "scale": {"replicas": 1}, "server": self.server(WHO="any"), "rollout": rollout}
        self.apply(resource("ModelDeployment", "m", spec))

    def train(self, run: str) -> None:
        """A run that registers another version and deploys it."""
        stages = {
            "train": script(TRAIN, outputs={"model": {"type": "model"}}),
            "register": {"register": {"model": "m", "from": "train.model"}},
            "deploy": {"deploy": {"modelDeployment": "m", "version": "register", "wait": "Promoted", "timeout": "10m"}},
        }
        self.run_inline(stages, run, store={"pvc": {"claimName": "artifacts"}})

    def model(self) -> dict:
        return self.get("modeldeployment", "m")

    def rollout(self) -> dict:
        return self.model()["status"].get("rollout", {})

    def reason(self) -> tuple[str, str]:
        found = condition(self.model(), "Ready")
        seen = found.get("observedGeneration") == self.model()["metadata"]["generation"]
        return (found.get("status", ""), found.get("reason", "")) if seen else ("", "")

    def until(self, status: str, reason: str, seconds: float = 150) -> None:
        try:
            wait_for(f"{status} {reason}", lambda: self.reason() == (status, reason), seconds, 0.2)
        except AssertionError as error:
            pods = [(p["metadata"]["name"], p["status"].get("phase"), p["status"].get("containerStatuses")) for p in self.get("pods")["items"]]
            raise AssertionError(f"{error}\n{json.dumps(self.model()['status'], indent=1)}\n{pods}\n{self.events()}") from None

    def first(self, rollout: dict, routing: dict | None = None) -> str:
        """Version 1 is served by the server above as `old`; its address."""
        self.register(1)
        self.serve_any("old", rollout, routing)
        self.until("True", "Serving")
        return self.get("service", "m")["spec"]["clusterIP"]

    def control(self, **what) -> None:
        patch = {"spec": {"control": {"revision": self.rollout()["revision"], **what}}}
        kubectl("patch", "modeldeployment", "m", "-n", self.namespace, "--type=merge", "-p", json.dumps(patch))

    def outcomes(self) -> list[str]:
        return [record["outcome"] for record in self.model()["status"]["history"]]

    def test_a_bad_canary_is_rolled_back_at_once_and_the_other_answers_go_on(self):
        rollout = {
            "strategy": "Canary",
            "steps": [{"weight": 20, "hold": "10m"}],
            "analysis": {"errors": {"metric": "ErrorRate", "max": 0.05, "minSamples": 100}},
        }
        address = self.first(rollout)
        before = self.get("pods", selector="millrace.dev/revision")["items"][0]["metadata"]["uid"]
        with Callers(address) as callers:
            self.serve_any("new", rollout, FAIL=0.3)
            self.until("False", "RolledBack")
            wait_for("no share", lambda: [r["weight"] for r in self.model()["status"]["revisions"]] == [100])
            back = time.time()
            time.sleep(2)
        self.assertEqual(callers.broken, [])
        self.assertEqual(callers.of("new", back + 1), [], "it has requests still")
        self.assertEqual({status for status in callers.of("old")}, {200})
        bad = callers.of("new")
        # What the routers had counted when it was seen, and what came in the second or two after that.
        self.assertGreaterEqual(len(bad), 100)
        self.assertGreater(bad.count(500), 5)
        moments = [at for at, _, who, _ in callers.answers if who == "new"]
        print(f"bad canary: {len(bad)} requests, {bad.count(500)} lost; {moments[-1] - moments[99]:.1f} s from the 100th to the last")
        status = self.model()["status"]
        self.assertEqual(condition(self.model(), "Stalled")["status"], "True")
        self.assertRegex(condition(self.model(), "Ready")["message"], r"errors: ErrorRate 0\.\d+ over \d+ requests, more than max 0\.05")
        self.assertEqual((self.outcomes()[0], status["rollout"]["rejected"]["reason"]), ("RolledBack", "AnalysisFailed"))
        pods = self.get("pods", selector="millrace.dev/revision")["items"]
        self.assertIn(before, [pod["metadata"]["uid"] for pod in pods], "the promoted one was touched")
        self.assertTrue(any(e.startswith("RolledBack") for e in self.events()), self.events())
        # What is asked for is what is served: well again.
        self.serve_any("old", rollout)
        self.until("True", "Serving")

    @alone
    def test_a_canary_is_promoted_under_load_while_operators_are_killed(self):
        rollout = {
            "strategy": "Canary",
            "steps": [{"weight": 10, "hold": "3s"}, {"weight": 50, "hold": "3s"}],
            "analysis": {"errors": {"metric": "ErrorRate", "max": 0.001, "minSamples": 20}},
        }
        for version in (1, 2):
            self.register(version)
        self.serve(1, rollout=rollout)
        self.wait_served(1)
        load = Load(self.get("service", "m")["spec"]["clusterIP"])
        load.start()
        seen = set()
        try:
            self.serve(2, rollout=rollout)
            for step in (1, 2):
                wait_for(f"step {step}", lambda: self.rollout().get("step") == step, 60, 0.2)
                seen.add(self.rollout().get("weight"))
                kill_operator()
            self.wait_served(2)
        finally:
            load.stop()
        self.assertEqual(load.failures, [])
        self.assertEqual((load.versions, seen), ({"1", "2"}, {10, 50}))
        self.assertEqual(self.outcomes(), ["Promoted", "Promoted"])
        self.assertNotIn("rollout", self.model()["status"])

    def test_a_shadow_that_disagrees_is_rolled_back_and_no_caller_has_seen_it(self):
        rollout = {
            "strategy": "Shadow",
            "steps": [{"hold": "10m"}],
            "analysis": {"same": {"metric": "Agreement", "min": 0.95, "minSamples": 50}},
        }
        address = self.first(rollout)
        with Callers(address) as callers:
            self.serve_any("new", rollout, DATA=2)
            self.until("False", "RolledBack")
        self.assertEqual((callers.broken, callers.of("new")), ([], []))
        self.assertIn("same: Agreement 0 over", condition(self.model(), "Ready")["message"])
        with Callers(address) as callers:
            self.serve_any("new", {**rollout, "steps": [{"hold": "2s"}]}, DATA=1.0000001)
            self.until("True", "Serving")
        self.assertEqual(callers.broken, [])

    def test_a_canary_whose_answers_to_copies_differ_is_rolled_back_and_one_that_agrees_is_promoted(self):
        same = {"same": {"metric": "Agreement", "min": 0.95, "minSamples": 50}}
        rollout = {"strategy": "Canary", "sample": 0.5, "steps": [{"weight": 20, "hold": "10m"}], "analysis": same}
        address = self.first(rollout)
        with Callers(address) as callers:
            self.serve_any("new", rollout, DATA=2)
            self.until("False", "RolledBack")
        self.assertEqual(callers.broken, [])
        self.assertTrue(callers.of("new"), "it had a share beside the copies")
        self.assertIn("same: Agreement 0 over", condition(self.model(), "Ready")["message"])
        # A tenth is copied where nothing is said: without fifty copies the first step would wait. The last one copies nothing.
        with Callers(address) as callers:
            steps = [{"weight": 20, "hold": "2s"}, {"weight": 100, "hold": "1s"}]
            self.serve_any("next", {"strategy": "Canary", "steps": steps, "analysis": same}, DATA=1.0000001)
            self.until("True", "Serving")
        self.assertEqual(callers.broken, [])
        self.assertTrue(callers.of("next"))

    def test_another_version_with_the_same_answers_agrees_in_bytes_and_over_grpc(self):
        self.register(1)
        self.register(2)
        rollout = {
            "strategy": "Shadow",
            "steps": [{"hold": "5s"}],
            "analysis": {"same": {"metric": "Agreement", "min": 1, "minSamples": 40}},
        }
        self.serve(1, rollout=rollout)
        self.wait_served(1)
        self.serve(2, rollout=rollout)
        self.until("False", "RollingOut")
        wait_for("the step", lambda: self.rollout().get("stepStartTime"), 90, 0.2)
        address = self.get("service", "m")["spec"]["clusterIP"]
        binary = json.dumps({**json.loads(REQUEST), "parameters": {"binary_data_output": True}})

        # A busy router leaves copies out, so that nobody knows how many requests are enough.
        def promoted() -> bool:
            connection = http.client.HTTPConnection(address, timeout=30)
            connection.request("POST", "/v2/models/m/infer", binary, {"content-type": "application/json"})
            answer = connection.getresponse()
            body = answer.read()
            length = int(answer.getheader("inference-header-content-length"))
            self.assertEqual(answer.status, 200)
            self.assertIn(json.loads(body[:length])["model_version"], ("1", "2"))
            self.assertGreater(len(body), length)
            connection.close()
            status, answer = infer_by_grpc(address)
            self.assertEqual(status, "0")
            # `model_version` is the field 2.
            self.assertRegex(answer, rb"\x12\x01[12]")
            return self.reason() == ("True", "Serving")

        wait_for("the promotion", promoted, 90)
        self.assertEqual((self.model()["status"]["servedVersion"], self.outcomes()), (2, ["Promoted", "Promoted"]))

    def test_a_deploy_stage_tells_what_becomes_of_its_version(self):
        # Nothing answers so fast: the second version is rolled back.
        fast = {"slow": {"metric": "LatencyP50", "max": 0.0001, "minSamples": 20}}
        self.deploying({"strategy": "Canary", "steps": [{"weight": 50, "hold": "10m"}], "analysis": fast})
        self.train("first")
        self.succeeded("first", 240)
        address = self.get("service", "m")["spec"]["clusterIP"]
        with Callers(address) as callers:
            self.train("second")
            stage = self.failed("second", 240)["stages"]["deploy"]
            self.assertEqual((stage["state"], stage["reason"]), ("Failed", "RolledBack"))
            said = r"version 2 was rolled back in step 1 of 1: slow: LatencyP50 [0-9.]+ ms over \d+ requests, more than max 0\.0001 ms"
            self.assertRegex(stage["message"], said)
            self.assertRegex(condition(self.run_of("second"), "Succeeded")["message"], said)

            # It waits for a person, who gives it up.
            self.deploying({"strategy": "Canary", "steps": [{"weight": 50, "pause": True}]})
            self.train("third")
            waits = self.waits_with("deploy", "it waits for a person (Approval: the step asks for approval)", "third", 180)
            self.assertEqual((waits["state"], waits["reason"]), ("Running", "RolloutPaused"))
            self.assertIn("gives up at", waits["message"])
            self.control(action="Abort")
            stage = self.failed("third")["stages"]["deploy"]
            self.assertEqual((stage["state"], stage["reason"]), ("Failed", "Aborted"))
            self.assertIn("version 3 was aborted in step 1 of 1: spec.control says so", stage["message"])

            # And one that a person approves.
            self.train("fourth")
            self.waits_with("deploy", "RolloutPaused", "fourth", 180)
            self.control(action="Approve", step=1)
            self.succeeded("fourth")
        self.assertEqual(self.model()["status"]["servedVersion"], 4)
        self.assertEqual(self.outcomes(), ["Promoted", "Aborted", "RolledBack", "Promoted"])
        self.assertEqual(callers.broken, [])

    def test_blue_and_green_with_a_header_an_approval_and_the_way_back(self):
        rollout = {"strategy": "BlueGreen", "steps": [{"pause": True}], "keepWarm": "10m"}
        routing = {"headers": {"next": {"header": "X-Model", "value": "next", "to": "Canary"}}}
        address = self.first(rollout, routing)
        with Callers(address) as callers:
            self.serve_any("new", rollout, routing)
            self.until("False", "RolloutPaused")
            self.assertIn("action Approve with step 1", condition(self.model(), "Ready")["message"])
            with Callers(address, {"x-model": "next"}) as preview:
                wait_for("the preview", lambda: preview.of("new"), 30)
            self.assertEqual(callers.of("new"), [])
            self.control(action="Approve", step=1)
            self.until("True", "Serving")
            served = time.time()
            wait_for("answers of it", lambda: callers.of("new"), 30)
            uid = self.get("deployment", self.model()["status"]["history"][1]["revision"])["metadata"]["uid"]
            self.serve_any("old", rollout, routing)
            self.until("True", "Serving")
            self.assertLess(time.time() - served, 60)
            back = self.get("deployment", self.model()["status"]["servedRevision"])["metadata"]["uid"]
        self.assertEqual((callers.broken, preview.broken), ([], []))
        self.assertEqual({status for _, status, _, _ in callers.answers}, {200})
        self.assertEqual((uid, self.outcomes()), (back, ["Promoted", "Promoted", "Promoted"]))

    def test_recreate_has_never_two_and_loses_no_request(self):
        rollout = {"strategy": "Recreate"}
        address = self.first(rollout)
        most = 0
        with Callers(address) as callers:
            self.serve_any("new", rollout)
            deadline = time.time() + 150
            while self.reason() != ("True", "Serving") and time.time() < deadline:
                pods = self.get("pods", selector="millrace.dev/revision")["items"]
                most = max(most, sum(pod["status"].get("phase") in ("Pending", "Running") for pod in pods))
            wait_for("answers of it", lambda: callers.of("new"), 30)
        self.assertEqual((most, callers.broken), (1, []))
        self.assertEqual({status for _, status, _, _ in callers.answers}, {200})

    def test_a_version_that_comes_in_the_middle_and_one_that_a_person_aborts(self):
        rollout = {"strategy": "Canary", "steps": [{"weight": 50, "pause": True}]}
        address = self.first(rollout)
        with Callers(address) as callers:
            self.serve_any("second", rollout)
            self.until("False", "RolloutPaused")
            wait_for("answers of it", lambda: callers.of("second"), 30)
            self.serve_any("third", rollout)
            wait_for("the third", lambda: callers.of("third"), 150)
            self.assertEqual(self.outcomes()[0], "Superseded")
            wait_for("two revisions", lambda: len(self.model()["status"]["revisions"]) == 2)
            self.control(action="Abort")
            self.until("False", "Aborted")
            wait_for("one revision", lambda: len(self.get("deployments", selector="millrace.dev/revision")["items"]) == 1)
            self.control(action="Promote")
            self.until("True", "Serving")
        self.assertEqual(callers.broken, [])
        self.assertEqual({status for _, status, _, _ in callers.answers}, {200})
        self.assertEqual(self.outcomes(), ["Promoted", "Aborted", "Superseded", "Promoted"])
