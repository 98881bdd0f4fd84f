"""The queries of learning sessions, for both databases. Each belongs to a caller's transaction."""

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import Select, bindparam, func, select, update

from onefold.ports.tables import Row, row_of, rows_of
from onefold.ports.unit_of_work import Transaction
from onefold_server.domains.learning.paging import PagePosition, newest
from onefold_server.domains.learning.sessions.rules import COUNTERS, Session, SessionState
from onefold_server.domains.learning.sessions.tables import changes, sessions

Key = tuple[UUID, UUID]  # school, session

# Not the fingerprint of the start, and in the order of `Session`'s fields.
_SHOWN = [sessions.c[name] for name in Session.__struct_fields__]
_MOVING = ("state", "changed_at", "ended_at", *COUNTERS, "metadata", "version", "revision")


def _session(row: Mapping[str, Any]) -> Session:
    fields = {name: row[name] for name in Session.__struct_fields__}
    return Session(**fields | {"state": SessionState(row["state"])})


def to_row(session: Session, *, started_as: bytes) -> dict[str, Any]:
    """The session's row."""
    fields = msgspec.structs.asdict(session)
    return fields | {"state": session.state.value, "started_as": started_as}


async def insert(tx: Transaction, rows: Sequence[Mapping[str, Any]]) -> set[Key]:
    """Insert the sessions that are not there yet; which they were."""
    return {(key[0], key[1]) for key in await tx.insert_new(sessions, rows)}


async def lock(tx: Transaction, keys: Collection[Key]) -> dict[Key, tuple[Session, bytes]]:
    """Those of *keys* that exist, with what they were started as, held until the commit."""
    query = (
        select(sessions)
        .where(
            sessions.c.school_id.in_({school_id for school_id, _ in keys}),
            sessions.c.id.in_({id_ for _, id_ in keys}),
        )
        .order_by(sessions.c.school_id, sessions.c.id)
        .with_for_update()
    )
    rows = rows_of(await tx.execute(query))
    return {(row["school_id"], row["id"]): (_session(row), row["started_as"]) for row in rows}


async def lock_idle(tx: Transaction, *, quiet_since: datetime, limit: int) -> Sequence[Session]:
    """Open sessions of any school unchanged since then; those in other hands left out."""
    query = (
        select(*_SHOWN)
        .where(sessions.c.state == SessionState.OPEN.value, sessions.c.changed_at <= quiet_since)
        .order_by(sessions.c.changed_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return [_session(row) for row in rows_of(await tx.execute(query))]


async def recorded(
    tx: Transaction, keys: Collection[Key], change_ids: Collection[UUID]
) -> dict[tuple[UUID, UUID, UUID], bytes]:
    """The fingerprints of those changes of these sessions that have counted."""
    query = select(
        changes.c.school_id, changes.c.session_id, changes.c.change_id, changes.c.fingerprint
    ).where(
        changes.c.school_id.in_({school_id for school_id, _ in keys}),
        changes.c.session_id.in_({id_ for _, id_ in keys}),
        changes.c.change_id.in_(change_ids),
    )
    return {
        (row["school_id"], row["session_id"], row["change_id"]): row["fingerprint"]
        for row in rows_of(await tx.execute(query))
    }


async def save(tx: Transaction, changed: Iterable[Session]) -> None:
    """Write back sessions that `lock` holds. One statement, whatever their number."""
    rows = [
        {"_school": s.school_id, "_id": s.id}
        | {f"_{name}": getattr(s, name) for name in _MOVING}
        | {"_state": s.state.value}
        for s in changed
    ]
    if rows:
        mine = (sessions.c.school_id == bindparam("_school")) & (sessions.c.id == bindparam("_id"))
        moved: dict[str, Any] = {name: bindparam(f"_{name}") for name in _MOVING}
        await tx.execute(update(sessions).where(mine).values(moved), rows)


async def get(tx: Transaction, school_id: UUID, session_id: UUID) -> Session | None:
    """One session."""
    query = select(*_SHOWN).where(sessions.c.school_id == school_id, sessions.c.id == session_id)
    row = row_of(await tx.execute(query))
    return None if row is None else _session(row)


async def page(
    tx: Transaction,
    school_id: UUID,
    *,
    student_id: UUID | None,
    session_type: str | None,
    language: str | None,
    is_open: bool | None,
    after: PagePosition | None,
    limit: int,
) -> Sequence[Session]:
    """The school's sessions that match, the newest first, one more than *limit*."""
    query: Select[Any] = select(*_SHOWN).where(sessions.c.school_id == school_id)
    asked = {"student_id": student_id, "session_type": session_type, "language": language}
    for name, value in asked.items():
        if value is not None:
            query = query.where(sessions.c[name] == value)
    if is_open is not None:
        ended = sessions.c.ended_at
        query = query.where(ended.is_(None) if is_open else ended.is_not(None))
    query = newest(query, sessions.c.started_at, sessions.c.id, after=after, limit=limit)
    return [_session(row) for row in rows_of(await tx.execute(query))]


async def ended(tx: Transaction, school_id: UUID, student_id: UUID) -> Sequence[Session]:
    """All ended sessions of a learner, for counting anew."""
    query = select(*_SHOWN).where(
        sessions.c.school_id == school_id,
        sessions.c.student_id == student_id,
        sessions.c.ended_at.is_not(None),
    )
    return [_session(row) for row in rows_of(await tx.execute(query))]


async def counts_by_type(
    tx: Transaction, school_id: UUID, student_ids: Collection[UUID]
) -> Sequence[Row]:
    """How many sessions each of these learners has, by type and state."""
    query = (
        select(
            sessions.c.student_id,
            sessions.c.session_type,
            sessions.c.state,
            func.count().label("n"),
        )
        .where(sessions.c.school_id == school_id, sessions.c.student_id.in_(student_ids))
        .group_by(sessions.c.student_id, sessions.c.session_type, sessions.c.state)
        .order_by(sessions.c.student_id, sessions.c.session_type, sessions.c.state)
    )
    return rows_of(await tx.execute(query))
