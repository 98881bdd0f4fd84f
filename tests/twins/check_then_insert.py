"""A unit of work that asks which keys are there before it inserts: the earlier system's way."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, cast

from sqlalchemy import Table, insert, select

from onefold.ports.features import Features
from onefold.ports.unit_of_work import Transaction, UnitOfWork


class CheckThenInsert:
    """
    `insert_new` of *table* selects, then inserts plainly; between the two others get their turn.

    Args:
        inner: Where the rows go.
        table: For which table it is naive.
        between: All transactions that reach it have checked when one of them inserts.
    """

    def __init__(self, inner: UnitOfWork, table: Table, between: asyncio.Barrier) -> None:
        self._inner, self._table, self._between = inner, table, between

    @property
    def features(self) -> Features:
        return self._inner.features

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        async with self._inner.begin() as tx:
            yield cast("Transaction", _Naive(tx, self._table, self._between))

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        return self._inner.read()

    async def aclose(self) -> None:
        await self._inner.aclose()


class _Naive:
    def __init__(self, tx: Transaction, table: Table, between: asyncio.Barrier) -> None:
        self._tx, self._table, self._between = tx, table, between

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tx, name)

    async def insert_new(
        self, table: Table, rows: Sequence[Mapping[str, Any]]
    ) -> set[tuple[Any, ...]]:
        if table is not self._table:
            return await self._tx.insert_new(table, rows)
        names = [column.name for column in table.primary_key]
        found = await self._tx.execute(select(*(table.c[name] for name in names)))
        there = {tuple(row) for row in found}
        await self._between.wait()
        new = [row for row in rows if tuple(row[name] for name in names) not in there]
        await self._tx.execute(insert(table), new)
        return {tuple(row[name] for name in names) for row in new}
