"""Budgets over HTTP; amounts are text, because JSON's numbers are not exact."""

from datetime import datetime, timedelta
from uuid import UUID

from fastapi import APIRouter

from onefold_server.domains.learning.budgets.service import Usage
from onefold_server.http.auth import Caller, Served
from onefold_server.http.replies import Reply
from onefold_server.http.routes.learning.shared import Body
from onefold_server.http.schemas import learning as schema

router = APIRouter(prefix="/budgets", tags=["learning: budgets"])


@router.put("", openapi_extra=schema.request_body(schema.SetBudget))
async def set_budget(onefold: Served, caller: Caller, body: Body) -> Reply:
    """Set a learner's budget, or without one the school's; again is the same as once."""
    given = schema.read(body, schema.SetBudget)
    made = await onefold.learning.budgets.set_budget(
        caller,
        student_id=given.student_id,
        period=given.period,
        limit=given.limit,
        zone=given.zone,
        enforcement=given.enforcement,
        thresholds=given.thresholds,
    )
    return Reply(schema.budget(made))


@router.get("")
async def list_budgets(onefold: Served, caller: Caller, student_id: UUID | None = None) -> Reply:
    """How the budgets stand that a learner spends under; without one, the school's own."""
    whose = student_id or caller.student_id
    found = await onefold.learning.budgets.budgets(caller, whose)
    return Reply({"budgets": [schema.amounts(row) for row in found]})


@router.get("/history")
async def history(
    onefold: Served,
    caller: Caller,
    student_id: UUID | None = None,
    since: datetime | None = None,
    until: datetime | None = None,
) -> Reply:
    """What was spent by provider and model, the most first."""
    found = await onefold.learning.budgets.history(
        caller,
        student_id=student_id,
        since=schema.aware(since, "since"),
        until=schema.aware(until, "until"),
    )
    return Reply({"history": [schema.amounts(row) for row in found]})


@router.post("/reservations", status_code=201, openapi_extra=schema.request_body(schema.Reserve))
async def reserve(onefold: Served, caller: Caller, body: Body) -> Reply:
    """Set money aside for a call; 402 when a budget blocks it."""
    given = schema.read(body, schema.Reserve)
    made = await onefold.learning.budgets.reserve(
        caller,
        given.student_id,
        given.reservation_id,
        given.amount,
        lapse=timedelta(seconds=given.lapse_s),
    )
    return Reply(schema.reservation(made), status_code=201 if made["created"] else 200)


@router.post(
    "/reservations/{reservation_id}/settle", openapi_extra=schema.request_body(schema.Settle)
)
async def settle(reservation_id: UUID, onefold: Served, caller: Caller, body: Body) -> Reply:
    """Record what a reserved call really cost; again is the same as once."""
    given = schema.read(body, schema.Settle)
    usage = Usage(
        provider=given.provider,
        model=given.model,
        input_tokens=given.input_tokens,
        output_tokens=given.output_tokens,
    )
    made = await onefold.learning.budgets.settle(caller, reservation_id, given.cost, usage)
    return Reply(schema.reservation(made))


@router.post("/reservations/{reservation_id}/release")
async def release(reservation_id: UUID, onefold: Served, caller: Caller) -> Reply:
    """Give back what was set aside."""
    return Reply(schema.reservation(await onefold.learning.budgets.release(caller, reservation_id)))
