"""
How data that is not JSON lives in a JSON value: CloudEvents' `datacontenttype` rules.

An event's data is JSON unless its extra field `datacontenttype` names another media type.
Then it is text: the content itself when the type is textual and the bytes are UTF-8, else
base64 (RFC 4648, section 4), told by the extra field `datacontentencoding: base64`, the name
CloudEvents 0.3 had for it. The same bytes of the same type always become the same data; no
content of such a type is empty content.

Limit: a `charset` parameter other than UTF-8 is carried but not applied: text is UTF-8.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Any, Final

from onefold.errors import InvalidEvent

__all__ = [
    "ENCODING",
    "JSON",
    "OPAQUE",
    "TYPE",
    "check_content",
    "content_bytes",
    "from_base64",
    "is_json",
    "read_content",
]

JSON: Final = "application/json"
OPAQUE: Final = "application/octet-stream"
TYPE: Final = "datacontenttype"
ENCODING: Final = "datacontentencoding"
BASE64: Final = "base64"


def is_json(media_type: str | None) -> bool:
    """Whether content of this type is JSON: `*/json`, `*/*+json`, or no type at all."""
    if media_type is None:
        return True
    subtype = _essence(media_type).rpartition("/")[2]
    return subtype == "json" or subtype.endswith("+json")


def _is_text(media_type: str) -> bool:
    essence = _essence(media_type)
    return essence.startswith("text/") or essence.endswith(("/xml", "+xml"))


def _essence(media_type: str) -> str:
    return media_type.partition(";")[0].strip().lower()


def read_content(content: bytes, media_type: str) -> tuple[str, dict[str, str]]:
    """The data and the extra fields that stand for `content` of a type that is not JSON."""
    if _is_text(media_type):
        try:
            return content.decode(), {TYPE: media_type}
        except UnicodeDecodeError:
            pass  # text in another charset: its bytes are kept
    return b64encode(content).decode(), {TYPE: media_type, ENCODING: BASE64}


def content_bytes(data: str, extra: Mapping[str, Any]) -> bytes:
    """The bytes that `data` stands for; the inverse of `read_content`."""
    return b64decode(data) if ENCODING in extra else data.encode()


def from_base64(text: object, field: str) -> bytes:
    """
    The bytes that `text` spells in base64.

    Raises:
        InvalidEvent: `text` is not padded base64 of the standard alphabet.
    """
    if not isinstance(text, str):
        raise InvalidEvent("base64 text is expected", field)
    try:
        return b64decode(text, validate=True)
    except ValueError as broken:
        raise InvalidEvent(f"not base64: {broken}", field) from None


def check_content(data: Any, extra: Mapping[str, Any]) -> None:
    """
    Return when `data` stands for content of its `datacontenttype`, the way `read_content` says.

    Args:
        data: A JSON value.

    Raises:
        InvalidEvent: The type is no header value, or a CloudEvents type, which binary mode
            would take for an envelope; or data of a type that is not JSON is spelled
            otherwise than it would be read back.
    """
    if TYPE in extra:
        _check_media_type(extra[TYPE])
    if not is_json(extra.get(TYPE)):
        _check_spelling(data, extra[TYPE], extra.get(ENCODING))
    elif ENCODING in extra:
        raise InvalidEvent("JSON content has no encoding", ENCODING)


def _check_media_type(media_type: object) -> None:
    if not isinstance(media_type, str) or media_type != media_type.strip() or "/" not in media_type:
        raise InvalidEvent("a media type is expected", TYPE)
    if not (media_type.isascii() and media_type.isprintable()):
        raise InvalidEvent("a media type is printable ASCII", TYPE)
    if _essence(media_type).startswith("application/cloudevents"):
        raise InvalidEvent("an envelope inside an envelope cannot be told from one", TYPE)


def _check_spelling(data: Any, media_type: str, encoding: object) -> None:
    if encoding not in (None, BASE64):
        raise InvalidEvent("only base64 is known", ENCODING)
    if type(data) is not str:
        raise InvalidEvent(f"content of type {media_type} is text", "data")
    content = from_base64(data, "data") if encoding else data.encode()
    expected, told = read_content(content, media_type)
    if (expected, told.get(ENCODING)) != (data, encoding):
        spelling = told.get(ENCODING, "plain text")
        raise InvalidEvent(f"this content of type {media_type} is given as {spelling}", "data")
