"""`onefold verify`, `explain` and `reconcile`, on healthy stores and on ones made sick."""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Column, MetaData, String, Table, delete, insert, select, update
from sqlalchemy.schema import CreateTable
from tests.integration.engine.test_consumer import surroundings
from typer.testing import CliRunner

from onefold.adapters.sql.audit import SqlAudit
from onefold.adapters.sql.claim_tables import claims
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.dead_letters import SqlDeadLetters
from onefold.adapters.sql.ledger import SqlLedger
from onefold.adapters.sql.message_tables import shares
from onefold.adapters.sql.outbox import SqlOutbox
from onefold.adapters.sql.schema import deadlines, inbox, outbox, relay_shards, spans
from onefold.adapters.sql.transport import SqlTransport
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.sql.unprotected import SqlUnprotectedLog
from onefold.core.envelope import Event
from onefold.engine.consumer import Consumer, ConsumerSpec
from onefold.engine.delivery import HandlerTransaction
from onefold.engine.failure_policy import Park
from onefold.engine.relay import Relay
from onefold.errors import InvalidInput, OnefoldError
from onefold.ports.audit import Check, Severity
from onefold.ports.guard import ClaimKey
from onefold.ports.ledger import DeadLetter
from onefold.ports.transport import Partition
from onefold.ports.unprotected import Unprotected
from onefold.testing.clock import ManualClock
from onefold_server.cli.main import app

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
TOPIC = "orders.placed"
MARKERS = {"c": "effects.event_id"}
effects = Table("effects", MetaData(), Column("event_id", String(36)))


async def apply(event: Event, tx: HandlerTransaction) -> None:
    """The effect leaves its marker; number 13 can never succeed."""
    if event.data["n"] == 13:
        raise Park("thirteen")
    await tx.execute(insert(effects).values(event_id=event.identity))


class Store:
    """A store in which a consumer worked, and a relay."""

    def __init__(self, url: str, clock: ManualClock) -> None:
        self.url, self.clock = url, clock
        self.database = Database(url)
        self.uow = SqlUnitOfWork(self.database)
        self.transport = SqlTransport(self.uow, partitions=1, clock=clock)

    async def work(self) -> None:
        """Publish six events of one key, send five, apply all that were sent."""
        async with self.uow.begin() as tx:
            await tx.execute(CreateTable(effects))
        await self.publish(1, 2, 3, 4, 5)
        env = surroundings(self.clock)
        relay = Relay(SqlOutbox(self.uow), self.transport, owner="r", env=env)
        while await relay.step():
            pass
        await self.publish(6)
        spec = ConsumerSpec(name="c", topics=(TOPIC,), handler=apply)
        subscription = await self.transport.subscribe("c", [TOPIC])
        ledger = SqlLedger(self.uow)
        consumer = Consumer(
            spec,
            subscription=subscription,
            uow=self.uow,
            ledger=ledger,
            env=env,
            poll_s=5,
        )
        while consumer.counts.applied < 5:
            await consumer.step()
        await subscription.close()

    async def publish(self, *numbers: int) -> None:
        """Write events of these numbers to the outbox."""
        now = self.clock.now()
        random = surroundings(self.clock, seed=numbers[0]).random
        facts: dict[str, Any] = {"source": "shop", "key": "k", "now": now, "random": random}
        async with self.uow.begin() as tx:
            await tx.publish(*(Event.new(TOPIC, {"n": n}, **facts) for n in numbers), now=now)

    async def write(self, *statements: Any) -> None:
        """Change the store behind everybody's back."""
        async with self.uow.begin() as tx:
            for statement in statements:
                await tx.execute(statement)

    async def sick(self, markers: dict[str, str] | None = None) -> dict[str, Check]:
        """What an audit finds, by the check's name."""
        audit = SqlAudit(self.uow)
        given = MARKERS if markers is None else markers
        checks = await audit.run(now=self.clock.now(), markers=given, depth=100)
        return {check.name: check for check in checks if check.found}

    async def aclose(self) -> None:
        """Let go of it."""
        await self.transport.aclose()
        await self.uow.aclose()


@pytest.fixture
async def store(database_url: str, clock: ManualClock) -> AsyncIterator[Store]:
    built = Store(database_url, clock)
    await built.work()
    yield built
    await built.aclose()


Sickness = Callable[[datetime], list[Any]]
first_record = select(inbox.c.event_id).order_by(inbox.c.event_id).limit(1).scalar_subquery()


def _claim(state: str, until: datetime) -> Any:
    facts = {"consumer": "g", "source": "", "event_id": "e", "fence": 1, "owner": "w"}
    return insert(claims).values(**facts, state=state, until=until, attempt=1, fingerprint=b"")


SICKNESSES: dict[str, Sickness] = {
    "marker_missing": lambda _: [delete(effects).where(effects.c.event_id == first_record)],
    "marker_twice": lambda _: [insert(effects).values(event_id=first_record)],
    "record_times": lambda now: [update(inbox).values(forget_at=now - 2 * DAY)],
    "lease_too_long": lambda now: [_claim("leased", now + 2 * DAY)],
    "outbox_states": lambda now: [
        update(outbox).where(outbox.c.position == 1).values(dead_at=now, sent_at=now),
    ],
    "outbox_order": lambda _: [
        update(outbox).where(outbox.c.position == 3).values(sent_at=None),
    ],
    "outbox_bodies": lambda _: [update(outbox).where(outbox.c.position == 2).values(shard=99)],
    "settled_log": lambda _: [update(shares).values(settled_to=7), update(spans).values(last=9)],
    "settled_begun": lambda _: [update(spans).values(first=0, last=2)],
    "settled_done": lambda _: [
        delete(effects).where(effects.c.event_id == first_record),
        delete(inbox).where(inbox.c.event_id == first_record),
    ],
    "lease_over": lambda now: [_claim("leased", now - 2 * HOUR)],
    "unsent": lambda now: [
        update(outbox).where(outbox.c.position == 6).values(published_at=now - 2 * HOUR)
    ],
    "deadlines": lambda now: [
        insert(deadlines).values(kind="k", key="1", due_at=now - 2 * HOUR, payload={})
    ],
    "records_old": lambda now: [
        update(inbox).values(claimed_at=now - 30 * DAY, forget_at=now - 8 * DAY)
    ],
}
WAITING = {"lease_over", "unsent", "deadlines", "records_old"}


async def test_a_healthy_store_has_nothing(store: Store) -> None:
    """A store in which all went well is told to be well."""
    assert await store.sick() == {}


@pytest.mark.parametrize("name", SICKNESSES)
async def test_each_sickness_is_found_by_its_check(store: Store, name: str) -> None:
    """And by that check alone: what it names is what is wrong."""
    await store.write(*SICKNESSES[name](store.clock.now()))

    sick = await store.sick()

    assert set(sick) == {name}
    assert sick[name].samples
    assert (sick[name].weight is Severity.WAITING) is (name in WAITING)


async def test_offsets_of_a_broker_elsewhere_are_looked_at(store: Store) -> None:
    """A group that committed what its consumer never began has lost it."""
    audit, found = SqlAudit(store.uow), []
    for offset in (5, 6):
        settled = {"c": {Partition(TOPIC, 0): offset, Partition("other", 3): 9}}
        now = store.clock.now()
        checks = await audit.run(now=now, markers=MARKERS, depth=9, settled=settled)
        found.append([(check.name, *check.samples) for check in checks if check.found])

    assert found == [[], [("settled_begun", f"c {TOPIC} 0 6")]]


async def test_leases_of_relays_are_looked_at_too(store: Store) -> None:
    """A relay whose clock is a month ahead would hold its shard for a month."""
    far = store.clock.now() + 30 * DAY
    await store.write(update(relay_shards).values(leased_until=far))

    assert set(await store.sick()) == {"lease_too_long"}


async def test_what_lies_with_people_is_told(store: Store) -> None:
    """Dead events, parked letters, late replays, runs without a guard: none of them broken."""
    now = store.clock.now()
    row = update(outbox).where(outbox.c.position == 6)
    await store.write(row.values(dead_at=now, last_error="refused"))
    facts: dict[str, Any] = dict.fromkeys(("event_id", "event_type", "key", "value"))
    async with store.uow.begin() as tx:
        for position in (90, 91):
            letter = DeadLetter(
                consumer="c",
                partition=Partition(TOPIC, 0),
                position=position,
                reason="x",
                detail="",
                attempts=1,
                parked_at=now,
                **facts,
            )
            await SqlLedger(store.uow).park(tx, letter)
    asked, _ = await SqlLedger(store.uow).letters()
    late = now - 2 * HOUR
    await SqlDeadLetters(store.uow).ask([asked["id"]], note="", now=late, apart=DAY)
    run = Unprotected(key=ClaimKey("c", "", "e"), fingerprint=b"", processed_at=now)
    await SqlUnprotectedLog(store.uow).note(run)

    sick = await store.sick()

    assert set(sick) == {"dead_events", "dead_letters", "replays_late", "unprotected"}
    assert {check.weight for check in sick.values()} == {Severity.WAITING}


async def test_every_check_has_a_store_that_it_catches(store: Store) -> None:
    """A check that finds nothing anywhere would be no check."""
    checks = await SqlAudit(store.uow).run(now=store.clock.now(), markers={}, depth=1)

    people = {"dead_events", "dead_letters", "replays_late", "unprotected"}
    assert {check.name for check in checks} == {*SICKNESSES, *people}
    assert {check.name for check in checks if check.unknown} == {"marker_missing", "marker_twice"}


async def test_a_marker_that_is_no_place_is_refused(store: Store) -> None:
    """What is typed never becomes SQL."""
    with pytest.raises(InvalidInput):
        await store.sick({"c": "effects;drop table x.y"})


# -- the command line ----------------------------------------------------------------------

APP = '''
from onefold import Onefold

app = Onefold({url!r})


@app.consumer("orders.placed", name="c", marker="effects.event_id", dlq=True)
async def c(event, tx):
    """Nothing."""


@app.consumer("orders.placed", name="mail", isolated=True)
def mail(event, tx):
    """Sends mail."""
'''


def onefold(*arguments: str) -> tuple[int, str]:
    """The exit code and what was printed, as by a process of its own."""
    for name in [name for name in sys.modules if name.startswith("shop_")]:
        del sys.modules[name]
    done = CliRunner().invoke(app, list(arguments))
    if done.exception and not isinstance(done.exception, SystemExit | OnefoldError):
        raise done.exception
    return done.exit_code, done.output


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database_url: str) -> str:
    """The name of an application over the database, as a user writes one."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    name = f"shop_{tmp_path.name}".replace("-", "_")
    (tmp_path / f"{name}.py").write_text(APP.format(url=database_url))
    return f"{name}:app"


def _in_the_past(url: str, *sicknesses: str) -> None:
    """A store in which all was done long before the real now, and then made sick."""

    async def run() -> None:
        store = Store(url, ManualClock(datetime.now(UTC) - timedelta(minutes=30)))
        await store.work()
        for name in sicknesses:
            await store.write(*SICKNESSES[name](store.clock.now()))
        await store.aclose()

    asyncio.run(run())


def test_verify_answers_by_its_exit_code(database_url: str, shop: str) -> None:
    """0, 3 when something waits for somebody, 1 when a promise is broken; markers by the app."""
    _in_the_past(database_url)
    well = onefold("verify", "--app", shop, "--database", database_url)
    _make_sick(database_url, "deadlines")
    waiting = onefold("verify", "--database", database_url)
    _make_sick(database_url, "marker_missing")
    unseen = onefold("verify", "--database", database_url, "--json")
    broken = onefold("verify", "--app", shop, "--database", database_url)

    assert well[0] == 0, well[1]
    assert "verify: 18 checks, 0 broken, 0 waiting for somebody" in well[1]
    assert (waiting[0], unseen[0], broken[0]) == (3, 3, 1)
    assert "marker_missing   every record has its effect's marker: broken: 1" in broken[1]
    named = {check["name"]: check for check in json.loads(unseen[1])}
    assert named["marker_missing"]["unknown"] == "no marker was named"


def _make_sick(url: str, name: str) -> None:
    async def run() -> None:
        store = Store(url, ManualClock(datetime.now(UTC)))
        await store.write(*SICKNESSES[name](store.clock.now()))
        await store.aclose()

    asyncio.run(run())


def test_explain_says_because_of_what(shop: str) -> None:
    """Store, mode and broker by name, and what is weaker."""
    code, told = onefold("explain", "--app", shop, "--json")

    exactly, at_least = json.loads(told)
    assert code == 0
    assert (exactly["consumer"], exactly["promise"]) == ("c", "exactly once")
    assert (at_least["consumer"], at_least["promise"]) == ("mail", "at least once")
    assert any("isolated" in line for line in at_least["because"])
    assert any("outside of `tx` happen again" in line for line in at_least["but"])
    assert "c: exactly once" in onefold("explain", "--app", shop)[1]


@pytest.mark.parametrize("spec", ["nothing", "no_such_module:app", "json:loads", "json:no.such"])
def test_an_app_that_is_not_there_is_one_line(spec: str) -> None:
    """What was expected, and no traceback."""
    code, told = onefold("explain", "--app", spec)

    assert (code, told.count("\n")) == (1, 1)
    assert told.startswith("onefold: app: ")


def test_reconcile_settles_what_ran_without_a_guard(database_url: str) -> None:
    """Once is recorded, for as long as its handler said; what another run completed is suspect."""
    now, kept = datetime.now(UTC), timedelta(days=60, microseconds=1)

    async def prepare() -> None:
        uow = SqlUnitOfWork(Database(database_url))
        log = SqlUnprotectedLog(uow)
        keys = [ClaimKey("c", "", name) for name in ("once", "twice")]
        for key, times in zip(keys, (1, 2), strict=True):
            event = Unprotected(key=key, fingerprint=b"", processed_at=now, times=times, keep=kept)
            await log.note(event)
        await uow.aclose()

    async def recorded() -> Any:
        uow = SqlUnitOfWork(Database(database_url))
        async with uow.read() as tx:
            found = (await tx.execute(select(claims).where(claims.c.event_id == "once"))).one()
        await uow.aclose()
        return found.completed_at, found.forget_at

    asyncio.run(prepare())

    code, told = onefold("reconcile", "--database", database_url, "--json")
    again, nothing = onefold("reconcile", "--database", database_url, "--json")

    became = {row["event_id"]: row["became"] for row in json.loads(told)}
    assert (code, became) == (3, {"once": "recorded", "twice": "suspect"})
    assert (again, json.loads(nothing)) == (0, [])
    assert asyncio.run(recorded()) == (now, now + kept)
