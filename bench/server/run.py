#!/usr/bin/env python3
"""Compares millrace-server with KServe's Python SDK on the same ONNX file, in turns on the same machine.

Prints a Markdown table. README.md beside this says what is needed and what was measured. Standard library only.
"""

import argparse
import csv
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
CACHE = Path(os.environ.get("MILLRACE_CACHE") or Path.home() / ".cache" / "millrace")
WORK = CACHE / "bench-server"
TEXT = ["island", "sex"]
NUMBERS = ["bill_length_mm", "bill_depth_mm", "flipper_length_mm", "body_mass_g"]
PATIENCE = 120


@dataclass
class Contender:
    name: str
    port: int
    command: list[str]
    environment: dict[str, str]
    process: subprocess.Popen | None = None
    rates: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    tails: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2/models/penguins/infer"

    def start(self) -> None:
        log = WORK / f"{self.port}.log"
        environment = {**os.environ, **self.environment}
        # A group of its own: the peer's workers are its children.
        with log.open("w") as output:
            how = {"stdout": output, "stderr": output, "env": environment, "start_new_session": True}
            self.process = subprocess.Popen(self.command, **how)
        begun = time.monotonic()
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/models/penguins/ready", timeout=5).read()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() - begun > PATIENCE:
                    sys.exit(f"{self.name} did not start: see {log}")
                time.sleep(0.2)

    def stop(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def answer(self, body: str) -> dict:
        request = urllib.request.Request(self.url, body.encode(), {"content-type": "application/json"})
        return json.load(urllib.request.urlopen(request, timeout=30))

    def cpu_seconds(self) -> float:
        """Of the whole process group, so far."""
        ticks = 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rsplit(")", 1)[1].split()
            except OSError:
                continue
            if int(fields[2]) == self.process.pid:
                ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def measure(self, seconds: int, connections: int, keep: bool = True) -> None:
        before = self.cpu_seconds()
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--latency",
            "-s",
            str(HERE / "post.lua"),
            self.url,
        ]
        environment = {**os.environ, "BODIES": str(WORK / "bodies.jsonl")}
        text = subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout
        used = self.cpu_seconds() - before
        if "Non-2xx" in text or "Socket errors" in text:
            sys.exit(f"{self.name} failed requests:\n{text}")
        if not keep:
            return
        requests = int(re.search(r"(\d+) requests in", text)[1])
        self.rates.append(float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1]))
        self.medians.append(milliseconds(re.search(r"50%\s+([\d.]+\w+)", text)[1]))
        self.tails.append(milliseconds(re.search(r"99%\s+([\d.]+\w+)", text)[1]))
        self.cpu.append(used / requests * 1e6)
        print(
            f"  {self.name}: {self.rates[-1]:.0f}/s, p99 {self.tails[-1]:.2f} ms, {self.cpu[-1]:.0f} us CPU",
            file=sys.stderr,
            flush=True,
        )


def milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def bodies(source: Path) -> list[str]:
    """One request a penguin. Penguins with a missing number are left out: the peer has no word for it."""
    found = []
    for row in csv.DictReader(source.open()):
        if any(row[name] in ("", "NA") for name in [*NUMBERS, *TEXT]):
            continue
        inputs = [{"name": name, "shape": [1, 1], "datatype": "BYTES", "data": [row[name]]} for name in TEXT]
        inputs += [{"name": name, "shape": [1, 1], "datatype": "FP32", "data": [float(row[name])]} for name in NUMBERS]
        # The peer answers 500 without an id.
        found.append(json.dumps({"id": str(len(found)), "inputs": inputs}))
    return found


def compare(ours: Contender, peers: list[Contender], sample: list[str]) -> None:
    """All give the same labels, and probabilities within 1e-5."""
    for body in sample:
        right = ours.answer(body)["outputs"]
        for peer in peers:
            other = peer.answer(body)["outputs"]
            same = right[0]["data"] == other[0]["data"]
            near = all(abs(a - b) < 1e-5 for a, b in zip(right[1]["data"], other[1]["data"], strict=True))
            if not (same and near):
                sys.exit(f"{peer.name} answers otherwise:\n{right}\n{other}")


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} – {max(values):.{digits}f})"


def table(ours: Contender, peers: list[Contender]) -> str:
    lines = ["| server | requests/s | p50 ms | p99 ms | CPU µs a request |", "|---|---|---|---|---|"]
    for one in [ours, *peers]:
        cells = [spread(one.rates, 0), spread(one.medians, 2), spread(one.tails, 2), spread(one.cpu, 0)]
        lines.append(f"| {one.name} | {' | '.join(cells)} |")
    lines += ["", "| against | requests/s × | p99 ÷ | CPU a request ÷ |", "|---|---|---|---|"]
    for peer in peers:
        rate = [a / b for a, b in zip(ours.rates, peer.rates, strict=True)]
        tail = [b / a for a, b in zip(ours.tails, peer.tails, strict=True)]
        cpu = [b / a for a, b in zip(ours.cpu, peer.cpu, strict=True)]
        lines.append(f"| {peer.name} | {spread(rate, 1)} | {spread(tail, 1)} | {spread(cpu, 1)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--server",
        type=Path,
        default=REPOSITORY / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "millrace-server",
    )
    parser.add_argument(
        "--python",
        type=Path,
        default=CACHE / "venv" / "kserve" / "bin" / "python",
        help="has requirements.txt installed",
    )
    parser.add_argument("--model", type=Path, default=WORK / "model", help="what model.py wrote")
    parser.add_argument("--data", type=Path, default=REPOSITORY / "examples" / "penguins" / "penguins.csv")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--peer-workers", type=int, nargs="+", default=[1, 2])
    given = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    sample = bodies(given.data)
    (WORK / "bodies.jsonl").write_text("\n".join(sample) + "\n")
    flags = ["--model-dir", str(given.model), "--model-name", "penguins", "--host", "127.0.0.1", "--port", "18200"]
    library = subprocess.run(
        [REPOSITORY / "dev/onnxruntime/fetch"], check=True, capture_output=True, text=True
    ).stdout.strip()
    ours = Contender("millrace-server", 18200, [str(given.server), *flags], {"ORT_DYLIB_PATH": library})
    peers = []
    for workers in given.peer_workers:
        port = 18200 + workers
        command = [str(given.python), str(HERE / "kserve_onnx.py"), str(given.model), str(port), str(workers)]
        plural = "worker" if workers == 1 else "workers"
        peers.append(Contender(f"KServe SDK, {workers} {plural}", port, command, {}))
    contenders = [ours, *peers]
    try:
        for one in contenders:
            one.start()
        compare(ours, peers, sample[::10])
        for one in contenders:
            one.measure(2, given.connections, keep=False)
        for turn in range(given.rounds):
            print(f"round {turn + 1} of {given.rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
            # Each starts a round in turn, so that none always follows the same other.
            for one in contenders[turn % len(contenders) :] + contenders[: turn % len(contenders)]:
                one.measure(given.seconds, given.connections)
    finally:
        for one in contenders:
            one.stop()
    print(table(ours, peers))


if __name__ == "__main__":
    main()
