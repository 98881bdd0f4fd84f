"""SQLite keeps every promise."""

import pytest
from tests.contract.sql import OnSqlite, deadlines

from onefold.testing.contracts import (
    ClaimsContract,
    DeadlinesContract,
    InboxContract,
    InsertNewContract,
    LedgerContract,
    OutboxContract,
    SqlReadContract,
    UnitOfWorkContract,
    WatermarksContract,
)


class TestUnitOfWork(OnSqlite, UnitOfWorkContract):
    __test__ = True


class TestInbox(OnSqlite, InboxContract):
    __test__ = True


class TestOutbox(OnSqlite, OutboxContract):
    __test__ = True


class TestDeadlines(OnSqlite, DeadlinesContract):
    __test__ = True


class TestClaims(ClaimsContract):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _database(self, sqlite_url: str) -> None:
        self.fresh = lambda: deadlines(sqlite_url)  # type: ignore[method-assign]


class TestInsertNew(OnSqlite, InsertNewContract):
    __test__ = True


class TestSqlRead(OnSqlite, SqlReadContract):
    __test__ = True


class TestWatermarks(OnSqlite, WatermarksContract):
    __test__ = True


class TestLedger(OnSqlite, LedgerContract):
    __test__ = True
