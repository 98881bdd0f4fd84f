"""Telemetry on the wire: what is read, and what is answered."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Final
from uuid import UUID

import msgspec
from msgspec import Meta

from onefold.core.fields import Expected, text_flaw, wrong_fields
from onefold.errors import FieldProblem, InvalidInput
from onefold_server.domains.page import Page
from onefold_server.domains.telemetry.intake import Receipt
from onefold_server.domains.telemetry.rules import MAX_BATCH, TelemetryEvent


class Batch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """1 to 1000 events that were uploaded together; each is judged by itself."""

    batch_id: UUID
    client_version: Annotated[str, Meta(max_length=20)]
    events: Annotated[list[Any], Meta(min_length=1, max_length=MAX_BATCH)]


_EXPECTED: Final[Expected] = {
    "batch_id": ("not_a_uuid", "expected a UUID"),
    "client_version": ("too_long", "expected at most 20 characters"),
    "events": ("length", f"expected a list of 1 to {MAX_BATCH} events"),
}


def read_batch(raw: Any) -> Batch:
    """
    The batch in *raw*, its events still unchecked.

    Raises:
        InvalidInput: naming each wrong field of the batch itself.
    """
    try:
        batch = msgspec.convert(raw, Batch)
    except (msgspec.ValidationError, UnicodeError):
        raise InvalidInput(wrong_fields(raw, Batch, _EXPECTED)) from None
    flaw = text_flaw(batch.client_version)
    if flaw:
        raise InvalidInput([FieldProblem("client_version", *flaw)])
    return batch


def receipt(batch_id: UUID, received: int, given: Receipt) -> dict[str, Any]:
    """The answer to an ingest; the first four fields are those of the earlier API."""
    stored = given.applied + given.repeated
    return {
        "status": "processed",
        "received_count": received,
        "batch_id": batch_id,
        "message": f"{stored}/{received} stored",
        "applied": given.applied,
        "repeated": given.repeated,
        "refused": [
            {"index": r.index, "event_id": r.event_id, "code": r.code, "reason": r.reason}
            for r in given.refused
        ],
    }


def batch_status(row: Mapping[str, Any]) -> dict[str, Any]:
    """What became of a batch."""
    names = ("client_version", "received_at", "last_received_at", "posts", "applied", "repeated")
    return {
        "batch_id": row["id"],
        "status": "completed",
        **{name: row[name] for name in names},
        "refused": row["refused"],
    }


_SESSION = ("student_id", "mission_id", "game_version", "started_at", "event_count")


def session(row: Mapping[str, Any]) -> dict[str, Any]:
    """A session; `ended_at` and `features` are null while it is open."""
    closed = row["closed_at"] is not None
    return {
        "session_id": row["id"],
        "status": "closed" if closed else "open",
        **{name: row[name] for name in _SESSION},
        "last_event_at": row["last_event_at"],
        "ended_at": row["last_event_at"] if closed else None,
        "closed_at": row["closed_at"],
        "closed_by": row["closed_by"],
        "features": newest_features(row) if closed else None,
    }


_FEATURES = ("computed_at", "version", "profile", "event_count")


def newest_features(row: Mapping[str, Any]) -> dict[str, Any]:
    """The features of a session's row."""
    columns = (*_FEATURES, "metrics", "undefined", "event_types")
    inner = {name: row[f"features_{name}"] for name in columns}
    return features(inner | {"revision": row["revision"]})


def features(row: Mapping[str, Any]) -> dict[str, Any]:
    """One revision: the metrics by name, and why one is null."""
    return {
        "revision": row["revision"],
        **{name: row[name] for name in _FEATURES},
        **row["metrics"],
        "event_types": row["event_types"],
        "undefined": row["undefined"],
    }


def student_features(row: Mapping[str, Any]) -> dict[str, Any]:
    """The features of one of a pupil's sessions."""
    session_of = {"session_id": row["id"], "student_id": row["student_id"]}
    return session_of | {"started_at": row["started_at"]} | newest_features(row)


def page(name: str, rows: Sequence[Any], next_cursor: str | None) -> dict[str, Any]:
    """A page of a list; `next_cursor` is null at its end."""
    return {name: rows, "next_cursor": next_cursor}


def events_page(found: Page[Any]) -> dict[str, Any]:
    """A page of a session's events."""
    return page("events", [event(row) for row in found.rows], found.next_cursor)


def event(row: Mapping[str, Any]) -> dict[str, Any]:
    """One stored event."""
    names = [name for name in row if name != "occurred_at"]
    return {"timestamp": row["occurred_at"], **{name: row[name] for name in names}}


def request_body(shape: type[msgspec.Struct]) -> dict[str, Any]:
    """What OpenAPI says of a body that is decoded here and not by FastAPI."""
    schema = msgspec.json.schema(shape)
    definition = schema["$defs"][shape.__name__]
    if shape is Batch:
        item = msgspec.json.schema(TelemetryEvent)["$defs"]["TelemetryEvent"]
        definition["properties"]["events"]["items"] = item
    content = {"application/json": {"schema": definition}}
    return {"requestBody": {"required": True, "content": content}}
