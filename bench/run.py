#!/usr/bin/env python3
"""Benchmarks of the control plane on the installed operator, as ratios to bare Jobs in the same run.

`run.py` runs all, `run.py chain|writes|quiet|start|memory|items|sizes` one of them. Prints Markdown; nothing here gates a test.
Needs `make install` and, for all but `chain`, `start` and `sizes`, the cluster that the tests made (its audit log, its simulated nodes,
its processes on this machine).
"""

import functools
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.dont_write_bytecode = True
sys.path[:0] = [str(ROOT / "tests" / "cluster"), str(ROOT / "bench")]

from harness import get, kubectl, resource, wait_for
from replica import Replica
from test_operator import writes

SYSTEM = "millrace-system"
NAMESPACE = "bench"
STAGES = 10
ROUNDS = 3


def main(names: list[str]) -> int:
    benchmarks = {"chain": chain, "writes": count_writes, "quiet": quiet, "start": start}
    benchmarks |= {"sizes": sizes, "memory": memory, "items": items}
    kubectl("create", "namespace", NAMESPACE, check=False)
    for name in names or benchmarks:
        print(f"\n### {name}\n")
        benchmarks[name]()
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")
    return 0


def apply(thing: dict) -> None:
    kubectl("apply", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(thing))


def spread(values: list[float], unit: str = "") -> str:
    return f"{statistics.median(values):.2f}{unit} ({min(values):.2f} – {max(values):.2f})"


def agent_image() -> str:
    """The data image: it carries the agent, so a stage of it is one container, as a bare Job of it is."""
    for template in get("stagetemplates", "", SYSTEM)["items"]:
        if template["metadata"]["name"] == "ingest":
            return template["spec"]["container"]["image"]
    raise SystemExit("no StageTemplate ingest: run make install")


@functools.cache
def program() -> dict:
    """A trivial program that every image with the agent has: the agent's own version."""
    return {"image": agent_image(), "command": ["/usr/local/bin/millrace-agent", "--version"]}


def chain() -> None:
    """Ten trivial stages one after the other, beside ten bare Jobs, each created as soon as the one before is complete."""
    ratios, ours, floors = [], [], []
    for round_ in range(ROUNDS):
        floors.append(bare_chain(round_))
        ours.append(millrace_chain(round_))
        ratios.append(ours[-1] / floors[-1])
    print("| chain of 10, apply to done | seconds |\n|---|---|")
    print(f"| bare Jobs (the floor) | {spread(floors)} |\n| Millrace | {spread(ours)} |\n| ratio | {spread(ratios)} |")


def bare_chain(round_: int) -> float:
    began = time.monotonic()
    for i in range(STAGES):
        name = f"bare-{round_}-{i}"
        container = {"name": "main", **program()}
        template = {"spec": {"restartPolicy": "Never", "containers": [container]}}
        spec = {"template": template, "backoffLimit": 0}
        job = {"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name}, "spec": spec}
        watched(["create", "-f", "-"], f"job/{name}", "complete", json.dumps(job))
    return time.monotonic() - began


def watched(create: list[str], name: str, condition: str, stdin: str) -> None:
    """Creates and waits by a watch: the small client has no delay of its own."""
    kubectl(*create, "-n", NAMESPACE, stdin=stdin)
    kubectl("wait", "-n", NAMESPACE, name, f"--for=condition={condition}", "--timeout=120s")


def millrace_chain(round_: int) -> float:
    container = {**program(), "agent": {"path": "/usr/local/bin/millrace-agent"}}
    stages = {}
    for i in range(STAGES):
        stages[f"s{i}"] = {"container": container, **({"needs": [f"s{i - 1}"]} if i else {})}
    run = resource("MLPipelineRun", f"chain-{round_}", {"pipeline": {"stages": stages}})
    began = time.monotonic()
    watched(["create", "-f", "-"], f"mlpipelinerun/chain-{round_}", "Succeeded", json.dumps(run))
    return time.monotonic() - began


def count_writes() -> None:
    """Writes to the apiserver by Millrace for a one-stage run, from the audit log."""
    container = {**program(), "agent": {"path": "/usr/local/bin/millrace-agent"}}
    counts, events = [], []
    for i in range(ROUNDS):
        began = time.time()
        run = resource("MLPipelineRun", f"one-{i}", {"pipeline": {"stages": {"a": {"container": container}}}})
        watched(["create", "-f", "-"], f"mlpipelinerun/one-{i}", "Succeeded", json.dumps(run))
        time.sleep(2)
        objects = [w["objectRef"] for w in writes(began, f"serviceaccount:{SYSTEM}:")]
        objects = [o for o in objects if o.get("namespace") == NAMESPACE]
        events.append(sum(o["resource"] == "events" for o in objects))
        counts.append(len(objects) - events[-1])
    print(f"| a one-stage run | count |\n|---|---|\n| writes | {spread(counts)} |\n| events | {spread(events)} |")


def quiet() -> None:
    """Writes other than lease renewals in 60 s in which nothing changes."""
    time.sleep(10)
    began = time.time()
    time.sleep(60)
    loud = [
        w["objectRef"] for w in writes(began, f"serviceaccount:{SYSTEM}:") if w["objectRef"]["resource"] != "leases"
    ]
    print(f"| writes in 60 quiet seconds, but leases | {len(loud)} |\n|---|---|")


def sizes() -> None:
    """Images as they are pulled (compressed)."""
    print("| image | MB compressed |\n|---|---|")
    built = subprocess.run([str(ROOT / "dev" / "images" / "build")], check=True, capture_output=True, text=True).stdout
    for line in built.splitlines():
        name, _, file, *_ = line.split()
        if Path(file).exists():
            print(f"| {name} | {Path(file).stat().st_size / 1e6:.1f} |")


def start() -> None:
    """The controller as a process: from its start to Ready and to work, and how long nobody works when the one that does goes."""
    ready, leads, ended, killed = [], [], [], []
    for _ in range(2 * ROUNDS):
        with Replica("a", NAMESPACE) as a:
            ready.append(a.ready_after())
            leads.append(a.leads_at() - a.began)
            with Replica("b", NAMESPACE) as b:
                b.ready_after()
                gone = a.end(signal.SIGTERM)
                ended.append(b.leads_at() - gone)
                with Replica("c", NAMESPACE) as c:
                    c.ready_after()
                    gone = b.end(signal.SIGKILL)
                    killed.append(c.leads_at() - gone)
                    c.end(signal.SIGTERM)
    print("| controller | seconds |\n|---|---|")
    print(f"| start to Ready | {spread(ready)} |\n| start to work, the lease being free | {spread(leads)} |")
    print(
        f"| SIGTERM of one to work of the next | {spread(ended)} |\n| SIGKILL of one to work of the next | {spread(killed)} |"
    )


# Runs, and stages of each: a thousand stages in all.
SHAPES = ((100, 10), (10, 100))


def memory() -> None:
    """Memory of the controller: idle, and for each finished stage of 1,000 on simulated nodes. Time of the processor for each. For each
    shape from a fresh start, which takes the memory of what ran before away."""
    cluster = str(ROOT / "dev/cluster/cluster")
    subprocess.run([cluster, "kwok", "10", "--stages", str(ROOT / "bench/kwok-report.yaml")], check=True)
    try:
        for runs, stages in SHAPES:
            kubectl("delete", "mlpipelinerun", "--all", "-n", NAMESPACE)
            wait_for("no pods", lambda: not get("pods", "", NAMESPACE)["items"], seconds=300)
            kubectl("rollout", "restart", "-n", SYSTEM, "deployment/millrace")
            kubectl("rollout", "status", "-n", SYSTEM, "deployment/millrace")
            time.sleep(20)
            thousand_stages(runs, stages)
    finally:
        subprocess.run([cluster, "kwok", "0"], check=True)


def thousand_stages(runs: int, stages: int) -> None:
    leader = leader_process()
    container = {**program(), "agent": {"path": "/usr/local/bin/millrace-agent"}}
    container |= ON_SIMULATED_NODES
    pipeline = {"pipeline": {"stages": {f"s{i}": {"container": container} for i in range(stages)}}}
    idle = resident(leader)
    grown, spent, long = [], [], []
    for round_ in range(ROUNDS):
        before, cpu, began = resident(leader), processor_seconds(leader), time.monotonic()
        names = [f"many-{stages}-{round_}-{i}" for i in range(runs)]
        made = [resource("MLPipelineRun", name, pipeline) for name in names]
        kubectl("create", "-n", NAMESPACE, "-f", "-", stdin="\n---\n".join(json.dumps(run) for run in made))
        for name in names:
            wait_for(f"the end of {name}", lambda name=name: has_ended(name), seconds=900, every=1)
        long.append(time.monotonic() - began)
        # What is free goes back to the system a little at a time.
        time.sleep(30)
        grown.append((resident(leader) - before) / 1000 / 1024)
        spent.append(processor_seconds(leader) - cpu)
    each = ", ".join(f"{kib:.1f}" for kib in grown)
    print(f"| controller, {runs} runs of {stages} stages at once | |\n|---|---|\n| idle, before | {idle / 1e6:.1f} MB |")
    print(f"| memory per finished stage of each thousand | {each} KiB |")
    print(f"| processor per stage | {spread(spent, ' ms')} |\n| a thousand stages | {spread(long, ' s')} |\n")


# Items of one run, and how many of them at a time.
ITEMS = 10_000
AT_A_TIME = 1000
LOOK_SECONDS = 20
ON_SIMULATED_NODES = {
    "tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}],
    "nodeSelector": {"type": "kwok"},
}


def items() -> None:
    """One run over ten thousand items on simulated nodes, beside a bare Indexed Job of as many."""
    cluster = str(ROOT / "dev/cluster/cluster")
    subprocess.run([cluster, "kwok", "10", "--stages", str(ROOT / "bench/kwok-report.yaml")], check=True)
    try:
        # Before and after: what the apiserver holds by then makes it slower.
        floors = [bare_items()]
        leader = leader_process()
        idle, cpu = resident(leader), processor_seconds(leader)
        began, wrote = time.monotonic(), time.time()
        looked = began
        each = {"range": {"count": ITEMS}, "parallelism": AT_A_TIME}
        container = {**program(), **ON_SIMULATED_NODES, "agent": {"path": "/usr/local/bin/millrace-agent"}}
        apply(resource("MLPipelineRun", "items", {"pipeline": {"stages": {"fan": {"container": container, "forEach": each}}}}))
        peak = largest = 0.0
        # One process that waits, as for the floor: kubectl once a second would take a part of the processors that the run needs.
        until = ["--for=condition=Succeeded", "--timeout=30m"]
        waiting = subprocess.Popen(["kubectl", "wait", "-n", NAMESPACE, "mlpipelinerun/items", *until])
        while waiting.poll() is None:
            peak = max(peak, resident(leader))
            if time.monotonic() - looked > LOOK_SECONDS:
                looked, largest = time.monotonic(), max(largest, object_size())
            time.sleep(0.2)
        if waiting.returncode or not has_ended("items"):
            raise SystemExit("items did not succeed")
        largest = max(largest, object_size())
        ours, spent = time.monotonic() - began, processor_seconds(leader) - cpu
        mine = [w["objectRef"] for w in writes(wrote, f"serviceaccount:{SYSTEM}:")]
        count = sum(o["resource"] != "leases" and o.get("namespace") == NAMESPACE for o in mine)
        kubectl("delete", "mlpipelinerun", "items", "-n", NAMESPACE)
        without_pods()
        floors.append(bare_items())
        print(f"| {ITEMS} items, {AT_A_TIME} at a time | |\n|---|---|")
        print(f"| a bare Indexed Job (the floor), before and after | {floors[0]:.0f} s, {floors[1]:.0f} s |")
        print(f"| Millrace | {ours:.0f} s |\n| ratio to their mean | {ours / statistics.mean(floors):.2f} |")
        print(f"| controller idle, at most | {idle / 1e6:.0f} MB, {peak / 1e6:.0f} MB |\n| its processor time | {spent:.1f} s |")
        print(f"| its writes | {count} |\n| the run object at most | {largest / 1024:.1f} KiB |")
    finally:
        subprocess.run([cluster, "kwok", "0"], check=True)


def object_size() -> int:
    return len(json.dumps(get("mlpipelinerun", "items", NAMESPACE)))


def bare_items() -> float:
    template = {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", **program()}], **ON_SIMULATED_NODES}}
    spec = {"template": template, "completionMode": "Indexed", "completions": ITEMS, "parallelism": AT_A_TIME, "backoffLimitPerIndex": 0}
    began = time.monotonic()
    apply({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "bare-items"}, "spec": spec})
    kubectl_wait = ["wait", "-n", NAMESPACE, "job/bare-items", "--for=condition=complete", "--timeout=170s"]
    while "condition met" not in kubectl(*kubectl_wait, check=False):
        pass
    took = time.monotonic() - began
    kubectl("delete", "job", "bare-items", "-n", NAMESPACE)
    without_pods()
    return took


def without_pods() -> None:
    first = f"/api/v1/namespaces/{NAMESPACE}/pods?limit=1"
    wait_for("no pods", lambda: not json.loads(kubectl("get", "--raw", first))["items"], seconds=900, every=5)


def has_ended(run: str) -> bool:
    status = kubectl(
        "get",
        "mlpipelinerun",
        run,
        "-n",
        NAMESPACE,
        "-o",
        'jsonpath={.status.conditions[?(@.type=="Succeeded")].status}',
    )
    if status == "False":
        raise SystemExit(f"{run} failed")
    return status == "True"


def leader_process() -> Path:
    """The folder in /proc of the replica that holds the lease: the nodes of the local cluster are this machine's processes."""
    holder = get("lease", "millrace", SYSTEM)["spec"]["holderIdentity"]
    wanted = f"MILLRACE_POD_NAME={holder}".encode()
    for process in Path("/proc").glob("[0-9]*"):
        try:
            if wanted in (process / "environ").read_bytes().split(b"\0"):
                return process
        except OSError:
            continue
    raise SystemExit(f"{holder} is no process of this machine")


def resident(process: Path) -> float:
    fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return int(fields["VmRSS"].split()[0]) * 1024


def processor_seconds(process: Path) -> float:
    user, system = (process / "stat").read_text().rsplit(")", 1)[1].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    wait_for("the operator", lambda: get("deployment", "millrace", SYSTEM)["status"].get("readyReplicas"))
    sys.exit(main(sys.argv[1:]))
