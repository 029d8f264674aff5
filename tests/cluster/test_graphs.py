"""Graphs of served models: sequence, switch, ensemble, splitter, a model that starts from zero, one that is deleted, one with a door."""

import http.client
import json

from harness import condition, kubectl, resource, wait_for
from models import REQUEST, ModelTest

BODY = json.loads(REQUEST)


def ask(address: str, body: object = BODY, headers: dict | None = None, path: str = "/") -> tuple[int, dict, dict]:
    """Status, headers by lower-case names, and what the JSON says."""
    connection = http.client.HTTPConnection(address, timeout=150)
    try:
        text = body if isinstance(body, bytes) else json.dumps(body).encode()
        connection.request("POST", path, text, {"content-type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        said = answer.read()
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, json.loads(said)
    finally:
        connection.close()


def outputs(answer: dict) -> list[str]:
    return [tensor["name"] for tensor in answer["outputs"]]


class Graphs(ModelTest):
    def graph(self, nodes: dict, root: str = "main", name: str = "g", **spec) -> None:
        self.apply(resource("InferenceGraph", name, {"root": root, "nodes": nodes, **spec}))

    def told(self, status: str, reason: str, *words: str, name: str = "g") -> dict:
        """Waits until `Ready` says so of the newest spec."""

        def seen():
            graph = self.get("inferencegraph", name)
            found = condition(graph, "Ready")
            new = graph.get("status", {}).get("observedGeneration") == graph["metadata"]["generation"]
            right = (found.get("status"), found.get("reason")) == (status, reason)
            return graph if new and right and all(word in found["message"] for word in words) else None

        return wait_for(f"Ready={status} {reason} {words}", seen, 120, every=0.2)

    def address(self, name: str = "g") -> str:
        return self.get("service", name)["spec"]["clusterIP"]

    def two(self) -> None:
        """The models a and b, with the versions 1 and 2 of m."""
        self.register(1)
        self.register(2)
        self.serve(1, name="a")
        self.serve(2, name="b")
        self.wait_served(1, "a")
        self.wait_served(2, "b")

    def test_a_sequence_goes_on_by_what_the_first_model_answers_and_says_which_step_failed(self):
        self.two()
        later = {"name": "second", "model": "b", "input": "Request", "when": "answer.outputs.exists(o, o.name == 'label')"}
        never = {"name": "third", "model": "a", "input": "Request", "when": "size(answer.outputs) > 10"}
        self.graph({"main": {"sequence": {"steps": [{"name": "first", "model": "a"}, later, never]}}})
        graph = self.told("True", "Serving", "all 2 models")
        self.assertEqual(graph["status"]["modelsReady"], "2/2")
        self.assertEqual(graph["status"]["address"]["url"], f"http://g.{self.namespace}.svc")
        for path in ["/", "/v2/models/g/infer"]:
            status, _, answer = ask(self.address(), path=path)
            self.assertEqual((status, outputs(answer)), (200, ["label", "probabilities"]), answer)
        # The outputs of the first are no inputs of the second: the model itself says so.
        self.graph({"main": {"sequence": {"steps": [{"name": "first", "model": "a"}, {"name": "second", "model": "b"}]}}})
        self.told("True", "Serving")
        status, headers, answer = ask(self.address())
        self.assertEqual((status, headers["x-millrace-graph-step"]), (400, "main/second"), answer)
        self.assertTrue(answer["error"].startswith("step main/second, model b: "), answer)
        # Left out where it may be.
        steps = [{"name": "first", "model": "a"}, {"name": "second", "model": "b", "dependency": "Soft"}]
        self.graph({"main": {"sequence": {"steps": steps}}})
        self.told("True", "Serving")
        status, headers, answer = ask(self.address())
        self.assertEqual((status, headers["x-millrace-graph-left-out"], outputs(answer)), (200, "main/second", ["label", "probabilities"]))

    def test_a_switch_an_ensemble_and_a_splitter_over_served_models(self):
        self.two()
        nodes = {
            "main": {
                "switch": {
                    "steps": [
                        {"name": "both", "when": "has(headers.x_both)", "node": "both"},
                        {"name": "tensors", "when": "has(headers.x_tensors)", "node": "tensors"},
                        {"name": "one", "when": "request.inputs[0].shape[0] == 1", "model": "a"},
                        {"name": "many", "node": "split"},
                    ]
                }
            },
            "both": {"ensemble": {"steps": [{"name": "a", "model": "a"}, {"name": "b", "model": "b"}]}},
            "tensors": {"ensemble": {"answer": "Tensors", "steps": [{"name": "a", "model": "a"}, {"name": "b", "model": "b"}]}},
            "split": {"splitter": {"steps": [{"name": "a", "model": "a", "weight": 50}, {"name": "b", "model": "b", "weight": 50}]}},
        }
        self.graph(nodes)
        self.told("True", "Serving")
        address = self.address()
        status, _, answer = ask(address, headers={"x-both": "1"})
        self.assertEqual((status, sorted(answer)), (200, ["a", "b"]))
        self.assertEqual([outputs(answer[step]) for step in "ab"], [["label", "probabilities"]] * 2)
        status, _, answer = ask(address, headers={"x-tensors": "1"})
        self.assertEqual((status, outputs(answer)), (200, ["a.label", "a.probabilities", "b.label", "b.probabilities"]))
        counts = {"a": self.counted("a"), "b": self.counted("b")}
        for _ in range(60):
            self.assertEqual(ask(address)[0], 200)
        # 30 each are expected; the chance of fewer than 8 is below one in a hundred million.
        for model, before in counts.items():
            self.assertGreaterEqual(self.counted(model) - before, 8)
        status, headers, answer = ask(address, b"no JSON")
        self.assertEqual((status, headers["x-millrace-graph-step"]), (422, "main/one"), answer)

    def counted(self, model: str) -> int:
        """Requests of a model that ended well, at all routers."""
        line = f'millrace_router_requests_total{{model="{model}"'
        total = 0
        for router in self.routers():
            connection = http.client.HTTPConnection(router["status"]["podIP"], 9090, timeout=10)
            connection.request("GET", "/metrics")
            text = connection.getresponse().read().decode()
            connection.close()
            total += sum(int(float(t.split()[-1])) for t in text.splitlines() if t.startswith(line) and 'outcome="Success"' in t)
        return total

    def test_a_model_at_zero_is_woken_through_a_graph(self):
        self.register(1)
        self.serve(1, name="a", scale={"min": 0, "max": 1, "toZeroAfter": "5s"})
        wait_for("zero", lambda: condition(self.get("modeldeployment", "a"), "Ready").get("reason") == "AtZero", 120)
        self.graph({"main": {"sequence": {"steps": [{"name": "only", "model": "a"}]}}})
        self.told("True", "Serving")
        status, headers, answer = ask(self.address())
        self.assertEqual((status, outputs(answer)), (200, ["label", "probabilities"]))
        self.assertIn("load;dur=", headers["server-timing"])
        # And it sleeps again.
        wait_for("zero", lambda: condition(self.get("modeldeployment", "a"), "Ready").get("reason") == "AtZero", 120)
        self.told("True", "Serving")

    def test_a_model_that_is_deleted_is_told_and_one_that_comes_later_makes_it_ready(self):
        nodes = {"main": {"ensemble": {"steps": [{"name": "a", "model": "a"}, {"name": "b", "model": "b", "dependency": "Soft"}]}}}
        self.graph(nodes)
        self.told("False", "ModelNotFound", 'no ModelDeployment "a"', "main/a")
        # There are routers for a graph alone.
        wait_for("routers", lambda: len(self.routers()) == 2, 120)
        self.register(1)
        self.serve(1, name="a")
        self.told("True", "Serving", "without b")
        status, headers, answer = ask(self.address())
        self.assertEqual((status, list(answer), headers["x-millrace-graph-left-out"]), (200, ["a"], "main/b"))
        self.serve(1, name="b")
        self.told("True", "Serving", "all 2 models")
        kubectl("delete", "modeldeployment", "a", "-n", self.namespace)
        self.told("False", "ModelNotFound", 'no ModelDeployment "a"')

        def missing():
            status, headers, _ = ask(self.address())
            return status == 503 and headers.get("x-millrace-graph-step") == "main/a"

        wait_for("503 of the step", missing, 60)
        self.serve(1, name="a")
        self.told("True", "Serving", "all 2 models")
        status, _, answer = ask(self.address())
        self.assertEqual((status, sorted(answer)), (200, ["a", "b"]))
        kubectl("delete", "inferencegraph", "g", "-n", self.namespace)
        wait_for("its Service is gone", lambda: not self.get("service", selector="millrace.dev/inference-graph=g")["items"], 60)
        self.assertEqual(len(self.routers()), 2)

    def test_a_graph_is_no_way_past_the_door_of_a_model_and_mistakes_are_told(self):
        self.register(1)
        self.serve(1, name="a", security={"auth": {"apiKeys": {"secretName": "keys"}}})
        nodes = {"main": {"switch": {"steps": [{"name": "only", "model": "a"}]}}}
        self.graph(nodes)
        self.told("False", "SecurityRequired", 'model "a" has security.auth')
        wait_for("the model's routes", lambda: "a" in self.routed(), 60)
        self.assertNotIn("g", self.routed())
        there = {"switch": {"steps": [{"name": "only", "node": "next"}]}}
        back = {"switch": {"steps": [{"name": "back", "node": "main"}]}}
        self.graph({"main": there, "next": back})
        self.told("False", "Circle", "would go round for ever")
        self.graph({"main": {"switch": {"steps": [{"name": "x", "when": "requst.x > 1", "model": "a"}, {"name": "y", "model": "a"}]}}})
        self.told("False", "InvalidExpression", "did you mean `request`")

    def routed(self) -> list[str]:
        maps = self.get("configmap", selector="millrace.dev/router=millrace-router")["items"]
        return [model["name"] for one in maps for model in json.loads(one["data"]["routes.json"])["models"]]
