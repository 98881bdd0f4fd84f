"""Where deliveries go: one outside destination, and what it answered."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, Protocol

from msgspec import Struct


class OutcomeKind(StrEnum):
    """What an attempt came to."""

    DELIVERED = "delivered"
    RETRY = "retry"  # may succeed later, unchanged
    WAITING = "waiting"  # nothing failed: it is looked for again, after `retry_after`
    PERMANENT = "permanent"  # will never succeed as it is
    HELD = "held"  # a person or a setting must decide first


class DestinationEffect(StrEnum):
    """What an answer means for the destination as a whole."""

    NONE = ""
    PAUSE = "pause"  # it refuses our credentials
    DISABLE = "disable"  # it is gone for good
    REST = "rest"  # it is busy: nothing goes there before this delivery's next attempt


@dataclass(frozen=True)
class SendOutcome:
    """
    How one attempt ended.

    Attributes:
        kind: What follows for the delivery.
        reason: A stable code of a-z, 0-9 and _, at most 40; never a text of the receiver's, for
            it ends in logs and metrics. Any other is taken for `unnamed`.
        status: The receiver's status, where it has one.
        retry_after: How long the receiver asked to be left alone.
        remote_ref: The receiver's own name for what it got. Of one that is WAITING: it is at
            this delivery, and nothing else is sent there until that has ended.
        toll: What follows for the destination.
    """

    kind: OutcomeKind
    reason: str
    status: int | None = None
    retry_after: timedelta | None = None
    remote_ref: str | None = None
    toll: DestinationEffect = DestinationEffect.NONE


class Parcel(Struct, frozen=True, kw_only=True, gc=False):
    """
    What is sent: the same id and the same bytes at every attempt.

    Attributes:
        message_id: The delivery's id, by which a receiver discards a repeat.
        body: JSON in UTF-8, of one of the models in `core.published`.
        occurred_at: When the record became final; names a file's day.
        attempt: From 1.
        remote_ref: Of the last attempt, if that was WAITING under one and nothing was sent to
            the destination since: the receiver has it, and is to be asked, not sent to.
    """

    message_id: str
    body: bytes
    occurred_at: datetime
    attempt: int
    remote_ref: str | None = None


class Sink(Protocol):
    """
    One configured destination. Made when its configuration is right, else not at all.

    `send` must bear the same parcel again: a courier may die after the receiver has it.
    """

    async def send(self, parcel: Parcel, *, now: datetime) -> SendOutcome:
        """
        Deliver *parcel*, unless it is no payload of `core.published`.

        Takes at most its own timeout, which is shorter than the courier's lease. What the
        receiver did is in the outcome; nothing is raised for it.
        """
        ...

    async def aclose(self) -> None:
        """Let go of connections. Safe twice."""
        ...


class SinkOfMany(Sink, Protocol):
    """
    A sink that also takes many parcels in one call. Optional, and declared by `most_at_once`.

    Attributes:
        most_at_once: Parcels of one call, at most; 1 or less is as if it were not declared.
    """

    most_at_once: int

    async def send_many(self, parcels: Sequence[Parcel], *, now: datetime) -> Sequence[SendOutcome]:
        """
        Deliver each of *parcels*: as many outcomes, in their order, as if each came alone.

        What is wrong with one is its own outcome and changes nothing for the others; nothing
        is raised. Takes at most the timeout of one `send`. Called with two parcels or more, no
        two of one id. First attempts only come so: what this call did not settle, because it
        broke or its process died, comes alone the next time, by `send`, under the same id.
        """
        ...


def most_at_once(sink: Sink) -> int:
    """How many parcels *sink* takes in one call; 1 where it declares nothing."""
    return max(1, getattr(sink, "most_at_once", 1))


def one_at_a_time(sink: Sink) -> bool:
    """
    Whether *sink* declares, by an attribute of this name, that its receiver takes one at a time.

    Its destination has a concurrency of 1, whatever was asked for: so what it tells a courier of
    the last one that it took is of the one that this courier sent.
    """
    return bool(getattr(sink, "one_at_a_time", False))


class SinkFactory(Protocol):
    """What an entry point of the group `onefold.sinks` names."""

    def __call__(self, config: Mapping[str, Any], secrets: Mapping[str, Any]) -> Sink:
        """
        The sink that *config* and *secrets* describe; nothing is connected yet.

        A factory that also takes a keyword `folder` is given the path below which the
        operator lets sinks write files, and must write nowhere else.

        Raises:
            InvalidInput: what they say cannot work; each wrong field is named, no value is.
        """
        ...
