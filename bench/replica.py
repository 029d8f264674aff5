"""A replica of the controller as a process of this machine, beside others that share its lease."""

import json
import os
import subprocess
import threading
import time
import urllib.request
from pathlib import Path
from typing import Self

ROOT = Path(__file__).resolve().parents[1]
PROGRAM = os.environ.get("CONTROLLER", str(ROOT / "target" / "release" / "millrace-controller"))
LONGEST = 60.0
HTTP = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Replica:
    """Works in one namespace, where the lease is too. Ends with the block."""

    def __init__(self, identity: str, namespace: str) -> None:
        arguments = [
            "--listen=127.0.0.1:0",
            "--agent-image=none",
            "--server-image=none",
            "--server-cuda-image=none",
            "--operator-image=none",
            "--lease-name=bench",
        ]
        places = [f"--{what}={namespace}" for what in ("namespaces", "catalog-namespace", "lease-namespace")]
        self.began = time.monotonic()
        command = [PROGRAM, "run", *arguments, *places, f"--identity={identity}"]
        self.process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        self.said: dict[str, tuple[float, dict]] = {}
        self.news = threading.Condition()
        threading.Thread(target=self._read, daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.wait()

    def _read(self) -> None:
        """Notes when each message came first."""
        for line in self.process.stderr or []:
            at, entry = time.monotonic(), json.loads(line)
            with self.news:
                self.said.setdefault(entry["message"], (at, entry))
                self.news.notify_all()

    def _heard(self, message: str) -> tuple[float, dict]:
        with self.news:
            if not self.news.wait_for(lambda: message in self.said, LONGEST):
                raise TimeoutError(f"it never said {message!r}: {self.said}")
            return self.said[message]

    def ready_after(self) -> float:
        """Seconds from its start to the first time that it says that it is ready."""
        address = self._heard("listens")[1]["address"]
        while True:
            try:
                HTTP.open(f"http://{address}/readyz", timeout=5).close()
                return time.monotonic() - self.began
            except OSError as error:
                if time.monotonic() - self.began > LONGEST:
                    raise TimeoutError("it never was ready") from error
                time.sleep(0.005)

    def leads_at(self) -> float:
        """When it began to work."""
        return self._heard("leads")[0]

    def end(self, how: int) -> float:
        """Ends it by a signal. Returns when the signal was sent."""
        at = time.monotonic()
        self.process.send_signal(how)
        self.process.wait()
        return at
