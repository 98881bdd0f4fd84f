"""From a close to bytes at a destination: once each, late enough, by whichever courier."""

import asyncio
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from sqlalchemy import delete
from tests.support import another_server, new_school, rows
from tests.support_trace import BUSY, HOUR, MINUTE, OK, Scripted, World, files, opening, trade

from onefold.core.published import PROFILES, require
from onefold.errors import IllegalTransition, InvalidInput
from onefold.ports.delivery_book import Route
from onefold.ports.sink import DestinationEffect, OutcomeKind, SendOutcome
from onefold_server.domains.trades.attempts import TradeDeliveries
from onefold_server.domains.trades.tables import deliveries, destinations


async def test_a_closed_trade_becomes_a_file(world: World, tmp_path: Path) -> None:
    """The whole way: record, close, wait, deliver; the receipt says what was written."""
    await world.service.create_destination(
        world.school.admin, "folder", "file", config={"path": "out"}
    )
    await world.subscribe("folder")
    opened = await world.service.record(world.school.service, opening(world.now))
    exit_ = {"exit_time": world.now, "exit_price": "1.09"}
    await world.service.close(world.school.service, opened["trade_id"], exit_)

    assert await world.work_off(timedelta(minutes=5)) == {"delivered": 1}

    (file,) = files(tmp_path / str(world.school.id) / "out")
    _, data = require(file.read_bytes().rstrip(b"\n"))
    assert (data.instrument, data.side, data.status) == ("EURUSD", "buy", "CLOSED")
    receipt = await world.only()
    assert (receipt["state"], receipt["attempts"]) == ("delivered", 1)
    assert receipt["remote_ref"] == f"{file.parent.name}/{file.name}"


async def test_two_schools_never_share_a_folder(world: World, tmp_path: Path) -> None:
    """Though they name the same path, or one that leads into the other's."""
    other = World(world.onefold, await new_school(world.onefold, "Other"))
    for at, path in ((world, "out"), (other, "out"), (other, "out/2026-01-15")):
        await at.service.create_destination(at.school.admin, path, "file", config={"path": path})
        await at.subscribe(path)
    for at in (world, other):
        await at.closed()

    assert await world.work_off(MINUTE * 5) == {"delivered": 3}
    assert len(files(tmp_path / str(world.school.id) / "out")) == 1
    assert len(files(tmp_path / str(other.school.id) / "out")) == 2


async def test_nothing_leaves_before_its_delay(world: World) -> None:
    """Not a microsecond early, however often a courier looks."""
    sink = await world.destination()
    await world.subscribe(delay_s=300)
    await world.closed()

    assert await world.work_off(timedelta(minutes=5) - timedelta(microseconds=1)) == {}
    assert sink.got == []
    assert await world.work_off(timedelta(microseconds=1)) == {"delivered": 1}


async def test_a_trades_own_wish_makes_it_later_and_never_sooner(world: World) -> None:
    """Whoever records trades cannot shorten what their owner agreed to."""
    there = await world.destination(concurrency=10)
    await world.subscribe(delay_s=300)
    wishes: list[dict[str, Any]] = [
        {"delay_s": 0}, {"not_before": world.now}, {"delay_s": 600},
        {"not_before": world.now + HOUR},
    ]  # fmt: skip
    for n, wish in enumerate(wishes):
        await world.closed(entry_price=f"1.0{n}", **wish)

    assert await world.work_off(MINUTE * 5 - timedelta(seconds=1)) == {}
    assert await world.work_off(timedelta(seconds=1)) == {"delivered": 2}
    assert await world.work_off(MINUTE * 5) == {"delivered": 1}
    assert await world.work_off(MINUTE * 50) == {"delivered": 1}
    prices = [require(body)[1].entry_price for body in there.bodies]  # type: ignore[attr-defined]
    assert (sorted(prices[:2]), prices[2:]) == (["1.00", "1.01"], ["1.02", "1.03"])


async def test_a_close_that_is_rolled_back_sends_nothing(world: World) -> None:
    """Its deliveries were part of its transaction."""
    sink = await world.destination()
    await world.subscribe()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 (the commit is part of it)
        async with world.onefold.uow.begin() as tx:
            given = trade(world.now)
            id_ = __import__("uuid").uuid4()
            await world.service._record(tx, world.school.id, id_, given)
            _ = 1 / 0

    assert await world.work_off(MINUTE * 10) == {}
    assert (sink.got, await world.deliveries()) == ([], [])


async def test_two_couriers_at_once_deliver_each_once(world: World) -> None:
    """They share the work, on real connections of their own."""
    sink = await world.destination(concurrency=3)
    await world.subscribe()
    for n in range(20):
        await world.closed(entry_price=f"1.{n:02}")
    world.onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]

    async with (
        another_server(world.onefold) as other,
        world.courier() as one,
        world.courier(onefold=other) as two,
    ):
        said = await asyncio.gather(one.work_off(), two.work_off())

    assert sum(each["delivered"] for each in said) == 20
    assert len(sink.ids) == len(set(sink.ids)) == 20
    assert {row["state"] for row in await world.deliveries()} == {"delivered"}


async def test_a_retry_sends_the_same_id_and_bytes(world: World) -> None:
    """By which a receiver discards what it has already."""
    sink = await world.destination(sink=Scripted([BUSY, BUSY, OK]))
    await world.subscribe()
    await world.closed()

    assert await world.work_off(MINUTE * 5) == {"retry": 1}
    assert await world.work_off(timedelta(seconds=5)) == {"retry": 1}
    assert await world.work_off(timedelta(seconds=30)) == {"delivered": 1}

    assert len(set(sink.ids)) == len(set(sink.bodies)) == 1
    assert [parcel.attempt for _, parcel in sink.got] == [1, 2, 3]


async def test_retries_follow_the_schedule_and_then_end(world: World) -> None:
    """5, 30, 180, 1080, 3600 seconds and then hours to a day; then dead, and kept."""
    sink = await world.destination(sink=Scripted([BUSY]), schedule="compat")
    await world.subscribe()
    await world.closed()
    world.onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]
    gaps = []
    async with world.courier(jitter=lambda: 1.0) as courier:
        while (await world.only())["state"] == "pending":
            await courier.work_off()
            found = await world.only()
            gaps.append((found["next_at"] - world.now).total_seconds())
            world.onefold.clock.set(max(found["next_at"], world.now))  # type: ignore[attr-defined]
            world.onefold.clock.advance(MINUTE * 6)  # type: ignore[attr-defined]

    assert gaps[:5] == [5, 30, 180, 1080, 3600]
    assert (len(sink.got), (await world.only())["reason"]) == (6, "attempts")


@pytest.mark.parametrize(
    ("outcome", "state", "place"),
    [
        (
            SendOutcome(OutcomeKind.PERMANENT, "http_401", 401, toll=DestinationEffect.PAUSE),
            "dead",
            "paused",
        ),
        (
            SendOutcome(OutcomeKind.PERMANENT, "http_410", 410, toll=DestinationEffect.DISABLE),
            "dead",
            "disabled",
        ),
        (SendOutcome(OutcomeKind.PERMANENT, "http_422", 422), "dead", "active"),
        (SendOutcome(OutcomeKind.HELD, "schema"), "held", "active"),
    ],
    ids=["credentials", "gone", "refused", "held"],
)
async def test_what_an_answer_means(
    world: World, outcome: SendOutcome, state: str, place: str
) -> None:
    """For the delivery, and for its destination."""
    await world.destination(sink=Scripted([outcome]))
    await world.subscribe()
    await world.closed()

    await world.work_off(MINUTE * 5)

    (found,) = await world.service.destinations(world.school.admin)
    assert ((await world.only())["state"], found["state"]) == (state, place)


async def test_what_a_person_must_see_is_told_aloud(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Given up, tripped, or a destination closed to us: an error each, of ids and codes alone."""
    refused = SendOutcome(OutcomeKind.PERMANENT, "http_401", 401, toll=DestinationEffect.PAUSE)
    await world.destination("refusing", sink=Scripted([refused]))
    await world.destination("away", sink=Scripted([BUSY]))
    for name in ("refusing", "away"):
        await world.subscribe(name)
    await world.closed(private={"name": "Ada"})
    await world.work_off(MINUTE * 5)
    told = {r.getMessage() for r in caplog.records if r.name == "onefold.trace"}
    of = {row["destination"]: row["id"] for row in await world.deliveries()}

    assert told == {
        "destination refusing is paused: http_401",
        f"delivery {of['refusing']} to refusing is dead: http_401",
    }
    caplog.clear()
    await world.work_off(timedelta(days=8))  # before its next try it is too old
    await world.subscribe("away", user="user-eve")
    await world.closed(user_id="user-eve", instrument="EVE/USD", private={"name": "Eve"})
    at = await world.work_off(MINUTE * 10)

    (first, second) = [r.getMessage() for r in caplog.records if r.name == "onefold.trace"]
    assert first == f"delivery {of['away']} to away is dead: age"
    assert second.endswith("to away is held: tripwire")
    assert at == {"held": 1}
    assert "Eve" not in caplog.text


async def test_what_is_not_seen_yet_is_looked_for_and_spends_nothing(world: World) -> None:
    """Hundreds of looks in days: no try is spent, no breaker opens; then dead, and says why."""
    looks = Scripted([SendOutcome(OutcomeKind.WAITING, "not_seen", 200, retry_after=MINUTE * 15)])
    await world.destination(sink=looks)
    await world.subscribe()
    await world.closed()
    await world.closed(entry_price="1.07")

    assert await world.work_off(MINUTE * 5) == {"waiting": 2}
    assert await world.work_off(MINUTE * 15 - timedelta(seconds=1)) == {}
    assert await world.work_off(timedelta(seconds=1)) == {"waiting": 2}
    for _ in range(20):
        assert await world.work_off(MINUTE * 15) == {"waiting": 2}
    (first, _) = await rows(world.onefold, deliveries)
    (place,) = await rows(world.onefold, destinations)
    assert (first["state"], first["tries"], first["attempts"]) == ("pending", 0, 22)
    assert (place["failures"], place["rest_until"]) == (0, None)
    assert await world.work_off(timedelta(days=7)) == {"dead": 2}
    dead = (await world.deliveries("dead"))[0]
    assert (dead["reason"], dead["last_outcome"]) == ("not_seen", "not_seen")

    looks.script = [OK]
    await world.service.replay(world.school.admin, dead["id"])
    assert await world.work_off() == {"delivered": 1}


async def test_a_look_that_fails_still_costs_a_try(world: World) -> None:
    """Only what was answered well is no failure; and a sink cannot ask for a storm of looks."""
    often = SendOutcome(OutcomeKind.WAITING, "not_seen", retry_after=timedelta(0))
    await world.destination(sink=Scripted([BUSY, often, BUSY, BUSY]))
    await world.subscribe()
    await world.closed()
    await world.work_off(MINUTE * 5)

    assert await world.work_off(MINUTE) == {"waiting": 1}
    assert await world.work_off(timedelta(seconds=9)) == {}
    assert await world.work_off(timedelta(seconds=1)) == {"retry": 1}
    (found,) = await rows(world.onefold, deliveries)
    assert (found["tries"], found["attempts"]) == (2, 3)


async def test_a_paused_destination_spends_no_attempts(world: World) -> None:
    """What waits is held, and goes on when it is resumed."""
    sink = await world.destination()
    await world.subscribe()
    await world.closed()
    await world.service.pause(world.school.admin, "tracker")
    await world.closed(entry_price="1.07")

    assert await world.work_off(MINUTE * 60) == {}
    assert [(r["state"], r["attempts"]) for r in await world.deliveries()] == [("held", 0)] * 2
    assert await world.service.resume(world.school.admin, "tracker") == 2
    assert await world.work_off() == {"delivered": 2}
    assert len(sink.got) == 2


async def test_what_is_retried_in_the_round_of_a_pause_is_held_too(world: World) -> None:
    """Or it would wait as pending behind a closed door, and its age would run on."""
    refused = SendOutcome(OutcomeKind.PERMANENT, "http_401", 401, toll=DestinationEffect.PAUSE)
    there = await world.destination(sink=Scripted([BUSY, refused]))
    await world.subscribe()
    await world.closed()
    await world.closed(entry_price="1.07")
    both = asyncio.Barrier(2)

    async def together(_: object) -> None:
        await both.wait()

    there.before = together
    assert await world.work_off(MINUTE * 5) == {"held": 1, "dead": 1}
    (held,) = await world.deliveries("held")
    assert (held["reason"], held["last_outcome"]) == ("paused", "http_503")

    there.before, there.script = None, [OK]
    world.onefold.clock.advance(timedelta(days=8))  # type: ignore[attr-defined]
    assert await world.service.resume(world.school.admin, "tracker") == 1
    assert await world.work_off() == {"delivered": 1}


async def test_a_destination_that_fails_is_left_alone_and_then_probed(world: World) -> None:
    """Five failures in a row open its breaker; one attempt at a time closes it."""
    sink = await world.destination(sink=Scripted([BUSY] * 5 + [OK]), concurrency=1)
    other = await world.destination("other")
    await world.subscribe()
    await world.subscribe("other")
    for n in range(8):
        await world.closed(entry_price=f"1.0{n}")

    said = await world.work_off(MINUTE * 5)
    assert (said["retry"], said["delivered"], len(sink.got)) == (5, 8, 5)
    assert await world.work_off(timedelta(seconds=9)) == {}
    said = await world.work_off(timedelta(seconds=1))

    assert (said["delivered"], len(sink.got), len(other.got)) == (8, 13, 8)


async def test_a_rate_is_kept_by_all_couriers_together(world: World) -> None:
    """Two a second, whoever sends them."""
    sink = await world.destination(rate_per_s=2.0, concurrency=10)
    await world.subscribe()
    for n in range(6):
        await world.closed(entry_price=f"1.0{n}")
    world.onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]

    counts = []
    async with another_server(world.onefold) as other:
        for _ in range(3):
            async with world.courier() as one, world.courier(onefold=other) as two:
                await asyncio.gather(one.work_off(), two.work_off())
            counts.append(len(sink.got))
            world.onefold.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]

    assert counts == [2, 4, 6]


async def test_a_retry_after_is_honoured_within_a_day(world: World) -> None:
    """The longer of ours and theirs."""
    asked = SendOutcome(OutcomeKind.RETRY, "http_429", 429, retry_after=timedelta(days=9))
    await world.destination(sink=Scripted([asked]))
    await world.subscribe()
    await world.closed()

    await world.work_off(MINUTE * 5)

    assert (await world.only())["next_at"] == world.now + timedelta(hours=24)


async def test_a_sink_that_breaks_costs_an_attempt_and_nothing_else(world: World) -> None:
    """The others go out, and it is tried again."""
    await world.destination("bad", sink=Scripted([ValueError("token=hunter2"), OK]))
    good = await world.destination("good")
    await world.subscribe("bad")
    await world.subscribe("good")
    await world.closed()

    assert await world.work_off(MINUTE * 5) == {"retry": 1, "delivered": 1}
    assert len(good.got) == 1
    assert await world.work_off(MINUTE) == {"delivered": 1}


@pytest.mark.parametrize(
    "wrong",
    [
        SendOutcome(OutcomeKind.RETRY, "a\0b"),
        SendOutcome(OutcomeKind.DELIVERED, "ok", remote_ref="half \ud800"),
        SendOutcome(OutcomeKind.DELIVERED, "ok", status=2**40),
        SendOutcome("delivered", "ok"),  # type: ignore[arg-type]
        SendOutcome(OutcomeKind.RETRY, "busy", retry_after=30),  # type: ignore[arg-type]
        SendOutcome(OutcomeKind.RETRY, 503),  # type: ignore[arg-type]
    ],
    ids=["NUL", "surrogate", "status", "kind", "seconds", "reason"],
)
async def test_an_outcome_that_no_store_takes_is_its_own_destinations(
    world: World, wrong: SendOutcome
) -> None:
    """Recorded with others, it would have failed their round too, and sent them again."""
    await world.destination("bad", sink=Scripted([wrong, OK]))
    good = await world.destination("good")
    await world.subscribe("bad")
    await world.subscribe("good")
    await world.closed()

    assert await world.work_off(MINUTE * 5) == {"retry": 1, "delivered": 1}
    assert len(good.got) == 1
    assert await world.work_off(MINUTE) == {"delivered": 1}


@pytest.mark.parametrize("reason", ["no such user ada@example.org", "Busy", "", "x" * 41])
async def test_a_reason_that_is_no_code_is_told_nowhere(
    world: World, caplog: pytest.LogCaptureFixture, reason: str
) -> None:
    """It may be a text of the receiver's: no row, no log and no label of a metric has it."""
    await world.destination(sink=Scripted([SendOutcome(OutcomeKind.PERMANENT, reason, 400)]))
    await world.subscribe()
    await world.closed()

    assert await world.work_off(MINUTE * 5) == {"dead": 1}

    found = await world.only()
    assert (found["reason"], found["last_outcome"], found["last_status"]) == (*["unnamed"] * 2, 400)
    assert "is dead: unnamed" in caplog.text
    assert (
        not reason or f'reason="{reason[:40]}"' not in world.onefold.trace.metrics.text().decode()
    )
    assert "ada@" not in caplog.text


async def test_a_dead_delivery_is_kept_and_replayed_the_same(world: World) -> None:
    """The same id and the same bytes; the receiver discards what it has."""
    sink = await world.destination(
        sink=Scripted([SendOutcome(OutcomeKind.PERMANENT, "http_400", 400), OK])
    )
    await world.subscribe()
    await world.closed()
    await world.work_off(MINUTE * 5)
    dead = await world.only()

    await world.service.replay(world.school.admin, dead["id"])

    assert await world.work_off() == {"delivered": 1}
    assert len(set(sink.bodies)) == len(set(sink.ids)) == 1
    shown = await world.service.delivery(world.school.admin, dead["id"])
    facts = [(a["number"], a["fact"], a["reason"]) for a in shown["attempts_made"]]
    assert facts == [
        (1, "began", None),
        (1, "ended", "http_400"),
        (2, "began", None),
        (2, "ended", "ok"),
    ]


async def test_a_courier_sleeps_until_the_next_instant_and_no_longer(world: World) -> None:
    """Not on a tick: up to what is due next, and half a second for what others arm."""
    await world.destination()
    await world.subscribe()
    await world.closed()
    pauses = []
    async with world.courier() as courier:
        for left in (300.0, 0.3, 0.004):
            due = (await world.only())["next_at"]
            world.onefold.clock.set(due - timedelta(seconds=left))  # type: ignore[attr-defined]
            assert not await courier.step()
            pauses.append(courier.pause_s())

    assert pauses == [0.5, 0.3, 0.004]


async def test_a_replay_is_harmless_where_the_receiver_has_it(world: World) -> None:
    """What was delivered cannot be replayed; what is dead may have been received, and is equal."""
    there = await world.destination(
        sink=Scripted([SendOutcome(OutcomeKind.PERMANENT, "http_404", 404), OK])
    )
    await world.subscribe()
    await world.closed()
    await world.work_off(MINUTE * 5)
    id_ = (await world.only())["id"]
    await world.service.replay(world.school.admin, id_)
    await world.work_off()

    for act in (world.service.replay, world.service.cancel, world.service.release):
        with pytest.raises(IllegalTransition):
            await act(world.school.admin, id_)
    assert len(set(there.bodies)) == 1


async def test_a_waiting_delivery_is_cancelled_or_released_until_it_is_sent(world: World) -> None:
    """Released, it still waits for its destination's floor after the exit."""
    there = await world.destination()
    await world.subscribe(delay_s=86_400)
    await world.closed()
    await world.closed(entry_price="1.01")
    first, second = await world.deliveries()

    await world.service.cancel(world.school.admin, first["id"])
    await world.service.release(world.school.admin, second["id"])

    assert await world.work_off(timedelta(seconds=59)) == {}
    assert await world.work_off(timedelta(seconds=1)) == {"delivered": 1}
    assert await world.work_off(timedelta(days=2)) == {"skipped": 1}
    assert there.ids == [str(second["id"])]


async def test_a_delivery_that_kills_its_couriers_is_given_up(world: World) -> None:
    """A claim uses an attempt, though nobody lives to say how it ended."""
    there = await world.destination(schedule="compat")
    await world.subscribe()
    await world.closed()

    async def die(_: object) -> None:
        raise asyncio.CancelledError

    there.before = die
    for _ in range(8):
        await world.work_off(MINUTE * 5)

    found = await world.only()
    assert (found["state"], found["reason"], len(there.got)) == ("dead", "attempts", 6)


async def test_to_hurry_a_delivery_is_not_to_clear_it(world: World) -> None:
    """Who sends one sooner has not looked at what the tripwire will find."""
    there = await world.destination()
    await world.subscribe(delay_s=86_400)
    await world.closed(instrument="CANARY-Ada", private={"name": "Ada"})
    await world.service.release(world.school.admin, (await world.only())["id"])

    assert await world.work_off(MINUTE) == {"held": 1}
    assert ((await world.only())["reason"], there.got) == ("tripwire", [])


async def test_a_consent_that_was_replaced_does_not_come_back(world: World) -> None:
    """Full at first, less later, then nothing: nothing, and not full again."""
    there = await world.destination()
    await world.subscribe(profile="full")
    newer = await world.subscribe(profile="result_only", consent_version="2")
    await world.closed()
    await world.service.withdraw(world.school.admin, newer["id"])
    await world.closed(entry_price="1.01")

    await world.work_off(MINUTE * 9)

    assert there.got == []
    assert [row["state"] for row in await world.deliveries()] == ["cancelled"]


async def test_a_stricter_consent_counts_for_what_waits(world: World) -> None:
    """Fewer fields and a longer delay at once; more fields only for what closes afterwards."""
    there = await world.destination(concurrency=10)
    given = [("no_size", 300), ("result_only", 600), ("full", 60)]
    for n, (profile, delay_s) in enumerate(given):
        await world.subscribe(profile=profile, delay_s=delay_s)
        await world.closed(entry_price=f"1.0{n}")
        world.onefold.clock.advance(timedelta(seconds=1))  # type: ignore[attr-defined]

    assert await world.work_off(MINUTE) == {"delivered": 1}
    assert await world.work_off(MINUTE * 9 - timedelta(seconds=4)) == {}
    assert await world.work_off(timedelta(seconds=2)) == {"delivered": 2}
    shapes = [type(require(body)[1]) for body in there.bodies]
    assert shapes == [PROFILES["full"], PROFILES["result_only"], PROFILES["result_only"]]


async def test_what_was_attempted_keeps_its_bytes(world: World) -> None:
    """A receiver may have them: another body under the same id would be another message."""
    there = await world.destination(sink=Scripted([BUSY, OK]))
    await world.subscribe(profile="full")
    await world.closed()
    await world.work_off(MINUTE * 5)
    await world.subscribe(profile="result_only", delay_s=86_400)

    assert await world.work_off(MINUTE) == {"delivered": 1}
    assert len(set(there.bodies)) == 1


async def test_what_may_have_been_received_cannot_be_recalled(world: World) -> None:
    """A receiver that answered 503 may have kept it: the list says so."""
    await world.destination(sink=Scripted([BUSY]))
    given = await world.subscribe()
    await world.closed()
    await world.work_off(MINUTE * 5)
    await world.closed(entry_price="1.01")

    ended = [await world.service.withdraw(world.school.admin, given["id"]) for _ in range(2)]

    assert [one["cancelled"] for one in ended] == [2, 0]
    for one in ended:
        assert [row["state"] for row in one["not_recalled"]] == ["cancelled"]


async def test_the_longest_due_stays_first_through_reconciling(world: World) -> None:
    """A backlog behind a rate is late, and is not shuffled for it."""
    there = await world.destination(rate_per_s=1.0, concurrency=1)
    await world.subscribe()
    for n in range(3):
        await world.closed(entry_price=f"1.0{n}")
        world.onefold.clock.advance(MINUTE)  # type: ignore[attr-defined]
    world.onefold.clock.advance(MINUTE * 30)  # type: ignore[attr-defined]
    await world.service.reconcile(limit=1)

    for _ in range(3):
        await world.work_off(timedelta(seconds=1))

    prices = [require(body)[1].entry_price for body in there.bodies]  # type: ignore[attr-defined]
    assert prices == ["1.00", "1.01", "1.02"]


async def test_accounts_of_two_users_never_share_a_name(world: World) -> None:
    """However their ids are spelled, and however long."""
    there = await world.destination()
    long = "x" * 100
    pairs = [("a/b", "c"), ("a", "b/c"), (long, "y" * 60 + "1"), (long, "y" * 60 + "2")]
    for user, account in pairs:
        await world.subscribe(user=user)
        await world.closed(user_id=user, account_id=account)
    await world.work_off(MINUTE * 5)

    references = {require(body)[1].account_ref for body in there.bodies}  # type: ignore[attr-defined]
    assert len(references) == 4


async def test_what_was_never_tried_is_tried_before_it_is_given_up(world: World) -> None:
    """Ten days without a worker are not the destination's fault: it is asked once."""
    there = await world.destination()
    await world.subscribe()
    await world.closed()

    assert await world.work_off(timedelta(days=10)) == {"delivered": 1}
    assert len(there.got) == 1


async def test_the_time_of_a_pause_is_not_held_against_anything(world: World) -> None:
    """Held for ten days, it has its seven from when it may go on."""
    there = await world.destination(sink=Scripted([BUSY, BUSY, OK]))
    await world.subscribe()
    await world.closed()
    await world.work_off(MINUTE * 5)
    await world.service.pause(world.school.admin, "tracker")
    await world.work_off(timedelta(days=10))
    await world.service.resume(world.school.admin, "tracker")

    assert await world.work_off() == {"retry": 1}
    assert await world.work_off(MINUTE) == {"delivered": 1}
    assert len(there.got) == 3


async def test_a_destination_is_changed_and_keeps_its_state(world: World) -> None:
    """Merged, tried before it is kept, and used from the next attempt on."""
    admin, service = world.school.admin, world.service
    config = {"url": "https://one.example/", "timeout_s": 9.0}
    made = await service.create_destination(
        admin, "hook", "webhook", config=config, secrets={"token": "t"}, rate_per_s=2.0
    )
    await service.pause(admin, "hook")
    patch = {"url": "https://two.example/", "timeout_s": None}
    told = await service.change(
        admin, "hook", {"config": patch, "concurrency": 9, "rate_per_s": None}
    )

    wrongs: list[dict[str, Any]] = [
        {"config": {"url": "http://three.example/"}}, {"concurrency": 0}, {"schedule": "never"},
        {"secrets": {}}, {"name": "x"}, {},
    ]  # fmt: skip
    for wrong in wrongs:
        with pytest.raises(InvalidInput):
            await service.change(admin, "hook", wrong)

    (shown,) = await service.destinations(admin)
    assert shown == told
    assert (shown["id"], shown["state"], shown["secrets"]) == (made["id"], "paused", ["token"])
    assert shown["config"] == {"url": "https://two.example/"}
    assert (shown["concurrency"], shown["rate_per_s"], shown["delay_floor_s"]) == (9, None, 60)


async def test_nothing_goes_where_a_destination_was_before_its_change(world: World) -> None:
    """Changed between a courier's look and its attempt: it looks again before it sends."""
    there = await world.destination()
    await world.subscribe()
    await world.closed()
    world.onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]
    trace = world.onefold.trace
    desk = TradeDeliveries(
        trace.uow, random=world.random.randbytes, jitter=lambda: 0.5, watch=trace.watch
    )
    (route,), _ = await desk.routes(now=world.now)
    await world.service.change(world.school.admin, "tracker", {"concurrency": 2})

    begun, told = await desk.open(
        route, [str((await world.only())["id"])], now=world.now, lease=MINUTE
    )

    assert (begun, [one.said for one in told]) == ([], ["later"])
    assert (await world.only())["attempts"] == 0
    assert await world.work_off() == {"delivered": 1}
    assert len(there.got) == 1


async def test_a_changed_destination_is_used_without_cutting_what_is_under_way(
    world: World,
) -> None:
    """The old sink is closed when its last attempt is over, the new one takes the next."""
    first, second = _Closable(), _Closable()
    await world.destination(sink=first)
    await world.subscribe()
    await world.closed()
    later = timedelta(seconds=30)
    world.onefold.clock.advance(later)  # type: ignore[attr-defined]
    await world.closed(entry_price="1.01")
    goes_on, began = asyncio.Event(), asyncio.Event()

    async def wait(_: object) -> None:
        began.set()
        await goes_on.wait()
        assert not first.closed

    first.before = wait
    world.onefold.clock.advance(MINUTE * 5 - later)  # type: ignore[attr-defined]
    async with world.courier() as courier:
        await courier.step()
        await began.wait()
        await world.service.change(world.school.admin, "tracker", {"concurrency": 5})
        world.sinks[next(iter(world.sinks))] = second
        world.onefold.clock.advance(later)  # type: ignore[attr-defined]
        await courier.step()
        assert not first.closed
        goes_on.set()
        await courier.settled()
        await asyncio.sleep(0)

        assert (len(second.got), first.closed, second.closed) == (1, True, False)


class _Closable(Scripted):
    """Says whether it was closed."""

    closed = False

    async def aclose(self) -> None:
        self.closed = True


async def test_a_plug_in_that_cannot_be_made_stops_nobody_else(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Its bug is told once, without its text, and the others are delivered to."""
    await world.destination("bad")
    await world.subscribe("bad")
    await world.closed()
    good = await world.destination("good")
    await world.subscribe("good", user="user-bob")
    await world.closed(user_id="user-bob")
    bad = next(iter(world.sinks))

    def make(route: Route) -> Any:
        if route.destination == bad:
            raise KeyError("hunter2")
        return world.make(route)

    world.onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]
    async with world.courier() as courier:
        courier._make = make
        for _ in range(3):
            await courier.work_off()

    assert len(good.got) == 1
    assert (caplog.text.count("cannot be used"), "hunter2" in caplog.text) == (1, False)


async def test_a_sink_that_never_ends_is_left_in_time(world: World) -> None:
    """It costs an attempt, and no task is left behind."""
    there = await world.destination()
    await world.subscribe()
    await world.closed()

    async def hang(_: object) -> None:
        await asyncio.Event().wait()

    there.before = hang
    world.onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]
    async with world.courier() as courier:
        courier._lease = timedelta(seconds=0.1)
        assert await courier.work_off() == {"retry": 1}

    assert (await world.only())["last_outcome"] == "timeout"


async def test_two_reconcile_at_once(world: World) -> None:
    """Workers that find the same gap plan each delivery once, and none of them fails."""
    await world.destination()
    await world.subscribe()
    many = [(uuid4(), trade(world.now)) for _ in range(20)]
    await world.service.record_many(world.school.service, many)
    uow = world.onefold.uow
    for _ in range(80 if uow.features.parallel_writers else 1):  # unmended, met within 7 s
        async with uow.begin() as tx:
            await tx.execute(delete(deliveries))

        done = await asyncio.gather(*(world.service.reconcile() for _ in range(10)))

        assert sum(done) == 20
        assert len(await world.deliveries("pending")) == 20
