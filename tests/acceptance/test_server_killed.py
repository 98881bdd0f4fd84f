"""
Servers and databases that die in the middle of ingest, and are sent everything again.

Real processes, real signals. The moments of death are random; the seed is printed, and
`ONEFOLD_SEED=` plays it again (as far as two processes can be made to).
"""

import asyncio
import os
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from secrets import randbits
from typing import Any, Final
from uuid import UUID

import pytest
from pydantic import SecretStr
from sqlalchemy import select
from tests.acceptance.chaos.servers import postgres
from tests.acceptance.support import Batch, Clients, ServerProcess, demo_batches, serving, tell
from tests.support_fork import ForkHost

from onefold.ports.tables import rows_of
from onefold_server.demo import PLAYED_UNTIL
from onefold_server.domains.directory.rules import Principal, Role
from onefold_server.domains.telemetry.rules import Summary, TelemetryEvent, features, read_event
from onefold_server.domains.telemetry.service import MAX_PAGE
from onefold_server.domains.telemetry.tables import batches as batches_table
from onefold_server.domains.telemetry.tables import events
from onefold_server.installation import Installation, build
from onefold_server.settings import Settings

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(120)]

ROUNDS: Final = 3
CLIENTS: Final = 12
EVENTS: Final = 1200  # of some 40 sessions
BATCH: Final = 20  # events


@pytest.fixture
def random() -> Random:
    """A source of moments, its seed printed."""
    seed = int(os.environ.get("ONEFOLD_SEED", "0")) or randbits(32)
    tell(f"replay with ONEFOLD_SEED={seed}")
    return Random(seed)


@asynccontextmanager
async def _opened(url: str) -> AsyncIterator[Installation]:
    """The parts over a database, on connections of their own."""
    onefold = build(Settings(database_url=SecretStr(url)))
    try:
        yield onefold
    finally:
        await onefold.aclose()


async def _set_up(url: str) -> tuple[Principal, Clients]:
    """A migrated database with a school in it: who owns it, and clients with a key to it."""
    async with _opened(url) as onefold:
        await onefold.migrate()
        school_id = await onefold.directory.create_school("School", auto_enrol=True)
        key = await onefold.directory.create_key(school_id, role=Role.SERVICE, label="clients")
    return Principal.local(school_id), Clients(str(key))


async def test_a_killed_server_loses_nothing_it_answered_and_doubles_nothing(
    host: ForkHost, database_url: str, tmp_path: Path, random: Random
) -> None:
    """kill -9 in the middle of ingest, again and again; then all is sent again."""
    batches = demo_batches(random, events=EVENTS, size=BATCH)
    owner, clients = await _set_up(database_url)
    for _ in range(ROUNDS):
        async with serving(host, database_url, tmp_path / "server.log") as server:
            _kill_after(server, clients, random)
            unanswered = [batch for batch in batches if batch.id not in clients.answered]
            await clients.post(server.url, unanswered, side_by_side=CLIENTS)
            assert await server.process.wait() < 0, "the server ended before it was killed"
        await _nothing_lost_or_torn(database_url, batches, clients.answered)
    tell(f"answered before the last death: {len(clients.answered)} of {len(batches)} batches")
    clients.on_answer = lambda: None
    async with serving(host, database_url, tmp_path / "server.log") as server:
        await clients.post(server.url, batches, side_by_side=CLIENTS)

    assert not clients.refusals
    assert clients.answered.keys() == {batch.id for batch in batches}
    await _stored_exactly_once(database_url, owner, batches)


def _kill_after(server: ServerProcess, clients: Clients, random: Random) -> None:
    """Kill the server a random while after a random one of its next answers."""
    fatal = len(clients.answered) + random.randint(1, 12)
    delay_s = random.uniform(0, 0.05)
    tell(f"death {delay_s * 1000:.1f} ms after answer {fatal}")

    def kill_if_due() -> None:
        if len(clients.answered) == fatal:
            asyncio.get_running_loop().call_later(delay_s, server.kill)

    clients.on_answer = kill_if_due


async def _nothing_lost_or_torn(
    url: str, batches: Sequence[Batch], answered: Collection[UUID]
) -> None:
    """Every answered batch is stored, and every other one as a whole or not at all."""
    async with _opened(url) as onefold:
        stored = set(await _stored_ids(onefold))
    for batch in batches:
        there = len(batch.event_ids & stored)
        expected = {len(batch.events)} if batch.id in answered else {0, len(batch.events)}
        assert there in expected, f"{there} of {len(batch.events)} events of {batch.id}"


async def _stored_ids(onefold: Installation) -> list[UUID]:
    async with onefold.uow.read() as tx:
        return list((await tx.execute(select(events.c.event_id))).scalars())


async def _stored_exactly_once(url: str, owner: Principal, batches: Sequence[Batch]) -> None:
    """Ids, the batches' own counts, and every session's count and features are right."""
    async with _opened(url) as onefold:
        while await onefold.telemetry.close_idle_sessions():
            pass
        stored = await _stored_ids(onefold)
        counted = await _batches(onefold)
        page = await onefold.telemetry.sessions(owner, limit=MAX_PAGE)
    sent: set[UUID] = set().union(*(batch.event_ids for batch in batches))
    assert len(stored) == len(sent)
    assert set(stored) == sent
    assert counted == {batch.id: (len(batch.events), []) for batch in batches}
    sessions = {row["id"]: (row["event_count"], row["features_metrics"]) for row in page.rows}
    assert sessions == {
        session_id: (len(played), features(Summary.of(played)).metrics)
        for session_id, played in _sessions(batches).items()
    }


async def _batches(onefold: Installation) -> dict[UUID, tuple[int, list[Any]]]:
    """What each batch did over all its posts: events applied, refusals."""
    async with onefold.uow.read() as tx:
        rows = rows_of(await tx.execute(select(batches_table)))
    return {row["id"]: (row["applied"], row["refused"]) for row in rows}


def _sessions(batches: Sequence[Batch]) -> dict[UUID, list[TelemetryEvent]]:
    found: dict[UUID, list[TelemetryEvent]] = {}
    for batch in batches:
        for raw in batch.events:
            event = read_event(raw, now=PLAYED_UNTIL, max_age=None)
            found.setdefault(event.session_id, []).append(event)
    return found


async def test_a_database_that_dies_is_reported_and_found_again(
    host: ForkHost, tmp_path: Path, random: Random
) -> None:
    """Without its database the server answers 503; when it is back, so is the server."""
    batches = demo_batches(random, events=EVENTS, size=BATCH)
    with postgres() as database:
        url = database.url
        owner, clients = await _set_up(url)
        async with serving(host, url, tmp_path / "server.log") as server:
            posting = asyncio.create_task(clients.post(server.url, batches, side_by_side=CLIENTS))
            await _some_are_answered(clients, random.randint(2, len(batches) // 3))
            await asyncio.to_thread(database.kill)
            await posting
            await server.becomes(503)
            await asyncio.to_thread(database.start)
            await server.becomes(200)

            assert clients.refusals
            for refusal in clients.refusals:
                assert refusal.status_code == 503
                assert refusal.headers["content-type"] == "application/problem+json"
                assert "retry-after" in refusal.headers
            await _nothing_lost_or_torn(url, batches, clients.answered)
            clients.refusals.clear()
            await clients.post(server.url, batches, side_by_side=CLIENTS)
        assert not clients.refusals
        await _stored_exactly_once(url, owner, batches)


async def _some_are_answered(clients: Clients, count: int) -> None:
    enough = asyncio.Event()
    clients.on_answer = lambda: enough.set() if len(clients.answered) >= count else None
    await enough.wait()
