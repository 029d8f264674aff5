#!/usr/bin/env python3
"""Benchmarks of the pipeline engine with many runs, long chains and big artifacts, beside bare Jobs on the same apiserver in the same run.

`engine.py` runs all, `engine.py runs|chain|restart|artifact` one of them. Prints Markdown; nothing here gates a test. Needs `make install` and
the cluster that the tests made: its audit log, its simulated nodes, its processes on this machine.
"""

import contextlib
import http.client
import itertools
import json
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from run import NAMESPACE, ON_SIMULATED_NODES, ROOT, ROUNDS, SYSTEM, apply, leader_process, processor_seconds, program, resident, spread

from harness import DEBIAN, get, kubectl, resource, wait_for
from test_operator import audited, stamp, writes

CLUSTER = str(ROOT / "dev/cluster/cluster")
NODES = 10


def main(names: list[str]) -> int:
    benchmarks = {"runs": runs, "chain": chain, "restart": restart, "artifact": artifact}
    for name in names or benchmarks:
        kubectl("create", "namespace", NAMESPACE, check=False)
        print(f"\n### {name}\n", flush=True)
        try:
            benchmarks[name]()
        finally:
            kubectl("delete", "namespace", NAMESPACE, "--timeout=600s")
    return 0


@contextlib.contextmanager
def simulated(lasting: float = 0) -> Iterator[None]:
    """Simulated nodes whose pods end with a report after so many seconds."""
    stages = (ROOT / "bench/kwok-report.yaml").read_text()
    delay = f"  delay: {{durationMilliseconds: {int(lasting * 1000)}}}\n"
    head, name, rest = stages.partition("  name: pod-succeed\n")
    with tempfile.NamedTemporaryFile("w", suffix=".yaml") as file:
        file.write(head + name + (rest.replace("  next:\n", f"{delay}  next:\n", 1) if lasting else rest))
        file.flush()
        subprocess.run([CLUSTER, "kwok", str(NODES), "--stages", file.name], check=True)
        try:
            yield
        finally:
            subprocess.run([CLUSTER, "kwok", "0"], check=True)


def job(name: str, **labels: str) -> dict:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", **program()}], **ON_SIMULATED_NODES}}
    metadata = {"name": name, "labels": labels}
    return {"apiVersion": "batch/v1", "kind": "Job", "metadata": metadata, "spec": {"template": template, "backoffLimit": 0}}


def run(name: str, stages: int = 1, **labels: str) -> dict:
    container = {**program(), **ON_SIMULATED_NODES, "agent": {"path": "/usr/local/bin/millrace-agent"}}
    chain = {f"s{i}": {"container": container, **({"needs": [f"s{i - 1}"]} if i else {})} for i in range(stages)}
    made = resource("MLPipelineRun", name, {"pipeline": {"stages": chain}})
    made["metadata"]["labels"] = labels
    return made


def job_controller() -> Path:
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if b"kube-controller-manager" in (process / "cmdline").read_bytes().split(b"\0")[0]:
                return process
    raise SystemExit("the controller manager is no process of this machine")


class Client:
    """Creates objects over connections that stay: kubectl would take longer than what is measured."""

    def __init__(self) -> None:
        self.proxy = subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True)
        said = self.proxy.stdout.readline() if self.proxy.stdout else ""
        self.port = int(re.search(r":(\d+)", said)[1])

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.proxy.kill()
        self.proxy.wait()

    def all(self, asked: list[tuple[str, str, dict]], threads: int = 4) -> list[dict]:
        """Sends them, `threads` at a time; what was answered, in their order."""
        answers: list[dict] = [{}] * len(asked)
        numbers = iter(range(len(asked)))
        lock = threading.Lock()
        failed: list[str] = []

        def work() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
            while not failed:
                with lock:
                    number = next(numbers, None)
                if number is None:
                    return
                method, path, body = asked[number]
                kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
                connection.request(method, path, json.dumps(body), {"Content-Type": kind})
                response = connection.getresponse()
                text = response.read()
                if response.status >= 300:
                    failed.append(f"{method} {path}: {response.status} {text[:300]!r}")
                else:
                    answers[number] = json.loads(text)

        workers = [threading.Thread(target=work) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if failed:
            raise SystemExit(failed[0])
        return answers


JOBS = f"/apis/batch/v1/namespaces/{NAMESPACE}/jobs"
PIPELINES = f"/apis/millrace.dev/v1alpha1/namespaces/{NAMESPACE}/mlpipelines"
RUNS = f"/apis/millrace.dev/v1alpha1/namespaces/{NAMESPACE}/mlpipelineruns"


def counted(path: str, selector: str, ended: Callable[[dict], bool]) -> int:
    listed = json.loads(kubectl("get", "--raw", f"{path}?labelSelector={selector}&resourceVersion=0"))
    return sum(ended(thing) for thing in listed["items"])


def is_true(thing: dict, condition: str) -> bool:
    conditions = thing.get("status", {}).get("conditions", [])
    return any(c["type"] == condition and c["status"] == "True" for c in conditions)


def without(kind: str, path: str) -> None:
    kubectl("delete", kind, "--all", "-n", NAMESPACE, "--wait=false")
    for what in (path, f"/api/v1/namespaces/{NAMESPACE}/pods"):
        first = f"{what}?limit=1"
        wait_for(f"the end of what {first} lists", lambda first=first: not json.loads(kubectl("get", "--raw", first))["items"], 900, 3)


# One-stage runs that are submitted at once.
MANY = 1000


def runs() -> None:
    """A thousand one-stage runs at once, of one pipeline and each with its own inline, beside a thousand bare Jobs at once, before and after."""
    with simulated(), Client() as client:
        floors: list[float] = []
        manager: list[float] = []
        bare(client, floors, manager)
        pipeline = {**run("many")["spec"]["pipeline"], "history": {"keepSucceeded": MANY}}
        client.all([("POST", PIPELINES, resource("MLPipeline", "many", pipeline))])
        of_one = measured(client, lambda name, **labels: {**run(name, **labels), "spec": {"pipelineRef": {"name": "many"}}})
        bare(client, floors, manager)
        inline = measured(client, run)
        bare(client, floors, manager)
    floor = statistics.mean(floors)
    print(f"| {MANY} at once | bare Jobs | runs of one pipeline | runs with a pipeline of their own |\n|---|---|---|---|")
    print(f"| seconds | {', '.join(f'{took:.0f}' for took in floors)} | {of_one.took:.0f} | {inline.took:.0f} |")
    for words, of_jobs, of_runs in [
        ("a minute", f"{60 * MANY / floor:.0f}", lambda m: f"{60 * MANY / m.took:.0f}"),
        ("as a share of the floor", "1", lambda m: f"{floor / m.took:.2f}"),
        ("processor time of their controller for each", f"{1000 * statistics.mean(manager) / MANY:.2f} ms", lambda m: f"{1000 * m.spent / MANY:.2f} ms"),
        ("its writes for each, events apart", "", lambda m: f"{m.writes / MANY:.2f}"),
        ("events for each", "", lambda m: f"{m.events / MANY:.2f}"),
        ("its memory before and at most", "", lambda m: f"{m.memory[0] / 1e6:.0f} MB, {max(m.memory) / 1e6:.0f} MB"),
    ]:
        print(f"| {words} | {of_jobs} | {of_runs(of_one)} | {of_runs(inline)} |")


@dataclass
class Measured:
    took: float
    spent: float
    writes: int
    events: int
    memory: list[int]


def bare(client: Client, floors: list[float], manager: list[float]) -> None:
    floors.append(many(client, JOBS, job, "Complete", manager))
    without("jobs", JOBS)


def measured(client: Client, make: Callable[..., dict]) -> Measured:
    leader = leader_process()
    wrote, before, memory = time.time(), processor_seconds(leader), [resident(leader)]
    took = many(client, RUNS, make, "Succeeded", [], lambda: memory.append(resident(leader)))
    spent = processor_seconds(leader) - before
    time.sleep(5)
    mine = [w["objectRef"] for w in writes(wrote, f"serviceaccount:{SYSTEM}:")]
    mine = [o["resource"] for o in mine if o.get("namespace") == NAMESPACE]
    without("mlpipelineruns", RUNS)
    return Measured(took, spent, sum(r != "events" for r in mine), mine.count("events"), memory)


def many(client: Client, path: str, make: Callable[..., dict], condition: str, manager: list[float], look: Callable[[], object] = lambda: None) -> float:
    process = job_controller()
    before, began = processor_seconds(process), time.monotonic()
    client.all([("POST", path, make(f"many-{i}", bench="many")) for i in range(MANY)])
    # It looks rarely and at what the apiserver has in memory: a list of a thousand is no small question.
    while counted(path, "bench=many", lambda thing: is_true(thing, condition)) < MANY:
        look()
        time.sleep(1)
    took = time.monotonic() - began
    manager.append(processor_seconds(process) - before)
    return took


# Stages of the long chain, and Jobs of its floor, whose time grows with their number.
LONG, FLOOR = 200, 50


def chain() -> None:
    """A chain of 200 stages whose pods last a second, beside bare Jobs that are each created as soon as the one before is complete."""
    with simulated(lasting=1), Client() as client:
        floor = bare_chain(client)
        began, wrote = time.monotonic(), time.time()
        # Of a pipeline, as most runs are: what is written inline is compared with what it was at each write of the status.
        long = run("long", LONG)
        pipeline = resource("MLPipeline", "long", long["spec"]["pipeline"])
        client.all([("POST", PIPELINES, pipeline), ("POST", RUNS, {**long, "spec": {"pipelineRef": {"name": "long"}}})], threads=1)
        kubectl("wait", "-n", NAMESPACE, "mlpipelinerun/long", "--for=condition=Succeeded", "--timeout=170s", check=False)
        wait_for("the end of the run", lambda: is_true(get("mlpipelinerun", "long", NAMESPACE), "Succeeded"), 1200, 1)
        ours = (time.monotonic() - began) / LONG
        added = list(between(wrote))
    print(f"| chain of {LONG} stages of 1 s | |\n|---|---|\n| each bare Job, of {FLOOR} | {floor:.2f} s |")
    print(f"| each stage | {ours:.2f} s |\n| ratio | {ours / floor:.2f} |")
    print(f"| from the end of a pod to the next Job's creation, of {len(added)} | {spread([1000 * a for a in added], ' ms')} |")


def bare_chain(client: Client) -> float:
    began = time.monotonic()
    for i in range(FLOOR):
        client.all([("POST", JOBS, job(f"bare-{i}"))])
        kubectl("wait", "-n", NAMESPACE, f"job/bare-{i}", "--for=condition=complete", "--timeout=120s")
    return (time.monotonic() - began) / FLOOR


def between(since: float) -> Iterator[float]:
    """Seconds from the write that ends a stage's pod to that of the next stage's Job, as the apiserver saw them."""
    ends: dict[int, float] = {}
    made: dict[int, float] = {}
    for entry in itertools.takewhile(lambda entry: entry.get("stageTimestamp", "") >= stamp(since - 10), audited()):
        what, at = entry.get("objectRef", {}), entry.get("stageTimestamp", "")
        if what.get("namespace") != NAMESPACE or not (found := re.match(r"long-s(\d+)-1", what.get("name", ""))):
            continue
        stage, when = int(found[1]), datetime.fromisoformat(at).timestamp()
        if what["resource"] == "pods" and what.get("subresource") == "status" and entry["verb"] in ("patch", "update"):
            # The newest first: the one that ends it is the last that is not the Job controller's, which takes its finalizer off.
            ends.setdefault(stage, when)
        elif what["resource"] == "jobs" and entry["verb"] == "create" and "subresource" not in what:
            made[stage] = datetime.fromisoformat(entry["requestReceivedTimestamp"]).timestamp()
    for stage, at in made.items():
        if stage - 1 in ends:
            yield at - ends[stage - 1]


FINISHED, LIVE = 10_000, 200


def restart() -> None:
    """The operator starts where there are 10,000 finished runs and 200 whose pods wait: from the lease until nothing waits for a pass."""
    with Client() as client:
        # One that really ran is the model of the finished ones; those that wait find no node.
        with simulated():
            kubectl("create", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(run("model")))
            wait_for("the end of a run", lambda: is_true(get("mlpipelinerun", "model", NAMESPACE), "Succeeded"))
        model = get("mlpipelinerun", "model", NAMESPACE)
        client.all([("POST", RUNS, run(f"live-{i}", bench="live")) for i in range(LIVE)])
        running = lambda thing: thing.get("status", {}).get("stages", {}).get("s0", {}).get("state") in ("Pending", "Running")
        wait_for("the live runs", lambda: counted(RUNS, "bench=live", running) == LIVE, 120, 1)
        # Until it is said of all of them what they wait for.
        wait_for("no write of the operator for 20 s", lambda: not any(w["objectRef"]["resource"] != "leases" for w in writes(time.time() - 20, f"serviceaccount:{SYSTEM}:")), 300, 5)
        kubectl("scale", "deployment", "millrace", "-n", SYSTEM, "--replicas=0")
        wait_for("no operator", lambda: not get("pods", "", SYSTEM, "app.kubernetes.io/name=millrace")["items"], 60)
        made = client.all([("POST", RUNS, run(f"ended-{i}", bench="ended")) for i in range(FINISHED)])
        client.all([("PUT", f"{RUNS}/{one['metadata']['name']}/status", {**one, "status": model["status"]}) for one in made])
        took, wrote, peaks = [], [], []
        try:
            for _ in range(ROUNDS):
                seconds, count, peak = started()
                took.append(seconds)
                wrote.append(count)
                peaks.append(peak / 1e6)
                kubectl("scale", "deployment", "millrace", "-n", SYSTEM, "--replicas=0")
                wait_for("no operator", lambda: not get("pods", "", SYSTEM, "app.kubernetes.io/name=millrace")["items"], 60)
        finally:
            kubectl("scale", "deployment", "millrace", "-n", SYSTEM, "--replicas=2")
    print(f"| {FINISHED} finished and {LIVE} live runs, {ROUNDS} starts | |\n|---|---|\n| from the lease until nothing waits for a pass | {spread(took, ' s')} |")
    print(f"| writes but leases | {spread(wrote)} |\n| memory of the operator | {spread(peaks, ' MB')} |")


def started() -> tuple[float, int, float]:
    """Starts the operator. Seconds from its lease until it has looked at every live run and has nothing to do; its writes until 10 s later; its memory."""
    began = time.time()
    kubectl("scale", "deployment", "millrace", "-n", SYSTEM, "--replicas=1")
    name = wait_for("a pod", lambda: [p for p in get("pods", "", SYSTEM, "app.kubernetes.io/name=millrace")["items"] if p["status"].get("podIP")], 60, 0.1)[0]
    name = name["metadata"]["name"]
    leads = wait_for("the lease", lambda: get("lease", "millrace", SYSTEM)["spec"].get("holderIdentity") == name, 60, 0.05) and time.monotonic()
    path = f"/api/v1/namespaces/{SYSTEM}/pods/{name}:8080/proxy/metrics"

    def settled() -> bool:
        figures = kubectl("get", "--raw", path)
        passes = sum(int(n) for n in re.findall(r'reconciles_total\{kind="MLPipelineRun",outcome="[^"]*"\} (\d+)', figures))
        waits = sum(int(n) for n in re.findall(r"queue_depth\{[^}]*\} (\d+)", figures))
        return passes >= FINISHED + LIVE and waits == 0

    wait_for("nothing to do", settled, 300, 0.2)
    took = time.monotonic() - leads
    peak = resident(leader_process())
    time.sleep(10)
    mine = [w["objectRef"]["resource"] for w in writes(began, f"serviceaccount:{SYSTEM}:")]
    return took, sum(r != "leases" for r in mine), peak


BYTES = 1 << 30


def artifact() -> None:
    """One GB from a stage to the next on a claim, beside two bare Jobs that write and read it on the same claim."""
    apply({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "artifacts"}, "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "4Gi"}}}})
    ours, floors = [], []
    for round_ in range(ROUNDS):
        floors.append(bare_artifact(round_))
        ours.append(moved(round_))
    ratios = [a / b for a, b in zip(ours, floors, strict=True)]
    print(f"| {BYTES / 1e9:.2f} GB from one to the next on a claim, both together | |\n|---|---|\n| bare Jobs, each created when the one before is complete | {spread(floors, ' s')} |")
    print(f"| Millrace, from the run's creation to its end | {spread(ours, ' s')} |\n| ratio | {spread(ratios)} |")


WRITE = f"head -c {BYTES} /dev/zero >"
READ = "cat >/dev/null <"


def bare_artifact(round_: int) -> float:
    began = time.monotonic()
    for name, script in (("write", f"{WRITE} /data/bare-{round_} && sync /data/bare-{round_}"), ("read", f"{READ} /data/bare-{round_}")):
        container = {"name": "main", "image": DEBIAN, "command": ["bash", "-c", script], "volumeMounts": [{"name": "data", "mountPath": "/data"}]}
        volume = {"name": "data", "persistentVolumeClaim": {"claimName": "artifacts"}}
        security = {"runAsUser": 65532, "runAsGroup": 65532, "fsGroup": 65532}
        template = {"spec": {"restartPolicy": "Never", "containers": [container], "volumes": [volume], "securityContext": security}}
        apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": f"{name}-{round_}"}, "spec": {"template": template, "backoffLimit": 0}})
        kubectl("wait", "-n", NAMESPACE, f"job/{name}-{round_}", "--for=condition=complete", "--timeout=120s")
    return time.monotonic() - began


def moved(round_: int) -> float:
    write = {"container": {"image": DEBIAN, "script": f'#!/bin/bash\n{WRITE} "$MILLRACE_OUTPUT_BIG"\n'}, "outputs": {"big": {}}}
    read = {"container": {"image": DEBIAN, "script": f'#!/bin/bash\n{READ} "$MILLRACE_INPUT_BIG"\n'}, "inputs": {"big": {"from": "write.big"}}}
    pipeline = {"store": {"pvc": {"claimName": "artifacts"}}, "stages": {"write": write, "read": read}}
    began = time.monotonic()
    apply(resource("MLPipelineRun", f"moved-{round_}", {"pipeline": pipeline}))
    kubectl("wait", "-n", NAMESPACE, f"mlpipelinerun/moved-{round_}", "--for=condition=Succeeded", "--timeout=170s")
    return time.monotonic() - began


if __name__ == "__main__":
    wait_for("the operator", lambda: get("deployment", "millrace", SYSTEM)["status"].get("readyReplicas"))
    sys.exit(main(sys.argv[1:]))
