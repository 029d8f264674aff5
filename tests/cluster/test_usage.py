"""What stages used: in the status, in the tree, and as advice on what to ask for."""

from harness import LOCAL, ClusterTest, advertise, script
from test_cli import CommandLine

# A second of a processor, and then some time without.
WORK = 'end=$(($(date +%s) + 2)); while [ $(date +%s) -lt $end ]; do :; done; head -c 20m /dev/zero | tail > /dev/null'


class Usage(CommandLine, ClusterTest):
    def test_attempts_that_failed_count_and_a_run_is_the_sum_of_its_stages(self):
        stages = {
            "work": script(f'{WORK}; test "$MILLRACE_ATTEMPT" -gt 1', retry={"limit": 1, "backoff": {"initial": "1s"}}),
            "idle": script("sleep 2"),
        }
        self.pipeline(stages)
        self.start_run()
        status = self.succeeded()
        work, idle = (status["stages"][name]["usage"] for name in ("work", "idle"))
        self.assertEqual(status["stages"]["work"]["attempts"], 2)
        # Two attempts of at least a second each; how long they took depends on the machine.
        self.assertGreaterEqual(work["wallSeconds"], 2)
        self.assertGreater(work["cpuSeconds"], idle["cpuSeconds"])
        self.assertGreater(work["peakMemoryBytes"], 20 << 20)
        all = status["usage"]
        self.assertAlmostEqual(all["cpuSeconds"], work["cpuSeconds"] + idle["cpuSeconds"], 2)
        self.assertAlmostEqual(all["wallSeconds"], work["wallSeconds"] + idle["wallSeconds"], 2)
        self.assertEqual(all["peakMemoryBytes"], max(work["peakMemoryBytes"], idle["peakMemoryBytes"]))
        tree = self.millrace("tree", "r").out
        self.assertIn("CPU seconds", tree)
        self.assertEqual(self.json("tree", "r")["usage"], all)

        advice = self.json("advise", "p")
        self.assertEqual(advice["runs"], ["r"])
        memory = advice["stages"]["work"]["memory"]
        self.assertEqual(memory["used"], work["peakMemoryBytes"])
        self.assertGreaterEqual(memory["proposed"], memory["used"] * 1.15)
        self.assertEqual((memory["request"], memory["change"]), (16 << 20, "Raise"))
        proposed = advice["stages"]["work"]["resources"]
        self.assertEqual(proposed["requests"]["memory"], proposed["limits"]["memory"])
        self.assertNotIn("cpu", proposed["limits"])
        self.assertEqual(self.json("advise", "mlr/r")["stages"], advice["stages"])
        self.assertIn("raise to", self.millrace("advise", "r").out)
        self.assertIn("there is no MLPipelineRun absent", self.millrace("advise", "absent", code=2).errors)
        # What is proposed can be written as it is.
        stages["work"]["container"]["resources"] = proposed
        self.pipeline(stages)
        self.start_run("again")
        self.succeeded("again")

    def start_run(self, name: str = "r") -> None:
        self.millrace("run", "p", "--name", name)

    def test_devices_count_as_long_as_they_are_held_used_or_not(self):
        if not LOCAL:
            self.skipTest("lets a node offer a device: only on a cluster that the tests made")
        advertise("example.com/gadget", "2")
        self.addCleanup(advertise, "example.com/gadget", None)
        resources = {"requests": {"cpu": "10m"}, "limits": {"example.com/gadget": "2"}}
        self.run_inline({"holds": script("sleep 2", resources=resources), "plain": script("sleep 1")})
        status = self.succeeded()
        usage = status["stages"]["holds"]["usage"]
        self.assertAlmostEqual(usage["deviceSeconds"]["example.com/gadget"], 2 * usage["wallSeconds"], 2)
        self.assertEqual(status["usage"]["deviceSeconds"], usage["deviceSeconds"])
        self.assertIn("h of example.com/gadget", self.millrace("tree", "r").out)
