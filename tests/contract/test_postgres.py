"""PostgreSQL keeps every promise."""

import pytest
from tests.contract.sql import OnPostgres, deadlines

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


class TestUnitOfWork(OnPostgres, UnitOfWorkContract):
    __test__ = True


class TestInbox(OnPostgres, InboxContract):
    __test__ = True


class TestOutbox(OnPostgres, OutboxContract):
    __test__ = True


class TestDeadlines(OnPostgres, DeadlinesContract):
    __test__ = True


class TestClaims(ClaimsContract):
    __test__ = True

    @pytest.fixture(autouse=True)
    def _database(self, postgres_url: str) -> None:
        self.fresh = lambda: deadlines(postgres_url)  # type: ignore[method-assign]


class TestInsertNew(OnPostgres, InsertNewContract):
    __test__ = True


class TestSqlRead(OnPostgres, SqlReadContract):
    __test__ = True


class TestWatermarks(OnPostgres, WatermarksContract):
    __test__ = True


class TestLedger(OnPostgres, LedgerContract):
    __test__ = True
