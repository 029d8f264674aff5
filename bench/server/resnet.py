#!/usr/bin/env python3
"""How much of bare ONNX Runtime's throughput is left behind the server, with a graph of ResNet-50's size: the same library, threads and batches.

Prints a Markdown table. README.md beside this says what is needed and what was measured. Standard library only.
"""

import argparse
import json
import os
import random
import re
import struct
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from contender import CACHE, DIRECT, HERE, WORK, Contender, group_cpu_seconds, onnxruntime, server_program, spread

PIXELS = 3 * 224 * 224


@dataclass
class Bare:
    """Bare ONNX Runtime, in a process that waits for its turn."""

    name: str
    command: list[str]
    process: subprocess.Popen | None = None
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    def start(self) -> None:
        how = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "start_new_session": True}
        self.process = subprocess.Popen(self.command, **how)
        if self.process.stdout.readline() != "ready\n":
            sys.exit(f"{self.name} did not start")

    def stop(self) -> None:
        if self.process:
            self.process.kill()
            self.process.wait()

    def measure(self, seconds: float) -> None:
        before = group_cpu_seconds(self.process.pid)
        self.process.stdin.write(f"{seconds}\n")
        self.process.stdin.flush()
        images, took = map(float, self.process.stdout.readline().split())
        self.rates.append(images / took)
        self.cpu.append((group_cpu_seconds(self.process.pid) - before) / images)


@dataclass
class Served:
    """The server under load of its own: as many connections as fill two batches, so that one waits while the other runs."""

    contender: Contender
    batch: int
    header: int
    rates: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        return self.contender.name

    def start(self) -> None:
        self.contender.start()

    def stop(self) -> None:
        self.contender.stop()

    def measure(self, seconds: float) -> None:
        load = [
            "wrk",
            "-t1",
            f"-c{2 * self.batch}",
            f"-d{int(seconds) + 60}s",
            "--timeout",
            "60s",
            "-s",
            str(HERE / "image.lua"),
        ]
        environment = {**os.environ, "BODY": str(WORK / "image.bin"), "HEADER": str(self.header)}
        process = subprocess.Popen([*load, self.contender.url], env=environment, stdout=subprocess.DEVNULL)
        try:
            time.sleep(2)
            # From the beginning of a batch to that of another: no image is counted in part.
            begun, first = self._next_batch()
            batches = self._metric("batch_rows_count")
            before = self.contender.cpu_seconds()
            time.sleep(seconds)
            ended, last = self._next_batch()
            self.rates.append((last - first) / (ended - begun))
            self.cpu.append((self.contender.cpu_seconds() - before) / (last - first))
            full = (last - first) / (self._metric("batch_rows_count") - batches)
            if full < 0.9 * self.batch:
                sys.exit(f"{self.name}: batches have {full:.1f} images, not {self.batch}")
        finally:
            process.kill()
            process.wait()
        if self._metric('requests_total{code="4xx"}') + self._metric('requests_total{code="5xx"}') > 0:
            sys.exit(f"{self.name} failed requests")

    def _next_batch(self) -> tuple[float, float]:
        """When the next batch begins, and how many images have begun with it."""
        before = self._metric("batch_rows_sum")
        while (now := self._metric("batch_rows_sum")) == before:
            time.sleep(0.003)
        return time.monotonic(), now

    def _metric(self, series: str) -> float:
        text = DIRECT.open(f"http://127.0.0.1:{self.contender.port}/metrics", timeout=30).read().decode()
        return float(re.search(rf"^millrace_server_{re.escape(series)} (\S+)$", text, re.MULTILINE)[1])


def image() -> tuple[bytes, int]:
    """A request of random values, and how much of it is JSON."""
    tensor = {
        "name": "image",
        "shape": [1, 3, 224, 224],
        "datatype": "FP32",
        "parameters": {"binary_data_size": 4 * PIXELS},
    }
    asked = {"inputs": [tensor], "parameters": {"binary_data_output": True}}
    header = json.dumps(asked).encode()
    generator = random.Random(1)
    return header + struct.pack(f"<{PIXELS}f", *(generator.random() for _ in range(PIXELS))), len(header)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", type=Path, default=server_program())
    parser.add_argument(
        "--python", type=Path, default=CACHE / "venv" / "kserve" / "bin" / "python", help="has onnxruntime"
    )
    parser.add_argument("--model", type=Path, default=WORK / "resnet", help="what resnet_model.py wrote")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 8])
    given = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    body, header = image()
    (WORK / "image.bin").write_bytes(body)
    library = onnxruntime()
    print("| images together | contender | images/s | of bare | CPU ms an image | of bare |\n|---|---|---|---|---|---|")
    for place, batch in enumerate(given.batches):
        one_batch(given, batch, 18260 + place, library, header)


def one_batch(given: argparse.Namespace, batch: int, port: int, library: str, header: int) -> None:
    flags = ["--model-dir", str(given.model), "--model-name", "resnet", "--host", "127.0.0.1", "--port", str(port)]
    flags += ["--threads", str(given.threads), "--max-batch-size", str(batch)]
    server = Contender(
        "millrace-server", port, [str(given.server), *flags], {"ORT_DYLIB_PATH": library}, model="resnet"
    )
    bare = [str(given.python), str(HERE / "bare.py"), str(given.model), str(batch), str(given.threads)]
    contenders = [
        Bare("bare ONNX Runtime", [*bare, "1"]),
        Bare("bare, threads do not spin", [*bare, "0"]),
        Served(server, batch, header),
    ]
    try:
        for one in contenders:
            one.start()
        for turn in range(given.rounds):
            for one in contenders[turn % len(contenders) :] + contenders[: turn % len(contenders)]:
                one.measure(given.seconds)
            rates = ", ".join(f"{one.name} {one.rates[-1]:.2f}" for one in contenders)
            print(
                f"round {turn + 1} of {given.rounds}, load {os.getloadavg()[0]:.1f}: {rates}",
                file=sys.stderr,
                flush=True,
            )
    finally:
        for one in contenders:
            one.stop()
    for one in contenders:
        shares = (
            [a / b for a, b in zip(one.rates, contenders[0].rates, strict=True)],
            [a / b for a, b in zip(one.cpu, contenders[0].cpu, strict=True)],
        )
        cpu = spread([1000 * seconds for seconds in one.cpu], 0)
        cells = [spread(one.rates, 2), spread(shares[0], 3), cpu, spread(shares[1], 3)]
        print(f"| {batch} | {one.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
