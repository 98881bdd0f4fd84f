"""One database for the many processes of an exploration."""

from collections.abc import AsyncIterator
from contextlib import ExitStack

import pytest
from pydantic import SecretStr

from onefold.testing.clock import ManualClock
from onefold.testing.sql import threadless, unsynced
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings


@pytest.fixture
async def lasting(sqlite_url: str, clock: ManualClock) -> AsyncIterator[Installation]:
    """A database for one process after the other."""
    built = build(Settings(database_url=SecretStr(sqlite_url)), clock=clock)
    with ExitStack() as ends:
        for engine in (built.database.writer, built.database.reader):
            ends.enter_context(unsynced(engine))
            ends.enter_context(threadless(engine))
        yield built
        await built.aclose()
