#!/usr/bin/env python3
"""Compares millrace-server with KServe's Python SDK and MLServer on the same ONNX file, in turns on the same machine, by REST and gRPC.

Prints Markdown tables. README.md beside this says what is needed and what was measured. Standard library only.
"""

import argparse
import json
import os
import sys
from pathlib import Path

from contender import CACHE, HERE, REPOSITORY, WORK, Contender, Figures, onnxruntime, server_program, spread
from messages import bodies, message, message_outputs, outputs, rows


def same(right: dict[str, list], other: dict[str, list]) -> bool:
    """The same labels, and probabilities within 1e-5."""
    near = all(abs(a - b) < 1e-5 for a, b in zip(right["probabilities"], other["probabilities"], strict=True))
    return right["label"] == other["label"] and near


def compare(ours: Contender, others: list[Contender], sample: list[dict]) -> None:
    """All give the same answers, by REST and by gRPC."""
    for row in sample:
        body, call = json.dumps(row), message("penguins", row)
        right = outputs(ours.answer(body))
        answers = [(one, "REST", outputs(one.answer(body))) for one in others]
        answers += [
            (one, "gRPC", message_outputs(one.grpc_answer(call))) for one in [ours, *others] if speaks_grpc(one)
        ]
        for one, protocol, other in answers:
            if not same(right, other):
                sys.exit(f"{one.name} answers otherwise by {protocol}:\n{right}\n{other}")


def speaks_grpc(one: Contender) -> bool:
    return one.grpc_port is not None


def table(ours: Contender, peers: list[Contender], protocol: str) -> str:
    def figures(one: Contender) -> Figures:
        return one.rest if protocol == "REST" else one.grpc

    lines = [f"| {protocol} | requests/s | p50 ms | p99 ms | CPU µs a request |", "|---|---|---|---|---|"]
    for one in [ours, *peers]:
        of = figures(one)
        cells = [spread(of.rates, 0), spread(of.medians, 2), spread(of.tails, 2), spread(of.cpu, 0)]
        lines.append(f"| {one.name} | {' | '.join(cells)} |")
    lines += ["", f"| {protocol}, against | requests/s × | p99 ÷ | CPU a request ÷ |", "|---|---|---|---|"]
    mine = figures(ours)
    for peer in peers:
        of = figures(peer)
        rate = [a / b for a, b in zip(mine.rates, of.rates, strict=True)]
        tail = [b / a for a, b in zip(mine.tails, of.tails, strict=True)]
        cpu = [b / a for a, b in zip(mine.cpu, of.cpu, strict=True)]
        lines.append(f"| {peer.name} | {spread(rate, 1)} | {spread(tail, 1)} | {spread(cpu, 1)} |")
    return "\n".join(lines)


def mlserver(python: Path, model: Path, port: int) -> Contender:
    """In the server's own process, which is its fastest with a model this small; without its access log and compression."""
    folder = WORK / "mlserver"
    folder.mkdir(parents=True, exist_ok=True)
    ports = {"http_port": port, "grpc_port": port + 50, "metrics_port": port + 60, "host": "127.0.0.1"}
    settings = {**ports, "debug": False, "parallel_workers": 0, "gzip_enabled": False}
    (folder / "settings.json").write_text(json.dumps(settings))
    served = {
        "name": "penguins",
        "implementation": "mlserver_onnx.OnnxModel",
        "parameters": {"uri": str(model / "model.onnx")},
    }
    (folder / "model-settings.json").write_text(json.dumps(served))
    command = [str(python.parent / "mlserver"), "start", str(folder)]
    return Contender("MLServer", port, command, {"PYTHONPATH": str(HERE)}, grpc_port=port + 50)


def kserve(python: Path, model: Path, port: int, workers: int) -> Contender:
    # Its workers do not share the port of gRPC.
    grpc_port = port + 50 if workers == 1 else None
    command = [str(python), str(HERE / "kserve_onnx.py"), str(model), str(port), str(workers), str(grpc_port or 0)]
    plural = "worker" if workers == 1 else "workers"
    return Contender(f"KServe SDK, {workers} {plural}", port, command, {}, grpc_port=grpc_port)


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", type=Path, default=server_program())
    venv = CACHE / "venv"
    for name in ("kserve", "mlserver"):
        help = f"has requirements-{name}.txt installed"
        parser.add_argument(f"--{name}", type=Path, default=venv / name / "bin" / "python", help=help)
    parser.add_argument("--model", type=Path, default=WORK / "model", help="what model.py wrote")
    parser.add_argument("--data", type=Path, default=REPOSITORY / "examples" / "penguins" / "penguins.csv")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--connections", type=int, default=32)
    parser.add_argument("--kserve-workers", type=int, nargs="+", default=[1, 2])
    return parser.parse_args()


def main() -> None:
    given = options()
    WORK.mkdir(parents=True, exist_ok=True)
    sample = rows(given.data)
    (WORK / "bodies.jsonl").write_text("\n".join(bodies(given.data)) + "\n")
    (WORK / "message.bin").write_bytes(message("penguins", sample[0]))
    flags = ["--model-dir", str(given.model), "--model-name", "penguins", "--host", "127.0.0.1", "--port", "18200"]
    environment = {"ORT_DYLIB_PATH": onnxruntime()}
    ours = Contender("millrace-server", 18200, [str(given.server), *flags], environment, grpc_port=18200)
    peers = [kserve(given.kserve, given.model, 18200 + workers, workers) for workers in given.kserve_workers]
    peers.append(mlserver(given.mlserver, given.model, 18220))
    contenders = [ours, *peers]
    try:
        for one in contenders:
            one.start()
        compare(ours, peers, sample[::10])
        sizes = {
            one.name: len(one.grpc_answer(message("penguins", sample[0]))) for one in contenders if speaks_grpc(one)
        }
        for one in contenders:
            one.measure(2, given.connections, keep=False)
        for turn in range(given.rounds):
            print(f"round {turn + 1} of {given.rounds}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
            # Each starts a round in turn, so that none always follows the same other.
            for one in contenders[turn % len(contenders) :] + contenders[: turn % len(contenders)]:
                one.measure(given.seconds, given.connections)
                if speaks_grpc(one):
                    one.measure_grpc(given.seconds, given.connections, sizes[one.name])
    finally:
        for one in contenders:
            one.stop()
    print(table(ours, peers, "REST"))
    print()
    print(table(ours, [peer for peer in peers if speaks_grpc(peer)], "gRPC"))


if __name__ == "__main__":
    main()
