#!/usr/bin/env python3
"""Swaps the version of a ModelDeployment again and again while requests come in, and counts those that fail.

Requests come on kept connections and on new ones, at a rate that does not wait for answers, and some take seconds to send
their body. Prints one line of JSON; the exit status is 1 if one request failed or a swap did not come to its end.

    run.py --namespace NS --name MODELDEPLOYMENT --versions 1,2 --body request.json [--swaps 20] [--rate 200]

Runs where Service addresses can be reached: on a node, or on the machine of the local cluster.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import time

KEPT = 20
SLOW = 4
# A slow caller sends the second half of its body after this many seconds: longer than a swap, shorter than the server's patience.
SLOW_SECONDS = 10.0
ANSWER_SECONDS = 20.0


class Counts:
    def __init__(self) -> None:
        self.answered: dict[str, int] = {}
        self.versions: dict[str, int] = {}
        self.failed: list[str] = []
        self.latencies: list[float] = []

    def fail(self, kind: str, error: BaseException | str) -> None:
        self.failed.append(f"{kind} at {time.strftime('%H:%M:%S')}: {error!r}")


class Target:
    def __init__(self, host: str, model: str, body: bytes) -> None:
        self.host = host
        self.body = body
        head = [f"POST /v2/models/{model}/infer HTTP/1.1", f"Host: {host}", "Content-Type: application/json"]
        self.head = "\r\n".join([*head, f"Content-Length: {len(body)}", "", ""]).encode()

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.wait_for(asyncio.open_connection(self.host, 80), ANSWER_SECONDS)


async def answer(reader: asyncio.StreamReader) -> tuple[int, bool, bytes]:
    """Status, whether the connection ends, body."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    fields = {k.lower(): v.strip() for k, _, v in (line.partition(":") for line in head[1:] if line)}
    body = await reader.readexactly(int(fields["content-length"]))
    return int(head[0].split()[1]), fields.get("connection", "").lower() == "close", body


async def one(target: Target, counts: Counts, kind: str, connection, pause: float = 0.0) -> bool:
    """One request; whether the connection may be used again."""
    reader, writer = connection
    began = time.monotonic()
    half = len(target.body) // 2
    writer.write(target.head + (target.body[:half] if pause else target.body))
    if pause:
        await writer.drain()
        await asyncio.sleep(pause)
        writer.write(target.body[half:])
    status, ends, body = await asyncio.wait_for(answer(reader), ANSWER_SECONDS)
    if status != 200:
        counts.fail(kind, f"status {status}: {body[:200]!r}")
        return False
    if not pause:
        counts.latencies.append(time.monotonic() - began)
    version = json.loads(body).get("model_version", "?")
    counts.versions[version] = counts.versions.get(version, 0) + 1
    counts.answered[kind] = counts.answered.get(kind, 0) + 1
    return not ends


async def kept(target: Target, counts: Counts, tickets: asyncio.Queue) -> None:
    """Answers tickets on one connection as long as the server keeps it."""
    connection = None
    while await tickets.get():
        try:
            connection = connection or await target.connect()
            if not await one(target, counts, "kept", connection):
                connection[1].close()
                connection = None
        except (OSError, EOFError, asyncio.TimeoutError, ValueError) as error:
            counts.fail("kept", error)
            connection = None
    if connection:
        connection[1].close()


async def once(target: Target, counts: Counts, kind: str, pause: float = 0.0) -> None:
    try:
        connection = await target.connect()
        await one(target, counts, kind, connection, pause)
        connection[1].close()
    except (OSError, EOFError, asyncio.TimeoutError, ValueError) as error:
        counts.fail(kind, error)


async def load(target: Target, counts: Counts, rate: float, done: asyncio.Event) -> None:
    """Every other request goes to a kept connection; a late clock is caught up with."""
    tickets: asyncio.Queue = asyncio.Queue()
    callers = [asyncio.create_task(kept(target, counts, tickets)) for _ in range(KEPT)]
    running: set[asyncio.Task] = set()
    began, sent = time.monotonic(), 0
    while not done.is_set():
        while sent < (time.monotonic() - began) * rate:
            if sent % 2:
                tickets.put_nowait(True)
            else:
                running.add(asyncio.create_task(once(target, counts, "new")))
            sent += 1
        running = {task for task in running if not task.done()}
        await asyncio.sleep(0.002)
    for _ in callers:
        tickets.put_nowait(False)
    await asyncio.gather(*callers, *running)


async def slow(target: Target, counts: Counts, done: asyncio.Event) -> None:
    while not done.is_set():
        await once(target, counts, "slow", SLOW_SECONDS)


def kubectl(*arguments: str) -> str:
    return subprocess.run(["kubectl", *arguments], check=True, capture_output=True, text=True).stdout


async def swap(namespace: str, name: str, version: int, patience: float) -> float:
    """Sets the version and waits until the address answers with it. Returns the seconds that took."""
    began = time.monotonic()
    patch = json.dumps({"spec": {"model": {"version": version}}})
    await asyncio.to_thread(kubectl, "patch", "-n", namespace, "modeldeployment", name, "--type=merge", "-p", patch)
    while time.monotonic() - began < patience:
        text = await asyncio.to_thread(kubectl, "get", "-n", namespace, "modeldeployment", name, "-o", "json")
        found = json.loads(text)
        status = found.get("status", {})
        ready = next((c for c in status.get("conditions", []) if c["type"] == "Ready"), {})
        current = ready.get("observedGeneration") == found["metadata"]["generation"]
        if current and ready.get("status") == "True" and status.get("servedVersion") == version:
            return time.monotonic() - began
        await asyncio.sleep(0.1)
    raise TimeoutError(f"version {version} is not served after {patience:.0f} s: {ready.get('message')}")


async def measure(options: argparse.Namespace) -> int:
    where = ("-n", options.namespace)
    host = kubectl("get", *where, "service", options.name, "-o", "jsonpath={.spec.clusterIP}")
    model = kubectl("get", *where, "modeldeployment", options.name, "-o", "jsonpath={.spec.model.name}")
    target = Target(host, model, options.body.read())
    counts, done, took, stuck = Counts(), asyncio.Event(), [], ""
    callers = [asyncio.create_task(load(target, counts, options.rate, done))]
    callers += [asyncio.create_task(slow(target, counts, done)) for _ in range(SLOW)]
    began = time.monotonic()
    try:
        for number in range(options.swaps):
            version = options.versions[(number + 1) % len(options.versions)]
            took.append(await swap(options.namespace, options.name, version, options.patience))
            await asyncio.sleep(options.pause)
    except TimeoutError as error:
        stuck = str(error)
    seconds = time.monotonic() - began
    done.set()
    await asyncio.gather(*callers)
    latencies = sorted(counts.latencies) or [0.0]
    shown = {
        "swaps": len(took),
        "swap_seconds": {"median": round(sorted(took)[len(took) // 2], 2) if took else None, "max": round(max(took), 2) if took else None},
        "requests": counts.answered,
        "versions": counts.versions,
        "requests_per_second": round((sum(counts.answered.values()) + len(counts.failed)) / seconds, 1),
        "p50_ms": round(latencies[len(latencies) // 2] * 1000, 1),
        "p99_ms": round(latencies[int(len(latencies) * 0.99)] * 1000, 1),
        "failed": len(counts.failed),
        "first_failures": counts.failed[:5],
        "stuck": stuck,
    }
    print(json.dumps(shown))
    return 1 if counts.failed or stuck or len(took) < options.swaps else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--namespace", required=True)
    parser.add_argument("--name", required=True, help="of the ModelDeployment")
    parser.add_argument("--versions", required=True, type=lambda text: [int(v) for v in text.split(",")])
    parser.add_argument("--body", required=True, type=argparse.FileType("rb"), help="file with the infer request")
    parser.add_argument("--swaps", type=int, default=20)
    parser.add_argument("--rate", type=float, default=200.0, help="requests per second")
    parser.add_argument("--pause", type=float, default=1.0, help="seconds between swaps")
    parser.add_argument("--patience", type=float, default=120.0, help="seconds a swap may take")
    return asyncio.run(measure(parser.parse_args()))


if __name__ == "__main__":
    sys.exit(main())
