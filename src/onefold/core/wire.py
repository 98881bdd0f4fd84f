"""
Event ↔ bytes: the native form and CloudEvents 1.0.2, structured and binary.

Every event can be written in every form, and writing the same event twice gives the same
bytes; golden files in `tests/wire/golden` are the specification of both. What one form
writes, `decode` reads back as an equal event, and so through any chain of forms. The one
exception: an extra field `datacontenttype: application/json` says only what is implied and
is lost in CloudEvents. What CloudEvents itself can say and an event cannot is listed in
`onefold.core.cloudevents`.

Whatever `decode` is given, it returns an event or raises `InvalidEvent`.
"""

from datetime import datetime

from onefold.core.cloudevents import (
    encode_binary,
    encode_structured,
    read_binary,
    read_structured,
)
from onefold.core.envelope import Event
from onefold.core.headers import HeaderPairs, read_headers
from onefold.core.json_value import decode_object
from onefold.core.native import encode_native, read_native, read_plain
from onefold.errors import InvalidEvent

__all__ = ["decode", "encode_binary", "encode_native", "encode_structured"]

_STRUCTURED = frozenset({"application/cloudevents+json", "application/cloudevents"})


def decode(body: bytes, headers: HeaderPairs = (), *, received_at: datetime | None = None) -> Event:
    """
    The event of a message, in whichever form it came.

    The form is told, in this order, by: a content type `application/cloudevents+json`
    (structured); a header `ce_specversion` or `ce_type`, or with `ce-` (binary); a member
    `specversion` without a member `event_type` (structured); else it is native.

    The id is that of the body, or of a header `event_id` or `ce_id` when the body has none.
    Without any it is derived from the content, so the same bytes always have the same id:
    see `onefold.core.identity.content_id` for what is hashed, and for what merges.

    Args:
        body: The message's value; empty for a Kafka tombstone in binary mode.
        headers: A mapping, or pairs of name and value, text or UTF-8 bytes; names in any case.
        received_at: Aware; becomes `occurred_at` of an event that does not say when it
            happened. Without it such an event is refused.

    Raises:
        InvalidEvent: The message is no event; the field is named as on the wire.
    """
    known = read_headers(headers)
    if _is_structured(known.content_type):
        header_id = known.event_id or known.attributes.get("id")
        return read_structured(decode_object(body, "body"), header_id, received_at)
    if known.attributes.keys() & {"specversion", "type"}:
        return read_binary(body, known, received_at)
    header_id = known.event_id or known.attributes.get("id")
    if header_id is None and (event := read_plain(body)) is not None:
        return event
    members = decode_object(body, "body")
    if "specversion" in members and "event_type" not in members:
        return read_structured(members, header_id, received_at)
    return read_native(members, header_id, received_at)


def _is_structured(content_type: str | None) -> bool:
    if content_type is None:
        return False
    essence = content_type.partition(";")[0].strip().lower()
    if essence in _STRUCTURED:
        return True
    if essence.startswith("application/cloudevents"):
        raise InvalidEvent(f"no events are read from {essence}", "content-type")
    return False
