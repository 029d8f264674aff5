"""The cache: what is taken from earlier runs without a pod, what is not, and what happens when it is lost."""

import time

from harness import SYSTEM, ClusterTest, alone, condition, kill_operator, kubectl, resource, script, wait_for
from test_cli import CommandLine

STORE = {"pvc": {"claimName": "artifacts"}}
WORD = {"word": {"type": "string", "default": "one"}}


class CacheTest(CommandLine, ClusterTest):
    # The test image by its digest, once a pod has said it.
    pinned_image = ""

    def setUp(self):
        super().setUp()
        self.claim()

    def pinned(self) -> str:
        """As a person learns it: from a pod that ran the image by its tag."""
        if not CacheTest.pinned_image:
            self.run_inline({"look": script("true")}, name="look")
            self.succeeded("look")
            pod = self.get("pods", selector="millrace.dev/stage=look")["items"][0]
            image = next(c["imageID"] for c in pod["status"]["containerStatuses"] if c["name"] == "main")
            self.assertIn("@sha256:", image, "the node does not know the image by its digest")
            CacheTest.pinned_image = image
        return CacheTest.pinned_image

    def stages(self, make: dict | None = None, use: dict | None = None, seconds: int = 0) -> dict:
        """`make` writes the time at which it ran, and `use` reads it."""
        image = self.pinned()
        made = script(f'sleep {seconds}; date +%s%N > "$MILLRACE_OUTPUT_DATA"', image=image, outputs={"data": {}})
        used = script(
            'cat "$MILLRACE_INPUT_IN" | tee "$MILLRACE_OUTPUT_MORE"; echo \'{"f1": 0.5}\' > $MILLRACE_OUT/metrics.json; printf 7 > $MILLRACE_OUT/results/count',
            image=image,
            args=["$[[ params.word ]]"],
            inputs={"in": {"from": "make.data"}},
            outputs={"more": {}},
        )
        return {"make": {**made, "cache": {"maxAge": "1h"}, **(make or {})}, "use": {**used, **(use or {})}}

    def run_with(self, name: str, stages: dict | None = None, word: str = "one") -> dict:
        pipeline = {"params": WORD, "store": STORE, "stages": stages or self.stages()}
        self.apply(resource("MLPipelineRun", name, {"pipeline": pipeline, "params": {"word": word}}))
        return self.succeeded(name)

    def jobs_of(self, run: str) -> list[str]:
        return [job for job in self.jobs() if job.startswith(f"{run}-")]

    def reason(self, status: dict, stage: str) -> str:
        return status["stages"][stage].get("reason", "")


class Cache(CacheTest):
    def test_a_second_run_takes_everything_from_the_first_without_a_pod(self):
        first = self.run_with("r1")
        self.assertEqual(self.jobs_of("r1"), ["r1-make-1", "r1-use-1"])
        second = self.run_with("r2")
        self.assertEqual(self.jobs_of("r2"), [])
        self.assertEqual(second["progress"], "2/2, 2 cached")
        for stage in ("make", "use"):
            before, now = first["stages"][stage], second["stages"][stage]
            self.assertEqual((now["state"], now["reason"], now["cache"]["from"]["run"]), ("Succeeded", "CacheHit", "r1"))
            self.assertEqual(now["outputs"], before["outputs"])
            self.assertEqual((now.get("results"), now.get("metrics")), (before.get("results"), before.get("metrics")))
        self.assertEqual(second["stages"]["use"]["metrics"], {"f1": 0.5})
        wait_for("an event", lambda: [e for e in self.events() if e.startswith("CacheHit: stage use: stage `use` of run r1")])
        self.assertIn("CacheHit: stage `make` of run r1 made it", self.millrace("tree", "r2").out)
        described = " ".join(kubectl("describe", "mlpipelinerun", "-n", self.namespace, "r2").split())
        self.assertIn("stage `make` of run r1 made it", described)
        # The second has its own copy of what it took.
        kubectl("delete", "mlpipelinerun", "r1", "-n", self.namespace)
        third = self.run_with("r3")
        self.assertEqual((self.jobs_of("r3"), third["stages"]["use"]["cache"]["from"]["run"]), ([], "r1"))

    def test_another_argument_runs_only_what_depends_on_it(self):
        first = self.run_with("r1")
        second = self.run_with("r2", word="two")
        self.assertEqual((self.jobs_of("r2"), self.reason(second, "make")), (["r2-use-1"], "CacheHit"))
        self.assertEqual(second["stages"]["use"]["outputs"]["more"]["digest"], first["stages"]["use"]["outputs"]["more"]["digest"])

    def test_off_refresh_and_salt(self):
        self.run_with("r1")
        for name, cache in (("off", {"mode": "Off"}), ("salt", {"salt": "2"}), ("fresh", {"mode": "Refresh"})):
            self.run_with(name, self.stages(use={"cache": cache}))
            self.assertEqual(self.jobs_of(name), [f"{name}-use-1"])
        last = self.run_with("r2")
        self.assertEqual((self.jobs_of("r2"), last["stages"]["use"]["cache"]["from"]["run"]), ([], "fresh"))

    def test_what_is_older_than_max_age_is_made_again(self):
        young = self.stages(make={"cache": {"maxAge": "1s"}})
        self.run_with("r1", young)
        time.sleep(3)
        second = self.run_with("r2", young)
        # What it made is another time, so that who reads it runs too.
        self.assertEqual(self.jobs_of("r2"), ["r2-make-1", "r2-use-1"])
        self.assertIn("older than 1s", second["stages"]["make"]["cache"]["miss"])

    def test_an_image_by_tag_is_run_and_says_why(self):
        stage = {**script('echo x > "$MILLRACE_OUTPUT_DATA"', outputs={"data": {}}), "cache": {"maxAge": "1h"}}
        for name in ("r1", "r2"):
            status = self.run_with(name, {"make": stage})
            self.assertEqual(self.jobs_of(name), [f"{name}-make-1"])
        self.assertIn("a tag may move", status["stages"]["make"]["cache"]["miss"])

    def test_a_stage_that_retry_from_names_is_really_run(self):
        self.run_with("r1")
        self.run_with("r2")
        kubectl("patch", "mlpipelinerun", "r2", "-n", self.namespace, "--type=merge", "-p", '{"spec":{"retryFrom":{"stage":"make"}}}')
        wait_for("its attempt", lambda: self.stage("make", "r2").get("attempts") == 1)
        self.succeeded("r2")
        self.assertEqual(self.jobs_of("r2"), ["r2-make-1", "r2-use-1"])

    def test_a_stage_without_inputs_needs_max_age(self):
        bad = self.stages(make={"cache": {}})
        self.apply(resource("MLPipelineRun", "bad", {"pipeline": {"params": WORD, "store": STORE, "stages": bad}}))
        said = condition({"status": self.failed("bad")}, "Accepted")
        self.assertIn("spec.stages.make.cache.maxAge", said["message"])

    def test_of_two_runs_that_need_the_same_one_makes_it_and_the_other_waits(self):
        once = {"cache": {"maxAge": "1h", "serialize": True}}
        pipeline = {"params": WORD, "store": STORE, "stages": self.stages(make=once, seconds=15)}
        runs = [resource("MLPipelineRun", name, {"pipeline": pipeline}) for name in ("r1", "r2")]
        self.apply({"apiVersion": "v1", "kind": "List", "items": runs})
        wait_for("one that waits", lambda: "WaitingForCache" in [self.stage("make", run).get("reason") for run in ("r1", "r2")])
        ends = [self.succeeded(run) for run in ("r1", "r2")]
        self.assertEqual(len([job for job in self.jobs() if "-make-" in job]), 1)
        self.assertEqual(sorted(self.reason(end, "make") for end in ends), ["", "CacheHit"])


class Lost(CacheTest):
    def wipe(self, run: str, stage: str, output: str = "data") -> None:
        """Takes away what a stage made, past Millrace: in a pod, as a clean-up of the claim would."""
        volume = {"all": {"claim": {"name": "artifacts"}, "mountPath": "/store"}}
        find = f'cd /store/runs/{run}-*/{stage}*/attempts/*/outputs; chmod -R u+w . || true; rm -r {output}; ls'
        self.run_inline({"wipe": script(find, volumes=volume)}, name=f"wipe-{run}")
        self.succeeded(f"wipe-{run}")

    def test_a_hit_whose_file_was_deleted_is_made_again_by_the_run_itself(self):
        first = self.run_with("r1")
        self.wipe("r1", "make")
        second = self.run_with("r2", word="two")
        self.assertEqual(self.jobs_of("r2"), ["r2-make-1", "r2-use-1", "r2-use-2"])
        make, use = second["stages"]["make"], second["stages"]["use"]
        self.assertEqual((make["remade"], make["cache"]["lost"]["run"]), (1, "r1"))
        self.assertEqual((use["attempts"], use.get("failures", 0)), (2, 0))
        self.assertNotEqual(make["outputs"]["data"]["digest"], first["stages"]["make"]["outputs"]["data"]["digest"])
        wait_for("an event", lambda: [e for e in self.events() if e.startswith("InputLost: stage use, attempt 1: input `in` is made again")])
        # The next one takes what was made last, and never what is lost.
        third = self.run_with("r3", word="three")
        self.assertEqual((third["stages"]["make"]["cache"]["from"]["run"], self.jobs_of("r3")), ("r2", ["r3-use-1"]))

    def test_what_items_made_is_taken_as_a_whole_and_made_again_when_it_is_lost(self):
        image = self.pinned()
        lines = script("printf '\"a\"\\n\"b\"\\n' > \"$MILLRACE_OUTPUT_LIST\"", image=image, outputs={"list": {}})
        write = 'echo "$MILLRACE_ITEM $(date +%s%N)" > "$MILLRACE_OUTPUT_PART"'
        fan = {**script(write, image=image, outputs={"part": {}}, inputs={"list": {"from": "lines.list"}}), "forEach": {"from": "lines.list"}}
        read = script(
            'cat "$MILLRACE_INPUT_PARTS"/*; cat "$MILLRACE_INPUT_ALL"; touch "$MILLRACE_OUTPUT_DONE"',
            inputs={"parts": {"from": "fan.part"}, "all": {"from": "fan.items"}},
            outputs={"done": {}},
        )
        stages = {"lines": {**lines, "cache": {"maxAge": "1h"}}, "fan": fan, "read": read}
        said = {}
        for name in ("r1", "r2"):
            status = self.run_with(name, stages)
            said[name] = kubectl("logs", "-n", self.namespace, "-l", f"millrace.dev/run={name},millrace.dev/stage=read", "--tail=-1", "-c", "main")
        self.assertEqual((self.jobs_of("r2"), self.reason(status, "fan")), (["r2-read-1"], "CacheHit"))
        self.assertEqual((said["r1"], len(said["r1"].splitlines())), (said["r2"], 4))
        self.assertEqual(status["stages"]["fan"]["items"]["succeeded"], 2)
        self.wipe("r1", "fan", "part")
        third = self.run_with("r3", stages)
        self.assertEqual(self.jobs_of("r3"), ["r3-fan-1", "r3-fan-2", "r3-read-1", "r3-read-2"])
        self.assertEqual(third["stages"]["fan"]["remade"], 1)

    def test_what_the_run_itself_made_and_lost_is_made_again(self):
        stages = self.stages(make={"cache": {"mode": "Off"}}, use={"needs": ["wait"], "cache": {"mode": "Off"}})
        stages["wait"] = {"needs": ["make"], "approve": {"message": "go on?"}}
        pipeline = {"params": WORD, "store": STORE, "stages": stages}
        self.apply(resource("MLPipelineRun", "r1", {"pipeline": pipeline}))
        self.waits_with("wait", "WaitingForApproval", "r1", seconds=120)
        self.wipe("r1", "make")
        self.millrace("approve", "r1", "wait")
        status = self.succeeded("r1")
        self.assertEqual(self.jobs_of("r1"), ["r1-make-1", "r1-make-2", "r1-use-1", "r1-use-2"])
        self.assertEqual(status["stages"]["make"]["remade"], 1)


@alone
class Restart(CacheTest):
    only_local = "kills the operator: only on a cluster that the tests made"

    def test_an_operator_that_was_killed_knows_what_there_is(self):
        self.run_with("r1")
        kill_operator()
        kubectl("rollout", "status", "deployment/millrace", "-n", SYSTEM, "--timeout=120s")
        status = self.run_with("r2")
        self.assertEqual((self.jobs_of("r2"), status["stages"]["use"]["cache"]["from"]["run"]), ([], "r1"))
