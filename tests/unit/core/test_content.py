"""Data that is not JSON, inside a JSON value."""

from typing import Any

import pytest

from onefold.core.content import (
    check_content,
    content_bytes,
    from_base64,
    is_json,
    read_content,
)
from onefold.errors import InvalidEvent


@pytest.mark.parametrize(
    ("media_type", "expected"),
    [
        (None, True),
        ("application/json", True),
        ("TEXT/JSON ; charset=utf-8", True),
        ("application/problem+json", True),
        ("application/json-seq", False),
        ("application/xml", False),
        ("", False),
    ],
)
def test_json_is_told_by_the_subtype(media_type: str | None, expected: bool) -> None:
    """JSON format 1.0.2, section 3.1.1: `*/json` or `*/*+json`, and no type at all."""
    assert is_json(media_type) is expected


@pytest.mark.parametrize(
    ("content", "media_type", "data", "is_base64"),
    [
        ("ö".encode(), "text/plain", "ö", False),
        ("ö".encode("latin-1"), "text/plain; charset=latin-1", "9g==", True),
        (b"<a/>", "application/xml", "<a/>", False),
        (b"<svg/>", "image/svg+xml", "<svg/>", False),
        (b"looks like text", "image/png", "bG9va3MgbGlrZSB0ZXh0", True),
        (b"", "text/plain", "", False),
        (b"", "image/png", "", True),
    ],
)
def test_the_type_decides_how_content_is_spelled(
    content: bytes,
    media_type: str,
    data: str,
    is_base64: bool,
) -> None:
    """A handler for `image/png` finds base64 every time, even when the bytes look like text."""
    spelled, told = read_content(content, media_type)

    assert (spelled, "datacontentencoding" in told) == (data, is_base64)
    assert told["datacontenttype"] == media_type
    assert content_bytes(spelled, told) == content


@pytest.mark.parametrize(
    ("text", "reason"),
    [(5, "base64 text is expected"), ("aGk", "not base64"), ("a-_k", "not base64"), ("é", "not")],
)
def test_what_is_not_base64_is_refused(text: object, reason: str) -> None:
    """Only padded base64 of the standard alphabet is read."""
    with pytest.raises(InvalidEvent, match=f"data_base64: {reason}"):
        from_base64(text, "data_base64")


@pytest.mark.parametrize(
    ("data", "extra"),
    [
        ({"a": 1}, {}),
        ({"a": 1}, {"datacontenttype": "application/vnd.x+json"}),
        ("<a/>", {"datacontenttype": "text/html; charset=utf-8"}),
        ("aGk=", {"datacontenttype": "image/png", "datacontentencoding": "base64"}),
    ],
)
def test_data_that_fits_its_type_passes(data: Any, extra: dict[str, Any]) -> None:
    """JSON of any shape, text, or base64, each as its type is read."""
    check_content(data, extra)


@pytest.mark.parametrize(
    ("data", "extra", "field", "reason"),
    [
        (1, {"datacontenttype": 5}, "datacontenttype", "a media type is expected"),
        (1, {"datacontenttype": "json"}, "datacontenttype", "a media type is expected"),
        (1, {"datacontenttype": " a/json"}, "datacontenttype", "a media type is expected"),
        (1, {"datacontenttype": "a/json;\r\nx: y"}, "datacontenttype", "printable ASCII"),
        (1, {"datacontenttype": "a/json;ö"}, "datacontenttype", "printable ASCII"),
        (1, {"datacontenttype": "application/CloudEvents+json"}, "datacontenttype", "an envelope"),
        (1, {"datacontentencoding": "base64"}, "datacontentencoding", "JSON content has no"),
        ("", {"datacontenttype": "a/b", "datacontentencoding": 1}, "datacontentencoding", "only"),
        ({"a": 1}, {"datacontenttype": "text/plain"}, "data", "content of type text/plain is text"),
        (None, {"datacontenttype": "text/plain"}, "data", "content of type text/plain is text"),
        ("plain", {"datacontenttype": "image/png"}, "data", "image/png is given as base64"),
        (
            "aGk=",
            {"datacontenttype": "text/plain", "datacontentencoding": "base64"},
            "data",
            "text/plain is given as plain text",
        ),
        (
            "aGl=",
            {"datacontenttype": "image/png", "datacontentencoding": "base64"},
            "data",
            "image/png is given as base64",
        ),
    ],
)
def test_data_that_does_not_fit_its_type_is_refused(
    data: Any, extra: dict[str, Any], field: str, reason: str
) -> None:
    """What could not be written and read back alike never becomes an event."""
    with pytest.raises(InvalidEvent, match=reason) as refused:
        check_content(data, extra)

    assert refused.value.field == field
