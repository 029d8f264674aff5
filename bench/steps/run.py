#!/usr/bin/env python3
"""Requests in flight go to 1.5, 2 and 10 times as many at once: until as many pods are asked for as that takes, and from there until they are
Ready, beside as many bare pods of the same template from create to Ready.

    run.py [--rounds 3]

Needs KUBECONFIG of a cluster that `make install` made, and the cluster for itself; takes and leaves a namespace of its own. Prints Markdown.
The model is that of tests/cluster/test_scale.py; a pod is to have four requests at a time.
"""

import argparse
import json
import math
import statistics
import sys
import threading
import time
import unittest
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "cluster"))
sys.path.insert(0, str(ROOT / "bench" / "coldstart"))
sys.dont_write_bytecode = True

from harness import kubectl, wait_for
from run import Proxy, is_ready
from test_scale import Holds, Scaling

# Requests at a time before the step, and how many a pod is to have: not so close that one more is another pod.
BASE = 3
TARGET = 4
STEPS = (1.5, 2, 10)
SCALE = {"min": 1, "max": 12, "target": TARGET}
# Else ten pods ask for more processors than a small machine has.
SERVER = {"resources": {"requests": {"cpu": "10m", "memory": "16Mi"}}}
# As long as the decider looks back, twice.
STEADY = 15
PATIENCE = 120.0


class Watch(threading.Thread):
    """Notes when the objects of a list first satisfy something."""

    def __init__(self, proxy: Proxy, path: str, enough: Callable[[dict[str, dict]], bool]):
        super().__init__(daemon=True)
        self.lines, self.enough, self.at = proxy.call("GET", f"{path}&watch=true"), enough, math.inf
        self.start()

    def run(self) -> None:
        seen: dict[str, dict] = {}
        for line in iter(self.lines.readline, b""):
            change = json.loads(line)
            name = change["object"]["metadata"]["name"]
            if change["type"] == "DELETED":
                seen.pop(name, None)
            else:
                seen[name] = change["object"]
            if self.enough(seen):
                self.at = time.monotonic()
                return

    def wait(self, what: str) -> float:
        self.join(PATIENCE)
        if math.isinf(self.at):
            raise SystemExit(f"no {what} within {PATIENCE:.0f} s")
        return self.at


def ready(count: int) -> Callable[[dict[str, dict]], bool]:
    return lambda pods: sum(is_ready(pod) for pod in pods.values()) >= count


class Steps(Scaling):
    rounds = 3

    def test_steps(self) -> None:
        self.register(1)
        print("| load × | pods | until they are asked for | from there until Ready | as many bare pods | beside those |\n|---|---|---|---|---|---|", flush=True)
        for step in STEPS:
            rows = [self.one(step) for _ in range(self.rounds)]
            columns = list(zip(*rows, strict=True))
            cells = [spread(values, unit) for values, unit in zip(columns, (" s", " s", " s", " ×"), strict=True)]
            print(f"| {step} | {self.pods(step)} | {' | '.join(cells)} |", flush=True)

    def pods(self, step: float) -> int:
        return math.ceil(math.ceil(step * BASE) / TARGET)

    def one(self, step: float) -> tuple[float, float, float, float]:
        self.serve(1, scale=SCALE, server=SERVER)
        self.wait_served(1)
        self.address = self.get("service", "m")["spec"]["clusterIP"]
        namespace, revision, wanted = self.namespace, self.revision(), self.pods(step)
        holds = Holds(self.address)
        try:
            holds.hold(BASE)
            time.sleep(STEADY)
            self.assertEqual(self.wanted(), 1, "the load before the step is not what one pod is for")
            with Proxy() as proxy:
                named = f"/apis/apps/v1/namespaces/{namespace}/deployments?fieldSelector=metadata.name={revision}"
                asked = Watch(proxy, named, lambda found: any(d["spec"]["replicas"] >= wanted for d in found.values()))
                pods = Watch(proxy, f"/api/v1/namespaces/{namespace}/pods?labelSelector=millrace.dev/revision={revision}", ready(wanted))
                began = time.monotonic()
                holds.hold(math.ceil(step * BASE))
                decided = asked.wait(f"decision for {wanted} pods")
                there = pods.wait(f"{wanted} pods that are Ready")
        finally:
            holds.stop()
        self.assertEqual(holds.failures, [])
        template = self.get("deployment", revision)["spec"]["template"]["spec"]
        kubectl("delete", "modeldeployment", "m", "-n", namespace)
        wait_for("no pod", lambda: not self.get("pods", selector="millrace.dev/revision")["items"], PATIENCE)
        bare = self.bare(template, wanted - 1)
        return decided - began, there - decided, bare, (there - decided) / bare

    def bare(self, template: dict, count: int) -> float:
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        with Proxy() as proxy:
            watch = Watch(proxy, f"{pods}?labelSelector=bench=bare", ready(count))
            began = time.monotonic()
            for number in range(count):
                metadata = {"name": f"bare-{number}", "labels": {"bench": "bare"}}
                proxy.call("POST", pods, json.dumps({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template})).read()
            took = watch.wait(f"{count} bare pods") - began
        kubectl("delete", "pods", "-n", self.namespace, "-l", "bench=bare", "--now")
        return took


def spread(values: list[float] | tuple[float, ...], unit: str) -> str:
    return f"{statistics.median(values):.2f}{unit} ({min(values):.2f} – {max(values):.2f})"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    Steps.rounds = parser.parse_args().rounds
    result = unittest.TextTestRunner(verbosity=0).run(Steps("test_steps"))
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
