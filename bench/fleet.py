#!/usr/bin/env python3
"""A thousand ModelDeployments in fifty namespaces: what they cost the operator and the routers, and how soon a change of weight is in force.

Model servers run on simulated nodes: a pod there is ready at once and answers nothing. Routers run for real, two in each namespace, because a
ModelDeployment is Ready when they say so. As each of them asks for a part of a processor, nodes are added for them, and removed at the end.

Prints Markdown; nothing here gates a test. Needs `make install` and the cluster that the tests made: its audit log, its nodes, its processes on
this machine. It wants the cluster for itself, and about a minute for each hundred ModelDeployments.
"""

import argparse
import contextlib
import http.client
import json
import math
import os
import re
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from engine import CLUSTER, NODES, Client, is_true
from run import ON_SIMULATED_NODES, SYSTEM, leader_process, processor_seconds, resident, spread

from harness import condition, get, kubectl, resource, wait_for
from test_operator import writes

LABEL = "bench=fleet"
ADMIN_PORT = 9090
# What a router asks for, in the chart's values.
ROUTER_CORES = 0.05
QUIET_SECONDS = 60
# Changes of weight that are measured one by one; the other namespaces change theirs all at once.
ALONE = 10
KINDS = ("ModelDeployment", "Routing")
Buckets = dict[float, int]


@dataclass(frozen=True)
class Fleet:
    namespaces: int
    models: int
    together: int

    def names(self) -> list[str]:
        return [f"fleet-{i:02}" for i in range(self.namespaces)]

    def all(self) -> int:
        return self.namespaces * self.models


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--namespaces", type=int, default=50)
    parser.add_argument("--models", type=int, default=20, help="ModelDeployments in each")
    parser.add_argument("--together", type=int, default=2, help="namespaces whose ModelDeployments come at the same time: two cores have no more")
    options = parser.parse_args(arguments)
    fleet = Fleet(options.namespaces, options.models, options.together)
    with nodes_for_routers(fleet), simulated_nodes(), namespaces(fleet), Client() as client:
        measure(fleet, client)
    return 0


def measure(fleet: Fleet, client: Client) -> None:
    leaders = Leaders()
    print(f"| {fleet.all()} ModelDeployments in {fleet.namespaces} namespaces | |\n|---|---|", flush=True)
    before, spent, idle, peak = durations(), processor_seconds(leaders.now()), resident(leaders.now()), [resident(leaders.now())]
    took = made(fleet, client, lambda: peak.append(resident(leaders.now())))
    print(f"| until all are Ready | {took:.0f} s |")
    if leaders.lost:
        # Another leader begins to count from nothing.
        print(f"| leases that were lost while they came, because the apiserver did not answer for 6 s | {leaders.lost} |", flush=True)
    else:
        print(f"| the operator's processor time for each | {1000 * (processor_seconds(leaders.now()) - spent) / fleet.all():.1f} ms |")
        passes("while they come", before)
    quiet(fleet, leaders.now())
    print(f"| memory of the operator: before, at most, in the quiet | {', '.join(mb(m) for m in (idle, max(peak), resident(leaders.now())))} |", flush=True)
    change_weights(fleet, client, leaders)
    found = [resident(process) / 1e6 for process in router_processes()]
    print(f"| memory of a router, of {len(found)} | {spread(found, ' MB')} |", flush=True)


class Leaders:
    """The replica that leads now, and how often that was another one than before."""

    def __init__(self) -> None:
        self.process, self.lost = leader_process(), 0

    def now(self) -> Path:
        if not self.process.exists():
            self.lost += 1
            self.process = wait_for("a leader", next_leader, 60, 1)
        return self.process


def next_leader() -> Path | None:
    try:
        return leader_process()
    except SystemExit:
        return None


def mb(size: float) -> str:
    return f"{size / 1e6:.0f} MB"


# What is there for the time of the benchmark.


@contextlib.contextmanager
def nodes_for_routers(fleet: Fleet) -> Iterator[None]:
    real = len([n for n in get("nodes")["items"] if n["metadata"].get("labels", {}).get("type") != "kwok"])
    wanted = math.ceil((2 * fleet.namespaces * ROUTER_CORES + 1) / (os.cpu_count() or 1))
    # Behind the others by name: tests take the first.
    names = [f"routers-{i}" for i in range(max(0, wanted - real))]
    try:
        for name in names:
            subprocess.run([CLUSTER, "node", "add", name], check=True)
        yield
    finally:
        for name in names:
            subprocess.run([CLUSTER, "node", "remove", name], check=False)


@contextlib.contextmanager
def simulated_nodes() -> Iterator[None]:
    subprocess.run([CLUSTER, "kwok", str(NODES)], check=True)
    try:
        yield
    finally:
        subprocess.run([CLUSTER, "kwok", "0"], check=True)


@contextlib.contextmanager
def namespaces(fleet: Fleet) -> Iterator[None]:
    key, value = LABEL.split("=")
    made = [{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": n, "labels": {key: value}}} for n in fleet.names()]
    kubectl("create", "-f", "-", stdin="\n---\n".join(json.dumps(one) for one in made))
    try:
        yield
    finally:
        kubectl("delete", "namespace", "-l", LABEL, "--wait=false")
        wait_for("the end of the namespaces", lambda: not get("namespaces", selector=LABEL)["items"], 1800, 5)


def path(namespace: str, kind: str, name: str = "") -> str:
    return f"/apis/millrace.dev/v1alpha1/namespaces/{namespace}/{kind}" + (f"/{name}" if name else "")


def version(model: str, number: int) -> dict:
    artifact = {"uri": f"s3://models/{model}/{number}", "digest": f"sha256:{number:064}", "size": 1000}
    return resource("ModelVersion", f"{model}-v{number}", {"model": model, "version": number, "format": "onnx", "artifact": artifact})


def deployment(model: str) -> dict:
    """All can have another version, in steps that wait for a person."""
    server = {**ON_SIMULATED_NODES, "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}
    steps = [{"weight": 10, "pause": True}, {"weight": 50, "pause": True}]
    spec = {"model": {"name": model, "version": 1}, "server": server, "scale": {"replicas": 1}, "rollout": {"strategy": "Canary", "steps": steps}}
    made = resource("ModelDeployment", model, spec)
    key, value = LABEL.split("=")
    made["metadata"]["labels"] = {key: value}
    return made


def made(fleet: Fleet, client: Client, look: Callable[[], object]) -> float:
    """Seconds until all of them are Ready, from the first that is created; some namespaces after the others."""
    models = [f"m-{i:02}" for i in range(fleet.models)]
    everywhere = [(namespace, model) for model in models for namespace in fleet.names()]
    client.all([("POST", path(namespace, "modelversions"), version(model, 1)) for namespace, model in everywhere])
    began = time.monotonic()
    names = fleet.names()
    for first in range(0, len(names), fleet.together):
        some = names[first : first + fleet.together]
        client.all([("POST", path(namespace, "modeldeployments"), deployment(model)) for model in models for namespace in some])
        there = min(first + fleet.together, len(names)) * fleet.models
        wait_for(f"{there} that are Ready", lambda there=there: (look(), ready() == there)[1], 3600, 1)
    return time.monotonic() - began


def ready() -> int:
    listed = json.loads(kubectl("get", "--raw", f"/apis/millrace.dev/v1alpha1/modeldeployments?labelSelector={LABEL}&resourceVersion=0"))
    return sum(is_true(thing, "Ready") for thing in listed["items"])


# What they cost.


def durations() -> dict[str, Buckets]:
    """How many passes of each kind took no longer than so many seconds, as the leader has counted."""
    holder = get("lease", "millrace", SYSTEM)["spec"]["holderIdentity"]
    text = kubectl("get", "--raw", f"/api/v1/namespaces/{SYSTEM}/pods/{holder}:8080/proxy/metrics")
    found: dict[str, Buckets] = {kind: {} for kind in KINDS}
    for labels, count in re.findall(r"^millrace_controller_reconcile_duration_seconds_bucket\{([^}]*)\} (\d+)", text, re.MULTILINE):
        named = dict(re.findall(r'(\w+)="([^"]*)"', labels))
        if named["kind"] in found:
            found[named["kind"]][float(named["le"])] = int(count)
    return found


def passes(when: str, before: dict[str, Buckets]) -> None:
    for kind, buckets in durations().items():
        new = {le: count - before[kind].get(le, 0) for le, count in buckets.items()}
        count = max(new.values(), default=0)
        if count:
            print(f"| passes of {kind} {when}: number, p50, p99 | {count}, {1000 * quantile(new, 0.5):.1f} ms, {1000 * quantile(new, 0.99):.1f} ms |", flush=True)


def quantile(buckets: Buckets, share: float) -> float:
    """As Prometheus' `histogram_quantile`: within a bucket it is taken for even."""
    rank = share * max(buckets.values())
    below, passed = 0.0, 0
    for le, count in sorted(buckets.items()):
        if count >= rank:
            return below if math.isinf(le) else below + (le - below) * (rank - passed) / max(1, count - passed)
        below, passed = le, count
    return below


def quiet(fleet: Fleet, leader: Path) -> None:
    """Writes of the operator and the routers in a minute in which nothing changes."""
    time.sleep(20)
    began, spent = time.time(), processor_seconds(leader)
    routers = {process: processor_seconds(process) for process in router_processes()}
    time.sleep(QUIET_SECONDS)
    used = processor_seconds(leader) - spent
    theirs = sum(processor_seconds(process) - before for process, before in routers.items())
    mine = set(fleet.names())
    accounts = (f":{SYSTEM}:", ":millrace-router")
    found = [w for account in accounts for w in writes(began, account) if w["objectRef"].get("namespace") in mine]
    loud = Counter(f"{w['verb']} {w['objectRef']['resource']}" for w in found if w["objectRef"]["resource"] != "leases")
    print(f"| writes but leases in {QUIET_SECONDS} s in which nothing changes | {sum(loud.values())} {dict(loud) or ''} |")
    print(f"| processor time in them: the operator, all routers | {used:.1f} s, {theirs:.1f} s |", flush=True)


def router_processes() -> list[Path]:
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            words = (process / "cmdline").read_bytes().split(b"\0")
            if words[0] == b"/millrace-router" and any(word.startswith(b"--namespace=fleet-") for word in words):
                found.append(process)
    return found


# A change of weight.


def routers(namespace: str) -> list[str]:
    pods = get("pods", namespace=namespace, selector="millrace.dev/router")["items"]
    return [p["status"]["podIP"] for p in pods if condition(p, "Ready").get("status") == "True"]


class InForce(threading.Thread):
    """Asks a router until it has a generation of a model's routes in force, and remembers when."""

    def __init__(self, address: str, model: str, generation: int, every: float):
        super().__init__()
        self.address, self.model, self.generation, self.every = address, model, generation, every
        self.at = math.inf
        self.asked = threading.Event()

    def run(self) -> None:
        connection = http.client.HTTPConnection(self.address, ADMIN_PORT, timeout=10)
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            connection.request("GET", "/stats")
            said = json.loads(connection.getresponse().read())["models"][self.model]["generation"]
            self.asked.set()
            if said >= self.generation:
                self.at = time.monotonic()
                return
            time.sleep(self.every)


def change_weights(fleet: Fleet, client: Client, leaders: Leaders) -> None:
    """From a person's word, by which the weight goes from 10 to 50, until both routers have it in force: one by one, and in the rest at once."""
    model = "m-00"
    client.all([("POST", path(namespace, "modelversions"), version(model, 2)) for namespace in fleet.names()])
    client.all([("PATCH", path(n, "modeldeployments", model), {"spec": {"model": {"version": 2}}}) for n in fleet.names()])
    wait_for("the first step everywhere", lambda: all(in_first_step(n, model) for n in fleet.names()), 600, 2)
    time.sleep(10)
    before, lost = durations(), leaders.lost
    alone = [changed(client, [namespace], model, 0.01) for namespace in fleet.names()[:ALONE]]
    leaders.now()
    if leaders.lost == lost:
        passes("while weights change one by one", before)
    print(f"| a change of weight until both routers have it in force, of {len(alone)} one by one | {spread(alone, ' s')} |", flush=True)
    rest = fleet.names()[ALONE:]
    if rest:
        before, lost = durations(), leaders.lost
        print(f"| the same in {len(rest)} namespaces at once, the last of {2 * len(rest)} routers | {changed(client, rest, model, 0.2):.2f} s |", flush=True)
        leaders.now()
        if leaders.lost == lost:
            passes("while they change at once", before)


def in_first_step(namespace: str, model: str) -> bool:
    rollout = get("modeldeployment", model, namespace)["status"].get("rollout", {})
    return rollout.get("stepStartTime") is not None and not rollout.get("rejected")


def changed(client: Client, where: list[str], model: str, every: float) -> float:
    """Seconds until the last of their routers has the next weight in force."""
    waits, asks = [], []
    for namespace in where:
        status = get("modeldeployment", model, namespace)["status"]
        control = {"revision": status["rollout"]["revision"], "action": "Approve", "step": 1}
        asks.append(("PATCH", path(namespace, "modeldeployments", model), {"spec": {"control": control}}))
        addresses = routers(namespace)
        if len(addresses) != 2:
            raise SystemExit(f"{namespace} has {len(addresses)} routers that are ready, not 2")
        waits += [InForce(address, model, status["trafficGeneration"] + 1, every) for address in addresses]
    for wait in waits:
        wait.start()
    for wait in waits:
        wait.asked.wait(10)
    began = time.monotonic()
    client.all(asks)
    for wait in waits:
        wait.join()
    return max(wait.at for wait in waits) - began


if __name__ == "__main__":
    wait_for("the operator", lambda: get("deployment", "millrace", SYSTEM)["status"].get("readyReplicas"))
    sys.exit(main(sys.argv[1:]))
