"""Certificates that sign themselves, for servers of tests."""

import ssl
import subprocess
import tempfile
from pathlib import Path


class Certificate:
    """One of this name, such as DNS:m.team.svc or IP:10.0.0.1."""

    def __init__(self, name: str):
        with tempfile.TemporaryDirectory() as folder:
            key, certificate = Path(folder, "key"), Path(folder, "crt")
            extensions = ["-addext", f"subjectAltName={name}", "-addext", "basicConstraints=critical,CA:FALSE"]
            made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
            subprocess.run([*made, "-subj", "/CN=m", "-keyout", key, "-out", certificate, *extensions], check=True, capture_output=True)
            self.key, self.text = key.read_text(), certificate.read_text()
        self.der = ssl.PEM_cert_to_DER_cert(self.text)

    def context(self) -> ssl.SSLContext:
        """Of a client that trusts it."""
        context = ssl.create_default_context(cadata=self.text)
        # The address is an IP here, and a name in the certificate.
        context.check_hostname = False
        return context

    def server(self) -> ssl.SSLContext:
        """Of a server that shows it."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as folder:
            key, certificate = Path(folder, "key"), Path(folder, "crt")
            key.write_text(self.key)
            certificate.write_text(self.text)
            context.load_cert_chain(certificate, key)
        return context
