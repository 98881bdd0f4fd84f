"""
Where a trace context stands, and how it is handed on. Pure.

W3C Trace Context travels as the headers `traceparent` and `tracestate`, and in an event as
CloudEvents' distributed-tracing extension: attributes of the same names, here in `extra`.
It is handed on unchanged: whoever makes spans of its own reads it from the transaction.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import structs

from onefold.core.envelope import Event

PARENT: Final = "traceparent"
STATE: Final = "tracestate"

# Version 00, and later ones by their first four fields (W3C Trace Context, 3.2.2 and 4).
_PARENT: Final = re.compile(
    "(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(?:-.*)?"
)


def trace_of(event: Event | None, headers: Iterable[tuple[str, bytes]] = ()) -> dict[str, str]:
    """
    The trace context of a message: `traceparent`, and `tracestate` if there is one.

    The message's own headers win over the event's attributes, which an outbox may have kept
    for a while. Empty when there is none, or none that is well-formed.
    """
    found = _texts(headers)
    if PARENT not in found and event is not None:
        found = {n: v for n in (PARENT, STATE) if isinstance(v := event.extra.get(n), str)}
    if not _PARENT.fullmatch(found.get(PARENT, "")):
        return {}
    return found


def ids_of(trace: Mapping[str, str]) -> dict[str, str]:
    """`trace_id` and `span_id`, as logs name them."""
    match = _PARENT.fullmatch(trace.get(PARENT, ""))
    return {"trace_id": match[1], "span_id": match[2]} if match else {}


def traced(event: Event, trace: Mapping[str, str]) -> Event:
    """*event* with that trace context; as it was when there is none."""
    return structs.replace(event, extra={**event.extra, **trace}) if trace else event


def _texts(headers: Iterable[tuple[str, bytes]]) -> dict[str, str]:
    found = {}
    for name, value in headers:
        if name.lower() in {PARENT, STATE} and value.isascii() and len(value) <= 512:
            found[name.lower()] = value.decode()
    return found
