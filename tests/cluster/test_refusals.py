"""What is refused: by the schema at `kubectl apply`, or as `Accepted=False` with the field and the remedy. Nothing is created."""

from harness import DEBIAN, ClusterTest, Refused, condition, resource, script, wait_for

OK = script("true")
STORE = {"pvc": {"claimName": "artifacts"}}


def secured(security: dict) -> dict:
    return {"model": {"name": "m"}, "security": security}


class Refusals(ClusterTest):
    def refused(self, spec: dict, *words: str) -> None:
        """The pipeline is not accepted, the message has the words, no run starts; a correct one then does."""
        self.apply(resource("MLPipeline", "p", {"triggers": {"onChange": True}, **spec}))

        def verdict():
            pipeline = self.get("mlpipeline", "p")
            current = pipeline.get("status", {}).get("observedGeneration") == pipeline["metadata"]["generation"]
            return condition(pipeline, "Accepted") if current else None

        accepted = wait_for("a verdict", verdict, 60)
        self.assertEqual(accepted["status"], "False", spec)
        for word in words:
            self.assertIn(word, accepted["message"])
        self.assertEqual(self.get("mlpipelinerun")["items"], [])
        self.assertEqual(self.jobs(), [])

    def test_a_static_fault_is_refused_with_its_path(self):
        cases = [
            ({"stages": {"a": script("true", needs=["b"]), "b": script("true", needs=["a"])}}, "spec.stages", "a -> b -> a"),
            ({"stages": {"a": script("true", needs=["bb"]), "b": OK}}, "spec.stages.a.needs", "bb"),
            ({"stages": {"a": {"uses": "ingset", "with": {"source": "/x"}}}}, "spec.stages.a.uses", "ingest"),
            ({"stages": {"a": {"uses": "ingest", "with": {"sorce": "/x"}}}, "store": STORE}, "spec.stages.a.with", "source"),
            ({"stages": {"a": {"uses": "ingest"}}, "store": STORE}, "spec.stages.a.with", "source"),
            ({"stages": {"a": script("true", inputs={"x": {"from": "b.data"}}), "b": OK}}, "spec.stages.a.inputs.x.from", "b"),
            ({"stages": {"a": script("true", env={"X": {"value": "$[[ params.lr ]]"}})}}, "spec.stages.a", "lr"),
            ({"stages": {"a": script("true", env={"X": {"value": "$[[ 1 + ]]"}})}}, "spec.stages.a", "1 +"),
            ({"stages": {"a": script("true", gate={"pass": "metrics.f1"})}}, "spec.stages.a.gate.pass", "boolean"),
            ({"stages": {"a": script("true", outputs={"d": {}})}}, "store"),
            ({"stages": {"A_b": OK}}, "spec.stages", "A_b"),
            ({"params": {"n": {"type": "integer", "default": "five"}}, "stages": {"a": OK}}, "spec.params.n.default", "integer"),
        ]
        for spec, *words in cases:
            self.refused(spec, *words)
        self.apply(resource("MLPipeline", "p", {"triggers": {"onChange": True}, "stages": {"a": OK}}))
        run = wait_for("a run of the correct one", lambda: self.get("mlpipeline", "p").get("status", {}).get("lastRun"))
        self.succeeded(run)

    def test_a_run_with_wrong_parameters_is_refused(self):
        self.pipeline({"a": OK}, params={"n": {"type": "integer", "minimum": 1, "maximum": 5}})
        for name, params, *words in [
            ("missing", {}, "spec.params.n", "integer"),
            ("wrong", {"n": "x"}, "spec.params.n", "integer"),
            ("high", {"n": 9}, "spec.params.n", "5"),
            ("unknown", {"n": 1, "m": 2}, "spec.params.m", "n"),
        ]:
            self.start(name, params=params)
            status = self.failed(name, 30)
            for word in words:
                self.assertIn(word, condition({"status": status}, "Accepted")["message"])
        self.assertEqual(self.jobs(), [])
        self.start("right", params={"n": 2})
        self.succeeded("right")

    def test_a_schema_fault_is_refused_at_apply(self):
        container = {"image": DEBIAN, "command": ["true"]}
        many = {f"s{i}": {"container": container} for i in range(300)}
        cases = [
            ("MLPipeline", {"stages": {}}, "stages"),
            ("MLPipeline", {}, "stages"),
            ("MLPipeline", {"stages": many}, "stages"),
            ("MLPipeline", {"stages": {"a": {"container": {"image": DEBIAN}}}}, "command or script is required"),
            ("MLPipeline", {"stages": {"a": {"container": container, "uses": "x"}}}, "exactly one of uses, container"),
            ("MLPipeline", {"stages": {"a": {"container": container, "hostNetwork": True}}}, "hostNetwork"),
            ("MLPipeline", {"stages": {"a": {"container": {**container, "privileged": True}}}}, "privileged"),
            ("MLPipeline", {"stages": {"a": {"container": {**container, "runAsUser": 0}}}}, "runAsUser"),
            ("MLPipeline", {"stages": {"a": {"container": container, "timeout": "soon"}}}, "timeout"),
            ("MLPipelineRun", {}, "exactly one of pipelineRef and pipeline"),
            ("MLPipelineRun", {"pipelineRef": {"name": "p"}, "param": {}}, "param"),
            ("StageTemplate", {"container": {"image": DEBIAN, "script": "echo"}}, "interpreter line"),
            ("ModelVersion", {"model": "m", "version": 0, "format": "onnx", "artifact": {}}, "version"),
            ("ModelDeployment", {"model": {"name": "../m"}}, "model.name"),
            ("ModelDeployment", {"model": {"name": "m", "version": "7"}}, "version"),
            ("ModelDeployment", {"model": {"name": "m", "uri": "s3://lake/m"}}, "exactly one of name and uri is required"),
            ("ModelDeployment", {"model": {"uri": "s3://lake/m", "format": "onnx"}}, "uri, format and digest belong together"),
            ("ModelDeployment", secured({}), "security says nothing"),
            ("ModelDeployment", secured({"tls": {"secretName": "../x"}}), "secretName"),
            ("ModelDeployment", secured({"auth": {}}), "exactly one of apiKeys and jwt"),
            ("ModelDeployment", secured({"rateLimit": {"requestsPerSecond": 5, "per": "Caller"}}), "per: Caller needs auth"),
            ("ModelDeployment", secured({"rateLimit": {"requestsPerSecond": 0}}), "requestsPerSecond"),
            ("ModelDeployment", secured({"tls": {"secretName": "s"}, "auth": {"apiKeys": {"secretName": "s"}}}), "another Secret than tls"),
            ("ModelDeployment", secured({"auth": {"jwt": {"issuer": "i", "audiences": ["a"], "jwks": {}}}}), "exactly one of configMap"),
            ("ModelDeployment", secured({"auth": {"jwt": {"issuer": "i", "audiences": [], "jwks": {"secret": {"name": "s", "key": "k"}}}}}), "audiences"),
        ]
        for kind, spec, word in cases:
            with self.subTest(kind=kind, word=word), self.assertRaises(Refused) as refused:
                self.apply(resource(kind, "x", spec))
            self.assertIn(word, str(refused.exception))

    def test_a_run_and_a_model_version_cannot_be_changed(self):
        self.run_inline({"a": OK})
        with self.assertRaisesRegex(Refused, "cannot be changed"):
            self.run_inline({"a": script("false")})
        digest = "sha256:" + "0" * 64
        spec = {"model": "m", "version": 1, "format": "onnx", "artifact": {"uri": "pvc://c/x", "digest": digest, "size": 1}}
        self.apply(resource("ModelVersion", "m-v1", spec))
        with self.assertRaisesRegex(Refused, "cannot be changed"):
            self.apply(resource("ModelVersion", "m-v1", {**spec, "version": 2}))
