"""An issuer of tokens: it signs them, and publishes its keys over HTTPS on this machine."""

import base64
import http.server
import json
import os
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from certificates import Certificate


def text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).decode().rstrip("=")


class Signer:
    """A key of RSA, by openssl."""

    def __init__(self, kid: str):
        self.kid = kid
        made = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048"]
        self.key = subprocess.run(made, check=True, capture_output=True).stdout

    def openssl(self, *arguments: str, stdin: bytes = b"") -> bytes:
        with tempfile.TemporaryDirectory() as folder:
            key = Path(folder, "key")
            key.write_bytes(self.key)
            done = subprocess.run(["openssl", *[str(key) if a == "KEY" else a for a in arguments]], input=stdin, check=True, capture_output=True)
        return done.stdout

    def jwk(self) -> dict:
        """Its public half."""
        modulus = self.openssl("rsa", "-in", "KEY", "-noout", "-modulus").decode().strip().removeprefix("Modulus=")
        return {"kty": "RSA", "use": "sig", "alg": "RS256", "kid": self.kid, "n": text(bytes.fromhex(modulus)), "e": "AQAB"}

    def token(self, issuer: str, audience: str, seconds: int = 3600, kid: str | None = None) -> str:
        """Good for so long."""
        head = {"alg": "RS256", "typ": "JWT", "kid": kid or self.kid}
        claims = {"iss": issuer, "aud": audience, "sub": "me", "exp": int(time.time()) + seconds}
        message = ".".join(text(json.dumps(part).encode()) for part in (head, claims))
        return f"{message}.{text(self.openssl('dgst', '-sha256', '-sign', 'KEY', stdin=message.encode()))}"


class Issuer:
    """Publishes keys at the address by which pods reach this machine."""

    def __init__(self, *signers: Signer):
        host = os.environ["MILLRACE_CLUSTER_HOST"]
        self.status = 200
        self.keys = [signer.jwk() for signer in signers]
        self.asked = 0
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                outer.asked += 1
                body = json.dumps({"keys": outer.keys}).encode()
                self.send_response(outer.status)
                self.send_header("content-type", "application/jwk-set+json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        self.certificate = Certificate(f"IP:{host}")
        self.server = http.server.ThreadingHTTPServer((host, 0), Handler)
        self.server.daemon_threads = True
        # Who does not trust it breaks off here; the loop goes on.
        self.server.socket = self.certificate.server().wrap_socket(self.server.socket, server_side=True)
        self.uri = f"https://{host}:{self.server.server_address[1]}/keys"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def publish(self, *signers: Signer) -> None:
        """These and no others from now on."""
        self.keys = [signer.jwk() for signer in signers]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()
