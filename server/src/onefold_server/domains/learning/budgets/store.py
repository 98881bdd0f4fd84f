"""The queries of budgets, for both databases. Each belongs to a caller's transaction."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from sqlalchemy import Select, func, or_, select, update

from onefold.ports.tables import Row, row_of, rows_of
from onefold.ports.unit_of_work import Transaction
from onefold_server.domains.learning.budgets.tables import (
    alerts,
    budgets,
    holds,
    periods,
    reservations,
)
from onefold_server.domains.learning.calendar import TimeSpan


def _of(school_id: UUID, student_id: UUID | None) -> Select[Any]:
    """The budgets that *student_id* spends under: their own and the school's."""
    owner = budgets.c.student_id
    whose = owner.is_(None) if student_id is None else or_(owner.is_(None), owner == student_id)
    return select(budgets).where(budgets.c.school_id == school_id, whose).order_by(budgets.c.id)


async def applying(tx: Transaction, school_id: UUID, student_id: UUID | None) -> Sequence[Row]:
    """The budgets that apply, in the order of their ids."""
    return rows_of(await tx.execute(_of(school_id, student_id)))


async def lock_applying(tx: Transaction, school_id: UUID, student_id: UUID) -> Sequence[Row]:
    """The budgets that apply, held until the commit, taken in the order of their ids."""
    return rows_of(await tx.execute(_of(school_id, student_id).with_for_update()))


async def lock_budgets(tx: Transaction, school_id: UUID, ids: Collection[UUID]) -> Sequence[Row]:
    """These budgets, held until the commit, taken in the order of their ids."""
    query = select(budgets).where(budgets.c.school_id == school_id, budgets.c.id.in_(ids))
    return rows_of(await tx.execute(query.order_by(budgets.c.id).with_for_update()))


async def put(tx: Transaction, row: Mapping[str, Any]) -> None:
    """Create a budget, or change it to *row*."""
    if await tx.insert_new(budgets, [row]):
        return
    mine = (budgets.c.school_id == row["school_id"]) & (budgets.c.id == row["id"])
    moving = ("zone", "limit_amount", "enforcement", "thresholds", "changed_at")
    await tx.execute(update(budgets).where(mine).values({name: row[name] for name in moving}))


async def last_period(tx: Transaction, school_id: UUID, budget_id: UUID) -> Row | None:
    """The latest period that a budget has had."""
    query = (
        select(periods)
        .where(periods.c.school_id == school_id, periods.c.budget_id == budget_id)
        .order_by(periods.c.starts_at.desc())
        .limit(1)
    )
    return row_of(await tx.execute(query))


async def open_period(tx: Transaction, school_id: UUID, budget_id: UUID, span: TimeSpan) -> None:
    """Begin a period with nothing spent; one that has begun stays as it is."""
    row = {
        "school_id": school_id,
        "budget_id": budget_id,
        "starts_at": span.start,
        "ends_at": span.end,
        "spent": Decimal(0),
    }
    await tx.insert_new(periods, [row])


async def reserved(
    tx: Transaction, school_id: UUID, budget_id: UUID, starts_at: datetime, *, now: datetime
) -> Decimal:
    """What is set aside of a budget in one period by callers that may still settle."""
    query = select(func.sum(holds.c.amount)).where(
        holds.c.school_id == school_id,
        holds.c.budget_id == budget_id,
        holds.c.starts_at == starts_at,
        holds.c.live_until > now,
    )
    return (await tx.execute(query)).scalar_one() or Decimal(0)


async def reservation(
    tx: Transaction, school_id: UUID, id_: UUID, *, lock: bool = False
) -> Row | None:
    """One reservation; with *lock*, held until the commit."""
    query = select(reservations).where(
        reservations.c.school_id == school_id, reservations.c.id == id_
    )
    return row_of(await tx.execute(query.with_for_update() if lock else query))


async def insert_reservation(
    tx: Transaction, row: Mapping[str, Any], parts: Sequence[Mapping[str, Any]]
) -> bool:
    """Record a reservation and its holds; False when its id is another's, of other budgets."""
    if not await tx.insert_new(reservations, [row]):
        return False
    await tx.insert_new(holds, parts)
    return True


async def holds_of(tx: Transaction, school_id: UUID, id_: UUID) -> Sequence[Row]:
    """The holds of a reservation."""
    query = select(holds).where(holds.c.school_id == school_id, holds.c.reservation_id == id_)
    return rows_of(await tx.execute(query.order_by(holds.c.budget_id)))


async def end_reservation(
    tx: Transaction, school_id: UUID, id_: UUID, ended: Mapping[str, Any]
) -> None:
    """Write how a reservation ended, and let go of what it held."""
    mine = (reservations.c.school_id == school_id) & (reservations.c.id == id_)
    await tx.execute(update(reservations).where(mine).values(**ended))
    held = (holds.c.school_id == school_id) & (holds.c.reservation_id == id_)
    await tx.execute(update(holds).where(held).values(live_until=None))


async def spend(tx: Transaction, hold: Mapping[str, Any], cost: Decimal) -> Decimal:
    """Add *cost* to the period that *hold* belongs to; what is spent in it now."""
    same = (
        (periods.c.school_id == hold["school_id"])
        & (periods.c.budget_id == hold["budget_id"])
        & (periods.c.starts_at == hold["starts_at"])
    )
    added = update(periods).where(same).values(spent=periods.c.spent + cost)
    spent: Decimal = (await tx.execute(added.returning(periods.c.spent))).scalar_one()
    return spent


async def new_alerts(
    tx: Transaction, hold: Mapping[str, Any], thresholds: Sequence[int], *, now: datetime
) -> list[int]:
    """Those of *thresholds* that were not alerted in this period before."""
    key = {name: hold[name] for name in ("school_id", "budget_id", "starts_at")}
    rows = [key | {"threshold": threshold, "at": now} for threshold in thresholds]
    return sorted(found[3] for found in await tx.insert_new(alerts, rows))


async def by_model(
    tx: Transaction,
    school_id: UUID,
    *,
    student_id: UUID | None,
    since: datetime,
    until: datetime,
) -> Sequence[Row]:
    """What was spent by provider and model, the most first."""
    cost = func.sum(reservations.c.cost)
    query = (
        select(
            reservations.c.provider,
            reservations.c.model,
            func.count().label("calls"),
            cost.label("cost"),
            func.sum(reservations.c.input_tokens).label("input_tokens"),
            func.sum(reservations.c.output_tokens).label("output_tokens"),
        )
        .where(
            reservations.c.school_id == school_id,
            reservations.c.state == "settled",
            reservations.c.ended_at >= since,
            reservations.c.ended_at < until,
        )
        .group_by(reservations.c.provider, reservations.c.model)
        .order_by(cost.desc(), reservations.c.provider, reservations.c.model)
    )
    if student_id is not None:
        query = query.where(reservations.c.student_id == student_id)
    return rows_of(await tx.execute(query))
