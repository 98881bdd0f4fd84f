"""The queries of days and zones. Each belongs to a caller's transaction."""

from collections.abc import Collection, Iterable, Sequence
from datetime import date, datetime
from typing import Final
from uuid import UUID
from zoneinfo import ZoneInfo

from sqlalchemy import bindparam, delete, select, update

from onefold.ports.tables import Row, rows_of
from onefold.ports.unit_of_work import Transaction
from onefold_server.domains.learning.calendar import zone_of
from onefold_server.domains.learning.days.rules import COUNTS, DayShare, sum_shares
from onefold_server.domains.learning.days.tables import days, learners

DEFAULT_ZONE: Final = "UTC"
Learner = tuple[UUID, UUID]  # school, student


async def zones(
    tx: Transaction, school_id: UUID, student_ids: Collection[UUID]
) -> dict[UUID, ZoneInfo]:
    """Each learner's zone; UTC for who has set none. One read."""
    query = select(learners.c.student_id, learners.c.zone).where(
        learners.c.school_id == school_id, learners.c.student_id.in_(student_ids)
    )
    found = {row.student_id: row.zone for row in await tx.execute(query)}
    return {id_: zone_of(found.get(id_, DEFAULT_ZONE)) for id_ in student_ids}


async def zone(tx: Transaction, school_id: UUID, student_id: UUID) -> ZoneInfo:
    """One learner's zone."""
    return (await zones(tx, school_id, [student_id]))[student_id]


async def hold_zones(
    tx: Transaction, people: Collection[Learner], *, now: datetime
) -> dict[Learner, ZoneInfo]:
    """
    The zones by which facts of these learners are put on days, held until the commit.

    Whoever adds to days comes through here, and who counts them anew excludes that
    (`hold_alone`): a share is then either counted or added, never both or neither.
    """
    if not people:
        return {}
    rows = [
        {"school_id": school_id, "student_id": id_, "zone": DEFAULT_ZONE, "changed_at": now}
        for school_id, id_ in people
    ]
    await tx.insert_new(learners, rows)
    query = (
        select(learners.c.school_id, learners.c.student_id, learners.c.zone)
        .where(
            learners.c.school_id.in_({school_id for school_id, _ in people}),
            learners.c.student_id.in_({id_ for _, id_ in people}),
        )
        .order_by(learners.c.school_id, learners.c.student_id)
        .with_for_update(read=True)
    )
    found = await tx.execute(query)
    return {(row.school_id, row.student_id): zone_of(row.zone) for row in found}


async def hold_alone(
    tx: Transaction, school_id: UUID, student_id: UUID, *, now: datetime
) -> ZoneInfo:
    """A learner's zone, with nobody else adding to the learner's days until the commit."""
    row = {"school_id": school_id, "student_id": student_id}
    await tx.insert_new(learners, [row | {"zone": DEFAULT_ZONE, "changed_at": now}])
    query = select(learners.c.zone).where(
        learners.c.school_id == school_id, learners.c.student_id == student_id
    )
    return zone_of((await tx.execute(query.with_for_update())).scalar_one())


async def set_zone(
    tx: Transaction, school_id: UUID, student_id: UUID, name: str, *, now: datetime
) -> None:
    """Change the zone of a learner whom `hold_alone` holds."""
    mine = (learners.c.school_id == school_id) & (learners.c.student_id == student_id)
    await tx.execute(update(learners).where(mine).values(zone=name, changed_at=now))


async def add(tx: Transaction, shares: Iterable[DayShare]) -> None:
    """Add *shares* to their days. Two statements, whatever their number; none for none."""
    sums = sum_shares(shares)
    if not sums:
        return
    keys = ("school_id", "student_id", "day")
    empty = dict.fromkeys(COUNTS, 0)
    await tx.insert_new(days, [dict(zip(keys, key, strict=True)) | empty for key in sums])
    mine = (
        (days.c.school_id == bindparam("_school"))
        & (days.c.student_id == bindparam("_student"))
        & (days.c.day == bindparam("_day"))
    )
    grown = {name: days.c[name] + bindparam(f"_{name}") for name in COUNTS}
    await tx.execute(
        update(days).where(mine).values(grown),
        [
            {"_school": school_id, "_student": student_id, "_day": day}
            | {f"_{name}": value for name, value in counts.items()}
            for (school_id, student_id, day), counts in sums.items()
        ],
    )


async def of_learners(
    tx: Transaction,
    school_id: UUID,
    student_ids: Collection[UUID],
    *,
    since: date | None = None,
) -> Sequence[Row]:
    """The days of these learners on which something happened, the earliest first."""
    query = select(days).where(days.c.school_id == school_id, days.c.student_id.in_(student_ids))
    if since is not None:
        query = query.where(days.c.day >= since)
    return rows_of(await tx.execute(query.order_by(days.c.day, days.c.student_id)))


async def forget(tx: Transaction, school_id: UUID, student_id: UUID) -> None:
    """Delete a learner's days, to count them anew."""
    mine = (days.c.school_id == school_id) & (days.c.student_id == student_id)
    await tx.execute(delete(days).where(mine))
