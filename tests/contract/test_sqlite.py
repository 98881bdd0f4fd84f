"""SQLite keeps every promise."""

from tests.contract.sql import OnSqlite

from onefold.testing.contracts import (
    DeadlinesContract,
    InboxContract,
    InsertNewContract,
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


class TestInsertNew(OnSqlite, InsertNewContract):
    __test__ = True


class TestSqlRead(OnSqlite, SqlReadContract):
    __test__ = True


class TestWatermarks(OnSqlite, WatermarksContract):
    __test__ = True
