"""Tradervue: delivered is what its import ended well for, whoever dies and whoever else sends."""

import asyncio
import logging
from base64 import b64encode
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from tests.integration.trace.test_sinks import ID, NOW, parcel
from tests.support import another_server, rows, turn_of_the_loop
from tests.support_journal import Journal
from tests.support_receiver import Received, Receiver, Said, receiving
from tests.support_trace import MINUTE, World

from onefold.core.published import ResultOnly, encode
from onefold.engine.courier import Courier
from onefold.ports.sink import DestinationEffect, OutcomeKind, Parcel, SendOutcome, one_at_a_time
from onefold_server.adapters.tradervue import Pace, TradervueSink
from onefold_server.domains.trades.attempts import TradeDeliveries
from onefold_server.domains.trades.tables import attempts, deliveries, destinations
from onefold_server.installation import Installation

LOOK = timedelta(seconds=10)
ONCE = Pace(watch_s=0)  # one look an attempt
PATIENT = Pace(poll_s=0, watch_s=10)
USER, PASSWORD = "journal-of-ada", "correct-horse"
REF = "import asked for at some time"


def sink(there: Receiver, pace: Pace = ONCE, **how: Any) -> TradervueSink:
    """One process's sink for the account."""
    config = {"contact": "ops@example.org", "url": there.url, "loopback": True}
    return TradervueSink(config, {"username": USER, "password": PASSWORD}, pace=pace, **how)


async def sent(there: Receiver, *parcels: Parcel, pace: Pace = ONCE) -> list[SendOutcome]:
    """What each comes to, one after the other, by a process of their own."""
    one = sink(there, pace)
    try:
        return [await one.send(each, now=NOW) for each in parcels]
    finally:
        await one.aclose()


def lines(there: Receiver) -> list[str]:
    """What was asked for."""
    return [got.line.split(" ")[0] for got in there.got]


# --- the sink ----------------------------------------------------------------------------------


async def test_it_is_asked_to_import_two_executions() -> None:
    """Numbers to the last digit, duplicates left to it; delivered when it says how it ended."""
    journal = Journal()
    async with receiving(always=journal) as there:
        (done,) = await sent(there, parcel())

    assert (done.kind, done.reason) == (OutcomeKind.DELIVERED, "imported")
    (said,) = [msgspec.json.decode(body) for body in journal.posts]
    assert said["allow_duplicates"] is False
    assert [(e["quantity"], e["price"]) for e in said["executions"]] == [(-0.5, 1.09), (0.5, 1.08)]
    assert {got.headers["user-agent"] for got in there.got} == {"Onefold (ops@example.org)"}
    assert lines(there) == ["POST", "GET"]


async def test_an_import_is_watched_to_its_end() -> None:
    """Queued, processing, over: in one attempt, where there is time for it."""
    journal = Journal(takes=5)
    async with receiving(always=journal) as there:
        (done,) = await sent(there, parcel(), pace=PATIENT)

    assert done.kind is OutcomeKind.DELIVERED
    assert lines(there) == ["POST", *["GET"] * 5]


async def test_an_import_that_takes_longer_is_waited_for_and_looked_at() -> None:
    """Neither delivered nor failed, and nothing else goes there; and it is not asked for again."""
    journal = Journal(takes=None)
    async with receiving(always=journal) as there:
        (asked,) = await sent(there, parcel())
        again = parcel(2, remote_ref=asked.remote_ref)
        (looked,) = await sent(there, again)
        journal.finish()
        (done,) = await sent(there, again)

    assert asked == looked
    assert (asked.kind, asked.reason, asked.toll) == (
        OutcomeKind.WAITING,
        "importing",
        DestinationEffect.REST,
    )
    assert (asked.retry_after, asked.remote_ref) == (LOOK, f"import asked for at {NOW.isoformat()}")
    assert (done.kind, done.remote_ref) == (OutcomeKind.DELIVERED, asked.remote_ref)
    assert len(journal.posts) == 1


async def test_another_import_under_way_is_waited_for() -> None:
    """It is no failure of anybody: no try is spent, and the account is left alone meanwhile."""
    journal = Journal(takes=None)
    async with receiving(always=journal) as there:
        await sent(there, parcel())
        (busy,) = await sent(there, parcel(entry_price="1.07"))

    expected = SendOutcome(
        OutcomeKind.WAITING, "busy", 424, retry_after=LOOK, toll=DestinationEffect.REST
    )
    assert (busy, len(journal.posts)) == (expected, 1)


def _ended(status: str, **info: Any) -> bytes:
    return msgspec.json.encode({"status": status, "info": info})


ENDS: list[tuple[bytes, OutcomeKind, str]] = [
    (_ended("succeeded", exec_count=2, duplicate_count=0), OutcomeKind.DELIVERED, "imported"),
    (_ended("succeeded", exec_count=1, duplicate_count=1), OutcomeKind.DELIVERED, "imported"),
    (_ended("succeeded", exec_count=0, duplicate_count=2), OutcomeKind.DELIVERED, "there_already"),
    (_ended("succeeded", exec_count=0, duplicate_count=0), OutcomeKind.RETRY, "not_ours"),
    (_ended("succeeded", exec_count=40, duplicate_count=0), OutcomeKind.RETRY, "not_ours"),
    (_ended("succeeded", exec_count=1, overquota_count=1), OutcomeKind.HELD, "quota"),
    *(
        (_ended("succeeded", **{f"skipped_{what}": True}), OutcomeKind.PERMANENT, "not_in_plan")
        for what in ("futures", "options", "forex")
    ),
    (_ended("failed", error_execnumber=1), OutcomeKind.PERMANENT, "import_failed_entry"),
    (_ended("failed", error_execnumber=2), OutcomeKind.PERMANENT, "import_failed_exit"),
    (_ended("failed", error_execnumber=9), OutcomeKind.RETRY, "import_failed"),
    (_ended("failed", error_description="try again later"), OutcomeKind.RETRY, "import_failed"),
    (b'{"status":"failed"}', OutcomeKind.RETRY, "import_failed"),
    (b'{"status":"ready"}', OutcomeKind.RETRY, "end_unknown"),
]


@pytest.mark.parametrize(("said", "kind", "reason"), ENDS)
async def test_what_the_end_of_an_import_means(said: bytes, kind: OutcomeKind, reason: str) -> None:
    """Delivered, dead with its reason, held for a person, or tried again."""
    async with receiving((200, {}, b'{"status":"queued"}'), (200, {}, said)) as there:
        (outcome,) = await sent(there, parcel(), pace=PATIENT)

    assert (outcome.kind, outcome.reason) == (kind, reason)
    assert outcome.toll is (
        DestinationEffect.PAUSE if kind is OutcomeKind.HELD else DestinationEffect.NONE
    )


GARBAGE = [
    b"", b"<html>", b"[]", b"3", b"null", b"\xff\xfe", b'{"status":null}', b'{"status":"done"}',
    b'{"info":{}}', b'{"status":"succeeded","info":{"exec_count":"two"}}',
    b'{"status":"succeeded","info":[]}', b'{"x":' + b"[" * 60_000, b'{"status":"succ',
]  # fmt: skip


@pytest.mark.parametrize("said", GARBAGE)
async def test_an_answer_that_is_none_is_tried_again(said: bytes) -> None:
    """Whatever it says instead of a status: nothing is delivered by it, and nothing raised."""
    async with receiving((200, {}, b"OK"), always=(200, {}, said)) as there:
        (outcome,) = await sent(there, parcel())

    assert outcome == SendOutcome(OutcomeKind.RETRY, "unreadable", 200)


@pytest.mark.parametrize(
    ("said", "reason"),
    [("stall", "timeout"), ("reset", "connection"), ("huge", "unreadable"), (503, "http_503")],
)
async def test_a_look_that_fails_is_taken_again(said: Said, reason: str) -> None:
    """While there is time; then it failed, and the next attempt finds the executions there."""
    journal, looks = Journal(), 0

    def fails_at_first(asked: Received) -> Said:
        nonlocal looks
        looks += asked.line.startswith("GET")
        return said if asked.line.startswith("GET") and looks == 1 else journal(asked)

    async with receiving(always=fails_at_first) as there:
        (watched,) = await sent(there, parcel(), pace=Pace(request_s=0.2, watch_s=5, poll_s=0))
        looks = 0
        (failed,) = await sent(there, parcel(2), pace=Pace(request_s=0.2, watch_s=0))
        (after,) = await sent(there, parcel(3))

    assert (watched.kind, watched.reason) == (OutcomeKind.DELIVERED, "imported")
    assert (failed.kind, failed.reason, failed.remote_ref) == (OutcomeKind.RETRY, reason, None)
    assert (after.kind, after.reason) == (OutcomeKind.DELIVERED, "there_already")
    assert len(journal.executions) == 2


async def test_refused_credentials_pause_it_when_it_looks_too() -> None:
    """A password that was changed while an import is under way."""
    async with receiving(401) as there:
        (outcome,) = await sent(there, parcel(2, remote_ref=REF))

    assert (outcome.kind, outcome.toll, lines(there)) == (
        OutcomeKind.PERMANENT,
        DestinationEffect.PAUSE,
        ["GET"],
    )


async def test_who_dies_after_the_request_imports_once() -> None:
    """The next attempt knows of nothing: it waits for what is under way, then finds it there."""
    journal = Journal(takes=None)
    async with receiving(always=journal) as there:
        one = sink(there, Pace(watch_s=60, poll_s=60))
        task = asyncio.create_task(one.send(parcel(), now=NOW))
        while len(there.got) < 2:  # it has asked, and looked
            await turn_of_the_loop()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await one.aclose()

        (busy,) = await sent(there, parcel(2))
        journal.finish()
        journal.takes = 0
        (done,) = await sent(there, parcel(3))

    assert (busy.kind, done.kind, done.reason) == (
        OutcomeKind.WAITING,
        OutcomeKind.DELIVERED,
        "there_already",
    )
    assert len(journal.executions) == 2


async def test_an_end_that_was_told_to_who_died_is_asked_for_again() -> None:
    """It is told once; the import is made anew, and finds its executions there."""
    journal = Journal()
    async with receiving(always=journal) as there:
        await sent(there, parcel())  # and its outcome is lost
        lost, done = await sent(there, parcel(2, remote_ref=REF), parcel(3))

    assert (lost.kind, lost.reason) == (OutcomeKind.RETRY, "end_unknown")
    assert (done.kind, done.reason) == (OutcomeKind.DELIVERED, "there_already")
    assert len(journal.executions) == 2


async def test_one_process_asks_for_one_import_at_a_time() -> None:
    """Four deliveries at once are four imports in a row, each with its own end."""
    journal = Journal(takes=3, refuses={"BAD": {"error_execnumber": 1}})
    async with receiving(always=journal) as there:
        one = sink(there, PATIENT)
        many = [parcel(instrument=name) for name in ("EURUSD", "BAD", "XAUUSD", "USDJPY")]
        told = await asyncio.gather(*(one.send(each, now=NOW) for each in many))
        await one.aclose()

    assert [outcome.kind is OutcomeKind.DELIVERED for outcome in told] == [True, False, True, True]
    assert (journal.busy, len(journal.posts), one_at_a_time(one)) == (0, 4, True)


async def test_a_turn_that_does_not_come_is_waited_for() -> None:
    """A process whose other import hangs is not taken for a failing one."""
    async with receiving("stall") as there:
        one = sink(there, Pace(turn_s=0.05, request_s=5))
        first = asyncio.create_task(one.send(parcel(), now=NOW))
        while not there.got:
            await turn_of_the_loop()
        second = await one.send(parcel(), now=NOW)
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await one.aclose()

    assert (second.kind, second.reason) == (OutcomeKind.WAITING, "busy")


async def test_it_needs_a_size() -> None:
    """A profile without one is held, not guessed at."""
    result = ResultOnly(
        trade_ref="a" * 26, instrument="X", side="buy", exit_time="2026-01-15T14:00:00Z",
        mode="live", revision=1, status="CLOSED",
    )  # fmt: skip
    body = encode("result_only", result, id_=ID, occurred_at="2026-01-15T14:00:00Z")
    async with receiving() as there:
        told = await sent(there, parcel(body=body))

    assert (told, there.got) == ([SendOutcome(OutcomeKind.HELD, "profile")], [])


# --- the courier ---------------------------------------------------------------------------------


@dataclass
class Account:
    """A destination whose journal is there, and couriers with a sink of their own each."""

    world: World
    there: Receiver
    journal: Journal
    pace: Pace = ONCE

    @asynccontextmanager
    async def courier(self, onefold: Installation | None = None) -> AsyncIterator[Courier]:
        """A process of its own, over that installation."""
        trace = (onefold or self.world.onefold).trace
        desk = TradeDeliveries(
            trace.uow, random=self.world.random.randbytes, jitter=lambda: 0.999, watch=trace.watch
        )
        made = Courier(
            trace.deadlines, desk, lambda _: sink(self.there, self.pace), clock=trace.clock
        )
        try:
            yield made
        finally:
            await made.aclose()

    async def work_off(self, after: timedelta, onefold: Installation | None = None) -> Any:
        """Let *after* pass; what a courier of its own says of what is due then."""
        self.world.onefold.clock.advance(after)  # type: ignore[attr-defined]
        async with self.courier(onefold) as courier:
            return dict(await courier.work_off())

    async def place(self) -> Any:
        """The destination's row."""
        (found,) = await rows(self.world.onefold, destinations)
        return found

    async def by_instrument(self) -> dict[str, Any]:
        """What became of the trade in each."""
        found = {}
        for row in await self.world.deliveries():
            trade = await self.world.service.trade(self.world.school.admin, row["trade_id"])
            found[trade["instrument"]] = row
        return found


@pytest.fixture
async def account(world: World) -> AsyncIterator[Account]:
    """A subscriber's journal."""
    journal = Journal()
    async with receiving(always=journal) as there:
        await world.service.create_destination(
            world.school.admin,
            "journal",
            "tradervue",
            config={"contact": "ops@example.org"},
            secrets={"username": USER, "password": PASSWORD},
            concurrency=8,
        )
        await world.subscribe("journal")
        yield Account(world, there, journal)


async def test_its_destination_takes_one_at_a_time(account: Account, world: World) -> None:
    """Whatever was asked for, and whatever is changed: else an end could be another's."""
    changed = await world.service.change(world.school.admin, "journal", {"concurrency": 5})

    assert (await account.place())["concurrency"] == changed["concurrency"] == 1


async def test_delivered_is_what_ended_well(account: Account, world: World) -> None:
    """Waiting meanwhile, which spends no try; one request for all of it, and each look a row."""
    account.journal.takes = None
    await world.closed()

    assert await account.work_off(MINUTE * 5) == {"waiting": 1}
    assert await account.work_off(LOOK - timedelta(seconds=1)) == {}
    assert await account.work_off(timedelta(seconds=1)) == {"waiting": 1}
    account.journal.finish()
    assert await account.work_off(LOOK) == {"delivered": 1}

    (row,) = await rows(world.onefold, deliveries)
    assert (row["state"], row["attempts"], row["tries"]) == ("delivered", 3, 1)
    assert row["last_outcome"] == "imported"
    assert (len(account.journal.posts), len(account.journal.executions)) == (1, 2)
    assert (await account.place())["occupied_by"] is None


async def test_what_it_rejects_is_dead_and_what_passes_is_tried_again(
    account: Account, world: World
) -> None:
    """After its import was accepted, which was delivered once."""
    account.journal.refuses = {
        "BAD": {"error_execnumber": 2, "error_description": "an invalid quantity"},
        "LATER": {"error_description": "try again later"},
    }
    for instrument in ("BAD", "LATER", "GOOD"):
        await world.closed(instrument=instrument)

    told = await account.work_off(MINUTE * 5)
    assert (told["dead"], told["retry"], told["delivered"]) == (1, 1, 1)
    found = await account.by_instrument()
    assert (found["BAD"]["state"], found["BAD"]["reason"]) == ("dead", "import_failed_exit")
    account.journal.refuses.pop("LATER")
    assert await account.work_off(MINUTE) == {"delivered": 1}


async def test_no_other_end_is_taken_for_ours(account: Account, world: World) -> None:
    """While an import is under way nothing else is sent, by any server; each has its own end."""
    account.journal.takes, account.journal.refuses = None, {"BAD": {"error_execnumber": 1}}
    await world.closed(instrument="BAD")
    assert await account.work_off(MINUTE * 5) == {"waiting": 1}
    for instrument in ("GOOD", "FINE"):
        await world.closed(instrument=instrument)

    async with another_server(world.onefold) as other:
        # Their delay is over, and the first has not been looked at: it goes first.
        assert await account.work_off(MINUTE * 5, other) == {"waiting": 1}
        assert len(account.journal.posts) == 1
        account.journal.finish()
        account.journal.takes = 0
        told = await account.work_off(LOOK, other)

    assert (told["dead"], told["delivered"]) == (1, 2)
    found = await account.by_instrument()
    assert {name: row["state"] for name, row in found.items()} == {
        "BAD": "dead",
        "GOOD": "delivered",
        "FINE": "delivered",
    }
    assert {one[1] for one in account.journal.executions} == {"GOOD", "FINE"}
    assert (account.journal.lost, account.journal.busy) == (0, 0)


async def test_others_that_are_due_wait_for_the_look(account: Account, world: World) -> None:
    """Also where the destination did not rest, as after a resume."""
    account.journal.takes = None
    await world.closed(instrument="FIRST")
    await account.work_off(MINUTE * 5)
    await world.closed(instrument="OTHER")
    world.onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]
    await account.work_off(timedelta(0))
    await world.service.pause(world.school.admin, "journal")
    await world.service.resume(world.school.admin, "journal")

    assert set(await account.work_off(timedelta(0))) == {"later", "skipped"}
    assert len(account.journal.posts) == 1
    account.journal.finish()
    account.journal.takes = 0
    assert await account.work_off(LOOK * 2) == {"delivered": 2}


@pytest.mark.parametrize("how", ["withdrawn", "superseded", "rotated"])
async def test_one_that_is_over_keeps_nobody_waiting(
    account: Account, world: World, how: str
) -> None:
    """Cancelled, corrected, or of another account meanwhile: the next is sent."""
    account.journal.takes = None
    first = await world.closed(instrument="FIRST")
    await account.work_off(MINUTE * 5)
    account.journal.finish()
    account.journal.takes = 0
    if how == "withdrawn":
        (given,) = await world.service.subscriptions(world.school.admin)
        await world.service.withdraw(world.school.admin, given["id"])
        await world.subscribe("journal")
    elif how == "superseded":
        await world.service.correct(
            world.school.service, first, {"exit_price": "1.10"}, expected_revision=1
        )
    else:
        hidden = {"username": USER, "password": PASSWORD}
        await world.service.rotate(world.school.admin, "journal", hidden)
    await world.closed(instrument="OTHER")

    told = await account.work_off(MINUTE * 5)

    assert told["delivered"] == {"withdrawn": 1, "superseded": 2, "rotated": 2}[how]
    assert (await account.by_instrument())["OTHER"]["state"] == "delivered"
    assert (await account.place())["occupied_by"] is None


async def test_an_import_without_end_is_given_up_after_seven_days(
    account: Account, world: World
) -> None:
    """Dead as what it was waited for; the destination is free, and asked again for the others."""
    account.journal.takes = None
    await world.closed(instrument="FIRST")
    await account.work_off(MINUTE * 5)

    assert await account.work_off(timedelta(days=7)) == {"dead": 1}
    assert (await world.only())["reason"] == "importing"
    account.journal.finish()
    account.journal.takes = 0
    await world.closed(instrument="OTHER")
    assert await account.work_off(MINUTE * 5) == {"delivered": 1}


async def test_over_its_quota_it_is_paused_for_a_person(account: Account, world: World) -> None:
    """Who buys another plan, or waits for the end of the month; nothing is lost, and none twice."""
    account.journal.over_quota = True
    await world.closed(instrument="FIRST")
    await world.closed(instrument="OTHER")

    assert await account.work_off(MINUTE * 5) == {"held": 1}
    assert {row["state"] for row in await world.deliveries()} == {"held"}
    assert (await account.place())["state"] == "paused"
    account.journal.over_quota = False
    (held,) = [row for row in await world.deliveries("held") if row["reason"] == "quota"]
    await world.service.resume(world.school.admin, "journal")
    await world.service.release(world.school.admin, held["id"])
    assert await account.work_off(MINUTE) == {"delivered": 2}
    assert len(account.journal.executions) == 4


@pytest.mark.parametrize("reached", ["POST", "GET"])
async def test_a_courier_that_dies_after_its_request_imports_once(
    account: Account, world: World, reached: str
) -> None:
    """Before its receipt, or after it read the end: what is in the journal is there once."""
    gone = asyncio.Event()

    def hangs(asked: Received) -> Said:
        answer = account.journal(asked)
        if asked.line.startswith(reached):
            gone.set()
            return "stall"
        return answer

    account.there.always = hangs
    await world.closed()
    world.onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]
    async with account.courier() as dies:
        assert await dies.step()
        await gone.wait()
    account.there.always = account.journal

    assert await account.work_off(timedelta(seconds=59)) == {}  # it is leased still
    assert await account.work_off(timedelta(seconds=1)) == {"delivered": 1}
    assert (await world.only())["last_outcome"] == "there_already"
    assert (len(account.journal.posts), len(account.journal.executions)) == (2, 2)


async def test_couriers_side_by_side_tell_each_delivery_its_own_end(
    account: Account, world: World
) -> None:
    """Two servers, slow imports, some refused: whoever looks, it is what the journal holds."""
    names = [f"T{n:02}" for n in range(6)]
    bad = set(names[::3])
    account.journal.takes = 2
    account.journal.refuses = {name: {"error_execnumber": 1} for name in bad}
    for name in names:
        await world.closed(instrument=name)
    world.onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]

    async with (
        another_server(world.onefold) as other,
        account.courier() as one,
        account.courier(other) as two,
    ):
        for _ in range(40):
            await asyncio.gather(one.work_off(), two.work_off())
            if not await world.deliveries("pending", "leased"):
                break
            world.onefold.clock.advance(LOOK)  # type: ignore[attr-defined]

    found = {name: row["state"] for name, row in (await account.by_instrument()).items()}
    assert found == {name: "dead" if name in bad else "delivered" for name in names}
    held = [one[1] for one in account.journal.executions]
    assert sorted(held) == sorted(2 * [name for name in names if name not in bad])
    assert (len(account.journal.posts), account.journal.lost) == (6, 0)


async def test_a_refused_fence_records_no_wait(account: Account, world: World) -> None:
    """A courier that lost its delivery to another says nothing of it, nor of the destination."""
    account.journal.takes = None
    asked, go = asyncio.Event(), asyncio.Event()
    await world.closed()
    world.onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]

    class Slow(TradervueSink):
        async def send(self, parcel: Parcel, *, now: Any) -> SendOutcome:
            outcome = await super().send(parcel, now=now)
            asked.set()
            await go.wait()
            return outcome

    config = {"contact": "ops", "url": account.there.url, "loopback": True}
    slow = Slow(config, {"username": USER, "password": PASSWORD}, pace=ONCE)
    async with world.courier() as late:
        late._make = lambda _: slow
        assert await late.step()
        await asked.wait()
        account.journal.finish()
        assert await account.work_off(MINUTE) == {"waiting": 1}  # the second import of it
        before = await account.place()
        go.set()
        await late.settled()

    assert late.said == {"lost": 1}
    assert (await account.place(), before["occupied_by"]) == (before, (await world.only())["id"])


async def test_who_it_is_is_told_to_nobody(
    account: Account, world: World, caplog: pytest.LogCaptureFixture
) -> None:
    """Name, password and token: in no log, error, receipt, attempt or answer, whatever it says."""
    caplog.set_level(logging.DEBUG)
    token = account_token()
    echo = f"{USER} {PASSWORD} {token} try again".encode()
    answers: list[Said] = [
        (200, {}, echo), (400, {}, echo), (401, {}, echo), (503, {}, echo), "reset",
        (200, {}, msgspec.json.encode({"status": echo.decode()})),
        (200, {}, _ended("failed", error_execnumber=1, error_description=echo.decode())),
        (200, {"location": echo.decode()}, _ended("failed", error_description=echo.decode())),
    ]  # fmt: skip
    told: list[Any] = []
    for said in answers:
        account.there.always = said
        await world.closed(entry_price=f"1.{len(told):03}")
        told.append(await account.work_off(MINUTE * 5))
        await world.service.resume(world.school.admin, "journal")
    every = await world.deliveries()
    kept = [await rows(world.onefold, table) for table in (deliveries, attempts)]
    shown = [await world.service.delivery(world.school.admin, row["id"]) for row in every]
    places = await world.service.destinations(world.school.admin)

    assert len(every) == len(answers)
    heard = "\n".join(map(repr, (kept, shown, places, told, sink(account.there)))) + caplog.text
    for secret in (USER, PASSWORD, token):
        assert secret not in heard


def account_token() -> str:
    """The two as HTTP writes them."""
    return b64encode(f"{USER}:{PASSWORD}".encode()).decode()
