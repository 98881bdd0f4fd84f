"""The wire, to the byte. A golden file that changes breaks every producer and consumer."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, Literal

import pytest

from onefold.core.envelope import Event
from onefold.core.identity import canonical_json, content, content_id, event_identity, fingerprint
from onefold.core.ids import derived_id
from onefold.core.wire import decode, encode_binary, encode_native, encode_structured

GOLDEN: Final = Path(__file__).parent / "golden"
NOON: Final = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
ID: Final = "019ca94f-74fa-7000-8000-000000000001"

EVENTS: Final = {
    "bare": Event(id="17", type="door.opened", source="/house/1", occurred_at=NOON),
    "plain": Event(
        id=ID,
        type="session.ended",
        source="game",
        occurred_at=NOON.replace(microsecond=0),
        data={"score": 1.5, "level": 3, "won": True, "notes": ["ä", None]},
    ),
    "full": Event(
        id=ID.upper(),
        type="essay.matched",
        version=3,
        source="urn:example:classroom",
        key='class 7b "ö"',
        occurred_at=NOON,
        correlation_id="019ca94f-74fa-7000-8000-000000000002",
        causation_id="019ca94f-74fa-7000-8000-000000000003",
        data="100 %",
        metadata={"trace": {"sampled": True}, "sender": "ünï\x7f"},
        extra={
            "data_schema_uri": None,
            "dataschema": "https://example.com/essay",
            "key": "a foreign key",
            "retries": 5,
            "subject": "a foreign subject",
            "urgent": True,
        },
    ),
    "xml": Event(
        id="A-1",
        type="report.written",
        source="desk",
        occurred_at=NOON,
        data="<p>ö</p>\n",
        extra={"datacontenttype": "application/xml"},
    ),
    "image": Event(
        id="A-2",
        type="picture.taken",
        source="desk",
        occurred_at=NOON,
        data="iVBORw0KGgr/AA==",
        extra={"datacontenttype": "image/png", "datacontentencoding": "base64"},
    ),
}
TRANSPORTS: Final[tuple[Literal["kafka", "http"], ...]] = ("kafka", "http")
each_event = pytest.mark.parametrize("name", EVENTS)


def golden(name: str) -> bytes:
    return (GOLDEN / name).read_bytes()


def golden_json(name: str) -> Any:
    return json.loads(golden(name))


@each_event
def test_native_bytes_are_as_recorded(name: str) -> None:
    """The native form is written exactly so."""
    assert encode_native(EVENTS[name]) == golden(f"{name}.native.json")


@each_event
def test_structured_bytes_are_as_recorded(name: str) -> None:
    """CloudEvents structured mode is written exactly so."""
    assert encode_structured(EVENTS[name]) == golden(f"{name}.structured.json")


@each_event
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_binary_headers_and_body_are_as_recorded(
    name: str, transport: Literal["kafka", "http"]
) -> None:
    """CloudEvents binary mode is written exactly so, headers in this order."""
    headers, body = encode_binary(EVENTS[name], transport=transport)

    assert [list(header) for header in headers.items()] == golden_json(f"{name}.{transport}.json")
    assert body == golden(f"{name}.body.bin")


@each_event
@pytest.mark.parametrize("form", ["native", "structured"])
def test_recorded_bodies_read_as_their_event(name: str, form: str) -> None:
    """What was written by an earlier version is read by this one, without any header."""
    assert decode(golden(f"{name}.{form}.json")) == EVENTS[name]


@each_event
@pytest.mark.parametrize("transport", TRANSPORTS)
def test_recorded_messages_read_as_their_event(name: str, transport: str) -> None:
    """What was sent by an earlier version is read by this one."""
    headers = golden_json(f"{name}.{transport}.json")

    assert decode(golden(f"{name}.body.bin"), headers) == EVENTS[name]


@pytest.mark.parametrize("case", golden_json("canonical.json"))
def test_canonical_json_is_as_recorded(case: dict[str, str]) -> None:
    """Ids derived from content outlive libraries: their input may never change its spelling."""
    value = json.loads(case["text"])

    assert canonical_json(value) == case["canonical"].encode()
    assert fingerprint(value).hex() == case["sha256"]


@pytest.mark.parametrize("case", golden_json("identity.json"))
def test_identities_are_as_recorded(case: dict[str, Any]) -> None:
    """An inbox written by an earlier version still recognises its events."""
    if "parts" in case:
        assert str(derived_id(*case["parts"])) == case["identity"]
    elif "id" in case:
        assert event_identity(case["id"], source=case["source"]) == case["identity"]
    else:
        said = case["content"]
        occurred_at = datetime.fromisoformat(said.pop("occurred_at"))
        assert content_id(content(occurred_at=occurred_at, **said)) == case["identity"]
