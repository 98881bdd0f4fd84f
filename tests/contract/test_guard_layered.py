"""Valkey in front of SQLite keeps the promises of `ports.guard`, and those of its own."""

from collections.abc import AsyncIterator, Awaitable, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

import pytest
from tests.support_valkey import Valkey

from onefold.adapters.layered import LayeredGuard
from onefold.adapters.memory.guard import MemoryGuard
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.guard import SqlGuard, sql_guard
from onefold.adapters.valkey.connection import connect
from onefold.adapters.valkey.guard import ValkeyGuard
from onefold.errors import StoreUnavailable
from onefold.ports.guard import Claim, Confirmation, Done, Guard, Lease, Verdict
from onefold.testing.contracts.guard import (
    KEEP,
    LEASE,
    NOW,
    GuardContract,
    claim_of,
    claim_one,
    confirm_one,
    lease_one,
    release_one,
)


class TestLayeredGuard(GuardContract):
    @pytest.fixture(autouse=True)
    def _stores(self, sqlite_url: str, valkey: Valkey) -> None:
        self.url, self.valkey = sqlite_url, valkey

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Guard]:
        database = Database(self.url)
        server = connect(self.valkey.url)
        front = ValkeyGuard(server, prefix=self.valkey.prefix)
        try:
            yield LayeredGuard(front, sql_guard(database))
        finally:
            await server.aclose()
            await database.aclose()


class Front(MemoryGuard):
    """A front that is out of order when told, before or after it did what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.down = self.deaf = False

    async def _maybe(self, answer: Awaitable[Any]) -> Any:
        if self.down:
            answer.close()  # type: ignore[attr-defined]
            raise StoreUnavailable("refused")
        found = await answer
        if self.deaf:
            raise StoreUnavailable("the reply was lost")
        return found

    async def claim(self, claims: Sequence[Claim], **how: Any) -> Sequence[Verdict]:
        found: Sequence[Verdict] = await self._maybe(super().claim(claims, **how))
        return found

    async def renew(self, leases: Sequence[Lease], **how: Any) -> Sequence[Lease | None]:
        found: Sequence[Lease | None] = await self._maybe(super().renew(leases, **how))
        return found

    async def confirm(
        self, confirmations: Sequence[Confirmation], *, now: datetime, keep: timedelta
    ) -> Sequence[bool]:
        found: Sequence[bool] = await self._maybe(
            super().confirm(confirmations, now=now, keep=keep)
        )
        return found

    async def release(self, leases: Sequence[Lease], *, now: datetime) -> Sequence[bool]:
        found: Sequence[bool] = await self._maybe(super().release(leases, now=now))
        return found


class Counted:
    """How many claims the durable guard was asked for."""

    def __init__(self, inner: SqlGuard) -> None:
        self.inner, self.asked = inner, 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def claim(self, claims: Sequence[Claim], **how: Any) -> Sequence[Verdict]:
        self.asked += len(claims)
        return await self.inner.claim(claims, **how)


@pytest.fixture
async def durable(sqlite_url: str) -> AsyncIterator[Any]:
    database = Database(sqlite_url)
    yield Counted(sql_guard(database))
    await database.aclose()


async def test_repeats_are_answered_by_the_front(durable: Any) -> None:
    """The database is not asked at all."""
    guard = LayeredGuard(MemoryGuard(), durable)
    await confirm_one(guard, await lease_one(guard, claim_of("e1")), result=b"r")
    durable.asked = 0

    verdict = await claim_one(guard, claim_of("e1"))

    assert verdict == Done(key=claim_of("e1").key, completed_at=NOW, same_content=True, result=b"r")
    assert durable.asked == 0


async def test_a_front_that_forgot_is_taught_again(durable: Any) -> None:
    """A flushed Valkey costs one look at the database per event, and no second effect."""
    await confirm_one(durable, await lease_one(durable, claim_of("e1")))
    guard = LayeredGuard(MemoryGuard(), durable)

    first = await claim_one(guard, claim_of("e1"))
    durable.asked = 0
    second = await claim_one(guard, claim_of("e1"))

    assert isinstance(first, Done)
    assert isinstance(second, Done)
    assert durable.asked == 0


@pytest.mark.parametrize("how", ["down", "deaf"])
async def test_an_outage_of_the_front_changes_nothing(durable: Any, how: str) -> None:
    """Whatever the front did or did not do, the durable guard's word stands."""
    front = Front()
    guard = LayeredGuard(front, durable)
    setattr(front, how, True)

    held = await lease_one(guard, claim_of("e1"))
    (renewed,) = await guard.renew([held], now=NOW, lease=LEASE)
    failed = await lease_one(guard, claim_of("e2"))
    released = await release_one(guard, failed)
    confirmed = await confirm_one(guard, held)
    again = await claim_one(guard, claim_of("e1"))
    setattr(front, how, False)

    assert renewed is not None
    assert (released, confirmed) == (True, True)
    assert isinstance(again, Done)
    assert isinstance(await claim_one(guard, claim_of("e1"), now=NOW + LEASE), Done)
    assert isinstance(await claim_one(guard, claim_of("e2"), now=NOW + LEASE), Lease)


async def test_the_front_never_calls_done_what_is_not_durable(durable: Any) -> None:
    """A worker that lost its durable lease leaves no completion in the front."""
    front = MemoryGuard()
    guard = LayeredGuard(front, durable)
    zombie = await lease_one(guard, claim_of("e1"))
    await lease_one(durable, claim_of("e1"), now=NOW + LEASE)

    confirmed = await confirm_one(guard, zombie, now=NOW + LEASE)

    assert confirmed is False
    assert not any(record.completed_at for record in front.records.values())


async def test_a_stranger_in_the_front_does_not_hide_a_completion(durable: Any) -> None:
    """A lease left behind in the front is no reason to wait for what is done."""
    front = MemoryGuard()
    await lease_one(front, claim_of("e1"), owner="dead")
    await confirm_one(durable, await lease_one(durable, claim_of("e1")))
    guard = LayeredGuard(front, durable)

    assert isinstance(await claim_one(guard, claim_of("e1")), Done)


async def test_both_forget(durable: Any) -> None:
    """Housekeeping reaches both."""
    front = MemoryGuard()
    guard = LayeredGuard(front, durable)
    await confirm_one(guard, await lease_one(guard, claim_of("e1")))

    assert await guard.forget(now=NOW + KEEP, limit=10) == 1
    assert front.records == {}
