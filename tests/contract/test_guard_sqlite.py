"""The guard over SQLite keeps the promises of `ports.guard`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.guard import sql_guard
from onefold.ports.guard import Guard
from onefold.testing.contracts.guard import GuardContract


class TestSqliteGuard(GuardContract):
    @pytest.fixture(autouse=True)
    def _database(self, sqlite_url: str) -> None:
        self.url = sqlite_url

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Guard]:
        database = Database(self.url)
        try:
            yield sql_guard(database)
        finally:
            await database.aclose()
