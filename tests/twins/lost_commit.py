"""A unit of work whose transactions do all their work and then never commit."""

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

from onefold.errors import StoreUnavailable
from onefold.ports.features import Features
from onefold.ports.unit_of_work import Transaction, UnitOfWork


class LostCommit:
    """Every write is rolled back at its last moment, and the caller told that it failed."""

    def __init__(self, inner: UnitOfWork) -> None:
        self._inner = inner

    @property
    def features(self) -> Features:
        return self._inner.features

    @asynccontextmanager
    async def begin(self) -> AsyncIterator[Transaction]:
        async with self._inner.begin() as tx:
            yield tx
            raise StoreUnavailable("the connection broke before COMMIT")

    def read(self) -> AbstractAsyncContextManager[Transaction]:
        return self._inner.read()

    async def aclose(self) -> None:
        await self._inner.aclose()
