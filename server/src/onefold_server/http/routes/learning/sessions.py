"""Learning sessions over HTTP."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from onefold_server.domains.learning.sessions.rules import Change
from onefold_server.http.auth import Caller, Served
from onefold_server.http.replies import Reply
from onefold_server.http.routes.learning.shared import Body, Cursor, Limit
from onefold_server.http.schemas import learning as schema

router = APIRouter(prefix="/sessions", tags=["learning: sessions"])


@router.post("", status_code=201, openapi_extra=schema.request_body(schema.StartSession))
async def start(onefold: Served, caller: Caller, body: Body) -> Reply:
    """Begin a session; with a `session_id`, again is the same as once."""
    given = schema.read(body, schema.StartSession)
    begun = await onefold.learning.sessions.start(
        caller,
        given.student_id,
        given.session_type,
        given.language,
        source_id=given.source_id,
        metadata=given.metadata,
        session_id=given.session_id,
    )
    return Reply(schema.session(begun), status_code=201)


@router.patch("/{session_id}", openapi_extra=schema.request_body(schema.ChangeSession))
async def change(session_id: UUID, onefold: Served, caller: Caller, body: Body) -> Reply:
    """Add to or set counters, merge metadata; a change of the same id counts once."""
    given = schema.read(body, schema.ChangeSession)
    what = Change(
        id=given.change_id,
        add=given.add,
        set=given.set,
        metadata=given.metadata,
        expected_version=given.expected_version,
        correction=given.correction,
    )
    return Reply(schema.session(await onefold.learning.sessions.change(caller, session_id, what)))


@router.post("/{session_id}/complete")
async def complete(session_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """End a session; again answers the first result."""
    return Reply(schema.session(await onefold.learning.sessions.complete(caller, session_id)))


@router.post("/{session_id}/abandon")
async def abandon(session_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """End a session as given up, at its last change."""
    return Reply(schema.session(await onefold.learning.sessions.abandon(caller, session_id)))


@router.get("/{session_id}")
async def get(session_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """One session."""
    return Reply(schema.session(await onefold.learning.sessions.get(caller, session_id)))


@router.get("")
async def list_sessions(
    onefold: Served,
    caller: Caller,
    student_id: UUID | None = None,
    session_type: str | None = None,
    language: str | None = None,
    is_open: Annotated[bool | None, Query(alias="open")] = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Reply:
    """Sessions, the newest first; each parameter narrows the list."""
    found = await onefold.learning.sessions.sessions(
        caller,
        student_id=student_id,
        session_type=session_type,
        language=language,
        is_open=is_open,
        cursor=cursor,
        limit=limit,
    )
    return Reply(schema.page("sessions", found, [schema.session(s) for s in found.rows]))
