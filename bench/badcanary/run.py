#!/usr/bin/env python3
"""A canary that fails a tenth of its requests, at 5 % of them: how soon it is rolled back, what is lost to it, and what the others notice.

    run.py [--rounds 5]

Needs KUBECONFIG of a cluster that `make install` made; takes and leaves a namespace of its own. Prints Markdown. Stable and canary are the
Python server of tests/cluster/test_rollouts.py, which sets the rate of requests.
"""

import argparse
import statistics
import sys
import time
import unittest
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests" / "cluster"))
sys.dont_write_bytecode = True

from harness import wait_for
from test_rollouts import Callers, Rollouts

SAMPLES = 200
QUIET = 10
ROLLOUT = {
    "strategy": "Canary",
    "steps": [{"weight": 5, "hold": "10m"}],
    "analysis": {"errors": {"metric": "ErrorRate", "max": 0.05, "minSamples": SAMPLES}},
}


class BadCanary(Rollouts):
    rounds = 5

    def test_bad_canary(self) -> None:
        address = self.first(ROLLOUT)
        rows = [self.one(address, number) for number in range(self.rounds)]
        print("| what | median (smallest – largest) |\n|---|---|")
        for name, unit in (
            ("from the 200th request of the canary to the last one", " s"),
            ("requests of the canary, all in all", ""),
            ("of them lost", ""),
            ("requests a second, all in all", ""),
            ("stable's p99 meanwhile, beside that of the 10 s before", " ×"),
        ):
            values = [row[name] for row in rows]
            print(f"| {name} | {statistics.median(values):.2f}{unit} ({min(values):.2f} – {max(values):.2f}) |")

    def one(self, address: str, number: int) -> dict[str, float]:
        who = f"bad-{number}"
        with Callers(address) as callers:
            time.sleep(QUIET)
            before = time.time()
            self.serve_any(who, ROLLOUT, FAIL=0.1)
            self.until("False", "RolledBack")
            time.sleep(2)
        self.serve_any("old", ROLLOUT)
        self.until("True", "Serving")
        wait_for("one Deployment", lambda: len(self.get("deployments", selector="millrace.dev/revision")["items"]) == 1)
        self.assertEqual((callers.broken, set(callers.of("old"))), ([], {200}))
        answers = sorted(callers.answers)
        moments = [at for at, _, name, _ in answers if name == who]
        lost = callers.of(who).count(500)
        p99 = [percentile([took for at, _, name, took in answers if name == "old" and first <= at < last]) for first, last in ((before - QUIET, before), (moments[0], moments[-1]))]
        return {
            "from the 200th request of the canary to the last one": moments[-1] - moments[SAMPLES - 1],
            "requests of the canary, all in all": len(moments),
            "of them lost": lost,
            "requests a second, all in all": len(answers) / (answers[-1][0] - answers[0][0]),
            "stable's p99 meanwhile, beside that of the 10 s before": p99[1] / p99[0],
        }


def percentile(times: list[float]) -> float:
    return sorted(times)[int(len(times) * 0.99)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    BadCanary.rounds = parser.parse_args().rounds
    result = unittest.TextTestRunner().run(BadCanary("test_bad_canary"))
    return 0 if result.wasSuccessful() else 1


if __name__ == "__main__":
    sys.exit(main())
