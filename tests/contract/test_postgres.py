"""PostgreSQL keeps every promise."""

from tests.contract.sql import OnPostgres

from onefold.testing.contracts import (
    DeadlinesContract,
    InboxContract,
    InsertNewContract,
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


class TestInsertNew(OnPostgres, InsertNewContract):
    __test__ = True


class TestSqlRead(OnPostgres, SqlReadContract):
    __test__ = True


class TestWatermarks(OnPostgres, WatermarksContract):
    __test__ = True
