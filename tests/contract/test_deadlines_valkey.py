"""Deadlines in Valkey keep the promises that those of the databases keep."""

from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
import redis
from tests.support_valkey import Valkey, started_cluster

from onefold.adapters.memory.unit_of_work import MemoryDeadlines, MemoryUnitOfWork
from onefold.adapters.valkey.connection import connect
from onefold.adapters.valkey.deadlines import ValkeyDeadlines, feed
from onefold.ports.deadlines import Deadline, Deadlines
from onefold.testing.contracts.claims import KIND, ClaimsContract, keys, one
from onefold.testing.contracts.stores import NOON


@asynccontextmanager
async def deadlines(url: str, prefix: str) -> AsyncIterator[Deadlines]:
    """Deadlines under *prefix*."""
    server = connect(url)
    try:
        yield ValkeyDeadlines(server, prefix=prefix)
    finally:
        await server.aclose()


class TestValkeyDeadlines(ClaimsContract):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _server(self, valkey: Valkey) -> None:
        self.fresh = lambda: deadlines(valkey.url, valkey.prefix)  # type: ignore[method-assign]


@pytest.fixture(scope="module")
def cluster_url() -> Iterator[str]:
    with started_cluster() as url:
        yield url


class TestValkeyClusterDeadlines(ClaimsContract):
    """A node of a cluster refuses a script whose keys are not of one slot."""

    __test__ = True
    _numbers = count(1)

    @pytest.fixture(autouse=True)
    def _server(self, cluster_url: str) -> None:
        name = f"cluster-{next(self._numbers)}"
        self.fresh = lambda: deadlines(cluster_url, name)  # type: ignore[method-assign]


async def test_what_a_transaction_scheduled_is_brought_over(valkey: Valkey) -> None:
    """As often as it is tried: armed twice is armed once."""
    uow = MemoryUnitOfWork()
    source = MemoryDeadlines(uow)
    async with uow.begin() as tx:
        await tx.schedule(KIND, "a", due_at=NOON, payload={"n": 1})
    async with deadlines(valkey.url, valkey.prefix) as to:
        found = await source.due(KIND, now=NOON, limit=9)
        await to.arm(found)  # and died before it was disarmed at its source

        assert await feed(source, to, [KIND], until=NOON, limit=9) == 1
        assert await feed(source, to, [KIND], until=NOON, limit=9) == 0
        claimed = await to.claim(KIND, now=NOON, lease=NOON - NOON, limit=9)
        assert [(d.key, d.payload) for d in claimed] == [("a", {"n": 1})]


async def test_nothing_to_bring_over_is_asked_for_once(valkey: Valkey) -> None:
    """However many destinations there are: this is asked four times a second."""
    uow, asked = MemoryUnitOfWork(), []

    class Source(MemoryDeadlines):
        async def due(self, kind: str, **how: Any) -> Sequence[Deadline]:
            asked.append(kind)
            return await super().due(kind, **how)

    async with uow.begin() as tx:
        await tx.schedule("k7", "a", due_at=NOON, payload={})
        await tx.schedule("k8", "a", due_at=NOON + timedelta(hours=1), payload={})
    async with deadlines(valkey.url, valkey.prefix) as to:
        kinds = [f"k{n}" for n in range(100)]

        assert await feed(Source(uow), to, kinds, until=NOON, limit=9) == 1
        assert await feed(Source(uow), to, kinds, until=NOON, limit=9) == 0

    assert asked == ["k7"]


async def test_nothing_that_is_armed_expires(valkey: Valkey) -> None:
    """What is not delivered is not forgotten, and what is leaves nothing behind."""
    async with deadlines(valkey.url, valkey.prefix) as armed:
        await armed.arm([one("a"), one("b")])
        (first,) = await armed.claim(KIND, now=NOON, lease=NOON - NOON, limit=1)
        with redis.Redis.from_url(valkey.url.replace("valkey:", "redis:")) as client:
            names = list(client.keys(f"{valkey.prefix}:*"))
            assert {client.ttl(name) for name in names} == {-1}
            (second,) = (
                d
                for d in await armed.claim(KIND, now=NOON, lease=NOON - NOON, limit=9)
                if d.key == "b"
            )
            again = [d for d in await armed.due(KIND, now=NOON, limit=9) if d.key == "a"]
            await armed.complete([*again, second])
            assert keys([first]) == ["a"]
            assert client.keys(f"{valkey.prefix}:*") == []


async def test_a_deadline_whose_body_is_lost_holds_up_no_other(valkey: Valkey) -> None:
    """Evicted, or deleted by hand: it is forgotten, and armed again it is as any other."""
    async with deadlines(valkey.url, valkey.prefix) as there:
        await there.arm([one("lost", NOON)])
        with redis.Redis.from_url(valkey.url.replace("valkey:", "redis:")) as client:
            client.delete(f"{valkey.prefix}:{{{KIND}}}:bodies")
        await there.arm([one("b", NOON)])

        assert keys(await there.due(KIND, now=NOON, limit=9)) == ["b"]
        assert keys(await _claimed(there)) == ["b"]
        await there.arm([one("lost", NOON)])
        assert keys(await _claimed(there)) == ["lost"]


async def _claimed(there: Deadlines) -> Sequence[Deadline]:
    return await there.claim(KIND, now=NOON, lease=timedelta(minutes=1), limit=9)
