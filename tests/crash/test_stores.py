"""Every death on the real stores: a relay and a consumer on databases, a guard on Valkey."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from functools import partial
from itertools import count

import pytest
from tests.crash.stores import Fresh, consumer_scenario, relay_scenario
from tests.support_valkey import Valkey

from onefold.adapters.valkey.connection import connect
from onefold.adapters.valkey.guard import ValkeyGuard
from onefold.ports.guard import Busy, Claim, ClaimKey, Confirmation, Lease
from onefold.testing.clock import ManualClock
from onefold.testing.crash.explorer import Scenario, explore
from onefold.testing.crash.invariants import Effect
from onefold.testing.crash.points import Reaper


@pytest.fixture
async def fresh(database_url: str) -> AsyncIterator[Fresh]:
    """Gives the same store again, empty."""
    stores = Fresh(database_url)
    yield stores
    await stores.aclose()


@pytest.mark.timeout(60)
async def test_no_death_of_a_relay_on_a_database_loses_an_event(fresh: Fresh) -> None:
    """Dying in calls, statements, commits and between acknowledgements only ever repeats."""
    found = await explore(partial(relay_scenario, fresh, 3))

    found.verify()
    assert {"sql.commit#1:after", "broker.ack#1:after", "outbox.mark#1:before:stalled"} <= set(
        found.deaths
    )


@pytest.mark.timeout(60)
async def test_no_death_of_a_consumer_on_a_database_loses_or_doubles(fresh: Fresh) -> None:
    """Also when a commit's answer is lost and the process lives."""
    found = await explore(partial(consumer_scenario, fresh, 3))

    found.verify()
    assert {"sql.commit#2:before", "sql.commit#2:after", "transaction#1.commit:unknown"} <= set(
        found.deaths
    )


_LEASE = timedelta(seconds=30)


@asynccontextmanager
async def _guard(valkey: Valkey) -> AsyncIterator[Callable[[int], ValkeyGuard]]:
    server = connect(valkey.url)
    try:
        yield lambda world: ValkeyGuard(server, prefix=f"{valkey.prefix}-{world}")
    finally:
        await server.aclose()


async def test_no_death_of_a_guarded_handler_on_valkey_loses_an_event(valkey: Valkey) -> None:
    """It may be applied again, never by a worker that lost its lease; every claim ends."""
    worlds = count()
    async with _guard(valkey) as guard_of:

        def make() -> Scenario:
            guard, clock = guard_of(next(worlds)), ManualClock()
            applied: list[Effect] = []
            claims = [Claim(ClaimKey("c", "", f"e{n}"), bytes(32)) for n in range(2)]
            processes = count()

            async def run(reaper: Reaper) -> None:
                mine, owner = reaper.mortal(guard, "guard"), f"p{next(processes)}"
                for claim in claims:
                    (verdict,) = await mine.claim(
                        [claim], owner=owner, now=clock.now(), lease=_LEASE
                    )
                    if isinstance(verdict, Lease):
                        applied.append(Effect(claim.key.event_id))
                        confirmation = Confirmation(verdict)
                        await mine.confirm([confirmation], now=clock.now(), keep=_LEASE * 100)

            async def open_claims() -> list[str]:
                verdicts = await guard.claim(claims, owner="o", now=clock.now(), lease=_LEASE)
                return [v.key.event_id for v in verdicts if isinstance(v, Lease | Busy)]

            async def happened() -> list[Effect]:
                return applied

            return Scenario(
                run=run,
                expected=[Effect("e0"), Effect("e1")],
                effects=happened,
                repeats=True,
                claims=open_claims,
                expire=lambda: clock.advance(_LEASE * 2),
            )

        found = await explore(make, deaths=2)

    found.verify()
    assert "guard.claim#1:after + guard.claim#2:after" in found.deaths
