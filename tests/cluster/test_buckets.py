"""What works on a claim works in a bucket: logs that outlive their pods, `kubectl millrace cp`, checkpoints, and 2 GB through 256 MiB of memory."""

import json
import signal
from pathlib import Path

from harness import kubectl, resource, script, wait_for
from objects import ACCOUNT, RIGHT, S3Test
from test_cli import CommandLine
from test_cp import MAKE, digest
from test_logs import EAT, READERS
from test_nested import MADE, NestedTest
from test_retries import QUICK, TRAIN

GIB = 1024**3
# Between a checkpoint, or what is printed, and the end of its pod: the agent looks for new ones every second, and sends what there is.
SOON = "sleep 10"


class InABucket(CommandLine, S3Test):
    def setUp(self):
        super().setUp()
        self.endpoint = self.serve({"lake/readme": "a bucket"})
        data = {"AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": RIGHT}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": data})
        self.store = {"s3": {"bucket": "lake", "prefix": "teams/a", "endpoint": self.endpoint, "secretRef": {"name": "keys"}}}

    def forget(self, stage: str | None = None) -> None:
        """What the TTL of Jobs does in the end: Jobs and pods are gone."""
        selector = f"millrace.dev/stage={stage}" if stage else "millrace.dev/stage"
        kubectl("delete", "jobs", "-n", self.namespace, "-l", selector, "--cascade=foreground")
        wait_for("the end of the pods", lambda: self.get("pods", selector=selector)["items"] == [])

    def no_reader(self) -> None:
        def gone() -> bool:
            return [p for p in self.get("pods", selector=READERS)["items"] if "deletionTimestamp" not in p["metadata"]] == []

        wait_for("the end of the pods that read the store", gone, 30)

    def folder(self, name: str = "r") -> Path:
        """The folder of a run, on this machine."""
        return self.objects / "lake" / "teams" / "a" / "runs" / f"{name}-{self.run_of(name)['metadata']['uid'][:8]}"

    def checkpoints(self, stage: str) -> list[str]:
        below = self.folder() / stage / "attempts"
        return sorted(str(path.relative_to(below)) for path in below.glob("*/checkpoint/**/*") if path.is_file())


class Logs(InABucket):
    def test_every_attempt_is_there_in_order_after_its_pod_is_deleted(self):
        memory = {"limits": {"memory": "48Mi"}, "requests": {"cpu": "10m"}}
        stages = {
            "first": script('echo "attempt $MILLRACE_ATTEMPT"; test "$MILLRACE_ATTEMPT" -gt 1', retry={"limit": 1, "backoff": {"initial": "1s"}}),
            "second": script("for i in 1 2 3; do echo out $i; echo err $i >&2; done", needs=["first"]),
            "each": {**script('echo "item $MILLRACE_ITEM"', needs=["second"]), "forEach": {"items": ["a", "b", "c"]}},
            # The agent is killed too, as by the loss of its node.
            "hungry": script(f"seq 1 1000; {SOON}; {EAT}", resources=memory, sharedMemory="64Mi", onFailure="Continue", needs=["each"]),
        }
        self.run_inline(stages, store=self.store)
        status = self.succeeded(seconds=300)
        self.assertEqual(status["stages"]["hungry"]["reason"], "OOMKilled")
        self.forget()
        kept = self.millrace("logs", "r")
        self.assertIn("out of s3://lake/teams/a/runs/r-", kept.errors)
        lines = kept.out.splitlines()
        texts = [line.split("|", 1)[1].strip() for line in lines]
        self.assertEqual([line.split()[0] for line in lines[:3]], ["first", "first#2", "second"])
        expected = ["attempt 1", "attempt 2", *(f"{word} {i}" for i in (1, 2, 3) for word in ("out", "err")), "item a", "item b", "item c"]
        self.assertEqual(texts, expected + [str(n) for n in range(1, 1001)])
        self.assertEqual(self.millrace("logs", "r", "first", "--previous").out, "attempt 1\n")
        self.assertEqual(self.millrace("logs", "r", "second", "--tail", "1").out, "err 3\n")
        self.assertEqual(self.millrace("logs", "r", "each", "--item", "1").out, "item b\n")
        told = kubectl("get", "mlpipelineruns,events,pods", "-n", self.namespace, "-o", "json")
        self.assertNotIn(RIGHT, told + kept.errors)
        self.no_reader()

    def test_a_pod_that_is_deleted_leaves_its_last_words_and_of_a_long_log_the_ends_are_kept(self):
        stages = {
            "deleted": script('test "$MILLRACE_ATTEMPT" -gt 1 && exit 0; trap "echo saved; exit 0" TERM; echo begun; while :; do sleep 0.1; done'),
            "long": script("seq -f '%099.0f' 1 300000"),
        }
        self.run_inline(stages, store=self.store)
        wait_for("the program", lambda: "begun" in self.logs("deleted"))
        kubectl("delete", "pod", "-n", self.namespace, "-l", "millrace.dev/stage=deleted", "--wait=false")
        self.succeeded(seconds=240)
        lines = self.millrace("logs", "r", "deleted", "--kept").out.splitlines()
        self.assertEqual((lines[0], lines[-1]), ("begun", "saved"), lines)
        long = self.millrace("logs", "r", "long", "--kept").out
        lines = long.splitlines()
        self.assertTrue(4_000_000 < len(long) < 7_000_000, len(long))
        self.assertEqual((int(lines[0]), int(lines[-1])), (1, 300000))
        left_out = [int(line.split()[1]) for line in lines if line.startswith("[millrace: ")]
        self.assertEqual(sum(100 for line in lines if not line.startswith("[")) + sum(left_out), 30_000_000)

    def test_a_store_that_cannot_be_read_says_why(self):
        self.run_inline({"a": script("echo hello")}, store=self.store)
        self.succeeded()
        self.forget()
        kubectl("patch", "secret", "keys", "-n", self.namespace, "-p", json.dumps({"stringData": {"AWS_SECRET_ACCESS_KEY": "other"}}))
        refused = self.millrace("logs", "r", code=2).errors
        self.assertIn("valid credentials", refused)
        self.no_reader()


class Copy(InABucket):
    def setUp(self):
        super().setUp()
        self.here = self.scratch()

    def test_files_and_folders_are_copied_with_their_digest_also_when_their_run_is_gone(self):
        self.run_inline({"make": script(MAKE, outputs={"one": {}, "many": {}, "none": {}})}, store=self.store)
        status = self.succeeded()
        outputs = status["stages"]["make"]["outputs"]
        for name in ("one", "many", "none"):
            said = self.millrace("cp", f"r/make.{name}", str(self.here / name))
            self.assertIn("is copied to", said.out)
            self.assertEqual(digest(self.here / name), outputs[name]["digest"], name)
        self.assertEqual(sorted(p.name for p in self.here.iterdir()), ["many", "none", "one"], "nothing else is left")
        self.assertEqual((self.here / "many" / "name with a space").read_text(), "no line end")
        made = outputs["many"]
        artifact = {name: made[name] for name in ("uri", "digest", "size", "access")}
        self.apply(resource("ModelVersion", "m-v3", {"model": "m", "version": 3, "format": "files", "artifact": artifact}))
        kubectl("delete", "mlpipelinerun", "-n", self.namespace, "r")
        self.millrace("cp", "m@3", str(self.here / "version"), "--image", status["agent"]["image"])
        self.assertEqual(digest(self.here / "version"), made["digest"])
        self.no_reader()

    def test_what_is_not_what_was_reported_is_not_kept_nor_is_what_is_interrupted(self):
        self.run_inline({"make": script(MAKE, outputs={"one": {}, "many": {}, "none": {}})}, store=self.store)
        outputs = self.succeeded()["stages"]["make"]["outputs"]
        path = self.objects / outputs["one"]["uri"].removeprefix("s3://")
        was = path.read_bytes()
        path.write_bytes(bytes([was[0] ^ 1]) + was[1:])
        refused = self.millrace("cp", "r/make.one", str(self.here / "one"), code=2).errors
        self.assertIn("nothing is copied", refused)
        path.unlink()
        self.assertIn("there is no s3://lake/", self.millrace("cp", "r/make.one", str(self.here / "one"), code=2).errors)
        process = self.spawn("cp", "r/make.many", str(self.here / "many"), "--image", "registry.invalid/absent:1")
        made = wait_for("the pod", lambda: [p for p in self.get("pods", selector=READERS)["items"] if p["spec"]["containers"][0]["image"].startswith("registry.invalid")])
        self.assertEqual(made[0]["spec"]["containers"][0]["envFrom"][0]["secretRef"]["name"], "keys")
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, "interrupted" in errors), (2, True), errors)
        self.assertEqual(list(self.here.iterdir()), [])
        wait_for("the end of the pod", lambda: self.get("pods", selector=READERS)["items"] == [])


class Checkpoints(InABucket):
    def trained(self, breaks: str, **settings) -> None:
        train = script(TRAIN.replace("BREAK", breaks), outputs={"model": {}}, **settings)
        look = script('cat "$MILLRACE_INPUT_MODEL"', inputs={"model": {"from": "train.model"}})
        self.run_inline({"train": train, "look": look}, store=self.store)

    def ended(self) -> dict:
        status = self.succeeded(seconds=240)
        self.assertIn("begins at 2, restored from /millrace/stage/attempts/1/checkpoint", self.logs("train", 2))
        self.assertEqual(self.logs("look").strip(), "3")
        self.assertEqual(self.checkpoints("train"), [], "the stage is complete: nothing goes on from there")
        return status["stages"]["train"]

    def test_an_attempt_goes_on_where_one_whose_agent_was_killed_too_had_come(self):
        resources = {"limits": {"memory": "64Mi"}, "requests": {"cpu": "10m"}}
        eat = f"{SOON}; head -c 80m /dev/zero > /dev/shm/x; sleep 60"
        self.trained(eat, resources=resources, sharedMemory="96Mi", retry={"limit": 1, "backoff": QUICK})
        train = self.ended()
        self.assertEqual((train["attempts"], train["failures"]), (2, 1))

    def test_an_attempt_goes_on_where_one_whose_pod_was_killed_had_come(self):
        self.trained(f"{SOON}; echo waits; sleep 300")
        wait_for("two checkpoints", lambda: "waits" in self.logs("train"))
        self.assertTrue(self.checkpoints("train"))
        kubectl("delete", "pod", "-n", self.namespace, "-l", "millrace.dev/stage=train", "--force", "--grace-period=0")
        train = self.ended()
        self.assertEqual((train["attempts"], train.get("failures", 0), train["disruptions"]), (2, 0, 1), json.dumps(train))


class Items(InABucket, NestedTest):
    def test_what_the_runs_of_items_made_is_copied_by_the_store_and_stays_when_they_go(self):
        self.run_inline(self.makers(self.store), store=self.store)
        self.succeeded(seconds=300)
        self.assertEqual(self.logs("tell").splitlines(), MADE)
        made = sorted(str(path.relative_to(self.folder() / "each/outputs")) for path in self.folder().glob("each/outputs/*/*/**/*") if path.is_file())
        below = [name.split("/", 2)[0::2] for name in made]
        self.assertEqual([b for b in below if b[0] != "items"], [["data", "0"], ["data", "1"], ["folder", "0/deep/name"], ["folder", "1/deep/name"]])


class Large(InABucket):
    def test_two_gigabytes_go_through_stages_of_256_mebibytes(self):
        resources = {"limits": {"memory": "256Mi"}, "requests": {"cpu": "10m", "memory": "64Mi"}}
        stages = {
            "make": script(f'yes millrace | head -c {2 * GIB} > "$MILLRACE_OUTPUT_DATA"', outputs={"data": {}}, resources=resources),
            "read": script('stat -c %s "$MILLRACE_INPUT_DATA"; head -c 9 "$MILLRACE_INPUT_DATA"', inputs={"data": {"from": "make.data"}}, resources=resources),
        }
        self.run_inline(stages, store=self.store)
        found = self.succeeded(seconds=900)["stages"]
        self.assertEqual(self.logs("read").split(), [str(2 * GIB), "millrace"])
        self.assertEqual([(found[name]["attempts"], found[name].get("disruptions", 0)) for name in ("make", "read")], [(1, 0), (1, 0)])
        self.assertEqual(found["make"]["outputs"]["data"]["size"], 2 * GIB)
        for name in ("make", "read"):
            self.assertLessEqual(found[name]["usage"]["peakMemoryBytes"], 256 * 1024**2)
