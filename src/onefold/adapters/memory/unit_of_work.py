"""
The reference adapter: one writer at a time, real rollback, nothing survives the process.

It is also the fake that tests use, and passes the very same contracts as the databases.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from copy import deepcopy
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any, NoReturn

from onefold.core.envelope import Event
from onefold.errors import IllegalTransition, Unsupported
from onefold.ports.deadlines import Deadline
from onefold.ports.features import Features
from onefold.ports.unit_of_work import Claimed, InboxClaim, judge_claims

FEATURES = Features(name="memory", sql=False, parallel_writers=False, survives_process=False)


@dataclass(frozen=True, kw_only=True)
class OutboxRow:
    """One published event; replaced, never changed, so that a copy of the state can roll back."""

    position: int
    event: Event
    published_at: datetime
    attempts: int = 0
    next_at: datetime | None = None
    sent: bool = False
    dead: bool = False


@dataclass(kw_only=True)
class MemoryState:
    """Everything committed; a transaction works on a copy and swaps it in at its commit."""

    claims: dict[tuple[str, str], bytes] = field(default_factory=dict)
    outbox: dict[str, OutboxRow] = field(default_factory=dict)
    deadlines: dict[tuple[str, str], Deadline] = field(default_factory=dict)
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

    def __init__(self, state: MemoryState) -> None:
        self._state: MemoryState | None = state

    @property
    def features(self) -> Features:
        return FEATURES

    @property
    def records(self) -> dict[str, Any]:
        """The domain's own rows here: values by key, rolled back with everything else."""
        return self._open().records

    async def execute(self, *_: object) -> NoReturn:
        raise Unsupported(FEATURES.name, "SQL statements; use `records`")

    async def insert_new(self, *_: object) -> NoReturn:
        raise Unsupported(FEATURES.name, "SQL tables; use `records`")

    async def claim(self, consumer: str, event_id: str, *, now: datetime) -> bool:
        claim = InboxClaim(event_id, b"")
        return (await self.claim_many(consumer, [claim], now=now))[0] is Claimed.FIRST

    async def claim_many(
        self,
        consumer: str,
        claims: Sequence[InboxClaim],
        *,
        now: datetime,
    ) -> Sequence[Claimed]:
        inbox = self._open().claims
        new = {claim.event_id for claim in claims if (consumer, claim.event_id) not in inbox}
        for claim in claims:
            inbox.setdefault((consumer, claim.event_id), claim.fingerprint)
        return judge_claims(claims, new, {id_: inbox[consumer, id_] for id_, _ in claims})

    async def publish(self, *events: Event, now: datetime) -> None:
        outbox = self._open().outbox
        for event in events:
            row = OutboxRow(position=len(outbox) + 1, event=event, published_at=now)
            outbox.setdefault(event.identity, row)

    async def schedule(
        self, kind: str, key: str, *, due_at: datetime, payload: Mapping[str, Any]
    ) -> None:
        armed = Deadline(kind=kind, key=key, due_at=due_at, payload=deepcopy(dict(payload)))
        self._open().deadlines[kind, key] = armed

    def end(self) -> None:
        """Refuse every further call."""
        self._state = None

    def _open(self) -> MemoryState:
        if self._state is None:
            raise IllegalTransition("ended", "a call on this transaction")
        return self._state


class MemoryUnitOfWork:
    """See `ports.unit_of_work.UnitOfWork`."""

    def __init__(self) -> None:
        self.committed = MemoryState()
        self._writer = asyncio.Lock()

    @property
    def features(self) -> Features:
        return FEATURES

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[MemoryTransaction]:
        async with self._writer:
            draft = self.committed.copy()
            tx = MemoryTransaction(draft)
            try:
                yield tx
            finally:
                tx.end()
            self.committed = draft

    @asynccontextmanager
    async def read(self) -> AsyncIterator[MemoryTransaction]:
        tx = MemoryTransaction(self.committed.copy())
        try:
            yield tx
        finally:
            tx.end()

    async def aclose(self) -> None:
        """Nothing is held."""


class MemoryDeadlines:
    """See `ports.deadlines.Deadlines`."""

    def __init__(self, uow: MemoryUnitOfWork) -> None:
        self._uow = uow

    async def due(self, kind: str, *, now: datetime, limit: int) -> Sequence[Deadline]:
        armed = self._uow.committed.deadlines.values()
        ripe = [d for d in armed if d.kind == kind and d.due_at <= now]
        ripe.sort(key=lambda d: (d.due_at, d.key))
        return [replace(d, payload=deepcopy(d.payload)) for d in ripe[:limit]]
