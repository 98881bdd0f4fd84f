"""The promises of `Transaction.insert_new` and `execute`, for adapters with `Features.sql`."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import (
    Boolean,
    CheckConstraint,
    Column,
    Double,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    Uuid,
    delete,
    func,
    insert,
    select,
    update,
)
from sqlalchemy.schema import CreateIndex, CreateTable

from onefold.errors import ConstraintViolated, IllegalTransition, SchemaOutdated
from onefold.ports.tables import Instant, Json, Row, rows_of
from onefold.ports.unit_of_work import Transaction, in_transaction
from onefold.testing.contracts.stores import (
    NOON,
    Contract,
    RollBack,
    Stores,
    raises,
    rolled_back,
    together,
)

_metadata = MetaData()

things = Table(
    "contract_things",
    _metadata,
    # Names that have to be quoted, and a key that is not in the order of the columns.
    Column("order", String(12), primary_key=True),
    Column("note", Text),
    Column("group", Integer, primary_key=True),
    CheckConstraint('"group" < 1000'),
)
values = Table(
    "contract_values",
    _metadata,
    Column("id", Uuid, primary_key=True),
    Column("at", Instant, primary_key=True),
    Column("hash", LargeBinary(32), primary_key=True),
    Column("json", Json),
    Column("instant", Instant),
    Column("uuid", Uuid),
    Column("bytes", LargeBinary),
    Column("text", String(20)),
    Column("integer", Integer),
    Column("number", Double),
    Column("flag", Boolean),
)
parts = Table(
    "contract_parts",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("thing", Uuid, ForeignKey("contract_owners.id")),
)
owners = Table("contract_owners", _metadata, Column("id", Uuid, primary_key=True))
seats = Table(
    "contract_seats",
    _metadata,
    Column("id", Integer, primary_key=True),
    Column("place", Integer, nullable=False),
    Index("ix_contract_seats_place", "place", unique=True),
)
# As it is created: the place's index before the key's, which PostgreSQL looks at in that order.
_seats_made = Table(
    "contract_seats", MetaData(), Column("id", Integer), Column("place", Integer, nullable=False)
)
_SEATS_UNIQUE = (
    Index("ix_contract_seats_place", _seats_made.c.place, unique=True),
    Index("ix_contract_seats_id", _seats_made.c.id, unique=True),
)

ID = UUID("018f0000-0000-7000-8000-000000000001")
KEY: Row = {"id": ID, "at": NOON, "hash": bytes(range(32))}
OPTIONAL = ("json", "instant", "uuid", "bytes", "text", "integer", "number", "flag")


def _thing(order: str, group: int = 1, note: str = "") -> Row:
    return {"order": order, "group": group, "note": note}


def _key(thing: Row) -> tuple[str, int]:
    return thing["order"], thing["group"]


class _SqlContract(Contract):
    @asynccontextmanager
    async def tables(self) -> AsyncIterator[Stores]:
        """A fresh store with the tables of this suite."""
        async with self.fresh() as stores:
            async with stores.uow.begin() as tx:
                for table in (things, values, owners, parts, _seats_made):
                    await tx.execute(CreateTable(table))
                for index in _SEATS_UNIQUE:
                    await tx.execute(CreateIndex(index))
            yield stores


class InsertNewContract(_SqlContract):
    """The insert itself decides which rows are new, and tells exactly which."""

    parallel = 4  # transactions that the adapter can keep open at the same time

    async def _insert(self, stores: Stores, rows: Sequence[Row]) -> set[tuple[Any, ...]]:
        async with stores.uow.begin() as tx:
            return await tx.insert_new(things, rows)

    async def _all(self, stores: Stores, table: Table = things) -> list[Row]:
        async with stores.uow.read() as tx:
            return rows_of(await tx.execute(select(table).order_by(*table.primary_key)))

    async def test_no_rows_are_none(self) -> None:
        """An empty batch inserts nothing and is no error."""
        async with self.tables() as stores:
            assert await self._insert(stores, []) == set()

    async def test_all_are_new_at_first(self) -> None:
        """Keys come back in the table's order of key columns."""
        async with self.tables() as stores:
            new = await self._insert(stores, [_thing("b"), _thing("a"), _thing("a", 2)])

            assert new == {("a", 1), ("a", 2), ("b", 1)}, new

    async def test_only_the_new_ones_are_told(self) -> None:
        """Of a batch that overlaps an earlier one, the rest is new."""
        async with self.tables() as stores:
            await self._insert(stores, [_thing("a"), _thing("b")])

            new = await self._insert(stores, [_thing("c"), _thing("b"), _thing("a", 2)])

            assert new == {("c", 1), ("a", 2)}, new

    async def test_what_is_there_stays_as_it_is(self) -> None:
        """A repeated key does not overwrite the row that was first."""
        async with self.tables() as stores:
            await self._insert(stores, [_thing("a", note="first")])
            await self._insert(stores, [_thing("a", note="second")])

            assert [row["note"] for row in await self._all(stores)] == ["first"]

    async def test_what_was_rolled_back_is_new_again(self) -> None:
        """Rows of a failed transaction do not count as repeated."""
        async with self.tables() as stores:
            with rolled_back():
                async with stores.uow.begin() as tx:
                    await tx.insert_new(things, [_thing("a")])
                    raise RollBack

            assert await self._insert(stores, [_thing("a")]) == {("a", 1)}

    async def test_concurrent_overlapping_batches_share_out_what_is_new(self) -> None:
        """Each key is new for exactly one of them; none is lost and none waits for ever."""
        batches = [
            [_thing(f"{n}", note=f"{who}") for n in range(who * 10, who * 10 + 40)]
            for who in range(self.parallel)
        ]
        async with self.tables() as stores:
            found = await self._at_once(
                stores, [batch[:: (-1) ** n] for n, batch in enumerate(batches)]
            )

            told = [key for new in found for key in new]
            everything = {_key(row) for batch in batches for row in batch}
            assert sorted(told) == sorted(everything), "some key was new for none or for several"
            assert {_key(row) for row in await self._all(stores)} == everything

    async def test_the_same_keys_in_opposite_order_do_not_deadlock(self) -> None:
        """Rows are locked in the order of their keys, however they are given."""
        rounds = range(3)
        async with self.tables() as stores:
            for n in rounds:
                await self._cross(stores, n)

            assert len(await self._all(stores)) == 3 * len(rounds)

    async def _cross(self, stores: Stores, group: int) -> None:
        """While the middle key is taken, two come for all three, from either end."""
        rows = [_thing(order, group) for order in "amz"]
        begun = asyncio.Barrier(3)
        parallel = stores.uow.features.parallel_writers

        async def insert_one(batch: Sequence[Row]) -> set[tuple[Any, ...]]:
            if not parallel:
                await begun.wait()
            async with stores.uow.begin() as tx:
                if parallel:
                    await begun.wait()
                return await tx.insert_new(things, batch)

        async with stores.uow.begin() as tx:
            await tx.insert_new(things, [rows[1]])
            others = [asyncio.create_task(insert_one(batch)) for batch in (rows, rows[::-1])]
            await begun.wait()
            for _ in range(20):  # round trips in which both come as far as they can
                await stores.effects.read(tx, "nothing")
        found = await asyncio.gather(*others)

        assert sorted(key for new in found for key in new) == [("a", group), ("z", group)]

    async def test_a_row_repeated_at_once_is_not_new_and_no_violation(self) -> None:
        """Nor where another index is met before the key's: its row is the same row."""
        async with self.tables() as stores:
            for n in range(3):
                assert await self._overtaken(stores, n) == [set(), {(n,)}]

            assert [row["place"] for row in await self._all(stores, seats)] == [0, 1, 2]

    async def _overtaken(self, stores: Stores, n: int) -> list[set[tuple[Any, ...]]]:
        """While the place is taken, two come for it with the same row; then it is free."""
        begun = asyncio.Barrier(3)
        parallel = stores.uow.features.parallel_writers
        waited = set[int]()

        async def come(who: int) -> None:
            if who not in waited:  # begun again, it waits for nobody
                waited.add(who)
                await begun.wait()

        async def insert_one(who: int, tx: Transaction) -> set[tuple[Any, ...]]:
            if parallel:
                await come(who)
            return await tx.insert_new(seats, [{"id": n, "place": n}])

        async def one(who: int) -> set[tuple[Any, ...]]:
            if not parallel:
                await come(who)
            return await in_transaction(stores.uow, partial(insert_one, who))

        with rolled_back():
            async with stores.uow.begin() as tx:
                await tx.insert_new(seats, [{"id": 1000 + n, "place": n}])
                both = [asyncio.create_task(one(who)) for who in range(2)]
                await begun.wait()
                for _ in range(20):  # round trips in which both come as far as they can
                    await stores.effects.read(tx, "nothing")
                raise RollBack
        return sorted(await asyncio.gather(*both), key=len)

    async def test_what_another_row_has_is_a_violation(self) -> None:
        """A place that is taken by another key is told, beside rows that are new or repeated."""
        async with self.tables() as stores:
            async with stores.uow.begin() as tx:
                await tx.insert_new(seats, [{"id": 1, "place": 1}])

            rows = [{"id": 1, "place": 1}, {"id": 2, "place": 1}, {"id": 3, "place": 3}]
            with raises(ConstraintViolated):
                async with stores.uow.begin() as tx:
                    await tx.insert_new(seats, rows)

            assert [row["id"] for row in await self._all(stores, seats)] == [1]

    async def _at_once(
        self, stores: Stores, batches: Sequence[Sequence[Row]]
    ) -> list[set[tuple[Any, ...]]]:
        """Insert each batch in a transaction of its own, all of them open at the same time."""
        gate = asyncio.Barrier(len(batches))
        parallel = stores.uow.features.parallel_writers

        async def insert_one(batch: Sequence[Row]) -> set[tuple[Any, ...]]:
            if not parallel:
                await gate.wait()
            async with stores.uow.begin() as tx:
                if parallel:
                    await gate.wait()
                return await tx.insert_new(things, batch)

        return await together(*(partial(insert_one, batch) for batch in batches))

    async def test_more_rows_than_a_statement_has_variables(self) -> None:
        """A batch has no upper bound of its own."""
        rows = [_thing(f"{n}") for n in range(12_000)]  # 36,000 values; SQLite allows 32,766
        async with self.tables() as stores:
            await self._insert(stores, rows[5_000:11_500])

            new = await self._insert(stores, rows)

            assert new == {_key(row) for row in rows[:5_000] + rows[11_500:]}

    async def _stored(self, stores: Stores, **some: Any) -> Row:
        """A row of `values` that went in through `insert_new`, read back."""
        async with stores.uow.begin() as tx:
            new = await tx.insert_new(values, [KEY | dict.fromkeys(OPTIONAL) | some])
            assert new == {(ID, NOON, KEY["hash"])}, new
        (row,) = await self._all(stores, values)
        return row

    async def test_values_read_back_as_they_were(self) -> None:
        """Every type of column gives back what it was given."""
        some: Row = {
            "json": {"b": [1, 1.5, True, None, "\N{PARTY POPPER}"], "a": {"": "quote ' and \\"}},
            "instant": datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            "uuid": UUID(int=2**128 - 1),
            "bytes": bytes(range(256)),
            "text": "ü \N{PARTY POPPER} ' \" %s ?",
            "integer": -(2**31),
            "number": 0.1,
            "flag": True,
        }
        async with self.tables() as stores:
            assert await self._stored(stores, **some) == KEY | some

    async def test_other_values_read_back_as_they_were(self) -> None:
        """Empty is not missing, and false is not null."""
        some: Row = {
            "json": [],
            "instant": datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC),
            "uuid": UUID(int=0),
            "bytes": b"",
            "text": "",
            "integer": 0,
            "number": -1e308,
            "flag": False,
        }
        async with self.tables() as stores:
            assert await self._stored(stores, **some) == KEY | some

    async def test_json_of_every_kind_reads_back(self) -> None:
        """A JSON column holds objects, lists, text, numbers and truth values."""
        kinds: list[Any] = [{}, {"a": None}, [None], "text", "", 7, 2**60, -0.5, True, False]
        async with self.tables() as stores:
            rows = [
                KEY | {"at": NOON + timedelta(seconds=n), "json": kind}
                for n, kind in enumerate(kinds)
            ]
            async with stores.uow.begin() as tx:
                await tx.insert_new(values, rows)

            read = [row["json"] for row in await self._all(stores, values)]
            assert read == kinds, read

    async def test_json_already_encoded_reads_back(self) -> None:
        """Bytes that came in as JSON need not be decoded to be stored."""
        async with self.tables() as stores:
            row = await self._stored(stores, json=msgspec.Raw(b'{"a": [1, 2]}'))

            assert row["json"] == {"a": [1, 2]}, row

    async def test_none_is_null_whatever_the_type(self) -> None:
        """A value that is missing is missing in the database too, in JSON columns as well."""
        async with self.tables() as stores:
            async with stores.uow.begin() as tx:
                await tx.insert_new(values, [KEY | dict.fromkeys(OPTIONAL)])
                later = KEY | {"at": NOON + timedelta(seconds=1)}
                await tx.execute(insert(values).values(later | dict.fromkeys(OPTIONAL)))

            async with stores.uow.read() as tx:
                for name in OPTIONAL:
                    missing = select(func.count()).where(values.c[name].is_(None))
                    assert (await tx.execute(missing)).scalar_one() == 2, name

    async def test_an_instant_of_any_zone_is_the_same_key(self) -> None:
        """The same instant spelled in another zone is no new row."""
        async with self.tables() as stores, stores.uow.begin() as tx:
            await tx.insert_new(values, [KEY])
            elsewhere = NOON.astimezone(timezone(timedelta(hours=-9)))

            assert await tx.insert_new(values, [KEY | {"at": elsewhere}]) == set()

    async def test_a_naive_instant_is_refused(self) -> None:
        """A time without a zone is never guessed, through either way in."""
        naive = KEY | {"at": NOON.replace(tzinfo=None)}
        async with self.tables() as stores:
            with raises(ConstraintViolated):
                async with stores.uow.begin() as tx:
                    await tx.insert_new(values, [naive])
            with raises(ConstraintViolated):
                async with stores.uow.begin() as tx:
                    await tx.execute(insert(values).values(naive))

            assert await self._all(stores, values) == []

    async def test_a_broken_rule_is_told_and_nothing_is_kept(self) -> None:
        """A row that the schema forbids takes its whole transaction with it."""
        async with self.tables() as stores:
            with raises(ConstraintViolated):
                async with stores.uow.begin() as tx:
                    await tx.insert_new(things, [_thing("a")])
                    await tx.insert_new(things, [_thing("b"), _thing("c", 1000)])

            assert await self._all(stores) == []

    async def test_a_reference_to_nothing_is_a_broken_rule(self) -> None:
        """Foreign keys hold."""
        async with self.tables() as stores:
            with raises(ConstraintViolated):
                async with stores.uow.begin() as tx:
                    await tx.insert_new(parts, [{"id": 1, "thing": ID}])

            assert await self._all(stores, parts) == []

    async def test_a_value_that_cannot_be_encoded_is_a_broken_rule(self) -> None:
        """What is no JSON, no text or too large for any integer is refused, not mangled."""
        wrong: list[Row] = [{"json": object()}, {"text": "\ud800"}, {"integer": 2**80}]
        async with self.tables() as stores:
            for some in wrong:
                with raises(ConstraintViolated):
                    async with stores.uow.begin() as tx:
                        await tx.insert_new(values, [KEY | some])

            assert await self._all(stores, values) == []

    async def test_a_missing_table_is_an_outdated_schema(self) -> None:
        """Who forgot to migrate is told so."""
        missing = Table("contract_missing", MetaData(), Column("id", Integer, primary_key=True))
        async with self.tables() as stores:
            with raises(SchemaOutdated):
                async with stores.uow.begin() as tx:
                    await tx.insert_new(missing, [{"id": 1}])
            with raises(SchemaOutdated):
                async with stores.uow.read() as tx:
                    await tx.execute(select(missing))


class SqlReadContract(_SqlContract):
    """A reading transaction refuses every statement that writes, and goes on."""

    async def test_a_statement_that_writes_is_refused(self) -> None:
        """Neither insert, update, delete nor `insert_new`."""
        row = _thing("a")
        async with self.tables() as stores:
            async with stores.uow.begin() as tx:
                await tx.insert_new(things, [row])
            async with stores.uow.read() as tx:
                for statement in (insert(things).values(row), update(things), delete(things)):
                    with raises(IllegalTransition):
                        await tx.execute(statement)
                with raises(IllegalTransition):
                    await tx.insert_new(things, [_thing("b")])

                assert await self._orders(tx) == ["a"]

    async def test_many_rows_go_in_at_once(self) -> None:
        """Parameters of one statement are rows of one `executemany`."""
        async with self.tables() as stores:
            async with stores.uow.begin() as tx:
                await tx.execute(insert(things), [_thing(order) for order in "abc"])

            async with stores.uow.read() as tx:
                assert await self._orders(tx) == ["a", "b", "c"]

    async def _orders(self, tx: Transaction) -> list[str]:
        query = select(things.c.order).order_by(things.c.order)
        return list((await tx.execute(query)).scalars())
