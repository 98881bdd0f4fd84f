"""Telemetry over HTTP. A route parses, calls one use case, maps the result."""

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from onefold_server.domains.telemetry.rules import TelemetryEvent
from onefold_server.domains.telemetry.service import MAX_PAGE
from onefold_server.http.auth import Caller, Served, authenticate
from onefold_server.http.body import decode_json, read_body
from onefold_server.http.problems import problem
from onefold_server.http.replies import Reply
from onefold_server.http.schemas import telemetry as schema

router = APIRouter(
    prefix="/api/v1/telemetry", tags=["telemetry"], dependencies=[Depends(authenticate)]
)

Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="rows of a page")]


async def _json(request: Request, onefold: Served) -> Any:
    body = await read_body(request, limit_bytes=onefold.settings.max_body_bytes)
    return decode_json(body)


Body = Annotated[Any, Depends(_json)]


@router.post("/events", status_code=201, openapi_extra=schema.request_body(TelemetryEvent))
async def post_event(request: Request, onefold: Served, caller: Caller, body: Body) -> Reply:
    """Record one event; a repeat is answered like the first, and counts once."""
    given = await onefold.telemetry.ingest(caller, [body])
    if given.refused:
        refusal = given.refused[0]
        status = 409 if refusal.code == "conflict" else 422
        code = "invalid_input" if refusal.problems else refusal.code
        return problem(request, status, code, refusal.reason, errors=refusal.problems)
    return Reply(schema.receipt(UUID(body["event_id"]), 1, given), status_code=201)


@router.post("/batch", status_code=201, openapi_extra=schema.request_body(schema.Batch))
async def post_batch(onefold: Served, caller: Caller, body: Body) -> Reply:
    """Record 1 to 1000 events; bad ones are listed in `refused`, good ones count all the same."""
    batch = schema.read_batch(body)
    given = await onefold.telemetry.ingest(
        caller, batch.events, batch_id=batch.batch_id, client_version=batch.client_version
    )
    return Reply(schema.receipt(batch.batch_id, len(batch.events), given), status_code=201)


@router.get("/status/{batch_id}")
async def get_batch_status(batch_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """What became of a batch."""
    return Reply(schema.batch_status(await onefold.telemetry.batch_status(caller, batch_id)))


@router.get("/refusals")
async def list_refusals(onefold: Served, caller: Caller) -> Reply:
    """How many of the school's events were ever refused, by code: conflicts among them."""
    return Reply({"refusals": await onefold.telemetry.refusals(caller)})


@router.post("/session/{session_id}/close")
async def close_session(session_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """Close a session and compute its features; again is the same as once."""
    closed = schema.session(await onefold.telemetry.close_session(caller, session_id))
    return Reply(
        closed | {"message": f"session closed; features revision {closed['features']['revision']}"}
    )


@router.get("/sessions")
async def list_sessions(
    onefold: Served, caller: Caller, cursor: Cursor = None, limit: Limit = 100
) -> Reply:
    """The school's sessions, the newest first."""
    found = await onefold.telemetry.sessions(caller, cursor=cursor, limit=limit)
    rows = [schema.session(row) for row in found.rows]
    return Reply(schema.page("sessions", rows, found.next_cursor))


@router.get("/sessions/{session_id}")
async def get_session(
    session_id: UUID, onefold: Served, caller: Caller, cursor: Cursor = None, limit: Limit = 100
) -> Reply:
    """A session with its features and a page of its events."""
    found = await onefold.telemetry.session(caller, session_id)
    events = await onefold.telemetry.session_events(caller, session_id, cursor=cursor, limit=limit)
    return Reply(schema.session(found) | schema.events_page(events))


@router.get("/sessions/{session_id}/features")
async def get_features(session_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """Every revision of a session's features, the newest first; none while it is open."""
    found = await onefold.telemetry.revisions(caller, session_id)
    rows = [schema.features(row) for row in found]
    return Reply({"session_id": session_id, "revisions": rows})


@router.get("/students/{student_id}/sessions")
async def list_student_sessions(
    student_id: UUID, onefold: Served, caller: Caller, cursor: Cursor = None, limit: Limit = 100
) -> Reply:
    """A pupil's sessions, the newest first."""
    found = await onefold.telemetry.sessions(
        caller, student_id=student_id, cursor=cursor, limit=limit
    )
    rows = [schema.session(row) for row in found.rows]
    return Reply(schema.page("sessions", rows, found.next_cursor))


@router.get("/students/{student_id}/features")
async def list_student_features(
    student_id: UUID, onefold: Served, caller: Caller, cursor: Cursor = None, limit: Limit = 100
) -> Reply:
    """The features of a pupil's closed sessions, the newest session first."""
    found = await onefold.telemetry.sessions(
        caller, student_id=student_id, closed_only=True, cursor=cursor, limit=limit
    )
    rows = [schema.student_features(row) for row in found.rows]
    return Reply(schema.page("features", rows, found.next_cursor))
