"""Scenarios over HTTP; literal paths stand before those with an id (fault 38)."""

from uuid import UUID

from fastapi import APIRouter

from onefold_server.domains.directory.rules import Scope
from onefold_server.http.auth import Caller, Served
from onefold_server.http.replies import Reply
from onefold_server.http.routes.learning.shared import Body, Cursor, Limit
from onefold_server.http.schemas import learning as schema

router = APIRouter(prefix="/scenarios", tags=["learning: scenarios"])


@router.get("")
async def list_scenarios(
    onefold: Served,
    caller: Caller,
    language: str | None = None,
    category: str | None = None,
    difficulty: str | None = None,
) -> Reply:
    """The scenarios that can be started, by id; each parameter narrows the list."""
    found = await onefold.learning.scenarios.catalogue(
        caller, language=language, category=category, difficulty=difficulty
    )
    return Reply({"scenarios": [schema.scenario_line(definition) for definition in found]})


@router.post("/import", openapi_extra=schema.request_body(schema.ImportScenarios))
async def import_scenarios(onefold: Served, caller: Caller, body: Body) -> Reply:
    """Add the school's own scenarios; bad ones are listed in `refused`, good ones count."""
    given = schema.read(body, schema.ImportScenarios)
    return Reply(await onefold.learning.scenarios.import_definitions(caller, given.scenarios))


@router.post("/attempts", status_code=201, openapi_extra=schema.request_body(schema.StartAttempt))
async def start(onefold: Served, caller: Caller, body: Body) -> Reply:
    """Begin an attempt; with an `attempt_id`, again is the same as once."""
    given = schema.read(body, schema.StartAttempt)
    begun = await onefold.learning.scenarios.start(
        caller,
        given.student_id,
        given.scenario_id,
        given.language,
        attempt_id=given.attempt_id,
    )
    return Reply(schema.attempt(begun), status_code=201)


@router.get("/attempts")
async def list_attempts(
    onefold: Served,
    caller: Caller,
    student_id: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Reply:
    """Attempts, the newest first."""
    found = await onefold.learning.scenarios.attempts(
        caller, student_id=student_id, cursor=cursor, limit=limit
    )
    return Reply(schema.page("attempts", found, [schema.without_school(r) for r in found.rows]))


@router.get("/history")
async def list_history(
    onefold: Served,
    caller: Caller,
    student_id: UUID | None = None,
    cursor: Cursor = None,
    limit: Limit = 100,
) -> Reply:
    """Ended attempts with their scores, the newest first."""
    found = await onefold.learning.scenarios.history(
        caller, student_id=student_id, cursor=cursor, limit=limit
    )
    return Reply(schema.page("history", found, [schema.without_school(r) for r in found.rows]))


@router.get("/attempts/{attempt_id}")
async def get_attempt(attempt_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """Where an attempt stands."""
    found = await onefold.learning.scenarios.attempt(caller, attempt_id)
    if found["result"] is not None:
        found["result"] = schema.without_school(found["result"])
    return Reply(found)


@router.post("/attempts/{attempt_id}/turns", openapi_extra=schema.request_body(schema.TakeTurn))
async def take_turn(attempt_id: UUID, onefold: Served, caller: Caller, body: Body) -> Reply:
    """Judge what the learner said; the same turn again counts once."""
    given = schema.read(body, schema.TakeTurn)
    return Reply(
        await onefold.learning.scenarios.turn(caller, attempt_id, given.turn_id, given.said)
    )


@router.post("/attempts/{attempt_id}/complete")
async def complete(attempt_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """End an attempt whose phases are all done; again answers the first result."""
    ended = await onefold.learning.scenarios.complete(caller, attempt_id)
    # It is done: who may not read what is left to play is not refused for that.
    may_read = Scope.LEARNING_READ in caller.scopes
    next_ = await onefold.learning.scenarios.recommendations(caller, attempt_id) if may_read else []
    return Reply(schema.without_school(ended) | {"recommended": next_})


@router.post("/attempts/{attempt_id}/abandon")
async def abandon(attempt_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """End an attempt early."""
    return Reply(
        schema.without_school(await onefold.learning.scenarios.abandon(caller, attempt_id))
    )


@router.get("/{scenario_id}")
async def get_scenario(scenario_id: str, onefold: Served, caller: Caller) -> Reply:
    """One scenario, whole."""
    return Reply(await onefold.learning.scenarios.definition(caller, scenario_id))


@router.delete("/{scenario_id}", status_code=204)
async def retire_scenario(scenario_id: str, onefold: Served, caller: Caller) -> None:
    """Take one of the school's own scenarios out of its list."""
    await onefold.learning.scenarios.retire(caller, scenario_id)
