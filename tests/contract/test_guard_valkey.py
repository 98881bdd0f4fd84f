"""The guard over Valkey keeps the promises of `ports.guard`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from tests.support_valkey import Valkey

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
