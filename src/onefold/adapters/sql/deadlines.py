"""
What is due, the longest due first; a lease is a due instant moved to the lease's end.

So one index serves claim, reclaim and "when next", and its cost does not grow with what is
leased.
"""

from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import (
    Select,
    and_,
    bindparam,
    case,
    delete,
    func,
    literal,
    or_,
    select,
    tuple_,
    union_all,
    update,
)

from onefold.adapters.sql.dialects import deadlines_postgres as postgres
from onefold.adapters.sql.errors import at_the_border
from onefold.adapters.sql.schema import deadlines
from onefold.ports.deadlines import Deadline
from onefold.ports.tables import rows_of
from onefold.ports.unit_of_work import Transaction, UnitOfWork, check_deadlines

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_MOST_KINDS = 100  # of one statement


class SqlDeadlines:
    """See `ports.deadlines.Deadlines`."""

    def __init__(self, uow: UnitOfWork) -> None:
        self._uow = uow
        # Where a whole call is one statement, it is a transaction by itself. SQLite, where a
        # statement goes nowhere, cannot return what a row was before its update.
        whole = uow.features.name == "postgresql"
        self._fetch = uow.fetch if whole else None  # type: ignore[attr-defined]  # SqlUnitOfWork's

    async def due(self, kind: str, *, now: datetime, limit: int) -> Sequence[Deadline]:
        async with self._uow.read() as tx:
            found = await tx.execute(_ripe(kind, now, limit))
            return [Deadline(**row) for row in found.mappings()]

    async def arm(self, deadlines: Sequence[Deadline]) -> None:
        if self._fetch:
            some = check_deadlines(deadlines)
            with at_the_border():  # what is no JSON
                document = postgres.armed(some)
            await self._fetch(postgres.ARM, document)
            return
        async with self._uow.begin() as tx:
            await tx.schedule_many(deadlines)

    async def claim(
        self, kind: str, *, now: datetime, lease: timedelta, limit: int
    ) -> Sequence[Deadline]:
        if self._fetch:
            floor = (now - _EPOCH) // _MICROSECOND
            how = kind, now, now + lease, limit, floor
            return postgres.read(kind, await self._fetch(postgres.CLAIM, *how))
        query = _ripe(kind, now, limit).with_for_update(skip_locked=True)
        async with self._uow.begin() as tx:
            found = rows_of(await tx.execute(query))
            if not found:
                return []
            fences = await _lease(tx, kind, [row["key"] for row in found], now, now + lease)
        return [Deadline(**row | {"fence": fences[row["key"]]}) for row in found]

    async def complete(self, claimed: Sequence[Deadline]) -> Sequence[bool]:
        if not claimed:
            return []
        if self._fetch:
            lost = await self._fetch(postgres.COMPLETE, postgres.settled(claimed))
            return _without(lost, claimed)
        async with self._uow.begin() as tx:
            held = await _held(tx, claimed)
            ours = [(d.kind, d.key) for d in claimed if (d.kind, d.key, d.fence) in held]
            if ours:
                gone = tuple_(deadlines.c.kind, deadlines.c.key).in_(sorted(ours))
                await tx.execute(delete(deadlines).where(gone))
        return [(d.kind, d.key, d.fence) in held for d in claimed]

    async def postpone(self, claimed: Sequence[tuple[Deadline, datetime]]) -> Sequence[bool]:
        if not claimed:
            return []
        if self._fetch:
            lost = await self._fetch(postgres.POSTPONE, postgres.postponed(claimed))
            return _without(lost, [one for one, _ in claimed])
        async with self._uow.begin() as tx:
            held = await _held(tx, [one for one, _ in claimed])
            moved = [
                {"_kind": d.kind, "_key": d.key, "due_at": at}
                for d, at in sorted(claimed, key=lambda pair: _key(pair[0]))
                if (d.kind, d.key, d.fence) in held
            ]
            if moved:
                await tx.execute(_MOVE, moved)
        return [(d.kind, d.key, d.fence) in held for d, _ in claimed]

    async def next_due(self, kinds: Collection[str]) -> Mapping[str, datetime]:
        found: dict[str, datetime] = {}
        asked = sorted(kinds)
        async with self._uow.read() as tx:
            for start in range(0, len(asked), _MOST_KINDS):
                some = union_all(*map(_first_of, asked[start : start + _MOST_KINDS]))
                rows = (await tx.execute(some)).all()
                found |= {row.kind: row.at for row in rows if row.at is not None}
        return found


def _without(lost: Sequence[Any], claimed: Sequence[Deadline]) -> Sequence[bool]:
    """For each whether its claim counted."""
    if not lost:
        return [True] * len(claimed)
    gone = {tuple(row) for row in lost}
    return [(one.kind, one.key, one.fence) not in gone for one in claimed]


def _key(deadline: Deadline) -> tuple[str, str]:
    return deadline.kind, deadline.key


def _ripe(kind: str, now: datetime, limit: int) -> Select[Any]:
    return (
        select(deadlines)
        .where(deadlines.c.kind == kind, deadlines.c.due_at <= now)
        .order_by(deadlines.c.due_at, deadlines.c.key)
        .limit(limit)
    )


def _first_of(kind: str) -> Select[Any]:
    # An index look-up for each kind: GROUP BY would read every row of all of them.
    first = select(func.min(deadlines.c.due_at)).where(deadlines.c.kind == kind)
    return select(literal(kind).label("kind"), first.scalar_subquery().label("at"))


async def _lease(
    tx: Transaction, kind: str, keys: Sequence[str], now: datetime, until: datetime
) -> dict[str, int]:
    """The new fences: above the one before, and above those of an earlier life of the key."""
    floor = (now - _EPOCH) // _MICROSECOND
    after = deadlines.c.fence + 1
    fence = case((after > floor, after), else_=floor)
    ours = and_(deadlines.c.kind == kind, deadlines.c.key.in_(keys))
    take = update(deadlines).where(ours).values(due_at=until, fence=fence)
    rows = (await tx.execute(take.returning(deadlines.c.key, deadlines.c.fence))).all()
    return {row.key: row.fence for row in rows}


async def _held(tx: Transaction, claimed: Sequence[Deadline]) -> set[tuple[str, str, int]]:
    """Those of *claimed* whose fence still counts, locked until the commit."""
    ours = or_(
        *(
            and_(deadlines.c.kind == kind, deadlines.c.key.in_(sorted(keys)))
            for kind, keys in _by_kind(claimed).items()
        )
    )
    columns = (deadlines.c.kind, deadlines.c.key, deadlines.c.fence)
    query = select(*columns).where(ours).order_by(*columns[:2]).with_for_update()
    held = {(row.kind, row.key, row.fence) for row in (await tx.execute(query)).all()}
    return held & {(d.kind, d.key, d.fence) for d in claimed}


def _by_kind(claimed: Sequence[Deadline]) -> dict[str, set[str]]:
    kinds: dict[str, set[str]] = {}
    for one in claimed:
        kinds.setdefault(one.kind, set()).add(one.key)
    return kinds


# The fence rises, so that the claim given up cannot complete it any more.
_MOVE = (
    update(deadlines)
    .where(deadlines.c.kind == bindparam("_kind"), deadlines.c.key == bindparam("_key"))
    .values(fence=deadlines.c.fence + 1)
)
