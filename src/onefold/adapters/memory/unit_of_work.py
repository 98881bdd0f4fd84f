"""
The reference adapter: one writer at a time, real rollback, nothing survives the process.

It is also the fake that tests use, and passes the very same contracts as the databases.
"""

import asyncio
from collections.abc import AsyncIterator, Collection, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import msgspec
from msgspec.structs import replace

from onefold.adapters.tasks import OnePerTask
from onefold.core.envelope import Event
from onefold.core.wire import decode, encode_native
from onefold.errors import (
    ConstraintViolated,
    IllegalTransition,
    StoreUnavailable,
    Unsupported,
)
from onefold.ports.deadlines import Deadline
from onefold.ports.features import Features
from onefold.ports.unit_of_work import (
    Claimed,
    InboxClaim,
    check_claim,
    check_deadline,
    check_deadlines,
    judge_claims,
)

FEATURES = Features(name="memory", sql=False, parallel_writers=False, survives_process=False)


@dataclass(frozen=True, kw_only=True)
class OutboxRow:
    """One published event; replaced, never changed, so that a copy of the state can roll back."""

    position: int
    body: bytes  # what leaves is what was written
    published_at: datetime
    attempts: int = 0
    next_at: datetime | None = None
    sent: bool = False
    dead_at: datetime | None = None
    error: str = ""

    @property
    def dead(self) -> bool:
        """Sent no more, until somebody revives it."""
        return self.dead_at is not None

    @property
    def event(self) -> Event:
        """A fresh one at each call: nobody can change what was written."""
        return decode(self.body)


Armed = dict[tuple[str, str], tuple[datetime, bytes, int]]
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


@dataclass(kw_only=True)
class MemoryState:
    """Everything committed; a transaction works on a copy and swaps it in at its commit."""

    claims: dict[tuple[str, str], bytes] = field(default_factory=dict)  # their fingerprints
    outbox: dict[str, OutboxRow] = field(default_factory=dict)
    # When, the payload as JSON, and the fence, by kind and key.
    deadlines: Armed = field(default_factory=dict)
    records: dict[str, Any] = field(default_factory=dict)

    def copy(self) -> "MemoryState":
        return MemoryState(
            claims=dict(self.claims),
            outbox=dict(self.outbox),
            deadlines=dict(self.deadlines),
            records=deepcopy(self.records),
        )


class MemoryTransaction:
    """One open transaction; see `ports.unit_of_work.Transaction`. `records` is the domain's."""

    def __init__(self, draft: MemoryState, *, writes: bool) -> None:
        self._draft = draft
        self._state = "open" if writes else "read-only"

    @property
    def features(self) -> Features:
        return FEATURES

    @property
    def records(self) -> dict[str, Any]:
        """
        The domain's own rows here: values by key, rolled back with everything else.

        Those of a reading transaction are a copy that is thrown away.
        """
        return self._called().records

    async def execute(self, *_: object) -> NoReturn:
        raise Unsupported(FEATURES.name, "SQL statements; use `records`")

    async def insert_new(self, *_: object) -> NoReturn:
        raise Unsupported(FEATURES.name, "SQL tables; use `records`")

    async def claim(self, consumer: str, event_id: str, *, now: datetime) -> bool:
        (claimed,) = await self.claim_many(consumer, [InboxClaim(event_id, b"")], now=now)
        return claimed is Claimed.FIRST

    async def claim_many(
        self, consumer: str, claims: Sequence[InboxClaim], *, now: datetime
    ) -> Sequence[Claimed]:
        for claim in claims:
            check_claim(consumer, claim.event_id, now=now)
        inbox = self._written().claims
        new = {claim.event_id for claim in claims if (consumer, claim.event_id) not in inbox}
        for claim in claims:
            inbox.setdefault((consumer, claim.event_id), claim.fingerprint)
        return judge_claims(claims, new, {c.event_id: inbox[consumer, c.event_id] for c in claims})

    async def publish(self, *events: Event, now: datetime) -> None:
        outbox = self._written().outbox
        for event in events:
            row = OutboxRow(position=len(outbox) + 1, body=encode_native(event), published_at=now)
            outbox.setdefault(event.identity, row)

    async def schedule(
        self, kind: str, key: str, *, due_at: datetime, payload: Mapping[str, Any]
    ) -> None:
        check_deadline(kind, key, due_at=due_at)
        armed = self._written().deadlines
        try:
            body = msgspec.json.encode(dict(payload))
        except (TypeError, ValueError, OverflowError) as error:
            self._state = "failed"
            raise ConstraintViolated(f"not a JSON object ({type(error).__name__})") from error
        _, _, fence = armed.get((kind, key), (due_at, b"", -1))
        armed[kind, key] = (due_at, body, fence + 1)

    async def schedule_many(self, many: Sequence[Deadline]) -> None:
        for one in check_deadlines(many):
            await self.schedule(one.kind, one.key, due_at=one.due_at, payload=one.payload)

    def armed(self) -> Armed:
        """The draft's deadlines, to be changed."""
        return self._written().deadlines

    def end(self) -> bool:
        """Refuse every further call; tell whether one had failed."""
        failed, self._state = self._state == "failed", "ended"
        return failed

    def _called(self) -> MemoryState:
        if self._state in {"failed", "ended"}:
            raise IllegalTransition(self._state, "a call on this transaction")
        return self._draft

    def _written(self) -> MemoryState:
        if self._state == "read-only":
            raise IllegalTransition("read-only", "a write")
        return self._called()


class MemoryUnitOfWork:
    """See `ports.unit_of_work.UnitOfWork`."""

    def __init__(self) -> None:
        self.committed = MemoryState()
        self._writer = asyncio.Lock()
        self._one = OnePerTask()
        self._closed = False

    @property
    def features(self) -> Features:
        return FEATURES

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[MemoryTransaction]:
        with self._one.entered():
            async with self._writer:
                draft = self.committed.copy()
                with self._open(draft, writes=True) as tx:
                    yield tx
                self._commit(draft)

    @asynccontextmanager
    async def read(self) -> AsyncIterator[MemoryTransaction]:
        with self._one.entered(), self._open(self.committed.copy(), writes=False) as tx:
            yield tx

    async def aclose(self) -> None:
        self._closed = True

    @contextmanager
    def _open(self, draft: MemoryState, *, writes: bool) -> Iterator[MemoryTransaction]:
        if self._closed:
            raise IllegalTransition("closed", "a transaction")
        tx = MemoryTransaction(draft, writes=writes)
        try:
            yield tx
        finally:
            failed = tx.end()
        if failed:  # and its error was swallowed
            raise IllegalTransition("failed", "a commit")

    def _commit(self, draft: MemoryState) -> None:
        if self._closed:
            raise StoreUnavailable("closed while the transaction was open")
        self.committed = draft


class MemoryDeadlines:
    """See `ports.deadlines.Deadlines`."""

    def __init__(self, uow: MemoryUnitOfWork) -> None:
        self._uow = uow

    async def due(self, kind: str, *, now: datetime, limit: int) -> Sequence[Deadline]:
        return _ripe(self._uow.committed.deadlines, kind, now)[:limit]

    async def arm(self, deadlines: Sequence[Deadline]) -> None:
        async with self._uow.begin() as tx:
            await tx.schedule_many(deadlines)

    async def claim(
        self, kind: str, *, now: datetime, lease: timedelta, limit: int
    ) -> Sequence[Deadline]:
        floor = (now - _EPOCH) // _MICROSECOND  # above the fences of an earlier life of the key
        async with self._uow.begin() as tx:
            armed = tx.armed()
            claimed = [
                replace(one, fence=max(one.fence + 1, floor))
                for one in _ripe(armed, kind, now)[:limit]
            ]
            for one in claimed:
                _, body, _ = armed[kind, one.key]
                armed[kind, one.key] = (now + lease, body, one.fence)
        return claimed

    async def complete(self, claimed: Sequence[Deadline]) -> Sequence[bool]:
        async with self._uow.begin() as tx:
            armed = tx.armed()
            held = [_holds(armed, one) for one in claimed]
            for one, ours in zip(claimed, held, strict=True):
                if ours:
                    armed.pop((one.kind, one.key), None)
        return held

    async def postpone(self, claimed: Sequence[tuple[Deadline, datetime]]) -> Sequence[bool]:
        async with self._uow.begin() as tx:
            armed = tx.armed()
            held = [_holds(armed, one) for one, _ in claimed]
            for (one, at), ours in zip(claimed, held, strict=True):
                if ours:
                    _, body, fence = armed[one.kind, one.key]
                    armed[one.kind, one.key] = (at, body, fence + 1)
        return held

    async def next_due(self, kinds: Collection[str]) -> Mapping[str, datetime]:
        found: dict[str, datetime] = {}
        for (kind, _), (at, *_) in self._uow.committed.deadlines.items():
            if kind in kinds:
                found[kind] = min(at, found.get(kind, at))
        return found


def _ripe(armed: Armed, kind: str, now: datetime) -> list[Deadline]:
    found = sorted((at, key, n) for (k, key), (at, _, n) in armed.items() if k == kind)
    return [
        Deadline(
            kind=kind,
            key=key,
            due_at=at,
            payload=msgspec.json.decode(armed[kind, key][1]),
            fence=fence,
        )
        for at, key, fence in found
        if at <= now
    ]


def _holds(armed: Armed, one: Deadline) -> bool:
    found = armed.get((one.kind, one.key))
    return found is not None and found[2] == one.fence
