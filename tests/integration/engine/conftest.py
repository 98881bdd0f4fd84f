"""Every store that a consumer can keep its effects in."""

from collections.abc import AsyncIterator

import pytest
from tests.integration.engine.test_consumer import World, effects

from onefold.adapters.memory.ledger import MemoryLedger
from onefold.adapters.memory.unit_of_work import MemoryUnitOfWork
from onefold.adapters.memory.watermarks import MemoryWatermarks
from onefold.adapters.sql.connection import Database
from onefold.adapters.sql.ledger import SqlLedger
from onefold.adapters.sql.unit_of_work import SqlUnitOfWork
from onefold.adapters.sql.watermarks import SqlWatermarks
from onefold.testing.clock import ManualClock


@pytest.fixture(params=["memory", "sqlite", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str | None:
    """Where the test's store is; None for memory."""
    if request.param == "memory":
        return None
    url: str = request.getfixturevalue(f"{request.param}_url")
    return url


@pytest.fixture
async def world(store_url: str | None, clock: ManualClock) -> AsyncIterator[World]:
    """The same test on each store."""
    if store_url is None:
        memory = MemoryUnitOfWork()
        made = World(clock, memory, MemoryLedger(memory), MemoryWatermarks())
    else:
        database = Database(store_url)
        async with database.writer.begin() as connection:
            await connection.run_sync(effects.create)
        uow = SqlUnitOfWork(database)
        made = World(clock, uow, SqlLedger(uow), SqlWatermarks())
    yield made
    await made.transport.aclose()
    await made.uow.aclose()
