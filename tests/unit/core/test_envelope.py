"""The envelope: what an event holds, and what it refuses to hold."""

import math
import pickle
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from enum import Enum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import pytest

from onefold.core.envelope import MAX_VERSION, Event, is_attribute_text
from onefold.core.json_value import MAX_DEPTH
from onefold.errors import InvalidEvent

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
NIL = "00000000-0000-0000-0000-000000000000"


def random(size_bytes: int) -> bytes:
    return b"\x5a" * size_bytes


def an_event(**fields: Any) -> Event:
    given: dict[str, Any] = {"id": "1", "type": "t", "source": "s", "occurred_at": NOON}
    return Event(**given | fields)


def refusal(**fields: Any) -> tuple[str | None, str]:
    with pytest.raises(InvalidEvent) as refused:
        an_event(**fields)
    return refused.value.field, refused.value.reason


class Kind(str, Enum):  # noqa: UP042 (a StrEnum would hide the difference)
    OPENED = "door.opened"


class Nowhere(tzinfo):
    def utcoffset(self, _instant: datetime | None) -> None:
        """A zone that does not say how far it is from UTC leaves an instant naive."""

    dst = tzname = utcoffset


def test_an_event_needs_four_fields_only() -> None:
    """All others have a value that means absent."""
    event = an_event()

    assert (event.version, event.key, event.correlation_id, event.causation_id) == (
        1,
        None,
        None,
        None,
    )
    assert (event.data, event.metadata, event.extra) == (None, {}, {})


def test_fields_cannot_be_replaced() -> None:
    """What was checked stays as it was."""
    with pytest.raises(AttributeError):
        an_event().id = "2"  # type: ignore[misc]


def test_an_event_survives_pickling() -> None:
    """Worker processes hand events to each other."""
    event = an_event(data={"a": [1]}, metadata={"b": 2}, extra={"c": 3})

    assert pickle.loads(pickle.dumps(event)) == event


@pytest.mark.parametrize("field", ["id", "type", "source", "key", "correlation_id", "causation_id"])
@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (17, "text is expected, not int"),
        ("", "1 to 512 characters, not 0"),
        ("x" * 513, "1 to 512 characters, not 513"),
        ("a\nb", "a control character, noncharacter or lone surrogate"),
        ("é\x85", "a control character, noncharacter or lone surrogate"),
        ("\ud800", "a control character, noncharacter or lone surrogate"),
        ("\U0001fffe", "a control character, noncharacter or lone surrogate"),
    ],
)
def test_text_that_no_attribute_may_hold_is_refused(field: str, value: object, reason: str) -> None:
    """Each text field is checked as CloudEvents says, and named."""
    assert refusal(**{field: value}) == (field, reason)


@pytest.mark.parametrize("field", ["id", "type", "source"])
def test_a_required_text_is_not_null(field: str) -> None:
    """Only the other text fields may be absent."""
    assert refusal(**{field: None}) == (field, "text is expected, not NoneType")


def test_text_of_any_language_is_kept_as_it_is() -> None:
    """Nothing is normalised: é in one code point and in two are different ids."""
    ids = ["é", "e\u0301", "日本", "\U0001f600", "x" * 512]

    assert [an_event(id=id_).id for id_ in ids] == ids


def test_a_member_of_an_enum_is_its_text() -> None:
    """Types may be declared as an enum; the wire sees plain text."""
    event = an_event(type=Kind.OPENED)

    assert (type(event.type), event.type) == (str, "door.opened")


@pytest.mark.parametrize("nil", [NIL, f"{{{NIL}}}", f"urn:uuid:{NIL}"])
def test_the_nil_uuid_is_no_id(nil: str) -> None:
    """A producer that forgot to set its ids does not make all its events one."""
    assert refusal(id=nil) == ("id", "the nil UUID names no event")


def test_an_id_that_merely_contains_the_nil_uuid_is_one() -> None:
    """Text that is no UUID is the producer's own business."""
    assert an_event(id=f"order {NIL}").id == f"order {NIL}"


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (0, f"1 to {MAX_VERSION}"),
        (2**31, f"1 to {MAX_VERSION}"),
        (1.0, "an integer is expected, not float"),
        (True, "an integer is expected, not bool"),
        ("1", "an integer is expected, not str"),
    ],
)
def test_a_version_is_a_positive_integer_of_32_bits(version: object, reason: str) -> None:
    """Every form can carry it."""
    assert refusal(version=version) == ("version", reason)


@pytest.mark.parametrize(
    ("instant", "reason"),
    [
        (NOON.replace(tzinfo=None), "an instant needs a time zone"),
        (NOON.replace(tzinfo=Nowhere()), "an instant needs a time zone"),
        ("2026-03-01T12:00:00Z", "an instant is expected, not str"),
        (
            datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=1))),
            "outside the years 1 to 9999 in UTC",
        ),
    ],
)
def test_what_is_no_instant_is_refused(instant: object, reason: str) -> None:
    """A clock without a zone is not guessed at."""
    assert refusal(occurred_at=instant) == ("occurred_at", reason)


def test_an_instant_of_another_zone_is_turned_to_utc() -> None:
    """The same instant makes the same event."""
    event = an_event(occurred_at=NOON.astimezone(timezone(timedelta(hours=5, minutes=30))))

    assert (event.occurred_at, event.occurred_at.tzinfo) == (NOON, UTC)
    assert event == an_event()


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("data", {"a": [math.nan]}, ("data.a[0]", "nan is not a JSON number")),
        ("metadata", [], ("metadata", "an object is expected, not list")),
        ("metadata", {"a": b""}, ("metadata.a", "bytes is not a JSON type")),
        ("extra", None, ("extra", "an object is expected, not NoneType")),
        ("extra", {"a": {1}}, ("extra.a", "set is not a JSON type")),
        ("extra", {"datacontenttype": "?"}, ("datacontenttype", "a media type is expected")),
    ],
)
def test_what_is_no_json_is_refused(field: str, value: Any, expected: tuple[str, str]) -> None:
    """An event that could not be written is never made."""
    assert refusal(**{field: value}) == expected


def test_any_mapping_serves_as_metadata_and_extra() -> None:
    """Read-only views are taken, and kept as a plain object."""
    event = an_event(metadata=MappingProxyType({"a": 1}), extra=MappingProxyType({"b": 2}))

    assert (event.metadata, event.extra) == ({"a": 1}, {"b": 2})


def test_a_new_event_has_a_time_ordered_id_of_its_instant() -> None:
    """Id and instant come from the same reading of the clock."""
    event = Event.new("t", {"a": 1}, source="s", now=NOON, random=random, key="k", version=2)

    assert event.occurred_at == NOON
    assert UUID(event.id).version == 7
    assert (event.type, event.data, event.source, event.key) == ("t", {"a": 1}, "s", "k")
    assert (event.version, event.metadata) == (2, {})


def test_a_new_event_takes_what_links_it() -> None:
    """Correlation, causation and metadata are the caller's."""
    event = Event.new(
        "t",
        None,
        source="s",
        now=NOON,
        random=random,
        correlation_id="c",
        causation_id="d",
        metadata={"m": 1},
    )

    assert (event.correlation_id, event.causation_id, event.metadata) == ("c", "d", {"m": 1})


@pytest.mark.parametrize(("correlation_id", "expected"), [("flow", "flow"), (None, "1")])
def test_a_caused_event_points_back(correlation_id: str | None, expected: str) -> None:
    """It keeps the correlation, or starts one with the event that caused it."""
    cause = an_event(correlation_id=correlation_id, metadata={"trace": 1})

    effect = cause.caused(
        "u", {"b": 2}, source="v", now=NOON + timedelta(1), random=random, key="k", version=3
    )

    assert (effect.correlation_id, effect.causation_id) == (expected, "1")
    assert (effect.type, effect.data, effect.source, effect.key) == ("u", {"b": 2}, "v", "k")
    assert (effect.version, effect.metadata, effect.id == "1") == (3, {}, False)


def test_identity_ignores_the_spelling_of_a_uuid() -> None:
    """One event, whichever system wrote its id."""
    id_ = "0d2a7b64-1b2c-4d3e-8f90-a1b2c3d4e5f6"

    spelled = an_event(id=f"{{{id_.upper()}}}", source="elsewhere")

    assert (spelled.id, spelled.identity) == (f"{{{id_.upper()}}}", id_)


@pytest.mark.parametrize(
    "same",
    [
        {"data": {"a": 1.0}},
        {"occurred_at": NOON + timedelta(1)},
        {"id": "2"},
        {"correlation_id": "c"},
        {"causation_id": "c"},
        {"metadata": {"m": 1}},
        {"extra": {"x": 1}},
    ],
)
def test_a_fingerprint_ignores_how_an_event_travelled(same: dict[str, Any]) -> None:
    """A redelivery with other tracing, arrival or number spelling is no conflict."""
    assert an_event(**{"data": {"a": 1}} | same).fingerprint() == (
        an_event(data={"a": 1}).fingerprint()
    )


@pytest.mark.parametrize(
    "other", [{"data": {"a": 2}}, {"type": "u"}, {"source": "u"}, {"key": "k"}, {"version": 2}]
)
def test_a_fingerprint_tells_other_content(other: dict[str, Any]) -> None:
    """The same id used for something else can be noticed."""
    assert an_event(**{"data": {"a": 1}} | other).fingerprint() != (
        an_event(data={"a": 1}).fingerprint()
    )


def test_the_deepest_data_has_a_fingerprint() -> None:
    """What is accepted as data is accepted everywhere."""
    data: Any = 1
    for _ in range(MAX_DEPTH):
        data = [data]

    assert len(an_event(data=data).fingerprint()) == 32


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a b~", True),
        ("é", True),
        ("", False),
        ("\x7f", False),
        ("é\x00", False),
        ("\ufdd0", False),
    ],
)
def test_attribute_text_is_what_cloudevents_allows(
    value: str,
    expected: bool,
) -> None:
    """No controls, no noncharacters, not empty."""
    assert is_attribute_text(value) is expected
