"""The event of any client's message object: confluent-kafka, aiokafka, a dict, plain bytes."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import msgspec

from onefold.core.envelope import Event
from onefold.core.wire import decode
from onefold.errors import InvalidEvent

__all__ = ["event_of"]

_BODIES = ("value", "body", "data")  # Kafka clients and our own; RabbitMQ; NATS
_MISSING = object()


def event_of(message: Any, *, received_at: datetime) -> Event:
    """
    The event that *message* carries, in any wire form.

    A message is an `Event`, its bytes or text, or something with a value and headers: as
    attributes (aiokafka), as methods (confluent-kafka) or as members of a mapping. A mapping
    without a value is the event's own JSON object. A value that the client has decoded from
    JSON already is taken as it is.

    Args:
        message: What the client handed out.
        received_at: Becomes `occurred_at` of an event that does not say when it happened.

    Raises:
        InvalidEvent: there is no event in it.
    """
    if isinstance(message, Event):
        return message
    if message is None or isinstance(message, bytes | bytearray | memoryview | str):
        return decode(_bytes(message), received_at=received_at)
    if isinstance(message, Mapping) and not any(name in message for name in ("value", "body")):
        return decode(_bytes(message), received_at=received_at)
    _refuse_errors(message)
    headers = _headers(_part(message, "headers", default=None))
    return decode(_bytes(_body(message)), headers, received_at=received_at)


def _part(message: Any, name: str, *, default: Any = _MISSING) -> Any:
    if isinstance(message, Mapping):
        return message.get(name, default)
    part = getattr(message, name, default)
    return part() if callable(part) else part


def _body(message: Any) -> Any:
    for name in _BODIES:
        part = _part(message, name)
        if part is not _MISSING:
            return part
    raise InvalidEvent(f"a {type(message).__name__} has no value", "value")


def _refuse_errors(message: Any) -> None:
    """confluent-kafka hands out errors as messages; such a one is no event."""
    error = _part(message, "error", default=None)
    if error is not None and not isinstance(message, Mapping):
        raise InvalidEvent(f"the client reports: {error}")


def _bytes(value: Any) -> bytes:
    if value is None:
        return b""
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")  # refused later, as no UTF-8
    if isinstance(value, bytes | bytearray | memoryview):
        return bytes(value)
    try:
        return msgspec.json.encode(value)
    except (TypeError, ValueError):
        raise InvalidEvent(f"a {type(value).__name__} is no event", "value") from None


def _headers(found: Any) -> list[tuple[str | bytes, str | bytes | None]]:
    if found is None:
        return []
    pairs: Iterable[Any] = found.items() if isinstance(found, Mapping) else found
    return [
        (name, value) for name, value in pairs if value is None or isinstance(value, str | bytes)
    ]
