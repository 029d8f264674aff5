"""Checkouts share compiled dependencies and never each other's programs."""

import contextlib
import os
import signal
import subprocess
import tempfile
import unittest
from pathlib import Path

GROUPS = Path(__file__).resolve().parents[1] / "rust-groups"


class SharedFolder(unittest.TestCase):
    def setUp(self) -> None:
        scratch = tempfile.TemporaryDirectory()
        self.addCleanup(scratch.cleanup)
        self.scratch = Path(scratch.name)
        self.folder = self.scratch / "target" / "ops"
        self.fingerprints = self.folder / "x86_64-unknown-linux-gnu" / "release" / ".fingerprint"
        for checkout in ("a", "b"):
            (self.scratch / checkout).mkdir()

    def start(self, checkout: str, command: str) -> subprocess.Popen:
        script = f'. "{GROUPS}"; in_group_folder ops {command}'
        environment = {**os.environ, "MILLRACE_CACHE": str(self.scratch)}
        process = subprocess.Popen(
            ["bash", "-c", script],
            cwd=self.scratch / checkout,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )
        self.addCleanup(end, process)
        return process

    def run_in(self, checkout: str, command: str) -> str:
        process = self.start(checkout, command)
        output, errors = process.communicate(timeout=60)
        self.assertEqual(process.returncode, 0, errors)
        return output

    def compiled(self) -> list[str]:
        return sorted(path.name for path in self.fingerprints.iterdir())

    def test_another_checkout_compiles_its_own_packages_again_and_no_dependency(self) -> None:
        self.run_in("a", "true")
        for name in ("millrace-core-1", "serde-2"):
            (self.fingerprints / name).mkdir(parents=True)
        self.run_in("a", "true")
        self.assertEqual(self.compiled(), ["millrace-core-1", "serde-2"])
        self.run_in("b", "true")
        self.assertEqual(self.compiled(), ["serde-2"])

    def test_another_checkout_waits_and_says_so(self) -> None:
        first = self.start("a", "bash -c 'echo began; sleep 2'")
        self.assertEqual(first.stdout.readline(), "began\n")
        second = self.start("b", "cat ../target/ops/checkout")
        output, words = second.communicate(timeout=60)
        self.assertIn("waits for a build of another checkout", words)
        self.assertEqual(output.strip(), str(self.scratch / "b"))
        self.assertIsNotNone(first.poll())

    def test_builds_of_one_checkout_do_not_wait_for_each_other(self) -> None:
        first = self.start("a", "bash -c 'echo began; sleep 30'")
        self.assertEqual(first.stdout.readline(), "began\n")
        self.assertEqual(self.run_in("a", "echo through"), "through\n")
        self.assertIsNone(first.poll())

    def test_a_command_that_fails_fails(self) -> None:
        process = self.start("a", "false")
        process.communicate(timeout=60)
        self.assertEqual(process.returncode, 1)


def end(process: subprocess.Popen) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.communicate()


if __name__ == "__main__":
    unittest.main()
