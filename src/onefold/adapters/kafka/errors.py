"""librdkafka's errors become ours at this border; a test walks every code it knows."""

from collections.abc import Iterator
from contextlib import contextmanager

from confluent_kafka import KafkaError, KafkaException

from onefold.errors import OnefoldError, StoreFailed, StoreUnavailable, TooLarge

# What time mends, although librdkafka does not call it retriable: it retries these inside
# and gives them to us only when it has given up for now.
_UNAVAILABLE = frozenset(
    {
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._TRANSPORT,
        KafkaError._RESOLVE,
        KafkaError._TIMED_OUT,
        KafkaError._TIMED_OUT_QUEUE,
        KafkaError._MSG_TIMED_OUT,
        KafkaError._PURGE_QUEUE,
        KafkaError._PURGE_INFLIGHT,
        KafkaError._QUEUE_FULL,
        KafkaError._DESTROY,
        KafkaError._DESTROY_BROKER,
        KafkaError._WAIT_COORD,
        KafkaError._WAIT_CACHE,
        KafkaError._MAX_POLL_EXCEEDED,
        KafkaError._GAPLESS_GUARANTEE,  # of our producer, not of the broker: a new one may
        KafkaError._UNKNOWN_TOPIC,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_BROKER,
        KafkaError.UNKNOWN_TOPIC_OR_PART,  # it may be made later
        KafkaError.BROKER_NOT_AVAILABLE,
        KafkaError.REPLICA_NOT_AVAILABLE,
        KafkaError.STALE_CTRL_EPOCH,
        KafkaError.THROTTLING_QUOTA_EXCEEDED,
    }
)

# The group has gone on to another generation, and this member has not followed yet. Whether
# it loses the partition is not said by these: a cooperative rebalance may leave it.
REBALANCING = frozenset(
    {
        KafkaError.REBALANCE_IN_PROGRESS,
        KafkaError.ILLEGAL_GENERATION,
        KafkaError.UNKNOWN_MEMBER_ID,
        KafkaError.STALE_MEMBER_EPOCH,
        KafkaError.FENCED_MEMBER_EPOCH,
        KafkaError._ASSIGNMENT_LOST,
    }
)

# Codes of the protocol that Kafka's own table marks as retriable (its protocol guide,
# "Error Codes"); librdkafka sets the flag only on errors of producing and transactions.
_RETRIABLE = frozenset(
    {2, 5, 6, 7, 8, 9, 13, 14, 15, 16, 19, 20, 41, 56, 70, 71, 72, 74, 75, 77, 78}
)

_TOO_LARGE = frozenset({KafkaError.MSG_SIZE_TOO_LARGE, KafkaError.INVALID_MSG_SIZE})


def translate(error: KafkaError, *, limit_bytes: int = 0) -> OnefoldError:
    """
    Our error for librdkafka's.

    Fatal ones come first: librdkafka says of such a client that it will never serve again.
    """
    code = error.code()
    reason = f"{error.name()}: {error.str()}"
    if code == KafkaError.UNKNOWN_TOPIC_OR_PART:
        reason += "; make the topic, or let the broker make topics by itself"
    if code in _TOO_LARGE:
        return TooLarge("the message", limit_bytes)
    if error.fatal() and code not in _UNAVAILABLE:
        return StoreFailed(reason)
    if error.retriable() or code in _UNAVAILABLE or code in REBALANCING or code in _RETRIABLE:
        return StoreUnavailable(reason)
    return StoreFailed(reason)


@contextmanager
def at_the_border() -> Iterator[None]:
    """Let no error of librdkafka pass; errors of the block's own code pass unchanged."""
    try:
        yield
    except KafkaException as error:
        raise translate(error.args[0]) from error
