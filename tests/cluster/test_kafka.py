"""`ingest` of a Kafka topic: run after run each message once, also where a pod is killed while it reads."""

import json
import time

from harness import kubectl, wait_for
from kafka import KafkaTest

STORE = {"pvc": {"claimName": "artifacts"}}


class Kafka(KafkaTest):
    def setUp(self):
        super().setUp()
        self.kafka.topics(orders=3)
        self.claim()

    def write(self, ids: range) -> None:
        self.kafka.put("orders", [(f"k{n}", json.dumps({"id": n, "text": "x" * 1000})) for n in ids])

    def ingest(self, offsets: dict, **settings) -> dict:
        source = f"kafka://{self.kafka.address}/orders"
        kafka = {"allowPlaintext": True, "metadata": ["partition", "offset"], "from": offsets}
        parameters = {"source": source, "schema": {"id": "integer", "text": "string"}, "kafka": kafka}
        return {"uses": "ingest", "with": {**parameters, **settings}}

    def check(self, data: dict, ids: range, **stage) -> dict:
        """A stage that fails where the table does not have each of these ids once, and nothing else."""
        counts = "SELECT count(*) AS n, count(DISTINCT id) AS ids, min(id) AS first, max(id) AS last FROM data"
        wrong = f"n <> {len(ids)} OR ids <> {len(ids)} OR first <> {ids[0]} OR last <> {ids[-1]}"
        expectation = {"sql": f"SELECT * FROM ({counts}) AS counts WHERE {wrong}", "maxRows": 0}
        return {"uses": "validate", "inputs": {"data": data}, "with": {"expectations": [expectation]}, **stage}

    def kill_while_it_reads(self, run: str) -> None:
        """Kills the pod of the run's stage `ingest`, which reads slowly, and then lets the next one read as it can."""
        wait_for("the program", lambda: self.stage("ingest", run).get("state") == "Running")
        time.sleep(3)
        selector = f"millrace.dev/run={run},millrace.dev/stage=ingest"
        kubectl("delete", "pod", "-n", self.namespace, "-l", selector, "--grace-period=1", "--wait=false")
        wait_for("another attempt", lambda: self.stage("ingest", run).get("attempts") == 2)
        self.kafka.slow_down("millrace", None)

    def test_each_message_is_read_once_though_a_pod_is_killed_while_it_reads(self):
        first, second = range(30_000), range(30_000, 30_500)
        self.write(first)
        # Some 30 MB: more than half a minute.
        self.kafka.slow_down("millrace", 800_000)
        self.run_inline({"ingest": self.ingest({}), "check": self.check({"from": "ingest.data"}, first)}, name="one", store=STORE)
        self.kill_while_it_reads("one")
        ingest = self.succeeded("one", 300)["stages"]["ingest"]
        self.assertEqual((ingest["attempts"], ingest.get("failures", 0), ingest["results"]["rows"]), (2, 0, len(first)))
        offsets = ingest["results"]["offsets"]
        self.assertEqual((sorted(offsets), sum(offsets.values())), (["0", "1", "2"], len(first)))

        self.write(second)
        self.run_inline({"ingest": self.ingest(offsets), "check": self.check({"from": "ingest.data"}, second)}, name="two", store=STORE)
        results = self.succeeded("two", 180)["stages"]["ingest"]["results"]
        self.assertEqual((results["rows"], sum(results["offsets"].values())), (len(second), len(first) + len(second)))

    def test_a_table_gets_each_message_once_and_keeps_how_far_the_topic_was_read(self):
        self.claim("lake")
        volumes = {"volumes": {"lake": {"claim": {"name": "lake"}, "mountPath": "/lake"}}}
        ingest = {**self.ingest({}, table={"uri": "/lake/orders"}), "overrides": volumes}
        first, both = range(30_000), range(30_500)
        for run, ids in (("one", first), ("two", both), ("three", both)):
            # Nobody tells a run where the last one ended, and the third finds nothing new.
            if run == "one":
                self.write(first)
                self.kafka.slow_down("millrace", 800_000)
            elif run == "two":
                self.write(both[len(first) :])
            table = {"table": {"uri": "pvc://lake/orders"}}
            self.run_inline({"ingest": ingest, "check": self.check(table, ids, needs=["ingest"])}, name=run, store=STORE)
            if run == "one":
                self.kill_while_it_reads(run)
            self.succeeded(run, 300)

    def test_a_broker_that_is_not_there_and_a_topic_that_is_not_are_told(self):
        self.write(range(1))
        self.run_inline({"s": {"uses": "ingest", "with": {"source": f"kafka://{self.kafka.address}/birds", "kafka": {"allowPlaintext": True}}}}, name="topic", store=STORE)
        self.assertIn("there is no topic birds", self.failed("topic")["stages"]["s"]["message"])
        host = self.kafka.address.rsplit(":", 1)[0]
        self.run_inline({"s": {"uses": "ingest", "with": {"source": f"kafka://{host}:1/orders", "kafka": {"allowPlaintext": True}}}}, name="broker", store=STORE)
        self.assertIn(f"failed to connect to {host}:1", self.failed("broker")["stages"]["s"]["message"])
