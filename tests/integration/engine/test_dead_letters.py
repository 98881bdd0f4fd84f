"""Dead letters: found, grouped, replayed at a rate, discarded, told in a topic of their own."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from tests.integration.engine.test_consumer import World, event, send
from tests.support import WatchedUnitOfWork
from typer.testing import CliRunner

from onefold.adapters.memory.outbox import MemoryOutbox
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.dead_letters import SqlDeadLetters
from onefold.adapters.sql.ledger import SqlLedger
from onefold.adapters.sql.outbox import SqlOutbox
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.sql.watermarks import SqlWatermarks
from onefold.core.envelope import Event
from onefold.engine.delivery import HandlerTransaction
from onefold.engine.failure_policy import Park
from onefold.engine.relay import Routes
from onefold.errors import OnefoldError
from onefold.ports.dead_letters import Wanted
from onefold.ports.ledger import DeadLetter
from onefold.ports.transport import Outgoing, Partition
from onefold.testing.clock import ManualClock
from onefold.testing.crash.points import Crash
from onefold_server.cli.main import app

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.fixture
async def letters(database_url: str) -> AsyncIterator[SqlDeadLetters]:
    """Two causes, one of them with three letters."""
    uow = SqlUnitOfWork(Database(database_url))
    ledger = SqlLedger(uow)
    causes = [("mail", "smtp", 3), ("stock", "undecodable", 1)]
    async with uow.begin() as tx:
        for consumer, reason, number in causes:
            for position in range(number):
                letter = DeadLetter(
                    consumer=consumer,
                    partition=Partition("orders", 0),
                    position=position,
                    event_id=f"{consumer}-{position}",
                    event_type="order.placed",
                    key=None,
                    value=b"\xff",
                    headers=(("tenant", "Zürich".encode()), ("blob", b"\xff\x00")),
                    reason=reason,
                    detail=f"{reason} {position}",
                    attempts=5,
                    parked_at=NOON + timedelta(minutes=position),
                )
                await ledger.park(tx, letter)
    yield SqlDeadLetters(uow)
    await uow.aclose()


def dead(url: str, *arguments: str, fails: bool = False) -> Any:
    """What `onefold dead …` answers, decoded; or, when it *fails*, its one line."""
    done = CliRunner().invoke(app, ["dead", *arguments, "--database", url])
    if done.exception and not isinstance(done.exception, SystemExit | OnefoldError):
        raise done.exception
    assert (done.exit_code != 0) is fails, done.output
    return done.output if fails else json.loads(done.stdout)


@pytest.mark.usefixtures("letters")
def test_letters_are_filtered_and_grouped_by_cause(database_url: str) -> None:
    """Many letters of one cause are one line to read."""
    causes = dead(database_url, "causes", "--json")
    listed = dead(database_url, "list", "--reason", "smtp", "--limit", "2", "--json")

    assert [(c["consumer"], c["reason"], c["letters"]) for c in causes] == [
        ("mail", "smtp", 3),
        ("stock", "undecodable", 1),
    ]
    assert causes[0]["first"] < causes[0]["last"]
    assert [row["position"] for row in listed] == [0, 1]
    assert dead(database_url, "list", "--type", "other", "--json") == []


@pytest.mark.usefixtures("letters")
def test_one_letter_is_shown_whole(database_url: str) -> None:
    """Its bytes in hexadecimal where they are no text; an id that is not there is told."""
    (row,) = dead(database_url, "list", "--consumer", "stock", "--json")

    assert dead(database_url, "show", row["id"], "--json")["value"] == "ff"
    assert "no dead letter nobody" in dead(database_url, "show", "nobody", fails=True)


@pytest.mark.usefixtures("letters")
def test_headers_are_shown_as_text(database_url: str) -> None:
    """And in hexadecimal where they are not UTF-8, in the table and as JSON."""
    (row,) = dead(database_url, "list", "--consumer", "stock", "--json")

    shown = dead(database_url, "show", row["id"], "--json")
    table = CliRunner().invoke(app, ["dead", "show", row["id"], "--database", database_url])

    assert shown["headers"] == [["tenant", "Zürich"], ["blob", "ff00"]]
    assert "tenant=Zürich, blob=ff00" in table.stdout


@pytest.mark.usefixtures("letters")
def test_a_list_of_every_state_has_a_column_for_it(database_url: str) -> None:
    """Without it, a discarded letter would look like a waiting one."""
    listing = ["dead", "list", "--database", database_url]

    every = CliRunner().invoke(app, [*listing, "--state", "any"]).stdout.splitlines()
    parked = CliRunner().invoke(app, listing).stdout.splitlines()

    assert every[0].split()[-1] == "state"
    assert [line.split()[-1] for line in every[1:]] == ["parked"] * 4
    assert "state" not in parked[0]


@pytest.mark.usefixtures("letters")
def test_a_dry_run_changes_nothing(database_url: str) -> None:
    """It lists what would be moved."""
    would = dead(database_url, "replay", "--consumer", "mail", "--dry-run", "--json")
    would += dead(database_url, "discard", "--because", "x", "--all", "--dry-run", "--json")

    assert len(would) == 3 + 4
    assert len(dead(database_url, "list", "--json")) == 4


@pytest.mark.usefixtures("letters")
def test_a_change_names_what_it_changes(database_url: str) -> None:
    """No letter moves because a filter was forgotten, and none that is not there."""
    assert "--all" in dead(database_url, "replay", fails=True)
    assert "--all" in dead(database_url, "discard", "--because", "x", fails=True)
    assert "nobody" in dead(database_url, "replay", "nobody", fails=True)
    assert "rate" in dead(database_url, "replay", "--all", "--rate", "0/s", fails=True)


async def test_a_replay_is_spread_at_its_rate(letters: SqlDeadLetters) -> None:
    """Each letter carries when it is due: the command does not wait, nor lose its place."""
    ids = [row["id"] for row in await letters.find(Wanted(consumer="mail"), limit=9)]

    asked = await letters.ask(ids, note="", now=NOON, apart=timedelta(seconds=2))
    again = await letters.ask(ids, note="", now=NOON, apart=timedelta(0))

    rows = await letters.find(Wanted(state="asked"), limit=9)
    assert (asked, again) == (ids, [])
    assert [(row["moved_at"] - NOON).total_seconds() for row in rows] == [0, 2, 4]


@pytest.mark.usefixtures("letters")
def test_a_discarded_letter_keeps_its_reason(database_url: str) -> None:
    """It is not replayed by a later call that names all."""
    (row,) = dead(database_url, "list", "--consumer", "stock", "--json")

    dead(database_url, "discard", row["id"], "--because", "a test of the sender", "--json")
    dead(database_url, "replay", "--all", "--rate", "60/m", "--json")

    shown = dead(database_url, "show", row["id"], "--json")
    assert (shown["state"], shown["note"]) == ("discarded", "a test of the sender")
    assert len(dead(database_url, "list", "--state", "asked", "--json")) == 3


async def test_the_worker_replays_what_is_due(world: World) -> None:
    """At the rate that was asked for, and what succeeds is replayed once."""
    broken = [True]

    async def handler(event: Event, tx: HandlerTransaction) -> None:
        if broken:
            raise Park("down")
        await world.note(event, tx)

    consumer = await world.consumer(handler)
    await send(world.transport, *(event(world.clock, n) for n in range(3)))
    await consumer.drain()
    broken.clear()
    parked = await world.ledger.letters(state="parked")
    for late, letter in enumerate(parked):
        due = world.clock.now() + timedelta(seconds=late)
        await world.ledger.move([letter["id"]], to="asked", note="", now=due)

    replayed = []
    for _ in range(3):
        replayed.append(await consumer.replay_asked())
        world.clock.advance(timedelta(seconds=1))

    assert replayed == [1, 1, 1]
    assert len(await world.effects()) == 3


async def test_a_parked_message_goes_to_its_dead_topic(world: World) -> None:
    """Raw bytes as they came, the reason in the headers, once however often it is parked."""
    consumer = await world.consumer(world.note, dlq=True)
    raw = Outgoing(topic="orders.placed", key=b"k", value=b"\xff{", headers=[("h", b"\x00")])
    await world.transport.publish([raw])
    await consumer.drain()

    published = await _unsent(world)

    (told,) = [Routes().outgoing(one) for one in published]
    headers = dict(told.headers)
    assert (told.topic, told.key, told.value) == ("orders.placed.dlq", b"k", b"\xff{")
    assert headers["ce_deadreason"] == b"undecodable"
    assert (headers["ce_deadtopic"], headers["ce_deadposition"]) == (b"orders.placed", b"0")
    assert "h" in headers["ce_onefoldextra"].decode()


async def test_parking_and_telling_are_one(database_url: str, clock: ManualClock) -> None:
    """A process that dies between them has done neither, and its successor does both."""

    async def dies(call: str, _: Any) -> None:
        if call == "publish":
            raise Crash("here")

    uow = SqlUnitOfWork(Database(database_url))
    ledger = SqlLedger(uow)
    world = World(clock, WatchedUnitOfWork(uow, dies), ledger, SqlWatermarks())
    mortal = await world.consumer(world.note, dlq=True)
    await world.transport.publish([Outgoing(topic="orders.placed", key=None, value=b"\xff")])
    with pytest.raises(Crash):
        await mortal.step()
    after_death = [*await ledger.letters(), *await SqlOutbox(uow).unsent(limit=9)]
    await mortal._subscription.close()

    world.uow = uow
    heir = await world.consumer(world.note, dlq=True)
    await heir.drain()

    assert after_death == []
    assert len(await ledger.letters()) == len(await SqlOutbox(uow).unsent(limit=9)) == 1
    await uow.aclose()


async def test_without_the_option_nothing_is_published(world: World) -> None:
    """A dead letter is in the database either way."""
    consumer = await world.consumer(world.note)
    await world.transport.publish([Outgoing(topic="orders.placed", key=None, value=b"\xff")])
    await consumer.drain()

    assert await _unsent(world) == []
    assert len(await world.ledger.letters()) == 1


async def _unsent(world: World) -> list[Event]:
    if isinstance(world.uow, MemoryUnitOfWork):
        return list(await MemoryOutbox(world.uow).unsent(limit=9))
    return list(await SqlOutbox(world.uow).unsent(limit=9))
