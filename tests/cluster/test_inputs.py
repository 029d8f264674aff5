"""Inputs by `uri`: what lies at an address is read once, by a pod in which nobody's program runs."""

import base64
import hashlib
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from harness import ClusterTest, kubectl, resource, script, wait_for
from objects import ACCOUNT, RIGHT, S3Test
from test_cache import CacheTest

STORE = {"pvc": {"claimName": "artifacts"}}
TOKEN = "Bearer t0ken-5Kx8-words"


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Served(BaseHTTPRequestHandler):
    """Gives the file of the server, whole or a part; breaks off where the server says so."""

    def do_GET(self):
        server = self.server
        server.asked.append((self.path, {name.lower(): value for name, value in self.headers.items()}))
        if self.path == "/moved":
            self.send_response(302)
            self.send_header("Location", "http://169.254.169.254/latest/meta-data/")
            self.end_headers()
            return
        if self.path == "/private" and self.headers.get("Authorization") != TOKEN:
            self.send_error(401)
            return
        if self.path not in ("/file", "/private"):
            self.send_error(404)
            return
        data, tag = server.file, '"' + hashlib.sha256(server.file).hexdigest()[:8] + '"'
        if self.headers.get("If-None-Match") == tag:
            self.send_response(304)
            self.send_header("ETag", tag)
            self.end_headers()
            return
        first = 0
        if self.headers.get("Range") and self.headers.get("If-Range") == tag:
            first = int(self.headers["Range"].removeprefix("bytes=").rstrip("-"))
        self.send_response(206 if first else 200)
        self.send_header("ETag", tag)
        self.send_header("Content-Length", str(len(data) - first))
        if first:
            self.send_header("Content-Range", f"bytes {first}-{len(data) - 1}/{len(data)}")
        self.end_headers()
        last = len(data) if server.breaks == 0 else first + len(data) // 2
        server.breaks = max(0, server.breaks - 1)
        self.wfile.write(data[first:last])
        self.close_connection = True

    def log_message(self, *_):
        pass


class WebTest(ClusterTest):
    only_local = "the pods of another cluster need not reach this machine"

    def setUp(self):
        super().setUp()
        self.claim()
        self.web = ThreadingHTTPServer((os.environ["MILLRACE_CLUSTER_HOST"], 0), Served)
        self.web.file, self.web.breaks, self.web.asked = b"rows of one\n", 0, []
        threading.Thread(target=self.web.serve_forever, daemon=True).start()
        self.addCleanup(self.web.server_close)
        self.addCleanup(self.web.shutdown)

    def address(self, path: str = "/file") -> str:
        return f"http://{os.environ['MILLRACE_CLUSTER_HOST']}:{self.web.server_port}{path}"

    def reads(self, uri: str, **more) -> dict:
        """A stage that prints what it reads."""
        return script("cat $MILLRACE_INPUT_ROWS", inputs={"rows": {"uri": uri, **more}})


class Web(WebTest):
    def test_a_file_is_read_though_the_connection_breaks_and_its_digest_is_in_the_run(self):
        self.web.file, self.web.breaks = bytes(range(256)) * 4096, 1
        stages = {
            "read": script("sha256sum < $MILLRACE_INPUT_ROWS; ls -l /proc/1/fd || true", inputs={"rows": {"uri": self.address()}}),
            "tell": script('echo "version $1"', args=["$[[ stages.read_rows.results.source_version ]]"], needs=["read"]),
        }
        self.run_inline(stages, store=STORE)
        found = self.succeeded()["stages"]
        self.assertEqual(sorted(found), ["read", "read-rows", "tell"])
        made = found["read-rows"]["outputs"]["data"]
        self.assertEqual((made["digest"], made["size"]), (digest(self.web.file), len(self.web.file)))
        self.assertIn(made["digest"].removeprefix("sha256:"), self.logs("read"))
        version = hashlib.sha256(self.web.file).hexdigest()[:8]
        self.assertEqual(found["read-rows"]["results"]["source_version"], version)
        self.assertIn(f"version {version}", self.logs("tell"))
        self.assertEqual([headers.get("range") for _, headers in self.web.asked], [None, f"bytes={len(self.web.file) // 2}-"])

    def test_what_cannot_be_read_fails_at_once_and_says_why(self):
        other = f"sha256:{'0' * 64}"
        stages = {
            "wrong": self.reads(self.address(), digest=other),
            "absent": self.reads(self.address("/nothing")),
            "hidden": self.reads(self.address("/moved")),
            "private": self.reads(self.address("/private")),
        }
        self.run_inline({name: {**stage, "onFailure": "Continue"} for name, stage in stages.items()}, store=STORE)
        found = self.finished()["stages"]
        for stage, *words in [
            ("wrong", other, digest(self.web.file)),
            ("absent", "404", "correct the address"),
            ("hidden", "169.254.169.254 is for the machine alone"),
            ("private", "401", "HTTP_AUTHORIZATION"),
        ]:
            made = found[f"{stage}-rows"]
            self.assertEqual((made["state"], made["attempts"]), ("Failed", 1), made)
            for word in words:
                self.assertIn(word, made["message"])
            self.assertEqual(found[stage]["state"], "Skipped", found[stage])

    def test_a_header_of_a_secret_opens_an_address_and_is_told_nowhere(self):
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "web"}, "stringData": {"HTTP_AUTHORIZATION": TOKEN}})
        stage = self.reads(self.address("/private"), access={"secretRef": {"name": "web"}})
        stage["container"]["script"] += "\nenv; cat /proc/1/environ || echo refused"
        self.run_inline({"read": stage}, store=STORE)
        self.succeeded()
        told = self.logs("read")
        self.assertIn("rows of one", told)
        kinds = "mlpipelineruns,controllerrevisions,jobs,pods,events"
        told += self.logs("read-rows") + kubectl("get", kinds, "-n", self.namespace, "-o", "json")
        for words in (TOKEN, base64.b64encode(TOKEN.encode()).decode()):
            self.assertNotIn(words, told)

    def test_an_address_is_handed_over_and_nothing_is_read(self):
        stage = script('echo "$MILLRACE_INPUT_ROWS $1"', args=["$[[ inputs.rows ]]"], inputs={"rows": {"uri": "s3://lake/$[[ run.name ]]/", "mode": "Uri"}})
        self.run_inline({"read": stage})
        self.assertEqual(sorted(self.succeeded()["stages"]), ["read"])
        self.assertEqual(self.logs("read").strip(), "s3://lake/r/ s3://lake/r/")

    def test_items_all_read_what_was_read_once(self):
        stage = script("cat $MILLRACE_INPUT_ROWS", inputs={"rows": {"uri": self.address()}}, outputs={})
        stage["forEach"] = {"items": [1, 2, 3], "parallelism": 3}
        self.run_inline({"each": stage}, store=STORE)
        self.succeeded()
        self.assertEqual(len(self.web.asked), 1)


class Cached(CacheTest, WebTest):
    def reader(self, **more) -> dict:
        inputs = {"rows": {"uri": self.address(), **more}}
        return script("cat $MILLRACE_INPUT_ROWS > $MILLRACE_OUTPUT_DATA", image=self.pinned(), inputs=inputs, outputs={"data": {}})

    def read(self, name: str, **more) -> dict:
        self.run_inline({"read": self.reader(**more)}, name=name, store=STORE)
        return self.succeeded(name)["stages"]

    def test_the_reader_is_cached_by_what_lies_there_now(self):
        first = self.read("r1")
        self.assertEqual(self.read("r2")["read"].get("reason"), "CacheHit", "the same bytes")
        self.web.file = b"rows of two\n"
        third = self.read("r3")
        self.assertIsNone(third["read"].get("reason"), "other bytes are never taken for these")
        self.assertNotEqual(first["read"]["outputs"]["data"]["digest"], third["read"]["outputs"]["data"]["digest"])
        self.assertEqual(third["read"]["outputs"]["data"]["digest"], digest(self.web.file))

    def test_what_a_source_still_has_is_not_brought_again_and_what_is_lost_is(self):
        first = self.read("r1")["read-rows"]
        self.assertEqual(len(self.web.asked), 1)
        second = self.read("r2")
        self.assertEqual([second[name].get("reason") for name in ("read-rows", "read")], ["SourceUnchanged", "CacheHit"])
        taken = second["read-rows"]
        self.assertEqual((taken["outputs"], taken["results"]), (first["outputs"], first["results"]))
        self.assertEqual((taken["attempts"], taken["cache"]["from"]["run"]), (1, "r1"))
        self.assertNotIn("asked", taken["cache"])
        asked = self.web.asked[1:]
        self.assertEqual(["if-none-match" in headers for _, headers in asked], [True])
        wait_for("an event", lambda: [e for e in self.events() if e.startswith("SourceUnchanged: stage read-rows: its source has not changed")])
        tree = self.millrace("tree", "r2").out
        self.assertIn("its source has not changed since stage `read-rows` of run r1 read it at", tree)

        # What it has is taken out of the store: who reads it next has it brought again.
        find = "cd /store/runs/r1-*/read-rows*/attempts/*/outputs; chmod -R u+w . || true; rm -r data; ls"
        self.run_inline({"lose": script(find, volumes={"store": {"claim": {"name": "artifacts"}, "mountPath": "/store"}})}, name="lose")
        self.succeeded("lose")
        third = self.reader()
        self.run_inline({"read": {**third, "cache": {"salt": "2"}}}, name="r3", store=STORE)
        status = self.succeeded("r3")["stages"]
        self.assertEqual((status["read-rows"]["remade"], status["read-rows"]["cache"]["lost"]["run"]), (1, "r1"))
        self.assertEqual(status["read"]["outputs"]["data"]["digest"], digest(self.web.file))
        self.assertEqual(["if-none-match" in headers for _, headers in self.web.asked[2:]], [True, False])


class Buckets(S3Test):
    def test_a_folder_of_a_bucket_and_one_of_a_claim_are_read(self):
        endpoint = self.serve({"lake/raw/a.csv": "1\n", "lake/raw/b/c.csv": "2\n"})
        self.claim()
        self.claim("raw")
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": RIGHT}})
        fill = script("mkdir -p /raw/day; echo 3 > /raw/day/d.csv")
        fill["container"]["volumes"] = {"raw": {"claim": {"name": "raw"}, "mountPath": "/raw"}}
        show = "for f in $(cd $MILLRACE_INPUT_IN; find . -type f | sort); do echo $f $(cat $MILLRACE_INPUT_IN/$f); done"
        access = {"endpoint": endpoint, "secretRef": {"name": "keys"}}
        stages = {
            "fill": fill,
            "bucket": script(show, inputs={"in": {"uri": "s3://lake/raw/", "access": access}}),
            "claim": script(show, inputs={"in": {"uri": "pvc://raw/day"}}, needs=["fill"]),
        }
        self.run_inline(stages, store=STORE)
        self.succeeded()
        self.assertEqual(self.logs("bucket").split("\n")[:2], ["./a.csv 1", "./b/c.csv 2"])
        self.assertEqual(self.logs("claim").strip(), "./d.csv 3")

    def test_a_store_in_a_bucket_takes_what_another_has_without_anybody_seeing_credentials(self):
        endpoint = self.serve({"lake/readme": "x", "other/base": "weights"})
        self.apply({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "keys"}, "stringData": {"AWS_ACCESS_KEY_ID": ACCOUNT, "AWS_SECRET_ACCESS_KEY": RIGHT}})
        access = {"endpoint": endpoint, "secretRef": {"name": "keys"}}
        read = script("cat $MILLRACE_INPUT_BASE; env; cat /proc/1/environ || echo environ is refused", inputs={"base": {"uri": "s3://other/base", "access": access}})
        self.run_inline({"read": read}, store={"s3": {"bucket": "lake", **access}})
        made = self.succeeded()["stages"]["read-base"]["outputs"]["data"]
        self.assertEqual(made["digest"], digest(b"weights"))
        told = self.logs("read")
        self.assertIn("weights", told)
        self.assertIn("environ is refused", told)
        self.assertNotIn(RIGHT, told + self.logs("read-base"))


class Refused(ClusterTest):
    def test_what_no_pod_could_read_is_refused_with_the_inputs_field(self):
        stage = script("true", inputs={"rows": {"uri": "http://169.254.169.254/latest"}})
        self.pipeline({"read": stage}, store=STORE)

        def told():
            conditions = self.get("mlpipeline", "p").get("status", {}).get("conditions", [])
            return next((c["message"] for c in conditions if c["type"] == "Accepted" and c["status"] == "False"), None)

        message = wait_for("why it is refused", told)
        self.assertIn("spec.stages.read.inputs.rows.uri", message)
        self.assertIn("is for the machine alone", message)
        both = {"from": "a.b", "uri": "https://example.com/x"}
        with self.assertRaisesRegex(Exception, "exactly one of from, uri, table, deployed, model and input is required"):
            self.apply(resource("MLPipeline", "q", {"stages": {"read": script("true", inputs={"rows": both})}}))


class Models(ClusterTest):
    def test_a_registered_model_is_an_input_by_its_number_or_as_the_newest(self):
        self.claim()
        same = 'grep -q "$WORD" "$MILLRACE_INPUT_M/model.onnx"'
        stages = {
            "newest": script(same.replace("$WORD", "one"), inputs={"m": {"model": {"name": "teacher"}}}),
            "second": script(same.replace("$WORD", "two"), inputs={"m": {"model": {"name": "teacher", "version": 2}}}),
            "none": script('test -z "$MILLRACE_INPUT_M"', inputs={"m": {"model": {"name": "nobody"}, "optional": True}}),
        }
        self.run_inline(stages, name="reader", store=STORE)
        self.waits_with("second", "no version of the model teacher is registered", "reader")
        self.assertEqual(self.stage("second", "reader")["reason"], "WaitingForModelVersion")
        self.register("one")
        # The newest at its start.
        wait_for("what the stage read", lambda: self.stage("newest", "reader").get("inputs", {}).get("m", {}).get("modelVersion"))
        self.waits_with("second", "version 2 of the model teacher is not registered, and the newest is 1", "reader")
        self.register("two")
        found = self.succeeded("reader")["stages"]
        names = [found[stage]["inputs"]["m"].get("modelVersion") for stage in stages]
        self.assertEqual(names, ["teacher-v1", "teacher-v2", None])

    def register(self, word: str) -> None:
        signature = '{"task":"classification","inputs":[],"outputs":[]}'
        write = f"cd $MILLRACE_OUTPUT_MODEL\necho {word} >model.onnx\necho '{signature}' >signature.json"
        write = f"mkdir $MILLRACE_OUTPUT_MODEL\n{write}"
        fit = script(write, outputs={"model": {"type": "model"}})
        self.run_inline({"fit": fit, "register": {"register": {"model": "teacher", "from": "fit.model"}}}, name=word, store=STORE)
        self.succeeded(word)
