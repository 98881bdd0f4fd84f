"""Bytes to events: both forms, kindly read and strictly written."""

import json
from base64 import b64encode
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from onefold.core.envelope import Event
from onefold.core.wire import decode, encode_binary, encode_native, encode_structured
from onefold.errors import InvalidEvent

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
ID = "0d2a7b64-1b2c-4d3e-8f90-a1b2c3d4e5f6"
STRUCTURED = {"content-type": "application/cloudevents+json; charset=UTF-8"}
BINARY = {"ce_specversion": "1.0", "ce_id": "1", "ce_type": "t", "ce_source": "s"}
NATIVE: dict[str, Any] = {
    "event_id": ID,
    "event_type": "t",
    "event_timestamp": "2026-03-01T12:00:00Z",
    "source_service": "s",
}
CLOUD: dict[str, Any] = {
    "specversion": "1.0",
    "id": ID,
    "type": "t",
    "source": "s",
    "time": "2026-03-01T12:00:00Z",
}


def an_event(**fields: Any) -> Event:
    given: dict[str, Any] = {"id": ID, "type": "t", "source": "s", "occurred_at": NOON}
    return Event(**given | fields)


def read(message: dict[str, Any], **headers: str) -> Event:
    return decode(json.dumps(message).encode(), headers)


def refusal(body: bytes, headers: Any = ()) -> tuple[str | None, str]:
    with pytest.raises(InvalidEvent) as refused:
        decode(body, headers, received_at=NOON)
    return refused.value.field, refused.value.reason


def refused_message(message: dict[str, Any]) -> tuple[str | None, str]:
    return refusal(json.dumps(message).encode())


# Which form it is


@pytest.mark.parametrize(
    ("message", "headers"),
    [
        (NATIVE, {}),
        (NATIVE, {"Content-Type": "application/json", "ce_traceparent": "00"}),
        (CLOUD, {}),
        (CLOUD, STRUCTURED),
        (CLOUD, {"content-type": "Application/CloudEvents"}),
        (CLOUD, STRUCTURED | BINARY | {"ce_id": ID}),
    ],
)
def test_the_form_is_told_by_headers_then_by_the_body(
    message: dict[str, Any], headers: dict[str, str]
) -> None:
    """A producer need not say which form it writes; if it says, it is believed."""
    assert decode(json.dumps(message).encode(), headers) == an_event()


def test_attributes_in_headers_make_the_body_the_content() -> None:
    """Even when the body looks like an event of its own."""
    event = decode(json.dumps(NATIVE).encode(), BINARY, received_at=NOON)

    assert (event.id, event.data) == ("1", NATIVE)


def test_a_native_event_may_have_a_member_specversion() -> None:
    """The native members decide; the other is kept."""
    assert read(NATIVE | {"specversion": "9"}).extra == {"specversion": "9"}


@pytest.mark.parametrize(
    "media_type", ["application/cloudevents-batch+json", "application/cloudevents+avro"]
)
def test_formats_that_are_not_read_are_refused(media_type: str) -> None:
    """Batches and Avro are told from noise."""
    assert refusal(b"[]", {"content-type": media_type}) == (
        "content-type",
        f"no events are read from {media_type}",
    )


@pytest.mark.parametrize("headers", [(), STRUCTURED])
@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff", b'{"a":NaN}'])
def test_a_body_that_is_no_object_is_refused(body: bytes, headers: Any) -> None:
    """In both forms an event is an object."""
    assert refusal(body, headers)[0] == "body"


# Native


def test_a_native_event_needs_type_and_source_only() -> None:
    """The rest has defaults: version 1, no data, the arrival as its instant."""
    body = b'{"event_type":"t","source_service":"s","event_id":"1"}'

    event = decode(body, received_at=NOON)

    assert event == an_event(id="1")


def test_null_is_no_value_in_the_native_form() -> None:
    """Producers that write every member, such as Pydantic models, are understood."""
    absent = dict.fromkeys(
        ["event_timestamp", "schema_version", "correlation_id", "data", "metadata", "key", "x"]
    )

    event = decode(json.dumps(NATIVE | absent).encode(), received_at=NOON)

    assert event == an_event(extra={"x": None})


def test_unknown_native_members_survive() -> None:
    """They come out as they went in, nulls and nesting included."""
    message = NATIVE | {"data_schema_uri": None, "tenant": {"a": [1]}}

    event = read(message)

    assert event.extra == {"data_schema_uri": None, "tenant": {"a": [1]}}
    assert message.items() <= json.loads(encode_native(event)).items()


def test_key_and_causation_are_written_only_when_there_are_any() -> None:
    """Older readers of the form see nothing new."""
    plain = json.loads(encode_native(an_event()))
    linked = json.loads(encode_native(an_event(key="k", causation_id="c")))

    assert plain.keys().isdisjoint({"key", "causation_id"})
    assert (linked["key"], linked["causation_id"]) == ("k", "c")


@pytest.mark.parametrize(
    ("wrong", "field", "reason"),
    [
        ({"event_type": None}, "event_type", "missing"),
        ({"source_service": None}, "source_service", "missing"),
        ({"event_id": 17}, "event_id", "text is expected, not int"),
        ({"event_id": ""}, "event_id", "1 to 512 characters, not 0"),
        ({"key": 17}, "key", "text is expected, not int"),
        ({"schema_version": 0}, "schema_version", "1 to 2147483647"),
        ({"schema_version": "v2"}, "schema_version", "an integer is expected, not str"),
        ({"schema_version": 1.5}, "schema_version", "an integer is expected, not float"),
        ({"event_timestamp": 1735787045}, "event_timestamp", "an instant as in RFC 3339"),
        ({"event_timestamp": "2026-02-30T00:00:00Z"}, "event_timestamp", "an instant as in RFC"),
        ({"event_timestamp": "2026-03-01T12:00:00"}, "event_timestamp", "an instant needs a time"),
        ({"metadata": []}, "metadata", "an object is expected, not list"),
        ({"data": {"a": [10**640]}}, "data.a[0]", "an integer has at most 640 digits"),
        ({"tenant": 10**640}, "tenant", "an integer has at most 640 digits"),
        ({"onefold_extra": 1}, "onefold_extra", "an object is expected"),
    ],
)
def test_a_wrong_native_member_is_named(wrong: dict[str, Any], field: str, reason: str) -> None:
    """The producer reads its own field names in the error."""
    named, why = refused_message(NATIVE | wrong)

    assert (named, why[: len(reason)]) == (field, reason)


@pytest.mark.parametrize("spelled", [2, 2.0, "2"])
def test_a_version_is_a_whole_number_however_spelled(spelled: object) -> None:
    """Serialisers differ; the version does not."""
    assert read(NATIVE | {"schema_version": spelled}).version == 2


@pytest.mark.parametrize(
    "time",
    ["2026-03-01T13:00:00+01:00", "2026-03-01 12:00:00.0000001Z", "2026-03-01t12:00:00z"],
)
def test_every_spelling_of_an_instant_is_the_same(time: str) -> None:
    """Zone and case do not matter; digits beyond the microsecond are rounded away."""
    assert read(NATIVE | {"event_timestamp": time}) == an_event()


def test_without_instant_and_arrival_there_is_no_event() -> None:
    """When it happened is not invented."""
    with pytest.raises(InvalidEvent, match="time: missing, and the arrival is not known"):
        read(CLOUD | {"time": None})


# Which event it is


def test_a_header_gives_the_id_that_the_body_lacks() -> None:
    """Whichever way the id came, it is the same event."""
    without = {name: value for name, value in NATIVE.items() if name != "event_id"}

    assert read(without, event_id=ID.upper()).identity == read(NATIVE).identity
    assert read(without, ce_id=ID).identity == read(NATIVE).identity


def test_header_and_body_may_spell_the_id_differently() -> None:
    """The body's spelling is kept; it is one event."""
    assert read(NATIVE, event_id=f"{{{ID.upper()}}}") == an_event()


@pytest.mark.parametrize(
    ("message", "field"), [(NATIVE, "event_id"), (CLOUD, "id")], ids=["native", "structured"]
)
def test_header_and_body_of_different_events_are_refused(
    message: dict[str, Any], field: str
) -> None:
    """To pick one would repeat an effect or lose one."""
    headers = {"event_id": "another"}

    assert refusal(json.dumps(message).encode(), headers) == (
        field,
        "header and body name different events",
    )


def test_a_message_without_id_has_the_same_id_in_every_form() -> None:
    """Derived from what it says, not from how it is written or when it arrived."""
    native = b'{"event_type":"t","source_service":"s","key":"k","data":{"a":1,"b":2}}'
    structured = (
        b'{"specversion":"1.0","data":{"b":2.0,"a":1},"type":"t","source":"s","subject":"k"}'
    )
    headers = {"ce-specversion": "1.0", "ce-type": "t", "ce-source": "s", "ce-subject": "k"}
    later = NOON + timedelta(hours=1)

    ids = {
        decode(native, received_at=NOON).id,
        decode(native, received_at=later).id,
        decode(structured, received_at=later).id,
        decode(b'{ "b":2, "a":1e0 }', headers, received_at=later).id,
    }

    assert len(ids) == 1


def test_a_message_without_id_is_told_by_its_instant_if_it_has_one() -> None:
    """Two readings of a sensor at different times are two events."""
    without = {name: value for name, value in NATIVE.items() if name != "event_id"}
    later = without | {"event_timestamp": "2026-03-01T12:00:00.000001Z"}

    assert read(without).id != read(later).id


# CloudEvents, structured


def test_attributes_are_mapped_to_fields() -> None:
    """Subject is the key, the Correlation extension the links, schemaversion the version."""
    message = CLOUD | {
        "subject": "k",
        "schemaversion": 3,
        "correlationid": "c",
        "causationid": "d",
        "dataschema": "https://example.com/s",
        "datacontenttype": "application/json",
        "data": {"a": 1},
    }

    assert read(message) == an_event(
        key="k",
        version=3,
        correlation_id="c",
        causation_id="d",
        data={"a": 1},
        extra={"dataschema": "https://example.com/s"},
    )


def test_the_examples_of_the_json_format_are_read() -> None:
    """JSON format 1.0.2, section 3.2: XML as text, extensions with their types, nulls unset."""
    event = read(
        CLOUD
        | {
            "comexampleextension1": "value",
            "comexampleothervalue": 5,
            "unsetextension": None,
            "subject": None,
            "datacontenttype": "application/xml",
            "data": '<much wow="xml"/>',
        }
    )

    assert event.data == '<much wow="xml"/>'
    assert event.extra == {
        "comexampleextension1": "value",
        "comexampleothervalue": 5,
        "datacontenttype": "application/xml",
    }


@pytest.mark.parametrize(
    ("content", "media_type", "data", "kept"),
    [
        (b'{"a":1}', "application/json", {"a": 1}, {}),
        (b"[1]", "a/x+json", [1], {"datacontenttype": "a/x+json"}),
        (b"text", "text/plain", "text", {"datacontenttype": "text/plain"}),
        (
            b"\xff",
            None,
            "/w==",
            {"datacontenttype": "application/octet-stream", "datacontentencoding": "base64"},
        ),
    ],
)
def test_binary_data_is_read_as_its_type_says(
    content: bytes, media_type: str | None, data: Any, kept: dict[str, str]
) -> None:
    """`data_base64` is JSON, text or opaque by `datacontenttype`, never by guessing."""
    encoded = {"datacontenttype": media_type, "data_base64": b64encode(content).decode()}

    event = read(CLOUD | encoded)

    assert (event.data, event.extra) == (data, kept)


def test_text_without_data_is_empty_text() -> None:
    """Content of a type that is not JSON is never null."""
    assert read(CLOUD | {"datacontenttype": "text/plain"}).data == ""


@pytest.mark.parametrize(
    ("wrong", "field", "reason"),
    [
        ({"specversion": "0.3"}, "specversion", "\"1.0\" is understood, not '0.3'"),
        ({"specversion": None}, "specversion", 'missing; "1.0" is understood'),
        ({"type": None}, "type", "missing"),
        ({"id": 1}, "id", "text is expected, not int"),
        ({"subject": ""}, "subject", "1 to 512 characters, not 0"),
        ({"time": "noon"}, "time", "an instant as in RFC 3339 is expected"),
        ({"schemaversion": "0"}, "schemaversion", "1 to 2147483647"),
        ({"correlationid": 1}, "correlationid", "text is expected, not int"),
        ({"datacontenttype": 1}, "datacontenttype", "a media type is expected"),
        ({"datacontenttype": "xml", "data": ""}, "datacontenttype", "a media type is expected"),
        ({"datacontenttype": "text/xml", "data": {}}, "data", "content of type text/xml is text"),
        ({"data": 1, "data_base64": "MQ=="}, "data_base64", "there is data already"),
        ({"data_base64": "?"}, "data_base64", "not base64: Only base64 data is allowed"),
        ({"datacontenttype": "a/json", "data_base64": "/w=="}, "data_base64", "not JSON: invalid"),
        ({"datacontentencoding": "base64"}, "datacontentencoding", "not an attribute of"),
        ({"onefoldmetadata": {}}, "onefoldmetadata", "a JSON object as text is expected"),
        ({"onefoldmetadata": "[]"}, "onefoldmetadata", "a JSON object is expected"),
        ({"onefoldextra": "{"}, "onefoldextra", "not JSON: Input data was truncated"),
    ],
)
def test_a_wrong_attribute_is_named(wrong: dict[str, Any], field: str, reason: str) -> None:
    """The producer reads the attribute's own name in the error."""
    named, why = refused_message(CLOUD | wrong)

    assert (named, why[: len(reason)]) == (field, reason)


@pytest.mark.parametrize(
    "extra",
    [
        {"comExample": "upper case"},
        {"with_underscore": 1},
        {"data": "a name with a meaning"},
        {"big": 2**31},
        {"real": 1.5},
        {"empty": ""},
        {"control": "a\nb"},
        {"nothing": None},
        {"nested": {"a": [1]}},
    ],
)
def test_what_no_attribute_may_hold_travels_as_json(extra: dict[str, Any]) -> None:
    """The written event obeys the type system of CloudEvents, and nothing is lost."""
    event = an_event(extra=extra)

    written = json.loads(encode_structured(event))

    assert written.keys() == CLOUD.keys() | {"onefoldextra"}
    assert json.loads(written["onefoldextra"]) == extra
    assert decode(encode_structured(event)) == event


def test_the_default_version_and_no_data_are_not_written() -> None:
    """A foreign event passes through without gaining attributes."""
    assert json.loads(encode_structured(read(CLOUD))) == CLOUD


# CloudEvents, binary


def test_the_body_is_read_as_the_content_type_says() -> None:
    """JSON with parameters, another JSON type, text and an image; nothing means JSON."""

    def data(body: bytes, **headers: str) -> Any:
        return decode(body, BINARY | headers, received_at=NOON).data

    assert data(b"{}") == {}
    assert data(b"1", **{"content-type": "application/json; charset=utf-8"}) == 1
    assert data(b"1", ce_datacontenttype="a/x+json") == 1
    assert data(b"1", **{"content-type": "text/plain"}) == "1"
    assert data(b"1", **{"content-type": "image/png"}) == "MQ=="


def test_no_body_is_no_data() -> None:
    """A Kafka tombstone is an event without data, and is written as one."""
    event = decode(b"", BINARY | {"content-type": "a/x+json"}, received_at=NOON)

    assert event.data is None
    assert encode_binary(event, transport="kafka")[1] == b""


@pytest.mark.parametrize(
    ("body", "headers", "expected"),
    [
        (b"{", {}, ("data", "not JSON: Input data was truncated")),
        (b"", {"ce_source": ""}, ("source", "missing")),
        (b"", {"ce_specversion": "2.0"}, ("specversion", "\"1.0\" is understood, not '2.0'")),
        (b"", {"ce_specversion": None}, ("specversion", 'missing; "1.0" is understood')),
        (b"", {"ce_time": "noon"}, ("time", "an instant as in RFC 3339 is expected")),
        (b"", {"content-type": "png"}, ("datacontenttype", "a media type is expected")),
    ],
)
def test_a_wrong_binary_message_is_refused(
    body: bytes, headers: dict[str, str | None], expected: tuple[str, str]
) -> None:
    """Field and reason are those of the structured form."""
    assert refusal(body, BINARY | headers) == expected


def test_extensions_keep_their_type_through_headers() -> None:
    """Headers are text; numbers and booleans are written for all, and read back as they were."""
    event = an_event(extra={"retries": 5, "urgent": True, "text": "5"})

    headers, body = encode_binary(event, transport="http")

    assert (headers["ce-retries"], headers["ce-urgent"], headers["ce-text"]) == ("5", "true", "5")
    assert decode(body, headers) == event


def test_an_extension_changed_on_the_way_counts_as_changed() -> None:
    """What an intermediary wrote wins over our own note of the type."""
    headers, body = encode_binary(an_event(extra={"retries": 5}), transport="kafka")

    event = decode(body, headers | {"ce_retries": "6"})

    assert event.extra == {"retries": "6"}


def test_any_text_travels_in_http_headers() -> None:
    """Quotes, percent signs, spaces at the ends and other scripts come back as they were."""
    event = an_event(id=' "a\\', key="100 %25 €", source='"quoted"', extra={"x": " é "})

    headers, body = encode_binary(event, transport="http")

    assert all(value.isascii() and " " not in value for value in headers.values())
    assert decode(body, headers) == event


# From one form to the other


@pytest.mark.parametrize(
    "fields",
    [
        {"extra": {"key": "foreign", "event_id": 1, "onefold_extra": {"a": []}}},
        {"data": "/w==", "extra": {"datacontenttype": "a/b", "datacontentencoding": "base64"}},
        {"data": "<a/>", "extra": {"datacontenttype": "text/xml"}},
        {"metadata": {"trace": ["é"]}, "extra": {"datacontenttype": "a/b+json"}},
    ],
)
def test_names_and_content_of_one_form_survive_the_other(fields: dict[str, Any]) -> None:
    """Fields named like ours, opaque content, text and metadata: no form loses them."""
    event = an_event(**fields)

    through_native = decode(encode_native(event))
    through_structured = decode(encode_structured(event))
    headers, body = encode_binary(event, transport="kafka")

    assert [through_native, through_structured, decode(body, headers)] == [event] * 3


def test_a_name_of_the_native_form_is_moved_aside() -> None:
    """A foreign `key` is not taken for the event's key."""
    written = json.loads(encode_native(an_event(extra={"key": "foreign", "other": 1})))

    assert (written.get("key"), written["other"]) == (None, 1)
    assert written["onefold_extra"] == {"key": "foreign"}
