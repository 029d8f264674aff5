"""Retries by cause: which failures are tried again, with how much memory, and from which checkpoint."""

import json

from harness import DEBIAN, ClusterTest, Refused, kubectl, resource, script, wait_for

QUICK = {"initial": "1s", "factor": 1}
# Fills memory that the kernel can only take back by killing a process.
EAT = "head -c {megabytes}m /dev/zero | tail > /dev/null"


def memory_of(pod: dict) -> dict:
    main = next(c for c in pod["spec"]["containers"] if c["name"] == "main")
    return {kind: found.get("memory") for kind, found in main["resources"].items()}


class RetriesByCause(ClusterTest):
    def test_a_failure_that_the_condition_does_not_take_is_not_tried_again(self):
        retry = {"limit": 5, "backoff": QUICK, "on": "exitCode != 2"}
        self.run_inline({"s": script('echo bad input; exit "$MILLRACE_ATTEMPT"', retry=retry)})
        stage = self.failed()["stages"]["s"]
        self.assertEqual((stage["attempts"], stage["reason"], stage["exitCode"]), (2, "Error", 2))
        first, rest = stage["message"].split("\n", 1)
        self.assertIn("retry.on is false (exitCode 2, reason Error, attempt 2)", first)
        self.assertIn("bad input", first + rest)
        wait_for("an event that says so", lambda: [e for e in self.events() if e.startswith("StageFailed") and "retry.on is false" in e])

    def test_what_the_infrastructure_ends_is_tried_again_whatever_the_condition(self):
        retry = {"limit": 1, "on": "false"}
        self.run_inline({"s": script('test "$MILLRACE_ATTEMPT" -gt 1 || sleep 120', retry=retry, terminationGracePeriod="1s")})
        wait_for("the program", lambda: self.stage("s").get("state") == "Running")
        kubectl("delete", "pod", "-n", self.namespace, "-l", "millrace.dev/stage=s", "--wait=false")
        stage = self.succeeded()["stages"]["s"]
        self.assertEqual((stage["attempts"], stage.get("failures", 0)), (2, 0))

    def test_a_condition_with_a_mistake_is_refused_with_the_remedy(self):
        for number, (on, says) in enumerate([("exit_code == 1", "exitCode"), ("reason == 'OOMKiled'", "did you mean `OOMKilled`"), ("exitCode", "spec.stages.s.retry.on")]):
            name = self.run_inline({"s": script("true", retry={"limit": 1, "on": on})}, name=f"r{number}")
            accepted = next(c for c in self.failed(name)["conditions"] if c["type"] == "Accepted")
            self.assertEqual(accepted["status"], "False")
            self.assertIn(says, accepted["message"])
        self.assertEqual(self.jobs(), [])

    def test_memory_grows_after_an_attempt_that_ran_out_of_it(self):
        retry = {"limit": 3, "backoff": QUICK, "memoryGrowth": {"factor": 4, "max": "512Mi"}}
        resources = {"limits": {"memory": "48Mi"}, "requests": {"cpu": "10m", "memory": "24Mi"}}
        self.run_inline({"hungry": script(f"echo eating; {EAT.format(megabytes=100)}; echo full", resources=resources, retry=retry)})
        hungry = self.succeeded()["stages"]["hungry"]
        self.assertEqual((hungry["attempts"], hungry["failures"], hungry["memory"]), (2, 1, "192Mi"))
        pods = self.get("pods", selector="millrace.dev/stage=hungry")["items"]
        found = {p["metadata"]["labels"]["millrace.dev/attempt"]: memory_of(p) for p in pods}
        self.assertEqual(found, {"1": {"limits": "48Mi", "requests": "24Mi"}, "2": {"limits": "192Mi", "requests": "96Mi"}})
        wait_for("an event with the memory", lambda: [e for e in self.events() if e.startswith("StageRetried") and "192Mi of memory" in e])

    def test_memory_growth_without_a_limit_is_refused(self):
        retry = {"limit": 1, "memoryGrowth": {"max": "1Gi"}}
        self.run_inline({"s": script("true", retry=retry)})
        accepted = next(c for c in self.failed()["conditions"] if c["type"] == "Accepted")
        self.assertIn("write spec.stages.s.container.resources.limits.memory", accepted["message"])
        with self.assertRaisesRegex(Refused, "memoryGrowth"):
            bad = {"limit": 1, "memoryGrowth": {"max": "lots"}}
            self.apply(resource("MLPipelineRun", "bad", {"pipeline": {"stages": {"s": script("true", retry=bad)}}}))


# Counts up one step at a time, and goes on from the last complete checkpoint.
TRAIN = r"""
step=0
if [ -n "$MILLRACE_RESTORE_LATEST" ]; then step=$(cat "$MILLRACE_RESTORE_LATEST/step"); fi
echo "begins at $step, restored from ${MILLRACE_RESTORE_DIR:-nothing}"
test "$(ls "$MILLRACE_CHECKPOINT_DIR" | wc -l)" = 0
while [ "$step" -lt 3 ]; do
  step=$((step + 1))
  mkdir "$MILLRACE_CHECKPOINT_DIR/.step-$step"
  echo "$step" > "$MILLRACE_CHECKPOINT_DIR/.step-$step/step"
  mv "$MILLRACE_CHECKPOINT_DIR/.step-$step" "$MILLRACE_CHECKPOINT_DIR/step-$step"
  if [ "$step" = 2 ] && [ "$MILLRACE_ATTEMPT" = 1 ]; then
    mkdir "$MILLRACE_CHECKPOINT_DIR/.step-3"; echo half > "$MILLRACE_CHECKPOINT_DIR/.step-3/step"
    BREAK
  fi
done
echo "$step" > "$MILLRACE_OUTPUT_MODEL"
"""


class Checkpoints(ClusterTest):
    def trained(self, breaks: str, **settings) -> None:
        self.claim()
        train = script(TRAIN.replace("BREAK", breaks), outputs={"model": {}}, **settings)
        look = script('cat "$MILLRACE_INPUT_MODEL"', inputs={"model": {"from": "train.model"}})
        self.run_inline({"train": train, "look": look}, store={"pvc": {"claimName": "artifacts"}})

    def ended(self) -> dict:
        status = self.succeeded()
        self.assertIn("begins at 2, restored from /millrace/stage/attempts/1/checkpoint", self.logs("train", 2))
        self.assertEqual(self.logs("look").strip(), "3")
        found = self.in_store("find /store/runs -path '*/train/attempts/*' -maxdepth 5 -type d")
        self.assertIn("/attempts/1", found)
        self.assertNotIn("checkpoint", found, "the stage is complete: nothing goes on from there")
        return status["stages"]["train"]

    def in_store(self, command: str) -> str:
        """What a command says that sees the whole claim."""
        container = {
            "name": "main",
            "image": DEBIAN,
            "command": ["sh", "-c", command],
            "volumeMounts": [{"name": "store", "mountPath": "/store", "readOnly": True}],
            "securityContext": {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}},
        }
        security = {"runAsNonRoot": True, "runAsUser": 65532, "runAsGroup": 65532, "seccompProfile": {"type": "RuntimeDefault"}}
        volume = {"name": "store", "persistentVolumeClaim": {"claimName": "artifacts"}}
        spec = {"restartPolicy": "Never", "containers": [container], "volumes": [volume], "securityContext": security}
        self.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "look"}, "spec": spec})
        wait_for("the end of the look", lambda: self.get("pod", "look")["status"].get("phase") == "Succeeded")
        return kubectl("logs", "-n", self.namespace, "look")

    def test_an_attempt_goes_on_where_one_that_ran_out_of_memory_had_come(self):
        resources = {"limits": {"memory": "48Mi"}, "requests": {"cpu": "10m"}}
        self.trained(EAT.format(megabytes=300), resources=resources, retry={"limit": 1, "backoff": QUICK})
        train = self.ended()
        self.assertEqual((train["attempts"], train["failures"]), (2, 1))

    def test_an_attempt_goes_on_where_one_whose_pod_was_killed_had_come(self):
        self.trained("touch /tmp/there; echo waits; sleep 300")
        wait_for("two checkpoints", lambda: "waits" in self.logs("train"))
        kubectl("delete", "pod", "-n", self.namespace, "-l", "millrace.dev/stage=train", "--force", "--grace-period=0")
        train = self.ended()
        self.assertEqual((train["attempts"], train.get("failures", 0), train["disruptions"]), (2, 0, 1), json.dumps(train))
