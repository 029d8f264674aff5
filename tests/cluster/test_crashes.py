"""An operator that crashes at every one of its writes, before, in and after it: what comes out is what comes out without a crash. These tests
have the cluster for themselves."""

import json
import os
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor

from faults import Crash, Proxy, kubeconfig
from harness import ROOT, SYSTEM, ClusterTest, alone, condition, get, kubectl, resource, script, wait_for
from test_operator import writes

CONTROLLER = ROOT / "target" / "release" / "millrace-controller"
LOG = ROOT / "target" / "test-logs" / "crashing-operator.log"
# So many operators crash side by side for each way to crash.
LANES = 2
MODEL = """
mkdir -p "$MILLRACE_OUTPUT_MODEL"
printf onnx > "$MILLRACE_OUTPUT_MODEL/model.onnx"
printf '{"task":"classification","inputs":[],"outputs":[]}' > "$MILLRACE_OUTPUT_MODEL/signature.json"
echo '{"f1": 1}' > "$MILLRACE_OUT/metrics.json"
"""


class Crashes(ClusterTest):
    """What is applied, when it has ended, and what must be there then are the tests' own: `given`, `ended` and `end_state`."""

    only_local = "breaks things: only on a cluster that the tests made"

    def at_every_write(self) -> int:
        """Runs the scenario without a crash and with one at each write; how many writes there are at least."""
        kubectl("scale", "deployment", "-n", SYSTEM, "millrace", "--replicas=0")
        self.addCleanup(kubectl, "rollout", "status", "-n", SYSTEM, "deployment/millrace", "--timeout=60s")
        self.addCleanup(kubectl, "scale", "deployment", "-n", SYSTEM, "millrace", "--replicas=2")
        self.claim()
        wanted = self.scenario("reference", Crash())
        lanes = [(when, first) for when in ("before", "commit", "after") for first in range(1, LANES + 1)]
        with ThreadPoolExecutor(len(lanes)) as threads:
            crashed = list(threads.map(lambda lane: self.broken_by(*lane, wanted), lanes))
        broken = [line for lines, _ in crashed for line in lines]
        self.assertEqual(broken, [], f"\n{chr(10).join(broken)}\nthe reference: {wanted}")
        # How many writes there are depends on the moment at which pods are heard.
        return min(writes for _, writes in crashed)

    def broken_by(self, when: str, first: int, wanted: dict) -> tuple[list[str], int]:
        """What ends otherwise with an operator that crashes at this write, or at a later one of its lane, until there are no more, and how
        many there were."""
        test = type(self)(self._testMethodName)
        test.setUp()
        broken = []
        try:
            test.claim()
            for at in range(first, 100, LANES):
                crash = Crash(at, when)
                name = f"c{at}-{when}"
                try:
                    got = test.scenario(name, crash)
                except AssertionError as error:
                    got = str(error)
                if got != wanted:
                    broken.append(f"{name} at {crash.trace[at - 1] if len(crash.trace) >= at else '?'}: {got}")
                if not crash.struck.is_set():
                    break
        finally:
            test.doCleanups()
        return broken, at - 1

    def scenario(self, name: str, crash: Crash) -> dict:
        """Applies what is given and runs an operator that crashes once; returns the end state."""
        began = time.time()
        proxy = Proxy(crash)
        self.given(name)
        operator = self.operator(proxy)
        again: list[subprocess.Popen] = []

        def ended() -> bool:
            if crash.struck.is_set() and operator.poll() is not None and not again:
                again.append(self.operator(proxy))
            return self.ended(name)

        try:
            try:
                wait_for(f"end of {name}", ended, 120, every=0.3)
            except AssertionError as error:
                raise AssertionError(f"{error}; {self.seen()}") from None
            # The last writes come after the end.
            if crash.at and not again and crash.struck.wait(15):
                operator.wait()
                again.append(self.operator(proxy))
            time.sleep(0.5)
            return self.end_state(name, began)
        finally:
            for process in [operator, *again]:
                process.kill()
                process.wait()
            proxy.close()
            kubectl("delete", "mlpipeline,modeldeployment", "-n", self.namespace, "--all", "--wait=false")

    def given(self, name: str) -> None:
        raise NotImplementedError

    def ended(self, name: str) -> bool:
        raise NotImplementedError

    def end_state(self, name: str, began: float) -> dict:
        """What must be the same whatever crashed, names taken out."""
        raise NotImplementedError

    def seen(self) -> str:
        """What the objects say of themselves."""
        things = self.get("mlpipelines,mlpipelineruns,modeldeployments")["items"]
        return json.dumps([[thing["kind"], thing["metadata"]["name"], thing.get("status", {})] for thing in things])

    def made(self, since: float, what: str) -> int:
        """How many of these were created since then, by the audit log."""
        found = [w["objectRef"] for w in writes(since) if w["verb"] == "create" and w["objectRef"].get("namespace") == self.namespace]
        return sum(o["resource"] == what and not o.get("subresource") for o in found)

    def operator(self, proxy: Proxy) -> subprocess.Popen:
        command = [str(CONTROLLER), "run", "--no-lease", "--namespaces", self.namespace, "--listen", "127.0.0.1:0"]
        command += ["--catalog-namespace", SYSTEM, *images()]
        environment = {**os.environ, "KUBECONFIG": kubeconfig(proxy.address)}
        LOG.parent.mkdir(parents=True, exist_ok=True)
        with LOG.open("a") as log:
            process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
        proxy.victim = process
        return process


@alone
class Loop(Crashes):
    """A pipeline that is tried, gated, registered, deployed and promoted."""

    def test_a_crash_at_every_write_ends_right_with_one_job_per_attempt(self):
        self.assertGreater(self.at_every_write(), 15)

    def given(self, name: str) -> None:
        self.apply(resource("ModelDeployment", name, {"model": {"name": name}, "scale": {"replicas": 0}}))
        stages = {
            "train": script(MODEL, outputs={"model": {"type": "model"}}, gate={"pass": "metrics.f1 > 0.5"}),
            "register": {"register": {"model": name, "from": "train.model", "metrics": "train"}},
            "deploy": {"deploy": {"modelDeployment": name, "version": "register", "wait": "Promoted"}},
            "mend": script("true", when="stages.train.metrics.f1 < 0.5"),
        }
        last = {"finally": {"tell": script("true", when="run.status == 'Succeeded'")}}
        self.pipeline(stages, name, store={"pvc": {"claimName": "artifacts"}}, triggers={"onChange": True}, **last)

    def last_run(self, name: str) -> dict:
        run = self.get("mlpipeline", name).get("status", {}).get("lastRun")
        return self.run_of(run).get("status", {}) if run else {}

    def ended(self, name: str) -> bool:
        return "completionTime" in self.last_run(name)

    def end_state(self, name: str, began: float) -> dict:
        status = self.last_run(name)
        versions = self.get("modelversion", selector=f"millrace.dev/model={name}")["items"]
        deployment = self.get("modeldeployment", name)
        served = deployment["status"]
        routes = json.loads(self.get("configmap", "millrace-routes")["data"]["routes.json"])["models"]
        routed = next(m for m in routes if m["name"] == name)
        return {
            "stages": {stage: (s["state"], s.get("attempts", 0)) for stage, s in status["stages"].items()},
            "versions": [v["spec"]["version"] for v in versions],
            "deployed": deployment["spec"]["model"].get("version"),
            "served": served.get("servedVersion"),
            "weights": [r["weight"] for r in served["revisions"]],
            "routed": [r["weight"] for r in routed["revisions"]],
            "port": served["routerPort"] == routed["port"],
            "jobs": self.made(began, "jobs"),
            "runs": self.made(began, "mlpipelineruns"),
            "succeeded": next(c["status"] for c in status["conditions"] if c["type"] == "Succeeded"),
        }


@alone
class Triggers(Crashes):
    """A pipeline that a backfill starts, and one that follows its run. A change starts that of the loop."""

    def test_a_crash_at_every_write_makes_one_run_of_each_trigger(self):
        self.assertGreater(self.at_every_write(), 8)

    def given(self, name: str) -> None:
        schedules = {"daily": {"cron": "@daily", "suspend": True}}
        day = {"schedule": "daily", "from": "2026-01-01T00:00:00Z", "to": "2026-01-02T00:00:00Z"}
        triggers = {"schedules": schedules, "backfills": {"past": day}}
        self.pipeline({"a": script("true")}, f"{name}-next", triggers={"onPipeline": {"first": {"pipeline": name}}})
        # What succeeded before the other one looked starts nothing.
        self.pipeline({"a": script("true")}, name, triggers=triggers)

    def runs(self, name: str) -> list[tuple[str, str, str]]:
        """Of these two pipelines: which one, for which time, how it ended."""
        runs = self.get("mlpipelineruns")["items"]
        mine = [run for run in runs if run["spec"]["pipelineRef"]["name"].removesuffix("-next") == name]
        spec = lambda run: (run["spec"]["pipelineRef"]["name"].removeprefix(name), run["spec"].get("scheduledTime", ""))  # noqa: E731
        return sorted((*spec(run), condition(run, "Succeeded").get("status", "")) for run in mine)

    def ended(self, name: str) -> bool:
        runs = self.runs(name)
        past = self.get("mlpipeline", name).get("status", {}).get("triggers", {}).get("backfills", {}).get("past", {})
        return len(runs) >= 2 and all(status in ("True", "False") for *_, status in runs) and "completionTime" in past

    def end_state(self, name: str, began: float) -> dict:
        past = self.get("mlpipeline", name)["status"]["triggers"]["backfills"]["past"]
        return {
            "runs": self.runs(name),
            "backfill": (past["runs"], past["succeeded"], past["failed"]),
            "created": self.made(began, "mlpipelineruns"),
            "jobs": self.made(began, "jobs"),
        }


def images() -> list[str]:
    """The images that the installed operator uses."""
    container = get("deployment", "millrace", SYSTEM)["spec"]["template"]["spec"]["containers"][0]
    arguments = container.get("args", [])
    flags = ("--agent-image", "--server-image", "--server-cuda-image", "--operator-image", "--router-role")
    return [a for a in arguments if a.startswith(flags)]
