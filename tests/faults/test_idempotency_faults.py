"""
The numbered faults of consumption with a guard, each on the design that had it and on ours.

A scenario tells what happened to the effects; `harm` is None when each event had exactly
one. On the naive twin every scenario must find harm, or it would not find it in ours.
"""

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest
from tests.faults.guard_sides import (
    MESSAGE_ID,
    Crash,
    Deliver,
    Failure,
    NaiveSide,
    OnefoldSide,
    Side,
    World,
    broker,
    killed,
    message,
    until,
)

NOTE = "idempotency"

SOON, LATER = timedelta(seconds=10), timedelta(seconds=400)

Scenario = Callable[[Side], Awaitable[str | None]]


def exactly_one(world: World, effects: int = 1) -> str | None:
    """What is wrong with the number of effects."""
    found = len(world.effects)
    if found == effects:
        return None
    return f"{'lost' if found < effects else 'doubled'}: {found} effects instead of {effects}"


async def b01_a_failing_handler_runs_once_a_delivery(side: Side) -> str | None:
    """The handler's error was taken for the store's, and the handler run again at once."""

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.enter()
        side.world.leave()
        raise Failure

    deliver = side.consumer(handler)
    for _ in range(5):
        await deliver(message())
    return None if side.world.runs == 5 else f"5 deliveries, {side.world.runs} runs"


async def b02_nobody_else_enters_while_a_handler_runs(side: Side) -> str | None:
    """During the second run of B1 the claim was gone, and another worker came in."""
    running, go_on = asyncio.Event(), asyncio.Event()

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.enter()
        try:
            if side.world.runs == 1:
                raise Failure
            running.set()
            await go_on.wait()
            side.world.effects.append("effect")
            await confirm()
        finally:
            side.world.leave()

    first = asyncio.create_task(side.consumer(handler)(message()))
    await until(lambda: running.is_set() or first.done())
    second = asyncio.create_task(side.consumer(handler, worker="b")(message()))
    await until(running.is_set)
    await until(lambda: side.world.inside == 2 or side.world.runs == 2)
    third = asyncio.create_task(side.consumer(handler, worker="c")(message()))
    for _ in range(20):
        await asyncio.sleep(0)
    most = side.world.most_inside
    go_on.set()
    await asyncio.gather(first, second, third)
    return None if most == 1 else f"{most} handlers of one event at once"


async def b03_raising_after_the_confirmation_undoes_nothing(side: Side) -> str | None:
    """The completed record was deleted by the late failure."""

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.effects.append("effect")
        await confirm()
        raise Failure

    deliver = side.consumer(handler)
    for _ in range(3):
        await deliver(message())
        side.world.clock.advance(SOON)
    return exactly_one(side.world)


async def b04_in_progress_is_not_done(side: Side) -> str | None:
    """A worker died with its claim; the redelivery was answered None, and committed."""

    async def dies(_: Any, *, confirm: Any) -> None:
        raise Crash

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.effects.append("effect")
        await confirm()

    await killed(side.consumer(dies), message())
    side.world.clock.advance(SOON)
    await broker(side, side.consumer(handler, worker="b"), message(), pause=SOON)
    return exactly_one(side.world)


async def b05_a_failure_is_not_recorded_as_done(side: Side) -> str | None:
    """The service turned its error into False and confirmed whatever came of it."""

    async def send_mail(_: Any, *, confirm: Any) -> bool:
        side.world.runs += 1
        sent = side.world.runs > 1  # the mail server is down at first
        if sent:
            side.world.effects.append("mail")
        elif isinstance(side, OnefoldSide):
            raise Failure  # False means nothing here: only a confirmation does
        await confirm()
        return sent

    await broker(side, side.consumer(send_mail), message(), pause=SOON)
    return exactly_one(side.world)


async def b10_a_zombie_opens_no_door(side: Side) -> str | None:
    """A's claim ran out, B claimed; A's failure deleted B's claim, and C came in beside B."""
    a_runs, b_runs = asyncio.Event(), asyncio.Event()
    a_fails, b_ends = asyncio.Event(), asyncio.Event()

    async def slow(_: Any, *, confirm: Any) -> None:
        a_runs.set()
        await a_fails.wait()
        raise Failure

    async def holder(_: Any, *, confirm: Any) -> None:
        side.world.enter()
        b_runs.set()
        await b_ends.wait()
        side.world.effects.append("effect")
        await confirm()
        side.world.leave()

    a = asyncio.create_task(side.consumer(slow)(message()))
    await a_runs.wait()
    side.world.clock.advance(LATER)
    b = asyncio.create_task(side.consumer(holder, worker="b")(message()))
    await b_runs.wait()
    a_fails.set()
    c = asyncio.create_task(_after(a, side.consumer(holder, worker="c"), message()))
    await until(lambda: c.done() or side.world.inside == 2 or a.done())
    for _ in range(20):
        await asyncio.sleep(0)
    most = side.world.most_inside
    b_ends.set()
    await asyncio.gather(a, b, c)
    return exactly_one(side.world) or (None if most == 1 else f"{most} workers at once")


async def _after(first: "asyncio.Task[bool]", deliver: Deliver, one: dict[str, Any]) -> bool:
    """Deliver as soon as the zombie has failed; its own error is for its own loop."""
    await first
    return await deliver(one)


async def b10_a_zombies_confirmation_completes_nothing(side: Side) -> str | None:
    """A confirmed B's claim; then B failed and deleted the completed record."""
    a_runs, b_runs = asyncio.Event(), asyncio.Event()
    a_ends, b_fails = asyncio.Event(), asyncio.Event()
    draft: list[str] = []

    async def slow(_: Any, *, confirm: Any) -> None:
        a_runs.set()
        await a_ends.wait()
        draft.append("A's")
        await confirm()  # ours: LeaseLost, and the draft below is rolled back
        side.world.effects += draft

    async def holder(_: Any, *, confirm: Any) -> None:
        b_runs.set()
        await b_fails.wait()
        raise Failure

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.effects.append("effect")
        await confirm()

    a = asyncio.create_task(side.consumer(slow)(message()))
    await a_runs.wait()
    side.world.clock.advance(LATER)
    b = asyncio.create_task(side.consumer(holder, worker="b")(message()))
    await b_runs.wait()
    a_ends.set()
    await a
    b_fails.set()
    await b
    await broker(side, side.consumer(handler, worker="c"), message(), pause=SOON)
    return exactly_one(side.world)


async def b11_a_stale_claim_has_one_heir(side: Side) -> str | None:
    """Two read the same stale record; the later DEL removed the earlier one's fresh claim."""
    world = side.world
    b_stands, go_on, end = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def dies(_: Any, *, confirm: Any) -> None:
        raise Crash

    async def gate(worker: str, command: str) -> None:
        if worker == "b" and command == ("delete" if isinstance(side, NaiveSide) else "claim"):
            b_stands.set()
            await go_on.wait()

    async def handler(_: Any, *, confirm: Any) -> None:
        world.enter()
        await end.wait()
        world.effects.append("effect")
        await confirm()
        world.leave()

    await killed(side.consumer(dies), message())
    # The twin's store lets go of the record first; a reader whose clock is ahead sees it.
    world.clock.advance(timedelta(seconds=299))
    side.gate(gate)
    b = asyncio.create_task(side.consumer(handler, worker="b", ahead_s=2)(message()))
    await b_stands.wait()
    a = asyncio.create_task(side.consumer(handler, worker="a", ahead_s=2)(message()))
    await until(lambda: world.inside == 1)
    go_on.set()
    for _ in range(20):
        await asyncio.sleep(0)
    most = world.most_inside
    end.set()
    await asyncio.gather(a, b)
    return exactly_one(world) or (None if most == 1 else f"{most} heirs")


async def b13_losing_the_race_is_not_done(side: Side) -> str | None:
    """The loser of SET NX moved its offset; the winner died before its effect."""
    claimed, die = asyncio.Event(), asyncio.Event()

    async def dies(_: Any, *, confirm: Any) -> None:
        claimed.set()
        await die.wait()
        raise Crash

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.effects.append("effect")
        await confirm()

    async def first() -> None:
        await killed(side.consumer(dies), message())

    winner = asyncio.create_task(first())
    await claimed.wait()
    loser = asyncio.create_task(side.consumer(handler, worker="b")(message()))
    await asyncio.sleep(0)
    die.set()
    await winner
    settled = await loser
    if not settled:
        await broker(side, side.consumer(handler, worker="b"), message(), pause=SOON)
    return exactly_one(side.world)


async def b14_a_lost_reply_is_asked_again(side: Side) -> str | None:
    """SET NX was applied and its reply lost; the run went on without a record."""

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.effects.append("effect")
        await confirm()

    side.lose_claim_reply()
    deliver = side.consumer(handler)
    await deliver(message())
    side.world.clock.advance(LATER)
    await deliver(message())
    return exactly_one(side.world)


async def b14_a_lost_reply_and_a_failure_lose_nothing(side: Side) -> str | None:
    """The same, and the run failed: its own claim, held by nobody, hid the redelivery."""

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.runs += 1
        if side.world.runs <= 1:
            raise Failure
        side.world.effects.append("effect")
        await confirm()

    side.lose_claim_reply()
    await broker(side, side.consumer(handler), message(), pause=SOON)
    return exactly_one(side.world)


async def b15_an_outage_does_not_switch_protection_off(side: Side) -> str | None:
    """While the store was away every delivery ran, and nothing was recorded for later."""

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.effects.append("effect")
        await confirm()

    deliver = side.consumer(handler)
    side.outage(2)
    await deliver(message())
    await deliver(message())
    return exactly_one(side.world)


async def b16_a_failing_confirmation_is_not_swallowed(side: Side) -> str | None:
    """The record ran out after five minutes although the work was done."""

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.effects.append("effect")
        await confirm()

    side.refuse_confirm()
    deliver = side.consumer(handler)
    await broker(side, deliver, message(), pause=SOON)
    side.world.clock.advance(LATER)
    await deliver(message())
    return exactly_one(side.world)


async def b17_memory_outlasts_redelivery(side: Side) -> str | None:
    """Completions were forgotten within an hour; a replay after a weekend doubled them."""

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.effects.append("effect")
        await confirm()

    deliver = side.consumer(handler)
    one = message(event_type="spellcheck.completed")
    await deliver(one)
    side.world.clock.advance(timedelta(days=3))
    await deliver(one)
    return exactly_one(side.world)


async def b18_one_event_has_one_identity(side: Side) -> str | None:
    """Told by headers or by the body, in upper or lower case: a new event each time."""

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.effects.append("effect")
        await confirm()

    deliver = side.consumer(handler)
    headers = {"event_id": MESSAGE_ID, "event_type": "order.placed"}
    await deliver(message())
    await deliver(message(headers=headers))
    await deliver(message(event_id=MESSAGE_ID.upper()))
    await deliver(message(data=1.0))
    return exactly_one(side.world)


async def b18_events_without_an_id_do_not_hide_each_other(side: Side) -> str | None:
    """Two events with equal data and no id were taken for one, and the second was lost."""

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.effects.append("effect")
        await confirm()

    deliver = side.consumer(handler)
    await deliver(message(event_id=None, occurred_at="2026-01-01T12:00:00Z"))
    await deliver(message(event_id=None, occurred_at="2026-01-01T12:00:01Z"))
    return exactly_one(side.world, effects=2)


async def b19_what_is_no_event_is_not_handled(side: Side) -> str | None:
    """Undecodable bytes ran the handler unprotected, at every delivery."""

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.effects.append("effect")
        await confirm()

    deliver = side.consumer(handler)
    for value in ("not json", "null", '{"data": null}', "[]"):
        await deliver({"value": value, "headers": {}})
    return exactly_one(side.world, effects=0)


async def b22_two_consumers_of_one_event_do_not_starve_each_other(side: Side) -> str | None:
    """All handlers of a service shared one namespace: the second found the event done."""

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.effects.append("effect")
        await confirm()

    await side.consumer(handler, name="reserve-stock")(message())
    await side.consumer(handler, name="send-mail")(message())
    return exactly_one(side.world, effects=2)


async def b23_a_refusal_without_confirmation_is_tried_again(side: Side) -> str | None:
    """False kept the claim; the redelivery within five minutes was None, and committed."""

    async def handler(_: Any, *, confirm: Any) -> bool:
        side.world.runs += 1
        if side.world.runs == 1:
            return False
        side.world.effects.append("effect")
        await confirm()
        return True

    deliver = side.consumer(handler)
    await deliver(message())  # whatever it says, the broker delivers again after a restart
    side.world.clock.advance(SOON)
    await broker(side, deliver, message(), pause=SOON)
    return exactly_one(side.world)


async def b24_part_of_a_batch_is_no_success(side: Side) -> str | None:
    """One item failed, the others were stored, the whole was confirmed."""
    items, tried = ["a", "b", "c"], []

    async def handler(_: Any, *, confirm: Any) -> None:
        draft = []
        for item in items:
            tried.append(item)
            if item == "b" and tried.count("b") == 1:
                if isinstance(side, OnefoldSide):
                    raise Failure  # all or nothing: the draft is dropped
                continue  # counted as an error, and gone on
            draft.append(item)
        side.world.effects += draft
        await confirm()

    await broker(side, side.consumer(handler), message(), pause=SOON)
    return exactly_one(side.world, effects=3)


async def b25_a_missing_confirmation_is_noticed(side: Side) -> str | None:
    """The handler forgot to confirm; the offset moved, a replay ran it again unseen."""

    async def handler(_: Any, *, confirm: Any) -> None:
        side.world.effects.append("effect")

    settled = await side.consumer(handler)(message())
    return "settled without a record" if settled else None


SCENARIOS: list[Scenario] = [
    b01_a_failing_handler_runs_once_a_delivery,
    b02_nobody_else_enters_while_a_handler_runs,
    b03_raising_after_the_confirmation_undoes_nothing,
    b04_in_progress_is_not_done,
    b05_a_failure_is_not_recorded_as_done,
    b10_a_zombie_opens_no_door,
    b10_a_zombies_confirmation_completes_nothing,
    b11_a_stale_claim_has_one_heir,
    b13_losing_the_race_is_not_done,
    b14_a_lost_reply_is_asked_again,
    b14_a_lost_reply_and_a_failure_lose_nothing,
    b15_an_outage_does_not_switch_protection_off,
    b16_a_failing_confirmation_is_not_swallowed,
    b17_memory_outlasts_redelivery,
    b18_one_event_has_one_identity,
    b18_events_without_an_id_do_not_hide_each_other,
    b19_what_is_no_event_is_not_handled,
    b22_two_consumers_of_one_event_do_not_starve_each_other,
    b23_a_refusal_without_confirmation_is_tried_again,
    b24_part_of_a_batch_is_no_success,
    b25_a_missing_confirmation_is_noticed,
]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
async def test_the_fault_is_closed(scenario: Scenario) -> None:
    """Each event has exactly one effect, whatever happens on the way."""
    assert await scenario(OnefoldSide()) is None


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda each: each.__name__)
async def test_the_twin_is_caught(scenario: Scenario) -> None:
    """The design that had the fault shows it in this very scenario."""
    assert await scenario(NaiveSide()) is not None
