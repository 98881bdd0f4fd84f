"""An application as a user writes it, over one database that is its broker too."""

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, String, Table, text

from onefold import Onefold
from onefold.adapters.sql.deadlines import SqlDeadlines
from onefold.adapters.sql.guard import sql_guard
from onefold.core.envelope import Event
from onefold.engine.delivery import HandlerTransaction, SyncTransaction
from onefold.errors import InvalidSetting

WAIT_S = 15
NEVER = datetime(9000, 1, 1, tzinfo=UTC)


async def rows(app: Onefold) -> list[str]:
    """The effects there are, by the ids of their events."""
    async with app.uow.read() as tx:
        found = await tx.execute(text("SELECT id FROM effects ORDER BY id"))
        return list(found.scalars())


async def prepared(app: Onefold) -> None:
    """A table for effects that refuses a second one."""
    async with app.uow.begin() as tx:
        await tx.execute(text("CREATE TABLE effects (id VARCHAR(80) PRIMARY KEY)"))


def _effects() -> Table:
    return Table("effects", MetaData(), Column("id", String(80), primary_key=True))


def effect(id_: str) -> Any:
    """The statement that is the effect."""
    return text("INSERT INTO effects VALUES (:id)").bindparams(id=id_)


async def test_an_event_goes_through_two_consumers_once(database_url: str) -> None:
    """Published twice under one id, it has one effect, and what that publishes arrives."""
    app, arrived = Onefold(database_url), asyncio.Event()

    @app.consumer("orders.placed", name="reserve")
    async def reserve(event: Event, tx: HandlerTransaction) -> None:
        await tx.execute(effect(event.id))
        await tx.publish("stock.reserved", {"order": event.id})

    @app.consumer("stock.reserved", name="tell")
    async def tell(event: Event, tx: HandlerTransaction) -> None:
        await tx.execute(effect(f"told {event.data['order']}"))
        assert event.causation_id == "order-1"
        arrived.set()

    async with app.running() as worker:
        await prepared(app)
        await app.publish("orders.placed", {}, id="order-1")
        await app.publish("orders.placed", {}, id="order-1")
        await asyncio.wait_for(arrived.wait(), WAIT_S)
        await worker.drain()
        assert await rows(app) == ["order-1", "told order-1"]


async def test_a_plain_function_is_a_handler_too(sqlite_url: str) -> None:
    """It runs in a thread, and its writes are in the same transaction."""
    app, done = Onefold(sqlite_url), asyncio.Event()
    loop = asyncio.get_running_loop()

    @app.consumer("t", name="plain")
    def plain(event: Event, tx: SyncTransaction) -> None:
        tx.execute(effect(event.id))
        loop.call_soon_threadsafe(done.set)

    async with app.running() as worker:
        await prepared(app)
        await app.publish("t", {}, id="one")
        await asyncio.wait_for(done.wait(), WAIT_S)
        await worker.drain()
        assert await rows(app) == ["one"]


async def test_a_plain_function_can_do_all_that_an_async_one_can(database_url: str) -> None:
    """New rows, events and deadlines commit with it; it sees the message it came in."""
    app, done, new = Onefold(database_url), asyncio.Event(), list[object]()
    effects = _effects()

    @app.consumer("t", name="plain")
    def plain(event: Event, tx: SyncTransaction) -> None:
        assert tx.message is not None
        new.append(tx.insert_new(effects, [{"id": event.id}, {"id": tx.message.partition.topic}]))
        tx.schedule("remind", event.id, due_at=tx.now, payload={"by": tx.consumer})
        tx.publish("told", {}, key=event.id)

    @app.consumer("told", name="hear")
    async def hear(event: Event, tx: HandlerTransaction) -> None:
        new.append(event.key)
        done.set()

    async with app.running() as worker:
        await prepared(app)
        await app.publish("t", {}, id="one")
        await asyncio.wait_for(done.wait(), WAIT_S)
        await worker.drain()
        due = await SqlDeadlines(app.uow).due("remind", now=NEVER, limit=9)
        assert (new, await rows(app)) == ([{("one",), ("t",)}, "one"], ["one", "t"])
        assert [(one.key, one.payload) for one in due] == [("one", {"by": "plain"})]


async def test_a_batch_handler_gets_a_polls_events_together(sqlite_url: str) -> None:
    """It writes them set-based, each once."""
    app, done = Onefold(sqlite_url), asyncio.Event()

    @app.batch_consumer("t", name="all at once")
    async def together(events: list[Event], tx: HandlerTransaction) -> None:
        for event in events:
            await tx.execute(effect(event.id))
        if any(event.id == "9" for event in events):
            done.set()

    async with app.running() as worker:
        await prepared(app)
        for number in range(10):
            await app.publish("t", {}, key="k", id=str(number))
        await asyncio.wait_for(done.wait(), WAIT_S)
        await worker.drain()
        assert await rows(app) == [str(number) for number in range(10)]


async def test_a_dead_letter_is_applied_when_its_replay_is_asked_for(sqlite_url: str) -> None:
    """A message that could not succeed can, once its cause is gone, and counts once."""
    app, failed, done = Onefold(sqlite_url), asyncio.Event(), asyncio.Event()
    broken = [True]

    @app.consumer("t", name="mended later", max_attempts=1)
    async def handler(event: Event, tx: HandlerTransaction) -> None:
        if broken:
            failed.set()
            raise ValueError("not yet")
        await tx.execute(effect(event.id))
        done.set()

    async with app.running() as worker:
        await prepared(app)
        await app.publish("t", {}, id="one")
        await asyncio.wait_for(failed.wait(), WAIT_S)
        await _until_parked(app)
        broken.clear()
        (letter,) = await app.ledger.letters(state="parked")
        now = app.env.clock.now()
        await app.ledger.move([letter["id"]], to="asked", note="mended", now=now)
        await asyncio.wait_for(done.wait(), WAIT_S)
        await worker.drain()
        (letter,) = await app.ledger.letters()
        assert (await rows(app), letter["state"]) == (["one"], "replayed")


async def _until_parked(app: Onefold) -> None:
    async with asyncio.timeout(WAIT_S):
        while not await app.ledger.letters(state="parked"):
            pass  # asking lets the worker go on


def test_names_are_taken_once_and_brokers_too(sqlite_url: str) -> None:
    """What would apply events under a wrong name is refused at once."""
    app = Onefold(sqlite_url)
    app.consumer("t", name="c")(lambda event, tx: None)

    with pytest.raises(InvalidSetting, match="already"):
        app.consumer("u", name="c")(lambda event, tx: None)
    with pytest.raises(InvalidSetting, match="no topic"):
        app.consumer(name="d")(lambda event, tx: None)
    with pytest.raises(InvalidSetting, match="give one of"):
        Onefold(sqlite_url, kafka="localhost:9092", valkey="valkey://localhost")


async def test_records_of_every_kind_work_in_an_application(database_url: str) -> None:
    """Each mode counts an event once that is delivered once, over the database as broker."""
    app, told, done = Onefold(database_url), list[str](), asyncio.Event()
    guard = sql_guard(app.database)

    def tell(name: str) -> None:
        told.append(name)
        if len(told) == 4:
            done.set()

    for record in ("transaction", "optimistic", "watermark"):

        @app.consumer("t", name=record, record=record)
        async def write(event: Event, tx: HandlerTransaction) -> None:
            await tx.execute(effect(f"{tx.consumer} {event.id}"))
            tell(tx.consumer)

    @app.consumer("t", name="lease", record="lease", guard=guard)
    def mail(event: Event, tx: SyncTransaction) -> None:
        assert tx.fence > 0
        loop.call_soon_threadsafe(tell, "lease")

    loop = asyncio.get_running_loop()
    async with app.running() as worker:
        await prepared(app)
        await app.publish("t", {}, id="one")
        await asyncio.wait_for(done.wait(), WAIT_S)
        await worker.drain()
        assert await rows(app) == ["optimistic one", "transaction one", "watermark one"]
        assert sorted(told) == ["lease", "optimistic", "transaction", "watermark"]


def test_a_record_that_the_broker_does_not_allow_is_refused(sqlite_url: str) -> None:
    """At registration: Valkey's streams deliver again out of order."""
    app = Onefold(sqlite_url, valkey="valkey://localhost")

    with pytest.raises(InvalidSetting, match="use record='transaction'"):
        app.consumer("t", name="c", record="watermark")(lambda event, tx: None)


class Ear(logging.Handler):
    """Collects the failures of one consumer."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []
        self.heard = asyncio.Event()

    def emit(self, record: logging.LogRecord) -> None:
        if "a step of consumer reserve failed" in record.getMessage():
            self.records.append(record)
            self.heard.set()


async def test_a_broker_that_is_away_costs_a_line_and_no_traceback(sqlite_url: str) -> None:
    """What waiting mends is told in one line each time, with where the broker should be."""
    app = Onefold(sqlite_url, valkey="valkey://127.0.0.1:9")  # nobody listens there

    @app.consumer("orders", name="reserve")
    async def reserve(event: Event, tx: HandlerTransaction) -> None:
        """Never called."""

    ear = Ear()
    logging.getLogger("onefold.engine").addHandler(ear)
    try:
        async with app.running():
            await asyncio.wait_for(ear.heard.wait(), WAIT_S)
    finally:
        logging.getLogger("onefold.engine").removeHandler(ear)

    assert [record.exc_info for record in ear.records] == [None] * len(ear.records)
    assert all("127.0.0.1:9" in record.getMessage() for record in ear.records)
