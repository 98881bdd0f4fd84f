r"""
Which id counts, and when two contents are the same. No clock, no storage here.

**Identity.** A consumer applies an event once per *identity*, a UUID in lower-case text:

- an id that is a UUID, however spelled (`{8C4D…}`, `urn:uuid:…`, upper case), is its own
  identity: UUIDs are unique across sources (RFC 9562, section 6.8);
- any other id is unique within its source only (CloudEvents 1.0.2, "id": source + id), so
  its identity is the UUIDv5 of both. "17" of one shop never hides "17" of another;
- an event without an id gets one from its content: see `content_id`.

**Canonical JSON.** Two values are the same when, and only when, their canonical bytes are:

- members sorted by code point of their names, no spaces, UTF-8, `\uXXXX` only where JSON
  demands an escape; strings are never Unicode-normalised;
- numbers by value: 1, 1.0 and 1e0 are the same, and -0 is 0. Whole numbers are written as
  digits, exactly and of any size; others as the shortest text that reads back as the same
  double. 1e16 is 10000000000000000 and 1e22 is 10 to the 22nd, but the double next to 10 to
  the 23rd is not that integer, so 1e23 and a 1 with 23 zeros differ;
- NaN and infinities are refused.

This is RFC 8785 (JCS) but for three points. JCS sorts by UTF-16 code unit, which differs for
names beyond U+FFFF; JCS spells exponents `1e+30`, which we write as digits, and `1.5e-7` as
we do; and JCS makes every number a double, which would merge 2**53 and 2**53 + 1, two ids
that some producer really sent.

Limit: what a double cannot hold is gone when JSON is read, before anything is hashed; a
producer that needs more sends digits alone, or a string.
"""

import re
from collections.abc import Callable, Mapping
from datetime import datetime
from hashlib import sha256
from types import NoneType
from typing import Any, Final

import msgspec

from onefold.core.ids import derived_id
from onefold.core.json_value import MAX_DEPTH, refuse
from onefold.errors import InvalidEvent

__all__ = [
    "canonical_id",
    "canonical_json",
    "content",
    "content_id",
    "event_identity",
    "fingerprint",
    "fingerprint_of_checked",
    "supplied_id",
]

_HEX: Final = "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_AS_IT_COUNTS: Final = re.compile(_HEX).fullmatch
_UUID: Final = re.compile(rf"({_HEX})|\{{({_HEX})\}}|urn:uuid:({_HEX})", re.IGNORECASE | re.ASCII)


def canonical_id(id: str) -> str:  # noqa: A002 (the field's name)
    """
    The one spelling of an id: a UUID in lower case with hyphens, any other text unchanged.

    32 hexadecimal digits without hyphens are *not* taken for a UUID: they may as well be a
    digest, which two sources can share.
    """
    match = _UUID.fullmatch(id)
    return match[match.lastindex or 0].lower() if match else id


def event_identity(id: str, *, source: str) -> str:  # noqa: A002 (the field's name)
    """
    The identity of a supplied id: a UUID, lower case with hyphens, 36 characters.

    The same for every spelling of the id and every way it travelled; unchanged by a
    republish. A non-UUID id counts within its source only.
    """
    if _AS_IT_COUNTS(id):  # nearly all do; half the cost
        return id
    match = _UUID.fullmatch(id)
    if match:
        return match[match.lastindex or 0].lower()
    return str(derived_id("event", source, id))


def supplied_id(*candidates: str | None) -> str | None:
    """
    The id that was sent, verbatim as in the first place that has one; None without any.

    Raises:
        InvalidEvent: Two places name different ids: which event it is cannot be known, and
            guessing would either repeat it or hide another.
    """
    ids = [id_ for id_ in candidates if id_ is not None]
    if len({canonical_id(id_) for id_ in ids}) > 1:
        raise InvalidEvent("header and body name different events", "id")
    return ids[0] if ids else None


def content(
    *,
    type: str,  # noqa: A002 (the field's name)
    version: int,
    source: str,
    key: str | None,
    occurred_at: datetime | None,
    data: Any,
) -> dict[str, Any]:
    """
    What an event says, apart from how it travelled: the value that is hashed.

    Left out: id, correlation and causation, metadata and extra fields. Brokers, tracing and
    relays rewrite these on the way, and a redelivery must still be recognised.

    Args:
        occurred_at: Aware and in UTC; None when the sender did not say.
    """
    time = None if occurred_at is None else msgspec.to_builtins(occurred_at)
    return {
        "type": type,
        "version": version,
        "source": source,
        "key": key,
        "occurred_at": time,
        "data": data,
    }


def content_id(said: Mapping[str, Any]) -> str:
    """
    The id of an event that came without one: a UUIDv5 over the fingerprint of its `content`.

    The same bytes delivered again get the same id, and so does the same event written with
    other spacing, member order, number spelling, time zone or wire form.

    Limit: two different events that say the same at the same instant get the same id, and
    the second is taken for a repetition. Only an id from the producer tells them apart.
    """
    return str(derived_id("content", fingerprint(said).hex()))


def fingerprint(value: Any) -> bytes:
    """
    SHA-256 over `canonical_json`: 32 bytes that differ when the values do.

    Raises:
        InvalidEvent: As `canonical_json`.
    """
    return sha256(canonical_json(value)).digest()


def fingerprint_of_checked(
    data: Any,
    key: str | None,
    source: str,
    type: str,  # noqa: A002 (the field's name)
    version: int,
) -> bytes:
    """As `fingerprint` of the `content` without an instant, for fields that were checked."""
    said = _Content(_plain(data), key, None, source, type, version)
    return sha256(_ENCODER.encode(said)).digest()


class _Content(msgspec.Struct, gc=False):
    """`content`, its fields in the order in which `canonical_json` writes them."""

    data: Any
    key: str | None
    occurred_at: None
    source: str
    type: str
    version: int


def canonical_json(value: Any) -> bytes:
    """
    The one spelling of a JSON value, as the module docstring states; pinned by golden files.

    Raises:
        InvalidEvent: `value` is no JSON value, see `onefold.core.json_value`.
    """
    refuse(value, "value", max_depth=MAX_DEPTH + 1)  # an event's content around its data
    return _ENCODER.encode(_plain(value))


def _plain(value: Any) -> Any:
    rule = _RULES.get(type(value))
    return value if rule is None else rule(value)


def _number(value: float) -> float | int:
    return int(value) if value.is_integer() else value


def _array(items: list[Any]) -> list[Any]:
    return items if _AS_THEY_ARE.issuperset(map(type, items)) else [_plain(i) for i in items]


def _object(members: dict[str, Any]) -> dict[str, Any]:
    if _AS_THEY_ARE.issuperset(map(type, members.values())):
        return members
    return {name: _plain(item) for name, item in members.items()}


_ENCODER: Final = msgspec.json.Encoder(order="deterministic")
_AS_THEY_ARE: Final = frozenset({NoneType, bool, int, str})

_RULES: Final[Mapping[type, Callable[[Any], Any]]] = {
    float: _number,
    list: _array,
    dict: _object,
}
