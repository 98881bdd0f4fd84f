"""
Makes ids: time-ordered ones for new things, repeatable ones for things that have a name.

Pure: the instant and the random bytes are the caller's.
"""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Final
from uuid import UUID, uuid5

import msgspec

from onefold.errors import InvalidEvent

__all__ = ["NAMESPACE", "Random", "derived_id", "new_event_id", "uuid7"]

# uuid5(uuid.NAMESPACE_URL, "https://onefold.dev/ids"). Changing it changes every derived id.
NAMESPACE: Final = UUID("c41c3bec-9846-5cbb-9466-73323f7b3788")

# Gives that many unpredictable bytes: `secrets.token_bytes`, or a seeded source in tests.
Random = Callable[[int], bytes]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND: Final = timedelta(milliseconds=1)
_RANDOM_BYTES: Final = 10  # 74 random bits (RFC 9562, section 5.7) come out of 80


def uuid7(now: datetime, random: bytes) -> UUID:
    """
    The UUIDv7 of an instant and ten random bytes (RFC 9562, section 5.7).

    Ids of different milliseconds sort by time, as integers, bytes and text alike. Within
    one millisecond, and when the clock steps back, their order is random: never read an
    order of events out of ids.

    Args:
        now: Aware, 1970 or later; cut, not rounded, to the millisecond.
        random: Ten bytes, of which 74 bits are used.

    Raises:
        InvalidEvent: `now` is naive or before 1970, or `random` is not ten bytes.
    """
    if len(random) != _RANDOM_BYTES:
        raise InvalidEvent(f"{_RANDOM_BYTES} bytes are needed, not {len(random)}", "random")
    bits = int.from_bytes(random) >> 6
    rand_a, rand_b = bits >> 62, bits & ((1 << 62) - 1)
    return UUID(int=_unix_ms(now) << 80 | 0x7 << 76 | rand_a << 64 | 0b10 << 62 | rand_b)


def _unix_ms(now: datetime) -> int:
    if now.utcoffset() is None:
        raise InvalidEvent("an instant needs a time zone", "now")
    if now < _EPOCH:
        raise InvalidEvent("a UUIDv7 cannot hold an instant before 1970", "now")
    return (now - _EPOCH) // _MILLISECOND


def new_event_id(now: datetime, random: Random) -> UUID:
    """A fresh UUIDv7; `random` is asked once, for ten bytes. See `uuid7`."""
    return uuid7(now, random(_RANDOM_BYTES))


def derived_id(*parts: str) -> UUID:
    """
    The same id for the same parts, today and in every process (UUIDv5, RFC 9562, section 5.5).

    The name hashed is the JSON array of the parts, so ("a", "bc") and ("ab", "c") differ.
    It is no secret: who knows the parts knows the id.

    Raises:
        InvalidEvent: A part holds a lone surrogate, which UTF-8 cannot carry.
    """
    try:
        name = msgspec.json.encode(parts).decode()
    except UnicodeEncodeError:
        raise InvalidEvent("a lone surrogate is not text", "parts") from None
    return uuid5(NAMESPACE, name)
