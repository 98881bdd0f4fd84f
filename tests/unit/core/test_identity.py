"""Which id counts, and when two contents are the same."""

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest

from onefold.core.identity import (
    canonical_id,
    canonical_json,
    content,
    content_id,
    event_identity,
    fingerprint,
    supplied_id,
)
from onefold.errors import InvalidEvent

ID = "0d2a7b64-1b2c-4d3e-8f90-a1b2c3d4e5f6"
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
SPELLINGS = [ID, ID.upper(), f"{{{ID}}}", f"{{{ID.upper()}}}", f"urn:uuid:{ID}", f"URN:UUID:{ID}"]
NOT_UUIDS = [f"{{{ID}", f"{ID}}}", f"urn:{ID}", ID.replace("-", ""), f" {ID}", f"{ID}\n", "17", ""]


def said(**fields: Any) -> dict[str, Any]:
    given: dict[str, Any] = {"type": "t", "version": 1, "source": "s", "key": None}
    return content(**given | {"occurred_at": NOON, "data": {"a": 1}} | fields)


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_every_spelling_of_a_uuid_is_one_identity(spelling: str) -> None:
    """Braces, urn and upper case do not make another event, nor does the source."""
    assert canonical_id(spelling) == ID
    assert event_identity(spelling, source="anyone") == ID


@pytest.mark.parametrize("id_", NOT_UUIDS)
def test_text_that_is_no_uuid_is_compared_as_it_is(id_: str) -> None:
    """Nothing is guessed about ids of other shapes; as an identity they become a UUID."""
    assert canonical_id(id_) == id_
    assert str(UUID(event_identity(id_, source="s"))) != ID


def test_an_id_that_is_no_uuid_counts_within_its_source() -> None:
    """CloudEvents: source and id together are unique. Order 17 of one shop hides no other."""
    ours, theirs = event_identity("17", source="shop"), event_identity("17", source="till")

    assert ours != theirs
    assert ours == event_identity("17", source="shop")


@pytest.mark.parametrize(
    ("candidates", "expected"),
    [((), None), ((None, None), None), (("a", None), "a"), ((None, "b"), "b")],
)
def test_the_first_id_that_was_sent_counts(
    candidates: tuple[str | None, ...], expected: str | None
) -> None:
    """Header or body: where there is only one, it is it."""
    assert supplied_id(*candidates) == expected


def test_header_and_body_may_spell_one_id_differently() -> None:
    """They agree, and the body's spelling is kept."""
    assert supplied_id(ID.upper(), ID) == ID.upper()


def test_header_and_body_that_disagree_are_refused() -> None:
    """A message with two ids is parked, not guessed at."""
    with pytest.raises(InvalidEvent, match="id: header and body name different events"):
        supplied_id("a", "b")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ({"b": 1, "a": {"d": 1, "c": 2}}, b'{"a":{"c":2,"d":1},"b":1}'),
        ([3, 1, 2], b"[3,1,2]"),
        ([1.0, -0.0, 1e16, 1e22], b"[1,0,10000000000000000,10000000000000000000000]"),
        ([0.1, 1.5e-7, 5e-324], b"[0.1,1.5e-7,5e-324]"),
        ([True, False, None, 1, 0], b"[true,false,null,1,0]"),
        (2**53 + 1, b"9007199254740993"),
        ("é/\u2028\n", b'"\xc3\xa9/\xe2\x80\xa8\\n"'),
        ({"\U0001f600": 1, "\uffff": 2}, b'{"\xef\xbf\xbf":2,"\xf0\x9f\x98\x80":1}'),
    ],
)
def test_canonical_json_is_spelled_one_way(value: Any, expected: bytes) -> None:
    """Sorted by code point, no spaces, numbers by value, strings untouched."""
    assert canonical_json(value) == expected


def test_strings_are_not_normalised() -> None:
    """Two spellings of é are two strings, as every database will say."""
    assert canonical_json("é") != canonical_json("e\u0301")


def test_true_is_not_one() -> None:
    """Python's equality is not JSON's."""
    assert fingerprint({"a": True}) != fingerprint({"a": 1})


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", {1: 2}, (1,), b""])
def test_what_is_no_json_has_no_canonical_form(value: Any) -> None:
    """It is refused, and named by where it stands."""
    with pytest.raises(InvalidEvent, match=r"^value\.a"):
        canonical_json({"a": [value]})


def test_canonicalising_changes_nothing_of_its_input() -> None:
    """The event keeps the numbers it came with."""
    value = {"a": [1.0]}

    canonical_json(value)

    assert repr(value) == "{'a': [1.0]}"


def test_a_fingerprint_is_the_sha_256_of_the_canonical_form() -> None:
    """Other languages can compute it."""
    assert fingerprint({"b": 1.0, "a": 2}) == sha256(b'{"a":2,"b":1}').digest()


def test_content_ids_repeat() -> None:
    """The same content has the same id, in any member order and number spelling."""
    one, other = said(data={"a": 1, "b": 2}), said(data={"b": 2.0, "a": 1})

    assert content_id(one) == content_id(other)
    assert UUID(content_id(one)).version == 5


@pytest.mark.parametrize(
    "other",
    [
        {"type": "u"},
        {"version": 2},
        {"source": "u"},
        {"key": "k"},
        {"occurred_at": NOON + timedelta(microseconds=1)},
        {"occurred_at": None},
        {"data": {"a": 2}},
    ],
)
def test_content_ids_tell_each_part_of_the_content(other: dict[str, Any]) -> None:
    """An event that says something else in any field that is hashed has another id."""
    assert content_id(said(**other)) != content_id(said())
