"""`kubectl millrace run --code`: a folder of this machine is where the programs of a run's stages run."""

import os
import subprocess
from pathlib import Path

from harness import ClusterTest, kubectl, script, wait_for
from objects import ACCOUNT, RIGHT, S3Test
from test_cache import CacheTest
from test_cli import CommandLine
from test_logs import READERS

STORE = {"pvc": {"claimName": "artifacts"}}


class CodeTest(CommandLine, ClusterTest):
    def setUp(self):
        super().setUp()
        self.claim()
        self.folder = self.made({"train.sh": "#!/bin/sh\necho trained by $(cat words/one.txt)\n", "words/one.txt": "one\n"})
        (self.folder / "train.sh").chmod(0o755)

    def made(self, files: dict[str, str]) -> Path:
        folder = self.scratch()
        for name, text in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return folder

    def with_code(self, name: str, *more: str, folder: Path | None = None, code: int = 0):
        return self.millrace("run", "p", "--name", name, "--code", str(folder or self.folder), *more, code=code)


class Code(CodeTest):
    def test_the_folder_is_where_programs_run_and_is_sent_once(self):
        stages = {
            "train": script("pwd; ./train.sh; echo 2 > words/one.txt || echo read-only; touch beside"),
            "each": {**script("cat words/one.txt"), "forEach": {"items": [1, 2]}},
            "apart": {**script("ls; pwd"), "code": False},
        }
        stages["train"]["container"]["script"] = stages["train"]["container"]["script"].replace("set -e", "")
        self.pipeline(stages, store=STORE)
        first = self.with_code("r1", "--follow")
        self.assertIn("is brought", first.out)
        self.succeeded("r1")
        told = self.logs_of("r1", "train")
        self.assertIn("/millrace/code/work\ntrained by one\n", told)
        self.assertIn("read-only", told)
        self.assertNotIn("train.sh", self.logs_of("r1", "apart"))
        spec = self.run_of("r1")["spec"]
        self.assertFalse(spec.get("suspend", False))
        again = self.with_code("r2", "--follow")
        self.assertIn("is in the store already", again.out)
        self.assertEqual(self.run_of("r2")["spec"]["code"]["digest"], spec["code"]["digest"])
        self.assertIn("the same", self.millrace("diff", "r1", "r2").out)
        (self.folder / "words" / "one.txt").write_text("two\n")
        self.with_code("r3", "--follow")
        self.assertIn("trained by two", self.logs_of("r3", "train"))
        told = self.millrace("diff", "r1", "r3").out
        self.assertIn("--code", told)
        self.assertIn(self.run_of("r3")["spec"]["code"]["digest"].removeprefix("sha256:")[:12], told)
        wait_for("the end of the pods", lambda: self.get("pods", selector=READERS)["items"] == [])

    def logs_of(self, run: str, stage: str) -> str:
        return self.millrace("logs", run, stage).out

    def test_what_git_says_is_recorded_and_what_is_ignored_is_not_there(self):
        def git(*words: str) -> str:
            who = ["-c", "user.name=t", "-c", "user.email=t@example.com"]
            return subprocess.run(["git", *who, *words], cwd=self.folder, check=True, capture_output=True, text=True, env={**os.environ, "GIT_CONFIG_NOSYSTEM": "1"}).stdout

        (self.folder / ".gitignore").write_text("*.log\n")
        (self.folder / "old.log").write_text("x")
        git("init", "--quiet")
        git("add", ".")
        git("commit", "--quiet", "-m", "one")
        self.pipeline({"list": script("find . -type f | sort")}, store=STORE)
        self.with_code("r1", "--follow")
        self.assertEqual(self.logs_of("r1", "list").split(), ["./.gitignore", "./train.sh", "./words/one.txt"])
        code = self.run_of("r1")["spec"]["code"]
        self.assertEqual((code["commit"], code.get("dirty", False)), (git("rev-parse", "HEAD").strip(), False))
        (self.folder / "train.sh").write_text("#!/bin/sh\n")
        self.with_code("r2", "--follow")
        self.assertTrue(self.run_of("r2")["spec"]["code"]["dirty"])

    def test_what_cannot_be_brought_starts_nothing(self):
        self.pipeline({"a": script("true")}, name="p")
        self.assertIn("write store into the pipeline", self.with_code("r", code=2).errors)
        self.pipeline({"a": script("true")}, store=STORE)
        (self.folder / "out").symlink_to("/etc/passwd")
        self.assertIn("leads out of the folder", self.with_code("r", code=2).errors)
        (self.folder / "out").unlink()
        with (self.folder / "large.bin").open("wb") as large:
            large.truncate(65 << 20)
        self.assertIn("large.bin", self.with_code("r", code=2).errors)
        self.assertEqual(self.get("mlpipelineruns")["items"], [])

    def test_code_that_is_gone_fails_the_stage_and_says_what_to_do(self):
        self.pipeline({"a": script("true")}, store=STORE)
        spec = {"code": {"digest": f"sha256:{'0' * 64}", "size": 10}}
        self.start("r", **spec)
        stage = self.failed("r")["stages"]["a"]
        self.assertEqual(stage["reason"], "InputLost", stage)
        self.assertIn("run --code", stage["message"])
        with self.assertRaisesRegex(Exception, "the spec of a run cannot be changed"):
            kubectl("patch", "mlpipelinerun", "r", "-n", self.namespace, "--type=merge", "-p", '{"spec":{"code":null}}')


class CodeInTheCache(CodeTest, CacheTest):
    def test_only_stages_that_take_the_code_are_run_again_when_it_changes(self):
        def stage(**more) -> dict:
            made = script("echo x > $MILLRACE_OUTPUT_DATA", image=self.pinned(), outputs={"data": {}})
            return {**made, "cache": {"maxAge": "1h"}, **more}

        self.pipeline({"takes": stage(), "apart": stage(code=False)}, store=STORE)

        def reasons(name: str) -> list:
            self.with_code(name, "--follow")
            found = self.run_of(name)["status"]["stages"]
            return [found[stage].get("reason") for stage in ("takes", "apart")]

        self.assertEqual(reasons("r1"), [None, None])
        self.assertEqual(reasons("r2"), ["CacheHit", "CacheHit"])
        (self.folder / "words" / "one.txt").write_text("two\n")
        self.assertEqual(reasons("r3"), [None, "CacheHit"])


class CodeInABucket(CodeTest, S3Test):
    def test_code_goes_into_a_bucket_and_nobodys_program_sees_the_credentials(self):
        endpoint = self.serve({"lake/readme": "x"})
        data = {"AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": RIGHT}
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": data})
        store = {"s3": {"bucket": "lake", "prefix": "teams/a", "endpoint": endpoint, "secretRef": {"name": "keys"}}}
        self.pipeline({"train": script("./train.sh; env")}, store=store)
        self.assertIn("is brought", self.with_code("r1").out)
        self.succeeded("r1")
        hex_ = self.run_of("r1")["spec"]["code"]["digest"].removeprefix("sha256:")
        self.assertTrue((self.objects / "lake/teams/a/code" / hex_ / "files.tar").is_file())
        told = self.logs("train")
        self.assertIn("trained by one", told)
        self.assertNotIn(RIGHT, told)
        self.assertIn("is in the store already", self.with_code("r2").out)
