"""librdkafka's properties: those that carry a promise are ours, the rest is the user's."""

import re
from collections.abc import Mapping
from typing import Any

from onefold.errors import InvalidSetting

Options = Mapping[str, str | int | float | bool]

# Each of these would, set otherwise, lose or reorder messages.
_CONSUMER = {
    "enable.auto.commit": False,  # only what was settled
    "enable.auto.offset.store": False,
    "auto.offset.reset": "earliest",  # `latest` drops what came before the first start (B21)
    "isolation.level": "read_committed",
}
_PRODUCER = {
    "acks": "all",
    "enable.idempotence": True,
    # A refused batch stops the producer before it sends what comes after the batch.
    "enable.gapless.guarantee": True,
    # Time is ours to watch: a message that librdkafka drops for its age leaves a gap.
    "message.timeout.ms": 0,
}
_OURS = frozenset({*_CONSUMER, *_PRODUCER, "group.id", "bootstrap.servers", "error_cb"})

_CONSUMER_DEFAULTS = {
    # A rebalance takes only the partitions that move. KIP-848 brokers: group.protocol=consumer.
    "partition.assignment.strategy": "cooperative-sticky",
    "queued.max.messages.kbytes": 16_384,  # bounds memory beside our own buffer
    "allow.auto.create.topics": True,  # if the broker allows it too
    "topic.metadata.refresh.interval.ms": 30_000,  # a topic made later is found within it
}
_PRODUCER_DEFAULTS = {
    "linger.ms": 1,  # a call sends its messages at once; so small a wait still fills batches
    "partitioner": "murmur2_random",  # Java's: a key has one partition, whoever sends
    "log_level": 2,  # failures are reported for each message, and by what is raised
}
_CONSUMER_ONLY = ("session.timeout.ms", "heartbeat.interval.ms", "group.", "max.poll.", "fetch.")


# One server: a protocol if any, a name or an address, a port if any.
_SERVER = re.compile(r"(?:\w+://)?(?:\[[\da-fA-F:.]+\]|[^\s:/,\[\]]+)(?::\d{1,5})?")


def servers(bootstrap: object) -> str:
    """
    The bootstrap servers, as librdkafka takes them.

    Raises:
        InvalidSetting: it would take them, and wait for ever for a broker that cannot be.
    """
    parts = bootstrap.split(",") if isinstance(bootstrap, str) else [""]
    if not all(_SERVER.fullmatch(part.strip()) for part in parts):
        raise InvalidSetting("kafka", f"expected host:port,host:port, and got {bootstrap!r}")
    return str(bootstrap)


def checked(options: Options) -> dict[str, Any]:
    """
    The user's properties.

    Raises:
        InvalidSetting: one of them would break a promise.
    """
    for name in options:
        if name in _OURS:
            raise InvalidSetting(f"kafka option {name}", "carries a promise and cannot be set")
    return dict(options)


def for_consumer(bootstrap: str, group: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The properties of one member of *group*."""
    if options.get("group.protocol") == "consumer":  # the broker assigns, and sets time-outs
        defaults = {k: v for k, v in _CONSUMER_DEFAULTS.items() if not k.startswith("partition.")}
    else:
        defaults = dict(_CONSUMER_DEFAULTS)
    return {
        **defaults,
        **options,
        **_CONSUMER,
        "bootstrap.servers": bootstrap,
        "group.id": group,
    }


def for_producer(bootstrap: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The properties of a producer."""
    common = {k: v for k, v in options.items() if not k.startswith(_CONSUMER_ONLY)}
    return {**_PRODUCER_DEFAULTS, **common, **_PRODUCER, "bootstrap.servers": bootstrap}


def for_admin(bootstrap: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The properties of an admin client."""
    common = {k: v for k, v in options.items() if not k.startswith(_CONSUMER_ONLY)}
    return {"log_level": 2, **common, "bootstrap.servers": bootstrap}
