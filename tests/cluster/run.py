"""Runs the cluster tests side by side: first those that weigh most, at last those that need the cluster for themselves. One that failed
beside others is tried again alone. Ends with `N passed, N failed`.

`run.py` runs all, `run.py WORD…` those whose name holds one of the words. Needs KUBECONFIG and an installed operator.
"""

import sys
import threading
import time
import traceback
import unittest
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
sys.dont_write_bytecode = True

from harness import ROOM  # noqa: E402

# So many tests that failed are tried again.
MOST_AGAIN = 4


def main(words: list[str]) -> int:
    tests = [t for t in flatten(unittest.defaultTestLoader.discover(str(HERE), "test_*.py")) if wanted(t, words)]
    room = Room()
    with ThreadPoolExecutor(ROOM) as pool:
        tests = sorted(tests, key=order)
        outcomes = list(pool.map(lambda test: run_in(room, test), tests))
    failed = {test: outcome for test, outcome in zip(tests, outcomes, strict=True) if outcome and not outcome.startswith("ok")}
    flaky = pass_alone(list(failed))
    # Again at the end, where whoever has only the end of a log finds it.
    for test, outcome in failed.items():
        print(f"{'flaky: it failed beside others, and passed alone' if test in flaky else 'failed'}: {outcome}")
    count = len(failed) - len(flaky)
    print(f"{len([o for o in outcomes if o]) - count} passed, {count} failed")
    return 1 if count else 0


def pass_alone(failed: list[unittest.TestCase]) -> list[unittest.TestCase]:
    """Those of the failed tests that pass by themselves: beside others, on a machine that is full, a limit may have been too short. Many that fail
    are no matter of that, nor is one that was alone already."""
    if len(failed) > MOST_AGAIN:
        return []
    again = [test for test in failed if part_of(test) < ROOM and not isinstance(test, unittest.loader._FailedTest)]
    return [test for test in again if (run_one(type(test)(test._testMethodName)) or "").startswith("ok")]


def flatten(suite):
    for test in suite:
        yield from flatten(test) if isinstance(test, unittest.TestSuite) else [test]


class Room:
    def __init__(self):
        self.free = ROOM
        self.changed = threading.Condition()

    @contextmanager
    def taken(self, part: int) -> Iterator[None]:
        with self.changed:
            self.changed.wait_for(lambda: self.free >= part)
            self.free -= part
        try:
            yield
        finally:
            with self.changed:
                self.free += part
                self.changed.notify_all()


def part_of(test: unittest.TestCase) -> int:
    """How much of the room it takes. What makes no namespace does not say."""
    return getattr(test, "part", 1)


def order(test: unittest.TestCase) -> tuple[bool, int]:
    """Heavy ones first, so that light ones fill what they leave; those that want all of it at the end."""
    return part_of(test) == ROOM, -part_of(test)


def run_in(room: Room, test: unittest.TestCase) -> str | None:
    with room.taken(part_of(test)):
        return run_one(test)


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
