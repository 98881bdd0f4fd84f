"""The memory adapter keeps every promise but those of SQL and of surviving the process."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from onefold.adapters.memory.ledger import MemoryLedger
from onefold.adapters.memory.outbox import MemoryOutbox
from onefold.adapters.memory.unit_of_work import MemoryDeadlines, MemoryUnitOfWork
from onefold.adapters.memory.watermarks import MemoryWatermarks
from onefold.ports.deadlines import Deadlines
from onefold.testing.contracts import (
    ClaimsContract,
    Contract,
    DeadlinesContract,
    InboxContract,
    LedgerContract,
    OutboxContract,
    RecordEffects,
    Stores,
    UnitOfWorkContract,
    WatermarksContract,
)


class Memory(Contract):
    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Stores]:
        uow = MemoryUnitOfWork()
        yield Stores(
            uow=uow,
            outbox=MemoryOutbox(uow),
            deadlines=MemoryDeadlines(uow),
            effects=RecordEffects(),
            watermarks=MemoryWatermarks(),
            ledger=MemoryLedger(uow),
        )


class TestUnitOfWork(Memory, UnitOfWorkContract):
    __test__ = True


class TestInbox(Memory, InboxContract):
    __test__ = True


class TestOutbox(Memory, OutboxContract):
    __test__ = True


class TestDeadlines(Memory, DeadlinesContract):
    __test__ = True


class TestWatermarks(Memory, WatermarksContract):
    __test__ = True


class TestClaims(ClaimsContract):
    __test__ = True

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Deadlines]:
        yield MemoryDeadlines(MemoryUnitOfWork())


class TestLedger(Memory, LedgerContract):
    __test__ = True
