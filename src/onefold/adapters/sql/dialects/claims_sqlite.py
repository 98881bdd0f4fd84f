"""
SQLite: each call of the guard is one short IMMEDIATE transaction.

Only one can write, so what was read cannot change before it is written: the records are
read, the state table applied, the changes written. No deadlock: the write lock comes first.
"""

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import delete, select, text, tuple_
from sqlalchemy.dialects.sqlite import insert

from onefold.adapters.claim_record import (
    ClaimRecord,
    claimed,
    confirmed,
    lease_of,
    released,
    renewed,
)
from onefold.adapters.sql.claim_tables import claims as table
from onefold.adapters.sql.confirm_in import ConfirmsInside
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.dialects.sqlite import FEATURES
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.errors import CommitUnknown, StoreUnavailable
from onefold.ports.features import Features
from onefold.ports.guard import Claim, ClaimKey, Confirmation, Lease, Verdict
from onefold.ports.unit_of_work import Transaction

_KEY = (table.c.consumer, table.c.source, table.c.event_id)
_KEYS_A_STATEMENT = 10_000  # three variables each, within SQLite's limit of 32 766

_inserted = insert(table)
_UPSERT = _inserted.on_conflict_do_update(
    index_elements=list(_KEY),
    set_={c.name: _inserted.excluded[c.name] for c in table.c if not c.primary_key},
)
_DRAW = text("UPDATE onefold_fences SET last = last + :count RETURNING last")


class SqliteGuard(ConfirmsInside):
    """See `ports.guard.Guard`. One transaction a call, of a handful of statements."""

    def __init__(self, database: Database) -> None:
        self._uow = SqlUnitOfWork(database)

    @property
    def features(self) -> Features:
        return FEATURES

    @asynccontextmanager
    async def _begun(self) -> AsyncIterator[Transaction]:
        try:
            async with self._uow.begin() as tx:
                yield tx
        except CommitUnknown as unknown:  # every call of a guard may be repeated
            raise StoreUnavailable(unknown.reason) from unknown

    async def claim(
        self, claims: Sequence[Claim], *, owner: str, now: datetime, lease: timedelta
    ) -> Sequence[Verdict]:
        if not claims:
            return []
        verdicts: list[Verdict] = []
        changes: dict[ClaimKey, ClaimRecord] = {}
        async with self._begun() as tx:
            records = await _read(tx, [claim.key for claim in claims])
            fences = await _draw(tx, len(claims))
            for claim in claims:
                new, verdict = claimed(
                    records.get(claim.key),
                    claim,
                    owner=owner,
                    now=now,
                    until=now + lease,
                    next_fence=fences.__next__,
                )
                verdicts.append(verdict)
                _change(changes, claim.key, new)
            await _write(tx, changes)
        return verdicts

    async def renew(
        self, leases: Sequence[Lease], *, now: datetime, lease: timedelta
    ) -> Sequence[Lease | None]:
        prolonged: list[Lease | None] = []
        changes: dict[ClaimKey, ClaimRecord] = {}
        async with self._begun() as tx:
            records = await _read(tx, [held.key for held in leases])
            for held in leases:
                new = renewed(records.get(held.key), held, now=now, until=now + lease)
                prolonged.append(None if new is None else lease_of(held.key, new))
                _change(changes, held.key, new)
            await _write(tx, changes)
        return prolonged

    async def confirm(
        self, confirmations: Sequence[Confirmation], *, now: datetime, keep: timedelta
    ) -> Sequence[bool]:
        answers: list[bool] = []
        changes: dict[ClaimKey, ClaimRecord] = {}
        async with self._begun() as tx:
            records = await _read(tx, [confirmation.lease.key for confirmation in confirmations])
            for confirmation in confirmations:
                key = confirmation.lease.key
                new, answer = confirmed(
                    records.get(key), confirmation, now=now, forget_at=now + keep
                )
                answers.append(answer)
                _change(changes, key, new)
            await _write(tx, changes)
        return answers

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[bool]:
        answers: list[bool] = []
        changes: dict[ClaimKey, ClaimRecord] = {}
        async with self._begun() as tx:
            records = await _read(tx, [held.key for held in leases])
            for held in leases:
                new, answer = released(records.get(held.key), held, now=now)
                answers.append(answer)
                _change(changes, held.key, new)
            await _write(tx, changes)
        return answers

    async def forget(self, *, now: datetime, limit: int) -> int:
        over = select(*_KEY).where(table.c.forget_at <= now).order_by(table.c.forget_at)
        async with self._begun() as tx:
            keys = (await tx.execute(over.limit(limit))).all()
            for chunk in _chunks(keys):
                await tx.execute(delete(table).where(tuple_(*_KEY).in_(chunk)))
        return len(keys)


def _change(changes: dict[ClaimKey, ClaimRecord], key: ClaimKey, new: ClaimRecord | None) -> None:
    if new is not None:
        changes[key] = new


def _chunks(keys: Sequence[Any]) -> Iterable[list[Any]]:
    for start in range(0, len(keys), _KEYS_A_STATEMENT):
        yield [tuple(key) for key in keys[start : start + _KEYS_A_STATEMENT]]


async def _read(tx: Transaction, keys: Sequence[ClaimKey]) -> dict[ClaimKey, ClaimRecord]:
    records: dict[ClaimKey, ClaimRecord] = {}
    for chunk in _chunks(keys):
        found = await tx.execute(select(table).where(tuple_(*_KEY).in_(chunk)))
        for row in found.mappings():
            fields = dict(row)
            key = ClaimKey(*(fields.pop(column.name) for column in _KEY))
            records[key] = ClaimRecord(**fields)
    return records


async def _write(tx: Transaction, changes: Mapping[ClaimKey, ClaimRecord]) -> None:
    if changes:
        rows = [key._asdict() | asdict(record) for key, record in changes.items()]
        await tx.execute(_UPSERT, rows)


async def _draw(tx: Transaction, count: int) -> Iterator[int]:
    """As many fences, higher than all before, whether they get used or not."""
    last = (await tx.execute(_DRAW, [{"count": count}])).scalar_one()
    return iter(range(last - count + 1, last + 1))
