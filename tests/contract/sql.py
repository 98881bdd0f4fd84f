"""Stores over a migrated database, for every suite."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.deadlines import SqlDeadlines
from onefold.adapters.sql.ledger import SqlLedger
from onefold.adapters.sql.outbox import SqlOutbox
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.sql.watermarks import SqlWatermarks
from onefold.ports.deadlines import Deadlines
from onefold.testing.contracts import Contract, Stores, TableEffects


@asynccontextmanager
async def stores(url: str) -> AsyncIterator[Stores]:
    """The SQL adapters over the migrated database at *url*."""
    uow = SqlUnitOfWork(Database(url))
    try:
        yield Stores(
            uow=uow,
            outbox=SqlOutbox(uow),
            deadlines=SqlDeadlines(uow),
            effects=await TableEffects.make(uow),
            watermarks=SqlWatermarks(),
            ledger=SqlLedger(uow),
        )
    finally:
        await uow.aclose()


@asynccontextmanager
async def deadlines(url: str) -> AsyncIterator[Deadlines]:
    """The deadlines alone."""
    uow = SqlUnitOfWork(Database(url))
    try:
        yield SqlDeadlines(uow)
    finally:
        await uow.aclose()


class OnSqlite(Contract):
    @pytest.fixture(autouse=True)
    def _database(self, sqlite_url: str) -> None:
        self.fresh = lambda: stores(sqlite_url)  # type: ignore[method-assign]


class OnPostgres(Contract):
    @pytest.fixture(autouse=True)
    def _database(self, postgres_url: str) -> None:
        self.fresh = lambda: stores(postgres_url)  # type: ignore[method-assign]
