"""The application over a fresh SQLite database, and clients with keys of every kind."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from uuid import UUID, uuid4

import pytest
from asgi_lifespan import LifespanManager
from fastapi import FastAPI
from httpx import AsyncClient
from tests.support import School, client_of, telemetry_event

from onefold_server.domains.directory.rules import Role
from onefold_server.http.app import create_app
from onefold_server.installation import Installation


@pytest.fixture
def database_url(sqlite_url: str) -> str:
    """What HTTP adds is the same over both databases; one is enough here."""
    return sqlite_url


@pytest.fixture
async def app(onefold: Installation) -> AsyncIterator[FastAPI]:
    """The application, started."""
    built = create_app(onefold, worker=False)
    async with LifespanManager(built):
        yield built


class Clients:
    """Clients of the application; closed when the test ends."""

    def __init__(self, app: FastAPI, onefold: Installation, stack: AsyncExitStack) -> None:
        self.app, self.onefold, self._stack = app, onefold, stack

    async def with_key(self, key: object | None) -> AsyncClient:
        return await self._stack.enter_async_context(client_of(self.app, key))

    async def of(self, school: School, role: Role, **how: Any) -> AsyncClient:
        """A client with a fresh key of that role."""
        key = await self.onefold.directory.create_key(school.id, role=role, label="test", **how)
        return await self.with_key(key)

    async def pupil(self, school: School) -> tuple[UUID, AsyncClient]:
        """A pupil who has played once, and a client with that pupil's key."""
        event = telemetry_event(self.onefold.clock.now(), student_id=str(uuid4()))
        await self.onefold.telemetry.ingest(school.service, [event])
        student_id = UUID(event["student_id"])
        return student_id, await self.of(school, Role.STUDENT, student_id=student_id)


@pytest.fixture
async def clients(app: FastAPI, onefold: Installation) -> AsyncIterator[Clients]:
    """Makes clients."""
    async with AsyncExitStack() as stack:
        yield Clients(app, onefold, stack)


@pytest.fixture
async def service(clients: Clients, school: School) -> AsyncClient:
    """The game's server: reads and writes play data."""
    return await clients.of(school, Role.SERVICE)


@pytest.fixture
async def admin(clients: Clients, school: School) -> AsyncClient:
    """The school's administrator."""
    return await clients.of(school, Role.ADMIN)
