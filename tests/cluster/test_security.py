"""Who may ask a served model: TLS, keys, tokens and rates at the router, from Secrets that come, change, break and go."""

import base64
import http.client
import json
import ssl
import threading
import time

from certificates import Certificate
from harness import condition, kubectl, wait_for
from issuer import Issuer, Signer
from models import REQUEST, ModelTest

ALICE = "alice-0123456789abcdef"
BOB = "bob-0123456789abcdef"
ISSUER = "https://login.example.com"
# The kubelet brings mounted Secrets up to date within a minute or two.
SYNC = 240


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


def rules(jwks: dict) -> dict:
    """`security.auth` for tokens of an issuer with these keys."""
    return {"jwt": {"issuer": ISSUER, "audiences": ["m"], "jwks": jwks}}


def bearer(signer: Signer, **claims) -> dict:
    return {"authorization": f"Bearer {signer.token(ISSUER, 'm', **claims)}"}


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

        def two() -> bool:
            # Both are ready, and no third one goes.
            return len(self.get("pods", selector="millrace.dev/router")["items"]) == len(self.routers()) == 2

        wait_for("two routers that stay", two, SYNC)

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
        first, second = Certificate(f"DNS:{name}"), Certificate(f"DNS:{name}")
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
        self.secured(auth=rules(source))
        self.assertEqual(self.status(), 401)
        self.assertEqual(self.status({"authorization": "Bearer a.b.c"}), 401)
        kubectl("delete", "configmap", "-n", self.namespace, "issuer")
        self.told("Ready", "False", "SecretNotUsable", "ConfigMap issuer", "jwks.json")

    def issuer(self, *signers: Signer) -> Issuer:
        issuer = Issuer(*signers)
        self.addCleanup(issuer.stop)
        return issuer

    def trust(self, certificate: Certificate) -> dict:
        """`caConfigMap` with this certificate in it."""
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "login-ca"}, "data": {"ca.crt": certificate.text}})
        return {"name": "login-ca", "key": "ca.crt"}

    def everywhere(self, status: int, headers: dict) -> bool:
        # New connections come to either router.
        return all(self.status(headers) == status for _ in range(12))

    def test_a_token_lets_in_by_keys_of_a_config_map(self):
        signer, stranger = Signer("1"), Signer("1")
        jwks = json.dumps({"keys": [signer.jwk()]})
        self.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "issuer"}, "data": {"jwks.json": jwks}})
        self.secured(auth=rules({"configMap": {"name": "issuer", "key": "jwks.json"}}))
        self.assertEqual(self.status(bearer(signer)), 200)
        for refused in (bearer(stranger), bearer(signer, seconds=-3600), bearer(signer, kid="2"), {}):
            self.assertEqual(self.status(refused), 401)
        of_another = {"authorization": f"Bearer {signer.token('https://other', 'm')}"}
        for_another = {"authorization": f"Bearer {signer.token(ISSUER, 'other')}"}
        self.assertEqual((self.status(of_another), self.status(for_another)), (401, 401))

    def test_a_token_lets_in_by_keys_that_its_issuer_publishes_and_changes(self):
        first, second, stranger = Signer("1"), Signer("2"), Signer("1")
        issuer = self.issuer(first)
        self.secured(auth=rules({"uri": issuer.uri, "caConfigMap": self.trust(issuer.certificate)}))
        routers = sorted(p["metadata"]["name"] for p in self.routers())
        shown = [bearer(first), bearer(second), bearer(stranger)]
        old, new, strange = shown
        # One of them may have become ready after InForce was told, and still fetch its keys.
        wait_for("keys at both routers", lambda: self.everywhere(200, old), 60)
        self.assertEqual((self.status(), self.status(strange), self.status(bearer(first, seconds=-3600))), (401, 401, 401))
        # The issuer changes its key: whoever shows the new one first is refused, and later ones get in.
        issuer.publish(second)
        wait_for("the new key", lambda: self.everywhere(200, new), 120, every=2)
        self.assertTrue(self.everywhere(401, old))
        # An issuer that is out of order leaves the keys that there were. A key that is not there has the routers ask it.
        issuer.status = 500
        asked = bearer(Signer("3"))
        wait_for("nobody with another key", lambda: self.everywhere(401, asked), 60)
        self.told("Secured", "False", "SecretNotTaken", issuer.uri, "the answer is 500")
        self.assertTrue(self.everywhere(200, new))
        self.assertEqual(condition(self.get("modeldeployment", "m"), "Ready")["status"], "True")
        issuer.status = 200
        self.told("Secured", "True", "InForce")
        self.assertEqual(sorted(p["metadata"]["name"] for p in self.routers()), routers, "keys replace no router")
        # Three kinds of questions: at the start, for a key that is not there, and after a failure. None of them is one for each request.
        self.assertLess(issuer.asked, 40)
        told = self.logs_of_routers() + json.dumps(self.get("modeldeployment", "m")) + "".join(self.events())
        for headers in shown:
            self.assertNotIn(headers["authorization"].removeprefix("Bearer "), told)

    def test_keys_that_cannot_be_fetched_let_nobody_in_and_the_address_is_told(self):
        signer = Signer("1")
        issuer = self.issuer(signer)
        self.register(1)
        another = self.trust(Certificate("DNS:another.example"))
        self.serve(1, security={"auth": rules({"uri": issuer.uri, "caConfigMap": another})})
        for kind in ("Ready", "Secured"):
            self.told(kind, "False", "SecretNotUsable", "nobody is let in", issuer.uri, "TLS")
        self.assertEqual(self.status(bearer(signer)), 503)
        self.assertEqual(issuer.asked, 0)
        wait_for("an event", lambda: any("SecretNotUsable" in event and issuer.uri in event for event in self.events()), 30)
        # The right authority comes into the ConfigMap.
        self.trust(issuer.certificate)
        self.told("Secured", "True", "InForce")
        self.wait_served(1)
        self.assertEqual((self.status(bearer(signer)), self.status()), (200, 401))
