"""A fake for code that talks to redis-py: our clock, our network, our schedules."""

import sys
import time
from datetime import timedelta
from typing import Any

import pytest
from redis.exceptions import ConnectionError as ConnectionLost

from onefold.testing.clock import ManualClock
from onefold.testing.faults import Faults
from onefold.testing.redis import FakeServer, fake_redis
from onefold.testing.schedule.explorer import Schedule, explore_schedules


async def test_keys_expire_by_the_clock_of_the_test() -> None:
    """No second passes; and the machine's clock is read as before afterwards."""
    clock = ManualClock()
    async with fake_redis(clock) as client:
        await client.set("lease", "me", ex=30)
        clock.advance(timedelta(seconds=29))
        assert await client.get("lease") == b"me"

        clock.advance(timedelta(seconds=2))

        assert await client.get("lease") is None
    assert vars(sys.modules["fakeredis._socket._base"])["time"] is time


async def test_a_cut_reply_was_done() -> None:
    """redis-py's own error; the key is there for another client of the same server."""
    clock, server = ManualClock(), FakeServer(server_type="valkey")
    async with fake_redis(clock, server=server, faults=Faults(cut=1, most=1)) as client:
        with pytest.raises(ConnectionLost):
            await client.set("lease", "me", nx=True)

        async with fake_redis(clock, server=server) as other:
            assert await other.get("lease") == b"me"


def test_clients_of_one_server_race_under_a_schedule() -> None:
    """GET, then SET: found by the schedules, as with any other port."""

    async def get_then_set(schedule: Schedule) -> None:
        server, done = FakeServer(server_type="valkey"), []

        async def worker(client: Any, name: str) -> None:
            shared = schedule.port(client, "redis")
            if await shared.get("claim") is None:
                await shared.set("claim", name)
                done.append(name)

        async with (
            fake_redis(schedule.clock, server=server) as one,
            fake_redis(schedule.clock, server=server) as two,
        ):
            await schedule.together(worker(one, "a"), worker(two, "b"))
        assert len(done) == 1, f"by {done}"

    found = explore_schedules(get_then_set, exhaustive=True)

    assert found.failure is not None
    assert "by ['b', 'a']" in str(found.failure) or "by ['a', 'b']" in str(found.failure)
