"""
CloudEvents 1.0.2 (specversion "1.0"): JSON structured mode, and binary mode.

| Event            | attribute         |                                                   |
|------------------|-------------------|---------------------------------------------------|
| `id` … `source`  | the same          | required, but for `id`: see `identity.content_id` |
| `key`            | `subject`         |                                                   |
| `occurred_at`    | `time`            |                                                   |
| `version`        | `schemaversion`   | written when it is not 1                          |
| `correlation_id` | `correlationid`   | extension "Correlation"                           |
| `causation_id`   | `causationid`     | the same                                          |
| `metadata`       | `onefoldmetadata` | a JSON object as text; written when not empty     |
| `extra`          | by name           | what no attribute can hold: `onefoldextra`        |

`onefoldextra` is a JSON object as text. It holds the extra fields whose name or value no
attribute may have (names are `a-z0-9`; values text, bool or 32-bit integer), and in binary
mode also the type of those that are not text: `ce_retries: 5` reads back as the number. An
attribute that someone changed on the way wins over what `onefoldextra` says of it.

Not told apart, in either mode: data `null` and no data; `datacontenttype: application/json`
and none (written whenever there is data); an attribute that is null and none. A source or
type that is no URI reference is written as it is.
"""

import json
import re
from datetime import datetime
from typing import Any, Final, Literal

import msgspec

from onefold.core import content
from onefold.core.envelope import Event, is_attribute_text
from onefold.core.headers import Headers, percent_encode
from onefold.core.json_value import decode_json, decode_object, encode_json
from onefold.core.reading import make_event
from onefold.errors import InvalidEvent

__all__ = ["encode_binary", "encode_structured", "read_binary", "read_structured"]

Transport = Literal["kafka", "http"]

_NAMES: Final = {
    "id": "id",
    "source": "source",
    "type": "type",
    "key": "subject",
    "occurred_at": "time",
    "version": "schemaversion",
    "correlation_id": "correlationid",
    "causation_id": "causationid",
}
_METADATA: Final = "onefoldmetadata"
_HIDDEN: Final = "onefoldextra"
_DATA: Final = "data"
_BASE64: Final = "data_base64"
_RESERVED: Final = frozenset({"specversion", *_NAMES.values(), _METADATA, _HIDDEN, _DATA})
_IN_ERRORS: Final = {**_NAMES, "metadata": _METADATA, "extra": ""}
_EXTENSION_NAME: Final = re.compile(r"[a-z0-9]+", re.ASCII)
_PREFIX: Final = {"kafka": "ce_", "http": "ce-"}


def encode_structured(event: Event) -> bytes:
    """
    The event as `application/cloudevents+json`: the same bytes for the same event, any event.
    """
    members = _attributes(event, typed=True)
    if event.data is not None:
        members[_BASE64 if content.ENCODING in event.extra else _DATA] = event.data
    return encode_json(members)


def encode_binary(event: Event, *, transport: Transport) -> tuple[dict[str, str], bytes]:
    """
    The event as headers and body: the same for the same event, any event.

    Args:
        transport: `kafka` has headers `ce_…`, to be sent as UTF-8; `http` has `ce-…`,
            percent-encoded to printable ASCII. Only the headers differ.

    Limit: metadata travels in one header. HTTP servers commonly refuse headers over 8 KiB.
    """
    attributes = _attributes(event, typed=False)
    media_type = attributes.pop(content.TYPE, None)
    headers = {} if media_type is None else {"content-type": media_type}
    spell = percent_encode if transport == "http" else str
    for name, value in attributes.items():
        headers[_PREFIX[transport] + name] = spell(_as_text(value))
    return headers, _body(event)


def _body(event: Event) -> bytes:
    if not content.is_json(event.extra.get(content.TYPE)):
        return content.content_bytes(event.data, event.extra)
    return b"" if event.data is None else encode_json(event.data)


def _attributes(event: Event, *, typed: bool) -> dict[str, Any]:
    """All attributes in the order they are written: ours, extensions by name, our JSON."""
    attributes: dict[str, Any] = {"specversion": "1.0"}
    for field, name in _NAMES.items():
        attributes[name] = getattr(event, field)
    attributes["time"] = msgspec.to_builtins(event.occurred_at)
    attributes["schemaversion"] = None if event.version == 1 else event.version
    attributes[content.TYPE] = None if event.data is None else content.JSON
    hidden = _add_extensions(attributes, event, typed=typed)
    attributes[_METADATA] = _json_text(event.metadata)
    attributes[_HIDDEN] = _json_text(hidden)
    return {name: value for name, value in attributes.items() if value is not None}


def _add_extensions(attributes: dict[str, Any], event: Event, *, typed: bool) -> dict[str, Any]:
    """Add what attributes can hold; give back what they cannot, or not with its type."""
    hidden = {}
    for name in sorted(event.extra.keys() - {content.ENCODING}):
        value = event.extra[name]
        fits = _fits(name, value)
        if fits:
            attributes[name] = value
        if not fits or not (typed or type(value) is str):
            hidden[name] = value
    return hidden


def _fits(name: str, value: object) -> bool:
    if name in _RESERVED or not _EXTENSION_NAME.fullmatch(name):
        return False
    if type(value) is int:
        return -(2**31) <= value < 2**31
    return type(value) is bool or (type(value) is str and is_attribute_text(value))


def _as_text(value: str | bool | int) -> str:
    """CloudEvents 1.0.2, "Type System": the canonical string of a value."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _json_text(value: Any) -> str | None:
    """An object as ASCII text that an attribute may hold; None when it is empty."""
    if not value:
        return None
    text = json.dumps(value, separators=(",", ":"), sort_keys=True)
    return text.replace("\x7f", "\\u007f")  # the one ASCII control character JSON lets pass


def read_structured(
    members: dict[str, Any], header_id: str | None, received_at: datetime | None
) -> Event:
    """
    The event of a structured object.

    Raises:
        InvalidEvent: An attribute or the data is missing or wrong.
    """
    attributes = {name: value for name, value in members.items() if value is not None}
    data, kept = _structured_data(attributes)
    return _event(attributes, data, kept, header_id, received_at)


def read_binary(body: bytes, headers: Headers, received_at: datetime | None) -> Event:
    """
    The event of attributes in headers and content in the body.

    Raises:
        InvalidEvent: An attribute or the content is missing or wrong.
    """
    attributes: dict[str, Any] = dict(headers.attributes)
    declared = attributes.pop(content.TYPE, None)  # against the binding, but it is sent
    data, kept = _decoded(body, headers.content_type or declared, _DATA)
    return _event(attributes, data, kept, None, received_at)


def _structured_data(attributes: dict[str, Any]) -> tuple[Any, dict[str, str]]:
    """Take the data out of `attributes` (JSON format 1.0.2, section 3.1.2)."""
    media_type = attributes.pop(content.TYPE, None)
    data, encoded = attributes.pop(_DATA, None), attributes.pop(_BASE64, None)
    if not isinstance(media_type, str | None):
        raise InvalidEvent("a media type is expected", content.TYPE)
    if encoded is not None:
        if data is not None:
            raise InvalidEvent("there is data already", _BASE64)
        decoded = content.from_base64(encoded, _BASE64)
        return _decoded(decoded, media_type or content.OPAQUE, _BASE64)
    if media_type is None or content.is_json(media_type):
        return data, _kept(media_type)
    if not isinstance(data, str | None):
        raise InvalidEvent(f"content of type {media_type} is text", _DATA)
    return _decoded((data or "").encode(), media_type, _DATA)


def _decoded(body: bytes, media_type: str | None, field: str) -> tuple[Any, dict[str, str]]:
    """The data that `body` is, and the extra fields that go with it."""
    if media_type is not None and not content.is_json(media_type):
        return content.read_content(body, media_type)
    return (decode_json(body, field) if body else None), _kept(media_type)


def _kept(media_type: str | None) -> dict[str, str]:
    return {} if media_type in (None, content.JSON) else {content.TYPE: media_type}


def _event(
    attributes: dict[str, Any],
    data: Any,
    kept: dict[str, str],
    header_id: str | None,
    received_at: datetime | None,
) -> Event:
    _check_supported(attributes)
    fields = {field: attributes.pop(name, None) for field, name in _NAMES.items()}
    fields["data"] = data
    fields["metadata"] = _json_object(attributes, _METADATA)
    hidden = _json_object(attributes, _HIDDEN)
    fields["extra"] = attributes | _restored(hidden, attributes) | kept
    return make_event(fields, names=_IN_ERRORS, header_id=header_id, received_at=received_at)


def _check_supported(attributes: dict[str, Any]) -> None:
    version = attributes.pop("specversion", None)
    if version != "1.0":
        raise InvalidEvent(
            'missing; "1.0" is understood'
            if version is None
            else f'"1.0" is understood, not {version!r}',
            "specversion",
        )
    if content.ENCODING in attributes:
        raise InvalidEvent("not an attribute of CloudEvents 1.0", content.ENCODING)


def _json_object(attributes: dict[str, Any], name: str) -> dict[str, Any]:
    text = attributes.pop(name, "{}")
    if not isinstance(text, str):
        raise InvalidEvent("a JSON object as text is expected", name)
    return decode_object(text, name)


def _restored(hidden: dict[str, Any], attributes: dict[str, Any]) -> dict[str, Any]:
    """What `onefoldextra` says, but for attributes that were changed on the way."""
    return {
        name: value
        for name, value in hidden.items()
        if name not in attributes or _as_text(value) == attributes[name]
    }
