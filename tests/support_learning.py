"""What tests of learning need: learners, sessions, several servers over one database, HTTP."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
from asgi_lifespan import LifespanManager
from pydantic import SecretStr
from tests.support import School

from onefold.core.clock import Clock
from onefold.testing.clock import ManualClock
from onefold_server.domains.directory.rules import Principal, Role
from onefold_server.domains.learning.sessions.rules import Change, Session
from onefold_server.http.app import create_app
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings


def change(**how: Any) -> Change:
    """A change under a fresh id unless told otherwise."""
    return Change(**{"id": uuid4()} | how)


async def open_session(onefold: Installation, school: School, **how: Any) -> Session:
    """A fresh open session of a fresh learner unless told otherwise."""
    given: dict[str, Any] = {
        "student_id": uuid4(),
        "session_type": "conversation",
        "language": "es",
    } | how
    return await onefold.learning.sessions.start(school.service, **given)


@asynccontextmanager
async def servers(database_url: str, count: int, clock: Clock) -> AsyncIterator[list[Installation]]:
    """Several sets of parts over one database, each with connections of its own."""
    async with AsyncExitStack() as stack:
        built = []
        for _ in range(count):
            one = build(Settings(database_url=SecretStr(database_url)), clock=clock)
            stack.push_async_callback(one.aclose)
            built.append(one)
        yield built


@asynccontextmanager
async def http_client(onefold: Installation) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application over *onefold*, without its worker."""
    app = create_app(onefold, worker=False)
    async with (
        LifespanManager(app) as running,
        httpx.AsyncClient(
            transport=httpx.ASGITransport(running.app), base_url="http://test/api/v1/learning"
        ) as client,
    ):
        yield client


async def key_of(
    onefold: Installation, school_id: UUID, role: Role, student: UUID | None = None
) -> str:
    """A fresh key's header value."""
    key = await onefold.directory.create_key(school_id, role=role, label="", student_id=student)
    return f"Bearer {key}"


def pupil(school: School, student_id: UUID) -> Principal:
    """A pupil's own key."""
    from tests.support import principal

    return principal(school.id, Role.STUDENT, student_id)


async def play(onefold: Installation, school: School, attempt: dict[str, Any], said: str) -> Any:
    """One turn under a fresh id."""
    return await onefold.learning.scenarios.turn(school.service, attempt["id"], uuid4(), said)


async def play_all(
    onefold: Installation, school: School, attempt: dict[str, Any], *, clock: ManualClock
) -> None:
    """A turn for each phase that says all it asks for, a minute each."""
    for phase in attempt["script"]["phases"]:
        shown = [objective["evidence"][0] for objective in phase["objectives"]]
        said = ". ".join([*phase["vocabulary"], *phase["phrases"], *shown])
        clock.advance(timedelta(minutes=1))
        await play(onefold, school, attempt, said)


async def finish_scenario(
    onefold: Installation,
    school: School,
    student: UUID,
    scenario_id: str,
    language: str,
    *,
    clock: ManualClock,
) -> Any:
    """An attempt played to its end, in three minutes."""
    scenarios = onefold.learning.scenarios
    begun = await scenarios.start(school.service, student, scenario_id, language)
    await play_all(onefold, school, begun, clock=clock)
    return await scenarios.complete(school.service, begun["id"])


async def one_turn() -> None:
    """Let every task that is ready run once."""
    loop = asyncio.get_running_loop()
    ran = loop.create_future()
    loop.call_soon(ran.set_result, None)
    await ran
