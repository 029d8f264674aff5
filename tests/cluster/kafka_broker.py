"""A real broker of Kafka on this machine, which the cluster's pods reach, and its own tools."""

import os
import socket
import subprocess
import tempfile
import time

from harness import ROOT


class Broker:
    """Ends with `stop`."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="millrace-kafka-")
        self.jars = subprocess.run([ROOT / "dev" / "kafka" / "programs"], check=True, capture_output=True, text=True).stdout.strip()
        host = os.environ["MILLRACE_CLUSTER_HOST"]
        with socket.socket() as free:
            free.bind((host, 0))
            port = free.getsockname()[1]
        self.address = f"{host}:{port}"
        with open(f"{self.folder.name}/output", "wb") as output:
            command = [ROOT / "dev" / "kafka" / "broker", self.folder.name, host, str(port)]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        deadline = time.monotonic() + 120
        while not self.answers(host, port):
            if time.monotonic() > deadline or self.process.poll() is not None:
                with open(f"{self.folder.name}/output", errors="replace") as output:
                    said = output.read()
                self.stop()
                raise AssertionError(f"the broker does not begin: {said[-2000:]}")
            time.sleep(0.2)

    @staticmethod
    def answers(host: str, port: int) -> bool:
        try:
            socket.create_connection((host, port), 1).close()
        except OSError:
            return False
        return True

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def tool(self, name: str, *arguments: str, stdin: str = "") -> str:
        command = ["java", "-Xmx128m", "-XX:TieredStopAtLevel=1", "-cp", f"{self.jars}/*", f"org.apache.kafka.tools.{name}"]
        done = subprocess.run(
            [*command, "--bootstrap-server", self.address, *arguments], input=stdin, capture_output=True, text=True, timeout=300
        )
        if done.returncode != 0:
            raise AssertionError(f"{name}: {done.stderr[-2000:]}")
        return done.stdout

    def topics(self, **partitions: int) -> None:
        for name, count in partitions.items():
            self.tool("TopicCommand", "--create", "--topic", name, "--partitions", str(count))

    def put(self, topic: str, messages: list[tuple[str, str]]) -> None:
        """Keys and values."""
        lines = "".join(f"{key}|{value}\n" for key, value in messages)
        self.tool("ConsoleProducer", "--topic", topic, "--property", "parse.key=true", "--property", "key.separator=|", stdin=lines)

    def all(self, topic: str) -> list[tuple[dict[str, str], str, str]]:
        """Headers, key and value of everything that is there."""
        options = ["--property", "print.headers=true", "--property", "print.key=true"]
        said = self.tool("consumer.ConsoleConsumer", "--topic", topic, "--from-beginning", "--timeout-ms", "5000", *options)
        found = []
        for line in said.splitlines():
            parts = line.split("\t", 2)
            # What the tool says itself has no columns.
            if len(parts) < 3:
                continue
            headers, key, value = parts
            found.append((dict(pair.split(":", 1) for pair in headers.split(",") if ":" in pair), key, value))
        return found
