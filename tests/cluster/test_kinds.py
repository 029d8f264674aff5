"""Each of the six kinds, each fault: refused with the field's name, and nothing is made of it; a correct apply works."""

import copy
import json

from harness import DEBIAN, ClusterTest, Refused, condition, kubectl, resource, wait_for

CONTAINER = {"image": DEBIAN, "command": ["true"]}
DIGEST = "sha256:" + "0" * 64
STEPS = {"steps": [{"name": "a", "model": "m"}]}
VALID: dict[str, dict] = {
    "MLPipeline": {"stages": {"a": {"container": CONTAINER}, "b": {"needs": ["a"], "container": CONTAINER}}},
    "MLPipelineRun": {"pipeline": {"stages": {"a": {"container": CONTAINER}, "b": {"needs": ["a"], "container": CONTAINER}}}},
    "StageTemplate": {"params": {"x": {"type": "integer", "minimum": 1}}, "container": CONTAINER},
    "ModelVersion": {"model": "m", "version": 1, "format": "onnx", "artifact": {"uri": "pvc://c/m", "digest": DIGEST, "size": 1}},
    "ModelDeployment": {"model": {"name": "m"}, "server": {"resources": {"limits": {"cpu": "1"}}}},
    "InferenceGraph": {"root": "main", "nodes": {"main": {"switch": STEPS}}},
}
# Refused by the schema. A change is laid over the valid spec; None takes a field away.
REFUSED: list[tuple[str, str, dict, str]] = [
    ("MLPipeline", "wrong type", {"stages": {"a": {"timeout": 5}}}, "spec.stages.a.timeout"),
    ("MLPipeline", "unknown field", {"stages": {"a": {"container": {"privileged": True}}}}, "spec.stages.a.container.privileged"),
    ("MLPipeline", "missing field", {"stages": {"a": {"container": {"image": None}}}}, "spec.stages.a.container.image"),
    ("MLPipeline", "too long", {"stages": {"a": {"container": {"image": "i" * 1025}}}}, "spec.stages.a.container.image"),
    ("MLPipeline", "contradictory", {"stages": {"a": {"uses": "t"}}}, "exactly one of uses, container"),
    ("MLPipeline", "hostile name", {"stages": {"a": {"container": None, "register": {"model": "../m", "from": "b.m"}}}}, "register.model"),
    ("MLPipelineRun", "wrong type", {"pipeline": None, "pipelineRef": "p"}, "spec.pipelineRef"),
    ("MLPipelineRun", "unknown field", {"pipeline": None, "pipelineRef": {"name": "p", "namespace": "n"}}, "spec.pipelineRef.namespace"),
    ("MLPipelineRun", "missing field", {"pipeline": None, "pipelineRef": {}}, "spec.pipelineRef.name"),
    ("MLPipelineRun", "too long", {"pipeline": None, "pipelineRef": {"name": "p" * 254}}, "spec.pipelineRef.name"),
    ("MLPipelineRun", "contradictory", {"pipelineRef": {"name": "p"}}, "exactly one of pipelineRef and pipeline"),
    ("StageTemplate", "wrong type", {"params": {"x": {"type": 5}}}, "spec.params.x.type"),
    ("StageTemplate", "unknown field", {"gate": {"pass": "true"}}, "spec.gate"),
    ("StageTemplate", "missing field", {"container": None}, "spec.container"),
    ("StageTemplate", "too long", {"description": "d" * 1025}, "spec.description"),
    ("StageTemplate", "contradictory", {"params": {"x": {"maximum": 0}}}, "minimum must not be greater than maximum"),
    ("ModelVersion", "wrong type", {"version": "1"}, "spec.version"),
    ("ModelVersion", "unknown field", {"artifact": {"path": "/"}}, "spec.artifact.path"),
    ("ModelVersion", "missing field", {"artifact": {"digest": None}}, "spec.artifact.digest"),
    ("ModelVersion", "too long", {"model": "m" * 51}, "spec.model"),
    ("ModelVersion", "hostile name", {"artifact": {"uri": "file:///etc/passwd"}}, "spec.artifact.uri"),
    ("ModelDeployment", "wrong type", {"model": {"version": "7"}}, "spec.model.version"),
    ("ModelDeployment", "unknown field", {"server": {"hostNetwork": True}}, "spec.server.hostNetwork"),
    ("ModelDeployment", "missing field", {"model": {"name": None}}, "exactly one of name and uri is required"),
    ("ModelDeployment", "too long", {"model": {"name": "m" * 51}}, "spec.model.name"),
    (
        "ModelDeployment",
        "contradictory",
        {"server": {"env": {"A": {"value": "b", "secret": {"name": "s", "key": "k"}}}}},
        "exactly one of value, secret and configMap",
    ),
    ("ModelDeployment", "hostile name", {"model": {"name": "../m"}}, "spec.model.name"),
    ("InferenceGraph", "wrong type", {"timeout": 5}, "spec.timeout"),
    ("InferenceGraph", "unknown field", {"nodes": {"main": {"parallel": {}}}}, "spec.nodes.main.parallel"),
    ("InferenceGraph", "missing field", {"nodes": None}, "spec.nodes"),
    ("InferenceGraph", "too long", {"root": "r" * 64}, "spec.root"),
    ("InferenceGraph", "contradictory", {"nodes": {"main": {"ensemble": STEPS}}}, "exactly one of sequence"),
    ("InferenceGraph", "hostile name", {"root": "../main"}, "spec.root"),
]
HOSTILE_NAMES = {"../x": "may not contain '/'", "X;reboot": "metadata.name", "x" * 254: "metadata.name"}
# What no schema sees: told by the condition Accepted, with the field.
NOT_ACCEPTED: list[tuple[str, str, dict, str]] = [
    ("MLPipeline", "cyclic", {"stages": {"a": {"needs": ["b"]}}}, "a -> b -> a"),
    ("MLPipeline", "hostile name", {"stages": {"a;reboot": {"container": CONTAINER}}}, "spec.stages.a;reboot"),
    ("MLPipeline", "contradictory", {"params": {"a-b": {"type": "string"}, "a_b": {"type": "string"}}}, "spec.params.a_b"),
    ("MLPipelineRun", "cyclic", {"pipeline": {"stages": {"a": {"needs": ["b"]}}}}, "a -> b -> a"),
    ("MLPipelineRun", "hostile name", {"pipeline": {"stages": {"$(id)": {"container": CONTAINER}}}}, "stages.$(id)"),
    ("StageTemplate", "hostile name", {"outputs": {"../out": {}}}, "spec.outputs.../out"),
    ("ModelDeployment", "hostile name", {"server": {"volumes": {"v": {"memory": {}, "mountPath": "/a", "subPath": "../b"}}}}, "subPath"),
    (
        "ModelDeployment",
        "contradictory",
        {"server": {"volumes": {v: {"memory": {}, "mountPath": "/a"} for v in "vw"}}},
        "spec.server.volumes.w.mountPath",
    ),
    (
        "ModelDeployment",
        "without effect",
        {"model": {"name": None, "uri": "gs://lake/m", "format": "onnx", "digest": DIGEST, "access": {"region": "eu"}}},
        "spec.model.access.region",
    ),
    (
        "InferenceGraph",
        "cyclic",
        {"nodes": {"main": {"switch": {"steps": [{"name": "a", "node": "main"}]}}}},
        "`main` leads back to `main`",
    ),
    ("InferenceGraph", "hostile name", {"nodes": {"a;reboot": {"switch": STEPS}}}, "spec.nodes.a;reboot"),
]
# Kinds whose spec never changes are applied under a new name.
IMMUTABLE = ("MLPipelineRun", "ModelVersion")


def changed(kind: str, change: dict) -> dict:
    spec = copy.deepcopy(VALID[kind])

    def lay(base: dict, over: dict) -> None:
        for key, value in over.items():
            if value is None:
                base.pop(key, None)
            elif isinstance(value, dict) and isinstance(base.get(key), dict):
                lay(base[key], value)
            else:
                base[key] = value

    lay(spec, change)
    return spec


class Kinds(ClusterTest):
    def refused(self, how: str, thing: dict, word: str) -> None:
        with self.assertRaises(Refused) as refused:
            kubectl("apply", how, "-n", self.namespace, "-f", "-", stdin=json.dumps(thing))
        self.assertIn(word, str(refused.exception))

    def test_a_fault_that_a_schema_sees_is_refused_at_apply_by_client_and_by_server(self):
        for kind, fault, change, field in REFUSED:
            thing = resource(kind, "x", changed(kind, change))
            with self.subTest(kind=kind, fault=fault):
                self.refused("--server-side", thing, field)
                # Another path through the apiserver: here only a strict client is told.
                if fault == "unknown field":
                    self.refused("--server-side=false", thing, field.rpartition(".")[2])
        for kind, spec in VALID.items():
            for name, words in HOSTILE_NAMES.items():
                with self.subTest(kind=kind, name=name[:10]):
                    self.refused("--server-side", resource(kind, name, spec), words)
        self.assertEqual(self.get(",".join(VALID))["items"], [])
        for kind, spec in VALID.items():
            self.apply(resource(kind, "x", spec))
        self.succeeded("x")

    def test_a_fault_that_no_schema_sees_is_told_by_a_condition_and_a_correct_apply_mends_it(self):
        for at, (kind, fault, change, word) in enumerate(NOT_ACCEPTED):
            with self.subTest(kind=kind, fault=fault):
                name = f"x{at}" if kind in IMMUTABLE else "x"
                self.apply(resource(kind, name, changed(kind, change)))
                accepted = self.verdict(kind, name)
                self.assertEqual(accepted["status"], "False")
                self.assertIn(word, accepted["message"])
        made = self.get("jobs,deployments,services,controllerrevisions")["items"]
        self.assertEqual([m["metadata"]["name"] for m in made], [])
        for kind in sorted({kind for kind, *_ in NOT_ACCEPTED}):
            name = "right" if kind in IMMUTABLE else "x"
            self.apply(resource(kind, name, VALID[kind]))
            self.assertEqual(self.verdict(kind, name)["status"], "True", kind)

    def test_a_table_says_since_when_each_is_ready_or_not(self):
        for kind in VALID:
            if kind == "MLPipelineRun":
                continue
            name = "m-v1" if kind == "ModelVersion" else "x"
            self.apply(resource(kind, name, VALID[kind]))
            self.verdict(kind, name)
            head, row = kubectl("get", kind, name, "-n", self.namespace).splitlines()
            # Each column of the table begins where its head does.
            at = head.index("SINCE")
            self.assertRegex(row[at:].split()[0], r"^\d+[sm]", kind)

    def test_what_a_person_said_of_a_rollout_stays_when_somebody_applies_none(self):
        self.by_hand("git", {"model": {"name": "m"}, "rollout": {"strategy": "Canary", "steps": [{"weight": 5}]}})
        self.by_hand("anna", {"control": {"revision": "m-1", "action": "Abort"}})
        self.by_hand("git", {"model": {"name": "m"}})
        spec = self.get("modeldeployment", "m")["spec"]
        self.assertEqual((spec.get("rollout"), spec["control"]), (None, {"revision": "m-1", "action": "Abort"}))
        self.assertEqual(self.verdict("ModelDeployment", "m")["status"], "True")

    def by_hand(self, manager: str, spec: dict) -> None:
        thing = json.dumps(resource("ModelDeployment", "m", spec))
        kubectl("apply", "--server-side", f"--field-manager={manager}", "-n", self.namespace, "-f", "-", stdin=thing)

    def verdict(self, kind: str, name: str) -> dict:
        """The condition Accepted on what was applied last."""

        def current():
            thing = self.get(kind, name)
            seen = thing.get("status", {}).get("observedGeneration") == thing["metadata"]["generation"]
            return condition(thing, "Accepted") if seen else None

        return wait_for(f"a verdict on {kind} {name}", current, 30)
