"""Kafka, through librdkafka: one idempotent producer, one thread for each subscription."""

import asyncio
import math
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from time import monotonic, sleep

from confluent_kafka import (
    ConsumerGroupTopicPartitions,
    KafkaError,
    KafkaException,
    TopicPartition,
)
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    ConfigResource,
    NewTopic,
    ResourceType,
)

from onefold.adapters.kafka.errors import at_the_border
from onefold.adapters.kafka.options import (
    Options,
    checked,
    for_admin,
    for_consumer,
    for_producer,
    servers,
)
from onefold.adapters.kafka.producer import KafkaSender
from onefold.adapters.kafka.subscription import FEATURES, KafkaSubscription
from onefold.errors import IllegalTransition, StoreUnavailable
from onefold.ports.transport import Outgoing, Partition, TransportFeatures

_SERVED_POLL_S = 0.05


class KafkaTransport:
    """
    See `ports.transport.Transport`.

    Args:
        bootstrap: `host:port`, several divided by commas.
        wait_s: How long to wait for an answer when joining or asking.
        send_timeout_s: After which `publish` gives up what has not been answered. What it
            gave up may have been sent.
        buffer: How many messages each subscription fetches ahead of its handlers.
        options: librdkafka's properties, as for TLS; those that carry a promise are ours.

    Raises:
        InvalidSetting: an option would break a promise.
    """

    def __init__(
        self,
        bootstrap: str,
        *,
        wait_s: float = 10.0,
        send_timeout_s: float = 30.0,
        buffer: int = 2000,
        options: Options | None = None,
    ) -> None:
        self._bootstrap, self._options = servers(bootstrap), checked(options or {})
        self._wait_s, self._buffer = wait_s, buffer
        properties = for_producer(bootstrap, self._options)
        self._sender = KafkaSender(properties, timeout_s=send_timeout_s)
        self._admin: AdminClient | None = None
        self._subscriptions: list[KafkaSubscription] = []
        self._closed = False

    @property
    def features(self) -> TransportFeatures:
        return FEATURES

    async def subscribe(self, group: str, topics: Collection[str]) -> KafkaSubscription:
        await asyncio.to_thread(self._ask_for_brokers)
        options = for_consumer(self._bootstrap, group, self._options)
        subscription = KafkaSubscription(options, topics, buffer=self._buffer)
        self._subscriptions.append(subscription)
        return subscription

    async def publish(self, messages: Sequence[Outgoing]) -> Sequence[BaseException | None]:
        if self._closed:
            raise IllegalTransition("closed", "publish")
        return await asyncio.to_thread(self._sender.send, messages)

    async def aclose(self) -> None:
        self._closed = True
        for subscription in self._subscriptions:
            await subscription.close()
        self._subscriptions.clear()
        await asyncio.to_thread(self._sender.close)
        self._admin = None

    async def retention_s(self, topic: str) -> float:
        """
        How long a message of *topic* can come again at the least; infinite for ever.

        A guard that forgets sooner may apply a replayed message twice.

        Raises:
            StoreUnavailable: the broker did not answer, or does not know the topic.
            StoreFailed: the broker does not let us know.
        """
        return await asyncio.to_thread(self._retention_s, topic)

    async def unsettled_since(self, group: str, topics: Collection[str]) -> None:
        """Nobody knows: whatever the topic retains may come again; see `retention_s`."""
        return

    async def settled_to(self, group: str, topics: Collection[str]) -> Mapping[Partition, int]:
        """What the group has committed; two requests."""
        return await asyncio.to_thread(self._settled_to, group, frozenset(topics))

    def _settled_to(self, group: str, topics: frozenset[str]) -> dict[Partition, int]:
        admin = self._administration()
        with at_the_border():
            known = admin.list_topics(timeout=self._wait_s).topics
            places = [
                TopicPartition(topic, number)
                for topic in topics & known.keys()
                for number in known[topic].partitions
            ]
            if not places:
                return {}
            asked = [ConsumerGroupTopicPartitions(group, places)]
            answers = admin.list_consumer_group_offsets(asked, request_timeout=self._wait_s)
            committed = answers[group].result().topic_partitions
        return {Partition(c.topic, c.partition): c.offset for c in committed if c.offset >= 0}

    async def trim(
        self, topics: Collection[str], *, before: datetime, unread: datetime, limit: int
    ) -> int:
        """Nothing: the broker removes what is old by itself."""
        return 0

    async def create(self, topic: str, *, partitions: int, replicas: int = -1) -> None:
        """
        Make *topic*, unless it is there; *replicas* -1 for the broker's default.

        It is served when this returns: a member that subscribes to it is not told that it is
        unknown.

        Raises:
            StoreUnavailable: the broker did not answer, or serves it not yet; it may have been
                made.
            StoreFailed: the broker refuses.
        """
        new = NewTopic(topic, partitions, replicas)
        await asyncio.to_thread(self._create, new)

    def _create(self, new: NewTopic) -> None:
        made = self._administration().create_topics([new], request_timeout=self._wait_s)
        with at_the_border():
            try:
                made[new.topic].result()
            except KafkaException as error:
                if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                    raise
            self._wait_until_served(new.topic)

    def _wait_until_served(self, topic: str) -> None:
        until = monotonic() + self._wait_s
        while not self._is_served(topic):
            if monotonic() > until:
                raise StoreUnavailable(f"topic {topic} was made and is not served yet")
            sleep(_SERVED_POLL_S)

    def _is_served(self, topic: str) -> bool:
        known = self._administration().list_topics(timeout=self._wait_s).topics.get(topic)
        partitions = known.partitions.values() if known else ()
        return bool(partitions) and all(one.leader >= 0 for one in partitions)

    def _administration(self) -> AdminClient:
        if self._admin is None:
            with at_the_border():
                self._admin = AdminClient(for_admin(self._bootstrap, self._options))
        return self._admin

    def _ask_for_brokers(self) -> None:
        admin = self._administration()
        try:
            with at_the_border():
                admin.list_topics(timeout=self._wait_s)
        except StoreUnavailable as error:  # librdkafka does not say where it looked
            raise StoreUnavailable(f"no Kafka at {self._bootstrap}: {error.reason}") from error

    def _retention_s(self, topic: str) -> float:
        resource = ConfigResource(ResourceType.TOPIC, topic)
        with at_the_border():
            asked = self._administration().describe_configs(
                [resource], request_timeout=self._wait_s
            )
            entries = asked[resource].result()
        if "delete" not in str(entries["cleanup.policy"].value):
            return math.inf  # compacted: the last message of a key stays
        milliseconds = int(entries["retention.ms"].value)
        return math.inf if milliseconds < 0 else milliseconds / 1000
