"""The queries of scenarios, for both databases. Each belongs to a caller's transaction."""

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func, select, update

from onefold.ports.tables import Row, row_of, rows_of
from onefold.ports.unit_of_work import Transaction
from onefold_server.domains.learning.paging import PagePosition, newest
from onefold_server.domains.learning.scenarios.rules import AttemptState
from onefold_server.domains.learning.scenarios.tables import attempts, definitions, history, turns


async def own_definitions(tx: Transaction, school_id: UUID) -> Sequence[Row]:
    """The newest version of each of the school's own scenarios that is not retired."""
    newest_of = (
        select(definitions.c.id, func.max(definitions.c.version).label("version"))
        .where(definitions.c.school_id == school_id)
        .group_by(definitions.c.id)
        .subquery()
    )
    query = (
        select(definitions)
        .join(
            newest_of,
            (newest_of.c.id == definitions.c.id) & (newest_of.c.version == definitions.c.version),
        )
        .where(definitions.c.school_id == school_id, definitions.c.retired_at.is_(None))
        .order_by(definitions.c.id)
    )
    return rows_of(await tx.execute(query))


async def own_definition(tx: Transaction, school_id: UUID, scenario_id: str) -> Row | None:
    """The newest version of one of the school's own scenarios, unless it is retired."""
    query = (
        select(definitions)
        .where(definitions.c.school_id == school_id, definitions.c.id == scenario_id)
        .order_by(definitions.c.version.desc())
        .limit(1)
    )
    found = row_of(await tx.execute(query))
    return found if found is None or found["retired_at"] is None else None


async def definition(
    tx: Transaction, school_id: UUID, scenario_id: str, version: int
) -> Row | None:
    """One version of one of the school's own scenarios."""
    query = select(definitions).where(
        definitions.c.school_id == school_id,
        definitions.c.id == scenario_id,
        definitions.c.version == version,
    )
    return row_of(await tx.execute(query))


async def retire(tx: Transaction, school_id: UUID, scenario_id: str, *, now: datetime) -> bool:
    """Take one of the school's own scenarios out of its list; whether it was there."""
    mine = (definitions.c.school_id == school_id) & (definitions.c.id == scenario_id)
    live = update(definitions).where(mine, definitions.c.retired_at.is_(None))
    return bool((await tx.execute(live.values(retired_at=now))).rowcount)


async def lock(tx: Transaction, school_id: UUID, attempt_id: UUID) -> Row | None:
    """One attempt, held until the commit."""
    query = select(attempts).where(attempts.c.school_id == school_id, attempts.c.id == attempt_id)
    return row_of(await tx.execute(query.with_for_update()))


async def lock_idle(tx: Transaction, *, quiet_since: datetime, limit: int) -> Sequence[Row]:
    """Active attempts of any school without a turn since then; those in other hands left out."""
    query = (
        select(attempts)
        .where(attempts.c.state == AttemptState.ACTIVE.value, attempts.c.changed_at <= quiet_since)
        .order_by(attempts.c.changed_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return rows_of(await tx.execute(query))


async def attempt(tx: Transaction, school_id: UUID, attempt_id: UUID) -> Row | None:
    """One attempt."""
    query = select(attempts).where(attempts.c.school_id == school_id, attempts.c.id == attempt_id)
    return row_of(await tx.execute(query))


async def turn(tx: Transaction, school_id: UUID, attempt_id: UUID, turn_id: UUID) -> Row | None:
    """One turn."""
    query = select(turns).where(
        turns.c.school_id == school_id, turns.c.attempt_id == attempt_id, turns.c.id == turn_id
    )
    return row_of(await tx.execute(query))


async def save_attempt(tx: Transaction, row: Mapping[str, Any], *names: str) -> None:
    """Write back these columns of an attempt that `lock` holds."""
    mine = (attempts.c.school_id == row["school_id"]) & (attempts.c.id == row["id"])
    await tx.execute(update(attempts).where(mine).values({name: row[name] for name in names}))


async def finished(tx: Transaction, school_id: UUID, attempt_id: UUID) -> Row | None:
    """How an attempt ended."""
    query = select(history).where(
        history.c.school_id == school_id, history.c.attempt_id == attempt_id
    )
    return row_of(await tx.execute(query))


async def attempts_page(
    tx: Transaction,
    school_id: UUID,
    *,
    student_id: UUID | None,
    after: PagePosition | None,
    limit: int,
) -> Sequence[Row]:
    """Attempts without their scripts, the newest first, one more than *limit*."""
    shown = [c for c in attempts.c if c.name not in {"script", "progress"}]
    query = select(*shown).where(attempts.c.school_id == school_id)
    if student_id is not None:
        query = query.where(attempts.c.student_id == student_id)
    ordered = newest(query, attempts.c.started_at, attempts.c.id, after=after, limit=limit)
    return rows_of(await tx.execute(ordered))


async def history_page(
    tx: Transaction,
    school_id: UUID,
    *,
    student_id: UUID | None,
    after: PagePosition | None,
    limit: int,
) -> Sequence[Row]:
    """Ended attempts, the newest first, one more than *limit*."""
    query = select(history).where(history.c.school_id == school_id)
    if student_id is not None:
        query = query.where(history.c.student_id == student_id)
    ordered = newest(query, history.c.ended_at, history.c.attempt_id, after=after, limit=limit)
    return rows_of(await tx.execute(ordered))


async def completions(
    tx: Transaction, school_id: UUID, student_ids: Collection[UUID]
) -> Sequence[Row]:
    """Each scenario that these learners completed: how often, and the best score."""
    query = (
        select(
            history.c.student_id,
            history.c.scenario_id,
            func.count().label("completed"),
            func.max(history.c.completion_score).label("best_score"),
        )
        .where(
            history.c.school_id == school_id,
            history.c.student_id.in_(student_ids),
            history.c.outcome == AttemptState.COMPLETED.value,
        )
        .group_by(history.c.student_id, history.c.scenario_id)
        .order_by(history.c.student_id, history.c.scenario_id)
    )
    return rows_of(await tx.execute(query))


async def completed_at(tx: Transaction, school_id: UUID, student_id: UUID) -> Sequence[datetime]:
    """When each completion of a learner was, for counting anew."""
    query = select(history.c.ended_at).where(
        history.c.school_id == school_id,
        history.c.student_id == student_id,
        history.c.outcome == AttemptState.COMPLETED.value,
    )
    return list((await tx.execute(query)).scalars())
