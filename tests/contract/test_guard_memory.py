"""The reference guard keeps the promises of `ports.guard`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from onefold.adapters.memory.guard import MemoryGuard
from onefold.ports.guard import Guard
from onefold.testing.contracts.guard import GuardContract


class TestMemoryGuard(GuardContract):
    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Guard]:
        yield MemoryGuard()
