"""The envelope: what every event carries, whichever way it came. Pure and checked whole."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final, Self

from msgspec import Struct, field
from msgspec.structs import force_setattr

from onefold.core import identity
from onefold.core.content import check_content
from onefold.core.ids import Random, new_event_id
from onefold.core.json_value import refuse
from onefold.errors import InvalidEvent

__all__ = ["MAX_ATTRIBUTE_CHARS", "MAX_VERSION", "Event", "is_attribute_text"]

MAX_ATTRIBUTE_CHARS: Final = 512  # 2 KiB in UTF-8: fits an index entry of every database we use
MAX_VERSION: Final = 2**31 - 1  # CloudEvents 1.0.2, "Type System": integers have 32 bits

# CloudEvents 1.0.2, "Type System": what a string may not hold.
_FORBIDDEN: Final = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(f"{chr(plane << 16 | 0xFFFE)}{chr(plane << 16 | 0xFFFF)}" for plane in range(17))
    + "]"
)
_OPTIONAL: Final = frozenset({"key", "correlation_id", "causation_id"})
_TEXTS: Final = ("id", "type", "source", *sorted(_OPTIONAL))
_texts: Final = attrgetter(*_TEXTS)
_NIL: Final = "00000000-0000-0000-0000-000000000000"


def is_attribute_text(value: str) -> bool:
    """Whether a CloudEvents attribute may hold `value`, whatever its length."""
    if value.isascii():
        return value != "" and value.isprintable()
    return _FORBIDDEN.search(value) is None


class Event(Struct, frozen=True, kw_only=True, gc=False):
    """
    Something that happened, told once. Every field is checked when it is made, and every
    event that could be made can be written in every wire form.

    The fields cannot be replaced; `data`, `metadata` and `extra` are read-only by promise.

    Attributes:
        id: Given by the producer, kept as it came; equal ids are compared by `identity`.
        type: What happened, in the past tense: `session.ended`.
        version: Of the data's shape for this type, 1 to 2**31 - 1.
        source: Who says so: a service name or a URI reference (CloudEvents `source`).
        key: What it is about (CloudEvents `subject`); events of one key keep their order.
        occurred_at: Aware, and turned to UTC; microseconds.
        correlation_id: The same for everything one outside cause set off.
        causation_id: The id of the event that led to this one.
        data: A JSON value; for other media types see `onefold.core.content`.
        metadata: A JSON object for tracing and routing; never part of the content.
        extra: Fields of the wire that have no meaning here, kept and written again.

    The text fields, `data` and `extra` included, are refused rather than mended: text
    attributes have 1 to 512 characters and none that CloudEvents forbids.

    Raises:
        InvalidEvent: With the name of the field that is wrong.
    """

    id: str
    type: str
    version: int = 1
    source: str
    key: str | None = None
    occurred_at: datetime
    correlation_id: str | None = None
    causation_id: str | None = None
    data: Any = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    extra: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, value in zip(_TEXTS, _texts(self), strict=True):
            if value is None and name in _OPTIONAL:
                continue
            # What nearly all are, short printable ASCII, is spared the full check.
            if not (
                type(value) is str
                and 0 < len(value) <= MAX_ATTRIBUTE_CHARS
                and value.isascii()
                and value.isprintable()
            ):
                self._check_text(name, value)
        self._check_id()
        self._check_version()
        self._check_instant()
        self._check_content()

    @classmethod
    def new(
        cls,
        type: str,  # noqa: A002 (the field's name)
        data: Any,
        *,
        source: str,
        now: datetime,
        random: Random,
        key: str | None = None,
        version: int = 1,
        correlation_id: str | None = None,
        causation_id: str | None = None,
        metadata: Mapping[str, Any] | None = None,
    ) -> Self:
        """
        An event that happens `now`, under a new time-ordered id.

        Args:
            random: Asked once for ten bytes; `secrets.token_bytes` outside of tests.

        Raises:
            InvalidEvent: A field is wrong.
        """
        return cls(
            id=str(new_event_id(now, random)),
            type=type,
            version=version,
            source=source,
            key=key,
            occurred_at=now,
            correlation_id=correlation_id,
            causation_id=causation_id,
            data=data,
            metadata={} if metadata is None else metadata,
        )

    def caused(
        self,
        type: str,  # noqa: A002 (the field's name)
        data: Any,
        *,
        source: str,
        now: datetime,
        random: Random,
        key: str | None = None,
        version: int = 1,
    ) -> Self:
        """
        A new event that this one led to: its causation is this event's id, its correlation
        the same as here, or this event's id when the chain starts here.
        """
        return self.new(
            type,
            data,
            source=source,
            now=now,
            random=random,
            key=key,
            version=version,
            correlation_id=self.correlation_id or self.id,
            causation_id=self.id,
        )

    @property
    def identity(self) -> str:
        """What a consumer claims: a UUID as lower-case text, see `onefold.core.identity`."""
        return identity.event_identity(self.id, source=self.source)

    def fingerprint(self) -> bytes:
        """
        32 bytes that tell whether two events of one identity say the same.

        The instant is left out: a message without one is given that of its arrival, and a
        redelivery must not look like a conflict.
        """
        return identity.fingerprint_of_checked(
            self.data, self.key, self.source, self.type, self.version
        )

    def _check_text(self, name: str, value: object) -> None:
        if not isinstance(value, str):
            raise InvalidEvent(f"text is expected, not {type(value).__name__}", name)
        if not 0 < len(value) <= MAX_ATTRIBUTE_CHARS:
            raise InvalidEvent(f"1 to {MAX_ATTRIBUTE_CHARS} characters, not {len(value)}", name)
        if not is_attribute_text(value):
            raise InvalidEvent("a control character, noncharacter or lone surrogate", name)
        if type(value) is not str:  # an enum's member: its text is meant
            force_setattr(self, name, str.__str__(value))

    def _check_id(self) -> None:
        # An unset Guid: were it an id, all events of a careless producer would be one event.
        if _NIL in self.id and identity.canonical_id(self.id) == _NIL:
            raise InvalidEvent("the nil UUID names no event", "id")

    def _check_version(self) -> None:
        if type(self.version) is not int:
            kind = type(self.version).__name__
            raise InvalidEvent(f"an integer is expected, not {kind}", "version")
        if not 1 <= self.version <= MAX_VERSION:
            raise InvalidEvent(f"1 to {MAX_VERSION}", "version")

    def _check_instant(self) -> None:
        if not isinstance(self.occurred_at, datetime):
            kind = type(self.occurred_at).__name__
            raise InvalidEvent(f"an instant is expected, not {kind}", "occurred_at")
        if self.occurred_at.utcoffset() is None:
            raise InvalidEvent("an instant needs a time zone", "occurred_at")
        if self.occurred_at.tzinfo is not UTC:
            force_setattr(self, "occurred_at", _in_utc(self.occurred_at))

    def _check_content(self) -> None:
        refuse(self.data, "data")
        for name, value in (("metadata", self.metadata), ("extra", self.extra)):
            if type(value) is not dict:
                force_setattr(self, name, value := _as_dict(value, name))
            if value:
                refuse(value, name)
        if self.extra:
            check_content(self.data, self.extra)


def _as_dict(value: object, name: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidEvent(f"an object is expected, not {type(value).__name__}", name)
    return dict(value)


def _in_utc(instant: datetime) -> datetime:
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise InvalidEvent("outside the years 1 to 9999 in UTC", "occurred_at") from None
