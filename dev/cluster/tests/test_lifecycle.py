"""The cluster's own promises, on a clone of this checkout beside whatever cluster runs: run `python3 -m unittest` here.

Takes a few minutes. Kills only processes of the clone's cluster.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
import unittest
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parents[3]
KILLS = int(os.environ.get("MILLRACE_TEST_KILLS", "6"))


class LifecycleTest(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = Path(tempfile.mkdtemp(prefix="millrace-clone-"))
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "dev/cluster"],
            cwd=CHECKOUT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            copy = cls.folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(CHECKOUT / name, copy)

    @classmethod
    def tearDownClass(cls):
        cls.cluster("down")
        shutil.rmtree(cls.folder)

    @classmethod
    def command(cls, *arguments):
        return [str(cls.folder / "dev/cluster/cluster"), *arguments]

    @classmethod
    def cluster(cls, *arguments, check=True):
        done = subprocess.run(cls.command(*arguments), check=False, capture_output=True, text=True)
        if check and done.returncode != 0:
            raise AssertionError(f"{arguments}: {done.stdout}{done.stderr}")
        return done

    def kubectl(self, *arguments, stdin=None):
        script = 'eval "$("$0" env)" && exec kubectl "$@"'
        command = ["bash", "-c", script, str(self.folder / "dev/cluster/cluster"), *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, input=stdin).stdout

    def processes(self):
        """The pids of the clone's cluster by the name of the program."""
        state = str((self.folder / ".cluster").resolve())
        found = {}
        for entry in filter(str.isdigit, os.listdir("/proc")):
            try:
                marked = f"MILLRACE_CLUSTER_PROCESS={state}:".encode() in Path(f"/proc/{entry}/environ").read_bytes()
                name = Path(f"/proc/{entry}/comm").read_text().strip()
            except OSError:
                continue
            if marked:
                found.setdefault(name, []).append(int(entry))
        return found

    def assert_pod_runs(self):
        name = f"pod-{time.time_ns()}"
        image = json.loads(self.kubectl("get", "node", "node-1", "-o", "json"))["status"]["images"]
        pause = next(tag for entry in image for tag in entry["names"] if "/pause:" in tag)
        self.kubectl("run", name, "--image", pause, "--restart=Never")
        self.kubectl("wait", f"pod/{name}", "--for=condition=Ready", "--timeout=60s")
        self.kubectl("delete", "pod", name, "--now")

    def test_up_again_is_quick_and_changes_nothing(self):
        self.cluster("up")
        before = self.processes()
        begun = time.monotonic()
        self.cluster("up")
        self.assertLess(time.monotonic() - begun, 2)
        self.assertEqual(self.processes(), before)

    def test_down_leaves_nothing_wherever_up_was_killed(self):
        for _ in range(KILLS):
            after = random.uniform(0.1, 14)
            with self.subTest(killed_after_seconds=round(after, 2)):
                self.kill_up(after)
                self.cluster("down")
                left = self.cluster("leftovers", check=False)
                self.assertEqual(left.returncode, 0, left.stdout)

    def test_up_completes_wherever_an_earlier_one_was_killed(self):
        for _ in range(KILLS):
            self.kill_up(random.uniform(0.1, 8))
        self.cluster("up")
        self.assert_pod_runs()

    def kill_up(self, after):
        process = subprocess.Popen(self.command("up"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(after)
        process.send_signal(signal.SIGKILL)
        process.wait()

    def test_up_repairs_what_was_killed(self):
        self.cluster("up")
        for program in (
            "etcd",
            "kube-apiserver",
            "kube-controller",
            "kube-scheduler",
            "coredns",
            "kubelet",
            "containerd",
        ):
            with self.subTest(program=program):
                for pid in self.processes()[program]:
                    os.kill(pid, signal.SIGKILL)
                self.cluster("up")
                self.assert_pod_runs()

    def test_a_stopped_node_is_lost_and_comes_back(self):
        self.cluster("up")
        self.cluster("node", "add", "node-2")
        self.cluster("node", "stop", "node-2")
        self.kubectl("wait", "node/node-2", "--for=condition=Ready=Unknown", "--timeout=30s")
        self.cluster("up")
        self.assertIn("node-2       stopped", self.cluster("status").stdout)
        self.cluster("node", "start", "node-2")
        self.cluster("node", "remove", "node-2")
        self.assertEqual(self.kubectl("get", "nodes", "-o", "name").split(), ["node/node-1"])

    def test_a_claim_is_bound_and_its_folder_goes_with_it(self):
        self.cluster("up")
        claim = {
            "apiVersion": "v1",
            "kind": "PersistentVolumeClaim",
            "metadata": {"name": "data"},
            "spec": {"accessModes": ["ReadWriteMany"], "resources": {"requests": {"storage": "1Gi"}}},
        }
        self.kubectl("apply", "-f", "-", stdin=json.dumps(claim))
        self.kubectl("wait", "pvc/data", "--for=jsonpath={.status.phase}=Bound", "--timeout=20s")
        volume = self.kubectl("get", "pvc", "data", "-o", "jsonpath={.spec.volumeName}")
        folder = Path(self.cluster("volume", "--path", volume).stdout.strip())
        self.assertTrue(folder.is_dir())
        self.kubectl("delete", "pvc", "data")
        self.kubectl("wait", f"pv/{volume}", "--for=delete", "--timeout=20s")
        time.sleep(1)
        self.assertFalse(folder.exists())


if __name__ == "__main__":
    unittest.main()
