"""A server that is measured: started, asked by one of two load generators, and ended. Standard library only."""

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
PATIENCE = 120
GRPC_HEADERS = ("content-type: application/grpc", "te: trailers")
DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


@dataclass
class Figures:
    """A value a round."""

    rates: list[float] = field(default_factory=list)
    medians: list[float] = field(default_factory=list)
    tails: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)


@dataclass
class Contender:
    name: str
    port: int
    command: list[str]
    environment: dict[str, str]
    model: str = "penguins"
    # Where it speaks gRPC, if that is measured and is another port.
    grpc_port: int | None = None
    process: subprocess.Popen | None = None
    rest: Figures = field(default_factory=Figures)
    grpc: Figures = field(default_factory=Figures)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v2/models/{self.model}/infer"

    @property
    def grpc_url(self) -> str:
        return f"http://127.0.0.1:{self.grpc_port or self.port}/inference.GRPCInferenceService/ModelInfer"

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
                DIRECT.open(f"http://127.0.0.1:{self.port}/v2/models/{self.model}/ready", timeout=5).read()
                return
            except OSError:
                if self.process.poll() is not None or time.monotonic() - begun > PATIENCE:
                    sys.exit(f"{self.name} did not start: see {log}")
                time.sleep(0.2)

    def stop(self) -> None:
        if self.process:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()

    def answer(self, body: str) -> bytes:
        request = urllib.request.Request(self.url, body.encode(), {"content-type": "application/json"})
        return DIRECT.open(request, timeout=30).read()

    def grpc_answer(self, message: bytes) -> bytes:
        """The answer as it comes, by curl: the standard library has no HTTP/2."""
        headers = [word for header in GRPC_HEADERS for word in ("-H", header)]
        command = [
            "curl",
            "--silent",
            "--show-error",
            "--http2-prior-knowledge",
            *headers,
            "--data-binary",
            "@-",
            self.grpc_url,
        ]
        return subprocess.run(command, input=message, check=True, capture_output=True, timeout=30).stdout

    def cpu_seconds(self) -> float:
        return group_cpu_seconds(self.process.pid)

    def measure(self, seconds: int, connections: int, keep: bool = True) -> None:
        """REST, by wrk, with the rows in turn that are in `WORK/bodies.jsonl`."""
        command = [
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--latency",
            "--timeout",
            "30s",
            "-s",
            str(HERE / "post.lua"),
            self.url,
        ]
        before = self.cpu_seconds()
        text = _run(command, {"BODIES": str(WORK / "bodies.jsonl")})
        used = self.cpu_seconds() - before
        if "Non-2xx" in text or "Socket errors" in text:
            sys.exit(f"{self.name} failed requests:\n{text}")
        requests = int(re.search(r"(\d+) requests in", text)[1])
        rate = float(re.search(r"Requests/sec:\s+([\d.]+)", text)[1])
        median, tail = (milliseconds(re.search(rf"{share}%\s+([\d.]+\w+)", text)[1]) for share in (50, 99))
        if keep:
            self._keep("REST", self.rest, (rate, median, tail, used / requests * 1e6))

    def measure_grpc(self, seconds: int, connections: int, answer_bytes: int, keep: bool = True) -> None:
        """gRPC, by h2load, with the message in `WORK/message.bin`: a connection has one call at a time, as with REST."""
        log = WORK / "h2load.log"
        log.unlink(missing_ok=True)
        headers = [word for header in GRPC_HEADERS for word in ("-H", header)]
        command = ["h2load", "-t1", f"-c{connections}", "-m1", f"-D{seconds}", *headers]
        before = self.cpu_seconds()
        text = _run([*command, "-d", str(WORK / "message.bin"), f"--log-file={log}", self.grpc_url], {})
        used = self.cpu_seconds() - before
        counts = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored, (\d+) timeout", text)
        done, succeeded, *bad = (int(count) for count in counts.groups())
        data = int(re.search(r"\((\d+)\) data", text)[1])
        # A refusal is 200 too, and has no message.
        if any(bad) or done != succeeded or abs(data / done - answer_bytes) > 1:
            sys.exit(
                f"{self.name} failed calls: {data / max(done, 1):.1f} bytes an answer, expected {answer_bytes}\n{text}"
            )
        times = sorted(int(line.split("\t")[2]) for line in log.read_text().splitlines())
        median, tail = (times[int(len(times) * share)] / 1000 for share in (0.5, 0.99))
        if keep:
            self._keep("gRPC", self.grpc, (done / seconds, median, tail, used / done * 1e6))

    def _keep(self, protocol: str, figures: Figures, found: tuple[float, float, float, float]) -> None:
        for values, value in zip((figures.rates, figures.medians, figures.tails, figures.cpu), found, strict=True):
            values.append(value)
        rate, _, tail, cpu = found
        print(
            f"  {self.name}, {protocol}: {rate:.0f}/s, p99 {tail:.2f} ms, {cpu:.0f} us CPU", file=sys.stderr, flush=True
        )


def _run(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, check=False, env={**os.environ, **environment}, capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{command[0]} failed: {done.stdout}{done.stderr}")
    return done.stdout


def group_cpu_seconds(leader: int) -> float:
    """Of the whole process group, so far."""
    ticks = 0
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rsplit(")", 1)[1].split()
        except OSError:
            continue
        if int(fields[2]) == leader:
            ticks += int(fields[11]) + int(fields[12])
    return ticks / os.sysconf("SC_CLK_TCK")


def milliseconds(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(us|ms|s)", text).groups()
    return float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit]


def spread(values: list[float], digits: int) -> str:
    return f"{statistics.median(values):.{digits}f} ({min(values):.{digits}f} – {max(values):.{digits}f})"


def onnxruntime() -> str:
    """The pinned library."""
    fetch = [REPOSITORY / "dev/onnxruntime/fetch"]
    return subprocess.run(fetch, check=True, capture_output=True, text=True).stdout.strip()


def server_program() -> Path:
    """Where cargo left it, if nothing else is said."""
    return REPOSITORY / os.environ.get("CARGO_TARGET_DIR", "target") / "release" / "millrace-server"
