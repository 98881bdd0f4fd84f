"""
PostgreSQL: each call of the guard is one statement, whatever the number of keys.

Rows are locked in the order of their keys, in every statement by the same `ORDER BY`, so
that overlapping calls cannot deadlock. A fence is drawn where its row is written: by
`nextval` in the very row that is inserted or, when the row was there, under its lock.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncEngine

from onefold.adapters.claim_record import ClaimRecord, lease_of, told
from onefold.adapters.sql.confirm_in import ConfirmsInside
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.dialects.postgres import FEATURES
from onefold.adapters.sql.errors import DRIVER_ERRORS, at_the_border
from onefold.core.claim import ClaimState
from onefold.errors import StoreContended
from onefold.ports.features import Features
from onefold.ports.guard import Claim, ClaimKey, Confirmation, Lease, Verdict

_KEY = "consumer, source, event_id"
_ORDER = 'consumer COLLATE "C", source COLLATE "C", event_id COLLATE "C"'
_SAME = "c.consumer = w.consumer AND c.source = w.source AND c.event_id = w.event_id"

# Takes what is free, and reads the rest as the statement's snapshot has it. The third part
# does not see what the second wrote, so each key comes back once or, when another
# transaction was faster than the snapshot, not at all: then the statement is repeated.
_CLAIM = f"""
WITH wanted AS (
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bytea[])
        AS w (consumer, source, event_id, fingerprint)
), taken AS (
    INSERT INTO onefold_claims AS c ({_KEY}, state, fence, owner, until, attempt, fingerprint)
    SELECT {_KEY}, 'leased', nextval('onefold_fence'), $5, $7, 1, fingerprint
    FROM (SELECT * FROM wanted ORDER BY {_ORDER}) AS w
    ON CONFLICT ({_KEY}) DO UPDATE
    SET state = 'leased', fence = nextval('onefold_fence'), owner = $5, until = $7,
        attempt = c.attempt + 1, fingerprint = excluded.fingerprint
    WHERE c.state = 'released' OR (c.state = 'leased' AND c.until <= $6)
    RETURNING {_KEY}, state, fence, owner, until, attempt, fingerprint,
        completed_at, forget_at, result
)
SELECT TRUE AS mine, * FROM taken
UNION ALL
SELECT FALSE, c.consumer, c.source, c.event_id, c.state, c.fence, c.owner, c.until,
    c.attempt, c.fingerprint, c.completed_at, c.forget_at, c.result
FROM onefold_claims AS c JOIN wanted AS w ON {_SAME}
WHERE NOT EXISTS (SELECT FROM taken AS c WHERE {_SAME})
"""  # noqa: S608 (our own names)

# Locks the rows that are still held under these fences, in order, and changes them. The
# condition is looked at again under the lock.
_HELD = f"""
WITH held AS (
    SELECT c.consumer, c.source, c.event_id, w.n
    FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
        WITH ORDINALITY AS w (consumer, source, event_id, fence, n)
    JOIN onefold_claims AS c ON {_SAME}
    WHERE c.fence = w.fence AND c.state = 'leased'
    ORDER BY c.consumer COLLATE "C", c.source COLLATE "C", c.event_id COLLATE "C"
    FOR UPDATE OF c
)
"""  # noqa: S608 (our own names)

_RENEW = f"""
{_HELD}
UPDATE onefold_claims AS c SET until = $5 FROM held AS w WHERE {_SAME} RETURNING w.n
"""  # noqa: S608 (our own names)

# What this lease did before counts too: a lost reply is asked again.
_AGAIN = f"""
SELECT w.n FROM unnest($1::text[], $2::text[], $3::text[], $4::bigint[])
    WITH ORDINALITY AS w (consumer, source, event_id, fence, n)
JOIN onefold_claims AS c ON {_SAME} WHERE c.fence = w.fence AND c.state =
"""  # noqa: S608 (our own names)

_CONFIRM = f"""
{_HELD}, changed AS (
    UPDATE onefold_claims AS c
    SET state = 'completed', completed_at = $6, forget_at = $7, result = ($5::bytea[])[w.n]
    FROM held AS w WHERE {_SAME} RETURNING w.n
)
SELECT n FROM changed UNION ALL {_AGAIN} 'completed'
"""  # noqa: S608 (our own names)

_RELEASE = f"""
{_HELD}, changed AS (
    UPDATE onefold_claims AS c SET state = 'released' FROM held AS w WHERE {_SAME} RETURNING w.n
)
SELECT n FROM changed UNION ALL {_AGAIN} 'released'
"""  # noqa: S608 (our own names)

_FORGET = """
DELETE FROM onefold_claims WHERE ctid = ANY (ARRAY(
    SELECT ctid FROM onefold_claims WHERE forget_at <= $1
    ORDER BY forget_at LIMIT $2 FOR UPDATE SKIP LOCKED
)) RETURNING 1
"""

_MOST_TRIES = 100  # each miss means that another transaction got on; so many never happen


async def _fetch(engine: AsyncEngine, statement: str, *arguments: Any) -> list[Any]:
    """Run one statement in a transaction of its own. One round trip once it is prepared."""
    with at_the_border():
        async with engine.connect() as connection:
            driver = (await connection.get_raw_connection()).driver_connection
            assert driver is not None  # noqa: S101 (a checked-out connection has its driver's)
            try:
                return await driver.fetch(statement, *arguments)  # type: ignore[no-any-return]
            except DRIVER_ERRORS:
                # The pool does not see errors of the driver's own calls, and would hand the
                # dead connection out for ever (test_a_lost_connection_is_store_unavailable).
                if driver.is_closed():
                    await connection.invalidate()
                raise


def _columns(keys: Sequence[ClaimKey]) -> tuple[list[str], list[str], list[str]]:
    return [k.consumer for k in keys], [k.source for k in keys], [k.event_id for k in keys]


def _fences(leases: Sequence[Lease]) -> tuple[list[str], list[str], list[str], list[int]]:
    return *_columns([held.key for held in leases]), [held.fence for held in leases]


class PostgresGuard(ConfirmsInside):
    """
    See `ports.guard.Guard`. One statement a call, in a transaction of its own; a claim that
    another transaction changed while it was looked at takes one more.
    """

    def __init__(self, database: Database) -> None:
        self._engine = database.writer

    @property
    def features(self) -> Features:
        return FEATURES

    async def claim(
        self, claims: Sequence[Claim], *, owner: str, now: datetime, lease: timedelta
    ) -> Sequence[Verdict]:
        verdicts: dict[ClaimKey, Verdict] = {}
        open_ = list(claims)
        for _ in range(_MOST_TRIES):
            if not open_:
                return [verdicts[claim.key] for claim in claims]
            verdicts |= await self._claim_once(open_, owner, now, now + lease)
            open_ = [claim for claim in open_ if claim.key not in verdicts]
        raise StoreContended(f"{len(open_)} claims changed at every look")

    async def _claim_once(
        self, claims: Sequence[Claim], owner: str, now: datetime, until: datetime
    ) -> dict[ClaimKey, Verdict]:
        """The verdicts of one statement; a key that changed meanwhile has none."""
        asked = {claim.key: claim for claim in claims}
        columns = _columns(list(asked))
        fingerprints = [claim.fingerprint for claim in asked.values()]
        rows = await _fetch(self._engine, _CLAIM, *columns, fingerprints, owner, now, until)
        verdicts: dict[ClaimKey, Verdict] = {}
        for mine, consumer, source, event_id, *fields in rows:
            key = ClaimKey(consumer, source, event_id)
            record = _record(fields)
            if mine:
                verdicts[key] = lease_of(key, record)
            elif not _is_stale(record, now):
                verdicts[key] = told(asked[key], record, owner=owner)
        return verdicts

    async def renew(
        self, leases: Sequence[Lease], *, now: datetime, lease: timedelta
    ) -> Sequence[Lease | None]:
        until = now + lease
        rows = await _fetch(self._engine, _RENEW, *_fences(leases), until)
        held = {row["n"] for row in rows}
        return [
            Lease(
                key=old.key,
                fence=old.fence,
                until=until,
                attempt=old.attempt,
                fingerprint=old.fingerprint,
            )
            if n in held
            else None
            for n, old in enumerate(leases, start=1)
        ]

    async def confirm(
        self, confirmations: Sequence[Confirmation], *, now: datetime, keep: timedelta
    ) -> Sequence[bool]:
        fences = _fences([confirmation.lease for confirmation in confirmations])
        results = [confirmation.result for confirmation in confirmations]
        rows = await _fetch(self._engine, _CONFIRM, *fences, results, now, now + keep)
        done = {row["n"] for row in rows}
        return [n in done for n, _ in enumerate(confirmations, start=1)]

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[bool]:
        rows = await _fetch(self._engine, _RELEASE, *_fences(leases))
        done = {row["n"] for row in rows}
        return [n in done for n, _ in enumerate(leases, start=1)]

    async def forget(self, *, now: datetime, limit: int) -> int:
        return len(await _fetch(self._engine, _FORGET, now, limit))


def _record(fields: Sequence[Any]) -> ClaimRecord:
    state, fence, owner, until, attempt, fingerprint, completed_at, forget_at, result = fields
    return ClaimRecord(
        state=state,
        fence=fence,
        owner=owner,
        until=until,
        attempt=attempt,
        fingerprint=fingerprint,
        completed_at=completed_at,
        forget_at=forget_at,
        result=result,
    )


def _is_stale(record: ClaimRecord, now: datetime) -> bool:
    """Whether the snapshot shows a free claim that was not free when it was to be taken."""
    return record.stands(now) in {ClaimState.ABSENT, ClaimState.EXPIRED}
