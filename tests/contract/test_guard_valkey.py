"""The guard over Valkey keeps the promises of `ports.guard`."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from itertools import count

import pytest
from tests.support_valkey import Valkey, started_cluster

from onefold.adapters.valkey.connection import connect
from onefold.adapters.valkey.guard import ValkeyGuard
from onefold.ports.guard import Guard
from onefold.testing.contracts.guard import GuardContract


class TestValkeyGuard(GuardContract):
    @pytest.fixture(autouse=True)
    def _server(self, valkey: Valkey) -> None:
        self.valkey = valkey

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Guard]:
        server = connect(self.valkey.url)
        try:
            yield ValkeyGuard(server, prefix=self.valkey.prefix)
        finally:
            await server.aclose()


@pytest.fixture(scope="module")
def cluster_url() -> Iterator[str]:
    with started_cluster() as url:
        yield url


class TestValkeyClusterGuard(GuardContract):
    """A node of a cluster refuses a script whose keys are not of one slot."""

    _numbers = count(1)

    @pytest.fixture(autouse=True)
    def _server(self, cluster_url: str) -> None:
        self.url = cluster_url

    @asynccontextmanager
    async def fresh(self) -> AsyncIterator[Guard]:
        server = connect(self.url)
        guard = ValkeyGuard(server, prefix=f"cluster-{next(self._numbers)}")
        await guard.check()
        try:
            yield guard
        finally:
            await server.aclose()
