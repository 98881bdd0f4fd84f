"""Learning on the wire: what is read, and what is answered."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, Final, TypeVar
from uuid import UUID

import msgspec
from msgspec import Meta

from onefold.core.fields import Expected, wrong_fields
from onefold.errors import InvalidInput
from onefold_server.domains.learning.budgets.rules import (
    LAPSE,
    THRESHOLDS,
    Enforcement,
    money_text,
)
from onefold_server.domains.learning.calendar import Period
from onefold_server.domains.learning.content.rules import ContentKind, MaterialKind
from onefold_server.domains.learning.scenarios.definitions import Definition
from onefold_server.domains.learning.scenarios.service import shown
from onefold_server.domains.learning.sessions.rules import Session
from onefold_server.domains.learning.values import wrong
from onefold_server.domains.page import Page

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


class StartAttempt(_Body, frozen=True, kw_only=True):
    """Begin an attempt at a scenario; `attempt_id` makes a retry the same as once."""

    student_id: UUID
    scenario_id: str
    language: str
    attempt_id: UUID | None = None


class TakeTurn(_Body, frozen=True, kw_only=True):
    """What a learner said, under an id by which it counts once."""

    turn_id: UUID
    said: str


class ImportScenarios(_Body, frozen=True, kw_only=True):
    """Scenarios of the school's own; each is judged by itself."""

    scenarios: Annotated[list[Any], Meta(min_length=1, max_length=100)]


class AddCard(_Body, frozen=True, kw_only=True):
    """A word to review."""

    student_id: UUID
    language: str
    word: str
    back: str = ""


class AnswerCard(_Body, frozen=True, kw_only=True):
    """How well a word was remembered: 1 again, 2 hard, 3 good, 4 easy."""

    review_id: UUID
    answer: int


class MaterialBody(_Body, frozen=True, kw_only=True):
    """Something made of content to learn with."""

    kind: MaterialKind
    title: str
    body: dict[str, Any]


class SaveContent(_Body, frozen=True, kw_only=True):
    """Content that was studied."""

    student_id: UUID
    kind: ContentKind
    title: str
    language: str
    body: str
    source_url: str | None = None
    topics: tuple[str, ...] = ()
    materials: tuple[MaterialBody, ...] = ()


class SetBudget(_Body, frozen=True, kw_only=True):
    """What may be spent in a period; without `student_id`, by the school's learners in all."""

    period: Period
    limit: str
    student_id: UUID | None = None
    zone: str = "UTC"
    enforcement: Enforcement = Enforcement.BLOCK
    thresholds: tuple[int, ...] = THRESHOLDS


class Reserve(_Body, frozen=True, kw_only=True):
    """Set money aside for a call; `reservation_id` makes a retry the same as once."""

    student_id: UUID
    reservation_id: UUID
    amount: str
    lapse_s: Annotated[float, Meta(gt=0, le=86400)] = LAPSE.total_seconds()


class Settle(_Body, frozen=True, kw_only=True):
    """What a call really cost and used."""

    cost: str
    provider: str
    model: str
    input_tokens: int = 0
    output_tokens: int = 0


class SetZone(_Body, frozen=True, kw_only=True):
    """A learner's IANA time zone."""

    zone: str


_UUID: Final = ("not_a_uuid", "expected a UUID")
_TEXT: Final = ("text", "expected text")
_AMOUNT: Final = ("not_exact", 'expected an amount as text, such as "0.25"')
_WHOLE: Final = ("not_a_number", "expected a whole number")

_EXPECTED: Final[Expected] = {
    "amount": _AMOUNT,
    "answer": ("bounds", "expected 1 (again), 2 (hard), 3 (good) or 4 (easy)"),
    "attempt_id": _UUID,
    "back": _TEXT,
    "body": _TEXT,
    "cost": _AMOUNT,
    "enforcement": ("unknown", "expected warn or block"),
    "input_tokens": _WHOLE,
    "kind": ("unknown", f"expected one of {', '.join(ContentKind)}"),
    "lapse_s": ("bounds", "expected more than 0 seconds and at most a day"),
    "limit": _AMOUNT,
    "materials": ("materials", "expected a list of objects with kind, title and body"),
    "model": _TEXT,
    "output_tokens": _WHOLE,
    "period": ("unknown", "expected day, week or month"),
    "provider": _TEXT,
    "reservation_id": _UUID,
    "review_id": _UUID,
    "said": _TEXT,
    "scenario_id": _TEXT,
    "scenarios": ("length", "expected a list of 1 to 100 scenarios"),
    "source_url": _TEXT,
    "thresholds": ("thresholds", "expected a list of whole percentages"),
    "title": _TEXT,
    "topics": ("topics", "expected a list of texts"),
    "turn_id": _UUID,
    "word": _TEXT,
    "zone": _TEXT,
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


def scenario_line(definition: Definition) -> dict[str, Any]:
    """A scenario in a list: what it is, in which languages it is told."""
    return {
        "id": definition.id,
        "version": definition.version,
        "category": definition.category,
        "difficulty": definition.difficulty,
        "minutes": definition.minutes,
        "phases": len(definition.phases),
        "titles": {language: telling.title for language, telling in definition.languages.items()},
    }


def attempt(row: Mapping[str, Any]) -> dict[str, Any]:
    """An attempt with where it stands."""
    return shown(row)


def card(row: Mapping[str, Any]) -> dict[str, Any]:
    """A card; `word_key` is how its spellings are told to be one."""
    fields = without_school(row)
    return {"card_id": fields.pop("id"), **fields}


def content(row: Mapping[str, Any]) -> dict[str, Any]:
    """Content."""
    fields = without_school(row)
    return {"content_id": fields.pop("id"), **fields}


def amounts(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row with its amounts as exact text."""
    return {
        name: money_text(value) if isinstance(value, Decimal) else value
        for name, value in without_school(row).items()
    }


def budget(row: Mapping[str, Any]) -> dict[str, Any]:
    """A budget as it was set."""
    fields = amounts(row)
    return {"budget_id": fields.pop("id"), "limit": fields.pop("limit_amount"), **fields}


def reservation(row: Mapping[str, Any]) -> dict[str, Any]:
    """A reservation, and at `reserve` how each budget stands with it."""
    fields = amounts(row)
    standings = [amounts(standing) for standing in fields.pop("budgets")]
    return {"reservation_id": fields.pop("id"), **fields, "budgets": standings}


def aware(instant: datetime | None, field: str) -> datetime | None:
    """*instant* in UTC, when it has an offset and a year there; else `InvalidInput`."""
    if instant is None:
        return None
    if instant.tzinfo is None:
        raise wrong(field, "naive_timestamp", "has no offset; add Z or +hh:mm")
    try:
        return instant.astimezone(UTC)
    except OverflowError:
        raise wrong(field, "bounds", "lies beyond the years 1 to 9999 of UTC") from None
