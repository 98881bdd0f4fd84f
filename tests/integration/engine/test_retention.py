"""What is over is removed; a record never while its message can still come."""

import asyncio
import math
from collections.abc import AsyncIterator, Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Table, func, insert, select, update
from sqlalchemy.schema import CreateTable
from tests.integration.engine.test_consumer import effects, event, surroundings

from onefold import Onefold
from onefold.adapters.sql.claim_tables import claims, unprotected
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.guard import sql_guard
from onefold.adapters.sql.ledger import SqlLedger
from onefold.adapters.sql.message_tables import messages
from onefold.adapters.sql.outbox import SqlOutbox
from onefold.adapters.sql.retention import SqlRetention
from onefold.adapters.sql.schema import inbox, outbox, spans, starts
from onefold.adapters.sql.transport import SqlTransport
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.sql.unprotected import SqlUnprotectedLog
from onefold.core.envelope import Event
from onefold.core.wire import encode_native
from onefold.engine.consumer import Consumer, ConsumerSpec
from onefold.engine.delivery import Delivery, HandlerTransaction
from onefold.engine.failure_policy import Park
from onefold.engine.relay import Relay
from onefold.engine.retention import Keeps, RetentionLoop, short_keeps
from onefold.errors import StoreUnavailable
from onefold.ports.guard import Claim, ClaimKey, Confirmation
from onefold.ports.retention import Retention, RetentionKind
from onefold.ports.transport import Outgoing, Partition
from onefold.ports.unit_of_work import InboxClaim
from onefold.ports.unprotected import Unprotected
from onefold.testing.clock import ManualClock

DAY = timedelta(days=1)
TOPIC = "orders.placed"


async def apply(event: Event, tx: HandlerTransaction) -> None:
    """The effect; every event of number 13 can never succeed."""
    if event.data["n"] == 13:
        raise Park("thirteen")
    await tx.execute(insert(effects).values(number=event.data["n"], position=0))


class House:
    """One database that is the broker too, under one clock."""

    def __init__(self, url: str, clock: ManualClock) -> None:
        self.clock, self.database = clock, Database(url)
        self.uow = SqlUnitOfWork(self.database)
        self.storeroom = SqlRetention(self.uow)
        self.transport = SqlTransport(self.uow, partitions=1, lease_s=3600, clock=clock)
        self.ledger = SqlLedger(self.uow)
        self.spec = ConsumerSpec(name="c", topics=(TOPIC,), handler=apply)

    def keeper(self, storeroom: Retention | None = None, **keeps: Any) -> RetentionLoop:
        """Housekeeping for the consumer."""
        return RetentionLoop(
            storeroom or self.storeroom,
            self.transport,
            specs=[self.spec],
            keeps=Keeps(**keeps),
            clock=self.clock,
        )

    async def clean(self, **keeps: Any) -> None:
        """Remove all that is over now."""
        keeper = self.keeper(**keeps)
        while await keeper.step():
            pass

    async def consumer(self) -> Consumer:
        """A member of the group."""
        return Consumer(
            self.spec,
            subscription=await self.transport.subscribe("c", [TOPIC]),
            uow=self.uow,
            ledger=self.ledger,
            env=surroundings(self.clock),
            poll_s=5,
        )

    async def handled(self, consumer: Consumer, count: int) -> None:
        """Step until so many messages are dealt with."""
        counts = consumer.counts
        while counts.applied + counts.repeated + counts.parked < count:
            await consumer.step()

    async def send(self, *numbers: int) -> None:
        """Send events of these numbers; the same number is the same event."""
        sent = [
            Outgoing(topic=TOPIC, key=b"k", value=encode_native(self.event(n))) for n in numbers
        ]
        assert list(await self.transport.publish(sent)) == [None] * len(numbers)

    def event(self, number: int) -> Event:
        """The event of that number, the same on every day."""
        return event(ManualClock(), number)

    async def count(self, table: Table) -> int:
        """How many rows there are."""
        async with self.uow.read() as tx:
            return int((await tx.execute(select(func.count()).select_from(table))).scalar_one())

    async def write(self, *statements: Any) -> None:
        """Run statements in one transaction."""
        async with self.uow.begin() as tx:
            for statement in statements:
                await tx.execute(statement)


@pytest.fixture
async def house(database_url: str, clock: ManualClock) -> AsyncIterator[House]:
    built = House(database_url, clock)
    async with built.uow.begin() as tx:
        await tx.execute(CreateTable(effects))
    yield built
    await built.transport.aclose()
    await built.uow.aclose()


async def test_a_record_is_forgotten_when_its_time_is_over(house: House) -> None:
    """Not a moment earlier, and at most a batch a time."""
    consumer = await house.consumer()
    await house.send(*range(5))
    await house.handled(consumer, 5)

    house.clock.advance(14 * DAY - timedelta(seconds=1))
    await house.clean()
    before = await house.count(inbox)
    house.clock.advance(timedelta(seconds=1))
    more = await house.keeper(batch=2).step()
    during = await house.count(inbox)
    await house.clean(batch=2)

    assert (before, more, during, await house.count(inbox)) == (5, True, 3, 0)


async def test_each_event_type_has_its_own_time(house: House) -> None:
    """`keep` by type is written with the record, and holds whoever cleans up."""
    spec = ConsumerSpec(
        name="c", topics=(TOPIC,), handler=apply, keep={TOPIC: 2 * DAY}, default_keep=5 * DAY
    )
    now = house.clock.now()
    async with house.uow.begin() as tx:
        of_types = [InboxClaim(t, b"", spec.keep_for(t)) for t in (TOPIC, "other")]
        await tx.claim_many("c", of_types, now=now)

    left = []
    for _ in range(2):
        house.clock.advance(3 * DAY)
        await house.clean()
        left.append(await house.count(inbox))

    assert left == [1, 0]


async def test_records_of_other_processes_consumers_stay(house: House) -> None:
    """Who does not know where a consumer's messages come from does not forget for it."""
    async with house.uow.begin() as tx:
        await tx.claim("somebody else", "e", now=house.clock.now())
    house.clock.advance(400 * DAY)

    await house.clean()

    assert await house.count(inbox) == 1


async def test_a_record_stays_while_its_message_is_unsettled(house: House) -> None:
    """Applied, not settled, and away for a month: what comes again is still a repeat."""
    dying = await house.consumer()
    await house.send(1, 2)
    deliveries = await dying._subscription.receive(max_messages=9, wait_s=5)
    await dying._apply([Delivery.of(message) for message in deliveries])  # and dies unsettled
    house.clock.advance(30 * DAY)

    await house.clean()
    heir = await house.consumer()
    await house.handled(heir, 2)

    assert await house.count(inbox) == 2
    assert (heir.counts.applied, heir.counts.repeated) == (0, 2)
    await house.clean()
    assert await house.count(inbox) == 0  # now that they are settled


async def test_a_record_stays_while_a_letter_of_its_event_is_parked(house: House) -> None:
    """A letter is replayed under the event's own id, however late somebody asks."""
    consumer = await house.consumer()
    await house.send(13)
    await house.handled(consumer, 1)
    async with house.uow.begin() as tx:  # sent again and applied after all
        await tx.claim("c", house.event(13).identity, now=house.clock.now())
    house.clock.advance(30 * DAY)

    await house.clean()
    during = await house.count(inbox)
    (letter,) = await house.ledger.letters()
    await house.ledger.move([letter["id"]], to="discarded", note="", now=house.clock.now())
    await house.clean()

    assert (during, await house.count(inbox)) == (1, 0)


async def test_a_record_stays_while_its_event_may_be_sent_again(house: House) -> None:
    """A relay died between sending and marking, and its successor comes a month later."""
    async with house.uow.begin() as tx:
        await tx.publish(house.event(1), now=house.clock.now())
    consumer = await house.consumer()
    await house.send(1)  # as the relay did before it died
    await house.handled(consumer, 1)
    house.clock.advance(30 * DAY)

    await house.clean()
    relay = Relay(SqlOutbox(house.uow), house.transport, owner="r", env=surroundings(house.clock))
    await relay.step()
    await house.handled(consumer, 2)

    assert (consumer.counts.applied, consumer.counts.repeated) == (1, 1)


class ForgetsByAgeAlone(SqlRetention):
    """The twin: a record goes when its time is over, whatever is still to come."""

    async def forget(self, horizons: Any, *, now: datetime, limit: int) -> int:
        return await super().forget(dict.fromkeys(horizons), now=now, limit=limit)


async def test_the_twin_that_forgets_by_age_alone_is_caught(house: House) -> None:
    """A time shorter than the redelivery doubles the effect: the test above finds that."""
    dying = await house.consumer()
    await house.send(1)
    received = await dying._subscription.receive(max_messages=9, wait_s=5)
    await dying._apply([Delivery.of(message) for message in received])
    house.clock.advance(30 * DAY)

    await house.keeper(ForgetsByAgeAlone(house.uow)).step()
    heir = await house.consumer()
    while not heir.counts.retried:
        await heir.step()

    # It was applied again: the effect's own key refused it, which few effects have.
    assert heir.counts.repeated == 0
    assert await house.count(effects) == 1


async def test_a_time_shorter_than_the_brokers_is_told_by_name(house: House) -> None:
    """Consumer, topic, and both times; what cannot be read is left out."""

    class Keeps7Days(SqlTransport):
        async def retention_s(self, topic: str) -> float:
            if topic == "unknown":
                raise StoreUnavailable("no such topic")
            return 7 * 86_400.0

    broker = Keeps7Days(house.uow)
    specs = [
        ConsumerSpec(name="long", topics=("t",), handler=apply),
        ConsumerSpec(name="short", topics=("t", "unknown"), handler=apply, keep=DAY),
        ConsumerSpec(name="one type", topics=("t",), handler=apply, keep={"x": DAY}),
    ]

    found = await short_keeps(specs, broker)

    assert [(one.consumer, one.topic) for one in found] == [("short", "t"), ("one type", "t")]
    assert "'short' forgets events of 't' after 86400 s" in str(found[0])


async def test_a_worker_warns_when_it_starts(
    sqlite_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Before the first message that would be forgotten too soon."""

    class ForEver(SqlTransport):
        async def retention_s(self, topic: str) -> float:
            return math.inf

    uow = SqlUnitOfWork(Database(sqlite_url))
    app = Onefold(sqlite_url, transport=ForEver(uow))
    app.consumer(TOPIC, name="forgetful")(apply)
    async with app.running() as worker:
        await worker.drain()
    await uow.aclose()

    assert "'forgetful' forgets events of 'orders.placed' after 1209600 s" in caplog.text
    assert "keeps them for ever" in caplog.text


async def _sent(house: House, *numbers: int) -> None:
    """Publish events of these numbers and send them."""
    async with house.uow.begin() as tx:
        await tx.publish(*map(house.event, numbers), now=house.clock.now())
    env = surroundings(house.clock)
    relay = Relay(SqlOutbox(house.uow), house.transport, owner="r", env=env)
    while await relay.step():
        pass


async def test_sent_events_go_and_unsent_ones_stay(house: House) -> None:
    """What was not sent is kept however old; what was sent, for its time."""
    await _sent(house, 1, 2)
    async with house.uow.begin() as tx:
        await tx.publish(house.event(3), now=house.clock.now())
    house.clock.advance(6 * DAY)
    async with house.uow.begin() as tx:
        await tx.publish(house.event(4), now=house.clock.now())
    await house.write(
        update(outbox).where(outbox.c.position == 4).values(sent_at=house.clock.now())
    )
    house.clock.advance(1 * DAY)

    await house.clean()

    async with house.uow.read() as tx:
        left = (await tx.execute(select(outbox.c.position).order_by(outbox.c.position))).scalars()
        assert list(left) == [3, 4]


async def test_abandoned_claims_go_and_live_ones_stay(house: House) -> None:
    """Released, expired or completed: each after its time, counted from its end."""
    guard, now = sql_guard(house.database), house.clock.now()
    keys = [Claim(ClaimKey("c", "", name), b"") for name in ("released", "expired", "done", "held")]
    leases = await guard.claim(keys, owner="w", now=now, lease=DAY)
    await guard.release([leases[0]], now=now)  # type: ignore[list-item]
    await guard.confirm([Confirmation(leases[2])], now=now, keep=5 * DAY)  # type: ignore[arg-type]
    await guard.renew([leases[3]], now=now, lease=60 * DAY)  # type: ignore[list-item]

    left = []
    for _ in range(3):
        house.clock.advance(7 * DAY)
        await house.clean()
        left.append(await house.count(claims))

    assert left == [3, 3, 1]


async def test_letters_that_are_dealt_with_go_and_parked_ones_stay(house: House) -> None:
    """Nobody's decision is taken for them by time."""
    consumer = await house.consumer()
    for number in range(2):
        message = Outgoing(topic=TOPIC, key=None, value=b"\xff%d" % number)
        await house.transport.publish([message])
    await house.handled(consumer, 2)
    first, _ = await house.ledger.letters()
    await house.ledger.move([first["id"]], to="discarded", note="", now=house.clock.now())
    house.clock.advance(100 * DAY)

    await house.clean()

    assert [row["state"] for row in await house.ledger.letters()] == ["parked"]


async def test_notes_and_messages_go(house: House) -> None:
    """Spans, starts, settled runs without a guard, and what every group has read."""
    consumer = await house.consumer()
    await house.send(1, 2)
    await house.handled(consumer, 2)
    now = house.clock.now()
    await house.ledger.count("c", Partition(TOPIC, 0), 1, token="t", now=now)
    log = SqlUnprotectedLog(house.uow)
    settled, open_ = (ClaimKey("c", "", name) for name in ("settled", "open"))
    for key in (settled, open_):
        await log.note(Unprotected(key=key, fingerprint=b"", processed_at=now))
    await log.settle([settled], now=now)
    before = [await house.count(t) for t in (spans, starts, unprotected, messages)]
    house.clock.advance(15 * DAY)

    await house.clean()

    assert before == [1, 1, 2, 2]
    assert [await house.count(t) for t in (spans, starts, unprotected, messages)] == [0, 0, 1, 0]


async def test_two_that_clean_at_once_remove_each_row_once(house: House) -> None:
    """On connections of their own; together they remove all, and neither waits for long."""
    now = house.clock.now()
    async with house.uow.begin() as tx:
        ids = [f"e{n:04}" for n in range(400)]
        await tx.claim_many("c", [InboxClaim(id_, b"") for id_ in ids], now=now)
    house.clock.advance(20 * DAY)
    other = SqlUnitOfWork(Database(str(house.database.writer.url.render_as_string(False))))
    stores: Sequence[SqlRetention] = [house.storeroom, SqlRetention(other)]

    async def clean(storeroom: SqlRetention) -> int:
        removed = 0
        while more := await storeroom.forget({"c": None}, now=house.clock.now(), limit=30):
            removed += more
        return removed

    removed = await asyncio.gather(*map(clean, stores))
    await other.aclose()

    assert sum(removed) == 400
    assert await house.count(inbox) == 0


async def test_one_kind_that_fails_holds_up_no_other(house: House) -> None:
    """A broker that does not answer keeps the database's rows from nothing."""

    class Away(SqlTransport):
        async def trim(self, *_: Any, **__: Any) -> int:
            raise StoreUnavailable("away")

    await _sent(house, 1)
    house.clock.advance(30 * DAY)
    house.transport = Away(house.uow)

    await house.clean()

    assert await house.count(outbox) == 0


async def test_nothing_is_removed_by_a_kind_that_has_nothing(house: House) -> None:
    """Every kind may be asked of an empty database."""
    now = house.clock.now()

    assert [await house.storeroom.remove(kind, before=now, limit=5) for kind in RetentionKind] == [
        0
    ] * len(RetentionKind)
