"""What core promises for every input, not only for those somebody thought of."""

import json
import math
import string
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from onefold.core.content import read_content
from onefold.core.envelope import Event, is_attribute_text
from onefold.core.identity import canonical_json, fingerprint
from onefold.core.ids import derived_id, uuid7
from onefold.core.json_value import decode_object
from onefold.core.native import read_native, read_plain
from onefold.core.wire import decode, encode_binary, encode_native, encode_structured
from onefold.errors import InvalidEvent

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
FORMS = ("native", "structured", "kafka", "http")

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(10**40), 10**40)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
)
json_values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
objects = st.dictionaries(st.text(), json_values, max_size=4)
attributes = st.text(min_size=1, max_size=40).filter(is_attribute_text)
uuids = st.uuids().map(str) | st.uuids().map(lambda id_: f"{{{id_}}}".upper())
instants = st.datetimes(
    min_value=datetime(1, 1, 2),  # noqa: DTZ001 (Hypothesis adds the zone)
    max_value=datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.integers(-1439, 1439).map(lambda m: timezone(timedelta(minutes=m))),
)
# Names that mean something in one form or the other are the ones worth trying.
RESERVED = [
    "event_id",
    "event_type",
    "event_timestamp",
    "source_service",
    "schema_version",
    "correlation_id",
    "data",
    "metadata",
    "key",
    "causation_id",
    "onefold_extra",
    "specversion",
    "id",
    "source",
    "type",
    "subject",
    "time",
    "schemaversion",
    "correlationid",
    "causationid",
    "data_base64",
    "dataschema",
    "onefoldmetadata",
    "onefoldextra",
    "traceparent",
    "sampledrate",
]
extras = st.dictionaries(
    st.sampled_from(RESERVED) | st.text(string.ascii_lowercase, min_size=1) | st.text(),
    json_values,
    max_size=4,
).filter(lambda extra: not extra.keys() & {"datacontenttype", "datacontentencoding"})
media_types = st.sampled_from(
    ["text/plain", "text/csv; charset=latin-1", "application/xml", "image/svg+xml", "image/png"]
)
contents = (
    st.tuples(json_values, st.just({}))
    | st.tuples(json_values, st.just({"datacontenttype": "application/vnd.x+json"}))
    | st.builds(read_content, st.binary() | st.text().map(str.encode), media_types)
)


@st.composite
def events(draw: st.DrawFn) -> Event:
    data, told = draw(contents)
    return Event(
        id=draw(attributes | uuids.filter(lambda id_: UUID(id_).int != 0)),
        type=draw(attributes),
        version=draw(st.integers(1, 2**31 - 1) | st.just(1)),
        source=draw(attributes),
        key=draw(st.none() | attributes),
        occurred_at=draw(instants),
        correlation_id=draw(st.none() | attributes),
        causation_id=draw(st.none() | attributes),
        data=data,
        metadata=draw(objects),
        extra=draw(extras) | told,
    )


def encode(event: Event, form: str) -> tuple[Mapping[str, str], bytes]:
    if form == "native":
        return {}, encode_native(event)
    if form == "structured":
        return {}, encode_structured(event)
    return encode_binary(event, transport="http" if form == "http" else "kafka")


def through(event: Event, form: str) -> Event:
    headers, body = encode(event, form)
    return decode(body, headers)


@given(events(), st.lists(st.sampled_from(FORMS), min_size=1, max_size=4))
def test_an_event_survives_any_chain_of_forms(event: Event, chain: list[str]) -> None:
    """Whichever forms an event is rewritten in, it is the same event at the end."""
    read = event
    for form in chain:
        read = through(read, form)

    assert read == event
    assert canonical_json(read.data) == canonical_json(event.data)


@given(events(), st.sampled_from(FORMS))
def test_the_same_event_gives_the_same_bytes(event: Event, form: str) -> None:
    """Writing, reading and writing again changes no byte."""
    first = encode(event, form)

    assert encode(through(event, form), form) == first


@given(events(), st.sampled_from(FORMS))
def test_no_form_changes_which_event_it_is(event: Event, form: str) -> None:
    """Identity and fingerprint are the same before and after a journey."""
    read = through(event, form)

    assert read.identity == event.identity
    assert read.fingerprint() == event.fingerprint()


@given(events())
def test_http_headers_are_printable_ascii_without_space(event: Event) -> None:
    """No attribute can break out of its header, whatever it holds."""
    headers, _ = encode_binary(event, transport="http")
    headers.pop("content-type", None)  # a media type, checked when the event was made

    assert all(0x21 <= ord(c) <= 0x7E and c != '"' for v in headers.values() for c in v)


@given(st.binary(), st.lists(st.tuples(st.binary() | st.text(), st.none() | st.binary())))
def test_arbitrary_bytes_are_refused_and_nothing_else(
    body: bytes, headers: list[tuple[str | bytes, bytes | None]]
) -> None:
    """Noise is an InvalidEvent, never another exception."""
    with pytest.raises(InvalidEvent):
        decode(body, headers, received_at=NOON)


known_headers = st.sampled_from(
    [
        "content-type",
        "event_id",
        "CE_ID",
        "ce-id",
        "ce_type",
        "ce-type",
        "ce_specversion",
        "ce-specversion",
        "ce_source",
        "ce-time",
        "ce_onefoldextra",
        "ce-onefoldmetadata",
        "ce_",
    ]
)
header_values = (
    st.none()
    | st.text(st.characters())
    | st.binary()
    | st.sampled_from(
        [
            "1.0",
            "application/cloudevents+json",
            "application/cloudevents+avro",
            "text/plain",
            "{}",
            '"quoted"',
            "%ff",
            "%c3%a9",
            "a/b",
            "2026-03-01T12:00:00Z",
        ]
    )
)
members = st.dictionaries(
    st.sampled_from([*RESERVED, "datacontenttype", "datacontentencoding"]),
    json_values | st.sampled_from(["1.0", "{}", "text/plain", "base64", "aGk=", "2026-03-01"]),
)
bodies = st.binary() | (json_values | members).map(lambda value: json.dumps(value).encode())


whole = {
    "event_id": "0198f1d0-0000-7000-8000-000000000001",
    "event_type": "order.placed",
    "event_timestamp": "2026-03-01T12:00:00Z",
    "source_service": "shop",
    "data": {"n": 1},
}
nearly_right = json_values | st.sampled_from(
    [
        "2026-03-01T12:00:00",
        "2026-03-01T12:00:00+05:30",
        "2026-03-01 12:00:00z",
        "0001-01-01T00:00:00+23:00",
        1772366400,
        1.0,
        1.5,
        "7",
        2**31,
        "x" * 513,
        "a\u0000",
        "\ud800",
        "00000000-0000-0000-0000-000000000000",
    ]
)
near_misses = st.dictionaries(st.sampled_from(RESERVED), nearly_right, max_size=3).map(
    lambda changed: json.dumps(whole | changed).encode()
)
WHOLE = json.dumps(whole).encode()


@given(near_misses)
@example(WHOLE)
@example(WHOLE + b" ")
@example(WHOLE + b"x")
@example(b"\xef\xbb\xbf" + WHOLE)
@example(WHOLE[:-1] + b', "data": {"n": 2}}')
@example(WHOLE[:-1] + b', "event_id": "17", "key": "k", "key": null}')
@example(WHOLE.replace(b'{"n": 1}', b"1" * 700))
@example(WHOLE.replace(b'{"n": 1}', b"1e999"))
@example(WHOLE.replace(b'{"n": 1}', b"NaN"))
@example(WHOLE.replace(b'{"n": 1}', b"[" * 101 + b"]" * 101))
@example(WHOLE.replace(b'{"n": 1}', b'{"a": -0, "a": 1E2}'))
@example(WHOLE[:-1] + b', "schema_version": 2.0}')
@example(WHOLE[:-1] + b', "metadata": null, "schema_version": null}')
def test_a_plain_body_is_read_alike_both_ways(body: bytes) -> None:
    """The fast way reads what the careful one reads, or leaves the body to it."""
    plain = read_plain(body)

    if plain is not None:
        careful = read_native(decode_object(body, "body"), None, None)
        assert plain == careful
        assert encode_native(plain) == encode_native(careful)


def test_a_whole_body_is_read_the_fast_way() -> None:
    """What nearly all bodies look like is not left to the careful way."""
    assert read_plain(WHOLE) == decode(WHOLE)


@given(bodies, st.lists(st.tuples(known_headers, header_values), max_size=5), st.booleans())
@example(b'{"specversion":"1.0","onefoldmetadata":"\\ud800"}', [], True)
@example(b"", [("ce-specversion", "1.0"), ("ce-onefoldmetadata", "\ud800")], True)
@example(b"[" * 100_000, [], True)
@example(b"1" * 5_000, [], True)
def test_almost_events_are_read_or_refused(
    body: bytes, headers: list[tuple[str, str | bytes | None]], is_timed: bool
) -> None:
    """Known members and headers with any values: an event or an InvalidEvent, no third way."""
    try:
        event = decode(body, headers, received_at=NOON if is_timed else None)
    except InvalidEvent:
        return

    assert all(through(event, form).identity == event.identity for form in FORMS)


@given(members, st.booleans())
def test_a_message_without_id_has_the_same_id_at_every_delivery(
    extra_members: dict[str, Any], is_timed: bool
) -> None:
    """A redelivery arrives later and in other spelling, and still has the id it had."""
    message = extra_members | {"event_type": "t", "source_service": "s", "event_id": None}
    if not is_timed:
        message.pop("event_timestamp", None)
    first, second = json.dumps(message), json.dumps(message, indent=1, sort_keys=True)
    try:
        event = decode(first.encode(), received_at=NOON)
    except InvalidEvent:
        assume(False)
        raise

    again = decode(second.encode(), received_at=NOON + timedelta(hours=1))

    assert again.id == event.id


@given(json_values)
def test_canonical_json_reads_back_as_the_same_value(value: object) -> None:
    """Nothing is lost in canonical JSON but the spelling."""
    canonical = canonical_json(value)

    assert json.loads(canonical) == value
    assert canonical_json(json.loads(canonical)) == canonical


@given(objects, st.randoms(use_true_random=False))
def test_member_order_does_not_matter(value: dict[str, object], random: Any) -> None:
    """Two objects with the same members have the same canonical bytes and fingerprint."""
    shuffled = list(value.items())
    random.shuffle(shuffled)

    assert canonical_json(dict(shuffled)) == canonical_json(value)
    assert fingerprint(dict(shuffled)) == fingerprint(value)


numbers = st.integers(-(10**30), 10**30) | st.floats(allow_nan=False, allow_infinity=False)


@given(numbers, numbers | st.none())
def test_numbers_are_the_same_exactly_when_they_are_equal(one: float, drawn: float | None) -> None:
    """Canonical JSON distinguishes numbers by value, and by nothing else."""
    other = drawn if drawn is not None else (float(one) if abs(one) < 1e300 else one)

    assert (canonical_json(one) == canonical_json(other)) == (one == other)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_every_spelling_of_a_double_is_the_same(value: float) -> None:
    """A number means what it is worth: repr, 17 digits and exponent forms agree."""
    spelled = [repr(value), f"{value:.17e}", f"{value:+.16E}".lstrip("+"), f"{value:.17g}"]

    assert {canonical_json(json.loads(text)) for text in spelled if float(text) == value} == {
        canonical_json(value)
    }


@given(st.sampled_from([math.nan, math.inf, -math.inf, "\ud800", (), b"", {1: 1}, {"\udfff": 0}]))
def test_what_is_no_json_has_no_canonical_form(value: object) -> None:
    """Non-finite numbers, lone surrogates and Python's own types are refused at any depth."""
    for nested in (value, [value], {"a": [1, value]}):
        with pytest.raises(InvalidEvent):
            canonical_json(nested)


@given(st.lists(st.text(), max_size=4), st.lists(st.text(), max_size=4))
def test_derived_ids_differ_when_their_parts_do(one: list[str], other: list[str]) -> None:
    """However the parts are cut, other parts make another id."""
    assert (derived_id(*one) == derived_id(*other)) == (one == other)


@given(
    st.datetimes(min_value=datetime(1970, 1, 1), timezones=st.just(UTC)),  # noqa: DTZ001
    st.binary(min_size=10, max_size=10),
)
def test_a_uuid7_holds_its_millisecond(now: datetime, random: bytes) -> None:
    """Version, variant and time are where RFC 9562 puts them, for any instant."""
    made = uuid7(now, random)

    assert (made.version, made.variant) == (7, "specified in RFC 4122")
    assert made.int >> 80 == (now - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(milliseconds=1)
