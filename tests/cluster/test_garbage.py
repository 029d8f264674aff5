"""Runs that are deleted: what the archive knows of them, and which of their artifacts go."""

import hashlib
import json
import tempfile
import uuid
from pathlib import Path

from harness import condition, kubectl, resource, script, wait_for
from objects import ACCOUNT, RIGHT, S3Test
from test_cache import CacheTest
from test_cli import CommandLine

STORE = {"pvc": {"claimName": "artifacts"}}
MAKE = script(
    'printf "$1" > "$MILLRACE_OUTPUT_DATA"; printf model > "$MILLRACE_OUTPUT_MODEL"; echo \'{"f1": 0.5}\' > $MILLRACE_OUT/metrics.json',
    args=["$[[ params.word ]]"],
    outputs={"data": {}, "model": {}},
)
WORD = {"word": {"type": "string", "default": "one"}}


def history(dry_run: bool = False, keep: int = 1) -> dict:
    artifacts = {"gracePeriod": "1s", **({"dryRun": True} if dry_run else {})}
    return {"keepSucceeded": keep, "archive": {"every": "10s"}, "artifacts": artifacts}


class Garbage(CommandLine):
    """As a mixin: what a person does and sees."""

    def gone(self, run: str) -> None:
        def there():
            return run in [r["metadata"]["name"] for r in self.get("mlpipelineruns")["items"]]

        wait_for(f"the end of run {run}", lambda: not there(), 120)

    def artifacts(self, dry_run: bool, pipeline: str = "p", seconds: float = 180) -> dict:
        """What a pod took out, or would have."""

        def said():
            found = self.get("mlpipeline", pipeline).get("status", {}).get("archive", {}).get("artifacts")
            return found if found and found.get("dryRun", False) == dry_run else None

        try:
            return wait_for("what is taken out", said, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{json.dumps(self.get('mlpipeline', pipeline).get('status'), indent=1)}") from None

    def recorded(self, *names: str, pipeline: str = "p") -> dict:
        """The records of these runs, once all of them are there."""

        def records():
            found = {record["name"]: record for record in self.json("history", pipeline)}
            return found if set(names) <= set(found) else None

        return wait_for(f"the records of {names}", records, 120, every=3)

    def folder(self, run: dict) -> str:
        return f"{run['metadata']['name']}-{run['metadata']['uid'][:8]}"

    def version(self, artifact: dict, name: str = "m-v1") -> None:
        made = {field: artifact[field] for field in ("uri", "digest", "size", "access") if field in artifact}
        self.apply(resource("ModelVersion", name, {"model": "m", "version": 1, "format": "files", "artifact": made}))


class OnAClaim(Garbage, CacheTest):
    def files(self, folder: str) -> list[str]:
        """What lies in a folder of the claim, by the eyes of a pod that mounts it."""
        name = f"look-{uuid.uuid4().hex[:8]}"
        volumes = {"all": {"mountPath": "/all", "claim": {"name": "artifacts"}}}
        look = script(f"find /all/runs/{folder} -type f 2>/dev/null | sed 's#^/all/runs/{folder}/##' | sort; true", volumes=volumes)
        self.run_inline({"look": look}, name=name)
        self.succeeded(name)
        return kubectl("logs", "-n", self.namespace, "-l", f"millrace.dev/run={name}", "--tail=-1", "-c", "main").split()

    def test_what_a_deleted_run_made_goes_and_what_something_needs_stays(self):
        self.pipeline({"make": MAKE}, params=WORD, store=STORE, history=history())
        # Another pipeline on the same claim, whose runs nobody takes out.
        self.pipeline({"make": MAKE}, name="other", params=WORD, store=STORE)
        self.start("o1", "other")
        self.start("r1")
        first, beside = self.run_of("r1"), self.run_of("o1")
        made = self.succeeded("r1")["stages"]["make"]["outputs"]
        self.succeeded("o1")
        self.version(made["model"])
        self.assertTrue(self.files(self.folder(first)))
        self.start("r2", params={"word": "two"})
        self.succeeded("r2")
        kubectl("delete", "mlpipelinerun", "o1", "-n", self.namespace)
        self.gone("r1")

        said = self.artifacts(dry_run=False)
        self.assertEqual((said["runs"], said["first"]), (1, [self.folder(first)]))
        self.assertGreaterEqual(said["files"], 2, said)
        # What is held: the model, and the manifest that says what it is, under both of its names.
        manifests = ["make/attempts/1/manifest.json", "make/manifest.json"]
        self.assertEqual(self.files(self.folder(first)), sorted([*manifests, "make/attempts/1/outputs/model"]))
        self.assertIn("make/attempts/1/outputs/data", self.files(self.folder(beside)))
        wait_for("an event", lambda: [e for e in self.events() if e.startswith("ArtifactsRemoved")])
        with tempfile.TemporaryDirectory() as here:
            for source, text in (("m@1", "model"), ("r2/make.data", "two")):
                target = Path(here) / source.replace("/", "-")
                self.millrace("cp", source, str(target))
                self.assertEqual(target.read_text(), text)

        records = self.recorded("r1", "r2")
        self.assertEqual(records["r1"]["stages"]["make"]["outputs"]["data"]["digest"], made["data"]["digest"])
        self.assertEqual((records["r1"]["outcome"], records["r1"]["uid"]), ("Succeeded", first["metadata"]["uid"]))
        self.assertEqual((records["r2"]["params"], records["r2"]["stages"]["make"]["metrics"]), ({"word": "two"}, {"f1": 0.5}))
        table = self.millrace("history", "p", "--limit", "1").out.splitlines()
        self.assertEqual([table[0].split()[0], table[1].split()[0], len(table)], ["RUN", "r2", 2])
        self.assertEqual(condition(self.get("mlpipeline", "p"), "Archived")["status"], "True")
        self.assertIn("are not recorded", self.millrace("history", "other", code=2).errors)

        # What was held is free when nothing holds it.
        kubectl("delete", "modelversion", "m-v1", "-n", self.namespace)
        wait_for("the end of the model", lambda: self.files(self.folder(first)) == [], 240, every=5)

    def test_a_dry_run_takes_nothing_out_and_tells(self):
        self.pipeline({"make": MAKE}, params=WORD, store=STORE, history=history(dry_run=True, keep=0))
        self.start("r1")
        first = self.run_of("r1")
        self.gone("r1")
        said = self.artifacts(dry_run=True)
        self.assertEqual((said["runs"], said["first"]), (1, [self.folder(first)]))
        # It is written after the status.
        wait_for("an event", lambda: [e for e in self.events() if e.startswith("ArtifactsUnneeded") and self.folder(first) in e])
        there = self.files(self.folder(first))
        self.assertIn("make/attempts/1/outputs/data", there)
        self.assertEqual(said["files"], len(there))
        self.recorded("r1")
        self.pipeline({"make": MAKE}, params=WORD, store=STORE, history=history(keep=0))
        self.assertEqual(self.artifacts(dry_run=False)["files"], said["files"])
        wait_for("the end of all files", lambda: self.files(self.folder(first)) == [], 60, every=5)

    def test_what_a_kept_run_took_from_the_cache_stays_and_is_taken_again(self):
        image = self.pinned()
        make = script('date +%s%N > "$MILLRACE_OUTPUT_DATA"', image=image, outputs={"data": {}})
        use = script('cat "$MILLRACE_INPUT_IN" > "$MILLRACE_OUTPUT_MORE"', image=image, inputs={"in": {"from": "make.data"}}, outputs={"more": {}})
        stages = {"make": {**make, "cache": {"maxAge": "1h"}}, "use": {**use, "cache": {"mode": "Off"}}}
        self.pipeline(stages, store=STORE, history=history())
        self.start("r1")
        first = self.run_of("r1")
        made = self.succeeded("r1")["stages"]["make"]["outputs"]["data"]
        self.start("r2")
        self.assertEqual(self.succeeded("r2")["stages"]["make"]["cache"]["from"]["run"], "r1")
        self.gone("r1")
        self.artifacts(dry_run=False)
        manifests = ["make/attempts/1/manifest.json", "make/manifest.json"]
        self.assertEqual(self.files(self.folder(first)), sorted([*manifests, "make/attempts/1/outputs/data"]))
        self.start("r3")
        third = self.succeeded("r3")["stages"]
        self.assertEqual((third["make"]["reason"], third["make"]["outputs"]["data"]["uri"]), ("CacheHit", made["uri"]))
        # It was read, and is what it was.
        self.assertEqual((third["make"].get("remade", 0), third["use"]["outputs"]["more"]["digest"]), (0, made["digest"]))


class InABucket(Garbage, S3Test):
    def test_artifacts_and_records_in_a_bucket(self):
        endpoint = self.serve({"lake/readme": "a bucket", "lake/teams/a/runs/foreign-0/make/manifest.json": "{}"})
        data = {"AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": RIGHT}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": data})
        store = {"s3": {"bucket": "lake", "prefix": "teams/a", "endpoint": endpoint, "secretRef": {"name": "keys"}}}
        self.pipeline({"make": MAKE}, params=WORD, store=store, history=history(keep=1))
        self.start("r1")
        first = self.run_of("r1")
        made = self.succeeded("r1")["stages"]["make"]["outputs"]
        self.version(made["model"])
        self.start("r2")
        self.succeeded("r2")
        self.gone("r1")
        self.assertEqual(self.artifacts(dry_run=False)["first"], [self.folder(first)])

        runs = self.objects / "lake" / "teams" / "a" / "runs"
        hexes = {name: output["digest"].removeprefix("sha256:") for name, output in made.items()}
        there = sorted(str(f.relative_to(runs / self.folder(first))) for f in (runs / self.folder(first)).rglob("*") if f.is_file())
        self.assertEqual(there, ["make/manifest.json", f"make/outputs/model/{hexes['model']}"])
        self.assertTrue((runs / "foreign-0" / "make" / "manifest.json").is_file(), "it is nobody's that is known here")
        self.assertTrue(list((runs / self.folder(self.run_of("r2"))).rglob("manifest.json")))
        model = runs / self.folder(first) / "make" / "outputs" / "model" / hexes["model"]
        self.assertEqual(hashlib.sha256(model.read_bytes()).hexdigest(), hexes["model"])
        self.assertEqual(self.recorded("r1", "r2")["r1"]["stages"]["make"]["outputs"]["data"]["uri"], made["data"]["uri"])
        told = kubectl("get", "mlpipelines,jobs,pods,events", "-n", self.namespace, "-o", "json")
        told += kubectl("logs", "-n", self.namespace, "-l", "millrace.dev/trigger=Archive", "--tail=-1", check=False)
        self.assertNotIn(RIGHT, told)
        self.assertIn(self.folder(first), told)
