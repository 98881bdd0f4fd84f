"""Analytics over HTTP."""

from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Query

from onefold_server.http.auth import Caller, Served
from onefold_server.http.replies import Reply
from onefold_server.http.routes.learning.shared import Body
from onefold_server.http.schemas import learning as schema

router = APIRouter(tags=["learning: analytics"])


@router.get("/learners/{student_id}")
async def get_learner(student_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """One learner: time, sessions, accuracy, words, streak, scenarios."""
    return Reply(await onefold.learning.analytics.learner(caller, student_id))


@router.get("/learners/{student_id}/days")
async def list_days(
    student_id: UUID,
    onefold: Served,
    caller: Caller,
    days: Annotated[int, Query(ge=1, le=3660)] = 30,
) -> Reply:
    """A learner's last days, each with its accuracy."""
    return Reply({"days": await onefold.learning.analytics.days(caller, student_id, days=days)})


@router.put(
    "/learners/{student_id}/zone",
    status_code=204,
    openapi_extra=schema.request_body(schema.SetZone),
)
async def set_zone(student_id: UUID, onefold: Served, caller: Caller, body: Body) -> None:
    """Set a learner's time zone; their days are counted anew by it."""
    given = schema.read(body, schema.SetZone)
    await onefold.learning.analytics.set_zone(caller, student_id, given.zone)


@router.post("/learners/{student_id}/recompute")
async def recompute(student_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """Count a learner's days anew from the facts."""
    found = await onefold.learning.analytics.recompute(caller, student_id)
    return Reply({"days": [schema.without_school(row) for row in found]})


@router.get("/classes/{class_name}")
async def get_class(class_name: str, onefold: Served, caller: Caller) -> Reply:
    """A class for its teacher."""
    return Reply(await onefold.learning.analytics.class_(caller, class_name))
