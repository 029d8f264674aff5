"""Messages of a real broker of Kafka, answered by a served model: at least once, though a router is killed, by pods that follow the lag."""

import http.client
import json

from harness import Refused, condition, kubectl, wait_for
from kafka import Broker
from models import REQUEST, ModelTest

MESSAGES = 20_000
GOOD = REQUEST.decode()
BAD = json.dumps({"inputs": [{"name": "nothing", "datatype": "FP32", "shape": [1, 1], "data": [1]}]})


class Stream(ModelTest):
    only_local = "the pods of another cluster need not reach this machine"

    def setUp(self):
        super().setUp()
        self.broker = Broker()
        self.addCleanup(self.broker.stop)

    def stream(self, **kafka) -> dict:
        settings = kafka.pop("settings", {})
        topics = {"brokers": [self.broker.address], "inputTopic": "asked", "outputTopic": "answered", **kafka}
        return {"stream": {"kafka": topics, **settings}}

    def first(self, **spec) -> None:
        self.register(1)
        self.serve(1, **spec)
        self.wait_served(1)

    def streaming(self, status: str, reason: str, seconds: float = 120) -> dict:
        def turned():
            deployment = self.get("modeldeployment", "m")
            found = condition(deployment, "Streaming")
            return deployment if (found.get("status"), found.get("reason")) == (status, reason) else None

        return wait_for(f"Streaming={status} {reason}", turned, seconds)

    def figures(self, seconds: float = 150, **expected: int) -> dict:
        """`status.stream` once it has these."""

        def there():
            found = self.get("modeldeployment", "m")["status"].get("stream", {})
            return found if all(found.get(name) == value for name, value in expected.items()) else None

        return wait_for(f"status.stream with {expected}", there, seconds)

    def answered_by(self, router: dict) -> int:
        series = 'millrace_router_stream_messages_total{model="m",result="answered"} '
        connection = http.client.HTTPConnection(router["status"]["podIP"], 9090, timeout=10)
        connection.request("GET", "/metrics")
        lines = connection.getresponse().read().decode().splitlines()
        connection.close()
        return next((int(line.removeprefix(series)) for line in lines if line.startswith(series)), 0)

    def sources(self, topic: str) -> set[str]:
        return {headers["millrace-source"] for headers, _, _ in self.broker.all(topic)}

    def dead_letter(self) -> tuple[dict[str, str], str, str]:
        """The only one. It is written beside the answers to what comes after it, and may be later than they are."""
        [letter] = wait_for("a dead letter", lambda: self.broker.all("refused"), 90)
        return letter

    def test_all_are_answered_though_a_router_is_killed_and_pods_follow_the_lag(self):
        self.broker.topics(asked=4, answered=4)
        scale = {"min": 0, "max": 3, "metric": "QueueLag", "target": 50, "toZeroAfter": "15s"}
        self.first(scale=scale, **self.stream(settings={"maxInFlight": 2}))
        self.streaming("True", "Consuming")
        self.figures(partitions=4, consumers=2)
        wait_for("zero pods", lambda: self.get("modeldeployment", "m")["status"].get("desiredReplicas") == 0, 120)

        self.broker.put("asked", [(f"k{n % 97}", GOOD) for n in range(MESSAGES)])
        routers = self.routers()
        victim = routers[0]
        wait_for("some answers", lambda: self.answered_by(victim) > 100, 120, every=0.1)
        kubectl("delete", "pod", victim["metadata"]["name"], "-n", self.namespace, "--force", "--grace-period=0")

        def answered() -> list | None:
            found = self.broker.all("answered")
            return found if len({headers["millrace-source"] for headers, _, _ in found}) == MESSAGES else None

        answers = wait_for("all answers", answered, 400)
        self.assertTrue(all(json.loads(value)["model_name"] == "m" for _, _, value in answers))
        self.assertEqual({key for _, key, _ in answers}, {f"k{n}" for n in range(97)})
        scaled = [event for event in self.events() if event.startswith("Scaled: ")]
        self.assertTrue(any("to 3: QueueLag" in event for event in scaled), scaled)
        wait_for("zero pods again", lambda: self.get("modeldeployment", "m")["status"].get("desiredReplicas") == 0, 180)
        self.figures(lag=0, partitions=4)
        wait_for("ready at zero", lambda: condition(self.get("modeldeployment", "m"), "Ready")["reason"] == "AtZero")
        self.streaming("True", "Consuming")

    def test_a_message_that_is_refused_stops_its_partition_with_a_word_and_then_is_a_dead_letter(self):
        self.broker.topics(asked=1, answered=1, refused=1)
        self.first(**self.stream())
        self.streaming("True", "Consuming")
        self.broker.put("asked", [("a", GOOD), ("b", BAD), ("c", GOOD)])
        told = condition(self.streaming("False", "MessageRefused"), "Streaming")["message"]
        self.assertIn("partition 0 of asked waits: of the message at offset 1", told)
        self.assertIn("answers 400; write deadLetterTopic", told)
        wait_for("an event", lambda: any(event.startswith("MessageRefused: partition 0") for event in self.events()), 30)
        wait_for("the first answer alone", lambda: self.sources("answered") == {"asked/0/0"}, 60)
        self.assertEqual(condition(self.get("modeldeployment", "m"), "Ready")["status"], "True")

        self.serve(1, **self.stream(deadLetterTopic="refused"))
        wait_for("the others", lambda: self.sources("answered") == {"asked/0/0", "asked/0/2"}, 90)
        headers, key, value = self.dead_letter()
        self.assertEqual((headers["millrace-source"], headers["millrace-status"], key, value), ("asked/0/1", "400", "b", BAD))
        self.streaming("True", "Consuming")
        self.figures(rejected=1, lag=0)

        self.serve(1)
        wait_for("nothing is said any more", lambda: not condition(self.get("modeldeployment", "m"), "Streaming"))
        self.assertNotIn("stream", self.get("modeldeployment", "m")["status"])

    def test_an_answer_that_its_topic_refuses_stops_its_partition_with_a_word_and_then_is_a_dead_letter(self):
        self.broker.topics(asked=1, refused=1)
        self.broker.compacted("answered", 1)
        self.first(**self.stream())
        self.streaming("True", "Consuming")
        self.broker.put("asked", [("a", GOOD), (None, GOOD), ("c", GOOD)])
        told = condition(self.streaming("False", "MessageRefused"), "Streaming")["message"]
        self.assertIn("partition 0 of asked waits: of the message at offset 1 the answer is not taken by its topic", told)
        # The third may have been written beside the first, and comes again then.
        answered = wait_for("answers", lambda: self.sources("answered"), 60)
        self.assertIn("asked/0/0", answered)
        self.assertNotIn("asked/0/1", answered)

        self.serve(1, **self.stream(deadLetterTopic="refused"))
        wait_for("the others", lambda: self.sources("answered") == {"asked/0/0", "asked/0/2"}, 90)
        headers, _, value = self.dead_letter()
        self.assertEqual((headers["millrace-source"], value), ("asked/0/1", GOOD))
        self.assertTrue(headers["millrace-error"].startswith("the answer is not taken by its topic"), headers)
        self.streaming("True", "Consuming")
        self.figures(rejected=1, lag=0)

    def test_a_broker_that_goes_away_is_told_of_and_settings_that_cannot_be_are_refused(self):
        self.register(1)
        for kafka, words in [
            ({"outputTopic": "asked"}, "outputTopic must be another topic"),
            ({"sasl": {"mechanism": "PLAIN", "secretName": "s"}}, "PLAIN needs tls"),
        ]:
            with self.assertRaises(Refused) as refused:
                self.serve(1, **self.stream(**kafka))
            self.assertIn(words, str(refused.exception))
        self.broker.topics(asked=1)
        self.serve(1, **self.stream())
        told = condition(self.streaming("False", "BrokerFailed"), "Streaming")["message"]
        self.assertIn("the topic answered is not there", told)
        self.broker.topics(answered=1)
        self.streaming("True", "Consuming")
        self.broker.process.kill()
        told = condition(self.streaming("False", "BrokerFailed"), "Streaming")["message"]
        self.assertIn(self.broker.address, told)
