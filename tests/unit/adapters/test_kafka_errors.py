"""No error of librdkafka passes the border, and no promise can be switched off."""

import pickle

import pytest
from confluent_kafka import KafkaError, KafkaException

from onefold.adapters.kafka.errors import at_the_border, translate
from onefold.adapters.kafka.options import for_consumer, for_producer
from onefold.adapters.kafka.transport import KafkaTransport
from onefold.errors import InvalidSetting, OnefoldError, StoreFailed, StoreUnavailable, TooLarge

CODES = sorted(
    {
        value
        for name in dir(KafkaError)
        if name.lstrip("_").isupper() and isinstance(value := getattr(KafkaError, name), int)
    }
)


@pytest.mark.parametrize("code", CODES)
def test_every_code_has_a_verdict(code: int) -> None:
    """Whatever librdkafka says comes out as one of our errors, which survives pickling."""
    error = translate(KafkaError(code))

    assert isinstance(error, OnefoldError)
    assert str(pickle.loads(pickle.dumps(error))) == str(error)


def test_all_codes_were_walked() -> None:
    """The walk above is not empty by mistake."""
    assert len(CODES) > 150


@pytest.mark.parametrize(
    ("code", "verdict"),
    [
        (KafkaError._ALL_BROKERS_DOWN, StoreUnavailable),
        (KafkaError._MSG_TIMED_OUT, StoreUnavailable),
        (KafkaError.NOT_LEADER_FOR_PARTITION, StoreUnavailable),
        (KafkaError.NOT_ENOUGH_REPLICAS, StoreUnavailable),
        (KafkaError.COORDINATOR_LOAD_IN_PROGRESS, StoreUnavailable),
        (KafkaError.REBALANCE_IN_PROGRESS, StoreUnavailable),
        (KafkaError.UNKNOWN_TOPIC_OR_PART, StoreUnavailable),
        (KafkaError.MSG_SIZE_TOO_LARGE, TooLarge),
        (KafkaError.TOPIC_AUTHORIZATION_FAILED, StoreFailed),
        (KafkaError.SASL_AUTHENTICATION_FAILED, StoreFailed),
        (KafkaError._SSL, StoreFailed),
        (KafkaError.TOPIC_EXCEPTION, StoreFailed),
    ],
)
def test_verdicts(code: int, verdict: type[OnefoldError]) -> None:
    """What time mends is told from what a person must."""
    assert type(translate(KafkaError(code))) is verdict


def test_the_border_translates() -> None:
    """What librdkafka raises becomes ours, with its own as the cause."""
    with pytest.raises(StoreUnavailable) as caught, at_the_border():
        raise KafkaException(KafkaError(KafkaError._TRANSPORT))

    assert isinstance(caught.value.__cause__, KafkaException)


@pytest.mark.parametrize(
    "name",
    ["enable.auto.commit", "auto.offset.reset", "acks", "enable.idempotence", "group.id"],
)
def test_promises_cannot_be_switched_off(name: str) -> None:
    """An option that would lose or reorder messages is refused by its name."""
    with pytest.raises(InvalidSetting, match=name):
        KafkaTransport("localhost:9092", options={name: "x"})


def test_options_reach_those_they_concern() -> None:
    """A producer does not hear of sessions; the newer protocol not of assignors."""
    options = {"session.timeout.ms": 1000, "security.protocol": "ssl"}

    assert "session.timeout.ms" not in for_producer("b", options)
    assert for_producer("b", options)["security.protocol"] == "ssl"
    assert for_consumer("b", "g", options)["session.timeout.ms"] == 1000
    newer = for_consumer("b", "g", {"group.protocol": "consumer"})
    assert "partition.assignment.strategy" not in newer
