"""What cluster tests share: kubectl, a namespace per test, waiting with a reason, runs and stages.

A test sees what a user sees: objects, statuses, events, logs, bytes. Nothing here reaches into the operator.
"""

import atexit
import json
import os
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request
import uuid
from pathlib import Path

from apiserver import Refused, get, kubectl

ROOT = Path(__file__).resolve().parents[2]
SYSTEM = "millrace-system"
# An image that every test cluster has: a shell and coreutils.
DEBIAN = "docker.io/library/debian:bookworm-slim"
LOCAL = os.environ.get("CLUSTER") != "current"
# What tests may take of the cluster at a time, all together: two processors have no more.
ROOM = 8
# Behind the others by name: see `first_node`.
SECOND = "second"
SECOND_COMES = threading.Lock()


def wait_for(what: str, probe, seconds: float = 90, every: float = 0.2):
    """Calls `probe` until it returns something true, and returns that: what it looks into may not be there yet. Fails with the last thing seen."""
    deadline = time.monotonic() + seconds
    seen = None
    while time.monotonic() < deadline:
        try:
            seen = probe()
        except (Refused, LookupError) as missing:
            seen = None
            last = repr(missing)
        else:
            last = repr(seen)
        if seen:
            return seen
        time.sleep(every)
    raise AssertionError(f"no {what} within {seconds:.0f} s; last seen: {last[:2000]}")


def condition(thing: dict, kind: str) -> dict:
    return next((c for c in thing.get("status", {}).get("conditions", []) if c["type"] == kind), {})


def first_node() -> str:
    return get("nodes")["items"][0]["metadata"]["name"]


def change_node(action: str, name: str, *options: str) -> None:
    """Adds a node to the cluster of the tests, stops it without a word, or removes it."""
    subprocess.run([str(ROOT / "dev" / "cluster" / "cluster"), "node", action, name, *options], check=True, capture_output=True)


def remove_node(name: str) -> None:
    """If it is there yet."""
    if name in [node["metadata"]["name"] for node in get("nodes")["items"]]:
        change_node("remove", name)


def advertise(resource: str, amount: str | None) -> None:
    """Lets the first node offer an extended resource, as a device plugin would; None takes it away."""
    patch = {"status": {"capacity": {resource: amount}, "allocatable": {resource: amount}}}
    kubectl("patch", "node", first_node(), "--subresource=status", "--type=merge", "-p", json.dumps(patch))


def alone(test):
    """A test that needs the cluster for itself: it breaks what others use, or measures the time."""
    test.part = ROOM
    return test


def kill_operator() -> None:
    """All of its pods, without a word to them."""
    kubectl("delete", "pod", "-n", SYSTEM, "-l", "app.kubernetes.io/name=millrace", "--grace-period=0", "--force")


class ClusterTest(unittest.TestCase):
    """A test with a namespace of its own that enforces Pod Security `restricted`."""

    maxDiff = None
    # What it takes of the room. Most tests wait for the kubelet, which looks once a second.
    part = 1
    # Why it needs a cluster that the tests made, if it does.
    only_local = ""

    def __init__(self, name: str):
        super().__init__(name)
        self.part = getattr(getattr(self, name), "part", self.part)

    def setUp(self):
        if self.only_local and not LOCAL:
            self.skipTest(self.only_local)
        self.namespace = f"t-{self._testMethodName.removeprefix('test_')[:40].replace('_', '-').rstrip('-')}-{uuid.uuid4().hex[:6]}"
        labels = {"pod-security.kubernetes.io/enforce": "restricted", "millrace-test": "true"}
        self.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace, "labels": labels}}, "")
        self.addCleanup(kubectl, "delete", "namespace", self.namespace, "--wait=false")

    # What a person does.

    def apply(self, thing: dict, namespace: str | None = None) -> None:
        where = self.namespace if namespace is None else namespace
        kubectl("apply", *(["-n", where] if where else []), "-f", "-", stdin=json.dumps(thing))

    def scratch(self) -> Path:
        """A folder on this machine that goes with the test."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        return Path(folder.name)

    def own_node(self) -> str:
        """A second node, where the pods of this test may go and those of no other."""
        name = f"{SECOND}-{self.namespace[-6:]}"
        self.tolerate(name)
        self.addCleanup(remove_node, name)
        change_node("add", name, "--taint", f"millrace-test={name}:NoSchedule")
        return name

    def second_node(self) -> str:
        """One for all tests that ask for it, because it takes a minute to come. It goes at the end."""
        self.tolerate(SECOND)
        with SECOND_COMES:
            if SECOND not in [node["metadata"]["name"] for node in get("nodes")["items"]]:
                change_node("add", SECOND, "--taint", f"millrace-test={SECOND}:NoSchedule")
                atexit.register(remove_node, SECOND)
        return SECOND

    def tolerate(self, taint: str) -> None:
        tolerations = json.dumps([{"key": "millrace-test", "operator": "Equal", "value": taint}])
        kubectl("annotate", "namespace", self.namespace, f"scheduler.alpha.kubernetes.io/defaultTolerations={tolerations}")

    def claim(self, name: str = "artifacts") -> None:
        spec = {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}}
        self.apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec})

    def pipeline(self, stages: dict, name: str = "p", **spec) -> None:
        self.apply(resource("MLPipeline", name, {"stages": stages, **spec}))

    def start(self, name: str = "r", pipeline: str = "p", **spec) -> str:
        self.apply(resource("MLPipelineRun", name, {"pipelineRef": {"name": pipeline}, **spec}))
        return name

    def run_inline(self, stages: dict, name: str = "r", params: dict | None = None, finally_: dict | None = None, **pipeline) -> str:
        spec = {"pipeline": {"stages": stages, **({"finally": finally_} if finally_ else {}), **pipeline}}
        if params:
            spec["params"] = params
        self.apply(resource("MLPipelineRun", name, spec))
        return name

    # What a person sees.

    def get(self, kind: str, name: str = "", selector: str = "") -> dict:
        return get(kind, name, self.namespace, selector)

    def answer(self, model: str, body: bytes) -> dict:
        """What the address of a served model answers to a request."""
        address = self.get("service", model)["spec"]["clusterIP"]
        request = urllib.request.Request(f"http://{address}/v2/models/{model}/infer", body, {"content-type": "application/json"})
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as response:
            return json.load(response)

    def infer(self, model: str, body: bytes) -> dict[str, list]:
        """The outputs of a served model, by name."""
        return {output["name"]: output["data"] for output in self.answer(model, body)["outputs"]}

    def run_of(self, name: str = "r") -> dict:
        return self.get("mlpipelinerun", name)

    def stage(self, stage: str, run: str = "r") -> dict:
        return self.run_of(run).get("status", {}).get("stages", {}).get(stage, {})

    def finished(self, name: str = "r", seconds: float = 120) -> dict:
        """The run's status once it has ended as its spec asks now: an end from before `retryFrom` is none."""

        def ended():
            run = self.run_of(name)
            seen = run.get("status", {}).get("observedGeneration") == run["metadata"]["generation"]
            return run if seen and condition(run, "Succeeded").get("status") in ("True", "False") else None

        try:
            return wait_for(f"end of run {name}", ended, seconds)["status"]
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.run_of(name).get('status'), indent=1)}") from None

    def succeeded(self, name: str = "r", seconds: float = 120) -> dict:
        status = self.finished(name, seconds)
        self.assertEqual(condition({"status": status}, "Succeeded")["status"], "True", json.dumps(status, indent=1))
        return status

    def failed(self, name: str = "r", seconds: float = 120) -> dict:
        status = self.finished(name, seconds)
        self.assertEqual(condition({"status": status}, "Succeeded")["status"], "False", json.dumps(status, indent=1))
        return status

    def waits_with(self, stage: str, words: str, run: str = "r", seconds: float = 60) -> dict:
        """The stage once its reason or message holds the words."""

        def waiting():
            seen = self.stage(stage, run)
            text = f"{seen.get('reason', '')}: {seen.get('message', '')}"
            return seen if words.lower() in text.lower() else None

        try:
            return wait_for(f"'{words}' in stage {stage}", waiting, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.stage(stage, run), indent=1)}") from None

    def logs(self, stage: str, attempt: int = 1) -> str:
        selector = f"millrace.dev/stage={stage},millrace.dev/attempt={attempt}"
        return kubectl("logs", "-n", self.namespace, "-l", selector, "--tail=-1", "-c", "main")

    def jobs(self) -> list[str]:
        return sorted(job["metadata"]["name"] for job in self.get("jobs")["items"])

    def events(self) -> list[str]:
        return [f"{e['reason']}: {e.get('message', '')}" for e in self.get("events")["items"]]


def resource(kind: str, name: str, spec: dict) -> dict:
    return {"apiVersion": "millrace.dev/v1alpha1", "kind": kind, "metadata": {"name": name}, "spec": spec}


def script(text: str, **settings) -> dict:
    """A stage that runs a shell script. Requests are small, so that many tests fit one node."""
    resources = settings.pop("resources", {"requests": {"cpu": "10m", "memory": "16Mi"}})
    outputs = settings.pop("outputs", None)
    stage_fields = {k: settings.pop(k) for k in list(settings) if k in STAGE_FIELDS}
    container = {"image": DEBIAN, "script": f"#!/bin/sh\nset -e\n{text}\n", "resources": resources, **settings}
    return {"container": container, **stage_fields, **({"outputs": outputs} if outputs else {})}


STAGE_FIELDS = ("inputs", "needs", "when", "onFailure", "gate", "retry", "timeout", "pendingTimeout")
