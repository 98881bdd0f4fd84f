"""The queries of telemetry, for both databases. Each belongs to a caller's transaction."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple
from uuid import UUID

from sqlalchemy import (
    BigInteger,
    ColumnElement,
    Select,
    Uuid,
    and_,
    bindparam,
    delete,
    func,
    literal,
    select,
    tuple_,
    update,
)
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.sql.compiler import SQLCompiler
from sqlalchemy.sql.functions import GenericFunction

from onefold.ports.tables import Instant, Row, row_of, rows_of
from onefold.ports.unit_of_work import Transaction
from onefold_server.domains.telemetry.rules import Summary
from onefold_server.domains.telemetry.tables import batches, events, features, refusals, sessions


class EventPosition(NamedTuple):
    """Where a page of sessions or of events ended."""

    at: datetime
    id: UUID


async def contents(tx: Transaction, school_id: UUID, ids: Collection[UUID]) -> dict[UUID, bytes]:
    """The fingerprints of those of *ids* that are recorded."""
    query = select(events.c.event_id, events.c.fingerprint).where(
        events.c.school_id == school_id, events.c.event_id.in_(ids)
    )
    return {row.event_id: row.fingerprint for row in await tx.execute(query)}


async def lock_sessions(tx: Transaction, school_id: UUID, ids: Collection[UUID]) -> dict[UUID, Row]:
    """Those of *ids* that exist, held until the transaction ends, taken in their order."""
    query = (
        select(sessions)
        .where(sessions.c.school_id == school_id, sessions.c.id.in_(ids))
        .order_by(sessions.c.id)
        .with_for_update()
    )
    return {row["id"]: row for row in rows_of(await tx.execute(query))}


async def lock_idle_sessions(
    tx: Transaction, *, quiet_since: datetime, limit: int
) -> Sequence[Row]:
    """Open sessions of any school without an event since then; those in other hands left out."""
    query = (
        select(sessions)
        .where(sessions.c.closed_at.is_(None), sessions.c.last_event_at <= quiet_since)
        .order_by(sessions.c.last_event_at)
        .limit(limit)
        .with_for_update(skip_locked=True)
    )
    return rows_of(await tx.execute(query))


async def save_sessions(
    tx: Transaction, school_id: UUID, changes: Sequence[Mapping[str, Any]]
) -> None:
    """Write back sessions that `lock_sessions` holds: rows of `id` and the same columns each."""
    if changes:
        mine = (sessions.c.school_id == school_id) & (sessions.c.id == bindparam("_id"))
        await tx.execute(
            update(sessions).where(mine),
            [{"_id": change["id"], **_without_id(change)} for change in changes],
        )


def _without_id(change: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in change.items() if name != "id"}


async def drop_sessions(tx: Transaction, school_id: UUID, ids: Collection[UUID]) -> None:
    """Take back sessions that this transaction created and that got no event."""
    mine = (sessions.c.school_id == school_id) & sessions.c.id.in_(ids)
    await tx.execute(delete(sessions).where(mine, sessions.c.event_count == 0))


async def summaries(
    tx: Transaction, school_id: UUID, session_ids: Collection[UUID]
) -> dict[UUID, Summary]:
    """What the features of these sessions depend on, summed up by the database."""
    query = (
        select(
            events.c.session_id,
            events.c.event_type,
            func.count().label("n"),
            func.min(events.c.occurred_at).label("first_at"),
            func.max(events.c.occurred_at).label("last_at"),
        )
        .where(events.c.school_id == school_id, events.c.session_id.in_(session_ids))
        .group_by(events.c.session_id, events.c.event_type)
    )
    total: dict[UUID, Summary] = defaultdict(Summary)
    for row in await tx.execute(query):
        counts = {row.event_type: row.n}
        total[row.session_id] += Summary(counts=counts, first_at=row.first_at, last_at=row.last_at)
    return total


async def add_to_batch(tx: Transaction, row: Mapping[str, Any]) -> None:
    """Record one post of a batch: a first one is inserted, a later one added to it."""
    if await tx.insert_new(batches, [row]):
        return
    same = (batches.c.school_id == row["school_id"]) & (batches.c.id == row["id"])
    change = update(batches).where(same)
    await tx.execute(
        change.values(
            last_received_at=row["last_received_at"],
            posts=batches.c.posts + 1,
            applied=batches.c.applied + row["applied"],
            repeated=batches.c.repeated + row["repeated"],
            refused=row["refused"],
        )
    )


async def count_refused(
    tx: Transaction, school_id: UUID, codes: Mapping[str, int], *, now: datetime
) -> None:
    """Add to the school's count of refused events, code by code in their order."""
    rows = [
        {"school_id": school_id, "code": code, "events": codes[code], "last_at": now}
        for code in sorted(codes)
    ]
    new = {code for _, code in await tx.insert_new(refusals, rows)}
    more = [{"_code": r["code"], "_n": r["events"]} for r in rows if r["code"] not in new]
    if more:
        same = (refusals.c.school_id == school_id) & (refusals.c.code == bindparam("_code"))
        grown = refusals.c.events + bindparam("_n")
        await tx.execute(update(refusals).where(same).values(events=grown, last_at=now), more)


async def refused(tx: Transaction, school_id: UUID) -> Sequence[Row]:
    """How many of the school's events were refused, by code."""
    query = select(refusals.c.code, refusals.c.events, refusals.c.last_at)
    mine = query.where(refusals.c.school_id == school_id).order_by(refusals.c.code)
    return rows_of(await tx.execute(mine))


async def batch(tx: Transaction, school_id: UUID, batch_id: UUID) -> Row | None:
    """What became of a batch."""
    query = select(batches).where(batches.c.school_id == school_id, batches.c.id == batch_id)
    return row_of(await tx.execute(query))


def _with_features() -> Select[Any]:
    """Sessions beside the newest revision of their features, if they are closed."""
    newest = and_(
        features.c.school_id == sessions.c.school_id,
        features.c.session_id == sessions.c.id,
        features.c.revision == sessions.c.revision,
    )
    shown = [c for c in features.c if c.name not in {"school_id", "session_id", "revision"}]
    labelled = [c.label(f"features_{c.name}") for c in shown]
    return select(sessions, *labelled).join(features, newest, isouter=True)


async def session(tx: Transaction, school_id: UUID, session_id: UUID) -> Row | None:
    """One session with its features."""
    query = _with_features().where(sessions.c.school_id == school_id, sessions.c.id == session_id)
    return row_of(await tx.execute(query))


async def sessions_page(
    tx: Transaction,
    school_id: UUID,
    *,
    student_id: UUID | None,
    closed_only: bool,
    after: EventPosition | None,
    limit: int,
) -> Sequence[Row]:
    """Sessions with their features, the newest first, of one pupil or of the whole school."""
    query = _with_features().where(sessions.c.school_id == school_id)
    if student_id is not None:
        query = query.where(sessions.c.student_id == student_id)
    if closed_only:
        query = query.where(sessions.c.closed_at.is_not(None))
    if after is not None:
        query = query.where(tuple_(sessions.c.started_at, sessions.c.id) < _place(after))
    newest = query.order_by(sessions.c.started_at.desc(), sessions.c.id.desc()).limit(limit)
    return rows_of(await tx.execute(newest))


async def events_page(
    tx: Transaction, school_id: UUID, session_id: UUID, *, after: EventPosition | None, limit: int
) -> Sequence[Row]:
    """The events of a session in the order of their time, those after *after*."""
    shown = [c for c in events.c if c.name not in {"school_id", "fingerprint"}]
    query = select(*shown).where(events.c.school_id == school_id, events.c.session_id == session_id)
    if after is not None:
        query = query.where(tuple_(events.c.occurred_at, events.c.event_id) > _place(after))
    ordered = query.order_by(events.c.occurred_at, events.c.event_id).limit(limit)
    return rows_of(await tx.execute(ordered))


def _place(place: EventPosition) -> ColumnElement[Any]:
    return tuple_(literal(place.at, Instant), literal(place.id, Uuid))


async def revisions(tx: Transaction, school_id: UUID, session_id: UUID) -> Sequence[Row]:
    """Every revision of a session's features, the newest first."""
    query = select(features).where(
        features.c.school_id == school_id, features.c.session_id == session_id
    )
    return rows_of(await tx.execute(query.order_by(features.c.revision.desc())))


class _Since1970Us(GenericFunction[int]):
    """An `Instant` column as whole microseconds: SQLite keeps it so, PostgreSQL works it out."""

    type = BigInteger()
    inherit_cache = True


@compiles(_Since1970Us)
def _kept(element: _Since1970Us, compiler: SQLCompiler, **kw: Any) -> str:
    return compiler.process(element.clauses, **kw)


@compiles(_Since1970Us, "postgresql")
def _worked_out(element: _Since1970Us, compiler: SQLCompiler, **kw: Any) -> str:
    inner = compiler.process(element.clauses, **kw)
    return f"CAST(EXTRACT(EPOCH FROM {inner}) * 1000000 AS BIGINT)"


async def timeline(
    tx: Transaction, school_id: UUID, session_id: UUID, *, start: datetime, step: timedelta
) -> Sequence[Row]:
    """
    How many events of each type a session has in each *step* of time since *start*.

    Rows of `event_type`, `step` (0, 1, …) and `n`, in the order of time; steps without
    events have none.
    """
    since_us = _Since1970Us(events.c.occurred_at) - literal(_us(start - _EPOCH), BigInteger)
    query = (
        select(
            events.c.event_type,
            (since_us // literal(_us(step), BigInteger)).label("step"),
            func.count().label("n"),
        )
        .where(events.c.school_id == school_id, events.c.session_id == session_id)
        .group_by(events.c.event_type, "step")
        .order_by("step", func.min(events.c.occurred_at), events.c.event_type)
    )
    return rows_of(await tx.execute(query))


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _us(span: timedelta) -> int:
    return span // timedelta(microseconds=1)


async def totals(tx: Transaction, school_id: UUID, *, student_id: UUID | None) -> Row:
    """How much the school or one pupil has: sessions, of them open, pupils, events."""
    query = select(
        func.count().label("sessions"),
        func.count().filter(sessions.c.closed_at.is_(None)).label("open_sessions"),
        func.count(sessions.c.student_id.distinct()).label("students"),
        func.coalesce(func.sum(sessions.c.event_count), 0).label("events"),
    ).where(sessions.c.school_id == school_id)
    if student_id is not None:
        query = query.where(sessions.c.student_id == student_id)
    return rows_of(await tx.execute(query))[0]
