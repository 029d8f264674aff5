"""Runs the cluster tests side by side: first most at a time, at last those that need the cluster for themselves. Ends with `N passed, N failed`.

`run.py` runs all, `run.py WORD…` those whose name holds one of the words. Needs KUBECONFIG and an installed operator.
"""

import sys
import time
import traceback
import unittest
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

HERE = Path(__file__).resolve().parent

def main(words: list[str]) -> int:
    sys.path.insert(0, str(HERE))
    sys.dont_write_bytecode = True
    tests = [t for t in flatten(unittest.defaultTestLoader.discover(str(HERE), "test_*.py")) if wanted(t, words)]
    outcomes = []
    for at_a_time, some in groupby(sorted(tests, key=at_once, reverse=True), at_once):
        with ThreadPoolExecutor(at_a_time) as pool:
            outcomes += pool.map(run_one, some)
    failed = [outcome for outcome in outcomes if outcome and not outcome.startswith("ok")]
    # Again at the end, where whoever has only the end of a log finds it.
    for outcome in failed:
        print(outcome)
    print(f"{len([o for o in outcomes if o]) - len(failed)} passed, {len(failed)} failed")
    return 1 if failed else 0


def flatten(suite):
    for test in suite:
        yield from flatten(test) if isinstance(test, unittest.TestSuite) else [test]


def at_once(test: unittest.TestCase) -> int:
    """How many like it may run. What makes no namespace does not say so."""
    return getattr(test, "at_a_time", 6)


def wanted(test: unittest.TestCase, words: list[str]) -> bool:
    return not words or any(word in test.id() for word in words)


def run_one(test: unittest.TestCase) -> str | None:
    """Runs a test and says how it went: a line, and what failed below it. None if it was skipped."""
    began = time.monotonic()
    result = unittest.TestResult()
    try:
        test.run(result)
    except Exception:  # a broken test must not end the others
        result.errors.append((test, traceback.format_exc()))
    word = "ok" if result.wasSuccessful() else "FAILED"
    if result.skipped:
        word = f"skipped: {result.skipped[0][1]}"
    lines = [f"{word:<7} {time.monotonic() - began:6.1f}s  {test.id()}"]
    lines += [text for _, text in result.failures + result.errors]
    outcome = "\n".join(lines)
    print(outcome, flush=True)
    return None if result.skipped else outcome


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
