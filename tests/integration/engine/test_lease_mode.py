"""Consumers whose effects are elsewhere: leases in a real guard, and a guard as a front."""

from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import msgspec
import pytest
from tests.integration.engine.test_consumer import World, event, send
from tests.support_valkey import Valkey

from onefold.adapters.memory.guard import MemoryGuard
from onefold.adapters.memory.ledger import MemoryLedger
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.adapters.memory.unprotected import MemoryUnprotectedLog
from onefold.adapters.memory.watermarks import MemoryWatermarks
from onefold.adapters.valkey.connection import connect
from onefold.adapters.valkey.guard import ValkeyGuard
from onefold.core.envelope import Event
from onefold.engine.consumer import Consumer
from onefold.engine.delivery import HandlerTransaction
from onefold.errors import StoreUnavailable, Unsupported
from onefold.ports.guard import Claim, ClaimKey, Confirmation, Guard, Lease, Verdict
from onefold.testing.clock import ManualClock

LEASE = timedelta(seconds=30)


@pytest.fixture
def elsewhere(clock: ManualClock) -> World:
    """A broker, and a store that has the dead letters and no effects."""
    uow = MemoryUnitOfWork()
    return World(clock, uow, MemoryLedger(uow), MemoryWatermarks())


@pytest.fixture(params=["memory", "valkey"])
async def guard(request: pytest.FixtureRequest) -> AsyncIterator[Guard]:
    """Where the leases are."""
    if request.param == "memory":
        yield MemoryGuard()
        return
    valkey: Valkey = request.getfixturevalue("valkey")
    server = connect(valkey.url)
    yield ValkeyGuard(server, prefix=valkey.prefix)
    await server.aclose()


class Effects:
    """What a foreign system was told, with the fences it was told under."""

    def __init__(self) -> None:
        self.numbers: list[int] = []
        self.fences: list[int] = []

    async def note(self, event: Event, tx: HandlerTransaction) -> None:
        """Tell it."""
        self.numbers.append(event.data["n"])
        self.fences.append(tx.fence)


async def steps(world: World, consumer: Consumer, count: int) -> None:
    """Work for a while; what waits becomes due."""
    for _ in range(count):
        await consumer.step()
        world.clock.advance(timedelta(seconds=1))


async def held_by_another(world: World, guard: Guard, one: Event) -> Lease:
    """Another worker is at *one*."""
    claim = Claim(ClaimKey("c", "", one.identity), one.fingerprint())
    (lease,) = await guard.claim([claim], owner="other", now=world.clock.now(), lease=LEASE)
    assert isinstance(lease, Lease)
    return lease


async def test_a_repeat_is_not_run_again(elsewhere: World, guard: Guard) -> None:
    """The guard remembers what was confirmed."""
    told, one = Effects(), event(elsewhere.clock, 1)
    consumer = await elsewhere.consumer(told.note, record="lease", guard=guard)
    await send(elsewhere.transport, one, one, event(elsewhere.clock, 2))

    await consumer.drain()

    assert sorted(told.numbers) == [1, 2]
    assert (consumer.counts.applied, consumer.counts.repeated) == (2, 1)


async def test_a_failing_event_is_parked_and_its_fences_rise(
    elsewhere: World, guard: Guard
) -> None:
    """Each run has a higher fence than the one before; the claim is given back between."""
    fences = []

    async def handler(_: Event, tx: HandlerTransaction) -> None:
        fences.append(tx.fence)
        raise ValueError("no")

    options: dict[str, Any] = {"record": "lease", "guard": guard, "max_attempts": 3}
    consumer = await elsewhere.consumer(handler, **options)
    await send(elsewhere.transport, event(elsewhere.clock, 1))

    await steps(elsewhere, consumer, 20)

    assert len(fences) == 1 + 2  # its first failure is the first attempt
    assert fences == sorted(set(fences))
    assert [letter["reason"] for letter in await elsewhere.ledger.letters()] == ["ValueError"]


async def test_a_busy_event_is_waited_for_with_its_key(elsewhere: World, guard: Guard) -> None:
    """Not done, and no failure: it and its key wait until the lease of the other has ended."""
    told = Effects()
    consumer = await elsewhere.consumer(told.note, record="lease", guard=guard)
    busy = event(elsewhere.clock, 1, key="k")
    await held_by_another(elsewhere, guard, busy)
    await send(elsewhere.transport, busy, event(elsewhere.clock, 2, key="k"))
    await send(elsewhere.transport, event(elsewhere.clock, 3, key="another"))

    await steps(elsewhere, consumer, 20)
    meanwhile = list(told.numbers)
    await steps(elsewhere, consumer, 20)

    assert meanwhile == [3]
    assert told.numbers == [3, 1, 2]
    assert (consumer.counts.retried, consumer.counts.parked) == (0, 0)


async def test_a_busy_event_that_the_other_finishes_is_a_repeat(
    elsewhere: World, guard: Guard
) -> None:
    """Its offset moves when it is done, whoever did it."""
    told, busy = Effects(), event(elsewhere.clock, 1)
    consumer = await elsewhere.consumer(told.note, record="lease", guard=guard)
    lease = await held_by_another(elsewhere, guard, busy)
    await send(elsewhere.transport, busy)
    await steps(elsewhere, consumer, 5)

    now = elsewhere.clock.now()
    await guard.confirm([Confirmation(lease)], now=now, keep=timedelta(days=1))
    await steps(elsewhere, consumer, 5)

    assert (told.numbers, consumer.counts.repeated, consumer.waiting) == ([], 1, 0)


async def test_skipping_a_busy_event_lets_its_key_go_on(elsewhere: World, guard: Guard) -> None:
    """It is not done either: it comes to its turn when the lease has ended."""
    told = Effects()
    options: dict[str, Any] = {"record": "lease", "guard": guard, "when_busy": "skip"}
    consumer = await elsewhere.consumer(told.note, **options)
    busy = event(elsewhere.clock, 1, key="k")
    await held_by_another(elsewhere, guard, busy)
    await send(elsewhere.transport, busy, event(elsewhere.clock, 2, key="k"))

    await steps(elsewhere, consumer, 40)

    assert told.numbers == [2, 1]


async def test_rejecting_a_busy_event_counts_as_a_failure(elsewhere: World, guard: Guard) -> None:
    """It is retried by the policy, and parked after its attempts."""
    told = Effects()
    options: dict[str, Any] = {"guard": guard, "when_busy": "reject", "max_attempts": 2}
    consumer = await elsewhere.consumer(told.note, record="lease", **options)
    busy = event(elsewhere.clock, 1)
    await held_by_another(elsewhere, guard, busy)
    await send(elsewhere.transport, busy)

    await steps(elsewhere, consumer, 5)

    assert [letter["reason"] for letter in await elsewhere.ledger.letters()] == ["event_busy"]
    assert told.numbers == []


async def test_a_handler_has_no_transaction(elsewhere: World) -> None:
    """What it would write could not be kept together with the record, and is refused."""

    async def handler(_: Event, tx: HandlerTransaction) -> None:
        with pytest.raises(Unsupported, match="the effect is elsewhere"):
            await tx.schedule("k", "k", due_at=tx.now, payload={})
        await tx.publish("u", {})

    options: dict[str, Any] = {"record": "lease", "guard": MemoryGuard(), "max_attempts": 1}
    consumer = await elsewhere.consumer(handler, **options)
    await send(elsewhere.transport, event(elsewhere.clock, 1))

    await consumer.drain()

    assert [letter["reason"] for letter in await elsewhere.ledger.letters()] == ["unsupported"]


class Away(MemoryGuard):
    """Does not answer that many claims and confirmations."""

    def __init__(self, claims: int = 0, confirms: int = 0) -> None:
        super().__init__()
        self.claims, self.confirms = claims, confirms

    async def claim(
        self, claims: Sequence[Claim], *, owner: str, now: datetime, lease: timedelta
    ) -> Sequence[Verdict]:
        self.claims -= 1
        if self.claims >= 0:
            raise StoreUnavailable("away")
        return await super().claim(claims, owner=owner, now=now, lease=lease)

    async def confirm(
        self, confirmations: Sequence[Confirmation], *, now: datetime, keep: timedelta
    ) -> Sequence[bool]:
        self.confirms -= 1
        if self.confirms >= 0:
            raise StoreUnavailable("away")
        return await super().confirm(confirmations, now=now, keep=keep)


async def test_a_guard_that_is_down_is_waited_for(elsewhere: World) -> None:
    """Nothing runs meanwhile, nothing is counted."""
    told, one = Effects(), event(elsewhere.clock, 1)
    guard = Away(claims=3, confirms=2)
    consumer = await elsewhere.consumer(told.note, record="lease", guard=guard)
    await send(elsewhere.transport, one, one)

    await consumer.drain()

    assert (told.numbers, consumer.counts.retried) == ([1], 0)


async def test_a_guard_that_is_down_can_be_a_failure(elsewhere: World) -> None:
    """With `fail` the message is retried as any that fails."""
    told = Effects()
    options: dict[str, Any] = {"guard": Away(claims=2), "on_guard_down": "fail"}
    consumer = await elsewhere.consumer(told.note, record="lease", **options)
    await send(elsewhere.transport, event(elsewhere.clock, 1))

    await steps(elsewhere, consumer, 20)

    assert (told.numbers, consumer.counts.retried) == ([1], 2)


async def test_what_runs_without_a_guard_is_written_down(elsewhere: World) -> None:
    """With `process` it runs, loudly, and `onefold reconcile` finds its id."""
    told, unprotected = Effects(), MemoryUnprotectedLog()
    options: dict[str, Any] = {"guard": Away(claims=1), "on_guard_down": "process"}
    consumer = await elsewhere.consumer(
        told.note, record="lease", unprotected=unprotected, **options
    )
    one = event(elsewhere.clock, 1)
    await send(elsewhere.transport, one)

    await consumer.drain()

    assert (told.numbers, told.fences) == ([1], [0])
    assert [each.key.event_id for each in await unprotected.unsettled(limit=9)] == [one.identity]


# -- a guard as the front of the inbox ------------------------------------------------------


class Counting(MemoryUnitOfWork):
    """Counts its transactions."""

    begun = 0

    def begin(self) -> Any:
        """See `MemoryUnitOfWork`."""
        self.begun += 1
        return super().begin()


async def test_a_front_answers_repeats_without_a_transaction(
    clock: ManualClock, guard: Guard
) -> None:
    """What was committed is taught to it; the inbox is not asked again."""
    uow = Counting()
    world = World(clock, uow, MemoryLedger(uow), MemoryWatermarks())
    events = [event(clock, n) for n in range(3)]
    consumer = await world.consumer(world.note, front=guard)
    await send(world.transport, *events)
    await consumer.drain()
    before = uow.begun

    await send(world.transport, *events)
    await consumer.drain()

    assert sorted(await world.effects()) == [0, 1, 2]
    assert (consumer.counts.applied, consumer.counts.repeated) == (3, 3)
    assert uow.begun == before


async def test_a_front_that_forgot_or_is_away_changes_nothing(world: World) -> None:
    """The inbox decides on every store."""
    events = [event(world.clock, n) for n in range(3)]
    for front in (MemoryGuard(), MemoryGuard(), Away(claims=9, confirms=9)):
        consumer = await world.consumer(world.note, front=front)
        await send(world.transport, *events)
        await consumer.drain()
        await consumer._subscription.close()

    assert sorted(await world.effects()) == [0, 1, 2]


async def test_a_front_that_is_away_is_left_alone_for_a_while(elsewhere: World) -> None:
    """Its time to fail is not paid at every poll."""
    front = Away(claims=9)
    consumer = await elsewhere.consumer(elsewhere.note, front=front)
    for number in range(3):
        await send(elsewhere.transport, event(elsewhere.clock, number))
        await consumer.step()
    asked = 9 - front.claims
    elsewhere.clock.advance(timedelta(seconds=11))
    await send(elsewhere.transport, event(elsewhere.clock, 3))
    await consumer.step()

    assert (asked, 9 - front.claims) == (1, 2)
    assert await elsewhere.effects() == [0, 1, 2, 3]


async def test_a_front_says_done_of_nothing_that_was_not_committed(elsewhere: World) -> None:
    """What failed or was parked is not taught: its replay must find it open."""
    front = MemoryGuard()

    async def handler(_: Event, tx: HandlerTransaction) -> None:
        raise ValueError

    consumer = await elsewhere.consumer(handler, front=front, max_attempts=2)
    await send(elsewhere.transport, event(elsewhere.clock, 1))
    await steps(elsewhere, consumer, 9)

    assert consumer.counts.parked == 1
    assert [record.completed_at for record in front.records.values()] == [None]


async def test_another_content_under_a_known_id_is_a_conflict(elsewhere: World) -> None:
    """The front compares contents as the inbox does."""
    one, other = event(elsewhere.clock, 1), event(elsewhere.clock, 2)
    consumer = await elsewhere.consumer(elsewhere.note, front=MemoryGuard())
    await send(elsewhere.transport, one)
    await consumer.drain()

    await send(elsewhere.transport, msgspec.structs.replace(other, id=one.id))
    await consumer.drain()

    assert (await elsewhere.effects(), consumer.counts.conflicts) == ([1], 1)
