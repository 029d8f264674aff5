#!/usr/bin/env python3
"""A request to a model at zero until its answer, beside a bare pod of the same template from create to Ready, in turns.

    run.py --namespace NS --name MODELDEPLOYMENT --body request.json [--rounds 7]

The ModelDeployment has `scale: { min: 0, toZeroAfter: 5s }`. Prints Markdown. Runs where Service addresses can be reached: on a node, or
on the machine of the local cluster.
"""

import argparse
import http.client
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Self

PATIENCE = 120.0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--name", required=True)
    parser.add_argument("--body", required=True, type=Path)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    bench = Bench(options.namespace, options.name, options.body.read_bytes())
    rounds = [(bench.bare(), *bench.from_zero()) for _ in range(options.rounds)]
    bare, cold = [r[0] for r in rounds], [r[1] for r in rounds]
    print("| what | median (smallest – largest) |\n|---|---|")
    print(f"| a bare pod, create to Ready | {spread(bare, ' s')} |")
    print(f"| request to answer from zero | {spread(cold, ' s')} |")
    print(f"| the one beside the other | {spread([c / b for b, c in zip(bare, cold, strict=True)], ' ×')} |")
    for span in rounds[0][2]:
        print(f"| span {span} | {spread([r[2][span] for r in rounds], ' ms')} |")
    return 0


def spread(values: list[float], unit: str) -> str:
    return f"{statistics.median(values):.2f}{unit} ({min(values):.2f} – {max(values):.2f})"


class Bench:
    def __init__(self, namespace: str, name: str, body: bytes) -> None:
        self.namespace, self.name, self.body = namespace, name, body
        self.address = self.get("service", name)["spec"]["clusterIP"]

    def kubectl(self, *arguments: str, stdin: str | None = None) -> str:
        command = ["kubectl", "-n", self.namespace, *arguments]
        return subprocess.run(command, input=stdin, check=True, capture_output=True, text=True).stdout

    def get(self, *what: str) -> dict:
        return json.loads(self.kubectl("get", *what, "-o", "json"))

    def wait_for_zero(self) -> None:
        """No pod is there or on its way: the cold start would share the machine with what ends."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            desired = self.get("modeldeployment", self.name)["status"].get("desiredReplicas")
            if desired == 0 and not self.get("pods", "-l", "millrace.dev/revision")["items"]:
                return
            time.sleep(0.5)
        raise SystemExit(f"{self.name} does not go to zero: it needs scale: {{ min: 0, toZeroAfter: 5s }}")

    def from_zero(self) -> tuple[float, dict[str, float]]:
        self.wait_for_zero()
        began = time.monotonic()
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        connection.request("POST", f"/v2/models/{self.name}/infer", self.body, {"content-type": "application/json"})
        answer = connection.getresponse()
        answer.read()
        took = time.monotonic() - began
        if answer.status != 200:
            raise SystemExit(f"the answer is {answer.status}")
        spans = [part.strip().split(";dur=") for part in answer.getheader("server-timing", "").split(",")]
        return took, {span[0]: float(span[1]) for span in spans if len(span) == 2}

    def bare(self) -> float:
        """A pod of the revision's template, without the labels by which routers know it."""
        self.wait_for_zero()
        revision = self.get("modeldeployment", self.name)["status"]["servedRevision"]
        template = self.get("deployment", revision)["spec"]["template"]
        pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "bare"}, "spec": template["spec"]}
        pods = f"/api/v1/namespaces/{self.namespace}/pods"
        with Proxy() as proxy:
            # A program that starts would be counted too: requests go through one that runs.
            began = time.monotonic()
            proxy.call("POST", pods, json.dumps(pod)).read()
            watch = proxy.call("GET", f"{pods}?watch=true&fieldSelector=metadata.name=bare")
            while not is_ready(json.loads(watch.readline())["object"]):
                pass
            took = time.monotonic() - began
        self.kubectl("delete", "pod", "bare", "--now")
        return took


def is_ready(pod: dict) -> bool:
    conditions = pod.get("status", {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)


class Proxy:
    """`kubectl proxy` for a while."""

    def __enter__(self) -> Self:
        self.process = subprocess.Popen(["kubectl", "proxy", "--port=0"], stdout=subprocess.PIPE, text=True)
        self.address = self.process.stdout.readline().rsplit(" ", 1)[1].strip()
        return self

    def __exit__(self, *_) -> None:
        self.process.terminate()
        self.process.wait()

    def call(self, verb: str, path: str, body: str | None = None) -> http.client.HTTPResponse:
        connection = http.client.HTTPConnection(self.address, timeout=PATIENCE)
        connection.request(verb, path, body, {"content-type": "application/json"})
        answer = connection.getresponse()
        if answer.status >= 300:
            raise SystemExit(f"{verb} {path}: {answer.status} {answer.read()[:500]!r}")
        return answer


if __name__ == "__main__":
    sys.exit(main())
