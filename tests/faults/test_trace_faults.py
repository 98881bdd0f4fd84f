"""The faults of the earlier tracer (research note trace, section 7), one test each by number."""

import asyncio
import inspect
import json
import logging
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from msgspec.structs import replace
from pydantic import SecretStr, ValidationError
from sqlalchemy import delete, select
from standardwebhooks.webhooks import Webhook
from tests.integration.trace.test_sinks import SECRET, parcel, sink
from tests.support import School, another_server, rows
from tests.support_receiver import receiving
from tests.support_trace import (
    BUSY,
    MINUTE,
    OK,
    Scripted,
    World,
    bucket,
    files,
    opening,
    trade,
)

from onefold.adapters.sinks.file import FileSink, compact
from onefold.adapters.sinks.s3 import S3Sink
from onefold.adapters.sql.schema import deadlines
from onefold.core.published import PROFILES, fields_of, require
from onefold.errors import Conflict, ConstraintViolated, IllegalTransition, InvalidInput
from onefold.ports.sink import DestinationEffect, OutcomeKind, SendOutcome
from onefold.testing.clock import ManualClock
from onefold_server.domains.trades.tables import attempts, deliveries, destinations, pseudonyms
from onefold_server.installation import Installation, build, run_worker
from onefold_server.settings import Settings

NOTE = "trace"
NOW = datetime(2026, 1, 15, 14, 30, tzinfo=UTC)


@pytest.fixture
async def onefold(
    database_url: str, clock: ManualClock, tmp_path: Path
) -> AsyncIterator[Installation]:
    """All parts; receivers on this machine are let in."""
    settings = Settings(
        database_url=SecretStr(database_url), trace_loopback=True, trace_folder=tmp_path
    )
    built = build(settings, clock=clock)
    yield built
    await built.aclose()


@pytest.fixture
def world(onefold: Installation, school: School) -> World:
    """Trace with scripted sinks."""
    return World(onefold, school)


async def ready(world: World, *script: SendOutcome, **how: Any) -> Scripted:
    """One destination, one consent, one closed trade."""
    there = await world.destination(sink=Scripted(list(script) or [OK]), **how)
    await world.subscribe()
    await world.closed()
    return there


# --- A: it could never post ---------------------------------------------------------------------


def test_a1_the_task_is_no_coroutine() -> None:
    """Its task returned a coroutine that nobody ran; ours is a function that runs its loop."""
    from onefold_server.celery import process_pending_traces

    assert not inspect.iscoroutinefunction(process_pending_traces.run)


def test_a2_settings_are_typed_and_exist() -> None:
    """It read settings that were not there; ours fail at the start, and are read by name."""
    assert Settings().trace_reconcile_every_s == 60.0
    with pytest.raises(ValidationError):
        Settings(trace_reconcile_every_s=-1)


async def test_a3_a4_a_real_trade_is_read_and_mapped(world: World) -> None:
    """It asked for columns that no trade had; ours goes from a real row to real bytes."""
    there = await ready(world)
    await world.work_off(MINUTE * 5)

    _, data = require(there.bodies[0])
    assert (data.instrument, data.side, data.exit_price) == ("EURUSD", "buy", "1.09")  # type: ignore[attr-defined]


async def test_a5_a_running_server_delivers(world: World, tmp_path: Path) -> None:
    """Nothing enqueued and nothing scheduled; ours does with nothing but the server's loops."""
    await world.service.create_destination(
        world.school.admin, "folder", "file", config={"path": "out"}
    )
    await world.subscribe("folder")
    await world.closed()
    world.onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]

    async with run_worker(world.onefold), asyncio.timeout(10):
        while not files(tmp_path / str(world.school.id) / "out"):  # noqa: ASYNC110 (a file tells nobody that it is there)
            await asyncio.sleep(0)


# --- B: delivery --------------------------------------------------------------------------------


async def test_b1_a_close_and_its_deliveries_are_one(world: World) -> None:
    """A rolled-back close still posted; ours leaves nothing, and what is lost is found again."""
    await world.destination()
    await world.subscribe()
    with pytest.raises(ZeroDivisionError):  # noqa: PT012 (the commit is part of it)
        async with world.onefold.uow.begin() as tx:
            await world.service._record(tx, world.school.id, uuid4(), trade(world.now))
            _ = 1 / 0
    assert await world.work_off(MINUTE * 9) == {}

    await world.closed()
    async with world.onefold.uow.begin() as tx:
        await tx.execute(delete(deliveries))
        await tx.execute(delete(deadlines))
    assert await world.service.reconcile() == 1
    assert await world.work_off(MINUTE * 5) == {"delivered": 1}


async def test_b2_b3_each_destination_stands_for_itself(world: World) -> None:
    """One bad adapter made the good one post six times; ours posts once, with its own count."""
    bad = await world.destination("bad", sink=Scripted([BUSY] * 3 + [OK]))
    good = await world.destination("good")
    for name in ("bad", "good"):
        await world.subscribe(name)
    await world.closed()
    await world.work_off(MINUTE * 5)
    for _ in range(3):
        await world.work_off(timedelta(hours=1))

    assert (len(bad.got), len(good.got)) == (4, 1)
    assert sorted(row["attempts"] for row in await world.deliveries()) == [1, 4]


async def test_b4_two_workers_send_one_entry_once(world: World) -> None:
    """Two workers posted it twice; ours claim it."""
    there = await ready(world)
    world.onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]
    async with (
        another_server(world.onefold) as other,
        world.courier() as one,
        world.courier(onefold=other) as two,
    ):
        await asyncio.gather(one.work_off(), two.work_off())

    assert len(there.got) == 1


async def test_b5_a_lost_receipt_repeats_the_same_message(world: World) -> None:
    """Its swallowed error posted four times as new; ours repeats one id and one body."""
    there = await ready(world)
    world.onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]
    async with world.courier() as dying:
        dying._settle = lambda order: _die()  # type: ignore[assignment]
        await dying.work_off()
    assert await world.work_off(timedelta(seconds=61)) == {"delivered": 1}

    assert (len(there.got), len(set(there.ids)), len(set(there.bodies))) == (2, 1, 1)
    begun = [row["fact"] for row in await rows(world.onefold, attempts)]
    assert sorted(begun) == ["began", "began", "ended"]


async def _die() -> None:
    raise asyncio.CancelledError


async def test_b6_giving_up_keeps_the_delivery(world: World) -> None:
    """It deleted what it gave up; ours keeps it dead, listed, and replayable."""
    await ready(world, SendOutcome(OutcomeKind.PERMANENT, "http_400", 400), OK)
    await world.work_off(MINUTE * 5)

    (dead,) = await world.deliveries("dead")
    await world.service.replay(world.school.admin, dead["id"])
    assert await world.work_off() == {"delivered": 1}


async def test_b7_success_leaves_a_receipt(world: World) -> None:
    """It deleted every trace of a success; ours keeps when, what, and the hash of the bytes."""
    there = await ready(world)
    await world.work_off(MINUTE * 5)

    found = await world.service.delivery(world.school.admin, (await world.only())["id"])
    import hashlib

    assert found["body_sha256"] == hashlib.sha256(there.bodies[0]).hexdigest()
    assert (found["delivered_at"], found["last_status"]) == (world.now, 200)
    assert (found["policy"], found["fields"]) == ("2026-11", list(fields_of("full")))


async def test_b8_a_destination_that_is_away_holds(world: World) -> None:
    """A disabled adapter lost every trade; ours holds them, spending nothing."""
    await ready(world)
    await world.service.remove(world.school.admin, "tracker")

    assert await world.work_off(timedelta(days=30)) == {}
    found = await world.only()
    assert (found["state"], found["reason"], found["attempts"]) == ("held", "removed", 0)


async def test_b9_a_refused_credential_is_not_tried_again(world: World) -> None:
    """401 was posted six times; ours once, and the destination is paused."""
    there = await ready(
        world, SendOutcome(OutcomeKind.PERMANENT, "http_401", 401, toll=DestinationEffect.PAUSE)
    )
    await world.closed(entry_price="1.05")
    await world.work_off(MINUTE * 5)
    await world.work_off(timedelta(days=1))

    assert len(there.got) <= 2
    (place,) = await world.service.destinations(world.school.admin)
    assert place["state"] == "paused"


async def test_b10_what_a_status_means() -> None:
    """202 was fatal, 429 too, and a 302 a success; ours reads them as they are meant."""
    async with receiving(202, 429, (302, {"location": "/x"}, b"")) as there:
        one = sink(there.url)
        kinds = [(await one.send(parcel(), now=NOW)).kind for _ in range(3)]
        await one.aclose()

    assert kinds == [OutcomeKind.DELIVERED, OutcomeKind.RETRY, OutcomeKind.PERMANENT]
    assert len(there.got) == 3


async def test_b11_poison_holds_up_nobody(world: World) -> None:
    """Ten broken entries starved a good one for ever; each of ours uses its own attempts."""
    bad = await world.destination("bad", sink=Scripted([ValueError("x")]), concurrency=10)
    good = await world.destination("good", concurrency=10)
    await world.subscribe("bad")
    for n in range(10):
        await world.closed(entry_price=f"1.0{n}")
    await world.subscribe("good", user="user-bob")
    await world.closed(user_id="user-bob")

    said = await world.work_off(MINUTE * 5)

    assert (said["delivered"], said["retry"]) == (1, 10)
    assert (len(bad.got), len(good.got)) == (10, 1)


async def test_b12_b14_a_deadline_without_its_delivery_is_cleared(world: World) -> None:
    """Ten ghosts hid the living for ever; ours are looked at once, and gone."""
    there = await ready(world)
    (place,) = await rows(world.onefold, destinations)
    async with world.onefold.uow.begin() as tx:
        for _ in range(10):
            at = world.now - timedelta(days=9)
            await tx.schedule(f"trace:{place['id']}", str(uuid4()), due_at=at, payload={})

    assert await world.work_off(MINUTE * 5) == {"skipped": 10, "delivered": 1}
    assert len(there.got) == 1
    assert await rows(world.onefold, deadlines) == []


async def test_b13_what_waits_for_long_is_not_forgotten(world: World) -> None:
    """A delay beyond seven days died in silence; ours waits as long as it was told."""
    there = await world.destination()
    await world.subscribe(delay_s=30 * 86_400)
    await world.closed()

    assert await world.work_off(timedelta(days=29)) == {}
    assert await world.work_off(timedelta(days=1)) == {"delivered": 1}
    assert len(there.got) == 1


async def test_b13_what_is_too_old_is_dead_and_kept(world: World) -> None:
    """And what no receiver took for seven days from first due is dead, aloud."""
    await ready(world, BUSY)
    await world.work_off(MINUTE * 5)
    await world.work_off(timedelta(days=8))

    found = await world.only()
    assert (found["state"], found["reason"]) == ("dead", "age")


async def test_b15_closing_twice_is_once(world: World) -> None:
    """A second close event posted again from zero; ours changes nothing."""
    there = await world.destination()
    await world.subscribe()
    made = await world.service.record(world.school.service, opening(world.now))
    exit_ = {"exit_time": world.now, "exit_price": "1.09"}
    for _ in range(3):
        await world.service.close(world.school.service, made["trade_id"], exit_)
    await world.work_off(MINUTE * 5)
    await world.service.close(world.school.service, made["trade_id"], exit_)
    await world.work_off(MINUTE * 5)

    assert len(there.got) == 1
    with pytest.raises(IllegalTransition):
        await world.service.close(
            world.school.service, made["trade_id"], exit_ | {"exit_price": "1.10"}
        )


async def test_b16_without_a_destination_nothing_waits(world: World) -> None:
    """An entry without adapters looped for ever; ours is not made."""
    await world.closed()

    assert await world.deliveries() == []


async def test_b17_retries_outlast_an_outage_of_days(world: World) -> None:
    """Two hours of outage lost every trade; ours still comes after three days."""
    there = await ready(world, *[BUSY] * 10, OK)
    await world.work_off(MINUTE * 5)
    for _ in range(17):
        await world.work_off(timedelta(hours=6))

    assert (await world.only())["state"] == "delivered"
    assert len(there.got) == 11


async def test_b18_a_trade_that_is_gone_is_no_success(world: World) -> None:
    """A trade not found was marked sent; ours cannot be gone while a delivery names it."""
    from onefold_server.domains.trades.tables import trades as trades_table

    await ready(world)
    with pytest.raises(ConstraintViolated):
        async with world.onefold.uow.begin() as tx:
            await tx.execute(delete(trades_table))


async def test_b19_no_connection_is_held_while_sending(world: World) -> None:
    """It held a session for 900 s; ours holds none while a receiver thinks."""
    there = await ready(world)
    held: list[int] = []

    async def look(_: Any) -> None:
        database = world.onefold.database
        held.extend(engine.pool.checkedout() for engine in (database.writer, database.reader))  # type: ignore[attr-defined]

    there.before = look
    async with world.courier() as courier:
        world.onefold.clock.advance(MINUTE * 5)  # type: ignore[attr-defined]
        await courier.step()
        await courier.settled()

    assert held == [0, 0]


async def test_b20_what_is_open_never_leaves(world: World) -> None:
    """An entry made early leaked an open trade; ours has no delivery before its close."""
    there = await world.destination()
    await world.subscribe()
    made = await world.service.record(world.school.service, opening(world.now))
    await world.work_off(timedelta(days=1))
    exit_ = {"exit_time": world.now - timedelta(hours=3), "exit_price": "1.09"}
    await world.service.close(world.school.service, made["trade_id"], exit_)

    assert await world.work_off(MINUTE * 4) == {}
    assert await world.work_off(MINUTE) == {"delivered": 1}
    assert len(there.got) == 1


# --- C: time ------------------------------------------------------------------------------------


async def test_c1_no_zone_and_no_clock_change_makes_it_early(world: World, zone: str) -> None:
    """Naive instants leaked hours early in New York; ours are instants, in any zone."""
    there = await world.destination()
    await world.subscribe()
    # The night in which New York's clocks go forward.
    world.onefold.clock.set(datetime(2026, 3, 8, 6, 57, tzinfo=UTC))  # type: ignore[attr-defined]
    local = world.now.astimezone(timezone(timedelta(hours=-5)))
    await world.closed(exit_time=local, entry_time=local - timedelta(hours=1))

    assert await world.work_off(MINUTE * 5 - timedelta(seconds=1)) == {}
    assert await world.work_off(timedelta(hours=-2)) == {}
    assert await world.work_off(timedelta(hours=2, seconds=1)) == {"delivered": 1}
    assert json.loads(there.bodies[0])["data"]["exit_time"] == "2026-03-08T06:57:00Z"


async def test_c1_a_naive_instant_is_refused(world: World) -> None:
    """Nobody guesses a zone."""
    with pytest.raises(InvalidInput):
        await world.closed(exit_time=datetime(2026, 1, 1, 12))  # noqa: DTZ001


# --- D: files and S3 ----------------------------------------------------------------------------


async def test_d1_writers_at_once_lose_and_double_nothing(tmp_path: Path) -> None:
    """Appending tore lines and doubled them; ours is a file a delivery."""
    sinks = [FileSink({"path": str(tmp_path)}, {}) for _ in range(4)]
    await asyncio.gather(*(one.send(parcel(), now=NOW) for one in sinks for _ in range(5)))

    assert len(files(tmp_path)) == 1
    assert compact(tmp_path, now=NOW) == {"trades-2026-01-15.jsonl": 1}


async def test_d2_writers_at_once_keep_every_object() -> None:
    """Reading, appending and writing a day's object kept 25 of 100 lines; ours is one each."""
    ids = [str(uuid4()) for _ in range(25)]
    with bucket() as (client, config, secrets):
        sinks = [S3Sink(config, secrets) for _ in range(4)]
        outcomes = await asyncio.gather(
            *(one.send(replace(parcel(), message_id=id_), now=NOW) for id_ in ids for one in sinks)
        )
        kept = client.list_objects_v2(Bucket="traces")["KeyCount"]
        for one in sinks:
            await one.aclose()

    assert {outcome.kind for outcome in outcomes} == {OutcomeKind.DELIVERED}
    assert kept == 25


def test_d3_a_wrong_configuration_fails_when_it_is_made() -> None:
    """An unknown export type was retried for ever; ours is refused."""
    for config in ({}, {"path": "relative"}, {"path": "/x", "type": "s4"}):
        with pytest.raises(InvalidInput):
            FileSink(config, {})


# --- E: privacy and security --------------------------------------------------------------------

CANARIES = {
    "client_id": "canary-client", "email": "canary@example.org", "name": "Canary Person",
    "phone": "+44 20 7946 0958", "device": "canary-device", "ticket": "77777777",
    "comment": "canary comment", "setup_id": "canary-setup",
}  # fmt: skip
TOKEN = "canary-t0ken-that-must-not-be-seen"


@pytest.mark.parametrize("profile", PROFILES)
async def test_e1_e6_canaries_are_nowhere(
    world: World, profile: str, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    """Raw dicts went out unchanged, tokens in logs; ours let out the profile's fields alone."""
    caplog.set_level(logging.DEBUG)
    async with receiving(500, (400, {}, TOKEN.encode()), 200) as there:
        await world.service.create_destination(
            world.school.admin, "hook", "webhook",
            config={"url": f"{there.url}/{'x' * 9}", "loopback": True}, secrets={"token": TOKEN},
        )  # fmt: skip
        await world.service.create_destination(
            world.school.admin, "folder", "file", config={"path": "out"}
        )
        for name in ("hook", "folder"):
            await world.subscribe(name, user="canary-user", profile=profile)
        for n in range(2):
            await world.closed(
                user_id="canary-user", account_id="canary-account", entry_price=f"1.0{n}",
                private=CANARIES,
            )  # fmt: skip
        await world.work_off(MINUTE * 5)
        await world.work_off(MINUTE)

    from prometheus_client import generate_latest

    sent = b"".join(one.body for one in there.got)
    written = b"".join(file.read_bytes() for file in files(tmp_path / str(world.school.id) / "out"))
    told = json.dumps(await world.deliveries(), default=str).encode()
    tried = repr(await rows(world.onefold, attempts)).encode()
    kept = repr([r["body"] for r in await rows(world.onefold, deliveries)]).encode()
    logs = caplog.text.encode()
    everything = b"".join((sent, written, told, tried, kept, logs, generate_latest()))
    for canary in (*CANARIES.values(), "canary-user", "canary-account"):
        at = everything.find(canary.encode())
        assert at < 0, everything[max(0, at - 200) : at + 50]
    heads = b"".join(one.raw.partition(b"\r\n\r\n")[0] for one in there.got)
    assert TOKEN.encode() in heads
    assert TOKEN.encode() not in everything
    for body in (*(one.body for one in there.got), *written.splitlines()):
        assert set(json.loads(body)["data"]) <= set(fields_of(profile))


async def test_e2_two_trackers_cannot_join_what_they_got(world: World) -> None:
    """It sent raw ids; ours are random for each destination, the same within one."""
    one, two = await world.destination("one"), await world.destination("two")
    for name in ("one", "two"):
        await world.subscribe(name)
    ids = [str(await world.closed(entry_price=f"1.0{n}")) for n in range(2)]
    await world.work_off(MINUTE * 5)

    def references(bodies: list[bytes], field: str) -> set[str]:
        return {json.loads(body)["data"][field] for body in bodies}

    assert len(references(one.bodies, "account_ref")) == 1
    assert len(references(one.bodies, "trade_ref")) == 2
    for field in ("account_ref", "trade_ref"):
        assert not references(one.bodies, field) & references(two.bodies, field)
    assert not any(id_.encode() in body for id_ in ids for body in one.bodies + two.bodies)
    assert not set(one.ids) & set(two.ids)
    assert len(await rows(world.onefold, pseudonyms)) == 6


async def test_e3_without_consent_nothing_leaves(world: World) -> None:
    """There was no consent and no withdrawal; ours is asked at the close and at the send."""
    there = await world.destination()
    given = await world.subscribe()
    await world.closed()
    await world.work_off(MINUTE * 5)
    await world.closed(entry_price="1.02")

    ended = await world.service.withdraw(world.school.admin, given["id"])
    again = await world.service.withdraw(world.school.admin, given["id"])

    assert (ended["cancelled"], len(ended["not_recalled"]), again["cancelled"]) == (1, 1, 0)
    await world.closed(entry_price="1.03")
    assert await world.work_off(MINUTE * 9) == {"skipped": 1}
    assert len(there.got) == 1


async def test_e3_a_consent_that_ends_meanwhile_holds(world: World) -> None:
    """Asked again when it leaves: it was on at the close, and is not any more."""
    there = await world.destination()
    await world.subscribe(until=world.now + MINUTE)
    await world.closed()

    assert await world.work_off(MINUTE * 5) == {"held": 1}
    assert ((await world.only())["reason"], there.got) == ("consent", [])


async def test_e3_what_looks_like_a_person_waits_for_one(world: World) -> None:
    """The tripwire holds, and a person's release is the decision that is kept."""
    there = await world.destination()
    await world.subscribe()
    await world.closed(instrument="CANARY-Ada", private={"name": "Ada"})

    assert await world.work_off(MINUTE * 5) == {"held": 1}
    held = await world.only()
    assert (held["reason"], there.got) == ("tripwire", [])
    await world.service.release(world.school.admin, held["id"])
    assert await world.work_off() == {"delivered": 1}
    assert (await world.only())["cleared"] == world.school.admin.name


async def test_e4_no_destination_is_inside(world: World) -> None:
    """Loopback and metadata addresses were accepted, redirects followed; here neither is."""
    from onefold.adapters.sinks.webhook import WebhookSink

    inside = {"url": "http://[::1]/", "loopback": True}
    usual = build(Settings(database_url=world.onefold.settings.database_url))
    with pytest.raises(InvalidInput):  # nobody lets it in over HTTP: the server's settings do
        await usual.trace.service.create_destination(
            world.school.admin, "x", "webhook", config=inside
        )
    await usual.aclose()
    for host in ("127.0.0.1", "169.254.169.254", "[::ffff:10.0.0.1]", "[::1]"):
        one = WebhookSink({"url": f"https://{host}/"}, {"token": "x"})
        assert (await one.send(parcel(), now=NOW)).reason == "blocked_address"
        await one.aclose()


async def test_e5_a_receiver_can_tell_who_sent_what_and_what_came_before() -> None:
    """Nothing was signed, named or versioned; ours verifies, keeps its id, and says its model."""
    async with receiving(503, 200) as there:
        one = sink(there.url, secrets={"signing": [SECRET]})
        for attempt in (1, 2):
            await one.send(parcel(attempt=attempt), now=datetime.now(UTC))
        await one.aclose()

    bodies = [Webhook(SECRET).verify(got.body, got.headers) for got in there.got]
    assert len({got.headers["webhook-id"] for got in there.got}) == 1
    assert [(body["type"], body["schema"]) for body in bodies] == [
        ("trade.closed", "trade.full.v1")
    ] * 2


def test_e7_labels_come_from_configuration_alone(world: World) -> None:
    """A visitor's parameter was a label; ours are the names of destinations and our own codes."""
    metrics = world.onefold.trace.metrics

    assert metrics.pushed._labelnames == ("adapter", "status")
    assert metrics.failed._labelnames == ("adapter", "reason")


# --- F: truth -----------------------------------------------------------------------------------


async def test_f1_unknown_is_never_zero(world: World) -> None:
    """Unknown became 0.0 and any side a sell; ours is left out, or refused."""
    there = await world.destination()
    await world.subscribe()
    await world.closed(profit_net=None, currency=None, volume=None)
    await world.work_off(MINUTE * 5)

    assert not {"profit_net", "volume", "currency"} & set(json.loads(there.bodies[0])["data"])
    for wrong in ({"side": "BUY"}, {"side": None}, {"exit_price": 1.09}, {"mode": None}):
        with pytest.raises(InvalidInput):
            await world.closed(**wrong)


async def test_f1_profit_is_the_brokers_or_an_instruments(world: World) -> None:
    """Gold's 1 525 was published as 15.25; ours knows the contract, or says nothing."""
    gold = {
        "instrument": "XAUUSD", "entry_price": "2650", "exit_price": "2665.25", "volume": "1",
        "profit_net": None, "currency": None,
    }  # fmt: skip
    first = await world.service.record(world.school.service, trade(world.now, **gold))
    await world.service.set_instrument(world.school.admin, "XAUUSD", "100", "USD")
    second = await world.service.record(world.school.service, trade(world.now, **gold))

    assert first["profit_gross"] is None
    assert (second["profit_gross"], second["currency"]) == ("1525.00", "USD")


async def test_f1_a_corrected_price_brings_a_corrected_profit(world: World) -> None:
    """Worked out of the table, it is worked out again; the broker's own figure stands."""
    admin, service = world.school.admin, world.school.service
    await world.service.set_instrument(admin, "XAUUSD", "100", "USD")
    gold = {"instrument": "XAUUSD", "entry_price": "2650", "exit_price": "2660", "volume": "1"}
    given = trade(world.now, **gold, profit_net=None, currency=None)
    ours = await world.service.record(service, given)
    theirs = await world.service.record(service, given | {"profit_gross": "999", "currency": "USD"})

    worked, stands = [
        await world.service.correct(
            service, one["trade_id"], {"exit_price": "2655"}, expected_revision=1
        )
        for one in (ours, theirs)
    ]

    assert (ours["profit_gross"], worked["profit_gross"]) == ("1000", "500")
    assert stands["profit_gross"] == "999"


async def test_f1_a_profit_of_many_digits_can_be_published(world: World) -> None:
    """Eight digits of a coin times eight of its price: exact to the twelfth, and sent."""
    there = await world.destination()
    await world.subscribe()
    await world.service.set_instrument(world.school.admin, "BTCUSD", "1", "USD")
    coin = {"entry_price": "0.00000001", "exit_price": "65000.12345678", "volume": "0.12345678"}
    await world.closed(instrument="BTCUSD", **coin, profit_net=None, currency=None)

    assert await world.work_off(MINUTE * 5) == {"delivered": 1}
    assert json.loads(there.bodies[0])["data"]["profit_gross"] == "8024.705941575293"


async def test_f1_a_repeat_is_the_same_though_its_profit_was_worked_out(world: World) -> None:
    """A statement that is imported again after the table came is no other trade."""
    id_, service = uuid4(), world.school.service
    given = trade(world.now, instrument="XAUUSD", profit_net=None, currency=None)
    await world.service.record(service, given, trade_id=id_)
    await world.service.set_instrument(world.school.admin, "XAUUSD", "100", "USD")

    again = await world.service.record(service, given, trade_id=id_)

    assert again["profit_gross"] is None
    with pytest.raises(Conflict):
        await world.service.record(service, given | {"volume": "0.6"}, trade_id=id_)
    for wrong in (("X", "1", "euro"), ("X", "0", "EUR"), ("no good", "1", "EUR")):
        with pytest.raises(InvalidInput):
            await world.service.set_instrument(world.school.admin, *wrong)


async def test_f1_a_correction_is_a_revision(world: World) -> None:
    """Silent edits; ours adds a revision that is delivered beside the first."""
    there = await world.destination()
    await world.subscribe()
    id_ = await world.closed()
    await world.work_off(MINUTE * 5)
    await world.service.correct(
        world.school.service, id_, {"exit_price": "1.0895"}, expected_revision=1
    )
    await world.work_off(MINUTE * 5)

    sent = [json.loads(body)["data"] for body in there.bodies]
    assert [(one["revision"], one["exit_price"]) for one in sent] == [(1, "1.09"), (2, "1.0895")]
    assert sent[0]["trade_ref"] == sent[1]["trade_ref"]
    found = await world.service.trade(world.school.service, id_)
    assert [one["revision"] for one in found["revisions"]] == [1, 2]


async def test_f2_paper_is_marked(world: World) -> None:
    """Simulated results carried no mark; ours say so, beside each."""
    there = await world.destination()
    await world.subscribe()
    await world.closed(mode="paper")
    await world.work_off(MINUTE * 5)

    said = json.loads(there.bodies[0])["data"]
    assert (said["mode"], said["disclaimer"]) == ("paper", "hypothetical")


async def test_f3_metrics_are_true(world: World) -> None:
    """A constant was observed as a duration, a failure as a push; ours are what happened."""
    from prometheus_client import REGISTRY

    def value(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, labels) or 0.0

    name = f"place-{uuid4()}"
    await world.destination(name, sink=Scripted([BUSY, OK]))
    await world.subscribe(name)
    await world.closed()
    await world.work_off(MINUTE * 5)
    await world.work_off(MINUTE)

    assert value("trust_traces_pushed_total", adapter=name, status="retry") == 1
    assert value("trust_traces_pushed_total", adapter=name, status="delivered") == 1
    assert value("trust_trace_fail_total", adapter=name, reason="http_503") == 1
    assert value("trust_trace_delay_seconds_sum", adapter=name) == 60


async def test_f3_coverage_counts_losers_too(world: World) -> None:
    """n of m closed trades were delivered, whatever they came to."""
    await world.closed(exit_price="1.07", profit_net="-510")  # before the consent
    await ready(world)
    await world.closed(user_id="user-bob")  # whose account has the same name
    await world.work_off(MINUTE * 5)

    found, of_bob = await world.service.coverage(
        world.school.admin, since=world.now - timedelta(days=1), until=world.now
    )
    assert (found["user_id"], found["closed"], found["delivered"]) == ("user-ada", 2, 1)
    assert (of_bob["user_id"], of_bob["closed"], of_bob["delivered"]) == ("user-bob", 1, 0)


# --- G: smaller ---------------------------------------------------------------------------------


async def test_g1_a_wrong_id_is_refused_and_a_repeat_is_once(world: World) -> None:
    """An empty id was accepted; ours names what is wrong, and a repeat records nothing."""
    for wrong in ({"user_id": ""}, {"account_id": ""}, {"instrument": ""}, {"private": {"x": "y"}}):
        with pytest.raises(InvalidInput):
            await world.closed(**wrong)
    id_, given = uuid4(), trade(world.now)
    for _ in range(2):
        await world.service.record(world.school.service, given, trade_id=id_)
    async with world.onefold.uow.read() as tx:
        from onefold_server.domains.trades.tables import trades as trades_table

        assert len((await tx.execute(select(trades_table))).all()) == 1
