"""Logs that outlive their pods: kept in the store with each attempt, and read from there by `kubectl millrace logs`."""

import json
import signal

from harness import ClusterTest, change_node, kubectl, script, wait_for
from test_cli import CommandLine

STORE = {"pvc": {"claimName": "artifacts"}}
READERS = "app.kubernetes.io/managed-by=kubectl-millrace"
# As in test_failures: files in memory are no process's, so the kernel kills until the agent is gone too.
EAT = "head -c 60m /dev/zero > /dev/shm/x; sleep 60"


class Logs(CommandLine, ClusterTest):
    def setUp(self):
        super().setUp()
        self.claim()

    def forget(self, stage: str | None = None) -> None:
        """What the TTL of Jobs does in the end: Jobs and pods are gone."""
        selector = f"millrace.dev/stage={stage}" if stage else "millrace.dev/stage"
        kubectl("delete", "jobs", "-n", self.namespace, "-l", selector, "--cascade=foreground")
        wait_for("the end of the pods", lambda: self.get("pods", selector=selector)["items"] == [])

    def no_reader(self) -> None:
        there = [p for p in self.get("pods", selector=READERS)["items"] if "deletionTimestamp" not in p["metadata"]]
        self.assertEqual(there, [], "the pod that read the store is still there")

    def test_every_attempt_is_there_in_order_after_its_pod_is_deleted(self):
        stages = {
            "second": script("for i in 1 2 3; do echo out $i; echo err $i >&2; done", needs=["first"]),
            "first": script('echo "attempt $MILLRACE_ATTEMPT"; test "$MILLRACE_ATTEMPT" -gt 1', retry={"limit": 1, "backoff": {"initial": "1s"}}),
        }
        self.run_inline(stages, store=STORE)
        status = self.succeeded()
        self.assertIn("agent", status["agent"]["image"])
        of_pods = self.millrace("logs", "r").out
        self.forget()
        kept = self.millrace("logs", "r")
        expected = ["first | attempt 1", "first#2 | attempt 2", *(f"second  | {word} {i}" for i in (1, 2, 3) for word in ("out", "err"))]
        self.assertEqual(kept.out.splitlines(), expected)
        self.assertEqual(kept.out, of_pods)
        self.assertIn("claim artifacts", kept.errors)
        self.assertEqual(self.millrace("logs", "r", "first", "--previous").out, "attempt 1\n")
        self.assertEqual(self.millrace("logs", "r", "first", "--attempt", "2").out, "attempt 2\n")
        self.assertEqual(self.millrace("logs", "r", "second", "--tail", "1").out, "err 3\n")
        self.assertIn("has no attempt 7: it was tried 2 times", self.millrace("logs", "r", "first", "--attempt", "7", code=2).errors)
        self.no_reader()

    def test_they_are_there_when_the_node_is_gone(self):
        node = self.own_node()
        self.run_inline({"a": script("echo hello", nodeSelector={"kubernetes.io/hostname": node})}, store=STORE)
        self.succeeded()
        pods = self.get("pods", selector="millrace.dev/stage=a")["items"]
        self.assertEqual([pod["spec"]["nodeName"] for pod in pods], [node])
        change_node("remove", node)
        wait_for("the end of its pods", lambda: self.get("pods", selector="millrace.dev/stage=a")["items"] == [], 180)
        self.assertEqual(self.millrace("logs", "r").out, "a | hello\n")

    def test_an_agent_that_is_killed_and_a_pod_that_is_deleted_leave_what_was_printed(self):
        memory = {"limits": {"memory": "48Mi"}, "requests": {"cpu": "10m"}}
        stages = {
            # The agent has to have read what is printed before.
            "hungry": script(f"seq 1 1000; sleep 2; {EAT}", resources=memory, sharedMemory="64Mi", onFailure="Continue"),
            "deleted": script('test "$MILLRACE_ATTEMPT" -gt 1 && exit 0; trap "echo saved; exit 0" TERM; echo begun; while :; do sleep 0.1; done'),
        }
        self.run_inline(stages, store=STORE)
        wait_for("the program", lambda: "begun" in self.logs("deleted"))
        kubectl("delete", "pod", "-n", self.namespace, "-l", "millrace.dev/stage=deleted", "--wait=false")
        status = self.succeeded()
        self.assertEqual(status["stages"]["hungry"]["reason"], "OOMKilled")
        ended = self.get("pods", selector="millrace.dev/stage=hungry")["items"][0]["status"]["containerStatuses"][0]["state"]["terminated"]
        self.assertNotIn("outcome", ended["message"], "the agent lived and wrote a report: this shows nothing")
        # The second attempt's pod is still there: the first one's is not.
        lines = self.millrace("logs", "r", "deleted").out.splitlines()
        self.assertEqual((lines[0], lines[-1]), ("begun", "saved"), lines)
        self.forget("hungry")
        self.assertEqual(self.millrace("logs", "r", "hungry").out, "".join(f"{n}\n" for n in range(1, 1001)))

    def test_of_a_long_log_the_ends_are_kept_and_items_have_their_own(self):
        stages = {
            "long": script("seq -f '%099.0f' 1 300000"),
            "each": {**script('echo "item $MILLRACE_ITEM"'), "forEach": {"items": ["a", "b", "c"]}},
        }
        self.run_inline(stages, store=STORE)
        self.succeeded()
        long = self.millrace("logs", "r", "long", "--kept").out
        lines = long.splitlines()
        self.assertTrue(4_000_000 < len(long) < 7_000_000, len(long))
        self.assertEqual((int(lines[0]), int(lines[-1])), (1, 300000))
        left_out = [int(line.split()[1]) for line in lines if line.startswith("[millrace: ")]
        self.assertTrue(left_out, "nothing says what is left out")
        self.assertEqual(sum(100 for line in lines if not line.startswith("[")) + sum(left_out), 30_000_000)
        self.forget("each")
        self.assertEqual(self.millrace("logs", "r", "each").out.splitlines(), [f"each[{i}] | item {x}" for i, x in enumerate("abc")])
        self.assertEqual(self.millrace("logs", "r", "each", "--item", "1").out, "item b\n")

    def test_without_a_store_or_the_right_to_make_a_pod_it_says_so(self):
        self.run_inline({"a": script("echo hello")}, name="bare")
        self.run_inline({"a": script("echo hello")}, store=STORE)
        for run in ("bare", "r"):
            self.succeeded(run)
        self.assertNotIn("agent", self.run_of("bare")["status"])
        self.forget()
        bare = self.millrace("logs", "bare")
        self.assertEqual((bare.out, "the run has no store" in bare.errors), ("", True), bare)
        # Who may only look is told what is missing.
        kubectl("create", "serviceaccount", "looks", "-n", self.namespace)
        kubectl("create", "rolebinding", "looks", "-n", self.namespace, "--clusterrole=view", f"--serviceaccount={self.namespace}:looks")
        config = json.loads(kubectl("config", "view", "--raw", "--minify", "--flatten", "-o", "json"))
        config["users"][0]["user"] = {"token": kubectl("create", "token", "looks", "-n", self.namespace).strip()}
        path = self.written(json.dumps(config))
        refused = wait_for("the rights", lambda: self.refusal(path))
        for words in ("create, get and delete on pods", "pods/log", "forbidden"):
            self.assertIn(words, refused)

    def refusal(self, config: str) -> str | None:
        process = self.spawn("--kubeconfig", config, "logs", "r")
        _, errors = process.communicate(timeout=60)
        # The role comes a moment later.
        return errors if "what lies in the store" in errors else None

    def written(self, text: str) -> str:
        folder = self.scratch()
        path = folder / "kubeconfig"
        path.write_text(text)
        return str(path)

    def test_a_reader_that_is_interrupted_leaves_no_pod(self):
        self.run_inline({"a": script("echo hello")}, store=STORE)
        self.succeeded()
        process = self.spawn("logs", "r", "--kept", "--image", "registry.invalid/absent:1")
        made = wait_for("the pod", lambda: self.get("pods", selector=READERS)["items"])
        self.assertEqual(made[0]["metadata"]["ownerReferences"][0]["name"], "r")
        self.assertEqual(made[0]["spec"]["volumes"][0]["persistentVolumeClaim"]["claimName"], "artifacts")
        self.assertTrue(made[0]["spec"]["containers"][0]["volumeMounts"][0]["readOnly"])
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, "interrupted" in errors), (2, True), errors)
        wait_for("the end of the pod", lambda: self.get("pods", selector=READERS)["items"] == [])

    def test_what_pods_still_have_is_not_printed_to_somebody_who_wants_no_more(self):
        self.run_inline({"a": script("echo first"), "b": script("echo second", needs=["a"])}, store=STORE)
        self.succeeded()
        self.forget("a")
        process = self.spawn("logs", "r", "--image", "registry.invalid/absent:1")
        wait_for("the pod", lambda: self.get("pods", selector=READERS)["items"])
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, out, "interrupted" in errors), (2, "", True), errors)
        wait_for("the end of the pod", lambda: self.get("pods", selector=READERS)["items"] == [])

    def test_a_program_cannot_read_what_another_stage_printed(self):
        look = 'find / -path /proc -prune -o -type d -name log -path "*attempts*" -print 2>/dev/null || true; cat "$MILLRACE_INPUT_DATA"'
        stages = {
            "tells": script('echo s3cret; echo data > "$MILLRACE_OUTPUT_DATA"', outputs={"data": {}}),
            "looks": script(look, inputs={"data": {"from": "tells.data"}}),
        }
        self.run_inline(stages, store=STORE)
        self.succeeded()
        seen = self.logs("looks").splitlines()
        self.assertEqual(seen, ["/millrace/stage/attempts/1/log", "data"], "its own, and no other's")
