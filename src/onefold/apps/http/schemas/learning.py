"""Learning on the wire: what is read, and what is answered."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from onefold.core.fields import Expected, wrong_fields
from onefold.domains.learning.paging import Page
from onefold.domains.learning.sessions.rules import Session
from onefold.errors import InvalidInput

Shape = TypeVar("Shape", bound=msgspec.Struct)
T = TypeVar("T")

_Counters = dict[str, int]


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's body; unknown fields are refused by their names."""


class StartSession(_Body, frozen=True, kw_only=True):
    """Begin a session; `session_id` makes a retry the same as once."""

    student_id: UUID
    session_type: str
    language: str
    source_id: str | None = None
    metadata: dict[str, Any] | None = None
    session_id: UUID | None = None


class ChangeSession(_Body, frozen=True, kw_only=True):
    """Move counters and merge metadata, once for its `change_id`."""

    change_id: UUID
    add: _Counters = {}
    set: _Counters = {}
    metadata: dict[str, Any] = {}
    expected_version: Annotated[int, Meta(ge=1)] | None = None
    correction: bool = False


_EXPECTED: Final[Expected] = {
    "add": ("counters", "expected an object of whole numbers by counter"),
    "change_id": ("not_a_uuid", "expected a UUID"),
    "correction": ("not_a_boolean", "expected true or false"),
    "expected_version": ("version", "expected the version that was read, from 1"),
    "language": ("text", "expected text"),
    "metadata": ("not_an_object", "expected a JSON object"),
    "session_id": ("not_a_uuid", "expected a UUID"),
    "session_type": ("text", "expected text"),
    "set": ("counters", "expected an object of whole numbers by counter"),
    "source_id": ("text", "expected text"),
    "student_id": ("not_a_uuid", "expected a UUID"),
}


def read(raw: Any, shape: type[Shape]) -> Shape:
    """
    The *shape* in *raw*.

    Raises:
        InvalidInput: naming each wrong field.
    """
    try:
        return msgspec.convert(raw, shape)
    except (msgspec.ValidationError, UnicodeError):
        raise InvalidInput(wrong_fields(raw, shape, _EXPECTED)) from None


def request_body(shape: type[msgspec.Struct]) -> dict[str, Any]:
    """What OpenAPI says of a body that is decoded here and not by FastAPI."""
    definition = msgspec.json.schema(shape)["$defs"][shape.__name__]
    content = {"application/json": {"schema": definition}}
    return {"requestBody": {"required": True, "content": content}}


def page(name: str, found: Page[T], rows: Sequence[Any]) -> dict[str, Any]:
    """A page of a list; `next_cursor` is null at its end."""
    return {name: rows, "next_cursor": found.next_cursor}


def without_school(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row as its own school sees it."""
    return {name: value for name, value in row.items() if name != "school_id"}


def session(found: Session) -> dict[str, Any]:
    """A session with what follows from its counters and instants."""
    fields = without_school(msgspec.structs.asdict(found))
    return {
        "session_id": fields.pop("id"),
        **fields,
        "accuracy_rate": found.accuracy_rate,
        "duration_s": found.duration_s,
    }
