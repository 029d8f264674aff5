"""`kubectl millrace reproduce`: what made a version is run once more, and compared with it."""

import json

from harness import DEBIAN, ClusterTest, kubectl, resource, script
from test_cli import CommandLine

# The folder of a model, made of the data and of a number.
TRAIN = """
mkdir -p "$MILLRACE_OUTPUT_MODEL"
{ cat "$MILLRACE_INPUT_DATA"; echo "$1"; } > "$MILLRACE_OUTPUT_MODEL/model.onnx"
printf '{"task":"classification","inputs":[],"outputs":[]}' > "$MILLRACE_OUTPUT_MODEL/signature.json"
"""
JUDGE = """echo '{"f1": 0.875}' > "$MILLRACE_OUT/metrics.json" """
# One whose metric is another each time, though never by more than a tenth.
SHAKY = """echo "{\\"f1\\": 0.9$(date +%N)1}" > "$MILLRACE_OUT/metrics.json" """
LOAD = {
    "params": {"rows": {"type": "integer"}},
    "outputs": {"data": {}},
    "results": {"rows": {}},
    "container": {
        "image": DEBIAN,
        "script": '#!/bin/sh\nset -e\nseq 1 "$1" > "$MILLRACE_OUTPUT_DATA"\nprintf %s "$1" > "$MILLRACE_OUT/results/rows"\n',
        "args": ["$[[ params.rows ]]"],
        "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
    },
}


class Reproduce(CommandLine, ClusterTest):
    def setUp(self):
        super().setUp()
        self.claim()

    def train(self, judge: str = JUDGE, **more) -> None:
        """A run that registers m-v1. Images of these tests were loaded, not pulled: their digests can be had nowhere, so nothing is pinned."""
        self.apply(resource("StageTemplate", "load", LOAD))
        model = {"outputs": {"model": {"type": "model"}}, "args": ["$[[ stages.load.results.rows ]]"]}
        stages = {
            "load": {"uses": "load", "with": {"rows": "$[[ params.rows ]]"}},
            "train": script(TRAIN, inputs={"data": {"from": "load.data"}}, **model),
            "judge": script(judge, inputs={"model": {"from": "train.model"}}, gate={"pass": "metrics.f1 > 0.5"}),
            "register": {"needs": ["judge"], "register": {"model": "m", "from": "train.model", "metrics": "judge"}},
            **more,
        }
        pipeline = {"params": {"rows": {"type": "integer", "default": 3}}, "stages": stages, "store": {"pvc": {"claimName": "artifacts"}}}
        self.apply(resource("MLPipelineRun", "r", {"pipeline": pipeline, "params": {"rows": 40}}))

    def test_a_version_is_made_again_without_being_registered_and_what_went_before_stays(self):
        self.train(deploy={"deploy": {"modelDeployment": "m", "version": "register", "wait": "Accepted", "timeout": "3s"}})
        # Nothing has this name: the run ends with a stage that fails, and the version is there.
        self.failed()
        # What its template says now is not what ran.
        changed = json.loads(json.dumps(LOAD).replace("seq 1", "seq 2"))
        self.apply(resource("StageTemplate", "load", changed))
        made = self.millrace("reproduce", "m-v1", "--unpinned", "--name", "again", "--follow")
        self.assertIn("run again made m-v1 again", made.out)
        for words in ("data     load.data", "model    train.model", "metric   f1"):
            self.assertIn(words, made.out)
        status = self.run_of("again")["status"]
        self.assertEqual(sorted(status["stages"]), ["judge", "load", "train"])
        self.assertEqual([v["metadata"]["name"] for v in self.get("modelversions")["items"]], ["m-v1"])
        self.assertEqual(self.run_of("again")["spec"]["params"], {"rows": 40})
        compared = self.json("reproduce", "m-v1", "--run", "again")
        self.assertEqual((compared["same"], compared["succeeded"], compared["run"]), (True, True, "again"))
        self.assertTrue(all(row["same"] for row in compared["compared"]), compared)
        # The copy of the template is the run's.
        owner = self.get("stagetemplate", "again-load")["metadata"]["ownerReferences"][0]
        self.assertEqual((owner["kind"], owner["name"]), ("MLPipelineRun", "again"))
        self.assertIn("was not made by reproduce", self.millrace("reproduce", "m-v1", "--run", "r", code=2).errors)

    def test_metrics_that_differ_end_with_one_and_may_be_near(self):
        self.train(SHAKY)
        self.succeeded()
        compared = self.json("reproduce", "m-v1", "--unpinned", "--name", "again", "--follow", code=1)
        differ = [row["name"] for row in compared["compared"] if not row["same"]]
        self.assertEqual((compared["same"], differ), (False, ["f1"]))
        near = self.millrace("reproduce", "m-v1", "--run", "again", "--tolerance", "0.2")
        self.assertIn("run again made m-v1 again", near.out)

    def test_what_is_gone_and_what_goes_on_are_told(self):
        self.train()
        self.succeeded()
        begun = self.json("reproduce", "m-v1", "--unpinned", "--name", "again")
        self.assertEqual(begun, {"version": "m-v1", "run": "again"})
        self.millrace("reproduce", "m-v1", "--run", "again", "--follow")
        frozen = self.get("modelversion", "m-v1")["spec"]["lineage"]["frozen"]
        kubectl("delete", "controllerrevision", frozen, "-n", self.namespace)
        told = self.millrace("reproduce", "m-v1", code=2).errors
        self.assertIn("is gone", told)
        self.assertIn("kubectl millrace run", told)
        self.assertIn("did you mean `m-v1`?", self.millrace("reproduce", "m-v2", code=2).errors)

    def test_a_version_that_a_person_wrote_says_what_it_lacks(self):
        self.train()
        self.succeeded()
        made = self.get("modelversion", "m-v1")["spec"]
        lineage = {"run": "r", "stage": "train", "datasets": [{"uri": "s3://lake/a", "digest": "sha256:b"}]}
        self.apply(resource("ModelVersion", "m-v2", {**made, "version": 2, "lineage": lineage}))
        self.assertIn("does not name what its run ran", self.millrace("reproduce", "m-v2", code=2).errors)
        compared = self.millrace("diff", "mlv/m-v1", "mlv/m-v2")
        self.assertIn("s3://lake/a", compared.out)
        self.assertIn("does not name what its run ran", compared.errors)
