"""The school's pupils over HTTP."""

import io
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from onefold.core.cursor import decode_cursor, encode_cursor
from onefold.errors import FieldProblem, InvalidInput
from onefold_server.domains.directory.rules import Scope
from onefold_server.http.auth import Caller, Served, authenticate
from onefold_server.http.body import read_body
from onefold_server.http.replies import Reply

router = APIRouter(prefix="/api/v1", tags=["directory"], dependencies=[Depends(authenticate)])


@router.get("/students")
async def list_students(
    onefold: Served,
    caller: Caller,
    cursor: str | None = None,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> Reply:
    """The pupils enrolled in the caller's school, in the order of their ids."""
    caller.require(Scope.DIRECTORY_READ)
    after = decode_cursor(cursor, tuple[UUID])[0] if cursor else None
    rows = await onefold.directory.students(caller.school_id, after=after, limit=limit + 1)
    more = len(rows) > limit
    return Reply(
        {
            "students": [dict(row) for row in rows[:limit]],
            "next_cursor": encode_cursor((rows[limit - 1]["student_id"],)) if more else None,
        }
    )


@router.post("/students/import", openapi_extra={"requestBody": {"content": {"text/csv": {}}}})
async def import_students(request: Request, onefold: Served, caller: Caller) -> Reply:
    """Bring the school's pupils in line with a CSV file; again is the same as once."""
    caller.require(Scope.DIRECTORY_WRITE)
    body = await read_body(request, limit_bytes=onefold.settings.max_body_bytes)
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 at byte {error.start}"
        raise InvalidInput([FieldProblem("body", "malformed", reason)]) from None
    lines = io.StringIO(text, newline="")  # not splitlines: a cell may hold other line ends
    report = await onefold.directory.import_roster(caller.school_id, lines)
    return Reply(report)
