"""What a pipeline is given besides its parameters: by the stage that runs it, and by hand."""

from harness import condition, script, wait_for
from test_nested import STORE, NestedTest
from test_operator import volume_folder

# Adds up the numbers that the pipeline is given.
SUMS = 'awk \'{ s += $1 } END { print s }\' "$MILLRACE_INPUT_ROWS" | tee "$MILLRACE_OUTPUT_SUM"; printf %s "$N" > "$MILLRACE_OUT/results/n"'


class NestedInputs(NestedTest):
    def setUp(self):
        super().setUp()
        self.claim()

    def summing(self, declared: dict | None = None, **more) -> None:
        stages = {"sum": script(SUMS, inputs={"rows": {"input": "rows"}}, outputs={"sum": {}}, env={"N": {"value": "$[[ params.n ]]"}})}
        params = {"n": {"type": "integer", "default": 0}}
        self.inner(stages=stages, store=STORE, params=params, inputs={"rows": declared or {}}, **more)

    def counts(self) -> dict:
        return script('seq 4 > "$MILLRACE_OUTPUT_DATA"', outputs={"data": {}})

    def test_a_stage_hands_over_what_another_made_and_nothing_is_copied(self):
        self.summing()
        make = {**self.nested(outputs={"sum": {"from": "sum.sum"}}), "inputs": {"rows": {"from": "count.data"}}}
        use = script('cat "$MILLRACE_INPUT_SUM"', inputs={"sum": {"from": "make.sum"}})
        self.run_inline({"count": self.counts(), "make": make, "use": use}, store=STORE)
        counted = self.succeeded()["stages"]["count"]["outputs"]["data"]
        self.assertEqual(self.logs("use"), "10\n")
        inner = self.run_of("r-make-1")
        given = {"artifact": {key: counted[key] for key in ("uri", "digest", "size")}}
        self.assertEqual(inner["spec"]["inputs"], {"rows": given})
        self.assertEqual(sorted(inner["status"]["stages"]), ["sum"])
        self.assertEqual(inner["status"]["stages"]["sum"]["inputs"]["rows"], given["artifact"])

    def test_what_is_lost_on_either_side_is_made_again(self):
        sums = script(SUMS, inputs={"rows": {"input": "rows"}}, outputs={"sum": {}}, env={"N": {"value": "0"}}, needs=["first"])
        self.inner(stages={"first": script("sleep 10"), "sum": sums}, store=STORE, inputs={"rows": {}})
        make = {**self.nested(outputs={"sum": {"from": "sum.sum"}}), "inputs": {"rows": {"from": "count.data"}}}
        use = script('cat "$MILLRACE_INPUT_SUM"', inputs={"sum": {"from": "make.sum"}}, needs=["hold"])
        self.run_inline({"count": self.counts(), "make": make, "hold": script("sleep 10", needs=["make"]), "use": use}, store=STORE)
        for stage, output in (("count", "data"), ("make", "sum")):
            wait_for(f"the end of {stage}", lambda stage=stage: self.stage(stage).get("state") == "Succeeded", 240)
            uri = self.stage(stage)["outputs"][output]["uri"]
            (volume_folder(self.namespace) / uri.removeprefix("pvc://artifacts/")).unlink()
        stages = self.succeeded(seconds=400)["stages"]
        self.assertEqual((stages["count"]["remade"], stages["make"]["remade"]), (1, 1))
        self.assertEqual(self.logs("use", stages["use"]["attempts"]), "10\n")
        runs = self.children(stage="make")
        self.assertEqual({name: run["spec"].get("cache", {}).get("mode") for name, run in runs.items()}, {"r-make-1": None, "r-make-2": None, "r-make-3": "Refresh"})
        self.assertEqual([self.reason(name) for name in sorted(runs)], ["StageFailed", "Succeeded", "Succeeded"])
        lost = [event for event in self.events() if event.startswith("InputLost: ")]
        self.assertEqual(len(lost), 2, lost)

    def test_each_item_is_given_the_same(self):
        self.summing()
        each = {
            "forEach": {"range": {"count": 3}},
            "pipeline": {"name": "inner", "params": {"n": "$[[ index ]]"}, "results": "sum"},
            "inputs": {"rows": {"from": "count.data"}},
        }
        self.run_inline({"count": self.counts(), "each": each}, store=STORE)
        self.succeeded()
        digests = {child["status"]["stages"]["sum"]["inputs"]["rows"]["digest"] for child in self.children().values()}
        self.assertEqual(digests, {self.stage("count")["outputs"]["data"]["digest"]})
        self.assertEqual(len(self.children()), 3)

    def test_a_person_gives_an_address_and_is_told_when_it_is_missing(self):
        self.run_inline({"count": self.counts()}, store=STORE, name="before")
        uri = self.succeeded("before")["stages"]["count"]["outputs"]["data"]["uri"]
        self.summing()
        wait_for("its verdict", lambda: condition(self.get("mlpipeline", "inner"), "Accepted").get("status") == "True")
        self.assertIn("inputs.rows: the pipeline needs the input `rows`", self.millrace("run", "inner", code=2).errors)
        self.assertIn("did you mean `rows`?", self.millrace("run", "inner", "-i", f"row={uri}", code=2).errors)
        self.assertIn("run r is made", self.millrace("run", "inner", "--name", "r", "-i", f"rows={uri}").out)
        stages = self.succeeded()["stages"]
        self.assertEqual(self.logs("sum"), "10\n")
        self.assertEqual(stages["sum-rows"]["outputs"]["data"]["digest"], self.stage("count", "before")["outputs"]["data"]["digest"])
        # What another run made is read where it lies.
        self.assertIn("run named is made", self.millrace("run", "inner", "--name", "named", "-i", "rows=before/count.data").out)
        self.assertEqual(sorted(self.succeeded("named")["stages"]), ["sum"])
        # What is given goes before the default, and the default where nothing is given.
        self.summing({"default": {"uri": uri}})
        self.start("again", pipeline="inner")
        self.succeeded("again")
        # A run by hand that is given nothing is refused, and says what to write.
        self.summing()
        mine = self.get("mlpipeline", "inner")["metadata"]["generation"]
        wait_for("its verdict", lambda: condition(self.get("mlpipeline", "inner"), "Accepted").get("observedGeneration") == mine)
        self.start("none", pipeline="inner")
        self.failed("none")
        self.assertIn("write rows: { uri: … } here", condition(self.run_of("none"), "Succeeded")["message"])

    def test_what_need_not_be_given_is_read_where_it_is(self):
        self.run_inline({"count": self.counts()}, store=STORE, name="before")
        uri = self.succeeded("before")["stages"]["count"]["outputs"]["data"]["uri"]
        tell = script('if [ -n "$MILLRACE_INPUT_ROWS" ]; then wc -l < "$MILLRACE_INPUT_ROWS"; else echo none; fi', inputs={"rows": {"input": "rows", "optional": True}})
        self.inner(stages={"tell": tell}, store=STORE, inputs={"rows": {"optional": True}})
        for name, given, said in (("with", {"inputs": {"rows": {"uri": uri}}}, "4"), ("without", {}, "none")):
            self.start(name, pipeline="inner", **given)
            self.succeeded(name)
            self.assertEqual(self.millrace("logs", name, "tell").out.split()[-1], said)

    def test_a_run_that_fails_is_tried_again_as_another_run_with_the_same(self):
        self.inner(
            stages={"sum": script(f'case "$R" in *-1) exit 3;; esac\n{SUMS}', inputs={"rows": {"input": "rows"}}, outputs={"sum": {}}, env={"R": {"value": "$[[ run.name ]]"}, "N": {"value": "0"}})},
            store=STORE,
            inputs={"rows": {}},
        )
        make = {**self.nested(), "inputs": {"rows": {"from": "count.data"}}, "retry": {"limit": 1, "backoff": {"initial": "1s"}}}
        self.run_inline({"count": self.counts(), "make": make}, store=STORE)
        self.succeeded()
        stage = self.stage("make")
        self.assertEqual((stage["run"]["name"], stage["attempts"], stage["failures"]), ("r-make-2", 2, 1))
        self.assertEqual((self.reason("r-make-1"), self.reason("r-make-2")), ("StageFailed", "Succeeded"))
        self.assertEqual(self.run_of("r-make-1")["spec"]["inputs"], self.run_of("r-make-2")["spec"]["inputs"])

    def test_a_version_knows_what_its_run_was_given_and_is_reproduced_with_it(self):
        fit = script('cp -r "$MILLRACE_INPUT_BASE" "$MILLRACE_OUTPUT_MODEL"', inputs={"base": {"input": "base"}}, outputs={"model": {"type": "model", "format": "text"}})
        stages = {"fit": fit, "keep": {"register": {"model": "tuned", "from": "fit.model"}}}
        self.inner(stages=stages, store=STORE, inputs={"base": {"type": "model"}})
        train = script('mkdir "$MILLRACE_OUTPUT_MODEL"; echo weights > "$MILLRACE_OUTPUT_MODEL/weights"; echo rows > "$MILLRACE_OUTPUT_DATA"', outputs={"model": {"type": "model", "format": "text"}, "data": {}})
        self.run_inline({"train": train, "make": {**self.nested(), "inputs": {"base": {"from": "train.model"}}}}, store=STORE)
        made = self.succeeded()["stages"]["train"]["outputs"]["model"]
        version = self.get("modelversion", "tuned-v1")["spec"]
        given = {"type": "model", "artifact": {key: made[key] for key in ("uri", "digest", "size")}}
        self.assertEqual(version["lineage"]["inputs"], {"base": given})
        self.assertIn({"name": "inputs.base", "uri": made["uri"], "digest": made["digest"]}, version["lineage"]["datasets"])
        self.assertNotIn("models", version["lineage"])
        self.assertTrue(self.json("reproduce", "tuned-v1", "--unpinned", "--name", "again", "--follow")["same"])
        # What is no model is refused where one is needed.
        self.run_inline({"train": train, "make": {**self.nested(), "inputs": {"base": {"from": "train.data"}}}}, store=STORE, name="wrong")
        self.failed("wrong")
        self.assertIn("the input `base` is a model, and what is given is none", self.stage("make", "wrong")["message"])
