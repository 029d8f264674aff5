"""Data that is not what it should be: the run names file, place and remedy, and works once the data is right."""

import base64

from harness import ClusterTest

# The file's bytes, parameters of ingest, and what the message has to name: file and place, what is there, remedy.
BAD: dict[str, tuple[bytes, dict, list[str]]] = {
    "rows": (b"a,b\n1,2\n3,4,5\n", {}, ["rows.csv, line 3: found 3 fields, expected 2 fields", "the line is '3,4,5'"]),
    "short": (b"a,b\n1,2\n3\n", {}, ["short.csv, line 3: found 1 field, expected 2 fields"]),
    "quote": (b'a,b\n1,"x\n2,y\n', {}, ["quote.csv", "line 2: the quote that opens here is never closed"]),
    "delimiter": (b"a;b\n1;2\n", {}, ["delimiter.csv", "the header is one column, 'a;b'", 'set csv.delimiter: ";"']),
    "encoding": (
        b"name\nok\nJos\xe9\n",
        {},
        ["encoding.csv: line 3: byte 11 (0xE9) is not UTF-8", "csv.encoding: latin1"],
    ),
    "empty": (b"", {}, ["empty.csv is empty"]),
    "header": (b"a,b\n", {}, ["header.csv has a header but no rows"]),
    "column": (b"a,b\n1,2\n", {"columns": ["a", "c"]}, ["parameter columns: there is no column `c`; the columns are: a, b"]),
    "type": (
        b"a\n1\nx\n",
        {"schema": {"a": "integer"}},
        ["type.csv, line 3, column a: found 'x', expected an integer", "schema: {a: string}"],
    ),
}
# The remedies of the messages above.
RIGHT: dict[str, tuple[bytes, dict, int]] = {
    "delimiter": (b"a;b\n1;2\n", {"csv": {"delimiter": ";"}}, 1),
    "encoding": (b"name\nok\nJos\xe9\n", {"csv": {"encoding": "latin1"}}, 2),
    "type": (b"a\n1\nx\n", {"schema": {"a": "string"}}, 2),
}


class BadData(ClusterTest):
    def put(self, files: dict[str, bytes]) -> None:
        data = {f"{name}.csv": base64.b64encode(content).decode() for name, content in files.items()}
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "data"}, "binaryData": data})

    def stages(self, params: dict[str, dict]) -> dict:
        overrides = {
            "volumes": {"data": {"configMap": {"name": "data"}, "mountPath": "/data", "readOnly": True}},
            "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}},
        }
        return {
            name: {"uses": "ingest", "with": {"source": f"/data/{name}.csv", **more}, "overrides": overrides}
            for name, more in params.items()
        }

    def test_bad_csv_is_told_with_file_place_and_remedy_and_the_remedy_works(self):
        self.claim()
        store = {"pvc": {"claimName": "artifacts"}}
        self.put({name: content for name, (content, _, _) in BAD.items()})
        self.run_inline(self.stages({name: params for name, (_, params, _) in BAD.items()}), "bad", store=store)
        found = self.failed("bad", 240)["stages"]
        for name, (_, _, words) in BAD.items():
            self.assertEqual(found[name]["state"], "Failed", name)
            for word in words:
                self.assertIn(word, found[name]["message"])
        self.run_inline(self.stages({name: params for name, (_, params, _) in RIGHT.items()}), "right", store=store)
        found = self.succeeded("right")["stages"]
        self.assertEqual({name: stage["results"]["rows"] for name, stage in found.items()}, {n: r for n, (_, _, r) in RIGHT.items()})
