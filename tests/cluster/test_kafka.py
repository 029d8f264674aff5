"""`ingest` of a Kafka topic: run after run each message once, also where a pod is killed while it reads."""

import json
import time

from harness import kubectl, wait_for
from kafka import KafkaTest

STORE = {"pvc": {"claimName": "artifacts"}}


class Kafka(KafkaTest):
    def setUp(self):
        super().setUp()
        self.broker()
        self.topic("orders", 3)
        self.claim()

    def write(self, ids: range) -> None:
        self.send("orders", [(f"k{n}", json.dumps({"id": n, "text": "x" * 1000})) for n in ids])

    def ingest(self, name: str, ids: range, offsets: dict) -> None:
        """Starts a run from these offsets on. It fails where its table does not have each of these ids once, and nothing else."""
        source = f"kafka://{self.brokers}/orders"
        settings = {"allowPlaintext": True, "metadata": ["partition", "offset"], "from": offsets}
        counts = "SELECT count(*) AS n, count(DISTINCT id) AS ids, min(id) AS first, max(id) AS last FROM data"
        wrong = f"n <> {len(ids)} OR ids <> {len(ids)} OR first <> {ids[0]} OR last <> {ids[-1]}"
        stages = {
            "ingest": {"uses": "ingest", "with": {"source": source, "schema": {"id": "integer", "text": "string"}, "kafka": settings}},
            "validate": {
                "uses": "validate",
                "inputs": {"data": {"from": "ingest.data"}},
                "with": {"expectations": [{"sql": f"SELECT * FROM ({counts}) AS counts WHERE {wrong}", "maxRows": 0}]},
            },
        }
        self.run_inline(stages, name=name, store=STORE)

    def test_each_message_is_read_once_though_a_pod_is_killed_while_it_reads(self):
        first, second = range(30_000), range(30_000, 30_500)
        self.write(first)
        # Some 30 MB: more than half a minute.
        self.slow_down("millrace", 800_000)
        self.ingest("one", first, {})
        wait_for("the program", lambda: self.stage("ingest", "one").get("state") == "Running")
        time.sleep(3)
        kubectl("delete", "pod", "-n", self.namespace, "-l", "millrace.dev/stage=ingest", "--grace-period=1", "--wait=false")
        wait_for("another attempt", lambda: self.stage("ingest", "one").get("attempts") == 2)
        self.slow_down("millrace", None)
        ingest = self.succeeded("one", 300)["stages"]["ingest"]
        self.assertEqual((ingest["attempts"], ingest.get("failures", 0), ingest["results"]["rows"]), (2, 0, len(first)))
        offsets = ingest["results"]["offsets"]
        self.assertEqual((sorted(offsets), sum(offsets.values())), (["0", "1", "2"], len(first)))

        self.write(second)
        self.ingest("two", second, offsets)
        results = self.succeeded("two", 180)["stages"]["ingest"]["results"]
        self.assertEqual((results["rows"], sum(results["offsets"].values())), (len(second), len(first) + len(second)))

    def test_a_broker_that_is_not_there_and_a_topic_that_is_not_are_told(self):
        self.write(range(1))
        self.run_inline({"s": {"uses": "ingest", "with": {"source": f"kafka://{self.brokers}/birds", "kafka": {"allowPlaintext": True}}}}, name="topic", store=STORE)
        self.assertIn("there is no topic birds", self.failed("topic")["stages"]["s"]["message"])
        host = self.brokers.rsplit(":", 1)[0]
        self.run_inline({"s": {"uses": "ingest", "with": {"source": f"kafka://{host}:1/orders", "kafka": {"allowPlaintext": True}}}}, name="broker", store=STORE)
        self.assertIn(f"failed to connect to {host}:1", self.failed("broker")["stages"]["s"]["message"])
