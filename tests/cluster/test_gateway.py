"""Ways in through Gateways, with the Gateway API's own kinds. A real implementation is Traefik, where it was built (dev/gateway-api/traefik). For
what has to be told when to say what there is a stand-in in this file: it reads HTTPRoutes, says of them what an implementation says, a moment after it
has them in force, and sends requests by them."""

import http.client
import json
import os
import random
import socket
import subprocess
import threading
import time
from typing import Self

from harness import ROOT, Refused, condition, get, kubectl, resource, wait_for
from models import REQUEST, Load, ModelTest

KINDS = ("httproutes", "gateways")
# What Traefik watches besides.
OTHERS = ("gatewayclasses", "grpcroutes", "tlsroutes", "referencegrants", "backendtlspolicies")
GROUP = "gateway.networking.k8s.io"
# Who has this Lease may install and delete the kinds: the tests of the API level take it too.
LOCK = "gateway-api-crds"
STALE_SECONDS = 600
# From what is accepted to what requests follow, and between two looks.
BEHIND_SECONDS = 0.5
CALLERS = 4
ROUTE = "m"


def lock() -> None:
    lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": LOCK, "namespace": "default"}}

    def taken() -> bool:
        try:
            kubectl("create", "-f", "-", stdin=json.dumps(lease))
        except Refused:
            return False
        return True

    try:
        wait_for("the lock of the Gateway API", taken, STALE_SECONDS, 1)
    except AssertionError:
        # Nobody has it for so long: its test was killed.
        kubectl("delete", "lease", LOCK, "-n", "default", "--ignore-not-found")
        wait_for("the lock of the Gateway API", taken, 60, 1)


def unlock() -> None:
    uninstall()
    kubectl("delete", "lease", LOCK, "-n", "default", "--ignore-not-found")


def install(*kinds: str) -> None:
    folder = subprocess.run([str(ROOT / "dev" / "gateway-api" / "crds")], check=True, capture_output=True, text=True).stdout.strip()
    for kind in KINDS + kinds:
        kubectl("apply", "--server-side", "--force-conflicts", "-f", f"{folder}/{GROUP}_{kind}.yaml")
        kubectl("wait", "--for=condition=Established", f"crd/{kind}.{GROUP}", "--timeout=60s")
        # Clients find the kind a moment after that.
        wait_for(f"the kind {kind}", lambda kind=kind: kubectl("get", f"{kind}.{GROUP}", "-A", "-o", "jsonpath={.kind}"))


def uninstall() -> None:
    kubectl("delete", "crd", *(f"{kind}.{GROUP}" for kind in KINDS + OTHERS), "--ignore-not-found", "--timeout=120s")


class StandIn:
    """What a Gateway does, as far as a model's route needs it: no implementation, and nothing of Millrace."""

    def __init__(self, namespace: str):
        self.namespace = namespace
        self.accepts = True
        # Before the model is served nobody has promised an answer.
        self.calling = False
        self.rules: list[dict] = []
        self.endpoints: dict[str, list[tuple[str, int]]] = {}
        self.said = 0
        self.stopped = threading.Event()
        self.failures: list[str] = []
        self.answered = 0
        self.threads = [threading.Thread(target=self.follow, daemon=True)]
        self.threads += [threading.Thread(target=self.call, daemon=True) for _ in range(CALLERS)]

    def __enter__(self) -> Self:
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_) -> None:
        self.stopped.set()
        for thread in self.threads:
            thread.join(30)

    def follow(self) -> None:
        while not self.stopped.wait(BEHIND_SECONDS):
            try:
                found = json.loads(kubectl("get", "httproutes,services,endpointslices", "-n", self.namespace, "-o", "json"))["items"]
            except Refused:
                continue
            self.endpoints = {**services(found), **pods(found)}
            route = next((o for o in found if o["kind"] == "HTTPRoute" and o["metadata"]["name"] == ROUTE), None)
            if route is None:
                self.rules, self.said = [], 0
            elif self.accepts:
                self.rules = route["spec"]["rules"]
                if self.said != route["metadata"]["generation"]:
                    self.said = route["metadata"]["generation"]
                    self.say(route, self.said)

    def say(self, route: dict, generation: int) -> None:
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        said = {"status": "True", "message": "", "observedGeneration": generation, "lastTransitionTime": now}
        conditions = [{"type": "Accepted", "reason": "Accepted", **said}, {"type": "ResolvedRefs", "reason": "ResolvedRefs", **said}]
        parents = [{"parentRef": p, "controllerName": "example.com/stand-in", "conditions": conditions} for p in route["spec"]["parentRefs"]]
        patch = json.dumps({"status": {"parents": parents}})
        kubectl("patch", "httproute", ROUTE, "-n", self.namespace, "--subresource=status", "--type=merge", "-p", patch)

    def call(self) -> None:
        while not self.stopped.wait(0.02):
            if not (self.rules and self.calling):
                continue
            try:
                status, body = self.ask()
            except (OSError, http.client.HTTPException, LookupError) as error:
                self.failures.append(f"{time.strftime('%H:%M:%S')} {error!r}")
            else:
                self.answered += 1
                if status != 200:
                    self.failures.append(f"{time.strftime('%H:%M:%S')} {status} {body[:200]!r}")

    def ask(self, headers: dict | None = None) -> tuple[int, bytes]:
        """One request as the route says."""
        headers = {"content-type": "application/json", **(headers or {})}
        name, port = self.backend(headers)
        connection = http.client.HTTPConnection(*random.choice(self.endpoints[f"{name}:{port}"]), timeout=30)
        try:
            connection.request("POST", "/v2/models/m/infer", REQUEST, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def backend(self, headers: dict) -> tuple[str, int]:
        def fits(rule: dict) -> bool:
            return any(all(headers.get(h["name"]) == h["value"] for h in m.get("headers", [])) for m in rule["matches"])

        rules = self.rules
        rule = next(rule for rule in rules if fits(rule))
        backends = rule["backendRefs"]
        chosen = random.choices(backends, [b.get("weight", 1) for b in backends])[0]
        return chosen["name"], chosen["port"]


def services(found: list[dict]) -> dict[str, list[tuple[str, int]]]:
    """The address of each Service that has one."""
    all_of = {}
    for service in (o for o in found if o["kind"] == "Service" and o["spec"].get("clusterIP", "None") != "None"):
        for port in service["spec"]["ports"]:
            all_of[f"{service['metadata']['name']}:{port['port']}"] = [(service["spec"]["clusterIP"], port["port"])]
    return all_of


def pods(found: list[dict]) -> dict[str, list[tuple[str, int]]]:
    """The pods that are ready of each Service without an address."""
    headless = {o["metadata"]["name"]: o for o in found if o["kind"] == "Service" and o["spec"].get("clusterIP") == "None"}
    all_of: dict[str, list[tuple[str, int]]] = {}
    for piece in (o for o in found if o["kind"] == "EndpointSlice"):
        service = headless.get(piece["metadata"]["labels"].get("kubernetes.io/service-name", ""))
        ready = [e for e in piece.get("endpoints") or [] if service and e["conditions"].get("ready")]
        for endpoint in ready:
            key = f"{service['metadata']['name']}:{service['spec']['ports'][0]['port']}"
            all_of.setdefault(key, []).append((endpoint["addresses"][0], piece["ports"][0]["port"]))
    return all_of


class GatewayTest(ModelTest):
    def setUp(self):
        super().setUp()
        lock()
        self.addCleanup(unlock)
        uninstall()

    def gateway(self, named: str = "stand-in", port: int = 80, **listener) -> None:
        listener = {"name": "web", "port": port, "protocol": "HTTP", **listener}
        spec = {"gatewayClassName": named, "listeners": [listener]}
        self.apply({"apiVersion": f"{GROUP}/v1", "kind": "Gateway", "metadata": {"name": "edge"}, "spec": spec})

    def routing(self, provider: str, **routing) -> dict:
        return {"provider": provider, "gateway": {"parentRefs": [{"name": "edge"}]}, **routing}

    def model(self) -> dict:
        return self.get("modeldeployment", "m")

    def route(self) -> dict:
        return self.get("httproute", ROUTE)

    def weights(self) -> dict[str, int]:
        return {b["name"]: b.get("weight", 1) for b in self.route()["spec"]["rules"][-1]["backendRefs"]}

    def revision(self, version: int) -> str:
        found = [d for d in self.get("deployments", selector="millrace.dev/revision")["items"] if self.version(d) == str(version)]
        return found[0]["metadata"]["name"] if found else ""

    def version(self, deployment: dict) -> str:
        return deployment["metadata"]["annotations"]["millrace.dev/version"]

    def routed(self, reason: str, seconds: float = 90) -> dict:
        def told():
            found = condition(self.model(), "Routed")
            return found if found.get("reason") == reason else None

        return wait_for(f"Routed {reason}", told, seconds, 0.2)


class GatewaysByAStandIn(GatewayTest):
    def test_the_gateway_api_may_be_installed_after_the_operator_and_the_model(self):
        self.register(1)
        self.serve(1, routing=self.routing("Router"))
        told = self.routed("GatewayAPIMissing")
        self.assertIn("install the Gateway API", told["message"])
        wait_for("pods", lambda: self.ready("millrace.dev/revision"))
        # The Service answers all the same.
        wait_for("an answer at the Service", lambda: self.answers_at_the_service())
        install()
        self.assertIn("there is no Gateway edge", self.routed("GatewayMissing")["message"])
        self.gateway(hostname="m.example.com")
        self.assertIn("a controller of its class stand-in", self.routed("RoutePending")["message"])
        with StandIn(self.namespace) as gateway:
            self.wait_served(1)
            gateway.calling = True
            wait_for("requests", lambda: gateway.answered > 50)
        self.assertEqual(gateway.failures, [])
        self.assertEqual(self.model()["status"]["address"]["gatewayUrl"], "http://m.example.com")
        # Whatever somebody else writes there is put right.
        kubectl("patch", "httproute", ROUTE, "-n", self.namespace, "--type=merge", "-p", '{"spec":{"hostnames":["else.example.com"]}}')
        wait_for("the route as it was", lambda: "hostnames" not in self.route()["spec"])

    def answers_at_the_service(self) -> bool:
        address = self.get("service", "m")["spec"]["clusterIP"]
        connection = http.client.HTTPConnection(address, timeout=10)
        try:
            connection.request("POST", "/v2/models/m/infer", REQUEST, {"content-type": "application/json"})
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def test_a_rollout_and_a_change_of_the_provider_lose_no_request_that_a_stand_in_sends_by_the_route(self):
        install()
        self.gateway()
        self.register(1)
        self.register(2)
        self.register(3)
        self.serve(1, routing=self.routing("Router"))
        with StandIn(self.namespace) as gateway:
            self.wait_served(1)
            gateway.calling = True
            self.assertEqual(self.weights(), {"m": 1})
            self.serve(1, routing=self.routing("GatewayAPI"))
            first = self.revision(1)
            wait_for("the pods as backends", lambda: self.weights() == {first: 100})
            self.wait_served(1)

            # A step does not begin before the Gateway has accepted it.
            gateway.accepts = False
            rollout = {"strategy": "Canary", "steps": [{"weight": 20, "hold": "3s"}]}
            self.serve(2, routing=self.routing("GatewayAPI"), rollout=rollout)
            second = wait_for("revision 2", lambda: self.revision(2))
            wait_for("its weight in the route", lambda: self.weights() == {first: 80, second: 20}, 120)
            time.sleep(6)
            status = self.model()["status"]
            self.assertNotIn("stepStartTime", status["rollout"])
            self.assertIn("has not looked at the newest HTTPRoute", condition(self.model(), "Ready")["message"])
            gateway.accepts = True
            self.wait_served(2)
            self.assertEqual(self.weights(), {second: 100})
            # The old one stays a while, for proxies that are behind.
            self.assertEqual(self.revision(1), first)
            wait_for("the end of the old revision", lambda: not self.revision(1), 120)

            self.serve(2, routing=self.routing("Router"), rollout=rollout)
            wait_for("the routers as the backend", lambda: self.weights() == {"m": 1})
            self.wait_served(2)
            self.serve(3, routing=self.routing("Router"))
            self.wait_served(3)
            self.assertEqual(self.weights(), {"m": 1})
            time.sleep(2)
        self.assertEqual(gateway.failures, [])
        self.assertGreater(gateway.answered, 500)
        self.apply(resource("ModelDeployment", "m", {"model": {"name": "m", "version": 3}, "scale": {"replicas": 1}}))
        wait_for("the end of the route", lambda: not get("httproutes", namespace=self.namespace)["items"])
        self.assertNotIn("gateway", self.model()["status"])

    def test_headers_lead_to_the_canary_and_a_shadow_is_a_mirror_in_the_route_of_a_stand_in(self):
        install("gatewayclasses")
        spec = {"controllerName": "example.com/stand-in"}
        self.apply({"apiVersion": f"{GROUP}/v1", "kind": "GatewayClass", "metadata": {"name": "stand-in"}, "spec": spec}, "")
        features = [{"name": "HTTPRouteRequestMirror"}, {"name": "HTTPRouteRequestPercentageMirror"}]
        patch = json.dumps({"status": {"supportedFeatures": features}})
        kubectl("patch", "gatewayclass", "stand-in", "--subresource=status", "--type=merge", "-p", patch)
        self.gateway()
        self.register(1)
        self.register(2)
        headers = {"next": {"header": "x-model", "value": "next", "to": "Canary"}}
        self.serve(1, routing=self.routing("GatewayAPI", headers=headers))
        with StandIn(self.namespace) as gateway:
            self.wait_served(1)
            gateway.calling = True
            rollout = {"strategy": "Shadow", "sample": 0.5, "steps": [{"hold": "10m"}]}
            self.serve(2, routing=self.routing("GatewayAPI", headers=headers), rollout=rollout)
            wait_for("the step", lambda: self.model()["status"].get("rollout", {}).get("stepStartTime"), 120)
            second = self.revision(2)
            rules = self.route()["spec"]["rules"]
            self.assertEqual([b["name"] for b in rules[0]["backendRefs"]], [second])
            mirror = rules[1]["filters"][0]["requestMirror"]
            self.assertEqual((mirror["backendRef"]["name"], mirror["fraction"]), (second, {"numerator": 5000, "denominator": 10000}))
            wait_for("the stand-in", lambda: len(gateway.rules) == 2)
            status, body = gateway.ask({"x-model": "next"})
            self.assertEqual((status, json.loads(body)["model_version"]), (200, "2"))
            self.assertEqual(json.loads(gateway.ask()[1])["model_version"], "1")
        self.assertEqual(gateway.failures, [])


class Traefik:
    """The real one, as a process beside the cluster."""

    def __init__(self, program: str, namespace: str):
        host = os.environ["MILLRACE_CLUSTER_HOST"]
        with socket.create_server((host, 0)) as free:
            self.port = free.getsockname()[1]
        self.address = f"{host}:{self.port}"
        provider = "--providers.kubernetesgateway"
        settings = [f"{provider}=true", f"{provider}.namespaces={namespace}", f"{provider}.statusaddress.ip={host}"]
        settings += [f"--entrypoints.web.address={self.address}", "--providers.providersthrottleduration=200ms", "--log.level=ERROR"]
        settings += ["--global.checknewversion=false", "--global.sendanonymoususage=false"]
        self.process = subprocess.Popen([program, *settings])

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait(30)


class GatewaysByTraefik(GatewayTest):
    def setUp(self):
        program = ROOT / "dev" / "gateway-api" / "traefik" / "program"
        found = subprocess.run([str(program), "--built"], check=False, capture_output=True, text=True)
        if found.returncode != 0:
            self.skipTest(found.stderr.strip())
        super().setUp()
        install(*OTHERS)
        spec = {"controllerName": "traefik.io/gateway-controller"}
        self.apply({"apiVersion": f"{GROUP}/v1", "kind": "GatewayClass", "metadata": {"name": "traefik"}, "spec": spec}, "")
        self.traefik = Traefik(found.stdout.strip(), self.namespace)
        self.addCleanup(self.traefik.stop)
        self.gateway("traefik", self.traefik.port)
        self.register(1)
        self.register(2)

    def test_a_rollout_and_a_change_of_the_provider_lose_no_request_through_traefik(self):
        self.serve(1, routing=self.routing("Router"))
        self.wait_served(1)
        url = f"http://{self.traefik.address}"
        wait_for("where it answers", lambda: self.model()["status"]["address"].get("gatewayUrl") == url)
        load = Load(self.traefik.address)
        load.start()
        try:
            self.serve(1, routing=self.routing("GatewayAPI"))
            first = self.revision(1)
            wait_for("the pods as backends", lambda: self.weights() == {first: 100})
            self.wait_served(1)
            rollout = {"strategy": "Canary", "steps": [{"weight": 20, "hold": "3s"}]}
            self.serve(2, routing=self.routing("GatewayAPI"), rollout=rollout)
            self.wait_served(2)
            second = self.revision(2)
            self.assertEqual(self.weights(), {second: 100})
            wait_for("the end of the old revision", lambda: not self.revision(1), 120)
            self.serve(2, routing=self.routing("Router"), rollout=rollout)
            wait_for("the routers as the backend", lambda: self.weights() == {"m": 1})
            self.routed("RouteAccepted")
            time.sleep(2)
        finally:
            load.stop()
        self.assertEqual(load.failures, [])
        self.assertEqual(load.versions, {"1", "2"})

    def test_a_shadow_is_refused_because_traefik_has_no_mirrors_and_would_answer_with_500(self):
        self.serve(1, routing=self.routing("GatewayAPI"))
        self.wait_served(1)
        before = self.route()["metadata"]["generation"]
        self.serve(2, routing=self.routing("GatewayAPI"), rollout={"strategy": "Shadow", "steps": [{"hold": "1s"}]})
        # Until the operator has seen the class it says that it does not know.
        refused = wait_for("a refusal", lambda: condition(self.model(), "Accepted") if "HTTPRouteRequestMirror" in condition(self.model(), "Accepted")["message"] else None)
        self.assertEqual((refused["status"], refused["reason"]), ("False", "MirrorUnsupported"))
        connection = http.client.HTTPConnection(self.traefik.address, timeout=15)
        connection.request("POST", "/v2/models/m/infer", REQUEST, {"content-type": "application/json"})
        answer = connection.getresponse()
        self.assertEqual((answer.status, json.loads(answer.read())["model_version"]), (200, "1"))
        self.assertEqual(self.route()["metadata"]["generation"], before)
