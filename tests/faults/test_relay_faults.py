"""
The numbered faults of the outbox and of its publisher: O1 to O10 and K1 to K4.

Each on the relay that had it and on ours, over memory and over both databases. A scenario
tells what went wrong; None when every event went out once, in order, and in time.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.faults.relay_sides import NaiveSide, OnefoldSide, Side, event_in, hours, run
from tests.support_valkey import Valkey

from onefold.adapters.memory.backlog import MemoryBacklog
from onefold.adapters.memory.outbox import MemoryOutbox
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.adapters.sql.backlog import SqlBacklog
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.outbox import SqlOutbox
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.valkey.connection import connect
from onefold.adapters.valkey.transport import ValkeyTransport
from onefold.ports.transport import Outgoing
from onefold.testing.clock import ManualClock

NOTE = "idempotency"

pytestmark = pytest.mark.timeout(120)

DAY = 86_400.0


def expect(side: Side, *numbers: int) -> str | None:
    """What is wrong with what arrived."""
    got = side.broker.numbers()
    return None if got == list(numbers) else f"arrived {got} instead of {list(numbers)}"


async def delay_s(side: Side, number: int) -> float:
    """How long it takes from now until that event has arrived."""
    began = side.clock.now()
    await run(side, 60)
    came = side.broker.came_at(number)
    return 60.0 if came is None else (came - began).total_seconds()


async def o01_an_event_has_one_id_at_every_attempt(side: Side) -> str | None:
    """The relay died between publish and mark; the row went out again as another event."""
    await side.publish(1)
    await side.die_before_marking()
    await run(side, 60)
    ids = side.broker.ids()
    if len(ids) != 1 or side.broker.numbers() != [1, 1]:
        return f"{side.broker.numbers()} under {len(ids)} ids"
    same = {(event_in(m).id, m.value, tuple(m.headers)) for _, m in side.broker.got}
    return None if len(same) == 1 else "other bytes at the second attempt"


async def o01_the_headers_leave_with_the_event(side: Side) -> str | None:
    """They were computed, and dropped on the way to the broker."""
    await side.publish(1)
    await run(side, 10)
    ((_, message),) = side.broker.got
    names = {name for name, _ in message.headers}
    return None if {"ce_id", "ce_type"} <= names else f"only {sorted(names)}"


async def o02_a_row_that_cannot_be_sent_is_not_asked_for_ever(side: Side) -> str | None:
    """Failed rows stayed in the query, in a loop that never waited: 13 238 polls a second."""
    side.broker.refusing = {1}
    await side.publish(1)
    return None if await run(side, 60) else "it spins"


async def o03_an_outage_is_outlived(side: Side) -> str | None:
    """Five retries were gone in 0.6 s, and the event was never sent, even after recovery."""
    side.broker.down = True
    await side.publish(1)
    await run(side, 60)
    side.broker.down = False
    await hours(side, 1)
    return expect(side, 1)


async def o04_dead_rows_hide_no_healthy_one(side: Side) -> str | None:
    """A hundred of them filled the batch; the hundred and first was never read."""
    side.broker.refusing = set(range(100))
    await side.publish(*range(100), key=None)
    await run(side, 1)
    side.clock.advance(timedelta(hours=13))
    await run(side, 1)
    await side.publish(100, key=None)
    await run(side, 5)
    return expect(side, 100)


async def o05_two_relays_send_a_row_once(side: Side) -> str | None:
    """Both read the table without a lock, and published every row twice."""
    await side.publish(1, 2, 3)
    await side.two_relays()
    await run(side, 10)
    return expect(side, 1, 2, 3)


async def o06_a_failure_does_not_reorder(side: Side) -> str | None:
    """The second row of a key went out before the first."""
    side.broker.refuses_once = {1}
    await side.publish(1, 2)
    await hours(side, 1)
    return expect(side, 1, 2)


async def o07_a_wake_before_the_commit_costs_no_time(side: Side) -> str | None:
    """The relay was woken, read nothing, and waited five seconds."""
    await run(side, 60)  # idle for long
    await side.publish_slowly(1)
    waited = await delay_s(side, 1)
    return None if waited <= 1 else f"sent after {waited} s"


async def o07_no_wakes_pile_up(side: Side) -> str | None:
    """A token an event, for ever, when no relay runs."""
    await side.publish(*range(500))
    return None if side.tokens() == 0 else f"{side.tokens()} tokens"


async def o08_an_idle_relay_is_not_deaf(side: Side) -> str | None:
    """Its wait and its socket's time-out were equal: an error each round, then a deaf sleep."""
    await run(side, 60)
    side.publish_while_it_waits(1)
    waited = await delay_s(side, 1)
    return None if waited <= 1 else f"sent after {waited} s"


async def o09_the_depth_is_true(side: Side) -> str | None:
    """The gauge was the size of the last batch: 100 at the most, and never 0 again."""
    side.broker.down = True
    await side.publish(*range(120), key=None)
    await run(side, 10)
    deep, age_s = await side.standing()
    side.broker.down = False
    await hours(side, 1)
    empty, _ = await side.standing()
    if (deep, empty) != (120, 0):
        return f"said {deep} of 120, then {empty} of 0"
    return None if age_s is not None and age_s >= 10 else f"the oldest was {age_s} s old"


async def o10_what_was_given_up_can_be_sent_after_all(side: Side) -> str | None:
    """There was no tool: a row that had failed was a row that was lost."""
    side.broker.refusing = {1}
    await side.publish(1, 2)
    await hours(side, 24)
    side.broker.refusing = set()
    if not await side.revive():
        return "nothing to revive"
    await run(side, 60)
    return expect(side, 1, 2)


async def o10_an_old_backlog_tells_its_age(side: Side) -> str | None:
    """Nothing said that events had been waiting since yesterday."""
    side.broker.refusing = {1}
    await side.publish(1)
    await hours(side, 24)
    _, age_s = await side.standing()
    return None if age_s is not None and age_s >= DAY else f"age {age_s}"


async def k01_what_the_broker_did_not_take_is_not_marked(side: Side) -> str | None:
    """With the circuit open it was put in memory and called published; the process died."""
    side.broker.down = True
    await side.publish(*range(1, 8))
    await run(side, 5)
    side.restart()
    side.broker.down = False
    await hours(side, 1)
    return expect(side, *range(1, 8))


async def k02_a_refused_event_goes_out_once(side: Side) -> str | None:
    """It was queued and raised: the queue and the relay sent it, under ids of their own."""
    side.broker.refuses_once = {1}
    await side.publish(1)
    await hours(side, 1)
    await side.recover()
    return expect(side, 1)


async def k03_recovery_needs_no_new_traffic(side: Side) -> str | None:
    """The circuit closed only on a new call: without one the queue never drained."""
    side.broker.down = True
    await side.publish(*range(1, 8))
    await run(side, 5)
    side.broker.down = False
    for _ in range(3):
        await hours(side, 1)
        await side.recover()
    missing = set(range(1, 8)) - set(side.broker.numbers())
    return None if not missing else f"never sent: {sorted(missing)}"


async def k04_what_was_held_up_leaves_before_what_came_later(side: Side) -> str | None:
    """Recovery sent the queue after newer messages of the same key."""
    side.broker.down = True
    await side.publish(*range(1, 8))
    await run(side, 5)
    side.broker.down = False
    side.clock.advance(timedelta(minutes=1))
    await side.publish(8)
    await hours(side, 1)
    await side.recover()
    firsts = list(dict.fromkeys(side.broker.numbers()))
    return None if firsts == sorted(firsts) else f"order {firsts}"


Scenario = Callable[[Side], Awaitable[str | None]]

# Each with what its twin had besides the relay.
SCENARIOS: dict[Scenario, dict[str, Any]] = {
    o01_an_event_has_one_id_at_every_attempt: {},
    o01_the_headers_leave_with_the_event: {},
    o02_a_row_that_cannot_be_sent_is_not_asked_for_ever: {},
    o03_an_outage_is_outlived: {},
    o04_dead_rows_hide_no_healthy_one: {},
    o05_two_relays_send_a_row_once: {},
    o06_a_failure_does_not_reorder: {},
    o07_a_wake_before_the_commit_costs_no_time: {},
    o07_no_wakes_pile_up: {},
    o08_an_idle_relay_is_not_deaf: {"socket_timeout_s": 5.0},
    o09_the_depth_is_true: {},
    o10_what_was_given_up_can_be_sent_after_all: {},
    o10_an_old_backlog_tells_its_age: {},
    k01_what_the_broker_did_not_take_is_not_marked: {"resilient": True},
    k02_a_refused_event_goes_out_once: {"resilient": True},
    k03_recovery_needs_no_new_traffic: {"resilient": True},
    k04_what_was_held_up_leaves_before_what_came_later: {"resilient": True},
}


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str | None:
    """Where the outbox is; None for memory."""
    if request.param == "memory":
        return None
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def ours(store_url: str | None, clock: ManualClock) -> AsyncIterator[Side]:
    """Our relay over each store."""
    if store_url is None:
        memory = MemoryUnitOfWork()
        yield OnefoldSide(clock, memory, MemoryOutbox(memory), MemoryBacklog(memory))
        return
    uow = SqlUnitOfWork(Database(store_url))
    yield OnefoldSide(clock, uow, SqlOutbox(uow), SqlBacklog(uow))
    await uow.aclose()


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
async def test_the_fault_is_closed(scenario: Scenario, ours: Side) -> None:
    """Every event goes out once, in order and in time, whatever the broker does."""
    assert await scenario(ours) is None


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
async def test_the_twin_is_caught(scenario: Scenario) -> None:
    """The relay that had the fault shows it in this very scenario."""
    assert await scenario(NaiveSide(**SCENARIOS[scenario])) is not None


async def test_o08_waiting_on_a_real_valkey_outlasts_its_time_outs(valkey: Valkey) -> None:
    """Ours waits longer than a call may take, hears nothing ill, and then what comes."""
    server = connect(valkey.url, wait_s=0.2)
    transport = ValkeyTransport(server, prefix=valkey.prefix)
    subscription = await transport.subscribe("g", ["t"])

    nothing = await subscription.receive(max_messages=1, wait_s=0.5)
    waiting = asyncio.create_task(subscription.receive(max_messages=1, wait_s=10))
    await transport.publish([Outgoing(topic="t", key=None, value=b"1")])
    (message,) = await waiting

    assert (list(nothing), message.value) == ([], b"1")
    await subscription.close()
    await transport.aclose()
    await server.aclose()
