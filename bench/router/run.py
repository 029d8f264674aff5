#!/usr/bin/env python3
"""Measures what the router adds: the same server, asked directly and through the router, in turns on the same machine.

Prints a Markdown table. README.md beside this says what was measured. Needs wrk; standard library only.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
CACHE = Path(os.environ.get("MILLRACE_CACHE") or Path.home() / ".cache" / "millrace")
BUILT = CACHE / "target" / "ops" / "x86_64-unknown-linux-gnu" / "release"
UPSTREAM, ROUTER, ADMIN = 18310, 18311, 18312
PATIENCE = 30


@dataclass
class Way:
    name: str
    port: int
    process: subprocess.Popen
    rates: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    tails: list[float] = field(default_factory=list)
    alone: list[float] = field(default_factory=list)
    per_core: list[float] = field(default_factory=list)

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def measure(self, seconds: int, connections: int, keep: bool = True) -> None:
        one = wrk(self.port, seconds, 1)
        before = self.cpu_seconds()
        many = wrk(self.port, seconds, connections)
        used = self.cpu_seconds() - before
        if not keep:
            return
        self.alone.append(one["p50"])
        self.rates.append(many["rate"])
        self.medians.append(many["p50"])
        self.tails.append(many["p99"])
        self.per_core.append(many["requests"] / used)
        print(
            f"  {self.name}: {one['p50']:.0f} us alone, {many['rate']:.0f}/s, {self.per_core[-1]:.0f}/s a core",
            file=sys.stderr,
            flush=True,
        )


def wrk(port: int, seconds: int, connections: int) -> dict[str, float]:
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(HERE / "post.lua")]
    text = subprocess.run([*command, f"http://127.0.0.1:{port}"], check=True, capture_output=True, text=True).stdout
    if "Non-2xx" in text or "Socket errors" in text:
        sys.exit(f"requests failed:\n{text}")
    return {
        "p50": microseconds(re.search(r"50%\s+([\d.]+\w+)", text)[1]),
        "p99": microseconds(re.search(r"99%\s+([\d.]+\w+)", text)[1]),
        "rate": float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]),
        "requests": float(re.search(r"(\d+) requests in", text)[1]),
    }


def microseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 1, "ms": 1e3, "s": 1e6}[unit]


def routes(folder: Path) -> None:
    """A split, a sticky key, a header rule and limits, all with the same server behind them."""
    revision = {"service": "m", "port": UPSTREAM, "concurrency": 1000}
    document = {
        "models": [
            {
                "name": "m",
                "port": ROUTER,
                "revisions": [{"name": "a", "weight": 95, **revision}, {"name": "b", "weight": 5, **revision}],
                "headers": [{"header": "x-model", "value": "next", "revision": "b"}],
                "sticky": {"header": "x-user"},
                "limits": {"bodyBytes": 1 << 20, "answerMs": 30000},
            }
        ]
    }
    (folder / "routes.json").write_text(json.dumps(document))
    (folder / "endpoints.json").write_text(json.dumps({"m": [{"address": "127.0.0.1", "ready": True}]}))


def ready(port: int, path: str, method: str = "GET") -> None:
    begun = time.monotonic()
    while True:
        try:
            urllib.request.urlopen(urllib.request.Request(f"http://127.0.0.1:{port}{path}", method=method), timeout=5)
            return
        except OSError:
            if time.monotonic() - begun > PATIENCE:
                sys.exit(f"nothing answers on port {port}")
            time.sleep(0.1)


def spread(values: list[float], digits: int = 0) -> str:
    return f"{statistics.median(values):,.{digits}f} ({min(values):,.{digits}f} – {max(values):,.{digits}f})"


def table(direct: Way, routed: Way, memory: float) -> str:
    lines = ["| way | p50 µs, 1 connection | requests/s | p50 µs | p99 µs | requests/s a core of the process |"]
    lines.append("|---|---|---|---|---|---|")
    for way in (direct, routed):
        cells = [spread(v) for v in (way.alone, way.rates, way.medians, way.tails, way.per_core)]
        lines.append(f"| {way.name} | {' | '.join(cells)} |")
    added = [b - a for a, b in zip(direct.alone, routed.alone, strict=True)]
    ratio = [b / a for a, b in zip(direct.per_core, routed.per_core, strict=True)]
    lines += ["", f"Added p50 at 1 connection: {spread(added)} µs. A core of the router carries {spread(ratio, 2)} × "]
    lines[-1] += f"what a core of the server behind it answers. Memory of the router at its peak: {memory:.1f} MiB."
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--router", type=Path, default=BUILT / "millrace-router")
    parser.add_argument("--upstream", type=Path, default=BUILT / "examples" / "upstream")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--workers", type=int, default=1, help="threads of the router")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as kept:
        folder = Path(kept)
        routes(folder)
        flags = ["--address", "127.0.0.1", "--admin", f"127.0.0.1:{ADMIN}", "--workers", str(given.workers)]
        flags += ["--routes", str(folder), "--endpoints", str(folder / "endpoints.json"), "--log", "warn"]
        started = []
        try:
            started.append(subprocess.Popen([str(given.upstream), f"127.0.0.1:{UPSTREAM}"]))
            # As in its pods (`operator/core/src/routing/deployment.rs`).
            started.append(subprocess.Popen([str(given.router), *flags], env={**os.environ, "MIMALLOC_ALLOW_THP": "0"}))
            ready(UPSTREAM, "/")
            ready(ADMIN, "/readyz")
            direct, routed = Way("direct", UPSTREAM, started[0]), Way("through the router", ROUTER, started[1])
            for way in (direct, routed):
                way.measure(1, given.connections, keep=False)
            for turn in range(given.rounds):
                print(f"round {turn + 1} of {given.rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
                for way in (direct, routed)[:: 1 if turn % 2 else -1]:
                    way.measure(given.seconds, given.connections)
            status = Path(f"/proc/{started[1].pid}/status").read_text()
            memory = int(re.search(r"VmHWM:\s+(\d+)", status)[1]) / 1024
        finally:
            for process in started:
                process.kill()
                process.wait()
    print(table(direct, routed, memory))


if __name__ == "__main__":
    main()
