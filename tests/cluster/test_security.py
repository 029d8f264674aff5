"""Who may ask a served model: TLS, keys, tokens and rates at the router, from Secrets that come, change, break and go."""

import base64
import http.client
import json
import ssl
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from harness import condition, kubectl, wait_for
from models import REQUEST, ModelTest

ALICE = "alice-0123456789abcdef"
BOB = "bob-0123456789abcdef"
# The kubelet brings mounted Secrets up to date within a minute or two.
SYNC = 240


class Certificate:
    """A certificate of one name that signs itself."""

    def __init__(self, name: str):
        with tempfile.TemporaryDirectory() as folder:
            key, certificate = Path(folder, "key"), Path(folder, "crt")
            extensions = ["-addext", f"subjectAltName=DNS:{name}", "-addext", "basicConstraints=critical,CA:FALSE"]
            made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
            subprocess.run([*made, "-subj", "/CN=m", "-keyout", key, "-out", certificate, *extensions], check=True, capture_output=True)
            self.key, self.text = key.read_text(), certificate.read_text()
        self.der = ssl.PEM_cert_to_DER_cert(self.text)

    def context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cadata=self.text)
        # The address is an IP here, and a name in the certificate.
        context.check_hostname = False
        return context


def ask(address: str, headers: dict | None = None, context: ssl.SSLContext | None = None, body: bytes = REQUEST) -> tuple[int, dict, bytes]:
    if context:
        connection = http.client.HTTPSConnection(address, timeout=15, context=context)
    else:
        connection = http.client.HTTPConnection(address, timeout=15)
    try:
        connection.request("POST", "/v2/models/m/infer", body, {"content-type": "application/json", **(headers or {})})
        answer = connection.getresponse()
        return answer.status, dict(answer.getheaders()), answer.read()
    finally:
        connection.close()


class Security(ModelTest):
    def secret(self, name: str, entries: dict) -> None:
        """The whole Secret: an entry that is not named goes."""
        data = {key: base64.b64encode(text.encode()).decode() for key, text in entries.items()}
        manifest = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": data}
        kubectl("apply", "-n", self.namespace, "-f", "-", stdin=json.dumps(manifest))

    def address(self) -> str:
        return self.get("service", "m")["spec"]["clusterIP"]

    def status(self, headers: dict | None = None) -> int:
        return ask(self.address(), headers)[0]

    def told(self, kind: str, status: str, *words: str) -> dict:
        def seen():
            found = condition(self.get("modeldeployment", "m"), kind)
            text = f"{found.get('reason')}: {found.get('message')}"
            return found if found.get("status") == status and all(word in text for word in words) else None

        return wait_for(f"{kind}={status} with {words}", seen, SYNC)

    def secured(self, **security) -> None:
        """Version 1 is served, and every router has this in force."""
        self.register(1)
        self.serve(1, security=security)
        self.told("Secured", "True", "InForce")
        self.wait_served(1)
        wait_for("two routers that stay", lambda: len(self.get("pods", selector="millrace.dev/router")["items"]) == 2, SYNC)

    def logs_of_routers(self) -> str:
        return kubectl("logs", "-n", self.namespace, "-l", "millrace.dev/router", "--tail=-1")

    def test_keys_let_in_until_they_are_taken_out(self):
        self.secret("keys", {"alice": ALICE, "bob": BOB})
        self.secured(auth={"apiKeys": {"secretName": "keys"}}, maxBodyBytes=2000)
        self.assertEqual(self.status(), 401)
        self.assertEqual(self.status({"x-api-key": "somebody-0123456789"}), 401)
        self.assertEqual(self.status({"x-api-key": ALICE}), 200)
        self.assertEqual(self.status({"authorization": f"Bearer {BOB}"}), 200)
        self.assertEqual(ask(self.address(), {"x-api-key": ALICE}, body=b" " * 3000)[0], 413)
        routers = sorted(p["metadata"]["name"] for p in self.routers())
        self.secret("keys", {"bob": BOB})

        def out() -> bool:
            # New connections come to either router.
            return all(self.status({"x-api-key": ALICE}) == 401 for _ in range(12))

        wait_for("the key taken out", out, SYNC, every=2)
        self.assertEqual(self.status({"x-api-key": BOB}), 200)
        self.assertEqual(sorted(p["metadata"]["name"] for p in self.routers()), routers, "what is in a Secret replaces no router")
        # An entry that is no key is told, and the other one goes on.
        self.secret("keys", {"bob": BOB, "carol": ""})
        self.told("Secured", "False", "SecretNotTaken", "Secret keys", "carol", "empty")
        self.assertEqual(self.status({"x-api-key": BOB}), 200)
        self.assertEqual(self.status({"x-api-key": ""}), 401)
        # Gone altogether: nobody is let in.
        kubectl("delete", "secret", "-n", self.namespace, "keys")
        self.told("Ready", "False", "SecretNotUsable", "Secret keys")
        wait_for("503", lambda: all(self.status({"x-api-key": BOB}) == 503 for _ in range(12)), SYNC, every=2)
        logs = self.logs_of_routers() + json.dumps(self.get("modeldeployment", "m")) + "".join(self.events())
        for key in (ALICE, BOB):
            self.assertNotIn(key, logs)

    def test_a_secret_of_another_name_is_told_and_nothing_is_open(self):
        self.register(1)
        self.serve(1, security={"auth": {"apiKeys": {"secretName": "kyes"}}})
        self.told("Ready", "False", "SecretNotUsable", "Secret kyes")
        self.told("Secured", "False", "SecretNotUsable", "Secret kyes")
        self.assertEqual(self.status({"x-api-key": ALICE}), 503)
        self.secret("kyes", {"alice": ALICE})
        self.told("Secured", "True", "InForce")
        self.wait_served(1)
        self.assertEqual((self.status({"x-api-key": ALICE}), self.status()), (200, 401))

    def test_another_certificate_comes_without_a_failed_request(self):
        name = f"m.{self.namespace}.svc"
        first, second = Certificate(name), Certificate(name)
        self.secret("cert", {"tls.crt": first.text, "tls.key": first.key})
        self.secured(tls={"secretName": "cert"})
        self.assertEqual(self.get("modeldeployment", "m")["status"]["address"]["url"], f"https://{name}")
        address = self.address()
        both = ssl.create_default_context(cadata=first.text + second.text)
        both.check_hostname = False
        self.assertEqual(ask(address, context=first.context())[0], 200)
        failures, answered, stop = [], [], threading.Event()

        def load():
            while not stop.is_set():
                try:
                    answered.append(ask(address, context=both)[0])
                except (OSError, http.client.HTTPException) as error:
                    failures.append(repr(error))
                time.sleep(0.02)

        def shown() -> bytes:
            return ssl.PEM_cert_to_DER_cert(ssl.get_server_certificate((address, 443), timeout=15))

        threads = [threading.Thread(target=load) for _ in range(3)]
        for thread in threads:
            thread.start()
        try:
            self.secret("cert", {"tls.crt": second.text, "tls.key": second.key})
            wait_for("the new certificate", lambda: all(shown() == second.der for _ in range(12)), SYNC, every=2)
            # A broken one is not taken, and told.
            self.secret("cert", {"tls.crt": first.text, "tls.key": second.key})
            self.told("Secured", "False", "SecretNotTaken", "Secret cert", "tls.key is not the key of tls.crt")
            self.assertEqual(condition(self.get("modeldeployment", "m"), "Ready")["status"], "True")
            self.assertEqual(shown(), second.der)
        finally:
            stop.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        self.assertEqual(set(answered), {200})
        # Nobody listens without TLS.
        ports = [port["port"] for port in self.get("service", "m")["spec"]["ports"]]
        self.assertEqual(ports, [443])
        self.assertNotIn("PRIVATE KEY", self.logs_of_routers())

    def test_a_secret_of_another_name_replaces_the_routers_without_a_failed_request(self):
        self.secret("old", {"alice": ALICE, "bob": BOB})
        self.secret("new", {"alice": ALICE})
        self.secured(auth={"apiKeys": {"secretName": "old"}})
        before = {p["metadata"]["name"] for p in self.routers()}
        address, answered, failures, stop = self.address(), [], [], threading.Event()

        def load():
            while not stop.is_set():
                try:
                    answered.append(ask(address, {"x-api-key": ALICE})[0])
                except (OSError, http.client.HTTPException) as error:
                    failures.append(repr(error))
                time.sleep(0.02)

        thread = threading.Thread(target=load)
        thread.start()
        try:
            self.serve(1, security={"auth": {"apiKeys": {"secretName": "new"}}})

            def replaced() -> bool:
                routers = {p["metadata"]["name"] for p in self.routers()}
                return len(routers) == 2 and not routers & before

            wait_for("other routers", replaced, SYNC)
            self.told("Secured", "True", "InForce")
        finally:
            stop.set()
            thread.join()
        self.assertEqual((failures, set(answered)), ([], {200}))
        wait_for("the old key refused", lambda: all(self.status({"x-api-key": BOB}) == 401 for _ in range(12)), SYNC)

    def test_a_caller_that_asks_too_fast_is_told_to_wait_and_no_revision_is_to_blame(self):
        self.secret("keys", {"alice": ALICE, "bob": BOB})
        rate = {"requestsPerSecond": 0.02, "burst": 4}
        self.secured(auth={"apiKeys": {"secretName": "keys"}}, rateLimit=rate)
        answers = [ask(self.address(), {"x-api-key": ALICE}) for _ in range(30)]
        statuses = [status for status, _, _ in answers]
        # Two routers have half of it each; one of them may have been asked by nobody.
        self.assertIn(statuses.count(200), range(2, 8), statuses)
        self.assertEqual(set(statuses), {200, 429})
        refused = next(headers for status, headers, _ in answers if status == 429)
        self.assertGreater(int({k.lower(): v for k, v in refused.items()}["retry-after"]), 1)
        self.assertEqual(self.status({"x-api-key": BOB}), 200)
        counted = ""
        for router in self.routers():
            path = f"/api/v1/namespaces/{self.namespace}/pods/{router['metadata']['name']}:9090/proxy/metrics"
            counted += kubectl("get", "--raw", path)
        lines = [line.rsplit(" ", 1) for line in counted.splitlines() if line.startswith("millrace_router_refused_total{") and "TooFast" in line]
        self.assertEqual(sum(int(value) for _, value in lines), statuses.count(429))
        outcomes = [line for line in counted.splitlines() if 'outcome="Refused"' in line and line.startswith("millrace_router_requests_total")]
        self.assertTrue(outcomes and all(line.endswith(" 0") for line in outcomes), outcomes)

    def test_a_set_of_keys_is_read_from_a_config_map_and_what_is_no_token_is_refused(self):
        point = base64.urlsafe_b64encode(b"\1" * 32).decode().rstrip("=")
        jwks = {"keys": [{"kty": "EC", "crv": "P-256", "x": point, "y": point, "kid": "1"}]}
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "issuer"}, "data": {"jwks.json": json.dumps(jwks)}})
        source = {"configMap": {"name": "issuer", "key": "jwks.json"}}
        self.secured(auth={"jwt": {"issuer": "https://issuer", "audiences": ["m"], "jwks": source}})
        self.assertEqual(self.status(), 401)
        self.assertEqual(self.status({"authorization": "Bearer a.b.c"}), 401)
        kubectl("delete", "configmap", "-n", self.namespace, "issuer")
        self.told("Ready", "False", "SecretNotUsable", "ConfigMap issuer", "jwks.json")
