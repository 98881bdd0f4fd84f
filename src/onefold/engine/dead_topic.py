"""A dead letter as an event, for consumers that ask for a `.dlq` topic. Pure."""

from base64 import b64encode
from typing import Final

from onefold.core.content import BASE64, ENCODING, OPAQUE, TYPE
from onefold.core.envelope import Event, is_attribute_text
from onefold.core.ids import derived_id
from onefold.ports.ledger import DeadLetter

SUFFIX: Final = ".dlq"


def dead_event(letter: DeadLetter) -> Event:
    """
    *letter* for the topic `<its topic>.dlq`: the raw bytes, and why in the headers.

    In the binary form, the default of `Routes`, the message's value is byte for byte what
    was received (empty for a tombstone), and the facts are `ce_dead…` headers. The id
    follows from consumer and place: parking again publishes nothing new.
    """
    topic, number = letter.partition
    facts = {
        "deadconsumer": letter.consumer,
        "deadtopic": topic,
        "deadpartition": number,
        "deadposition": str(letter.position),
        "deadreason": letter.reason,
        "deaddetail": letter.detail,
        "deadattempts": letter.attempts,
        "deadeventid": letter.event_id,
        "deadeventtype": letter.event_type,
        "deadheaders": [[name, value.hex()] for name, value in letter.headers],
    }
    return Event(
        id=str(derived_id("dead event", letter.consumer, topic, str(number), str(letter.position))),
        type=topic + SUFFIX,
        source=letter.consumer,
        key=_key(letter.key),
        occurred_at=letter.parked_at,
        data=b64encode(letter.value or b"").decode(),
        extra={TYPE: OPAQUE, ENCODING: BASE64} | {n: v for n, v in facts.items() if v is not None},
    )


def _key(raw: bytes | None) -> str | None:
    """The message's key where an event can have it: what orders letters as it did messages."""
    if raw is None:
        return None
    try:
        key = raw.decode()
    except UnicodeDecodeError:
        key = raw.hex()
    return key if 0 < len(key) <= 512 and is_attribute_text(key) else raw.hex()[:512] or None
