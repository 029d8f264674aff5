"""The operator itself: killed, quiet, beside objects that nobody can read. These tests have the cluster for themselves."""

import contextlib
import json
import mmap
import subprocess
import time
from pathlib import Path

from harness import ROOT, SYSTEM, ClusterTest, alone, change_node, get, kill_operator, kubectl, resource, script, wait_for

AUDIT = ROOT / ".cluster" / "audit.log"


def writes(since: float, who: str = "") -> list[dict]:
    """Writes that the apiserver committed since then, from its audit log, by users whose name holds `who`."""
    found = []
    for entry in audited():
        # Entries come in the order of their answers, nearly.
        if entry.get("stageTimestamp", "") < stamp(since - 10):
            break
        if entry.get("verb") not in ("create", "update", "patch", "delete") or entry.get("requestReceivedTimestamp", "") < stamp(since):
            continue
        if who in entry.get("user", {}).get("username", "") and entry.get("responseStatus", {}).get("code", 500) < 400:
            found.append(entry)
    return found[::-1]


def audited():
    """The audit log's entries, the newest first. The apiserver begins a new file when one is full."""
    full = sorted(AUDIT.resolve().parent.glob(f"{AUDIT.stem}-*{AUDIT.suffix}"), reverse=True)
    for file in [AUDIT, *full]:
        for line in last_first(file):
            with contextlib.suppress(ValueError):  # the line that is being written
                yield json.loads(line)


def last_first(file: Path):
    """The lines of a file, the last first. The others are not read: a day's audit log is a gigabyte."""
    with file.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as text:
        end = len(text)
        while end:
            start = text.rfind(b"\n", 0, end - 1) + 1
            yield text[start:end]
            end = start


def stamp(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1e6):06d}Z"


@alone
class Operator(ClusterTest):
    only_local = "breaks things: only on a cluster that the tests made"

    def test_a_killed_operator_goes_on_where_it_was(self):
        self.run_inline({"a": script("sleep 6"), "b": script("true", needs=["a"])})
        wait_for("stage a", lambda: self.stage("a").get("state") == "Running")
        kill_operator()
        status = self.succeeded()
        self.assertEqual([s["attempts"] for s in status["stages"].values()], [1, 1])
        self.assertEqual(self.jobs(), ["r-a-1", "r-b-1"])

    def test_another_replica_takes_over_when_the_leader_is_killed(self):
        kubectl("rollout", "status", "deployment/millrace", "-n", SYSTEM, "--timeout=120s")
        leader = get("lease", "millrace", SYSTEM)["spec"]["holderIdentity"]
        self.run_inline({"a": script("sleep 3"), "b": script("true", needs=["a"])})
        wait_for("stage a", lambda: self.stage("a").get("state") == "Running")
        kubectl("delete", "pod", "-n", SYSTEM, leader, "--grace-period=0", "--force")
        self.succeeded()
        # The kubelet hears of the kill later than the apiserver: until then the old one may still be at work.
        wait_for("another leader", lambda: get("lease", "millrace", SYSTEM)["spec"].get("holderIdentity") not in (None, "", leader))
        self.assertEqual(self.jobs(), ["r-a-1", "r-b-1"])

    def test_an_object_that_no_program_can_read_stops_nobody(self):
        deep = "[" * 500 + "]" * 500
        run = {"params": {"p": "DEEP"}, "pipeline": {"stages": {"a": script("true")}}}
        poison = {"apiVersion": "millrace.dev/v1alpha1", "kind": "MLPipelineRun", "metadata": {"name": "deep"}, "spec": run}
        text = json.dumps(poison).replace('"DEEP"', deep)
        kubectl("create", "--raw", f"/apis/millrace.dev/v1alpha1/namespaces/{self.namespace}/mlpipelineruns", "-f", "-", stdin=text)
        kill_operator()
        self.run_inline({"a": script("true")})
        self.succeeded()

    def test_expressions_that_would_cost_the_operator_fail_their_own_run(self):
        list_, text = [0] * 20000, "A" * 50000
        for expression in ("params.l.map(x, params.s + 'x')", "params.l.all(x, !params.s.matches('(?i)(a|b){40}z'))"):
            params = {"l": {"type": "array", "default": list_}, "s": {"type": "string", "default": text}}
            stage = {"container": {**script("true")["container"], "args": [f"$[[ {expression} ]]"]}}
            self.apply(resource("MLPipelineRun", "r", {"pipeline": {"params": params, "stages": {"a": stage}}}))
            status = self.failed()
            self.assertEqual(status["stages"]["a"]["reason"], "InvalidExpression", status)
            self.assertIn("compute it in a stage", status["stages"]["a"]["message"])
            kubectl("delete", "mlpipelinerun", "r", "-n", self.namespace)

    def test_a_one_stage_run_costs_few_writes_and_then_there_are_none_but_leases(self):
        self.pipeline({"a": script("true")})
        wait_for("an accepted pipeline", lambda: self.get("mlpipeline", "p").get("status"))
        time.sleep(2)
        began = time.time()
        self.start()
        self.succeeded()
        time.sleep(3)
        mine = [w["objectRef"] for w in writes(began, "system:serviceaccount:millrace-system:")]
        mine = [o for o in mine if o["resource"] != "leases" and o.get("namespace") == self.namespace]
        events = [o for o in mine if o["resource"] == "events"]
        self.assertLessEqual(len(mine) - len(events), 6, mine)
        self.assertLessEqual(len(events), 4, events)
        quiet = time.time()
        time.sleep(60)
        loud = [w["objectRef"] for w in writes(quiet, "system:serviceaccount:millrace-system:")]
        # Where nothing changes: other levels' tests may be at work in namespaces of their own.
        here = [o for o in loud if o.get("namespace") in (self.namespace, SYSTEM)]
        self.assertEqual([o for o in here if o["resource"] != "leases"], [])

    def test_a_node_lost_with_the_report_does_not_run_the_program_again(self):
        """The program has ended and its manifest is in the store; its node goes before anybody has read the report."""
        change_node("add", "lost")
        self.addCleanup(change_node, "remove", "lost")
        self.claim()
        kubectl("scale", "deployment", "-n", SYSTEM, "millrace", "--replicas=2")
        stage = script(
            'echo ran >> "$MILLRACE_OUTPUT_DATA"; sleep 5',
            outputs={"data": {}},
            affinity=prefer_node("lost"),
            terminationGracePeriod="1s",
        )
        self.run_inline({"work": stage}, store={"pvc": {"claimName": "artifacts"}})
        wait_for("the program", lambda: self.stage("work").get("state") == "Running")
        self.assertEqual(self.get("pods", selector="millrace.dev/stage=work")["items"][0]["spec"]["nodeName"], "lost")
        kubectl("scale", "deployment", "-n", SYSTEM, "millrace", "--replicas=0")
        self.addCleanup(kubectl, "scale", "deployment", "-n", SYSTEM, "millrace", "--replicas=2")
        wait_for("the manifest", lambda: list(volume_folder(self.namespace).glob("runs/*/work/manifest.json")), 60)
        change_node("stop", "lost")
        kubectl("scale", "deployment", "-n", SYSTEM, "millrace", "--replicas=2")
        work = self.succeeded(seconds=240)["stages"]["work"]
        self.assertIn(work["attempts"], (1, 2))
        lines = [p.read_text() for p in volume_folder(self.namespace).glob("runs/*/work/attempts/*/outputs/data")]
        self.assertEqual(lines, ["ran\n"])


def prefer_node(name: str) -> dict:
    term = {"matchExpressions": [{"key": "kubernetes.io/hostname", "operator": "In", "values": [name]}]}
    return {"nodeAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": term}]}}


def volume_folder(namespace: str) -> Path:
    name = get("persistentvolumeclaim", "artifacts", namespace)["spec"]["volumeName"]
    cluster = str(ROOT / "dev" / "cluster" / "cluster")
    shown = subprocess.run([cluster, "volume", "--path", name], check=True, capture_output=True, text=True)
    return Path(shown.stdout.strip())
