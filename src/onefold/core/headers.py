"""
Reads the headers of a message, from Kafka or HTTP alike, and spells those of an HTTP one.

Header names are compared without case; a header without a value counts as absent.
CloudEvents attributes are `ce_…` in Kafka, as plain UTF-8 (Kafka binding 1.0.2, section
3.2.3), and `ce-…` in HTTP, percent-encoded (HTTP binding 1.0.2, section 3.1.3.2).
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Final, NamedTuple
from urllib.parse import quote, unquote_to_bytes

from onefold.errors import InvalidEvent

__all__ = ["HeaderPairs", "Headers", "percent_encode", "read_headers"]

HeaderPairs = Mapping[str, str | bytes | None] | Iterable[tuple[str | bytes, str | bytes | None]]

# Everything printable in ASCII but space, double quote and percent; `quote` knows the rest.
_PLAIN: Final = "!#$&'()*+,/:;<=>?@[\\]^`{|}"
_QUOTED: Final = re.compile(r'"((?:[^"\\]|\\.)*)"')


class Headers(NamedTuple):
    """
    The headers that mean something here.

    Attributes:
        content_type: As sent, parameters included.
        event_id: The plain `event_id` header of the native form.
        attributes: CloudEvents attributes by name without prefix, decoded.
    """

    content_type: str | None
    event_id: str | None
    attributes: Mapping[str, str]


_NONE: Final = Headers(None, None, MappingProxyType({}))


def read_headers(pairs: HeaderPairs) -> Headers:
    """
    The known headers among `pairs`; all others are passed over, readable or not.

    Raises:
        InvalidEvent: A known header is not UTF-8, or occurs twice with different values.
    """
    if not pairs:
        return _NONE
    content_type = event_id = None
    attributes: dict[str, str] = {}
    for name, value in _known(pairs):
        if name == "content-type":
            content_type = _once(name, content_type, _text(name, value).strip())
        elif name == "event_id":
            event_id = _once(name, event_id, _text(name, value))
        else:
            attribute = name[3:]
            decoded = _attribute(name, _text(name, value))
            attributes[attribute] = _once(name, attributes.get(attribute), decoded)
    return Headers(content_type, event_id, attributes)


def _known(pairs: HeaderPairs) -> Iterator[tuple[str, str | bytes]]:
    for raw, value in pairs.items() if isinstance(pairs, Mapping) else pairs:
        name = (raw.decode("latin-1") if isinstance(raw, bytes) else raw).lower()
        if value and (name in {"content-type", "event_id"} or name[:3] in {"ce_", "ce-"}):
            yield name, value


def _text(name: str, value: str | bytes) -> str:
    if isinstance(value, str):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise InvalidEvent("the header's value is not UTF-8", name) from None


def _once(name: str, earlier: str | None, value: str) -> str:
    if earlier not in (None, value):
        raise InvalidEvent("the header occurs twice with different values", name)
    return value


def _attribute(name: str, value: str) -> str:
    return _percent_decode(name, value) if name.startswith("ce-") else value


def _percent_decode(name: str, value: str) -> str:
    """Undo quoting, then percent-encoding, once each, in this order."""
    quoted = _QUOTED.fullmatch(value)
    if quoted:
        value = re.sub(r"\\(.)", r"\1", quoted[1])
    if "%" not in value:
        return value
    try:
        return unquote_to_bytes(value).decode()
    except UnicodeError:
        raise InvalidEvent("the header's percent-encoding is not UTF-8", name) from None


def percent_encode(value: str) -> str:
    """`value` as an HTTP header value: printable ASCII without space, quote or percent."""
    return quote(value, safe=_PLAIN)
