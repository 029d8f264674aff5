"""A real Kafka broker on this machine, for tests of what pods read from it and write to it."""

import os
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path

from harness import LOCAL, ROOT, ClusterTest, wait_for

DEV = ROOT / "dev" / "kafka"


class KafkaTest(ClusterTest):
    """A test with a broker of its own, without TLS and without a user."""

    def setUp(self):
        if not LOCAL:
            self.skipTest("the pods of another cluster need not reach this machine")
        super().setUp()

    def broker(self) -> str:
        """Starts the broker, on the address by which pods reach this machine. That address."""
        folder = Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, folder, ignore_errors=True)
        host = os.environ["MILLRACE_CLUSTER_HOST"]
        with socket.socket() as free:
            free.bind((host, 0))
            address = free.getsockname()
        log = (folder / "log.txt").open("w")
        self.addCleanup(log.close)
        broker = subprocess.Popen([DEV / "broker", folder / "broker", host, str(address[1])], stdout=log, stderr=subprocess.STDOUT)
        self.addCleanup(broker.wait)
        self.addCleanup(broker.kill)

        def listens() -> bool:
            self.assertIsNone(broker.poll(), (folder / "log.txt").read_text())
            with socket.socket() as client:
                return client.connect_ex(address) == 0

        wait_for("the Kafka broker", listens, 180)
        self.brokers = f"{host}:{address[1]}"
        return self.brokers

    def topic(self, name: str, partitions: int = 1) -> None:
        self._tool("org.apache.kafka.tools.TopicCommand", "--create", "--topic", name, "--partitions", str(partitions))

    def send(self, topic: str, messages: list[tuple[str, str]]) -> None:
        """Writes messages of a key and a value; the key decides the partition. All are at the broker afterwards."""
        lines = "".join(f"{key}\t{value}\n" for key, value in messages)
        self._tool("org.apache.kafka.tools.ConsoleProducer", "--topic", topic, "--property", "parse.key=true", stdin=lines)

    def received(self, topic: str, count: int, seconds: int = 30) -> list[str]:
        """The values of so many messages of the topic, from its beginning; fewer if there are not so many in time."""
        arguments = ["--topic", topic, "--from-beginning", "--max-messages", str(count), "--timeout-ms", str(seconds * 1000)]
        return self._tool("org.apache.kafka.tools.consumer.ConsoleConsumer", *arguments).splitlines()

    def slow_down(self, client: str, bytes_a_second: int | None) -> None:
        """Lets the broker give this client no more than that; None takes the bound away."""
        change = ["--delete-config", "consumer_byte_rate"] if bytes_a_second is None else ["--add-config", f"consumer_byte_rate={bytes_a_second}"]
        self._tool("kafka.admin.ConfigCommand", "--alter", "--entity-type", "clients", "--entity-name", client, *change)

    def _tool(self, name: str, *arguments: str, stdin: str = "") -> str:
        jars = subprocess.run([DEV / "programs"], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
        java = ["java", "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{jars}/*"]
        command = [*java, name, "--bootstrap-server", self.brokers, *arguments]
        done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout
