"""`kubectl millrace cp`: artifacts on this machine, whole and as their producer reported them."""

import hashlib
from pathlib import Path

from harness import ClusterTest, kubectl, resource, script, wait_for
from test_cli import CommandLine
from test_logs import READERS, STORE

MAKE = """
head -c 5000000 /dev/urandom > "$MILLRACE_OUTPUT_ONE"
mkdir -p "$MILLRACE_OUTPUT_MANY/a/b" "$MILLRACE_OUTPUT_NONE"
head -c 300000 /dev/urandom > "$MILLRACE_OUTPUT_MANY/a/b/bytes"
printf 'no line end' > "$MILLRACE_OUTPUT_MANY/name with a space"
: > "$MILLRACE_OUTPUT_MANY/empty"
"""


def digest(path: Path) -> str:
    """As docs/stage-contract.md says it."""
    if path.is_file():
        return "sha256:" + hashlib.sha256(path.read_bytes()).hexdigest()
    files = sorted((f for f in path.rglob("*") if f.is_file()), key=lambda f: str(f.relative_to(path)).encode())
    lines = [f"{hashlib.sha256(f.read_bytes()).hexdigest()}  {f.stat().st_size}  {f.relative_to(path)}\n" for f in files]
    return "sha256:" + hashlib.sha256("".join(lines).encode()).hexdigest()


class Copy(CommandLine, ClusterTest):
    def setUp(self):
        super().setUp()
        self.claim()
        self.here = self.scratch()

    def test_files_and_folders_are_copied_with_their_digest_and_nothing_is_overwritten(self):
        self.run_inline({"make": script(MAKE, outputs={"one": {}, "many": {}, "none": {}})}, store=STORE)
        outputs = self.succeeded()["stages"]["make"]["outputs"]
        for name in ("one", "many", "none"):
            said = self.millrace("cp", f"r/make.{name}", str(self.here / name))
            self.assertIn("is copied to", said.out)
            self.assertEqual(digest(self.here / name), outputs[name]["digest"], name)
        self.assertEqual(sorted(p.name for p in self.here.iterdir()), ["many", "none", "one"], "nothing else is left")
        self.assertEqual((self.here / "many" / "name with a space").read_text(), "no line end")
        # After its pods are gone too.
        kubectl("delete", "jobs", "-n", self.namespace, "--all", "--cascade=foreground")
        (self.here / "many" / "mine").write_text("mine")
        self.assertIn("is there: write another name, or --force", self.millrace("cp", "r/make.many", str(self.here / "many"), code=2).errors)
        self.assertTrue((self.here / "many" / "mine").exists())
        self.millrace("cp", "r/make.many", str(self.here / "many"), "--force")
        self.assertEqual(digest(self.here / "many"), outputs["many"]["digest"])
        wait_for("the end of the pods", lambda: self.get("pods", selector=READERS)["items"] == [])

    def test_a_version_of_a_model_is_copied_also_when_its_run_is_gone(self):
        self.run_inline({"make": script(MAKE, outputs={"one": {}, "many": {}, "none": {}})}, store=STORE)
        status = self.succeeded()
        made = status["stages"]["make"]["outputs"]["many"]
        artifact = {name: made[name] for name in ("uri", "digest", "size")}
        version = {"model": "m", "version": 3, "format": "files", "artifact": artifact}
        self.apply(resource("ModelVersion", "m-v3", version))
        self.millrace("cp", "m@3", str(self.here / "first"))
        self.assertEqual(digest(self.here / "first"), made["digest"])
        kubectl("delete", "mlpipelinerun", "-n", self.namespace, "r")
        self.assertIn("write --image", self.millrace("cp", "m@3", str(self.here / "none"), code=2).errors)
        self.millrace("cp", "mlv/m-v3", str(self.here / "second"), "--image", status["agent"]["image"])
        self.assertEqual(digest(self.here / "second"), made["digest"])

    def test_what_is_not_what_was_reported_is_not_kept(self):
        self.run_inline({"make": script(MAKE, outputs={"one": {}, "many": {}, "none": {}})}, store=STORE)
        made = self.succeeded()["stages"]["make"]["outputs"]
        wrong = {"uri": made["one"]["uri"], "digest": made["many"]["digest"], "size": made["one"]["size"]}
        self.apply(resource("ModelVersion", "m-v1", {"model": "m", "version": 1, "format": "files", "artifact": wrong}))
        absent = {**wrong, "uri": made["one"]["uri"] + "-absent"}
        self.apply(resource("ModelVersion", "m-v2", {"model": "m", "version": 2, "format": "files", "artifact": absent}))
        image = ["--image", self.run_of()["status"]["agent"]["image"]]
        refused = self.millrace("cp", "m@1", str(self.here / "one"), *image, code=2).errors
        self.assertIn("nothing is copied", refused)
        self.assertIn(made["one"]["digest"], refused)
        self.assertIn("does not exist", self.millrace("cp", "m@2", str(self.here / "one"), *image, code=2).errors)
        self.assertEqual(list(self.here.iterdir()), [])

    def test_what_is_asked_wrongly_says_what_to_write(self):
        self.run_inline({"make": script(MAKE, outputs={"one": {}, "many": {}, "none": {}})}, store=STORE)
        self.succeeded()
        for asked, words in [
            ("r", "write RUN/STAGE.OUTPUT"),
            ("r/mke.one", "did you mean `make`?"),
            ("r/make.two", "has no output two"),
            ("m@9", "there is no ModelVersion m-v9"),
        ]:
            self.assertIn(words, self.millrace("cp", asked, str(self.here / "x"), code=2).errors)
        self.assertEqual(list(self.here.iterdir()), [])
