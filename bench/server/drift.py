#!/usr/bin/env python3
"""What counting for drift costs: two of the same model server in turns, one of which was asked for its counts.

Prints a Markdown table. README.md beside this says what is needed and what was measured. Standard library only.
"""

import argparse
import json
import sys
from pathlib import Path

from contender import DIRECT, REPOSITORY, WORK, Contender, onnxruntime, server_program, spread
from messages import bodies


def counted(port: int) -> dict:
    with DIRECT.open(f"http://127.0.0.1:{port}/drift?window=3600", timeout=10) as answer:
        return json.load(answer)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--server", type=Path, default=server_program())
    parser.add_argument("--model", type=Path, default=WORK / "model", help="what model.py wrote")
    parser.add_argument("--data", type=Path, default=REPOSITORY / "examples" / "penguins" / "penguins.csv")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=5)
    parser.add_argument("--connections", type=int, default=32)
    given = parser.parse_args()
    WORK.mkdir(parents=True, exist_ok=True)
    (WORK / "bodies.jsonl").write_text("\n".join(bodies(given.data)) + "\n")
    library = onnxruntime()
    flags = [str(given.server), "--model-dir", str(given.model), "--model-name", "penguins", "--host", "127.0.0.1"]

    def server(name: str, port: int) -> Contender:
        ports = ["--port", str(port), "--admin-port", str(port + 100)]
        return Contender(name, port, [*flags, *ports], {"ORT_DYLIB_PATH": library})

    contenders = [server("not watched", 18210), server("watched", 18211)]
    plain, watched = contenders
    try:
        for one in contenders:
            one.start()
        counted(18311)
        for one in contenders:
            one.measure(2, given.connections, keep=False)
        for turn in range(given.rounds):
            for one in contenders[:: 1 if turn % 2 == 0 else -1]:
                one.measure(given.seconds, given.connections)
        rows = counted(18311)["rows"]
        if rows < sum(watched.rest.rates) * given.seconds * 0.99:
            sys.exit(f"only {rows} rows were counted")
    finally:
        for one in contenders:
            one.stop()
    print("| server | requests/s | p99 ms | CPU µs a request |\n|---|---|---|---|")
    for one in contenders:
        print(f"| {one.name} | {spread(one.rest.rates, 0)} | {spread(one.rest.tails, 2)} | {spread(one.rest.cpu, 1)} |")
    rates = [a / b for a, b in zip(watched.rest.rates, plain.rest.rates, strict=True)]
    cpu = [a / b for a, b in zip(watched.rest.cpu, plain.rest.cpu, strict=True)]
    print(f"\nwatched / not watched: requests/s {spread(rates, 3)}, CPU a request {spread(cpu, 3)}")


if __name__ == "__main__":
    main()
