"""The classroom over HTTP. A route parses, calls one use case, maps the result."""

import io
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request

from onefold.core.wire import decode
from onefold.errors import FieldProblem, InvalidInput
from onefold_server.domains.classroom.batches import MAX_PAGE
from onefold_server.http.auth import Caller, Served, authenticate
from onefold_server.http.body import decode_json, read_body
from onefold_server.http.replies import Reply
from onefold_server.http.schemas import classroom as schema

router = APIRouter(
    prefix="/api/v1/classroom", tags=["classroom"], dependencies=[Depends(authenticate)]
)

Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before")]
Limit = Annotated[int, Query(ge=1, le=MAX_PAGE, description="rows of a page")]


async def _bytes(request: Request, onefold: Served) -> bytes:
    return await read_body(request, limit_bytes=onefold.settings.max_body_bytes)


async def _json(body: Annotated[bytes, Depends(_bytes)]) -> Any:
    return decode_json(body)


Raw = Annotated[bytes, Depends(_bytes)]
Body = Annotated[Any, Depends(_json)]


@router.get("/courses")
async def list_courses(onefold: Served, caller: Caller) -> Reply:
    """Every course that a class can be of."""
    return Reply({"courses": await onefold.classroom.classes.courses(caller)})


@router.post("/classes", status_code=201, openapi_extra=schema.request_body(schema.CreateClass))
async def create_class(onefold: Served, caller: Caller, body: Body) -> Reply:
    """Create a class of the caller's; with a `class_id`, again is the same as once."""
    given = schema.read(body, schema.CreateClass)
    made = await onefold.classroom.classes.create(
        caller, given.name, given.course_code, class_id=given.class_id
    )
    return Reply(made, status_code=201)


@router.get("/classes")
async def list_classes(
    onefold: Served, caller: Caller, cursor: Cursor = None, limit: Limit = 100
) -> Reply:
    """The caller's classes, the newest first; an admin sees the school's."""
    return Reply(await onefold.classroom.classes.page(caller, cursor=cursor, limit=limit))


@router.get("/classes/{class_id}")
async def get_class(class_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """One class."""
    return Reply(await onefold.classroom.classes.get(caller, class_id))


@router.patch("/classes/{class_id}", openapi_extra=schema.request_body(schema.ChangeClass))
async def change_class(class_id: UUID, onefold: Served, caller: Caller, body: Body) -> Reply:
    """Rename a class, or move it to another course; what is not given stays."""
    given = schema.read(body, schema.ChangeClass)
    changed = await onefold.classroom.classes.update(
        caller, class_id, name=given.name, course_code=given.course_code
    )
    return Reply(changed)


@router.delete("/classes/{class_id}", status_code=204)
async def delete_class(class_id: UUID, onefold: Served, caller: Caller) -> None:
    """Delete a class; its decided work stays. 409 while a batch of it is open."""
    await onefold.classroom.classes.delete(caller, class_id)


@router.get("/classes/{class_id}/students")
async def list_roster(
    class_id: UUID, onefold: Served, caller: Caller, cursor: Cursor = None, limit: Limit = 100
) -> Reply:
    """The pupils of a class, in the order of their ids."""
    found = await onefold.classroom.classes.roster(caller, class_id, cursor=cursor, limit=limit)
    return Reply(found)


@router.post("/classes/{class_id}/students", openapi_extra=schema.request_body(schema.Enrol))
async def enrol(class_id: UUID, onefold: Served, caller: Caller, body: Body) -> Reply:
    """Put pupils of the school into a class; again is the same as once."""
    given = schema.read(body, schema.Enrol)
    count = await onefold.classroom.classes.enrol(caller, class_id, set(given.student_ids))
    return Reply({"enrolled": count})


@router.delete("/classes/{class_id}/students/{student_id}", status_code=204)
async def withdraw(class_id: UUID, student_id: UUID, onefold: Served, caller: Caller) -> None:
    """Take a pupil out of a class; 409 while an open essay may be theirs."""
    await onefold.classroom.classes.withdraw(caller, class_id, student_id)


@router.post(
    "/classes/{class_id}/roster", openapi_extra={"requestBody": {"content": {"text/csv": {}}}}
)
async def import_roster(
    class_id: UUID, onefold: Served, caller: Caller, body: Raw, dry_run: bool = False
) -> Reply:
    """Enrol the pupils of a CSV file; `dry_run=true` only tells what would happen."""
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        reason = f"is not UTF-8 at byte {error.start}"
        raise InvalidInput([FieldProblem("body", "malformed", reason)]) from None
    lines = io.StringIO(text, newline="")  # not splitlines: a cell may hold other line ends
    report = await onefold.classroom.classes.import_roster(caller, class_id, lines, dry_run=dry_run)
    return Reply(report)


@router.post("/students", status_code=201, openapi_extra=schema.request_body(schema.CreateStudent))
async def create_student(onefold: Served, caller: Caller, body: Body) -> Reply:
    """Add a pupil to the school, and to classes of the caller's."""
    given = schema.read(body, schema.CreateStudent)
    fields = {name: getattr(given, name) for name in given.__struct_fields__}
    return Reply(await onefold.classroom.classes.create_student(caller, fields), status_code=201)


@router.get("/students/{student_id}")
async def get_student(student_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """A pupil of a class of the caller's."""
    return Reply(await onefold.classroom.classes.student(caller, student_id))


@router.patch("/students/{student_id}", openapi_extra=schema.request_body(schema.ChangeStudent))
async def change_student(student_id: UUID, onefold: Served, caller: Caller, body: Body) -> Reply:
    """Change names or e-mail of a pupil; what is not given stays."""
    given = schema.read(body, schema.ChangeStudent)
    fields = {name: getattr(given, name) for name in given.__struct_fields__}
    return Reply(await onefold.classroom.classes.update_student(caller, student_id, fields))


@router.delete("/students/{student_id}", status_code=204)
async def delete_student(student_id: UUID, onefold: Served, caller: Caller) -> None:
    """The pupil leaves the school; decided work stays. 409 while an open essay may be theirs."""
    await onefold.classroom.classes.delete_student(caller, student_id)


@router.post("/batches", status_code=201, openapi_extra=schema.request_body(schema.CreateBatch))
async def create_batch(onefold: Served, caller: Caller, body: Body) -> Reply:
    """Find the authors of essays by their texts; with a `batch_id`, again is the same as once."""
    given = schema.read(body, schema.CreateBatch)
    made = await onefold.classroom.batches.hand_in(
        caller, given.class_id, schema.handed_in(given), batch_id=given.batch_id
    )
    return Reply(schema.taken(made), status_code=201)


@router.get("/batches")
async def list_batches(
    onefold: Served,
    caller: Caller,
    class_id: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Reply:
    """Batches of the caller's classes, the newest first."""
    found = await onefold.classroom.batches.batches(
        caller, class_id=class_id, cursor=cursor, limit=limit
    )
    return Reply(found)


@router.get("/batches/{batch_id}")
async def get_batch(
    batch_id: UUID, onefold: Served, caller: Caller, cursor: Cursor = None, limit: Limit = 100
) -> Reply:
    """A batch and a page of its essays: names, scores, reasons, alternatives, decisions."""
    found = await onefold.classroom.batches.batch(caller, batch_id, cursor=cursor, limit=limit)
    return Reply(found)


@router.post("/batches/{batch_id}/matches", status_code=201)
async def post_matches(
    batch_id: UUID, request: Request, onefold: Served, caller: Caller, body: Raw
) -> Reply:
    """
    Take `batch.author.matches.suggested`, native or CloudEvents, as from the broker.

    201 when it was applied now, 200 when the same event was applied before.
    """
    event = decode(body, request.headers.items(), received_at=onefold.clock.now())
    found = await onefold.classroom.batches.post(caller, batch_id, event)
    return Reply(schema.taken(found), status_code=200 if found.repeated else 201)


@router.post("/batches/{batch_id}/decisions", openapi_extra=schema.request_body(schema.Decide))
async def decide(batch_id: UUID, onefold: Served, caller: Caller, body: Body) -> Reply:
    """Confirm or reject; the last decision closes the batch and publishes it."""
    given = schema.decisions(schema.read(body, schema.Decide))
    return Reply(await onefold.classroom.batches.decide(caller, batch_id, given))


@router.get("/internal/batches/{batch_id}/students")
async def names_of_batch(
    batch_id: UUID, onefold: Served, caller: Caller, cursor: Cursor = None, limit: Limit = 100
) -> Reply:
    """For services: who wrote the essays of a batch, as far as it is decided."""
    found = await onefold.classroom.batches.names_of(caller, batch_id, cursor=cursor, limit=limit)
    return Reply(found)


@router.get("/internal/essays/{essay_id}/student")
async def author_of_essay(essay_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """For services: who wrote an essay, as far as it is decided."""
    return Reply(await onefold.classroom.batches.author_of(caller, essay_id))
