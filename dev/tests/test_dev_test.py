"""`dev/test` counts what failed, names it, and tries again alone what failed beside others."""

import contextlib
import importlib.machinery
import importlib.util
import io
import sys
import tempfile
import unittest
from pathlib import Path

# Stands in for cargo: two tests of seven fail, and a second time, by their names, so many of them pass.
CARGO = """cargo_in_group() {{
  case "$*" in
    "ops test -- --exact a::b c::d") echo 'test result: ok. {passed} passed; 0 failed;' ;;
    *) printf -- '---- a::b stdout ----\\n---- c::d stdout ----\\ntest result: FAILED. 5 passed; 2 failed;\\n'; return 101 ;;
  esac
}}
cargo_in_group ops test"""


def load():
    sys.dont_write_bytecode = True
    loader = importlib.machinery.SourceFileLoader("dev_test", str(Path(__file__).parents[1] / "test"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("dev_test", loader))
    sys.modules["dev_test"] = module
    loader.exec_module(module)
    return module


class Levels(unittest.TestCase):
    def setUp(self) -> None:
        self.dev_test = load()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.dev_test.LOGS = Path(folder.name)

    def run_level(self, command: str) -> tuple[tuple[int, int], str]:
        with contextlib.redirect_stdout(io.StringIO()) as said:
            counted = self.dev_test.run(self.dev_test.Level("level", command))
        return counted, said.getvalue()

    def test_what_passes_alone_is_flaky(self) -> None:
        counted, said = self.run_level(CARGO.format(passed=2))
        self.assertEqual(counted, (7, 0))
        self.assertIn("flaky: it failed beside others, and passed alone: a::b", said)
        self.assertEqual(self.dev_test.FAILED, [])

    def test_what_did_not_run_alone_has_failed(self) -> None:
        counted, _ = self.run_level(CARGO.format(passed=1))
        self.assertEqual(counted, (5, 2))
        text = self.dev_test.FAILED[0].read_text()
        self.assertEqual([m[m.lastindex] for m in self.dev_test.FAILURE.finditer(text)], ["a::b", "c::d"])

    def test_a_test_program_that_broke_down_has_failed(self) -> None:
        counted, _ = self.run_level(f"echo 'process did not exit successfully (signal: 11, SIGSEGV)'; {CARGO.format(passed=2)}")
        self.assertEqual(counted, (5, 2))

    def test_a_level_that_fails_without_a_count_counts(self) -> None:
        self.assertEqual(self.run_level("exit 3")[0], (0, 1))


if __name__ == "__main__":
    unittest.main()
