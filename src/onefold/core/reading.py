"""From the fields that a wire form found to an event: what both forms share."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final

import msgspec

from onefold.core.envelope import Event
from onefold.core.identity import content, content_id, supplied_id
from onefold.errors import InvalidEvent

__all__ = ["make_event"]

_DIGITS: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_ROOT: Final = re.compile(r"\w+", re.ASCII)
_UNNAMED: Final = "unnamed"  # stands in for the id while it is derived from the content


def make_event(
    fields: dict[str, Any],
    *,
    names: Mapping[str, str],
    header_id: str | None,
    received_at: datetime | None,
) -> Event:
    """
    The event of these fields, None standing for absent.

    Args:
        fields: By their names in `Event`: `id`, `occurred_at` and `version` as on the wire.
        names: From names in `Event` to those of the wire form, for errors.
        header_id: The id that a header gave.
        received_at: Stands in for a missing instant; never hashed into an id.

    Raises:
        InvalidEvent: A field is missing or wrong, under its name on the wire.
    """
    try:
        return _make(fields, header_id, received_at)
    except InvalidEvent as wrong:
        raise InvalidEvent(wrong.reason, _on_the_wire(wrong.field or "", names)) from None


def _on_the_wire(path: str, names: Mapping[str, str]) -> str:
    return _ROOT.sub(lambda root: names.get(root[0], root[0]), path, count=1).lstrip(".")


def _make(fields: dict[str, Any], header_id: str | None, received_at: datetime | None) -> Event:
    for name in ("type", "source"):
        if fields[name] is None:
            raise InvalidEvent("missing", name)
    sent_id = _read_id(fields["id"], header_id)
    sent_at = _read_instant(fields["occurred_at"])
    fields["id"] = _UNNAMED if sent_id is None else sent_id
    fields["occurred_at"] = _either(sent_at, received_at)
    fields["version"] = _read_version(fields["version"])
    event = Event(**fields)
    return _named(event, timed=sent_at is not None) if sent_id is None else event


def _read_id(value: object, header_id: str | None) -> str | None:
    if value is not None and not isinstance(value, str):
        raise InvalidEvent(f"text is expected, not {type(value).__name__}", "id")
    return value if header_id is None else supplied_id(value, header_id)


def _read_instant(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        return msgspec.convert(value, datetime)
    except msgspec.ValidationError:
        raise InvalidEvent("an instant as in RFC 3339 is expected", "occurred_at") from None


def _either(sent_at: datetime | None, received_at: datetime | None) -> datetime:
    instant = sent_at or received_at
    if instant is None:
        raise InvalidEvent("missing, and the arrival is not known", "occurred_at")
    return instant


def _read_version(value: object) -> object:
    """A whole number however it is spelled; what is none is for `Event` to refuse."""
    if value is None:
        return 1
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return int(value) if isinstance(value, str) and _DIGITS.fullmatch(value) else value


def _named(event: Event, *, timed: bool) -> Event:
    said = content(
        type=event.type,
        version=event.version,
        source=event.source,
        key=event.key,
        occurred_at=event.occurred_at if timed else None,
        data=event.data,
    )
    return msgspec.structs.replace(event, id=content_id(said))
