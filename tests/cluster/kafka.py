"""A real Kafka broker on this machine, for tests of what pods read from it and write to it, and Kafka's own tools."""

import os
import socket
import subprocess
import tempfile
from pathlib import Path

from harness import ROOT, ClusterTest, wait_for

DEV = ROOT / "dev" / "kafka"
# How the producer is told that a message has no key.
NO_KEY = "~none~"


class Broker:
    """One broker, without TLS and without a user, at the address by which pods reach this machine. Ends with `stop`."""

    def __init__(self):
        self.folder = tempfile.TemporaryDirectory(prefix="millrace-kafka-", ignore_cleanup_errors=True)
        self.jars = subprocess.run([DEV / "programs"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        host = os.environ["MILLRACE_CLUSTER_HOST"]
        with socket.socket() as free:
            free.bind((host, 0))
            address = free.getsockname()
        self.address = f"{host}:{address[1]}"
        log = Path(self.folder.name) / "output.txt"
        with log.open("wb") as output:
            command = [DEV / "broker", f"{self.folder.name}/broker", host, str(address[1])]
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT)

        def listens() -> bool:
            if self.process.poll() is not None:
                raise AssertionError(f"the broker has ended: {log.read_text(errors='replace')[-2000:]}")
            with socket.socket() as client:
                return client.connect_ex(address) == 0

        try:
            wait_for("the Kafka broker", listens, 180)
        except AssertionError:
            self.stop()
            raise

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
        self.folder.cleanup()

    def tool(self, name: str, *arguments: str, stdin: str = "") -> str:
        java = ["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{self.jars}/*"]
        command = [*java, name, "--bootstrap-server", self.address, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            raise AssertionError(f"{name}: {done.stdout[-1000:]}{done.stderr[-2000:]}")
        return done.stdout

    def topics(self, **partitions: int) -> None:
        for name, count in partitions.items():
            self.tool("org.apache.kafka.tools.TopicCommand", "--create", "--topic", name, "--partitions", str(count))

    def compacted(self, topic: str, partitions: int) -> None:
        """A topic that keeps the last message of each key, and takes none without one."""
        arguments = ["--topic", topic, "--partitions", str(partitions), "--config", "cleanup.policy=compact"]
        self.tool("org.apache.kafka.tools.TopicCommand", "--create", *arguments)

    def put(self, topic: str, messages: list[tuple[str | None, str]]) -> None:
        """Writes messages of a key, or none, and a value; the key decides the partition. All are at the broker afterwards."""
        lines = "".join(f"{NO_KEY if key is None else key}\t{value}\n" for key, value in messages)
        properties = ["--property", "parse.key=true", "--property", f"null.marker={NO_KEY}"]
        self.tool("org.apache.kafka.tools.ConsoleProducer", "--topic", topic, *properties, stdin=lines)

    def all(self, topic: str) -> list[tuple[dict[str, str], str, str]]:
        """Headers, key and value of everything that is there."""
        options = ["--from-beginning", "--timeout-ms", "10000", "--property", "print.headers=true", "--property", "print.key=true"]
        found = []
        for line in self.tool("org.apache.kafka.tools.consumer.ConsoleConsumer", "--topic", topic, *options).splitlines():
            parts = line.split("\t", 2)
            # What the tool says itself has no columns.
            if len(parts) < 3:
                continue
            headers, key, value = parts
            found.append((dict(pair.split(":", 1) for pair in headers.split(",") if ":" in pair), key, value))
        return found

    def slow_down(self, client: str, bytes_a_second: int | None) -> None:
        """Lets the broker give this client no more than that; None takes the bound away."""
        change = ["--delete-config", "consumer_byte_rate"] if bytes_a_second is None else ["--add-config", f"consumer_byte_rate={bytes_a_second}"]
        self.tool("kafka.admin.ConfigCommand", "--alter", "--entity-type", "clients", "--entity-name", client, *change)


class KafkaTest(ClusterTest):
    """A test with a broker of its own."""

    only_local = "the pods of another cluster need not reach this machine"

    def setUp(self):
        super().setUp()
        self.kafka = Broker()
        self.addCleanup(self.kafka.stop)
