"""`kubectl millrace`: what a person types, what they see, and what it ends with."""

import json
import os
import subprocess
import tempfile
import threading
from pathlib import Path

from harness import ROOT, ClusterTest, condition, kubectl, resource, script, wait_for
from models import ModelTest

STAGES = {
    "first": script('echo "one $1"; sleep 1; echo two', args=["$[[ params.word ]]"]),
    "second": script('echo three; [ "$1" = good ] || exit 3', args=["$[[ params.word ]]"], needs=["first"]),
}
PARAMS = {"word": {"type": "string", "default": "good"}, "rows": {"type": "integer", "default": 1, "maximum": 10}}
PAUSE = {"strategy": "BlueGreen", "steps": [{"pause": True}], "keepWarm": "10m"}
PROGRAM = ROOT / "target" / "release" / "kubectl-millrace"


class Ended:
    """A command that has ended."""

    def __init__(self, code: int, out: str, errors: str):
        self.code, self.out, self.errors = code, out, errors

    def __repr__(self) -> str:
        return f"{self.code}\n{self.out}\n{self.errors}"


class CommandLine:
    """As a mixin: `self.namespace` is the namespace."""

    def spawn(self, *arguments: str, **settings) -> subprocess.Popen:
        command = [str(PROGRAM), "-n", self.namespace, *arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **settings)

    def millrace(self, *arguments: str, code: int = 0, stdin: str | None = None, seconds: float = 120) -> Ended:
        process = self.spawn(*arguments, stdin=subprocess.PIPE if stdin is not None else subprocess.DEVNULL)
        try:
            out, errors = process.communicate(stdin, timeout=seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            out, errors = process.communicate()
            self.fail(f"{arguments} did not end within {seconds} s:\n{out}\n{errors}")
        ended = Ended(process.returncode, out, errors)
        self.assertEqual(ended.code, code, ended)
        return ended

    def json(self, *arguments: str, code: int = 0):
        return json.loads(self.millrace(*arguments, "-o", "json", code=code).out)


class Runs(CommandLine, ClusterTest):
    def test_a_run_is_started_followed_and_told_as_a_tree(self):
        self.pipeline(STAGES, params=PARAMS)
        followed = self.millrace("run", "p", "-p", "rows=3", "--name", "r", "--follow")
        lines = followed.out.splitlines()
        self.assertEqual(lines[:4], ["run r is made", "first | one good", "first | two", "second | three"])
        self.assertIn("✔ first", followed.out)
        self.assertIn("└─ ✔ second", followed.out)
        self.assertNotIn("\x1b", followed.out, "there is no terminal")
        self.assertEqual(self.run_of()["spec"]["params"], {"rows": 3})
        tree = self.json("tree", "r")
        self.assertEqual((tree["succeeded"], tree["stages"]["second"]["state"]), ("True", "Succeeded"))
        self.assertEqual(self.millrace("logs", "r", "second").out, "three\n")
        self.assertEqual(self.millrace("logs", "r").out.splitlines(), ["first | one good", "first | two", "second | three"])
        self.assertIn("✔ second", self.millrace("tree", "r", "-w").out)

    def test_whoever_follows_is_told_what_a_stage_waits_for_and_where_other_logs_are(self):
        self.pipeline({"hello": script("echo hello")}, name="inner")
        self.pipeline({"ask": {"approve": {"message": "Ship it?"}}, "nested": {"needs": ["ask"], "pipeline": {"name": "inner"}}})
        follows = self.spawn("run", "p", "--name", "r", "--follow")
        told: list[str] = []
        reader = threading.Thread(target=lambda: [told.append(line) for line in follows.stderr], daemon=True)
        reader.start()
        # The run asks before whoever follows it may have looked: answered by then, the question is told to nobody.
        wait_for("the question", lambda: any("WaitingForApproval" in line for line in told))
        self.millrace("approve", "r")
        self.assertEqual(follows.wait(120), 0, told)
        reader.join()
        errors = "".join(told)
        self.assertEqual(errors.count("◌ ask Pending: WaitingForApproval: Ship it?"), 1, errors)
        self.assertIn(f"? kubectl millrace approve r ask -n {self.namespace} ", errors)
        nested = self.stage("nested")["run"]["name"]
        self.assertEqual(errors.count(f"nested is a run of its own: kubectl millrace logs {nested} -f -n {self.namespace}\n"), 1, errors)

    def test_a_run_that_failed_ends_with_one_and_is_begun_again(self):
        self.pipeline(STAGES, params=PARAMS)
        followed = self.millrace("run", "p", "-p", "word=bad", "--name", "r", "--follow", code=1)
        self.assertIn("✖ second", followed.out)
        self.assertIn("stage `second` failed: Error", followed.out)
        self.millrace("tree", "r", code=1)
        self.millrace("retry", "r", "--failed")
        self.millrace("tree", "r", "-w", code=1)
        self.assertEqual(self.stage("second")["attempts"], 2)
        self.assertEqual(self.stage("first")["attempts"], 1)
        self.assertIn("second#2 | three", self.millrace("logs", "r").out)
        # The same once more, and from a stage on.
        self.millrace("retry", "r")
        self.failed()
        self.assertEqual(self.run_of()["spec"]["retryFrom"], {"failed": True, "number": 2})
        self.millrace("retry", "r", "--stage", "first", "--follow", code=1)
        self.assertEqual(self.stage("first")["attempts"], 2)
        self.assertIn("did you mean `first`?", self.millrace("retry", "r", "--stage", "frist", code=2).errors)

    def test_a_run_is_suspended_goes_on_and_is_canceled(self):
        self.pipeline({"a": script("sleep 12"), "b": script("sleep 600", needs=["a"])}, finally_={"z": script("echo bye")})
        self.millrace("run", "p", "--name", "r")
        wait_for("a", lambda: self.stage("a").get("state") == "Running")
        self.millrace("suspend", "r")
        self.assertIn("suspended already", self.millrace("suspend", "r", code=2).errors)
        wait_for("the end of a", lambda: self.stage("a").get("state") == "Succeeded")
        self.assertEqual(self.stage("b")["state"], "Waiting")
        self.millrace("resume", "r")
        wait_for("b", lambda: self.stage("b").get("state") == "Running")
        follows = self.spawn("logs", "-f", "r")
        self.millrace("cancel", "r")
        out, errors = follows.communicate(timeout=120)
        self.assertEqual((follows.returncode, "z | bye" in out), (0, True), out + errors)
        status = self.failed()
        self.assertEqual(condition({"status": status}, "Succeeded")["reason"], "Canceled")
        self.assertIn("has ended already: Canceled", self.millrace("cancel", "r", code=2).errors)

    def pipeline(self, stages: dict, name: str = "p", finally_: dict | None = None, **spec) -> None:
        super().pipeline(stages, name, **spec, **({"finally": finally_} if finally_ else {}))

    def test_what_is_asked_wrongly_says_what_to_write(self):
        self.pipeline(STAGES, params=PARAMS)
        self.assertIn("no MLPipeline q in the namespace", self.millrace("run", "q", code=2).errors)
        self.assertIn("did you mean `p`?", self.millrace("run", "q", code=2).errors)
        self.assertIn("params.rows: 11 is out of bounds", self.millrace("run", "p", "-p", "rows=11", code=2).errors)
        self.assertIn("no parameter `row` is declared", self.millrace("run", "p", "-p", "row=1", code=2).errors)
        self.assertEqual(self.get("mlpipelineruns")["items"], [])
        self.assertIn("there is no MLPipelineRun r", self.millrace("logs", "-f", "r", code=2).errors)
        self.assertIn("--context", self.millrace("--help").out)

    def test_a_pipeline_is_run_from_a_file_and_a_reader_that_goes_is_no_error(self):
        pipeline = resource("MLPipeline", "p", {"triggers": {"onChange": True}, "stages": {"a": script("seq 1 20000")}})
        self.millrace("run", "-f", "-", "--name", "r", stdin=json.dumps(pipeline))
        self.succeeded()
        self.assertEqual(self.get("mlpipelines")["items"], [])
        head = subprocess.run(
            f"{PROGRAM} -n {self.namespace} logs r | head -1",
            shell=True,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
            executable="/bin/bash",
        )
        self.assertEqual((head.stdout, head.stderr), ("a | 1\n", ""))
        wrong = json.dumps(pipeline).replace('"stages"', '"stags"')
        self.assertIn("did you mean `stages`?", self.millrace("run", "-f", "-", stdin=wrong, code=2).errors)

    def test_a_plan_says_what_changes_and_a_diff_what_did(self):
        self.pipeline(STAGES, params=PARAMS, triggers={"onChange": True})
        run = wait_for("a run", lambda: self.get("mlpipelines", "p").get("status", {}).get("lastRun"))
        self.succeeded(run)
        stages = {**STAGES, "third": script("echo four", needs=["second"])}
        params = {**PARAMS, "word": {"type": "string", "default": "better"}}
        file = json.dumps(resource("MLPipeline", "p", {"params": params, "triggers": {"onChange": True}, "stages": stages}))
        same = json.dumps(resource("MLPipeline", "p", {"params": PARAMS, "triggers": {"onChange": True}, "stages": STAGES}))
        told = self.millrace("plan", "-f", "-", stdin=file).out
        for words in ("+ stage third", "~ param word", "~ default: good → better", "first → second → third", "A run starts"):
            self.assertIn(words, told)
        self.assertIn("stays as it is", self.millrace("plan", "-f", "-", stdin=same).out)
        self.assertIn("No run starts", self.millrace("plan", "-f", "-", stdin=same).out)
        self.assertIn("UnknownStage", self.millrace("plan", "-f", "-", "-o", "json", stdin=file.replace('["second"]', '["secnd"]'), code=1).out)
        self.millrace("run", "p", "-p", "rows=2", "--name", "other", "--follow")
        differs = self.json("diff", run, "other")
        self.assertEqual(differs["params"], [{"field": "rows", "before": 1, "after": 2}])
        self.assertEqual((differs["code"], differs["data"]), ([], []))

    def test_kubectl_finds_it_and_completes_it(self):
        with tempfile.TemporaryDirectory() as folder:
            completes = Path(folder) / "kubectl_complete-millrace"
            completes.write_text(f'#!/bin/sh\nexec "{PROGRAM}" __complete "$@"\n')
            completes.chmod(0o755)
            path = {**os.environ, "PATH": f"{folder}:{PROGRAM.parent}:{os.environ['PATH']}"}
            asked = [["millrace", "lint", "-f", str(ROOT / "examples")], ["__complete", "millrace", "roll"]]
            lint, completed = (subprocess.run(["kubectl", *a], env=path, check=False, capture_output=True, text=True, timeout=60) for a in asked)
        self.assertEqual((lint.returncode, "no mistakes" in lint.stdout), (0, True), lint)
        self.assertIn("rollout", completed.stdout)
        words = self.millrace("completion", "bash").out + (
            "COMP_WORDS=(kubectl-millrace rollout a); COMP_CWORD=2; _kubectl__millrace kubectl-millrace a rollout; echo ${COMPREPLY[@]}"
        )
        done = subprocess.run(["bash", "-c", words], check=False, capture_output=True, text=True, timeout=60)
        self.assertEqual(done.stdout, "approve abort\n", done.stderr)


class Rollouts(CommandLine, ModelTest):
    def model(self) -> dict:
        return self.get("modeldeployment", "m")

    def asked(self) -> int:
        return self.model()["spec"]["model"]["version"]

    def deploy(self, version: int) -> None:
        """As a `deploy` stage does."""
        wanted = {**resource("ModelDeployment", "m", {"model": {"version": version}})}
        arguments = ["apply", "-n", self.namespace, "--server-side", "--field-manager=millrace-deploy", "-f", "-"]
        kubectl(*arguments, stdin=json.dumps(wanted))

    def test_a_rollout_is_approved_undone_promoted_and_aborted(self):
        for version in (1, 2):
            self.register(version)
        spec = {"model": {"name": "m"}, "scale": {"replicas": 1}, "rollout": PAUSE}
        # Not applied: kubectl's own server-side apply would take over what its client-side one wrote.
        kubectl("create", "-n", self.namespace, "-f", "-", stdin=json.dumps(resource("ModelDeployment", "m", spec)))
        self.assertIn("no rollout of ModelDeployment m is under way", self.millrace("rollout", "abort", "m", code=2).errors)
        self.deploy(1)
        self.assertIn("Promoted", self.millrace("rollout", "status", "m", "-w").out)
        self.assertIn("write --to-version", self.millrace("rollout", "undo", "m", code=2).errors)

        # Told of while it goes on: it pauses, a person approves.
        self.deploy(2)
        watch = self.spawn("rollout", "status", "m", "--watch")
        lines: list[str] = []
        reader = threading.Thread(target=lambda: lines.extend(watch.stdout))
        reader.start()
        wait_for("a pause", lambda: self.json("rollout", "status", "m")["standing"] == "Paused", 60)
        self.assertIn("m: step 1 of version 2", self.millrace("rollout", "approve", "m").out)
        self.assertEqual(watch.wait(60), 0)
        reader.join()
        told = "".join(lines)
        for words in ("Progressing", "Paused, RolloutPaused", "Promoted, Serving", "Revisions:"):
            self.assertIn(words, told)
        self.assertEqual([r["version"] for r in self.json("rollout", "history", "m")], [2, 1])

        # Back, under the manager of `deploy` stages: the next one may set it again.
        self.assertIn("from version 2 to version 1", self.millrace("rollout", "undo", "m", "-w").out)
        self.assertEqual((self.asked(), self.model()["status"]["servedVersion"]), (1, 1))
        self.deploy(2)
        wait_for("a version that waits or is served", lambda: self.json("rollout", "status", "m")["standing"] != "Progressing", 60)
        self.assertEqual(self.asked(), 2)
        self.assertIn("no ModelVersion m-v7", self.millrace("rollout", "undo", "m", "--to-version", "7", code=2).errors)

    def test_a_rollout_that_a_person_aborts_ends_with_one_and_is_promoted_nevertheless(self):
        for version in (1, 2):
            self.register(version)
        self.serve(1, rollout=PAUSE)
        self.wait_served(1)
        self.serve(2, rollout=PAUSE)
        wait_for("a pause", lambda: self.json("rollout", "status", "m")["standing"] == "Paused", 60)
        watch = self.spawn("rollout", "status", "m", "-w")
        self.millrace("rollout", "abort", "m")
        self.assertEqual(watch.wait(60), 1)
        watch.communicate()
        self.assertIn("RolledBack, Aborted", self.millrace("rollout", "status", "m", code=1).out)
        given_up = self.millrace("rollout", "approve", "m", code=2).errors
        self.assertIn("was given up", given_up)
        self.assertIn(f"first take out spec.control (kubectl patch mld m -n {self.namespace} ", given_up)
        self.assertNotIn("Step:", self.millrace("rollout", "status", "m", code=1).out)
        self.assertIn("Aborted", self.millrace("rollout", "history", "m").out)
        self.millrace("rollout", "promote", "m", "-w")
        self.assertEqual(self.model()["status"]["servedVersion"], 2)

    def test_a_rollback_gives_up_what_comes_and_else_goes_to_the_version_before(self):
        for version in (1, 2, 3):
            self.register(version)
        spec = {"model": {"name": "m"}, "scale": {"replicas": 1}, "rollout": {"strategy": "Canary", "steps": [{"weight": 50}]}}
        kubectl("create", "-n", self.namespace, "-f", "-", stdin=json.dumps(resource("ModelDeployment", "m", spec)))
        for version in (1, 2):
            self.deploy(version)
            self.millrace("rollout", "status", "m", "-w")
        kubectl("patch", "modeldeployment", "m", "-n", self.namespace, "--type=merge", "-p", json.dumps({"spec": {"rollout": PAUSE}}))
        self.deploy(3)
        wait_for("a pause", lambda: self.json("rollout", "status", "m")["standing"] == "Paused", 60)
        self.assertIn("back from version 3", self.millrace("rollout", "rollback", "m", "-w").out)
        self.assertEqual((self.asked(), self.model()["status"]["servedVersion"]), (3, 2))
        self.assertEqual(self.model()["status"]["rollout"]["rejected"]["reason"], "Aborted")
        # Nothing comes any more: what is served is asked for again, and then what was served before.
        self.assertIn("from version 3 to version 2", self.millrace("rollout", "rollback", "m", "-w").out)
        self.assertIn("from version 2 to version 1", self.millrace("rollout", "rollback", "m").out)
        self.assertEqual((self.asked(), self.model()["status"]["servedVersion"]), (1, 2))

    def test_a_version_that_somebody_else_owns_stays_theirs(self):
        for version in (1, 2):
            self.register(version)
        self.serve(1)
        self.wait_served(1)
        self.serve(2)
        self.wait_served(2)
        # A person's `kubectl apply` wrote the version: another command of a person may.
        self.assertIn("came from a manifest", self.millrace("rollout", "undo", "m", "-w").errors)
        self.assertEqual((self.asked(), self.model()["status"]["servedVersion"]), (1, 1))
        version = json.dumps({"spec": {"model": {"version": 2}}})
        patch = ("patch", "modeldeployment", "m", "-n", self.namespace, "--type=merge", "-p", version)
        kubectl(*patch)
        self.wait_served(2)
        self.millrace("rollout", "undo", "m", "-w")
        # What a tool set stays its own.
        kubectl(*patch, "--field-manager=helm")
        self.wait_served(2)
        refused = self.millrace("rollout", "undo", "m", code=2).errors
        self.assertIn('spec.model.version of ModelDeployment m belongs to "helm"', refused)
        self.assertEqual(self.asked(), 2)
        self.millrace("rollout", "undo", "m", "--force-conflicts", "-w")
        self.assertEqual((self.asked(), self.model()["status"]["servedVersion"]), (1, 1))
        versions = self.json("diff", "mlv/m-v1", "mlv/m-v2")
        self.assertEqual(versions["metrics"], [])
