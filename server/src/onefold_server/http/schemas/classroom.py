"""The classroom on the wire: what is read, and what is answered."""

from collections.abc import Mapping
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from onefold.core.fields import Expected, wrong_fields
from onefold.errors import InvalidInput
from onefold_server.domains.classroom.batches import HandedIn
from onefold_server.domains.classroom.rules import MAX_ESSAYS, Decision, Dropped, Taken

Shape = TypeVar("Shape", bound=msgspec.Struct)


class _Body(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A request's body; unknown fields are refused by their names."""


class CreateClass(_Body, frozen=True, kw_only=True):
    """A class; `class_id` makes a retry the same as once."""

    name: str
    course_code: str
    class_id: UUID | None = None


class ChangeClass(_Body, frozen=True, kw_only=True):
    """What is to change of a class; the rest stays."""

    name: str | None = None
    course_code: str | None = None


class Enrol(_Body, frozen=True, kw_only=True):
    """Pupils of the school to be put into a class."""

    student_ids: tuple[UUID, ...]


class CreateStudent(_Body, frozen=True, kw_only=True):
    """A pupil; `name`, or first and last name."""

    name: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None
    external_id: str | None = None
    student_id: UUID | None = None
    class_ids: tuple[UUID, ...] = ()


class ChangeStudent(_Body, frozen=True, kw_only=True):
    """What is to change of a pupil; the rest stays."""

    name: str | None = None
    first_name: str | None = None
    last_name: str | None = None
    email: str | None = None


class EssayBody(_Body, frozen=True, kw_only=True):
    """One essay as it was handed in."""

    text: str
    file_name: str = ""
    essay_id: UUID | None = None


class CreateBatch(_Body, frozen=True, kw_only=True):
    """Essays of a class whose authors are to be found; `batch_id` makes a retry the same."""

    class_id: UUID
    essays: Annotated[tuple[EssayBody, ...], Meta(max_length=MAX_ESSAYS)]
    batch_id: UUID | None = None


class DecisionBody(_Body, frozen=True, kw_only=True):
    """A teacher's word on one essay; without `student_id` the suggested pupil is meant."""

    essay_id: UUID
    confirmed: bool
    student_id: UUID | None = None


class Decide(_Body, frozen=True, kw_only=True):
    """Decisions on some or all essays of a batch."""

    decisions: Annotated[tuple[DecisionBody, ...], Meta(min_length=1, max_length=MAX_ESSAYS)]


_UUID: Final = ("not_a_uuid", "expected a UUID")
_TEXT: Final = ("text", "expected text")
_UUIDS: Final = ("not_uuids", "expected a list of UUIDs")

_EXPECTED: Final[Expected] = {
    "batch_id": _UUID,
    "class_id": _UUID,
    "class_ids": _UUIDS,
    "course_code": _TEXT,
    "decisions": ("decisions", "expected objects with essay_id, confirmed and maybe student_id"),
    "email": _TEXT,
    "essays": ("essays", f"expected at most {MAX_ESSAYS} objects with text, maybe file_name"),
    "external_id": _TEXT,
    "first_name": _TEXT,
    "last_name": _TEXT,
    "name": _TEXT,
    "student_id": _UUID,
    "student_ids": _UUIDS,
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
    schemas = msgspec.json.schema(shape, ref_template="#/$defs/{name}")
    content = {"application/json": {"schema": schemas["$defs"][shape.__name__]}}
    return {"requestBody": {"required": True, "content": content}}


def handed_in(body: CreateBatch) -> list[HandedIn]:
    """The essays of a request."""
    return [HandedIn(e.text, e.file_name, e.essay_id) for e in body.essays]


def decisions(body: Decide) -> list[Decision]:
    """The decisions of a request."""
    return [
        Decision(essay_id=d.essay_id, confirmed=d.confirmed, student_id=d.student_id)
        for d in body.decisions
    ]


def taken(found: Taken) -> dict[str, Any]:
    """What became of suggestions; the first hundred of each kind that were dropped."""
    lists: Mapping[str, list[Dropped]] = {
        "invalid": found.invalid,
        "unknown_students": found.unknown_students,
        "not_enrolled": found.not_enrolled,
    }
    return {
        "batch_id": found.batch_id,
        "stored": found.stored,
        "improved": found.improved,
        "already_associated": found.already_associated,
        "no_match": found.no_match,
        "ambiguous": found.ambiguous,
        "repeated": found.repeated,
        **{name: [one._asdict() for one in dropped[:100]] for name, dropped in lists.items()},
    }
