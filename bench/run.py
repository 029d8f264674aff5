#!/usr/bin/env python3
"""Benchmarks of the control plane on the installed operator, as ratios to bare Jobs in the same run.

`run.py` runs all, `run.py chain|writes|quiet|memory|sizes` one of them. Prints Markdown; nothing here gates a test.
Needs `make install` and, for all but `chain` and `sizes`, the cluster that the tests made (its audit log, its simulated nodes).
"""

import json
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.dont_write_bytecode = True
sys.path.insert(0, str(ROOT / "tests" / "cluster"))

from harness import get, kubectl, resource, wait_for  # noqa: E402
from test_operator import writes  # noqa: E402

SYSTEM = "millrace-system"
NAMESPACE = "bench"
STAGES = 10
ROUNDS = 3


def main(names: list[str]) -> int:
    benchmarks = {"chain": chain, "writes": count_writes, "quiet": quiet, "sizes": sizes, "memory": memory}
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
    loud = [w["objectRef"] for w in writes(began, f"serviceaccount:{SYSTEM}:") if w["objectRef"]["resource"] != "leases"]
    print(f"| writes in 60 quiet seconds, but leases | {len(loud)} |\n|---|---|")


def sizes() -> None:
    """Images as they are pulled (compressed)."""
    print("| image | MB compressed |\n|---|---|")
    built = subprocess.run([str(ROOT / "dev" / "images" / "build")], check=True, capture_output=True, text=True).stdout
    for line in built.splitlines():
        name, _, file, *_ = line.split()
        if Path(file).exists():
            print(f"| {name} | {Path(file).stat().st_size / 1e6:.1f} |")


def memory() -> None:
    """Resident memory of the controller: idle, and per finished stage after 1,000 stages on simulated nodes."""
    leader = leader_pod()
    idle = resident(leader)
    container = {**program(), "agent": {"path": "/usr/local/bin/millrace-agent"}}
    container |= {"tolerations": [{"key": "kwok.x-k8s.io/node", "operator": "Exists"}], "nodeSelector": {"type": "kwok"}}
    stages = {f"s{i}": {"container": container} for i in range(100)}
    subprocess.run([str(ROOT / "dev/cluster/cluster"), "kwok", "10", "--stages", str(ROOT / "bench/kwok-report.yaml")], check=True)
    cpu = processor_seconds(leader)
    for i in range(10):
        run = resource("MLPipelineRun", f"many-{i}", {"pipeline": {"stages": stages}})
        kubectl("create", "-n", NAMESPACE, "-f", "-", stdin=json.dumps(run))
    for i in range(10):
        kubectl("wait", "-n", NAMESPACE, f"mlpipelinerun/many-{i}", "--for=condition=Succeeded", "--timeout=600s")
    time.sleep(5)
    grown = resident(leader) - idle
    spent = processor_seconds(leader) - cpu
    subprocess.run([str(ROOT / "dev/cluster/cluster"), "kwok", "0"], check=True)
    print(f"| controller | |\n|---|---|\n| idle | {idle / 1e6:.1f} MB |")
    print(f"| per finished stage, of 1,000 | {grown / 1000 / 1024:.1f} KiB |\n| CPU per stage | {spent:.2f} ms |")


def leader_pod() -> str:
    """The metrics address of the replica that holds the lease."""
    lease = next(x for x in get("leases", "", SYSTEM)["items"] if "millrace" in x["metadata"]["name"])
    holder = lease["spec"]["holderIdentity"]
    pods = get("pods", "", SYSTEM, "app.kubernetes.io/name=millrace")["items"]
    pod = next(p for p in pods if p["metadata"]["name"] in holder or holder in p["metadata"]["name"])
    return pod["status"]["podIP"]


def metric(address: str, name: str) -> float:
    import urllib.request

    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"http://{address}:8080/metrics") as response:
        for line in response.read().decode().splitlines():
            if line.startswith((name + " ", name + "{")):
                return float(line.rsplit(" ", 1)[1])
    raise SystemExit(f"no metric {name}")


def resident(address: str) -> float:
    return metric(address, "process_resident_memory_bytes")


def processor_seconds(address: str) -> float:
    return metric(address, "process_cpu_seconds_total")


if __name__ == "__main__":
    wait_for("the operator", lambda: get("deployment", "millrace", SYSTEM)["status"].get("readyReplicas"))
    sys.exit(main(sys.argv[1:]))
