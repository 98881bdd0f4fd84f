"""Adapters with one fault each: the contracts catch every one, by the case that is about it."""

import shutil
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from sqlalchemy import Table, select

from onefold.adapters.memory.outbox import MemoryOutbox
from onefold.adapters.memory.unit_of_work import (
    MemoryDeadlines,
    MemoryState,
    MemoryTransaction,
    MemoryUnitOfWork,
    OutboxRow,
)
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.deadlines import SqlDeadlines
from onefold.adapters.sql.dialects import postgres
from onefold.adapters.sql.outbox import SqlOutbox
from onefold.adapters.sql.unit_of_work import SqlTransaction, SqlUnitOfWork
from onefold.core.envelope import Event
from onefold.core.wire import encode_native
from onefold.errors import ConstraintViolated, StoreContended
from onefold.ports.deadlines import Deadline
from onefold.ports.outbox import Shipment
from onefold.ports.unit_of_work import Transaction, UnitOfWork
from onefold.testing.contracts import (
    Contract,
    DeadlinesContract,
    InboxContract,
    InsertNewContract,
    OutboxContract,
    RecordEffects,
    Stores,
    TableEffects,
    UnitOfWorkContract,
    failures,
)
from onefold.testing.contracts.stores import turn

# ------------------------------------------------------------------ faults of a unit of work


class Wrapped:
    """A transaction in which some calls are not what they should be."""

    def __init__(self, tx: Any, uow: "Faulty") -> None:
        self._tx, self._uow = tx, uow

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)


class Faulty(MemoryUnitOfWork):
    """A memory unit of work that hands out transactions of another kind."""

    kind: type[Wrapped] = Wrapped

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Any]:
        async with super().begin() as tx:
            yield self.kind(tx, self)


class RollbackIsNothing(MemoryUnitOfWork):
    """Works on what is committed instead of on a copy: an exception undoes nothing."""

    @contextmanager
    def _open(self, draft: MemoryState, *, writes: bool) -> Iterator[MemoryTransaction]:
        with super()._open(self.committed if writes else draft, writes=writes) as tx:
            yield tx

    def _commit(self, draft: MemoryState) -> None:
        super()._commit(self.committed)


class NobodyWaits(MemoryUnitOfWork):
    """Lets writers run side by side, and the last commit wins."""

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[MemoryTransaction]:
        with self._one.entered():
            draft = self.committed.copy()
            with self._open(draft, writes=True) as tx:
                yield tx
            self._commit(draft)


class NestsInSilence(NobodyWaits):
    """Opens a second transaction in a task that has one."""

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[MemoryTransaction]:
        self._one._inside.clear()
        async with super().begin() as tx:
            yield tx

    @asynccontextmanager
    async def read(self) -> AsyncIterator[MemoryTransaction]:
        self._one._inside.clear()
        async with super().read() as tx:
            yield tx


class ReadsWhatCommits(MemoryUnitOfWork):
    """Shows a reader what is committed while it reads."""

    @asynccontextmanager
    async def read(self) -> AsyncIterator[Any]:
        uow = self

        class Live:
            def __getattr__(self, name: str) -> Any:
                return getattr(MemoryTransaction(uow.committed, writes=False), name)

        async with super().read():
            yield Live()


class ReadersWrite(MemoryUnitOfWork):
    """Takes what a reading transaction writes, and forgets it."""

    @asynccontextmanager
    async def read(self) -> AsyncIterator[MemoryTransaction]:
        with (
            self._one.entered(),
            super()._open(self.committed.copy(), writes=True) as tx,
        ):
            yield tx


class NeverEnds(MemoryUnitOfWork):
    """Leaves a transaction usable after its block."""

    @contextmanager
    def _open(self, draft: MemoryState, *, writes: bool) -> Iterator[MemoryTransaction]:
        with super()._open(draft, writes=writes) as tx:
            yield tx
        tx._state = "open"


class LooksAway(MemoryUnitOfWork):
    """Commits a transaction in which a call failed, if only its error is swallowed."""

    @contextmanager
    def _open(self, draft: MemoryState, *, writes: bool) -> Iterator[MemoryTransaction]:
        tx = MemoryTransaction(draft, writes=writes)
        with super()._open(draft, writes=writes):
            try:
                yield tx
            finally:
                tx.end()


class StaysOpen(MemoryUnitOfWork):
    """Takes no notice of being closed."""

    async def aclose(self) -> None:
        pass


class ClaimsOutside(Wrapped):
    """Keeps a claim beside the transaction."""

    async def claim(self, consumer: str, event_id: str, *, now: datetime) -> bool:
        first = await self._tx.claim(consumer, event_id, now=now)
        self._uow.committed.claims[consumer, event_id] = b""
        return bool(first)


class ForgetsTheConsumer(Wrapped):
    """Takes what one consumer applied for applied by all."""

    async def claim(self, consumer: str, event_id: str, *, now: datetime) -> bool:
        await self._tx.claim(consumer, "checked", now=now)
        return bool(await self._tx.claim("anyone", event_id, now=now))


class CutsNames(Wrapped):
    """Keeps the first 60 characters of a name, as a column that is too narrow once did."""

    async def claim(self, consumer: str, event_id: str, *, now: datetime) -> bool:
        if len(consumer) > 64 or len(event_id) > 255:
            return bool(await self._tx.claim(consumer, event_id, now=now))
        return bool(await self._tx.claim(consumer[:60], event_id[:60], now=now))


class PublishesOutside(Wrapped):
    """Publishes at once instead of with the commit."""

    async def publish(self, *events: Event, now: datetime) -> None:
        await self._tx.publish(now=now)
        for event in events:
            for outbox in (self._uow.committed.outbox, self._tx._draft.outbox):
                place = len(outbox) + 1
                row = OutboxRow(position=place, body=encode_native(event), published_at=now)
                outbox.setdefault(event.identity, row)


class PublishesAgain(Wrapped):
    """Lets a repeat take the place of the first."""

    async def publish(self, *events: Event, now: datetime) -> None:
        await self._tx.publish(*events, now=now)
        for event in events:
            first = self._tx._draft.outbox[event.identity]
            again = replace(first, body=encode_native(event))
            self._tx._draft.outbox[event.identity] = again


class PublishesSorted(Wrapped):
    """Puts the events of a call in the order of their ids."""

    async def publish(self, *events: Event, now: datetime) -> None:
        await self._tx.publish(*sorted(events, key=lambda event: event.id), now=now)


class PublishesLess(Wrapped):
    """Loses the fraction of a second."""

    async def publish(self, *events: Event, now: datetime) -> None:
        await self._tx.publish(
            *(_remade(event, event.occurred_at.replace(microsecond=0)) for event in events), now=now
        )


def _remade(event: Event, occurred_at: datetime) -> Event:
    fields = {name: getattr(event, name) for name in event.__struct_fields__}
    return Event(**fields | {"occurred_at": occurred_at})


class NeverMoves(Wrapped):
    """Leaves a deadline where it was armed first."""

    async def schedule(
        self, kind: str, key: str, *, due_at: datetime, payload: Mapping[str, Any]
    ) -> None:
        before = self._tx._draft.deadlines.get((kind, key))
        await self._tx.schedule(kind, key, due_at=due_at, payload=payload)
        if before:
            self._tx._draft.deadlines[kind, key] = before


class MixesKinds(Wrapped):
    """Arms one deadline per key, whatever its kind."""

    async def schedule(
        self, kind: str, key: str, *, due_at: datetime, payload: Mapping[str, Any]
    ) -> None:
        await self._tx.schedule(kind, key, due_at=due_at, payload=payload)
        for other in [one for one in self._tx._draft.deadlines if one[1] == key and one[0] != kind]:
            del self._tx._draft.deadlines[other]


class ForgetfulOutbox(MemoryOutbox):
    """Gives every event once: a relay that dies after reading has lost it."""

    async def unsent(self, *, limit: int) -> Sequence[Event]:
        read = await super().unsent(limit=limit)
        for event in read:
            del self._uow.committed.outbox[event.identity]
        return read


class NewestFirstOutbox(MemoryOutbox):
    async def unsent(self, *, limit: int) -> Sequence[Event]:
        return [*reversed(await super().unsent(limit=1_000_000))][:limit]


_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class MarksWithoutAFence(MemoryOutbox):
    """Asks whose shard it is, and not under which fence."""

    async def mark(self, shipment: Shipment, **how: Any) -> bool:
        fence = self._lease(shipment.shard)[0]
        return await super().mark(replace(shipment, fence=fence), **how)


class LeasesToAnybody(MemoryOutbox):
    """Gives out again what is in hand."""

    def _lease(self, shard: int) -> tuple[int, datetime]:
        return super()._lease(shard)[0], _LONG_AGO


class KeepsTheShard(MemoryOutbox):
    """Leaves a shard leased when it was marked."""

    async def mark(self, shipment: Shipment, **how: Any) -> bool:
        held = self._leases.get(shipment.shard)
        marked = await super().mark(shipment, **how)
        if marked and held is not None:
            self._leases[shipment.shard] = held
        return marked


class MarksNothing(MemoryOutbox):
    """Says that it has recorded what was sent."""

    async def mark(self, shipment: Shipment, **how: Any) -> bool:
        return await super().mark(shipment, **how | {"sent": []})


class RetriesAtOnce(MemoryOutbox):
    """Forgets when to try again, and that it was ever tried."""

    async def mark(self, shipment: Shipment, **how: Any) -> bool:
        failed = [one for one in how["failed"] if one.next_at is None]
        return await super().mark(shipment, **how | {"failed": failed})


class WakesTheDead(MemoryOutbox):
    """Sends again what was given up."""

    async def mark(self, shipment: Shipment, **how: Any) -> bool:
        soon = how["now"] + timedelta(seconds=1)
        failed = [one._replace(next_at=one.next_at or soon) for one in how["failed"]]
        return await super().mark(shipment, **how | {"failed": failed})


class PassesBy(MemoryOutbox):
    """Sends later events of a key past one that waits."""

    def _sendable(self, now: datetime) -> Iterator[OutboxRow]:
        for row in self._rows():
            waits = row.dead or (row.next_at is not None and row.next_at > now)
            if not row.sent and not waits:
                yield row


class NoEndOfAShipment(MemoryOutbox):
    """Takes all there is."""

    async def lease(self, owner: str, **how: Any) -> Shipment | None:
        return await super().lease(owner, **how | {"limit": 1_000_000})


class NewestLeaveFirst(MemoryOutbox):
    """Sends what came last first."""

    async def lease(self, owner: str, **how: Any) -> Shipment | None:
        shipment = await super().lease(owner, **how | {"limit": 1_000_000})
        if shipment is None:
            return None
        return replace(shipment, waiting=[*reversed(shipment.waiting)][: how["limit"]])


class LooksThenLeases(MemoryOutbox):
    """Lets others between looking for a free shard and taking it."""

    async def lease(self, owner: str, **how: Any) -> Shipment | None:
        before = dict(self._leases)
        await turn()
        during, self._leases = self._leases, before
        shipment = await super().lease(owner, **how)
        self._leases = {**during, **self._leases}
        return shipment


class EarlyDeadlines(MemoryDeadlines):
    """Is a millisecond ahead."""

    async def due(self, kind: str, *, now: datetime, limit: int) -> Sequence[Deadline]:
        return await super().due(kind, now=now + timedelta(milliseconds=1), limit=limit)


class UnorderedDeadlines(MemoryDeadlines):
    """Orders by key alone."""

    async def due(self, kind: str, *, now: datetime, limit: int) -> Sequence[Deadline]:
        found = await super().due(kind, now=now, limit=1_000_000)
        return sorted(found, key=lambda one: one.key)[:limit]


class RoundedDeadlines(MemoryDeadlines):
    """Keeps whole seconds."""

    async def due(self, kind: str, *, now: datetime, limit: int) -> Sequence[Deadline]:
        found = await super().due(kind, now=now, limit=limit)
        return [structs.replace(one, due_at=one.due_at.replace(microsecond=0)) for one in found]


def _memory(
    uow: type[MemoryUnitOfWork] = MemoryUnitOfWork,
    outbox: type[MemoryOutbox] = MemoryOutbox,
    deadlines: type[MemoryDeadlines] = MemoryDeadlines,
    tx: type[Wrapped] | None = None,
) -> Callable[[], AbstractAsyncContextManager[Stores]]:
    @asynccontextmanager
    async def fresh() -> AsyncIterator[Stores]:
        kind = type("Twin", (Faulty,), {"kind": tx}) if tx else uow
        made = kind()
        yield Stores(
            uow=made, outbox=outbox(made), deadlines=deadlines(made), effects=RecordEffects()
        )

    return fresh


def _over(
    suite: type[Contract], fresh: Callable[[], AbstractAsyncContextManager[Stores]]
) -> type[Contract]:
    return type(suite.__name__, (suite,), {"fresh": staticmethod(fresh)})


MEMORY_SUITES = (UnitOfWorkContract, InboxContract, OutboxContract, DeadlinesContract)

# Each twin, and the cases that catch it; all others pass.
_ROLLBACK = {
    "test_a_cancellation_in_the_middle_rolls_everything_back",
    "test_a_failed_call_cannot_be_swallowed",
    "test_an_exception_rolls_everything_back",
    "test_one_transaction_after_another_adds_up",
}
TWINS: dict[str, tuple[Callable[[], AbstractAsyncContextManager[Stores]], set[str]]] = {
    "no fault": (_memory(), set()),
    "rollback is nothing": (
        _memory(RollbackIsNothing),
        _ROLLBACK
        | {
            "test_nothing_is_seen_before_the_commit",
            "test_a_claim_rolled_back_is_forgotten",
            "test_a_concurrent_claim_gets_what_the_first_rolls_back",
            "test_an_event_is_not_there_before_the_commit",
            "test_a_move_rolled_back_leaves_it_where_it_was",
        },
    ),
    "nobody waits": (
        _memory(NobodyWaits),
        {
            "test_concurrent_writers_lose_nothing",
            "test_of_concurrent_claims_exactly_one_succeeds",
            "test_a_concurrent_claim_gets_what_the_first_rolls_back",
            "test_a_concurrent_claim_waits_for_the_first_to_commit",
        },
    ),
    "nests in silence": (
        _memory(NestsInSilence),
        {
            "test_a_task_has_one_transaction_at_a_time",
            "test_concurrent_writers_lose_nothing",
            "test_of_concurrent_claims_exactly_one_succeeds",
            "test_a_concurrent_claim_gets_what_the_first_rolls_back",
            "test_a_concurrent_claim_waits_for_the_first_to_commit",
        },
    ),
    "reads what commits": (
        _memory(ReadsWhatCommits),
        {"test_reading_sees_one_consistent_state"},
    ),
    "readers write": (_memory(ReadersWrite), {"test_reading_refuses_to_write"}),
    "never ends": (_memory(NeverEnds), {"test_a_transaction_is_over_after_its_block"}),
    "looks away": (_memory(LooksAway), {"test_a_failed_call_cannot_be_swallowed"}),
    "stays open": (
        _memory(StaysOpen),
        {"test_closing_stops_open_transactions", "test_closing_twice_is_once"},
    ),
    "claims outside": (
        _memory(tx=ClaimsOutside),
        _ROLLBACK
        | {
            "test_a_claim_rolled_back_is_forgotten",
            "test_a_concurrent_claim_gets_what_the_first_rolls_back",
        },
    ),
    "forgets the consumer": (
        _memory(tx=ForgetsTheConsumer),
        {"test_every_consumer_has_its_own_claims", "test_long_names_are_told_apart"},
    ),
    "cuts names": (_memory(tx=CutsNames), {"test_long_names_are_told_apart"}),
    "publishes outside": (
        _memory(tx=PublishesOutside),
        _ROLLBACK
        | {
            "test_nothing_is_seen_before_the_commit",
            "test_an_event_is_not_there_before_the_commit",
        },
    ),
    "publishes again": (_memory(tx=PublishesAgain), {"test_the_same_id_twice_is_one_event"}),
    "publishes sorted": (
        _memory(tx=PublishesSorted),
        {
            "test_a_lease_takes_at_most_its_limit_the_oldest_first",
            "test_order_is_kept_within_a_transaction",
            "test_shipments_hold_everything_once_in_the_order_of_keys",
            "test_the_limit_takes_the_oldest",
        },
    ),
    "publishes less": (
        _memory(tx=PublishesLess),
        {"test_an_event_reads_back_as_it_was"},
    ),
    "never moves": (
        _memory(tx=NeverMoves),
        {
            "test_arming_again_in_the_same_transaction_moves_it",
            "test_arming_again_moves_it_earlier",
            "test_arming_again_moves_it_later",
        },
    ),
    "mixes kinds": (_memory(tx=MixesKinds), {"test_kinds_are_apart"}),
    "forgetful outbox": (
        _memory(outbox=ForgetfulOutbox),
        {"test_reading_changes_nothing", "test_one_transaction_after_another_adds_up"},
    ),
    "newest first": (
        _memory(outbox=NewestFirstOutbox),
        {
            "test_a_repeat_does_not_keep_new_events_back",
            "test_order_is_kept_across_transactions",
            "test_order_is_kept_within_a_transaction",
            "test_the_limit_takes_the_oldest",
        },
    ),
    "marks without a fence": (
        _memory(outbox=MarksWithoutAFence),
        {
            "test_a_lease_that_was_lost_marks_nothing",
        },
    ),
    "leases to anybody": (
        _memory(outbox=LeasesToAnybody),
        {
            "test_a_dead_event_holds_up_its_key_alone",
            "test_a_failed_event_waits_and_holds_up_its_key",
            "test_a_lease_that_was_lost_marks_nothing",
            "test_a_shard_in_hand_is_left_alone_until_its_lease_ends",
            "test_marking_gives_the_shard_back",
            "test_nothing_to_send_is_no_shipment",
            "test_relays_at_once_share_out_the_shards",
            "test_shipments_hold_everything_once_in_the_order_of_keys",
        },
    ),
    "keeps the shard": (
        _memory(outbox=KeepsTheShard),
        {
            "test_a_failed_event_waits_and_holds_up_its_key",
            "test_a_lease_takes_at_most_its_limit_the_oldest_first",
            "test_marking_gives_the_shard_back",
        },
    ),
    "marks nothing": (
        _memory(outbox=MarksNothing),
        {
            "test_a_failed_event_waits_and_holds_up_its_key",
            "test_a_lease_takes_at_most_its_limit_the_oldest_first",
            "test_a_lease_that_was_lost_marks_nothing",
            "test_marking_gives_the_shard_back",
            "test_nothing_to_send_is_no_shipment",
        },
    ),
    "retries at once": (
        _memory(outbox=RetriesAtOnce),
        {
            "test_a_failed_event_waits_and_holds_up_its_key",
        },
    ),
    "wakes the dead": (
        _memory(outbox=WakesTheDead),
        {
            "test_a_dead_event_holds_up_its_key_alone",
        },
    ),
    "passes by": (
        _memory(outbox=PassesBy),
        {
            "test_a_dead_event_holds_up_its_key_alone",
            "test_a_failed_event_waits_and_holds_up_its_key",
        },
    ),
    "no end of a shipment": (
        _memory(outbox=NoEndOfAShipment),
        {
            "test_a_lease_takes_at_most_its_limit_the_oldest_first",
        },
    ),
    "newest leave first": (
        _memory(outbox=NewestLeaveFirst),
        {
            "test_a_failed_event_waits_and_holds_up_its_key",
            "test_a_lease_takes_at_most_its_limit_the_oldest_first",
            "test_shipments_hold_everything_once_in_the_order_of_keys",
        },
    ),
    "looks, then leases": (
        _memory(outbox=LooksThenLeases),
        {
            "test_relays_at_once_share_out_the_shards",
        },
    ),
    "early": (
        _memory(deadlines=EarlyDeadlines),
        {
            "test_a_deadline_is_due_at_its_instant_and_not_before",
            "test_an_instant_of_any_zone_is_the_same_instant",
        },
    ),
    "unordered": (
        _memory(deadlines=UnorderedDeadlines),
        {"test_the_longest_due_comes_first", "test_the_limit_takes_the_longest_due"},
    ),
    "rounded": (
        _memory(deadlines=RoundedDeadlines),
        {"test_a_deadline_reads_back_as_it_was_armed"},
    ),
}


@pytest.mark.parametrize(("fresh", "caught_by"), TWINS.values(), ids=TWINS.keys())
async def test_a_faulty_adapter_is_caught_by_the_cases_about_its_fault(
    fresh: Callable[[], AbstractAsyncContextManager[Stores]], caught_by: set[str]
) -> None:
    """By those, and by no other: a case that fails says what is wrong."""
    found: dict[str, Exception] = {}
    for suite in MEMORY_SUITES:
        found |= await failures(_over(suite, fresh))

    assert found.keys() == caught_by


# ----------------------------------------------------------------------- faults of insert_new


class AllAreNew(SqlTransaction):
    """Says of every row that it is new."""

    async def insert_new(
        self, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> set[tuple[Any, ...]]:
        await super().insert_new(table, rows)
        return {tuple(row[c.name] for c in table.primary_key) for row in rows}


class LooksFirst(SqlTransaction):
    """Asks which rows are there before it inserts: what comes between is new for two."""

    async def insert_new(
        self, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> set[tuple[Any, ...]]:
        if not rows:
            return set()
        there = await self.execute(select(*table.primary_key))
        known = {tuple(row) for row in there}
        await super().insert_new(table, rows)
        return {tuple(row[c.name] for c in table.primary_key) for row in rows} - known


class Overwrites(SqlTransaction):
    """Puts the repeated row in the place of the first."""

    async def insert_new(
        self, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> set[tuple[Any, ...]]:
        new = await super().insert_new(table, rows)
        for row in rows[:10]:
            same = [table.c[c.name] == row[c.name] for c in table.primary_key]
            await self.execute(table.update().where(*same).values(**row))
        return new


class Unsorted(SqlTransaction):
    """Locks rows in the order in which they are given."""

    async def insert_new(
        self, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> set[tuple[Any, ...]]:
        key = tuple(column.name for column in table.primary_key)
        return await self._insert_new(table, rows, key=key, sort=False)


class WaitsAtItsKey(SqlTransaction):
    """Waits for a concurrent insert at its key alone: met elsewhere, it is a violation."""

    async def insert_new(
        self, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> set[tuple[Any, ...]]:
        return await self._in_one("key", table, rows)

    async def _in_one(
        self, waits_at: str, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> set[tuple[Any, ...]]:
        """The insert of PostgreSQL without its second statement."""
        key = tuple(column.name for column in table.primary_key)
        with self._call(writes=True):
            return await postgres._inserted(
                self._connection, table, rows, key=key, sort=True, waits_at=waits_at
            )


class HidesConflicts(WaitsAtItsKey):
    """Takes whatever is not new for a repetition, that of another row's value too."""

    async def insert_new(
        self, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> set[tuple[Any, ...]]:
        return await self._in_one("all", table, rows)


def _sql(
    url: Callable[[], str], kind: type[SqlTransaction]
) -> Callable[[], AbstractAsyncContextManager[Stores]]:
    class Twin(SqlUnitOfWork):
        @asynccontextmanager
        async def begin(self) -> AsyncIterator[Transaction]:
            async with super().begin() as tx:
                tx.__class__ = kind
                yield tx

    @asynccontextmanager
    async def fresh() -> AsyncIterator[Stores]:
        uow: UnitOfWork = Twin(Database(url()))
        try:
            yield Stores(
                uow=uow,
                outbox=SqlOutbox(uow),
                deadlines=SqlDeadlines(uow),
                effects=await TableEffects.make(uow),
            )
        finally:
            await uow.aclose()

    return fresh


@pytest.mark.parametrize(
    ("kind", "caught_by"),
    [
        (SqlTransaction, set()),
        (
            AllAreNew,
            {
                "test_an_instant_of_any_zone_is_the_same_key",
                "test_concurrent_overlapping_batches_share_out_what_is_new",
                "test_a_row_repeated_at_once_is_not_new_and_no_violation",
                "test_more_rows_than_a_statement_has_variables",
                "test_only_the_new_ones_are_told",
                "test_the_same_keys_in_opposite_order_do_not_deadlock",
            },
        ),
        (Overwrites, {"test_what_is_there_stays_as_it_is"}),
    ],
)
async def test_a_faulty_insert_is_caught_by_the_cases_about_its_fault(
    sqlite_template: Path, tmp_path: Path, kind: type[SqlTransaction], caught_by: set[str]
) -> None:
    """On SQLite: by those, and by no other."""
    numbers = count()

    def url() -> str:
        return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / f'{next(numbers)}.db')}"

    found = await failures(_over(InsertNewContract, _sql(url, kind)))

    assert found.keys() == caught_by


@pytest.mark.parametrize(
    ("kind", "case"),
    [
        (LooksFirst, "test_concurrent_overlapping_batches_share_out_what_is_new"),
        (Unsorted, "test_the_same_keys_in_opposite_order_do_not_deadlock"),
        (WaitsAtItsKey, "test_a_row_repeated_at_once_is_not_new_and_no_violation"),
        (HidesConflicts, "test_what_another_row_has_is_a_violation"),
    ],
)
async def test_a_fault_that_takes_two_writers_is_caught(
    postgres_url: str, kind: type[SqlTransaction], case: str
) -> None:
    """On PostgreSQL, where they write at the same time."""
    suite = _over(InsertNewContract, _sql(lambda: postgres_url, kind))

    with pytest.raises((AssertionError, StoreContended, ConstraintViolated)):
        await getattr(suite(), case)()


class ArmsOneKind(SqlTransaction):
    """Takes all of many for the kind of the first."""

    async def schedule_many(self, many: Sequence[Deadline]) -> None:
        await super().schedule_many([one for one in many if one.kind == many[0].kind])


class ArmsUntilOneIsWrong(SqlTransaction):
    """Looks at each only when it is its turn."""

    async def schedule_many(self, many: Sequence[Deadline]) -> None:
        for one in many:
            await self.schedule(one.kind, one.key, due_at=one.due_at, payload=one.payload)


@pytest.mark.parametrize(
    ("kind", "caught_by"),
    [
        (SqlTransaction, set()),
        (ArmsOneKind, {"test_many_are_armed_as_one_by_one"}),
        (ArmsUntilOneIsWrong, {"test_many_are_armed_or_none"}),
    ],
)
async def test_a_faulty_arming_is_caught_by_the_cases_about_its_fault(
    sqlite_template: Path, tmp_path: Path, kind: type[SqlTransaction], caught_by: set[str]
) -> None:
    """By those, and by no other."""
    numbers = count()

    def url() -> str:
        return f"sqlite:///{shutil.copy(sqlite_template, tmp_path / f'{next(numbers)}.db')}"

    found = await failures(_over(DeadlinesContract, _sql(url, kind)))

    assert found.keys() == caught_by
