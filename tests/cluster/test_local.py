"""`kubectl millrace run --local`: the examples with what `make local` builds. These tests need no cluster; they are here because the programs are."""

import fcntl
import json
import os
import subprocess
import tempfile
import unittest
from pathlib import Path

from harness import ROOT

EXAMPLES = ROOT / "examples"
PROGRAM = ROOT / "target" / "release" / "kubectl-millrace"


class Local(unittest.TestCase):
    def setUp(self):
        # Tests run side by side: one makes what is missing.
        with (ROOT / "target" / "local.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            subprocess.run([ROOT / "dev" / "local"], check=True, capture_output=True, text=True)
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def run_local(self, *arguments: str, code: int = 0) -> dict:
        command = [PROGRAM, "run", "--local", *arguments, "-o", "json"]
        environment = {name: value for name, value in os.environ.items() if name != "MILLRACE_PROGRAMS"}
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, code, f"{done.stdout}\n{done.stderr}")
        return json.loads(done.stdout)

    def log(self, run: dict, stage: str) -> str:
        return (Path(run["folder"]) / "logs" / f"{stage}.1.log").read_text()


class Penguins(Local):
    def test_the_penguins_are_trained_and_the_next_run_is_judged_against_them(self):
        first = self.run_local("-f", str(EXAMPLES / "penguins"))
        stages = first["stages"]
        self.assertEqual({stage["state"] for stage in stages.values()}, {"Succeeded"}, first)
        self.assertGreater(stages["evaluate"]["metrics"]["f1"], 0.9)
        self.assertNotIn("champion", stages["evaluate"])
        version = (self.folder / ".millrace/models/penguins-v1.yaml").read_text()
        path = next(line.split("pvc://")[1].strip() for line in version.splitlines() if "pvc://" in line and "/model" in line)
        self.assertTrue((self.folder / ".millrace/claims" / path / "model.onnx").is_file(), version)

        second = self.run_local("-f", str(EXAMPLES / "penguins"), "-p", "algorithm=decision-tree", "-p", "min-f1=0.5")
        evaluated = second["stages"]["evaluate"]
        self.assertEqual(evaluated["champion"]["f1"], stages["evaluate"]["metrics"]["f1"])
        registered = second["stages"]["register"]
        self.assertEqual(registered.get("modelVersion") is None, evaluated.get("reason") == "GateRejected", second)

    def test_a_table_with_mistakes_stops_the_run(self):
        table = (EXAMPLES / "penguins" / "penguins.csv").read_text().replace("Gentoo", "Emperor")
        copy = self.folder / "penguins"
        copy.mkdir()
        for name in ("pipeline.yaml", "kustomization.yaml", "storage.yaml", "deployment.yaml"):
            (copy / name).write_text((EXAMPLES / "penguins" / name).read_text().replace("retry: { limit: 1 }", "retry: { limit: 0 }"))
        (copy / "penguins.csv").write_text(table)
        run = self.run_local("-f", "penguins", code=1)
        self.assertEqual(run["stages"]["train"]["state"], "Skipped")
        self.assertIn("species", run["stages"]["validate"]["message"])


class Features(Local):
    def test_features_are_learned_and_the_model_takes_the_columns_before_them(self):
        run = self.run_local("-f", str(EXAMPLES / "features"))
        stages = run["stages"]
        self.assertEqual({stage["state"] for stage in stages.values()}, {"Succeeded"}, run)
        self.assertGreater(stages["evaluate"]["metrics"]["r2"], 0.7)
        self.assertGreater(stages["features"]["metrics"]["features"], stages["features"]["metrics"]["columns"])
        version = (self.folder / ".millrace/models/penguin-mass-v1.yaml").read_text()
        path = next(line.split("pvc://")[1].strip() for line in version.splitlines() if "pvc://" in line and "/model" in line)
        signature = json.loads((self.folder / ".millrace/claims" / path / "signature.json").read_text())
        kinds = {column["name"]: column["datatype"] for column in signature["inputs"]}
        numbers = ("bill_length_mm", "bill_depth_mm", "flipper_length_mm")
        expected = dict.fromkeys(numbers, "FP32") | dict.fromkeys(("species", "island", "sex"), "BYTES")
        self.assertEqual(kinds, expected)


class Examples(Local):
    def test_the_other_examples_run_without_a_cluster(self):
        expected = {
            "smallest": ("hello", "hello, world"),
            "scripts": ("tell", "the slope of 1000 points is"),
            "fan-out": ("tell", "6 estimates of 21000 points"),
            "branches": ("report", "the model is thorough"),
            "approval": ("ship", "shipped"),
            "labels": ("score", '"accuracy": 0.75'),
        }
        for example, (stage, words) in expected.items():
            with self.subTest(example):
                more = ["--approve", "sign-off=yes"] if example == "approval" else []
                run = self.run_local("-f", str(EXAMPLES / example), *more)
                self.assertIn(words, self.log(run, stage))
